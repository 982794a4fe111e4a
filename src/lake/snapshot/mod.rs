//! Snapshots: a table's last state, each in the place of the one before.
//!
//! A table that is not appended shows its state. Its records go exactly once into the changelog, a
//! hidden Delta table below; the snapshots are a Delta table themselves, whose every commit adds one
//! version's files and removes the former's, so a reader of the log sees exactly one version. The
//! commit says which version of the changelog it stands for, and the offsets that one has reached.
//!
//! * A snapshot is the last one and the changes committed to the changelog since, folded by key. It
//!   needs no owner and no claim: the next log entry is created only if it is absent, so of two nodes
//!   one wins, and the other's work is dropped.
//! * Its number is reserved before anything is staged, by a file that is created only if absent:
//!   numbers and folders are never used twice, even by a node that died in between. So whatever lies
//!   in a version's folder is of one attempt.
//! * Files go in two steps: the log removes them when the next version comes; they are deleted when
//!   enough versions have followed, the log's present version does not name them, and some time has
//!   passed. What was reserved and never committed goes with them. Nothing else is ever deleted.

mod fold;
mod state;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use deltalake_core::kernel::transaction::{CommitData, TransactionError};
use deltalake_core::kernel::{Action, Add, Transaction};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef};
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{info, warn};
use uuid::Uuid;

use self::fold::{Bucket, Failure, Fold, Origin};
use self::state::{Changes, State};
use super::columns::snapshot_columns;
use super::commit_loop::{self, CHECKPOINT_EVERY};
use super::delta::now_ms;
use super::encode::encode_file;
use super::fit::fit;
use super::log::{self, judged, judged_write, read_log};
use super::retry::{self, ATTEMPTS};
use super::{LakeStore, join};
use crate::config::{Feed, SnapshotOptions, Storage, VERSION};
use crate::layout::{Layout, Slot, is_replayed};
use crate::record::{SinkError, TopicPartition};
use crate::telemetry::fault;

/// Files that are fetched before they are folded.
const AHEAD: usize = 2;

/// What a fold may hold on a node with this budget: a part of it that no batch uses.
pub fn fold_limit(budget: usize) -> usize {
    (budget / 8).clamp(8 << 20, 256 << 20)
}

/// A snapshot, as the commit that made it says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    pub version: u64,
    pub taken_ms: i64,
    pub rows: u64,
    pub bytes: u64,
    pub files: Vec<String>,
    /// The changelog's table id, and the version that is folded.
    pub changes_of: String,
    pub changes: u64,
    /// Versions before it whose files are not deleted yet.
    #[serde(default)]
    pub kept: Vec<Kept>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    pub version: u64,
    pub replaced_ms: i64,
    pub files: Vec<String>,
}

/// What came of taking a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    New(Snapshot),
    /// Nothing changed since this one, or it is the only one there is to be.
    Unchanged(Snapshot),
    /// There is nothing to take one of, or the changelog has not come so far yet.
    TooEarly,
    /// Another node was faster.
    Another,
}

/// The snapshots of one feed.
pub struct Snapshots {
    feed: Arc<Feed>,
    lake: LakeStore,
    folder: String,
    store: Arc<dyn ObjectStore>,
    changes: Arc<dyn ObjectStore>,
    log: LogStoreRef,
    options: SnapshotOptions,
    /// Bytes that a fold may hold.
    limit: usize,
}

impl Snapshots {
    /// None for a feed whose table is appended.
    pub fn of(lake: &LakeStore, feed: &Arc<Feed>, limit: usize) -> Result<Option<Self>, SinkError> {
        let layout = Layout::of(feed).map_err(SinkError::lasting)?;
        let Some(folder) = layout.snapshots().map(str::to_owned) else { return Ok(None) };
        if feed.schema.columns.iter().any(|column| column.name.eq_ignore_ascii_case(VERSION)) {
            return Err(SinkError::lasting(format!(
                "feed {} has a column `{VERSION}`, which tells the snapshots apart: give it another \
                 `name` in the feed file, and keep its `path`",
                feed.name
            )));
        }
        Ok(Some(Self {
            feed: feed.clone(),
            lake: lake.clone(),
            store: lake.below(&folder),
            changes: lake.below(layout.folder()),
            log: lake.log_store(&folder)?,
            folder,
            options: feed.lake.as_ref().map(|options| options.snapshots()).unwrap_or_default(),
            limit,
        }))
    }

