//! A Delta log read for itself: the files that make the table up, and how far each partition has come.
//!
//! An own reading on purpose: what checks the node must not share its mistakes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::gap::Gap;
use super::retired::RetiredFile;
use super::{checkpoint, history};
use crate::record::{OffsetRange, TopicId, TopicPartition};

/// Log entries fetched at once.
const FETCHES: usize = 16;
/// How often a log is read anew of which entries were taken out meanwhile.
const READINGS: usize = 3;

/// A table's log, replayed to its end.
pub struct DeltaLog {
    store: Arc<dyn ObjectStore>,
    /// The version after the last one read.
    next: u64,
    files: HashMap<String, TableFile>,
    marks: HashMap<TopicPartition, Vec<Mark>>,
    pub gaps: Vec<Gap>,
    /// A RESTORE that no commit of a node followed.
    pub restored: Option<u64>,
    /// Files that were removed with their rows, and not by a RESTORE.
    pub taken_away: Vec<String>,
    /// Files that retention took away, as it says itself.
    pub retired: BTreeMap<String, RetiredFile>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableFile {
    pub path: String,
    /// The version that first named it.
    pub version: u64,
    pub size: u64,
    /// When it was added, milliseconds since the epoch.
    pub modified: i64,
    /// Its partition columns, where the log entry that added it is still there.
    pub values: BTreeMap<String, Option<String>>,
    /// The time its rows belong to, where its commit says it.
    pub time: Option<String>,
    /// The least and the greatest offset in it, of whichever partition, where its commit says it.
    pub offsets: Option<(i64, i64)>,
    /// What its time goes by, where its commit says it.
    pub by: Option<String>,
    /// The topic that all its rows are of, where its commit says it.
    pub topic: Option<Uuid>,
    #[serde(skip)]
    pub(super) live: bool,
}

/// How far a partition of one topic has come.
#[derive(Debug, Clone)]
pub struct Mark {
    pub topic_id: TopicId,
    pub next_offset: i64,
    /// Where it began; not known where the log's first entries are gone.
    pub start: Option<i64>,
    /// The version it is first mentioned in.
    pub since: u64,
    pub(super) updated: i64,
}

/// The versions of all entries, and of the checkpoints in one piece, each in order.
struct Listed {
    entries: Vec<u64>,
    checkpoints: Vec<u64>,
}

impl Listed {
    fn first(&self) -> Option<u64> {
        self.entries.first().copied()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Line {
    pub add: Option<Add>,
    pub remove: Option<Remove>,
    pub txn: Option<Txn>,
    pub commit_info: Option<CommitInfo>,
    pub protocol: Option<Protocol>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Add {
    pub path: String,
    pub size: u64,
    pub modification_time: i64,
    pub partition_values: BTreeMap<String, Option<String>>,
    pub stats: Option<String>,
    pub deletion_vector: Option<serde_json::Value>,
    pub tags: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    pub path: String,
    #[serde(default)]
    pub data_change: bool,
    #[serde(default)]
    pub tags: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Txn {
    pub app_id: String,
    pub version: i64,
    #[serde(default)]
    pub last_updated: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CommitInfo {
    operation: Option<String>,
    operation_parameters: Option<serde_json::Value>,
    tidegate_commit: Option<String>,
    tidegate_gap: Option<RecordedGap>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedGap {
    topic: String,
    partition: i32,
    from: i64,
    to: i64,
    #[serde(default)]
    topic_id: Option<uuid::Uuid>,
    #[serde(default)]
    reason: String,
    settled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    pub min_reader_version: i64,
}

impl DeltaLog {
    /// Reads the whole log; without one the table is empty.
    pub async fn open(store: Arc<dyn ObjectStore>) -> Result<Self, String> {
        let mut log = Self::read(store, u64::MAX).await?;
        log.advance().await?;
        Ok(log)
    }

    /// The same as it stood at a version.
    pub(super) async fn open_at(store: Arc<dyn ObjectStore>, version: u64) -> Result<Self, String> {
        Self::read(store, version).await
    }

    async fn read(store: Arc<dyn ObjectStore>, until: u64) -> Result<Self, String> {
        let mut last = None;
        for _ in 0..READINGS {
            let mut log = Self::empty(store.clone());
            let listed = log.list().await?;
            let first = listed.first();
            match log.read_to(listed, until).await {
                Ok(()) => return Ok(log),
                // The janitor took out what was about to be read.
                Err(_) if last.is_some_and(|last| last != first) || last.is_none() => {
                    last = Some(first);
                }
                Err(error) => return Err(error),
            }
        }
        Err("the Delta log's first entries go while it is read".to_owned())
    }

    fn empty(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            next: 0,
            files: HashMap::new(),
            marks: HashMap::new(),
            gaps: Vec::new(),
            restored: None,
            taken_away: Vec::new(),
            retired: BTreeMap::new(),
        }
    }

    async fn read_to(&mut self, listed: Listed, until: u64) -> Result<(), String> {
        let Listed { entries, checkpoints } = listed;
        let first = entries.first().copied();
        if first.is_some_and(|first| first > 0) || (first.is_none() && !checkpoints.is_empty()) {
            let leads = |version: &&u64| first.is_none_or(|first| **version + 1 >= first);
            let leading: Vec<u64> = checkpoints.iter().filter(leads).copied().collect();
            // Of those that what was before them is written down of, the earliest: from there on the entries
            // tell more than a checkpoint does.
            let told = history::versions(self.store.as_ref()).await?;
            let known = leading.iter().find(|version| told.contains(version));
            let found = match first {
                Some(_) => known.or(leading.first()),
                None => leading.last(),
            };
            let version =
                *found.ok_or("the Delta log's first entries and its checkpoint are gone")?;
            for line in checkpoint::read(self.store.as_ref(), version).await? {
                self.apply(version, line, None)?;
            }
            history::read(self.store.as_ref(), version).await?.tell(self);
            self.next = version + 1;
        }
        self.read_entries(entries, until).await
    }

    async fn list(&self) -> Result<Listed, String> {
        let folder = Path::from("_delta_log");
        let listed: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(said)?;
        let (mut entries, mut checkpoints) = (Vec::new(), Vec::new());
        for name in listed.iter().filter_map(|meta| meta.location.filename()) {
            let Some((version, kind)) = name.split_once('.') else { continue };
            let Ok(version) = version.parse::<u64>() else { continue };
            match kind {
                "json" => entries.push(version),
                "checkpoint.parquet" => checkpoints.push(version),
                _ => {}
            }
        }
        entries.sort_unstable();
        checkpoints.sort_unstable();
        Ok(Listed { entries, checkpoints })
    }

    async fn read_entries(&mut self, entries: Vec<u64>, until: u64) -> Result<(), String> {
        let is_wanted = |version: &u64| (self.next..=until).contains(version);
        let wanted: Vec<u64> = entries.into_iter().filter(is_wanted).collect();
        let store = self.store.clone();
        let fetches = wanted.into_iter().map(|version| {
            let store = store.clone();
            async move { fetch(store.as_ref(), version).await.map(|lines| (version, lines)) }
        });
        let mut fetched = futures::stream::iter(fetches).buffered(FETCHES);
        while let Some((version, lines)) = fetched.try_next().await? {
            if version != self.next {
                return Err(format!("entry {} of the Delta log is missing", self.next));
            }
            self.apply_entry(version, lines)?;
        }
        Ok(())
    }

    /// Reads what was committed since.
    pub async fn advance(&mut self) -> Result<(), String> {
        while let lines @ Some(_) = fetch(self.store.as_ref(), self.next).await? {
            self.apply_entry(self.next, lines)?;
        }
        Ok(())
    }

    fn apply_entry(&mut self, version: u64, lines: Option<Vec<Line>>) -> Result<(), String> {
        let lines = lines.ok_or_else(|| format!("entry {version} of the Delta log is missing"))?;
        // What the commit says of itself may stand last.
        let ours = lines.iter().any(|line| {
            line.commit_info.as_ref().is_some_and(|info| info.tidegate_commit.is_some())
        });
        if ours {
            self.restored = None;
        }
        let restores = lines.iter().any(|line| {
            line.commit_info.as_ref().is_some_and(|it| it.operation.as_deref() == Some("RESTORE"))
        });
        if let Some(target) = lines.iter().find_map(restored_to) {
            // What came later never was, for whoever reads on from there.
            self.retired.retain(|_, retired| retired.file.version <= target);
        }
        for line in lines {
            if let Some(remove) = line.remove.as_ref().filter(|it| it.data_change && !restores) {
                match self.retired(remove).filter(|_| ours) {
                    Some(retired) => drop(self.retired.insert(remove.path.clone(), retired)),
                    None => self.taken_away.push(remove.path.clone()),
                }
            }
            self.apply(version, line, Some(version))?;
        }
        self.next = version + 1;
        Ok(())
    }

    /// Takes up one action. `entry` is the version of the log entry it comes from; none for a
    /// checkpoint, which does not say when things began.
    fn apply(&mut self, version: u64, line: Line, entry: Option<u64>) -> Result<(), String> {
        if let Some(add) = line.add {
            self.add(entry.unwrap_or(0), add)?;
        }
        if let Some(remove) = line.remove
            && let Some(file) = self.files.get_mut(&remove.path)
        {
            file.live = false;
        }
        if let Some(txn) = line.txn {
            self.mark(&txn, entry);
        }
        if let Some(info) = line.commit_info {
            if info.operation.as_deref() == Some("RESTORE") {
                self.restored = Some(version);
            }
            if let Some(gap) = info.tidegate_gap {
                self.take_gap(gap);
            }
        }
        if let Some(protocol) = line.protocol
            && protocol.min_reader_version > 1
        {
            return Err(format!(
                "the lake table needs Delta reader version {}; `verify` reads version 1",
                protocol.min_reader_version
            ));
        }
        Ok(())
    }

    /// What a remove says that went with the file.
    fn retired(&self, remove: &Remove) -> Option<RetiredFile> {
        let tags = remove.tags.as_ref()?;
        let gone = serde_json::from_str(tags.get("tidegate.taken")?.as_deref()?).ok()?;
        let file = self.files.get(&remove.path).filter(|file| file.live)?.clone();
        Some(RetiredFile { file, gone })
    }

    /// One that was open is settled by the next of its partition, or found once more.
    fn take_gap(&mut self, gap: RecordedGap) {
        let source = TopicPartition::new(gap.topic, gap.partition);
        self.gaps.retain(|known| known.settled || known.source != source);
        self.gaps.push(Gap {
            source,
            topic_id: TopicId::from(gap.topic_id),
            range: OffsetRange { start: gap.from, end: gap.to },
            reason: gap.reason,
            settled: gap.settled,
        });
    }

    fn add(&mut self, version: u64, add: Add) -> Result<(), String> {
        if add.deletion_vector.is_some() {
            return Err(format!(
                "{} has a deletion vector, which `verify` does not read",
                add.path
            ));
        }
        let tags = add.tags.unwrap_or_default();
        let tag = |name: &str| tags.get(name).cloned().flatten();
        let file = TableFile {
            path: add.path.clone(),
            version,
            size: add.size,
            modified: add.modification_time,
            values: add.partition_values,
            time: None,
            offsets: add.stats.as_deref().and_then(offsets_of),
            by: tag("tidegate.time"),
            topic: tag("tidegate.topic").and_then(|id| Uuid::parse_str(&id).ok()),
            live: true,
        };
        self.retired.remove(&add.path);
        // A file that a RESTORE brings back keeps the version that first named it.
        self.files.entry(add.path).and_modify(|known| known.live = true).or_insert(file);
        Ok(())
    }

    fn mark(&mut self, txn: &Txn, entry: Option<u64>) {
        let Some((source, topic_id)) = app_id(&txn.app_id) else { return };
        let marks = self.marks.entry(source).or_default();
        let known = marks.iter().position(|mark| mark.topic_id.get() == topic_id.get());
        match known {
            // Set back to before its first commit.
            Some(known) if txn.version < 0 => drop(marks.remove(known)),
            None if txn.version < 0 => {}
            Some(known) => {
                let mark = &mut marks[known];
                mark.next_offset = txn.version;
                mark.start = mark.start.map(|start| start.min(txn.version));
                mark.updated = txn.last_updated.unwrap_or(0);
            }
            None => marks.push(Mark {
                topic_id,
                next_offset: txn.version,
                start: entry.map(|_| txn.version),
                since: entry.unwrap_or(0),
                updated: txn.last_updated.unwrap_or(0),
            }),
        }
    }

    /// The files that make the table up, in the order they were added.
    pub fn files(&self) -> Vec<&TableFile> {
        let mut files: Vec<&TableFile> = self.files.values().filter(|file| file.live).collect();
        files.sort_by(|a, b| (a.version, &a.path).cmp(&(b.version, &b.path)));
        files
    }

    /// How far the partition has come in the topic the broker has now, else in the topic written last.
    pub fn mark_of(&self, source: &TopicPartition, present: TopicId) -> Option<&Mark> {
        newest(self.marks.get(source)?, present)
    }

    /// The partition's progress in the topic that was read when a version was written.
    pub fn mark_at(&self, source: &TopicPartition, version: u64) -> Option<&Mark> {
        let marks = self.marks.get(source)?.iter();
        marks.filter(|mark| mark.since <= version).max_by_key(|mark| mark.since)
    }

    /// Every partition in every topic of its name.
    pub(super) fn marks(&self) -> impl Iterator<Item = (&TopicPartition, &Mark)> {
        self.marks.iter().flat_map(|(source, marks)| marks.iter().map(move |mark| (source, mark)))
    }

    /// Where a partition began, which its checkpoint does not say.
    pub(super) fn began(
        &mut self,
        source: &TopicPartition,
        topic_id: TopicId,
        start: Option<i64>,
        since: u64,
    ) {
        let marks = self.marks.get_mut(source).into_iter().flatten();
        for mark in marks.filter(|mark| mark.topic_id.get() == topic_id.get()) {
            (mark.start, mark.since) = (start, since);
        }
    }

    /// The version that first named a file.
    pub(super) fn named(&mut self, path: &str, version: u64) {
        if let Some(file) = self.files.get_mut(path) {
            file.version = version;
        }
    }

    /// Whether the log knows the partition under another topic id too.
    pub fn had_another(&self, source: &TopicPartition) -> bool {
        self.marks.get(source).is_some_and(|marks| marks.len() > 1)
    }

    pub fn sources(&self) -> impl Iterator<Item = &TopicPartition> {
        self.marks.iter().filter(|(_, marks)| !marks.is_empty()).map(|(source, _)| source)
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }
}

/// The version that a RESTORE says it brought back.
fn restored_to(line: &Line) -> Option<u64> {
    let info = line.commit_info.as_ref()?;
    let version = info.operation_parameters.as_ref()?.get("version")?;
    let said = version.as_u64().or_else(|| version.as_str()?.parse().ok());
    said.filter(|_| info.operation.as_deref() == Some("RESTORE"))
}

/// Of the marks of the present topic, else of all, the one written last.
pub(super) fn newest(marks: &[Mark], present: TopicId) -> Option<&Mark> {
    let agreeing = marks.iter().filter(|mark| mark.topic_id.agrees(present));
    agreeing.max_by_key(|mark| mark.updated).or(marks.iter().max_by_key(|mark| mark.updated))
}

async fn fetch(store: &dyn ObjectStore, version: u64) -> Result<Option<Vec<Line>>, String> {
    let path = Path::from(format!("_delta_log/{version:020}.json"));
    let got = match store.get(&path).await {
        Ok(got) => got,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(said(error)),
    };
    let bytes = got.bytes().await.map_err(said)?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let parsed = lines.map(serde_json::from_slice).collect::<Result<Vec<Line>, _>>();
    parsed.map(Some).map_err(|error| format!("entry {version} of the Delta log: {error}"))
}

pub(super) fn said(error: Error) -> String {
    format!("reading the lake: {error}")
}

fn offsets_of(stats: &str) -> Option<(i64, i64)> {
    let stats: serde_json::Value = serde_json::from_str(stats).ok()?;
    let of = |name: &str| stats[name]["_offset"].as_i64();
    of("minValues").zip(of("maxValues"))
}

/// `tidegate:<topic>:<partition>:<topic id, or ->`.
pub(super) fn app_id(text: &str) -> Option<(TopicPartition, TopicId)> {
    let mut parts = text.strip_prefix("tidegate:")?.split(':');
    let (topic, partition, id) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let id = if id == "-" { TopicId::UNKNOWN } else { TopicId::new(id.parse().ok()?) };
    Some((TopicPartition::new(topic, partition), id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    const OLD: &str = "00000000000000000000000000000001";
    const NEW: &str = "00000000000000000000000000000002";

    async fn log(entries: &[&[String]]) -> DeltaLog {
        let store = Arc::new(InMemory::new());
        for (version, lines) in entries.iter().enumerate() {
            let path = Path::from(format!("_delta_log/{version:020}.json"));
            store.put(&path, lines.join("\n").into()).await.unwrap();
        }
        DeltaLog::open(store).await.unwrap()
    }

    fn txn(id: &str, version: i64, at: i64) -> String {
        format!(
            r#"{{"txn":{{"appId":"tidegate:t:0:{id}","version":{version},"lastUpdated":{at}}}}}"#
        )
    }

    fn add(path: &str) -> String {
        format!(
            r#"{{"add":{{"path":"{path}","size":7,"modificationTime":1,"partitionValues":{{}}}}}}"#
        )
    }

    fn id(text: &str) -> TopicId {
        TopicId::new(text.parse().unwrap())
    }

    fn info(operation: &str, ours: bool) -> String {
        let commit = if ours { r#","tidegateCommit":"x""# } else { "" };
        format!(r#"{{"commitInfo":{{"operation":"{operation}"{commit}}}}}"#)
    }

    #[tokio::test]
    async fn knows_start_and_watermark_of_the_present_topic() {
        let log = log(&[
            &[txn(OLD, 5, 1)],
            &[add("old"), txn(OLD, 90, 2)],
            &[txn(NEW, 0, 3)],
            &[add("new"), txn(NEW, 8, 4)],
        ])
        .await;
        let source = TopicPartition::new("t", 0);
        let mark = log.mark_of(&source, id(NEW)).unwrap();
        assert_eq!((mark.start, mark.next_offset, mark.since), (Some(0), 8, 2));
        assert_eq!(log.mark_of(&source, id(OLD)).unwrap().next_offset, 90);
        assert!(log.had_another(&source));
        let versions: Vec<u64> = log.files().iter().map(|file| file.version).collect();
        assert_eq!(versions, [1, 3]);
    }

    #[tokio::test]
    async fn a_restore_stands_until_a_commit_of_ours() {
        let remove = r#"{"remove":{"path":"b","dataChange":true}}"#.to_owned();
        let entries: [&[String]; 4] = [
            &[txn(OLD, 0, 1), info("STREAMING UPDATE", true)],
            &[add("a"), txn(OLD, 4, 2), info("STREAMING UPDATE", true)],
            &[add("b"), txn(OLD, 9, 3), info("STREAMING UPDATE", true)],
            &[remove, info("RESTORE", false)],
        ];
        let restored = log(&entries).await;
        assert_eq!((restored.restored, restored.files().len()), (Some(3), 1));
        let back = [txn(OLD, 4, 4), info("REWIND", true)];
        let settled = log(&[entries[0], entries[1], entries[2], entries[3], &back]).await;
        assert_eq!(settled.restored, None);
        let source = TopicPartition::new("t", 0);
        assert_eq!(settled.mark_of(&source, id(OLD)).unwrap().next_offset, 4);
    }

    #[tokio::test]
    async fn rows_that_were_taken_away_are_told_from_files_written_anew() {
        let remove = |path: &str, change: bool| {
            format!(r#"{{"remove":{{"path":"{path}","dataChange":{change}}}}}"#)
        };
        let log = log(&[
            &[add("a"), add("b"), add("c"), txn(OLD, 9, 1)],
            &[remove("a", false), add("a2"), info("OPTIMIZE", true)],
            &[remove("b", true), info("DELETE", false)],
            &[remove("c", true), info("RESTORE", false)],
        ])
        .await;
        assert_eq!(
            (log.taken_away, log.files.values().filter(|it| it.live).count()),
            (vec!["b".to_owned()], 1)
        );
    }

    #[tokio::test]
    async fn what_retention_took_is_known_until_a_restore_brings_it_back() {
        let gone = r#"[{\"topic\":\"t\",\"partition\":0,\"offsets\":[[0,3],[7,7]]}]"#;
        let retire = |path: &str| {
            format!(
                r#"{{"remove":{{"path":"{path}","dataChange":true,"tags":{{"tidegate.taken":"{gone}"}}}}}}"#
            )
        };
        let restored = |version: u64| {
            format!(
                r#"{{"commitInfo":{{"operation":"RESTORE","operationParameters":{{"version":"{version}"}}}}}}"#
            )
        };
        let told = |log: DeltaLog| -> (Vec<String>, usize) {
            let source = TopicPartition::new("t", 0);
            let offsets = log.retired.values().flat_map(|it| it.of(&source)).count();
            assert_eq!(offsets, log.retired.len() * 5);
            (log.retired.into_keys().collect(), log.taken_away.len())
        };
        let history: [&[String]; 3] = [
            &[add("a"), txn(OLD, 4, 1)],
            &[add("b"), txn(OLD, 8, 2)],
            &[retire("a"), retire("b"), info("DELETE", true)],
        ];
        let all = log(&history).await;
        assert_eq!(told(all), (vec!["a".to_owned(), "b".to_owned()], 0));
        // Only a commit of ours may say so.
        let foreign: [&[String]; 2] = [&[add("a")], &[retire("a"), info("DELETE", false)]];
        assert_eq!(told(log(&foreign).await), (Vec::new(), 1));
        // `a` is back; `b` never was, and its rows are read again.
        let restore = [add("a"), restored(0)];
        let back = log(&[history[0], history[1], history[2], &restore]).await;
        assert_eq!(told(back), (Vec::new(), 0));
    }

    #[tokio::test]
    async fn a_gap_is_open_until_it_is_settled() {
        let gap = |from: i64, to: i64, settled: bool| {
            format!(
                r#"{{"commitInfo":{{"tidegateCommit":"x","tidegateGap":{{"topic":"t","partition":0,"topicId":"{OLD}","from":{from},"to":{to},"reason":"why","settled":{settled}}}}}}}"#
            )
        };
        let entries: [&[String]; 3] =
            [&[gap(10, 20, false)], &[gap(10, 25, false)], &[gap(10, 30, true), txn(OLD, 30, 1)]];
        let shown = |log: DeltaLog| -> Vec<(i64, i64, bool)> {
            let gaps = log.gaps.iter();
            gaps.map(|gap| (gap.range.start, gap.range.end, gap.settled)).collect()
        };
        assert_eq!(shown(log(&entries[..2]).await), [(10, 25, false)]);
        assert_eq!(shown(log(&entries).await), [(10, 30, true)]);
    }

    #[tokio::test]
    async fn what_was_never_written_is_empty() {
        let log = log(&[]).await;
        assert!(log.files().is_empty() && log.sources().next().is_none());
    }
}
