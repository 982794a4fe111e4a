//! Rows as lines of JSON, each value as [`crate::json`] spells it.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use crate::config::{ColumnType, Feed};
use crate::json;

/// Appends one line for each row; a null is a field with the value `null`.
pub fn write(out: &mut Vec<u8>, feed: &Feed, rows: &RecordBatch) -> Result<(), ArrowError> {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, values)| {
        let mut name = Vec::new();
        json::quoted(&mut name, field.name())?;
        Ok((name, values, kind_of(feed, field.name())))
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    for row in 0..rows.num_rows() {
        for (index, (name, values, kind)) in columns.iter().enumerate() {
            out.push(if index == 0 { b'{' } else { b',' });
            out.extend_from_slice(name);
            out.push(b':');
            json::write(out, *kind, values, row)?;
        }
        out.extend_from_slice(b"}\n");
    }
    Ok(())
}

/// What a column's texts are; of our own columns only the headers are JSON.
fn kind_of(feed: &Feed, name: &str) -> ColumnType {
    let column = feed.schema.columns.iter().find(|column| column.name == name);
    match column {
        Some(column) => column.kind,
        None if name == "_headers" => ColumnType::Json,
        None => ColumnType::String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, Date32Array, Decimal128Array, Float64Array, StringArray,
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
            r#"{"d":999999999999999999999999999999999999.99,"f":-0.0,"at":"1970-01-01T00:00:01.500000Z","on":"1970-01-01","b":"AP8=","j":{"a": 1.10},"s":"a\n\"\u0000"}"#,
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
