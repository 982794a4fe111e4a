//! Which state of a table is read.

use super::super::*;
use super::bench::{Bench, FORMATS, all, collect, feed, given};
use crate::config::{FeedKind, LakeOptions, SnapshotOptions, Storage};
use crate::lake::tests::{Break, Lab, breaking, part, source, topic_id};
use crate::lake::{Snapshots, Taken, open};
use crate::record::{Blame, Progress};

fn refused(scan: Result<TableScan, NotOpened>, told: &[&str]) {
    let error = scan.err().expect("refused");
    let passes = matches!(&error, NotOpened::Failed(error) if error.blame == Blame::Passing);
    assert!(!passes, "{error}");
    for told in told {
        assert!(error.to_string().contains(told), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_state_stays_whatever_is_committed() {
    for format in FORMATS {
        let mut bench = Bench::new(format).await;
        bench.commit(0, 10, &[]).await;
        bench.commit(1, 10, &[]).await;
        let before = bench.scan(At::Latest).await.unwrap();
        let rows = collect(&given(&before, all(&before)).await);
        for _ in 0..5 {
            // The other partition too, whose rows stand between.
            bench.commit(1, 7, &[]).await;
            bench.commit(0, 7, &[]).await;
            let again = bench.scan(At::Pinned(before.pin().clone())).await.unwrap();
            assert_eq!((again.files(), again.pin()), (before.files(), before.pin()), "{format:?}");
            assert_eq!(again.committed_ms(), before.committed_ms());
            assert_eq!(collect(&given(&again, all(&again)).await), rows);
        }
        let now = bench.scan(At::Latest).await.unwrap();
        assert_eq!(collect(&given(&now, all(&now)).await).len(), 90);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_means_what_was_committed_by_then() {
    for format in FORMATS {
        let mut bench = Bench::new(format).await;
        let mut moments = Vec::new();
        let mut rows = 0;
        for partition in [0, 1, 0, 0, 1] {
            rows += bench.commit(partition, 5, &[]).await.len() as u64;
            let scan = bench.scan(At::Latest).await.unwrap();
            moments.push((scan.committed_ms().unwrap(), rows));
        }
        assert!(moments.is_sorted_by(|one, next| one.0 < next.0));
        for (index, (moment, rows)) in moments.iter().enumerate() {
            let before = index.checked_sub(1).map_or(0, |before| moments[before].1);
            for (time, rows) in [(*moment, *rows), (moment + 1, *rows), (moment - 1, before)] {
                let scan = bench.scan(At::Time(time)).await.unwrap();
                let found: u64 = scan.files().iter().filter_map(|file| file.rows).sum();
                assert_eq!(found, rows, "{format:?}, {} ms", time - moment);
                assert!(scan.committed_ms().unwrap() <= time);
            }
        }
        let whole = bench.scan(At::Time(i64::MAX)).await.unwrap();
        assert_eq!(whole.files(), bench.scan(At::Latest).await.unwrap().files());
        refused(bench.scan(At::Time(1000)).await, &["1970-01-01T00:00:01", "begins"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_read_as_long_as_its_log_is_there() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    // Versions 3 to 7; the table, and where its partitions begin, are those before.
    let mut expected = vec![0; 3];
    for _ in 3..=7 {
        bench.commit(0, 3, &[]).await;
        expected.push(expected.last().unwrap() + 3);
    }
    for (version, rows) in expected.iter().enumerate() {
        let scan = bench.scan(At::Version(version as u64)).await.unwrap();
        assert_eq!(collect(&given(&scan, all(&scan)).await).len(), *rows);
        assert_eq!(scan.version(), Some(version as u64));
    }
    refused(bench.scan(At::Version(8)).await, &["version 8", "0 to 7"]);
    let old = bench.scan(At::Version(3)).await.unwrap();
    checkpoint(&bench, 5).await;
    for version in 0..5 {
        std::fs::remove_file(bench.path(&format!("_delta_log/{version:020}.json"))).unwrap();
    }
    refused(bench.scan(At::Version(4)).await, &["version 4", "5 to 7"]);
    refused(bench.scan(At::Pinned(old.pin().clone())).await, &["version 3", "5 to 7"]);
    refused(bench.scan(At::Time(old.committed_ms().unwrap())).await, &["begins with version 5"]);
    for (at, rows) in [(5, 9), (6, 12), (7, 15)] {
        let scan = bench.scan(At::Version(at)).await.unwrap();
        assert_eq!(collect(&given(&scan, all(&scan)).await).len(), rows);
    }
}

async fn checkpoint(bench: &Bench, version: u64) {
    let log = bench.lab.store().log_store("streams/f").unwrap();
    let mut library = deltalake_core::DeltaTable::new(log);
    library.load_version(version).await.unwrap();
    deltalake_core::checkpoints::create_checkpoint(&library, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_another_by_now_is_noticed() {
    for format in FORMATS {
        let mut bench = Bench::new(format).await;
        bench.commit(0, 10, &[]).await;
        let old = bench.scan(At::Latest).await.unwrap();
        let lab = std::mem::replace(&mut bench.lab, Lab::new());
        std::fs::remove_dir_all(lab.folder.path()).unwrap();
        refused(bench.scan(At::Latest).await, &["no table in the lake yet"]);
        let mut bench = Bench::of(bench.lab, bench.feed).await;
        bench.commit(0, 11, &[]).await;
        refused(bench.scan(At::Pinned(old.pin().clone())).await, &["not the one"]);
        let other = match format {
            LakeFormat::Delta => LakeFormat::Parquet,
            _ => LakeFormat::Delta,
        };
        let other = Bench::new(other).await;
        refused(other.scan(At::Pinned(old.pin().clone())).await, &["another format"]);
    }
    let mut plain = Bench::new(LakeFormat::Jsonl).await;
    plain.commit(0, 3, &[]).await;
    refused(plain.scan(At::Version(0)).await, &["no versions", "lake.format: delta"]);
    plain.feed = feed(LakeFormat::Parquet);
    refused(plain.scan(At::Latest).await, &["holds jsonl files"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_are_known_are_not_fetched_again() {
    let mut bench = Bench::new(LakeFormat::Parquet).await;
    for _ in 0..5 {
        bench.commit(0, 4, &[]).await;
    }
    let (first, counts) = bench.counted().await;
    assert_eq!(counts.take_links(), 7, "two chains begin, and one has five links more");
    bench.commit(1, 4, &[]).await;
    let store = bench.counting(counts.clone());
    let second = first.reopen(&store, &bench.feed, At::Latest).await.unwrap();
    assert_eq!(counts.take_links(), 1);
    assert_eq!(second.files(), bench.scan(At::Latest).await.unwrap().files());
    let back = second.reopen(&store, &bench.feed, At::Pinned(first.pin().clone())).await.unwrap();
    assert_eq!((back.files(), counts.take_links()), (first.files(), 0));
    // A link of the same name that was written anew is another.
    let link = bench.path("_commits/t-0/000000-00000000000000000016.json");
    let said = std::fs::read_to_string(&link).unwrap().replace("\"rows\":4", "\"rows\":44");
    std::fs::remove_file(&link).unwrap();
    std::fs::write(&link, said).unwrap();
    let third = second.reopen(&store, &bench.feed, At::Latest).await.unwrap();
    assert_eq!(counts.take_links(), 1);
    assert!(third.files().iter().any(|file| file.rows == Some(44)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_is_never_passed_over() {
    for format in FORMATS {
        let mut bench = Bench::new(format).await;
        bench.commit(0, 10, &[]).await;
        let scan = bench.scan(At::Latest).await.unwrap();
        let gone = &scan.files()[1].path;
        std::fs::remove_file(bench.path(gone)).unwrap();
        let read: Vec<_> = futures::StreamExt::collect(scan.batches(all(&scan))).await;
        let error = read.last().unwrap().as_ref().unwrap_err();
        assert_eq!((error.blame, error.lack), (Blame::Lasting, Some(Lack::Gone)));
        assert!(error.message.contains(gone) && error.message.contains("no longer"), "{error}");
        assert_eq!(read.iter().filter(|batch| batch.is_ok()).count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_file_counts_once_it_is_where_readers_look() {
    let feed = crate::lake::tests::feed();
    let options = LakeOptions { format: LakeFormat::Parquet, ..LakeOptions::default() };
    let feed = Arc::new(Feed { lake: Some(options), ..(*feed).clone() });
    let lab = Lab::new();
    let rows = async || {
        let scan = TableScan::open(&lab.store(), &feed, At::Latest).await.unwrap();
        (collect(&given(&scan, all(&scan)).await).len(), scan.pin().clone())
    };
    let table = open(&lab.store(), feed.clone()).await.unwrap();
    let start = Progress { next_offset: 0, topic_id: topic_id() };
    table.begin(&[(source(0), start), (source(1), start)]).await.unwrap();
    crate::lake::tests::commit(table.as_ref(), vec![part(0, 0..10, &[])]).await;
    let (count, before) = rows().await;
    assert_eq!(count, 10);
    // The link stands and its file was not moved: as after a crash between the two.
    let failing = open(&breaking(&lab, Break::RefuseCopies, 9), feed.clone()).await.unwrap();
    let staged = failing.stage(vec![part(1, 0..5, &[])]).await.unwrap();
    failing.commit(&[staged]).await.unwrap_err();
    std::fs::write(lab.folder.path().join("streams/f/foreign.parquet"), "no").unwrap();
    assert!(
        lab.folder.path().join("streams/f/_commits/t-1/000000-00000000000000000000.json").is_file()
    );
    assert_eq!(rows().await, (10, before));
    drop(table.progress().await.unwrap());
    assert_eq!(rows().await.0, 15, "whoever came next has moved it");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_table_of_snapshots_the_present_one_is_read() {
    let options = LakeOptions {
        storage: Storage::Overwrite,
        snapshots: Some(SnapshotOptions {
            every: crate::config::Duration::from_millis(1),
            keep: 3,
        }),
        ..LakeOptions::default()
    };
    let mut snapshots = (*feed(LakeFormat::Delta)).clone();
    snapshots.kind = FeedKind::Table;
    snapshots.schema.key_columns = 1;
    snapshots.lake = Some(options);
    let mut bench = Bench::of(Lab::new(), Arc::new(snapshots)).await;
    let take = async |bench: &Bench| {
        let taken = Snapshots::of(&bench.lab.store(), &bench.feed, 1 << 20).unwrap().unwrap();
        assert!(matches!(taken.take(None).await.unwrap(), Taken::New(_)));
    };
    refused(bench.scan(At::Latest).await, &["no table in the lake yet"]);
    bench.upsert(6).await;
    take(&bench).await;
    let first = bench.scan(At::Latest).await.unwrap();
    bench.upsert(4).await;
    assert_eq!(bench.scan(At::Latest).await.unwrap().pin(), first.pin(), "changes are hidden");
    take(&bench).await;
    let second = bench.scan(At::Latest).await.unwrap();
    for (scan, rows, version) in [
        (&first, 6, "v1"),
        (&second, 10, "v2"),
        (&bench.scan(At::Pinned(first.pin().clone())).await.unwrap(), 6, "v1"),
        (&bench.scan(At::Time(first.committed_ms().unwrap())).await.unwrap(), 6, "v1"),
    ] {
        let request = Request { columns: vec!["version".into(), "id".into()], ..all(scan) };
        let mut found = collect(&given(scan, request).await);
        found.sort();
        let mut expected: Vec<_> = (0..rows).map(|id| format!("{version}|{}", id * 10)).collect();
        expected.sort();
        assert_eq!(found, expected);
        assert!(scan.schema().field_with_name("_offset").is_err());
    }
}
