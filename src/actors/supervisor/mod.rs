//! The supervisor: who owns what, who is dead, and what happens next.
//!
//! It answers the consumer group, claims partitions in the sinks, builds partition consumers and
//! writers from blueprints, and builds them again when they die: `actix::Supervisor` alone would not,
//! since a panicking handler closes its address for good. A partition that keeps failing is parked
//! with its reason and tried again on a slow clock, while the others run on.

mod care;
mod evolve;
mod feeds;
mod lanes;
mod partitions;
mod reading;
mod writers;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tracing::{debug, error, info, warn};

use self::feeds::subscription;
use self::partitions::{Owned, Phase};
use self::writers::WriterSet;
use super::Io;
use super::message::{
    Detach, Drain, LaneChange, LaneChanged, Loss, PartitionStatus, SourceEvent, Status, Stop,
    Stream,
};
use super::ownership::Edges;
use super::partition_consumer::PartitionConsumer;
use super::snapshots::Clock;
use crate::config::{Feed, FeedFile, Node, Protocol};
use crate::flow::backoff::Backoff;
use crate::flow::budget::Budget;
use crate::record::{SinkKind, TopicPartition};
use crate::source::{Command, Event, KafkaSource};
use crate::telemetry::metrics;
use crate::telemetry::pulse::Pulse;

/// Between attempts to take a partition or a lane.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(15));
/// So many failures in a row park a partition.
const PARK_AFTER: u32 = 8;
/// A partition that has run this long starts counting anew.
const STEADY: Duration = Duration::from_secs(30);
/// How long a consumer may take to leave the group when the node stops.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(500);

/// A feed of one partition: the unit of ownership.
type Key = (Arc<str>, TopicPartition);

/// Starts a consumer whose events come back to the supervisor.
pub type OpenSource = Box<
    dyn Fn(
        Stream,
        Protocol,
        Vec<String>,
        Budget,
        Recipient<SourceEvent>,
    ) -> Result<KafkaSource, String>,
>;

/// What the supervisor is built from.
pub struct Setup {
    pub node: Arc<Node>,
    pub feeds: Vec<FeedFile>,
    pub edges: Arc<Edges>,
    pub io: Io,
    /// For everything but the supervisor itself.
    pub arbiters: Vec<ArbiterHandle>,
    pub budget: Budget,
    /// Seen from outside.
    pub pulse: Arc<Pulse>,
    pub open_source: OpenSource,
}

pub struct Supervisor {
    setup: Setup,
    protocol: Protocol,
    main: Option<KafkaSource>,
    catch_up: HashMap<SinkKind, KafkaSource>,
    feeds: HashMap<Arc<str>, Arc<Feed>>,
    writers: HashMap<(Arc<str>, SinkKind), WriterSet>,
    owned: HashMap<Key, Owned>,
    /// What the group gave us and has not taken back.
    assigned: HashSet<TopicPartition>,
    /// Claims on their way.
    asking: HashSet<Key>,
    /// Partitions whose feed could not be begun so far, and whether it waits or fails.
    refused: HashMap<Key, &'static str>,
    /// How often each feed was replaced by another of its name.
    versions: HashMap<Arc<str>, u64>,
    /// Feeds that are drained to end or to begin anew, and by how many changes.
    ending: HashMap<Arc<str>, usize>,
    /// Partitions that wait for their feed's new columns.
    evolving: HashMap<Arc<str>, Vec<Key>>,
    /// How often the session expired.
    losses: u64,
    /// Deaths of the poll thread in a row.
    source_deaths: u32,
    opened: Instant,
    /// When the feeds are next held against the broker's topics.
    topics_due: Instant,
    full_since: Option<Instant>,
    beating: bool,
    snapshots: Clock,
    next_arbiter: usize,
    stopping: bool,
}

impl Supervisor {
    pub fn build(setup: Setup) -> Self {
        for what in ["source", "partition", "writer"] {
            metrics::ACTOR_RESTARTS.add([what], 0);
        }
        Self {
            protocol: setup.node.kafka.protocol,
            snapshots: Clock::new(setup.node.memory.budget.bytes()),
            setup,
            main: None,
            catch_up: HashMap::new(),
            feeds: HashMap::new(),
            writers: HashMap::new(),
            owned: HashMap::new(),
            assigned: HashSet::new(),
            asking: HashSet::new(),
            refused: HashMap::new(),
            versions: HashMap::new(),
            ending: HashMap::new(),
            evolving: HashMap::new(),
            losses: 0,
            source_deaths: 0,
            opened: Instant::now(),
            topics_due: Instant::now() + Duration::from_secs(3),
            full_since: None,
            beating: false,
            next_arbiter: 0,
            stopping: false,
        }
    }

