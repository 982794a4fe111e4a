//! Who looks after the tables, and what came of it: kept beside the bookkeeping.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{OldRows, Passed};
use crate::record::SinkError;
use crate::status::{Beat, NodeTold};

/// What asking for the lease came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// It is the asker's, for as long as was asked from now on. A token is greater than those of all holders
    /// before; renewed, it stays the same.
    Held { token: i64 },
    /// It is another's.
    Taken { by: String },
}

/// One run of a chore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub chore: String,
    pub node: String,
    /// Of the lease under which it ran.
    pub token: i64,
    /// Milliseconds since the epoch.
    pub started_ms: i64,
    pub finished_ms: i64,
    pub failed: bool,
    /// What it did, feed by feed, and what went wrong.
    pub report: serde_json::Value,
}

/// That a chore is wanted now, whatever its schedule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal {
    pub chore: String,
    /// Who asked last.
    pub by: String,
    /// When: told by the store, and meant for it alone.
    pub asked: String,
}

#[async_trait]
pub trait JanitorStore: Send + Sync + 'static {
    /// Takes the lease, or renews it, if nobody else holds it. The database's clock decides.
    async fn hold(&self, lease: &str, holder: &str, time: Duration) -> Result<Lease, SinkError>;

    /// Ends the lease if this is its holder.
    async fn release(&self, lease: &str, holder: &str) -> Result<(), SinkError>;

    /// Notes a run as the last of its chore. `false`: one with a greater token came before, and this one is
    /// left out.
    async fn note(&self, run: &Run) -> Result<bool, SinkError>;

    /// The last run of each chore.
    async fn runs(&self) -> Result<Vec<Run>, SinkError>;

    /// Asks for a chore. One that is asked for again before it is done is done once.
    async fn signal(&self, chore: &str, by: &str) -> Result<(), SinkError>;

    /// What is asked for, the first that was asked for first.
    async fn signals(&self) -> Result<Vec<Signal>, SinkError>;

    /// It is done, unless somebody has asked again since.
    async fn answered(&self, signal: &Signal) -> Result<(), SinkError>;

    /// What a node tells of itself, in the place of what it told before. Those that were silent for
    /// [`FORGOTTEN`](crate::status::FORGOTTEN) are forgotten with it.
    async fn beat(&self, instance: Uuid, told: &NodeTold) -> Result<(), SinkError>;

    /// What all told last.
    async fn beats(&self) -> Result<Vec<Beat>, SinkError>;

    /// It has ended.
    async fn leave(&self, instance: Uuid) -> Result<(), SinkError>;

    /// Takes at most so many rows out of the audit that are older, while the lease has this token. Answers how
    /// many.
    async fn expire_audit(
        &self,
        before_ms: i64,
        most: u32,
        lease: Option<(&str, i64)>,
    ) -> Result<u64, SinkError>;

    /// By the database's clock, or where it has none this machine's: milliseconds since the epoch.
    async fn now_ms(&self) -> Result<i64, SinkError>;

    /// How many rows there are that old.
    async fn old_rows(&self, old: &OldRows) -> Result<u64, SinkError>;

    /// Whether a pass over the feed's table for these rows, or for newer ones, has come to its end.
    async fn is_expired(&self, old: &OldRows) -> Result<bool, SinkError>;

    /// Takes some of these rows out, beginning where a pass has come to, and writes down in the same
    /// transaction which offsets went.
    async fn expire_rows(
        &self,
        old: &OldRows,
        from: i64,
        lease: Option<(&str, i64)>,
    ) -> Result<Passed, SinkError>;

    /// Notes that a pass has come to its end.
    async fn finish_expiry(
        &self,
        old: &OldRows,
        lease: Option<(&str, i64)>,
    ) -> Result<(), SinkError>;
}
