//! A Delta table with its commit loop.
//!
//! The loop is ours because the library never compares a `txn`'s value, only whether somebody touched
//! it since the snapshot it was handed. Here each attempt reads the log to its end at version V,
//! compares every partition's progress in V with the offset its batch continues, and writes V+1 with
//! a conditional create. Any doubt about the outcome is settled by reading the log again: our commit
//! id is there, or it is not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use deltalake_core::DeltaTable as Library;
use deltalake_core::checkpoints::create_checkpoint;
use deltalake_core::kernel::StructField;
use deltalake_core::kernel::transaction::{CommitProperties, TransactionError};
use deltalake_core::logstore::{CommitOrBytes, LogStoreRef};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::SaveMode;
use deltalake_core::{DeltaTableError, TableProperty};
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::sync::Mutex;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::change::Change;
use super::columns::delta_columns;
use super::encode::{Encoded, encode};
use super::fit::fit;
use super::log::{
    self, CommitLine, Watermarks, entry_path, judged, judged_write, read_checkpoint, read_log,
};
use super::quarantine::{encode_rejects, quarantine_schema};
use super::retry::{self, ATTEMPTS};
use super::rewind::{Before, before};
use super::{LakeStore, LakeTable, Staged, StagedFile, StagedPart, lake_schema, staging};
use crate::config::Feed;
use crate::layout::{First, Layout, Slot};
use crate::record::{
    Blame, GapReason, OffsetRange, Part, Progress, Reject, SinkError, TopicId, TopicPartition,
    Verdict,
};
use crate::telemetry::fault;

/// A checkpoint is written every so many versions.
pub const CHECKPOINT_EVERY: u64 = 100;

/// One feed's table in the lake, with its quarantine beside it.
pub struct DeltaTable {
    feed: Arc<Feed>,
    rows: Log,
    pub(super) quarantine: Quarantine,
}

/// One feed's quarantine: a Delta table, whatever the format of its rows.
pub struct Quarantine(Log);

impl DeltaTable {
    /// Opens the feed's table, creating it where it is absent, and checks that it can be written.
    pub async fn open(store: &LakeStore, feed: Arc<Feed>) -> Result<Self, SinkError> {
        let layout = Layout::of(&feed).map_err(SinkError::lasting)?;
        refuse_other_format(store, layout.folder(), "_commits", "delta").await?;
        let columns = delta_columns(&lake_schema(&feed), &layout);
        let rows = Log::open(store, layout, columns).await?;
        let quarantine = Quarantine::open(store, &feed.name).await?;
        Ok(Self { feed, rows, quarantine })
    }

    /// Progress recorded for the table in `folder`, if there is one: for reading only.
    pub async fn read_progress(
        store: &LakeStore,
        folder: &str,
    ) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        let store = store.below(folder);
        let mut state = State::default();
        Log::replay(store.as_ref(), &mut state).await?;
        Ok(state.marks.all())
    }
}

impl Quarantine {
    pub async fn open(store: &LakeStore, feed: &str) -> Result<Self, SinkError> {
        let layout = Layout::of_quarantine(feed).map_err(SinkError::lasting)?;
        let columns = delta_columns(&quarantine_schema(), &layout);
        Ok(Self(Log::open(store, layout, columns).await?))
    }

