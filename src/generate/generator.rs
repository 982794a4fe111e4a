use std::collections::VecDeque;

use chrono::NaiveDate;

use super::derived::Rows;
use super::expected::{Expected, Total, summary_slot};
use super::random::{Random, mix};
use super::transaction::{Transaction, Transactions};
use super::values::{table_key, total_value};
use super::{Generated, Topic, bad};

/// One in so many changes is followed by a tombstone; the key's total then begins anew.
const DELETE_ONE_IN: u64 = 50;

/// Gives out the records in the order in which they are to be published: each transaction, then
/// what is derived from it.
#[derive(Debug, Clone)]
pub struct Generator {
    transactions: Transactions,
    /// Transactions still to be made; none where there is no end.
    left: Option<u64>,
    bad: f64,
    wanted: [bool; Topic::ALL.len()],
    /// Each purpose draws from numbers of its own: so a transaction is the same whatever the
    /// share of bad records, and a topic's records whichever other topics are wanted.
    random: Random,
    spoiled: Random,
    changes: [Random; Topic::ALL.len()],
    ready: VecDeque<Generated>,
    /// Of the tables that the demo does not have.
    pub(super) rows: Rows,
    expected: Expected,
}

impl Generator {
    /// `messages` counts the records of `transaction_log`. `bad` is the share, 0 to 1, of them
    /// that are bad, from which nothing is derived; in a table's topic such a share comes on top.
    pub fn new(seed: u64, messages: u64, bad: f64) -> Self {
        let numbers = |purpose: u64| Random::new(mix(seed ^ mix(purpose)));
        Self {
            transactions: Transactions::new(seed, messages),
            left: Some(messages),
            bad,
            wanted: Topic::ALL.map(|topic| Topic::DEMO.contains(&topic)),
            random: numbers(1),
            spoiled: numbers(2),
            changes: std::array::from_fn(|topic| numbers(16 + topic as u64)),
            ready: VecDeque::new(),
            rows: Rows::default(),
            expected: Expected::new(),
        }
    }

    /// Event times in the five days before this one, instead of always the same five.
    pub fn until(mut self, end: NaiveDate) -> Self {
        self.transactions = self.transactions.until(end);
        self
    }

    /// Only these topics, instead of the demo's.
    pub fn topics(mut self, topics: &[Topic]) -> Self {
        self.wanted = Topic::ALL.map(|topic| topics.contains(&topic));
        self
    }

    /// Goes on after the last message, at the same pace of event time.
    pub fn endless(mut self) -> Self {
        self.left = None;
        self
    }

