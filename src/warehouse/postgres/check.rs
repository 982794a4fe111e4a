//! What PostgreSQL is known to refuse, found before it is sent: a whole column at a glance, so that COPY
//! itself hardly ever fails.

use arrow::array::{AsArray, Date32Array, StringArray, TimestampMicrosecondArray};

use super::copy::{END_DATE, END_TIMESTAMP, EPOCH_DAYS, EPOCH_MICROS, MIN_DATE, MIN_TIMESTAMP};
use crate::config::{ColumnType, Schema};
use crate::record::{Batch, RejectClass};
use crate::warehouse::intake::Refusal;

/// The longest string within a jsonb document.
const MAX_JSONB_STRING: usize = 0x0fff_ffff;

/// Finds the rows that PostgreSQL would refuse for a value it cannot hold.
pub(super) fn check(schema: &Schema, batch: &Batch) -> Vec<(usize, Refusal)> {
    let mut refused = Vec::new();
    for (column, array) in schema.columns.iter().zip(batch.rows.columns()) {
        let mut refuse = |row: usize, reason: &str| {
            let reason = format!("{}: {reason}", column.name);
            refused.push((row, Refusal { class: RejectClass::OutOfRange, reason }));
        };
        match column.kind {
            ColumnType::String => check_text(array.as_string(), &mut refuse),
            ColumnType::Json => check_json(array.as_string(), &mut refuse),
            ColumnType::Timestamp => check_timestamps(array.as_primitive(), &mut refuse),
            ColumnType::Date => check_dates(array.as_primitive(), &mut refuse),
            _ => {}
        }
    }
    refused
}

/// The text of all rows in one piece: looked through once, it nearly always clears the column.
fn all_text(array: &StringArray) -> &[u8] {
    let offsets = array.value_offsets();
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return &[] };
    &array.value_data()[*first as usize..*last as usize]
}

fn check_text(array: &StringArray, refuse: &mut impl FnMut(usize, &str)) {
    if !all_text(array).contains(&0) {
        return;
    }
    for (row, text) in array.iter().enumerate() {
        if text.is_some_and(|text| text.as_bytes().contains(&0)) {
            refuse(row, "PostgreSQL's text holds no NUL character");
        }
    }
}

fn check_json(array: &StringArray, refuse: &mut impl FnMut(usize, &str)) {
    let all = all_text(array);
    let escaped = |bytes: &[u8]| bytes.windows(5).any(|five| five == b"u0000");
    let suspect = all.contains(&0) || escaped(all) || all.len() > MAX_JSONB_STRING;
    if !suspect {
        return;
    }
    for (row, text) in array.iter().enumerate() {
        let Some(text) = text else { continue };
        if text.len() > MAX_JSONB_STRING {
            refuse(row, "the document is too long for jsonb");
        } else if text.as_bytes().contains(&0) || nul_escapes(text).next().is_some() {
            refuse(row, "jsonb holds no NUL character (\\u0000)");
        }
    }
}

/// Where `u0000` stands as an escape: after a backslash that no other one escapes.
fn nul_escapes(text: &str) -> impl Iterator<Item = usize> {
    text.match_indices("u0000").map(|(at, _)| at).filter(|at| {
        let before = &text.as_bytes()[..*at];
        before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
    })
}

/// JSON that `jsonb` holds, with U+FFFD for each NUL.
pub(super) fn without_nul(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut done = 0;
    for at in nul_escapes(json) {
        out.push_str(&json[done..at]);
        out.push_str("ufffd");
        done = at + "u0000".len();
    }
    out.push_str(&json[done..]);
    out
}

fn check_timestamps(array: &TimestampMicrosecondArray, refuse: &mut impl FnMut(usize, &str)) {
    // The last ones it holds are beyond what 64 bits count from 1970.
    const { assert!(END_TIMESTAMP.checked_add(EPOCH_MICROS).is_none()) };
    let held = (MIN_TIMESTAMP + EPOCH_MICROS)..=i64::MAX;
    if array.values().iter().all(|micros| held.contains(micros)) {
        return;
    }
    for (row, micros) in array.iter().enumerate() {
        if micros.is_some_and(|micros| !held.contains(&micros)) {
            refuse(row, "before the first timestamp that PostgreSQL holds");
        }
    }
}

fn check_dates(array: &Date32Array, refuse: &mut impl FnMut(usize, &str)) {
    let held = (MIN_DATE + EPOCH_DAYS)..(END_DATE + EPOCH_DAYS);
    if array.values().iter().all(|days| held.contains(days)) {
        return;
    }
    for (row, days) in array.iter().enumerate() {
        if days.is_some_and(|days| !held.contains(&days)) {
            refuse(row, "beyond the dates that PostgreSQL holds");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_an_escape_from_what_looks_like_one() {
        for (text, without) in [
            (r"\u0000", r"\ufffd"),
            (r"\\u0000", r"\\u0000"),
            (r"\\\u0000 u0000 \u0000", r"\\\ufffd u0000 \ufffd"),
            ("", ""),
        ] {
            assert_eq!(without_nul(text), without);
        }
    }
}
