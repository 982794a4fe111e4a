//! Rows as COPY's binary format, written straight from Arrow's columns.

use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use bytes::Bytes;

use super::stage::{OFFSET, PARTITION, TIMESTAMP, Target};
use crate::record::Batch;
use crate::warehouse::intake::Placed;
use crate::warehouse::reduce::At;

/// PostgreSQL counts from 2000-01-01.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;
pub(super) const EPOCH_DAYS: i32 = 10_957;

/// The times and days it holds, from 4714-11-24 BC, counted as it counts.
pub(super) const MIN_TIMESTAMP: i64 = -211_813_488_000_000_000;
pub(super) const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;
pub(super) const MIN_DATE: i32 = -2_451_545;
pub(super) const END_DATE: i32 = 2_145_031_949;

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
    let origin = Origin::of(target);
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

/// The fields of one row, without its number, each behind its length as in COPY.
pub(super) fn encode_one(target: &Target, batch: &Batch, row: usize) -> Vec<u8> {
    let mut out = Vec::new();
    View::of(batch).put(&mut out, row, Origin::of(target));
    out
}

/// Which columns about the record's origin are sent.
#[derive(Clone, Copy)]
struct Origin {
    partition: bool,
    offset: bool,
    timestamp: bool,
}

impl Origin {
    fn of(target: &Target) -> Self {
        Self {
            partition: target.sends(PARTITION),
            offset: target.sends(OFFSET),
            timestamp: target.sends(TIMESTAMP),
        }
    }

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
    Bytes(&'a BinaryArray),
}

impl<'a> View<'a> {
    /// `Intake::new` has compared the columns' types with the feed's.
    fn of(batch: &'a Batch) -> Self {
        Self { columns: batch.rows.columns().iter().map(Values::of).collect(), batch }
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
            DataType::Binary => Values::Bytes(array.as_binary()),
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
            Values::Bytes(array) => array.is_null(row),
        }
    }

    #[inline]
    fn put(&self, out: &mut Vec<u8>, row: usize) {
        if self.is_null(row) {
            return out.extend_from_slice(&NULL);
        }
        match self {
            Values::Text(array) => put_bytes(out, array.value(row).as_bytes()),
            Values::Bytes(array) => put_bytes(out, array.value(row)),
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
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}

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
pub(super) fn put_numeric(out: &mut Vec<u8>, value: i128, scale: u32) {
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

#[cfg(test)]
mod tests {
    use arrow::datatypes::DecimalType;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::warehouse::contract::lab::Lab;

    /// What the server makes of one column of fields.
    async fn sent(lab: &Lab, kind: &str, fields: &[Vec<u8>]) -> Result<Vec<String>, String> {
        let client = lab.client();
        let table = format!("DROP TABLE IF EXISTS v; CREATE TABLE v (i serial, v {kind})");
        client.batch_execute(&table).await.unwrap();
        let mut out = HEADER.to_vec();
        for field in fields {
            out.extend_from_slice(&1i16.to_be_bytes());
            out.extend_from_slice(field);
        }
        out.extend_from_slice(&TRAILER);
        let sink = client.copy_in("COPY v (v) FROM STDIN (FORMAT binary)").await.unwrap();
        let mut sink = std::pin::pin!(sink);
        futures::SinkExt::send(&mut sink, Bytes::from(out)).await.unwrap();
        let answer = sink.finish().await;
        answer.map_err(|error| error.as_db_error().unwrap().code().code().to_owned())?;
        Ok(lab.ask("SELECT v FROM v ORDER BY i").await)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn numerics_of_every_shape() {
        let lab = Lab::postgres().await;
        let mut random = rand::rngs::StdRng::seed_from_u64(1);
        let mut fields = Vec::new();
        let mut expected = Vec::new();
        for scale in 0..=38 {
            for digits in 0..=38 {
                let bound = 10i128.pow(digits);
                let some = random.random_range(-bound..=bound);
                for value in [bound - 1, bound / 10, -bound / 10, some, some / 10_000 * 10_000] {
                    let mut field = Vec::new();
                    put_numeric(&mut field, value, scale);
                    fields.push(field);
                    expected.push(Decimal128Type::format_decimal(value, 38, scale as i8));
                }
            }
        }
        assert_eq!(sent(&lab, "numeric", &fields).await.unwrap(), expected);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_calendar_ends_where_the_server_says() {
        let lab = Lab::postgres().await;
        let time = |micros: i64| {
            let mut field = Vec::new();
            put8(&mut field, micros.to_be_bytes());
            vec![field]
        };
        let date = |days: i32| {
            let mut field = Vec::new();
            put4(&mut field, days.to_be_bytes());
            vec![field]
        };
        for micros in [MIN_TIMESTAMP, END_TIMESTAMP - 1] {
            sent(&lab, "timestamptz", &time(micros)).await.unwrap();
        }
        for micros in [MIN_TIMESTAMP - 1, END_TIMESTAMP] {
            assert_eq!(sent(&lab, "timestamptz", &time(micros)).await.unwrap_err(), "22008");
        }
        for days in [MIN_DATE, END_DATE - 1] {
            sent(&lab, "date", &date(days)).await.unwrap();
        }
        for days in [MIN_DATE - 1, END_DATE] {
            assert_eq!(sent(&lab, "date", &date(days)).await.unwrap_err(), "22008");
        }
    }
}
