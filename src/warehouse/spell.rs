//! Values spelled as text: a row as JSON for the quarantine, and the text forms that SQLite keeps.

use arrow::datatypes::{Decimal128Type, DecimalType};
use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Utc};

use crate::config::Column;
use crate::json;
use crate::record::Batch;

/// Microseconds since the epoch as ISO 8601 in UTC; `None` beyond what a calendar holds.
pub(super) fn timestamp(micros: i64) -> Option<String> {
    let time = DateTime::from_timestamp_micros(micros)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// 1970-01-01, counted from 0001-01-01.
const EPOCH: i32 = 719_163;

/// Days since the epoch as ISO 8601; `None` beyond what a calendar holds.
pub(super) fn date(days: i32) -> Option<String> {
    let days = days.checked_add(EPOCH)?;
    NaiveDate::from_num_days_from_ce_opt(days).map(|date| date.to_string())
}

pub(super) fn decimal(value: i128, precision: u8, scale: u8) -> String {
    Decimal128Type::format_decimal(value, precision, scale as i8)
}

/// Reads back what [`timestamp`] spelled, and nothing else.
pub(super) fn read_timestamp(text: &str) -> Option<i64> {
    let micros = text.parse::<DateTime<Utc>>().ok()?.timestamp_micros();
    (timestamp(micros)? == text).then_some(micros)
}

/// Reads back what [`date`] spelled, and nothing else.
pub(super) fn read_date(text: &str) -> Option<i32> {
    let days = text.parse::<NaiveDate>().ok()?.num_days_from_ce() - EPOCH;
    (date(days)? == text).then_some(days)
}

/// Reads back what [`decimal`] spelled, and nothing else.
pub(super) fn read_decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let unscaled: i128 = text.replacen('.', "", 1).parse().ok()?;
    let held = unscaled.unsigned_abs() < 10u128.pow(precision.into());
    (held && decimal(unscaled, precision, scale) == text).then_some(unscaled)
}

/// Some columns of a row as a JSON object. A value that JSON has no form for is a string.
pub(super) fn row(columns: &[Column], batch: &Batch, row: usize) -> String {
    let mut out = String::from("{");
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&serde_json::Value::from(column.name.as_str()).to_string());
        out.push(':');
        out.push_str(&json::text(column.kind, batch.rows.column(index), row));
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_times_and_decimals() {
        assert_eq!(timestamp(0).as_deref(), Some("1970-01-01T00:00:00.000000Z"));
        assert_eq!(timestamp(-1).as_deref(), Some("1969-12-31T23:59:59.999999Z"));
        assert_eq!(timestamp(i64::MAX), None);
        assert_eq!(date(0).as_deref(), Some("1970-01-01"));
        assert_eq!(date(-719_162).as_deref(), Some("0001-01-01"));
        assert_eq!(date(i32::MAX), None);
        assert_eq!(decimal(-5, 10, 2), "-0.05");
        assert_eq!(decimal(1200, 10, 2), "12.00");
    }

    #[test]
    fn reads_back_what_it_spelled() {
        let year = 31_556_952_000_000;
        for micros in (-9_000..9_000).map(|n: i64| n * 29 * year + n) {
            let Some(text) = timestamp(micros) else { continue };
            assert_eq!(read_timestamp(&text), Some(micros), "{text}");
        }
        for days in (-3_000..3_000).map(|n: i32| n * 31_013) {
            let Some(text) = date(days) else { continue };
            assert_eq!(read_date(&text), Some(days), "{text}");
        }
        let most = 10i128.pow(38) - 1;
        for unscaled in [0, 1, -1, 5, -99, 100, -12_345, most, -most] {
            for scale in [0, 1, 2, 18, 38] {
                let text = decimal(unscaled, 38, scale);
                assert_eq!(read_decimal(&text, 38, scale), Some(unscaled), "{text}");
            }
        }
    }

    #[test]
    fn reads_nothing_else() {
        for text in ["", "2026-01-31", "2026-01-31T00:00:00Z", "2026-01-31 00:00:00.000000Z"] {
            assert_eq!(read_timestamp(text), None, "{text}");
        }
        assert_eq!(read_timestamp("2026-01-31T00:00:00.000000+00:00"), None);
        assert_eq!(read_timestamp("2026-01-31T00:00:00.0000001Z"), None);
        for text in ["", "2026-1-31", "2026-02-30", " 2026-01-31", "2026-01-31T00:00:00Z"] {
            assert_eq!(read_date(text), None, "{text}");
        }
        for text in ["", "1", "1.2", "1.234", "+1.20", "01.20", "1e2", "NaN", "-0.00", "1234.00"] {
            assert_eq!(read_decimal(text, 5, 2), None, "{text}");
        }
    }
}
