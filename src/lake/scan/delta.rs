//! The files of a Delta table at one version.
//!
//! The library replays the log, from the checkpoint before the version on. Which version a moment
//! means is looked for by halving: of a long log only a few entries are read.

use deltalake_core::DeltaTableError;
use deltalake_core::kernel::{LogicalFileView, Snapshot};
use deltalake_core::logstore::LogStoreRef;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use super::plain::other_kind;
use super::{At, Found, NotOpened, Pin, ScanFile, State, moment, no_table};
use crate::lake::delta::judged_delta;
use crate::lake::log::{judged, read_log};
use crate::lake::plain::History;
use crate::layout::Layout;
use crate::record::SinkError;

pub async fn find(
    log: &LogStoreRef,
    store: &dyn ObjectStore,
    feed: &str,
    layout: &Layout,
    at: At,
) -> Result<Found, NotOpened> {
    let table = Log { log, store, feed, layout };
    let snapshot = match at {
        At::Latest => table.open(None).await?,
        At::Version(version) => {
            // The library looks for a version that is far ahead through all that lie between.
            table.has(version).await?;
            table.open(Some(version)).await?
        }
        At::Time(time) => table.at(time).await?,
        At::Pinned(Pin(State::Version(version, _))) => table.open(Some(version)).await?,
        At::Pinned(Pin(State::Chains(..))) => return Err(other_kind(feed)),
    };
    let version = snapshot.version();
    let committed_ms = table.committed(version).await?;
    if let At::Pinned(Pin(State::Version(_, Some(before)))) = at
        && committed_ms.is_some_and(|now| now != before)
    {
        return Err(NotOpened::NoState(format!(
            "the table of feed {feed} is not the one that was read before: its version {version} \
             was committed at another time. Begin again at the latest state"
        )));
    }
    let files = table.files(&snapshot).await?;
    let pin = Pin(State::Version(version, committed_ms));
    Ok(Found { pin, committed_ms, files, history: History::default() })
}

struct Log<'a> {
    log: &'a LogStoreRef,
    store: &'a dyn ObjectStore,
    feed: &'a str,
    layout: &'a Layout,
}

