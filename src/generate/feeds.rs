use super::Topic;

pub(super) fn text(topic: Topic) -> &'static str {
    match topic {
        Topic::TransactionLog => include_str!("feeds/transaction_log.yaml"),
        Topic::TransactionFlattened => include_str!("feeds/transaction_flattened.yaml"),
        Topic::TransactionStreamAnonymized => {
            include_str!("feeds/transaction_stream_anonymized.yaml")
        }
        Topic::TransactionStreamBlacklisted => {
            include_str!("feeds/transaction_stream_blacklisted.yaml")
        }
        Topic::UserTransactionSummary => include_str!("feeds/user_transaction_summary.yaml"),
        Topic::PaymentMethodTotals => include_str!("feeds/payment_method_totals.yaml"),
        _ => unreachable!("{} is none of the demo's topics", topic.name()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::config::{FeedFile, FeedKind, KeyFormat, load_feeds, load_node};
    use crate::generate::Generator;

    const NODE: &str = "\
kafka: {bootstrap: 'localhost:9092'}
lake: {url: lake}
warehouse: {url: 'sqlite:warehouse.db'}
";

    /// Read as the node reads them, with all its checks.
    fn feeds() -> Vec<FeedFile> {
        let folder = tempfile::tempdir().unwrap();
        let node = folder.path().join("node.yaml");
        std::fs::write(&node, NODE).unwrap();
        let feeds = folder.path().join("feeds");
        std::fs::create_dir(&feeds).unwrap();
        for topic in Topic::DEMO {
            std::fs::write(feeds.join(format!("{}.yaml", topic.name())), topic.feed()).unwrap();
        }
        let node = load_node(&node).unwrap_or_else(|faults| panic!("{faults}"));
        load_feeds(&feeds, &node).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn feed(topic: Topic) -> FeedFile {
        feeds().into_iter().find(|feed| feed.feed == topic.name()).unwrap()
    }

    /// The paths of all fields that are not objects.
    fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    leaves(inner, &path, found);
                }
            }
            _ => {
                found.insert(path.to_owned());
            }
        }
    }

    #[test]
    fn each_feed_declares_every_field_of_its_topic() {
        for topic in Topic::DEMO {
            let feed = feed(topic);
            assert_eq!(feed.topic.as_deref(), Some(topic.name()));
            assert_eq!(feed.kind == FeedKind::Table, topic.is_table());
            let record = Generator::new(1, 500, 0.0).topics(&[topic]).next().unwrap();
            let mut found = BTreeSet::new();
            leaves(&serde_json::from_slice(&record.value.unwrap()).unwrap(), "", &mut found);
            let columns = feed.columns.unwrap();
            let declared: BTreeSet<_> = columns.iter().map(|c| c.path().to_owned()).collect();
            assert_eq!(declared, found, "{}", topic.name());
            assert!(columns.iter().all(|column| column.name == column.name.to_lowercase()));
            assert_eq!(feed.time.is_some(), !topic.is_table());
        }
    }

    #[test]
    fn each_key_is_declared_as_it_is_written() {
        for topic in Topic::DEMO {
            let record = Generator::new(1, 500, 0.0).topics(&[topic]).next().unwrap();
            let key = record.key.unwrap();
            let Some(declared) = feed(topic).key else {
                assert_eq!(topic, Topic::TransactionLog);
                continue;
            };
            match declared.format {
                KeyFormat::String => assert_eq!(declared.columns.len(), 1),
                _ => {
                    let mut found = BTreeSet::new();
                    leaves(&serde_json::from_slice(&key).unwrap(), "", &mut found);
                    let columns = declared.columns.iter();
                    assert_eq!(
                        columns.map(|c| c.path().to_owned()).collect::<BTreeSet<_>>(),
                        found
                    );
                }
            }
        }
    }
}
