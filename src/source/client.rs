//! librdkafka settings from the node's configuration.

use rdkafka::ClientConfig;

use crate::config::{Kafka, Protocol, SaslMechanism};

/// Settings every client of the broker shares: address, TLS, SASL, and what the user passes through.
pub fn client_config(kafka: &Kafka) -> Result<ClientConfig, String> {
    let mut config = ClientConfig::new();
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
        config.set(setting, value);
    }
    Ok(config)
}

/// Settings of a consumer whose progress lives in the sinks. `queue_bytes` bounds what librdkafka
/// prefetches.
pub fn group_consumer_config(
    kafka: &Kafka,
    protocol: Protocol,
    queue_bytes: usize,
) -> Result<ClientConfig, String> {
    let mut config = client_config(kafka)?;
    config.set("group.id", &kafka.group);
    config.set("enable.auto.offset.store", "false");
    // Commits what was stored, which is what every sink holds: a mirror for lag tools.
    config.set("enable.auto.commit", "true");
    config.set("auto.commit.interval.ms", "1000");
    config.set("auto.offset.reset", "error");
    config.set("isolation.level", "read_committed");
    set_fetch_bounds(&mut config, kafka, queue_bytes);
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

fn set_fetch_bounds(config: &mut ClientConfig, kafka: &Kafka, queue_bytes: usize) {
    let fetch = (queue_bytes / 2).clamp(1 << 20, 16 << 20);
    let bounds = [
        ("queued.max.messages.kbytes", (queue_bytes / 1024).max(1024)),
        ("fetch.max.bytes", fetch),
        ("fetch.message.max.bytes", fetch.min(4 << 20)),
        // The default of a second leaves the fetcher idle for most of a backlog of small records.
        ("fetch.queue.backoff.ms", 10),
    ];
    for (setting, value) in bounds {
        if !kafka.settings.contains_key(setting) {
            config.set(setting, value.to_string());
        }
    }
}
