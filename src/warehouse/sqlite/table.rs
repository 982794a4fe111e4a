//! A feed's table: made where it is absent, checked where it is not, and the statements that write it.
//!
//! SQLite has no exact decimals and no times: both are kept as text, times as ISO 8601 in UTC, and
//! booleans as 0 and 1. A stream's table has no key; the fence on the progress keeps its rows unique.

use std::sync::Arc;

use rusqlite::Connection;

use super::dimension::Upsert;
use super::{File, judged};
use crate::config::{Column, ColumnType, Dimension, Feed, FeedKind, Schema};
use crate::record::SinkError;
use crate::warehouse::dimension::{self, DimensionTable};

/// The record that a row comes from, in columns of our own.
pub(super) const TOPIC: &str = "_topic";
pub(super) const PARTITION: &str = "_partition";
pub(super) const OFFSET: &str = "_offset";
pub(super) const TIMESTAMP: &str = "_timestamp";

const ORIGIN: [(&str, &str); 4] =
    [(TOPIC, "TEXT"), (PARTITION, "INTEGER"), (OFFSET, "INTEGER"), (TIMESTAMP, "TEXT")];

/// The statements that write a feed's table.
pub(super) struct Target {
    kind: FeedKind,
    schema: Schema,
    pub table: String,
    /// Which of [`ORIGIN`] the table has.
    pub origin: Vec<&'static str>,
    /// Takes the key columns; only for a table.
    pub delete: Option<String>,
    /// Takes the columns of the feed, then those of `origin`.
    pub insert: String,
    pub dimensions: Vec<Upsert>,
    declared: Vec<Dimension>,
}

impl File {
    /// The feed's table as it was when last looked at.
    pub(super) fn target(&mut self, feed: &Feed) -> Result<Arc<Target>, SinkError> {
        match self.targets.get(&feed.name) {
            Some(target)
                if target.kind == feed.kind
                    && target.schema == feed.schema
                    && target.table == table_name(feed)
                    && feed.dimensions().into_iter().eq(&target.declared) =>
            {
                Ok(target.clone())
            }
            _ => self.look_at_table(feed),
        }
    }

    pub(super) fn look_at_table(&mut self, feed: &Feed) -> Result<Arc<Target>, SinkError> {
        let table = table_name(feed);
        let mut dimensions = Vec::new();
        for dimension in dimension::tables(feed)? {
            let table = self.look_at_dimension(&dimension)?;
            dimensions.push((table, dimension));
        }
        let found = self.transaction(|transaction| {
            let create = create(feed, &table, &dimensions);
            transaction.execute(&create, []).map_err(judged)?;
            grow(transaction, feed, &table).map_err(judged)?;
            columns(transaction, &table).map_err(judged)
        })?;
        check_columns(feed, &table, &found)?;
        if feed.kind == FeedKind::Table {
            check_key(self.connection()?, feed, &table, &found)?;
        }
        for (other, dimension) in dimensions.iter().filter(|(_, it)| it.foreign_key) {
            check_foreign_key(self.connection()?, &table, other, dimension)?;
        }
        let present = |name: &str| found.iter().any(|column| column.name == name);
        let origin = ORIGIN.iter().map(|(name, _)| *name).filter(|name| present(name)).collect();
        let target = Arc::new(target(feed, table, origin, &dimensions));
        self.targets.insert(feed.name.clone(), target.clone());
        Ok(target)
    }

    /// Makes a dimension's table, or checks that it can hold its rows; answers its name.
    fn look_at_dimension(&mut self, dimension: &DimensionTable) -> Result<String, SinkError> {
        let feed = &dimension.feed;
        let table = table_name(feed);
        let found = self.transaction(|transaction| {
            transaction.execute(&create(feed, &table, &[]), []).map_err(judged)?;
            columns(transaction, &table).map_err(judged)
        })?;
        check_columns(feed, &table, &found)?;
        check_key(self.connection()?, feed, &table, &found)?;
        let missing = |name: &str| found.iter().all(|column| column.name != name);
        match ORIGIN.iter().find(|(name, _)| missing(name)) {
            None => Ok(table),
            Some((name, kind)) => Err(SinkError::lasting(format!(
                "table {table}: column {0} ({kind}) is missing, and an older record could not be told \
                 from a newer one; ALTER TABLE {table} ADD COLUMN {0} {kind}",
                ident(name)
            ))),
        }
    }
}

/// An SQL identifier in quotes, whatever is in it.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A file has no schemas: `schema.name` is the table's name as it stands.
pub(super) fn table_name(feed: &Feed) -> String {
    match feed.table() {
        (Some(schema), name) => ident(&format!("{schema}.{name}")),
        (None, name) => ident(&name),
    }
}

