//! A feed's table: made where it is absent, checked where it is not, and the statements that write it.
//!
//! A table feed's key columns are the primary key. A stream's table has no key at all: rows are only
//! appended, at twice the speed, and the fence on the progress is what keeps them unique.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio_postgres::Row;

use super::Postgres;
use super::pool::{Session, judged};
use crate::config::{Column, ColumnType, Feed, FeedKind, Schema};
use crate::record::SinkError;

/// The record that a row comes from, in columns of our own.
pub(super) const TOPIC: &str = "_topic";
pub(super) const PARTITION: &str = "_partition";
pub(super) const OFFSET: &str = "_offset";
pub(super) const TIMESTAMP: &str = "_timestamp";

const ORIGIN: [(&str, &str); 4] = [
    (TOPIC, "text"),
    (PARTITION, "integer"),
    (OFFSET, "bigint"),
    (TIMESTAMP, "timestamp with time zone"),
];

/// Two nodes that make the same table at once would fail on the catalog's own unique indexes.
const TABLE_LOCK: &str = "SELECT pg_advisory_xact_lock(1953064037, 2)";

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
    pub fn has(&self, origin: &str) -> bool {
        self.origin.contains(&origin)
    }

    fn fits(&self, feed: &Feed) -> bool {
        self.kind == feed.kind && self.schema == feed.schema && self.table == table_name(feed)
    }
}

impl Postgres {
    /// The feed's table as it was when last looked at.
    pub(super) async fn target(&self, feed: &Feed) -> Result<Arc<Target>, SinkError> {
        let known = self.targets().get(&feed.name).cloned();
        match known {
            Some(target) if target.fits(feed) => Ok(target),
            _ => self.look_at_table(feed).await,
        }
    }

    /// Forgets what is known of the feed's table, for an error that a person mends there.
    pub(super) fn forget_target(&self, feed: &Feed) {
        self.targets().remove(&feed.name);
    }

    pub(super) async fn look_at_table(&self, feed: &Feed) -> Result<Arc<Target>, SinkError> {
        refuse_json_key(feed)?;
        let table = table_name(feed);
        let session = self.sessions.get().await?;
        if !exists(&session, &table).await? {
            create(&session, feed, &table).await.map_err(judged)?;
        }
        check_columns(&session, feed, &table).await?;
        if feed.kind == FeedKind::Table {
            check_key(&session, feed, &table).await?;
        }
        let origin = origin_columns(&session, &table).await.map_err(judged)?;
        session.done();
        let stage = self.next_stage.fetch_add(1, Ordering::Relaxed);
        let target = Arc::new(target(feed, table, origin, stage));
        self.targets().insert(feed.name.clone(), target.clone());
        Ok(target)
    }

    fn targets(&self) -> std::sync::MutexGuard<'_, TargetMap> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type TargetMap = std::collections::HashMap<Arc<str>, Arc<Target>>;

/// An SQL identifier in quotes, whatever is in it.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn table_name(feed: &Feed) -> String {
    match feed.table() {
        (Some(schema), name) => format!("{}.{}", ident(&schema), ident(&name)),
        (None, name) => ident(&name),
    }
}

