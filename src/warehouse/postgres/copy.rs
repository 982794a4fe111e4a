//! Rows as COPY's binary format, written straight from Arrow's columns.
//!
//! What PostgreSQL is known to refuse is found here first, a whole column at a glance, so that COPY
//! itself hardly ever fails.

use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use bytes::Bytes;

use super::table::{OFFSET, PARTITION, TIMESTAMP, Target};
use crate::config::{ColumnType, Schema};
use crate::record::{Batch, RejectClass};
use crate::warehouse::intake::{Placed, Refusal};
use crate::warehouse::reduce::At;

/// PostgreSQL counts from 2000-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

/// The times and days it holds, from 4714-11-24 BC, counted as it counts.
const MIN_TIMESTAMP: i64 = -211_813_488_000_000_000;
const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;
const MIN_DATE: i32 = -2_451_545;
const END_DATE: i32 = 2_145_031_949;

/// The longest string within a jsonb document.
const MAX_JSONB_STRING: usize = 0x0fff_ffff;

/// COPY's own signature, flags, and length of the header's extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
const NULL: [u8; 4] = (-1i32).to_be_bytes();

/// How much is encoded before it is handed on.
const CHUNK: usize = 256 * 1024;

/// Encodes the rows in chunks until they end, or until `send` says that nobody wants them.
pub(super) fn encode(
    target: &Target,
    batches: &[Placed],
    rows: &[At],
    send: impl Fn(Bytes) -> bool,
) {
    let views: Vec<View> = batches.iter().map(|placed| View::of(&placed.batch)).collect();
    let origin = Origin {
        partition: target.has(PARTITION),
        offset: target.has(OFFSET),
        timestamp: target.has(TIMESTAMP),
    };
    let fields = (1 + target.schema.columns.len() + origin.count()) as i16;
    let mut out = Vec::with_capacity(CHUNK + CHUNK / 4);
    out.extend_from_slice(HEADER);
    for (number, at) in rows.iter().enumerate() {
        out.extend_from_slice(&fields.to_be_bytes());
        put4(&mut out, (number as i32).to_be_bytes());
        views[at.batch as usize].put(&mut out, at.row as usize, origin);
        if out.len() >= CHUNK {
            let full = std::mem::replace(&mut out, Vec::with_capacity(CHUNK + CHUNK / 4));
            if !send(full.into()) {
                return;
            }
        }
    }
    out.extend_from_slice(&TRAILER);
    send(out.into());
}

/// Which columns about the record's origin are sent.
#[derive(Clone, Copy)]
struct Origin {
    partition: bool,
    offset: bool,
    timestamp: bool,
}

impl Origin {
    fn count(self) -> usize {
        usize::from(self.partition) + usize::from(self.offset) + usize::from(self.timestamp)
    }
}

/// One batch with its columns as what they are.
struct View<'a> {
    columns: Vec<Values<'a>>,
    batch: &'a Batch,
}