fn column_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Int | ColumnType::Long | ColumnType::Boolean => "INTEGER",
        ColumnType::Double => "REAL",
        ColumnType::Bytes => "BLOB",
        ColumnType::String
        | ColumnType::Decimal { .. }
        | ColumnType::Timestamp
        | ColumnType::Date
        | ColumnType::Json
        | ColumnType::Number
        | ColumnType::Nested(_) => "TEXT",
    }
}

pub(super) fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| ident(&column.name)).collect::<Vec<_>>().join(", ")
}

fn create(feed: &Feed, table: &str, dimensions: &[(String, DimensionTable)]) -> String {
    let own = |column: &Column| format!("{} {}", ident(&column.name), column_type(column.kind));
    let mut columns: Vec<String> = feed.schema.columns.iter().map(own).collect();
    columns.extend(ORIGIN.iter().map(|(name, kind)| format!("{} {kind}", ident(name))));
    if feed.kind == FeedKind::Table {
        columns.push(format!("PRIMARY KEY ({})", names(feed.schema.key())));
    }
    for (other, dimension) in dimensions.iter().filter(|(_, it)| it.foreign_key) {
        let key = names(dimension.feed.schema.key());
        columns.push(format!("FOREIGN KEY ({key}) REFERENCES {other} ({key})"));
    }
    format!("CREATE TABLE IF NOT EXISTS {table} ({})", columns.join(", "))
}

/// A feed's tables as text.
pub fn create_table(feed: &Feed) -> Result<String, SinkError> {
    let (mut lines, mut dimensions) = (Vec::new(), Vec::new());
    for dimension in dimension::tables(feed)? {
        let table = table_name(&dimension.feed);
        lines.push(format!("{};", create(&dimension.feed, &table, &[])));
        dimensions.push((table, dimension));
    }
    lines.push(format!("{};", create(feed, &table_name(feed), &dimensions)));
    Ok(lines.join("\n"))
}

/// A column as an existing table has it.
pub(super) struct Found {
    pub name: String,
    pub declared: String,
    must_be_filled: bool,
    in_primary_key: bool,
}

pub(super) fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Found>> {
    let mut rows = connection.prepare(&format!("PRAGMA table_info({table})"))?;
    let found = rows.query_map([], |row| {
        let (not_null, default): (bool, Option<String>) = (row.get(3)?, row.get(4)?);
        Ok(Found {
            name: row.get(1)?,
            declared: row.get(2)?,
            must_be_filled: not_null && default.is_none(),
            in_primary_key: row.get::<_, i64>(5)? > 0,
        })
    })?;
    found.collect()
}

/// Gives a table of our own, known by the record's coordinates, the columns that its feed has got since.
fn grow(connection: &Connection, feed: &Feed, table: &str) -> rusqlite::Result<()> {
    let found = columns(connection, table)?;
    let has = |name: &str| found.iter().any(|column| column.name == name);
    // A table of columns does not become one of documents.
    if feed.is_document() || !ORIGIN.iter().all(|(name, _)| has(name)) {
        return Ok(());
    }
    for column in feed.schema.value().iter().filter(|column| !has(&column.name)) {
        let (name, kind) = (ident(&column.name), column_type(column.kind));
        connection.execute(&format!("ALTER TABLE {table} ADD COLUMN {name} {kind}"), [])?;
    }
    Ok(())
}

fn check_columns(feed: &Feed, table: &str, found: &[Found]) -> Result<(), SinkError> {
    for column in &feed.schema.columns {
        let (name, wanted) = (ident(&column.name), column_type(column.kind));
        let Some(there) = found.iter().find(|there| there.name == column.name) else {
            return Err(SinkError::lasting(format!(
                "table {table}: column {name} ({wanted}) is missing; \
                 ALTER TABLE {table} ADD COLUMN {name} {wanted}"
            )));
        };
        if !keeps(&there.declared, wanted) {
            return Err(SinkError::lasting(format!(
                "table {table}: column {name} is {}, wanted {wanted}; make the table anew, or \
                 declare another type",
                there.declared
            )));
        }
    }
    let ours = |name: &str| {
        let columns = &feed.schema.columns;
        columns.iter().any(|column| column.name == name)
            || ORIGIN.iter().any(|(own, _)| *own == name)
    };
    match found.iter().find(|there| there.must_be_filled && !ours(&there.name)) {
        Some(there) => Err(SinkError::lasting(format!(
            "table {table}: column {} must not be null, has no default, and is no column of the \
             feed; give it a default",
            ident(&there.name)
        ))),
        None => Ok(()),
    }
}

