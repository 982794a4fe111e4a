//! The run itself: how far the generator may go, what is shown meanwhile, and when it is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::HumanCount;

use super::lake::Lake;
use super::lead::Lead;
use super::warehouse::Warehouse;
use super::{DemoError, Options, folder};
use crate::generate::Topic;
use crate::publish::{Allowance, Gauge, Progress, Tally};

/// The broker drops what lies 5 MiB behind the end of a partition. Beyond this lead the generator
/// waits; with what one batch adds it stays below 3 MiB.
const MAX_LEAD: u64 = 2800 << 10;
/// Transactions between two looks.
const BATCH: u64 = 50;
const NAP: Duration = Duration::from_millis(10);
/// The sinks are asked no more often than this.
const BETWEEN_LOOKS: Duration = Duration::from_millis(25);
/// A node that has carried nothing for so long will carry no more.
const STILL: Duration = Duration::from_secs(30);

/// How a run ended.
pub enum End {
    /// Every record is durable in both sinks.
    Durable,
    /// Nothing has become durable for a long while.
    Still,
    Stopped,
    Failed(String),
}

pub struct Course<'a> {
    stop: &'a AtomicBool,
    messages: u64,
    lake: Lake,
    warehouse: Warehouse,
    lead: Lead,
    progress: Progress,
    start: Instant,
    looked: Instant,
    /// Records durable in both sinks together, and when there last were more.
    durable: u64,
    moved: Instant,
    end: Option<End>,
}

impl<'a> Course<'a> {
    pub fn open(options: &Options, stop: &'a AtomicBool) -> Result<Self, DemoError> {
        let now = Instant::now();
        Ok(Self {
            stop,
            messages: options.messages,
            lake: Lake::open(&folder::lake(&options.folder)),
            warehouse: Warehouse::open(&folder::warehouse(&options.folder))?,
            lead: Lead::default(),
            progress: Progress::new(&["published", "lake", "warehouse"]),
            start: now,
            looked: now,
            durable: 0,
            moved: now,
            end: None,
        })
    }

    /// Whether the generator may go on.
    pub fn allow(&mut self, tally: &Tally) -> Allowance {
        self.look(tally);
        if self.end.is_some() {
            return Allowance::Stop;
        }
        let (lake, warehouse) = (&self.lake, &self.warehouse);
        let durable = |topic, partition| {
            lake.next_offset(topic, partition).min(warehouse.next_offset(topic, partition))
        };
        match self.lead.of(tally, durable) < MAX_LEAD {
            true => Allowance::Go(BATCH),
            false => Allowance::Wait(NAP),
        }
    }

    /// Waits until everything published is durable. Answers how long the whole run took.
    pub fn finish(mut self, tally: &Tally) -> (Duration, End) {
        if let Some((reason, count)) = tally.failures.iter().next() {
            self.end = Some(End::Failed(format!("{count} records were not published: {reason}")));
        }
        while self.end.is_none() {
            self.look(tally);
            if self.is_durable(tally) {
                self.end = Some(End::Durable);
            } else {
                std::thread::sleep(NAP);
            }
        }
        let took = self.start.elapsed();
        self.progress.clear();
        (took, self.end.unwrap_or(End::Still))
    }

    fn is_durable(&self, tally: &Tally) -> bool {
        Topic::DEMO.iter().all(|topic| {
            let ends = tally.topic(*topic).partitions.iter().map(|partition| partition.end);
            ends.zip(0..).all(|(end, partition)| {
                self.lake.next_offset(*topic, partition) >= end
                    && self.warehouse.next_offset(*topic, partition) >= end
            })
        })
    }

    /// Asks the sinks how far they are, shows it, and notices an end.
    fn look(&mut self, tally: &Tally) {
        if self.looked.elapsed() < BETWEEN_LOOKS || self.end.is_some() {
            return;
        }
        if let Err(error) = self.lake.refresh().and_then(|()| self.warehouse.refresh()) {
            self.end = Some(End::Failed(error.to_string()));
            return;
        }
        self.looked = Instant::now();
        let durable = self.lake.records() + self.warehouse.records();
        if durable > self.durable {
            (self.durable, self.moved) = (durable, self.looked);
        }
        if self.stop.load(Ordering::Relaxed) {
            self.end = Some(End::Stopped);
        } else if self.moved.elapsed() > STILL {
            self.end = Some(End::Still);
        }
        if self.progress.is_due() {
            self.show(tally);
        }
    }

    fn show(&mut self, tally: &Tally) {
        // How many records follow from the transactions still to come is known at the end only.
        let share = self.messages as f64 / tally.messages.max(1) as f64;
        let of = Some((tally.sent() as f64 * share) as u64);
        let elapsed = self.start.elapsed().as_secs_f64();
        let gauge = |done: u64| {
            let rate = HumanCount((done as f64 / elapsed) as u64);
            Gauge::new(done, of).note(format!("{rate}/s"))
        };
        let gauges = [tally.taken(), self.lake.records(), self.warehouse.records()].map(gauge);
        self.progress.show(&gauges);
    }
}
