use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::Message;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::topics::Names;
use crate::generate::{Generated, Topic};
use crate::source::Complaints;

/// What was handed to the client and what the broker has acknowledged.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Transactions begun.
    pub messages: u64,
    topics: [TopicTally; Topic::ALL.len()],
    /// Records the broker did not take, by reason.
    pub failures: BTreeMap<String, u64>,
}

/// One topic's part of it. Bytes are those of keys and values.
#[derive(Debug, Clone, Default)]
pub struct TopicTally {
    pub sent: u64,
    pub sent_bytes: u64,
    /// Of those sent, the ones that belong in quarantine.
    pub bad: u64,
    /// Of those sent, the ones that delete.
    pub tombstones: u64,
    pub taken: u64,
    pub taken_bytes: u64,
    /// By partition number.
    pub partitions: Vec<PartitionTally>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionTally {
    /// The offset after the last acknowledged record.
    pub end: i64,
    pub taken_bytes: u64,
}

impl Tally {
    pub fn topic(&self, topic: Topic) -> &TopicTally {
        &self.topics[topic as usize]
    }

    pub fn topic_mut(&mut self, topic: Topic) -> &mut TopicTally {
        &mut self.topics[topic as usize]
    }

    /// Records handed to the client, of all topics.
    pub fn sent(&self) -> u64 {
        self.topics.iter().map(|topic| topic.sent).sum()
    }

    /// Records the broker has acknowledged, of all topics.
    pub fn taken(&self) -> u64 {
        self.topics.iter().map(|topic| topic.taken).sum()
    }

    pub fn taken_bytes(&self) -> u64 {
        self.topics.iter().map(|topic| topic.taken_bytes).sum()
    }

    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub(super) fn fail(&mut self, reason: String) {
        *self.failures.entry(reason).or_default() += 1;
    }
}

impl TopicTally {
    /// Bytes that are on their way: to which partition is not known yet.
    pub fn unanswered_bytes(&self) -> u64 {
        self.sent_bytes.saturating_sub(self.taken_bytes)
    }

    pub fn send(&mut self, record: &Generated) {
        self.sent += 1;
        self.sent_bytes += record.payload_bytes() as u64;
        self.bad += u64::from(record.bad.is_some());
        self.tombstones += u64::from(record.is_tombstone());
    }

    pub fn take(&mut self, partition: i32, offset: i64, bytes: u64) {
        self.taken += 1;
        self.taken_bytes += bytes;
        let Ok(index) = usize::try_from(partition) else { return };
        if index >= self.partitions.len() {
            self.partitions.resize(index + 1, PartitionTally::default());
        }
        let tally = &mut self.partitions[index];
        tally.end = tally.end.max(offset + 1);
        tally.taken_bytes += bytes;
    }
}

/// Takes up the delivery reports and what the client complains of.
pub(super) struct Receipts {
    tally: Mutex<Tally>,
    complaints: Complaints,
    names: Names,
}

impl Receipts {
    pub fn new(names: Names) -> Self {
        Self { tally: Mutex::default(), complaints: Complaints::of("publisher"), names }
    }

    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn complaint(&self) -> Option<String> {
        self.complaints.last()
    }
}

impl ClientContext for Receipts {
    fn error(&self, error: KafkaError, reason: &str) {
        self.complaints.error(error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.complaints.log(level, facility, line);
    }
}

impl ProducerContext for Receipts {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut tally = self.tally();
        match result {
            Ok(message) => {
                let Some(topic) = self.names.topic(message.topic()) else { return };
                let bytes = message.key_len() + message.payload_len();
                tally.topic_mut(topic).take(message.partition(), message.offset(), bytes as u64);
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code();
                tally.fail(code.map_or_else(|| error.to_string(), |code| code.to_string()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_add_up_by_partition() {
        let mut tally = Tally::default();
        let topic = tally.topic_mut(Topic::TransactionLog);
        topic.sent_bytes = 100;
        topic.take(2, 0, 10);
        topic.take(2, 1, 20);
        topic.take(0, 7, 5);
        assert_eq!(topic.unanswered_bytes(), 65);
        assert_eq!(topic.partitions[2], PartitionTally { end: 2, taken_bytes: 30 });
        assert_eq!(topic.partitions[1], PartitionTally::default());
        assert_eq!(topic.partitions[0], PartitionTally { end: 8, taken_bytes: 5 });
        assert_eq!((tally.taken(), tally.taken_bytes(), tally.failed()), (3, 35, 0));
    }
}
