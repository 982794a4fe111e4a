//! Reading a feed's table as it stood at one moment: batch after batch, without what nobody asked for.
//!
//! A scan is opened at a state of the table, which [`Pin`] names: opened there again, it has the same
//! files in the same order, whatever was committed since. So a [`Position`], a file and a row in it,
//! tells for good where to go on.
//!
//! * `delta` and `plain` find the files of a state: what the log has at a version, or what the chains'
//!   links name. What is staged, foreign or in quarantine is none of them.
//! * `bounds` knows which files and row groups cannot hold a wanted row, by what their statistics say.
//!   A missing or doubtful statistic never leaves out anything: which rows come out is decided by the
//!   caller's `keep` alone.
//! * `row_groups` and `lines` read one file: only its wanted columns, and at most one row group, or a
//!   piece of the text, is held at a time. Decoding happens beside the runtime's threads.
//! * `columns` gives each batch the types of the table as the feed has it now.

mod bounds;
mod columns;
mod delta;
mod lines;
mod plain;
mod reading;
mod row_groups;
#[cfg(test)]
pub mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use futures::Stream;
use object_store::path::Path;
use object_store::{Error, ObjectStore};
use serde::{Deserialize, Serialize};

use self::columns::{quarantine_table_schema, table_schema};
use self::reading::{Plan, Reading};
use self::row_groups::columns_in;
use super::LakeStore;
use super::columns::line_columns;
use super::log::judged;
use super::plain::{End, History, Retirements};
use crate::config::{Column, Feed, LakeFormat};
use crate::layout::Layout;
use crate::record::{Bound, Lack, SinkError};

/// Which state of the table.
#[derive(Debug, Clone, PartialEq)]
pub enum At {
    Latest,
    /// A version of a Delta table; other tables have none.
    Version(u64),
    /// The last state committed at or before this moment: milliseconds since the epoch.
    Time(i64),
    /// The state that a scan was opened at before.
    Pinned(Pin),
}

/// Names a state of a table for good. What is in it is nobody's business but the scan's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pin(State);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum State {
    /// A version of a Delta log, and when it was committed, so that another log's is not taken for it.
    #[serde(rename = "v")]
    Version(u64, Option<i64>),
    /// Where each chain of a plain table stood, and how often retention had taken files out.
    #[serde(rename = "c")]
    Chains(Vec<(String, End)>, usize),
}

/// Where to go on: the file, in the order of the pinned state, and the row in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Position {
    pub file: u64,
    pub row: u64,
}

/// Says which rows of a batch are wanted; a null is a no. The error is for people.
pub type Keep = Arc<dyn Fn(&RecordBatch) -> Result<BooleanArray, String> + Send + Sync>;

/// What is read of the table.
#[derive(Clone)]
pub struct Request {
    /// In this order. With none, batches only count rows.
    pub columns: Vec<String>,
    /// Rows outside of them are not wanted, and may come all the same if `keep` lets them pass.
    pub bounds: Vec<Bound>,
    /// Sees `columns` and `keep_columns`, each once.
    pub keep: Option<Keep>,
    pub keep_columns: Vec<String>,
    pub from: Position,
    pub batch_rows: usize,
}

impl Default for Request {
    /// All rows from the beginning, and none of their columns.
    fn default() -> Self {
        let (columns, bounds, keep_columns) = Default::default();
        let (keep, from) = (None, Position::default());
        Self { columns, bounds, keep, keep_columns, from, batch_rows: 8192 }
    }
}

/// Why there is no scan.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotOpened {
    /// The table is not there yet.
    #[error("{0}")]
    NoTable(String),
    /// The table has no such state, or no more; the text says which it has.
    #[error("{0}")]
    NoState(String),
    #[error(transparent)]
    Failed(#[from] SinkError),
}

/// One file of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanFile {
    /// Below the table's folder.
    pub path: String,
    pub size: u64,
    pub rows: Option<u64>,
    /// Its partition columns.
    pub values: BTreeMap<String, Option<String>>,
    /// When it was added: milliseconds since the epoch.
    pub added_ms: i64,
    /// The time its rows belong to, as the layout tells times apart; none where its path does not tell.
    pub time: Option<String>,
    /// What its commit says of it beside.
    pub tags: BTreeMap<String, String>,
    location: Path,
    /// Delta's statistics, as JSON.
    stats: Option<String>,
}

/// A table at one state.
#[derive(Clone)]
pub struct TableScan(Arc<Table>);

struct Table {
    store: Arc<dyn ObjectStore>,
    /// For people: the feed's, and whether it is the quarantine.
    name: String,
    format: LakeFormat,
    /// What a line of JSON is read as.
    lines: Vec<Column>,
    schema: SchemaRef,
    /// How many columns at the end of `schema` are told by a file's path and not in it.
    partitions: usize,
    found: Found,
}

/// What there is at a state.
struct Found {
    pin: Pin,
    committed_ms: Option<i64>,
    files: Vec<ScanFile>,
    /// What a plain table's chains were read as, not to read them again.
    history: History,
}

impl ScanFile {
    /// The newest of its records' timestamps, where its commit says it: milliseconds since the epoch.
    pub fn newest_ms(&self) -> Option<i64> {
        let stats: serde_json::Value = serde_json::from_str(self.stats.as_deref()?).ok()?;
        let newest = stats["maxValues"]["_timestamp"].as_str()?;
        Some(chrono::DateTime::parse_from_rfc3339(newest).ok()?.timestamp_millis())
    }
}

impl TableScan {
    /// Finds the files of the state.
    pub async fn open(store: &LakeStore, feed: &Feed, at: At) -> Result<Self, NotOpened> {
        Self::find(store, feed, at, &History::default()).await
    }

