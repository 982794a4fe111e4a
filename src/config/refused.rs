//! The librdkafka settings a node does not let through.

/// librdkafka settings the node does not let through, and what to do instead. A final `*` stands
/// for any ending; the first line that fits is taken.
const REFUSED: [(&str, &str); 30] = [
    ("bootstrap.servers", USE_BOOTSTRAP),
    ("metadata.broker.list", USE_BOOTSTRAP),
    ("group.id", "use `kafka.group`"),
    ("group.protocol", "use `kafka.protocol`"),
    ("group.protocol.type", ASSIGNS),
    ("group.remote.assignor", ASSIGNS),
    ("partition.assignment.strategy", ASSIGNS),
    ("enable.auto.commit", PROGRESS),
    ("auto.commit.*", PROGRESS),
    ("enable.auto.offset.store", PROGRESS),
    ("offset.store.*", PROGRESS),
    ("isolation.level", "remove it: only committed records are read"),
    ("auto.offset.reset", "use `start` and `on_gap` in the feed file: nothing is skipped silently"),
    ("enable.partition.eof", "remove it: the node sets it as its readers need it"),
    ("queued.max.messages.kbytes", BUDGET),
    ("fetch.max.bytes", BUDGET),
    ("fetch.message.max.bytes", BUDGET),
    ("max.partition.fetch.bytes", BUDGET),
    ("security.protocol", "remove it: it follows from `kafka.tls` and `kafka.sasl`"),
    ("sasl.mechanism*", "use `kafka.sasl.mechanism`"),
    ("sasl.username", "use `kafka.sasl.username`"),
    ("sasl.password", "use `kafka.sasl.password: {env: NAME}`"),
    ("sasl.*", "use `kafka.sasl`; of its mechanisms, PLAIN and SCRAM are supported"),
    ("ssl.ca.*", "use `kafka.tls.ca`, the path of a PEM file"),
    ("ssl.certificate.*", "use `kafka.tls.certificate`, the path of a PEM file"),
    ("ssl.key.password", "use `kafka.tls.key` with a key that is not encrypted"),
    ("ssl.key.*", "use `kafka.tls.key`, the path of a PEM file"),
    ("ssl_*", "use `kafka.tls`"),
    ("ssl.keystore.*", "use `kafka.tls.certificate` and `kafka.tls.key`, paths of PEM files"),
    ("enable.sasl.*", "remove it: of the SASL mechanisms, PLAIN and SCRAM are supported"),
];

const USE_BOOTSTRAP: &str = "use `kafka.bootstrap`";
const ASSIGNS: &str = "remove it: the node answers assignments itself";
const PROGRESS: &str = "remove it: progress is kept in the sinks, and mirrored to Kafka from there";
const BUDGET: &str = "use `memory.budget`: the client's queue and fetch sizes are set from it";

/// What to do instead of a refused setting; none for a setting that is passed on.
pub fn remedy(name: &str) -> Option<&'static str> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    };
    REFUSED.iter().find(|(pattern, _)| fits(pattern)).map(|(_, remedy)| *remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_patterns_are_reached() {
        // A pattern after one that covers it would never give its remedy.
        for (index, (name, _)) in REFUSED.iter().enumerate() {
            let covering = REFUSED[..index].iter().find(|(earlier, _)| {
                earlier.strip_suffix('*').is_some_and(|prefix| name.starts_with(prefix))
            });
            assert_eq!(covering, None, "{name}");
        }
    }
}
