//! How rows reach a feed's table: through a staging table of the session, by three statements.

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
        ColumnType::Json => "text".to_owned(),
        ColumnType::Decimal { .. } => "numeric".to_owned(),
        other => column_type(other),
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
    let mut into = Vec::new();
    let mut from = Vec::new();
    for column in &feed.schema.columns {
        let name = ident(&column.name);
        let cast = if column.kind == ColumnType::Json { "::jsonb" } else { "" };
        from.push(format!("s.{name}{cast}"));
        into.push(name);
    }
    for name in origin {
        from.push(if *name == TOPIC {
            "$3::text".to_owned()
        } else {
            format!("s.{}", ident(name))
        });
        into.push(ident(name));
    }
    let mut sql = format!(
        "INSERT INTO {table} ({}) SELECT {} FROM {stage} AS s WHERE s._row >= $1 AND s._row < $2",
        into.join(", "),
        from.join(", ")
    );
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
