//! One assigned partition of one feed: raw batch → decode → every lane that needs it.

mod schemas;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use self::schemas::Asking;
use super::Io;
use super::message::{
    Attach, Beat, Deliver, Detach, Drain, Evolve, InFlight, LaneChange, LaneChanged, Loss, Outcome,
    Reading, Receipt, Records, Stream,
};
use super::waiting::Waiting;
use crate::config::Feed;
use crate::decode::{Decoder, NewFields};
use crate::flow::budget::Budget;
use crate::flow::lane::{Lane, Wants};
use crate::record::{Batch, Claim, Hold, OffsetRange, SinkKind, TopicId, TopicPartition, told};
use crate::registry::Registry;
use crate::source::Read;
use crate::telemetry::places::Place;
use crate::telemetry::trace::{Delivered, Landed, Processing};
use crate::telemetry::{fault, metrics};

/// What a partition consumer is built from; the supervisor keeps it to build another.
pub struct Blueprint {
    pub feed: Arc<Feed>,
    pub source: TopicPartition,
    pub topic_id: TopicId,
    pub lanes: Vec<LaneStart>,
    pub budget: Budget,
    /// Tells Kafka how far every sink is durable.
    pub mirror: Box<dyn Fn(i64) + Send>,
    pub supervisor: Recipient<LaneChanged>,
    pub evolve: Recipient<Evolve>,
    pub reading: Recipient<Reading>,
    /// Where the schemas of Avro records are.
    pub registry: Option<Registry>,
    pub io: Io,
    /// Seen from outside, whichever consumer there is.
    pub place: Arc<Place>,
}

/// How a lane begins.
pub struct LaneStart {
    pub sink: SinkKind,
    /// None: the sink did not answer in time, and is detached.
    pub attached: Option<(Claim, i64, Recipient<Deliver>)>,
}

pub struct PartitionConsumer {
    feed: Arc<Feed>,
    source: TopicPartition,
    topic_id: TopicId,
    decoder: Decoder,
    lanes: Vec<SinkLane>,
    /// Seen from outside.
    place: Arc<Place>,
    /// Where the main stream stands.
    main_next: i64,
    budget: Budget,
    mirror: Box<dyn Fn(i64) + Send>,
    mirrored: i64,
    supervisor: Recipient<LaneChanged>,
    evolve: Recipient<Evolve>,
    reading: Recipient<Reading>,
    registry: Option<Registry>,
    io: Io,
    waiting: Vec<Waiting>,
    asking: Asking,
    draining: Vec<oneshot::Sender<()>>,
    stopped: bool,
    /// When a check that lets values through was last told of, and how many it let through since.
    warned_at: Option<Instant>,
    warned_since: usize,
}

struct SinkLane {
    sink: SinkKind,
    lane: Lane<Decoded>,
    writer: Option<Recipient<Deliver>>,
    on_its_way: VecDeque<OnItsWay>,
}

/// A batch, and the span that lasts until every sink holds it.
#[derive(Debug, Clone)]
struct Decoded {
    batch: Arc<Batch>,
    processing: Processing,
}

/// What a sink was given and has not answered.
struct OnItsWay {
    end: i64,
    /// Since when the oldest record of it has waited: milliseconds since the epoch.
    oldest_ms: i64,
    /// None: the sink was lost with it, and it waits to be read again.
    delivered: Option<Delivered>,
}

/// Main batches are held for a joining lane up to this many bytes.
const HOLD_BYTES: usize = 16 << 20;

/// How often one partition tells of values that failed a check and were let through.
const WARN_EVERY: Duration = Duration::from_secs(60);

impl PartitionConsumer {
    /// Room for everything the budget lets the source read: the budget is the bound, not the mailbox.
    pub const MAILBOX: usize = 1 << 14;

    pub fn build(blueprint: Blueprint) -> Self {
        let Blueprint { feed, source, topic_id, lanes, budget, mirror, supervisor, .. } = blueprint;
        let Blueprint { evolve, reading, registry, io, place, .. } = blueprint;
        let decoder = Decoder::of(&feed);
        let lanes: Vec<SinkLane> = lanes
            .into_iter()
            .map(|start| {
                let (lane, writer) = match start.attached {
                    Some((claim, next, writer)) => (Lane::attached(claim, next), Some(writer)),
                    None => (Lane::detached(-1), None),
                };
                SinkLane { sink: start.sink, lane, writer, on_its_way: VecDeque::new() }
            })
            .collect();
        let main_next = lanes.iter().filter(|lane| lane.lane.is_attached());
        let main_next = main_next.map(|lane| lane.lane.durable()).min().unwrap_or(0);
        for lane in &lanes {
            place.is_behind(lane.sink, !lane.lane.is_attached());
            // Of one that is detached it is known what was known before.
            if lane.lane.is_attached() {
                place.stands(lane.sink, lane.lane.durable(), None, 0);
            }
        }
        place.read_to(main_next, now_ms());
        Self {
            feed,
            source,
            topic_id,
            decoder,
            lanes,
            place,
            main_next,
            budget,
            mirror,
            mirrored: -1,
            supervisor,
            evolve,
            reading,
            registry,
            io,
            waiting: Vec::new(),
            asking: Asking::default(),
            draining: Vec::new(),
            stopped: false,
            warned_at: None,
            warned_since: 0,
        }
    }

