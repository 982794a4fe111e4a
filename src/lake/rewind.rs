//! Progress set back by hand, in a commit of its own, after a Delta RESTORE.
//!
//! A RESTORE takes rows away and leaves `txn`s as they are, so a node would go on behind rows that are
//! no longer there. What they were at the version restored to is in the log.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use deltalake_core::kernel::Transaction;
use deltalake_core::kernel::transaction::{CommitData, TransactionError};
use deltalake_core::logstore::CommitOrBytes;
use deltalake_core::protocol::{DeltaOperation, OutputMode};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use uuid::Uuid;

use super::LakeStore;
use super::log::{
    CommitInfo, CommitLine, LogFile, Txn, Watermarks, judged, parse_app_id, read_log,
};
use super::retry::{self, ATTEMPTS};
use crate::record::{Progress, SinkError, TopicPartition};

/// What a rewind did.
#[derive(Debug)]
pub struct Rewound {
    /// The version of the RESTORE.
    pub restore: u64,
    /// The version whose rows the table has again.
    pub target: u64,
    /// Progress before and after; none is a partition that begins anew.
    pub partitions: Vec<(TopicPartition, Option<i64>, Option<i64>)>,
}

type Txns = BTreeMap<String, Txn>;

/// Sets the progress of the table in `folder` back to what it was at the version that a RESTORE brought back.
/// Answers none if no RESTORE is unsettled.
pub async fn rewind(store: &LakeStore, folder: &str) -> Result<Option<Rewound>, SinkError> {
    for _ in 0..ATTEMPTS {
        let table = store.below(folder);
        let versions = Versions::list(table.as_ref()).await?;
        let Some(latest) = versions.latest() else { return Ok(None) };
        let Some((restore, target)) = unsettled(table.as_ref(), &versions, latest).await? else {
            return Ok(None);
        };
        let (then, now) = replay(table.as_ref(), &versions, target, latest).await?;
        let txns = set_back(&then, &now);
        if commit(store, folder, latest + 1, txns, HashMap::new()).await? {
            let partitions = partitions(&now, &then);
            return Ok(Some(Rewound { restore, target, partitions }));
        }
    }
    Err(retry::lost())
}

/// Takes the progress of the table in `folder` as true although the log that could deny it is gone: a commit
/// of ours says so from now on. Answers false if the log still tells by itself.
pub async fn trust(store: &LakeStore, folder: &str) -> Result<bool, SinkError> {
    for _ in 0..ATTEMPTS {
        let table = store.below(folder);
        let Some(latest) = Versions::list(table.as_ref()).await?.latest() else { return Ok(false) };
        match before(table.as_ref(), latest).await? {
            Before::Gone(_) => {}
            Before::Restore(version, _) => {
                return Err(SinkError::lasting(format!(
                    "version {version} is a RESTORE: `--rewind-lake` settles it"
                )));
            }
            Before::Ours | Before::Nothing => return Ok(false),
        }
        if commit(store, folder, latest + 1, Vec::new(), HashMap::new()).await? {
            return Ok(true);
        }
    }
    Err(retry::lost())
}

/// The versions whose entries and checkpoints are there.
struct Versions {
    entries: Vec<u64>,
    checkpoints: Vec<u64>,
}

impl Versions {
    async fn list(table: &dyn ObjectStore) -> Result<Self, SinkError> {
        let folder = Path::from("_delta_log");
        let listed: Vec<_> = table
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|error| judged(&error).context("listing the lake table's log"))?;
        let of_kind = |wanted: &str| {
            let names = listed.iter().filter_map(|meta| meta.location.filename());
            let named = names.filter_map(|name| name.split_once('.'));
            let chosen = named.filter(|(_, kind)| *kind == wanted);
            let mut versions: Vec<u64> =
                chosen.filter_map(|(version, _)| version.parse().ok()).collect();
            versions.sort_unstable();
            versions
        };
        Ok(Self { entries: of_kind("json"), checkpoints: of_kind("checkpoint.parquet") })
    }

    fn latest(&self) -> Option<u64> {
        self.entries.last().copied()
    }
}

