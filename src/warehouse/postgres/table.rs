//! A feed's table: made where it is absent, checked where it is not.
//!
//! A table feed's key columns are the primary key. A stream's table has no key at all: rows are only
//! appended, at twice the speed, and the fence on the progress is what keeps them unique.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio_postgres::Row;

use super::Postgres;
use super::grow::grow;
use super::pool::{Session, judged};
use super::stage::{ORIGIN, Target};
use crate::config::{Column, ColumnType, Feed, FeedKind};
use crate::record::SinkError;
use crate::warehouse::dimension::{self, DimensionTable};

/// Two nodes that make the same table at once would fail on the catalog's own unique indexes.
const TABLE_LOCK: &str = "SELECT pg_advisory_xact_lock(1953064037, 2)";

impl Postgres {
    /// The feed's table as it was when last looked at.
    pub(super) async fn target(&self, feed: &Feed) -> Result<Arc<Target>, SinkError> {
        let known = self.targets().get(&feed.name).cloned();
        let table = self.table_name(feed);
        match known {
            Some(target) if target.fits(feed, &table) => Ok(target),
            _ => self.look_at_table(feed).await,
        }
    }

    pub(super) fn table_name(&self, feed: &Feed) -> String {
        table_name(feed, &self.schema)
    }

    /// Forgets what is known of the feed's table, for an error that a person mends there.
    pub(super) fn forget_target(&self, feed: &Feed) {
        self.targets().remove(&feed.name);
    }

    pub(super) async fn look_at_table(&self, feed: &Feed) -> Result<Arc<Target>, SinkError> {
        refuse_json_key(feed)?;
        let place = Place::of(feed, &self.schema);
        let table = place.name();
        let session = self.sessions.get().await?;
        let mut dimensions = Vec::new();
        for dimension in dimension::tables(feed)? {
            let table = self.look_at_dimension(&session, &dimension).await?;
            dimensions.push((table, dimension));
        }
        match exists(&session, &table).await? {
            false => create(&session, feed, &place, &dimensions).await.map_err(judged)?,
            true => grow(&session, feed, &table).await?,
        }
        check_columns(&session, feed, &table).await?;
        if feed.kind == FeedKind::Table {
            check_key(&session, feed, &table).await?;
        }
        for (other, dimension) in dimensions.iter().filter(|(_, it)| it.foreign_key) {
            check_foreign_key(&session, &table, other, dimension).await?;
        }
        let origin = origin_columns(&session, &table).await.map_err(judged)?;
        session.done();
        let known = self.targets().get(&feed.name).cloned();
        if let Some(known) =
            known.filter(|known| known.fits(feed, &table) && known.origin == origin)
        {
            return Ok(known); // and so the staging tables that connections have
        }
        let stage = self.next_stage.fetch_add(1, Ordering::Relaxed);
        let target = Arc::new(Target::new(feed, table, origin, &dimensions, stage));
        self.targets().insert(feed.name.clone(), target.clone());
        Ok(target)
    }

