//! The contract on a folder of plain files, as a reader of the folder sees it.

use std::path::{Path as FilePath, PathBuf};

use object_store::local::LocalFileSystem;
use uuid::Uuid;

use super::*;
use crate::config::LakeOptions;
use crate::lake::DeltaTable;
use crate::lake::tests::{
    Break, DURABLE, Lab, breaking, commit, copy, feed, fenced, next, part, replays_once, source,
    topic_id,
};
use crate::record::Blame;

const FORMATS: [LakeFormat; 2] = [LakeFormat::Parquet, LakeFormat::Jsonl];

fn plain_feed(format: LakeFormat) -> Arc<Feed> {
    let options = LakeOptions { format, ..LakeOptions::default() };
    Arc::new(Feed { lake: Some(options), ..(*feed()).clone() })
}

async fn open(store: &LakeStore, format: LakeFormat) -> PlainTable {
    PlainTable::open(store, plain_feed(format)).await.unwrap()
}

async fn table(lab: &Lab, format: LakeFormat) -> PlainTable {
    let table = open(&lab.store(), format).await;
    let start = Progress { next_offset: 0, topic_id: topic_id() };
    table.begin(&[(source(0), start), (source(1), start)]).await.unwrap();
    table
}

fn folder(lab: &Lab) -> PathBuf {
    lab.folder.path().join("streams/f")
}

/// The rows that somebody finds who reads all files of the folder but those with a hidden name.
fn visible(lab: &Lab) -> usize {
    let mut rows = 0;
    let mut folders = vec![folder(lab)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.file_name().unwrap().to_string_lossy().starts_with('_') {
                continue;
            }
            match path.is_dir() {
                true => folders.push(path),
                false => rows += rows_of(&path),
            }
        }
    }
    rows
}

fn rows_of(path: &FilePath) -> usize {
    let bytes = std::fs::read(path).unwrap();
    match path.extension().unwrap().to_str().unwrap() {
        "jsonl" => bytes.iter().filter(|byte| **byte == b'\n').count(),
        "parquet" => {
            let builder = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(
                bytes::Bytes::from(bytes),
            );
            builder.unwrap().metadata().file_metadata().num_rows() as usize
        }
        other => panic!("a file that readers would take: {other}"),
    }
}