    fn on_main(&mut self, read: &Read, ctx: &mut Context<Self>) {
        let range = read.raw.range;
        let mut from = i64::MAX;
        for index in 0..self.lanes.len() {
            let lane = &self.lanes[index].lane;
            match lane.wants_main(range) {
                Wants::Nothing => {
                    if lane.holds(range) {
                        from = from.min(range.start);
                    }
                }
                Wants::From(next) => from = from.min(next),
                Wants::Missing { next } => {
                    self.lose(index, Loss::Missing { next, start: range.start });
                }
            }
        }
        if from < range.end {
            let Some(decoded) = self.decode(read, from) else { return };
            for index in 0..self.lanes.len() {
                self.offer_main(index, &decoded, ctx);
            }
        }
        self.main_next = self.main_next.max(range.end);
        self.place.read_to(self.main_next, now_ms());
    }

    fn offer_main(&mut self, index: usize, decoded: &Decoded, ctx: &mut Context<Self>) {
        let lane = &mut self.lanes[index].lane;
        let batch = &decoded.batch;
        match lane.wants_main(batch.range) {
            Wants::From(next) => self.deliver(index, decoded, next, ctx),
            Wants::Nothing if lane.holds(batch.range) => {
                lane.hold(batch.range, batch.size(), decoded.clone());
                if lane.held_bytes() > HOLD_BYTES {
                    lane.stop_holding();
                }
            }
            Wants::Nothing | Wants::Missing { .. } => {}
        }
    }

    fn on_catch_up(&mut self, sink: SinkKind, read: &Read, ctx: &mut Context<Self>) {
        let Some(index) = self.index(sink) else { return };
        let range = read.raw.range;
        match self.lanes[index].lane.wants_catch_up(range) {
            Wants::Nothing => {}
            Wants::From(next) => {
                let Some(decoded) = self.decode(read, next) else { return };
                self.deliver(index, &decoded, next, ctx);
            }
            Wants::Missing { next } => {
                self.lose(index, Loss::Missing { next, start: range.start });
            }
        }
        self.try_join(index, ctx);
    }

    /// Attaches a lane whose catch-up has reached the main stream. Answers whether it did.
    fn try_join(&mut self, index: usize, ctx: &mut Context<Self>) -> bool {
        let Some(held) = self.lanes[index].lane.join(self.main_next) else { return false };
        for (range, _, decoded) in held {
            if let Wants::From(next) = self.lanes[index].lane.wants_main(range) {
                self.deliver(index, &decoded, next, ctx);
            }
        }
        // One of what was held may have been refused.
        if !self.lanes[index].lane.is_attached() {
            return true;
        }
        let sink = self.lanes[index].sink;
        metrics::LANES_JOINED.add([&self.feed.name, sink.name()], 1);
        self.place.is_behind(sink, false);
        self.tell(index, LaneChange::Joined);
        true
    }

    /// Decodes what the lanes need; none if so much is rejected that the records are not to blame.
    fn decode(&mut self, read: &Read, from: i64) -> Option<Decoded> {
        fault::point("partition_consumer.decode");
        let raw = &read.raw;
        let range = OffsetRange::new(from.max(raw.range.start), raw.range.end);
        let processing = read.polled.processed(&self.feed.name, &self.source, range, &self.budget);
        let since = Instant::now();
        let mut batch = self.decoder.decode(raw, from);
        let decoding = since.elapsed().as_secs_f64();
        if let Some(new) = self.decoder.new_fields() {
            self.stop_to_evolve(new);
            return None;
        }
        self.warn();
        let records = batch.num_rows() + batch.rejects.len();
        let rejected = batch.rejects.len();
        processing.decoded(batch.range, records, &batch.rejects);
        let limits = &self.feed.quarantine;
        if records >= limits.park_min_records
            && rejected as f64 > limits.park_above * records as f64
        {
            let reason = format!(
                "{rejected} of {records} records in {} of {} were rejected, the first, at {}, because: \
                 {} ({}); correct the feed (`quarantine.park_above` is {})",
                batch.range,
                self.source,
                batch.rejects[0].offset,
                told(&batch.rejects[0].reason),
                batch.rejects[0].class.name(),
                limits.park_above
            );
            for index in 0..self.lanes.len() {
                self.lose(index, Loss::TooManyRejects(reason.clone()));
            }
            return None;
        }
        let feed = &*self.feed.name;
        metrics::RECORDS_READ.add([feed], records as u64);
        metrics::BYTES_READ.add([feed], raw.payload_bytes() as u64);
        let topic = &*self.source.topic;
        metrics::CONSUMED_MESSAGES.add([topic, "kafka", "poll"], records as u64);
        metrics::PROCESS_SECONDS.record([topic, "kafka", "process"], decoding);
        let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
        for reject in batch.rejects.iter() {
            *classes.entry(reject.class.name()).or_default() += 1;
        }
        for (class, count) in classes {
            metrics::RECORDS_REJECTED.add([feed, class], count);
        }
        batch.hold = Hold::new(self.budget.charge(batch.size()));
        Some(Decoded { batch: Arc::new(batch), processing })
    }

