//! The feed folder, looked at while the node runs: what changed there changes the feeds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use crate::actors::Supervisor;
use crate::actors::message::ReplaceFeeds;
use crate::catalog::Known;
use crate::config::{Fault, FeedFile, Folder, Mode, Node};

/// How often the folder is read. A change is taken when it was read twice the same, so that no file is
/// taken half written and no folder half copied.
const EVERY: Duration = Duration::from_secs(1);
/// How often faults that stay are told again.
const REMIND: Duration = Duration::from_secs(300);

pub struct FeedFolder {
    pub node: Arc<Node>,
    pub mode: Mode,
    /// What runs, with both its sides.
    pub running: Vec<FeedFile>,
    pub supervisor: Addr<Supervisor>,
    /// What the API and the janitor know of the feeds.
    pub known: Known,
}

impl FeedFolder {
    /// Looks until the supervisor is gone.
    pub async fn watch(mut self) {
        let (mut taken, mut seen) = (None, None);
        let mut faults: Vec<Fault> = Vec::new();
        let mut said = Instant::now();
        let mut clock = tokio::time::interval(EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            clock.tick().await;
            if !faults.is_empty() && said.elapsed() > REMIND {
                tell(&faults);
                said = Instant::now();
            }
            let path: PathBuf = self.node.feeds.clone();
            let read = spawn_blocking(move || Folder::read(&path)).await;
            let now = match read {
                Ok(Ok(folder)) => folder,
                // What cannot be read says nothing of what is to run.
                Ok(Err(fault)) => {
                    if faults != [fault.clone()] {
                        faults = vec![fault];
                        tell(&faults);
                        said = Instant::now();
                    }
                    taken = None;
                    continue;
                }
                Err(_) => return,
            };
            if taken.as_ref() == Some(&now) {
                seen = None;
                continue;
            }
            if seen.as_ref() != Some(&now) {
                seen = Some(now);
                continue;
            }
            let (feeds, found) = now.change(&self.node, &self.running);
            if found.is_empty() && !faults.is_empty() {
                info!(target: "tidegate::app", "the feed files have no fault any more");
            } else if found != faults {
                tell(&found);
                said = Instant::now();
            }
            faults = found;
            self.known.replace(feeds.clone());
            let replace = ReplaceFeeds(self.mode.narrow(feeds.clone()));
            if self.supervisor.send(replace).await.is_err() {
                return;
            }
            (taken, seen, self.running) = (Some(now), None, feeds);
        }
    }
}

fn tell(faults: &[Fault]) {
    for fault in faults {
        error!(target: "tidegate::app", file = %fault.file.display(), field = fault.field, %fault, "a feed file is refused");
    }
    warn!(target: "tidegate::app", faults = faults.len(), "feeds that run go on as they are; `tidegate feeds check` names every fault");
}