    pub fn every(&self) -> Duration {
        self.options.every.get()
    }

    /// The present snapshot, if there is one.
    pub async fn present(&self) -> Result<Option<Snapshot>, SinkError> {
        Ok(State::read(&self.log, self.store.as_ref()).await?.and_then(|state| state.present))
    }

    /// Takes a snapshot if anything changed; if `ends` are given, only once the changelog has reached
    /// them.
    pub async fn take(
        &self,
        ends: Option<&HashMap<TopicPartition, i64>>,
    ) -> Result<Taken, SinkError> {
        let state = self.opened().await?;
        let swept = self.sweep(&state).await?;
        let only_one = self.storage() == Storage::Ignore;
        if let (true, Some(present)) = (only_one, &state.present) {
            return Ok(Taken::Unchanged(present.clone()));
        }
        let Some(changes) = Changes::since(self.changes.as_ref(), &state).await? else {
            return Ok(Taken::TooEarly);
        };
        if ends.is_some_and(|ends| !changes.has_reached(ends)) {
            return Ok(Taken::TooEarly);
        }
        if changes.files.is_empty() {
            return Ok(state.present.map_or(Taken::TooEarly, Taken::Unchanged));
        }
        let attempt = self.reserve(&state).await?;
        let (snapshot, adds) = self.stage(&state, &changes, &attempt, &swept).await?;
        fault::point("lake.before_snapshot_commit");
        self.commit(state, &changes, snapshot, adds).await
    }

    fn storage(&self) -> Storage {
        self.feed.lake.as_ref().map(|options| options.storage).unwrap_or_default()
    }

    /// The table as it stands, made where it is absent.
    async fn opened(&self) -> Result<State, SinkError> {
        let mut state = State::read(&self.log, self.store.as_ref()).await?;
        if state.is_none() {
            let columns = snapshot_columns(&self.feed);
            commit_loop::create(&self.log, self.store.as_ref(), &columns, vec![VERSION]).await?;
            state = State::read(&self.log, self.store.as_ref()).await?;
        }
        let mut state =
            state.ok_or_else(|| SinkError::passing("the table of snapshots is not there"))?;
        let columns = snapshot_columns(&self.feed);
        if !state.has(&columns) {
            fit(&self.log, &columns, &[VERSION]).await?;
            let read = State::read(&self.log, self.store.as_ref()).await?;
            state = read.ok_or_else(|| SinkError::passing("the table of snapshots is gone"))?;
        }
        Ok(state)
    }

    /// A number of one's own. Whoever comes later has read the log later or takes a higher one, so
    /// numbers rise as the log does.
    async fn reserve(&self, state: &State) -> Result<Attempt, SinkError> {
        let reserved = self.reserved().await?.into_iter().max().unwrap_or(0);
        let present = state.present.as_ref().map_or(0, |present| present.version);
        let id = Uuid::new_v4();
        for version in reserved.max(present) + 1.. {
            let body = serde_json::to_vec(&Reservation { id }).map_err(SinkError::lasting)?;
            let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(&reservation(version), body.into(), create).await {
                Ok(_) => return Ok(Attempt { version, id }),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(error) => return Err(judged_write(&error).context("reserving a version")),
            }
        }
        unreachable!("versions do not run out")
    }

    /// Folds and writes the files of a new version. Nothing refers to them yet.
    async fn stage(
        &self,
        state: &State,
        changes: &Changes,
        attempt: &Attempt,
        swept: &[u64],
    ) -> Result<(Snapshot, Vec<Add>), SinkError> {
        let now = chrono::Utc::now();
        let name = format!("snapshot_{}_{}", now.format("%Y%m%d_%H%M%S"), attempt.id.simple());
        let mut adds: Vec<Add> = Vec::new();
        let mut rows = 0;
        // Half of what the last one needed: a table may shrink.
        let before = state.present.as_ref().map_or(0, |present| present.files.len());
        let mut left = Bucket::deal(before / 2);
        while let Some(bucket) = left.pop() {
            let (encoded, count) = match self.fold(state, changes, bucket).await? {
                Some(folded) => folded,
                None => {
                    left.extend(bucket.halves().into_iter().flatten());
                    continue;
                }
            };
            // A version without any row has a file all the same, which tells its columns.
            if count == 0 && (!left.is_empty() || !adds.is_empty()) {
                continue;
            }
            let part = if adds.is_empty() { String::new() } else { format!("-{}", adds.len()) };
            let path = format!("{VERSION}=v{}/{name}{part}.parquet", attempt.version);
            adds.push(self.put(path, attempt.version, encoded, count).await?);
            rows += count as u64;
        }
        let former = state.present.iter().map(|present| Kept {
            version: present.version,
            replaced_ms: now.timestamp_millis(),
            files: present.files.clone(),
        });
        let earlier = state.present.iter().flat_map(|present| present.kept.iter().cloned());
        let kept = former.chain(earlier.filter(|kept| !swept.contains(&kept.version)));
        let snapshot = Snapshot {
            version: attempt.version,
            taken_ms: now.timestamp_millis(),
            rows,
            bytes: adds.iter().map(|add| add.size as u64).sum(),
            files: adds.iter().map(|add| add.path.clone()).collect(),
            changes_of: changes.id.clone(),
            changes: changes.version,
            kept: kept.collect(),
        };
        Ok((snapshot, adds))
    }

