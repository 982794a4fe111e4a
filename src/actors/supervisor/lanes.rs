//! Lanes: lost, claimed again, caught up, joined.

use actix::prelude::*;
use chrono::Utc;
use tracing::{info, warn};

use super::super::message::{Abandon, Attach, Detach, Loss, Stream};
use super::super::ownership::Lane;
use super::partitions::{LaneState, Phase, route};
use super::{Key, RETRY, Supervisor};
use crate::record::{Claim, SinkKind};
use crate::source::{Command, KafkaSource};

impl Supervisor {
    pub fn lane_lost(
        &mut self,
        key: &Key,
        sink: SinkKind,
        claim: Option<Claim>,
        loss: Loss,
        ctx: &mut Context<Self>,
    ) {
        let Some(owned) = self.owned.get_mut(key) else { return };
        let Some(lane) = owned.lanes.get_mut(&sink) else { return };
        if lane.claim != claim {
            return;
        }
        warn!(target: "tidegate::supervisor", feed = %key.0, source = %key.1, %sink, %loss, "lane lost");
        lane.state = LaneState::Detached;
        lane.claim = None;
        lane.reason = loss.to_string();
        owned.place.failed(&format!("{sink}: {loss}"), Utc::now().timestamp_millis());
        let attempt = lane.attempt;
        lane.attempt += 1;
        let alone = !owned.lanes.values().any(|lane| lane.state.is_fed());
        self.abandon(&key.0, claim.into_iter().collect());
        self.halt_catch_up(key, sink);
        if let Loss::TooManyRejects(reason) = loss {
            self.park(key, reason, ctx);
        } else if alone {
            // With no other sink to serve, the main stream itself goes back to the watermark.
            self.fail(key, format!("{sink}: {loss}"), ctx);
        } else {
            self.retry_lane(key.clone(), sink, attempt, ctx);
        }
    }

    /// Claims a detached lane again, after a while.
    pub fn retry_lane(&self, key: Key, sink: SinkKind, attempt: u32, ctx: &mut Context<Self>) {
        ctx.run_later(RETRY.wait(attempt, rand::random()), move |supervisor, ctx| {
            supervisor.claim_lane(key, sink, ctx);
        });
    }

    fn claim_lane(&mut self, key: Key, sink: SinkKind, ctx: &mut Context<Self>) {
        if self.stopping {
            return;
        }
        let Some(owned) = self.owned.get_mut(&key) else { return };
        let Phase::Running(consumer) = &owned.phase else { return };
        match owned.lanes.get_mut(&sink) {
            Some(lane) if lane.state == LaneState::Detached => lane.state = LaneState::Claiming,
            _ => return,
        }
        let (feed, source) = (owned.feed.clone(), key.1.clone());
        let (edges, consumer) = (self.setup.edges.clone(), consumer.clone());
        let asking = self.setup.io.spawn(async move {
            let bounds = match edges.bounds(std::slice::from_ref(&source)).await {
                Ok(bounds) => bounds,
                Err(error) => return Lane::Detached(error),
            };
            let Some(bounds) = bounds.get(&source) else {
                return Lane::Detached("the broker does not know the partition".to_owned());
            };
            let wanted = [(source.clone(), *bounds)];
            let mut lanes = edges.claim(&feed, sink, &wanted).await;
            lanes.remove(&source).unwrap_or(Lane::Detached("no answer".to_owned()))
        });
        ctx.spawn(asking.into_actor(self).map(move |lane, supervisor, ctx| {
            let same =
                supervisor.owned.get(&key).and_then(|owned| owned.consumer()) == Some(&consumer);
            if !same {
                return;
            }
            match lane {
                Ok(Lane::Granted { claim, watermark }) => {
                    supervisor.attach(key, sink, claim, watermark, ctx);
                    supervisor.hurry_lanes(sink, ctx);
                }
                Ok(Lane::Park(reason)) => supervisor.park(&key, reason, ctx),
                Ok(Lane::Detached(reason)) => supervisor.postpone(key, sink, reason, ctx),
                Err(error) => supervisor.postpone(key, sink, error.to_string(), ctx),
            }
        }));
    }

    /// The sink answers again: every other partition that waits for it need not wait longer.
    fn hurry_lanes(&mut self, sink: SinkKind, ctx: &mut Context<Self>) {
        let waiting: Vec<Key> = self
            .owned
            .iter_mut()
            .filter_map(|(key, owned)| {
                let lane = owned.lanes.get_mut(&sink)?;
                let waits = lane.state == LaneState::Detached && lane.attempt > 1;
                waits.then(|| {
                    lane.attempt = 0;
                    key.clone()
                })
            })
            .collect();
        for key in waiting {
            self.claim_lane(key, sink, ctx);
        }
    }

