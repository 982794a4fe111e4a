//! What the group gives and takes, noted in librdkafka's callback and answered later.
//!
//! Inside the callback nothing is asked of a sink: from the event until the answer librdkafka pauses
//! every partition but keeps its heartbeat, so the answer may take its time, and soon is better.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use serde::Deserialize;
use tracing::{debug, warn};

use super::{Complaints, Event};
use crate::record::TopicPartition;
use crate::telemetry::{metrics, places};

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
    hi_offset: i64,
    fetchq_size: f64,
}

/// By then the group would have given it something: some of its heartbeats were answered.
const SETTLED_MS: f64 = 4000.0;

pub struct Rebalance {
    /// Which of the node's consumers it is.
    name: String,
    /// That of KIP-848.
    newer_protocol: bool,

    events: Mutex<Vec<Event>>,
    closing: AtomicBool,
    complaints: Complaints,
}

impl Rebalance {
    pub fn new(name: &str, newer_protocol: bool) -> Self {
        Self {
            name: name.to_owned(),
            newer_protocol,
            events: Mutex::default(),
            closing: AtomicBool::new(false),
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
        places::broker_has(|source| {
            let topic = statistics.topics.get(&*source.topic)?;
            // By the number as it is written.
            let found = topic.partitions.get(&source.partition.to_string())?;
            Some(found.hi_offset)
        });
        metrics::KAFKA_QUEUE_BYTES.set(labels, queued);
        metrics::KAFKA_RECEIVED_BYTES.set(labels, statistics.rx_bytes);
        metrics::KAFKA_REQUESTS.set(labels, statistics.tx);
        if let Some(Group { state, stateage, join_state, rebalance_cnt }) = &statistics.cgrp {
            metrics::KAFKA_REBALANCES.set(labels, *rebalance_cnt);
            // Also one that is given nothing has joined.
            // With the newer protocol nothing else happens to one that is given nothing.
            let idle = self.newer_protocol && join_state == "init" && *stateage >= SETTLED_MS;
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