    async fn put(
        &self,
        path: String,
        version: u64,
        encoded: Vec<u8>,
        rows: usize,
    ) -> Result<Add, SinkError> {
        let size = encoded.len() as i64;
        self.store
            .put(&join(&Path::default(), &path), encoded.into())
            .await
            .map_err(|error| judged_write(&error).context(format!("staging {path}")))?;
        Ok(Add {
            path,
            partition_values: [(VERSION.to_owned(), Some(format!("v{version}")))].into(),
            size,
            modification_time: now_ms(),
            data_change: true,
            stats: Some(json!({"numRecords": rows}).to_string()),
            ..Add::default()
        })
    }

    /// One bucket's state as a file, and how many rows it has; none if it is too large.
    async fn fold(
        &self,
        state: &State,
        changes: &Changes,
        bucket: Bucket,
    ) -> Result<Option<(Vec<u8>, usize)>, SinkError> {
        let base = if changes.whole { Vec::new() } else { state.base() };
        let base = base.into_iter().map(|path| (self.store.clone(), path, Origin::Base));
        let since = changes.files.iter().map(|(path, version)| {
            let origin = Origin::Change { commit: *version, replayed: is_replayed(path) };
            (self.changes.clone(), path.clone(), origin)
        });
        let mut fetches = Vec::new();
        for (store, path, origin) in base.chain(since) {
            fetches.push(fetch(store, path, origin));
        }
        let mut fetched = stream::iter(fetches).buffered(AHEAD);
        let unreadable = |path: &str, failure: Failure| match failure {
            Failure::Unreadable(error) => Some(SinkError::lasting(format!("{path}: {error}"))),
            Failure::TooLarge => None,
        };
        let mut fold = Fold::new(&self.feed.schema, bucket, self.limit)
            .map_err(|failure| SinkError::lasting(format!("{failure:?}")))?;
        while let Some((path, bytes, origin)) = fetched.try_next().await? {
            let took = tokio::task::spawn_blocking(move || {
                let outcome = fold.take(bytes, origin);
                outcome.map(|()| fold)
            });
            fold = match took.await.map_err(died)? {
                Ok(fold) => fold,
                Err(failure) => return unreadable(&path, failure).map_or(Ok(None), Err),
            };
        }
        let schema = self.feed.schema.arrow();
        let level = self.feed.lake.as_ref().map_or(1, |options| options.zstd_level);
        let encoded = tokio::task::spawn_blocking(move || {
            let rows = fold.finish()?;
            let count = rows.iter().map(|batch| batch.num_rows()).sum();
            let file = encode_file(Slot::EPOCH, &schema, rows.into_iter().map(Ok), level)?;
            Ok::<_, Failure>((file.bytes, count))
        });
        match encoded.await.map_err(died)? {
            Ok(encoded) => Ok(Some(encoded)),
            Err(failure) => unreadable(&self.folder, failure).map_or(Ok(None), Err),
        }
    }

