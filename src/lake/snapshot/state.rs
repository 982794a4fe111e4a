//! What the two logs say: the present snapshot, and the changes since.

use std::collections::HashMap;

use deltalake_core::kernel::{EagerSnapshot, LogicalFileView, StructField};
use deltalake_core::logstore::LogStoreRef;
use object_store::ObjectStore;

use super::super::delta::judged_delta;
use super::super::log::{CommitLine, LogFile, Watermarks, read_log};
use super::Snapshot;
use crate::config::VERSION;
use crate::layout::is_replayed;
use crate::record::{SinkError, TopicPartition};

/// Log entries fetched at once.
const FETCHES: u64 = 16;

/// The table of snapshots as its log has it.
pub struct State {
    pub version: u64,
    pub present: Option<Snapshot>,
    /// Progress that the present snapshot stands for.
    pub marks: Watermarks,
    /// The files that make the table up, whoever wrote them.
    pub live: Vec<LogicalFileView>,
    columns: Vec<StructField>,
}

impl State {
    /// None where there is no table.
    pub async fn read(
        log: &LogStoreRef,
        store: &dyn ObjectStore,
    ) -> Result<Option<Self>, SinkError> {
        if !log.is_delta_table_location().await.map_err(judged_delta)? {
            return Ok(None);
        }
        let library = EagerSnapshot::try_new(log.as_ref(), None).await;
        let library = library
            .map_err(|error| judged_delta(error).context("opening the table of snapshots"))?;
        let mut state = Self {
            version: library.version(),
            present: None,
            marks: Watermarks::default(),
            live: library.log_data().iter().collect(),
            columns: library.schema().fields().cloned().collect(),
        };
        // Each of our commits says everything; others may have come after it.
        for version in (0..=state.version).rev() {
            let Some(file) = read_log(store, version).await? else {
                return Err(SinkError::lasting(format!(
                    "the log of the snapshots at {} is gone up to version {version}, and no snapshot \
                     came after: restore it from a backup",
                    log.root_url()
                )));
            };
            if state.take(file) {
                break;
            }
        }
        Ok(Some(state))
    }

    /// Takes up an entry if it is a snapshot.
    fn take(&mut self, file: LogFile) -> bool {
        let mut marks = Watermarks::default();
        for line in file.lines {
            match line {
                CommitLine::CommitInfo(info) => {
                    self.present = info.tidegate_snapshot.map(|it| *it);
                }
                CommitLine::Txn(txn) => marks.apply(&txn),
                _ => {}
            }
        }
        if self.present.is_some() {
            self.marks = marks;
        }
        self.present.is_some()
    }

    /// The files of the present snapshot: as they are now, if somebody put them together.
    pub fn base(&self) -> Vec<String> {
        let Some(present) = &self.present else { return Vec::new() };
        let own = Some(format!("v{}", present.version));
        let of_version = |file: &&LogicalFileView| {
            file.partition_values_map().get(VERSION).is_some_and(|value| *value == own)
        };
        let live: Vec<String> =
            self.live.iter().filter(of_version).map(|file| file.path().into_owned()).collect();
        // A RESTORE may have brought back another version.
        if live.is_empty() { present.files.clone() } else { live }
    }

    pub fn has(&self, wanted: &[StructField]) -> bool {
        wanted.iter().all(|column| {
            let mut there = self.columns.iter();
            there.any(|it| it.name() == column.name() && it.data_type() == column.data_type())
        })
    }
}

/// What was committed to the changelog since the present snapshot.
pub struct Changes {
    /// The changelog's table id.
    pub id: String,
    /// Its latest version.
    pub version: u64,
    pub marks: Watermarks,
    /// Files, each with the version that added it.
    pub files: Vec<(String, u64)>,
    /// They are all there ever were, to be folded without the present snapshot.
    pub whole: bool,
}

