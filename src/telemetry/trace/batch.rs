//! A batch on its way: read, decoded, delivered to each sink; and the records in it whose producers trace them.

use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt};
use opentelemetry::{Context, KeyValue, StringValue, Value};

use super::{MOST_LINKS, Span, Start, convention, is_on, sender};
use crate::flow::budget::{Budget, Charge};
use crate::record::{Headers, OffsetRange, RawBatch, Reject, SinkKind, TopicPartition};

/// What a span holds until it has ended.
const SPAN_BYTES: usize = 1536;

/// A record that its producer traces, and keeps.
#[derive(Debug, Clone)]
pub struct Origin {
    pub offset: i64,
    /// Of the span that sent it.
    pub sender: SpanContext,
}

/// A record's headers as texts.
struct Carrier<'a>(Headers<'a>);

impl<'a> Extractor for Carrier<'a> {
    fn get(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.0.named(key)?).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.map(|(name, _)| name).collect()
    }
}

/// The first records of a batch that are traced and sampled, as many as one span can link to.
fn origins(raw: &RawBatch) -> Vec<Origin> {
    let origins = raw.traced().filter_map(|record| {
        let sender = sender(&Carrier(record.headers)).filter(SpanContext::is_sampled)?;
        Some(Origin { offset: record.offset, sender })
    });
    origins.take(MOST_LINKS).collect()
}

fn messaging(
    name: &'static str,
    kind: SpanKind,
    operation: &'static str,
    source: &TopicPartition,
) -> Start {
    Start::new(format!("{name} {}", source.topic), kind)
        .with(convention::MESSAGING_SYSTEM, "kafka")
        .with(convention::MESSAGING_OPERATION_NAME, name)
        .with(convention::MESSAGING_OPERATION_TYPE, operation)
        .with(convention::MESSAGING_DESTINATION_NAME, source.topic.clone())
        .with(convention::MESSAGING_DESTINATION_PARTITION_ID, source.partition.to_string())
}

fn grouped(start: Start, group: Option<&Arc<str>>) -> Start {
    match group {
        Some(group) => start.with(convention::MESSAGING_CONSUMER_GROUP_NAME, group.clone()),
        None => start,
    }
}

/// Offsets of a topic were committed to the group, or were not. When that began nobody tells.
pub fn mirrored(topic: &str, partitions: &[i32], group: Option<&Arc<str>>, failed: Option<String>) {
    if !is_on() {
        return;
    }
    let start = Start::new(format!("commit {topic}"), SpanKind::Client)
        .with(convention::MESSAGING_SYSTEM, "kafka")
        .with(convention::MESSAGING_OPERATION_NAME, "commit")
        .with(convention::MESSAGING_OPERATION_TYPE, "settle")
        .with(convention::MESSAGING_DESTINATION_NAME, topic.to_owned());
    let mut start = grouped(start, group);
    if let [partition] = partitions {
        start = start.with(convention::MESSAGING_DESTINATION_PARTITION_ID, partition.to_string());
    }
    let span = start.root();
    if let Some(why) = failed {
        span.failed("commit", why);
    }
}

fn spanning(start: Start, range: OffsetRange, count: usize) -> Start {
    start
        .with(convention::MESSAGING_BATCH_MESSAGE_COUNT, count as i64)
        .with("tidegate.offset.start", range.start)
        .with("tidegate.offset.end", range.end)
}

/// A batch that was read, and is over with that.
#[derive(Debug, Clone, Default)]
pub struct Polled {
    span: Span,
    origins: Arc<[Origin]>,
    group: Option<Arc<str>>,
}

impl Polled {
    /// `group` is the consumer's, if it is in one; `since` is when the first of the records came.
    pub fn batch(raw: &RawBatch, group: Option<Arc<str>>, since: SystemTime) -> Self {
        if !is_on() || raw.is_empty() {
            return Self::default();
        }
        let origins = origins(raw);
        let start = messaging("poll", SpanKind::Client, "receive", &raw.source)
            .since(since)
            .linked(origins.iter().map(|origin| origin.sender.clone()));
        let span = grouped(spanning(start, raw.range, raw.len()), group.as_ref()).root();
        span.end();
        Self { span, origins: origins.into(), group }
    }

