//! The raw limits that a node is held against, each alone on the machine.
//!
//!   limits read NODE TOPIC RECORDS     librdkafka, set up as a node sets it up, reading a topic
//!   limits decode NODE TOPIC RECORDS   our own decoder, then our own Parquet encoder, over the
//!                                      topic's records already in memory, on one thread
//!
//!   limits decide NODE TOPIC ROWS      decisions from so many permission rows, and what each shows of
//!                                      the lake's table
//!
//! NODE is a node file whose one feed reads the topic. Prints one JSON object: seconds of wall time
//! and of CPU. What is measured starts at the first record and ends at the last.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tidegate::config::{Feed, FeedKind, Node, Protocol, load_feeds, load_node};
use tidegate::decode::Decoder;
use tidegate::governance::{
    Action, Decision, Effect, Mask, Principal, Row, RowId, Salt, Target, decide,
};
use tidegate::lake::encode;
use tidegate::layout::Layout;
use tidegate::reads::Sight;
use tidegate::record::{Claim, Part, RawBatch, TopicId, TopicPartition};
use tidegate::source::group_consumer_config;

/// What a node hands to its decoder at once, and what it puts into one file.
const RAW_RECORDS: usize = 8192;
const RAW_BYTES: usize = 1 << 20;
const FILE_BYTES: usize = 64 << 20;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [what, file, topic, records] = arguments.as_slice() else {
        // `cargo bench` comes without any: there is no broker, and nothing to measure.
        println!("run scripts/bench");
        return Ok(());
    };
    let node = load_node(Path::new(file)).map_err(|faults| faults.to_string())?;
    let feed = only_feed(&node, topic)?;
    let records = records.parse()?;
    let found = match what.as_str() {
        "read" => read_alone(&node, topic, records)?,
        "decode" => decode_alone(&node, &feed, records)?,
        "decide" => decide_alone(&feed, records)?,
        other => return Err(format!("no such limit: {other}").into()),
    };
    println!("{found}");
    Ok(())
}

fn only_feed(node: &Node, topic: &str) -> Result<Feed, Failure> {
    let files = load_feeds(&node.feeds, node).map_err(|faults| faults.to_string())?;
    let file = files.first().ok_or("no feed file")?;
    Ok(file.resolve(topic, None).map_err(|fault| fault.to_string())?)
}

fn read_alone(node: &Node, topic: &str, records: usize) -> Result<Value, Failure> {
    let mut bytes = 0;
    let span = read(node, topic, records, |message| bytes += message.payload_len())?;
    Ok(span.json(json!({ "records": records, "bytes": bytes })))
}

