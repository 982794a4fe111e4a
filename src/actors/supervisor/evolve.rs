//! Feeds that get new columns: the fields are added to what is kept for the feed, then it begins anew.

use std::sync::Arc;

use actix::prelude::*;
use tracing::info;

use super::super::message::{Evolve, RenewFeeds};
use super::{Key, Supervisor};

impl Handler<Evolve> for Supervisor {
    type Result = ();

    fn handle(&mut self, Evolve { feed, source, new }: Evolve, ctx: &mut Self::Context) {
        let name = feed.name.clone();
        // What has been replaced since has been begun anew, too.
        let runs = self.feeds.get(&name).is_some_and(|known| Arc::ptr_eq(known, &feed));
        if self.stopping || !runs {
            return;
        }
        info!(target: "tidegate::supervisor", feed = %name, %source, fields = new.fields.len(), "records have fields that no column takes");
        let waiting: &mut Vec<Key> = self.evolving.entry(name.clone()).or_default();
        waiting.push((name.clone(), source));
        if waiting.len() > 1 {
            // The feed is about to begin anew; what this partition found is found again then.
            return;
        }
        let edges = self.setup.edges.clone();
        let adding = self.setup.io.spawn(async move { edges.catalog.extend(&feed, &new).await });
        ctx.spawn(adding.into_actor(self).map(move |added, supervisor, ctx| {
            let waiting = supervisor.evolving.remove(&name).unwrap_or_default();
            match added.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(()) => ctx.notify(RenewFeeds(vec![name])),
                Err(error) => {
                    for key in waiting {
                        supervisor.fail(&key, format!("new columns: {error}"), ctx);
                    }
                }
            }
        }));
    }
}
