//! Partitions: taken, begun, begun again, parked, let go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use chrono::Utc;
use tracing::{error, info, warn};

use super::super::message::{Records, Stream};
use super::super::ownership::{Edges, Established, Lane};
use super::super::partition_consumer::{Blueprint, LaneStart, PartitionConsumer};
use super::{Key, PARK_AFTER, RETRY, STEADY, Supervisor};
use crate::catalog::NoFeed;
use crate::config::{Feed, FeedFile};
use crate::record::{Claim, SinkKind, TopicId, TopicPartition};
use crate::source::{Assignment, Command, Delivery, Read, Route};
use crate::status::PartitionTold;
use crate::telemetry::metrics;
use crate::telemetry::places::Place;

/// One partition of one feed.
pub struct Owned {
    pub feed: Arc<Feed>,
    pub phase: Phase,
    /// Of the topic that is read.
    pub topic_id: TopicId,
    pub lanes: HashMap<SinkKind, LaneStatus>,
    /// Failures in a row.
    pub attempt: u32,
    pub since: Instant,
    /// Seen from outside.
    pub place: Arc<Place>,
}

/// A partition that was not refused yet.
pub const CLAIMING: &str = "claiming";
/// One that was, and is tried again.
pub const FAILING: &str = "failing";
/// One whose topic has no record yet that would say which columns there are.
pub const WAITING: &str = "waiting";

pub enum Phase {
    /// Being claimed, or waiting to be claimed again.
    Establishing,
    Running(Addr<PartitionConsumer>),
    Parked(String),
}

#[derive(Debug, Clone, Default)]
pub struct LaneStatus {
    pub state: LaneState,
    pub claim: Option<Claim>,
    pub attempt: u32,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LaneState {
    #[default]
    Detached,
    /// A claim was asked for and is not answered yet.
    Claiming,
    CatchingUp,
    Attached,
}

impl LaneState {
    /// Some stream brings the lane its records.
    pub fn is_fed(self) -> bool {
        matches!(self, LaneState::Attached | LaneState::CatchingUp)
    }
}

impl Owned {
    fn new(feed: Arc<Feed>, source: &TopicPartition) -> Self {
        let lake = feed.lake.is_some().then_some(SinkKind::Lake);
        let warehouse = feed.warehouse.is_some().then_some(SinkKind::Warehouse);
        let sinks = lake.into_iter().chain(warehouse);
        Self {
            place: Place::open(feed.name.clone(), source.clone(), sinks),
            feed,
            phase: Phase::Establishing,
            topic_id: TopicId::UNKNOWN,
            lanes: HashMap::new(),
            attempt: 0,
            since: Instant::now(),
        }
    }

    /// In a word.
    pub fn state(&self) -> &'static str {
        match &self.phase {
            Phase::Running(_) => "running",
            Phase::Parked(_) => "parked",
            // It was refused before, and is tried again.
            Phase::Establishing if self.attempt > 0 => FAILING,
            Phase::Establishing => CLAIMING,
        }
    }

    /// As others are told of it.
    pub fn told(&self, now_ms: i64) -> PartitionTold {
        let told = self.place.told_at(now_ms);
        let reason = match &self.phase {
            Phase::Parked(reason) => Some(reason.clone()),
            Phase::Establishing => told.error.as_ref().map(|error| error.says.clone()),
            Phase::Running(_) => None,
        };
        PartitionTold { state: self.state().to_owned(), reason, ..told }
    }

    pub fn describe(&self) -> String {
        match &self.phase {
            Phase::Establishing => "claiming".to_owned(),
            Phase::Parked(reason) => format!("parked: {reason}"),
            Phase::Running(_) => {
                let mut lanes: Vec<_> = self
                    .lanes
                    .iter()
                    .map(|(sink, lane)| match lane.state {
                        LaneState::Attached => format!("{sink} attached"),
                        LaneState::CatchingUp => format!("{sink} catching up"),
                        LaneState::Claiming => format!("{sink} claiming"),
                        LaneState::Detached => format!("{sink} detached: {}", lane.reason),
                    })
                    .collect();
                lanes.sort();
                lanes.join(", ")
            }
        }
    }
}