/// The RESTORE before `latest` that no commit of ours followed, and the version whose rows the table
/// has since: that of the first in a row of RESTOREs of RESTOREs.
async fn unsettled(
    table: &dyn ObjectStore,
    versions: &Versions,
    latest: u64,
) -> Result<Option<(u64, u64)>, SinkError> {
    let mut found: Option<(u64, u64)> = None;
    let mut at = latest;
    loop {
        match before(table, at).await? {
            Before::Restore(version, info) => {
                at = target_of(table, versions, version, &info).await?;
                found = Some((found.map_or(version, |(restore, _)| restore), at));
            }
            Before::Gone(version) if found.is_none() => {
                return Err(SinkError::lasting(format!(
                    "the log's entries up to version {version} are gone, and none of ours came \
                     after: whether there was a RESTORE cannot be known"
                )));
            }
            Before::Ours | Before::Nothing | Before::Gone(_) => return Ok(found),
        }
    }
}

/// What the log says last, of what tells whether progress and rows belong together.
pub(super) enum Before {
    /// A commit of ours. What a RESTORE before it did cannot be undone by progress alone: it was
    /// settled, or rows were written behind it that would come twice.
    Ours,
    Restore(u64, CommitInfo),
    /// Neither, back to the log's beginning.
    Nothing,
    /// Neither, as far as there are entries: this one is not there.
    Gone(u64),
}

/// Walks back from `latest`, which it looks at too.
pub(super) async fn before(table: &dyn ObjectStore, latest: u64) -> Result<Before, SinkError> {
    for version in (0..=latest).rev() {
        let Some(LogFile { lines, .. }) = read_log(table, version).await? else {
            return Ok(Before::Gone(version));
        };
        let infos = lines.into_iter().filter_map(|line| match line {
            CommitLine::CommitInfo(info) => Some(info),
            _ => None,
        });
        for info in infos {
            if info.tidegate_commit.is_some() {
                return Ok(Before::Ours);
            }
            if info.operation.as_deref() == Some("RESTORE") {
                return Ok(Before::Restore(version, info));
            }
        }
    }
    Ok(Before::Nothing)
}

/// The version that a RESTORE says it brought back. Writers spell numbers as text or as numbers.
async fn target_of(
    table: &dyn ObjectStore,
    versions: &Versions,
    restore: u64,
    info: &CommitInfo,
) -> Result<u64, SinkError> {
    let number = |name: &str| match info.operation_parameters.as_ref()?.get(name)? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    if let Some(version) = number("version").and_then(|version| u64::try_from(version).ok())
        && version < restore
    {
        return Ok(version);
    }
    let Some(datetime) = number("datetime") else {
        return Err(SinkError::lasting(format!(
            "the RESTORE of version {restore} does not say which version it brought back; restore \
             once more, by version"
        )));
    };
    // As the library does it: by the time the entries were written.
    for version in versions.entries.iter().rev().filter(|version| **version < restore) {
        let Some(file) = read_log(table, *version).await? else { continue };
        if file.meta.last_modified.timestamp_millis() <= datetime {
            return Ok(*version);
        }
    }
    Err(SinkError::lasting(format!(
        "no entry of the log is as old as the time that the RESTORE of version {restore} names; \
         restore once more, by version"
    )))
}

/// Our `txn`s as they were at `target`, and as they are at `latest`.
async fn replay(
    table: &dyn ObjectStore,
    versions: &Versions,
    target: u64,
    latest: u64,
) -> Result<(Txns, Txns), SinkError> {
    let mut txns = Txns::new();
    let mut next = 0;
    if versions.entries.first().is_some_and(|first| *first > 0) {
        let before = versions.checkpoints.iter().rev().find(|version| **version <= target);
        let version = *before.ok_or_else(|| {
            SinkError::lasting(format!(
                "the log's entries up to version {target} are gone: what the progress was there \
                 cannot be known"
            ))
        })?;
        txns = checkpoint_txns(table, version).await?;
        next = version + 1;
    }
    let mut then = if next > target { txns.clone() } else { Txns::new() };
    for version in next..=latest {
        let file = read_log(table, version).await?.ok_or_else(|| {
            SinkError::lasting(format!("entry {version} of the lake table's log is missing"))
        })?;
        for line in file.lines {
            if let CommitLine::Txn(txn) = line
                && parse_app_id(&txn.app_id).is_some()
            {
                txns.insert(txn.app_id.clone(), txn);
            }
        }
        if version == target {
            then = txns.clone();
        }
    }
    then.retain(|_, txn| txn.version >= 0);
    Ok((then, txns))
}

