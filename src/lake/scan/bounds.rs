//! What statistics say of a file or a row group, against what a value must lie between.
//!
//! Everything here errs on one side: what cannot be compared, or is known only about, leaves nothing
//! out. A null lies between nothing, and neither does a NaN.

use std::cmp::Ordering;

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, NaiveDate};
use parquet::data_type::ByteArray;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;

use crate::record::{Bound, Value};

/// What is known of a column's values somewhere.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    pub least: Option<Value>,
    pub greatest: Option<Value>,
    /// `greatest` may be the beginning of a longer text.
    pub cut: bool,
    /// There is no value, only nulls.
    pub nulls: bool,
}

impl Bound {
    /// Whether no value can lie between.
    pub(super) fn misses(&self, known: &Known) -> bool {
        let above = |one: &Option<Value>, other: &Option<Value>| match (one, other) {
            (Some(one), Some(other)) => compare(one, other) == Some(Ordering::Greater),
            _ => false,
        };
        let goes_on = || match (&self.least, &known.greatest) {
            (Some(Value::Text(least)), Some(Value::Text(cut))) => least.starts_with(cut.as_str()),
            _ => false,
        };
        known.nulls
            || above(&known.least, &self.greatest)
            || (above(&self.least, &known.greatest) && !(known.cut && goes_on()))
    }
}

/// None where the two have no order, or none that is certain.
fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    use Value::{Bool, Date, Decimal, Double, Long, Text, Timestamp};
    match (one, other) {
        (Long(one), Long(other)) | (Timestamp(one), Timestamp(other)) => Some(one.cmp(other)),
        (Text(one), Text(other)) => Some(one.cmp(other)),
        (Date(one), Date(other)) => Some(one.cmp(other)),
        (Bool(one), Bool(other)) => Some(one.cmp(other)),
        (Double(one), Double(other)) => one.partial_cmp(other),
        (Double(_), Long(_) | Decimal { .. }) | (Long(_) | Decimal { .. }, Double(_)) => {
            let (one, other) = (about(one)?, about(other)?);
            let near = (one - other).abs() <= ROUNDED * one.abs().max(other.abs());
            if near { None } else { one.partial_cmp(&other) }
        }
        (Long(_) | Decimal { .. }, Long(_) | Decimal { .. }) => {
            let ((one, scale), (other, of_other)) = (exact(one)?, exact(other)?);
            let wide = scale.max(of_other);
            let up = |value: i128, scale: u8| {
                value.checked_mul(10_i128.checked_pow(u32::from(wide - scale))?)
            };
            Some(up(one, scale)?.cmp(&up(other, of_other)?))
        }
        _ => None,
    }
}

fn exact(value: &Value) -> Option<(i128, u8)> {
    match value {
        Value::Long(value) => Some((i128::from(*value), 0)),
        Value::Decimal { unscaled, scale } => Some((*unscaled, *scale)),
        _ => None,
    }
}

fn about(value: &Value) -> Option<f64> {
    match value {
        Value::Double(value) => Some(*value),
        other => exact(other).map(|(value, scale)| value as f64 / 10_f64.powi(i32::from(scale))),
    }
}

/// What Delta's statistics of a file say of a column of this type.
pub fn of_file(stats: &serde_json::Value, column: &str, kind: &DataType) -> Known {
    let rows = stats["numRecords"].as_u64();
    let nulls = stats["nullCount"][column].as_u64();
    let (least, greatest) = (&stats["minValues"][column], &stats["maxValues"][column]);
    Known {
        least: said(least, kind, -1),
        greatest: said(greatest, kind, 1),
        // Writers cut texts where they like, and not all say so.
        cut: true,
        nulls: rows.is_some() && rows == nulls,
    }
}

/// Statistics of times are cut to milliseconds.
const TRUNCATED_MICROS: i64 = 1000;

/// Readers and writers of JSON differ in a double's last digits.
const ROUNDED: f64 = 1e-12;