    /// Joins the group.
    fn open_main(&mut self, ctx: &mut Context<Self>) {
        let events = ctx.address().recipient();
        let budget = self.setup.budget.clone();
        let protocol = match self.protocol {
            Protocol::Auto | Protocol::Consumer => "consumer (KIP-848)",
            Protocol::Classic => "classic (cooperative-sticky)",
        };
        info!(target: "tidegate::supervisor", group = self.setup.node.kafka.group, protocol, "joining the group");
        let topics = subscription(&self.setup.feeds);
        match (self.setup.open_source)(Stream::Main, self.protocol, topics, budget, events) {
            Ok(source) => {
                self.main = Some(source);
                self.opened = Instant::now();
            }
            Err(error) => {
                error!(target: "tidegate::supervisor", %error, "the consumer could not be started");
                System::current().stop_with_code(1);
            }
        }
    }

    fn arbiter(&mut self) -> ArbiterHandle {
        self.next_arbiter = (self.next_arbiter + 1) % self.setup.arbiters.len();
        self.setup.arbiters[self.next_arbiter].clone()
    }

    fn tell_main(&self, command: Command) {
        if let Some(main) = &self.main {
            main.tell(command);
        }
    }

    /// The feed files that read a topic.
    fn files_for(&self, topic: &str) -> Vec<FeedFile> {
        let files = self.setup.feeds.iter().filter(|file| file.enabled && file.matches(topic));
        files.cloned().collect()
    }

    fn on_revoked(&mut self, partitions: Vec<TopicPartition>, ctx: &mut Context<Self>) {
        info!(target: "tidegate::supervisor", count = partitions.len(), "revoked: draining");
        let since = Instant::now();
        self.assigned.retain(|source| !partitions.contains(source));
        self.refused.retain(|(_, source), _| !partitions.contains(source));
        let keys = self.keys_of(&partitions);
        let drained = self.drain(&keys, ctx);
        let deadline = self.setup.node.drain_deadline.get();
        let waiting = async move { tokio::time::timeout(deadline, drained).await.is_ok() };
        ctx.spawn(waiting.into_actor(self).map(move |in_time, supervisor, _| {
            if !in_time {
                warn!(target: "tidegate::supervisor", "the drain deadline passed: what is in flight is abandoned");
            }
            debug!(target: "tidegate::supervisor", ms = since.elapsed().as_millis() as u64, in_time, "drained");
            for key in keys {
                supervisor.drop_partition(&key);
            }
            supervisor.tell_main(Command::Unassign(partitions));
        }));
    }

    fn on_lost(&mut self, partitions: Vec<TopicPartition>) {
        warn!(target: "tidegate::supervisor", count = partitions.len(), "lost: the session expired; abandoning what is in flight");
        self.losses += 1;
        self.assigned.retain(|source| !partitions.contains(source));
        self.refused.retain(|(_, source), _| !partitions.contains(source));
        for key in self.keys_of(&partitions) {
            self.drop_partition(&key);
        }
        self.tell_main(Command::Unassign(partitions));
    }

    /// What was assigned is no longer read, and the group may have given it to others by now.
    fn on_panic(&mut self, ctx: &mut Context<Self>) {
        metrics::ACTOR_RESTARTS.add(["source"], 1);
        error!(target: "tidegate::supervisor", "the poll thread died; the node joins the group anew");
        self.main = None;
        self.setup.pulse.left();
        self.losses += 1;
        let assigned: Vec<TopicPartition> = self.assigned.drain().collect();
        for key in self.keys_of(&assigned) {
            self.drop_partition(&key);
        }
        if self.opened.elapsed() > STEADY {
            self.source_deaths = 0;
        }
        let wait = RETRY.wait(self.source_deaths, rand::random());
        self.source_deaths += 1;
        ctx.run_later(wait, |supervisor, ctx| {
            if !supervisor.stopping && supervisor.main.is_none() {
                supervisor.open_main(ctx);
            }
        });
    }

    fn keys_of(&self, partitions: &[TopicPartition]) -> Vec<Key> {
        let keys = self.owned.keys().filter(|(_, source)| partitions.contains(source));
        keys.cloned().collect()
    }

    /// Asks partition consumers to take no more, hurries their writers, and waits until nothing is in
    /// flight.
    fn drain(&mut self, keys: &[Key], _: &mut Context<Self>) -> impl Future<Output = ()> + 'static {
        let consumers: Vec<Addr<PartitionConsumer>> =
            keys.iter().filter_map(|key| self.owned.get(key)?.consumer().cloned()).collect();
        let feeds: HashSet<&Arc<str>> = keys.iter().map(|(feed, _)| feed).collect();
        let writers: Vec<_> = self
            .writers
            .iter()
            .filter(|((feed, _), _)| feeds.contains(feed))
            .map(|(_, writers)| writers.flush.clone())
            .collect();
        async move {
            let drains = consumers.iter().map(|consumer| consumer.send(Drain));
            let mut drains = std::pin::pin!(futures::future::join_all(drains));
            // Hurried again and again: what a consumer delivers just before it hears the drain comes
            // after a first flush.
            let mut hurry = tokio::time::interval(Duration::from_millis(50));
            loop {
                tokio::select! {
                    _ = &mut drains => return,
                    _ = hurry.tick() => for writer in &writers {
                        drop(writer.try_send(super::message::Flush));
                    },
                }
            }
        }
    }

    fn stop(&mut self, ctx: &mut Context<Self>) -> ResponseActFuture<Self, ()> {
        self.stopping = true;
        self.setup.pulse.draining();
        self.snapshots.stop();
        let keys: Vec<Key> = self.owned.keys().cloned().collect();
        let drained = self.drain(&keys, ctx);
        let deadline = self.setup.node.drain_deadline.get();
        let waiting = async move { tokio::time::timeout(deadline, drained).await.is_ok() };
        Box::pin(waiting.into_actor(self).then(move |in_time, supervisor, _| {
            if !in_time {
                warn!(target: "tidegate::supervisor", "the drain deadline passed: what is in flight will be read again");
            }
            for key in keys {
                supervisor.drop_partition(&key);
            }
            let sources: Vec<KafkaSource> =
                supervisor.main.take().into_iter().chain(supervisor.catch_up.drain().map(|(_, source)| source)).collect();
            let closing = tokio::task::spawn_blocking(move || {
                for source in sources {
                    source.close();
                }
            });
            let closed = async move {
                if tokio::time::timeout(CLOSE_WITHIN, closing).await.is_err() {
                    warn!(target: "tidegate::supervisor", "a consumer did not close; the group will notice by its session");
                }
            };
            closed.into_actor(supervisor)
        }))
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1 << 16);
        self.open_main(ctx);
        ctx.run_interval(TICK, |supervisor, ctx| supervisor.tick(ctx));
    }
}

