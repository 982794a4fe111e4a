//! A Delta log read as far as progress needs it: `txn`s, our own commit ids, and what would make
//! them untrue.
//!
//! The library gives a `txn` only by application id and by replaying the log for each; a node needs
//! those of all partitions, at every commit, and against the very version it writes on.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, Int64Array, RecordBatch, StringArray, StructArray};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use uuid::Uuid;

use super::snapshot::Snapshot;
use crate::record::{GapReason, OffsetRange, Progress, SinkError, TopicId, TopicPartition};

/// One line of a log entry, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CommitLine {
    Txn(Txn),
    CommitInfo(CommitInfo),
    MetaData(TableMeta),
    Protocol(serde::de::IgnoredAny),
    Add(AddedFile),
    Remove(RemovedFile),
    #[serde(untagged)]
    Other(serde::de::IgnoredAny),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Txn {
    pub app_id: String,
    pub version: i64,
    #[serde(default)]
    pub last_updated: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitInfo {
    #[serde(default)]
    pub operation: Option<String>,
    /// The id of one of our own commits.
    #[serde(default)]
    pub tidegate_commit: Option<Uuid>,
    #[serde(default)]
    pub operation_parameters: Option<serde_json::Value>,
    #[serde(default)]
    pub tidegate_gap: Option<RecordedGap>,
    /// The snapshot that the commit made.
    #[serde(default)]
    pub tidegate_snapshot: Option<Box<Snapshot>>,
    /// Other writers put here what they like.
    #[serde(default)]
    timestamp: Option<serde_json::Value>,
    #[serde(default)]
    in_commit_timestamp: Option<serde_json::Value>,
}

impl CommitInfo {
    /// When it was committed, by its writer's clock: milliseconds since the epoch.
    fn committed_ms(&self) -> Option<i64> {
        let said = [&self.in_commit_timestamp, &self.timestamp].into_iter().flatten();
        said.filter_map(serde_json::Value::as_i64).next()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableMeta {
    pub id: String,
    pub created_time: Option<i64>,
}

/// Offsets that were not read, as a commit says it. One that is not settled moves no progress.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedGap {
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub settled: bool,
}

/// Its name in the commit's info.
pub const GAP: &str = "tidegateGap";

/// The name of what a replay says of itself.
pub const REPLAY: &str = "tidegateReplay";

pub fn gap(
    source: &TopicPartition,
    topic_id: TopicId,
    range: OffsetRange,
    reason: GapReason,
    settled: bool,
) -> serde_json::Value {
    serde_json::json!({
        "topic": source.topic, "partition": source.partition, "topicId": topic_id.get(),
        "from": range.start, "to": range.end, "reason": reason.to_string(), "settled": settled,
    })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddedFile {
    pub path: String,
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub stats: Option<String>,
    /// False where the rows only moved here from other files of the table.
    #[serde(default = "yes")]
    pub data_change: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemovedFile {
    pub path: String,
    #[serde(default = "yes")]
    pub data_change: bool,
}

fn yes() -> bool {
    true
}

impl AddedFile {
    /// How many rows it says it has.
    pub fn rows(&self) -> u64 {
        let stats = self.stats.as_deref().map(serde_json::from_str::<serde_json::Value>);
        stats.and_then(Result::ok).and_then(|stats| stats["numRecords"].as_u64()).unwrap_or(0)
    }
}

/// One entry of the log.
#[derive(Debug)]
pub struct LogFile {
    pub version: u64,
    pub meta: ObjectMeta,
    pub lines: Vec<CommitLine>,
}

impl LogFile {
    /// Whether it is our commit `id`.
    pub fn is_commit(&self, id: Uuid) -> bool {
        let ours = |line: &CommitLine| matches!(line, CommitLine::CommitInfo(info) if info.tidegate_commit == Some(id));
        self.lines.iter().any(ours)
    }

    /// When it was committed, as it says itself, else as its store does.
    pub fn committed_ms(&self) -> i64 {
        let said = self.lines.iter().find_map(|line| match line {
            CommitLine::CommitInfo(info) => info.committed_ms(),
            _ => None,
        });
        said.unwrap_or_else(|| self.meta.last_modified.timestamp_millis())
    }
}

/// Whether the file at `path` is there still, and the same: one restored from a backup is another.
pub async fn stands(
    store: &dyn ObjectStore,
    path: &Path,
    known: &ObjectMeta,
) -> Result<bool, SinkError> {
    match store.head(path).await {
        Ok(found) => Ok(found.size == known.size
            && found.last_modified == known.last_modified
            && found.e_tag == known.e_tag),
        Err(Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(judged(&error).context(format!("reading {path}"))),
    }
}

pub fn entry_path(version: u64) -> Path {
    Path::from(format!("_delta_log/{version:020}.json"))
}

/// Reads one entry; none where there is no such version.
pub async fn read_log(store: &dyn ObjectStore, version: u64) -> Result<Option<LogFile>, SinkError> {
    let got = match store.get(&entry_path(version)).await {
        Ok(got) => got,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(judged(&error).context(format!("reading log entry {version}"))),
    };
    let meta = got.meta.clone();
    let bytes = got.bytes().await.map_err(|error| judged(&error))?;
    let mut lines = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let parsed = serde_json::from_slice(line).map_err(|error| {
            SinkError::lasting(format!("log entry {version} of the lake table is damaged: {error}"))
        })?;
        lines.push(parsed);
    }
    Ok(Some(LogFile { version, meta, lines }))
}

/// A store's error: everything it can say is the world's fault.
pub fn judged(error: &Error) -> SinkError {
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            SinkError::lasting(format!(
                "access to the lake is denied ({}): correct the keys in `lake.s3`, or allow them to \
                 read and write at `lake.url`",
                said(error)
            ))
        }
        Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::InvalidPath { .. }
        | Error::UnknownConfigurationKey { .. } => SinkError::lasting(error),
        _ => SinkError::passing(error),
    }
}

/// The same for a write, where what is not found is the bucket itself, or in some stores the key.
pub fn judged_write(error: &Error) -> SinkError {
    match error {
        Error::NotFound { .. } => SinkError::lasting(format!(
            "there is no such place to write to ({}): create the bucket that `lake.url` names, or \
             correct `lake.url` or `lake.s3`",
            said(error)
        )),
        other => judged(other),
    }
}

/// What S3 says, without the XML around it.
fn said(error: &Error) -> String {
    let text = error.to_string();
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(content, _)| content.to_owned())
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        (None, _) => text,
    }
}

