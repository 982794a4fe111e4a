//! A Delta log and the loop that commits to it.
//!
//! The loop is ours because the library never compares a `txn`'s value, only whether somebody touched
//! it since the snapshot it was handed. Here each attempt reads the log to its end at version V,
//! compares what it builds on with V, and writes V+1 with a conditional create. Any doubt about the
//! outcome is settled by reading the log again: our commit id is there, or it is not.

use std::collections::HashMap;
use std::sync::Arc;

use deltalake_core::DeltaTable as Library;
use deltalake_core::checkpoints::create_checkpoint;
use deltalake_core::kernel::StructField;
use deltalake_core::kernel::transaction::{CommitProperties, TransactionError};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::SaveMode;
use deltalake_core::{DeltaTableError, TableProperty};
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::sync::Mutex;
use tracing::{debug, warn};
use uuid::Uuid;

use super::change::Change;
use super::delta::{judged_delta, now_ms};
use super::encode::Encoded;
use super::fit::fit;
use super::log::{
    self, CommitLine, Watermarks, entry_path, judged_write, read_checkpoint, read_log,
};
use super::retry::{self, ATTEMPTS};
use super::rewind::{Before, before};
use super::upkeep::LEAST_LOG;
use super::{LakeStore, StagedFile};
use crate::layout::{First, Layout};
use crate::record::{Blame, Progress, SinkError, TopicId, TopicPartition};
use crate::telemetry::fault;

/// A checkpoint is written every so many versions.
pub const CHECKPOINT_EVERY: u64 = 100;

/// One Delta log: its store, and what is known of its latest version.
pub struct Log {
    pub store: Arc<dyn ObjectStore>,
    pub log: LogStoreRef,
    pub layout: Arc<Layout>,
    columns: Vec<StructField>,
    pub state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    /// The latest version read; none before the first.
    pub version: Option<u64>,
    /// That version's entry, to notice that the log was replaced under us.
    entry: Option<ObjectMeta>,
    pub marks: Watermarks,
    /// Where gaps begin that this log has recorded as open, as far back as it was read.
    pub open_gaps: HashMap<TopicPartition, i64>,
    standing: Standing,
    /// Another writer changed the table's shape: it must be checked again.
    reshaped: bool,
    /// Attempts in a row whose outcome the store did not tell.
    unknown: u32,
}

/// Whether progress and rows belong together: a RESTORE takes rows away and leaves progress.
#[derive(Default)]
enum Standing {
    /// They do: no RESTORE came after the last commit of ours.
    #[default]
    Together,
    /// Not known yet: read from this checkpoint on, which does not keep what came before it.
    Since(u64),
    /// A RESTORE that none of our commits followed.
    Restored(u64),
    /// The entry of this version, which could have told, is gone.
    Gone(u64),
}

impl State {
    pub fn refuse_after_restore(&self, feed: &str) -> Result<(), SinkError> {
        match self.standing {
            Standing::Together | Standing::Since(_) => Ok(()),
            Standing::Restored(version) => Err(SinkError::lasting(format!(
                "the lake table of feed {feed} was rolled back by a Delta RESTORE (version {version}): \
                 its rows went back but its progress did not. `tidegate resolve --feed {feed} \
                 --rewind-lake` sets the progress back too, and the rows are read again"
            ))),
            Standing::Gone(version) => Err(SinkError::lasting(format!(
                "the log of the lake table of feed {feed} is gone up to version {version}, and none \
                 of its own commits came after: whether a Delta RESTORE took rows away cannot be \
                 known. If `tidegate verify --feed {feed}` finds no row lost, `tidegate resolve \
                 --feed {feed} --trust-lake` lets it go on"
            ))),
        }
    }

