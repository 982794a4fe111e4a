//! Verification: the log, the lake and the warehouse compared feed by feed.
//!
//! It needs neither a running node nor its internals: it reads the log as a consumer, the Delta log
//! and the Parquet files as any reader, and the database with plain SELECTs, each sink in one
//! snapshot. Two things are borrowed, since they say what is right and not what was done: the decoder
//! and the lake's layout.
//!
//! * A **stream** in either sink, and a table's changelog in the lake: over the offsets the sink
//!   claims, every record the log still holds is there exactly once, as a row or in quarantine.
//! * A **table** in the warehouse: its rows are the final records of their keys, column by column;
//!   what does not decode is in quarantine.
//!
//! What the log no longer holds is unchecked, not lost; aborted and compacted records are not
//! expected; gaps are shown, those passed over and those a sink waits before; so are rows of a former
//! topic of the same name. The sinks are read before the log, so a node may run meanwhile.

mod account;
mod canon;
mod check;
mod checkpoint;
mod delta;
mod escape;
mod feeds;
mod gap;
mod history;
mod keys;
mod lake;
mod lines;
mod offsets;
mod plain;
mod postgres;
mod print;
mod quarantine;
mod report;
mod retired;
mod spool;
mod sqlite;
mod start;
mod sum_up;
mod table;
mod topic;
mod wait;
mod warehouse;

use std::time::Duration;

use indicatif::ProgressBar;

use self::check::{Sources, check};
use self::topic::Broker;
use self::warehouse::Database;
use crate::config::{Feed, FeedFile, Node};
use crate::lake::LakeStore;
use crate::registry::Registry;

pub use delta::{Mark as LakeMark, TableFile as LakeFile};
pub use escape::shortened;
pub use gap::Gap as LakeGap;
pub use history::{forget, remember};
pub use lake::{is_former, rows_at};
pub use quarantine::{
    Chosen, Counted, Fate, Kept, QuarantinedRecord, State, WantedState, counted,
    offsets_in_quarantine, quarantined, time,
};
pub use report::{
    Example, FeedReport, GapReport, PartitionReport, Report, SinkReport, TableReport, Verdict,
};
pub use topic::may_be_compacted;
pub use wait::{Behind, Ends};

pub use table::{Table as LakeTable, quarantine_table};

/// What to compare, and when.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only this feed.
    pub feed: Option<String>,
    /// Wait at most so long until both sinks have reached the log's end as it is now.
    pub wait: Option<Duration>,
    /// Where progress is shown.
    pub bar: ProgressBar,
}

impl Default for Options {
    fn default() -> Self {
        Self { feed: None, wait: None, bar: ProgressBar::hidden() }
    }
}

/// Compares the feeds of `files`. It blocks on the broker: run it on a runtime of its own.
pub async fn run(node: &Node, files: &[FeedFile], options: Options) -> Result<Report, String> {
    let sources = open(node, files, options.bar).await?;
    let feeds = find(&sources, files, options.feed.as_deref()).await?;
    let waited_in_vain = match options.wait {
        Some(limit) => !wait::until_caught_up(&sources, &feeds, limit).await?,
        None => false,
    };
    let mut reports = Vec::with_capacity(feeds.len());
    for feed in &feeds {
        let report = check(&sources, feed).await;
        reports.push(report.map_err(|error| format!("feed {}: {error}", feed.name))?);
    }
    sources.bar.finish_and_clear();
    Ok(Report::of(reports, waited_in_vain))
}

/// The feeds of `files` as they run now, or the one named `only`.
pub async fn feeds(
    node: &Node,
    files: &[FeedFile],
    only: Option<&str>,
) -> Result<Vec<Feed>, String> {
    let sources = open(node, files, ProgressBar::hidden()).await?;
    find(&sources, files, only).await
}

async fn open(node: &Node, files: &[FeedFile], bar: ProgressBar) -> Result<Sources, String> {
    let lake = node.lake.as_ref().filter(|_| files.iter().any(|file| file.lake.is_some()));
    let lake = lake.map(LakeStore::open).transpose().map_err(|error| error.to_string())?;
    let warehouse =
        node.warehouse.as_ref().filter(|_| files.iter().any(|file| file.warehouse.is_some()));
    let warehouse = match warehouse {
        Some(config) => Some(Database::open(config).await?),
        None => None,
    };
    let registry = node.schema_registry.as_ref().map(Registry::open).transpose()?;
    Ok(Sources { broker: Broker::open(&node.kafka)?, lake, warehouse, registry, bar })
}

async fn find(
    sources: &Sources,
    files: &[FeedFile],
    only: Option<&str>,
) -> Result<Vec<Feed>, String> {
    let Sources { broker, lake, warehouse, .. } = sources;
    feeds::find(files, only, &broker.log, lake.as_ref(), warehouse.as_ref()).await
}