    /// Puts rejects into the quarantine table, each once, whoever else tries.
    pub async fn keep(&self, sets: &[Staged]) -> Result<(), SinkError> {
        let parts: Vec<&StagedPart> = sets
            .iter()
            .flat_map(|set| &set.parts)
            .filter(|part| !part.rejects.is_empty())
            .collect();
        if parts.is_empty() {
            return Ok(());
        }
        let day = Slot::day_of_millis(now_ms());
        let mut state = self.0.state.lock().await;
        for attempt in 0..ATTEMPTS {
            self.0.refresh(&mut state).await?;
            let mut fresh: Vec<(TopicPartition, &[Reject])> = Vec::new();
            let mut marks: HashMap<TopicPartition, Progress> = HashMap::new();
            for part in &parts {
                let known = marks.get(&part.source).copied().or(state.marks.get(&part.source));
                // A topic created again begins anew, and so do its offsets.
                let durable = known
                    .filter(|progress| progress.topic_id.agrees(part.topic_id))
                    .map_or(i64::MIN, |progress| progress.next_offset);
                if part.range.end <= durable {
                    continue;
                }
                let first = part.rejects.partition_point(|reject| reject.offset < durable);
                fresh.push((part.source.clone(), &part.rejects[first..]));
                let progress = Progress { next_offset: part.range.end, topic_id: part.topic_id };
                marks.insert(part.source.clone(), progress);
            }
            if fresh.is_empty() {
                return Ok(());
            }
            let encoded = encode_rejects(day, &fresh).map_err(SinkError::lasting)?;
            let file = self.0.put(encoded).await?;
            if self
                .0
                .try_commit(&mut state, &Change { files: vec![file], marks, ..Change::default() })
                .await?
            {
                return Ok(());
            }
            retry::pause(attempt).await;
        }
        Err(SinkError::passing("the quarantine table is written to by too many at once"))
    }
}

#[async_trait]
impl LakeTable for DeltaTable {
    async fn progress(&self) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        let mut state = self.rows.state.lock().await;
        self.rows.refresh(&mut state).await?;
        state.refuse_after_restore(&self.feed.name)?;
        Ok(state.marks.all())
    }

    async fn begin(&self, starts: &[(TopicPartition, Progress)]) -> Result<(), SinkError> {
        let wanted = |state: &State| {
            let absent = starts.iter().filter(|(source, _)| state.marks.get(source).is_none());
            absent.cloned().collect::<HashMap<_, _>>()
        };
        self.rows.set_progress(&self.feed.name, wanted).await
    }

    async fn stage(&self, parts: Vec<Part>) -> Result<Staged, SinkError> {
        let staged_parts = parts.iter().map(StagedPart::of).collect();
        let (feed, layout, now) = (self.feed.clone(), self.rows.layout.clone(), now_ms());
        let files = staging::stage(
            move |take| encode(&feed, &layout, now, &parts, take),
            |file| self.rows.put(file),
        )
        .await?;
        Ok(Staged { id: Uuid::new_v4(), files, parts: staged_parts, gap: None })
    }

    async fn commit(&self, sets: &[Staged]) -> Result<Vec<Vec<Verdict>>, SinkError> {
        self.quarantine.keep(sets).await?;
        let id = Uuid::new_v4();
        let mut state = self.rows.state.lock().await;
        let mut judgement = Judgement::default();
        for attempt in 0..ATTEMPTS {
            let seen = self.rows.refresh(&mut state).await?;
            if seen.contains(&id) {
                info!(target: "tidegate::lake", feed = %self.feed.name, "a commit whose answer was lost had landed");
                return Ok(judgement.verdicts);
            }
            state.refuse_after_restore(&self.feed.name)?;
            judgement = judge(&state.marks, sets);
            if judgement.marks.is_empty() {
                return Ok(judgement.verdicts);
            }
            let files: Vec<StagedFile> =
                judgement.held.iter().flat_map(|set| sets[*set].files.iter().cloned()).collect();
            let gap = judgement.held.iter().find_map(|set| {
                let set = &sets[*set];
                let (reason, part) = (set.gap?, set.parts.first()?);
                Some(log::gap(&part.source, part.topic_id, part.range, reason, true))
            });
            let marks = judgement.marks.clone();
            let said = gap.map(|gap| (log::GAP, gap));
            let change = Change { id, files, marks, said, replayed: None };
            if self.rows.try_commit(&mut state, &change).await? {
                let due = state.version.is_some_and(|version| version % CHECKPOINT_EVERY == 0);
                if due {
                    self.rows.checkpoint(state.version.unwrap_or_default());
                }
                return Ok(judgement.verdicts);
            }
            retry::pause(attempt).await;
        }
        Err(retry::lost())
    }

    async fn open_gap(
        &self,
        source: &TopicPartition,
        topic_id: TopicId,
        gap: OffsetRange,
    ) -> Result<(), SinkError> {
        let said = log::gap(source, topic_id, gap, GapReason::Expired, false);
        let mut state = self.rows.state.lock().await;
        for attempt in 0..ATTEMPTS {
            self.rows.refresh(&mut state).await?;
            state.refuse_after_restore(&self.feed.name)?;
            let stands = state.marks.get(source).is_some_and(|it| it.next_offset == gap.start);
            // How far it reaches is for the log of the topic to say, and may change every minute.
            if !stands || state.open_gaps.get(source) == Some(&gap.start) {
                return Ok(());
            }
            let said = Some((log::GAP, said.clone()));
            if self.rows.try_commit(&mut state, &Change { said, ..Change::default() }).await? {
                return Ok(());
            }
            retry::pause(attempt).await;
        }
        Err(retry::lost())
    }

    async fn record_gap(
        &self,
        source: &TopicPartition,
        topic_id: TopicId,
        gap: OffsetRange,
        reason: GapReason,
    ) -> Result<Verdict, SinkError> {
        let part = StagedPart { source: source.clone(), topic_id, range: gap, rejects: Vec::new() };
        let set = Staged::gap(part, reason);
        let verdicts = self.commit(&[set]).await?;
        let verdict = verdicts.into_iter().flatten().next();
        Ok(verdict.unwrap_or(Verdict::Fenced { found: None }))
    }

    async fn replays(&self, source: &TopicPartition) -> Result<i64, SinkError> {
        let mut state = self.rows.state.lock().await;
        self.rows.refresh(&mut state).await?;
        state.refuse_after_restore(&self.feed.name)?;
        Ok(state.marks.replays(source))
    }

    async fn replay(&self, part: Part, after: i64, by: &str) -> Result<bool, SinkError> {
        let (source, said) = (part.source.clone(), super::replayed(&part, by));
        let (feed, layout, now) = (self.feed.clone(), self.rows.layout.clone(), now_ms());
        let files = staging::stage(
            move |take| encode(&feed, &layout, now, &[part], take),
            |file| {
                let first = First::default();
                let path = self.rows.layout.replayed_file(file.slot, first, Uuid::new_v4());
                self.rows.put_at(path, file)
            },
        )
        .await?;
        let said = Some((log::REPLAY, said));
        let replayed = Some(source.clone());
        let change = Change { files, said, replayed, ..Change::default() };
        let mut state = self.rows.state.lock().await;
        for attempt in 0..ATTEMPTS {
            if self.rows.refresh(&mut state).await?.contains(&change.id) {
                return Ok(true);
            }
            state.refuse_after_restore(&self.feed.name)?;
            if state.marks.replays(&source) != after {
                return Ok(false);
            }
            if self.rows.try_commit(&mut state, &change).await? {
                return Ok(true);
            }
            retry::pause(attempt).await;
        }
        Err(retry::lost())
    }

    async fn reset(&self, source: &TopicPartition, progress: Progress) -> Result<(), SinkError> {
        let wanted = |_: &State| HashMap::from([(source.clone(), progress)]);
        self.rows.set_progress(&self.feed.name, wanted).await
    }
}

