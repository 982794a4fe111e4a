//! Statements on a connection that can write nothing, cut off when they take too long.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use chrono::DateTime;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::rows::{connect, unread};
use super::table::{columns, table_name};
use crate::config::Feed;
use crate::record::SinkError;
use crate::warehouse::ad_hoc::{AdHoc, Answer, TableSize, WITHIN};

pub(in crate::warehouse) struct SqliteAdHoc {
    path: PathBuf,
}

impl SqliteAdHoc {
    pub fn open(path: &Path) -> Result<Self, SinkError> {
        if path.as_os_str().is_empty() {
            return Err(SinkError::lasting("warehouse.url: sqlite: needs the name of a file"));
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Runs `work` on a thread that may block, and interrupts it when its time is over.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let path = self.path.clone();
        let (hand_over, handle) = oneshot::channel();
        let mut task = tokio::task::spawn_blocking(move || {
            if !path.exists() {
                let missing = format!("{} does not exist yet; a node makes it", path.display());
                return Err(SinkError::lasting(missing));
            }
            let connection = connect(&path).map_err(unread)?;
            // Nobody takes it where nobody waits.
            drop(hand_over.send(connection.get_interrupt_handle()));
            work(&connection)
        });
        let gone = |_| SinkError::passing("the process is going down");
        if let Ok(done) = timeout(WITHIN, &mut task).await {
            return done.map_err(gone)?;
        }
        if let Ok(handle) = handle.await {
            handle.interrupt();
        }
        task.await.map_err(gone)?.map_err(|error| {
            error.context(format_args!("cut off after {} seconds", WITHIN.as_secs()))
        })
    }
}

#[async_trait]
impl AdHoc for SqliteAdHoc {
    async fn ask(&self, sql: &str, most: usize) -> Result<Answer, SinkError> {
        let sql = sql.to_owned();
        self.run(move |connection| read(connection, &sql, most)).await
    }

    async fn measure(&self, feed: &Feed) -> Result<Option<TableSize>, SinkError> {
        let doing = format!("measuring the table of feed {}", feed.name);
        let table = table_name(feed);
        let measured = self.run(move |it| measure(it, &table).map_err(unread)).await;
        measured.map_err(|error| error.context(doing))
    }
}

fn read(connection: &Connection, sql: &str, most: usize) -> Result<Answer, SinkError> {
    // A connection that cannot write this file may write others.
    connection.pragma_update(None, "query_only", true).map_err(unread)?;
    let mut statements = Batch::new(connection, sql);
    let Some(mut statement) = statements.next().map_err(unread)? else {
        return Err(SinkError::lasting("there is no statement in it"));
    };
    if statements.next().map_err(unread)?.is_some() {
        return Err(SinkError::lasting("there are several statements in it: one is answered"));
    }
    if !statement.readonly() {
        return Err(SinkError::lasting("the statement does not only read"));
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let width = columns.len();
    let mut answer = Answer { columns, ..Answer::default() };
    let mut rows = statement.query([]).map_err(unread)?;
    while !answer.more
        && let Some(row) = rows.next().map_err(unread)?
    {
        let value = |at| row.get_ref(at).map(spelled);
        let values = (0..width).map(value).collect::<Result<_, _>>().map_err(unread)?;
        answer.push(values, most);
    }
    Ok(answer)
}

fn spelled(value: ValueRef<'_>) -> Option<String> {
    Some(match value {
        ValueRef::Null => return None,
        ValueRef::Integer(value) => value.to_string(),
        // With the point that SQLite writes, too.
        ValueRef::Real(value) => format!("{value:?}"),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
    })
}

fn measure(connection: &Connection, table: &str) -> rusqlite::Result<Option<TableSize>> {
    let found = columns(connection, table)?;
    if found.is_empty() {
        return Ok(None);
    }
    let dated = found.iter().any(|column| column.name == super::table::TIMESTAMP);
    let newest = if dated { "max(_timestamp)" } else { "NULL" };
    let count = format!("SELECT count(*), {newest} FROM {table}");
    let (rows, newest): (i64, Option<String>) =
        connection.query_row(&count, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let newest = newest.and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
    // Compared as the name is written, quotes and all.
    const PAGES: &str = "
        SELECT sum(pgsize) FROM dbstat
        WHERE aggregate = TRUE AND name IN (
            SELECT name FROM sqlite_schema
            WHERE '\"' || replace(tbl_name, '\"', '\"\"') || '\"' = ?1 COLLATE NOCASE)";
    let bytes: Option<i64> = connection.query_row(PAGES, [table], |row| row.get(0))?;
    Ok(Some(TableSize {
        rows: rows.unsigned_abs(),
        guessed: false,
        bytes: bytes.map(i64::unsigned_abs),
        newest_ms: newest.map(|it| it.timestamp_millis()),
    }))
}