impl Log<'_> {
    async fn open(&self, version: Option<u64>) -> Result<Snapshot, NotOpened> {
        let error = match Snapshot::try_new(self.log.as_ref(), version).await {
            Ok(snapshot) => {
                self.check(&snapshot)?;
                return Ok(snapshot);
            }
            Err(error) => error,
        };
        match version {
            Some(version) => self.has(version).await?,
            None if self.readable().await?.is_none() => return Err(no_table(self.feed)),
            None => {}
        }
        let error = judged_delta(error);
        Err(error.context(format!("opening the lake table of feed {}", self.feed)).into())
    }

    /// Refuses a version that the log does not lead to.
    async fn has(&self, version: u64) -> Result<(), NotOpened> {
        match self.readable().await? {
            None => Err(no_table(self.feed)),
            Some((first, last)) if !(first..=last).contains(&version) => {
                Err(NotOpened::NoState(format!(
                    "the table of feed {} has no version {version} that can be read: there are \
                     {first} to {last}",
                    self.feed
                )))
            }
            Some(_) => Ok(()),
        }
    }

    fn check(&self, snapshot: &Snapshot) -> Result<(), SinkError> {
        let mapped = snapshot.metadata().configuration().get("delta.columnMapping.mode");
        if mapped.is_some_and(|mode| mode != "none") {
            return Err(SinkError::lasting(format!(
                "the lake table of feed {} has mapped column names (delta.columnMapping.mode), \
                 which this release does not read",
                self.feed
            )));
        }
        Ok(())
    }

    /// The versions of the log that can be replayed; none where there is no log.
    async fn readable(&self) -> Result<Option<(u64, u64)>, SinkError> {
        let (mut entries, mut checkpoints) = (Vec::new(), Vec::new());
        let mut listed = self.store.list(Some(&Path::from("_delta_log")));
        while let Some(meta) = listed
            .try_next()
            .await
            .map_err(|error| judged(&error).context("listing the table's log"))?
        {
            let name = meta.location.filename().and_then(|name| name.split_once('.'));
            let Some((version, kind)) = name else { continue };
            let Ok(version) = version.parse::<u64>() else { continue };
            match kind {
                "json" => entries.push(version),
                kind if kind.starts_with("checkpoint") => checkpoints.push(version),
                _ => {}
            }
        }
        entries.sort_unstable();
        let Some(last) = entries.last().or(checkpoints.iter().max()).copied() else {
            return Ok(None);
        };
        // The entries without a hole before the last.
        let run = entries.chunk_by(|before, after| before + 1 == *after).next_back();
        let run = run.and_then(|run| run.first()).copied().unwrap_or(last);
        let from = checkpoints.into_iter().filter(|version| version + 1 >= run).min();
        let first = if run == 0 { 0 } else { from.unwrap_or(last + 1) };
        Ok(Some((first, last)))
    }

    /// When a version was committed, if its entry is still there.
    async fn committed(&self, version: u64) -> Result<Option<i64>, SinkError> {
        Ok(read_log(self.store, version).await?.map(|entry| entry.committed_ms()))
    }

    /// The last version at or before a moment. Clocks of several nodes may differ: then it is one that
    /// was committed at or before the moment, and the one after it was not.
    async fn at(&self, time: i64) -> Result<Snapshot, NotOpened> {
        let latest = self.open(None).await?;
        let is_before = |at: Option<i64>| at.is_none_or(|at| at <= time);
        if is_before(self.committed(latest.version()).await?) {
            return Ok(latest);
        }
        // The first version that is later lies after `low - 1` and not after `high`. An entry that is
        // gone was before all that are there.
        let (mut low, mut high) = (0, latest.version());
        while low < high {
            let middle = low + (high - low) / 2;
            match is_before(self.committed(middle).await?) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        match low.checked_sub(1) {
            Some(version) if self.committed(version).await?.is_some() => {
                self.open(Some(version)).await
            }
            _ => {
                let first = self.committed(low).await?.map(moment).unwrap_or_default();
                Err(NotOpened::NoState(format!(
                    "the table of feed {} has no version of {} or before that can be read: its \
                     log begins with version {low} of {first}",
                    self.feed,
                    moment(time)
                )))
            }
        }
    }

    /// The files of the version, in the order in which they were added.
    async fn files(&self, snapshot: &Snapshot) -> Result<Vec<ScanFile>, SinkError> {
        let failed = |error: DeltaTableError| {
            judged_delta(error).context(format!("reading the log of feed {}", self.feed))
        };
        let mut files = Vec::new();
        let mut views = snapshot.file_views(self.log.as_ref(), None);
        while let Some(view) = views.try_next().await.map_err(failed)? {
            files.push(self.file(&view)?);
        }
        files.sort_unstable_by(|a, b| (a.added_ms, &a.path).cmp(&(b.added_ms, &b.path)));
        Ok(files)
    }

    fn file(&self, view: &LogicalFileView) -> Result<ScanFile, SinkError> {
        let path = view.path().into_owned();
        let unread = |why: &str| {
            SinkError::lasting(format!("the table of feed {}: its file {path} {why}", self.feed))
        };
        if view.deletion_vector_descriptor().is_some() {
            return Err(unread(
                "has a deletion vector, which this release does not read: rewrite the table's \
                 files without (REORG TABLE … APPLY (PURGE))",
            ));
        }
        if path.contains("://") {
            return Err(unread("lies outside of the table's folder, which is not read"));
        }
        let values = view.partition_values_map().into_iter().collect();
        // What the library offers in its place reads the columns of its own replay, which tags are not.
        #[expect(deprecated, reason = "nothing else tells a file's tags")]
        let tags = view.add_action().tags.unwrap_or_default();
        Ok(ScanFile {
            size: view.size() as u64,
            rows: view.num_records().map(|rows| rows as u64),
            time: self.layout.label_of(&values),
            tags: tags.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            values,
            added_ms: view.modification_time(),
            location: view.object_store_path(),
            stats: view.stats(),
            path,
        })
    }
}
