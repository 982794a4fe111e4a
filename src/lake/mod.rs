//! The lake: files are staged whole, then named by one commit together with the progress they cover.
//!
//! [`LakeTable`] is the contract; `delta` and `plain` are its adapters. No actor is known here.

pub mod access;
mod board;
mod change;
mod columns;
mod commit_loop;
mod delta;
mod encode;
mod fit;
mod installation;
mod jsonl;
mod lease;
mod log;
mod metadata;
mod numbered;
mod plain;
mod probe;
mod quarantine;
mod retry;
mod rewind;
pub mod scan;
mod settled;
mod snapshot;
mod staging;
mod store;
mod synced;
#[cfg(test)]
pub(crate) mod tests;
pub mod upkeep;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use async_trait::async_trait;
use uuid::Uuid;

use crate::config::{Feed, LakeFormat};
use crate::layout::{Layout, quarantine_path};
use crate::record::{
    GapReason, Part, Progress, Reject, SinkError, TopicId, TopicPartition, Verdict,
};

pub use board::Board;
pub use columns::line_columns;
pub use delta::DeltaTable;
pub use encode::{encode, lake_schema};
pub use lease::LakeLease;
pub use log::{CommitLine, LogFile, read_log};
pub use metadata::{Followed, Follower, Metadata, Overview, TableReader, Totals};
pub use plain::PlainTable;
pub use rewind::{Rewound, rewind, trust};
pub use settled::{Settlement, settle, settlements};
pub use snapshot::{Snapshot, Snapshots, Taken, fold_limit};
pub use store::{LakeStore, join};

/// A table of the lake that keeps its rows and its progress in one place.
///
/// **Durable** means: the commit stands, a plain table's files are where readers look, and on local
/// disk the files, the commit and their folders are synced. A claim writes nothing here: the fence is the progress alone, so a zombie may
/// land the exact next range once before the new owner's first commit. Those are the right rows; the
/// new owner is refused once, reads the progress again and goes on.
#[async_trait]
pub trait LakeTable: Send + Sync + 'static {
    /// Progress of every partition, as the latest version has it.
    async fn progress(&self) -> Result<HashMap<TopicPartition, Progress>, SinkError>;

    /// Commits where partitions without progress begin. Those that have some by now are left alone.
    async fn begin(&self, starts: &[(TopicPartition, Progress)]) -> Result<(), SinkError>;

    /// Writes the rows into files that nothing refers to yet.
    async fn stage(&self, parts: Vec<Part>) -> Result<Staged, SinkError>;

    /// Commits staged sets in order. Where a file may hold rows of several parts, there is one commit,
    /// and a set in which one part lost its fence is dropped whole. Answers per set, per part.
    async fn commit(&self, sets: &[Staged]) -> Result<Vec<Vec<Verdict>>, SinkError>;

    /// Says in the log, once, that the broker no longer holds `gap`, where the progress stands, and
    /// moves nothing: the partition waits for somebody to settle it.
    async fn open_gap(
        &self,
        source: &TopicPartition,
        topic_id: TopicId,
        gap: crate::record::OffsetRange,
    ) -> Result<(), SinkError>;

    /// Moves progress past offsets that are not read, from exactly `gap.start`.
    async fn record_gap(
        &self,
        source: &TopicPartition,
        topic_id: TopicId,
        gap: crate::record::OffsetRange,
        reason: GapReason,
    ) -> Result<Verdict, SinkError>;

    /// How often rows came back to a partition from quarantine.
    async fn replays(&self, source: &TopicPartition) -> Result<i64, SinkError>;

    /// Adds rows of one partition whose offsets its progress has passed, in files that are named as
    /// replayed, if that happened `after` times so far; else answers false and adds none. So whoever has
    /// looked, after asking for that number, which of them are there already adds each once.
    async fn replay(&self, part: Part, after: i64, by: &str) -> Result<bool, SinkError>;

    /// Sets progress by hand, without a fence. For `tidegate resolve`.
    async fn reset(&self, source: &TopicPartition, progress: Progress) -> Result<(), SinkError>;
}

