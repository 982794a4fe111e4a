use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::ProducerContext;

use super::PublishError;
use crate::generate::Topic;

/// How long the broker may take to answer, or to make a topic known.
const PATIENCE: Duration = Duration::from_secs(10);

/// The topics' names on the broker.
#[derive(Debug, Clone)]
pub struct Names([String; Topic::ALL.len()]);

impl Names {
    pub fn with(prefix: &str) -> Self {
        Self(Topic::ALL.map(|topic| format!("{prefix}{}", topic.name())))
    }

    pub fn of(&self, topic: Topic) -> &str {
        &self.0[topic as usize]
    }

    pub fn topic(&self, name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| self.of(*topic) == name)
    }
}

/// Creates those of `topics` that are missing. Answers which those were.
pub fn create_missing<C: ProducerContext>(
    client: &Client<C>,
    config: &ClientConfig,
    names: &Names,
    topics: &[Topic],
    partitions: i32,
    complaint: impl Fn() -> Option<String>,
) -> Result<Vec<Topic>, PublishError> {
    let unreachable = |error: String| PublishError::Unreachable {
        address: config.get("bootstrap.servers").unwrap_or_default().to_owned(),
        reason: complaint().unwrap_or(error),
    };
    let present = || -> Result<Vec<Topic>, PublishError> {
        // Asking for all topics makes none: asking for one by its name might.
        let metadata = client
            .fetch_metadata(None, PATIENCE)
            .map_err(|error| unreachable(error.to_string()))?;
        let named = metadata.topics().iter().filter(|topic| !topic.partitions().is_empty());
        Ok(named.filter_map(|topic| names.topic(topic.name())).collect())
    };
    let known = present()?;
    let missing: Vec<Topic> =
        topics.iter().copied().filter(|topic| !known.contains(topic)).collect();
    if missing.is_empty() {
        return Ok(missing);
    }
    let wanted: Vec<&str> = missing.iter().map(|topic| names.of(*topic)).collect();
    create(config, &wanted, partitions)?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let known = present()?;
        if missing.iter().all(|topic| known.contains(topic)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(missing)
}

fn create(config: &ClientConfig, topics: &[&str], partitions: i32) -> Result<(), PublishError> {
    let failed =
        |topic: &str, reason: String| PublishError::Topic { topic: topic.to_owned(), reason };
    let admin: AdminClient<DefaultClientContext> =
        config.create().map_err(|error| failed(&topics.join(", "), error.to_string()))?;
    // The broker's own default for the replication.
    let wanted: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)))
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let answers = futures::executor::block_on(admin.create_topics(&wanted, &options))
        .map_err(|error| failed(&topics.join(", "), error.to_string()))?;
    for answer in answers {
        match answer {
            // Somebody else was faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(failed(&topic, code.to_string())),
        }
    }
    Ok(())
}
