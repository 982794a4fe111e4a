use super::Topic;

/// The five systems of `examples/`, by the topics that each reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    S0,
    S1,
    S2,
    S3,
    S4,
}

impl System {
    pub const ALL: [System; 5] = [System::S0, System::S1, System::S2, System::S3, System::S4];

    pub fn name(self) -> &'static str {
        match self {
            System::S0 => "s0",
            System::S1 => "s1",
            System::S2 => "s2",
            System::S3 => "s3",
            System::S4 => "s4",
        }
    }

    pub fn from_name(name: &str) -> Option<System> {
        System::ALL.into_iter().find(|system| system.name() == name)
    }

    pub fn topics(self) -> &'static [Topic] {
        match self {
            System::S0 => &[
                Topic::TransactionLog,
                Topic::TransactionFlattened,
                Topic::TransactionStreamAnonymized,
                Topic::TransactionStreamBlacklisted,
                Topic::UserTransactionTotals,
                Topic::WindowedTransactionTotals,
            ],
            System::S1 => &[
                Topic::TransactionsSecure,
                Topic::TransactionsUsd,
                Topic::TransactionsBlacklisted,
                Topic::TransactionsFailed,
                Topic::TransactionsPending,
                Topic::TransactionsProcessing,
                Topic::TransactionsCompleted,
                Topic::UserSpendingByType,
                Topic::SpendLastFiveMinByType,
            ],
            System::S2 => &[
                Topic::TransactionStream,
                Topic::TransactionFlattened,
                Topic::TransactionStreamAnonymized,
                Topic::TransactionStreamBlacklisted,
                Topic::UserTransactionSummary,
                Topic::UserTransactionSummaryEur,
                Topic::PaymentMethodTotals,
                Topic::ProductPurchaseCounts,
            ],
            System::S3 => &[
                Topic::TransactionFlattened,
                Topic::TransactionStreamAnonymized,
                Topic::TransactionStreamBlacklisted,
                Topic::UserTransactionSummary,
                Topic::PaymentMethodTotals,
            ],
            System::S4 => &[
                Topic::TransactionStream,
                Topic::TransactionFlattened,
                Topic::TransactionStreamAnonymized,
                Topic::TransactionStreamBlacklisted,
                Topic::UserTransactionSummary,
                Topic::UserTransactionSummaryEur,
                Topic::PaymentMethodTotals,
                Topic::ProductPurchaseCounts,
                Topic::Currencies,
            ],
        }
    }
}

