//! Old rows go: whole times of a table.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::info;

use super::super::Staging;
use super::super::change::{Change, Kind, RemovedFile};
use super::super::scan::{At, ScanFile, TableScan};
use super::gone::some_of;
use super::replace::removed;
use super::{Amount, Mode, Upkeep};
use crate::layout::end_of;
use crate::record::SinkError;
use crate::retention::{Dated, Policy, expired};

/// What a pass took out of a table, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expired {
    /// The times that are over, the oldest first; those of files without one are none of them.
    pub times: Vec<String>,
    pub taken: Amount,
    pub rows: u64,
    /// Of a plain table: deleted, the grace time being over.
    pub deleted: Amount,
}

impl Expired {
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a ScanFile>) -> Self {
        let mut found = Self::default();
        for file in files {
            found.taken.add(file.size);
            found.rows += file.rows.unwrap_or_default();
            found.times.extend(file.time.clone());
        }
        found.times.sort_unstable();
        found.times.dedup();
        found
    }

    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.times.sort_unstable();
        self.times.dedup();
        self.rows += other.rows;
        self.taken.files += other.taken.files;
        self.taken.bytes += other.taken.bytes;
    }
}

/// Files whose time is over. One that is replayed from quarantine goes with the others of its time.
pub(super) fn over(scan: &TableScan, policy: Policy, now_ms: i64) -> Vec<usize> {
    let dated = scan.files().iter().map(|file| Dated {
        end_ms: file.time.as_deref().map_or(Some(file.added_ms), end_of),
        bytes: file.size,
    });
    expired(&dated.collect::<Vec<_>>(), policy, now_ms)
}

impl Upkeep {
    /// Takes out what is older than the policy keeps. A table that shows snapshots is left alone.
    pub async fn expire(
        &self,
        policy: Policy,
        grace_ms: i64,
        now_ms: i64,
        mode: Mode,
    ) -> Result<Expired, SinkError> {
        if !self.is_appended_to() {
            return Ok(Expired::default());
        }
        if !self.is_delta() {
            return self.expire_plain(policy, grace_ms, now_ms, mode).await;
        }
        let Some(scan) = self.scan(At::Latest).await? else { return Ok(Expired::default()) };
        let over = over(&scan, policy, now_ms);
        if mode == Mode::DryRun || over.is_empty() {
            return Ok(Expired::of(over.iter().map(|index| &scan.files()[*index])));
        }
        let log = self.log().await?;
        let mut done = Expired::default();
        let mut left = over.as_slice();
        while !left.is_empty() {
            let some = some_of(&scan, left).await?;
            left = &left[some.len()..];
            let file = |index: &usize| &scan.files()[*index];
            let removed = some.iter().map(|(index, gone)| removed(file(index), Some(gone)));
            let removed: Vec<RemovedFile> = removed.collect();
            let why = why(policy);
            let said = Some(("tidegateRetention", json!({"policy": why})));
            let change = Change { kind: Kind::Retention(why), removed, said, ..Change::default() };
            let of = Expired::of(some.iter().map(|(index, _)| file(index)));
            if self.replace(&log, &scan, change, Staging::now()).await? {
                info!(target: "tidegate::janitor", feed = %self.feed.name, files = of.taken.files, rows = of.rows, "rows whose time is over are taken out of the lake");
                done.add(of);
            }
        }
        Ok(done)
    }
}

/// Why rows went, for people: as a condition.
pub(super) fn why(policy: Policy) -> String {
    let days = policy.days.map(|days| format!("older than {days} days"));
    let bytes = policy.bytes.map(|bytes| format!("beyond {bytes} bytes"));
    days.into_iter().chain(bytes).collect::<Vec<_>>().join(", or ")
}