/// The type of a column as PostgreSQL itself spells it.
fn column_type(kind: ColumnType) -> String {
    match kind {
        ColumnType::String => "text",
        ColumnType::Int => "integer",
        ColumnType::Long => "bigint",
        ColumnType::Double => "double precision",
        ColumnType::Boolean => "boolean",
        ColumnType::Decimal { precision, scale } => return format!("numeric({precision},{scale})"),
        ColumnType::Timestamp => "timestamp with time zone",
        ColumnType::Date => "date",
        ColumnType::Json => "jsonb",
    }
    .to_owned()
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

fn refuse_json_key(feed: &Feed) -> Result<(), SinkError> {
    let keys = if feed.kind == FeedKind::Table { feed.schema.key() } else { &[] };
    match keys.iter().find(|key| key.kind == ColumnType::Json) {
        Some(key) => Err(SinkError::lasting(format!(
            "key column {} is json, and two spellings of one document would be two keys; declare \
             it as string",
            key.name
        ))),
        None => Ok(()),
    }
}

async fn exists(session: &Session, table: &str) -> Result<bool, SinkError> {
    const FIND: &str = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass($1)";
    let found = session.query_opt(FIND, &[&table]).await.map_err(judged)?;
    match found.map(|row| row.get::<_, String>(0)) {
        None => Ok(false),
        Some(kind) if kind == "r" || kind == "p" => Ok(true),
        Some(_) => Err(SinkError::lasting(format!(
            "{table} exists and is not a table; name another under warehouse.table"
        ))),
    }
}

async fn create(session: &Session, feed: &Feed, table: &str) -> Result<(), tokio_postgres::Error> {
    let mut columns: Vec<String> = feed.schema.columns.iter().map(definition).collect();
    columns.extend(ORIGIN.iter().map(|(name, kind)| format!("{} {kind}", ident(name))));
    if feed.kind == FeedKind::Table {
        columns.push(format!("PRIMARY KEY ({})", names(feed.schema.key())));
    }
    session.batch_execute("BEGIN").await?;
    session.batch_execute(TABLE_LOCK).await?;
    if let (Some(schema), _) = feed.table() {
        // Looked for first: IF NOT EXISTS asks for the right to create even where it does.
        let schema = ident(&schema);
        let absent = session.query_one("SELECT to_regnamespace($1) IS NULL", &[&schema]).await?;
        if absent.get(0) {
            session.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
        }
    }
    let columns = columns.join(", ");
    session.batch_execute(&format!("CREATE TABLE IF NOT EXISTS {table} ({columns})")).await?;
    session.batch_execute("COMMIT").await
}

fn definition(column: &Column) -> String {
    format!("{} {}", ident(&column.name), column_type(column.kind))
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| ident(&column.name)).collect::<Vec<_>>().join(", ")
}

/// What an existing table has for each column of the feed, and whether a value can be assigned to it.
/// (Anything can be assigned to a string type.)
const COLUMNS: &str = "
    SELECT w.name, format_type(a.atttypid, a.atttypmod),
           coalesce(b.oid = w.type::regtype OR b.typcategory = 'S'
               OR EXISTS (SELECT FROM pg_cast c
                          WHERE c.castsource = w.type::regtype AND c.casttarget = b.oid
                            AND c.castcontext IN ('a', 'i')), false),
           coalesce(l.collisdeterministic, true), coalesce(a.attgenerated <> '', false)
    FROM unnest($2::text[], $3::text[]) AS w(name, type)
    LEFT JOIN pg_attribute a
      ON a.attrelid = $1::text::regclass AND a.attname = w.name AND a.attnum > 0
     AND NOT a.attisdropped
    LEFT JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
    LEFT JOIN pg_collation l ON l.oid = a.attcollation";

/// A column that must have a value and gets none.
const UNFILLED: &str = "
    SELECT attname::text FROM pg_attribute
    WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attnotnull
      AND NOT atthasdef AND attidentity = '' AND attname <> ALL ($2::text[])
    LIMIT 1";

async fn check_columns(session: &Session, feed: &Feed, table: &str) -> Result<(), SinkError> {
    let columns = &feed.schema.columns;
    let wanted: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let types: Vec<String> = columns.iter().map(|column| column_type(column.kind)).collect();
    let found = session.query(COLUMNS, &[&table, &wanted, &types]).await.map_err(judged)?;
    for row in &found {
        let name: &str = row.get(0);
        let Some(index) = columns.iter().position(|column| column.name == name) else { continue };
        let is_key = feed.kind == FeedKind::Table && index < feed.schema.key_columns;
        check_column(table, &columns[index], is_key, row)?;
    }
    let mut written = wanted;
    written.extend(ORIGIN.map(|(name, _)| name));
    let unfilled = session.query_opt(UNFILLED, &[&table, &written]).await.map_err(judged)?;
    match unfilled.map(|row| row.get::<_, String>(0)) {
        Some(name) => Err(SinkError::lasting(format!(
            "table {table}: column {} must not be null, has no default, and is no column of the \
             feed; give it a default, or ALTER TABLE {table} ALTER COLUMN {0} DROP NOT NULL",
            ident(&name)
        ))),
        None => Ok(()),
    }
}

