//! A table's rows through a cursor, in a transaction that only reads.
//!
//! The cursor is planned for its first rows, so the key's index serves it, and the server does no more
//! than what is fetched. Whoever drops a stream half-way closes its session.

mod binary;
mod question;

use std::pin::Pin;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, RowStream, Statement};

use self::binary::Raw;
use self::question::{CURSOR, Question};
use super::pool::{Session, Sessions, judged};
use super::table::table_name;
use crate::config::{self, Feed};
use crate::record::SinkError;
use crate::warehouse::filling::{Filling, misfit};
use crate::warehouse::rows::{Read, RowReader, Rows, RowsRequest, Wanted};

/// How many read at once; they are not the writers' sessions.
const READERS: usize = 4;

/// How many rows are fetched at once, at most.
const FETCH: usize = 10_000;

pub(in crate::warehouse) struct PostgresRows {
    sessions: Sessions,
    /// Of the feeds' tables that name none.
    schema: String,
}

impl PostgresRows {
    pub fn open(config: &config::Warehouse) -> Result<Self, SinkError> {
        let config = config::Warehouse { connections: READERS, ..config.clone() };
        Ok(Self { sessions: Sessions::reading(&config)?, schema: config.schema })
    }

    async fn begin(&self, wanted: Wanted) -> Result<Reading, SinkError> {
        let table = table_name(&wanted.feed, &self.schema);
        let session = self.sessions.get().await?;
        let question = Question::of(&session, wanted, table).await?;
        let most = question.wanted.batch_rows.min(FETCH);
        let cursor = Cursor::open(session, &question, most).await;
        match cursor {
            Ok(cursor) => Ok(Reading { question, cursor }),
            Err(error) => Err(question.unread(error)),
        }
    }
}

#[async_trait]
impl RowReader for PostgresRows {
    async fn rows(&self, feed: &Feed, request: RowsRequest) -> Result<Rows, SinkError> {
        let begun = self.begin(Wanted::of(feed, request)?).await;
        let doing = format!("reading the rows of {}", feed.name);
        let reading = begun.map_err(|error| error.context(&doing))?;
        let batches = stream::try_unfold(Some(reading), |reading| async move {
            match reading {
                Some(reading) => reading.next().await,
                None => Ok(None),
            }
        });
        Ok(batches.map_err(move |error: SinkError| error.context(&doing)).boxed())
    }
}

/// A question that is being answered.
struct Reading {
    question: Question,
    cursor: Cursor,
}

impl Reading {
    /// The next batch, and what is left to read behind it.
    async fn next(mut self) -> Result<Option<(Read, Option<Self>)>, SinkError> {
        let mut filling = Filling::new(&self.question.wanted);
        let mut ended = false;
        while !ended && !filling.is_full() {
            match self.cursor.row().await {
                Ok(Some(row)) => put(&self.question, &row, &mut filling)?,
                Ok(None) => ended = true,
                Err(error) => return Err(self.question.unread(error)),
            }
        }
        let read = filling.finish()?;
        if ended {
            self.cursor.close().await.map_err(judged)?;
            return Ok(read.map(|read| (read, None)));
        }
        Ok(read.map(|read| (read, Some(self))))
    }
}

fn put(question: &Question, row: &Row, filling: &mut Filling<'_>) -> Result<(), SinkError> {
    let columns = question.wanted.columns.iter().zip(&question.forms);
    for (at, (column, form)) in columns.enumerate() {
        let raw: Option<Raw<'_>> = row.try_get(at).map_err(judged)?;
        let put = form.cell(column.kind, raw).and_then(|cell| filling.put(at, cell));
        put.map_err(|why| misfit(&question.table, column, &why))?;
    }
    filling.end_row();
    Ok(())
}

/// A cursor of the server's and the transaction it lives in.
struct Cursor {
    session: Session,
    fetch: Statement,
    /// How many rows one fetch brings.
    most: usize,
    /// The rows of the present fetch, taken from the network as they are asked for.
    arriving: Option<Pin<Box<RowStream>>>,
    /// How many of them have come.
    came: usize,
}

impl Cursor {
    /// The transaction's first look is the one that the cursor is declared with.
    async fn open(session: Session, question: &Question, most: usize) -> Result<Self, Error> {
        let params: Vec<&(dyn ToSql + Sync)> =
            question.params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
        session.execute(&question.declare, &params).await?;
        let fetch = session.prepare(&format!("FETCH FORWARD {most} FROM {CURSOR}")).await?;
        Ok(Self { session, fetch, most, arriving: None, came: 0 })
    }

    async fn row(&mut self) -> Result<Option<Row>, Error> {
        loop {
            let arriving = match &mut self.arriving {
                Some(arriving) => arriving,
                none => {
                    let params = std::iter::empty::<&(dyn ToSql + Sync)>();
                    let begun = self.session.query_raw(&self.fetch, params).await?;
                    none.insert(Box::pin(begun))
                }
            };
            if let Some(row) = arriving.try_next().await? {
                self.came += 1;
                return Ok(Some(row));
            }
            self.arriving = None;
            if std::mem::take(&mut self.came) < self.most {
                return Ok(None);
            }
        }
    }

    /// Gives the session back.
    async fn close(self) -> Result<(), Error> {
        self.session.batch_execute("COMMIT").await?;
        self.session.done();
        Ok(())
    }
}
