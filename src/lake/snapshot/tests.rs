//! Snapshots on a local folder: what a reader of the log finds, and what is left in the folder.

use std::collections::BTreeMap;

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::tests::{Lab, source, topic_id};
use super::super::{DeltaTable, LakeTable};
use super::*;
use crate::config::{Column, ColumnType, FeedKind, LakeOptions, OnGap, Quarantine, Schema, Start};
use crate::record::{Batch, Claim, Hold, OffsetRange, Part, Progress, Verdict};

fn feed(storage: Storage, keep: u32) -> Arc<Feed> {
    let columns = ["id", "v"].map(|name| Column::new(name, ColumnType::Long)).to_vec();
    let every = crate::config::Duration::from_millis(1);
    let lake = LakeOptions {
        storage,
        snapshots: Some(SnapshotOptions { every, keep }),
        ..LakeOptions::default()
    };
    Arc::new(Feed {
        name: "f".into(),
        kind: FeedKind::Table,
        topic: "t".into(),
        start: Start::Earliest,
        on_gap: OnGap::Park,
        schema: Schema::json(columns, 1),
        lake: Some(lake),
        warehouse: None,
        quarantine: Quarantine::default(),
    })
}

/// Changes of partition 0 from this offset on: a key and its value, none for a tombstone.
fn part(feed: &Feed, partition: i32, start: i64, changes: &[(i64, Option<i64>)]) -> Part {
    let end = start + changes.len() as i64;
    let ids = Int64Array::from_iter_values(changes.iter().map(|(id, _)| *id));
    let values: Int64Array = changes.iter().map(|(_, value)| *value).collect();
    let deletes: Vec<bool> = changes.iter().map(|(_, value)| value.is_none()).collect();
    let batch = Batch {
        source: source(partition),
        range: OffsetRange::new(start, end),
        rows: RecordBatch::try_new(feed.schema.arrow(), vec![Arc::new(ids), Arc::new(values)])
            .unwrap(),
        timestamps: Int64Array::from_iter_values(start..end),
        offsets: Int64Array::from_iter_values(start..end),
        deletes: Some(BooleanArray::from(deletes)),
        keys: None,
        headers: None,
        documents: None,
        rejects: Vec::new().into(),
        payload_bytes: 0,
        hold: Hold::default(),
    };
    let (source, topic_id) = (source(partition), topic_id());
    Part { source, topic_id, claim: Claim::random(), batches: vec![Arc::new(batch)] }
}

struct Bench {
    lab: Lab,
    feed: Arc<Feed>,
    table: DeltaTable,
    next: [i64; 2],
}

impl Bench {
    async fn new(storage: Storage, keep: u32) -> Self {
        let (lab, feed) = (Lab::new(), feed(storage, keep));
        let table = DeltaTable::open(&lab.store(), feed.clone()).await.unwrap();
        let start = Progress { next_offset: 0, topic_id: topic_id() };
        table.begin(&[(source(0), start), (source(1), start)]).await.unwrap();
        Self { lab, feed, table, next: [0; 2] }
    }

    async fn change(&mut self, partition: i32, changes: &[(i64, Option<i64>)]) {
        let next = &mut self.next[partition as usize];
        let part = part(&self.feed, partition, *next, changes);
        *next += changes.len() as i64;
        let staged = self.table.stage(vec![part]).await.unwrap();
        let verdicts = self.table.commit(&[staged]).await.unwrap();
        assert_eq!(verdicts, [[Verdict::Durable { quarantined: 0 }]]);
    }

    fn snapshots(&self) -> Snapshots {
        self.snapshots_within(1 << 20)
    }

    fn snapshots_within(&self, limit: usize) -> Snapshots {
        Snapshots::of(&self.lab.store(), &self.feed, limit).unwrap().unwrap()
    }

    async fn take(&self) -> Taken {
        self.snapshots().take(None).await.unwrap()
    }

    async fn new_version(&self) -> u64 {
        match self.take().await {
            Taken::New(snapshot) => snapshot.version,
            other => panic!("{other:?}"),
        }
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.lab.folder.path().join("tables/f").join(below)
    }

    /// The rows of the files that the log names as the table's, and the versions that they are of.
    async fn shown(&self) -> (BTreeMap<i64, i64>, Vec<String>) {
        let log = self.lab.store().log_store("tables/f").unwrap();
        let state = State::read(&log, self.lab.store().below("tables/f").as_ref()).await.unwrap();
        let mut rows = BTreeMap::new();
        let mut versions = Vec::new();
        for file in state.unwrap().live {
            versions.push(file.path().split('/').next().unwrap().to_owned());
            rows.extend(read(&self.path(&file.path())));
        }
        versions.dedup();
        (rows, versions)
    }
}