#[derive(Default)]
struct Judgement {
    verdicts: Vec<Vec<Verdict>>,
    /// Progress after the sets that hold their fence.
    marks: HashMap<TopicPartition, Progress>,
    /// Indices of those sets.
    held: Vec<usize>,
}

/// Which sets continue exactly where the table stands, one after the other.
fn judge(marks: &Watermarks, sets: &[Staged]) -> Judgement {
    let mut judgement = Judgement::default();
    for (index, set) in sets.iter().enumerate() {
        let found = |source: &TopicPartition| {
            judgement.marks.get(source).copied().or_else(|| marks.get(source))
        };
        let holds = |part: &StagedPart| {
            found(&part.source).is_some_and(|progress| {
                progress.next_offset == part.range.start && progress.topic_id.agrees(part.topic_id)
            })
        };
        if set.parts.iter().all(holds) {
            judgement.held.push(index);
            judgement.verdicts.push(vec![Verdict::Durable { quarantined: 0 }; set.parts.len()]);
            for part in &set.parts {
                let progress = Progress { next_offset: part.range.end, topic_id: part.topic_id };
                judgement.marks.insert(part.source.clone(), progress);
            }
        } else {
            let fenced = |part: &StagedPart| Verdict::Fenced {
                found: found(&part.source).map(|progress| progress.next_offset),
            };
            let verdicts = set.parts.iter().map(fenced).collect();
            judgement.verdicts.push(verdicts);
        }
    }
    judgement
}