    /// Takes nothing more: the feed begins anew with more columns, from the watermarks.
    fn stop_to_evolve(&mut self, new: NewFields) {
        self.stopped = true;
        let evolve = Evolve { feed: self.feed.clone(), source: self.source.clone(), new };
        if let Err(SendError::Full(evolve)) = self.evolve.try_send(evolve) {
            let supervisor = self.evolve.clone();
            actix::spawn(async move {
                let _ = supervisor.send(evolve).await;
            });
        }
    }

    /// Tells of values that failed a check and were let through, so often that a log can bear it.
    fn warn(&mut self) {
        for warned in self.decoder.take_warned() {
            metrics::RECORDS_WARNED.add([&self.feed.name], warned.records as u64);
            self.warned_since += warned.records;
            if self.warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                warn!(target: "tidegate::partition", feed = %self.feed.name, source = %self.source, offset = warned.offset, records = self.warned_since, "{}", told(&warned.first));
                (self.warned_at, self.warned_since) = (Some(Instant::now()), 0);
            }
        }
    }

    fn deliver(&mut self, index: usize, decoded: &Decoded, from: i64, ctx: &mut Context<Self>) {
        let slot = &mut self.lanes[index];
        let (Some(claim), Some(writer)) = (slot.lane.claim(), &slot.writer) else { return };
        let Decoded { batch, processing } = decoded;
        let batch = match from > batch.range.start {
            true => Arc::new(batch.cut_before(from)),
            false => batch.clone(),
        };
        let (end, bytes, oldest_ms) =
            (batch.range.end, batch.size(), batch.first_ms().unwrap_or_else(now_ms));
        let receipts = ctx.address().recipient();
        let delivered = processing.delivered(slot.sink);
        let (topic_id, trace) = (self.topic_id, delivered.context());
        let deliver = Deliver { batch, claim, topic_id, receipts, trace };
        // A full mailbox means the writer's arbiter stands still: as slow as a sink can be.
        let loss = match writer.try_send(deliver) {
            Ok(()) => {
                slot.lane.delivered(end, bytes);
                slot.on_its_way.push_back(OnItsWay { end, oldest_ms, delivered: Some(delivered) });
                self.tell_place(index);
                return;
            }
            Err(SendError::Closed(_)) => Loss::WriterDied,
            Err(SendError::Full(_)) => Loss::TooSlow,
        };
        self.lose(index, loss);
    }

    fn lose(&mut self, index: usize, loss: Loss) {
        let slot = &mut self.lanes[index];
        if slot.lane.is_waiting() {
            return;
        }
        debug!(target: "tidegate::partition", feed = %self.feed.name, source = %self.source, sink = %slot.sink, %loss, "lane lost");
        metrics::LANES_DETACHED.add([&self.feed.name, slot.sink.name()], 1);
        self.place.is_behind(slot.sink, true);
        let kind = loss.kind();
        self.tell(index, LaneChange::Lost(loss));
        self.lanes[index].lane.detach();
        self.lanes[index].writer = None;
        // What was the oldest waits on.
        let on_its_way = &mut self.lanes[index].on_its_way;
        for delivered in on_its_way.iter_mut().filter_map(|it| it.delivered.take()) {
            delivered.lost(kind);
        }
        on_its_way.truncate(1);
        self.tell_place(index);
        self.waiting_in(Stream::CatchUp(self.lanes[index].sink)).forget();
        self.answer_drain();
    }

    fn tell(&self, index: usize, change: LaneChange) {
        let slot = &self.lanes[index];
        let changed = LaneChanged {
            feed: self.feed.name.clone(),
            source: self.source.clone(),
            sink: slot.sink,
            claim: slot.lane.claim(),
            change,
        };
        // However full its mailbox is: without this the lane would wait for ever. A closed one is a
        // node that stops.
        if let Err(SendError::Full(changed)) = self.supervisor.try_send(changed) {
            let supervisor = self.supervisor.clone();
            actix::spawn(async move {
                let _ = supervisor.send(changed).await;
            });
        }
    }

    /// The records below `end` wait no longer.
    fn settle(&mut self, index: usize, end: i64, landed: &Landed) {
        let on_its_way = &mut self.lanes[index].on_its_way;
        while let Some(first) = on_its_way.pop_front_if(|first| first.end <= end) {
            if let Some(delivered) = first.delivered {
                delivered.landed(landed);
            }
        }
        self.tell_place(index);
    }

    fn tell_place(&self, index: usize) {
        let SinkLane { sink, lane, on_its_way, .. } = &self.lanes[index];
        let waiting = if lane.is_idle() { 0 } else { on_its_way.len() };
        let oldest_ms = on_its_way.front().map(|first| first.oldest_ms);
        // Of one that began detached nothing is known.
        if lane.durable() >= 0 {
            self.place.stands(*sink, lane.durable(), oldest_ms, waiting);
        }
    }

    fn index(&self, sink: SinkKind) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.sink == sink)
    }

    fn mirror_durable(&mut self) {
        let durable = self.lanes.iter().map(|lane| lane.lane.durable()).min().unwrap_or(-1);
        if durable > self.mirrored {
            self.mirrored = durable;
            (self.mirror)(durable);
        }
    }

    fn answer_drain(&mut self) {
        if self.lanes.iter().all(|lane| lane.lane.is_idle()) {
            for waiting in self.draining.drain(..) {
                let _ = waiting.send(());
            }
        }
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

impl Actor for PartitionConsumer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(Self::MAILBOX);
        self.mirror_durable();
        info!(target: "tidegate::partition", feed = %self.feed.name, source = %self.source, from = self.main_next, "consuming");
    }
}