/// Partitions of one feed, asked about together.
pub struct Asked {
    feed: Arc<str>,
    version: u64,
    file: FeedFile,
    sources: Vec<TopicPartition>,
    /// What the broker and the sinks said, or why they could not be asked.
    answer: Result<(Arc<Feed>, Vec<Established>), NoFeed>,
}

impl Supervisor {
    pub fn on_assigned(&mut self, partitions: Vec<TopicPartition>, ctx: &mut Context<Self>) {
        info!(target: "tidegate::supervisor", count = partitions.len(), "assigned: claiming in the sinks");
        self.assigned.extend(partitions.iter().cloned());
        let losses = self.losses;
        let asking = self.ask(&partitions, None);
        ctx.spawn(asking.into_actor(self).map(move |answers, supervisor, ctx| {
            if supervisor.losses != losses {
                // The session expired meanwhile: librdkafka no longer waits for this answer, and if
                // some of these came back, theirs was given without routes.
                for asked in &answers {
                    supervisor.no_longer_asking(asked);
                }
                supervisor.begin_again(partitions, ctx);
                return;
            }
            let mut assignments: HashMap<TopicPartition, Assignment> = HashMap::new();
            for asked in answers {
                for (source, offset, route) in supervisor.settle(asked, ctx) {
                    let assignment = assignments.entry(source.clone()).or_insert(Assignment {
                        source,
                        offset: Some(offset),
                        routes: Vec::new(),
                    });
                    assignment.offset = assignment.offset.map(|lowest| lowest.min(offset));
                    assignment.routes.push(route);
                }
            }
            // Every partition is answered, those that cannot be read yet without a route: until the
            // answer librdkafka holds all of them.
            let list = partitions.into_iter().map(|source| {
                let silent =
                    Assignment { source: source.clone(), offset: None, routes: Vec::new() };
                assignments.remove(&source).unwrap_or(silent)
            });
            supervisor.tell_main(Command::Assign(list.collect()));
        }));
    }

