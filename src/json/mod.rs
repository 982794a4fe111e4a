//! Values as JSON text, with nothing lost: decimals and numbers with all their digits, bytes as base64,
//! times in ISO 8601, `json` columns as the JSON they are, structs and maps as objects.
//!
//! What is decoded from JSON means the same here. Pure: Arrow's columns and the feed's types come in.

use std::io::Write;

use arrow::array::{Array, AsArray, OffsetSizeTrait};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, DecimalType, Float64Type, Int8Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, SecondsFormat};

use crate::config::{ColumnType, Nested};

/// One value as text; null where Arrow's type has no form, which no column of a feed has.
pub fn text(kind: ColumnType, values: &dyn Array, row: usize) -> String {
    let mut out = Vec::new();
    match write(&mut out, kind, values, row) {
        // Only whole texts were put in.
        Ok(()) => String::from_utf8_lossy(&out).into_owned(),
        Err(_) => "null".to_owned(),
    }
}

/// Appends one value; of texts and what holds texts, `kind` says which of them are JSON already.
pub fn write(
    out: &mut Vec<u8>,
    kind: ColumnType,
    values: &dyn Array,
    row: usize,
) -> Result<(), ArrowError> {
    if values.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let text = match values.data_type() {
        DataType::Utf8 if matches!(kind, ColumnType::Json | ColumnType::Number) => {
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
                Some(time) => quoted(out, &time.to_rfc3339_opts(SecondsFormat::Micros, true)),
                None => quoted(out, &format!("{micros} microseconds")),
            };
        }
        DataType::Struct(_) | DataType::List(_) | DataType::Map(..) => {
            return nested(out, kind, values, row);
        }
        other => return Err(ArrowError::NotYetImplemented(format!("{other} in JSON lines"))),
    };
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn nested(
    out: &mut Vec<u8>,
    kind: ColumnType,
    values: &dyn Array,
    row: usize,
) -> Result<(), ArrowError> {
    let ColumnType::Nested(kind) = kind else {
        return Err(ArrowError::SchemaError(format!("nested values in a column of {kind}")));
    };
    match kind {
        Nested::Struct(fields) => {
            let columns = values.as_struct();
            for (index, (name, kind)) in fields.iter().enumerate() {
                out.push(if index == 0 { b'{' } else { b',' });
                quoted(out, name)?;
                out.push(b':');
                write(out, *kind, columns.column(index), row)?;
            }
            out.push(b'}');
        }
        Nested::Array(kind) => {
            let list = values.as_list::<i32>();
            out.push(b'[');
            for (index, at) in span(list.value_offsets(), row).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(out, *kind, list.values(), at)?;
            }
            out.push(b']');
        }
        Nested::Map(kind) => {
            let map = values.as_map();
            let names = map.keys().as_string::<i32>();
            out.push(b'{');
            for (index, at) in span(map.value_offsets(), row).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                quoted(out, names.value(at))?;
                out.push(b':');
                write(out, *kind, map.values(), at)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// Where the items of a row stand.
fn span<O: OffsetSizeTrait>(offsets: &[O], row: usize) -> std::ops::Range<usize> {
    offsets[row].as_usize()..offsets[row + 1].as_usize()
}

/// Appends a text as a JSON string.
pub fn quoted(out: &mut Vec<u8>, text: &str) -> Result<(), ArrowError> {
    serde_json::to_writer(out.by_ref(), text).map_err(failed)
}

fn failed(error: serde_json::Error) -> ArrowError {
    ArrowError::JsonError(error.to_string())
}
