//! Files that no version needs any more are marked, and swept when the grace time is over.

use std::collections::HashSet;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{info, warn};

use super::super::change::Change;
use super::super::commit_loop::Log;
use super::super::log::judged;
use super::super::retry::{self, ATTEMPTS};
use super::super::scan::At;
use super::marks::Marks;
use super::{Amount, LEAST_GRACE, Mode, Of, Upkeep};
use crate::layout::is_ours;
use crate::record::SinkError;
use crate::retention::{Seen, Sweep, sweep};
use crate::telemetry::fault;

/// Files that are deleted before it is looked again whether they are dead.
const AT_ONCE: usize = 500;
/// Foreign files that are named.
const NAMED: usize = 10;

/// What a pass found in a table's folder beside the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vacuumed {
    /// Ours, unreferenced, and waiting for the grace time to pass.
    pub marked: Amount,
    /// Deleted, or with a dry run what would be.
    pub swept: Amount,
    /// Somebody else's: never touched.
    pub foreign: Amount,
    /// The first few of these.
    pub foreign_paths: Vec<String>,
}

impl Upkeep {
    /// Marks and sweeps the files of a Delta table that nothing refers to. `grace_ms` is at least
    /// [`LEAST_GRACE`]; `now_ms` is by the store's clock, or the clocks of two janitors would decide.
    pub async fn vacuum(
        &self,
        grace_ms: i64,
        now_ms: i64,
        mode: Mode,
    ) -> Result<Vacuumed, SinkError> {
        if !self.is_delta() || !self.is_appended_to() {
            return Ok(Vacuumed::default());
        }
        let grace_ms = grace_ms.max(LEAST_GRACE.as_millis() as i64);
        self.vacuum_after(grace_ms, now_ms, mode).await
    }

    /// Where it is kept what is marked. No feed's name has a point in it.
    fn marks(&self) -> String {
        match self.of {
            Of::Rows => self.feed.name.to_string(),
            Of::Quarantine => format!("{}.quarantine", self.feed.name),
        }
    }

    pub(super) async fn vacuum_after(
        &self,
        grace_ms: i64,
        now_ms: i64,
        mode: Mode,
    ) -> Result<Vacuumed, SinkError> {
        // Listed before the log is read: what is committed meanwhile is known to it.
        let listed = self.listed().await?;
        let mut marks = Marks::read(&self.store, &self.marks()).await?;
        let Some((found, seen)) = self.unreferenced(&listed, &marks, grace_ms, now_ms).await?
        else {
            return Ok(Vacuumed::default());
        };
        let mut done = told(&found, &seen);
        if mode == Mode::DryRun {
            return Ok(done);
        }
        marks.write(&self.store, &self.marks(), found.marked.clone()).await?;
        if found.due.is_empty() {
            return Ok(done);
        }
        fault::point("janitor.marked");
        let due: Vec<&Seen> = found.due.iter().map(|index| &seen[*index]).collect();
        done.swept = Amount::default();
        let log = self.log().await?;
        for due in due.chunks(AT_ONCE) {
            for file in self.still_dead(&log, due).await? {
                if self.delete(&file.path).await? {
                    done.swept.add(file.bytes);
                }
            }
        }
        info!(target: "tidegate::janitor", feed = %self.feed.name, files = done.swept.files, bytes = done.swept.bytes, "files that nothing refers to are deleted");
        Ok(done)
    }

    async fn unreferenced(
        &self,
        listed: &[ObjectMeta],
        marks: &Marks,
        grace_ms: i64,
        now_ms: i64,
    ) -> Result<Option<(Sweep, Vec<Seen>)>, SinkError> {
        let Some(scan) = self.scan(At::Latest).await? else { return Ok(None) };
        let live: HashSet<&str> = scan.files().iter().map(|file| file.path.as_str()).collect();
        let seen: Vec<Seen> = listed
            .iter()
            .map(|meta| {
                let path = meta.location.to_string();
                Seen {
                    bytes: meta.size,
                    written_ms: meta.last_modified.timestamp_millis(),
                    ours: is_ours(&path),
                    live: live.contains(path.as_str()),
                    path,
                }
            })
            .collect();
        Ok(Some((sweep(&seen, marks.known(), grace_ms, now_ms), seen)))
    }