/// One end of what a file holds, moved outwards (-1 or 1) by what its writer may have left away.
fn said(value: &serde_json::Value, kind: &DataType, outwards: i8) -> Option<Value> {
    Some(match kind {
        DataType::Int32 | DataType::Int64 => Value::Long(value.as_i64()?),
        // JSON has a decimal's first digits only, so it is compared as a double is.
        DataType::Float64 | DataType::Decimal128(..) => {
            let value = value.as_f64()?;
            let slack = (value.abs() * ROUNDED).max(f64::MIN_POSITIVE);
            Value::Double(value + slack * f64::from(outwards))
        }
        DataType::Utf8 => Value::Text(value.as_str()?.to_owned()),
        DataType::Boolean => Value::Bool(value.as_bool()?),
        DataType::Date32 => day(value.as_str()?)?,
        DataType::Timestamp(..) => {
            let time = DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
            let slack = TRUNCATED_MICROS * i64::from(outwards);
            Value::Timestamp(time.timestamp_micros().checked_add(slack)?)
        }
        _ => return None,
    })
}

fn day(text: &str) -> Option<Value> {
    let date = text.parse::<NaiveDate>().ok()?;
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    Some(Value::Date(i32::try_from(days).ok()?))
}

/// What a partition column's text says of all rows of a file.
pub fn of_partition(text: Option<&str>, kind: &DataType) -> Known {
    let Some(text) = text else { return Known { nulls: true, ..Known::default() } };
    let value = match kind {
        DataType::Int32 => text.parse().ok().map(Value::Long),
        DataType::Date32 => day(text),
        _ => Some(Value::Text(text.to_owned())),
    };
    Known { least: value.clone(), greatest: value, ..Known::default() }
}

/// What a row group says of one of its columns, whose type is `kind` in that file.
pub fn of_group(group: &RowGroupMetaData, column: &str, kind: &DataType) -> Known {
    let columns = group.columns().iter();
    let chunk =
        columns.filter(|chunk| matches!(chunk.column_path().parts(), [own] if own == column));
    let Some(stats) = chunk.filter_map(|chunk| chunk.statistics()).next() else {
        return Known::default();
    };
    let nulls = stats.null_count_opt().is_some_and(|nulls| nulls == group.num_rows() as u64);
    // Their order was never said.
    if stats.is_min_max_deprecated() {
        return Known { nulls, ..Known::default() };
    }
    let (least, greatest) = ends(stats, kind);
    Known { least, greatest, cut: false, nulls }
}

fn ends(stats: &Statistics, kind: &DataType) -> (Option<Value>, Option<Value>) {
    macro_rules! ends {
        ($stats:expr, $value:expr) => {
            ($stats.min_opt().and_then($value), $stats.max_opt().and_then($value))
        };
    }
    match stats {
        Statistics::Boolean(stats) => ends!(stats, |value: &bool| Some(Value::Bool(*value))),
        Statistics::Int32(stats) => ends!(stats, |value: &i32| whole(i64::from(*value), kind)),
        Statistics::Int64(stats) => ends!(stats, |value: &i64| whole(*value, kind)),
        Statistics::Float(stats) => {
            ends!(stats, |value: &f32| Some(Value::Double(f64::from(*value))))
        }
        Statistics::Double(stats) => ends!(stats, |value: &f64| Some(Value::Double(*value))),
        Statistics::ByteArray(stats) => ends!(stats, |value: &ByteArray| bytes(value.data(), kind)),
        Statistics::FixedLenByteArray(stats) => {
            ends!(stats, |value: &parquet::data_type::FixedLenByteArray| bytes(value.data(), kind))
        }
        // Nobody agrees on its order.
        Statistics::Int96(_) => (None, None),
    }
}

fn whole(value: i64, kind: &DataType) -> Option<Value> {
    Some(match kind {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Value::Long(value),
        DataType::Date32 => Value::Date(i32::try_from(value).ok()?),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Value::Timestamp(value),
        DataType::Timestamp(TimeUnit::Millisecond, _) => Value::Timestamp(value.checked_mul(1000)?),
        DataType::Decimal128(_, scale) => {
            Value::Decimal { unscaled: i128::from(value), scale: u8::try_from(*scale).ok()? }
        }
        _ => return None,
    })
}

