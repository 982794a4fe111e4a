//! The poll thread: one consumer, its slots, its commands.
//!
//! It never stops polling for long: a full budget first waits, then pauses the partitions, and the
//! group membership is kept either way.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tracing::{debug, error, info, warn};

use super::headers::{borrowed, headers};
use super::rebalance::Rebalance;
use super::slot::{Gathered, Slot};
use super::{Assignment, Command, Event, Route};
use crate::flow::budget::Budget;
use crate::record::TopicPartition;
use crate::telemetry::fault;
use crate::telemetry::pulse::Thread;

/// How partitions come to this consumer.
pub enum Membership {
    /// From the group; the topics may be patterns starting with `^`.
    Group(Vec<String>),
    /// From [`Command::Start`] alone.
    Manual,
}

/// How long records may be gathered while more of them arrive.
const LINGER: Duration = Duration::from_millis(4);
/// How often holes at the end of a partition are looked for, and idle work is done.
const TICK: Duration = Duration::from_millis(500);
/// How long a full budget merely waits, before the partitions are paused.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

/// A running poll thread.
pub struct KafkaSource {
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl KafkaSource {
    /// Starts the thread, which beats in `alive`. `on_event` is called on it and must not block.
    pub fn start(
        name: &str,
        config: &ClientConfig,
        membership: Membership,
        budget: Budget,
        alive: Arc<Thread>,
        on_event: impl Fn(Event) + Send + 'static,
    ) -> Result<Self, String> {
        // One without a group has the name of one nevertheless: librdkafka asks for it.
        let group = match membership {
            Membership::Group(_) => config.get("group.id").map(Arc::from),
            Membership::Manual => None,
        };
        let rebalance = Rebalance::new(name.trim_start_matches("tidegate-"), group.clone());
        let consumer: BaseConsumer<Rebalance> = config
            .create_with_context(rebalance)
            .map_err(|error| format!("creating the Kafka consumer: {error}"))?;
        let (manual, topics) = match membership {
            Membership::Group(topics) => (false, topics),
            Membership::Manual => (true, Vec::new()),
        };
        subscribe(&consumer, &topics).map_err(|error| format!("subscribing: {error}"))?;
        let (commands, inbox) = channel();
        let mut poll = Poll {
            consumer,
            manual,
            topics,
            inbox,
            budget,
            group,
            alive,
            on_event: Box::new(on_event),
            slots: Vec::new(),
            index: HashMap::new(),
            last: 0,
            gathered: 0,
            full_since: None,
            paused: false,
            ticked: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let ended = catch_unwind(AssertUnwindSafe(|| poll.run()));
                poll.consumer.context().close();
                // Watched to its end, which takes as long as it takes to leave the group.
                let Poll { consumer, on_event, alive: _alive, .. } = poll;
                // Leaves the group and commits what was stored.
                drop(consumer);
                if ended.is_err() {
                    on_event(Event::Panicked);
                }
            })
            .map_err(|error| format!("starting the poll thread: {error}"))?;
        Ok(Self { commands, thread: Some(thread) })
    }

    pub fn tell(&self, command: Command) {
        // A thread that ended has said why by an event.
        drop(self.commands.send(command));
    }

    /// Leaves the group and waits for the thread's end. Blocks.
    pub fn close(mut self) {
        self.tell(Command::Close);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!(target: "tidegate::source", "the poll thread panicked");
        }
    }

    /// A sender of commands that outlives borrows of the source.
    pub fn remote(&self) -> impl Fn(Command) + Clone + Send + 'static {
        let commands = self.commands.clone();
        move |command| drop(commands.send(command))
    }
}

struct Poll {
    consumer: BaseConsumer<Rebalance>,
    manual: bool,
    /// What is subscribed to.
    topics: Vec<String>,
    inbox: Receiver<Command>,
    budget: Budget,
    /// The group's name, for those who follow a batch.
    group: Option<Arc<str>>,
    alive: Arc<Thread>,
    on_event: Box<dyn Fn(Event) + Send>,
    slots: Vec<Slot>,
    index: HashMap<TopicPartition, usize>,
    /// The slot of the last message: the next one mostly belongs there too.
    last: usize,
    /// Bytes gathered in all slots, not yet charged.
    gathered: usize,
    full_since: Option<Instant>,
    paused: bool,
    ticked: Instant,
}

