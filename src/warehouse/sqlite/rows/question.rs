//! What is asked of SQLite, and its answers read as what `write` made of values.

use rusqlite::types::{Value, ValueRef};

use crate::config::{Column, ColumnType};
use crate::record::{self, Bound};
use crate::warehouse::filling::Cell;
use crate::warehouse::rows::{KeyValue, Wanted, ends};
use crate::warehouse::spell;
use crate::warehouse::sqlite::table::ident;

/// The statement, and the values of its parameters.
pub(super) fn question(wanted: &Wanted, table: &str, values: &mut Vec<Value>) -> String {
    let columns: Vec<String> = wanted.columns.iter().map(qualified).collect();
    let key: Vec<String> = wanted.feed.schema.key().iter().map(qualified).collect();
    let key = key.join(", ");
    let mut conditions = Vec::new();
    if let Some(after) = &wanted.after {
        let marks = vec!["?"; after.len()].join(", ");
        values.extend(after.iter().map(key_value));
        conditions.push(format!("({key}) > ({marks})"));
    }
    for (column, bound) in &wanted.bounds {
        conditions.extend(within(column, bound, values));
    }
    let rows = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    format!("SELECT {} FROM {table} AS t{rows} ORDER BY {key}", columns.join(", "))
}

/// A name that nothing else is taken for: in quotes alone, one of no column would be a text.
fn qualified(column: &Column) -> String {
    format!("t.{}", ident(&column.name))
}

/// Spelled as `write` spells it. A time beyond the calendar is behind none that is kept.
fn key_value(value: &KeyValue) -> Value {
    match value {
        KeyValue::Long(number) => Value::Integer(*number),
        KeyValue::Text(text) | KeyValue::Decimal(text) => Value::Text(text.clone()),
        KeyValue::Timestamp(micros) => spell::timestamp(*micros).map_or(Value::Null, Value::Text),
        KeyValue::Date(days) => spell::date(*days).map_or(Value::Null, Value::Text),
        KeyValue::Bool(truth) => Value::Integer((*truth).into()),
        KeyValue::Bytes(bytes) => Value::Blob(bytes.clone()),
    }
}

/// So much of a bound as means the same here as it does in Arrow.
fn within(column: &Column, bound: &Bound, values: &mut Vec<Value>) -> Vec<String> {
    let name = qualified(column);
    let mut conditions = Vec::new();
    for (comparison, value) in ends(bound) {
        let Some(value) = bound_value(column.kind, comparison, value) else { continue };
        let is_time = matches!(column.kind, ColumnType::Timestamp | ColumnType::Date);
        conditions.push(match is_time && comparison == ">=" {
            // Years of more than four digits have a sign before them, which is less than any digit.
            true => format!("({name} >= ? OR {name} < '0')"),
            false => format!("{name} {comparison} ?"),
        });
        values.push(value);
    }
    if conditions.is_empty() {
        conditions.push(format!("{name} IS NOT NULL"));
    }
    conditions
}

fn bound_value(kind: ColumnType, comparison: &str, value: &record::Value) -> Option<Value> {
    use record::Value as Of;
    let equal = comparison == "=";
    match (value, kind) {
        (Of::Long(number), ColumnType::Int | ColumnType::Long) => Some(Value::Integer(*number)),
        (Of::Bool(truth), ColumnType::Boolean) => Some(Value::Integer((*truth).into())),
        (Of::Double(number), ColumnType::Double) if !number.is_nan() => Some(Value::Real(*number)),
        (Of::Text(text), ColumnType::String) if equal => Some(Value::Text(text.clone())),
        // A decimal is one text, but the texts are not in the order of decimals.
        (Of::Decimal { unscaled, scale: same }, ColumnType::Decimal { precision, scale })
            if equal && *same == scale =>
        {
            Some(Value::Text(spell::decimal(*unscaled, precision, scale)))
        }
        (Of::Timestamp(micros), ColumnType::Timestamp) => four_digits(spell::timestamp(*micros)),
        (Of::Date(days), ColumnType::Date) => four_digits(spell::date(*days)),
        _ => None,
    }
}

/// A time that is in the order of times among others of its kind: of the years 0 to 9999.
fn four_digits(time: Option<String>) -> Option<Value> {
    time.filter(|time| time.starts_with(|first: char| first.is_ascii_digit())).map(Value::Text)
}

/// A value of the column, or why it is none.
pub(super) fn cell(kind: ColumnType, value: ValueRef<'_>) -> Result<Cell<'_>, String> {
    let cell = match (kind, value) {
        (_, ValueRef::Null) => Some(Cell::Null),
        (ColumnType::Int | ColumnType::Long, _) => whole(value).map(Cell::Whole),
        (ColumnType::Boolean, _) => match whole(value) {
            Some(0) => Some(Cell::Boolean(false)),
            Some(1) => Some(Cell::Boolean(true)),
            _ => None,
        },
        (ColumnType::Double, ValueRef::Real(number)) => Some(Cell::Double(number)),
        // A column that is declared as another kind of number keeps whole ones as integers.
        (ColumnType::Double, ValueRef::Integer(number)) => {
            let same = number as f64 as i128 == i128::from(number);
            same.then_some(Cell::Double(number as f64))
        }
        (ColumnType::Bytes, ValueRef::Blob(bytes)) => Some(Cell::Bytes(bytes)),
        (_, ValueRef::Text(text)) => std::str::from_utf8(text).ok().and_then(|it| read(kind, it)),
        _ => None,
    };
    cell.ok_or_else(|| format!("a value that is no {kind}"))
}

/// An integer, or what a column that is declared as `REAL` makes of it.
fn whole(value: ValueRef<'_>) -> Option<i64> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    match value {
        ValueRef::Integer(number) => Some(number),
        ValueRef::Real(number) if number.fract() == 0.0 && (-BEYOND..BEYOND).contains(&number) => {
            Some(number as i64)
        }
        _ => None,
    }
}

/// What is kept as text.
fn read(kind: ColumnType, text: &str) -> Option<Cell<'_>> {
    match kind {
        // Nested columns are JSON or columns by now: see `warehouse::nested`.
        ColumnType::String | ColumnType::Number | ColumnType::Json | ColumnType::Nested(_) => {
            Some(Cell::Text(text))
        }
        ColumnType::Decimal { precision, scale } => {
            spell::read_decimal(text, precision, scale).map(Cell::Decimal)
        }
        ColumnType::Timestamp => spell::read_timestamp(text).map(Cell::Timestamp),
        ColumnType::Date => spell::read_date(text).map(Cell::Date),
        _ => None,
    }
}