/// The application id under which a partition's progress stands. The topic's id is part of it, so
/// that a topic created again never takes up its predecessor's progress.
pub fn app_id(source: &TopicPartition, topic_id: TopicId) -> String {
    // A topic name holds no colon.
    match topic_id.get() {
        Some(id) => format!("tidegate:{}:{}:{}", source.topic, source.partition, id.simple()),
        None => format!("tidegate:{}:{}:-", source.topic, source.partition),
    }
}

pub fn parse_app_id(app_id: &str) -> Option<(TopicPartition, TopicId)> {
    let mut parts = app_id.strip_prefix("tidegate:")?.split(':');
    let (topic, partition, id) = (parts.next()?, parts.next()?, parts.next()?);
    let topic_id = match id {
        "-" => TopicId::UNKNOWN,
        id => TopicId::new(id.parse().ok()?),
    };
    Some((TopicPartition::new(topic, partition.parse().ok()?), topic_id))
}

/// The application id that counts a partition's replays. No progress is read from it.
pub fn replays_id(source: &TopicPartition) -> String {
    format!("{REPLAYS}{}:{}", source.topic, source.partition)
}

const REPLAYS: &str = "tidegate-replays:";

fn parse_replays_id(app_id: &str) -> Option<TopicPartition> {
    let (topic, partition) = app_id.strip_prefix(REPLAYS)?.split_once(':')?;
    Some(TopicPartition::new(topic, partition.parse().ok()?))
}

/// Progress of all partitions as a log has it, and how often something was replayed into each.
#[derive(Debug, Clone, Default)]
pub struct Watermarks {
    progress: HashMap<TopicPartition, (Progress, i64)>,
    /// Partitions that are known under several topic ids.
    made_again: HashSet<TopicPartition>,
    replays: HashMap<TopicPartition, i64>,
}