    /// Commits that a sweep is about to begin, and answers which files are not live in the version that it
    /// wrote. Whoever staged one of them long ago and commits only now is refused: the version is taken,
    /// and when he has read on, his files have waited too long.
    async fn still_dead<'a>(
        &self,
        log: &Log,
        due: &[&'a Seen],
    ) -> Result<Vec<&'a Seen>, SinkError> {
        let mut state = log.state.lock().await;
        for attempt in 0..ATTEMPTS {
            log.refresh(&mut state).await?;
            state.refuse_after_restore(&self.feed.name)?;
            let Some(version) = state.version else { return Ok(Vec::new()) };
            let Some(scan) = self.scan(At::Version(version)).await? else { return Ok(Vec::new()) };
            let live: HashSet<&str> = scan.files().iter().map(|file| file.path.as_str()).collect();
            let dead = due.iter().filter(|file| !live.contains(file.path.as_str()));
            let dead: Vec<&Seen> = dead.copied().collect();
            if dead.is_empty() {
                return Ok(dead);
            }
            let said = Some(("tidegateSweep", json!({"files": dead.len()})));
            if log.try_commit(&mut state, &Change { said, ..Change::default() }).await? {
                log.checkpoint_if_due(&state);
                return Ok(dead);
            }
            retry::pause(attempt).await;
        }
        Err(retry::lost())
    }

    /// All files of the table's folder but what lies in hidden ones, and in those of tables below it.
    async fn listed(&self) -> Result<Vec<ObjectMeta>, SinkError> {
        let store = self.store.below(self.layout.folder());
        let mut files = Vec::new();
        let mut others: HashSet<Path> = HashSet::new();
        let mut listed = store.list(None);
        let failed = |error| judged(&error).context("listing the table's folder");
        while let Some(meta) = listed.try_next().await.map_err(failed)? {
            let parts: Vec<String> =
                meta.location.parts().map(|part| part.as_ref().to_owned()).collect();
            let hidden = parts.iter().position(|part| part.starts_with(['_', '.']));
            match hidden {
                None => files.push(meta),
                Some(0) => {}
                // Another table's own folder: what is around it is that table's.
                Some(at)
                    if ["_delta_log", "_commits", "_changes"].contains(&parts[at].as_str()) =>
                {
                    others.insert(Path::from_iter(parts[..at].iter().map(String::as_str)));
                }
                Some(_) => {}
            }
        }
        let is_others =
            |meta: &ObjectMeta| others.iter().any(|other| meta.location.prefix_matches(other));
        files.retain(|meta| !is_others(meta));
        Ok(files)
    }

    /// Answers whether it was there.
    pub(super) async fn delete(&self, path: &str) -> Result<bool, SinkError> {
        let store = self.store.below(self.layout.folder());
        let location = super::super::join(&Path::default(), path);
        match store.delete(&location).await {
            Ok(()) => {}
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => {
                warn!(target: "tidegate::janitor", feed = %self.feed.name, path, %error, "a file cannot be deleted; trying again with the next pass");
                return Ok(false);
            }
        }
        // Folders of times that are over: as far up as they are empty.
        let mut folder = path;
        while let Some((above, _)) = folder.rsplit_once('/') {
            self.store.remove_empty(&format!("{}/{above}", self.layout.folder()));
            folder = above;
        }
        Ok(true)
    }
}

fn told(found: &Sweep, seen: &[Seen]) -> Vacuumed {
    let mut told = Vacuumed::default();
    found.due.iter().for_each(|index| told.swept.add(seen[*index].bytes));
    let due: HashSet<&str> = found.due.iter().map(|index| seen[*index].path.as_str()).collect();
    let waiting = seen.iter().filter(|file| found.marked.contains_key(&file.path));
    waiting
        .filter(|file| !due.contains(file.path.as_str()))
        .for_each(|file| told.marked.add(file.bytes));
    for index in &found.foreign {
        told.foreign.add(seen[*index].bytes);
    }
    let foreign = found.foreign.iter().take(NAMED);
    told.foreign_paths = foreign.map(|index| seen[*index].path.clone()).collect();
    told
}
