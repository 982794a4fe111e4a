//! Logs that are cut, and who reads or writes on them meanwhile.

use super::super::super::open;
use super::super::super::tests::{Break, breaking, commit, feed as plain_feed};
use super::super::Cut;
use super::dying::Dying;
use super::*;

async fn cut(bench: &Bench) -> Option<Cut> {
    bench.upkeep().cut(0, LATE * 100).await.unwrap()
}

fn entries(bench: &Bench) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(bench.path("_delta_log"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('_'))
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_cut_reads_as_before_wherever_that_is_broken_off() {
    for dies_after in 0..12 {
        let mut bench = Bench::new(LakeFormat::Delta).await;
        let mut rows = Vec::new();
        for _ in 0..4 {
            rows.extend(bench.commit(0, 2, &[]).await);
        }
        bench.checkpoint().await;
        rows.extend(bench.commit(1, 2, &[]).await);
        let (version, of_then) = (bench.checkpoint().await, rows.clone());
        rows.extend(bench.commit(0, 2, &[]).await);
        let found = cut(&bench).await.unwrap();
        // Of the two the later; seven entries and a checkpoint go.
        assert_eq!((found.version, found.amount().files), (version, version + 1));
        let store = bench.lab.store().over(|inner| Arc::new(Dying::after(inner, dies_after)));
        let done = bench.upkeep_on(&store).take_out(&found).await;
        assert_eq!(done.is_ok(), dies_after > version as i64);
        let progress = bench.progress().await;
        rows.sort();
        for _ in 0..2 {
            assert_eq!(bench.rows(At::Latest).await, rows);
            let mut then = of_then.clone();
            then.sort();
            assert_eq!(bench.rows(At::Version(version)).await, then);
            let again = open(&bench.lab.store(), bench.feed.clone()).await.unwrap();
            let read = again.progress().await.unwrap();
            assert_eq!(read.len(), 2);
            assert!(read.iter().all(|(of, at)| progress[&of.to_string()] == at.next_offset));
            // The next pass does the rest.
            if let Some(rest) = cut(&bench).await {
                assert_eq!(rest.version, version);
                bench.upkeep().take_out(&rest).await.unwrap();
            }
        }
        let first = format!("{version:020}");
        assert!(entries(&bench).iter().all(|name| *name >= first), "{:?}", entries(&bench));
        assert!(bench.scan(At::Version(version - 1)).await.is_err());
        // A node that was there all the time goes on.
        rows.extend(bench.commit(0, 2, &[]).await);
        rows.sort();
        assert_eq!(bench.rows(At::Latest).await, rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_young_or_ends_with_somebody_elses_entry_stays() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    bench.commit(0, 2, &[]).await;
    assert!(cut(&bench).await.is_none(), "there is no checkpoint");
    bench.checkpoint().await;
    let now = bench.upkeep().store_now(Mode::Do).await.unwrap();
    assert!(bench.upkeep().cut(DAY_MS, now).await.unwrap().is_none());
    // The state of a moment within the time is that of the entry before it.
    assert!(bench.upkeep().cut(0, now).await.unwrap().is_some());
    let found = cut(&bench).await.unwrap();
    bench.upkeep().take_out(&found).await.unwrap();
    bench.lab.foreign(found.version + 1, r#""operation":"OPTIMIZE""#);
    let foreign = bench.checkpoint().await;
    assert_eq!(foreign, found.version + 1);
    assert!(cut(&bench).await.is_none(), "whether a RESTORE stands open would not be known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_replaced_meanwhile_is_left_alone() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    bench.commit(0, 2, &[]).await;
    let backup = entries(&bench);
    bench.commit(0, 2, &[]).await;
    bench.checkpoint().await;
    let found = cut(&bench).await.unwrap();
    // Restored to before the checkpoint.
    for name in entries(&bench).into_iter().filter(|name| !backup.contains(name)) {
        std::fs::remove_file(bench.path(&format!("_delta_log/{name}"))).unwrap();
    }
    let taken = bench.upkeep().take_out(&found).await.unwrap();
    assert_eq!((taken.amount, taken.all), (Amount::default(), false));
    assert_eq!(entries(&bench), backup);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_far_behind_is_written() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    let rows = bench.commit(0, 2, &[]).await;
    let first = bench.scan(At::Latest).await.unwrap().version().unwrap() + 1;
    for version in first..100 {
        bench.lab.foreign(version, r#""operation":"OPTIMIZE""#);
    }
    assert_eq!(bench.upkeep().checkpoint(Mode::Do).await.unwrap(), None);
    bench.lab.foreign(100, r#""operation":"OPTIMIZE""#);
    assert_eq!(bench.upkeep().checkpoint(Mode::DryRun).await.unwrap(), Some(100));
    assert_eq!(bench.upkeep().checkpoint(Mode::Do).await.unwrap(), Some(100));
    assert_eq!(bench.upkeep().checkpoint(Mode::Do).await.unwrap(), None);
    assert!(entries(&bench).contains(&format!("{:020}.checkpoint.parquet", 100)));
    assert_eq!(bench.rows(At::Latest).await, rows);
}

/// One that looked whether its last entry stands, and asks for the next when both are gone, must not take the
/// log for ended: what it commits there nobody would ever read.
#[tokio::test(flavor = "multi_thread")]
async fn a_sleeper_does_not_write_into_a_log_that_was_cut_behind_it() {
    let lab = Lab::new();
    let feed = plain_feed();
    let table = open(&lab.store(), feed.clone()).await.unwrap();
    let start = Progress { next_offset: 0, topic_id: topic_id() };
    table.begin(&[(source(0), start), (source(1), start)]).await.unwrap();
    lab.age_log(Duration::from_secs(40 * 24 * 3600));
    let store = breaking(&lab, Break::CutTheLog, 1);
    let sleeper = open(&store, feed.clone()).await.unwrap();
    assert_eq!(sleeper.progress().await.unwrap().len(), 2);
    for at in 0..3 {
        commit(table.as_ref(), vec![part(0, at..at + 1, &[])]).await;
    }
    let log = lab.store().log_store("streams/f").unwrap();
    crate::lake::commit_loop::write_checkpoint(log, 4).await.unwrap();
    let staged = sleeper.stage(vec![part(1, 0..1, &[])]).await.unwrap();
    let verdicts = sleeper.commit(&[staged]).await.unwrap();
    assert!(matches!(verdicts[0][0], crate::record::Verdict::Durable { .. }));
    let scan = TableScan::open(&lab.store(), &feed, At::Latest).await.unwrap();
    assert_eq!(scan.files().iter().filter_map(|file| file.rows).sum::<u64>(), 4);
    assert_eq!(table.progress().await.unwrap()[&source(1)].next_offset, 1);
}

/// One that sleeps between its last look and its writing, for as long as a log is kept, takes back what it wrote
/// where nobody would look for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_behind_a_cut_is_taken_back_and_written_again() {
    let lab = Lab::new();
    let feed = plain_feed();
    let table = open(&lab.store(), feed.clone()).await.unwrap();
    let start = Progress { next_offset: 0, topic_id: topic_id() };
    table.begin(&[(source(0), start), (source(1), start)]).await.unwrap();
    for at in 0..3 {
        commit(table.as_ref(), vec![part(0, at..at + 1, &[])]).await;
    }
    lab.age_log(Duration::from_secs(40 * 24 * 3600));
    let store = breaking(&lab, Break::CutBeforeWriting, 1);
    let sleeper = open(&store, feed.clone()).await.unwrap();
    let staged = sleeper.stage(vec![part(1, 0..1, &[])]).await.unwrap();
    // Others write on while it sleeps, and their janitor cuts.
    for at in 3..5 {
        commit(table.as_ref(), vec![part(0, at..at + 1, &[])]).await;
    }
    let log = lab.store().log_store("streams/f").unwrap();
    crate::lake::commit_loop::write_checkpoint(log, 6).await.unwrap();
    let verdicts = sleeper.commit(&[staged]).await.unwrap();
    assert!(matches!(verdicts[0][0], crate::record::Verdict::Durable { .. }));
    let stray = lab.folder.path().join("streams/f/_delta_log/00000000000000000005.json");
    assert!(!stray.exists(), "taken back");
    let scan = TableScan::open(&lab.store(), &feed, At::Latest).await.unwrap();
    assert_eq!(scan.files().iter().filter_map(|file| file.rows).sum::<u64>(), 6);
    assert_eq!(table.progress().await.unwrap()[&source(1)].next_offset, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_readers_enter_further_back_or_with_an_open_restore_stays() {
    let mut bench = Bench::new(LakeFormat::Delta).await;
    bench.commit(0, 2, &[]).await;
    let first = bench.checkpoint().await;
    let pointer = bench.path("_delta_log/_last_checkpoint");
    let before = std::fs::read(&pointer).unwrap();
    bench.commit(0, 2, &[]).await;
    let second = bench.checkpoint().await;
    let after = std::fs::read(&pointer).unwrap();
    assert_eq!(cut(&bench).await.unwrap().version, second);
    // Whoever wrote the checkpoint died before it said so.
    std::fs::write(&pointer, before).unwrap();
    assert_eq!(cut(&bench).await.unwrap().version, first);
    std::fs::remove_file(&pointer).unwrap();
    assert!(cut(&bench).await.is_none());
    std::fs::write(&pointer, after).unwrap();
    let restore = r#""operation":"RESTORE","operationParameters":{"version":"1"}"#;
    bench.lab.foreign(second + 1, restore);
    assert!(cut(&bench).await.is_none(), "what progress was at version 1 may be asked for");
}