impl Watermarks {
    /// Takes up one `txn`; of two topics of one name the one written later counts.
    pub fn apply(&mut self, txn: &Txn) {
        if let Some(source) = parse_replays_id(&txn.app_id) {
            self.replays.insert(source, txn.version);
            return;
        }
        let Some((source, topic_id)) = parse_app_id(&txn.app_id) else { return };
        let updated = txn.last_updated.unwrap_or(0);
        let known = self.progress.get(&source);
        if known.is_some_and(|(progress, _)| progress.topic_id.get() != topic_id.get()) {
            self.made_again.insert(source.clone());
        }
        if known.is_some_and(|(progress, at)| {
            progress.topic_id.get() != topic_id.get() && *at > updated
        }) {
            return;
        }
        if txn.version < 0 {
            // Rewound to before its first commit.
            self.progress.remove(&source);
        } else {
            let progress = Progress { next_offset: txn.version, topic_id };
            self.progress.insert(source, (progress, updated));
        }
    }

    pub fn get(&self, source: &TopicPartition) -> Option<Progress> {
        self.progress.get(source).map(|(progress, _)| *progress)
    }

    /// Whether rows of a former topic of some partition's name may be in the table.
    pub fn has_former(&self) -> bool {
        !self.made_again.is_empty()
    }

    pub fn set(&mut self, source: &TopicPartition, progress: Progress, updated: i64) {
        self.progress.insert(source.clone(), (progress, updated));
    }

    /// How often something was replayed into a partition.
    pub fn replays(&self, source: &TopicPartition) -> i64 {
        self.replays.get(source).copied().unwrap_or(0)
    }

    pub fn count_replay(&mut self, source: &TopicPartition) {
        *self.replays.entry(source.clone()).or_default() += 1;
    }

    pub fn all(&self) -> HashMap<TopicPartition, Progress> {
        self.progress.iter().map(|(source, (progress, _))| (source.clone(), *progress)).collect()
    }
}

#[derive(Debug, Deserialize)]
struct LastCheckpoint {
    version: u64,
    #[serde(default)]
    parts: Option<u32>,
}

/// The version of the checkpoint that readers begin with; none where the log tells of none.
pub async fn read_pointer(store: &dyn ObjectStore) -> Result<Option<u64>, SinkError> {
    Ok(last_checkpoint(store).await?.map(|last| last.version))
}

async fn last_checkpoint(store: &dyn ObjectStore) -> Result<Option<LastCheckpoint>, SinkError> {
    let pointer = match store.get(&Path::from("_delta_log/_last_checkpoint")).await {
        Ok(got) => got.bytes().await.map_err(|error| judged(&error))?,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(judged(&error).context("reading the checkpoint pointer")),
    };
    let last = serde_json::from_slice(&pointer).map_err(|error| {
        SinkError::lasting(format!("the checkpoint pointer is damaged: {error}"))
    })?;
    Ok(Some(last))
}

/// The `txn`s of the latest checkpoint and its version; none where there is no checkpoint.
pub async fn read_checkpoint(
    store: &dyn ObjectStore,
) -> Result<Option<(u64, Watermarks)>, SinkError> {
    let Some(LastCheckpoint { version, parts }) = last_checkpoint(store).await? else {
        return Ok(None);
    };
    let mut marks = Watermarks::default();
    let names: Vec<String> = match parts {
        None => vec![format!("{version:020}.checkpoint.parquet")],
        Some(parts) => (1..=parts)
            .map(|part| format!("{version:020}.checkpoint.{part:010}.{parts:010}.parquet"))
            .collect(),
    };
    for name in names {
        let path = Path::from(format!("_delta_log/{name}"));
        let bytes = match store.get(&path).await {
            Ok(got) => got.bytes().await.map_err(|error| judged(&error))?,
            Err(error) => return Err(judged(&error).context(format!("reading {name}"))),
        };
        read_txns(bytes, &mut marks)
            .map_err(|error| SinkError::lasting(format!("checkpoint {name}: {error}")))?;
    }
    Ok(Some((version, marks)))
}

fn read_txns(bytes: Bytes, marks: &mut Watermarks) -> Result<(), Box<dyn std::error::Error>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let mask = ProjectionMask::columns(
        builder.parquet_schema(),
        ["txn.appId", "txn.version", "txn.lastUpdated"],
    );
    for batch in builder.with_projection(mask).build()? {
        apply_txns(&batch?, marks);
    }
    Ok(())
}