    /// Takes up one log entry; answers the id if it is a commit of ours.
    fn apply(&mut self, file: log::LogFile) -> Option<Uuid> {
        let mut ours = None;
        let mut restored = false;
        for line in file.lines {
            match line {
                CommitLine::Txn(txn) => self.marks.apply(&txn),
                CommitLine::CommitInfo(info) => {
                    ours = info.tidegate_commit.or(ours);
                    restored |= info.operation.as_deref() == Some("RESTORE");
                    if let Some(gap) = info.tidegate_gap.filter(|gap| !gap.settled) {
                        let source = TopicPartition::new(gap.topic, gap.partition);
                        self.open_gaps.insert(source, gap.from);
                    }
                }
                CommitLine::MetaData(_) | CommitLine::Protocol(_) => self.reshaped = true,
                CommitLine::Add(_) | CommitLine::Remove(_) | CommitLine::Other(_) => {}
            }
        }
        if restored {
            self.standing = Standing::Restored(file.version);
        } else if ours.is_some() {
            self.standing = Standing::Together;
        }
        self.version = Some(file.version);
        self.entry = Some(file.meta);
        ours
    }
}

impl Log {
    pub async fn open(
        store: &LakeStore,
        layout: Layout,
        columns: Vec<StructField>,
    ) -> Result<Self, SinkError> {
        let log = store.log_store(layout.folder())?;
        let below = store.below(layout.folder());
        let state = Mutex::new(State::default());
        let table = Self { store: below, log, layout: Arc::new(layout), columns, state };
        let mut state = table.state.lock().await;
        table.reload(&mut state).await?;
        drop(state);
        Ok(table)
    }

    /// Reads everything anew: at the start, and when the log is not the one we knew.
    async fn reload(&self, state: &mut State) -> Result<(), SinkError> {
        *state = State::default();
        Self::replay(self.store.as_ref(), state).await?;
        if state.version.is_none() {
            self.create().await?;
            Self::replay(self.store.as_ref(), state).await?;
        }
        self.check().await?;
        state.reshaped = false;
        Ok(())
    }

    pub async fn replay(
        store: &dyn ObjectStore,
        state: &mut State,
    ) -> Result<Vec<Uuid>, SinkError> {
        if state.version.is_none()
            && let Some((version, marks)) = read_checkpoint(store).await?
        {
            state.marks = marks;
            state.standing = Standing::Since(version);
            // The entry itself too, to know the log again by.
            match read_log(store, version).await? {
                Some(file) => drop(state.apply(file)),
                None => state.version = Some(version),
            }
        }
        let mut seen = Vec::new();
        let mut next = state.version.map_or(0, |version| version + 1);
        while let Some(file) = read_log(store, next).await? {
            seen.extend(state.apply(file));
            next += 1;
        }
        if let Standing::Since(version) = state.standing {
            state.standing = match before(store, version).await? {
                Before::Ours | Before::Nothing => Standing::Together,
                Before::Restore(version, _) => Standing::Restored(version),
                // No progress, nothing that a RESTORE could have left behind.
                Before::Gone(_) if state.marks.all().is_empty() => Standing::Together,
                // A stop that proves needless costs a look. To go on behind rows that were taken
                // away loses them without a word. It is rare: our tables keep their log.
                Before::Gone(version) => Standing::Gone(version),
            };
        }
        Ok(seen)
    }

    async fn create(&self) -> Result<(), SinkError> {
        create(&self.log, self.store.as_ref(), &self.columns, self.layout.columns()).await
    }

    async fn check(&self) -> Result<(), SinkError> {
        fit(&self.log, &self.columns, &self.layout.columns()).await
    }

