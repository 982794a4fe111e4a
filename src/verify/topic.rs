//! The log's side of a feed: what the broker holds of its topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::account::Held;
use crate::config::Kafka;
use crate::record::{OffsetRange, RawBatch, TopicId, TopicPartition};
use crate::source::{Log, client_config};

const TIMEOUT: Duration = Duration::from_secs(5);

pub struct Broker {
    pub log: Log,
    admin: AdminClient<DefaultClientContext>,
}

/// A topic as it stands now.
pub struct Topic {
    pub name: Arc<str>,
    pub id: TopicId,
    pub partitions: BTreeMap<i32, Held>,
    /// The log loses records from its start alone. Not so where it is compacted, or where the broker
    /// does not say.
    pub strict: bool,
}

/// Whether records may be gone from the middle of a topic's log, as far as the broker tells.
pub async fn may_be_compacted(kafka: &Kafka, topic: &str) -> Result<bool, String> {
    let policy = Broker::open(kafka)?.policy(topic).await;
    Ok(policy.is_none_or(|policy| policy.contains("compact")))
}

impl Broker {
    pub fn open(kafka: &Kafka) -> Result<Self, String> {
        let admin = client_config(kafka)?.create().map_err(|error| error.to_string())?;
        Ok(Self { log: Log::open(kafka)?, admin })
    }

    /// The topic's id and bounds; none where there is no such topic.
    pub async fn describe(&self, name: &Arc<str>) -> Result<Option<Topic>, String> {
        let Some(count) = self.log.partitions(name)? else { return Ok(None) };
        let id = self.log.topic_id(name)?;
        let mut partitions = BTreeMap::new();
        for partition in 0..count {
            let bounds = self.log.bounds(&TopicPartition::new(name.clone(), partition), id)?;
            partitions
                .insert(partition, Held { low: bounds.low, high: bounds.high, ..Held::default() });
        }
        let strict = self.policy(name).await.is_some_and(|policy| !policy.contains("compact"));
        Ok(Some(Topic { name: name.clone(), id, partitions, strict }))
    }

    /// How the topic is cleaned up, if the broker tells.
    async fn policy(&self, topic: &str) -> Option<String> {
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let about = [ResourceSpecifier::Topic(topic)];
        let answers = self.admin.describe_configs(&about, &options).await.ok()?;
        let resource = answers.into_iter().next()?.ok()?;
        resource.get("cleanup.policy").and_then(|entry| entry.value.clone())
    }

    /// Reads what the log still holds of a range, and takes note of where it begins by then.
    pub fn read(
        &self,
        topic: &Topic,
        partition: i32,
        held: &mut Held,
        range: OffsetRange,
        mut each: impl FnMut(&RawBatch, &mut Held) -> Result<(), String>,
    ) -> Result<(), String> {
        let source = TopicPartition::new(topic.name.clone(), partition);
        let start = range.start.max(held.low);
        let end = range.end.min(held.high);
        if start >= end {
            return Ok(());
        }
        let mut outcome = Ok(());
        self.log.read(&source, start, end, |batch| {
            for record in batch.iter_from(start) {
                held.records.insert(record.offset);
            }
            outcome = each(&batch, held);
            outcome.is_ok()
        })?;
        outcome?;
        // Retention goes on meanwhile.
        held.low = held.low.max(self.log.bounds(&source, topic.id)?.low);
        Ok(())
    }
}
