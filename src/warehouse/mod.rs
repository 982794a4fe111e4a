//! The warehouse: rows, quarantine and progress in one transaction.
//!
//! [`Warehouse`] is the contract; `postgres` is the product, `sqlite` the embedded default. Nothing
//! here knows an actor. All errors leave as a [`SinkError`], already judged by `flow::blame`.

mod ad_hoc;
mod dimension;
mod expiry;
mod filling;
mod governance;
mod intake;
mod janitor;
mod nested;
mod postgres;
mod reduce;
mod rights;
mod rows;
mod schema;
mod script;
mod shape;
mod spell;
mod sqlite;

#[cfg(test)]
pub(crate) mod contract;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::ad_hoc::{AdHoc, Answer, TableSize};
pub use self::expiry::{OldRows, Passed};
pub use self::governance::{Change, Changed, GovernanceStore, MOST_ROWS, Permissions};
pub use self::janitor::{JanitorStore, Lease, Run, Signal};
pub use self::reduce::record_keys;
pub use self::rights::{Reader, ReaderView, Readers, Reconciled, RightsChange, RightsStore};
pub use self::rows::{After, Read, RowReader, Rows, RowsRequest};
pub use self::script::script;
pub use self::shape::{shaped, shaped_batch};
use crate::config::{Column, Feed};
pub use crate::record::Part;
use crate::record::{
    Batch, Claim, GapReason, OffsetRange, Progress, Settled, SinkError, TopicId, TopicPartition,
    Verdict,
};

