//! The streams and tables of the five systems that the demo does not show.

use std::collections::HashMap;

use super::expected::Total;
use super::json::{Object, push_number, push_padded};
use super::transaction::{CATEGORIES, CURRENCIES, METHODS, STATUSES, TYPES, Transaction};
use super::values::{push_user, total_value};
use super::{Generator, Topic};

const FIVE_MINUTES: u64 = 300_000;
const HOUR: u64 = 3_600_000;

/// The rows as they stand, by topic and the key's bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    by_key: HashMap<(Topic, Vec<u8>), Sums>,
    /// Of a windowed table the present window alone: event time never goes back here.
    windows: HashMap<Topic, u64>,
}

/// What a row counts: money in cents.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    cents: u64,
    count: u64,
    pieces: u64,
}

impl Rows {
    fn enter(&mut self, topic: Topic, window: u64) {
        if self.windows.insert(topic, window).is_some_and(|before| before != window) {
            self.by_key.retain(|(of, _), _| *of != topic);
        }
    }
}

/// How a table follows from one transaction: the row it changes, by how much, and the row's value.
struct Change {
    topic: Topic,
    key: Vec<u8>,
    cents: u64,
    value: fn(&Transaction, Sums) -> Vec<u8>,
}

impl Generator {
    pub(super) fn derive(&mut self, from: &Transaction) {
        if from.is_first() {
            self.reference();
        }
        self.stream(Topic::TransactionStream, from, Transaction::stream_value);
        self.stream(Topic::TransactionsSecure, from, Transaction::secure_value);
        self.stream(Topic::TransactionsUsd, from, Transaction::dollar_value);
        if from.city().blacklisted {
            self.stream(Topic::TransactionsBlacklisted, from, Transaction::secure_value);
        }
        self.stream(of_status(from), from, Transaction::secure_value);
        for change in changes(from) {
            if self.wants(change.topic) {
                self.grow(from, change);
            }
        }
    }

    fn grow(&mut self, from: &Transaction, change: Change) {
        let Change { topic, key, cents, value } = change;
        if let Some(size) = window(topic) {
            self.rows.enter(topic, from.window_start(size));
        }
        let place = (topic, key.clone());
        let mut sums = self.rows.by_key.get(&place).copied().unwrap_or_default();
        sums.cents += cents;
        sums.count += 1;
        sums.pieces += from.quantity;
        if self.upsert(topic, key, value(from, sums)) {
            self.rows.by_key.remove(&place);
        } else {
            self.rows.by_key.insert(place, sums);
        }
    }

    fn reference(&mut self) {
        if !self.wants(Topic::Currencies) {
            return;
        }
        for (currency, rate) in CURRENCIES {
            let value = object(|object| {
                object.raw("EUR_RATE", |out| {
                    push_number(out, rate / 100_000);
                    out.push(b'.');
                    push_padded(out, rate % 100_000, 5);
                });
            });
            self.refer(Topic::Currencies, currency.as_bytes().to_vec(), value);
        }
    }
}

fn of_status(from: &Transaction) -> Topic {
    match STATUSES[usize::from(from.status)] {
        "completed" => Topic::TransactionsCompleted,
        "pending" => Topic::TransactionsPending,
        "failed" => Topic::TransactionsFailed,
        _ => Topic::TransactionsProcessing,
    }
}

fn window(topic: Topic) -> Option<u64> {
    match topic {
        Topic::SpendLastFiveMinByType => Some(FIVE_MINUTES),
        Topic::WindowedTransactionTotals => Some(HOUR),
        _ => None,
    }
}

fn changes(from: &Transaction) -> [Change; 6] {
    let (kind, cents) = (TYPES[usize::from(from.kind)], from.cents);
    let dollars = from.dollar_cents();
    let by_user = || {
        object(|object| {
            object.text_with("USER_ID", |out| push_user(out, from.user));
            object.text("TRANSACTION_TYPE", kind);
        })
    };
    let by_hash = object(|object| {
        object.text_with("USER_ID_HASHED", |out| from.push_hash(out));
        object.text("TRANSACTION_TYPE", kind);
    });
    let mut product = b"PROD-".to_vec();
    push_number(&mut product, from.product);
    // The inner key's bytes, then the window's start, as ksqlDB writes a windowed table's key.
    let windowed = |size| [kind.as_bytes(), &from.window_start(size).to_be_bytes()].concat();
    let change = |topic, key, cents, value| Change { topic, key, cents, value };
    [
        change(Topic::UserTransactionSummaryEur, by_user(), from.euro_cents(), euro_value),
        change(Topic::ProductPurchaseCounts, product, cents, count_value),
        change(Topic::UserSpendingByType, by_hash, dollars, spent_value),
        change(Topic::SpendLastFiveMinByType, windowed(FIVE_MINUTES), dollars, spent_value),
        change(Topic::UserTransactionTotals, by_user(), cents, totals_value),
        change(Topic::WindowedTransactionTotals, windowed(HOUR), cents, totals_value),
    ]
}

