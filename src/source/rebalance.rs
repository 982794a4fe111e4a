//! What the group gives and takes, noted in librdkafka's callback and answered later.
//!
//! Inside the callback nothing is asked of a sink: from the event until the answer librdkafka pauses
//! every partition but keeps its heartbeat, so the answer may take its time, and soon is better.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use tracing::warn;

use super::{Complaints, Event};
use crate::record::TopicPartition;

pub struct Rebalance {
    events: Mutex<Vec<Event>>,
    closing: AtomicBool,
    complaints: Complaints,
}

impl Rebalance {
    pub fn new() -> Self {
        Self {
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
