//! A table of our own follows its feed: columns that came since are added, and those whose type is wider now
//! get it.

use tokio_postgres::error::SqlState;
use tracing::info;

use super::pool::{Session, judged};
use super::stage::ORIGIN;
use super::table::{column_type, definition, ident, wanted_names};
use crate::config::{Column, ColumnType, Feed};
use crate::record::SinkError;

/// What the table has of these columns.
const FOUND: &str = "
    SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = $1::text::regclass AND attname = ANY ($2::text[])
      AND attnum > 0 AND NOT attisdropped";

/// Somebody else's table, known by the record's coordinates that it lacks, is left as it is; and whoever may
/// not change ours is told by the check that follows.
pub(super) async fn grow(session: &Session, feed: &Feed, table: &str) -> Result<(), SinkError> {
    let mut wanted: Vec<&str> =
        feed.schema.columns.iter().map(|column| column.name.as_str()).collect();
    wanted.extend(ORIGIN.map(|(name, _)| name));
    let rows = session.query(FOUND, &[&table, &wanted]).await.map_err(judged)?;
    let found: Vec<(&str, &str)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let has = |name: &str| found.iter().any(|(found, _)| *found == name);
    // A table of columns does not become one of documents.
    if !wanted_names().all(has) || feed.is_document() {
        return Ok(());
    }
    let missing: Vec<&Column> = feed.schema.value().iter().filter(|it| !has(&it.name)).collect();
    let narrow = |column: &&Column| {
        let there = found.iter().find(|(name, _)| *name == column.name);
        there.and_then(|(_, kind)| spelled(kind)).is_some_and(|kind| kind.widens_to(column.kind))
    };
    let narrow: Vec<&Column> = feed.schema.columns.iter().filter(narrow).collect();
    if missing.is_empty() && narrow.is_empty() {
        return Ok(());
    }
    match alter(session, table, &missing, &narrow).await {
        Ok(true) => {
            let names = |columns: &[&Column]| -> Vec<String> {
                columns.iter().map(|column| column.name.clone()).collect()
            };
            info!(target: "tidegate::warehouse", feed = %feed.name, table, added = ?names(&missing), widened = ?names(&narrow), "columns changed");
            Ok(())
        }
        Ok(false) => session.batch_execute("ROLLBACK").await.map_err(judged),
        Err(error) => {
            session.batch_execute("ROLLBACK").await.map_err(judged)?;
            match error.code() {
                // Not ours to change, or a view is made of it.
                Some(&SqlState::INSUFFICIENT_PRIVILEGE | &SqlState::FEATURE_NOT_SUPPORTED) => {
                    Ok(())
                }
                _ => Err(judged(error).context(format!("changing the columns of {table}"))),
            }
        }
    }
}

/// Answers whether it is done. If not, or on an error, the transaction is to be rolled back.
async fn alter(
    session: &Session,
    table: &str,
    missing: &[&Column],
    narrow: &[&Column],
) -> Result<bool, tokio_postgres::Error> {
    // It waits for the writers that are under way, and those behind it wait for it: not for ever. But
    // to write a table anew takes as long as the table is large.
    session
        .batch_execute("BEGIN; SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = 0")
        .await?;
    let mut changes: Vec<String> = missing
        .iter()
        .map(|column| format!("ADD COLUMN IF NOT EXISTS {}", definition(column)))
        .collect();
    if !narrow.is_empty() {
        session.batch_execute(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await?;
    }
    for column in narrow {
        let name = ident(&column.name);
        if column.kind == ColumnType::Double {
            // Integers of 53 bits are doubles, and of larger ones some are not.
            let beyond = format!(
                "SELECT EXISTS (SELECT FROM {table} WHERE {name} NOT BETWEEN -9007199254740992 AND \
                 9007199254740992)"
            );
            if session.query_one(&beyond, &[]).await?.get(0) {
                return Ok(false);
            }
        }
        let wide = column_type(column.kind);
        // Sessions have UTC as their time zone, in which a date begins at midnight.
        changes.push(format!("ALTER COLUMN {name} TYPE {wide} USING {name}::{wide}"));
    }
    session.batch_execute(&format!("ALTER TABLE {table} {}; COMMIT", changes.join(", "))).await?;
    Ok(true)
}

/// The column type whose name in PostgreSQL this is, among those that can get wider.
fn spelled(kind: &str) -> Option<ColumnType> {
    match kind {
        "integer" => Some(ColumnType::Int),
        "bigint" => Some(ColumnType::Long),
        "date" => Some(ColumnType::Date),
        _ => kind.strip_prefix("numeric").and_then(|rest| format!("decimal{rest}").parse().ok()),
    }
}
