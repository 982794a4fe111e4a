//! The actors on doubles: what they deliver, gather, give up and take up again. What the sinks promise
//! is proved on the sinks themselves.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, Message, Recipient};
use async_trait::async_trait;
use opentelemetry::trace::SpanContext;
use tokio::sync::Semaphore;

use super::Io;
use super::message::{
    Attach, Beat, Deliver, Drain, LaneChange, LaneChanged, Loss, Outcome, Reading, Receipt,
    Records, Stream,
};
use super::partition_consumer::{Blueprint, LaneStart, PartitionConsumer};
use super::warehouse_writer::WarehouseWriter;
use crate::config::{
    Column, ColumnType, Feed, FeedKind, LakeOptions, OnGap, Quarantine, Schema, Start, ValueFormat,
    WarehouseOptions,
};
use crate::flow::budget::Budget;
use crate::record::{
    Claim, OffsetRange, Part, Progress, RawBatch, SinkError, SinkKind, TopicId, TopicPartition,
    Verdict,
};
use crate::registry::Registry;
use crate::registry::double::Double;
use crate::source::Read;
use crate::telemetry::places::Place;
use crate::telemetry::trace::{Landed, Polled};
use crate::warehouse::{
    ClaimRequest, KeptSnapshot, Replay, Replayed, Settlement, Snapshot, Warehouse,
};

fn feed() -> Arc<Feed> {
    let column = Column::new("id", ColumnType::Long);
    Arc::new(Feed {
        name: "f".into(),
        kind: FeedKind::Stream,
        topic: "t".into(),
        start: Start::Earliest,
        on_gap: OnGap::Park,
        schema: Schema::json(vec![column], 0),
        lake: Some(LakeOptions::default()),
        warehouse: Some(WarehouseOptions::default()),
        quarantine: Quarantine { park_above: 0.5, park_min_records: 4 },
    })
}

fn source() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn records(start: i64, end: i64, value: &[u8], stream: Stream, budget: &Budget) -> Records {
    let mut raw = RawBatch::new(source(), start);
    (start..end).for_each(|offset| raw.push(offset, 0, None, Some(value), []));
    let charge = budget.charge(raw.size());
    Records { read: Arc::new(Read { raw, charge, polled: Polled::default() }), stream }
}

fn durable(end: i64) -> Outcome {
    Outcome::Durable { end, landed: Landed::default() }
}

/// Notes what it is told, in order.
struct Noting<M>(Arc<Mutex<Vec<M>>>);

impl<M: Unpin + 'static> Actor for Noting<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Unpin + 'static> Handler<M> for Noting<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Self::Context) {
        self.0.lock().unwrap().push(message);
    }
}

fn noting<M: Message<Result = ()> + Send + Unpin + 'static>() -> (Recipient<M>, Arc<Mutex<Vec<M>>>)
{
    let notes = Arc::new(Mutex::new(Vec::new()));
    (Noting(notes.clone()).start().recipient(), notes)
}

/// A partition consumer between two noting writers.
struct Bench {
    consumer: Addr<PartitionConsumer>,
    claims: HashMap<SinkKind, Claim>,
    delivered: HashMap<SinkKind, Arc<Mutex<Vec<Deliver>>>>,
    changes: Arc<Mutex<Vec<LaneChanged>>>,
    mirrored: Arc<Mutex<Vec<i64>>>,
    readings: Arc<Mutex<Vec<Reading>>>,
    budget: Budget,
    place: Arc<Place>,
}

impl Bench {
    fn new(watermarks: [(SinkKind, i64); 2]) -> Self {
        Self::with(watermarks, feed(), None)
    }

    fn with(watermarks: [(SinkKind, i64); 2], feed: Arc<Feed>, registry: Option<Registry>) -> Self {
        let (reading, readings) = noting();
        let budget = Budget::new(1 << 30);
        let (mut claims, mut delivered) = (HashMap::new(), HashMap::new());
        let lanes = watermarks.map(|(sink, watermark)| {
            let (writer, notes) = noting();
            let claim = Claim::random();
            claims.insert(sink, claim);
            delivered.insert(sink, notes);
            LaneStart { sink, attached: Some((claim, watermark, writer)) }
        });
        let (supervisor, changes) = noting();
        let mirrored = Arc::new(Mutex::new(Vec::new()));
        let mirror = mirrored.clone();
        let sinks = [SinkKind::Lake, SinkKind::Warehouse].into_iter();
        let place = Place::open(feed.name.clone(), source(), sinks);
        let consumer = PartitionConsumer::build(Blueprint {
            place: place.clone(),
            feed,
            source: source(),
            topic_id: TopicId::UNKNOWN,
            lanes: lanes.into(),
            budget: budget.clone(),
            mirror: Box::new(move |offset| mirror.lock().unwrap().push(offset)),
            supervisor,
            evolve: noting().0,
            reading,
            registry,
            io: Io::new(tokio::runtime::Handle::current()),
        });
        let consumer = consumer.start();
        Self { consumer, claims, delivered, changes, mirrored, readings, budget, place }
    }

