//! Structs, arrays and maps under construction: values inside a value, each in a column of its own.
//!
//! Nothing is taken back when a value fails half-way: it becomes a null, what it holds already stays
//! behind unreferenced, and its record is dropped with the others that failed.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, ListArray, MapArray, NullBufferBuilder, StringBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Fields};

use super::column::Slot;
use super::columns::Columns;
use super::fault::{Fault, Outcome};
use super::json::Cursor;
use super::tree::Tree;
use crate::config::{Column, Epoch, Nested, arrow_fields, map_fields};
use crate::record::RejectClass;

pub(super) struct NestedValues {
    place: String,
    values: Values,
    valid: NullBufferBuilder,
    /// Members that no type names: paths from here, and values.
    rest: Vec<(String, String)>,
}

enum Values {
    Struct {
        tree: Tree,
        columns: Columns,
        fields: Fields,
    },
    Array {
        items: Slot,
        ends: Vec<i32>,
    },
    Map {
        names: StringBuilder,
        values: Slot,
        ends: Vec<i32>,
        seen: HashSet<String>,
        fields: Fields,
    },
}

impl NestedValues {
    pub fn new(place: &str, nested: &Nested, epoch: Epoch, rest: bool) -> Self {
        let values = match nested {
            Nested::Struct(fields) => {
                let slot = |(name, kind): &(String, _)| {
                    Slot::inside(format!("{place}.{name}"), *kind, epoch, rest)
                };
                let named: Vec<Column> =
                    fields.iter().map(|(name, kind)| Column::new(name, *kind)).collect();
                Values::Struct {
                    tree: Tree::new(place, named.iter().enumerate()),
                    columns: Columns::inside(fields.iter().map(slot).collect(), rest),
                    fields: arrow_fields(fields),
                }
            }
            Nested::Array(kind) => Values::Array {
                items: Slot::inside(format!("{place}[]"), *kind, epoch, rest),
                ends: vec![0],
            },
            Nested::Map(kind) => Values::Map {
                names: StringBuilder::new(),
                values: Slot::inside(format!("{place}{{}}"), *kind, epoch, rest),
                ends: vec![0],
                seen: HashSet::new(),
                fields: map_fields(*kind),
            },
        };
        let valid = NullBufferBuilder::new(0);
        Self { place: place.to_owned(), values, valid, rest: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.valid.len()
    }

    pub fn begin(&mut self, rows: usize, bytes: usize) {
        self.valid = NullBufferBuilder::new(rows);
        match &mut self.values {
            Values::Struct { columns, .. } => columns.begin(rows, bytes),
            Values::Array { items, ends } => {
                items.begin(rows, bytes);
                *ends = vec![0];
            }
            Values::Map { names, values, ends, .. } => {
                *names = StringBuilder::new();
                values.begin(rows, bytes);
                *ends = vec![0];
            }
        }
    }

    pub fn append_null(&mut self) {
        match &mut self.values {
            Values::Struct { columns, .. } => columns.pad_row(),
            Values::Array { ends, items } => ends.push(items.len() as i32),
            Values::Map { ends, values, .. } => ends.push(values.len() as i32),
        }
        self.valid.append_null();
    }

    /// Appends the object or array under the cursor; false, and nothing read, if it is the other one.
    /// If its inside fails, it is a null.
    pub fn read(&mut self, cursor: &mut Cursor<'_>, scratch: &mut String) -> Outcome<bool> {
        self.rest.clear();
        let opening = if matches!(self.values, Values::Array { .. }) { b'[' } else { b'{' };
        if cursor.peek() != opening {
            return Ok(false);
        }
        match self.inside(cursor, scratch) {
            Ok(()) => {
                self.valid.append_non_null();
                Ok(true)
            }
            Err(fault) => {
                self.append_null();
                Err(fault)
            }
        }
    }

    fn inside(&mut self, cursor: &mut Cursor<'_>, scratch: &mut String) -> Outcome<()> {
        let rest = &mut self.rest;
        match &mut self.values {
            Values::Struct { tree, columns, .. } => {
                tree.read(cursor, columns)?;
                rest.extend(columns.take_rest());
                columns.end_row()
            }
            Values::Array { items, ends } => {
                let mut index = 0;
                each_item(cursor, |cursor| {
                    items.read(cursor, scratch)?;
                    let inner = items.take_rest().into_iter();
                    rest.extend(inner.map(|(path, value)| (format!("[{index}]{path}"), value)));
                    index += 1;
                    Ok(())
                })?;
                ends.push(items.len() as i32);
                Ok(())
            }
            Values::Map { names, values, ends, seen, .. } => {
                seen.clear();
                each_member(cursor, scratch, |name, cursor, scratch| {
                    if !seen.insert(name.to_owned()) {
                        let reason = format!("{}: the field {name} stands twice", self.place);
                        return Err(Fault::new(RejectClass::DuplicateField, reason));
                    }
                    names.append_value(name);
                    let read = values.read(cursor, scratch);
                    if values.len() < names.len() {
                        values.pad();
                    }
                    read?;
                    let inner = values.take_rest().into_iter();
                    let name = escaped(name);
                    rest.extend(inner.map(|(path, value)| (format!(".{name}{path}"), value)));
                    Ok(())
                })?;
                ends.push(values.len() as i32);
                Ok(())
            }
        }
    }

    pub fn take_rest(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.rest)
    }

