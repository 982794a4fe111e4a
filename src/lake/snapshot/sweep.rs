//! Files of versions that nobody needs any more. Each is named by a commit of ours or carries the id of
//! a number that was reserved and never committed; and the present version does not name it.

use std::collections::HashSet;
use std::time::Duration;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};

use super::super::delta::now_ms;
use super::super::log::judged;
use super::state::State;
use super::{Reservation, Snapshots, VERSION, reservation};
use crate::record::SinkError;

/// The longest that a reader is given after its version was replaced.
const GRACE: Duration = Duration::from_secs(600);

impl Snapshots {
    /// Deletes what is due. Answers the versions that are gone.
    pub(super) async fn sweep(&self, state: &State) -> Result<Vec<u64>, SinkError> {
        let Some(present) = &state.present else { return Ok(Vec::new()) };
        let live: HashSet<String> =
            state.live.iter().map(|file| file.path().into_owned()).collect();
        let due = now_ms() - self.every().min(GRACE).as_millis() as i64;
        let mut gone = Vec::new();
        // Newest first; the present version is one of those to keep.
        for kept in present.kept.iter().skip(self.options.keep as usize - 1) {
            let referenced = kept.files.iter().any(|file| live.contains(file));
            if kept.replaced_ms <= due && !referenced && self.delete(&kept.files).await {
                self.lake.remove_empty(&format!("{}/{VERSION}=v{}", self.folder, kept.version));
                gone.push(kept.version);
            }
        }
        let readable: Vec<u64> = present
            .kept
            .iter()
            .map(|kept| kept.version)
            .filter(|version| !gone.contains(version))
            .collect();
        for version in self.reserved().await? {
            // A number below the present one was read before its commit, and can no longer be written.
            if version < present.version && !readable.contains(&version) {
                self.forget(version, &live).await?;
            }
        }
        Ok(gone)
    }

    /// Numbers that somebody took.
    pub(super) async fn reserved(&self) -> Result<Vec<u64>, SinkError> {
        let folder = Path::from(super::RESERVATIONS);
        let listed: Vec<_> =
            self.store.list(Some(&folder)).try_collect().await.map_err(|error| judged(&error))?;
        let names = listed.iter().filter_map(|meta| meta.location.filename());
        Ok(names
            .filter_map(|name| name.strip_prefix('v')?.strip_suffix(".json")?.parse().ok())
            .collect())
    }

    /// Deletes what an attempt left that was never committed, and its reservation last.
    async fn forget(&self, version: u64, live: &HashSet<String>) -> Result<(), SinkError> {
        let got = match self.store.get(&reservation(version)).await {
            Ok(got) => got.bytes().await.map_err(|error| judged(&error))?,
            Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(judged(&error)),
        };
        let folder = format!("{VERSION}=v{version}");
        if let Ok(Reservation { id }) = serde_json::from_slice(&got) {
            let place = Path::from(folder.as_str());
            let listed: Vec<_> = self
                .store
                .list(Some(&place))
                .try_collect()
                .await
                .map_err(|error| judged(&error))?;
            let names = listed.into_iter().map(|meta| meta.location.to_string());
            let own = names.filter(|name| name.contains(&id.simple().to_string()));
            let left: Vec<String> = own.filter(|name| !live.contains(name)).collect();
            if !self.delete(&left).await {
                return Ok(());
            }
        }
        self.lake.remove_empty(&format!("{}/{folder}", self.folder));
        match self.store.delete(&reservation(version)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(judged(&error)),
        }
    }
}
