//! Chores on real tables of a local folder: alone, beside each other, and cut off in the middle.

pub(crate) mod dying;
mod log;
mod random;

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::super::Staging;
use super::super::scan::tests::bench::{Bench, all, collect, feed, given};
use super::super::scan::{Request, ScanFile};
use super::super::tests::{Lab, part, source, topic_id};
use super::*;
use crate::config::LakeOptions;
use crate::record::{Progress, TopicId};
use crate::retention::{Bounds, Policy};

const BOUNDS: Bounds = Bounds { target_bytes: 1 << 20, least_files: 2, most_bytes: 1 << 30 };
const DAY_MS: i64 = 86_400_000;
/// Long after all that the bench writes.
const LATE: i64 = 1000 * DAY_MS;

impl Bench {
    fn upkeep(&self) -> Upkeep {
        self.upkeep_on(&self.lab.store())
    }

    fn upkeep_on(&self, store: &LakeStore) -> Upkeep {
        Upkeep::of(store, self.feed.clone()).unwrap().unwrap()
    }

    async fn rows(&self, at: At) -> Vec<String> {
        let scan = self.scan(at).await.unwrap();
        let mut rows = collect(&given(&scan, all(&scan)).await);
        rows.sort();
        rows
    }

    async fn files(&self) -> Vec<ScanFile> {
        self.scan(At::Latest).await.unwrap().files().to_vec()
    }

    async fn progress(&self) -> BTreeMap<String, i64> {
        let progress = self.table.progress().await.unwrap();
        progress.into_iter().map(|(of, at)| (of.to_string(), at.next_offset)).collect()
    }

    /// What lies in the folder, but for what begins with an underscore.
    fn in_folder(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.path(""), &mut |path| {
            let below = path.strip_prefix(self.path("")).unwrap().display().to_string();
            if !below.split('/').any(|part| part.starts_with('_')) {
                found.push(below);
            }
        });
        found.sort();
        found
    }
}

fn walk(folder: &std::path::Path, take: &mut impl FnMut(&std::path::Path)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(&path, take),
            false => take(&path),
        }
    }
}