    /// Reads the log to its end. Answers the ids of our commits among what is new.
    pub async fn refresh(&self, state: &mut State) -> Result<Vec<Uuid>, SinkError> {
        if let (Some(version), Some(known)) = (state.version, &state.entry) {
            // A folder restored from a backup has another entry at our version, or none.
            if !log::stands(self.store.as_ref(), &entry_path(version), known).await? {
                warn!(target: "tidegate::lake", table = %self.log.root_url(), version, "the log was replaced: reading it anew");
                self.reload(state).await?;
                return Ok(Vec::new());
            }
        }
        // An entry that is not known could not be missed.
        if state.version.is_some() && state.entry.is_none() {
            self.reload(state).await?;
            return Ok(Vec::new());
        }
        let mut seen = Self::replay(self.store.as_ref(), state).await?;
        // What comes after one so old may not be missing but be taken out, just now: the oldest go first.
        if let (Some(version), Some(known)) = (state.version, &state.entry)
            && is_old(known)
            && !log::stands(self.store.as_ref(), &entry_path(version), known).await?
        {
            self.reload(state).await?;
            seen.clear();
        }
        if state.reshaped {
            self.check().await?;
            state.reshaped = false;
        }
        Ok(seen)
    }

    pub async fn put(&self, encoded: Encoded) -> Result<StagedFile, SinkError> {
        let path = self.layout.file(encoded.slot, First::default(), Uuid::new_v4());
        self.put_at(path, encoded).await
    }

    pub async fn put_at(&self, path: String, encoded: Encoded) -> Result<StagedFile, SinkError> {
        let size = encoded.bytes.len() as u64;
        let location = super::join(&object_store::path::Path::default(), &path);
        self.store
            .put(&location, encoded.bytes.into())
            .await
            .map_err(|error| judged_write(&error).context(format!("staging {path}")))?;
        Ok(StagedFile {
            path,
            size,
            rows: encoded.rows,
            partition_values: self.layout.values(encoded.slot),
            stats: encoded.stats,
            time: encoded.slot.label(self.layout.precision()),
            by: self.layout.by().to_owned(),
            part: None,
            topic: TopicId::UNKNOWN,
            written_ms: None,
        })
    }

    /// Writes the version after `state`'s. Answers whether it landed as ours for certain; if not, the
    /// log must be read again before another attempt, which settles what an error left open.
    pub async fn try_commit(&self, state: &mut State, change: &Change) -> Result<bool, SinkError> {
        let version = state.version.map_or(0, |version| version + 1);
        let (id, now) = (change.id, now_ms());
        let replays = change.replayed.as_ref().map_or(0, |source| state.marks.replays(source));
        let bytes = change.entry(now, replays)?;
        fault::point("lake.before_commit");
        match self.log.write_commit_entry(version, CommitOrBytes::LogBytes(bytes), id).await {
            Ok(()) => {
                state.unknown = 0;
                if self.is_into_a_hole(state, version).await? {
                    return Ok(false);
                }
                // Read back rather than remembered: the entry's identity comes from the store.
                let read = read_log(self.store.as_ref(), version).await.ok().flatten();
                if !read.is_some_and(|file| state.apply_checked(file, id)) {
                    for (source, progress) in &change.marks {
                        state.marks.set(source, *progress, now);
                    }
                    change.replayed.iter().for_each(|source| state.marks.count_replay(source));
                    state.version = Some(version);
                    state.entry = None;
                }
                Ok(true)
            }
            Err(TransactionError::VersionAlreadyExists(_)) => Ok(false),
            Err(TransactionError::ObjectStore { source })
                if judged_write(&source).blame == Blame::Lasting =>
            {
                Err(judged_write(&source).context(format!("writing log entry {version}")))
            }
            Err(error) => {
                warn!(target: "tidegate::lake", table = %self.log.root_url(), version, %error, "a commit's outcome is unknown: reading the log");
                state.unknown += 1;
                if state.unknown > 1 {
                    // The store itself is in trouble: whoever waits longer is to decide that.
                    state.unknown = 0;
                    return Err(SinkError::passing(format!(
                        "writing log entry {version}: {error}"
                    )));
                }
                Ok(false)
            }
        }
    }