    /// Asks the broker and the sinks about partitions, for every feed that reads them and does not
    /// run: a claim for one that runs would fence it off. `only`: for the feeds of these files.
    pub fn ask(
        &mut self,
        partitions: &[TopicPartition],
        only: Option<&[FeedFile]>,
    ) -> impl Future<Output = Vec<Asked>> + 'static + use<> {
        let mut by_topic: HashMap<Arc<str>, Vec<TopicPartition>> = HashMap::new();
        for source in partitions {
            by_topic.entry(source.topic.clone()).or_default().push(source.clone());
        }
        let mut asking = Vec::new();
        for (topic, sources) in by_topic {
            let files = match only {
                Some(files) => files.iter().filter(|file| file.matches(&topic)).cloned().collect(),
                None => self.files_for(&topic),
            };
            for file in files {
                let feed: Arc<str> = match file.name_for(&topic) {
                    Ok(name) => name.into(),
                    Err(fault) => {
                        error!(target: "tidegate::supervisor", %topic, %fault, "the topic is left out");
                        continue;
                    }
                };
                if self.ending.contains_key(&feed) {
                    continue;
                }
                let version = self.versions.get(&feed).copied().unwrap_or_default();
                let idle = |source: &&TopicPartition| {
                    let key = (feed.clone(), (*source).clone());
                    let runs = self.owned.get(&key).is_some_and(|owned| owned.consumer().is_some());
                    !runs && !self.asking.contains(&key)
                };
                let sources: Vec<TopicPartition> = sources.iter().filter(idle).cloned().collect();
                if sources.is_empty() {
                    continue;
                }
                self.asking.extend(sources.iter().map(|source| (feed.clone(), source.clone())));
                let known = self.feeds.get(&feed).filter(|known| known.topic == topic).cloned();
                let asked = self.setup.io.spawn(establish(
                    self.setup.edges.clone(),
                    file.clone(),
                    topic.clone(),
                    known,
                    sources.clone(),
                ));
                asking.push(async move {
                    let answer = asked.await.unwrap_or_else(|error| Err(error.to_string().into()));
                    Asked { feed, version, file, sources, answer }
                });
            }
        }
        futures::future::join_all(asking)
    }

    fn no_longer_asking(&mut self, asked: &Asked) {
        for source in &asked.sources {
            self.asking.remove(&(asked.feed.clone(), source.clone()));
        }
    }

    /// Begins what was established; parks or postpones the rest. Answers where to read from.
    fn settle(
        &mut self,
        asked: Asked,
        ctx: &mut Context<Self>,
    ) -> Vec<(TopicPartition, i64, Route)> {
        self.no_longer_asking(&asked);
        let Asked { feed, version, file, sources, answer } = asked;
        let asked_for = feed.clone();
        if version != self.versions.get(&feed).copied().unwrap_or_default() {
            // The feed was replaced meanwhile: the claims are its former self's.
            self.begin_named(&feed, &sources, ctx);
            return Vec::new();
        }
        let (feed, established) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let state = match &error {
                    NoFeed::Waiting(_) => {
                        info!(target: "tidegate::supervisor", feed = file.feed, %error, "the feed waits for a first record");
                        WAITING
                    }
                    NoFeed::Failed(_) => {
                        warn!(target: "tidegate::supervisor", feed = file.feed, %error, "the feed could not be begun; trying again");
                        FAILING
                    }
                };
                let refused =
                    sources.iter().map(|source| ((asked_for.clone(), source.clone()), state));
                self.refused.extend(refused);
                let again = RETRY.wait(3, rand::random());
                ctx.run_later(again, move |supervisor, ctx| supervisor.begin_again(sources, ctx));
                return Vec::new();
            }
        };
        let known = self.feeds.entry(feed.name.clone()).or_insert_with(|| feed.clone());
        if known.topic != feed.topic {
            error!(target: "tidegate::supervisor", feed = %feed.name, topic = %feed.topic, taken_by = %known.topic, "two topics make one feed name: this one is left out; give it a feed file of its own");
            return Vec::new();
        }
        let mut begun = Vec::new();
        for established in established {
            let source = established.source.clone();
            if !self.assigned.contains(&source) {
                continue;
            }
            let key: Key = (feed.name.clone(), source.clone());
            let owned =
                self.owned.entry(key.clone()).or_insert_with(|| Owned::new(feed.clone(), &source));
            self.refused.remove(&key);
            if matches!(owned.phase, Phase::Running(_)) {
                continue;
            }
            if let Some(reason) = established.park() {
                let reason = reason.to_owned();
                self.park(&key, reason, ctx);
            } else if let Some(offset) = established.offset() {
                let route = self.begin(&key, &established, ctx);
                begun.push((source, offset, route));
            } else {
                let reasons: Vec<String> = established
                    .lanes
                    .iter()
                    .filter_map(|(sink, lane)| match lane {
                        Lane::Detached(reason) => Some(format!("{sink}: {reason}")),
                        _ => None,
                    })
                    .collect();
                let reasons = match reasons.as_slice() {
                    [] => "none of its sinks was opened when the node started".to_owned(),
                    reasons => reasons.join("; "),
                };
                self.fail(&key, reasons, ctx);
            }
        }
        begun
    }

    /// Builds the partition consumer; answers the way to it.
    fn begin(&mut self, key: &Key, established: &Established, ctx: &mut Context<Self>) -> Route {
        let feed = self.feeds[&key.0].clone();
        let place = self.owned.get(key).map(|owned| owned.place.clone());
        let place = place.unwrap_or_else(|| Owned::new(feed.clone(), &key.1).place);
        let mut lanes = Vec::new();
        let mut status = HashMap::new();
        for (sink, lane) in &established.lanes {
            let (attached, lane_status) = match lane {
                Lane::Granted { claim, watermark } => match self.writer(&feed, *sink) {
                    Some(writer) => {
                        let state = LaneState::Attached;
                        let status =
                            LaneStatus { state, claim: Some(*claim), ..LaneStatus::default() };
                        (Some((*claim, *watermark, writer)), status)
                    }
                    None => (None, LaneStatus::default()),
                },
                Lane::Detached(reason) | Lane::Park(reason) => {
                    place.failed(&format!("{sink}: {reason}"), Utc::now().timestamp_millis());
                    (None, LaneStatus { reason: reason.clone(), ..LaneStatus::default() })
                }
            };
            if attached.is_none() {
                self.retry_lane(key.clone(), *sink, 0, ctx);
            }
            status.insert(*sink, lane_status);
            lanes.push(LaneStart { sink: *sink, attached });
        }
        let mirror = self.mirror(key);
        let blueprint = Blueprint {
            feed: feed.clone(),
            source: key.1.clone(),
            topic_id: established.bounds.topic_id,
            lanes,
            budget: self.setup.budget.clone(),
            mirror,
            supervisor: ctx.address().recipient(),
            evolve: ctx.address().recipient(),
            reading: ctx.address().recipient(),
            registry: self.setup.edges.catalog.registry().cloned(),
            io: self.setup.io.clone(),
            place,
        };
        let arbiter = self.arbiter();
        let consumer = PartitionConsumer::start_in_arbiter(&arbiter, move |_| {
            PartitionConsumer::build(blueprint)
        });
        let route = route(&feed, &consumer, Stream::Main);
        if let Some(owned) = self.owned.get_mut(key) {
            owned.phase = Phase::Running(consumer);
            owned.topic_id = established.bounds.topic_id;
            owned.lanes = status;
            owned.since = Instant::now();
        }
        route
    }

    fn mirror(&self, key: &Key) -> Box<dyn Fn(i64) + Send> {
        let Some(main) = &self.main else { return Box::new(|_| ()) };
        let (tell, feed, source) = (main.remote(), key.0.clone(), key.1.clone());
        Box::new(move |offset| {
            tell(Command::Mirror { source: source.clone(), feed: feed.clone(), offset });
        })
    }

    /// Takes partitions that are assigned but not running, once more.
    pub fn begin_again(&mut self, sources: Vec<TopicPartition>, ctx: &mut Context<Self>) {
        let wanted: Vec<TopicPartition> =
            sources.into_iter().filter(|source| self.assigned.contains(source)).collect();
        if wanted.is_empty() || self.stopping {
            return;
        }
        let asking = self.ask(&wanted, None);
        self.begin_answered(asking, ctx);
    }

    /// Begins what is granted, on partitions that are assigned.
    pub fn begin_answered(
        &self,
        asking: impl Future<Output = Vec<Asked>> + 'static,
        ctx: &mut Context<Self>,
    ) {
        ctx.spawn(asking.into_actor(self).map(|answers, supervisor, ctx| {
            for asked in answers {
                for (source, offset, route) in supervisor.settle(asked, ctx) {
                    supervisor.tell_main(Command::Start { source, offset, route });
                }
            }
        }));
    }

    /// Ends a partition's consumer and tries again later, or parks it if that does not help.
    pub fn fail(&mut self, key: &Key, reason: String, ctx: &mut Context<Self>) {
        self.halt(key);
        let Some(owned) = self.owned.get_mut(key) else { return };
        if matches!(owned.phase, Phase::Running(_)) && owned.since.elapsed() > STEADY {
            owned.attempt = 0;
        }
        owned.place.failed(&reason, Utc::now().timestamp_millis());
        owned.phase = Phase::Establishing;
        let attempt = owned.attempt;
        owned.attempt += 1;
        if attempt >= PARK_AFTER {
            self.park(key, reason, ctx);
            return;
        }
        warn!(target: "tidegate::supervisor", feed = %key.0, source = %key.1, reason, attempt, "partition failed; trying again");
        let source = key.1.clone();
        ctx.run_later(RETRY.wait(attempt, rand::random()), move |supervisor, ctx| {
            supervisor.begin_again(vec![source], ctx);
        });
    }

    /// Ends a partition's consumer and begins it again after a while, however often.
    pub fn begin_later(&mut self, key: &Key, ctx: &mut Context<Self>) {
        self.halt(key);
        let Some(owned) = self.owned.get_mut(key) else { return };
        owned.phase = Phase::Establishing;
        let source = key.1.clone();
        ctx.run_later(RETRY.wait(4, rand::random()), move |supervisor, ctx| {
            supervisor.begin_again(vec![source], ctx);
        });
    }

    pub fn park(&mut self, key: &Key, reason: String, ctx: &mut Context<Self>) {
        self.halt(key);
        let Some(owned) = self.owned.get_mut(key) else { return };
        error!(target: "tidegate::supervisor", feed = %key.0, source = %key.1, reason, "partition parked");
        metrics::PARTITIONS_PARKED.add([&key.0], 1);
        owned.place.failed(&reason, Utc::now().timestamp_millis());
        owned.phase = Phase::Parked(reason);
        let source = key.1.clone();
        ctx.run_later(self.setup.node.park_retry.get(), move |supervisor, ctx| {
            supervisor.begin_again(vec![source], ctx);
        });
    }

    /// Cuts a partition off from its streams and its writers.
    fn halt(&mut self, key: &Key) {
        let Some(owned) = self.owned.get_mut(key) else { return };
        let claims: Vec<Claim> = owned.lanes.values().filter_map(|lane| lane.claim).collect();
        owned.lanes.clear();
        self.abandon(&key.0, claims);
        let halt = || Command::Halt { source: key.1.clone(), feed: key.0.clone() };
        self.tell_main(halt());
        for source in self.catch_up.values() {
            source.tell(halt());
        }
    }

    /// Forgets a partition that is no longer ours.
    pub fn drop_partition(&mut self, key: &Key) {
        self.halt(key);
        self.owned.remove(key);
    }
}