impl Handler<Records> for PartitionConsumer {
    type Result = ();

    fn handle(&mut self, Records { read, stream }: Records, ctx: &mut Self::Context) {
        if self.stopped {
            return;
        }
        self.waiting_in(stream).push(read);
        self.go_on(ctx);
    }
}

impl Handler<Receipt> for PartitionConsumer {
    type Result = ();

    fn handle(&mut self, receipt: Receipt, _: &mut Self::Context) {
        let Some(index) = self.index(receipt.sink) else { return };
        match receipt.outcome {
            Outcome::Durable { end, landed } => {
                if self.lanes[index].lane.settle(receipt.claim, end) {
                    self.place.committed(receipt.sink, now_ms());
                    self.settle(index, end, &landed);
                    self.mirror_durable();
                    self.answer_drain();
                }
            }
            Outcome::Lost(loss) => {
                if self.lanes[index].lane.claim() == Some(receipt.claim) {
                    self.lose(index, loss);
                }
            }
        }
    }
}

impl Handler<Attach> for PartitionConsumer {
    type Result = Option<i64>;

    fn handle(&mut self, attach: Attach, ctx: &mut Self::Context) -> Option<i64> {
        let index = self.index(attach.sink)?;
        self.waiting_in(Stream::CatchUp(attach.sink)).forget();
        self.lanes[index].writer = Some(attach.writer);
        self.lanes[index].lane.begin_catch_up(attach.claim, attach.watermark);
        self.settle(index, attach.watermark, &Landed::default());
        if self.try_join(index, ctx) { None } else { Some(attach.watermark) }
    }
}

impl Handler<Detach> for PartitionConsumer {
    type Result = ();

    fn handle(&mut self, detach: Detach, _: &mut Self::Context) {
        if let Some(index) = self.index(detach.sink) {
            self.lose(index, detach.loss);
        }
    }
}

impl Handler<InFlight> for PartitionConsumer {
    type Result = MessageResult<InFlight>;

    fn handle(&mut self, _: InFlight, _: &mut Self::Context) -> Self::Result {
        let in_flight = self.lanes.iter().filter(|lane| lane.lane.is_attached());
        MessageResult(in_flight.map(|lane| (lane.sink, lane.lane.in_flight_bytes())).collect())
    }
}

impl Handler<Drain> for PartitionConsumer {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.stopped = true;
        self.waiting.clear();
        let (done, waiting) = oneshot::channel();
        self.draining.push(done);
        self.answer_drain();
        Box::pin(async move { drop(waiting.await) })
    }
}

impl Handler<Beat> for PartitionConsumer {
    type Result = ();

    fn handle(&mut self, _: Beat, _: &mut Self::Context) {}
}