/// Whether a column declared so keeps a value of the wanted type as it is given: SQLite turns text that
/// looks like a number into one wherever the declaration sounds like numbers.
fn keeps(declared: &str, wanted: &str) -> bool {
    let declared = declared.to_ascii_uppercase();
    let sounds = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    let integer = sounds(&["INT"]);
    let text = !integer && sounds(&["CHAR", "CLOB", "TEXT"]);
    let none = !integer && !text && (declared.is_empty() || sounds(&["BLOB"]));
    match wanted {
        "TEXT" => text || none,
        _ => !text,
    }
}

fn check_key(
    connection: &Connection,
    feed: &Feed,
    table: &str,
    found: &[Found],
) -> Result<(), SinkError> {
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    let key = sorted(feed.schema.key().iter().map(|column| column.name.clone()).collect());
    let primary = found.iter().filter(|there| there.in_primary_key);
    let primary = sorted(primary.map(|there| there.name.clone()).collect());
    let indexes = unique_indexes(connection, table).map_err(judged)?;
    match primary == key || indexes.into_iter().any(|columns| sorted(columns) == key) {
        true => Ok(()),
        false => Err(SinkError::lasting(format!(
            "table {table}: no unique index on exactly the key ({0}); \
             CREATE UNIQUE INDEX {1} ON {table} ({0})",
            names(feed.schema.key()),
            ident(&format!("{}_key", feed.name)),
        ))),
    }
}

fn check_foreign_key(
    connection: &Connection,
    table: &str,
    other: &str,
    dimension: &DimensionTable,
) -> Result<(), SinkError> {
    let find = || -> rusqlite::Result<bool> {
        let mut list = connection.prepare(&format!("PRAGMA foreign_key_list({table})"))?;
        let tables = list.query_map([], |row| row.get::<_, String>(2))?;
        let tables: Vec<String> = tables.collect::<rusqlite::Result<_>>()?;
        Ok(tables.iter().any(|table| ident(table) == other))
    };
    match find().map_err(judged)? {
        true => Ok(()),
        false => Err(SinkError::lasting(format!(
            "table {table}: no foreign key ({}) to {other}; make the table anew, or say \
             `foreign_key: false`",
            names(dimension.feed.schema.key())
        ))),
    }
}

fn unique_indexes(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Vec<String>>> {
    let mut list = connection.prepare(&format!("PRAGMA index_list({table})"))?;
    let whole = list.query_map([], |row| {
        let (name, unique, partial): (String, bool, bool) = (row.get(1)?, row.get(2)?, row.get(4)?);
        Ok((unique && !partial).then_some(name))
    })?;
    let mut indexes = Vec::new();
    for name in whole.filter_map(Result::transpose) {
        let mut info = connection.prepare(&format!("PRAGMA index_info({})", ident(&name?)))?;
        // An expression has no column name; such an index is none of ours.
        let columns = info.query_map([], |row| row.get::<_, Option<String>>(2))?;
        let columns: Option<Vec<String>> = columns.collect::<rusqlite::Result<_>>()?;
        indexes.extend(columns);
    }
    Ok(indexes)
}

fn target(
    feed: &Feed,
    table: String,
    origin: Vec<&'static str>,
    dimensions: &[(String, DimensionTable)],
) -> Target {
    let mut into: Vec<String> =
        feed.schema.columns.iter().map(|column| ident(&column.name)).collect();
    into.extend(origin.iter().map(|name| ident(name)));
    let marks = vec!["?"; into.len()].join(", ");
    let mut insert = format!("INSERT INTO {table} ({}) VALUES ({marks})", into.join(", "));
    let key = feed.schema.key();
    if feed.kind == FeedKind::Table {
        let changed: Vec<String> =
            into[key.len()..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
        let action = match changed.is_empty() {
            true => "NOTHING".to_owned(),
            false => format!("UPDATE SET {}", changed.join(", ")),
        };
        insert.push_str(&format!(" ON CONFLICT ({}) DO {action}", names(key)));
    }
    let equal: Vec<String> =
        key.iter().map(|column| format!("{} = ?", ident(&column.name))).collect();
    let delete = (feed.kind == FeedKind::Table)
        .then(|| format!("DELETE FROM {table} WHERE {}", equal.join(" AND ")));
    Target {
        kind: feed.kind,
        schema: feed.schema.clone(),
        table,
        origin,
        delete,
        insert,
        dimensions: dimensions.iter().map(|(table, it)| Upsert::new(table, it)).collect(),
        declared: feed.dimensions().into_iter().cloned().collect(),
    }
}