fn check_column(table: &str, column: &Column, is_key: bool, row: &Row) -> Result<(), SinkError> {
    let (name, wanted) = (ident(&column.name), column_type(column.kind));
    let Some(found) = row.get::<_, Option<&str>>(1) else {
        return Err(SinkError::lasting(format!(
            "table {table}: column {name} ({wanted}) is missing; \
             ALTER TABLE {table} ADD COLUMN {name} {wanted}"
        )));
    };
    let [assignable, bytewise, generated]: [bool; 3] = [2, 3, 4].map(|index| row.get(index));
    let wrong = |why: &str| {
        SinkError::lasting(format!(
            "table {table}: column {name} is {found}{why}, wanted {wanted}; \
             ALTER TABLE {table} ALTER COLUMN {name} TYPE {wanted}, or declare another type"
        ))
    };
    if generated {
        return Err(wrong(" and generated"));
    }
    if is_key && !bytewise {
        // Rows are reduced by the key's bytes; the table must tell the same keys apart.
        return Err(wrong(" with a nondeterministic collation"));
    }
    match if is_key { tells_keys_apart(column.kind, found) } else { assignable } {
        true => Ok(()),
        false => Err(wrong("")),
    }
}

/// Whether a type tells any two values of the column apart.
fn tells_keys_apart(kind: ColumnType, found: &str) -> bool {
    found == column_type(kind)
        || match kind {
            ColumnType::String => found.starts_with("character varying"),
            ColumnType::Int => found == "bigint",
            ColumnType::Decimal { .. } => found == "numeric",
            _ => false,
        }
}

/// A unique index on exactly these columns, fit for ON CONFLICT.
const UNIQUE: &str = "
    SELECT EXISTS (
        SELECT FROM pg_index i
        WHERE i.indrelid = $1::text::regclass AND i.indisunique AND i.indisvalid
          AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
          AND (SELECT array_agg(a.attname::text ORDER BY a.attname)
               FROM pg_attribute a
               WHERE a.attrelid = i.indrelid
                 AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) = $2::text[])";

async fn check_key(session: &Session, feed: &Feed, table: &str) -> Result<(), SinkError> {
    let mut key: Vec<&str> = feed.schema.key().iter().map(|column| column.name.as_str()).collect();
    key.sort_unstable();
    let row = session.query_one(UNIQUE, &[&table, &key]).await.map_err(judged)?;
    match row.get(0) {
        true => Ok(()),
        false => Err(SinkError::lasting(format!(
            "table {table}: no unique index on exactly the key ({0}); \
             ALTER TABLE {table} ADD UNIQUE ({0})",
            names(feed.schema.key())
        ))),
    }
}

/// Which of our own columns the table has; a table made by somebody else need not have any.
async fn origin_columns(
    session: &Session,
    table: &str,
) -> Result<Vec<&'static str>, tokio_postgres::Error> {
    let wanted: Vec<&str> = ORIGIN.iter().map(|(name, _)| *name).collect();
    let types: Vec<&str> = ORIGIN.iter().map(|(_, kind)| *kind).collect();
    let rows = session.query(COLUMNS, &[&table, &wanted, &types]).await?;
    let writable = |name: &str| {
        rows.iter().any(|row| row.get::<_, &str>(0) == name && row.get(2) && !row.get::<_, bool>(4))
    };
    Ok(wanted_names().filter(|name| writable(name)).collect())
}

fn wanted_names() -> impl Iterator<Item = &'static str> {
    ORIGIN.iter().map(|(name, _)| *name)
}

fn target(feed: &Feed, table: String, origin: Vec<&'static str>, stage: u64) -> Target {
    let stage_name = format!("pg_temp.tidegate_stage_{stage}");
    let is_table = feed.kind == FeedKind::Table;
    Target {
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
