//! A table's final rows against the log's final records, key by key. Pure.
//!
//! A key that stands in several partitions has no one order there: its row may be the final record of
//! any of them.

use std::collections::HashMap;

use super::account::EXAMPLES;
use super::spool::{BUCKETS, Entry, Spool, Values};

/// What the comparison comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Rows of the table.
    pub rows: u64,
    /// Keys the log ends with that have no row.
    pub missing: u64,
    /// Rows that are not what the log ends with.
    pub wrong: u64,
    /// Rows of keys the log deleted or never had.
    pub extra: u64,
    /// Rows whose record the log no longer holds.
    pub unchecked: u64,
    pub examples: Vec<(Fault, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Missing,
    Wrong,
    Extra,
}

/// The last record of a key in one partition.
struct Final {
    partition: i32,
    offset: i64,
    columns: Option<Values>,
}

/// Compares bucket by bucket. `expired` says of a row without a record whether the log may have
/// dropped that record. `names` are those of the columns, key columns first.
pub fn compare(
    log: &mut Spool,
    table: &mut Spool,
    names: &[String],
    expired: impl Fn(&Entry) -> bool,
) -> Result<Keys, String> {
    let mut keys = Keys::default();
    for bucket in 0..BUCKETS {
        let mut finals = finals(log.read(bucket)?)?;
        for row in table.read(bucket)? {
            let row = row?;
            keys.rows += 1;
            match finals.remove(&row.key) {
                Some(finals) => keys.row(&row, &finals, names),
                None if expired(&row) => keys.unchecked += 1,
                None => {
                    keys.extra += 1;
                    keys.example(Fault::Extra, || {
                        format!("{}: no such record", key(&row.key, names))
                    });
                }
            }
        }
        for (absent, finals) in finals {
            if finals.iter().all(|last| last.columns.is_some()) {
                keys.missing += 1;
                keys.example(Fault::Missing, || format!("{}{}", key(&absent, names), at(&finals)));
            }
        }
    }
    Ok(keys)
}

fn finals(
    records: impl Iterator<Item = Result<Entry, String>>,
) -> Result<HashMap<Values, Vec<Final>>, String> {
    let mut finals: HashMap<Values, Vec<Final>> = HashMap::new();
    for record in records {
        let Entry { key, partition, offset, columns } = record?;
        let (partition, offset) = (partition.unwrap_or_default(), offset.unwrap_or_default());
        let last = Final { partition, offset, columns };
        let known = finals.entry(key).or_default();
        match known.iter_mut().find(|known| known.partition == partition) {
            Some(known) if known.offset < offset => *known = last,
            Some(_) => {}
            None => known.push(last),
        }
    }
    Ok(finals)
}

impl Keys {
    pub fn differ(&self) -> bool {
        self.missing + self.wrong + self.extra > 0
    }

    fn row(&mut self, row: &Entry, finals: &[Final], names: &[String]) {
        let same = |last: &Final| {
            last.columns == row.columns
                && row.partition.is_none_or(|partition| partition == last.partition)
                && row.offset.is_none_or(|offset| offset == last.offset)
        };
        if finals.iter().any(same) {
            return;
        }
        match finals.iter().find(|last| last.columns.is_some()) {
            Some(last) => {
                self.wrong += 1;
                self.example(Fault::Wrong, || {
                    format!(
                        "{}{}: {}",
                        key(&row.key, names),
                        at(finals),
                        difference(row, last, names)
                    )
                });
            }
            None => {
                self.extra += 1;
                self.example(Fault::Extra, || {
                    format!("{}{}: was deleted", key(&row.key, names), at(finals))
                });
            }
        }
    }

    fn example(&mut self, fault: Fault, words: impl FnOnce() -> String) {
        if self.examples.iter().filter(|(known, _)| *known == fault).count() < EXAMPLES {
            self.examples.push((fault, words()));
        }
    }
}

fn key(values: &Values, names: &[String]) -> String {
    let parts = values.iter().zip(names);
    parts.map(|(value, name)| format!("{name}={}", word(value))).collect::<Vec<_>>().join(", ")
}

fn at(finals: &[Final]) -> String {
    match finals {
        [last] => format!(" (partition {}, offset {})", last.partition, last.offset),
        _ => String::new(),
    }
}

