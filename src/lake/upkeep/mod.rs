//! What is done to a table beside writing rows: old ones go, crumbs become files, and what nothing refers
//! to is swept away.
//!
//! Each chore looks, plans by a pure function ([`crate::retention`]) and commits under the same loop as the
//! rows do: what a commit removes is checked, in the very version it is written on, to be there still. So two
//! that do the same at once, one of them an hour old, take nothing away twice and lose nothing. None needs
//! input or memory of the time before: done again, it finds nothing to do.
//!
//! * `expire` takes whole times out of a table, and says in the commit which offsets went. Of a plain table,
//!   whose readers know no commits, it writes them down first and deletes the files after the grace time.
//! * `compact` joins small files of a Delta table. Rows stay as they are, and so do the versions before it.
//! * `checkpoint` and `cut` keep the log of a Delta table short.
//! * `vacuum` deletes files that no version needs any more, in two steps with the grace time between. A writer
//!   that has staged files commits them within [`STAGED_FOR`] or not at all, and a sweep commits to the table
//!   before it deletes; so none of a sleeper that wakes names a file that is gone.

mod compact;
mod expire;
mod gone;
mod log;
mod marks;
mod plain;
mod replace;
#[cfg(test)]
pub(crate) mod tests;
mod vacuum;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::columns::delta_columns;
use super::commit_loop::Log;
use super::delta::now_ms;
use super::quarantine::quarantine_schema;
use super::scan::{At, NotOpened, ScanFile, TableScan};
use super::{LakeStore, format, lake_schema};
use crate::config::{Feed, LakeFormat, LakeOptions, Storage};
use crate::layout::Layout;
use crate::record::SinkError;

pub use compact::Compacted;
pub use expire::Expired;
pub use log::{Cut, Logged, Taken};
pub use vacuum::Vacuumed;

/// The longest that staged files may wait for their commit. Half of the least grace time.
pub const STAGED_FOR: Duration = Duration::from_secs(30 * 60);
/// What nothing refers to is kept for at least so long.
pub const LEAST_GRACE: Duration = Duration::from_secs(60 * 60);
/// Entries of a log are kept for at least so long.
pub const LEAST_LOG: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether something is done, or only said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Do,
    DryRun,
}

/// A number of files, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amount {
    pub files: u64,
    pub bytes: u64,
}

/// What a table is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LakeFiles {
    pub amount: Amount,
    /// None where a file does not say.
    pub rows: Option<u64>,
    /// The newest of its records' timestamps, or where files do not say it the last commit: milliseconds since
    /// the epoch.
    pub newest_ms: Option<i64>,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// One table, to be looked after.
pub struct Upkeep {
    store: LakeStore,
    feed: Arc<Feed>,
    /// Of its two tables this one.
    of: Of,
    layout: Layout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Rows,
    Quarantine,
}

impl Upkeep {
    /// The feed's table; none where the feed has no lake side.
    pub fn of(store: &LakeStore, feed: Arc<Feed>) -> Result<Option<Self>, SinkError> {
        if feed.lake.is_none() {
            return Ok(None);
        }
        let layout = Layout::of(&feed).map_err(SinkError::lasting)?;
        Ok(Some(Self { store: store.clone(), feed, of: Of::Rows, layout }))
    }

    /// The feed's quarantine; none where the feed has no lake side.
    pub fn of_quarantine(store: &LakeStore, feed: Arc<Feed>) -> Result<Option<Self>, SinkError> {
        if feed.lake.is_none() {
            return Ok(None);
        }
        let layout = Layout::of_quarantine(&feed.name).map_err(SinkError::lasting)?;
        Ok(Some(Self { store: store.clone(), feed, of: Of::Quarantine, layout }))
    }

    /// Its folder below the lake's root.
    pub fn folder(&self) -> &str {
        self.layout.folder()
    }

    /// The store's clock, so that nodes whose own differ agree: milliseconds since the epoch. A dry run, which
    /// writes nothing, goes by its own.
    pub async fn store_now(&self, mode: Mode) -> Result<i64, SinkError> {
        if mode == Mode::DryRun {
            return Ok(now_ms());
        }
        self.store.now_ms().await
    }

    /// The files that readers are shown; none where there is no table.
    pub async fn files(&self) -> Result<Option<LakeFiles>, SinkError> {
        let Some(scan) = self.scan(At::Latest).await? else { return Ok(None) };
        let mut amount = Amount::default();
        scan.files().iter().for_each(|file| amount.add(file.size));
        let newest = scan.files().iter().filter_map(ScanFile::newest_ms).max();
        Ok(Some(LakeFiles {
            amount,
            rows: scan.files().iter().map(|file| file.rows).sum(),
            // A plain table's commits do not say it of their records.
            newest_ms: newest.or_else(|| scan.committed_ms().filter(|_| !self.is_delta())),
        }))
    }

    fn is_delta(&self) -> bool {
        self.of == Of::Quarantine || format(&self.feed) == LakeFormat::Delta
    }

    /// The table is all of its records. That of one which shows snapshots is folded from its files in the
    /// order of their commits, and follows its own rule of what is kept.
    fn is_appended_to(&self) -> bool {
        let is_append = |options: &LakeOptions| options.storage == Storage::Append;
        self.of == Of::Quarantine || self.feed.lake.as_ref().is_some_and(is_append)
    }

    /// The table as it stands; none where there is none.
    async fn scan(&self, at: At) -> Result<Option<TableScan>, SinkError> {
        let opened = match self.of {
            Of::Rows => TableScan::open(&self.store, &self.feed, at).await,
            Of::Quarantine => TableScan::open_quarantine(&self.store, &self.feed.name, at).await,
        };
        match opened {
            Ok(scan) => Ok(Some(scan)),
            Err(NotOpened::NoTable(_)) => Ok(None),
            Err(NotOpened::NoState(why)) => Err(SinkError::passing(why)),
            Err(NotOpened::Failed(error)) => Err(error),
        }
    }

    /// The log of a table that is there.
    async fn log(&self) -> Result<Log, SinkError> {
        let files = match self.of {
            Of::Rows => lake_schema(&self.feed),
            Of::Quarantine => quarantine_schema(),
        };
        let columns = delta_columns(&files, &self.layout);
        Log::open(&self.store, self.layout.clone(), columns).await
    }
}
