//! Versions of a table, kept beside it, each taken in one transaction.

use std::time::Duration;

use rusqlite::Connection;

use super::table::{columns, ident, names};
use super::{File, judged};
use crate::config::{Feed, SNAPSHOT_SUFFIX, SNAPSHOTS_SUFFIX};
use crate::record::SinkError;
use crate::warehouse::{KeptSnapshot, Snapshot};

/// A version is due when the last one is so many seconds old.
const NEXT: &str = "
    SELECT coalesce(max(version), 0) + 1,
           coalesce(unixepoch(max(taken_at), 'subsec') + ?2 <= unixepoch('now', 'subsec'), 1)
    FROM tidegate_snapshots WHERE feed = ?1";

const RECORD: &str = "
    INSERT INTO tidegate_snapshots (feed, version, taken_at, rows, offsets)
    SELECT ?1, ?2, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), ?3,
           coalesce(json_group_array(json_object('topic', topic, 'partition', partition,
               'topic_id', topic_id, 'next_offset', next_offset) ORDER BY topic, partition), '[]')
    FROM tidegate_progress WHERE feed = ?1";

const FORGET: &str = "DELETE FROM tidegate_snapshots WHERE feed = ?1 AND version <= ?2";

const KEPT: &str = "
    SELECT version, CAST(unixepoch(taken_at, 'subsec') * 1000 AS INTEGER), rows FROM tidegate_snapshots
    WHERE feed = ?1 ORDER BY version DESC";

pub(super) fn kept(file: &mut File, feed: &str) -> Result<Vec<KeptSnapshot>, SinkError> {
    let row = |row: &rusqlite::Row<'_>| {
        Ok(KeptSnapshot { version: row.get(0)?, taken_ms: row.get(1)?, rows: row.get(2)? })
    };
    file.transaction(|transaction| {
        let mut kept = transaction.prepare(KEPT).map_err(judged)?;
        let rows = kept.query_map([feed], row).map_err(judged)?;
        rows.collect::<Result<_, _>>().map_err(judged)
    })
}

pub(super) fn take(
    file: &mut File,
    feed: &Feed,
    after: Option<Duration>,
    keep: u32,
) -> Result<Option<Snapshot>, SinkError> {
    let table = file.target(feed)?.table.clone();
    let seconds = after.map(|after| after.as_secs_f64());
    file.transaction(|transaction| {
        take_version(transaction, feed, &table, seconds, keep).map_err(judged)
    })
}

fn take_version(
    connection: &Connection,
    feed: &Feed,
    table: &str,
    after: Option<f64>,
    keep: u32,
) -> rusqlite::Result<Option<Snapshot>> {
    let name = &*feed.name;
    let (version, due): (i64, bool) =
        connection
            .query_row(NEXT, (name, after.unwrap_or(0.0)), |row| Ok((row.get(0)?, row.get(1)?)))?;
    if after.is_some() && !due {
        return Ok(None);
    }
    let kept = with_suffix(table, SNAPSHOTS_SUFFIX);
    let columns = prepare(connection, feed, table, &kept)?.join(", ");
    let copy = format!(
        "INSERT INTO {kept} (_version, _taken_at, {columns}) \
         SELECT ?1, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), {columns} FROM {table}"
    );
    let rows = connection.execute(&copy, [version])?;
    connection.execute(RECORD, (name, version, rows as i64))?;
    let last_to_go = version - i64::from(keep);
    connection.execute(&format!("DELETE FROM {kept} WHERE _version <= ?1"), [last_to_go])?;
    connection.execute(FORGET, (name, last_to_go))?;
    Ok(Some(Snapshot { version, rows: rows as u64 }))
}

/// Makes the table of versions and its view, or brings them up to the table's columns, which it answers
/// in quotes.
fn prepare(
    connection: &Connection,
    feed: &Feed,
    table: &str,
    kept: &str,
) -> rusqlite::Result<Vec<String>> {
    let own = columns(connection, table)?;
    let there = columns(connection, kept)?;
    let definition = |name: &str, kind: &str| format!("{} {kind}", ident(name));
    if there.is_empty() {
        let columns: Vec<String> =
            own.iter().map(|column| definition(&column.name, &column.declared)).collect();
        connection.execute_batch(&format!(
            "CREATE TABLE {kept} (_version INTEGER NOT NULL, _taken_at TEXT NOT NULL, {}, \
             PRIMARY KEY (_version, {}))",
            columns.join(", "),
            names(feed.schema.key())
        ))?;
    }
    let known = |name: &str| there.is_empty() || there.iter().any(|column| column.name == name);
    for column in own.iter().filter(|column| !known(&column.name)) {
        let column = definition(&column.name, &column.declared);
        connection.execute_batch(&format!("ALTER TABLE {kept} ADD COLUMN {column}"))?;
    }
    // Anew each time: a view keeps the columns that `*` stood for.
    let (view, name) = (with_suffix(table, SNAPSHOT_SUFFIX), feed.name.replace('\'', "''"));
    connection.execute_batch(&format!(
        "DROP VIEW IF EXISTS {view}; CREATE VIEW {view} AS SELECT * FROM {kept} \
         WHERE _version = (SELECT max(version) FROM tidegate_snapshots WHERE feed = '{name}')"
    ))?;
    Ok(own.iter().map(|column| ident(&column.name)).collect())
}

/// A quoted name with something behind it.
fn with_suffix(table: &str, suffix: &str) -> String {
    format!("{}{suffix}\"", table.strip_suffix('"').unwrap_or(table))
}
