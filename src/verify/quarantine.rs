//! Records that became no row, as each sink keeps them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use arrow::array::{Array, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat};
use clap::ValueEnum;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::delta::{DeltaLog, said};
use super::lake::read_columns;
use super::warehouse::Database;
use crate::config::{Node, Warehouse};
use crate::lake::{LakeStore, Settlement, settlements};
use crate::layout;
use crate::record::{OffsetRange, RejectClass, Settled, SinkKind, TopicId, TopicPartition};

/// One record in quarantine.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub feed: String,
    /// Where it is kept: both sinks where it could not be decoded, one where that one refused it.
    pub sinks: Vec<SinkKind>,
    pub topic: String,
    /// Of the topic it was read from, as far as the sink knows.
    pub topic_id: Option<Uuid>,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the epoch; none where the record has none.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// A JSON array: see [`crate::record::headers_json`].
    pub headers: String,
    pub class: String,
    pub reason: String,
    /// Key and value are the columns of a row that the sink refused, as JSON, and not the record's bytes.
    pub is_row: bool,
    /// When it was put there, milliseconds since the epoch.
    pub kept_at_ms: i64,
    pub settled: Option<Fate>,
}

/// What somebody made of a record in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    pub settled: Settled,
    pub by: String,
    pub why: Option<String>,
    pub at_ms: i64,
}

impl Fate {
    pub(super) fn of(
        settled: Option<String>,
        by: String,
        why: Option<String>,
        at_ms: i64,
    ) -> Result<Option<Self>, String> {
        let Some(name) = settled else { return Ok(None) };
        Ok(Some(Self { settled: settled_as(&name)?, by, why, at_ms }))
    }
}

fn settled_as(name: &str) -> Result<Settled, String> {
    serde_json::from_value(Value::from(name))
        .map_err(|_| format!("a state of quarantine that this release does not know: {name}"))
}

/// A record in quarantine as whoever asks is told of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct QuarantinedRecord {
    feed: String,
    /// Which sinks keep it: `lake`, `warehouse`.
    sinks: Vec<&'static str>,
    topic: String,
    partition: i32,
    offset: i64,
    /// The record's own time (RFC 3339).
    timestamp: Option<String>,
    quarantined_at: Option<String>,
    /// Of the reason, such as `wrong_type`.
    class: String,
    reason: String,
    /// `open`, `replayed`, `superseded`, `discarded` or `read_again`.
    state: &'static str,
    settled_by: Option<String>,
    settled_at: Option<String>,
    settled_why: Option<String>,
    topic_id: Option<String>,
    /// Pairs of a name and a value in base64, in their order.
    headers: Value,
    /// Key and value are the columns of a row that the sink refused, as JSON, and not the record's bytes.
    is_row: bool,
    /// As text, where it is UTF-8.
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
}

impl From<&Kept> for QuarantinedRecord {
    fn from(record: &Kept) -> Self {
        let text = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().and_then(|bytes| String::from_utf8(bytes.clone()).ok())
        };
        let base64 = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
        let fate = record.settled.as_ref();
        Self {
            feed: record.feed.clone(),
            sinks: record.sinks.iter().map(|sink| sink.name()).collect(),
            topic: record.topic.clone(),
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp_ms.and_then(time),
            quarantined_at: time(record.kept_at_ms),
            class: record.class.clone(),
            reason: record.reason.clone(),
            state: State::of(record).name(),
            settled_by: fate.map(|fate| fate.by.clone()),
            settled_at: fate.and_then(|fate| time(fate.at_ms)),
            settled_why: fate.and_then(|fate| fate.why.clone()),
            topic_id: record.topic_id.map(|id| id.to_string()),
            headers: serde_json::from_str(&record.headers).unwrap_or_default(),
            is_row: record.is_row,
            key: text(&record.key),
            key_base64: base64(&record.key),
            value: text(&record.value),
            value_base64: base64(&record.value),
        }
    }
}

