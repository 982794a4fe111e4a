//! A table's rows, read on a thread of their own and on a connection that can write nothing.
//!
//! With its log ahead of the file a reader has no lock that a writer waits for. While one reads, the log
//! is not begun anew and grows, so nobody may take forever about it.

mod question;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params_from_iter};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use self::question::{cell, question};
use super::table::{columns, table_name};
use super::{BUSY, judged};
use crate::config::Feed;
use crate::record::{Blame, SinkError};
use crate::warehouse::filling::{Filling, misfit};
use crate::warehouse::rows::{Read, RowReader, Rows, RowsRequest, Wanted, absent};

/// How many read at once.
const READERS: usize = 4;

/// How long to wait until one of them is done.
const WAIT: Duration = Duration::from_secs(30);

/// How long a batch waits to be taken.
const PATIENCE: Duration = Duration::from_secs(60);

pub(in crate::warehouse) struct SqliteRows {
    path: PathBuf,
    readers: Arc<Semaphore>,
    patience: Duration,
}

impl SqliteRows {
    pub fn open(path: &Path) -> Result<Self, SinkError> {
        if path.as_os_str().is_empty() {
            return Err(SinkError::lasting("warehouse.url: sqlite: needs the name of a file"));
        }
        let readers = Arc::new(Semaphore::new(READERS));
        Ok(Self { path: path.to_owned(), readers, patience: PATIENCE })
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, SinkError> {
        match timeout(WAIT, self.readers.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(SinkError::passing("too many read rows of the warehouse already")),
        }
    }
}

#[async_trait]
impl RowReader for SqliteRows {
    async fn rows(&self, feed: &Feed, request: RowsRequest) -> Result<Rows, SinkError> {
        let doing = format!("reading the rows of {}", feed.name);
        let wanted = Wanted::of(feed, request).map_err(|error| error.context(&doing))?;
        let turn = self.turn().await.map_err(|error| error.context(&doing))?;
        let (send, mut batches) = mpsc::channel(1);
        let (begin, begun) = oneshot::channel();
        let (path, patience) = (self.path.clone(), self.patience);
        tokio::task::spawn_blocking(move || {
            let table = table_name(&wanted.feed);
            let outlet = Outlet { send, patience };
            let read = read(&path, &wanted, &table, begin, &outlet);
            drop(turn);
            match read {
                Ok(Left::Nothing) => outlet.put(Ok(None)),
                Ok(Left::Unwanted) => false,
                Err(error) => outlet.put(Err(error)),
            }
        });
        if begun.await.is_err() {
            let error = batches.recv().await.and_then(Result::err);
            return Err(error.unwrap_or_else(ended).context(doing));
        }
        let batches = stream::try_unfold(batches, move |mut batches| {
            let doing = doing.clone();
            async move {
                match batches.recv().await {
                    Some(Ok(Some(batch))) => Ok(Some((batch, batches))),
                    Some(Ok(None)) => Ok(None),
                    Some(Err(error)) => Err(error.context(doing)),
                    None => Err(ended().context(doing)),
                }
            }
        });
        Ok(batches.boxed())
    }
}

fn ended() -> SinkError {
    SinkError::passing("the reading was ended, as it is where nobody takes a batch for too long")
}

/// Where batches go, and `None` behind the last one.
struct Outlet {
    send: mpsc::Sender<Result<Option<Read>, SinkError>>,
    patience: Duration,
}

impl Outlet {
    /// False where nobody takes it. Only on a thread that may block.
    fn put(&self, batch: Result<Option<Read>, SinkError>) -> bool {
        Handle::current().block_on(self.send.send_timeout(batch, self.patience)).is_ok()
    }
}

/// What was left to be read when reading ended.
enum Left {
    Nothing,
    Unwanted,
}

fn read(
    path: &Path,
    wanted: &Wanted,
    table: &str,
    begun: oneshot::Sender<()>,
    outlet: &Outlet,
) -> Result<Left, SinkError> {
    if !path.exists() {
        return Err(absent(table));
    }
    let mut connection = connect(path).map_err(unread)?;
    let transaction = connection.transaction().map_err(unread)?;
    if columns(&transaction, table).map_err(unread)?.is_empty() {
        return Err(absent(table));
    }
    // The first look decides what the transaction sees.
    let look = format!("SELECT 1 FROM {table} LIMIT 1");
    transaction.query_row(&look, [], |_| Ok(())).optional().map_err(unread)?;
    let mut values: Vec<Value> = Vec::new();
    let question = question(wanted, table, &mut values);
    let mut statement = transaction.prepare(&question).map_err(unread)?;
    let mut rows = statement.query(params_from_iter(values)).map_err(unread)?;
    if begun.send(()).is_err() {
        return Ok(Left::Unwanted);
    }
    let mut filling = Filling::new(wanted);
    while let Some(row) = rows.next().map_err(unread)? {
        put(wanted, table, row, &mut filling)?;
        if filling.is_full() {
            let full = std::mem::replace(&mut filling, Filling::new(wanted)).finish()?;
            if !outlet.put(Ok(full)) {
                return Ok(Left::Unwanted);
            }
        }
    }
    let taken = filling.finish()?.is_none_or(|last| outlet.put(Ok(Some(last))));
    Ok(if taken { Left::Nothing } else { Left::Unwanted })
}

/// A connection that can write nothing.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // As the writer's, but for the rights.
    let writing = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let flags = OpenFlags::default().difference(writing) | OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn put(
    wanted: &Wanted,
    table: &str,
    row: &Row<'_>,
    filling: &mut Filling<'_>,
) -> Result<(), SinkError> {
    for (at, column) in wanted.columns.iter().enumerate() {
        let value = row.get_ref(at).map_err(unread)?;
        let put = cell(column.kind, value).and_then(|cell| filling.put(at, cell));
        put.map_err(|why| misfit(table, column, &why))?;
    }
    filling.end_row();
    Ok(())
}

/// No record is at fault where none is written.
pub(super) fn unread(error: rusqlite::Error) -> SinkError {
    match judged(error) {
        SinkError { blame: Blame::Record, message, .. } => SinkError::lasting(message),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;
    use crate::config::FeedKind;
    use crate::warehouse::contract::lab::{Lab, Record, accounts, batch, part, put};

    /// A table of ten rows, and who reads them with this patience, one by one.
    async fn table(patience: Duration) -> (Lab, SqliteRows, Feed, RowsRequest) {
        let lab = Lab::sqlite().await.migrated().await;
        let feed = accounts(FeedKind::Table);
        let claim = lab.claimed(&feed, 0).await;
        let records: Vec<Record> = (0..10).map(|it| put(&it.to_string(), "x", it)).collect();
        lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 0, &records)])]).await;
        let path = lab.config.url.strip_prefix("sqlite:").unwrap();
        let reader = SqliteRows { patience, ..SqliteRows::open(path.as_ref()).unwrap() };
        let columns = vec!["id".to_owned()];
        let request = RowsRequest { columns, bounds: vec![], after: None, batch_rows: 1 };
        (lab, reader, feed, request)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_takes_nothing_for_too_long_is_told_and_holds_nobody_up() {
        let (_lab, reader, feed, request) = table(Duration::from_millis(100)).await;
        let mut slow = Vec::new();
        for _ in 0..READERS {
            slow.push(reader.rows(&feed, request.clone()).await.unwrap());
        }
        // All turns are taken, until those who have them lose theirs.
        let next = SqliteRows { patience: PATIENCE, ..reader };
        let rows: Vec<Read> = next.rows(&feed, request).await.unwrap().try_collect().await.unwrap();
        assert_eq!(rows.len(), 10);
        drop(next.readers.acquire_many(READERS as u32).await.unwrap());
        for batches in slow {
            let error = batches.try_collect::<Vec<Read>>().await.unwrap_err();
            assert_eq!(error.blame, Blame::Passing, "{error}");
            assert!(error.message.contains("too long"), "{error}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.db");
        let (_lab, reader, feed, request) = table(PATIENCE).await;
        let reader = SqliteRows { path: path.clone(), ..reader };
        let error = reader.rows(&feed, request).await.map(drop).unwrap_err();
        assert!(error.message.contains("a node makes it"), "{error}");
        assert!(!path.exists());
    }
}
