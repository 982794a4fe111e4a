//! What a node needs of the world, looked at before or beside it: each thing by itself, so that one that is away
//! hides none of the others. Nothing is changed but for what shows that one may write: an object in the lake and a
//! file in the volume, deleted again, the folders they need, and the lake's own clock, which stay.

mod database;
mod host;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::config::{FeedFile, Node};
use crate::lake::LakeStore;
use crate::record::{TopicId, TopicPartition};
use crate::registry::Registry;
use crate::source::Log;

/// How long one look may take.
const WITHIN: Duration = Duration::from_secs(20);
/// Clocks that differ by more put times in the wrong order.
const SKEW_MS: i64 = 5_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Good,
    /// It works, and may not for long.
    Doubtful,
    Bad,
}

/// What came of one look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `broker`, `feed orders`, `lake`, `warehouse`, and so on.
    pub about: String,
    pub state: State,
    /// How it is.
    pub says: String,
    /// What helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn good(about: impl Into<String>, says: impl Into<String>) -> Self {
        Self { about: about.into(), state: State::Good, says: says.into(), remedy: None }
    }

    fn doubtful(about: impl Into<String>, says: impl Into<String>, remedy: &str) -> Self {
        let remedy = Some(remedy.to_owned());
        Self { about: about.into(), state: State::Doubtful, says: says.into(), remedy }
    }

    fn bad(about: impl Into<String>, says: impl ToString, remedy: &str) -> Self {
        let remedy = Some(remedy.to_owned());
        Self { about: about.into(), state: State::Bad, says: says.to_string(), remedy }
    }
}

/// Looks at everything that the node and its feeds need.
pub async fn examine(node: &Node, files: &[FeedFile], now_ms: fn() -> i64) -> Vec<Finding> {
    let mut findings = broker(node, files).await;
    findings.extend(within("registry", registry(node)).await);
    findings.extend(within("lake", lake(node, now_ms)).await);
    findings.extend(within("warehouse", database::examine(node, files, now_ms)).await);
    findings.extend(host::examine(node));
    findings
}

async fn within(about: &str, looking: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    match tokio::time::timeout(WITHIN, looking).await {
        Ok(findings) => findings,
        Err(_) => {
            let says = format!("no answer within {} seconds", WITHIN.as_secs());
            vec![Finding::bad(about, says, "see whether its address is right and can be reached")]
        }
    }
}

async fn broker(node: &Node, files: &[FeedFile]) -> Vec<Finding> {
    const REMEDY: &str =
        "correct `kafka.bootstrap`, `kafka.tls` or `kafka.sasl`, or let this machine reach it";
    let (kafka, files) = (node.kafka.clone(), files.to_vec());
    let looking = tokio::task::spawn_blocking(move || {
        let log = match Log::open(&kafka) {
            Ok(log) => Arc::new(log),
            Err(error) => return vec![Finding::bad("broker", error, REMEDY)],
        };
        let topics = match log.topics() {
            Ok(topics) => topics,
            Err(error) => return vec![Finding::bad("broker", error, REMEDY)],
        };
        let says = format!("{} answers and shows {} topics", kafka.bootstrap, topics.len());
        let mut findings = vec![Finding::good("broker", says)];
        findings.push(match log.members(&kafka.group) {
            Ok(members) => {
                let says = format!("{} has {} members now", kafka.group, members.len());
                Finding::good("consumer group", says)
            }
            Err(error) => {
                let remedy = "let the user Read and Describe the group `kafka.group`";
                Finding::bad("consumer group", error, remedy)
            }
        });
        let enabled = files.iter().filter(|file| file.enabled);
        findings.extend(enabled.map(|file| feed(&log, &topics, file)));
        findings
    });
    looking.await.unwrap_or_else(|error| vec![Finding::bad("broker", error, REMEDY)])
}

/// Whether a feed has a topic that may be read.
fn feed(log: &Log, topics: &[String], file: &FeedFile) -> Finding {
    let about = format!("feed {}", file.feed);
    let read: Vec<&String> = topics.iter().filter(|topic| file.matches(topic)).collect();
    let Some(first) = read.first() else {
        let remedy =
            "make the topic, correct its name in the feed file, or let the user Describe it";
        return Finding::bad(about, "the broker shows no topic of this name", remedy);
    };
    let source = TopicPartition::new(first.as_str(), 0);
    match log.bounds(&source, TopicId::UNKNOWN) {
        Ok(bounds) => {
            let says = match read.len() {
                1 => format!(
                    "topic {first}, whose first partition has offsets {} to {}",
                    bounds.low, bounds.high
                ),
                count => format!("{count} topics, {first} among them"),
            };
            Finding::good(about, says)
        }
        Err(error) => Finding::bad(about, error, "let the user Read and Describe the topic"),
    }
}

async fn registry(node: &Node) -> Vec<Finding> {
    const REMEDY: &str = "correct `schema_registry.url` and what it is asked with";
    let Some(config) = &node.schema_registry else { return Vec::new() };
    let registry = match Registry::open(config) {
        Ok(registry) => registry,
        Err(error) => return vec![Finding::bad("registry", error, REMEDY)],
    };
    // That there is no such schema is an answer.
    vec![match registry.schemas([0].into()).await {
        Ok(_) => Finding::good("registry", "it answers"),
        Err(away) => Finding::bad("registry", away, REMEDY),
    }]
}

async fn lake(node: &Node, now_ms: fn() -> i64) -> Vec<Finding> {
    const REMEDY: &str =
        "correct `lake.url` and `lake.s3`, or allow this node to read and write there";
    let Some(config) = &node.lake else { return Vec::new() };
    let store = match LakeStore::open(config) {
        Ok(store) => store,
        Err(error) => return vec![Finding::bad("lake", error, REMEDY)],
    };
    if let Err(error) = store.prove_conditional_create().await {
        return vec![Finding::bad("lake", error, REMEDY)];
    }
    let says = format!("{} can be written to, and honours conditional creates", store.url());
    let mut findings = vec![Finding::good("lake", says)];
    findings.push(match store.now_ms().await {
        Ok(theirs) => skew("lake's clock", theirs - now_ms()),
        Err(error) => Finding::bad("lake's clock", error, REMEDY),
    });
    findings
}

fn skew(about: &str, differs_ms: i64) -> Finding {
    let says = format!("it differs from this machine's by {:.1} s", differs_ms as f64 / 1000.0);
    match differs_ms.abs() > SKEW_MS {
        true => Finding::doubtful(
            about,
            says,
            "keep both by NTP: retention, vacuum and signatures go by clocks",
        ),
        false => Finding::good(about, says),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_a_little() {
        assert_eq!(skew("c", -4_999).state, State::Good);
        assert_eq!(skew("c", 5_001).state, State::Doubtful);
    }
}