/// A time as people write it.
pub fn time(millis: i64) -> Option<String> {
    let time = DateTime::from_timestamp_millis(millis)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Which records are meant.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub feed: Option<String>,
    pub sink: Option<SinkKind>,
    pub class: Option<RejectClass>,
    pub partition: Option<i32>,
    pub offsets: OffsetRange,
    /// None: whatever was made of them.
    pub state: Option<State>,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.state.map_or("any", State::name))?;
        if let Some(sink) = self.sink {
            write!(f, ", {sink}")?;
        }
        if let Some(class) = self.class {
            write!(f, ", {}", class.name())?;
        }
        if let Some(partition) = self.partition {
            write!(f, ", partition {partition}")?;
        }
        match (self.offsets.start, self.offsets.end) {
            (i64::MIN, i64::MAX) => Ok(()),
            (start, i64::MAX) => write!(f, ", offsets {start}.."),
            (i64::MIN, end) => write!(f, ", offsets ..{end}"),
            (start, end) => write!(f, ", offsets {start}..{end}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has settled it.
    Open,
    Settled(Settled),
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Settled(settled) => settled.name(),
        }
    }

    fn of(record: &Kept) -> Self {
        record.settled.as_ref().map_or(State::Open, |fate| State::Settled(fate.settled))
    }
}

/// Records of which state somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum WantedState {
    /// Nobody has settled them.
    Open,
    Replayed,
    Superseded,
    Discarded,
    /// Progress was set back before them; a node reads them again.
    ReadAgain,
    All,
}

impl WantedState {
    /// That of each record; none when any will do.
    pub fn of_each(self) -> Option<State> {
        Some(match self {
            Self::Open => State::Open,
            Self::Replayed => State::Settled(Settled::Replayed),
            Self::Superseded => State::Settled(Settled::Superseded),
            Self::Discarded => State::Settled(Settled::Discarded),
            Self::ReadAgain => State::Settled(Settled::ReadAgain),
            Self::All => return None,
        })
    }
}

impl Chosen {
    fn takes(&self, record: &Kept) -> bool {
        self.class.is_none_or(|class| class.name() == record.class)
            && self.partition.is_none_or(|partition| partition == record.partition)
            && self.offsets.contains(record.offset)
            && self.state.is_none_or(|state| state == State::of(record))
    }

    fn wants(&self, sink: SinkKind) -> bool {
        self.sink.is_none_or(|wanted| wanted == sink)
    }
}

/// What a bookkeeping lacks that was not migrated since.
pub(super) const OLDER: &str = "the warehouse's bookkeeping is older than this release: run `tidegate \
                                migrate`";

/// At most `most` quarantined records of both sinks, newest first. Asks no broker.
pub async fn quarantined(node: &Node, chosen: &Chosen, most: usize) -> Result<Vec<Kept>, String> {
    let mut kept = Vec::new();
    // More than asked for of each, where there are two: they do not end with the same record.
    let both = chosen.sink.is_none() && node.lake.is_some() && node.warehouse.is_some();
    let window = if both { most.saturating_mul(2).saturating_add(50) } else { most };
    if let Some(config) = node.warehouse.as_ref().filter(|_| chosen.wants(SinkKind::Warehouse)) {
        let limit = i64::try_from(window).unwrap_or(i64::MAX);
        kept.extend(match Database::open(config).await? {
            Database::Postgres(database) => database.quarantined(chosen, limit).await?,
            Database::Sqlite(database) => database.quarantined(chosen, limit)?,
        });
    }
    if let Some(config) = node.lake.as_ref().filter(|_| chosen.wants(SinkKind::Lake)) {
        let store = LakeStore::open(config).map_err(|error| error.to_string())?;
        for name in lake_feeds(&store, chosen.feed.as_deref()).await? {
            kept.extend(of_lake(&store, &name, chosen, window).await?);
        }
    }
    let mut kept = merged(kept);
    kept.sort_by_key(|record| Reverse((record.kept_at_ms, record.offset)));
    kept.truncate(most);
    Ok(kept)
}

/// Of a record in the warehouse's quarantine which one it is, and what was made of it.
pub(super) struct Marked {
    pub offset: i64,
    pub topic_id: Option<Uuid>,
    pub settled: Option<String>,
}

