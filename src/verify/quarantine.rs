//! Records that became no row, as each sink keeps them.

use std::cmp::Reverse;
use std::collections::HashMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::delta::{DeltaLog, said};
use super::lake::read_columns;
use super::warehouse::Database;
use crate::config::Node;
use crate::lake::LakeStore;
use crate::layout;
use crate::record::SinkKind;

/// One record in quarantine.
#[derive(Debug, Clone)]
pub struct Kept {
    pub feed: String,
    /// Where it is kept: both sinks where it could not be decoded, one where that one refused it.
    pub sinks: Vec<SinkKind>,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the epoch; none where the record has none.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub class: String,
    pub reason: String,
    /// When it was put there, milliseconds since the epoch.
    pub kept_at_ms: i64,
}

/// At most `most` quarantined records of both sinks, newest first. Asks no broker.
pub async fn newest(node: &Node, feed: Option<&str>, most: usize) -> Result<Vec<Kept>, String> {
    let mut kept = Vec::new();
    // More than asked for of each: the sinks do not end with the same record.
    let window = most.saturating_add(1000);
    if let Some(config) = &node.warehouse {
        let limit = i64::try_from(window).unwrap_or(i64::MAX);
        kept.extend(match Database::open(config).await? {
            Database::Postgres(database) => database.newest_quarantined(feed, limit).await?,
            Database::Sqlite(database) => database.newest_quarantined(feed, limit)?,
        });
    }
    if let Some(config) = &node.lake {
        let store = LakeStore::open(config).map_err(|error| error.to_string())?;
        for name in lake_feeds(&store, feed).await? {
            kept.extend(newest_of_lake(&store, &name, window).await?);
        }
    }
    let mut kept = merged(kept);
    kept.sort_by_key(|record| Reverse((record.kept_at_ms, record.offset)));
    kept.truncate(most);
    Ok(kept)
}

/// What both sinks keep stands once, with both their names.
fn merged(kept: Vec<Kept>) -> Vec<Kept> {
    let mut places: HashMap<(String, String, i32, i64, String), usize> = HashMap::new();
    let mut merged: Vec<Kept> = Vec::new();
    for record in kept {
        let name = (
            record.feed.clone(),
            record.topic.clone(),
            record.partition,
            record.offset,
            record.reason.clone(),
        );
        match places.get(&name) {
            Some(place) if !merged[*place].sinks.contains(&record.sinks[0]) => {
                merged[*place].sinks.extend(record.sinks);
                merged[*place].sinks.sort_unstable();
            }
            _ => {
                places.insert(name, merged.len());
                merged.push(record);
            }
        }
    }
    merged
}

/// The feeds that have a quarantine table in the lake.
async fn lake_feeds(store: &LakeStore, feed: Option<&str>) -> Result<Vec<String>, String> {
    if let Some(feed) = feed {
        return Ok(vec![feed.to_owned()]);
    }
    let folder = store.below(layout::quarantine_path("").trim_end_matches('/'));
    let listed = folder.list_with_delimiter(None).await.map_err(said)?;
    Ok(listed.common_prefixes.iter().filter_map(|it| it.filename().map(str::to_owned)).collect())
}

async fn newest_of_lake(store: &LakeStore, feed: &str, most: usize) -> Result<Vec<Kept>, String> {
    let table = store.below(&layout::quarantine_path(feed));
    let log = DeltaLog::open(table.clone()).await?;
    let mut kept = Vec::new();
    for file in log.files().into_iter().rev() {
        if kept.len() >= most {
            break;
        }
        let path = Path::from_url_path(&file.path).map_err(|error| error.to_string())?;
        let bytes = table.get(&path).await.map_err(said)?.bytes().await.map_err(said)?;
        let batch = read_columns(bytes, &COLUMNS.map(str::to_owned))
            .map_err(|error| format!("{}: {error}", file.path))?;
        let rows = rows(&batch, feed, file.modified);
        kept.extend(rows.ok_or_else(|| format!("{} is no quarantine file", file.path))?);
    }
    Ok(kept)
}

const COLUMNS: [&str; 8] =
    ["_topic", "_partition", "_offset", "_timestamp", "key", "value", "class", "reason"];

fn rows(batch: &RecordBatch, feed: &str, kept_at_ms: i64) -> Option<Vec<Kept>> {
    let text = |name| batch.column_by_name(name).and_then(|it| it.as_string_opt::<i32>());
    let bytes = |name| batch.column_by_name(name).and_then(|it| it.as_binary_opt::<i32>());
    let (topics, classes, reasons) = (text("_topic")?, text("class")?, text("reason")?);
    let (keys, values) = (bytes("key")?, bytes("value")?);
    let partitions = batch.column_by_name("_partition")?.as_primitive_opt::<Int32Type>()?;
    let offsets = batch.column_by_name("_offset")?.as_primitive_opt::<Int64Type>()?;
    let times =
        batch.column_by_name("_timestamp")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let row = |row: usize| Kept {
        feed: feed.to_owned(),
        sinks: vec![SinkKind::Lake],
        topic: topics.value(row).to_owned(),
        partition: partitions.value(row),
        offset: offsets.value(row),
        timestamp_ms: times.is_valid(row).then(|| times.value(row).div_euclid(1000)),
        key: keys.is_valid(row).then(|| keys.value(row).to_vec()),
        value: values.is_valid(row).then(|| values.value(row).to_vec()),
        class: classes.value(row).to_owned(),
        reason: reasons.value(row).to_owned(),
        kept_at_ms,
    };
    Some((0..batch.num_rows()).map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_sinks_keep_stands_once() {
        let one = |sink, offset| Kept {
            feed: "f".to_owned(),
            sinks: vec![sink],
            topic: "t".to_owned(),
            partition: 0,
            offset,
            timestamp_ms: None,
            key: None,
            value: None,
            class: "malformed".to_owned(),
            reason: "why".to_owned(),
            kept_at_ms: 0,
        };
        let (lake, warehouse) = (SinkKind::Lake, SinkKind::Warehouse);
        let merged = merged(vec![one(warehouse, 1), one(warehouse, 2), one(lake, 1)]);
        let sinks: Vec<_> = merged.into_iter().map(|kept| (kept.offset, kept.sinks)).collect();
        assert_eq!(sinks, [(1, vec![lake, warehouse]), (2, vec![warehouse])]);
    }
}