fn count(folder: PathBuf) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_exact_next_range_lands() {
    for format in FORMATS {
        let lab = Lab::new();
        let table = table(&lab, format).await;
        assert_eq!(commit(&table, vec![part(0, 0..10, &[])]).await, [DURABLE]);
        assert_eq!(commit(&table, vec![part(0, 0..10, &[])]).await, [fenced(10)], "sent again");
        assert_eq!(commit(&table, vec![part(0, 5..15, &[])]).await, [fenced(10)], "overlaps");
        assert_eq!(commit(&table, vec![part(0, 11..15, &[])]).await, [fenced(10)], "a hole");
        assert_eq!(commit(&table, vec![part(0, 10..12, &[])]).await, [DURABLE]);
        assert_eq!(
            commit(&table, vec![part(2, 0..5, &[])]).await,
            [Verdict::Fenced { found: None }]
        );
        assert_eq!((next(&table, 0).await, visible(&lab)), (Some(12), 12));
        let read = PlainTable::read_progress(&lab.store(), "streams/f").await.unwrap();
        assert_eq!(read[&source(0)].next_offset, 12);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_never_land_one_range_twice() {
    let lab = Lab::new();
    let (one, other) = (table(&lab, FORMATS[0]).await, table(&lab, FORMATS[0]).await);
    let mut next = 0;
    for _ in 0..20 {
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
    assert_eq!(visible(&lab), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombies_staged_files_are_never_seen() {
    let lab = Lab::new();
    let (zombie, owner) = (table(&lab, FORMATS[1]).await, table(&lab, FORMATS[1]).await);
    let staged = zombie.stage(vec![part(0, 0..10, &[])]).await.unwrap();
    assert_eq!(visible(&lab), 0, "a crash before the link leaves nothing to see");
    assert_eq!(commit(&owner, vec![part(0, 0..7, &[])]).await, [DURABLE]);
    assert_eq!(zombie.commit(&[staged]).await.unwrap(), [[fenced(7)]]);
    assert_eq!(commit(&owner, vec![part(0, 7..9, &[])]).await, [DURABLE]);
    assert_eq!(visible(&lab), 9);
    assert_eq!(count(folder(&lab).join("_staged")), 1, "the zombie's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_lost_its_fence_takes_no_other_with_it() {
    let lab = Lab::new();
    let table = table(&lab, FORMATS[0]).await;
    let mixed = table.stage(vec![part(0, 5..10, &[]), part(1, 0..10, &[])]).await.unwrap();
    let follows = table.stage(vec![part(1, 10..20, &[])]).await.unwrap();
    let alone = table.stage(vec![part(0, 0..5, &[])]).await.unwrap();
    let verdicts = table.commit(&[mixed, follows, alone]).await.unwrap();
    assert_eq!(verdicts, [vec![fenced(0), DURABLE], vec![DURABLE], vec![DURABLE]]);
    assert_eq!(visible(&lab), 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_and_not_published_is_published_by_the_next() {
    for format in FORMATS {
        let lab = Lab::new();
        drop(table(&lab, format).await);
        let died = open(&breaking(&lab, Break::RefuseCopies, 1), format).await;
        let staged = died.stage(vec![part(0, 0..10, &[])]).await.unwrap();
        died.commit(std::slice::from_ref(&staged)).await.unwrap_err();
        assert_eq!(visible(&lab), 0, "not published");
        let read = PlainTable::read_progress(&lab.store(), "streams/f").await.unwrap();
        assert_eq!((read[&source(0)].next_offset, visible(&lab)), (10, 0), "looking moves nothing");
        let owner = table(&lab, format).await;
        assert_eq!((next(&owner, 0).await, visible(&lab)), (Some(10), 10));
        assert_eq!(commit(&owner, vec![part(0, 10..15, &[])]).await, [DURABLE]);
        // The one thought dead tries again: its own commit, whoever published it.
        assert_eq!(died.commit(&[staged]).await.unwrap(), [[DURABLE]]);
        assert_eq!((visible(&lab), count(folder(&lab).join("_staged"))), (15, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_was_lost_counts_once() {
    let lab = Lab::new();
    drop(table(&lab, FORMATS[0]).await);
    let table = open(&breaking(&lab, Break::LoseAnswers, 1), FORMATS[0]).await;
    assert_eq!(commit(&table, vec![part(0, 0..10, &[])]).await, [DURABLE]);
    assert_eq!(commit(&table, vec![part(0, 10..20, &[])]).await, [DURABLE]);
    assert_eq!(visible(&lab), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_set_by_hand_refuses_who_wrote_before() {
    let lab = Lab::new();
    let (old, owner) = (table(&lab, FORMATS[1]).await, table(&lab, FORMATS[1]).await);
    commit(&old, vec![part(0, 0..10, &[])]).await;
    let again = TopicId::new(Uuid::from_u128(8));
    let mut of_new = part(0, 10..20, &[]);
    of_new.topic_id = again;
    assert_eq!(commit(&owner, vec![of_new.clone()]).await, [fenced(10)], "another topic");
    let staged = old.stage(vec![part(0, 10..20, &[])]).await.unwrap();
    owner.reset(&source(0), Progress { next_offset: 0, topic_id: again }).await.unwrap();
    assert_eq!(old.commit(&[staged]).await.unwrap(), [[fenced(0)]]);
    // The same offsets come a second time, up to where the former chain stood and beyond.
    for range in [0..10, 10..20] {
        let mut of_new = part(0, range, &[]);
        of_new.topic_id = again;
        assert_eq!(commit(&owner, vec![of_new]).await, [DURABLE]);
    }
    let found = table(&lab, FORMATS[1]).await.progress().await.unwrap()[&source(0)];
    assert_eq!((found.next_offset, found.topic_id.get()), (20, again.get()));
    assert_eq!(visible(&lab), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_chain_is_walked_from_near_its_end() {
    let lab = Lab::new();
    let table = table(&lab, FORMATS[1]).await;
    for at in 0..20 {
        commit(&table, vec![part(0, at..at + 1, &[])]).await;
    }
    let chain = folder(&lab).join("_commits/t-0");
    for at in 0..10 {
        std::fs::remove_file(chain.join(format!("000000-{at:020}.json"))).unwrap();
    }
    assert_eq!(next(&open(&lab.store(), FORMATS[1]).await, 0).await, Some(20));
    // Not a word of the hint need be true.
    std::fs::write(chain.join("_last.json"), "{\"link\":\"nothing.json\"}").unwrap();
    assert_eq!(next(&open(&lab.store(), FORMATS[1]).await, 0).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_folder_copied_back_under_a_running_table_is_noticed() {
    let lab = Lab::new();
    let table = table(&lab, FORMATS[0]).await;
    commit(&table, vec![part(0, 0..10, &[])]).await;
    let backup = tempfile::tempdir().unwrap();
    copy(&folder(&lab), backup.path());
    commit(&table, vec![part(0, 10..20, &[])]).await;
    std::fs::remove_dir_all(folder(&lab)).unwrap();
    copy(backup.path(), &folder(&lab));
    assert_eq!(commit(&table, vec![part(0, 20..30, &[])]).await, [fenced(10)]);
    assert_eq!(commit(&table, vec![part(0, 10..20, &[])]).await, [DURABLE]);
    assert_eq!(visible(&lab), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_said_and_passed() {
    let lab = Lab::new();
    let table = table(&lab, FORMATS[0]).await;
    commit(&table, vec![part(0, 0..10, &[])]).await;
    let chain = || count(folder(&lab).join("_commits/t-0"));
    let before = chain();
    for (start, files) in [(5, 0), (10, 1), (10, 1)] {
        table.open_gap(&source(0), topic_id(), OffsetRange::new(start, 20)).await.unwrap();
        assert_eq!(chain() - before, files);
    }
    assert_eq!(next(&table, 0).await, Some(10), "it moves nothing");
    let skip = async |start| {
        let gap = OffsetRange::new(start, 20);
        table.record_gap(&source(0), TopicId::UNKNOWN, gap, GapReason::Expired).await
    };
    assert_eq!(skip(9).await.unwrap(), fenced(10));
    assert_eq!(skip(10).await.unwrap(), DURABLE);
    assert_eq!(next(&table, 0).await, Some(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_in_quarantine_before_the_rows_beside_them() {
    let lab = Lab::new();
    let table = table(&lab, FORMATS[1]).await;
    assert_eq!(commit(&table, vec![part(0, 0..10, &[3, 4])]).await, [DURABLE]);
    assert_eq!(commit(&table, vec![part(0, 0..10, &[3, 4])]).await, [fenced(10)]);
    assert_eq!(lab.rows("quarantine/f").await, 2);
    assert_eq!(visible(&lab), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tables_format_is_never_changed() {
    let lab = Lab::new();
    drop(table(&lab, LakeFormat::Parquet).await);
    let lines = open(&lab.store(), LakeFormat::Jsonl).await;
    let errors = [
        lines.progress().await.unwrap_err(),
        DeltaTable::open(&lab.store(), feed()).await.err().unwrap(),
    ];
    let lab = Lab::new();
    DeltaTable::open(&lab.store(), feed()).await.unwrap();
    let plain = PlainTable::open(&lab.store(), plain_feed(LakeFormat::Parquet)).await;
    for error in errors.into_iter().chain(plain.err()) {
        assert_eq!(error.blame, Blame::Lasting);
        assert!(error.message.contains("never changed"), "{error}");
    }
}

/// A rename within a disk, as a copy and a delete, leaves one file too.
#[tokio::test]
async fn publishing_twice_is_publishing_once() {
    let lab = Lab::new();
    let table = table(&lab, FORMATS[0]).await;
    let staged = table.stage(vec![part(0, 0..10, &[])]).await.unwrap();
    let path = &staged.files[0].path;
    let store = Arc::new(LocalFileSystem::new_with_prefix(folder(&lab)).unwrap());
    for staged in [true, false] {
        assert_eq!(table.publish_file(path).await.unwrap(), staged);
        assert_eq!((visible(&lab), count(folder(&lab).join("_staged"))), (10, 0));
    }
    assert!(store.head(&location(path)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_lands_once_beside_the_chain() {
    for format in FORMATS {
        let lab = Lab::new();
        let (table, other) = (table(&lab, format).await, open(&lab.store(), format).await);
        replays_once(&table, &other).await;
        assert_eq!((next(&table, 0).await, visible(&lab)), (Some(10), 10));
        assert_eq!(commit(&table, vec![part(0, 10..12, &[])]).await, [DURABLE]);
        let mut reading = PlainReading::default();
        let store = lab.store().below("streams/f");
        let overview = reading.read(store.as_ref()).await.unwrap().unwrap();
        assert_eq!((overview.total().rows, overview.offsets["t-0"]), (12, 12));
    }
}

/// A node that starts publishes what a replay has committed and, dying, did not publish.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_was_not_published_is() {
    let lab = Lab::new();
    let table = table(&lab, FORMATS[1]).await;
    assert_eq!(commit(&table, vec![part(0, 0..10, &[3])]).await, [DURABLE]);
    assert!(table.replay(part(0, 3..4, &[]), 0, "local:ada").await.unwrap());
    // Put back to where it was staged.
    let mut folders = vec![folder(&lab)];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with("-replayed.jsonl") {
                let staged = self::folder(&lab).join("_staged").join(format!("{name}.part"));
                std::fs::create_dir_all(staged.parent().unwrap()).unwrap();
                std::fs::rename(path, staged).unwrap();
            }
        }
    }
    assert_eq!(visible(&lab), 9);
    open(&lab.store(), FORMATS[1]).await.progress().await.unwrap();
    assert_eq!(visible(&lab), 10);
}
