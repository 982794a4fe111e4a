//! The files of a local lake follow the permission rows: soon after a row changes or expires, and now and then
//! for what somebody changed by hand, and for folders that are new.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Governance, Io, Undecided};
use crate::catalog::Known;
use crate::governance::{Action, FeedFolder, Row, openings};
use crate::grants::Rules;
use crate::lake::LakeStore;
use crate::lake::access::{FolderAccess, settle};
use crate::lake::upkeep::Mode;
use crate::layout::quarantine_path;

/// What nobody told of is seen after this at the latest.
const LOOK: Duration = Duration::from_secs(5);

/// Rows that were read longer ago may have been revoked, and another node may know: they open nothing.
const OF_NOW_MS: u64 = 10_000;

/// The folders of feeds on this machine's disk.
#[derive(Clone)]
pub struct Files {
    known: Known,
    /// Feeds that are carried no more; their rows lie there still.
    archived: Known,
    lake: LakeStore,
    groups: BTreeMap<String, String>,
    /// By their paths. Those of feeds that went while the node ran are among them.
    folders: Arc<Mutex<BTreeMap<String, FeedFolder>>>,
}

/// What was decided by last.
struct Last {
    at: Instant,
    now_ms: i64,
    rules: Option<Arc<Rules>>,
}

impl Files {
    pub fn new(
        known: Known,
        archived: Known,
        lake: LakeStore,
        groups: BTreeMap<String, String>,
    ) -> Self {
        Self { known, archived, lake, groups, folders: Arc::default() }
    }

    /// Brings every folder to what the rows say of it, or says what that would be.
    pub async fn settle(&self, rows: &[Row], now_ms: i64, mode: Mode) -> Vec<FolderAccess> {
        let folders = self.folders().await;
        self.settle_those(folders, rows, now_ms, mode, true).await
    }

    /// The same of these folders; rows that are not of now open none.
    async fn settle_those(
        &self,
        folders: Vec<FeedFolder>,
        rows: &[Row],
        now_ms: i64,
        mode: Mode,
        of_now: bool,
    ) -> Vec<FolderAccess> {
        let openings = openings(rows, &folders, &self.groups, now_ms);
        let lake = self.lake.clone();
        let work =
            move || openings.iter().filter_map(|it| settle(&lake, it, mode, of_now)).collect();
        tokio::task::spawn_blocking(work).await.unwrap_or_default()
    }

    /// Where feeds have rows and quarantines.
    pub async fn folders(&self) -> Vec<FeedFolder> {
        let mut found = BTreeMap::new();
        for named in self.known.all().await.into_iter().chain(self.archived.all().await) {
            let Ok(Some(path)) = named.lake_folder() else { continue };
            let quarantine = quarantine_path(&named.name);
            for (action, path) in [(Action::Read, path), (Action::Quarantine, quarantine)] {
                let folder = FeedFolder { feed: named.name.clone(), action, path: path.clone() };
                found.entry((path, named.name.clone())).or_insert(folder);
            }
        }
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = std::mem::take(&mut *folders).into_values();
        let taken: BTreeSet<&String> = found.keys().map(|(path, _)| path).collect();
        let gone: Vec<FeedFolder> = gone.filter(|it| !taken.contains(&it.path)).collect();
        let all: Vec<FeedFolder> = found.into_values().chain(gone).collect();
        folders.extend(all.iter().map(|folder| (folder.path.clone(), folder.clone())));
        all
    }

    /// Follows the rows for good.
    pub async fn follow(self, governance: Governance, io: Io) {
        let mut read = governance.watch();
        let (mut last, mut told) = (None, BTreeSet::new());
        let since = Instant::now();
        loop {
            // Which there are may take a while to be known: the rows are those of then.
            let files = self.clone();
            let folders = io.spawn(async move { files.folders().await }).await.unwrap_or_default();
            let now_ms = Utc::now().timestamp_millis();
            let rules = match governance.rules(now_ms) {
                // Never read since the node began, for as long as they would have counted.
                Err(Undecided::Unknown) if since.elapsed() > governance.stale_after() => {
                    Err(Undecided::Stale(since.elapsed()))
                }
                rules => rules,
            };
            if let Some(rules) = due(rules, last.as_ref(), now_ms) {
                let (files, decided) = (self.clone(), rules.clone());
                let pass = io.spawn(async move {
                    let rows = decided.as_ref().map(|rules| rules.rows.as_slice());
                    let as_of = decided.as_ref().map(|rules| rules.as_of_ms);
                    let of_now = as_of.is_some_and(|at| now_ms.abs_diff(at) <= OF_NOW_MS);
                    let rows = rows.unwrap_or_default();
                    files.settle_those(folders, rows, now_ms, Mode::Do, of_now).await
                });
                match pass.await {
                    Ok(settled) => tell(&settled, &mut told),
                    Err(error) => {
                        warn!(target: "tidegate::governor", %error, "looking at the lake's folders failed; they are looked at again");
                    }
                }
                last = Some(Last { at: Instant::now(), now_ms, rules });
            }
            // The governor reads the rows every second while it can.
            let _ = timeout(LOOK, read.changed()).await;
        }
    }
}

/// The rows to go by now, if it is time: those that are known, or none after too long without an answer.
/// Before the first answer the folders stay as they were.
#[expect(clippy::option_option, reason = "whether to look, and by which rows")]
fn due(
    rules: Result<Arc<Rules>, Undecided>,
    last: Option<&Last>,
    now_ms: i64,
) -> Option<Option<Arc<Rules>>> {
    let rules = match rules {
        Ok(rules) => Some(rules),
        Err(Undecided::Stale(_)) => None,
        Err(Undecided::Unknown) => return None,
    };
    let Some(last) = last else { return Some(rules) };
    let same = match (&rules, &last.rules) {
        (Some(rules), Some(last)) => rules.rows == last.rows,
        (rules, last) => rules.is_none() == last.is_none(),
    };
    let mut rows = rules.iter().flat_map(|rules| &rules.rows);
    let expired = rows.any(|row| row.expired_between(last.now_ms, now_ms));
    (!same || expired || last.at.elapsed() >= LOOK).then_some(rules)
}

/// Says what changed, and once what cannot be as the rows say.
fn tell(settled: &[FolderAccess], told: &mut BTreeSet<String>) {
    let mut trouble = BTreeSet::new();
    for it in settled {
        let (feed, folder) = (&it.folder.feed, &it.folder.path);
        if let (true, None, Some(found)) = (it.differs, &it.failed, &it.found) {
            info!(target: "tidegate::governor", feed, folder, from = %found, to = %it.wanted, why = it.why, "the folder's mode follows the permission rows");
        }
        for said in it.failed.iter().chain(&it.notes) {
            let key = format!("{folder}: {}: {said}", it.why);
            if !told.contains(&key) {
                warn!(target: "tidegate::governor", feed, folder, why = it.why, remedy = said, "the folder's mode cannot say what the permission rows say");
            }
            trouble.insert(key);
        }
    }
    *told = trouble;
}