async fn checkpoint_txns(table: &dyn ObjectStore, version: u64) -> Result<Txns, SinkError> {
    let name = format!("{version:020}.checkpoint.parquet");
    let damaged =
        |error: &dyn std::fmt::Display| SinkError::lasting(format!("checkpoint {name}: {error}"));
    let path = Path::from(format!("_delta_log/{name}"));
    let got = table.get(&path).await.map_err(|error| judged(&error))?;
    let bytes = got.bytes().await.map_err(|error| judged(&error))?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| damaged(&error))?;
    let columns = ["txn.appId", "txn.version", "txn.lastUpdated"];
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns);
    let mut txns = Txns::new();
    for batch in builder.with_projection(mask).build().map_err(|error| damaged(&error))? {
        let batch = batch.map_err(|error| damaged(&error))?;
        let Some(txn) = batch.column_by_name("txn").and_then(|it| it.as_struct_opt()) else {
            continue;
        };
        let ids = txn.column_by_name("appId").and_then(|it| it.as_string_opt::<i32>());
        let long =
            |name| txn.column_by_name(name).and_then(|it| it.as_primitive_opt::<Int64Type>());
        let (Some(ids), Some(versions)) = (ids, long("version")) else { continue };
        let updated = long("lastUpdated");
        for row in (0..batch.num_rows()).filter(|row| txn.is_valid(*row) && ids.is_valid(*row)) {
            let app_id = ids.value(row).to_owned();
            if parse_app_id(&app_id).is_some() {
                let last_updated = updated.filter(|at| at.is_valid(row)).map(|at| at.value(row));
                let version = versions.value(row);
                txns.insert(app_id.clone(), Txn { app_id, version, last_updated });
            }
        }
    }
    Ok(txns)
}

/// The `txn`s that make what is `now` what it was `then`. Those that were not there come first, and
/// long ago: of two topics of one name the one written later counts.
fn set_back(then: &Txns, now: &Txns) -> Vec<Transaction> {
    let absent = now
        .keys()
        .filter(|app_id| !then.contains_key(*app_id))
        .map(|app_id| Transaction::new_with_last_update(app_id.clone(), -1, Some(0)));
    let present = then.values().map(|txn| {
        let Txn { app_id, version, last_updated } = txn;
        Transaction::new_with_last_update(app_id.clone(), *version, *last_updated)
    });
    absent.chain(present).collect()
}

fn partitions(now: &Txns, then: &Txns) -> Vec<(TopicPartition, Option<i64>, Option<i64>)> {
    let marks = |txns: &Txns| {
        let mut marks = Watermarks::default();
        txns.values().for_each(|txn| marks.apply(txn));
        marks.all()
    };
    let (now, then) = (marks(now), marks(then));
    let offset = |progress: Option<&Progress>| progress.map(|progress| progress.next_offset);
    let mut partitions: Vec<_> = now
        .iter()
        .map(|(source, found)| (source.clone(), Some(found.next_offset), offset(then.get(source))))
        .collect();
    partitions.sort();
    partitions
}

