//! Rows of existing tables, in the transaction that the permission rows are read in.

use std::time::Duration;

use serde_json::Value;
use tokio_postgres::Error;

use super::pool::{Session, worded};
use super::table::ident;
use crate::config::{PermissionSource, Sources};
use crate::governance::Found;
use crate::warehouse::governance::{MOST_ROWS, bounded, unread};

/// All of them together: a table that is locked, or a view that takes its time, must not keep the others'
/// changes.
const WITHIN: Duration = Duration::from_secs(1);

/// Reads each; one that cannot be read is left out, and the transaction goes on.
pub(super) async fn read(
    session: &Session,
    schema: &str,
    sources: &Sources,
) -> Result<Vec<Found>, Error> {
    let mut found = Vec::with_capacity(sources.len());
    let within = WITHIN.as_millis() / sources.len().max(1) as u128;
    let begin = format!("SAVEPOINT source; SET LOCAL statement_timeout = {within}");
    for (name, source) in sources {
        session.batch_execute(&begin).await?;
        let read = match session.query(&select(schema, source), &[]).await {
            Ok(rows) => match rows.iter().map(|row| values(row.get(0))).collect() {
                Ok(rows) => bounded(name, rows),
                Err(error) => Err(unread(name, source, &error)),
            },
            Err(error) => match error.as_db_error() {
                Some(db) => Err(unread(name, source, &worded(db))),
                None => return Err(error),
            },
        };
        session.batch_execute("ROLLBACK TO source; RELEASE source").await?;
        found.push(read);
    }
    Ok(found)
}

/// As JSON, which has one form for the values of each type, whatever the database's style.
fn select(schema: &str, source: &PermissionSource) -> String {
    let columns: Vec<String> = source.read_columns().into_iter().map(ident).collect();
    let (schema, table) = source.table.split_once('.').unwrap_or((schema, &source.table));
    let columns = columns.join(", ");
    let (schema, table, most) = (ident(schema), ident(table), MOST_ROWS + 1);
    format!("SELECT jsonb_build_array({columns})::text FROM {schema}.{table} LIMIT {most}")
}

/// What is nested beyond reason, or no double, is nothing that anybody can judge by.
fn values(row: &str) -> Result<Vec<Value>, String> {
    serde_json::from_str(row)
        .map_err(|error| format!("a row has a value that is not read: {error}"))
}