    /// What the records come to. Counts whole transactions: of the last one some records may still
    /// have to be taken.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    pub(super) fn wants(&self, topic: Topic) -> bool {
        self.wanted[topic as usize]
    }

    fn give(&mut self, record: Generated, cents: u64) {
        self.expected.record(&record, cents);
        self.ready.push_back(record);
    }

    /// Makes the next transaction's records; false at the end.
    fn advance(&mut self) -> bool {
        match &mut self.left {
            Some(0) => return false,
            Some(left) => *left -= 1,
            None => {}
        }
        let transaction = self.transactions.draw(&mut self.random);
        if self.spoiled.happens(self.bad) {
            let record = bad::transaction(&mut self.spoiled, &transaction);
            if self.wants(Topic::TransactionLog) {
                self.give(record, 0);
            }
            return true;
        }
        self.stream(Topic::TransactionLog, &transaction, Transaction::log_value);
        self.stream(Topic::TransactionFlattened, &transaction, Transaction::flattened_value);
        self.stream(
            Topic::TransactionStreamAnonymized,
            &transaction,
            Transaction::anonymized_value,
        );
        if transaction.city().blacklisted {
            let topic = Topic::TransactionStreamBlacklisted;
            self.stream(topic, &transaction, Transaction::blacklisted_value);
        }
        let slot = summary_slot(transaction.user, transaction.kind);
        self.change(Topic::UserTransactionSummary, slot, transaction.cents);
        self.change(Topic::PaymentMethodTotals, usize::from(transaction.method), transaction.cents);
        if Topic::ALL[Topic::DEMO.len()..].iter().any(|topic| self.wants(*topic)) {
            self.derive(&transaction);
        }
        true
    }

    pub(super) fn stream(
        &mut self,
        topic: Topic,
        from: &Transaction,
        value: fn(&Transaction) -> Vec<u8>,
    ) {
        if self.wants(topic) {
            let (key, value) = (Some(from.id_text()), Some(value(from)));
            self.give(Generated { topic, key, value, bad: None }, from.cents);
        }
    }

    /// A table's row grows by one transaction; now and then it is deleted afterwards.
    fn change(&mut self, topic: Topic, slot: usize, cents: u64) {
        if !self.wants(topic) {
            return;
        }
        let before = self.expected.total(topic, slot).unwrap_or_default();
        let total = Total { cents: before.cents + cents, count: before.count + 1 };
        *self.expected.total(topic, slot) = Some(total);
        if self.upsert(topic, table_key(topic, slot), total_value(total)) {
            *self.expected.total(topic, slot) = None;
        }
    }

    /// A table's row as it is now. Answers whether it is deleted thereafter.
    pub(super) fn upsert(&mut self, topic: Topic, key: Vec<u8>, value: Vec<u8>) -> bool {
        if self.changes[topic as usize].happens(self.bad) {
            let record = bad::change(&mut self.changes[topic as usize], topic, &key, &value);
            self.give(record, 0);
        }
        let delete = self.changes[topic as usize].one_in(DELETE_ONE_IN);
        let gone = delete.then(|| key.clone());
        self.give(Generated { topic, key: Some(key), value: Some(value), bad: None }, 0);
        if gone.is_some() {
            self.give(Generated { topic, key: gone, value: None, bad: None }, 0);
        }
        delete
    }

    /// A table's row that is written once.
    pub(super) fn refer(&mut self, topic: Topic, key: Vec<u8>, value: Vec<u8>) {
        self.give(Generated { topic, key: Some(key), value: Some(value), bad: None }, 0);
    }
}

impl Iterator for Generator {
    type Item = Generated;

    fn next(&mut self) -> Option<Generated> {
        while self.ready.is_empty() && self.advance() {}
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use serde_json::Value;

    use super::*;

    /// FNV-1a over every byte of every record.
    fn fingerprint(records: impl Iterator<Item = Generated>) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for record in records {
            add(record.topic.name().as_bytes());
            for part in [&record.key, &record.value] {
                add(part.as_deref().unwrap_or(b"null"));
                add(b"\0");
            }
        }
        hash
    }

    fn json(bytes: &Option<Vec<u8>>) -> Value {
        serde_json::from_slice(bytes.as_deref().unwrap()).unwrap()
    }

    fn cents(value: &Value) -> u64 {
        (value.as_f64().unwrap() * 100.0).round() as u64
    }

    fn good(topic: Topic, messages: u64) -> Vec<Generated> {
        Generator::new(7, messages, 0.0).topics(&[topic]).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        // Whoever changes the records changes this number with them, and knows it.
        assert_eq!(fingerprint(Generator::new(42, 10_000, 0.01)), 17_899_262_114_212_216_965);
        assert_ne!(
            fingerprint(Generator::new(43, 1000, 0.0)),
            fingerprint(Generator::new(42, 1000, 0.0))
        );
    }

    #[test]
    fn a_topic_is_the_same_whichever_others_are_wanted() {
        let all: Vec<Generated> = Generator::new(5, 3000, 0.1).topics(&Topic::ALL).collect();
        for topic in Topic::ALL {
            let alone: Vec<Generated> = Generator::new(5, 3000, 0.1).topics(&[topic]).collect();
            let among: Vec<Generated> =
                all.iter().filter(|record| record.topic == topic).cloned().collect();
            assert!(!alone.is_empty());
            assert!(alone == among, "{}", topic.name());
        }
    }

