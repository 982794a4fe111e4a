//! Old rows of streams go, some of the table's rows at a time, each in a transaction that says which they
//! were.

use rusqlite::{Connection, OptionalExtension};

use super::table::{columns, ident, table_name};
use crate::record::SinkError;
use crate::retention::{Span, joined};
use crate::warehouse::{OldRows, Passed};

/// Rows of one transaction.
const ROWS: i64 = 50_000;

const HELD: &str = "SELECT 1 FROM tidegate_leases WHERE name = ?1 AND token = ?2";

const WRITE_DOWN: &str = "
    INSERT INTO tidegate_expired (feed, topic, partition, from_offset, to_offset)
    VALUES (?1, ?2, ?3, ?4, ?5)";

const FINISH: &str = "
    INSERT INTO tidegate_expiry (feed, before) VALUES (?1, ?2)
    ON CONFLICT (feed) DO UPDATE SET before = excluded.before, finished_at = excluded.finished_at";

const WRITTEN: &str =
    "SELECT topic, partition, from_offset, to_offset FROM tidegate_expired WHERE feed = ?1";

/// Offsets from here on are read again, unless they are those of another topic than before.
pub(super) const FORGET: [&str; 2] = [
    "DELETE FROM tidegate_expired
     WHERE (feed, topic, partition) = (?1, ?2, ?3) AND from_offset >= ?4
       AND NOT EXISTS (SELECT 1 FROM tidegate_progress
                       WHERE (feed, topic, partition) = (?1, ?2, ?3) AND topic_id <> ?5)",
    "UPDATE tidegate_expired SET to_offset = ?4 - 1
     WHERE (feed, topic, partition) = (?1, ?2, ?3) AND to_offset >= ?4
       AND NOT EXISTS (SELECT 1 FROM tidegate_progress
                       WHERE (feed, topic, partition) = (?1, ?2, ?3) AND topic_id <> ?5)",
];

/// The table and which of its rows are old; none where there is no table.
fn look(connection: &Connection, old: &OldRows) -> rusqlite::Result<Found> {
    let table = table_name(&old.feed);
    let found = columns(connection, &table)?;
    if found.is_empty() {
        return Ok(Found::Nothing);
    }
    let missing = |name: &&str| found.iter().all(|column| column.name != *name);
    if let Some(missing) = old.needed().into_iter().find(missing) {
        return Ok(Found::Lacking(old.lacking(&table, missing)));
    }
    let by_number = format!("SELECT rowid FROM {table} LIMIT 0");
    if connection.prepare(&by_number).is_err() {
        return Ok(Found::Lacking(old.lacking(&table, "rowid")));
    }
    // Times are texts: years of more than four digits begin with a sign, which comes before all digits.
    let before = |name: &str| format!("'{}' AND {} >= '0'", old.before, ident(name));
    let is_old = old.condition(ident, before);
    Ok(Found::Table { table, is_old })
}

enum Found {
    Nothing,
    Lacking(SinkError),
    Table { table: String, is_old: String },
}

pub(super) fn count(
    connection: &Connection,
    old: &OldRows,
) -> rusqlite::Result<Result<u64, SinkError>> {
    let (table, is_old) = match look(connection, old)? {
        Found::Nothing => return Ok(Ok(0)),
        Found::Lacking(error) => return Ok(Err(error)),
        Found::Table { table, is_old } => (table, is_old),
    };
    let count = format!("SELECT count(*) FROM {table} WHERE {is_old}");
    connection.query_row(&count, [], |row| row.get::<_, i64>(0)).map(|rows| Ok(rows.unsigned_abs()))
}

pub(super) fn take_out(
    connection: &Connection,
    old: &OldRows,
    from: i64,
    lease: Option<&(String, i64)>,
) -> rusqlite::Result<Result<Passed, SinkError>> {
    if !holds(connection, lease)? {
        return Ok(Err(passed_on()));
    }
    let (table, is_old) = match look(connection, old)? {
        Found::Nothing => return Ok(Ok(Passed { rows: 0, next: None })),
        Found::Lacking(error) => return Ok(Err(error)),
        Found::Table { table, is_old } => (table, is_old),
    };
    // By the numbers that there are, which may be far apart.
    let last = format!(
        "SELECT max(number) FROM \
         (SELECT rowid AS number FROM {table} WHERE rowid >= ?1 ORDER BY rowid LIMIT {ROWS})"
    );
    let last: Option<i64> = connection.query_row(&last, [from], |row| row.get(0))?;
    let Some(last) = last else { return Ok(Ok(Passed { rows: 0, next: None })) };
    let delete = format!(
        "DELETE FROM {table} WHERE rowid >= ?1 AND rowid <= ?2 AND {is_old} \
         RETURNING CAST(_topic AS TEXT), CAST(_partition AS INTEGER), CAST(_offset AS INTEGER)"
    );
    let mut delete = connection.prepare(&delete)?;
    let span = |row: &rusqlite::Row<'_>| Ok(Span::one(row.get(0)?, row.get(1)?, row.get(2)?));
    let gone = delete.query_map([from, last], span)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let rows = gone.len() as u64;
    write_down(connection, &old.feed.name, &joined(gone))?;
    let more = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE rowid > ?1)");
    let more: bool = connection.query_row(&more, [last], |row| row.get(0))?;
    Ok(Ok(Passed { rows, next: more.then(|| last.saturating_add(1)) }))
}

pub(super) fn is_done(connection: &Connection, old: &OldRows) -> rusqlite::Result<bool> {
    // A day that is still to come was noted by a clock that was ahead.
    let find = "SELECT before >= ?2 AND before <= date('now') FROM tidegate_expiry WHERE feed = ?1";
    let params = (&*old.feed.name, old.before.to_string());
    let done = connection.query_row(find, params, |row| row.get(0)).optional()?;
    Ok(done.unwrap_or_default())
}

pub(super) fn finish(
    connection: &Connection,
    old: &OldRows,
    lease: Option<&(String, i64)>,
) -> rusqlite::Result<Result<(), SinkError>> {
    if !holds(connection, lease)? {
        return Ok(Err(passed_on()));
    }
    let feed = &*old.feed.name;
    let mut written = connection.prepare(WRITTEN)?;
    let span = |row: &rusqlite::Row<'_>| {
        Ok(Span {
            topic: row.get(0)?,
            partition: row.get(1)?,
            first: row.get(2)?,
            last: row.get(3)?,
        })
    };
    let spans = written.query_map([feed], span)?.collect::<rusqlite::Result<Vec<_>>>()?;
    let fewer = joined(spans.clone());
    if fewer.len() < spans.len() {
        connection.execute("DELETE FROM tidegate_expired WHERE feed = ?1", [feed])?;
        write_down(connection, feed, &fewer)?;
    }
    connection.execute(FINISH, (feed, old.before.to_string()))?;
    Ok(Ok(()))
}

fn holds(connection: &Connection, lease: Option<&(String, i64)>) -> rusqlite::Result<bool> {
    match lease {
        Some((name, token)) => {
            let held = connection.query_row(HELD, (name, token), |_| Ok(())).optional()?;
            Ok(held.is_some())
        }
        None => Ok(true),
    }
}

fn passed_on() -> SinkError {
    SinkError::passing("the lease has passed to another node")
}

fn write_down(connection: &Connection, feed: &str, spans: &[Span]) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(WRITE_DOWN)?;
    for Span { topic, partition, first, last } in spans {
        insert.execute((feed, topic, partition, first, last))?;
    }
    Ok(())
}
