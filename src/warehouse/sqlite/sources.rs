//! Rows of existing tables, in the transaction that the permission rows are read in.

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::Value;

use super::blame;
use super::table::ident;
use crate::config::{PermissionSource, Sources};
use crate::governance::Found;
use crate::record::Blame;
use crate::warehouse::governance::{MOST_ROWS, bounded, unread};

/// Reads each; one that cannot be read is left out.
pub(super) fn read(connection: &Connection, sources: &Sources) -> rusqlite::Result<Vec<Found>> {
    let one = |(name, source): (&String, &PermissionSource)| match rows(connection, source) {
        Ok(rows) => Ok(bounded(name, rows)),
        Err(error) if error.sqlite_error_code().map(blame) == Some(Blame::Passing) => Err(error),
        Err(error) => Ok(Err(unread(name, source, &error.to_string()))),
    };
    sources.iter().map(one).collect()
}

fn rows(connection: &Connection, source: &PermissionSource) -> rusqlite::Result<Vec<Vec<Value>>> {
    // With its table before it, a name is never taken for a text.
    let columns = source.read_columns().into_iter().map(|name| format!("t.{}", ident(name)));
    let columns: Vec<String> = columns.collect();
    let (table, most) = (ident(&source.table), MOST_ROWS + 1);
    let sql = format!("SELECT {} FROM {table} AS t LIMIT {most}", columns.join(", "));
    let mut statement = connection.prepare_cached(&sql)?;
    let row = |row: &rusqlite::Row<'_>| {
        (0..columns.len()).map(|at| row.get_ref(at).map(value)).collect::<rusqlite::Result<_>>()
    };
    statement.query_map([], row)?.collect()
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) if number.is_finite() => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        // They name nobody and nothing; and JSON's null would be everything.
        ValueRef::Blob(_) | ValueRef::Real(_) => Value::Array(Vec::new()),
    }
}