    /// Whether what was just written follows an entry that is gone: somebody slept between looking and writing,
    /// for as long as the log is kept. Nobody would read it; it is taken back.
    async fn is_into_a_hole(&self, state: &State, version: u64) -> Result<bool, SinkError> {
        let (Some(last), Some(known)) = (state.version, &state.entry) else { return Ok(false) };
        if !is_old(known) || log::stands(self.store.as_ref(), &entry_path(last), known).await? {
            return Ok(false);
        }
        warn!(target: "tidegate::lake", table = %self.log.root_url(), version, "the log was cut before what was written: it is taken back");
        match self.store.delete(&entry_path(version)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(log::judged(&error).context("taking back a commit")),
        }
    }

    /// Commits progress alone.
    pub async fn set_progress(
        &self,
        feed: &str,
        wanted: impl Fn(&State) -> HashMap<TopicPartition, Progress>,
    ) -> Result<(), SinkError> {
        let mut state = self.state.lock().await;
        for attempt in 0..ATTEMPTS {
            self.refresh(&mut state).await?;
            state.refuse_after_restore(feed)?;
            let marks = wanted(&state);
            if marks.is_empty()
                || self.try_commit(&mut state, &Change { marks, ..Change::default() }).await?
            {
                return Ok(());
            }
            retry::pause(attempt).await;
        }
        Err(retry::lost())
    }

    /// Writes a checkpoint beside the way of the rows, now and then.
    pub fn checkpoint_if_due(&self, state: &State) {
        if let Some(version) = state.version.filter(|version| version % CHECKPOINT_EVERY == 0) {
            checkpoint(self.log.clone(), version);
        }
    }
}

/// Whether the janitor may take the entry out at any time, or might by its own clock.
fn is_old(entry: &ObjectMeta) -> bool {
    now_ms() - entry.last_modified.timestamp_millis() > LEAST_LOG.as_millis() as i64 / 2
}

impl State {
    /// Takes up the entry if it is the commit `id`.
    fn apply_checked(&mut self, file: log::LogFile, id: Uuid) -> bool {
        let is_ours = file.is_commit(id);
        if is_ours {
            self.apply(file);
        }
        is_ours
    }
}

/// Makes an empty table where there is none.
pub async fn create(
    log: &LogStoreRef,
    store: &dyn ObjectStore,
    columns: &[StructField],
    partitioned_by: Vec<&str>,
) -> Result<(), SinkError> {
    let create = CreateBuilder::new()
        .with_log_store(log.clone())
        .with_columns(columns.to_vec())
        .with_partition_columns(partitioned_by)
        .with_save_mode(SaveMode::ErrorIfExists)
        .with_configuration_property(TableProperty::EnableExpiredLogCleanup, Some("false"))
        // One of several nodes wins; a retry would write the metadata a second time.
        .with_commit_properties(CommitProperties::default().with_max_retries(0))
        .with_comment("written by tidegate");
    match create.await {
        Ok(_) => Ok(()),
        Err(error) => {
            debug!(target: "tidegate::lake", %error, "creating a table another node may have made");
            match read_log(store, 0).await? {
                Some(_) => Ok(()),
                None => Err(match &error {
                    DeltaTableError::ObjectStore { source } => judged_write(source),
                    _ => judged_delta(error),
                }
                .context("creating the lake table")),
            }
        }
    }
}

/// Writes a checkpoint beside the way of the data: a failure costs only time at the next start.
pub fn checkpoint(log: LogStoreRef, version: u64) {
    tokio::spawn(async move {
        if let Err(error) = write_checkpoint(log, version).await {
            warn!(target: "tidegate::lake", version, %error, "no checkpoint was written");
        }
    });
}

pub async fn write_checkpoint(log: LogStoreRef, version: u64) -> Result<(), SinkError> {
    let mut table = Library::new(log);
    table.load_version(version).await.map_err(judged_delta)?;
    create_checkpoint(&table, None).await.map_err(judged_delta)
}