    async fn read(&self, start: i64, end: i64, stream: Stream) {
        let read = records(start, end, br#"{"id":1}"#, stream, &self.budget);
        self.consumer.send(read).await.unwrap();
        tokio::task::yield_now().await;
    }

    async fn answer(&self, sink: SinkKind, claim: Claim, outcome: Outcome) {
        self.consumer.send(Receipt { sink, claim, outcome }).await.unwrap();
        tokio::task::yield_now().await;
    }

    fn ranges(&self, sink: SinkKind) -> Vec<OffsetRange> {
        self.delivered[&sink].lock().unwrap().iter().map(|deliver| deliver.batch.range).collect()
    }
}

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(start, end)
}

use SinkKind::{Lake, Warehouse as Ware};

#[actix::test]
async fn each_sink_gets_what_it_lacks_and_kafka_the_lowest_of_both() {
    let bench = Bench::new([(Lake, 0), (Ware, 15)]);
    bench.read(0, 10, Stream::Main).await;
    bench.read(10, 20, Stream::Main).await;
    assert_eq!(bench.ranges(Lake), [range(0, 10), range(10, 20)]);
    assert_eq!(bench.ranges(Ware), [range(15, 20)]);
    bench.answer(Ware, bench.claims[&Ware], durable(20)).await;
    bench.answer(Lake, bench.claims[&Lake], durable(10)).await;
    bench.answer(Lake, bench.claims[&Lake], durable(20)).await;
    assert_eq!(*bench.mirrored.lock().unwrap(), [0, 10, 20]);
}

#[actix::test]
async fn a_lost_sink_is_caught_up_and_joins_while_the_other_goes_on() {
    let bench = Bench::new([(Lake, 0), (Ware, 0)]);
    bench.read(0, 10, Stream::Main).await;
    bench.answer(Ware, bench.claims[&Ware], Outcome::Lost(Loss::WriterDied)).await;
    bench.read(10, 20, Stream::Main).await;
    assert_eq!(bench.ranges(Lake), [range(0, 10), range(10, 20)]);
    assert_eq!(bench.ranges(Ware), [range(0, 10)], "nothing while it is detached");

    let (writer, caught_up) = noting();
    let claim = Claim::random();
    let attach = Attach { sink: Ware, claim, watermark: 4, writer };
    assert_eq!(bench.consumer.send(attach).await.unwrap(), Some(4));
    bench.read(4, 14, Stream::CatchUp(Ware)).await;
    bench.read(20, 30, Stream::Main).await;
    bench.read(14, 24, Stream::CatchUp(Ware)).await;
    bench.read(30, 40, Stream::Main).await;
    let ranges: Vec<_> =
        caught_up.lock().unwrap().iter().map(|deliver: &Deliver| deliver.batch.range).collect();
    assert_eq!(ranges, [range(4, 14), range(14, 24), range(24, 30), range(30, 40)]);
    let changes = bench.changes.lock().unwrap();
    assert!(matches!(changes[0].change, LaneChange::Lost(Loss::WriterDied)));
    assert!(matches!(changes[1].change, LaneChange::Joined));
    assert_eq!(bench.ranges(Lake).last(), Some(&range(30, 40)));
}

#[actix::test]
async fn what_waits_for_a_sink_is_told_until_nothing_does() {
    let bench = Bench::new([(Lake, 0), (Ware, 0)]);
    assert_eq!(bench.place.told(Ware), (0, None, 0, false));
    bench.read(0, 10, Stream::Main).await;
    // The records are of 1970.
    assert_eq!(bench.place.told(Ware), (0, Some(0), 1, false));
    bench.answer(Lake, bench.claims[&Lake], durable(10)).await;
    assert_eq!(bench.place.told(Lake), (10, None, 0, false));
    // What the lost writer was given waits on, though it is on no way any more.
    bench.answer(Ware, bench.claims[&Ware], Outcome::Lost(Loss::WriterDied)).await;
    assert_eq!(bench.place.told(Ware), (0, Some(0), 0, true));
    // It had landed, as the next claim finds: nothing more is to be written.
    let (writer, _) = noting();
    let attach = Attach { sink: Ware, claim: Claim::random(), watermark: 10, writer };
    assert_eq!(bench.consumer.send(attach).await.unwrap(), None, "it joins at once");
    assert_eq!(bench.place.told(Ware), (10, None, 0, false));
}