    /// Makes a dimension's table, or checks that it can hold its rows; answers its name.
    async fn look_at_dimension(
        &self,
        session: &Session,
        dimension: &DimensionTable,
    ) -> Result<String, SinkError> {
        let place = Place::of(&dimension.feed, &self.schema);
        let table = place.name();
        if !exists(session, &table).await? {
            create(session, &dimension.feed, &place, &[]).await.map_err(judged)?;
        }
        check_columns(session, &dimension.feed, &table).await?;
        check_key(session, &dimension.feed, &table).await?;
        let origin = origin_columns(session, &table).await.map_err(judged)?;
        match ORIGIN.iter().find(|(name, _)| !origin.contains(name)) {
            None => Ok(table),
            Some((name, kind)) => Err(SinkError::lasting(format!(
                "table {table}: column {0} ({kind}) is missing, and an older record could not be told \
                 from a newer one; ALTER TABLE {table} ADD COLUMN {0} {kind}",
                ident(name)
            ))),
        }
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

/// A table and its schema, in quotes.
struct Place {
    schema: String,
    table: String,
}

impl Place {
    fn of(feed: &Feed, schema: &str) -> Self {
        let (own, name) = feed.table();
        Self { schema: ident(own.as_deref().unwrap_or(schema)), table: ident(&name) }
    }

    fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }
}

/// The feed's table in quotes, whether it is there or not.
pub(super) fn table_name(feed: &Feed, schema: &str) -> String {
    Place::of(feed, schema).name()
}

/// The type of a column as PostgreSQL itself spells it.
pub(super) fn column_type(kind: ColumnType) -> String {
    match kind {
        ColumnType::String => "text",
        ColumnType::Int => "integer",
        ColumnType::Long => "bigint",
        ColumnType::Double => "double precision",
        ColumnType::Boolean => "boolean",
        ColumnType::Decimal { precision, scale } => return format!("numeric({precision},{scale})"),
        ColumnType::Timestamp => "timestamp with time zone",
        ColumnType::Date => "date",
        ColumnType::Bytes => "bytea",
        ColumnType::Number => "numeric",
        // Nested columns are JSON or columns by now: see `warehouse::nested`.
        ColumnType::Json | ColumnType::Nested(_) => "jsonb",
    }
    .to_owned()
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

async fn create(
    session: &Session,
    feed: &Feed,
    place: &Place,
    dimensions: &[(String, DimensionTable)],
) -> Result<(), tokio_postgres::Error> {
    session.batch_execute("BEGIN").await?;
    session.batch_execute(TABLE_LOCK).await?;
    // Looked for first: IF NOT EXISTS asks for the right to create even where it does.
    let schema = &place.schema;
    let absent = session.query_one("SELECT to_regnamespace($1) IS NULL", &[schema]).await?;
    if absent.get(0) {
        session.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    session.batch_execute(&table_sql(feed, place, dimensions)).await?;
    session.batch_execute("COMMIT").await
}

fn foreign_key(other: &str, dimension: &DimensionTable) -> String {
    let key = names(dimension.feed.schema.key());
    format!("FOREIGN KEY ({key}) REFERENCES {other} ({key})")
}

fn table_sql(feed: &Feed, place: &Place, dimensions: &[(String, DimensionTable)]) -> String {
    let mut columns: Vec<String> = feed.schema.columns.iter().map(definition).collect();
    columns.extend(ORIGIN.iter().map(|(name, kind)| format!("{} {kind}", ident(name))));
    if feed.kind == FeedKind::Table {
        columns.push(format!("PRIMARY KEY ({})", names(feed.schema.key())));
    }
    let referred = dimensions.iter().filter(|(_, dimension)| dimension.foreign_key);
    columns.extend(referred.map(|(other, dimension)| foreign_key(other, dimension)));
    format!("CREATE TABLE IF NOT EXISTS {} ({})", place.name(), columns.join(", "))
}

/// A feed's tables as text, for whoever may create them where the node may not.
pub fn create_table(feed: &Feed, schema: &str) -> Result<String, SinkError> {
    let mut dimensions = Vec::new();
    let mut lines = Vec::new();
    let mut line = |feed: &Feed, dimensions: &[(String, DimensionTable)]| {
        let place = Place::of(feed, schema);
        lines.push(format!("CREATE SCHEMA IF NOT EXISTS {};", place.schema));
        lines.push(format!("{};", table_sql(feed, &place, dimensions)));
        place.name()
    };
    for dimension in dimension::tables(feed)? {
        dimensions.push((line(&dimension.feed, &[]), dimension));
    }
    line(feed, &dimensions);
    lines.dedup();
    Ok(lines.join("\n"))
}

pub(super) fn definition(column: &Column) -> String {
    format!("{} {}", ident(&column.name), column_type(column.kind))
}

pub(super) fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| ident(&column.name)).collect::<Vec<_>>().join(", ")
}

/// What an existing table has for each column of the feed, and whether a value can be assigned to it.
/// (Anything can be assigned to a string type.)
const COLUMNS: &str = "
    SELECT w.name, CASE t.typtype WHEN 'd' THEN format_type(b.oid, t.typtypmod)
                                  ELSE format_type(a.atttypid, a.atttypmod) END,
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
    if cuts_off(column.kind, found) {
        return Err(wrong(", where values would lose a part of themselves"));
    }
    match if is_key { tells_keys_apart(column.kind, found) } else { assignable } {
        true => Ok(()),
        false => Err(wrong("")),
    }
}

/// Whether PostgreSQL rounds the column's values to a type, or leaves their time out, without a word. What
/// is too large for a type fails, and is its record's fault.
fn cuts_off(kind: ColumnType, found: &str) -> bool {
    let is_integer = matches!(found, "smallint" | "integer" | "bigint");
    match kind {
        ColumnType::Double | ColumnType::Number => is_integer,
        ColumnType::Decimal { scale: 1.., .. } if is_integer => true,
        ColumnType::Decimal { scale, .. } => {
            let after = |found: &str| found.strip_suffix(')')?.rsplit_once(',')?.1.parse().ok();
            let kept: Option<i16> = found.strip_prefix("numeric(").and_then(after);
            kept.is_some_and(|after| after < scale.into())
        }
        ColumnType::Timestamp => {
            found == "date" || found.starts_with("time ") || found.starts_with("time(")
        }
        _ => false,
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

async fn check_foreign_key(
    session: &Session,
    table: &str,
    other: &str,
    dimension: &DimensionTable,
) -> Result<(), SinkError> {
    const FIND: &str = "
        SELECT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f'
                       AND conrelid = $1::text::regclass AND confrelid = $2::text::regclass)";
    let found = session.query_one(FIND, &[&table, &other]).await.map_err(judged)?;
    match found.get(0) {
        true => Ok(()),
        false => Err(SinkError::lasting(format!(
            "table {table}: no foreign key to {other}; ALTER TABLE {table} ADD {} NOT VALID, or say              `foreign_key: false`",
            foreign_key(other, dimension)
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

pub(super) fn wanted_names() -> impl Iterator<Item = &'static str> {
    ORIGIN.iter().map(|(name, _)| *name)
}