fn totals_value(_: &Transaction, sums: Sums) -> Vec<u8> {
    total_value(Total { cents: sums.cents, count: sums.count })
}

fn euro_value(from: &Transaction, sums: Sums) -> Vec<u8> {
    object(|object| {
        object.text("USER_NAME", from.user_name());
        object.cents("TOTAL_AMOUNT_EUR", sums.cents);
        object.number("TRANSACTION_COUNT", sums.count);
    })
}

fn count_value(from: &Transaction, sums: Sums) -> Vec<u8> {
    object(|object| {
        object.text("PRODUCT_CATEGORY", CATEGORIES[usize::from(from.category)]);
        object.text("LAST_PAYMENT_METHOD", METHODS[usize::from(from.method)]);
        object.number("PURCHASE_COUNT", sums.count);
        object.number("TOTAL_QUANTITY", sums.pieces);
    })
}

fn spent_value(_: &Transaction, sums: Sums) -> Vec<u8> {
    object(|object| object.cents("TOTAL_SPENT", sums.cents))
}

fn object(fill: impl FnOnce(&mut Object<'_>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let mut object = Object::begin(&mut out);
    fill(&mut object);
    object.end();
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::Generated;
    use super::*;

    fn records(topics: &[Topic], messages: u64) -> Vec<Generated> {
        Generator::new(7, messages, 0.0).topics(topics).collect()
    }

    fn json(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    fn cents(value: &Value) -> u64 {
        (value.as_f64().unwrap() * 100.0).round() as u64
    }

    #[test]
    fn a_status_each() {
        let of = [
            Topic::TransactionsCompleted,
            Topic::TransactionsPending,
            Topic::TransactionsFailed,
            Topic::TransactionsProcessing,
        ];
        let records = records(&of, 1000);
        assert_eq!(records.len(), 1000);
        for record in records {
            let status = json(&record.value.unwrap())["STATUS"].as_str().unwrap().to_uppercase();
            assert_eq!(record.topic.name(), format!("TRANSACTIONS_{status}"));
        }
    }

    /// Each change of a table holds the sum of what went before, since the last tombstone.
    #[test]
    fn spending_adds_up() {
        let topics = [Topic::TransactionsUsd, Topic::UserSpendingByType];
        let mut sums: HashMap<Vec<u8>, u64> = HashMap::new();
        let (mut last, mut again, mut deletes) = (0, 0, 0);
        for record in records(&topics, 40_000) {
            let Some(value) = &record.value else {
                deletes += 1;
                assert!(sums.remove(record.key.as_ref().unwrap()).is_some());
                continue;
            };
            let value = json(value);
            if record.topic == Topic::TransactionsUsd {
                assert_eq!(value.as_object().unwrap().len(), 3);
                last = cents(&value["AMOUNT_USD"]);
                continue;
            }
            let sum = sums.entry(record.key.unwrap()).or_default();
            again += u64::from(*sum > 0);
            *sum += last;
            assert_eq!(cents(&value["TOTAL_SPENT"]), *sum);
        }
        assert!(again > 5000 && deletes > 500, "{again} {deletes}");
    }

    #[test]
    fn windows_begin_where_ksqldb_begins_them() {
        for (topic, size) in [
            (Topic::SpendLastFiveMinByType, 300_000),
            (Topic::WindowedTransactionTotals, 3_600_000),
        ] {
            let mut windows = Vec::new();
            for record in records(&[topic], 2000) {
                let key = record.key.unwrap();
                let (kind, start) = key.split_at(key.len() - 8);
                assert!(TYPES.iter().any(|of| of.as_bytes() == kind));
                windows.push(i64::from_be_bytes(start.try_into().unwrap()));
            }
            assert!(windows.is_sorted() && windows.iter().all(|start| start % size == 0));
            windows.dedup();
            assert!(windows.len() > 100, "{}", windows.len());
            // 2026-01-11 to 2026-01-15.
            assert_eq!(windows[0], 1_768_089_600_000);
            assert!(*windows.last().unwrap() < 1_768_521_600_000);
        }
    }

    #[test]
    fn reference_is_written_once() {
        let currencies = records(&[Topic::Currencies], 100);
        assert_eq!(currencies.len(), CURRENCIES.len());
        assert_eq!(currencies[1].key.as_deref(), Some(b"USD".as_slice()));
        assert_eq!(currencies[1].value.as_deref(), Some(br#"{"EUR_RATE":0.92345}"#.as_slice()));
    }
}