    /// It is being decoded for a feed, from an offset on, until every sink holds it.
    pub fn processed(
        &self,
        feed: &Arc<str>,
        source: &TopicPartition,
        range: OffsetRange,
        budget: &Budget,
    ) -> Processing {
        if !is_on() {
            return Processing::default();
        }
        let wanted: Vec<&Origin> =
            self.origins.iter().filter(|origin| range.contains(origin.offset)).collect();
        let start = || {
            let start = messaging("process", SpanKind::Consumer, "process", source);
            grouped(start, self.group.as_ref()).with("tidegate.feed", feed.clone())
        };
        let linked = start().linked(wanted.iter().map(|origin| origin.sender.clone()));
        let batch = self.span.child(linked);
        let records = wanted.iter().map(|origin| {
            let parent = Context::new().with_remote_span_context(origin.sender.clone());
            let start = start()
                .with(convention::MESSAGING_KAFKA_OFFSET, origin.offset)
                .linked([batch.context()]);
            (origin.offset, start.below(&parent))
        });
        let records: Vec<_> = records.collect();
        let charge = budget.charge((1 + records.len()) * SPAN_BYTES);
        let partition = source.partition;
        Processing(Some(Arc::new(Processed { batch, records, partition, _charge: charge })))
    }
}

/// A batch that is decoded, and its traced records: they go on until no sink waits for them any more.
#[derive(Debug, Clone, Default)]
pub struct Processing(Option<Arc<Processed>>);

#[derive(Debug)]
struct Processed {
    batch: Span,
    records: Vec<(i64, Span)>,
    partition: i32,
    /// They are held for as long as the slowest sink takes.
    _charge: Charge,
}

impl Processing {
    /// What came of the decoding: so many records, rejects included.
    pub fn decoded(&self, range: OffsetRange, records: usize, rejects: &[Reject]) {
        let Some(processed) = &self.0 else { return };
        let span = &processed.batch;
        span.set(convention::MESSAGING_BATCH_MESSAGE_COUNT, records as i64);
        span.set("tidegate.offset.start", range.start);
        span.set("tidegate.offset.end", range.end);
        span.set("tidegate.rejects", rejects.len() as i64);
        for (offset, record) in &processed.records {
            if let Some(reject) = rejects.iter().find(|reject| reject.offset == *offset) {
                record.failed(reject.class.name(), "rejected: it is in quarantine, and no row");
            }
        }
    }

    /// On its way into a sink until its delivery is settled or dropped.
    pub fn delivered(&self, sink: SinkKind) -> Delivered {
        let span = self.0.as_ref().map(|it| {
            it.batch
                .child(Start::inner(format!("deliver {sink}")).with("tidegate.sink", sink.name()))
        });
        Delivered { span: span.unwrap_or_default(), of: self.clone(), sink }
    }
}

/// A batch on its way into one sink.
#[derive(Debug)]
pub struct Delivered {
    span: Span,
    of: Processing,
    sink: SinkKind,
}

/// Where a delivery came to lie.
#[derive(Debug, Clone, Default)]
pub struct Landed {
    /// The span of the commit, or of the transaction.
    pub commit: Option<SpanContext>,
    /// The files of that commit, in the lake.
    pub files: Arc<[LandedFile]>,
}

/// A file, and of which records it may hold some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LandedFile {
    pub path: String,
    /// By the statistics of its rows: the lowest and the highest. None: not known.
    pub partitions: Option<(i64, i64)>,
    pub offsets: Option<(i64, i64)>,
}

