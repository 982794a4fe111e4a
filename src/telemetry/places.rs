//! Where this node's partitions stand: told by their consumers as they go, and read by whoever asks how far
//! behind the sinks are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::metrics;
use crate::record::{SinkKind, TopicPartition};

/// One partition of one feed, for as long as its consumer lives.
#[derive(Debug)]
pub struct Place {
    feed: Arc<str>,
    source: TopicPartition,
    /// One past the last record that the broker has, as far as is known.
    end: AtomicI64,
    sinks: Vec<SinkPlace>,
}

#[derive(Debug)]
pub struct SinkPlace {
    sink: SinkKind,
    /// Everything below is durable.
    durable: AtomicI64,
    /// What is not has waited since then at least: the timestamp of the oldest record that was read, milliseconds
    /// since the epoch.
    since_ms: AtomicI64,
    waiting: AtomicI64,
    behind: AtomicBool,
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
        sinks: impl Iterator<Item = (SinkKind, i64)>,
        now_ms: i64,
    ) -> Arc<Self> {
        let begin = |sink: SinkKind| {
            let labels = [&*feed, sink.name()];
            let counters = [&metrics::FENCED, &metrics::SINK_RETRIES, &metrics::LANES_DETACHED];
            counters.iter().for_each(|counter| counter.add(labels, 0));
        };
        let sinks = sinks.inspect(|(sink, _)| begin(*sink));
        let sinks = sinks.map(|(sink, durable)| SinkPlace {
            sink,
            durable: AtomicI64::new(durable),
            since_ms: AtomicI64::new(now_ms),
            waiting: AtomicI64::new(0),
            behind: AtomicBool::new(false),
        });
        let (sinks, end) = (sinks.collect(), AtomicI64::new(0));
        metrics::PARTITIONS_PARKED.add([&feed], 0);
        let place = Arc::new(Self { feed, source, end, sinks });
        PLACES.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&place));
        place
    }

    /// Records up to here were read.
    pub fn read_to(&self, end: i64) {
        self.end.fetch_max(end, Ordering::Relaxed);
    }

    /// How it is with a sink now: `oldest_ms` of what it was given and has not answered.
    pub fn stands(&self, index: usize, durable: i64, oldest_ms: i64, waiting: usize) {
        let Some(of) = self.sinks.get(index) else { return };
        of.durable.store(durable, Ordering::Relaxed);
        of.since_ms.store(oldest_ms, Ordering::Relaxed);
        of.waiting.store(waiting as i64, Ordering::Relaxed);
    }

    pub fn is_behind(&self, index: usize, behind: bool) {
        if let Some(of) = self.sinks.get(index) {
            of.behind.store(behind, Ordering::Relaxed);
        }
    }
}

/// The broker holds records of partitions up to here, as far as `end_of` knows.
pub fn broker_has(end_of: impl Fn(&TopicPartition) -> Option<i64>) {
    for place in places() {
        if let Some(end) = end_of(&place.source) {
            place.read_to(end);
        }
    }
}

#[derive(Default)]
struct Sum {
    records: i64,
    age_ms: i64,
    waiting: i64,
    behind: i64,
}

/// Sets the gauges that tell of lag.
pub fn observe(now_ms: i64) {
    let mut sums: BTreeMap<(Arc<str>, &'static str), Sum> = BTreeMap::new();
    for place in places() {
        let end = place.end.load(Ordering::Relaxed);
        for of in &place.sinks {
            let sum = sums.entry((place.feed.clone(), of.sink.name())).or_default();
            let lag = (end - of.durable.load(Ordering::Relaxed)).max(0);
            sum.records += lag;
            if lag > 0 {
                sum.age_ms = sum.age_ms.max(now_ms - of.since_ms.load(Ordering::Relaxed));
            }
            sum.waiting += of.waiting.load(Ordering::Relaxed);
            sum.behind += i64::from(of.behind.load(Ordering::Relaxed));
        }
    }
    // A feed that is somebody else's by now has none.
    metrics::LAG_RECORDS.clear();
    metrics::LAG_AGE.clear();
    metrics::LANES_BEHIND.clear();
    metrics::DELIVERIES_WAITING.clear();
    for ((feed, sink), sum) in sums {
        let labels = [&*feed, sink];
        metrics::LAG_RECORDS.set(labels, sum.records as f64);
        metrics::LAG_AGE.set(labels, sum.age_ms as f64 / 1000.0);
        metrics::LANES_BEHIND.set(labels, sum.behind as f64);
        metrics::DELIVERIES_WAITING.set(labels, sum.waiting as f64);
    }
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
        let open = |partition| {
            let sinks = [(SinkKind::Lake, 10), (SinkKind::Warehouse, 10)].into_iter();
            Place::open("lagging".into(), TopicPartition::new("t", partition), sinks, 1_000)
        };
        let (one, other) = (open(0), open(1));
        broker_has(|source| (source.partition == 0).then_some(30));
        other.read_to(15);
        one.stands(0, 20, 4_000, 3);
        other.stands(0, 15, 2_000, 0);
        other.is_behind(1, true);
        observe(9_000);
        let of = |name: &str, sink: &str| {
            gauge(&format!("tidegate_{name}{{feed=\"lagging\",sink=\"{sink}\"}}"))
        };
        assert_eq!(of("lag_records", "lake").as_deref(), Some("10"));
        // The other has nothing left, however long ago that was.
        assert_eq!(of("lag_age_seconds", "lake").as_deref(), Some("5"));
        assert_eq!(of("lag_records", "warehouse").as_deref(), Some("25"));
        assert_eq!(of("lag_age_seconds", "warehouse").as_deref(), Some("8"));
        assert_eq!(of("deliveries_waiting", "lake").as_deref(), Some("3"));
        assert_eq!(of("lanes_behind", "warehouse").as_deref(), Some("1"));
        drop((one, other));
        observe(9_000);
        assert_eq!(of("lag_records", "lake"), None);
    }
}