    #[test]
    fn a_transaction_has_the_fields_of_the_write_up() {
        let records = good(Topic::TransactionLog, 2000);
        let mut ids = HashSet::new();
        let mut days = HashSet::new();
        let mut last = String::new();
        let bytes: usize = records.iter().map(|record| record.value.as_ref().unwrap().len()).sum();
        assert!((540..600).contains(&(bytes / records.len())), "{}", bytes / records.len());
        for record in &records {
            let value = json(&record.value);
            assert_eq!(value.as_object().unwrap().len(), 18);
            let id = value["TRANSACTION_ID"].as_str().unwrap();
            assert_eq!(record.key.as_deref(), Some(id.as_bytes()));
            assert!(ids.insert(id.to_owned()));
            let time = value["TIMESTAMP"].as_str().unwrap().to_owned();
            assert!(last < time, "{last} before {time}");
            chrono::DateTime::parse_from_rfc3339(&time).unwrap();
            days.insert(time[..10].to_owned());
            last = time;
            assert!(value["SHIPPING_ADDRESS"]["ZIP"].is_string());
            assert!(value["DEVICE_INFO"]["IP_ADDRESS"].is_string());
            assert!(value["QUANTITY"].is_u64());
        }
        let mut days: Vec<_> = days.into_iter().collect();
        days.sort();
        assert_eq!(days.len(), 5);
        let end = NaiveDate::from_ymd_opt(2031, 3, 2).unwrap();
        let recent = Generator::new(7, 100, 0.0).topics(&[Topic::TransactionLog]).until(end);
        let times: Vec<String> = recent
            .map(|record| json(&record.value)["TIMESTAMP"].as_str().unwrap().to_owned())
            .collect();
        assert!(times[0].starts_with("2031-02-25T") && times[99].starts_with("2031-03-01T"));
        assert_eq!((days[0].as_str(), days[4].as_str()), ("2026-01-11", "2026-01-15"));
    }

    #[test]
    fn streams_are_derived_from_the_log() {
        let log = good(Topic::TransactionLog, 500);
        let flat = good(Topic::TransactionFlattened, 500);
        let anonymous = good(Topic::TransactionStreamAnonymized, 500);
        let blacklisted = good(Topic::TransactionStreamBlacklisted, 500);
        assert_eq!((log.len(), flat.len(), anonymous.len()), (500, 500, 500));
        assert!((50..150).contains(&blacklisted.len()), "{}", blacklisted.len());
        let mut hashes = BTreeMap::new();
        for ((log, flat), anonymous) in log.iter().zip(&flat).zip(&anonymous) {
            assert_eq!((&log.key, &log.key), (&flat.key, &anonymous.key));
            let (log, flat, anonymous) =
                (json(&log.value), json(&flat.value), json(&anonymous.value));
            assert_eq!(flat.as_object().unwrap().len(), 23);
            assert_eq!(flat["SHIPPING_CITY"], log["SHIPPING_ADDRESS"]["CITY"]);
            assert_eq!(flat["DEVICE_IP_ADDRESS"], log["DEVICE_INFO"]["IP_ADDRESS"]);
            assert_eq!(anonymous["AMOUNT"], log["AMOUNT"]);
            if log["CURRENCY"] == "EUR" {
                assert_eq!(anonymous["AMOUNT_EUR"], log["AMOUNT"]);
            }
            let text = anonymous.to_string();
            let user = log["USER_ID"].as_str().unwrap();
            assert!(!text.contains(log["DEVICE_INFO"]["IP_ADDRESS"].as_str().unwrap()));
            assert!(!text.contains(&format!("\"{user}\"")) && !text.contains("USER_NAME"));
            let hash = anonymous["USER_ID_HASHED"].as_str().unwrap();
            assert_eq!(hash.len(), 64);
            assert_eq!(hashes.entry(user.to_owned()).or_insert(hash.to_owned()), hash);
        }
    }