#[actix::test]
async fn too_many_rejects_stop_the_partition_instead_of_filling_quarantine() {
    let bench = Bench::new([(Lake, 0), (Ware, 0)]);
    let bad = records(0, 10, b"no JSON", Stream::Main, &bench.budget);
    bench.consumer.send(bad).await.unwrap();
    tokio::task::yield_now().await;
    assert!(bench.ranges(Lake).is_empty());
    let changes = bench.changes.lock().unwrap();
    let LaneChange::Lost(Loss::TooManyRejects(reason)) = &changes[0].change else {
        panic!("{changes:?}")
    };
    assert!(reason.contains("10 of 10") && reason.contains("t-0"), "{reason}");
}

#[actix::test]
async fn a_hole_in_the_stream_is_never_delivered() {
    let bench = Bench::new([(Lake, 0), (Ware, 5)]);
    bench.read(3, 10, Stream::Main).await;
    assert!(bench.ranges(Lake).is_empty());
    assert_eq!(bench.ranges(Ware), [range(5, 10)]);
    let changes = bench.changes.lock().unwrap();
    assert!(matches!(changes[0].change, LaneChange::Lost(Loss::Missing { next: 0, start: 3 })));
}

#[actix::test]
async fn a_drain_ends_when_nothing_is_in_flight_and_the_budget_is_free() {
    let bench = Bench::new([(Lake, 0), (Ware, 0)]);
    bench.read(0, 10, Stream::Main).await;
    assert!(bench.budget.used() > 0);
    let drain = bench.consumer.send(Drain);
    let mut drain = std::pin::pin!(drain);
    assert!(futures::poll!(&mut drain).is_pending());
    bench.answer(Ware, bench.claims[&Ware], durable(10)).await;
    assert!(futures::poll!(&mut drain).is_pending(), "the lake still has it");
    bench.answer(Lake, bench.claims[&Lake], durable(10)).await;
    drain.await.unwrap();
    bench.delivered.values().for_each(|delivered| delivered.lock().unwrap().clear());
    assert_eq!(bench.budget.used(), 0);
}

/// A warehouse whose writes wait for a permit, and fail while it is told to.
struct Slow {
    permits: Semaphore,
    failing: Mutex<Option<SinkError>>,
    written: Mutex<Vec<Vec<OffsetRange>>>,
}

#[async_trait]
impl Warehouse for Slow {
    async fn write(&self, _: &Feed, parts: &[Part]) -> Result<Vec<Verdict>, SinkError> {
        self.permits.acquire().await.unwrap().forget();
        if let Some(error) = self.failing.lock().unwrap().clone() {
            return Err(error);
        }
        self.written.lock().unwrap().push(parts.iter().map(Part::range).collect());
        Ok(parts.iter().map(|_| Verdict::Durable { quarantined: 0 }).collect())
    }

    async fn migrate(&self) -> Result<Vec<String>, SinkError> {
        unreachable!()
    }
    async fn check_schema(&self) -> Result<(), SinkError> {
        unreachable!()
    }
    async fn installation(&self, _: uuid::Uuid, _: bool) -> Result<uuid::Uuid, SinkError> {
        unreachable!()
    }
    async fn prepare(&self, _: &Feed) -> Result<(), SinkError> {
        unreachable!()
    }
    async fn widen(&self, _: &Feed, _: &Column) -> Result<bool, SinkError> {
        unreachable!()
    }
    async fn claim(
        &self,
        _: &Feed,
        _: &[ClaimRequest],
    ) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        unreachable!()
    }
    async fn progress(&self, _: &str) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        unreachable!()
    }
    async fn replay(&self, _: &Feed, _: &Replay) -> Result<Replayed, SinkError> {
        unreachable!()
    }
    async fn settle(&self, _: &str, _: &Settlement) -> Result<u64, SinkError> {
        unreachable!()
    }
    async fn open_gap(
        &self,
        _: &Feed,
        _: &TopicPartition,
        _: Claim,
        _: OffsetRange,
    ) -> Result<(), SinkError> {
        unreachable!()
    }
    async fn record_gap(
        &self,
        _: &Feed,
        _: &TopicPartition,
        _: Claim,
        _: OffsetRange,
        _: crate::record::GapReason,
    ) -> Result<Verdict, SinkError> {
        unreachable!()
    }
    async fn reset(
        &self,
        _: &str,
        _: &TopicPartition,
        _: TopicId,
        _: i64,
    ) -> Result<(), SinkError> {
        unreachable!()
    }
    async fn snapshot(
        &self,
        _: &Feed,
        _: Option<Duration>,
        _: u32,
    ) -> Result<Option<Snapshot>, SinkError> {
        unreachable!()
    }
    async fn snapshots(&self, _: &str) -> Result<Vec<KeptSnapshot>, SinkError> {
        unreachable!()
    }
    async fn keep_columns(&self, _: &str, _: &str) -> Result<String, SinkError> {
        unreachable!()
    }
    async fn change_columns(&self, _: &str, _: &str, _: &str) -> Result<String, SinkError> {
        unimplemented!()
    }
    async fn kept_columns(&self, _: &str) -> Result<Option<String>, SinkError> {
        unreachable!()
    }
    async fn ping(&self) -> Result<(), SinkError> {
        unreachable!()
    }
}