enum Values<'a> {
    Text(&'a StringArray),
    Int(&'a Int32Array),
    Long(&'a Int64Array),
    Double(&'a Float64Array),
    Boolean(&'a BooleanArray),
    Decimal(&'a Decimal128Array, u32),
    Timestamp(&'a TimestampMicrosecondArray),
    Date(&'a Date32Array),
}

impl<'a> View<'a> {
    /// `Intake::new` has compared the columns' types with the feed's.
    fn of(batch: &'a Batch) -> Self {
        Self {
            columns: batch.rows.columns().iter().map(|array| Values::of(array)).collect(),
            batch,
        }
    }

    fn put(&self, out: &mut Vec<u8>, row: usize, origin: Origin) {
        for column in &self.columns {
            column.put(out, row);
        }
        if origin.partition {
            put4(out, self.batch.source.partition.to_be_bytes());
        }
        if origin.offset {
            put8(out, self.batch.offsets.value(row).to_be_bytes());
        }
        if origin.timestamp {
            match record_time(&self.batch.timestamps, row) {
                Some(micros) => put8(out, micros.to_be_bytes()),
                None => out.extend_from_slice(&NULL),
            }
        }
    }
}

/// A record's timestamp as PostgreSQL counts. A producer may have put anything there, and it is no
/// reason to refuse the row: what is beyond the calendar is null.
fn record_time(timestamps: &Int64Array, row: usize) -> Option<i64> {
    if timestamps.is_null(row) {
        return None;
    }
    let micros = timestamps.value(row).checked_mul(1_000)?.checked_sub(EPOCH_MICROS)?;
    (MIN_TIMESTAMP..END_TIMESTAMP).contains(&micros).then_some(micros)
}

/// Whether a record's timestamp is one that PostgreSQL holds.
pub(super) fn holds_time(timestamp_ms: i64) -> bool {
    record_time(&Int64Array::from(vec![timestamp_ms]), 0).is_some()
}

impl<'a> Values<'a> {
    fn of(array: &'a Arc<dyn Array>) -> Self {
        use arrow::datatypes::DataType;
        match array.data_type() {
            DataType::Int32 => Values::Int(array.as_primitive::<Int32Type>()),
            DataType::Int64 => Values::Long(array.as_primitive::<Int64Type>()),
            DataType::Float64 => Values::Double(array.as_primitive::<Float64Type>()),
            DataType::Boolean => Values::Boolean(array.as_boolean()),
            DataType::Decimal128(_, scale) => Values::Decimal(
                array.as_primitive::<Decimal128Type>(),
                u32::from(scale.unsigned_abs()),
            ),
            DataType::Timestamp(..) => {
                Values::Timestamp(array.as_primitive::<TimestampMicrosecondType>())
            }
            DataType::Date32 => Values::Date(array.as_primitive::<Date32Type>()),
            _ => Values::Text(array.as_string::<i32>()),
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Values::Text(array) => array.is_null(row),
            Values::Int(array) => array.is_null(row),
            Values::Long(array) => array.is_null(row),
            Values::Double(array) => array.is_null(row),
            Values::Boolean(array) => array.is_null(row),
            Values::Decimal(array, _) => array.is_null(row),
            Values::Timestamp(array) => array.is_null(row),
            Values::Date(array) => array.is_null(row),
        }
    }

    #[inline]
    fn put(&self, out: &mut Vec<u8>, row: usize) {
        if self.is_null(row) {
            return out.extend_from_slice(&NULL);
        }
        match self {
            Values::Text(array) => {
                let bytes = array.value(row).as_bytes();
                out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
                out.extend_from_slice(bytes);
            }
            Values::Int(array) => put4(out, array.value(row).to_be_bytes()),
            Values::Long(array) => put8(out, array.value(row).to_be_bytes()),
            Values::Double(array) => put8(out, array.value(row).to_be_bytes()),
            Values::Boolean(array) => {
                out.extend_from_slice(&[0, 0, 0, 1, u8::from(array.value(row))]);
            }
            Values::Decimal(array, scale) => put_numeric(out, array.value(row), *scale),
            // In range, or the row was refused.
            Values::Timestamp(array) => {
                put8(out, array.value(row).wrapping_sub(EPOCH_MICROS).to_be_bytes());
            }
            Values::Date(array) => {
                put4(out, array.value(row).wrapping_sub(EPOCH_DAYS).to_be_bytes());
            }
        }
    }
}

#[inline]
fn put4(out: &mut Vec<u8>, value: [u8; 4]) {
    let mut field = [0, 0, 0, 4, 0, 0, 0, 0];
    field[4..].copy_from_slice(&value);
    out.extend_from_slice(&field);
}

#[inline]
fn put8(out: &mut Vec<u8>, value: [u8; 8]) {
    let mut field = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    field[4..].copy_from_slice(&value);
    out.extend_from_slice(&field);
}

/// `numeric`: digits to the base of 10,000, the first with its weight, and how many decimals to show.
fn put_numeric(out: &mut Vec<u8>, value: i128, scale: u32) {
    // 38 decimal digits are at most 11 groups, with a part of one on either side of the point.
    let mut digits = [0u16; 12];
    let mut count = 0;
    let mut push = |digit: u128| {
        digits[count] = digit as u16;
        count += 1;
    };
    // From the last group to the first. Decimals that fill no whole group are padded to one.
    let mut rest = value.unsigned_abs();
    let partial = scale % 4;
    if partial > 0 {
        let unit = 10u128.pow(partial);
        push(rest % unit * 10u128.pow(4 - partial));
        rest /= unit;
    }
    while rest > u128::from(u64::MAX) {
        push(rest % 10_000);
        rest /= 10_000;
    }
    let mut rest = rest as u64; // most values are small, and a division of 128 bits is slow
    while rest > 0 {
        push(u128::from(rest % 10_000));
        rest /= 10_000;
    }
    let mut weight = count as i32 - 1 - scale.div_ceil(4) as i32;
    let first = digits[..count].iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
    weight -= (count - first) as i32;
    let last = digits[..first].iter().position(|digit| *digit != 0).unwrap_or(first);
    let digits = &digits[last..first];
    let sign: u16 = if value < 0 { 0x4000 } else { 0 };
    let weight = if digits.is_empty() { 0 } else { weight as i16 };
    out.extend_from_slice(&(8 + 2 * digits.len() as i32).to_be_bytes());
    out.extend_from_slice(&(digits.len() as i16).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&(scale as i16).to_be_bytes());
    for digit in digits.iter().rev() {
        out.extend_from_slice(&digit.to_be_bytes());
    }
}

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
    let held = (MIN_TIMESTAMP + EPOCH_MICROS)..=i64::MAX;
    // Beyond the end only what does not fit 64 bits when counted from 1970.
    debug_assert!(END_TIMESTAMP.checked_add(EPOCH_MICROS).is_none());
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
