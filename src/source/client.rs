//! librdkafka settings from the node's configuration.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::config::{Kafka, Protocol, SaslMechanism};

/// Settings of the user's that only a consumer has; librdkafka warns of each in another client.
/// Those that the configuration refuses are not among them.
const CONSUMERS_ONLY: [&str; 12] = [
    "check.crcs",
    "consume.callback.max.messages",
    "coordinator.query.interval.ms",
    "fetch.error.backoff.ms",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.instance.id",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "queued.min.messages",
    "session.timeout.ms",
];

/// Those that only a producer has.
const PRODUCERS_ONLY: [&str; 26] = [
    "acks",
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "linger.ms",
    "message.send.max.retries",
    "message.timeout.ms",
    "partitioner",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queuing.strategy",
    "request.required.acks",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning.linger.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// What a client that only asks may have in its queue.
const READER_QUEUE: usize = 16 << 20;

/// Settings every client of the broker shares: address, TLS, SASL, and of those the user passes
/// through the ones that suit all.
pub fn client_config(kafka: &Kafka) -> Result<ClientConfig, String> {
    let mut config = ClientConfig::new();
    // Whatever level is shown: some reasons come as log lines of this level alone.
    config.set_log_level(RDKafkaLogLevel::Info);
    config.set("bootstrap.servers", &kafka.bootstrap);
    config.set("client.id", "tidegate");
    // A topic that appears later is found within seconds, not minutes.
    config.set("topic.metadata.refresh.interval.ms", "10000");
    config.set("reconnect.backoff.max.ms", "2000");
    let protocol = match (&kafka.tls, &kafka.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = &kafka.tls {
        let files = [
            ("ssl.ca.location", &tls.ca),
            ("ssl.certificate.location", &tls.certificate),
            ("ssl.key.location", &tls.key),
        ];
        for (setting, path) in files {
            if let Some(path) = path {
                config.set(setting, path.to_string_lossy());
            }
        }
    }
    if let Some(sasl) = &kafka.sasl {
        let mechanism = match sasl.mechanism {
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        };
        config.set("sasl.mechanism", mechanism);
        config.set("sasl.username", &sasl.username);
        config.set("sasl.password", sasl.password.read()?.reveal());
    }
    for (setting, value) in &kafka.settings {
        let of_one_role = |names: &[&str]| names.contains(&setting.as_str());
        if !of_one_role(&CONSUMERS_ONLY) && !of_one_role(&PRODUCERS_ONLY) {
            config.set(setting, value);
        }
    }
    Ok(config)
}

/// Settings of a producer: the shared ones and the user's own.
pub fn producer_config(kafka: &Kafka) -> Result<ClientConfig, String> {
    let mut config = client_config(kafka)?;
    set_own(&mut config, kafka, &PRODUCERS_ONLY);
    Ok(config)
}

/// Settings of a consumer whose progress lives in the sinks. `queue_bytes` bounds what librdkafka
/// prefetches.
pub fn group_consumer_config(
    kafka: &Kafka,
    protocol: Protocol,
    queue_bytes: usize,
) -> Result<ClientConfig, String> {
    let mut config = consumer_config(kafka, queue_bytes)?;
    config.set("group.id", &kafka.group);
    config.set("enable.auto.offset.store", "false");
    // Commits what was stored, which is what every sink holds: a mirror for lag tools.
    config.set("enable.auto.commit", "true");
    config.set("auto.commit.interval.ms", "1000");
    config.set("auto.offset.reset", "error");
    // Whether it has joined is known by them.
    if matches!(config.get("statistics.interval.ms"), None | Some("0")) {
        config.set("statistics.interval.ms", "5000");
    }
    match protocol {
        Protocol::Consumer | Protocol::Auto => {
            config.set("group.protocol", "consumer");
            // With this protocol they are the broker's, and librdkafka refuses them.
            config.remove("session.timeout.ms");
            config.remove("heartbeat.interval.ms");
        }
        Protocol::Classic => {
            config.set("group.protocol", "classic");
            config.set("partition.assignment.strategy", "cooperative-sticky");
        }
    }
    Ok(config)
}

/// Settings of a consumer that asks about the log and reads parts of it, outside any group.
pub fn reader_config(kafka: &Kafka) -> Result<ClientConfig, String> {
    let mut config = consumer_config(kafka, READER_QUEUE)?;
    // Manual assignment needs a group id; without a subscription no group is joined.
    config.set("group.id", format!("{}-log", kafka.group));
    config.set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true");
    config.set("auto.offset.reset", "earliest");
    Ok(config)
}

fn consumer_config(kafka: &Kafka, queue_bytes: usize) -> Result<ClientConfig, String> {
    let mut config = client_config(kafka)?;
    config.set("isolation.level", "read_committed");
    let fetch = (queue_bytes / 2).clamp(1 << 20, 16 << 20);
    let bounds = [
        ("queued.max.messages.kbytes", (queue_bytes / 1024).max(1024)),
        ("fetch.max.bytes", fetch),
        ("fetch.message.max.bytes", fetch.min(4 << 20)),
        // The default of a second leaves the fetcher idle for most of a backlog of small records.
        ("fetch.queue.backoff.ms", 10),
    ];
    for (setting, value) in bounds {
        config.set(setting, value.to_string());
    }
    set_own(&mut config, kafka, &CONSUMERS_ONLY);
    Ok(config)
}

fn set_own(config: &mut ClientConfig, kafka: &Kafka, role: &[&str]) {
    for (setting, value) in &kafka.settings {
        if role.contains(&setting.as_str()) {
            config.set(setting, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::CStr;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use rdkafka::ClientContext;
    use rdkafka::bindings as ffi;
    use rdkafka::consumer::{BaseConsumer, ConsumerContext};
    use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl ClientContext for Lines {
        fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
            if (level as i32) <= RDKafkaLogLevel::Warning as i32 && facility != "FAIL" {
                self.0.lock().unwrap().push(format!("{facility} {line}"));
            }
        }

        fn error(&self, _: rdkafka::error::KafkaError, _: &str) {}
    }

    impl ConsumerContext for Lines {}

    impl ProducerContext for Lines {
        type DeliveryOpaque = ();

        fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
    }

    fn kafka(settings: BTreeMap<String, String>) -> Kafka {
        let text = r#"{"bootstrap": "127.0.0.1:1"}"#;
        Kafka { settings, ..serde_json::from_str(text).unwrap() }
    }

    fn consumer_says(config: &ClientConfig) -> Vec<String> {
        let lines = Lines::default();
        let client: BaseConsumer<Lines> = config.create_with_context(lines.clone()).unwrap();
        drop(client.poll(Duration::from_millis(50)));
        std::mem::take(&mut *lines.0.lock().unwrap())
    }

    fn producer_says(config: &ClientConfig) -> Vec<String> {
        let lines = Lines::default();
        let client: BaseProducer<Lines> = config.create_with_context(lines.clone()).unwrap();
        client.poll(Duration::from_millis(50));
        std::mem::take(&mut *lines.0.lock().unwrap())
    }

    /// What librdkafka finds odd in the settings of each client.
    fn warnings(kafka: &Kafka) -> Vec<String> {
        let consumers = [
            group_consumer_config(kafka, Protocol::Consumer, 64 << 20),
            group_consumer_config(kafka, Protocol::Classic, 64 << 20),
            reader_config(kafka),
        ];
        let producers = [client_config(kafka), producer_config(kafka)];
        let consumers = consumers.into_iter().flat_map(|config| consumer_says(&config.unwrap()));
        let producers = producers.into_iter().flat_map(|config| producer_says(&config.unwrap()));
        consumers.chain(producers).collect()
    }

    /// Every setting librdkafka has, less those without a text, with its default.
    fn all_settings() -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        // SAFETY: each dump is `count` texts, names and values in turn, freed after they are copied.
        unsafe {
            let conf = ffi::rd_kafka_conf_new();
            let topic = ffi::rd_kafka_topic_conf_new();
            let mut counts = [0, 0];
            let dumps = [
                ffi::rd_kafka_conf_dump(conf, &mut counts[0]),
                ffi::rd_kafka_topic_conf_dump(topic, &mut counts[1]),
            ];
            for (dump, count) in dumps.into_iter().zip(counts) {
                let text = |at| CStr::from_ptr(*dump.add(at)).to_string_lossy().into_owned();
                all.extend((0..count).step_by(2).map(|at| (text(at), text(at + 1))));
                ffi::rd_kafka_conf_dump_free(dump, count);
            }
            ffi::rd_kafka_topic_conf_destroy(topic);
            ffi::rd_kafka_conf_destroy(conf);
        }
        all
    }

    #[test]
    fn no_client_is_warned_of_its_settings() {
        let kafka = kafka(BTreeMap::new());
        assert_eq!(warnings(&kafka), Vec::<String>::new());
        // There would be something to hear.
        assert!(!producer_says(&reader_config(&kafka).unwrap()).is_empty());
    }

    #[test]
    fn a_setting_of_one_role_goes_to_that_role_alone() {
        let text = |name: &str, value: &str| {
            let alone = ClientConfig::new().set(name, value).create_native_config();
            !value.is_empty() && !value.starts_with("0x") && alone.is_ok()
        };
        let passed_on = |name: &str| crate::config::refusal(name).is_none();
        let settings: BTreeMap<String, String> = all_settings()
            .into_iter()
            .filter(|(name, value)| passed_on(name) && text(name, value))
            .collect();
        let of_a_role = |names: &[&str]| names.iter().any(|name| settings.contains_key(*name));
        assert!(of_a_role(&CONSUMERS_ONLY) && of_a_role(&PRODUCERS_ONLY), "{settings:#?}");
        let warnings = warnings(&kafka(settings));
        let misplaced: Vec<_> =
            warnings.iter().filter(|line| line.contains("will be ignored")).collect();
        assert!(misplaced.is_empty(), "{misplaced:#?}");
        let given = BTreeMap::from([
            ("linger.ms".to_owned(), "7".to_owned()),
            ("fetch.queue.backoff.ms".to_owned(), "20".to_owned()),
            ("socket.timeout.ms".to_owned(), "5000".to_owned()),
        ]);
        let kafka = kafka(given);
        let (reader, producer) = (reader_config(&kafka).unwrap(), producer_config(&kafka).unwrap());
        let of = |config: &ClientConfig| {
            ["linger.ms", "fetch.queue.backoff.ms", "socket.timeout.ms"]
                .map(|name| config.get(name).unwrap_or("none").to_owned())
        };
        assert_eq!(of(&reader), ["none", "20", "5000"]);
        assert_eq!(of(&producer), ["7", "none", "5000"]);
    }

    #[test]
    fn every_consumer_refetches_at_once() {
        let kafka = kafka(BTreeMap::new());
        let group = group_consumer_config(&kafka, Protocol::Auto, 64 << 20).unwrap();
        for config in [group, reader_config(&kafka).unwrap()] {
            assert_eq!(config.get("fetch.queue.backoff.ms"), Some("10"));
        }
    }
}