    /// Puts the new version in the place of the former, unless another node did.
    async fn commit(
        &self,
        mut state: State,
        changes: &Changes,
        snapshot: Snapshot,
        adds: Vec<Add>,
    ) -> Result<Taken, SinkError> {
        let (id, mut unknown) = (Uuid::new_v4(), 0);
        let former = state.present.as_ref().map(|present| present.version);
        for _ in 0..ATTEMPTS {
            let version = state.version + 1;
            let bytes = entry(&state, changes, &snapshot, &adds, id)?;
            let written = self.log.write_commit_entry(version, CommitOrBytes::LogBytes(bytes), id);
            match written.await {
                Ok(()) => return Ok(self.landed(version, snapshot)),
                Err(TransactionError::VersionAlreadyExists(_)) => {}
                Err(error) => {
                    warn!(target: "tidegate::lake", feed = %self.feed.name, version, %error, "a snapshot's outcome is unknown: reading the log");
                    unknown += 1;
                    if unknown > 1 {
                        return Err(SinkError::passing(format!(
                            "writing log entry {version}: {error}"
                        )));
                    }
                }
            }
            // Ours after all, if its answer was lost.
            let there = read_log(self.store.as_ref(), version).await?;
            if there.is_some_and(|file| file.is_commit(id)) {
                return Ok(self.landed(version, snapshot));
            }
            state = self.opened().await?;
            if state.present.as_ref().map(|present| present.version) != former {
                info!(target: "tidegate::lake", feed = %self.feed.name, "another node took a snapshot first");
                if unknown == 0 {
                    self.delete(&snapshot.files).await;
                    self.lake
                        .remove_empty(&format!("{}/{VERSION}=v{}", self.folder, snapshot.version));
                }
                return Ok(Taken::Another);
            }
        }
        Err(retry::lost().context("taking a snapshot"))
    }

    fn landed(&self, version: u64, snapshot: Snapshot) -> Taken {
        if version.is_multiple_of(CHECKPOINT_EVERY) {
            commit_loop::checkpoint(self.log.clone(), version);
        }
        info!(target: "tidegate::lake", feed = %self.feed.name, version = snapshot.version, rows = snapshot.rows, bytes = snapshot.bytes, "snapshot taken");
        Taken::New(snapshot)
    }

    /// Deletes files below the table's folder. What cannot be deleted is tried again at the next
    /// snapshot.
    async fn delete(&self, files: &[String]) -> bool {
        let mut all = true;
        for file in files {
            match self.store.delete(&join(&Path::default(), file)).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => {
                    warn!(target: "tidegate::lake", feed = %self.feed.name, file, %error, "a file of a former snapshot could not be deleted yet");
                    all = false;
                }
            }
        }
        all
    }
}

/// A reserved number, and the id in the names of its files.
struct Attempt {
    version: u64,
    id: Uuid,
}

#[derive(Serialize, Deserialize)]
struct Reservation {
    id: Uuid,
}

const RESERVATIONS: &str = "_snapshots";

fn reservation(version: u64) -> Path {
    Path::from_iter([RESERVATIONS.to_owned(), format!("v{version}.json")])
}

fn died(error: tokio::task::JoinError) -> SinkError {
    SinkError::passing(format!("folding: {error}"))
}

async fn fetch(
    store: Arc<dyn ObjectStore>,
    path: String,
    origin: Origin,
) -> Result<(String, bytes::Bytes, Origin), SinkError> {
    let location = Path::from_url_path(&path).map_err(SinkError::lasting)?;
    let got = match store.get(&location).await {
        Ok(got) => got.bytes().await,
        Err(Error::NotFound { .. }) => {
            return Err(SinkError::lasting(format!(
                "{path} is gone, which the next snapshot is made of: restore it from a backup"
            )));
        }
        Err(error) => Err(error),
    };
    let bytes = got.map_err(|error| judged(&error).context(format!("reading {path}")))?;
    Ok((path, bytes, origin))
}

fn entry(
    state: &State,
    changes: &Changes,
    snapshot: &Snapshot,
    adds: &[Add],
    id: Uuid,
) -> Result<bytes::Bytes, SinkError> {
    let now = now_ms();
    let removes = state.live.iter().map(|file| Action::Remove(file.remove_action(true)));
    let adds = adds.iter().cloned().map(Action::Add);
    let txns = changes.marks.all().into_iter().map(|(source, progress)| {
        let app_id = log::app_id(&source, progress.topic_id);
        Transaction::new_with_last_update(app_id, progress.next_offset, Some(now))
    });
    let operation = DeltaOperation::Write {
        mode: SaveMode::Overwrite,
        partition_by: Some(vec![VERSION.to_owned()]),
        predicate: None,
    };
    let said = HashMap::from([
        ("tidegateCommit".to_owned(), json!(id)),
        ("tidegateSnapshot".to_owned(), json!(snapshot)),
    ]);
    CommitData::new(removes.chain(adds).collect(), operation, said, txns.collect())
        .get_bytes()
        .map_err(SinkError::lasting)
}
