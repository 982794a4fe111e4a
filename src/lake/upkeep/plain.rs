//! Old rows of a plain table. Its readers look into the folder, so a file cannot be taken from them before
//! it is deleted: it is written down as retired first, with the offsets that go, and deleted after the grace
//! time. Readers of this project pass over it from the first on.

use std::collections::HashSet;

use futures::TryStreamExt;
use object_store::{Error, ObjectMeta};

use super::super::plain::{Retired, RetiredFile, Retirements};
use super::super::scan::{At, TableScan};
use super::expire::{Expired, over, why};
use super::gone::some_of;
use super::{Mode, Upkeep};
use crate::record::SinkError;
use crate::retention::Policy;
use crate::telemetry::fault;

impl Upkeep {
    pub(super) async fn expire_plain(
        &self,
        policy: Policy,
        grace_ms: i64,
        now_ms: i64,
        mode: Mode,
    ) -> Result<Expired, SinkError> {
        let Some(scan) = self.scan(At::Latest).await? else { return Ok(Expired::default()) };
        let over = over(&scan, policy, now_ms);
        let mut done = Expired::of(over.iter().map(|index| &scan.files()[*index]));
        if mode == Mode::Do {
            self.retire(&scan, &over, policy).await?;
        }
        let store = self.store.below(self.layout.folder());
        let retirements = Retirements::read(store.as_ref(), scan.retirements()).await?;
        let due: Vec<&str> = retirements.until(self.store_now(mode).await? - grace_ms).collect();
        for file in self.there(&due).await? {
            if mode == Mode::DryRun || self.delete(file.location.as_ref()).await? {
                done.deleted.add(file.size);
            }
        }
        Ok(done)
    }

    /// Writes down that these files are retired. What was written since the scan looked is told by its number
    /// being taken.
    pub(super) async fn retire(
        &self,
        scan: &TableScan,
        files: &[usize],
        policy: Policy,
    ) -> Result<(), SinkError> {
        let store = self.store.below(self.layout.folder());
        let mut retirements = scan.retirements().clone();
        let mut left = files;
        while !left.is_empty() {
            let some = some_of(scan, left).await?;
            left = &left[some.len()..];
            let files = some.into_iter().map(|(index, gone)| {
                let file = &scan.files()[index];
                RetiredFile {
                    path: file.path.clone(),
                    size: file.size,
                    rows: file.rows.unwrap_or_default(),
                    gone: serde_json::to_value(gone).unwrap_or_default(),
                }
            });
            let at_ms = self.store_now(Mode::Do).await?;
            let retired = Retired { at_ms, policy: why(policy), files: files.collect() };
            retirements.add(store.as_ref(), &retired).await?;
            fault::point("janitor.retired");
        }
        Ok(())
    }

    /// Those of these files that are in the folder still.
    async fn there(&self, paths: &[&str]) -> Result<Vec<ObjectMeta>, SinkError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let wanted: HashSet<&str> = paths.iter().copied().collect();
        let store = self.store.below(self.layout.folder());
        let listed: Result<Vec<_>, Error> = store
            .list(None)
            .try_filter(|meta| std::future::ready(wanted.contains(meta.location.as_ref())))
            .try_collect()
            .await;
        listed.map_err(|error| super::super::log::judged(&error).context("listing the folder"))
    }
}
