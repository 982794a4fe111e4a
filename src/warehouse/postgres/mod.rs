//! The PostgreSQL adapter.
//!
//! Bookkeeping lives in the schema `tidegate` of the same database as the feeds' tables, so that a
//! transaction covers both. Every statement that writes a feed's table is made by `stage`; the
//! transaction itself is `write`.

mod ad_hoc;
mod apply;
mod check;
mod copy;
mod dimension;
mod expiry;
mod gaps;
mod governance;
mod grow;
mod janitor;
mod migrate;
mod pool;
mod progress;
mod reject;
mod replay;
mod rights;
mod rows;
mod snapshot;
mod sources;
mod stage;
mod table;
mod versions;
mod write;

pub(super) use self::ad_hoc::PostgresAdHoc;
pub(super) use self::governance::PostgresGovernance;
pub(super) use self::janitor::PostgresJanitor;
pub use self::migrate::bookkeeping;
pub(super) use self::rights::PostgresRights;
pub(super) use self::rows::PostgresRows;
pub use self::table::create_table;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use self::pool::Sessions;
use self::stage::Target;
use super::{
    ClaimRequest, KeptSnapshot, Part, Replay, Replayed, Settlement, Snapshot, Warehouse, shape,
};
use crate::config::{Column, Feed};
use crate::record::{
    Claim, GapReason, OffsetRange, Progress, SinkError, TopicId, TopicPartition, Verdict,
};

pub(super) struct Postgres {
    sessions: Sessions,
    lock_timeout: Duration,
    /// Of the feeds' tables that name none. Every statement names it: the session's search path, which
    /// may begin with the bookkeeping schema where the user is named like it, decides nothing.
    schema: String,
    /// The feeds' tables as they were when last looked at.
    targets: Mutex<HashMap<Arc<str>, Arc<Target>>>,
    /// Names a staging table once and never again.
    next_stage: AtomicU64,
}

impl Postgres {
    pub fn open(config: &crate::config::Warehouse) -> Result<Self, SinkError> {
        Ok(Self {
            sessions: Sessions::open(config)?,
            lock_timeout: config.lock_timeout.get(),
            schema: config.schema.clone(),
            targets: Mutex::default(),
            next_stage: AtomicU64::default(),
        })
    }
}

#[async_trait]
impl Warehouse for Postgres {
    async fn migrate(&self) -> Result<Vec<String>, SinkError> {
        self.run_migrations().await.map_err(|error| error.context("migrating the warehouse"))
    }

    async fn check_schema(&self) -> Result<(), SinkError> {
        self.judge_schema().await.map_err(|error| error.context("checking the warehouse's schema"))
    }

    async fn installation(&self, mine: Uuid, adopt: bool) -> Result<Uuid, SinkError> {
        let doing = "reading the warehouse's installation id";
        self.settle_installation(mine, adopt).await.map_err(|error| error.context(doing))
    }

    async fn prepare(&self, feed: &Feed) -> Result<(), SinkError> {
        let prepared = self.look_at_table(&shape::shaped(feed)).await;
        prepared.map(drop).map_err(|error| error.context(format!("feed {}", feed.name)))
    }

    async fn widen(&self, feed: &Feed, former: &Column) -> Result<bool, SinkError> {
        let widened = self.widen_column(&shape::shaped(feed), former).await;
        widened.map_err(|error| error.context(format!("feed {}", feed.name)))
    }

    async fn claim(
        &self,
        feed: &Feed,
        requests: &[ClaimRequest],
    ) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        let claimed = self.take_partitions(feed, requests).await;
        claimed.map_err(|error| error.context(format!("claiming partitions of {}", feed.name)))
    }

    async fn progress(&self, feed: &str) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        let read = self.read_progress(feed).await;
        read.map_err(|error| error.context(format!("reading the progress of {feed}")))
    }

    async fn write(&self, feed: &Feed, parts: &[Part]) -> Result<Vec<Verdict>, SinkError> {
        let written = async {
            let parts = shape::shaped_parts(feed, parts).await?;
            self.write_parts(&shape::shaped(feed), &parts).await
        };
        written.await.map_err(|error| error.context(format!("writing feed {}", feed.name)))
    }

    async fn replay(&self, feed: &Feed, replay: &Replay) -> Result<Replayed, SinkError> {
        let replayed = async {
            let (feed, part) = shape::shaped_replay(feed, replay).await?;
            self.replay_part(&feed, part, replay).await
        };
        replayed.await.map_err(|error| error.context(format!("replaying feed {}", feed.name)))
    }

    async fn settle(&self, feed: &str, settlement: &Settlement) -> Result<u64, SinkError> {
        let settled = self.settle_records(feed, settlement).await;
        settled.map_err(|error| error.context(format!("settling records of {feed}")))
    }

    async fn open_gap(
        &self,
        feed: &Feed,
        source: &TopicPartition,
        claim: Claim,
        gap: OffsetRange,
    ) -> Result<(), SinkError> {
        let recorded = self.keep_open_gap(feed, source, claim, gap).await;
        recorded.map_err(|error| error.context(format!("recording an open gap of {source}")))
    }

    async fn record_gap(
        &self,
        feed: &Feed,
        source: &TopicPartition,
        claim: Claim,
        gap: OffsetRange,
        reason: GapReason,
    ) -> Result<Verdict, SinkError> {
        let recorded = self.skip_gap(feed, source, claim, gap, reason).await;
        recorded.map_err(|error| error.context(format!("recording a gap of {source}")))
    }

    async fn reset(
        &self,
        feed: &str,
        source: &TopicPartition,
        topic_id: TopicId,
        next_offset: i64,
    ) -> Result<(), SinkError> {
        let set = self.set_progress(feed, source, topic_id, next_offset).await;
        set.map_err(|error| error.context(format!("resetting {source} of {feed}")))
    }

    async fn snapshot(
        &self,
        feed: &Feed,
        after: Option<Duration>,
        keep: u32,
    ) -> Result<Option<Snapshot>, SinkError> {
        let taken = self.take_snapshot(&shape::shaped(feed), after, keep).await;
        taken.map_err(|error| error.context(format!("taking a snapshot of {}", feed.name)))
    }

    async fn snapshots(&self, feed: &str) -> Result<Vec<KeptSnapshot>, SinkError> {
        let read = self.read_snapshots(feed).await;
        read.map_err(|error| error.context(format!("reading the snapshots of {feed}")))
    }

    async fn keep_columns(&self, feed: &str, columns: &str) -> Result<String, SinkError> {
        let kept = self.first_columns(feed, columns).await;
        kept.map_err(|error| error.context(format!("keeping the columns of {feed}")))
    }

    async fn kept_columns(&self, feed: &str) -> Result<Option<String>, SinkError> {
        let read = self.read_columns(feed).await;
        read.map_err(|error| error.context(format!("reading the columns of {feed}")))
    }

    async fn change_columns(&self, feed: &str, from: &str, to: &str) -> Result<String, SinkError> {
        let kept = self.other_columns(feed, from, to).await;
        kept.map_err(|error| error.context(format!("keeping the columns of {feed}")))
    }

    async fn ping(&self) -> Result<(), SinkError> {
        let session = self.sessions.get().await?;
        session.batch_execute("SELECT 1").await.map_err(pool::judged)?;
        session.done();
        Ok(())
    }
}
