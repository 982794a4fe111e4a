//! Values spelled as text: a row as JSON for the quarantine, and the text forms that SQLite keeps.

use arrow::datatypes::{Decimal128Type, DecimalType};
use chrono::{DateTime, NaiveDate, SecondsFormat};

use crate::config::Column;
use crate::json;
use crate::record::Batch;

/// Microseconds since the epoch as ISO 8601 in UTC; `None` beyond what a calendar holds.
pub(super) fn timestamp(micros: i64) -> Option<String> {
    let time = DateTime::from_timestamp_micros(micros)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// Days since the epoch as ISO 8601; `None` beyond what a calendar holds.
pub(super) fn date(days: i32) -> Option<String> {
    let days = days.checked_add(719_163)?; // 1970-01-01, counted from 0001-01-01
    NaiveDate::from_num_days_from_ce_opt(days).map(|date| date.to_string())
}

pub(super) fn decimal(value: i128, precision: u8, scale: u8) -> String {
    Decimal128Type::format_decimal(value, precision, scale as i8)
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
}