    pub fn finish(&mut self) -> ArrayRef {
        let nulls = self.valid.finish();
        match &mut self.values {
            Values::Struct { columns, fields, .. } => {
                Arc::new(StructArray::new(fields.clone(), columns.finish(), nulls))
            }
            Values::Array { items, ends } => {
                let items = items.finish();
                let field = Arc::new(Field::new("element", items.data_type().clone(), true));
                let ends = OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
                Arc::new(ListArray::new(field, ends, items, nulls))
            }
            Values::Map { names, values, ends, fields, .. } => {
                let columns: Vec<ArrayRef> = vec![Arc::new(names.finish()), values.finish()];
                let entries = StructArray::new(fields.clone(), columns, None);
                let field = Arc::new(Field::new("key_value", entries_type(fields), false));
                let ends = OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
                Arc::new(MapArray::new(field, ends, entries, nulls, false))
            }
        }
    }
}

fn entries_type(fields: &Fields) -> arrow::datatypes::DataType {
    arrow::datatypes::DataType::Struct(fields.clone())
}

/// A name as it stands inside JSON text.
pub(super) fn escaped(name: &str) -> String {
    let quoted = serde_json::Value::from(name).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Goes through the array under the cursor.
pub(super) fn each_item<'a>(
    cursor: &mut Cursor<'a>,
    mut item: impl FnMut(&mut Cursor<'a>) -> Outcome<()>,
) -> Outcome<()> {
    cursor.eat(b'[');
    cursor.space();
    if cursor.eat(b']') {
        return Ok(());
    }
    loop {
        item(cursor)?;
        cursor.space();
        if cursor.eat(b']') {
            return Ok(());
        }
        if !cursor.eat(b',') {
            return Err(cursor.fault("`,` or `]`"));
        }
        cursor.space();
    }
}

/// Goes through the object under the cursor, whatever its members are called.
fn each_member<'a>(
    cursor: &mut Cursor<'a>,
    scratch: &mut String,
    mut member: impl FnMut(&str, &mut Cursor<'a>, &mut String) -> Outcome<()>,
) -> Outcome<()> {
    cursor.eat(b'{');
    cursor.space();
    if cursor.eat(b'}') {
        return Ok(());
    }
    loop {
        let name = cursor.text(scratch)?.to_owned();
        cursor.colon()?;
        member(&name, cursor, scratch)?;
        if !cursor.more_members()? {
            return Ok(());
        }
    }
}
