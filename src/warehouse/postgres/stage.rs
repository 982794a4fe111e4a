//! How rows reach a feed's table: through a staging table of the session, by three statements. Few rows
//! go there straight, by two: looking one up among many staged ones would cost as much as all of them.

use super::dimension;
use super::table::{column_type, ident, names};
use crate::config::{Column, ColumnType, Dimension, Feed, FeedKind, Schema};
use crate::warehouse::dimension::DimensionTable;

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
    /// Which of [`ORIGIN`] are staged, or go with the statements: dimensions need all of them.
    staged: Vec<&'static str>,
    pub stage: u64,
    pub create_stage: String,
    pub copy: String,
    /// Both take the first row number and the one past the last.
    pub delete: Option<String>,
    /// Takes the topic too, if the table has a column for it.
    pub insert: String,
    /// Takes the key of one row.
    pub delete_one: String,
    /// Takes the columns of one row as they are staged, then the topic if that is sent.
    pub insert_one: String,
    pub dimensions: Vec<Upsert>,
    declared: Vec<Dimension>,
}

/// The statements that fill a dimension; they take what those of the feed's own rows take.
pub(super) struct Upsert {
    pub table: String,
    pub from_stage: String,
    pub one: String,
}

impl Target {
    pub fn new(
        feed: &Feed,
        table: String,
        origin: Vec<&'static str>,
        dimensions: &[(String, DimensionTable)],
        stage: u64,
    ) -> Self {
        let stage_name = format!("pg_temp.tidegate_stage_{stage}");
        let is_table = feed.kind == FeedKind::Table;
        let staged: Vec<&'static str> = match dimensions.is_empty() {
            true => origin.clone(),
            false => ORIGIN.iter().map(|(name, _)| *name).collect(),
        };
        let rows = staged_rows(&stage_name, &staged);
        let row = one_row(feed, &staged);
        let upsert = |(table, dimension): &(String, DimensionTable)| Upsert {
            table: table.clone(),
            from_stage: dimension::upsert(feed, dimension, table, &rows),
            one: dimension::upsert(feed, dimension, table, &row),
        };
        Self {
            kind: feed.kind,
            schema: feed.schema.clone(),
            create_stage: create_stage(feed, &staged, stage),
            copy: format!("COPY {stage_name} FROM STDIN (FORMAT binary)"),
            delete: is_table.then(|| delete(feed, &table, &stage_name)),
            insert: insert(feed, &table, &rows, &origin),
            delete_one: delete_one(feed, &table),
            insert_one: insert(feed, &table, &row, &origin),
            dimensions: dimensions.iter().map(upsert).collect(),
            declared: feed.dimensions().into_iter().cloned().collect(),
            table,
            origin,
            staged,
            stage,
        }
    }

    /// Whether that part of a record's origin is sent with its row.
    pub fn sends(&self, origin: &str) -> bool {
        self.staged.contains(&origin)
    }

    pub fn fits(&self, feed: &Feed, table: &str) -> bool {
        self.kind == feed.kind
            && self.schema == feed.schema
            && self.table == table
            && feed.dimensions().into_iter().eq(&self.declared)
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
pub(super) fn parsed_as(kind: ColumnType) -> &'static str {
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

/// A range of the staged rows, with the topic beside them if it is sent.
fn staged_rows(stage: &str, staged: &[&str]) -> String {
    let topic = if staged.contains(&TOPIC) { ", $3::text AS _topic" } else { "" };
    format!("(SELECT *{topic} FROM {stage} WHERE _row >= $1 AND _row < $2)")
}

/// One row whose values are given, each as the staging table's column would take it.
fn one_row(feed: &Feed, staged: &[&str]) -> String {
    let own = feed.schema.columns.iter().map(|column| (&*column.name, stage_type(column.kind)));
    // The topic is bound last, wherever its column stands.
    let topic_last = |topic: bool| ORIGIN.iter().filter(move |(name, _)| (*name == TOPIC) == topic);
    let origin = topic_last(false).chain(topic_last(true));
    let origin = origin.filter(|(name, _)| staged.contains(name));
    let columns: Vec<(&str, String)> =
        own.chain(origin.map(|(name, kind)| (*name, (*kind).to_owned()))).collect();
    let value = |(index, (_, kind)): (usize, &(&str, String))| format!("${}::{kind}", index + 1);
    let values: Vec<String> = columns.iter().enumerate().map(value).collect();
    let names: Vec<String> = columns.iter().map(|(name, _)| ident(name)).collect();
    format!("(SELECT * FROM (VALUES ({})) AS v ({}))", values.join(", "), names.join(", "))
}

fn insert(feed: &Feed, table: &str, source: &str, origin: &[&str]) -> String {
    let own = feed.schema.columns.iter().map(|column| {
        let cast = parsed_as(column.kind);
        format!("s.{}{cast}", ident(&column.name))
    });
    let from: Vec<String> =
        own.chain(origin.iter().map(|name| format!("s.{}", ident(name)))).collect();
    insert_from(feed, table, &format!("SELECT {} FROM {source} AS s", from.join(", ")), origin)
}

fn delete_one(feed: &Feed, table: &str) -> String {
    let equal = |(index, column): (usize, &Column)| {
        format!("t.{} = ${}::{}", ident(&column.name), index + 1, stage_type(column.kind))
    };
    let keys: Vec<String> = feed.schema.key().iter().enumerate().map(equal).collect();
    format!("DELETE FROM {table} AS t WHERE {}", keys.join(" AND "))
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
