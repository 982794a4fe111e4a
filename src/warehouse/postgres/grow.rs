//! A table of our own follows its feed: columns that came since are added, and one whose values outgrew its
//! type gets a wider one.

use tokio_postgres::error::SqlState;
use tracing::{info, warn};

use super::Postgres;
use super::pool::{Session, judged};
use super::rights::emptied_views;
use super::stage::ORIGIN;
use super::table::{column_type, definition, ident, wanted_names};
use crate::config::{Column, ColumnType, Feed};
use crate::record::{Blame, SinkError};

/// What the table has of these columns.
const FOUND: &str = "
    SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = to_regclass($1::text) AND attname = ANY ($2::text[])
      AND attnum > 0 AND NOT attisdropped";

/// Columns and their types.
struct Found(Vec<(String, String)>);

impl Found {
    async fn of(session: &Session, table: &str, feed: &Feed) -> Result<Self, SinkError> {
        let mut wanted: Vec<&str> =
            feed.schema.columns.iter().map(|column| column.name.as_str()).collect();
        wanted.extend(ORIGIN.map(|(name, _)| name));
        let rows = session.query(FOUND, &[&table, &wanted]).await.map_err(judged)?;
        Ok(Self(rows.iter().map(|row| (row.get(0), row.get(1))).collect()))
    }

    fn kind(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, kind)| kind.as_str())
    }

    /// Somebody else's table is known by the record's coordinates that it lacks. And a table of columns does
    /// not become one of documents.
    fn is_ours(&self, feed: &Feed) -> bool {
        !feed.is_document() && wanted_names().all(|name| self.kind(name).is_some())
    }
}

/// Somebody else's table is left as it is; and whoever may not change ours is told by the check that follows.
pub(super) async fn grow(session: &Session, feed: &Feed, table: &str) -> Result<(), SinkError> {
    let found = Found::of(session, table, feed).await?;
    let value = feed.schema.value().iter();
    let missing: Vec<&Column> = value.filter(|it| found.kind(&it.name).is_none()).collect();
    if missing.is_empty() || !found.is_ours(feed) {
        return Ok(());
    }
    let add: Vec<String> = missing
        .iter()
        .map(|column| format!("ADD COLUMN IF NOT EXISTS {}", definition(column)))
        .collect();
    match alter(session, table, &add.join(", ")).await {
        Ok(()) => {
            let names: Vec<&str> = missing.iter().map(|column| column.name.as_str()).collect();
            info!(target: "tidegate::warehouse", feed = %feed.name, table, columns = ?names, "columns added");
            Ok(())
        }
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(()),
        Err(error) => Err(judged(error).context(format!("adding columns to {table}"))),
    }
}

const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = 0";

/// It waits for the writers that are under way, and those behind it wait for it: not for ever. To write a
/// table anew takes as long as it is large. As one message: begun, it ends, whoever waits for it.
async fn alter(session: &Session, table: &str, change: &str) -> Result<(), tokio_postgres::Error> {
    let alter = format!("{BEGIN}; ALTER TABLE {table} {change}; COMMIT");
    let altered = session.batch_execute(&alter).await;
    if altered.is_err() {
        session.batch_execute("ROLLBACK").await?;
    }
    altered
}

/// The same for a column that readers' views may read. Nobody makes another view of the table once it is
/// locked.
async fn alter_below_views(
    session: &Session,
    table: &str,
    change: &str,
) -> Result<(), tokio_postgres::Error> {
    let lock = format!("{BEGIN}; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
    let changed = async {
        session.batch_execute(&lock).await?;
        let emptied = emptied_views(session, table).await?;
        session.batch_execute(&format!("{emptied}ALTER TABLE {table} {change}; COMMIT")).await
    };
    let changed = changed.await;
    if changed.is_err() {
        session.batch_execute("ROLLBACK").await?;
    }
    changed
}

impl Postgres {
    /// The feed has the column's wider type already. What another node or an attempt before has done counts.
    pub(super) async fn widen_column(
        &self,
        feed: &Feed,
        former: &Column,
    ) -> Result<bool, SinkError> {
        let Some(column) = feed.schema.value().iter().find(|it| it.path() == former.path()) else {
            // A document holds it whatever it is.
            return Ok(feed.is_document());
        };
        let table = self.table_name(feed);
        let session = self.sessions.get().await?;
        let found = Found::of(&session, &table, feed).await?;
        let Some(kind) = found.kind(&column.name) else {
            session.done();
            // It is made with the type it is to have.
            return Ok(true);
        };
        let there = spelled(kind);
        let holds = |there: ColumnType| there == column.kind || column.kind.widens_to(there);
        if there.is_some_and(holds) {
            session.done();
            return Ok(true);
        }
        if !found.is_ours(feed) || !there.is_some_and(|there| there.widens_to(column.kind)) {
            session.done();
            return Ok(false);
        }
        let (name, wide) = (ident(&column.name), column_type(column.kind));
        // Sessions have UTC as their time zone, in which a date begins at midnight.
        let change = format!("ALTER COLUMN {name} TYPE {wide} USING {name}::{wide}");
        match alter_below_views(&session, &table, &change).await {
            Ok(()) => {
                session.done();
                info!(target: "tidegate::warehouse", feed = %feed.name, table, column = name, from = kind, to = wide, "column widened");
                Ok(true)
            }
            Err(error) => {
                let full = error.code().is_some_and(|code| code.code().starts_with("53"));
                let error = judged(error);
                if error.blame == Blame::Passing && !full {
                    return Err(error.context(format!("widening {name} of {table}")));
                }
                // A view, a check, an index or a default is made of it; or it is not ours to change.
                warn!(target: "tidegate::warehouse", feed = %feed.name, table, column = name, %error, "the column cannot get a wider type; records that need it are in quarantine");
                session.done();
                Ok(false)
            }
        }
    }
}

/// The column type whose name in PostgreSQL this is, among those that can be wider or get it.
fn spelled(kind: &str) -> Option<ColumnType> {
    match kind {
        "integer" => Some(ColumnType::Int),
        "bigint" => Some(ColumnType::Long),
        "date" => Some(ColumnType::Date),
        "timestamp with time zone" => Some(ColumnType::Timestamp),
        _ => format!("decimal{}", kind.strip_prefix("numeric")?).parse().ok(),
    }
}
