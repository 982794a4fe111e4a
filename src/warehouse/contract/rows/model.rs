//! A feed of all types, random rows of it, and bounds as Arrow understands them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int32Array, Int64Array, RecordBatch, Scalar, StringArray, TimestampMicrosecondArray,
    UInt32Array,
};
use arrow::compute::kernels::cmp::{gt_eq, lt_eq};
use arrow::compute::{and_kleene, cast, is_not_null, take_record_batch};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::super::lab::{accounts, column};
use crate::config::{ColumnType, Feed, FeedKind, Schema};
use crate::record::{Bound, Value};

/// A long key.
pub const KEYS: [&str; 4] = ["name", "at", "amount", "raw"];

const TEXTS: [&str; 14] =
    ["", "a", "A", "ä", "Z", "b", "it's", "\"", "%_\\", "\n", "😀", "a|b", " a", "$1"];
const RAW: [&[u8]; 5] = [b"", b"\0", b"\xff\xfe", b"\0\x01", b"a"];
const LONGS: [i64; 6] = [0, -1, 1, i64::MAX, i64::MIN, 9_007_199_254_740_993];
const INTS: [i32; 5] = [0, -1, 1, i32::MAX, i32::MIN];
const DOUBLES: [f64; 7] = [0.0, -1.5, 0.1, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY, 3.0];
const DECIMALS: [i128; 7] = [0, 1, -1, 999_999_999_999, -1_000, 10_000, 12_345];
/// Of the years -200 to 12000, and so of all forms that times are spelled in.
const TIMES: [i64; 8] = [
    0,
    -1,
    1_760_373_508_047_123,
    253_402_300_799_999_999,
    253_402_300_800_000_000,
    316_516_000_000_000_000,
    -62_167_219_200_000_001,
    -68_000_000_000_000_000,
];
const DAYS: [i32; 7] = [0, -1, 20_000, 2_932_896, 2_932_897, -719_529, -790_000];
const NUMBERS: [&str; 4] = ["0", "-31", "12345678901234567890.10", "0.000000000000000000001"];
const JSON: [&str; 6] = ["{}", r#"{"a": [1, null]}"#, "\"x\"", "1.50", "null", "[]"];

/// Accounts of every type, with these columns as their key.
pub fn wide(key: &[&str]) -> Feed {
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    let all = [
        ("id", ColumnType::Long),
        ("name", ColumnType::String),
        ("at", ColumnType::Timestamp),
        ("amount", decimal(20, 3)),
        ("raw", ColumnType::Bytes),
        ("day", ColumnType::Date),
        ("yes", ColumnType::Boolean),
        ("small", ColumnType::Int),
        ("large", ColumnType::Long),
        ("ratio", ColumnType::Double),
        ("exact", decimal(38, 18)),
        ("number", ColumnType::Number),
        ("json", ColumnType::Json),
        ("Odd \"'; na;me", ColumnType::String),
    ];
    let mut columns: Vec<_> = all.iter().map(|(name, kind)| column(name, *kind)).collect();
    columns.sort_by_key(|column| key.iter().position(|name| *name == column.name).unwrap_or(99));
    Feed { schema: Schema::json(columns, key.len()), ..accounts(FeedKind::Table) }
}

/// At most so many rows, each with another key, in the order of their `id`s.
pub fn random_rows(feed: &Feed, random: &mut StdRng, count: usize) -> RecordBatch {
    let keys = feed.schema.key();
    let arrays: Vec<ArrayRef> = feed
        .schema
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| match column.name.as_str() {
            "id" => Arc::new(Int64Array::from_iter_values(0..count as i64)) as ArrayRef,
            _ => random_array(column.kind, random, count, index >= keys.len()),
        })
        .collect();
    let all = RecordBatch::try_new(feed.schema.arrow(), arrays).unwrap();
    let key = all.project(&(0..keys.len()).collect::<Vec<_>>()).unwrap();
    let mut seen = HashSet::new();
    let first = (0..count).filter(|row| seen.insert(format!("{:?}", key.slice(*row, 1))));
    let first = UInt32Array::from_iter_values(first.map(|row| row as u32));
    take_record_batch(&all, &first).unwrap()
}

