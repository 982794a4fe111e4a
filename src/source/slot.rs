//! One assigned partition in the poll thread: its position, what is gathered, and where it goes.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Delivery, Read, Route};
use crate::flow::budget::Budget;
use crate::record::{RawBatch, TopicPartition};
use crate::telemetry::trace::Polled;

/// A batch is passed on when it holds this much, whatever comes behind it.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_RECORDS: usize = 8192;
/// How long after a restart the client's position is not believed.
const SETTLED: Duration = Duration::from_secs(1);

pub struct Slot {
    pub source: TopicPartition,
    /// Where the next batch starts.
    position: i64,
    gathered: RawBatch,
    since: Option<Instant>,
    /// When the position was last set from outside.
    placed: Instant,
    routes: Vec<Route>,
    /// Durable in every sink, by feed.
    durable: HashMap<Arc<str>, i64>,
    /// Batches a route had no room for, with the routes that still need them.
    waiting: VecDeque<(Arc<str>, Arc<Read>)>,
}

impl Slot {
    pub fn new(source: TopicPartition, position: i64) -> Self {
        Self {
            gathered: RawBatch::new(source.clone(), position),
            source,
            position,
            since: None,
            placed: Instant::now(),
            routes: Vec::new(),
            durable: HashMap::new(),
            waiting: VecDeque::new(),
        }
    }

    pub fn is_routed(&self) -> bool {
        !self.routes.is_empty()
    }

    /// The next offset to be read.
    pub fn next(&self) -> i64 {
        self.gathered.range.end.max(self.position)
    }

    /// Forgets what is gathered and starts anew at `position`.
    pub fn restart(&mut self, position: i64) {
        self.position = position;
        self.gathered = RawBatch::new(self.source.clone(), position);
        self.since = None;
        self.placed = Instant::now();
    }

    pub fn add_route(&mut self, route: Route) {
        self.remove_route(&route.feed.clone());
        self.routes.push(route);
    }

    pub fn remove_route(&mut self, feed: &Arc<str>) {
        self.routes.retain(|route| route.feed != *feed);
        self.waiting.retain(|(waiting, _)| waiting != feed);
        self.durable.remove(feed);
    }

    pub fn gathered_bytes(&self) -> usize {
        self.gathered.payload_bytes()
    }

    pub fn gather<'h>(
        &mut self,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) -> Gathered {
        if offset < self.next() {
            // Fetched before a restart; the restart's own read brings it again if it is needed.
            return Gathered::Stale;
        }
        self.gathered.push(offset, timestamp_ms, key, value, headers);
        if self.gathered.payload_bytes() >= BATCH_BYTES || self.gathered.len() >= BATCH_RECORDS {
            return Gathered::Full;
        }
        if self.since.is_some() {
            return Gathered::More;
        }
        self.since = Some(Instant::now());
        Gathered::First
    }

    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Moves the position past offsets that hold no record, once everything read is passed on.
    pub fn skip_to(&mut self, position: i64) {
        // Just after a restart the client may still tell the position from before it.
        if self.placed.elapsed() < SETTLED {
            return;
        }
        if self.gathered.is_empty() && position > self.position {
            self.gathered.range.end = position;
        }
    }

    /// Passes on what is gathered.
    pub fn flush(&mut self, budget: &Budget, group: Option<&Arc<str>>) {
        if self.gathered.range.is_empty() {
            return;
        }
        let next = self.gathered.range.end;
        let raw = std::mem::replace(&mut self.gathered, RawBatch::new(self.source.clone(), next));
        self.position = next;
        let since = self.since.take().map(|since| since.elapsed()).unwrap_or_default();
        let polled = Polled::batch(&raw, group.cloned(), SystemTime::now() - since);
        let charge = budget.charge(raw.size());
        let read = Arc::new(Read { raw, charge, polled });
        for route in &self.routes {
            self.waiting.push_back((route.feed.clone(), read.clone()));
        }
        self.deliver();
    }

    /// Offers what waits, in order. Answers whether all of it was taken.
    pub fn deliver(&mut self) -> bool {
        while let Some((feed, read)) = self.waiting.front() {
            let Some(index) = self.routes.iter().position(|route| route.feed == *feed) else {
                self.waiting.pop_front();
                continue;
            };
            match (self.routes[index].deliver)(read.clone()) {
                Delivery::Taken => {}
                Delivery::Full => return false,
                // The supervisor sees the death by itself and restarts the route.
                Delivery::Gone => drop(self.routes.remove(index)),
            }
            self.waiting.pop_front();
        }
        true
    }

    /// Notes a feed's durable offset; answers the least over all feeds of the partition.
    pub fn mirror(&mut self, feed: &Arc<str>, offset: i64) -> Option<i64> {
        if !self.routes.iter().any(|route| route.feed == *feed) {
            return None;
        }
        self.durable.insert(feed.clone(), offset);
        let all = self.routes.iter().map(|route| self.durable.get(&route.feed).copied());
        all.collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gathered {
    First,
    More,
    Full,
    Stale,
}