/// `examples/ksql_queries.sql`, beside the feeds that read its topics and the records made here.
#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap};
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use super::super::Generator;
    use super::*;

    const SCRIPT: &str = include_str!("../../examples/ksql_queries.sql");

    /// A `CREATE` of the script.
    #[derive(Debug, Clone)]
    struct Statement {
        is_table: bool,
        topic: String,
        key_format: String,
        keys: Vec<String>,
        values: BTreeSet<String>,
        /// Streams and tables that it reads.
        sources: Vec<String>,
        window_minutes: Option<u64>,
    }

    /// The statements by name, in lower case. As much of a parser as this one script needs.
    fn statements() -> BTreeMap<String, Statement> {
        let lines = SCRIPT.lines().filter(|line| !line.trim_start().starts_with("--"));
        let text = lines.collect::<Vec<_>>().join(" ").replace('`', "");
        let mut known: BTreeMap<String, Statement> = BTreeMap::new();
        for text in text.split(';').map(str::trim).filter(|text| text.starts_with("CREATE")) {
            let words: Vec<&str> = text.split_whitespace().collect();
            let statement = match text.split_once(" AS SELECT ") {
                Some((head, query)) => derived(&known, head, query),
                None => declared(text),
            };
            let statement = Statement { is_table: words[1] == "TABLE", ..statement };
            assert!(known.insert(words[2].to_owned(), statement).is_none(), "{} twice", words[2]);
        }
        known
    }

    /// A stream or a table over a topic that others fill.
    fn declared(text: &str) -> Statement {
        let (columns, with) = text.split_once(") WITH (").expect("its properties");
        let columns = columns.split_once('(').expect("its columns").1;
        let is_key = |column: &&str| column.ends_with(" KEY");
        let name = |column: &str| column.split_whitespace().next().expect("a name").to_owned();
        let (keys, values): (Vec<&str>, Vec<&str>) = items(columns).into_iter().partition(is_key);
        Statement {
            is_table: false,
            topic: property(with, "KAFKA_TOPIC"),
            key_format: property(with, "KEY_FORMAT"),
            keys: keys.into_iter().map(name).collect(),
            values: values.into_iter().map(name).collect(),
            sources: Vec::new(),
            window_minutes: None,
        }
    }

    fn derived(known: &BTreeMap<String, Statement>, head: &str, query: &str) -> Statement {
        let (selected, rest) =
            query.split_once(" FROM ").or(query.split_once("FROM ")).expect("FROM");
        let words: Vec<&str> = rest.split_whitespace().collect();
        let after = |word: &str| words.iter().position(|it| *it == word).map(|at| words[at + 1]);
        let sources: Vec<String> =
            [Some(words[0]), after("JOIN")].into_iter().flatten().map(str::to_owned).collect();
        let from = known.get(&sources[0]).unwrap_or_else(|| panic!("{} is made later", sources[0]));
        let grouped = rest.split_once(" BY ").map(|(_, keys)| {
            let keys = keys.trim_end_matches(" EMIT CHANGES").split(',');
            keys.map(|key| key.trim().rsplit('.').next().expect("a name").to_owned()).collect()
        });
        let keys: Vec<String> = grouped.unwrap_or_else(|| from.keys.clone());
        let selected: BTreeSet<String> = match selected.trim() {
            "*" => from.keys.iter().chain(&from.values).cloned().collect(),
            _ => items(selected)
                .into_iter()
                .map(|item| item.rsplit([' ', '.']).next().expect("a name").to_owned())
                .collect(),
        };
        assert!(keys.iter().all(|key| selected.contains(key)), "{head}: a key is not selected");
        let size = after("(SIZE").map(|size| size.parse::<u64>().expect("a number"));
        Statement {
            is_table: false,
            topic: property(head, "KAFKA_TOPIC"),
            key_format: property(head, "KEY_FORMAT"),
            values: selected.into_iter().filter(|name| !keys.contains(name)).collect(),
            keys,
            sources,
            window_minutes: size.map(|size| if rest.contains("HOUR") { 60 * size } else { size }),
        }
    }

    /// What commas part, outside brackets of both kinds.
    fn items(text: &str) -> Vec<&str> {
        let (mut depth, mut from, mut items) = (0, 0, Vec::new());
        for (at, c) in text.char_indices() {
            match c {
                '(' | '<' => depth += 1,
                ')' => depth -= 1,
                // Not that of an arrow.
                '>' if !text[..at].ends_with('-') => depth -= 1,
                ',' if depth == 0 => {
                    items.push(text[from..at].trim());
                    from = at + 1;
                }
                _ => {}
            }
        }
        items.push(text[from..].trim());
        items
    }

    fn property(text: &str, name: &str) -> String {
        let (_, value) =
            text.split_once(&format!("{name} = '")).unwrap_or_else(|| panic!("{name} in {text}"));
        value.split('\'').next().expect("a text").to_owned()
    }

    /// All feed files of the examples, as they are written.
    fn feeds() -> Vec<(PathBuf, Value)> {
        fn below(folder: &Path, found: &mut Vec<(PathBuf, Value)>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    below(&path, found);
                } else {
                    let text = std::fs::read_to_string(&path).unwrap();
                    found.push((path, serde_saphyr::from_str(&text).unwrap()));
                }
            }
        }
        let mut found = Vec::new();
        for system in System::ALL {
            let folder = format!("{}/examples/{}/feeds", env!("CARGO_MANIFEST_DIR"), system.name());
            below(Path::new(&folder), &mut found);
        }
        found
    }

    fn topic(feed: &Value) -> &str {
        feed["topic"].as_str().or(feed["ksqldb_source"].as_str()).unwrap()
    }

    #[test]
    fn the_script_makes_what_the_feeds_read_and_nothing_else() {
        let statements = statements();
        let feeds = feeds();
        assert!(feeds.len() > 30, "{}", feeds.len());
        let by_topic: HashMap<&str, &Statement> =
            statements.values().map(|it| (it.topic.as_str(), it)).collect();
        assert_eq!(by_topic.len(), statements.len(), "a topic has two statements");
        for (file, feed) in &feeds {
            let made = by_topic.get(topic(feed));
            let made = made.unwrap_or_else(|| panic!("{}: no statement", file.display()));
            let kind = feed["type"].as_str().or(feed["feed_type"].as_str()).unwrap();
            assert_eq!(made.is_table, kind == "table", "{}", file.display());
        }
        for (name, made) in &statements {
            let is_read = feeds.iter().any(|(_, feed)| topic(feed) == made.topic);
            let is_source = statements.values().any(|other| other.sources.contains(name));
            assert!(is_read || is_source, "nobody reads {name}");
        }
    }

    /// A key is read as it is written: one column's bytes, or several as JSON, and a window behind them.
    #[test]
    fn the_scripts_keys_are_those_that_the_feeds_read() {
        let statements = statements();
        for (file, feed) in feeds() {
            let made = statements.values().find(|it| it.topic == topic(&feed)).unwrap();
            let (key, shown) = (&feed["key"], file.display());
            let window = key["window"].as_str();
            assert_eq!(window == Some("time"), made.window_minutes.is_some(), "{shown}");
            if let Some(size) = key["window_size"].as_str() {
                assert_eq!((size, made.window_minutes), ("1h", Some(60)), "{shown}");
            }
            let Some(format) = key["format"].as_str() else { continue };
            let expected = if format == "json" { "JSON" } else { "KAFKA" };
            assert_eq!(made.key_format, expected, "{shown}");
            let column = |column: &Value| {
                let name = column["path"].as_str().or(column["name"].as_str());
                name.unwrap().to_uppercase()
            };
            let columns: Vec<String> = match format {
                "json" => key["columns"].as_array().unwrap().iter().map(column).collect(),
                // The name is the feed's own.
                _ => made.keys.clone(),
            };
            assert_eq!(columns, made.keys, "{shown}");
        }
    }

    /// The generator writes the same fields, so whoever has no ksqlDB has its topics.
    #[test]
    fn the_scripts_values_are_those_that_are_generated() {
        let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for record in Generator::new(7, 2000, 0.0).topics(&Topic::ALL) {
            let Some(value) = record.value else { continue };
            let value: Value = serde_json::from_slice(&value).unwrap();
            let names = value.as_object().unwrap().keys().cloned();
            found.entry(record.topic.name()).or_default().extend(names);
        }
        let statements = statements();
        for (topic, names) in found {
            let made = statements.values().find(|it| it.topic == topic);
            assert_eq!(made.unwrap_or_else(|| panic!("{topic}")).values, names, "{topic}");
        }
    }
}