fn bytes(value: &[u8], kind: &DataType) -> Option<Value> {
    Some(match kind {
        DataType::Utf8 => Value::Text(std::str::from_utf8(value).ok()?.to_owned()),
        DataType::Decimal128(_, scale) if (1..=16).contains(&value.len()) => {
            let sign = if value[0] & 0x80 == 0 { 0 } else { 0xff };
            let mut whole = [sign; 16];
            whole[16 - value.len()..].copy_from_slice(value);
            let scale = u8::try_from(*scale).ok()?;
            Value::Decimal { unscaled: i128::from_be_bytes(whole), scale }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn between(least: Value, greatest: Value) -> Bound {
        Bound { column: "c".into(), least: Some(least), greatest: Some(greatest) }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn what_is_known_only_about_leaves_nothing_out() {
        let of = |kind: &DataType, least: serde_json::Value, greatest: serde_json::Value| {
            let stats = json!({"numRecords": 5, "minValues": {"c": least},
                "maxValues": {"c": greatest}, "nullCount": {"c": 1}});
            of_file(&stats, "c", kind)
        };
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let times = of(&time, json!("1970-01-01T00:00:01.000Z"), json!("1970-01-01T00:00:02.000Z"));
        let at = |micros| between(Value::Timestamp(micros), Value::Timestamp(micros));
        assert!(!at(2_000_999).misses(&times), "cut to milliseconds");
        assert!(at(2_001_001).misses(&times) && at(998_999).misses(&times));

        let doubles = of(&DataType::Float64, json!(0.0), json!(1.6666666666666663));
        let double = |value| between(Value::Double(value), Value::Double(value));
        assert!(!double(1.6666666666666665).misses(&doubles), "its last digits were lost");
        assert!(!double(-1e-310).misses(&doubles));
        assert!(double(1.66666667).misses(&doubles) && double(-1e-300).misses(&doubles));

        let texts = of(&DataType::Utf8, json!("b"), json!("d"));
        assert!(!between(text("dx"), text("dz")).misses(&texts), "cut to its beginning");
        assert!(between(text("e"), text("f")).misses(&texts));
        assert!(between(text("a"), text("az")).misses(&texts));

        let decimals = of(&DataType::Decimal128(38, 2), json!(0.1), json!(123456789012345680.0));
        let exactly = |unscaled| Value::Decimal { unscaled, scale: 2 };
        let near = exactly(12_345_678_901_234_567_890);
        assert!(!between(near.clone(), near).misses(&decimals));
        assert!(between(exactly(12_345_678_911_234_567_890), exactly(i128::MAX)).misses(&decimals));
        assert!(between(exactly(-500), exactly(9)).misses(&decimals));
        assert!(!between(exactly(-500), exactly(10)).misses(&decimals));
    }

    #[test]
    fn what_has_no_order_or_no_statistics_leaves_nothing_out() {
        let known = |value: Value| Known {
            least: Some(value.clone()),
            greatest: Some(value),
            ..Known::default()
        };
        let long = between(Value::Long(5), Value::Long(6));
        assert!(!long.misses(&Known::default()));
        assert!(!long.misses(&known(text("1"))));
        assert!(!long.misses(&known(Value::Double(f64::NAN))));
        assert!(long.misses(&known(Value::Double(7.5))));
        assert!(long.misses(&known(Value::Decimal { unscaled: 601, scale: 2 })));
        assert!(!long.misses(&known(Value::Decimal { unscaled: 600, scale: 2 })));
        let huge = Value::Decimal { unscaled: i128::MAX, scale: 0 };
        let tiny = Value::Decimal { unscaled: 1, scale: 30 };
        assert!(!between(tiny.clone(), tiny).misses(&known(huge)), "too far apart to tell");
        let some = Bound { column: "c".into(), least: None, greatest: None };
        assert!(some.misses(&Known { nulls: true, ..Known::default() }));
        assert!(!some.misses(&Known::default()));
    }
}