    fn postpone(&mut self, key: Key, sink: SinkKind, reason: String, ctx: &mut Context<Self>) {
        let Some(owned) = self.owned.get_mut(&key) else { return };
        let Some(lane) = owned.lanes.get_mut(&sink) else { return };
        owned.place.failed(&format!("{sink}: {reason}"), Utc::now().timestamp_millis());
        lane.state = LaneState::Detached;
        lane.reason = reason;
        let attempt = lane.attempt;
        lane.attempt += 1;
        self.retry_lane(key, sink, attempt, ctx);
    }

    /// Hands a granted claim to the partition consumer and starts the catch-up if one is needed.
    fn attach(
        &mut self,
        key: Key,
        sink: SinkKind,
        claim: Claim,
        watermark: i64,
        ctx: &mut Context<Self>,
    ) {
        let Some(owned) = self.owned.get(&key) else { return };
        let (feed, Some(consumer)) = (owned.feed.clone(), owned.consumer().cloned()) else {
            return;
        };
        let Some(writer) = self.writer(&feed, sink) else {
            self.postpone(key, sink, "no writer".to_owned(), ctx);
            return;
        };
        if let Some(lane) = self.owned.get_mut(&key).and_then(|owned| owned.lanes.get_mut(&sink)) {
            lane.state = LaneState::CatchingUp;
            lane.claim = Some(claim);
        }
        let attaching = consumer.send(Attach { sink, claim, watermark, writer });
        ctx.spawn(attaching.into_actor(self).map(move |answer, supervisor, ctx| {
            if let Ok(Some(offset)) = answer {
                info!(target: "tidegate::supervisor", feed = %key.0, source = %key.1, %sink, from = offset, "catching up");
                supervisor.start_catch_up(&key, sink, offset, ctx);
            }
        }));
    }

    fn start_catch_up(&mut self, key: &Key, sink: SinkKind, offset: i64, ctx: &mut Context<Self>) {
        let Some(owned) = self.owned.get(key) else { return };
        let Some(consumer) = owned.consumer().cloned() else { return };
        let route = route(&owned.feed, &consumer, Stream::CatchUp(sink));
        let source = key.1.clone();
        match self.catch_up_source(sink, ctx) {
            Ok(catch_up) => catch_up.tell(Command::Start { source, offset, route }),
            Err(error) => {
                warn!(target: "tidegate::supervisor", %sink, %error, "no catch-up consumer");
                drop(consumer.try_send(Detach { sink, loss: Loss::TooSlow }));
            }
        }
    }

    fn catch_up_source(
        &mut self,
        sink: SinkKind,
        ctx: &mut Context<Self>,
    ) -> Result<&KafkaSource, String> {
        if !self.catch_up.contains_key(&sink) {
            // A catch-up may fill its share and no more, so the main stream always has room.
            let share = self.setup.budget.share(self.setup.budget.limit() / 4);
            let events = ctx.address().recipient();
            let (stream, topics) = (Stream::CatchUp(sink), Vec::new());
            let source = (self.setup.open_source)(stream, self.protocol, topics, share, events)?;
            self.catch_up.insert(sink, source);
        }
        Ok(&self.catch_up[&sink])
    }

    pub fn lane_joined(&mut self, key: &Key, sink: SinkKind) {
        info!(target: "tidegate::supervisor", feed = %key.0, source = %key.1, %sink, "caught up and joined");
        self.halt_catch_up(key, sink);
        let lane = self.owned.get_mut(key).and_then(|owned| owned.lanes.get_mut(&sink));
        if let Some(lane) = lane {
            lane.state = LaneState::Attached;
            lane.attempt = 0;
            lane.reason.clear();
        }
    }

    fn halt_catch_up(&self, key: &Key, sink: SinkKind) {
        if let Some(source) = self.catch_up.get(&sink) {
            source.tell(Command::Halt { source: key.1.clone(), feed: key.0.clone() });
        }
    }

    /// The catch-up consumer of a sink ended: its lanes begin again.
    pub fn restart_catch_up(&self, sink: SinkKind) {
        for key in self.owned.keys() {
            self.begin_catch_up_again(key, sink);
        }
    }

    /// A lane that is catching up is claimed again, and so its place in the log is judged.
    pub fn begin_catch_up_again(&self, key: &Key, sink: SinkKind) {
        let Some(owned) = self.owned.get(key) else { return };
        let catching_up =
            owned.lanes.get(&sink).is_some_and(|lane| lane.state == LaneState::CatchingUp);
        if let (true, Some(consumer)) = (catching_up, owned.consumer()) {
            drop(consumer.try_send(Detach { sink, loss: Loss::TooSlow }));
        }
    }

    /// Tells a feed's writers to forget what waits under dead claims.
    pub fn abandon(&self, feed: &std::sync::Arc<str>, claims: Vec<Claim>) {
        if claims.is_empty() {
            return;
        }
        for ((of, _), writers) in &self.writers {
            if of == feed {
                drop(writers.abandon.try_send(Abandon(claims.clone())));
            }
        }
    }
}