fn read(path: &std::path::Path) -> Vec<(i64, i64)> {
    let file = std::fs::File::open(path).unwrap();
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let column = |at: usize| batch.column(at).as_primitive::<Int64Type>().values().to_vec();
        rows.extend(column(0).into_iter().zip(column(1)));
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_state_replaces_the_one_before() {
    let mut bench = Bench::new(Storage::Overwrite, 2).await;
    assert_eq!(bench.take().await, Taken::TooEarly);
    bench.change(0, &[(1, Some(10)), (2, Some(20)), (1, Some(11))]).await;
    bench.change(1, &[(7, Some(70)), (8, None)]).await;
    assert_eq!(bench.new_version().await, 1);
    assert_eq!(
        bench.shown().await,
        ([(1, 11), (2, 20), (7, 70)].into(), vec!["version=v1".into()])
    );
    assert!(matches!(bench.take().await, Taken::Unchanged(of) if of.version == 1));
    bench.change(0, &[(2, None), (3, Some(30)), (3, Some(31))]).await;
    bench.change(0, &[(3, None), (3, Some(32))]).await;
    assert_eq!(bench.new_version().await, 2);
    assert_eq!(
        bench.shown().await,
        ([(1, 11), (3, 32), (7, 70)].into(), vec!["version=v2".into()])
    );
    // Time travel still finds the version before; the commit says where the log of the topic stood.
    let entry =
        std::fs::read_to_string(bench.path("_delta_log/00000000000000000002.json")).unwrap();
    let marks: Vec<serde_json::Value> =
        entry.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut marks: Vec<_> =
        marks.iter().filter_map(|line| line["txn"]["version"].as_i64()).collect();
    marks.sort_unstable();
    assert_eq!(marks, [2, 8]);
    assert_eq!(std::fs::read_dir(bench.path("version=v1")).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_larger_than_memory_is_folded_in_parts() {
    let mut bench = Bench::new(Storage::Overwrite, 2).await;
    let mut expected = BTreeMap::new();
    for round in 0..4 {
        let changes: Vec<_> = (0..3000)
            .map(|n| ((n * 7 + round * 1000) % 5000, (n % 11 != 0).then_some(n + round)))
            .collect();
        for (id, value) in &changes {
            match value {
                Some(value) => drop(expected.insert(*id, *value)),
                None => drop(expected.remove(id)),
            }
        }
        bench.change(0, &changes).await;
        let snapshot = match bench.snapshots_within(100_000).take(None).await.unwrap() {
            Taken::New(snapshot) => snapshot,
            other => panic!("{other:?}"),
        };
        assert!(snapshot.files.len() > 1, "{snapshot:?}");
        assert_eq!(snapshot.rows, expected.len() as u64);
        assert_eq!(bench.shown().await.0, expected);
    }
}

/// Kafka orders a partition, not a topic: a key that moved, as by more partitions, goes by time.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_two_partitions_goes_by_time() {
    let mut bench = Bench::new(Storage::Overwrite, 2).await;
    // Times are offsets here.
    bench.change(0, &[(8, Some(0)), (9, Some(0)), (1, Some(10)), (2, Some(20))]).await;
    bench.change(1, &[(1, Some(11)), (7, Some(0)), (7, Some(0)), (7, Some(70)), (2, None)]).await;
    bench.new_version().await;
    assert_eq!(bench.shown().await.0, [(1, 10), (7, 70), (8, 0), (9, 0)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_at_once_one_wins() {
    let mut bench = Bench::new(Storage::Overwrite, 2).await;
    for round in 0..8 {
        bench.change(0, &[(round, Some(round))]).await;
        let (one, other) = (bench.snapshots(), bench.snapshots());
        let (one, other) = tokio::join!(one.take(None), other.take(None));
        let outcomes = [one.unwrap(), other.unwrap()];
        let new = outcomes.iter().filter(|taken| matches!(taken, Taken::New(_))).count();
        assert_eq!(new, 1, "{outcomes:?}");
        let (rows, versions) = bench.shown().await;
        assert_eq!((rows.len() as i64, versions.len()), (round + 1, 1));
        // What lost is gone from the folder, and nobody else ever used it.
        let folder = bench.path(&versions[0]);
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_go_and_nothing_that_is_not_ours() {
    let mut bench = Bench::new(Storage::Overwrite, 1).await;
    // An attempt that died after it staged, and a file of somebody else beside it.
    let left = bench.snapshots();
    let state = left.opened().await.unwrap();
    let attempt = left.reserve(&state).await.unwrap();
    let orphan = format!("version=v1/snapshot_20260101_000000_{}.parquet", attempt.id.simple());
    for path in [orphan.as_str(), "version=v1/notes.txt"] {
        left.store.put(&Path::from(path), "x".into()).await.unwrap();
    }
    for version in 2..=5 {
        bench.change(0, &[(version, Some(version))]).await;
        assert_eq!(bench.new_version().await as i64, version, "a number is not used twice");
        std::thread::sleep(Duration::from_millis(5));
    }
    // One more look: the version that was replaced last goes only then.
    assert_eq!(std::fs::read_dir(bench.path("version=v4")).unwrap().count(), 1);
    assert!(matches!(bench.take().await, Taken::Unchanged(_)));
    let mut left: Vec<String> = std::fs::read_dir(bench.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("version="))
        .collect();
    left.sort();
    assert_eq!(left, ["version=v1", "version=v5"]);
    let first: Vec<_> = std::fs::read_dir(bench.path("version=v1")).unwrap().collect();
    assert_eq!(first.len(), 1);
    assert!(bench.path("version=v1/notes.txt").is_file());
    assert_eq!(bench.shown().await.0.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_data_is_written_once() {
    let mut bench = Bench::new(Storage::Ignore, 2).await;
    bench.change(0, &[(1, Some(1))]).await;
    let ends = HashMap::from([(source(0), 2)]);
    let snapshots = bench.snapshots();
    assert_eq!(snapshots.take(Some(&ends)).await.unwrap(), Taken::TooEarly);
    bench.change(0, &[(2, Some(2))]).await;
    assert!(matches!(snapshots.take(Some(&ends)).await.unwrap(), Taken::New(_)));
    bench.change(0, &[(1, None), (3, Some(3))]).await;
    assert!(matches!(bench.take().await, Taken::Unchanged(of) if of.version == 1));
    assert_eq!(bench.shown().await.0, [(1, 1), (2, 2)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changelog_that_was_replaced_or_rolled_back_is_noticed() {
    let mut bench = Bench::new(Storage::Overwrite, 2).await;
    bench.change(0, &[(1, Some(1))]).await;
    bench.new_version().await;
    let restore = r#"{"commitInfo":{"timestamp":1,"operation":"RESTORE"}}"#;
    std::fs::write(bench.path("_changes/_delta_log/00000000000000000003.json"), restore).unwrap();
    let error = bench.snapshots().take(None).await.unwrap_err().to_string();
    assert!(error.contains("--rewind-lake"), "{error}");
    std::fs::remove_dir_all(bench.path("_changes")).unwrap();
    DeltaTable::open(&bench.lab.store(), bench.feed.clone()).await.unwrap();
    let error = bench.snapshots().take(None).await.unwrap_err().to_string();
    assert!(error.contains("from one backup"), "{error}");
}

/// A row that came back from quarantine stands where its offset says, however late it came.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_revives_nothing() {
    let mut bench = Bench::new(Storage::Overwrite, 2).await;
    // Offsets 1 to 4 were in quarantine.
    bench.change(0, &[(1, Some(10))]).await;
    bench.next[0] = 5;
    let skip = OffsetRange::new(1, 5);
    let reason = crate::record::GapReason::SkippedGap;
    bench.table.record_gap(&source(0), topic_id(), skip, reason).await.unwrap();
    bench.change(0, &[(2, Some(20)), (3, Some(30)), (3, None)]).await;
    bench.new_version().await;
    let back =
        part(&bench.feed, 0, 1, &[(1, Some(11)), (2, Some(21)), (3, Some(31)), (4, Some(41))]);
    assert!(bench.table.replay(back, 0, "local:ada").await.unwrap());
    bench.change(0, &[(5, Some(50))]).await;
    bench.new_version().await;
    let expected = BTreeMap::from([(1, 11), (2, 20), (4, 41), (5, 50)]);
    assert_eq!(bench.shown().await.0, expected);
    // And once more, from the snapshot that has them.
    bench.change(0, &[(4, None), (6, Some(60))]).await;
    bench.new_version().await;
    assert_eq!(bench.shown().await.0, BTreeMap::from([(1, 11), (2, 20), (5, 50), (6, 60)]));
}
