//! `_metadata.json`: what is in a table's folder, for those who look into it.
//!
//! It follows the table and is never in a commit's way. Several nodes write it: each reads the table,
//! writes what it found, and reads both again until they agree, so whoever writes last has seen the
//! last version. The file names the version it describes.

mod follow;
mod overview;

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use serde::Serialize;
use std::collections::BTreeMap;

use super::log::{judged, judged_write};
use super::{LakeStore, format};
use crate::config::{Feed, FeedKind, LakeFormat, Placeholder, VERSION};
use crate::layout::Layout;
use crate::record::SinkError;

pub use follow::{Followed, Follower};
pub use overview::{Overview, TableReader, Totals};

const ATTEMPTS: u32 = 10;
const NAME: &str = "_metadata.json";

#[derive(Debug, Serialize)]
struct Document {
    feed: String,
    source: String,
    #[serde(rename = "type")]
    kind: FeedKind,
    storage_mode: &'static str,
    format: LakeFormat,
    partitioning: Partitioning,
    /// The table's version that all this is about; of a plain table, where each partition stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    table_version: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    offsets: BTreeMap<String, i64>,
    last_export: Option<String>,
    total_records: u64,
    total_files: u64,
    total_size_mb: f64,
    partitions: Vec<PartitionTotals>,
    /// Changes with the columns.
    schema_version: String,
    created_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct Partitioning {
    #[serde(rename = "type")]
    kind: &'static str,
    columns: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PartitionTotals {
    path: String,
    records: u64,
    size_mb: f64,
}

/// The file of one feed.
pub struct Metadata {
    feed: Arc<Feed>,
    store: Arc<dyn ObjectStore>,
    table: TableReader,
}

impl Metadata {
    /// None for a feed that does not ask for it.
    pub fn of(lake: &LakeStore, feed: &Arc<Feed>) -> Result<Option<Self>, SinkError> {
        if !feed.lake.as_ref().is_some_and(|options| options.metadata) {
            return Ok(None);
        }
        let layout = Layout::of(feed).map_err(SinkError::lasting)?;
        let table = TableReader::of(lake, feed)?;
        Ok(Some(Self { feed: feed.clone(), store: lake.below(layout.shown()), table }))
    }

    /// Writes the file, unless it says so already.
    pub async fn write(&mut self) -> Result<(), SinkError> {
        for attempt in 0..ATTEMPTS {
            let Some(overview) = self.table.read().await? else { return Ok(()) };
            let document = document(&self.feed, &overview)?;
            let there = self.there().await?;
            if there.as_deref() == Some(document.as_bytes()) {
                return Ok(());
            }
            // By a node that has read on meanwhile; or it is of a table that was restored since.
            if attempt < 3 && there.is_some_and(|there| is_newer(&there, &overview)) {
                continue;
            }
            self.store
                .put(&NAME.into(), document.into())
                .await
                .map_err(|error| judged_write(&error).context(format!("writing {NAME}")))?;
        }
        Err(SinkError::passing(format!("{NAME} is written by too many at once")))
    }

    async fn there(&self) -> Result<Option<bytes::Bytes>, SinkError> {
        match self.store.get(&Path::from(NAME)).await {
            Ok(got) => got.bytes().await.map(Some).map_err(|error| judged(&error)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(judged(&error).context(format!("reading {NAME}"))),
        }
    }
}

fn is_newer(there: &[u8], overview: &Overview) -> bool {
    let there: serde_json::Value = serde_json::from_slice(there).unwrap_or_default();
    there["table_version"].as_u64() > overview.version && overview.version.is_some()
}

fn document(feed: &Feed, overview: &Overview) -> Result<String, SinkError> {
    let layout = Layout::of(feed).map_err(SinkError::lasting)?;
    let options = feed.lake.clone().unwrap_or_default();
    let time = |millis: i64| {
        DateTime::from_timestamp_millis(millis)
            .map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
    };
    let partitioning = match layout.snapshots() {
        Some(_) => Partitioning { kind: VERSION, columns: vec![VERSION.to_owned()] },
        None => {
            let timely =
                |of: &Placeholder| !matches!(of, Placeholder::Partition | Placeholder::Offset);
            let by_time = layout.partitioned_by().iter().all(|(_, of)| timely(of));
            let kind = if by_time { "date" } else { "path" };
            let columns = layout.columns().into_iter().map(str::to_owned).collect();
            Partitioning { kind, columns }
        }
    };
    let partitions = overview.folders.iter().map(|(path, totals)| PartitionTotals {
        path: path.clone(),
        records: totals.rows,
        size_mb: megabytes(totals.bytes),
    });
    let total = overview.total();
    let document = Document {
        feed: feed.name.to_string(),
        source: feed.topic.to_string(),
        kind: feed.kind,
        storage_mode: options.storage.name(),
        format: format(feed),
        partitioning,
        table_version: overview.version,
        offsets: overview.offsets.clone(),
        last_export: overview.last_ms.and_then(time),
        total_records: total.rows,
        total_files: total.files,
        total_size_mb: megabytes(total.bytes),
        partitions: partitions.collect(),
        schema_version: schema_version(feed),
        created_at: overview.created_ms.and_then(time),
    };
    serde_json::to_string_pretty(&document).map_err(SinkError::lasting)
}

fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1_048_576.0 * 1e6).round() / 1e6
}

/// FNV-1a over names and types: the same on every node and in every release.
fn schema_version(feed: &Feed) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    for column in &feed.schema.columns {
        for byte in format!("{}:{};", column.name, column.kind).bytes() {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
    format!("{hash:08x}")
}