/// A database that keeps rows and progress together.
///
/// **Durable** means: committed, and synced as far as the database promises. An answer of
/// [`Verdict::Durable`] is given only then. Parts of one call are independent: one that lost its fence
/// is left out while the others are committed. Batches of one part are contiguous and in order.
/// Calls for one partition are never made at the same time by one owner; other nodes may be owners
/// that do not know yet that they lost it, hence the fence.
#[async_trait]
pub trait Warehouse: Send + Sync + 'static {
    /// Brings the bookkeeping schema to this binary's version. Idempotent, safe from several nodes
    /// at once. Returns the names of the migrations it applied.
    async fn migrate(&self) -> Result<Vec<String>, SinkError>;

    /// Fails, lastingly, when the bookkeeping schema is absent, too old, or marked breaking by a
    /// newer release.
    async fn check_schema(&self) -> Result<(), SinkError>;

    /// The id of the installation that owns this database; `adopt` replaces another's.
    async fn installation(&self, mine: uuid::Uuid, adopt: bool) -> Result<uuid::Uuid, SinkError>;

    /// Creates the feed's table where it is absent, else checks that it can hold the feed's columns.
    async fn prepare(&self, feed: &Feed) -> Result<(), SinkError>;

    /// Gives a column of the feed's table the feed's type in the place of its `former` one, which holds
    /// less. `false`: it cannot, or not without changing a value, and the table is as it was.
    async fn widen(&self, feed: &Feed, former: &Column) -> Result<bool, SinkError>;

    /// Takes partitions: writes each claim, and where there is no progress and `start` is given, the
    /// progress too. Waits for a lock at most the configured lock timeout, then ends the
    /// session that holds it and tries once more.
    ///
    /// A partition missing from the answer has no progress and was given no start: nothing was
    /// written for it.
    async fn claim(
        &self,
        feed: &Feed,
        requests: &[ClaimRequest],
    ) -> Result<HashMap<TopicPartition, Progress>, SinkError>;

    /// What is recorded, for reading only.
    async fn progress(&self, feed: &str) -> Result<HashMap<TopicPartition, Progress>, SinkError>;

    /// Commits the rows, the rejects and the new progress of all parts that still hold their fence,
    /// in one transaction. Answers in the order of `parts`.
    ///
    /// Rows the database refuses as the record's fault are found by bisection and put into
    /// quarantine in the same transaction, unless there are more than `feed.quarantine` allows. Of a
    /// refused row's key the version before it is tried then, and so on.
    async fn write(&self, feed: &Feed, parts: &[Part]) -> Result<Vec<Verdict>, SinkError>;

    /// Commits rows of records that are in quarantine, and settles these, in one transaction. Nothing
    /// is written unless each of them is there and no row yet, and the partition has passed them, gone no
    /// further than the replay has seen, and had no other replay since. What the database refuses stays as
    /// it is.
    async fn replay(&self, feed: &Feed, replay: &Replay) -> Result<Replayed, SinkError>;

    /// Settles records in quarantine that are not to be rows, and answers how many. What was replayed
    /// is left alone.
    async fn settle(&self, feed: &str, settlement: &Settlement) -> Result<u64, SinkError>;

    /// Records that the broker no longer holds `gap`, where the progress stands, and moves nothing: the
    /// partition waits for somebody to settle it. Found again, it is the same gap, however far it
    /// reaches by then. Whoever lost the claim records nothing.
    async fn open_gap(
        &self,
        feed: &Feed,
        source: &TopicPartition,
        claim: Claim,
        gap: OffsetRange,
    ) -> Result<(), SinkError>;

    /// Records that `gap` was skipped, settling the one that is open there, and moves the progress past
    /// it, under the same fence as a write.
    async fn record_gap(
        &self,
        feed: &Feed,
        source: &TopicPartition,
        claim: Claim,
        gap: OffsetRange,
        reason: GapReason,
    ) -> Result<Verdict, SinkError>;

    /// Sets progress by hand, without a fence and under a fresh claim, so that every present owner is
    /// refused. For `tidegate resolve`. What was taken of a topic with another id is kept as a former
    /// one's: its offsets come again. An open gap is settled by it.
    async fn reset(
        &self,
        feed: &str,
        source: &TopicPartition,
        topic_id: TopicId,
        next_offset: i64,
    ) -> Result<(), SinkError>;

    /// Takes a version of a table feed's table as some commit left it, stamped with the offsets it stands
    /// for, and lets go of those beyond the newest `keep`. With `after`, only if the last version is as
    /// old. `None`: it is not, or another node is taking one.
    async fn snapshot(
        &self,
        feed: &Feed,
        after: Option<Duration>,
        keep: u32,
    ) -> Result<Option<Snapshot>, SinkError>;

    /// The versions of a feed's table that are kept, the newest first.
    async fn snapshots(&self, feed: &str) -> Result<Vec<KeptSnapshot>, SinkError>;

    /// Keeps the columns inferred for a feed; the first writer wins, and its columns are returned.
    async fn keep_columns(&self, feed: &str, columns: &str) -> Result<String, SinkError>;
    async fn kept_columns(&self, feed: &str) -> Result<Option<String>, SinkError>;

    /// Keeps other columns for a feed if those kept are still `from`; answers what is kept now.
    async fn change_columns(&self, feed: &str, from: &str, to: &str) -> Result<String, SinkError>;

    /// Whether the warehouse answers.
    async fn ping(&self) -> Result<(), SinkError>;
}

/// Records of one partition that come back from quarantine.
#[derive(Debug, Clone)]
pub struct Replay {
    pub source: TopicPartition,
    /// Of the topic they were read from.
    pub topic_id: TopicId,
    /// They, in the order of their offsets, and no rejects.
    pub batch: Arc<Batch>,
    /// The batch has the columns of the table already, not those of the feed.
    pub shaped: bool,
    /// The log was searched up to here for newer records of their keys.
    pub seen: i64,
    /// How many of the partition's records had come back before, where it matters: since then, one may
    /// have that is newer.
    pub came_back: Option<i64>,
    pub by: String,
}

impl Replay {
    /// The last of the offsets.
    fn last(&self) -> i64 {
        self.batch.offsets.values().last().copied().unwrap_or(i64::MIN)
    }

