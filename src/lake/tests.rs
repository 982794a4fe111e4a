//! The table's contract, on a local folder and on stores that break in the ways real ones do.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Int64Array, RecordBatch};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use uuid::Uuid;

use super::*;
use crate::config::{
    Column, ColumnType, Feed, FeedKind, LakeOptions, OnGap, Quarantine, Schema, Start,
};
use crate::record::{Batch, Blame, Claim, Hold, OffsetRange, RejectClass};

pub fn feed() -> Arc<Feed> {
    let column = Column::new("id", ColumnType::Long);
    Arc::new(Feed {
        name: "f".into(),
        kind: FeedKind::Stream,
        topic: "t".into(),
        start: Start::Earliest,
        on_gap: OnGap::Park,
        schema: Schema::json(vec![column], 0),
        lake: Some(LakeOptions::default()),
        warehouse: None,
        quarantine: Quarantine::default(),
    })
}

pub fn topic_id() -> TopicId {
    TopicId::new(Uuid::from_u128(7))
}

pub fn source(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

pub fn part(partition: i32, range: Range<i64>, rejected: &[i64]) -> Part {
    let offsets: Vec<i64> = range.clone().filter(|offset| !rejected.contains(offset)).collect();
    let rejects: Vec<Reject> = rejected
        .iter()
        .map(|offset| Reject {
            offset: *offset,
            timestamp_ms: 0,
            key: None,
            value: Some(b"{".to_vec()),
            headers: Vec::new(),
            class: RejectClass::Malformed,
            reason: "cut short".to_owned(),
        })
        .collect();
    let ids = Int64Array::from(offsets.clone());
    let batch = Batch {
        source: source(partition),
        range: OffsetRange::new(range.start, range.end),
        rows: RecordBatch::try_new(feed().schema.arrow(), vec![Arc::new(ids)]).unwrap(),
        timestamps: Int64Array::from(vec![0; offsets.len()]),
        offsets: Int64Array::from(offsets),
        deletes: None,
        keys: None,
        headers: None,
        documents: None,
        rejects: rejects.into(),
        payload_bytes: 0,
        hold: Hold::default(),
    };
    Part {
        source: source(partition),
        topic_id: topic_id(),
        claim: Claim::random(),
        batches: vec![Arc::new(batch)],
    }
}

pub struct Lab {
    pub folder: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn store(&self) -> LakeStore {
        LakeStore::open_local(self.folder.path()).unwrap()
    }

    async fn table(&self) -> DeltaTable {
        let table = DeltaTable::open(&self.store(), feed()).await.unwrap();
        let start = Progress { next_offset: 0, topic_id: topic_id() };
        table.begin(&[(source(0), start), (source(1), start)]).await.unwrap();
        table
    }

    /// A commit of somebody else.
    pub fn foreign(&self, version: u64, info: &str) {
        let entry = format!("streams/f/_delta_log/{version:020}.json");
        let line = format!(r#"{{"commitInfo":{{"timestamp":1,{info}}}}}"#);
        std::fs::write(self.folder.path().join(entry), line).unwrap();
    }

    /// Makes the log older by so much.
    pub fn age_log(&self, by: std::time::Duration) {
        for entry in std::fs::read_dir(self.folder.path().join("streams/f/_delta_log")).unwrap() {
            let file = std::fs::File::open(entry.unwrap().path()).unwrap();
            let then = file.metadata().unwrap().modified().unwrap() - by;
            file.set_modified(then).unwrap();
        }
    }

    async fn checkpoint(&self) {
        let mut library =
            deltalake_core::DeltaTable::new(self.store().log_store("streams/f").unwrap());
        library.load().await.unwrap();
        deltalake_core::checkpoints::create_checkpoint(&library, None).await.unwrap();
    }

    fn clean_log(&self, versions: Range<u64>) {
        for version in versions {
            let entry = format!("streams/f/_delta_log/{version:020}.json");
            std::fs::remove_file(self.folder.path().join(entry)).unwrap();
        }
    }

    /// Rows that the log's live files hold, by the counts in the log itself.
    pub async fn rows(&self, folder: &str) -> usize {
        let store = self.store().below(folder);
        let mut rows = 0;
        for version in 0.. {
            let path = Path::from(format!("_delta_log/{version:020}.json"));
            let Ok(got) = object_store::ObjectStoreExt::get(store.as_ref(), &path).await else {
                break;
            };
            for line in got.bytes().await.unwrap().split(|byte| *byte == b'\n') {
                let line: serde_json::Value = serde_json::from_slice(line).unwrap();
                if let Some(stats) = line["add"]["stats"].as_str() {
                    let stats: serde_json::Value = serde_json::from_str(stats).unwrap();
                    rows += stats["numRecords"].as_u64().unwrap() as usize;
                }
            }
        }
        rows
    }
}

pub async fn commit(table: &dyn LakeTable, parts: Vec<Part>) -> Vec<Verdict> {
    let staged = table.stage(parts).await.unwrap();
    table.commit(&[staged]).await.unwrap().remove(0)
}

pub const DURABLE: Verdict = Verdict::Durable { quarantined: 0 };

pub fn fenced(at: i64) -> Verdict {
    Verdict::Fenced { found: Some(at) }
}

pub async fn next(table: &dyn LakeTable, partition: i32) -> Option<i64> {
    table.progress().await.unwrap().get(&source(partition)).map(|progress| progress.next_offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_exact_next_range_lands() {
    let lab = Lab::new();
    let table = lab.table().await;
    assert_eq!(commit(&table, vec![part(0, 0..10, &[])]).await, [DURABLE]);
    assert_eq!(commit(&table, vec![part(0, 0..10, &[])]).await, [fenced(10)], "sent again");
    assert_eq!(commit(&table, vec![part(0, 5..15, &[])]).await, [fenced(10)], "overlaps");
    assert_eq!(commit(&table, vec![part(0, 11..15, &[])]).await, [fenced(10)], "leaves a hole");
    assert_eq!(commit(&table, vec![part(0, 10..12, &[])]).await, [DURABLE]);
    assert_eq!((next(&table, 0).await, lab.rows("streams/f").await), (Some(12), 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_never_land_one_range_twice() {
    let lab = Lab::new();
    let (one, other) = (lab.table().await, lab.table().await);
    let mut next = 0;
    for _ in 0..10 {
        let range = next..next + 10;
        let (first, second) = tokio::join!(
            commit(&one, vec![part(0, range.clone(), &[])]),
            commit(&other, vec![part(0, range, &[])])
        );
        next += 10;
        let mut verdicts = [first[0].clone(), second[0].clone()];
        verdicts.sort_by_key(|verdict| matches!(verdict, Verdict::Fenced { .. }));
        assert_eq!(verdicts, [DURABLE, fenced(next)]);
    }
    assert_eq!(lab.rows("streams/f").await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_with_one_lost_part_is_dropped_whole_and_what_follows_it_too() {
    let lab = Lab::new();
    let table = lab.table().await;
    let lost = table.stage(vec![part(0, 5..10, &[]), part(1, 0..10, &[])]).await.unwrap();
    let follows = table.stage(vec![part(1, 10..20, &[])]).await.unwrap();
    let alone = table.stage(vec![part(0, 0..5, &[])]).await.unwrap();
    let verdicts = table.commit(&[lost, follows, alone]).await.unwrap();
    assert_eq!(verdicts, [vec![fenced(0), fenced(0)], vec![fenced(0)], vec![DURABLE]]);
    assert_eq!(lab.rows("streams/f").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_quarantined_once_however_often_their_range_comes() {
    let lab = Lab::new();
    let table = lab.table().await;
    let staged = table.stage(vec![part(0, 0..10, &[3, 4])]).await.unwrap();
    // The quarantine's commit landed, the data's did not: as after a crash between the two.
    table.quarantine.keep(std::slice::from_ref(&staged)).await.unwrap();
    assert_eq!(lab.rows("quarantine/f").await, 2);
    // Read again with other bounds.
    assert_eq!(commit(&table, vec![part(0, 0..6, &[3, 4])]).await, [DURABLE]);
    assert_eq!(commit(&table, vec![part(0, 6..12, &[11])]).await, [DURABLE]);
    assert_eq!(lab.rows("quarantine/f").await, 3);
    assert_eq!(lab.rows("streams/f").await, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_gap_is_said_once_and_moves_nothing() {
    let lab = Lab::new();
    let table = lab.table().await;
    commit(&table, vec![part(0, 0..10, &[])]).await;
    let version = async || {
        let log = lab.folder.path().join("streams/f/_delta_log");
        std::fs::read_dir(log).unwrap().count()
    };
    let before = version().await;
    let open = async |table: &DeltaTable, start| {
        table.open_gap(&source(0), topic_id(), OffsetRange::new(start, 20)).await.unwrap();
        version().await - before
    };
    assert_eq!(open(&table, 5).await, 0, "not where the progress stands");
    assert_eq!(open(&table, 10).await, 1);
    assert_eq!(open(&table, 10).await, 1);
    assert_eq!(open(&lab.table().await, 10).await, 1, "another node finds it said");
    assert_eq!(next(&table, 0).await, Some(10));
    let gap = OffsetRange::new(10, 20);
    let reason = GapReason::Expired;
    assert_eq!(table.record_gap(&source(0), topic_id(), gap, reason).await.unwrap(), DURABLE);
    assert_eq!(next(&table, 0).await, Some(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_created_again_does_not_take_up_the_old_progress() {
    let lab = Lab::new();
    let table = lab.table().await;
    commit(&table, vec![part(0, 0..10, &[])]).await;
    let mut again = part(0, 10..20, &[]);
    again.topic_id = TopicId::new(Uuid::from_u128(8));
    assert_eq!(commit(&table, vec![again]).await, [fenced(10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_folder_copied_back_under_a_running_table_is_noticed() {
    let lab = Lab::new();
    let table = lab.table().await;
    commit(&table, vec![part(0, 0..10, &[])]).await;
    let backup = tempfile::tempdir().unwrap();
    copy(&lab.folder.path().join("streams"), &backup.path().join("streams"));
    commit(&table, vec![part(0, 10..20, &[])]).await;
    std::fs::remove_dir_all(lab.folder.path().join("streams")).unwrap();
    copy(&backup.path().join("streams"), &lab.folder.path().join("streams"));
    assert_eq!(commit(&table, vec![part(0, 20..30, &[])]).await, [fenced(10)]);
    assert_eq!(commit(&table, vec![part(0, 10..20, &[])]).await, [DURABLE]);
    assert_eq!(lab.rows("streams/f").await, 20);
}

pub fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_stops_the_table_until_progress_is_set_back() {
    let lab = Lab::new();
    let table = lab.table().await;
    commit(&table, vec![part(0, 0..10, &[])]).await;
    let restore = r#"{"commitInfo":{"operation":"RESTORE","operationParameters":{"version":"1"}}}"#;
    let log = lab.folder.path().join("streams/f/_delta_log/00000000000000000003.json");
    std::fs::write(log, restore).unwrap();
    let staged = table.stage(vec![part(0, 10..20, &[])]).await.unwrap();
    let error = table.commit(&[staged]).await.unwrap_err();
    assert_eq!(error.blame, Blame::Lasting);
    assert!(error.message.contains("--rewind-lake"), "{error}");
    let again = DeltaTable::open(&lab.store(), feed()).await.unwrap();
    assert!(again.progress().await.is_err(), "and a newly opened table sees it too");
}

const RESTORE: &str = r#""operation":"RESTORE","operationParameters":{"version":"1"}"#;
const OPTIMIZE: &str = r#""operation":"OPTIMIZE""#;

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_stops_the_table_from_behind_a_checkpoint_of_another_writer() {
    let lab = Lab::new();
    commit(&lab.table().await, vec![part(0, 0..10, &[])]).await;
    lab.foreign(3, RESTORE);
    lab.foreign(4, OPTIMIZE);
    lab.checkpoint().await;
    lab.foreign(5, OPTIMIZE);
    let table = DeltaTable::open(&lab.store(), feed()).await.unwrap();
    let error = table.progress().await.unwrap_err();
    assert_eq!(error.blame, Blame::Lasting);
    assert!(error.message.contains("(version 3)"), "{error}");
    assert!(error.message.contains("--rewind-lake"), "{error}");
    let rewound = rewind(&lab.store(), "streams/f").await.unwrap().unwrap();
    assert_eq!((rewound.restore, rewound.target), (3, 1));
    assert_eq!(next(&table, 0).await, Some(0));
    lab.checkpoint().await;
    lab.foreign(7, OPTIMIZE);
    lab.checkpoint().await;
    let again = DeltaTable::open(&lab.store(), feed()).await.unwrap();
    assert_eq!(next(&again, 0).await, Some(0), "settled for good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_tell_of_a_restore_any_more_is_not_trusted_unasked() {
    let lab = Lab::new();
    commit(&lab.table().await, vec![part(0, 0..10, &[])]).await;
    lab.foreign(3, OPTIMIZE);
    lab.foreign(4, OPTIMIZE);
    lab.checkpoint().await;
    lab.clean_log(0..2);
    let table = DeltaTable::open(&lab.store(), feed()).await.unwrap();
    assert_eq!(next(&table, 0).await, Some(10), "our own commit is still there");
    assert!(!trust(&lab.store(), "streams/f").await.unwrap());
    lab.clean_log(2..3);
    let table = DeltaTable::open(&lab.store(), feed()).await.unwrap();
    let error = table.progress().await.unwrap_err();
    assert_eq!(error.blame, Blame::Lasting);
    assert!(error.message.contains("--trust-lake"), "{error}");
    assert!(rewind(&lab.store(), "streams/f").await.is_err(), "there is nothing to go back to");
    assert!(trust(&lab.store(), "streams/f").await.unwrap());
    assert_eq!(next(&table, 0).await, Some(10));
    assert_eq!(commit(&table, vec![part(0, 10..20, &[])]).await, [DURABLE]);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_found_in_a_checkpoint() {
    let lab = Lab::new();
    let table = lab.table().await;
    commit(&table, vec![part(0, 0..10, &[])]).await;
    lab.checkpoint().await;
    lab.clean_log(0..2);
    let again = DeltaTable::open(&lab.store(), feed()).await.unwrap();
    assert_eq!((next(&again, 0).await, next(&again, 1).await), (Some(10), Some(0)));
}

/// A store that breaks on purpose.
#[derive(Debug)]
struct Breaking {
    inner: Arc<dyn ObjectStore>,
    mode: Break,
    left: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
pub enum Break {
    /// The next log entries land, but their writer is told of a time-out.
    LoseAnswers,
    /// The next copies fail: what is staged stays where it is.
    RefuseCopies,
    /// A conditional create overwrites, as behind a proxy that strips the condition.
    IgnoreConditions,
    /// When the entry of version 2 is first asked for, all before version 4 are taken out.
    CutTheLog,
    /// Entries 5 and 6 are not seen until 5 is to be written: then all before 6 are taken out, and it goes well.
    CutBeforeWriting,
}

impl Breaking {
    /// Takes out the entries before a version, beside this one.
    async fn cut(&self, location: &Path, before: u64) -> Result<()> {
        let log = location.as_ref().rsplit_once('/').map_or("", |(log, _)| log);
        for version in 0..before {
            match self.inner.delete(&Path::from(format!("{log}/{version:020}.json"))).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether one more is to fail.
    fn one_less(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }
}

impl fmt::Display for Breaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Breaking({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Breaking {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        match self.mode {
            Break::IgnoreConditions => {
                opts.mode = PutMode::Overwrite;
                self.inner.put_opts(location, payload, opts).await
            }
            Break::CutBeforeWriting => {
                if location.as_ref().ends_with("00005.json") && self.one_less() {
                    self.cut(location, 6).await?;
                }
                self.inner.put_opts(location, payload, opts).await
            }
            Break::RefuseCopies | Break::CutTheLog => {
                self.inner.put_opts(location, payload, opts).await
            }
            Break::LoseAnswers => {
                let answer = self.inner.put_opts(location, payload, opts).await;
                let path = location.as_ref();
                let entry = path.contains("streams/f/_delta_log") || path.contains("/_commits/");
                if entry && self.one_less() {
                    let source = "the answer was lost".into();
                    return Err(object_store::Error::Generic { store: "test", source });
                }
                answer
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if matches!(self.mode, Break::CutBeforeWriting)
            && self.left.load(Ordering::SeqCst) > 0
            && ["00005.json", "00006.json"].iter().any(|it| location.as_ref().ends_with(it))
        {
            let (path, source) = (location.to_string(), "not there yet".into());
            return Err(object_store::Error::NotFound { path, source });
        }
        let is_next = location.as_ref().ends_with("00002.json") && !options.head;
        // Only once it is there: before, it is asked for in vain.
        if matches!(self.mode, Break::CutTheLog)
            && is_next
            && self.inner.head(location).await.is_ok()
            && self.one_less()
        {
            self.cut(location, 4).await?;
        }
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if matches!(self.mode, Break::RefuseCopies) && self.one_less() {
            let source = "no copy".into();
            return Err(object_store::Error::Generic { store: "test", source });
        }
        self.inner.copy_opts(from, to, options).await
    }
}

pub fn breaking(lab: &Lab, mode: Break, times: usize) -> LakeStore {
    lab.store().over(|inner| Arc::new(Breaking { inner, mode, left: AtomicUsize::new(times) }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_counts_once() {
    let lab = Lab::new();
    drop(lab.table().await);
    let store = breaking(&lab, Break::LoseAnswers, 1);
    let table = DeltaTable::open(&store, feed()).await.unwrap();
    assert_eq!(commit(&table, vec![part(0, 0..10, &[])]).await, [DURABLE]);
    assert_eq!(commit(&table, vec![part(0, 10..20, &[])]).await, [DURABLE]);
    assert_eq!(lab.rows("streams/f").await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_refused() {
    let lab = Lab::new();
    lab.store().prove_conditional_create().await.unwrap();
    let store = breaking(&lab, Break::IgnoreConditions, 0);
    let error = store.prove_conditional_create().await.unwrap_err();
    assert_eq!(error.blame, Blame::Lasting);
    assert!(error.message.contains("If-None-Match"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_installation_owns_the_lake() {
    let lab = Lab::new();
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert_eq!(lab.store().installation(one, false).await.unwrap(), one);
    assert_eq!(lab.store().installation(other, false).await.unwrap(), one);
    assert_eq!(lab.store().installation(other, true).await.unwrap(), other);
    assert_eq!(lab.store().keep_columns("f", "[1]".to_owned()).await.unwrap(), "[1]");
    assert_eq!(lab.store().keep_columns("f", "[2]".to_owned()).await.unwrap(), "[1]");
    // Two change the same: one wins, and the other hears of it.
    let store = lab.store();
    let change = |to: &str| store.change_columns("f", "[1]", to.to_owned());
    let (one, other) = tokio::join!(change("[3]"), change("[4]"));
    assert_eq!(one.as_ref().unwrap(), &other.unwrap());
    assert_eq!(store.kept_columns("f").await.unwrap(), Some(one.unwrap()));
    let now = store.kept_columns("f").await.unwrap().unwrap();
    assert_eq!(store.change_columns("f", &now, "[5]".to_owned()).await.unwrap(), "[5]");
    assert_eq!(store.change_columns("f", &now, "[6]".to_owned()).await.unwrap(), "[5]");
}

#[test]
fn files_are_written_as_the_feed_says() {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::basic::Compression;

    use crate::config::Codec;

    let ours = |codec: Codec| {
        let options = LakeOptions {
            codec,
            bloom: vec!["id".to_owned()],
            sort: vec!["id".to_owned()],
            ..LakeOptions::default()
        };
        Feed { lake: Some(options), ..(*feed()).clone() }
    };
    let parts = [part(0, 100..200, &[]), part(1, 0..100, &[7])];
    let written = |feed: &Feed| {
        let mut files = Vec::new();
        let layout = Layout::of(feed).unwrap();
        encode(feed, &layout, 0, &parts, |file| {
            files.push(file);
            true
        })
        .unwrap();
        assert_eq!((files.len(), files[0].rows, files[0].first), (1, 199, 0));
        ParquetRecordBatchReaderBuilder::try_new(Bytes::from(files.remove(0).bytes)).unwrap()
    };
    for (codec, expected) in [
        (Codec::Zstd, "ZSTD"),
        (Codec::Snappy, "SNAPPY"),
        (Codec::Lz4, "LZ4_RAW"),
        (Codec::Gzip, "GZIP"),
        (Codec::None, "UNCOMPRESSED"),
    ] {
        let file = written(&ours(codec));
        let group = file.metadata().row_group(0).clone();
        let said = format!("{:?}", group.column(0).compression());
        assert!(said.starts_with(expected), "{said}");
        assert!(group.column(0).bloom_filter_offset().is_some());
        assert!(group.column(1).bloom_filter_offset().is_none());
        let sorting = group.sorting_columns().unwrap();
        assert_eq!((sorting[0].column_idx, sorting[0].descending), (0, false));
        let rows: Vec<_> = file.build().unwrap().map(|batch| batch.unwrap()).collect();
        let ids = rows.iter().flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values());
        let expected: Vec<i64> = (0..200).filter(|id| *id != 7).collect();
        assert_eq!(ids.copied().collect::<Vec<_>>(), expected);
        // Each row kept what belongs to it.
        let of = |name: &str| rows[0].column_by_name(name).unwrap().clone();
        assert_eq!(of("_offset").as_primitive::<Int64Type>().values()[..3], [0, 1, 2]);
        assert_eq!(of("_partition").as_primitive::<arrow::datatypes::Int32Type>().value(150), 0);
    }
    let plain = written(&feed());
    let group = plain.metadata().row_group(0);
    assert!(matches!(group.column(0).compression(), Compression::ZSTD(_)));
    assert!(group.column(0).bloom_filter_offset().is_none() && group.sorting_columns().is_none());
}

/// Two that replay at once into a table that has ten records, less two in quarantine.
pub async fn replays_once(table: &dyn LakeTable, other: &dyn LakeTable) {
    assert_eq!(commit(table, vec![part(0, 0..10, &[3, 4])]).await, [DURABLE]);
    assert_eq!(table.replays(&source(0)).await.unwrap(), 0);
    let (one, two) = tokio::join!(
        table.replay(part(0, 3..4, &[]), 0, "local:ada"),
        other.replay(part(0, 3..4, &[]), 0, "local:bob")
    );
    assert_eq!([one.unwrap(), two.unwrap()].iter().filter(|landed| **landed).count(), 1);
    assert!(table.replay(part(0, 4..5, &[]), 1, "local:ada").await.unwrap());
    assert!(!table.replay(part(0, 4..5, &[]), 1, "local:ada").await.unwrap(), "sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_lands_once_and_moves_nothing() {
    let lab = Lab::new();
    let (table, other) = (lab.table().await, lab.table().await);
    replays_once(&table, &other).await;
    assert_eq!((next(&table, 0).await, lab.rows("streams/f").await), (Some(10), 10));
    // The count outlives the log's entries, and is each partition's own.
    lab.checkpoint().await;
    let table = DeltaTable::open(&lab.store(), feed()).await.unwrap();
    assert_eq!(table.replays(&source(0)).await.unwrap(), 2);
    assert_eq!(table.replays(&source(1)).await.unwrap(), 0);
    assert_eq!(commit(&table, vec![part(0, 10..12, &[])]).await, [DURABLE]);
}
