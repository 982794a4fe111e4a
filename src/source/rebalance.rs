//! What the group gives and takes, noted in librdkafka's callback and answered later.
//!
//! Inside the callback nothing is asked of a sink: from the event until the answer librdkafka pauses
//! every partition but keeps its heartbeat, so the answer may take its time, and soon is better.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientContext, TopicPartitionList};
use serde::Deserialize;
use tracing::{debug, warn};

use super::{Complaints, Event};
use crate::record::TopicPartition;
use crate::telemetry::{metrics, places, trace};

/// What of librdkafka's statistics is told on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Statistics {
    /// Received bytes and sent requests, of all brokers.
    rx_bytes: f64,
    tx: f64,
    cgrp: Option<Group>,
    topics: HashMap<String, Topic>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Group {
    state: String,
    /// Milliseconds.
    stateage: f64,
    join_state: String,
    rebalance_cnt: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Topic {
    partitions: HashMap<String, Partition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Partition {
    /// Of those that are read, and what a transaction still open does not hide; negative: unknown.
    ls_offset: i64,
    fetch_state: String,
    fetchq_size: f64,
}

/// The consumer that is of the group.
const MAIN: &str = "poll";
/// By then the group would have given it something: some of its heartbeats were answered.
const SETTLED_MS: f64 = 4000.0;

pub struct Rebalance {
    /// Which of the node's consumers it is.
    name: String,
    group: Option<Arc<str>>,
    events: Mutex<Vec<Event>>,
    closing: AtomicBool,
    /// Since the statistics before.
    errors: AtomicU64,
    complaints: Complaints,
}

impl Rebalance {
    pub fn new(name: &str, group: Option<Arc<str>>) -> Self {
        Self {
            name: name.to_owned(),
            group,
            events: Mutex::default(),
            closing: AtomicBool::new(false),
            errors: AtomicU64::new(0),
            complaints: Complaints::of("consumer"),
        }
    }

    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on partitions taken are given back inside the callback: nobody is left to answer.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn tell(&self, statistics: &Statistics) {
        let labels = [self.name.as_str()];
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let queued: f64 = partitions.map(|partition| partition.fetchq_size).sum();
        // Of others' partitions, and of what was caught up once, it is remembered and not known.
        if self.name == MAIN {
            let end_of = |source: &TopicPartition| {
                let topic = statistics.topics.get(&*source.topic)?;
                // By the number as it is written.
                let found = topic.partitions.get(&source.partition.to_string())?;
                let is_read = found.fetch_state == "active" && found.ls_offset >= 0;
                is_read.then_some(found.ls_offset)
            };
            places::broker_has(end_of, chrono::Utc::now().timestamp_millis());
        }
        metrics::KAFKA_QUEUE_BYTES.set(labels, queued);
        metrics::KAFKA_RECEIVED_BYTES.set(labels, statistics.rx_bytes);
        metrics::KAFKA_REQUESTS.set(labels, statistics.tx);
        if let Some(Group { state, stateage, join_state, rebalance_cnt }) = &statistics.cgrp {
            metrics::KAFKA_REBALANCES.set(labels, *rebalance_cnt);
            // Nothing else happens to one that is given nothing, or of whose topics none is there. One that the
            // broker refuses is in that state, too.
            let is_refused = self.errors.swap(0, Ordering::Relaxed) > 0;
            let idle = join_state == "init" && *stateage >= SETTLED_MS && !is_refused;
            if state == "up" && (join_state == "steady" || idle) {
                self.note(Event::Joined);
            }
        }
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl ClientContext for Rebalance {
    fn error(&self, error: KafkaError, reason: &str) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.complaints.error(error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.complaints.log(level, facility, line);
    }

    fn stats_raw(&self, text: &[u8]) {
        match serde_json::from_slice(text) {
            Ok(statistics) => self.tell(&statistics),
            Err(error) => {
                debug!(target: "tidegate::source", %error, "librdkafka's statistics are not understood")
            }
        }
    }
}

impl ConsumerContext for Rebalance {
    fn commit_callback(&self, result: Result<(), KafkaError>, offsets: &TopicPartitionList) {
        // Nothing stored since the last time is no commit.
        if matches!(&result, Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset))) {
            return;
        }
        let mut topics: HashMap<String, Vec<i32>> = HashMap::new();
        for element in offsets.elements() {
            topics.entry(element.topic().to_owned()).or_default().push(element.partition());
        }
        let failed = result.err().map(|error| error.to_string());
        for (topic, partitions) in topics {
            trace::mirrored(&topic, &partitions, self.group.as_ref(), failed.clone());
        }
    }

    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = partitions(list);
        if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if self.closing.load(Ordering::Relaxed) {
                return;
            }
            self.note(Event::Assigned(partitions));
            return;
        }
        if self.closing.load(Ordering::Relaxed) {
            if let Err(error) = consumer.unassign() {
                warn!(target: "tidegate::source", %error, "could not unassign while closing");
            }
        } else if consumer.assignment_lost() {
            self.note(Event::Lost(partitions));
        } else {
            self.note(Event::Revoked(partitions));
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .map(|element| TopicPartition::new(element.topic(), element.partition()))
        .collect()
}
