//! Checks of values that are read already: column by column, over a whole batch.

use std::cmp::Ordering;
use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, DynComparator, make_comparator};
use arrow::compute::SortOptions;
use regex::Regex;

use super::column::Slot;
use super::fault::excerpt;
use super::json::Cursor;
use crate::config::{Bound, CheckAction, Column, ValueCheck};
use crate::record::Batch;

/// The checks of one feed's columns.
pub(super) struct Checks(Vec<Check>);

struct Check {
    column: usize,
    place: String,
    action: CheckAction,
    min: Option<ArrayRef>,
    max: Option<ArrayRef>,
    set: Option<ArrayRef>,
    pattern: Option<Regex>,
    /// What there may be, for people.
    allowed: String,
}

/// Records that were taken although a check says they should not be what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warned {
    pub records: usize,
    /// What the first of them holds.
    pub first: String,
    pub offset: i64,
}

impl Checks {
    pub fn new(columns: &[Column]) -> Self {
        let checks = columns.iter().enumerate().filter_map(|(index, column)| {
            column.check.as_ref().map(|check| Check::new(index, column, check))
        });
        Self(checks.collect())
    }

    /// The records that must not be rows, by their offsets, with why; and those that were let through.
    pub fn failed(&self, batch: &Batch) -> (HashMap<i64, String>, Vec<Warned>) {
        let (mut failed, mut warned) = (HashMap::new(), Vec::new());
        for check in &self.0 {
            let column = batch.rows.column(check.column);
            let mut through: Option<Warned> = None;
            let test = check.test(column);
            for row in (0..column.len()).filter(|row| !column.is_null(*row) && !test(*row)) {
                let offset = batch.offsets.value(row);
                match (check.action, &mut through) {
                    (CheckAction::Quarantine, _) => {
                        failed.entry(offset).or_insert_with(|| check.reason(column, row));
                    }
                    (CheckAction::Warn, Some(through)) => through.records += 1,
                    (CheckAction::Warn, None) => {
                        let first = check.reason(column, row);
                        through = Some(Warned { records: 1, first, offset });
                    }
                }
            }
            warned.extend(through);
        }
        (failed, warned)
    }
}

impl Check {
    fn new(index: usize, column: &Column, check: &ValueCheck) -> Self {
        let one = |bound: &Option<Bound>| bound.as_ref().map(|bound| values(column, &[bound]));
        let mut allowed = Vec::new();
        for (name, bound) in [("at least", &check.min), ("at most", &check.max)] {
            allowed.extend(bound.as_ref().map(|bound| format!("{name} {}", bound.json())));
        }
        if !check.set.is_empty() {
            let set: Vec<String> = check.set.iter().map(Bound::json).collect();
            allowed.push(format!("one of {}", set.join(", ")));
        }
        let pattern = check.pattern.as_ref().map(|pattern| {
            allowed.push(format!("a match of {pattern}"));
            Regex::new(&format!("^(?:{pattern})$")).expect("the configuration was checked")
        });
        let set: Vec<&Bound> = check.set.iter().collect();
        Self {
            column: index,
            place: column.path().to_owned(),
            action: check.action,
            min: one(&check.min),
            max: one(&check.max),
            set: (!set.is_empty()).then(|| values(column, &set)),
            pattern,
            allowed: allowed.join(", "),
        }
    }

    /// Whether a row's value, which is not null, is as it must be.
    fn test<'a>(&'a self, column: &'a ArrayRef) -> impl Fn(usize) -> bool + 'a {
        let against = |bounds: &Option<ArrayRef>| -> Option<(DynComparator, usize)> {
            let bounds = bounds.as_ref()?;
            let compare = make_comparator(column, bounds, SortOptions::default());
            Some((compare.expect("bounds are of their column's type"), bounds.len()))
        };
        let (min, max, set) = (against(&self.min), against(&self.max), against(&self.set));
        let text = self.pattern.as_ref().map(|pattern| (pattern, column.as_string::<i32>()));
        move |row| {
            min.as_ref().is_none_or(|(compare, _)| compare(row, 0) != Ordering::Less)
                && max.as_ref().is_none_or(|(compare, _)| compare(row, 0) != Ordering::Greater)
                && set.as_ref().is_none_or(|(compare, count)| {
                    (0..*count).any(|at| compare(row, at) == Ordering::Equal)
                })
                && text.is_none_or(|(pattern, text)| pattern.is_match(text.value(row)))
        }
    }