impl Poll {
    fn run(&mut self) {
        while self.take_commands() {
            self.alive.beat(chrono::Utc::now().timestamp_millis());
            let events = self.consumer.context().take();
            for event in events {
                if let Event::Lost(partitions) = &event {
                    self.forget(partitions);
                }
                (self.on_event)(event);
            }
            let stuck =
                self.slots.iter_mut().filter_map(|slot| (!slot.deliver()).then_some(())).count();
            if stuck > 0 {
                // A mailbox is full: wait for it where a command still gets through.
                if let Ok(command) = self.inbox.recv_timeout(Duration::from_millis(2)) {
                    if matches!(command, Command::Close) {
                        break;
                    }
                    self.obey(command);
                }
                continue;
            }
            if !self.wait_for_room() {
                continue;
            }
            fault::point("source.poll");
            if !self.poll_some() {
                break;
            }
            self.flush_due();
            self.tick();
        }
    }

    /// Answers whether to go on.
    fn take_commands(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Close) | Err(TryRecvError::Disconnected) => return false,
                // Each may take a while.
                Ok(command) => {
                    self.alive.beat(chrono::Utc::now().timestamp_millis());
                    self.obey(command);
                }
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let outcome = match command {
            Command::Assign(assignments) => self.assign(assignments),
            Command::Start { source, offset, route } => {
                let feed = route.feed.clone();
                let started = self.start(source.clone(), offset, route);
                if let Err(error) = &started {
                    let reason = format!("reading cannot start at {offset}: {error}");
                    (self.on_event)(Event::Refused { source, feed, reason });
                }
                started
            }
            Command::Halt { source, feed } => self.halt(&source, &feed),
            Command::Unassign(partitions) => self.unassign(&partitions),
            Command::Mirror { source, feed, offset } => self.mirror(&source, &feed, offset),
            Command::Subscribe(topics) => self.subscribe(topics),
            Command::Close => Ok(()),
        };
        if let Err(error) = outcome {
            warn!(target: "tidegate::source", %error, "the consumer refused a command");
        }
    }

    fn subscribe(&mut self, topics: Vec<String>) -> Result<(), KafkaError> {
        if self.topics == topics {
            return Ok(());
        }
        if topics.is_empty() {
            self.consumer.unsubscribe();
        }
        subscribe(&self.consumer, &topics)?;
        info!(target: "tidegate::source", ?topics, "subscribed anew");
        self.topics = topics;
        Ok(())
    }

    fn assign(&mut self, assignments: Vec<Assignment>) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        let mut silent = TopicPartitionList::new();
        for assignment in assignments {
            let Assignment { source, offset, routes } = assignment;
            // The log's end is there whatever has expired, so nothing is out of range meanwhile.
            let place = offset.map_or(Offset::End, Offset::Offset);
            list.add_partition_offset(&source.topic, source.partition, place)?;
            let offset = offset.unwrap_or(0);
            if routes.is_empty() || self.paused {
                silent.add_partition(&source.topic, source.partition);
            }
            let slot = self.slot(&source, offset);
            slot.restart(offset);
            for route in routes {
                slot.add_route(route);
            }
        }
        self.consumer.incremental_assign(&list)?;
        // librdkafka keeps a partition's pause through its unassignment.
        self.consumer.resume(&list)?;
        if silent.count() > 0 {
            self.consumer.pause(&silent)?;
        }
        Ok(())
    }

    fn start(
        &mut self,
        source: TopicPartition,
        offset: i64,
        route: Route,
    ) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&source.topic, source.partition, Offset::Offset(offset))?;
        let known = self.index.contains_key(&source);
        if !known && !self.manual {
            // Gone for good, and nobody owns it any more; or given anew, and on its way: then the
            // owner, who believes that it runs, must ask once more.
            let feed = route.feed;
            let reason = "the partition is not assigned at this moment".to_owned();
            (self.on_event)(Event::Refused { source, feed, reason });
            return Ok(());
        }
        let slot = self.slot(&source, offset);
        let back = known && (!slot.is_routed() || offset < slot.next());
        slot.add_route(route);
        if !known {
            self.consumer.incremental_assign(&list)?;
            if self.paused {
                self.consumer.pause(&list)?;
            } else {
                self.consumer.resume(&list)?;
            }
        } else if back {
            slot.restart(offset);
            let answers = self.consumer.seek_partitions(list.clone(), Duration::from_secs(10))?;
            for element in answers.elements() {
                element.error()?;
            }
            if !self.paused {
                self.consumer.resume(&list)?;
            }
            self.recount();
        }
        Ok(())
    }

    fn halt(&mut self, source: &TopicPartition, feed: &Arc<str>) -> Result<(), KafkaError> {
        let Some(&index) = self.index.get(source) else { return Ok(()) };
        self.slots[index].remove_route(feed);
        if self.slots[index].is_routed() {
            return Ok(());
        }
        if self.manual {
            return self.unassign(std::slice::from_ref(source));
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&source.topic, source.partition);
        self.consumer.pause(&list)
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        self.forget(partitions);
        let mut list = TopicPartitionList::new();
        for source in partitions {
            list.add_partition(&source.topic, source.partition);
        }
        self.consumer.incremental_unassign(&list)
    }

    fn mirror(
        &mut self,
        source: &TopicPartition,
        feed: &Arc<str>,
        offset: i64,
    ) -> Result<(), KafkaError> {
        let Some(&index) = self.index.get(source) else { return Ok(()) };
        let Some(least) = self.slots[index].mirror(feed, offset) else { return Ok(()) };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&source.topic, source.partition, Offset::Offset(least))?;
        match self.consumer.store_offsets(&list) {
            // Revoked meanwhile: the next owner mirrors from its own watermarks.
            Err(KafkaError::StoreOffset(RDKafkaErrorCode::State)) => Ok(()),
            outcome => outcome,
        }
    }

    fn slot(&mut self, source: &TopicPartition, position: i64) -> &mut Slot {
        let index = *self.index.entry(source.clone()).or_insert_with(|| {
            self.slots.push(Slot::new(source.clone(), position));
            self.slots.len() - 1
        });
        &mut self.slots[index]
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        self.slots.retain(|slot| !partitions.contains(&slot.source));
        self.index =
            self.slots.iter().enumerate().map(|(at, slot)| (slot.source.clone(), at)).collect();
        self.last = 0;
        self.recount();
    }

    fn recount(&mut self) {
        self.gathered = self.slots.iter().map(Slot::gathered_bytes).sum();
    }

    /// Waits a moment when the budget is full, and pauses the partitions when it stays so. Answers
    /// whether there is room to read.
    fn wait_for_room(&mut self) -> bool {
        // Once paused, a quarter must be free: resuming fetches anew what was prefetched.
        let more = if self.paused { self.budget.limit() / 4 } else { self.gathered };
        if self.budget.wait_for_room(more, POLL) {
            self.full_since = None;
            if self.paused {
                info!(target: "tidegate::source", "the budget has room: partitions resumed");
                self.paused = false;
                self.each_routed(|consumer, list| consumer.resume(list));
            }
            return true;
        }
        self.flush_all();
        let since = *self.full_since.get_or_insert_with(Instant::now);
        if !self.paused && since.elapsed() >= PAUSE_AFTER {
            info!(target: "tidegate::source", used = self.budget.used(), "the budget is full: partitions paused");
            self.paused = true;
            self.each_routed(|consumer, list| consumer.pause(list));
            (self.on_event)(Event::Full);
        }
        if self.paused {
            // Serves rebalances and keeps the membership; the partitions bring nothing.
            self.poll_once(Duration::ZERO);
        }
        false
    }

    fn each_routed(
        &self,
        act: impl Fn(&BaseConsumer<Rebalance>, &TopicPartitionList) -> Result<(), KafkaError>,
    ) {
        let mut list = TopicPartitionList::new();
        for slot in self.slots.iter().filter(|slot| slot.is_routed()) {
            list.add_partition(&slot.source.topic, slot.source.partition);
        }
        if list.count() > 0
            && let Err(error) = act(&self.consumer, &list)
        {
            warn!(target: "tidegate::source", %error, "could not pause or resume");
        }
    }

    /// Polls until the queue is drained for a moment, or a batch is full. Answers whether the
    /// consumer lives.
    fn poll_some(&mut self) -> bool {
        let mut timeout = if self.gathered == 0 { POLL } else { LINGER };
        for _ in 0..4096 {
            match self.poll_once(timeout) {
                Polled::Message => {}
                Polled::Full | Polled::Nothing => return true,
                Polled::Dead => return false,
            }
            timeout = Duration::ZERO;
        }
        true
    }

    fn poll_once(&mut self, timeout: Duration) -> Polled {
        match self.consumer.poll(timeout) {
            None => Polled::Nothing,
            Some(Ok(message)) => {
                let (topic, partition) = (message.topic(), message.partition());
                let fits = |slot: &Slot| {
                    slot.source.partition == partition && &*slot.source.topic == topic
                };
                if !self.slots.get(self.last).is_some_and(fits) {
                    let Some(index) = self.slots.iter().position(fits) else {
                        return Polled::Message;
                    };
                    self.last = index;
                }
                let slot = &mut self.slots[self.last];
                if !slot.is_routed() {
                    return Polled::Message;
                }
                let before = slot.gathered_bytes();
                let gathered = slot.gather(
                    message.offset(),
                    message.timestamp().to_millis().unwrap_or(-1),
                    message.key(),
                    message.payload(),
                    borrowed(&headers(&message)),
                );
                self.gathered += slot.gathered_bytes() - before;
                drop(message);
                if gathered == Gathered::Full {
                    self.flush(self.last);
                    return Polled::Full;
                }
                Polled::Message
            }
            Some(Err(error)) => self.judge(&error),
        }
    }

    fn judge(&self, error: &KafkaError) -> Polled {
        match error {
            KafkaError::MessageConsumptionFatal(_) => {
                let (reason, unsupported) = match self.consumer.client().fatal_error() {
                    Some((code, reason)) => (
                        format!("{code}: {reason}"),
                        matches!(
                            code,
                            RDKafkaErrorCode::UnsupportedVersion
                                | RDKafkaErrorCode::UnsupportedFeature
                        ),
                    ),
                    None => (error.to_string(), false),
                };
                (self.on_event)(Event::Failed { reason, unsupported });
                Polled::Dead
            }
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => {
                let read = self.slots.iter().filter(|slot| slot.is_routed());
                let read = read.map(|slot| (slot.source.clone(), slot.next())).collect();
                (self.on_event)(Event::OutOfRange(read));
                Polled::Message
            }
            // Librdkafka tries again by itself; what lasts shows as lag.
            other => {
                debug!(target: "tidegate::source", error = %other, "while polling");
                Polled::Message
            }
        }
    }

    fn flush(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        self.gathered -= slot.gathered_bytes();
        slot.flush(&self.budget, self.group.as_ref());
    }

    fn flush_due(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots[index].since().is_some_and(|since| since.elapsed() >= LINGER) {
                self.flush(index);
            }
        }
    }

    fn flush_all(&mut self) {
        for index in 0..self.slots.len() {
            self.flush(index);
        }
    }

    /// Moves positions past transaction markers and holes that no record follows.
    fn tick(&mut self) {
        if self.ticked.elapsed() < TICK {
            return;
        }
        self.ticked = Instant::now();
        let Ok(positions) = self.consumer.position() else { return };
        for element in positions.elements() {
            let Offset::Offset(position) = element.offset() else { continue };
            let source = TopicPartition::new(element.topic(), element.partition());
            if let Some(&index) = self.index.get(&source)
                && self.slots[index].is_routed()
            {
                self.slots[index].skip_to(position);
                self.flush(index);
            }
        }
    }
}

/// Without any topic the consumer is no member: librdkafka refuses an empty subscription.
fn subscribe(consumer: &BaseConsumer<Rebalance>, topics: &[String]) -> Result<(), KafkaError> {
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    if topics.is_empty() { Ok(()) } else { consumer.subscribe(&topics) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Polled {
    Message,
    /// A batch became full and was passed on.
    Full,
    Nothing,
    Dead,
}
