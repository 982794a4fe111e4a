use super::transaction::{METHODS, TYPES, USERS};
use super::{Generated, Generator, Topic};

/// A table's value: money in cents, so that sums are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    pub cents: u64,
    pub count: u64,
}

/// What was published to one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Records of every kind.
    pub records: u64,
    /// Of these, the ones that belong in quarantine.
    pub bad: u64,
    /// Of these, tombstones.
    pub deletes: u64,
    /// Key and value bytes.
    pub bytes: u64,
    /// Streams: AMOUNT summed over the good records.
    pub cents: u64,
}

impl Counts {
    /// Records that neither delete nor belong in quarantine: a stream's rows, a table's upserts.
    pub fn rows(&self) -> u64 {
        self.records - self.bad - self.deletes
    }
}

/// What the sinks must hold once they have taken in all that a [`Generator`] has given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    counts: [Counts; Topic::ALL.len()],
    /// By user, then transaction type.
    summaries: Vec<Option<Total>>,
    methods: Vec<Option<Total>>,
}

impl Expected {
    pub(super) fn new() -> Self {
        Self {
            counts: Default::default(),
            summaries: vec![None; USERS as usize * TYPES.len()],
            methods: vec![None; METHODS.len()],
        }
    }

    /// Makes all records of `generator` again and keeps only what they come to.
    pub fn of(mut generator: Generator) -> Self {
        generator.by_ref().for_each(drop);
        generator.expected().clone()
    }

    pub fn counts(&self, topic: Topic) -> Counts {
        self.counts[topic as usize]
    }

    /// The rows a table ends with: its key columns and its total, by key.
    pub fn table(&self, topic: Topic) -> Vec<(Vec<String>, Total)> {
        let slots = match topic {
            Topic::UserTransactionSummary => &self.summaries,
            Topic::PaymentMethodTotals => &self.methods,
            _ => return Vec::new(),
        };
        let mut rows: Vec<_> = slots
            .iter()
            .enumerate()
            .filter_map(|(slot, total)| Some((key_columns(topic, slot), (*total)?)))
            .collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    }

    pub(super) fn record(&mut self, record: &Generated, cents: u64) {
        let counts = &mut self.counts[record.topic as usize];
        counts.records += 1;
        counts.bytes += record.payload_bytes() as u64;
        counts.cents += cents;
        counts.bad += u64::from(record.bad.is_some());
        counts.deletes += u64::from(record.is_tombstone());
    }

    pub(super) fn total(&mut self, topic: Topic, slot: usize) -> &mut Option<Total> {
        match topic {
            Topic::UserTransactionSummary => &mut self.summaries[slot],
            _ => &mut self.methods[slot],
        }
    }
}

/// Where the row of a user and a transaction type (an index of `TYPES`) is kept.
pub(super) fn summary_slot(user: u64, kind: u8) -> usize {
    user as usize * TYPES.len() + usize::from(kind)
}

pub(super) fn summary_columns(slot: usize) -> (u64, &'static str) {
    ((slot / TYPES.len()) as u64, TYPES[slot % TYPES.len()])
}

fn key_columns(topic: Topic, slot: usize) -> Vec<String> {
    if topic == Topic::PaymentMethodTotals {
        return vec![METHODS[slot].to_owned()];
    }
    let (user, kind) = summary_columns(slot);
    vec![format!("USER-{user}"), kind.to_owned()]
}