    #[cold]
    fn reason(&self, column: &ArrayRef, row: usize) -> String {
        let found = arrow::util::display::array_value_to_string(column, row).unwrap_or_default();
        format!("{}: found {}, expected {}", self.place, excerpt(&found), self.allowed)
    }
}

/// Bounds as a column of their own, read as a message's values are.
fn values(column: &Column, bounds: &[&Bound]) -> ArrayRef {
    let mut slot = Slot::new(column, false, false);
    let mut scratch = String::new();
    for bound in bounds {
        let text = bound.json();
        let read = slot.read(&mut Cursor::new(&text), &mut scratch);
        read.expect("the configuration was checked");
    }
    slot.finish()
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use crate::config::{Column, Schema};
    use crate::record::{Batch, RawBatch, RejectClass, TopicPartition};

    fn column(text: &str) -> Column {
        serde_json::from_str(text).unwrap()
    }

    fn decoded(columns: &[&str], values: &[&str]) -> (Batch, Vec<super::Warned>) {
        let columns = columns.iter().map(|text| column(text)).collect();
        let mut decoder = Decoder::new(&Schema::json(columns, 0), false, true, true);
        let mut raw = RawBatch::new(TopicPartition::new("t", 0), 10);
        for (offset, value) in (10..).zip(values) {
            raw.push(offset, 0, Some(b"k"), Some(value.as_bytes()), []);
        }
        (decoder.decode(&raw, 10), decoder.take_warned())
    }

    #[test]
    fn what_fails_is_a_reject_in_its_place() {
        let columns = [
            r#"{"name": "n", "type": "decimal(5,2)", "check": {"min": 0, "max": "99.50"}}"#,
            r#"{"name": "s", "type": "string", "check": {"set": ["a", "b"]}}"#,
            r#"{"name": "d", "type": "date", "check": {"min": "2026-01-01"}}"#,
            r#"{"name": "t", "path": "T", "type": "string", "check": {"pattern": "TXN-[0-9]+"}}"#,
            r#"{"name": "x", "type": "double", "check": {"max": 1.5}}"#,
        ];
        let (batch, warned) = decoded(
            &columns,
            &[
                r#"{"n": 99.5, "s": "a", "d": "2026-01-01", "T": "TXN-1", "x": 1.5}"#,
                r#"{"n": 99.51}"#,
                "no JSON",
                r#"{"s": "c"}"#,
                r#"{"n": null, "s": "b"}"#,
                r#"{"d": "2025-12-31"}"#,
                r#"{"T": "xTXN-1"}"#,
                r#"{"x": 2, "n": -1}"#,
            ],
        );
        assert_eq!(batch.offsets.values(), &[10, 14]);
        assert_eq!(batch.num_rows(), 2);
        assert_eq!(batch.keys.as_ref().map(arrow::array::Array::len), Some(2));
        let rejects: Vec<(i64, RejectClass, &str)> = batch
            .rejects
            .iter()
            .map(|reject| (reject.offset, reject.class, reject.reason.as_str()))
            .collect();
        let check = RejectClass::CheckFailed;
        assert_eq!(
            rejects[0],
            (11, check, "n: found 99.51, expected at least 0, at most \"99.50\"")
        );
        assert_eq!(rejects[1].1, RejectClass::Malformed);
        assert_eq!(rejects[2], (13, check, "s: found c, expected one of \"a\", \"b\""));
        assert_eq!(
            rejects[3],
            (15, check, "d: found 2025-12-31, expected at least \"2026-01-01\"")
        );
        assert_eq!(rejects[4], (16, check, "T: found xTXN-1, expected a match of TXN-[0-9]+"));
        assert_eq!((rejects[5].0, rejects.len()), (17, 6));
        assert_eq!(warned, []);
    }

    #[test]
    fn a_warning_lets_the_record_through() {
        let (batch, warned) = decoded(
            &[r#"{"name": "n", "type": "long", "check": {"max": 5, "action": "warn"}}"#],
            &[r#"{"n": 5}"#, r#"{"n": 6}"#, r#"{"n": 7}"#],
        );
        assert_eq!((batch.num_rows(), batch.rejects.len()), (3, 0));
        assert_eq!((warned[0].records, warned[0].offset), (2, 11));
        assert_eq!(warned[0].first, "n: found 6, expected at most 5");
    }
}
