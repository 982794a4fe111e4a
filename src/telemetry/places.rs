//! Where this node's partitions stand: told by their consumers as they go, and read by whoever asks how far
//! behind the sinks are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::metrics;
use crate::record::{SinkKind, TopicPartition};
use crate::status::{ErrorTold, PartitionTold, SinkTold};

/// Nothing is known.
const UNKNOWN: i64 = i64::MIN;
/// Sets of labels that are told apart; those beyond are added up.
const MOST: usize = 1000;
/// What they are under.
const OTHER: &str = "_other";

/// One partition of one feed, for as long as it is this node's, whichever consumer it has.
#[derive(Debug)]
pub struct Place {
    feed: Arc<str>,
    source: TopicPartition,
    /// One past the last record that the broker shows, as it said last.
    end: AtomicI64,
    /// One past the last that was read.
    read: AtomicI64,
    sinks: Vec<SinkPlace>,
    /// What went wrong last.
    error: Mutex<Option<ErrorTold>>,
}

#[derive(Debug)]
struct SinkPlace {
    sink: SinkKind,
    /// Everything below is durable.
    durable: AtomicI64,
    /// What is not has waited since then: the timestamp of the oldest record that was read, or when it was first
    /// heard of; milliseconds since the epoch. Unknown where nothing waits.
    since_ms: AtomicI64,
    waiting: AtomicI64,
    behind: AtomicBool,
    /// When it came further last: milliseconds since the epoch.
    committed_ms: AtomicI64,
}

static PLACES: Mutex<Vec<Weak<Place>>> = Mutex::new(Vec::new());

/// All that are there.
fn places() -> Vec<Arc<Place>> {
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    places.retain(|place| place.strong_count() > 0);
    places.iter().filter_map(Weak::upgrade).collect()
}