fn apply_txns(batch: &RecordBatch, marks: &mut Watermarks) {
    let Some(txn) = batch
        .column_by_name("txn")
        .and_then(|column| column.as_any().downcast_ref::<StructArray>())
    else {
        return;
    };
    let text = |name| txn.column_by_name(name)?.as_any().downcast_ref::<StringArray>();
    let long = |name| txn.column_by_name(name)?.as_any().downcast_ref::<Int64Array>();
    let (Some(ids), Some(versions)) = (text("appId"), long("version")) else { return };
    let updated = long("lastUpdated");
    for row in (0..batch.num_rows()).filter(|row| txn.is_valid(*row) && ids.is_valid(*row)) {
        marks.apply(&Txn {
            app_id: ids.value(row).to_owned(),
            version: versions.value(row),
            last_updated: updated.filter(|at| at.is_valid(row)).map(|at| at.value(row)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Blame;

    #[test]
    fn an_app_id_reads_back() {
        let source = TopicPartition::new("a.b-c_d", 7);
        for id in [TopicId::UNKNOWN, TopicId::new(Uuid::from_u128(5))] {
            let (parsed, topic_id) = parse_app_id(&app_id(&source, id)).unwrap();
            assert_eq!((parsed, topic_id.get()), (source.clone(), id.get()));
        }
        assert!(parse_app_id("spark-query-1").is_none());
        let counted = replays_id(&source);
        assert!(parse_app_id(&counted).is_none());
        assert_eq!(parse_replays_id(&counted), Some(source));
    }

    #[test]
    fn the_later_topic_of_a_name_counts() {
        let source = TopicPartition::new("t", 0);
        let txn = |id: u128, version, at| Txn {
            app_id: app_id(&source, TopicId::new(Uuid::from_u128(id))),
            version,
            last_updated: Some(at),
        };
        // A checkpoint lists them in any order.
        for order in [[txn(1, 500, 10), txn(2, 3, 20)], [txn(2, 3, 20), txn(1, 500, 10)]] {
            let mut marks = Watermarks::default();
            order.iter().for_each(|txn| marks.apply(txn));
            assert_eq!(marks.get(&source).unwrap().next_offset, 3);
        }
    }

    #[test]
    fn a_missing_bucket_and_a_wrong_key_last_and_say_what_to_do() {
        let answer = |code: &str| {
            let xml =
                format!("<Error><Code>{code}</Code><Message>Not so.</Message><A>b</A></Error>");
            (String::from("lake/x"), xml.into())
        };
        let (path, source) = answer("NoSuchBucket");
        let missing = Error::NotFound { path, source };
        let judgement = judged_write(&missing);
        assert_eq!(judgement.blame, Blame::Lasting);
        assert!(judgement.message.contains("(NoSuchBucket: Not so.)"), "{judgement}");
        assert!(judgement.message.contains("`lake.url`"), "{judgement}");
        assert_eq!(judged(&missing).blame, Blame::Passing, "of a read it says nothing");
        let (path, source) = answer("InvalidAccessKeyId");
        let denied = Error::PermissionDenied { path, source };
        let (path, source) = answer("ExpiredToken");
        let unknown = Error::Unauthenticated { path, source };
        for error in [denied, unknown] {
            for judgement in [judged(&error), judged_write(&error)] {
                assert_eq!(judgement.blame, Blame::Lasting);
                assert!(judgement.message.contains("`lake.s3`"), "{judgement}");
                assert!(!judgement.message.contains('<'), "{judgement}");
            }
        }
        let away = Error::Generic { store: "S3", source: "no answer".into() };
        assert_eq!(judged_write(&away).blame, Blame::Passing);
    }

    #[test]
    fn lines_of_other_writers_are_read_over() {
        for line in [
            r#"{"domainMetadata":{"domain":"x","configuration":"","removed":false}}"#,
            r#"{"add":{"path":"a","size":1,"partitionValues":{},"dataChange":true}}"#,
            r#"{"commitInfo":{"operation":"RESTORE","anything":[1,2]}}"#,
            r#"{"txn":{"appId":"x","version":1}}"#,
        ] {
            serde_json::from_str::<CommitLine>(line).unwrap();
        }
    }
}