/// Writes `version`. Answers false if another writer has.
async fn commit(
    store: &LakeStore,
    folder: &str,
    version: u64,
    txns: Vec<Transaction>,
    said: HashMap<String, Value>,
) -> Result<bool, SinkError> {
    let id = Uuid::new_v4();
    let operation = DeltaOperation::StreamingUpdate {
        output_mode: OutputMode::Append,
        query_id: "tidegate resolve".to_owned(),
        epoch_id: chrono::Utc::now().timestamp_millis(),
    };
    let mut metadata = said;
    metadata.insert("tidegateCommit".to_owned(), json!(id));
    metadata.insert("tidegateRows".to_owned(), json!(0));
    let bytes = CommitData::new(Vec::new(), operation, metadata, txns)
        .get_bytes()
        .map_err(SinkError::lasting)?;
    let log = store.log_store(folder)?;
    let outcome = log.write_commit_entry(version, CommitOrBytes::LogBytes(bytes), id).await;
    match outcome {
        Ok(()) => Ok(true),
        Err(TransactionError::VersionAlreadyExists(_)) => Ok(false),
        // Whether it landed is in the log.
        Err(error) => match read_log(store.below(folder).as_ref(), version).await? {
            Some(file) => Ok(file.is_commit(id)),
            None => Err(SinkError::passing(format!("writing the lake table's log: {error}"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::DeltaTable;

    const FOLDER: &str = "streams/f";

    const IDS: [&str; 2] = ["00000000000000000000000000000001", "00000000000000000000000000000002"];

    fn line(partition: i32, id: usize, version: i64, at: i64) -> String {
        let app_id = format!("tidegate:t:{partition}:{}", IDS[id]);
        json!({"txn": {"appId": app_id, "version": version, "lastUpdated": at}}).to_string()
    }

    fn ours() -> String {
        json!({"commitInfo": {"operation": "STREAMING UPDATE", "tidegateCommit": Uuid::nil()}})
            .to_string()
    }

    fn restore(parameters: Value) -> String {
        json!({"commitInfo": {"operation": "RESTORE", "operationParameters": parameters}})
            .to_string()
    }

    async fn lake(entries: &[Vec<String>]) -> (tempfile::TempDir, LakeStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = LakeStore::open_local(folder.path()).unwrap();
        let table = store.below(FOLDER);
        for (version, lines) in entries.iter().enumerate() {
            let path = Path::from(format!("_delta_log/{version:020}.json"));
            table.put(&path, lines.join("\n").into()).await.unwrap();
        }
        (folder, store)
    }

    async fn progress(store: &LakeStore) -> Vec<(TopicPartition, i64)> {
        let progress = DeltaTable::read_progress(store, FOLDER).await.unwrap();
        let mut progress: Vec<_> =
            progress.into_iter().map(|(source, found)| (source, found.next_offset)).collect();
        progress.sort();
        progress
    }

    fn source(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    #[tokio::test]
    async fn progress_is_what_it_was_at_the_version_restored() {
        let history = vec![
            vec![ours(), line(0, 0, 0, 1)],
            vec![ours(), line(0, 0, 10, 2)],
            // The topic is made again, and a partition is added.
            vec![ours(), line(0, 1, 5, 3), line(1, 1, 7, 3)],
        ];
        for parameters in [json!({"version": "1"}), json!({"version": 1})] {
            let mut entries = history.clone();
            entries.push(vec![restore(parameters)]);
            let (_folder, store) = lake(&entries).await;
            let rewound = rewind(&store, FOLDER).await.unwrap().unwrap();
            assert_eq!((rewound.restore, rewound.target), (3, 1));
            assert_eq!(progress(&store).await, [(source(0), 10)]);
            let expected = [(source(0), Some(5), Some(10)), (source(1), Some(7), None)];
            assert_eq!(rewound.partitions, expected);
            assert!(rewind(&store, FOLDER).await.unwrap().is_none(), "settled");
        }
        let (_folder, store) = lake(&history).await;
        assert!(rewind(&store, FOLDER).await.unwrap().is_none(), "never restored");
    }

    #[tokio::test]
    async fn a_restore_of_a_restore_goes_back_to_the_rows() {
        let entries = vec![
            vec![ours(), line(0, 0, 0, 1)],
            vec![ours(), line(0, 0, 10, 2)],
            vec![ours(), line(0, 0, 20, 3)],
            vec![restore(json!({"version": "1"}))],
            vec![restore(json!({"version": "0"}))],
            vec![restore(json!({"version": "3"}))],
        ];
        let (_folder, store) = lake(&entries).await;
        let rewound = rewind(&store, FOLDER).await.unwrap().unwrap();
        assert_eq!((rewound.restore, rewound.target), (5, 1));
        assert_eq!(progress(&store).await, [(source(0), 10)]);
    }

    #[tokio::test]
    async fn a_restore_by_time_goes_by_the_entries_own() {
        let (_folder, store) =
            lake(&[vec![ours(), line(0, 0, 0, 1)], vec![ours(), line(0, 0, 10, 2)]]).await;
        let table = store.below(FOLDER);
        let now = chrono::Utc::now().timestamp_millis();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let put = async |version: u64, lines: Vec<String>| {
            let path = Path::from(format!("_delta_log/{version:020}.json"));
            table.put(&path, lines.join("\n").into()).await.unwrap();
        };
        put(2, vec![ours(), line(0, 0, 30, 3)]).await;
        put(3, vec![restore(json!({"datetime": (now + 10).to_string()}))]).await;
        assert_eq!(rewind(&store, FOLDER).await.unwrap().unwrap().target, 1);
        assert_eq!(progress(&store).await, [(source(0), 10)]);
    }
}