impl Place {
    pub fn open(
        feed: Arc<str>,
        source: TopicPartition,
        sinks: impl Iterator<Item = SinkKind>,
    ) -> Arc<Self> {
        let begin = |sink: SinkKind| {
            let labels = [&*feed, sink.name()];
            let counters = [&metrics::FENCED, &metrics::SINK_RETRIES, &metrics::LANES_DETACHED];
            counters.iter().for_each(|counter| counter.add(labels, 0));
            SinkPlace {
                sink,
                durable: AtomicI64::new(UNKNOWN),
                since_ms: AtomicI64::new(UNKNOWN),
                waiting: AtomicI64::new(0),
                behind: AtomicBool::new(true),
                committed_ms: AtomicI64::new(UNKNOWN),
            }
        };
        let sinks = sinks.map(begin).collect();
        metrics::PARTITIONS_PARKED.add([&feed], 0);
        let (end, read) = (AtomicI64::new(0), AtomicI64::new(0));
        let place = Arc::new(Self { feed, source, end, read, sinks, error: Mutex::default() });
        PLACES.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&place));
        place
    }

    fn of(&self, sink: SinkKind) -> Option<&SinkPlace> {
        self.sinks.iter().find(|it| it.sink == sink)
    }

    /// Where the partition ends, as far as somebody has seen.
    fn ends(&self) -> i64 {
        self.end.load(Ordering::Relaxed).max(self.read.load(Ordering::Relaxed))
    }

    /// Records up to here were read. A topic that was made again begins anew.
    pub fn read_to(&self, end: i64, now_ms: i64) {
        self.read.store(end, Ordering::Relaxed);
        self.wait_since(now_ms);
    }

    fn broker_has(&self, end: i64, now_ms: i64) {
        self.end.store(end, Ordering::Relaxed);
        self.wait_since(now_ms);
    }

    /// What is new and waits for a sink that waited for nothing waits since now.
    fn wait_since(&self, now_ms: i64) {
        let end = self.ends();
        for of in &self.sinks {
            if end > of.durable.load(Ordering::Relaxed) {
                let (old, new) = (UNKNOWN, now_ms);
                let _ =
                    of.since_ms.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// How far a sink has come, since when the oldest record waits of what it was given, if anything does, and how
    /// much that is.
    pub fn stands(&self, sink: SinkKind, durable: i64, oldest_ms: Option<i64>, waiting: usize) {
        let Some(of) = self.of(sink) else { return };
        of.durable.store(durable, Ordering::Relaxed);
        of.waiting.store(waiting as i64, Ordering::Relaxed);
        match oldest_ms {
            Some(oldest) => of.since_ms.store(oldest, Ordering::Relaxed),
            None if durable >= self.ends() => of.since_ms.store(UNKNOWN, Ordering::Relaxed),
            None => {}
        }
    }

    /// A sink has come further.
    pub fn committed(&self, sink: SinkKind, now_ms: i64) {
        if let Some(of) = self.of(sink) {
            of.committed_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    pub fn failed(&self, says: &str, at_ms: i64) {
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        *error = Some(ErrorTold { at_ms, says: says.to_owned() });
    }

    /// As others are told of it, but for its state.
    pub fn told_at(&self, now_ms: i64) -> PartitionTold {
        let sinks = self.sinks.iter().map(|of| {
            let known = |number: i64| (number != UNKNOWN).then_some(number);
            let sum = self.sum(of, now_ms);
            SinkTold {
                sink: of.sink.name().to_owned(),
                attached: sum.behind == 0,
                next: known(of.durable.load(Ordering::Relaxed)),
                lag: sum.records,
                age_ms: sum.age_ms,
                committed_ms: known(of.committed_ms.load(Ordering::Relaxed)),
                rate: 0.0,
            }
        });
        PartitionTold {
            feed: self.feed.to_string(),
            topic: self.source.topic.to_string(),
            partition: self.source.partition,
            error: self.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            end: self.ends(),
            sinks: sinks.collect(),
            ..PartitionTold::default()
        }
    }

    fn sum(&self, of: &SinkPlace, now_ms: i64) -> Sum {
        let durable = of.durable.load(Ordering::Relaxed);
        let records = (durable != UNKNOWN).then(|| (self.ends() - durable).max(0));
        let since = of.since_ms.load(Ordering::Relaxed);
        let waits = records.is_none_or(|records| records > 0) && since != UNKNOWN;
        Sum {
            records,
            age_ms: if waits { now_ms - since } else { 0 },
            waiting: of.waiting.load(Ordering::Relaxed),
            behind: i64::from(of.behind.load(Ordering::Relaxed)),
        }
    }

    /// How far a sink has come, since when something waits, how much, and whether it is detached.
    #[cfg(test)]
    pub fn told(&self, sink: SinkKind) -> (i64, Option<i64>, i64, bool) {
        let of = self.of(sink).expect("a sink of the feed");
        let since = of.since_ms.load(Ordering::Relaxed);
        (
            of.durable.load(Ordering::Relaxed),
            (since != UNKNOWN).then_some(since),
            of.waiting.load(Ordering::Relaxed),
            of.behind.load(Ordering::Relaxed),
        )
    }

    pub fn is_behind(&self, sink: SinkKind, behind: bool) {
        if let Some(of) = self.of(sink) {
            of.behind.store(behind, Ordering::Relaxed);
        }
    }
}

/// The broker shows records of partitions up to here, as far as `end_of` knows.
pub fn broker_has(end_of: impl Fn(&TopicPartition) -> Option<i64>, now_ms: i64) {
    for place in places() {
        if let Some(end) = end_of(&place.source) {
            place.broker_has(end, now_ms);
        }
    }
}

#[derive(Default)]
struct Sum {
    /// None: of no partition it is known.
    records: Option<i64>,
    age_ms: i64,
    waiting: i64,
    behind: i64,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.records = match (self.records, other.records) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        self.age_ms = self.age_ms.max(other.age_ms);
        self.waiting += other.waiting;
        self.behind += other.behind;
    }
}

/// Sets the gauges that tell of lag.
pub fn observe(now_ms: i64) {
    let mut sums: BTreeMap<(Arc<str>, &'static str), Sum> = BTreeMap::new();
    for place in places() {
        for of in &place.sinks {
            let sum = place.sum(of, now_ms);
            let mut labels = (place.feed.clone(), of.sink.name());
            if sums.len() >= MOST && !sums.contains_key(&labels) {
                labels.0 = OTHER.into();
            }
            sums.entry(labels).or_default().add(&sum);
        }
    }
    // A feed that is somebody else's by now has none.
    let each = |value: fn(&Sum) -> Option<f64>| {
        let values = sums.iter().map(move |((feed, sink), sum)| ([&**feed, *sink], value(sum)));
        values.filter_map(|(labels, value)| Some((labels, value?)))
    };
    metrics::LAG_RECORDS.replace(each(|sum| sum.records.map(|records| records as f64)));
    metrics::LAG_AGE.replace(each(|sum| Some(sum.age_ms as f64 / 1000.0)));
    metrics::LANES_BEHIND.replace(each(|sum| Some(sum.behind as f64)));
    metrics::DELIVERIES_WAITING.replace(each(|sum| Some(sum.waiting as f64)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(name: &str) -> Option<String> {
        let text = metrics::exposition();
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.rsplit(' ').next()?.to_owned())
    }

    #[test]
    fn lag_is_of_all_partitions_of_a_feed_and_of_its_oldest_record() {
        let both = || [SinkKind::Lake, SinkKind::Warehouse].into_iter();
        let open = |partition| {
            Place::open("lagging".into(), TopicPartition::new("lagging", partition), both())
        };
        let of = |name: &str, sink: &str| {
            gauge(&format!("tidegate_{name}{{feed=\"lagging\",sink=\"{sink}\"}}"))
        };
        let lag = |sink: &str, now: i64| {
            observe(now);
            (of("lag_records", sink).unwrap_or_default(), of("lag_age_seconds", sink).unwrap())
        };
        let told = |records: &str, age: &str| (records.to_owned(), age.to_owned());
        let (one, other) = (open(0), open(1));
        let ends = |end: i64, now: i64| {
            broker_has(|of| (*of.topic == *"lagging" && of.partition == 0).then_some(end), now);
        };
        // Of a sink of which nothing is known there is an age, and no number.
        ends(30, 1_000);
        assert_eq!(lag("lake", 5_000), told("", "4"));
        one.stands(SinkKind::Lake, 20, Some(4_000), 3);
        other.stands(SinkKind::Lake, 10, None, 0);
        other.read_to(15, 8_000);
        other.stands(SinkKind::Lake, 15, None, 0);
        assert_eq!(lag("lake", 9_000), told("10", "5"));
        assert_eq!(of("deliveries_waiting", "lake").as_deref(), Some("3"));
        // Long after all is durable, the next record waits since it was heard of.
        one.stands(SinkKind::Lake, 30, None, 0);
        assert_eq!(lag("lake", 99_000), told("0", "0"));
        ends(31, 100_000);
        assert_eq!(lag("lake", 102_000), told("1", "2"));
        // A topic that was made again is shorter.
        one.read_to(0, 103_000);
        ends(2, 103_000);
        one.stands(SinkKind::Lake, 2, None, 0);
        assert_eq!(lag("lake", 104_000), told("0", "0"));
        one.is_behind(SinkKind::Lake, false);
        observe(0);
        assert_eq!(of("lanes_behind", "lake").as_deref(), Some("1"));
        drop((one, other));
        observe(0);
        assert_eq!(of("lag_age_seconds", "lake"), None);
    }
}