struct Writing {
    writer: Addr<WarehouseWriter>,
    warehouse: Arc<Slow>,
    receipts: Arc<Mutex<Vec<Receipt>>>,
    to: Recipient<Receipt>,
    claim: Claim,
}

impl Writing {
    /// A writer that puts up with a sink that is away for so long.
    fn patient(patience: Duration) -> Self {
        let warehouse = Arc::new(Slow {
            permits: Semaphore::new(0),
            failing: Mutex::new(None),
            written: Mutex::default(),
        });
        let options = WarehouseOptions {
            linger: crate::config::Duration::from_millis(1),
            ..WarehouseOptions::default()
        };
        let io = Io::new(tokio::runtime::Handle::current());
        let writer =
            WarehouseWriter::build(feed(), &options, warehouse.clone(), io, patience).start();
        let (to, receipts) = noting();
        Self { writer, warehouse, receipts, to, claim: Claim::random() }
    }

    async fn deliver(&self, start: i64, end: i64) {
        let raw = records(start, end, br#"{"id":1}"#, Stream::Main, &Budget::new(1 << 20));
        let mut decoder = crate::decode::Decoder::new(&feed().schema, false, false, false);
        let deliver = Deliver {
            batch: Arc::new(decoder.decode(&raw.read.raw, start)),
            claim: self.claim,
            topic_id: TopicId::UNKNOWN,
            receipts: self.to.clone(),
            trace: SpanContext::NONE,
        };
        self.writer.send(deliver).await.unwrap();
    }

    /// Waits for the n-th receipt.
    async fn receipt(&self, count: usize) -> Vec<Receipt> {
        let waiting = async {
            while self.receipts.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("no receipt came");
        self.receipts.lock().unwrap().clone()
    }
}

#[actix::test]
async fn while_one_transaction_is_in_flight_the_next_gathers() {
    let writing = Writing::patient(Duration::from_secs(600));
    writing.deliver(0, 10).await;
    // The first is in flight once its permit is waited for; the rest gathers behind it.
    tokio::time::timeout(Duration::from_secs(20), async {
        writing.warehouse.permits.add_permits(1);
        writing.receipt(1).await;
        writing.deliver(10, 20).await;
        while writing.writer.send(Beat).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if writing.warehouse.permits.available_permits() == 0 {
                break;
            }
        }
        for at in 2..12 {
            writing.deliver(at * 10, at * 10 + 10).await;
        }
        writing.warehouse.permits.add_permits(2);
        writing.receipt(3).await;
    })
    .await
    .unwrap();
    let written = writing.warehouse.written.lock().unwrap().clone();
    let joined: Vec<OffsetRange> = written.into_iter().flatten().collect();
    assert!(joined.len() <= 4, "batches gather: {joined:?}");
    assert_eq!((joined[0].start, joined.last().unwrap().end), (0, 120));
    assert!(joined.windows(2).all(|pair| pair[0].end == pair[1].start), "{joined:?}");
}

#[actix::test]
async fn a_passing_error_is_tried_again() {
    let writing = Writing::patient(Duration::from_secs(600));
    *writing.warehouse.failing.lock().unwrap() = Some(SinkError::passing("away"));
    writing.warehouse.permits.add_permits(1000);
    writing.deliver(0, 10).await;
    until(|| writing.warehouse.permits.available_permits() < 999).await;
    *writing.warehouse.failing.lock().unwrap() = None;
    let receipts = writing.receipt(1).await;
    assert!(matches!(receipts[0].outcome, Outcome::Durable { end: 10, .. }));
}

#[actix::test]
async fn a_sink_that_stays_away_gives_its_lanes_up_and_one_that_returns_does_not() {
    let writing = Writing::patient(Duration::from_millis(100));
    *writing.warehouse.failing.lock().unwrap() = Some(SinkError::passing("away"));
    writing.warehouse.permits.add_permits(1000);
    writing.deliver(0, 10).await;
    let receipts = writing.receipt(1).await;
    let Outcome::Lost(Loss::Failed(error)) = &receipts[0].outcome else { panic!("{receipts:?}") };
    assert_eq!(error.message, "away");

    *writing.warehouse.failing.lock().unwrap() = None;
    writing.deliver(0, 10).await;
    let receipts = writing.receipt(2).await;
    assert!(matches!(receipts[1].outcome, Outcome::Durable { end: 10, .. }));
}

/// Asks until it is so.
async fn until(what: impl Fn() -> bool) {
    let asking = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking).await.expect("it comes to that");
}

