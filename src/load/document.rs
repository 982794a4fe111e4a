//! A document out of a row's columns, each under its path: what the lake keeps of a value. Fields that
//! were null are left out, as nobody can tell them from those that were absent.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};

use crate::config::{Column, Schema};
use crate::json;

/// An object under construction: its members in the order they were given.
#[derive(Default)]
struct Object {
    members: Vec<(String, Member)>,
    places: BTreeMap<String, usize>,
}

enum Member {
    Text(String),
    Object(Object),
}

impl Object {
    fn put(&mut self, path: &str, text: String) {
        let (name, rest) = match path.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (path, None),
        };
        let place = *self.places.entry(name.to_owned()).or_insert_with(|| {
            self.members.push((name.to_owned(), Member::Object(Object::default())));
            self.members.len() - 1
        });
        match (rest, &mut self.members[place].1) {
            (Some(rest), Member::Object(object)) => object.put(rest, text),
            // A column of the whole object holds what is inside it.
            (Some(_), Member::Text(_)) => {}
            (None, member) => *member = Member::Text(text),
        }
    }

    fn write(&self, out: &mut String) {
        out.push('{');
        for (index, (name, member)) in self.members.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&serde_json::Value::from(name.as_str()).to_string());
            out.push(':');
            match member {
                Member::Text(text) => out.push_str(text),
                Member::Object(object) => object.write(out),
            }
        }
        out.push('}');
    }
}

/// The documents of all rows; none for a delete.
pub(super) fn documents(
    schema: &Schema,
    rows: &RecordBatch,
    is_delete: impl Fn(usize) -> bool,
) -> StringArray {
    let from_key = schema.from_key();
    let named = schema.columns.len() - usize::from(schema.rest);
    let columns: Vec<(usize, &Column)> =
        schema.columns.iter().enumerate().take(named).skip(from_key).collect();
    let one = |row: usize| {
        if is_delete(row) {
            return None;
        }
        let mut object = Object::default();
        for (index, column) in &columns {
            let array = rows.column(*index);
            if array.is_valid(row) {
                object.put(column.path(), json::text(column.kind, array, row));
            }
        }
        if schema.rest && rows.column(named).is_valid(row) {
            for (path, text) in members(rows.column(named).as_string::<i32>().value(row)) {
                object.put(&path, text.to_owned());
            }
        }
        let mut text = String::new();
        object.write(&mut text);
        Some(text)
    };
    (0..rows.num_rows()).map(one).collect()
}

/// The members of a JSON object that we wrote ourselves: names, and values as they stand.
fn members(text: &str) -> Vec<(String, &str)> {
    let bytes = text.as_bytes();
    let mut members = Vec::new();
    let (mut depth, mut quoted, mut at) = (0, false, 0);
    let (mut start, mut colon) = (1, None);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b':' if depth == 1 && colon.is_none() => colon = Some(at),
            byte @ (b'}' | b']' | b',') => {
                if depth == 1
                    && let Some(colon) = colon.take()
                {
                    if let Ok(name) = serde_json::from_str(text[start..colon].trim()) {
                        members.push((name, text[colon + 1..at].trim()));
                    }
                    start = at + 1;
                }
                if byte != b',' {
                    depth -= 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    members
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Decimal128Array};

    use super::*;
    use crate::config::ColumnType;

    #[test]
    fn columns_become_the_object_they_were_taken_of() {
        let text = |values: [Option<&str>; 2]| -> ArrayRef {
            Arc::new(StringArray::from(values.to_vec()))
        };
        let at = |name: &str, kind, path: &str| Column {
            path: Some(path.to_owned()),
            ..Column::new(name, kind)
        };
        let schema = Schema {
            rest: true,
            ..Schema::json(
                vec![
                    Column::new("id", ColumnType::String),
                    at("city", ColumnType::String, "LOCATION.CITY"),
                    at("amount", ColumnType::Decimal { precision: 20, scale: 2 }, "AMOUNT"),
                    at("tags", ColumnType::Json, "TAGS"),
                    Column::new("_rest", ColumnType::Json),
                ],
                1,
            )
        };
        let amounts = Decimal128Array::from(vec![Some(12_345_678_901_234_567_890), None])
            .with_precision_and_scale(20, 2)
            .unwrap();
        let rest = r#"{"LOCATION.ZIP":"1, \"}","N\u00e9":[{"a":1},2] , "x":1e400}"#;
        let columns = vec![
            text([Some("k"), Some("d")]),
            text([Some("Köln\""), None]),
            Arc::new(amounts) as ArrayRef,
            text([Some("[1.50]"), None]),
            text([Some(rest), None]),
        ];
        let rows = RecordBatch::try_new(schema.arrow(), columns).unwrap();
        let made = documents(&schema, &rows, |_| false);
        assert_eq!(
            made.value(0),
            r#"{"LOCATION":{"CITY":"Köln\"","ZIP":"1, \"}"},"AMOUNT":123456789012345678.90,"TAGS":[1.50],"Né":[{"a":1},2],"x":1e400}"#
        );
        assert_eq!(made.value(1), "{}");
        assert!(documents(&schema, &rows, |row| row == 1).is_null(1));
    }
}