/// The first column that differs.
fn difference(row: &Entry, last: &Final, names: &[String]) -> String {
    let (Some(found), Some(wanted)) = (&row.columns, &last.columns) else { return String::new() };
    let names = names.iter().skip(row.key.len());
    let differing =
        found.iter().zip(wanted).zip(names).find(|((found, wanted), _)| found != wanted);
    match differing {
        Some(((found, wanted), name)) => {
            format!("{name} is {}, the record has {}", word(found), word(wanted))
        }
        None => format!(
            "the same values, of partition {}, offset {}",
            row.partition.unwrap_or_default(),
            row.offset.unwrap_or_default()
        ),
    }
}

fn word(value: &Option<String>) -> String {
    match value {
        None => "null".to_owned(),
        Some(text) => super::escape::shortened(text.as_bytes(), 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, partition: i32, offset: i64, value: Option<&str>) -> Entry {
        Entry {
            key: vec![Some(key.to_owned())],
            partition: Some(partition),
            offset: Some(offset),
            columns: value.map(|value| vec![Some(value.to_owned())]),
        }
    }

    fn compared(log: &[Entry], table: &[Entry], low: i64) -> Keys {
        let [mut records, mut rows] = [log, table].map(|entries| {
            let mut spool = Spool::new();
            entries.iter().for_each(|entry| spool.push(entry).unwrap());
            spool
        });
        let names = ["k".to_owned(), "v".to_owned()];
        let expired = |row: &Entry| row.offset.is_some_and(|offset| offset < low);
        compare(&mut records, &mut rows, &names, expired).unwrap()
    }

    #[test]
    fn the_last_record_of_a_key_counts() {
        let log = [
            entry("a", 0, 1, Some("old")),
            entry("a", 0, 3, Some("new")),
            entry("b", 0, 2, Some("x")),
            entry("b", 0, 4, None),
            entry("c", 0, 5, None),
            entry("c", 0, 6, Some("again")),
        ];
        let keys =
            compared(&log, &[entry("a", 0, 3, Some("new")), entry("c", 0, 6, Some("again"))], 0);
        assert_eq!(keys, Keys { rows: 2, ..Keys::default() });
    }

    #[test]
    fn finds_each_fault_and_names_it() {
        let log = [
            entry("missing", 0, 1, Some("x")),
            entry("wrong", 0, 2, Some("x")),
            entry("stale", 0, 3, Some("x")),
            entry("deleted", 0, 4, None),
        ];
        let table = [
            entry("wrong", 0, 2, Some("y")),
            entry("stale", 0, 1, Some("x")),
            entry("deleted", 0, 1, Some("x")),
            entry("invented", 0, 9, Some("x")),
        ];
        let keys = compared(&log, &table, 0);
        assert_eq!((keys.missing, keys.wrong, keys.extra), (1, 2, 2));
        let words: Vec<&str> = keys.examples.iter().map(|(_, words)| words.as_str()).collect();
        for expected in [
            "k=missing (partition 0, offset 1)",
            "k=wrong (partition 0, offset 2): v is y, the record has x",
            "k=stale (partition 0, offset 3): the same values, of partition 0, offset 1",
            "k=deleted (partition 0, offset 4): was deleted",
            "k=invented: no such record",
        ] {
            assert!(words.contains(&expected), "{expected} in {words:?}");
        }
    }

    #[test]
    fn a_row_whose_record_is_gone_is_unchecked() {
        let table = [entry("a", 0, 3, Some("x")), entry("b", 0, 7, Some("x"))];
        let keys = compared(&[entry("b", 0, 7, Some("x"))], &table, 5);
        assert_eq!(keys, Keys { rows: 2, unchecked: 1, ..Keys::default() });
    }

    #[test]
    fn a_key_in_two_partitions_may_end_as_either() {
        let log =
            [entry("a", 0, 9, Some("x")), entry("a", 1, 2, None), entry("b", 1, 1, Some("y"))];
        let b = entry("b", 1, 1, Some("y"));
        assert!(!compared(&log, &[entry("a", 0, 9, Some("x")), b.clone()], 0).differ());
        assert!(!compared(&log, std::slice::from_ref(&b), 0).differ());
        assert!(compared(&log, &[entry("a", 0, 8, Some("x")), b], 0).differ());
    }

    #[test]
    fn a_key_twice_is_one_too_many() {
        let rows = [entry("a", 0, 1, Some("x")), entry("a", 0, 1, Some("x"))];
        assert_eq!(compared(&rows[..1], &rows, 0).extra, 1);
    }
}