fn random_array(kind: ColumnType, random: &mut StdRng, count: usize, nulls: bool) -> ArrayRef {
    fn some<T: Copy>(all: &[T], random: &mut StdRng, count: usize, nulls: bool) -> Vec<Option<T>> {
        let one = |_| (!nulls || random.random_bool(0.8)).then(|| *all.choose(random).unwrap());
        (0..count).map(one).collect()
    }
    macro_rules! some {
        ($array:ident, $all:expr) => {
            Arc::new($array::from(some(&$all, random, count, nulls)))
        };
    }
    match kind {
        ColumnType::String => some!(StringArray, TEXTS),
        ColumnType::Number => some!(StringArray, NUMBERS),
        ColumnType::Json => some!(StringArray, JSON),
        ColumnType::Bytes => some!(BinaryArray, RAW),
        ColumnType::Int => some!(Int32Array, INTS),
        ColumnType::Long => some!(Int64Array, LONGS),
        ColumnType::Double => some!(Float64Array, DOUBLES),
        ColumnType::Boolean => some!(BooleanArray, [true, false]),
        ColumnType::Date => some!(Date32Array, DAYS),
        ColumnType::Timestamp => {
            let times = TimestampMicrosecondArray::from(some(&TIMES, random, count, nulls));
            Arc::new(times.with_timezone("UTC"))
        }
        ColumnType::Decimal { precision, scale } => {
            let decimals = Decimal128Array::from(some(&DECIMALS, random, count, nulls));
            Arc::new(decimals.with_precision_and_scale(precision, scale as i8).unwrap())
        }
        ColumnType::Nested(_) => unreachable!("not in `wide`"),
    }
}

/// One that a column of the type may have, so that others can be compared with it.
pub fn value(kind: ColumnType, random: &mut StdRng) -> Option<Value> {
    Some(match kind {
        ColumnType::String => Value::Text((*TEXTS.choose(random)?).to_owned()),
        ColumnType::Int => Value::Long((*INTS.choose(random)?).into()),
        ColumnType::Long => Value::Long(*LONGS.choose(random)?),
        ColumnType::Double => Value::Double(*DOUBLES.choose(random)?),
        ColumnType::Boolean => Value::Bool(random.random()),
        ColumnType::Date => Value::Date(*DAYS.choose(random)?),
        ColumnType::Timestamp => Value::Timestamp(*TIMES.choose(random)?),
        ColumnType::Decimal { scale, .. } => {
            Value::Decimal { unscaled: *DECIMALS.choose(random)?, scale }
        }
        _ => return None,
    })
}

pub fn bounds(feed: &Feed, random: &mut StdRng) -> Vec<Bound> {
    let count = random.random_range(0..3);
    let one = |_| {
        let column = feed.schema.columns.choose(random).unwrap();
        let mut end = || match random.random_bool(0.7) {
            true => value(column.kind, random),
            false => None,
        };
        let (least, mut greatest) = (end(), end());
        if random.random_bool(0.3) {
            greatest.clone_from(&least);
        }
        Bound { column: column.name.clone(), least, greatest }
    };
    (0..count).map(one).collect()
}

/// Which rows lie within all bounds.
pub fn kept(rows: &RecordBatch, bounds: &[Bound]) -> BooleanArray {
    let mut kept = BooleanArray::from(vec![true; rows.num_rows()]);
    for Bound { column, least, greatest } in bounds {
        let column = rows.column_by_name(column).unwrap();
        kept = and_kleene(&kept, &is_not_null(column).unwrap()).unwrap();
        if let Some(least) = least {
            let over = gt_eq(column, &Scalar::new(alone(least, column))).unwrap();
            kept = and_kleene(&kept, &over).unwrap();
        }
        if let Some(greatest) = greatest {
            let under = lt_eq(column, &Scalar::new(alone(greatest, column))).unwrap();
            kept = and_kleene(&kept, &under).unwrap();
        }
    }
    kept
}

/// An array of the column's type with the value alone.
fn alone(value: &Value, column: &ArrayRef) -> ArrayRef {
    let array: ArrayRef = match value {
        Value::Long(value) => Arc::new(Int64Array::from(vec![*value])),
        Value::Double(value) => Arc::new(Float64Array::from(vec![*value])),
        Value::Text(value) => Arc::new(StringArray::from(vec![value.as_str()])),
        Value::Timestamp(value) => Arc::new(TimestampMicrosecondArray::from(vec![*value])),
        Value::Date(value) => Arc::new(Date32Array::from(vec![*value])),
        Value::Bool(value) => Arc::new(BooleanArray::from(vec![*value])),
        Value::Decimal { unscaled, scale } => {
            let array = Decimal128Array::from(vec![*unscaled]);
            Arc::new(array.with_precision_and_scale(38, *scale as i8).unwrap())
        }
    };
    cast(&array, column.data_type()).unwrap()
}