/// A record `{id}` as Avro, under schema 1.
const AVRO: &[u8] = &[0, 0, 0, 0, 1, 2];

fn avro_feed() -> Arc<Feed> {
    let mut feed = Feed::clone(&feed());
    feed.schema.value_format = ValueFormat::Avro;
    Arc::new(feed)
}

fn avro_registry(there: &Arc<AtomicBool>) -> Registry {
    let there = there.clone();
    let schema = r#"{"schema":"{\"type\":\"record\",\"name\":\"r\",\"fields\":[{\"name\":\"id\",\"type\":\"long\"}]}"}"#;
    let answer = move |_: &str, _| match there.load(Ordering::Relaxed) {
        true => (200, schema.to_owned()),
        false => (503, String::new()),
    };
    Double::start(answer).registry()
}

#[actix::test]
async fn records_wait_for_their_schema_in_order() {
    let registry = avro_registry(&Arc::new(AtomicBool::new(true)));
    let bench = Bench::with([(Lake, 0), (Ware, 5)], avro_feed(), Some(registry));
    for (start, end) in [(0, 10), (10, 20)] {
        let read = records(start, end, AVRO, Stream::Main, &bench.budget);
        bench.consumer.send(read).await.unwrap();
    }
    until(|| bench.ranges(Ware).len() == 2).await;
    assert_eq!(bench.ranges(Lake), [range(0, 10), range(10, 20)]);
    assert_eq!(bench.ranges(Ware), [range(5, 10), range(10, 20)]);
    let lake = bench.delivered[&Lake].lock().unwrap();
    assert!(lake.iter().all(|deliver| deliver.batch.rejects.is_empty()));
    assert!(bench.readings.lock().unwrap().is_empty());
}

/// While the registry is away nothing is held, decided or lost; a drain does not wait for it.
#[actix::test]
async fn a_partition_outwaits_its_registry_and_holds_nothing_meanwhile() {
    let there = Arc::new(AtomicBool::new(false));
    let registry = avro_registry(&there);
    let bench = Bench::with([(Lake, 0), (Ware, 0)], avro_feed(), Some(registry));
    let read = |start, end| records(start, end, AVRO, Stream::Main, &bench.budget);
    bench.consumer.send(read(0, 10)).await.unwrap();
    bench.consumer.send(read(10, 20)).await.unwrap();
    until(|| bench.readings.lock().unwrap().iter().any(|reading| reading.from.is_none())).await;
    bench.consumer.send(read(20, 30)).await.unwrap();
    assert_eq!(bench.budget.used(), 0, "nothing is held");
    assert!(bench.ranges(Lake).is_empty());
    bench.consumer.send(Beat).await.unwrap();

    there.store(true, Ordering::Relaxed);
    until(|| bench.readings.lock().unwrap().len() == 2).await;
    assert_eq!(bench.readings.lock().unwrap()[1].from, Some(0));
    // On its way before the halt, and what is read anew.
    for (start, end) in [(30, 40), (0, 15), (15, 40)] {
        bench.consumer.send(read(start, end)).await.unwrap();
        tokio::task::yield_now().await;
    }
    for sink in [Lake, Ware] {
        assert_eq!(bench.ranges(sink), [range(0, 15), range(15, 40)]);
    }
    assert!(bench.changes.lock().unwrap().is_empty(), "no lane is lost");
}

#[actix::test]
async fn a_drain_does_not_wait_for_the_registry() {
    let registry = avro_registry(&Arc::new(AtomicBool::new(false)));
    let bench = Bench::with([(Lake, 0), (Ware, 0)], avro_feed(), Some(registry));
    bench.consumer.send(records(0, 10, AVRO, Stream::Main, &bench.budget)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(1), bench.consumer.send(Drain))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bench.budget.used(), 0);
}