/// Reads the topic from its start, without a group.
fn read(
    node: &Node,
    topic: &str,
    records: usize,
    mut take: impl FnMut(&BorrowedMessage<'_>),
) -> Result<Span, Failure> {
    // As in `app`: a quarter of the budget is librdkafka's queue.
    let queue = node.memory.budget.bytes() / 4;
    let mut config = group_consumer_config(&node.kafka, Protocol::Classic, queue)?;
    config.set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let mut start = None;
    for _ in 0..records {
        let message = consumer.poll(Duration::from_secs(20)).ok_or("the topic ended early")??;
        start.get_or_insert_with(Span::start);
        take(&message);
    }
    Ok(start.ok_or("nothing to read")?.end())
}

fn decode_alone(node: &Node, feed: &Feed, records: usize) -> Result<Value, Failure> {
    let raw = raw_batches(node, &feed.topic, records)?;
    let mut decoder = Decoder::new(&feed.schema, feed.kind == FeedKind::Table, false, false);
    let layout = Layout::of(feed)?;
    let (mut decoding, mut encoding) = (Span::default(), Span::default());
    let (mut rejects, mut files, mut bytes) = (0, 0, 0);
    let mut raw = raw.into_iter().peekable();
    // File by file, as a node does, so that memory is used again while it is warm.
    while raw.peek().is_some() {
        let start = Span::start();
        let parts = decode_file(&mut decoder, &mut raw);
        decoding.add(&start.end());
        let start = Span::start();
        let mut made = Vec::new();
        encode(feed, &layout, 0, &parts, |file| {
            made.push(file);
            true
        })?;
        encoding.add(&start.end());
        files += made.len();
        bytes += made.iter().map(|file| file.bytes.len()).sum::<usize>();
        rejects += parts.iter().map(|part| part.batches[0].rejects.len()).sum::<usize>();
    }
    Ok(json!({
        "records": records,
        "rejects": rejects,
        "files": files,
        "parquet_bytes": bytes,
        "decode": decoding.json(json!({})),
        "encode": encoding.json(json!({})),
    }))
}

/// Decodes until a file is full, or nothing is left.
fn decode_file(decoder: &mut Decoder, raw: &mut impl Iterator<Item = RawBatch>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut size = 0;
    while size < FILE_BYTES
        && let Some(raw) = raw.next()
    {
        let batch = decoder.decode(&raw, 0);
        size += batch.size();
        parts.push(Part {
            source: batch.source.clone(),
            topic_id: TopicId::UNKNOWN,
            claim: Claim::random(),
            batches: vec![Arc::new(batch)],
        });
    }
    parts
}

/// The whole topic in memory, cut as the poll thread cuts it.
fn raw_batches(node: &Node, topic: &str, records: usize) -> Result<Vec<RawBatch>, Failure> {
    let mut full = Vec::new();
    let mut open: HashMap<i32, RawBatch> = HashMap::new();
    read(node, topic, records, |message| {
        let partition = message.partition();
        let source = || TopicPartition::new(topic, partition);
        let batch =
            open.entry(partition).or_insert_with(|| RawBatch::new(source(), message.offset()));
        let time = message.timestamp().to_millis().unwrap_or(-1);
        batch.push(message.offset(), time, message.key(), message.payload(), []);
        if batch.len() >= RAW_RECORDS || batch.payload_bytes() >= RAW_BYTES {
            full.extend(open.remove(&partition));
        }
    })?;
    full.extend(open.into_values());
    Ok(full)
}

/// Decisions that are measured together.
const DECISIONS: usize = 20_000;

/// Nearly all rows are somebody else's, as they would be; ten are the reader's.
fn decide_alone(feed: &Feed, rows: usize) -> Result<Value, Failure> {
    let row = |index: usize| -> Result<Row, Failure> {
        let own = index.is_multiple_of((rows / 10).max(1));
        let (grantee, of) = if own {
            ("group:readers".to_owned(), &*feed.name)
        } else {
            (format!("user:u{index}"), "sales_*")
        };
        let masks = BTreeMap::from([("transaction_id".to_owned(), Mask::Hash)]);
        let predicate = Some(format!("quantity > {}", index % 20).parse()?);
        Ok(Row {
            id: RowId::Own(index as i64),
            grantee: grantee.parse()?,
            feed: of.parse()?,
            action: Action::Read,
            effect: Effect::Allow,
            target: Target { masks, predicate, ..Target::default() },
            expires_at_ms: None,
            granted_by: "user:root".to_owned(),
            reason: "a bench".to_owned(),
        })
    };
    let rows = (0..rows).map(row).collect::<Result<Vec<_>, _>>()?;
    let reader = Principal { groups: ["readers".to_owned()].into(), ..Principal::user("ada") };
    let decision = || decide(&rows, &reader, Action::Read, &feed.name, 0);
    let (mut deciding, mut viewing) = (Span::default(), Span::default());
    let start = Span::start();
    let allowed = (0..DECISIONS).filter(|_| decision().is_allowed()).count();
    deciding.add(&start.end());
    let salt = Salt::new(b"salt");
    let start = Span::start();
    let mut columns = 0;
    for _ in 0..DECISIONS {
        let Decision::Allowed(access) = decision() else { continue };
        let sight = Sight::of_lake(feed, &access, &salt)?.ok_or("the rows show nothing")?;
        columns += sight.names().count();
    }
    viewing.add(&start.end());
    if allowed != DECISIONS || columns == 0 {
        return Err("a decision was not what it should be".into());
    }
    Ok(json!({
        "decisions": DECISIONS,
        "permission_rows": rows.len(),
        "decide": deciding.json(json!({})),
        "view": viewing.json(json!({})),
    }))
}

/// Seconds between two moments, on the wall and of this process's CPU.
#[derive(Default)]
struct Span {
    wall: f64,
    cpu: f64,
}

struct Started(Instant, f64);

impl Span {
    fn start() -> Started {
        Started(Instant::now(), cpu())
    }

    fn add(&mut self, other: &Span) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }

    fn json(&self, mut with: Value) -> Value {
        with["wall"] = self.wall.into();
        with["cpu"] = self.cpu.into();
        with
    }
}

impl Started {
    fn end(&self) -> Span {
        Span { wall: self.0.elapsed().as_secs_f64(), cpu: cpu() - self.1 }
    }
}

/// CPU seconds of all threads of this process so far.
fn cpu() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call, and the clock exists on every system with this constant.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0, "the process's CPU clock");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