/// Opens a feed's table in the format its feed file names.
pub async fn open(store: &LakeStore, feed: Arc<Feed>) -> Result<Arc<dyn LakeTable>, SinkError> {
    let layout = Layout::of(&feed).map_err(SinkError::lasting)?;
    for folder in [layout.shown(), &quarantine_path(&feed.name)] {
        access::make(store, folder)?;
    }
    Ok(match format(&feed) {
        LakeFormat::Delta => Arc::new(DeltaTable::open(store, feed).await?),
        LakeFormat::Parquet | LakeFormat::Jsonl => Arc::new(PlainTable::open(store, feed).await?),
    })
}

/// Progress recorded for a feed's table, if there is one: nothing is created.
pub async fn read_progress(
    store: &LakeStore,
    feed: &Feed,
) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
    let layout = Layout::of(feed).map_err(SinkError::lasting)?;
    match format(feed) {
        LakeFormat::Delta => DeltaTable::read_progress(store, layout.folder()).await,
        LakeFormat::Parquet | LakeFormat::Jsonl => {
            PlainTable::read_progress(store, layout.folder()).await
        }
    }
}

/// What the commit of a replay says of itself.
fn replayed(part: &Part, by: &str) -> serde_json::Value {
    let offsets: Vec<i64> =
        part.batches.iter().flat_map(|batch| batch.offsets.values().iter().copied()).collect();
    let source = &part.source;
    serde_json::json!({
        "topic": source.topic, "partition": source.partition, "offsets": offsets, "by": by,
    })
}

fn format(feed: &Feed) -> LakeFormat {
    feed.lake.as_ref().map(|options| options.format).unwrap_or_default()
}

/// Files that are written, and the offsets they stand for.
#[derive(Debug, Clone, Default)]
pub struct Staged {
    /// Its own, by which a commit whose answer was lost is known again.
    pub id: Uuid,
    pub files: Vec<StagedFile>,
    pub parts: Vec<StagedPart>,
    /// The one part skips records, for this reason; the log says so.
    pub gap: Option<GapReason>,
    /// When the files were written.
    pub staged: Option<Staging>,
}

/// A moment by two clocks: one that stands still while the machine sleeps, and one that may be set.
#[derive(Debug, Clone, Copy)]
pub struct Staging(Instant, SystemTime);

impl Staging {
    pub fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }

    #[cfg(test)]
    fn ago(time: std::time::Duration) -> Self {
        Self(Instant::now(), SystemTime::now() - time)
    }

    /// Fails where files of then waited too long for their commit: they may have been swept away as
    /// nobody's, and are to be written again.
    pub fn refuse_if_old(&self) -> Result<(), SinkError> {
        // By whichever clock says more.
        let age = self.0.elapsed().max(self.1.elapsed().unwrap_or_default());
        if age <= upkeep::STAGED_FOR {
            return Ok(());
        }
        Err(SinkError::passing(format!(
            "files that were written {} minutes ago are not committed any more",
            age.as_secs() / 60
        )))
    }
}

impl Staged {
    /// Records that are skipped.
    fn gap(part: StagedPart, reason: GapReason) -> Self {
        let (gap, staged) = (Some(reason), None);
        Self { id: Uuid::new_v4(), files: Vec::new(), parts: vec![part], gap, staged }
    }
}

/// One file below the table's folder.
#[derive(Debug, Clone)]
pub struct StagedFile {
    pub path: String,
    pub size: u64,
    pub rows: usize,
    pub partition_values: Vec<(String, String)>,
    /// Delta's statistics, as JSON.
    pub stats: String,
    /// The time its rows belong to, as the layout tells times apart.
    pub time: String,
    /// What that time goes by, as [`Layout::by`].
    pub by: String,
    /// Index of the one part whose rows it holds, if it holds no others.
    pub part: Option<usize>,
    /// The topic all its rows are of, where it is known.
    pub topic: TopicId,
    /// When its rows were first written, if that is not now: milliseconds since the epoch.
    pub written_ms: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct StagedPart {
    pub source: TopicPartition,
    pub topic_id: TopicId,
    pub range: crate::record::OffsetRange,
    pub rejects: Vec<Reject>,
}

impl StagedPart {
    fn of(part: &Part) -> Self {
        let rejects = part.batches.iter().flat_map(|batch| batch.rejects.iter().cloned()).collect();
        Self { source: part.source.clone(), topic_id: part.topic_id, range: part.range(), rejects }
    }
}
