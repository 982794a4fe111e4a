//! How rows reach a feed's table: through a staging table of the session, by three statements. Few rows
//! go there straight, by two: looking one up among many staged ones would cost as much as all of them.

use super::table::{column_type, ident, names};
use crate::config::{Column, ColumnType, Feed, FeedKind, Schema};

/// The record that a row comes from, in columns of our own.
pub(super) const TOPIC: &str = "_topic";
pub(super) const PARTITION: &str = "_partition";
pub(super) const OFFSET: &str = "_offset";
pub(super) const TIMESTAMP: &str = "_timestamp";

pub(super) const ORIGIN: [(&str, &str); 4] = [
    (TOPIC, "text"),
    (PARTITION, "integer"),
    (OFFSET, "bigint"),
    (TIMESTAMP, "timestamp with time zone"),
];

/// How rows reach a feed's table: through a staging table of the session.
pub(super) struct Target {
    /// What it was made for.
    pub kind: FeedKind,
    pub schema: Schema,
    pub table: String,
    /// Which of [`ORIGIN`] the table has.
    pub origin: Vec<&'static str>,
    pub stage: u64,
    pub create_stage: String,
    pub copy: String,
    /// Both take the first row number and the one past the last.
    pub delete: Option<String>,
    /// Takes the topic too, if the table has a column for it.
    pub insert: String,
    /// Takes the key of one row.
    pub delete_one: String,
    /// Takes the columns of one row as they are staged, then the topic as `insert` does.
    pub insert_one: String,
}

impl Target {
    pub fn new(feed: &Feed, table: String, origin: Vec<&'static str>, stage: u64) -> Self {
        let stage_name = format!("pg_temp.tidegate_stage_{stage}");
        let is_table = feed.kind == FeedKind::Table;
        Self {
            kind: feed.kind,
            schema: feed.schema.clone(),
            create_stage: create_stage(feed, &origin, stage),
            copy: format!("COPY {stage_name} FROM STDIN (FORMAT binary)"),
            delete: is_table.then(|| delete(feed, &table, &stage_name)),
            insert: insert(feed, &table, &stage_name, &origin),
            delete_one: delete_one(feed, &table),
            insert_one: insert_one(feed, &table, &origin),
            table,
            origin,
            stage,
        }
    }

    pub fn has(&self, origin: &str) -> bool {
        self.origin.contains(&origin)
    }

    pub fn fits(&self, feed: &Feed, table: &str) -> bool {
        self.kind == feed.kind && self.schema == feed.schema && self.table == table
    }
}

/// The type in the staging table: one whose input takes every value that passes our own checks.
fn stage_type(kind: ColumnType) -> String {
    match kind {
        // Parsed on the way from the staging table, where a row that fails can be found.
        ColumnType::Json | ColumnType::Number | ColumnType::Nested(_) => "text".to_owned(),
        ColumnType::Decimal { .. } => "numeric".to_owned(),
        other => column_type(other),
    }
}

/// What the text of the staging table becomes.
fn parsed_as(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Json | ColumnType::Nested(_) => "::jsonb",
        ColumnType::Number => "::numeric",
        _ => "",
    }
}

/// Emptied by every commit and made once per connection: one per transaction would bloat the
/// catalogs. Long texts are kept as they are, since compressing them only to send them on is wasted.
fn create_stage(feed: &Feed, origin: &[&str], stage: u64) -> String {
    let mut columns = vec!["_row integer".to_owned()];
    let mut plain = String::new();
    for column in &feed.schema.columns {
        let (name, kind) = (ident(&column.name), stage_type(column.kind));
        if kind == "text" {
            plain.push_str(&format!(
                "; ALTER TABLE pg_temp.tidegate_stage_{stage} ALTER COLUMN {name} SET STORAGE EXTERNAL"
            ));
        }
        columns.push(format!("{name} {kind}"));
    }
    // The topic is the same for all rows and goes with the statement.
    let own = ORIGIN.iter().filter(|(name, _)| *name != TOPIC && origin.contains(name));
    columns.extend(own.map(|(name, kind)| format!("{} {kind}", ident(name))));
    format!(
        "CREATE TEMPORARY TABLE IF NOT EXISTS tidegate_stage_{stage} ({}) ON COMMIT DELETE ROWS{plain}",
        columns.join(", ")
    )
}

fn delete(feed: &Feed, table: &str, stage: &str) -> String {
    let equal = |column: &Column| format!("t.{0} = s.{0}", ident(&column.name));
    let keys: Vec<String> = feed.schema.key().iter().map(equal).collect();
    format!(
        "DELETE FROM {table} AS t USING {stage} AS s WHERE s._row >= $1 AND s._row < $2 AND {}",
        keys.join(" AND ")
    )
}

fn insert(feed: &Feed, table: &str, stage: &str, origin: &[&str]) -> String {
    let own = feed.schema.columns.iter().map(|column| {
        let cast = parsed_as(column.kind);
        format!("s.{}{cast}", ident(&column.name))
    });
    let origins = origin.iter().map(|name| match *name {
        TOPIC => "$3::text".to_owned(),
        name => format!("s.{}", ident(name)),
    });
    let from: Vec<String> = own.chain(origins).collect();
    let source =
        format!("SELECT {} FROM {stage} AS s WHERE s._row >= $1 AND s._row < $2", from.join(", "));
    insert_from(feed, table, &source, origin)
}

fn delete_one(feed: &Feed, table: &str) -> String {
    let equal = |(index, column): (usize, &Column)| {
        format!("t.{} = ${}::{}", ident(&column.name), index + 1, stage_type(column.kind))
    };
    let keys: Vec<String> = feed.schema.key().iter().enumerate().map(equal).collect();
    format!("DELETE FROM {table} AS t WHERE {}", keys.join(" AND "))
}

/// Each value comes as the staging table's column would take it, and goes on from there alike.
fn insert_one(feed: &Feed, table: &str, origin: &[&str]) -> String {
    let mut number = 0;
    let mut next = |kind: &str| {
        number += 1;
        format!("${number}::{kind}")
    };
    let own = feed.schema.columns.iter().map(|column| {
        let cast = parsed_as(column.kind);
        format!("{}{cast}", next(&stage_type(column.kind)))
    });
    let mut values: Vec<String> = own.collect();
    let first_origin = values.len();
    // The topic is bound last, wherever its column stands.
    let own = origin.iter().filter(|name| **name != TOPIC);
    let kind = |name: &str| ORIGIN.iter().find(|(own, _)| *own == name).map_or("text", |own| own.1);
    values.extend(own.map(|name| next(kind(name))));
    if let Some(at) = origin.iter().position(|name| *name == TOPIC) {
        values.insert(first_origin + at, next("text"));
    }
    insert_from(feed, table, &format!("VALUES ({})", values.join(", ")), origin)
}

fn insert_from(feed: &Feed, table: &str, source: &str, origin: &[&str]) -> String {
    let own = feed.schema.columns.iter().map(|column| ident(&column.name));
    let into: Vec<String> = own.chain(origin.iter().map(|name| ident(name))).collect();
    let mut sql = format!("INSERT INTO {table} ({}) {source}", into.join(", "));
    if feed.kind == FeedKind::Table {
        let changed: Vec<String> = into[feed.schema.key_columns..]
            .iter()
            .map(|name| format!("{name} = EXCLUDED.{name}"))
            .collect();
        let action = match changed.is_empty() {
            true => "NOTHING".to_owned(),
            false => format!("UPDATE SET {}", changed.join(", ")),
        };
        sql.push_str(&format!(" ON CONFLICT ({}) DO {action}", names(feed.schema.key())));
    }
    sql
}
