//! One spelling for each value, whichever sink or decoder it comes from, so that spellings compare.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, DecimalType, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate};
use serde_json::Value;

use crate::config::ColumnType;
use crate::json;

/// A value of a decoded batch.
pub fn decoded(kind: ColumnType, array: &dyn Array, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    Some(match kind {
        ColumnType::String => array.as_string::<i32>().value(row).to_owned(),
        ColumnType::Json | ColumnType::Number => spelled(kind, array.as_string::<i32>().value(row)),
        ColumnType::Nested(_) => {
            let mut text = Vec::new();
            let written = json::write(&mut text, kind, array, row);
            spelled(kind, &written.map_or_else(|it| it.to_string(), |()| utf8(text)))
        }
        ColumnType::Int => array.as_primitive::<Int32Type>().value(row).to_string(),
        ColumnType::Long => array.as_primitive::<Int64Type>().value(row).to_string(),
        ColumnType::Double => double(array.as_primitive::<Float64Type>().value(row)),
        ColumnType::Boolean => array.as_boolean().value(row).to_string(),
        ColumnType::Decimal { precision, scale } => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            number(&Decimal128Type::format_decimal(value, precision, scale as i8))
        }
        ColumnType::Timestamp => {
            array.as_primitive::<TimestampMicrosecondType>().value(row).to_string()
        }
        ColumnType::Date => date(array.as_primitive::<Date32Type>().value(row)),
        ColumnType::Bytes => hex(array.as_binary::<i32>().value(row)),
    })
}

/// A value as a database spells it. What is no value of the type stays as it is, and differs.
pub fn spelled(kind: ColumnType, text: &str) -> String {
    match kind {
        ColumnType::String | ColumnType::Date => text.to_owned(),
        ColumnType::Int | ColumnType::Long | ColumnType::Decimal { .. } => number(text),
        ColumnType::Double => text.parse().map_or_else(|_| text.to_owned(), double),
        ColumnType::Boolean => match text {
            "t" | "true" | "1" => "true".to_owned(),
            "f" | "false" | "0" => "false".to_owned(),
            _ => text.to_owned(),
        },
        ColumnType::Timestamp => micros(text).map_or_else(|| text.to_owned(), |it| it.to_string()),
        ColumnType::Bytes => text.strip_prefix("\\x").unwrap_or(text).to_ascii_lowercase(),
        ColumnType::Number => exact_number(text),
        ColumnType::Json | ColumnType::Nested(_) => document(text),
    }
}

/// Bytes as two digits each, as PostgreSQL spells them behind its `\\x`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn date(days: i32) -> String {
    let date = days.checked_add(719_163).and_then(NaiveDate::from_num_days_from_ce_opt);
    date.map_or_else(|| days.to_string(), |date| date.to_string())
}

fn double(number: f64) -> String {
    // 0.0 and -0.0 are one value to a database.
    if number == 0.0 { "0".to_owned() } else { format!("{number:?}") }
}

/// Digits without zeros that mean nothing.
fn number(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let decimals = decimals.trim_end_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    match (whole, decimals) {
        ("0", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        (whole, decimals) => format!("{sign}{whole}.{decimals}"),
    }
}

fn utf8(text: Vec<u8>) -> String {
    String::from_utf8_lossy(&text).into_owned()
}

/// A number as its digits, the first and the last not 0, and the power of ten behind them.
fn exact_number(text: &str) -> String {
    let (sign, unsigned) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (digits, power) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{decimals}");
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let (true, Ok(power)) = (plain, power.parse::<i64>()) else { return text.to_owned() };
    let significant = digits.trim_end_matches('0');
    let power = power - decimals.len() as i64 + (digits.len() - significant.len()) as i64;
    match significant.trim_start_matches('0') {
        "" => "0".to_owned(),
        significant => format!("{sign}{significant}e{power}"),
    }
}

/// PostgreSQL's `2026-01-31 00:00:00.5+00` and ISO 8601.
fn micros(text: &str) -> Option<i64> {
    let time = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"));
    time.ok().map(|time| time.timestamp_micros())
}

/// Members by name, numbers by value, no space: as `jsonb` compares. A document with a number beyond
/// a double stays as it is.
fn document(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => {
            let mut out = String::with_capacity(text.len());
            write_json(&value, &mut out);
            out
        }
        Err(_) => text.to_owned(),
    }
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => out.push_str(&spelled_number(number)),
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_json(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (name, member) in members {
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_json(member, out);
                out.push(',');
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

fn spelled_number(number: &serde_json::Number) -> String {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (whole, number.as_f64()) {
        (Some(whole), _) => whole.to_string(),
        // 1e3 is 1000 to jsonb.
        (None, Some(real)) if real.fract() == 0.0 && real.abs() < 1e15 => (real as i64).to_string(),
        (None, Some(real)) => format!("{real:?}"),
        (None, None) => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, Decimal128Array, Float64Array, TimestampMicrosecondArray};

    #[test]
    fn numbers_lose_what_means_nothing() {
        for (text, expected) in [
            ("12.00", "12"),
            ("-0.50", "-0.5"),
            ("007", "7"),
            ("-0.00", "0"),
            ("0", "0"),
            ("100", "100"),
            ("-5", "-5"),
        ] {
            assert_eq!(number(text), expected);
        }
    }

    #[test]
    fn both_sides_spell_alike() {
        let decimal = ColumnType::Decimal { precision: 10, scale: 2 };
        let cents = Decimal128Array::from(vec![-1250]).with_precision_and_scale(10, 2).unwrap();
        let times = TimestampMicrosecondArray::from(vec![1_500_000]);
        let doubles = Float64Array::from(vec![-0.0, 1e20]);
        let days = Date32Array::from(vec![20_374]);
        for (kind, array, row, text) in [
            (decimal, &cents as &dyn Array, 0, "-12.5"),
            (ColumnType::Timestamp, &times, 0, "1970-01-01 00:00:01.5+00"),
            (ColumnType::Timestamp, &times, 0, "1970-01-01T00:00:01.500000Z"),
            (ColumnType::Double, &doubles, 0, "0.0"),
            (ColumnType::Double, &doubles, 1, "1e+20"),
            (ColumnType::Date, &days, 0, "2025-10-13"),
        ] {
            assert_eq!(decoded(kind, array, row), Some(spelled(kind, text)), "{kind} {text}");
        }
        assert_eq!(spelled(ColumnType::Boolean, "1"), spelled(ColumnType::Boolean, "true"));
    }

    #[test]
    fn numbers_of_any_size_compare_by_value() {
        let same = |a, b| assert_eq!(exact_number(a), exact_number(b));
        same("1e3", "1000");
        same("-12.50", "-1250E-2");
        same("0.00", "-0e9");
        same("123456789012345678901234567890.10", "1234567890123456789012345678901e-1");
        assert_ne!(exact_number("1e400"), exact_number("1e401"));
        assert_ne!(exact_number("-1"), exact_number("1"));
        assert_eq!(exact_number("NaN"), "NaN");
    }

    #[test]
    fn json_compares_as_jsonb_does() {
        let same = |a, b| assert_eq!(document(a), document(b));
        same(r#"{"b": 1, "a": [1e3, 1.50]}"#, r#"{"a":[1000,1.5],"b":1}"#);
        same(r#"{"a":1,"a":2}"#, r#"{"a": 2}"#);
        same(r#""\u00e9""#, "\"é\"");
        assert_ne!(document("[1,2]"), document("[2,1]"));
        assert_ne!(document("[12]"), document("[1,2]"));
        assert_eq!(document("not json"), "not json");
    }
}