impl Handler<SourceEvent> for Supervisor {
    type Result = ();

    fn handle(&mut self, SourceEvent { stream, event }: SourceEvent, ctx: &mut Self::Context) {
        if self.stopping {
            return;
        }
        match (stream, event) {
            (Stream::Main, Event::Assigned(partitions)) => {
                self.on_assigned(partitions, ctx);
                // In this order: it is not ready before it is known what it has.
                self.tell_pulse();
                self.setup.pulse.joined();
            }
            (Stream::Main, Event::Joined) => self.setup.pulse.joined(),
            (_, Event::Joined) => {}
            (Stream::Main, Event::Revoked(partitions)) => self.on_revoked(partitions, ctx),
            (Stream::Main, Event::Lost(partitions)) => self.on_lost(partitions),
            (Stream::Main, Event::Panicked) => self.on_panic(ctx),
            (stream, Event::OutOfRange(read)) => self.recheck(stream, read, ctx),
            (_, Event::Full) => {}
            (Stream::Main, Event::Refused { source, feed, reason }) => {
                self.fail(&(feed, source), reason, ctx);
            }
            (Stream::CatchUp(sink), Event::Refused { source, feed, reason }) => {
                warn!(target: "tidegate::supervisor", %feed, %source, %sink, reason, "no catch-up");
                if let Some(consumer) =
                    self.owned.get(&(feed, source)).and_then(|owned| owned.consumer())
                {
                    drop(consumer.try_send(Detach { sink, loss: Loss::TooSlow }));
                }
            }
            (Stream::Main, Event::Failed { reason, unsupported: true })
                if self.protocol == Protocol::Auto =>
            {
                info!(target: "tidegate::supervisor", reason, "the broker lacks the consumer protocol (KIP-848): falling back to the classic one; `kafka.protocol: classic` asks for it at once");
                self.protocol = Protocol::Classic;
                self.open_main(ctx);
            }
            (Stream::Main, Event::Failed { reason, unsupported }) => {
                let remedy =
                    if unsupported { "set `kafka.protocol` to `auto` or `classic`" } else { "" };
                error!(target: "tidegate::supervisor", reason, remedy, "the consumer cannot go on");
                System::current().stop_with_code(1);
            }
            (Stream::CatchUp(sink), event) => {
                warn!(target: "tidegate::supervisor", %sink, ?event, "the catch-up consumer ended; it is made anew");
                self.catch_up.remove(&sink);
                self.restart_catch_up(sink);
            }
        }
    }
}

impl Handler<LaneChanged> for Supervisor {
    type Result = ();

    fn handle(&mut self, changed: LaneChanged, ctx: &mut Self::Context) {
        let key = (changed.feed.clone(), changed.source.clone());
        match changed.change {
            LaneChange::Joined => self.lane_joined(&key, changed.sink),
            LaneChange::Lost(loss) => self.lane_lost(&key, changed.sink, changed.claim, loss, ctx),
        }
    }
}

impl Handler<Status> for Supervisor {
    type Result = MessageResult<Status>;

    fn handle(&mut self, _: Status, _: &mut Self::Context) -> Self::Result {
        let now_ms = chrono::Utc::now().timestamp_millis();
        let status = self.owned.iter().map(|((feed, source), owned)| PartitionStatus {
            feed: feed.clone(),
            topic: source.topic.clone(),
            partition: source.partition,
            state: owned.describe(),
            told: owned.told(now_ms),
        });
        MessageResult(status.collect())
    }
}

impl Handler<Stop> for Supervisor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) -> Self::Result {
        self.stop(ctx)
    }
}

impl Owned {
    fn consumer(&self) -> Option<&Addr<PartitionConsumer>> {
        match &self.phase {
            Phase::Running(consumer) => Some(consumer),
            _ => None,
        }
    }
}
