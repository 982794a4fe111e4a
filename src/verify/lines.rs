//! JSON lines read for the columns that are compared.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use chrono::{DateTime, NaiveDate};
use serde_json::{Map, Value};

use crate::config::ColumnType;

/// Reads columns by name and type from a whole file.
pub fn read_lines(text: &[u8], columns: &[(String, ColumnType)]) -> Result<RecordBatch, String> {
    let mut rows: Vec<Map<String, Value>> = Vec::new();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    for (number, line) in lines.enumerate() {
        let row = serde_json::from_slice(line);
        rows.push(row.map_err(|error| format!("line {}: {error}", number + 1))?);
    }
    let mut arrays: Vec<(&str, ArrayRef)> = Vec::new();
    for (name, kind) in columns {
        let values: Vec<&Value> =
            rows.iter().map(|row| row.get(name).unwrap_or(&Value::Null)).collect();
        let array = column(*kind, &values);
        arrays.push((name, array.ok_or_else(|| format!("no column {name} of the right type"))?));
    }
    RecordBatch::try_from_iter_with_nullable(
        arrays.into_iter().map(|(name, array)| (name, array, true)),
    )
    .map_err(|error| error.to_string())
}

fn column(kind: ColumnType, values: &[&Value]) -> Option<ArrayRef> {
    Some(match kind {
        ColumnType::Int => {
            let read = |value: &Value| i32::try_from(value.as_i64()?).ok();
            Arc::new(Int32Array::from(each(values, read)?))
        }
        ColumnType::Long => Arc::new(Int64Array::from(each(values, Value::as_i64)?)),
        ColumnType::Timestamp => {
            Arc::new(TimestampMicrosecondArray::from(each(values, micros)?).with_timezone("UTC"))
        }
        ColumnType::Date => Arc::new(Date32Array::from(each(values, days)?)),
        ColumnType::String => {
            let read = |value: &Value| value.as_str().map(str::to_owned);
            Arc::new(StringArray::from(each(values, read)?))
        }
        _ => return None,
    })
}

/// None if one of them is neither null nor of the type.
fn each<T>(values: &[&Value], read: impl Fn(&Value) -> Option<T>) -> Option<Vec<Option<T>>> {
    let value = |value: &&Value| match value {
        Value::Null => Some(None),
        value => read(value).map(Some),
    };
    values.iter().map(value).collect()
}

fn micros(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    if let Some(number) = text.strip_suffix(" microseconds") {
        return number.parse().ok();
    }
    // chrono prints years of five digits with their sign and reads them so.
    text.parse::<DateTime<chrono::Utc>>().ok().map(|time| time.timestamp_micros())
}

fn days(value: &Value) -> Option<i32> {
    let text = value.as_str()?;
    if let Some(number) = text.strip_suffix(" days") {
        return number.parse().ok();
    }
    let date: NaiveDate = text.parse().ok()?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Date32Type, TimestampMicrosecondType};

    #[test]
    fn columns_are_read_by_name_and_type() {
        let columns = |of: &[(&str, ColumnType)]| -> Vec<(String, ColumnType)> {
            of.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()
        };
        let text = b"{\"at\":\"1970-01-01T00:00:01.5Z\",\"on\":\"1970-01-02\"}\n{\"at\":\"9 microseconds\",\"on\":null}\n";
        let wanted = columns(&[("at", ColumnType::Timestamp), ("on", ColumnType::Date)]);
        let rows = read_lines(text, &wanted).unwrap();
        let times = rows.column(0).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.values(), &[1_500_000, 9]);
        let dates = rows.column(1).as_primitive::<Date32Type>();
        assert_eq!((dates.value(0), dates.is_valid(1)), (1, false));
        let wrong = read_lines(text, &columns(&[("at", ColumnType::Long)])).unwrap_err();
        assert!(wrong.contains("no column at"), "{wrong}");
        assert!(read_lines(b"{}\n{\n", &[]).unwrap_err().contains("line 2"));
    }
}