    /// The tables folded from the bytes alone, as a warehouse would.
    #[test]
    fn tables_end_as_expected() {
        let mut generator = Generator::new(11, 30_000, 0.02);
        let mut folded: BTreeMap<(Topic, Vec<String>), Total> = BTreeMap::new();
        let mut deletes = 0;
        for record in generator.by_ref().filter(|r| r.topic.is_table() && r.bad.is_none()) {
            let key = match record.topic {
                Topic::PaymentMethodTotals => {
                    vec![String::from_utf8(record.key.clone().unwrap()).unwrap()]
                }
                _ => {
                    let key = json(&record.key);
                    let text = |name: &str| key[name].as_str().unwrap().to_owned();
                    vec![text("USER_ID"), text("TRANSACTION_TYPE")]
                }
            };
            if record.is_tombstone() {
                deletes += 1;
                assert!(folded.remove(&(record.topic, key)).is_some());
                continue;
            }
            let value = json(&record.value);
            let count = value["TRANSACTION_COUNT"].as_u64().unwrap();
            let total = Total { cents: cents(&value["TOTAL_AMOUNT"]), count };
            folded.insert((record.topic, key), total);
        }
        let expected = generator.expected();
        for topic in [Topic::UserTransactionSummary, Topic::PaymentMethodTotals] {
            let rows: Vec<_> = folded
                .iter()
                .filter(|((of, _), _)| *of == topic)
                .map(|((_, key), total)| (key.clone(), *total))
                .collect();
            assert_eq!(rows, expected.table(topic), "{}", topic.name());
        }
        let tables = [Topic::UserTransactionSummary, Topic::PaymentMethodTotals];
        assert_eq!(deletes, tables.map(|topic| expected.counts(topic).deletes).iter().sum::<u64>());
        assert!(deletes > 500);
    }

    #[test]
    fn counts_what_it_gives() {
        let mut generator = Generator::new(3, 5000, 0.05);
        let mut seen: BTreeMap<Topic, (u64, u64, u64)> = BTreeMap::new();
        for record in generator.by_ref() {
            let of = seen.entry(record.topic).or_default();
            of.0 += 1;
            of.1 += u64::from(record.bad.is_some());
            if !record.topic.is_table() && record.bad.is_none() {
                of.2 += cents(&json(&record.value)["AMOUNT"]);
            }
        }
        for topic in Topic::DEMO {
            let counts = generator.expected().counts(topic);
            assert_eq!((counts.records, counts.bad, counts.cents), seen[&topic]);
        }
        let log = generator.expected().counts(Topic::TransactionLog);
        assert_eq!(log.records, 5000);
        assert!((200..300).contains(&log.bad), "{}", log.bad);
        assert_eq!(Expected::of(Generator::new(3, 5000, 0.05)), *generator.expected());
    }

    #[test]
    fn a_share_of_bad_records_changes_no_other_transaction() {
        let clean: HashSet<Vec<u8>> =
            good(Topic::TransactionLog, 1000).into_iter().filter_map(|r| r.value).collect();
        let mixed = Generator::new(7, 1000, 0.3).topics(&[Topic::TransactionLog]);
        let (bad, rest): (Vec<_>, Vec<_>) = mixed.partition(|record| record.bad.is_some());
        assert_eq!(bad.len() + rest.len(), 1000);
        assert!(rest.iter().all(|record| clean.contains(record.value.as_ref().unwrap())));
        let classes: HashSet<_> = bad.iter().filter_map(|record| record.bad).collect();
        assert_eq!(classes.len(), 5);
    }

    #[test]
    fn endless_goes_on_where_the_messages_end() {
        let some: Vec<_> = Generator::new(1, 10, 0.0).topics(&[Topic::TransactionLog]).collect();
        let more: Vec<_> = Generator::new(1, 10, 0.0)
            .topics(&[Topic::TransactionLog])
            .endless()
            .take(30)
            .collect();
        assert_eq!(some, more[..10]);
    }
}