/// The offsets of a partition's records in the warehouse's quarantine, each with the topic it is of and what was
/// made of it: without what the records hold, of which there may be much.
pub async fn offsets_in_quarantine(
    config: &Warehouse,
    feed: &str,
    source: &TopicPartition,
) -> Result<Vec<(i64, TopicId, Option<Settled>)>, String> {
    let found = match Database::open(config).await? {
        Database::Postgres(database) => database.quarantined_offsets(feed, source).await?,
        Database::Sqlite(database) => database.quarantined_offsets(feed, source)?,
    };
    let read = |Marked { offset, topic_id, settled }: Marked| {
        let topic_id = TopicId::from(topic_id.filter(|id| !id.is_nil()));
        let settled = settled.as_deref().map(settled_as).transpose()?;
        Ok((offset, topic_id, settled))
    };
    found.into_iter().map(read).collect()
}

/// How many records of one kind a sink's quarantine holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub feed: String,
    pub class: String,
    /// `open`, or what was made of them.
    pub state: String,
    pub records: u64,
    /// The reason that is kept with one of them.
    pub reason: String,
}

/// The records in one sink's quarantine, counted by feed, class and state, in this order. Asks no broker.
pub async fn counted(node: &Node, sink: SinkKind) -> Result<Vec<Counted>, String> {
    match (sink, &node.warehouse, &node.lake) {
        (SinkKind::Warehouse, Some(config), _) => match Database::open(config).await? {
            Database::Postgres(database) => database.count_quarantine().await,
            Database::Sqlite(database) => database.count_quarantine(),
        },
        (SinkKind::Lake, _, Some(config)) => {
            let store = LakeStore::open(config).map_err(|error| error.to_string())?;
            count_lake(&store).await
        }
        _ => Ok(Vec::new()),
    }
}

async fn count_lake(store: &LakeStore) -> Result<Vec<Counted>, String> {
    let mut counts: BTreeMap<(String, String, &str), (u64, String)> = BTreeMap::new();
    for feed in lake_feeds(store, None).await? {
        let each = |records: Vec<Kept>, _: Option<i64>| {
            for record in records {
                let state = State::of(&record).name();
                let count = counts.entry((record.feed, record.class, state));
                count.or_insert((0, record.reason)).0 += 1;
            }
            true
        };
        each_of_lake(store, &feed, each).await?;
    }
    let counted = |((feed, class, state), (records, reason)): (_, _)| {
        let state: &str = state;
        Counted { feed, class, state: state.to_owned(), records, reason }
    };
    Ok(counts.into_iter().map(counted).collect())
}