async fn establish(
    edges: Arc<Edges>,
    file: FeedFile,
    topic: Arc<str>,
    known: Option<Arc<Feed>>,
    sources: Vec<TopicPartition>,
) -> Result<(Arc<Feed>, Vec<Established>), NoFeed> {
    if let Some(other) = file.other_name(&topic) {
        edges.expect_no_topic(other, &topic).await?;
    }
    let feed = match known {
        Some(feed) => feed,
        None => Arc::new(edges.catalog.feed(&file, &topic).await?),
    };
    let bounds = edges.bounds(&sources).await?;
    let wanted: Vec<_> =
        sources.iter().filter_map(|source| Some((source.clone(), *bounds.get(source)?))).collect();
    let established = edges.establish(&feed, &wanted).await;
    Ok((feed, established))
}

/// The way from a poll thread to a partition consumer.
pub fn route(feed: &Arc<Feed>, consumer: &Addr<PartitionConsumer>, stream: Stream) -> Route {
    let consumer = consumer.clone().recipient();
    let deliver = move |read: Arc<Read>| match consumer.try_send(Records { read, stream }) {
        Ok(()) => Delivery::Taken,
        Err(SendError::Full(_)) => Delivery::Full,
        Err(SendError::Closed(_)) => Delivery::Gone,
    };
    Route { feed: feed.name.clone(), deliver: Box::new(deliver) }
}
