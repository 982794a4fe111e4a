//! Questions about the log: which partitions a topic has, what they hold, where a time begins.
//!
//! Every call blocks on the broker; callers run them where blocking is allowed.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::Complaints;
use super::client::reader_config;
use super::group::{Member, members};
use super::headers::{borrowed, headers};
use super::topic_id::topic_id;
use crate::config::Kafka;
use crate::flow::start::LogBounds;
use crate::record::{RawBatch, TopicId, TopicPartition};

const TIMEOUT: Duration = Duration::from_secs(10);
/// For what can go unanswered.
const SOON: Duration = Duration::from_secs(4);

/// A client that asks and never joins a group.
pub struct Log {
    client: BaseConsumer<Complaints>,
}

impl Log {
    pub fn open(kafka: &Kafka) -> Result<Self, String> {
        let client = reader_config(kafka)?
            .create_with_context(Complaints::of("log"))
            .map_err(|error| error.to_string())?;
        Ok(Self { client })
    }

    /// What a question failed with, and why, if the client knows: nothing else polls it, so its
    /// complaints lie in its queue until now.
    fn failed(&self, error: impl std::fmt::Display) -> String {
        let heard = || self.client.poll(Duration::from_millis(20));
        while let Some(Err(_)) = heard() {}
        match self.client.context().last() {
            Some(reason) => format!("{error} ({reason})"),
            None => error.to_string(),
        }
    }

    /// Names of all topics, less the broker's own.
    pub fn topics(&self) -> Result<Vec<String>, String> {
        let metadata =
            self.client.fetch_metadata(None, TIMEOUT).map_err(|error| self.failed(error))?;
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        Ok(names.filter(|name| !name.starts_with("__")).collect())
    }

    /// How many partitions the topic has; none where it does not exist.
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>, String> {
        let metadata =
            self.client.fetch_metadata(Some(topic), TIMEOUT).map_err(|error| self.failed(error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        Ok(found.map(|found| found.partitions().len() as i32).filter(|count| *count > 0))
    }

    pub fn topic_id(&self, topic: &str) -> Result<TopicId, String> {
        topic_id(self.client.client().native_client(), topic, TIMEOUT)
            .map_err(|error| self.failed(error))
    }

    /// Who is in a consumer group now.
    pub fn members(&self, group: &str) -> Result<Vec<Member>, String> {
        members(self.client.client().native_client(), group, SOON)
            .map_err(|error| self.failed(error))
    }

    /// The offsets a partition holds: the lowest, and one past the highest that a transaction still
    /// open does not hide.
    pub fn bounds(&self, source: &TopicPartition, topic_id: TopicId) -> Result<LogBounds, String> {
        let (low, high) =
            self.client.fetch_watermarks(&source.topic, source.partition, TIMEOUT).map_err(
                |error| self.failed(format_args!("reading the log bounds of {source}: {error}")),
            )?;
        Ok(LogBounds { low, high, topic_id })
    }

    /// The same for many partitions at once: two requests to each broker.
    pub fn bounds_of(
        &self,
        sources: &[(TopicPartition, TopicId)],
    ) -> Result<Vec<LogBounds>, String> {
        let ends = |which: Offset| -> Result<TopicPartitionList, String> {
            let mut list = TopicPartitionList::new();
            for (source, _) in sources {
                list.add_partition_offset(&source.topic, source.partition, which)
                    .map_err(|error| error.to_string())?;
            }
            // The logical offsets are the protocol's special timestamps for the log's two ends.
            self.client
                .offsets_for_times(list, TIMEOUT)
                .map_err(|error| self.failed(format_args!("reading log bounds: {error}")))
        };
        let (lows, highs) = (ends(Offset::Beginning)?, ends(Offset::End)?);
        let at = |list: &TopicPartitionList, source: &TopicPartition| {
            let element = list.find_partition(&source.topic, source.partition);
            match element.as_ref().map(|element| (element.error(), element.offset())) {
                Some((Ok(()), Offset::Offset(offset))) => Ok(offset),
                Some((Err(error), _)) => {
                    Err(format!("reading the log bounds of {source}: {error}"))
                }
                _ => Err(format!("the broker gave no log bounds for {source}")),
            }
        };
        sources
            .iter()
            .map(|(source, topic_id)| {
                let (low, high) = (at(&lows, source)?, at(&highs, source)?);
                Ok(LogBounds { low, high, topic_id: *topic_id })
            })
            .collect()
    }

    /// The first offset at or after a time, if there is one.
    pub fn offset_at(&self, source: &TopicPartition, time_ms: i64) -> Result<Option<i64>, String> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&source.topic, source.partition, Offset::Offset(time_ms))
            .map_err(|error| error.to_string())?;
        let answer = self
            .client
            .offsets_for_times(list, TIMEOUT)
            .map_err(|error| self.failed(format_args!("looking up a time in {source}: {error}")))?;
        let element = answer.find_partition(&source.topic, source.partition);
        Ok(element.and_then(|element| match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }))
    }

    /// Reads up to `most` records of a partition within `range`, calling `each` with batches in
    /// order, until the range or the log ends. Answers the position reached.
    pub fn read(
        &self,
        source: &TopicPartition,
        start: i64,
        end: i64,
        mut each: impl FnMut(RawBatch) -> bool,
    ) -> Result<i64, String> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&source.topic, source.partition, Offset::Offset(start))
            .map_err(|error| error.to_string())?;
        self.client.assign(&list).map_err(|error| error.to_string())?;
        let reached = self.read_assigned(source, start, end, &mut each);
        self.client.unassign().map_err(|error| error.to_string())?;
        reached
    }

    fn read_assigned(
        &self,
        source: &TopicPartition,
        start: i64,
        end: i64,
        each: &mut impl FnMut(RawBatch) -> bool,
    ) -> Result<i64, String> {
        let mut batch = RawBatch::new(source.clone(), start);
        loop {
            let done = match self.client.poll(TIMEOUT) {
                Some(Ok(message)) => {
                    if message.offset() >= end {
                        true
                    } else {
                        push(&mut batch, &message);
                        batch.range.end >= end
                    }
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => true,
                Some(Err(error)) => return Err(format!("reading {source}: {error}")),
                None => {
                    return Err(self.failed(format_args!(
                        "reading {source}: no answer from the broker in {TIMEOUT:?}"
                    )));
                }
            };
            if done || batch.payload_bytes() >= 1 << 20 {
                let next = batch.range.end;
                let full = std::mem::replace(&mut batch, RawBatch::new(source.clone(), next));
                let more = full.is_empty() || each(full);
                if done || !more {
                    return Ok(next);
                }
            }
        }
    }
}

/// Copies one message into a raw batch.
fn push(batch: &mut RawBatch, message: &BorrowedMessage<'_>) {
    batch.push(
        message.offset(),
        message.timestamp().to_millis().unwrap_or(-1),
        message.key(),
        message.payload(),
        borrowed(&headers(message)),
    );
}