    /// The offsets of all records but the refused.
    fn but(&self, refused: &[(i64, String)]) -> Vec<i64> {
        let refused: HashSet<i64> = refused.iter().map(|(offset, _)| *offset).collect();
        let all = self.batch.offsets.values().iter().copied();
        all.filter(|offset| !refused.contains(offset)).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// Committed, but for these offsets, which the database refuses still, each with its reason.
    Landed { refused: Vec<(i64, String)> },
    /// Some are settled by now, or the partition has gone on: nothing was written.
    Moved,
}

/// Records of one partition that become no row.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub source: TopicPartition,
    pub topic_id: TopicId,
    pub offsets: Vec<i64>,
    pub settled: Settled,
    pub by: String,
    pub why: Option<String>,
}

/// A version of a table that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    pub version: i64,
    pub rows: u64,
}

/// A version of a table that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptSnapshot {
    pub version: i64,
    /// Milliseconds since the epoch.
    pub taken_ms: i64,
    pub rows: i64,
}

/// One partition a node wants to own.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    pub source: TopicPartition,
    pub topic_id: TopicId,
    pub claim: Claim,
    /// Where to begin if there is no progress.
    pub start: Option<i64>,
}

/// Opens the warehouse that the configuration names. Connects lazily: a database that is away does
/// not fail here.
pub fn open(config: &crate::config::Warehouse) -> Result<Arc<dyn Warehouse>, SinkError> {
    match config.url.strip_prefix("sqlite:") {
        Some(path) => Ok(Arc::new(sqlite::Sqlite::open(path.as_ref())?)),
        None => Ok(Arc::new(postgres::Postgres::open(config)?)),
    }
}

/// Opens what is kept of permissions in the same database.
pub fn open_governance(
    config: &crate::config::Warehouse,
) -> Result<Arc<dyn GovernanceStore>, SinkError> {
    match config.url.strip_prefix("sqlite:") {
        Some(path) => Ok(Arc::new(sqlite::SqliteGovernance::open(path.as_ref())?)),
        None => Ok(Arc::new(postgres::PostgresGovernance::open(config)?)),
    }
}

/// Opens what is kept of those who look after the tables, in the same database.
pub fn open_janitor(config: &crate::config::Warehouse) -> Result<Arc<dyn JanitorStore>, SinkError> {
    match config.url.strip_prefix("sqlite:") {
        Some(path) => Ok(Arc::new(sqlite::SqliteJanitor::open(path.as_ref())?)),
        None => Ok(Arc::new(postgres::PostgresJanitor::open(config)?)),
    }
}

/// Opens what people may read in the database itself; none where it has no users of its own.
pub fn open_rights(
    config: &crate::config::Warehouse,
    rights: &crate::config::Rights,
) -> Result<Option<Arc<dyn RightsStore>>, SinkError> {
    match config.url.starts_with("sqlite:") {
        true => Ok(None),
        false => Ok(Some(Arc::new(postgres::PostgresRights::open(config, rights)?))),
    }
}

/// Opens the tables for reading, on sessions of their own.
pub fn open_rows(config: &crate::config::Warehouse) -> Result<Arc<dyn RowReader>, SinkError> {
    match config.url.strip_prefix("sqlite:") {
        Some(path) => Ok(Arc::new(sqlite::SqliteRows::open(path.as_ref())?)),
        None => Ok(Arc::new(postgres::PostgresRows::open(config)?)),
    }
}

/// Opens the database for statements that somebody wrote, on sessions of their own.
pub fn open_ad_hoc(config: &crate::config::Warehouse) -> Result<Arc<dyn AdHoc>, SinkError> {
    match config.url.strip_prefix("sqlite:") {
        Some(path) => Ok(Arc::new(sqlite::SqliteAdHoc::open(path.as_ref())?)),
        None => Ok(Arc::new(postgres::PostgresAdHoc::open(config)?)),
    }
}