    /// The same table at another state. Commits of a plain table that are known from this one are not
    /// fetched again, which are all but the latest.
    pub async fn reopen(&self, store: &LakeStore, feed: &Feed, at: At) -> Result<Self, NotOpened> {
        Self::find(store, feed, at, &self.0.found.history).await
    }

    async fn find(
        store: &LakeStore,
        feed: &Feed,
        at: At,
        before: &History,
    ) -> Result<Self, NotOpened> {
        let layout = Layout::of(feed).map_err(SinkError::lasting)?;
        // Snapshots are a Delta table, whatever else is.
        let format =
            if layout.snapshots().is_some() { LakeFormat::Delta } else { super::format(feed) };
        let below = store.below(layout.shown());
        let found = match format {
            LakeFormat::Delta => {
                let log = store.log_store(layout.shown())?;
                delta::find(&log, below.as_ref(), &feed.name, &layout, at).await?
            }
            LakeFormat::Parquet | LakeFormat::Jsonl => {
                plain::find(below.as_ref(), feed, &layout, format, at, before).await?
            }
        };
        let (schema, partitions) = table_schema(feed, &layout);
        let lines = match format {
            LakeFormat::Jsonl => line_columns(feed).collect(),
            LakeFormat::Delta | LakeFormat::Parquet => Vec::new(),
        };
        let name = feed.name.to_string();
        Ok(Self(Arc::new(Table { store: below, name, format, lines, schema, partitions, found })))
    }

    /// The same of a feed's quarantine, which is a Delta table whatever the feed's own is.
    pub async fn open_quarantine(store: &LakeStore, feed: &str, at: At) -> Result<Self, NotOpened> {
        let layout = Layout::of_quarantine(feed).map_err(SinkError::lasting)?;
        let (below, log) = (store.below(layout.folder()), store.log_store(layout.folder())?);
        let name = format!("{feed} (quarantine)");
        let found = delta::find(&log, below.as_ref(), &name, &layout, at).await?;
        let (schema, partitions) = quarantine_table_schema(&layout);
        let (format, lines) = (LakeFormat::Delta, Vec::new());
        Ok(Self(Arc::new(Table { store: below, name, format, lines, schema, partitions, found })))
    }

    /// Names this state, to open it again.
    pub fn pin(&self) -> &Pin {
        &self.0.found.pin
    }

    /// The version of a Delta table; other tables have none.
    pub fn version(&self) -> Option<u64> {
        match self.0.found.pin.0 {
            State::Version(version, _) => Some(version),
            State::Chains(..) => None,
        }
    }

    /// When this state was committed, if that is still known: milliseconds since the epoch.
    pub fn committed_ms(&self) -> Option<i64> {
        self.0.found.committed_ms
    }

    /// The table's columns as the feed has them now, those of the record's coordinates, then the
    /// partition columns.
    pub fn schema(&self) -> SchemaRef {
        self.0.schema.clone()
    }

    /// In the order of their rows.
    pub fn files(&self) -> &[ScanFile] {
        &self.0.found.files
    }

    /// What retention had taken out of a plain table when the scan looked.
    pub fn retirements(&self) -> &Retirements {
        &self.0.found.history.retirements
    }

    /// The same state, as if it had these of its files alone.
    pub fn only(&self, files: &[usize]) -> Self {
        let chosen = files.iter().map(|index| self.0.found.files[*index].clone()).collect();
        let Found { pin, committed_ms, .. } = &self.0.found;
        let history = History::default();
        let found = Found { pin: pin.clone(), committed_ms: *committed_ms, files: chosen, history };
        let Table { store, name, format, lines, schema, partitions, .. } = self.0.as_ref();
        Self(Arc::new(Table {
            store: store.clone(),
            name: name.clone(),
            format: *format,
            lines: lines.clone(),
            schema: schema.clone(),
            partitions: *partitions,
            found,
        }))
    }

    /// The columns that a Parquet file of the table has.
    pub async fn columns_in(&self, file: usize) -> Result<SchemaRef, SinkError> {
        columns_in(&self.0, file).await
    }

    /// The wanted rows, and with each batch the position after it. A batch may have no rows: it says
    /// only how far the reading has come.
    pub fn batches(
        &self,
        request: Request,
    ) -> impl Stream<Item = Result<(RecordBatch, Position), SinkError>> + Send + use<> {
        let from = request.from;
        let plan = Plan::of(&self.0, request);
        let reading = plan.map(|plan| Reading::new(self.0.clone(), Arc::new(plan), from));
        futures::stream::try_unfold(reading, |reading| async {
            let mut reading = reading?;
            Ok(reading.next().await?.map(|given| (given, Ok(reading))))
        })
    }
}

/// The columns that a scan of the feed's table would have, whether there is one or not.
pub fn columns_of(feed: &Feed) -> Result<SchemaRef, SinkError> {
    let layout = Layout::of(feed).map_err(SinkError::lasting)?;
    Ok(table_schema(feed, &layout).0)
}

impl Table {
    /// What an error means that came of reading one of the table's files.
    fn unreadable(&self, file: &ScanFile, error: &Error) -> SinkError {
        match error {
            Error::NotFound { .. } => SinkError::lacking(
                Lack::Gone,
                format!(
                    "this state of the table of feed {} can no longer be read: its file {} is gone, as \
                 after a vacuum. Read the latest state, or restore the file from a backup",
                    self.name, file.path
                ),
            ),
            error => judged(error).context(format!("reading {}", file.path)),
        }
    }
}

/// There is nothing to be read yet.
fn no_table(feed: &str) -> NotOpened {
    NotOpened::NoTable(format!(
        "feed {feed} has no table in the lake yet: a node makes it when it first writes to it"
    ))
}

/// A moment, for people.
fn moment(millis: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(millis) {
        Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        None => format!("{millis} ms"),
    }
}
