//! Topics and producers on the real broker.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};

use crate::servers::{env, servers};

const PATIENCE: Duration = Duration::from_secs(30);

thread_local! {
    static OTHER: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The broker of this thread's test.
pub fn address() -> String {
    OTHER.with_borrow(Clone::clone).unwrap_or_else(|| env("TIDEGATE_TEST_KAFKA"))
}

/// From now on this thread's test is about the broker that knows the classic group protocol alone.
pub fn turn_to_classic() {
    servers("start", "classic");
    let port = Path::new(&env("TIDEGATE_TEST_DIR")).join("classic/port");
    let port = std::fs::read_to_string(port).expect("the port of a broker that was started");
    OTHER.set(Some(format!("127.0.0.1:{}", port.trim())));
}

pub fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address());
    // A broker that a proof restarts is away for a while; what lasts shows as an error of the call.
    config.set("log_level", "0");
    config
}

pub fn admin() -> AdminClient<DefaultClientContext> {
    config().create().expect("an admin client")
}

pub fn create_topic(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let made = block_on(admin().create_topics([&topic], &AdminOptions::new()));
    for outcome in made.expect("the broker answers") {
        outcome.unwrap_or_else(|(name, code)| panic!("creating {name}: {code}"));
    }
    ends(name, partitions);
}

pub fn delete_topics(names: &[String]) {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    drop(block_on(admin().delete_topics(&names, &AdminOptions::new())));
}

/// The end of each partition's log. Waits until the broker knows the topic.
pub fn ends(topic: &str, partitions: i32) -> Vec<i64> {
    let consumer: BaseConsumer = config().create().expect("a consumer");
    let end = |partition| {
        crate::servers::wait_for(&format!("the end of {topic}/{partition}"), PATIENCE, || {
            let watermarks = consumer.fetch_watermarks(topic, partition, Duration::from_secs(5));
            watermarks.ok().map(|(_, high)| high)
        })
    };
    (0..partitions).map(end).collect()
}

#[derive(Default)]
pub struct Delivered {
    pub good: AtomicU64,
    pub failed: AtomicU64,
}

#[derive(Clone)]
pub struct Count(Arc<Delivered>);

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.0.good } else { &self.0.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Each record once and in order, whatever the broker goes through: what a proof counts on.
pub struct Publisher {
    producer: ThreadedProducer<Count>,
    pub delivered: Arc<Delivered>,
}

impl Publisher {
    pub fn new() -> Self {
        let delivered = Arc::new(Delivered::default());
        let producer = config()
            .set("enable.idempotence", "true")
            .set("compression.codec", "lz4")
            .set("linger.ms", "5")
            .create_with_context(Count(delivered.clone()))
            .expect("a producer");
        Self { producer, delivered }
    }

    pub fn send(&self, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) {
        loop {
            let mut record = BaseRecord::<[u8], [u8]>::to(topic);
            (record.key, record.payload) = (key, value);
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => panic!("producing to {topic}: {error}"),
            }
        }
    }

    /// Waits until the broker has everything.
    pub fn flush(&self) {
        self.producer.flush(Duration::from_secs(120)).expect("the broker takes every record");
        assert_eq!(self.delivered.failed.load(Ordering::Relaxed), 0, "records were not delivered");
    }
}
