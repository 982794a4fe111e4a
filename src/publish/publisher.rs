use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::tally::{Receipts, Tally};
use super::topics::{self, Names};
use super::{Allowance, PublishError};
use crate::config::Kafka;
use crate::generate::{Generated, Topic};
use crate::source::producer_config;

/// What the publisher wants where the user's settings say nothing.
const DEFAULTS: [(&str, &str); 8] = [
    ("enable.idempotence", "true"),
    // The partition a Java producer would choose.
    ("partitioner", "murmur2_random"),
    // The cheapest for the CPU of all three parties.
    ("compression.type", "lz4"),
    ("linger.ms", "20"),
    ("batch.size", "262144"),
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "65536"),
    ("message.timeout.ms", "60000"),
];

/// A producer of generated records.
pub struct Publisher {
    producer: BaseProducer<Receipts>,
    config: ClientConfig,
    names: Names,
}

impl Publisher {
    /// Connects in the background. What the user sets for producers is kept. `prefix` stands before
    /// the name of every topic.
    pub fn open(kafka: &Kafka, prefix: &str) -> Result<Self, PublishError> {
        let names = Names::with(prefix);
        let mut config = producer_config(kafka).map_err(PublishError::Settings)?;
        for (setting, value) in DEFAULTS {
            if config.get(setting).is_none() {
                config.set(setting, value);
            }
        }
        let producer = config
            .create_with_context(Receipts::new(names.clone()))
            .map_err(|error| PublishError::Settings(error.to_string()))?;
        Ok(Self { producer, config, names })
    }

    /// Creates those of `topics` that are missing and answers which; fails if no broker answers.
    pub fn create_missing(
        &self,
        wanted: &[Topic],
        partitions: i32,
    ) -> Result<Vec<Topic>, PublishError> {
        let complaint = || {
            // What the client has to say lies in its queue.
            self.producer.poll(Duration::from_millis(100));
            self.producer.context().complaint()
        };
        let client = self.producer.client();
        topics::create_missing(client, &self.config, &self.names, wanted, partitions, complaint)
    }

    /// Publishes the records of `wanted` topics until they end, `pace` says stop, or a record is
    /// lost; then waits for the last acknowledgement. `records` must hold those of
    /// `transaction_log`, wanted or not: they are what is counted as messages.
    pub fn publish(
        &self,
        records: impl Iterator<Item = Generated>,
        wanted: &[Topic],
        mut pace: impl FnMut(&Tally) -> Allowance,
    ) -> Tally {
        let mut records = records.peekable();
        while records.peek().is_some() && self.tally().failed() == 0 {
            let allowance = pace(&self.tally());
            match allowance {
                Allowance::Stop => break,
                Allowance::Wait(time) => self.producer.poll(time),
                Allowance::Go(messages) => {
                    for _ in 0..messages {
                        self.transaction(&mut records, wanted);
                    }
                    self.take_reports();
                }
            }
        }
        // Each record is acknowledged or given up within message.timeout.ms.
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(20));
            // Shows the progress; there is nothing left to allow.
            pace(&self.tally());
        }
        self.take_reports();
        self.tally().clone()
    }

    /// One transaction and what is derived from it.
    fn transaction(
        &self,
        records: &mut std::iter::Peekable<impl Iterator<Item = Generated>>,
        wanted: &[Topic],
    ) {
        let begins = |record: &Generated| record.topic == Topic::TransactionLog;
        let Some(first) = records.next() else { return };
        self.tally().messages += 1;
        let mut next = Some(first);
        while let Some(record) = next {
            if wanted.contains(&record.topic) {
                self.send(&record);
            }
            next = records.next_if(|record| !begins(record));
        }
    }

    fn send(&self, record: &Generated) {
        let mut message = BaseRecord::<[u8], [u8]>::to(self.names.of(record.topic));
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        loop {
            match self.producer.send(message) {
                Ok(()) => return self.tally().topic_mut(record.topic).send(record),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), same)) => {
                    message = same;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => {
                    let code = error.rdkafka_error_code();
                    let reason = code.map_or_else(|| error.to_string(), |code| code.to_string());
                    return self.tally().fail(reason);
                }
            }
        }
    }

    /// Takes up the delivery reports that are there: one poll takes one batch of them.
    fn take_reports(&self) {
        loop {
            let before = self.tally().taken();
            self.producer.poll(Duration::ZERO);
            if self.tally().taken() == before {
                return;
            }
        }
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.producer.context().tally()
    }
}