fn days(days: u32) -> Policy {
    Policy { days: Some(days), bytes: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn crumbs_become_one_file_for_each_day_with_the_same_rows() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    let mut expected = Vec::new();
    for round in 0..6 {
        expected.extend(bench.commit(round % 2, 3, &[]).await);
    }
    expected.sort();
    let before = bench.scan(At::Latest).await.unwrap();
    let (crumbs, progress) = (before.files().len(), bench.progress().await);
    let planned = bench.upkeep().compact(BOUNDS, LATE, Mode::DryRun).await.unwrap();
    assert_eq!((planned.joined.files as usize, bench.files().await.len()), (crumbs, crumbs));

    let done = bench.upkeep().compact(BOUNDS, LATE, Mode::Do).await.unwrap();
    assert_eq!((done.joined.files as usize, done.other_columns, done.overtaken), (crumbs, 0, 0));
    let files = bench.files().await;
    assert_eq!(files.len(), 3, "one for each day: {files:?}");
    assert_eq!(done.made.files, 3);
    assert_eq!(bench.rows(At::Latest).await, expected);
    assert_eq!(bench.progress().await, progress);
    assert_eq!(bench.rows(At::Pinned(before.pin().clone())).await, expected, "readers of before");
    for file in &files {
        assert_eq!(file.tags["tidegate.topic"], topic_id().get().unwrap().to_string());
        assert_eq!(file.tags["tidegate.time"], "kafka");
        assert!(crate::layout::is_ours(&file.path));
    }
    // In the order of time, which the bench's offsets are.
    for index in 0..files.len() {
        let of = bench.scan(At::Latest).await.unwrap().only(&[index]);
        let request = Request { columns: vec!["_offset".to_owned()], ..Request::default() };
        let batches = given(&of, request).await;
        let offsets = batches
            .iter()
            .flat_map(|(batch, _)| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        assert!(offsets.collect::<Vec<_>>().is_sorted());
    }
    let again = bench.upkeep().compact(BOUNDS, LATE, Mode::Do).await.unwrap();
    assert_eq!(again, Compacted::default(), "done again it finds nothing");
    // The node goes on behind it.
    expected.extend(bench.commit(0, 3, &[]).await);
    expected.sort();
    assert_eq!(bench.rows(At::Latest).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_checkpoint_keeps_of_a_file_is_enough() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    for _ in 0..4 {
        bench.commit(0, 1, &[]).await;
    }
    let before = bench.files().await;
    let version = bench.scan(At::Latest).await.unwrap().version().unwrap();
    let log = bench.lab.store().log_store("streams/f").unwrap();
    let mut table = deltalake_core::DeltaTable::new(log);
    table.load_version(version).await.unwrap();
    deltalake_core::checkpoints::create_checkpoint(&table, None).await.unwrap();
    for entry in 0..version {
        std::fs::remove_file(bench.path(&format!("_delta_log/{entry:020}.json"))).unwrap();
    }
    assert_eq!(bench.files().await, before, "tags included");
    let done = bench.upkeep().compact(BOUNDS, LATE, Mode::Do).await.unwrap();
    assert_eq!((done.joined.files, done.made.files), (4, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_join_the_same_files_one_is_overtaken() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    let mut expected = Vec::new();
    for _ in 0..4 {
        expected.extend(bench.commit(0, 1, &[]).await);
    }
    // One that has planned, and sleeps before its commit.
    let sleeper = bench.upkeep();
    let scan = sleeper.scan(At::Latest).await.unwrap().unwrap();
    let log = sleeper.log().await.unwrap();
    let (of, made) = {
        let of = scan.only(&(0..scan.files().len()).collect::<Vec<_>>());
        let (made, _) = sleeper.rewrite(&of).await.unwrap();
        (of, made)
    };
    let change = || super::super::change::Change {
        kind: super::super::change::Kind::Compaction(1),
        files: vec![made.clone()],
        removed: of.files().iter().map(|file| replace::removed(file, None)).collect(),
        ..Default::default()
    };
    let done = bench.upkeep().compact(BOUNDS, LATE, Mode::Do).await.unwrap();
    assert_eq!(done.made.files, 1);
    assert!(!sleeper.replace(&log, &scan, change(), Staging::now()).await.unwrap());
    assert_eq!(bench.rows(At::Latest).await, expected);
    // Nor does retention, from a plan of before.
    let retired = super::super::change::Change {
        kind: super::super::change::Kind::Retention("old".to_owned()),
        files: Vec::new(),
        ..change()
    };
    assert!(!sleeper.replace(&log, &scan, retired, Staging::now()).await.unwrap());
    // Beside a writer it is no conflict.
    let scan = sleeper.scan(At::Latest).await.unwrap().unwrap();
    expected.extend(bench.commit(0, 1, &[]).await);
    let (made, _) = sleeper.rewrite(&scan).await.unwrap();
    let removed = scan.files().iter().map(|file| replace::removed(file, None)).collect();
    let beside = super::super::change::Change { files: vec![made], removed, ..change() };
    assert!(sleeper.replace(&log, &scan, beside, Staging::now()).await.unwrap());
    expected.sort();
    assert_eq!(bench.rows(At::Latest).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_two_topics_of_one_name_stay_apart() {
    let remade = TopicId::new(uuid::Uuid::from_u128(8));
    let start = Progress { next_offset: 0, topic_id: topic_id() };
    let feed = super::super::tests::feed();
    let lab = Lab::new();
    let table = super::super::open(&lab.store(), feed.clone()).await.unwrap();
    table.begin(&[(source(0), start)]).await.unwrap();
    let write = async |range: std::ops::Range<i64>, topic: TopicId| {
        let part = crate::record::Part { topic_id: topic, ..part(0, range, &[]) };
        let staged = table.stage(vec![part]).await.unwrap();
        let verdicts = table.commit(&[staged]).await.unwrap();
        assert!(matches!(verdicts[0][0], crate::record::Verdict::Durable { .. }));
    };
    write(0..2, topic_id()).await;
    write(2..4, topic_id()).await;
    table.reset(&source(0), Progress { next_offset: 0, topic_id: remade }).await.unwrap();
    write(0..2, remade).await;
    write(2..4, remade).await;
    // Of a release that did not say the topic, or of a broker that tells none.
    write(4..5, TopicId::UNKNOWN).await;
    write(5..6, TopicId::UNKNOWN).await;
    let upkeep = Upkeep::of(&lab.store(), feed.clone()).unwrap().unwrap();
    let done = upkeep.compact(BOUNDS, LATE, Mode::Do).await.unwrap();
    assert_eq!((done.joined.files, done.made.files), (4, 2));
    let scan = TableScan::open(&lab.store(), &feed, At::Latest).await.unwrap();
    let topics: Vec<Option<&String>> =
        scan.files().iter().map(|file| file.tags.get("tidegate.topic")).collect();
    let (former, present) = (topic_id().get().unwrap(), remade.get().unwrap());
    let counted = |id: Option<String>| topics.iter().filter(|it| **it == id.as_ref()).count();
    assert_eq!(counted(Some(former.to_string())), 1);
    assert_eq!(counted(Some(present.to_string())), 1);
    assert_eq!(counted(None), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_in_nobodys_way_and_a_pass_is_bounded() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    let mut expected = Vec::new();
    for _ in 0..8 {
        expected.extend(bench.commit(0, 2, &[]).await);
    }
    let files = bench.files().await;
    let damaged = bench.path(&files[0].path);
    let whole = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, vec![b'x'; whole.len()]).unwrap();
    let one = Bounds { most_bytes: 1, ..BOUNDS };
    let done = bench.upkeep().compact(one, LATE, Mode::Do).await.unwrap();
    assert_eq!((done.faults.len(), done.made.files), (1, 1), "{done:?}");
    assert!(done.faults[0].contains("damaged"), "{done:?}");
    let done = bench.upkeep().compact(BOUNDS, LATE, Mode::Do).await.unwrap();
    assert_eq!((done.faults.len(), done.made.files), (1, 2), "{done:?}");
    std::fs::write(&damaged, whole).unwrap();
    expected.sort();
    assert_eq!(bench.rows(At::Latest).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_writes_nothing() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    for _ in 0..3 {
        bench.commit(0, 2, &[]).await;
    }
    let version = bench.scan(At::Latest).await.unwrap().version();
    // A feed that has a column more, which any commit would add.
    let mut wider = Feed::clone(&bench.feed);
    wider.schema.columns.push(crate::config::Column::new("more", crate::config::ColumnType::Long));
    let upkeep = Upkeep::of(&bench.lab.store(), Arc::new(wider)).unwrap().unwrap();
    let planned = upkeep.compact(BOUNDS, LATE, Mode::DryRun).await.unwrap();
    assert_eq!(planned.joined.files, 2);
    upkeep.expire(days(0), 0, LATE, Mode::DryRun).await.unwrap();
    upkeep.vacuum(0, LATE, Mode::DryRun).await.unwrap();
    assert_eq!(bench.scan(At::Latest).await.unwrap().version(), version);
    assert!(!bench.lab.folder.path().join("_tidegate").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_retire_the_same_files_one_is_told_so() {
    let mut bench = Bench::new(LakeFormat::Jsonl).await;
    bench.commit(0, 8, &[]).await;
    let scan = bench.scan(At::Latest).await.unwrap();
    let done = bench.upkeep().expire(days(0), i64::MAX / 4, LATE, Mode::Do).await.unwrap();
    assert_eq!(done.rows, 8);
    // One that looked before, and woke behind it.
    let late = bench.upkeep().retire(&scan, &[0], days(0)).await.unwrap_err();
    assert!(late.message.contains("at the same time"), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_other_columns_are_left_alone() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    let mut expected = bench.commit(0, 2, &[]).await;
    expected.extend(bench.commit(0, 2, &[]).await);
    // A feed that has one column less: what those files hold in it must not go.
    let whole = bench.feed.clone();
    let mut narrow = Feed::clone(&whole);
    narrow.schema.columns.remove(1);
    let upkeep = Upkeep::of(&bench.lab.store(), Arc::new(narrow)).unwrap().unwrap();
    let done = upkeep.compact(BOUNDS, LATE, Mode::Do).await.unwrap();
    assert_eq!((done.other_columns, done.made.files), (2, 0));
    assert_eq!(bench.rows(At::Latest).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_days_go_when_their_time_is_over() {
    for format in super::super::scan::tests::bench::FORMATS {
        let mut bench = Bench::new(format).await;
        // Four rows a day, from 1970-01-01 on.
        let mut expected = bench.commit(0, 6, &[]).await;
        expected.extend(bench.commit(0, 6, &[]).await);
        expected.extend(bench.commit(1, 4, &[]).await);
        let before = bench.scan(At::Latest).await.unwrap();
        let noon = 3 * DAY_MS + DAY_MS / 2;
        let upkeep = bench.upkeep();
        let planned = upkeep.expire(days(2), 0, noon, Mode::DryRun).await.unwrap();
        assert_eq!((planned.times.len(), planned.rows), (1, 8), "{format:?}");
        assert_eq!(bench.rows(At::Latest).await.len(), 16);

        let done = upkeep.expire(days(2), i64::MAX / 4, noon, Mode::Do).await.unwrap();
        assert_eq!((done.times.as_slice(), done.rows), (&["1970-01-01".to_owned()][..], 8));
        expected.retain(|row| !row.ends_with("|1970|1|1"));
        expected.sort();
        assert_eq!(bench.rows(At::Latest).await, expected, "{format:?}");
        assert_eq!(bench.rows(At::Pinned(before.pin().clone())).await.len(), 16, "{format:?}");
        let again = upkeep.expire(days(2), i64::MAX / 4, noon, Mode::Do).await.unwrap();
        assert_eq!(again, Expired::default());
        assert_eq!(bench.progress().await["t-0"], 12, "progress stays");
        bench.commit(1, 4, &[]).await;
        assert_eq!(bench.rows(At::Latest).await.len(), 12);
        if format != LakeFormat::Delta {
            let there = bench.in_folder().len();
            // By the store's own clock, whatever the day is taken for.
            let early = upkeep.expire(days(2), 3_600_000, noon, Mode::Do).await.unwrap();
            assert_eq!(early.deleted.files, 0);
            let done = upkeep.expire(days(2), 0, noon, Mode::Do).await.unwrap();
            assert_eq!(done.deleted.files, 2, "the grace time is over");
            assert_eq!(bench.in_folder().len(), there - 2);
            assert_eq!(
                upkeep.expire(days(2), 0, noon, Mode::Do).await.unwrap(),
                Expired::default()
            );
        }
        // The overview counts what is there.
        let mut reader = crate::lake::TableReader::of(&bench.lab.store(), &bench.feed).unwrap();
        assert_eq!(reader.read().await.unwrap().unwrap().total().rows, 12, "{format:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_says_which_offsets_went() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    bench.commit(0, 5, &[2]).await;
    bench.upkeep().expire(days(0), 0, DAY_MS, Mode::Do).await.unwrap();
    let version = bench.scan(At::Latest).await.unwrap().version().unwrap();
    let entry = bench.path(&format!("_delta_log/{version:020}.json"));
    let entry = std::fs::read_to_string(entry).unwrap();
    let line = entry.lines().find(|line| line.contains("\"remove\"")).unwrap();
    let remove: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(remove["remove"]["dataChange"], true);
    assert_eq!(
        remove["remove"]["tags"]["tidegate.taken"],
        r#"[{"topic":"t","partition":0,"offsets":[[0,1],[3,3]]}]"#
    );
    assert!(entry.contains(r#""operation":"DELETE""#) && entry.contains("older than 0 days"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_refers_to_is_marked_and_swept_and_the_rest_never() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    for _ in 0..3 {
        bench.commit(0, 1, &[]).await;
    }
    let before = bench.rows(At::Latest).await;
    // A crashed writer's file, somebody's own, another table below, and an editor's hidden one.
    let orphan = format!("year=1970/month=01/day=01/data_19700101_{:032x}.parquet", 5);
    for (path, text) in [
        (orphan.as_str(), "x"),
        ("notes.parquet", "mine"),
        ("other/_delta_log/0.json", "{}"),
        (&format!("other/data_{:032x}.parquet", 6), "x"),
        (".hidden/data", "x"),
    ] {
        std::fs::create_dir_all(bench.path(path).parent().unwrap()).unwrap();
        std::fs::write(bench.path(path), text).unwrap();
    }
    bench.upkeep().compact(BOUNDS, LATE, Mode::Do).await.unwrap();
    let upkeep = bench.upkeep();
    let now = crate::lake::delta::now_ms() + 1000;
    let hour = 3_600_000;
    let first = upkeep.vacuum(0, now, Mode::Do).await.unwrap();
    assert_eq!((first.marked.files, first.swept.files), (4, 0), "{first:?}");
    assert_eq!(first.foreign_paths, ["notes.parquet"]);
    let early = upkeep.vacuum(0, now + hour - 1, Mode::Do).await.unwrap();
    assert_eq!(
        (early.marked.files, early.swept.files),
        (4, 0),
        "however short a grace is asked for"
    );
    let dry = upkeep.vacuum(0, now + hour + 1000, Mode::DryRun).await.unwrap();
    assert_eq!((dry.swept.files, bench.in_folder().contains(&orphan)), (4, true));
    let swept = upkeep.vacuum(0, now + hour + 1000, Mode::Do).await.unwrap();
    assert_eq!(swept.swept.files, 4);
    assert_eq!(bench.rows(At::Latest).await, before);
    let left = bench.in_folder();
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(!left.contains(&orphan) && left.contains(&"notes.parquet".to_owned()));
    let again = upkeep.vacuum(0, now + 2 * hour, Mode::Do).await.unwrap();
    assert_eq!((again.marked.files, again.swept.files, again.foreign.files), (0, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_slept_on_staged_files_is_refused_once_they_may_be_swept() {
    let feed = super::super::tests::feed();
    let lab = Lab::new();
    let table = super::super::open(&lab.store(), feed.clone()).await.unwrap();
    let start = Progress { next_offset: 0, topic_id: topic_id() };
    table.begin(&[(source(0), start)]).await.unwrap();
    let mut staged = table.stage(vec![part(0, 0..3, &[])]).await.unwrap();
    let upkeep = Upkeep::of(&lab.store(), feed.clone()).unwrap().unwrap();
    let now = crate::lake::delta::now_ms() + 1000;
    upkeep.vacuum_after(10, now, Mode::Do).await.unwrap();
    assert_eq!(upkeep.vacuum_after(10, now + 10_000, Mode::Do).await.unwrap().swept.files, 1);
    assert!(staged.staged.is_some(), "it knows since when");
    staged.staged = Some(Staging::ago(STAGED_FOR + Duration::from_secs(1)));
    let refused = table.commit(&[staged]).await.unwrap_err();
    assert!(refused.message.contains("30 minutes"), "{refused}");
    // Written again, it lands.
    let staged = table.stage(vec![part(0, 0..3, &[])]).await.unwrap();
    table.commit(&[staged]).await.unwrap();
    let scan = TableScan::open(&lab.store(), &feed, At::Latest).await.unwrap();
    assert_eq!(
        given(&scan, all(&scan)).await.iter().map(|(it, _)| it.num_rows()).sum::<usize>(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shows_snapshots_is_left_alone() {
    let mut of = Feed::clone(&feed(LakeFormat::Delta));
    of.kind = crate::config::FeedKind::Table;
    of.schema.key_columns = 1;
    of.lake = Some(LakeOptions { storage: Storage::Overwrite, ..LakeOptions::default() });
    let mut bench = Bench::of(Lab::new(), Arc::new(of)).await;
    for _ in 0..3 {
        bench.upsert(1).await;
    }
    let upkeep = bench.upkeep();
    assert_eq!(upkeep.compact(BOUNDS, LATE, Mode::Do).await.unwrap(), Compacted::default());
    assert_eq!(upkeep.expire(days(0), 0, LATE, Mode::Do).await.unwrap(), Expired::default());
    assert_eq!(upkeep.vacuum(0, LATE, Mode::Do).await.unwrap(), Vacuumed::default());
}