impl Changes {
    /// None where there is no changelog.
    ///
    /// A row that came back from quarantine may be older than what the present snapshot has of its key,
    /// or has no more; a snapshot does not tell. Then the changes are all there ever were.
    pub async fn since(store: &dyn ObjectStore, state: &State) -> Result<Option<Self>, SinkError> {
        let changes = Self::read(store, state, state.present.is_none()).await?;
        let replayed = |it: &Self| it.files.iter().any(|(path, _)| is_replayed(path));
        match changes {
            Some(changes) if !changes.whole && replayed(&changes) => {
                Self::read(store, state, true).await
            }
            changes => Ok(changes),
        }
    }

    async fn read(
        store: &dyn ObjectStore,
        state: &State,
        whole: bool,
    ) -> Result<Option<Self>, SinkError> {
        let present = state.present.as_ref();
        let (from, marks) = match present.filter(|_| !whole) {
            Some(present) => (present.changes, state.marks.clone()),
            None => (0, Watermarks::default()),
        };
        let id = read_log(store, 0).await?.map(id_of);
        let same = |present: &Snapshot| id.as_ref().is_none_or(|id| *id == present.changes_of);
        if present.is_some_and(|present| !same(present)) {
            return Err(another());
        }
        let id = id.or_else(|| present.map(|present| present.changes_of.clone()));
        let mut changes =
            Self { id: id.unwrap_or_default(), version: from, marks, files: Vec::new(), whole };
        let (mut restored, mut next) = (None, from);
        'log: loop {
            let fetches = (next..next + FETCHES).map(|version| read_log(store, version));
            for fetched in futures::future::join_all(fetches).await {
                let Some(file) = fetched? else { break 'log };
                next += 1;
                // The entry that the snapshot has folded is read only to know the log again by.
                if whole || file.version > from {
                    changes.take(file, &mut restored);
                }
            }
        }
        let seen = next > from;
        match (seen, present) {
            (false, Some(_)) if whole => {
                return Err(SinkError::lasting(
                    "the first entries of the changes' log are gone, and a record that came back from \
                     quarantine asks for all changes: restore them from a backup",
                ));
            }
            (false, None) => return Ok(None),
            (false, Some(_)) => return Err(another()),
            (true, _) => {}
        }
        match restored {
            Some(version) => Err(SinkError::lasting(format!(
                "the changes were rolled back by a Delta RESTORE (version {version}): \
                 `tidegate resolve --rewind-lake` settles it, and the next snapshot follows"
            ))),
            None => Ok(Some(changes)),
        }
    }

    fn take(&mut self, file: LogFile, restored: &mut Option<u64>) {
        self.version = file.version;
        for line in file.lines {
            match line {
                CommitLine::Txn(txn) => self.marks.apply(&txn),
                CommitLine::CommitInfo(info) => {
                    if info.operation.as_deref() == Some("RESTORE") {
                        *restored = Some(file.version);
                    } else if info.tidegate_commit.is_some() {
                        *restored = None;
                    }
                }
                // Files that others put together hold rows that were taken up already.
                CommitLine::Add(add) if add.data_change => {
                    self.files.push((add.path, file.version));
                }
                CommitLine::Remove(remove) if remove.data_change => {
                    self.files.retain(|(path, _)| *path != remove.path);
                }
                _ => {}
            }
        }
    }

    /// Whether every partition has come so far.
    pub fn has_reached(&self, ends: &HashMap<TopicPartition, i64>) -> bool {
        ends.iter().all(|(source, end)| {
            self.marks.get(source).is_some_and(|progress| progress.next_offset >= *end)
        })
    }
}

fn id_of(first: LogFile) -> String {
    let id = first.lines.into_iter().find_map(|line| match line {
        CommitLine::MetaData(meta) => Some(meta.id),
        _ => None,
    });
    id.unwrap_or_default()
}

fn another() -> SinkError {
    SinkError::lasting(
        "the changes are not those that the present snapshot was made of: restore both from one \
         backup, or give the feed another `lake.layout` to begin anew",
    )
}
