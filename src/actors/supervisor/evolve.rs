//! Feeds that get new columns: the fields are added to what is kept for the feed, then it begins anew.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tracing::{info, warn};

use super::super::message::{Evolve, RenewFeeds};
use super::{Key, Supervisor};

/// How long the place where columns are kept may take.
const WITHIN: Duration = Duration::from_secs(10);

impl Handler<Evolve> for Supervisor {
    type Result = ();

    fn handle(&mut self, Evolve { feed, source, new }: Evolve, ctx: &mut Self::Context) {
        let name = feed.name.clone();
        // What has been replaced since has been begun anew, too.
        let runs = self.feeds.get(&name).is_some_and(|known| Arc::ptr_eq(known, &feed));
        if self.stopping || !runs {
            return;
        }
        let file = self
            .files_for(&feed.topic)
            .into_iter()
            .find(|file| file.name_for(&feed.topic).is_ok_and(|of| *of == *feed.name));
        let Some(file) = file else { return };
        info!(target: "tidegate::supervisor", feed = %name, %source, fields = new.fields.len(), wider = new.wider.len(), "records have what no column takes");
        let waiting: &mut Vec<Key> = self.evolving.entry(name.clone()).or_default();
        waiting.push((name.clone(), source));
        if waiting.len() > 1 {
            // The feed is about to begin anew; what this partition found is found again then.
            return;
        }
        let edges = self.setup.edges.clone();
        let adding = self.setup.io.spawn(async move {
            let adding = edges.catalog.extend(&file, &feed, &new);
            let late = || Err(format!("no answer in {WITHIN:?}"));
            tokio::time::timeout(WITHIN, adding).await.unwrap_or_else(|_| late())
        });
        ctx.spawn(adding.into_actor(self).map(move |added, supervisor, ctx| {
            let waiting = supervisor.evolving.remove(&name).unwrap_or_default();
            match added.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(()) => ctx.notify(RenewFeeds(vec![name])),
                Err(error) => {
                    // Nobody's fault that a decision could mend: never parked for it.
                    warn!(target: "tidegate::supervisor", feed = %name, %error, "new columns could not be kept: these partitions wait, rather than lose the fields");
                    for key in waiting {
                        supervisor.begin_later(&key, ctx);
                    }
                }
            }
        }));
    }
}