/// One Delta log: its store, and what is known of its latest version.
struct Log {
    store: Arc<dyn ObjectStore>,
    log: LogStoreRef,
    layout: Arc<Layout>,
    columns: Vec<StructField>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The latest version read; none before the first.
    version: Option<u64>,
    /// That version's entry, to notice that the log was replaced under us.
    entry: Option<ObjectMeta>,
    marks: Watermarks,
    /// Where gaps begin that this log has recorded as open, as far back as it was read.
    open_gaps: HashMap<TopicPartition, i64>,
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
    fn refuse_after_restore(&self, feed: &str) -> Result<(), SinkError> {
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
    async fn open(
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

    async fn replay(store: &dyn ObjectStore, state: &mut State) -> Result<Vec<Uuid>, SinkError> {
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
    async fn refresh(&self, state: &mut State) -> Result<Vec<Uuid>, SinkError> {
        if let (Some(version), Some(known)) = (state.version, &state.entry) {
            // A folder restored from a backup has another entry at our version, or none.
            if !log::stands(self.store.as_ref(), &entry_path(version), known).await? {
                warn!(target: "tidegate::lake", table = %self.log.root_url(), version, "the log was replaced: reading it anew");
                self.reload(state).await?;
                return Ok(Vec::new());
            }
        }
        let seen = Self::replay(self.store.as_ref(), state).await?;
        if state.reshaped {
            self.check().await?;
            state.reshaped = false;
        }
        Ok(seen)
    }

    async fn put(&self, encoded: Encoded) -> Result<StagedFile, SinkError> {
        let path = self.layout.file(encoded.slot, First::default(), Uuid::new_v4());
        self.put_at(path, encoded).await
    }

    async fn put_at(&self, path: String, encoded: Encoded) -> Result<StagedFile, SinkError> {
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
        })
    }

    /// Writes the version after `state`'s. Answers whether it landed as ours for certain; if not, the
    /// log must be read again before another attempt, which settles what an error left open.
    async fn try_commit(&self, state: &mut State, change: &Change) -> Result<bool, SinkError> {
        let version = state.version.map_or(0, |version| version + 1);
        let (id, now) = (change.id, now_ms());
        let replays = change.replayed.as_ref().map_or(0, |source| state.marks.replays(source));
        let bytes = change.entry(now, replays)?;
        fault::point("lake.before_commit");
        match self.log.write_commit_entry(version, CommitOrBytes::LogBytes(bytes), id).await {
            Ok(()) => {
                state.unknown = 0;
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

    /// Commits progress alone.
    async fn set_progress(
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

    fn checkpoint(&self, version: u64) {
        checkpoint(self.log.clone(), version);
    }
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
        let mut table = Library::new(log);
        let outcome = match table.load_version(version).await {
            Ok(()) => create_checkpoint(&table, None).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            warn!(target: "tidegate::lake", version, %error, "no checkpoint was written");
        }
    });
}

/// A table's format is never changed: the other one's rows and progress would stay in the folder.
pub async fn refuse_other_format(
    store: &LakeStore,
    folder: &str,
    marker: &str,
    wanted: &str,
) -> Result<(), SinkError> {
    let table = store.below(folder);
    let mut found = table.list(Some(&object_store::path::Path::from(marker)));
    if found.try_next().await.map_err(|error| judged(&error))?.is_some() {
        return Err(SinkError::lasting(format!(
            "the lake's folder {folder} holds a table of another format than {wanted} ({marker} is \
             in it), and a table's format is never changed: give `lake.layout` another folder"
        )));
    }
    Ok(())
}

pub fn judged_delta(error: DeltaTableError) -> SinkError {
    match &error {
        DeltaTableError::ObjectStore { source } => judged(source),
        DeltaTableError::Generic(_) | DeltaTableError::GenericError { .. } => {
            SinkError::passing(error)
        }
        _ => SinkError::lasting(error),
    }
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}
