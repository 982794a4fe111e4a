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
//! * `vacuum` deletes files that no version needs any more, in two steps with the grace time between. A writer
//!   that has staged files commits them within [`STAGED_FOR`] or not at all, and a sweep commits to the table
//!   before it deletes; so none of a sleeper that wakes names a file that is gone.

mod compact;
mod expire;
mod gone;
mod marks;
mod plain;
mod replace;
#[cfg(test)]
mod tests;
mod vacuum;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::columns::delta_columns;
use super::commit_loop::Log;
use super::delta::now_ms;
use super::log::{judged, judged_write};
use super::scan::{At, NotOpened, TableScan};
use super::{LakeStore, format, lake_schema};
use crate::config::{Feed, LakeFormat, Storage};
use crate::layout::Layout;
use crate::record::SinkError;

pub use compact::Compacted;
pub use expire::Expired;
pub use vacuum::Vacuumed;

/// The longest that staged files may wait for their commit. Half of the least grace time.
pub const STAGED_FOR: Duration = Duration::from_secs(30 * 60);
/// What nothing refers to is kept for at least so long.
pub const LEAST_GRACE: Duration = Duration::from_secs(60 * 60);

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

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// One feed's table, to be looked after.
pub struct Upkeep {
    store: LakeStore,
    feed: Arc<Feed>,
    layout: Layout,
}

impl Upkeep {
    /// None where the feed has no lake side.
    pub fn of(store: &LakeStore, feed: Arc<Feed>) -> Result<Option<Self>, SinkError> {
        if feed.lake.is_none() {
            return Ok(None);
        }
        let layout = Layout::of(&feed).map_err(SinkError::lasting)?;
        Ok(Some(Self { store: store.clone(), feed, layout }))
    }

    /// The store's clock, so that nodes whose own differ agree: milliseconds since the epoch. A dry run, which
    /// writes nothing, goes by its own.
    pub async fn store_now(&self, mode: Mode) -> Result<i64, SinkError> {
        if mode == Mode::DryRun {
            return Ok(now_ms());
        }
        let (store, name) = (self.store.below("_tidegate"), Path::from("clock"));
        let asked = store.put(&name, Bytes::from_static(b"what time is it").into()).await;
        asked.map_err(|error| judged_write(&error).context("asking the store for the time"))?;
        let told = store.head(&name).await;
        let told = told.map_err(|error| judged(&error).context("asking the store for the time"))?;
        Ok(told.last_modified.timestamp_millis())
    }

    fn is_delta(&self) -> bool {
        format(&self.feed) == LakeFormat::Delta
    }

    /// The table is all of its records. That of one which shows snapshots is folded from its files in the
    /// order of their commits, and follows its own rule of what is kept.
    fn is_appended_to(&self) -> bool {
        self.feed.lake.as_ref().is_some_and(|options| options.storage == Storage::Append)
    }

    /// The table as it stands; none where there is none.
    async fn scan(&self, at: At) -> Result<Option<TableScan>, SinkError> {
        match TableScan::open(&self.store, &self.feed, at).await {
            Ok(scan) => Ok(Some(scan)),
            Err(NotOpened::NoTable(_)) => Ok(None),
            Err(NotOpened::NoState(why)) => Err(SinkError::passing(why)),
            Err(NotOpened::Failed(error)) => Err(error),
        }
    }

    /// The log of a table that is there.
    async fn log(&self) -> Result<Log, SinkError> {
        let columns = delta_columns(&lake_schema(&self.feed), &self.layout);
        Log::open(&self.store, self.layout.clone(), columns).await
    }
}