impl LandedFile {
    /// `stats` are Delta's, as JSON.
    pub fn of(path: &str, stats: &str) -> Self {
        let stats: Option<serde_json::Value> = serde_json::from_str(stats).ok();
        let bounds = |column: &str| {
            let bound = |which: &str| stats.as_ref()?.get(which)?.get(column)?.as_i64();
            Some((bound("minValues")?, bound("maxValues")?))
        };
        let (partitions, offsets) = (bounds("_partition"), bounds("_offset"));
        Self { path: path.to_owned(), partitions, offsets }
    }

    fn may_hold(&self, partition: i32, offset: i64) -> bool {
        let within = |bounds: Option<(i64, i64)>, it: i64| {
            bounds.is_none_or(|(low, high)| (low..=high).contains(&it))
        };
        within(self.partitions, i64::from(partition)) && within(self.offsets, offset)
    }
}

impl Delivered {
    pub fn context(&self) -> SpanContext {
        self.span.context()
    }

    /// The sink holds it.
    pub fn landed(&self, landed: &Landed) {
        let Some(commit) = &landed.commit else { return };
        self.span.link(commit);
        let Some(processed) = &self.of.0 else { return };
        for (offset, record) in &processed.records {
            record.link(commit);
            let files = landed.files.iter().filter(|it| it.may_hold(processed.partition, *offset));
            let files: Vec<StringValue> = files.map(|file| file.path.clone().into()).collect();
            let mut said = vec![KeyValue::new("tidegate.sink", self.sink.name())];
            if !files.is_empty() {
                said.push(KeyValue::new("tidegate.lake.files", Value::Array(files.into())));
            }
            record.event("durable", said);
        }
    }

    /// It will be read again.
    pub fn lost(&self, kind: &'static str) {
        self.span.failed(kind, kind);
        let Some(processed) = &self.of.0 else { return };
        for (_, record) in &processed.records {
            record.event("lost", vec![KeyValue::new("tidegate.sink", self.sink.name())]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn with_headers(headers: &[&[(&str, &str)]]) -> RawBatch {
        let mut raw = RawBatch::new(TopicPartition::new("t", 0), 5);
        for (at, headers) in headers.iter().enumerate() {
            let headers = headers.iter().map(|(name, value)| (*name, Some(value.as_bytes())));
            raw.push(5 + at as i64, 0, None, None, headers);
        }
        raw
    }

    #[test]
    fn what_is_traced_and_kept_is_found_by_its_header() {
        let unsampled = SENT.replace("-01", "-00");
        let found = origins(&with_headers(&[
            &[],
            &[("traceparent", &unsampled)],
            &[("a", "b"), ("Traceparent", SENT), ("tracestate", "x=y")],
            &[("traceparent", "00-zz-01")],
            &[("traceparent", &"-01".repeat(20))],
            &[("traceparent", &unsampled), ("traceparent", SENT)],
        ]));
        let offsets: Vec<i64> = found.iter().map(|origin| origin.offset).collect();
        assert_eq!(offsets, [7, 10]);
        let sender = &found[0].sender;
        assert_eq!(sender.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(sender.span_id().to_string(), "b7ad6b7169203331");
        assert!(sender.is_remote());
    }

    #[test]
    fn no_more_are_followed_than_one_span_can_link_to() {
        let one: &[(&str, &str)] = &[("traceparent", SENT)];
        assert_eq!(origins(&with_headers(&vec![one; 500])).len(), MOST_LINKS);
    }

    #[test]
    fn a_record_is_looked_for_where_it_may_be() {
        let stats = r#"{"numRecords":2,"minValues":{"_offset":5,"_partition":1},"maxValues":{"_offset":9,"_partition":2}}"#;
        let file = LandedFile::of("a", stats);
        assert_eq!((file.offsets, file.partitions), (Some((5, 9)), Some((1, 2))));
        let unknown = LandedFile::of("a", "{}");
        assert_eq!((unknown.offsets, unknown.partitions), (None, None));
        assert!(file.may_hold(1, 5) && file.may_hold(2, 9));
        assert!(!file.may_hold(0, 5) && !file.may_hold(1, 10));
        assert!(unknown.may_hold(7, 70));
    }
}
