//! What a sink holds of a topic, or should hold: in numbers that can be compared.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::generate::{Topic, Total};

/// One sink, topic by topic, in the order of [`Topic::DEMO`].
pub type ByTopic = [Holdings; Topic::DEMO.len()];

/// The rows of one topic in one place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    pub rows: u64,
    /// Of the rows, those that stand alone: by partition and offset, and in streams by transaction id
    /// too, whichever is fewer.
    pub distinct: u64,
    /// Streams: an imprint of the set of transaction ids.
    pub ids: u64,
    /// Streams: the sum of AMOUNT.
    pub cents: i128,
    /// Tables in the lake: rows that delete.
    pub deletes: u64,
    /// Tables: the row each key ends with.
    pub keys: BTreeMap<Vec<String>, Total>,
    /// Quarantined records by class.
    pub quarantined: BTreeMap<String, u64>,
}

impl Holdings {
    pub fn quarantined(&self) -> u64 {
        self.quarantined.values().sum()
    }
}

/// Adds up rows as they are read, in any order.
#[derive(Default)]
pub struct Adding {
    holdings: Holdings,
    places: HashSet<(i32, i64)>,
    ids: HashSet<u64>,
    changes: HashMap<Vec<String>, (i64, Option<Total>)>,
}

impl Adding {
    /// A row of a stream.
    pub fn transaction(&mut self, partition: i32, offset: i64, id: &str, cents: i128) {
        self.row(partition, offset);
        self.holdings.cents += cents;
        let id = imprint(id.as_bytes());
        if self.ids.insert(id) {
            self.holdings.ids = self.holdings.ids.wrapping_add(id);
        }
    }

    /// A row of a table's changelog; no total where it deletes. A key's changes are all in one
    /// partition, so the highest offset is the last.
    pub fn change(&mut self, partition: i32, offset: i64, key: Vec<String>, total: Option<Total>) {
        self.row(partition, offset);
        self.holdings.deletes += u64::from(total.is_none());
        let last = self.changes.entry(key).or_insert((-1, None));
        if offset >= last.0 {
            *last = (offset, total);
        }
    }

    fn row(&mut self, partition: i32, offset: i64) {
        self.holdings.rows += 1;
        self.places.insert((partition, offset));
    }

    pub fn finish(self, quarantined: BTreeMap<String, u64>) -> Holdings {
        let mut holdings = self.holdings;
        holdings.distinct = self.places.len() as u64;
        if !self.ids.is_empty() {
            holdings.distinct = holdings.distinct.min(self.ids.len() as u64);
        }
        let ends = self.changes.into_iter().filter_map(|(key, (_, total))| Some((key, total?)));
        holdings.keys = ends.collect();
        holdings.quarantined = quarantined;
        holdings
    }
}

/// A number that stands for the bytes; summed up, for a set of them.
pub fn imprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The key columns of a table's topic.
pub fn key_columns(topic: Topic) -> &'static [&'static str] {
    match topic {
        Topic::UserTransactionSummary => &["user_id", "transaction_type"],
        Topic::PaymentMethodTotals => &["payment_method"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_distinct_by_place_and_by_id() {
        let mut adding = Adding::default();
        adding.transaction(0, 0, "a", 5);
        adding.transaction(1, 0, "b", 5);
        adding.transaction(1, 0, "b", 5);
        adding.transaction(1, 1, "b", 5);
        let holdings = adding.finish(BTreeMap::new());
        assert_eq!((holdings.rows, holdings.distinct, holdings.cents), (4, 2, 20));
        assert_eq!(holdings.ids, imprint(b"a").wrapping_add(imprint(b"b")));
    }

    #[test]
    fn the_last_change_of_a_key_counts() {
        let mut adding = Adding::default();
        let key = |name: &str| vec![name.to_owned()];
        let total = |count| Some(Total { cents: 1, count });
        adding.change(0, 7, key("a"), total(2));
        adding.change(0, 3, key("a"), total(1));
        adding.change(0, 5, key("b"), None);
        adding.change(0, 4, key("b"), total(1));
        let holdings = adding.finish(BTreeMap::new());
        assert_eq!((holdings.rows, holdings.distinct, holdings.deletes), (4, 4, 1));
        assert_eq!(holdings.keys, BTreeMap::from([(key("a"), Total { cents: 1, count: 2 })]));
    }
}
