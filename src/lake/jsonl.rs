//! Rows as lines of JSON, with nothing of their values lost: decimals as exact numbers, bytes as
//! base64, times in ISO-8601, `json` columns as the JSON they are.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DecimalType, Float64Type, Int8Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, SecondsFormat};

use crate::config::{ColumnType, Feed};

/// Appends one line for each row; a null is a field with the value `null`.
pub fn write(out: &mut Vec<u8>, feed: &Feed, rows: &RecordBatch) -> Result<(), ArrowError> {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, values)| {
        let name = serde_json::to_string(field.name()).map_err(failed)?;
        Ok((name, values, is_json(feed, field.name())))
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    for row in 0..rows.num_rows() {
        for (index, (name, values, json)) in columns.iter().enumerate() {
            out.push(if index == 0 { b'{' } else { b',' });
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            value(out, values, row, *json)?;
        }
        out.extend_from_slice(b"}\n");
    }
    Ok(())
}

fn is_json(feed: &Feed, name: &str) -> bool {
    let kind = feed.schema.columns.iter().find(|column| column.name == name);
    kind.map_or(name == "_headers", |column| column.kind == ColumnType::Json)
}

fn value(out: &mut Vec<u8>, values: &ArrayRef, row: usize, json: bool) -> Result<(), ArrowError> {
    if values.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let text = match values.data_type() {
        DataType::Utf8 if json => {
            // A line break in JSON's text stands between tokens only.
            let text = values.as_string::<i32>().value(row).bytes();
            out.extend(text.map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
            return Ok(());
        }
        DataType::Utf8 => return quoted(out, values.as_string::<i32>().value(row)),
        DataType::Dictionary(..) => {
            let texts = values.as_dictionary::<Int8Type>();
            let key = texts.keys().value(row) as usize;
            return quoted(out, texts.values().as_string::<i32>().value(key));
        }
        DataType::Binary => {
            return quoted(out, &STANDARD.encode(values.as_binary::<i32>().value(row)));
        }
        DataType::Int32 => values.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => values.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Boolean => values.as_boolean().value(row).to_string(),
        DataType::Float64 => {
            let number = values.as_primitive::<Float64Type>().value(row);
            if !number.is_finite() {
                // JSON has no number for it.
                return quoted(out, &number.to_string());
            }
            serde_json::to_string(&number).map_err(failed)?
        }
        DataType::Decimal128(precision, scale) => {
            let number = values.as_primitive::<Decimal128Type>().value(row);
            Decimal128Type::format_decimal(number, *precision, *scale)
        }
        DataType::Date32 => {
            let days = values.as_primitive::<Date32Type>().value(row);
            let date = chrono::Duration::try_days(i64::from(days))
                .and_then(|days| NaiveDate::default().checked_add_signed(days));
            return match date {
                Some(date) => quoted(out, &date.to_string()),
                None => quoted(out, &format!("{days} days")),
            };
        }
        DataType::Timestamp(..) => {
            let micros = values.as_primitive::<TimestampMicrosecondType>().value(row);
            return match DateTime::from_timestamp_micros(micros) {
                Some(time) => quoted(out, &time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
                None => quoted(out, &format!("{micros} microseconds")),
            };
        }
        other => return Err(ArrowError::NotYetImplemented(format!("{other} in JSON lines"))),
    };
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn quoted(out: &mut Vec<u8>, text: &str) -> Result<(), ArrowError> {
    serde_json::to_writer(out.by_ref(), text).map_err(failed)
}

fn failed(error: serde_json::Error) -> ArrowError {
    ArrowError::JsonError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, Date32Array, Decimal128Array, Float64Array, StringArray,
        TimestampMicrosecondArray,
    };

    use crate::config::{
        Column, FeedKind, LakeOptions, OnGap, Quarantine, Schema as Columns, Start,
    };

    #[test]
    fn values_keep_all_they_are() {
        let kinds = [
            ("d", ColumnType::Decimal { precision: 38, scale: 2 }),
            ("f", ColumnType::Double),
            ("at", ColumnType::Timestamp),
            ("on", ColumnType::Date),
            ("b", ColumnType::Bytes),
            ("j", ColumnType::Json),
            ("s", ColumnType::String),
        ];
        let columns = kinds.map(|(name, kind)| Column::new(name, kind));
        let feed = Feed {
            name: "f".into(),
            kind: FeedKind::Stream,
            topic: "t".into(),
            start: Start::Earliest,
            on_gap: OnGap::Park,
            schema: Columns::json(columns.to_vec(), 0),
            lake: Some(LakeOptions::default()),
            warehouse: None,
            quarantine: Quarantine::default(),
        };
        let decimals =
            Decimal128Array::from(vec![Some(10_i128.pow(38) - 1), Some(-5), None, Some(0)]);
        let times = vec![Some(1_500_000), Some(-1), None, Some(i64::MAX)];
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(decimals.with_precision_and_scale(38, 2).unwrap()),
            Arc::new(Float64Array::from(vec![Some(-0.0), Some(f64::NAN), None, Some(1e300)])),
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
            Arc::new(Date32Array::from(vec![Some(0), Some(-1), None, Some(20374)])),
            Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\0\xff"), Some(b""), None, None])),
            Arc::new(StringArray::from(vec![Some("{\"a\":\n1.10}"), Some("null"), None, None])),
            Arc::new(StringArray::from(vec![Some("a\n\"\0"), Some("é"), None, None])),
        ];
        let rows = RecordBatch::try_new(feed.schema.arrow(), arrays).unwrap();
        let mut out = Vec::new();
        write(&mut out, &feed, &rows).unwrap();
        let expected = [
            r#"{"d":999999999999999999999999999999999999.99,"f":-0.0,"at":"1970-01-01T00:00:01.500Z","on":"1970-01-01","b":"AP8=","j":{"a": 1.10},"s":"a\n\"\u0000"}"#,
            r#"{"d":-0.05,"f":"NaN","at":"1969-12-31T23:59:59.999999Z","on":"1969-12-31","b":"","j":null,"s":"é"}"#,
            r#"{"d":null,"f":null,"at":null,"on":null,"b":null,"j":null,"s":null}"#,
            r#"{"d":0.00,"f":1e+300,"at":"9223372036854775807 microseconds","on":"2025-10-13","b":null,"j":null,"s":null}"#,
        ];
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
}
