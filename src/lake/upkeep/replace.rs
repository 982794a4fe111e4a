//! The commit of every chore that takes files out of a Delta table: only if each is there still.

use std::collections::HashMap;

use super::super::Staging;
use super::super::change::{Change, RemovedFile};
use super::super::commit_loop::Log;
use super::super::log::{CommitLine, read_log};
use super::super::retry::{self, ATTEMPTS};
use super::super::scan::{ScanFile, TableScan};
use super::Upkeep;
use super::gone::Gone;
use crate::record::SinkError;

impl Upkeep {
    /// Commits a change that removes files, unless one of them is gone by then, or the table is another.
    pub(super) async fn replace(
        &self,
        log: &Log,
        scan: &TableScan,
        change: Change,
        staged: Staging,
    ) -> Result<bool, SinkError> {
        let Some(planned) = scan.version() else { return Ok(false) };
        let mut checked = planned;
        let mut state = log.state.lock().await;
        for attempt in 0..ATTEMPTS {
            if log.refresh(&mut state).await?.contains(&change.id) {
                return Ok(true);
            }
            state.refuse_after_restore(&self.feed.name)?;
            let Some(version) = state.version.filter(|version| *version >= planned) else {
                return Ok(false);
            };
            for entry in checked + 1..=version {
                let Some(entry) = read_log(log.store.as_ref(), entry).await? else {
                    return Ok(false);
                };
                if entry.is_commit(change.id) {
                    return Ok(true);
                }
                let touches = entry.lines.iter().any(|line| match line {
                    CommitLine::Remove(remove) => {
                        change.removed.iter().any(|own| *own.path == *remove.path)
                    }
                    CommitLine::MetaData(_) | CommitLine::Protocol(_) => true,
                    _ => false,
                });
                if touches {
                    return Ok(false);
                }
            }
            checked = version;
            // Nothing would tell apart any more what of two topics is in a file without a topic's tag.
            let untold = change.files.iter().any(|file| !file.topic.is_known());
            if untold && state.marks.has_former() {
                return Ok(false);
            }
            staged.refuse_if_old()?;
            // That of the plan may have been replaced by another log's, which looks like ours.
            if self.stood_so(log, scan).await? && log.try_commit(&mut state, &change).await? {
                log.checkpoint_if_due(&state);
                return Ok(true);
            }
            retry::pause(attempt).await;
        }
        Err(retry::lost())
    }

    async fn stood_so(&self, log: &Log, scan: &TableScan) -> Result<bool, SinkError> {
        let Some(version) = scan.version() else { return Ok(false) };
        let entry = read_log(log.store.as_ref(), version).await?;
        Ok(entry.map(|entry| entry.committed_ms()) == scan.committed_ms())
    }
}

pub(super) fn removed(file: &ScanFile, gone: Option<&Vec<Gone>>) -> RemovedFile {
    let values: HashMap<String, Option<String>> =
        file.values.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    RemovedFile {
        path: file.path.clone(),
        size: file.size,
        partition_values: values,
        taken: gone.and_then(|gone| serde_json::to_string(gone).ok()),
    }
}