/// What both sinks keep stands once, with both their names.
fn merged(kept: Vec<Kept>) -> Vec<Kept> {
    let mut places: HashMap<_, usize> = HashMap::new();
    let mut merged: Vec<Kept> = Vec::new();
    for record in kept {
        let name = (
            record.feed.clone(),
            record.topic.clone(),
            record.partition,
            record.offset,
            record.reason.clone(),
            record.settled.as_ref().map(|fate| fate.settled),
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

async fn of_lake(
    store: &LakeStore,
    feed: &str,
    chosen: &Chosen,
    most: usize,
) -> Result<Vec<Kept>, String> {
    let mut kept: Vec<Kept> = Vec::new();
    let take = |records: Vec<Kept>, next_ms: Option<i64>| {
        kept.extend(records.into_iter().filter(|record| chosen.takes(record)));
        kept.sort_by_key(|record| Reverse((record.kept_at_ms, record.offset)));
        kept.truncate(most);
        // Records of the files to come are no newer than their file.
        let oldest = kept.last().map(|record| record.kept_at_ms);
        kept.len() < most || next_ms.is_some_and(|next| oldest.is_none_or(|oldest| next >= oldest))
    };
    each_of_lake(store, feed, take).await?;
    Ok(kept)
}

/// Calls `each` with the records of a file of a feed's quarantine, and how old the next one is: the newest
/// first, until it answers false. One file is held at a time.
async fn each_of_lake(
    store: &LakeStore,
    feed: &str,
    mut each: impl FnMut(Vec<Kept>, Option<i64>) -> bool,
) -> Result<(), String> {
    let table = store.below(&layout::quarantine_path(feed));
    let log = DeltaLog::open(table.clone()).await?;
    let fates = Fates::read(store, feed).await?;
    let mut files = log.files();
    // One that was put together of others is as old as the youngest of them.
    files.sort_by_key(|file| std::cmp::Reverse((file.modified, file.version)));
    for (index, file) in files.iter().enumerate() {
        let path = Path::from_url_path(&file.path).map_err(|error| error.to_string())?;
        let bytes = table.get(&path).await.map_err(said)?.bytes().await.map_err(said)?;
        let batch = read_columns(bytes, &COLUMNS.map(str::to_owned))
            .map_err(|error| format!("{}: {error}", file.path))?;
        let rows = rows(&batch, feed, file.modified);
        let rows = rows.ok_or_else(|| format!("{} is no quarantine file", file.path))?;
        let mut rows = rows;
        for record in &mut rows {
            let source = TopicPartition::new(record.topic.as_str(), record.partition);
            let by_age = || log.mark_at(&source, file.version).and_then(|it| it.topic_id.get());
            record.topic_id = file.topic.or_else(by_age);
            record.settled = fates.of(record);
        }
        let next_ms = files.get(index + 1).map(|next| next.modified);
        if !each(rows, next_ms) {
            break;
        }
    }
    Ok(())
}

/// What was made of the records in a lake's quarantine: of one settled twice, the last counts.
struct Fates(HashMap<Place, Vec<(Option<Uuid>, Fate)>>);

/// Topic, partition and offset.
type Place = (String, i32, i64);

impl Fates {
    async fn read(store: &LakeStore, feed: &str) -> Result<Self, String> {
        let mut fates: HashMap<_, Vec<_>> = HashMap::new();
        let all = settlements(store, feed).await.map_err(|error| error.to_string())?;
        for it in all {
            let Settlement { settled, by, why, at_ms, .. } = it;
            for offset in it.offsets {
                let fate = Fate { settled, by: by.clone(), why: why.clone(), at_ms };
                let place = (it.topic.clone(), it.partition, offset);
                fates.entry(place).or_default().push((it.topic_id, fate));
            }
        }
        Ok(Self(fates))
    }

    fn of(&self, record: &Kept) -> Option<Fate> {
        let place = (record.topic.clone(), record.partition, record.offset);
        let all = self.0.get(&place)?.iter().rev();
        let of_topic = all.filter(|(topic_id, _)| *topic_id == record.topic_id);
        // What is a row is a row, whatever somebody said of it at the same time.
        let replayed = |fate: &Fate| fate.settled == Settled::Replayed;
        of_topic.map(|(_, fate)| fate).max_by_key(|fate| (replayed(fate), fate.at_ms)).cloned()
    }
}

const COLUMNS: [&str; 10] = [
    "_topic",
    "_partition",
    "_offset",
    "_timestamp",
    "key",
    "value",
    "headers",
    "class",
    "reason",
    "kept_at",
];

fn rows(batch: &RecordBatch, feed: &str, added_ms: i64) -> Option<Vec<Kept>> {
    let text = |name| batch.column_by_name(name).and_then(|it| it.as_string_opt::<i32>());
    let bytes = |name| batch.column_by_name(name).and_then(|it| it.as_binary_opt::<i32>());
    let (topics, classes, reasons) = (text("_topic")?, text("class")?, text("reason")?);
    let (keys, values, headers) = (bytes("key")?, bytes("value")?, text("headers")?);
    let partitions = batch.column_by_name("_partition")?.as_primitive_opt::<Int32Type>()?;
    let offsets = batch.column_by_name("_offset")?.as_primitive_opt::<Int64Type>()?;
    let time = |name| batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>();
    let (times, kept) = (time("_timestamp")?, time("kept_at"));
    let millis = |of: &TimestampMicrosecondArray, row| of.value(row).div_euclid(1000);
    let row = |row: usize| Kept {
        feed: feed.to_owned(),
        sinks: vec![SinkKind::Lake],
        topic: topics.value(row).to_owned(),
        topic_id: None,
        partition: partitions.value(row),
        offset: offsets.value(row),
        timestamp_ms: times.is_valid(row).then(|| millis(times, row)),
        key: keys.is_valid(row).then(|| keys.value(row).to_vec()),
        value: values.is_valid(row).then(|| values.value(row).to_vec()),
        headers: headers.value(row).to_owned(),
        class: classes.value(row).to_owned(),
        reason: reasons.value(row).to_owned(),
        is_row: false,
        // Files of older releases do not say it.
        kept_at_ms: kept
            .filter(|kept| kept.is_valid(row))
            .map_or(added_ms, |kept| millis(kept, row)),
        settled: None,
    };
    Some((0..batch.num_rows()).map(row).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::LakeFormat;
    use crate::lake::scan::tests::bench::Bench;
    use crate::lake::upkeep::{Mode, Upkeep};
    use crate::retention::Bounds;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_in_quarantine_is_told_alike_before_its_files_are_joined_and_after() {
        let mut bench = Bench::new(LakeFormat::Jsonl).await;
        let (lake, mut rejected) = (bench.lab.store(), Vec::new());
        for round in 0..4 {
            let partition = round % 2;
            let at = i64::from(round / 2) * 3;
            bench.commit(partition, 3, &[at, at + 2]).await;
            rejected.extend([(partition, at), (partition, at + 2)]);
        }
        let told = async || {
            let mut told = Vec::new();
            let take = |records: Vec<Kept>, _: Option<i64>| {
                told.extend(records);
                true
            };
            each_of_lake(&lake, "f", take).await.unwrap();
            told.sort_by_key(|it| (it.partition, it.offset));
            told
        };
        let before = told().await;
        rejected.sort();
        let places: Vec<_> = before.iter().map(|it| (it.partition, it.offset)).collect();
        assert_eq!(places, rejected);
        assert!(before.iter().all(|it| it.topic_id.is_some()));
        let times: HashSet<i64> = before.iter().map(|it| it.kept_at_ms).collect();
        assert_eq!(times.len(), 4, "each commit has its own");

        let upkeep = Upkeep::of_quarantine(&lake, bench.feed.clone()).unwrap().unwrap();
        let bounds = Bounds { target_bytes: 1 << 20, least_files: 2, most_bytes: 1 << 30 };
        let late = before[0].kept_at_ms + 100 * 86_400_000;
        let done = upkeep.compact(bounds, late, Mode::Do).await.unwrap();
        assert_eq!((done.joined.files, done.made.files, done.faults.len()), (4, 1, 0), "{done:?}");
        assert_eq!(told().await, before);
        // The files of before are nobody's, and go after their time.
        let grace = 3_600_000;
        let marked = upkeep.vacuum(grace, late, Mode::Do).await.unwrap();
        assert_eq!((marked.marked.files, marked.foreign.files), (4, 0), "{marked:?}");
        let swept = upkeep.vacuum(grace, late + grace, Mode::Do).await.unwrap();
        assert_eq!(swept.swept.files, 4, "{swept:?}");
        assert_eq!(told().await, before);
        // And the node goes on behind it.
        bench.commit(0, 3, &[7]).await;
        assert_eq!(told().await.len(), before.len() + 1);
    }

    #[test]
    fn what_both_sinks_keep_stands_once() {
        let one = |sink, offset| Kept {
            feed: "f".to_owned(),
            sinks: vec![sink],
            topic: "t".to_owned(),
            topic_id: None,
            partition: 0,
            offset,
            timestamp_ms: None,
            key: None,
            value: None,
            headers: "[]".to_owned(),
            class: "malformed".to_owned(),
            reason: "why".to_owned(),
            is_row: false,
            kept_at_ms: 0,
            settled: None,
        };
        let (lake, warehouse) = (SinkKind::Lake, SinkKind::Warehouse);
        let merged = merged(vec![one(warehouse, 1), one(warehouse, 2), one(lake, 1)]);
        let sinks: Vec<_> = merged.into_iter().map(|kept| (kept.offset, kept.sinks)).collect();
        assert_eq!(sinks, [(1, vec![lake, warehouse]), (2, vec![warehouse])]);
    }
}
