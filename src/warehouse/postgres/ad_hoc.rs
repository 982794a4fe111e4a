//! Statements through a cursor, which only takes one that reads, in a transaction that can write nothing.

use async_trait::async_trait;
use tokio_postgres::{Error, SimpleQueryMessage};

use super::pool::{Session, Sessions, judged};
use super::table::{ident, table_name};
use crate::config::{self, Feed};
use crate::record::SinkError;
use crate::warehouse::ad_hoc::{AdHoc, Answer, TableSize, WITHIN};

pub(in crate::warehouse) struct PostgresAdHoc {
    sessions: Sessions,
    /// Of the feeds' tables that name none.
    schema: String,
}

impl PostgresAdHoc {
    pub fn open(config: &config::Warehouse) -> Result<Self, SinkError> {
        let config = config::Warehouse { connections: 1, ..config.clone() };
        Ok(Self { sessions: Sessions::reading(&config)?, schema: config.schema })
    }

    /// A session in a transaction that reads. Dropped, it is closed, and the server rolls back.
    async fn begin(&self) -> Result<Session, SinkError> {
        let session = self.sessions.get().await?;
        // The user's own schema may be the bookkeeping's, whose tables nobody means.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
             SET LOCAL statement_timeout = '{}s'; SET LOCAL search_path = {}, public",
            WITHIN.as_secs(),
            ident(&self.schema)
        );
        session.batch_execute(&begin).await.map_err(judged)?;
        Ok(session)
    }
}

#[async_trait]
impl AdHoc for PostgresAdHoc {
    async fn ask(&self, sql: &str, most: usize) -> Result<Answer, SinkError> {
        let session = self.begin().await?;
        // The session ends with it, and whatever the statement has set or locked there.
        read(&session, sql, most).await.map_err(judged)
    }

    async fn measure(&self, feed: &Feed) -> Result<Option<TableSize>, SinkError> {
        let session = self.begin().await?;
        let doing = format!("measuring the table of feed {}", feed.name);
        let table = table_name(feed, &self.schema);
        let size = measure(&session, &table).await;
        let size = size.map_err(|error| judged(error).context(doing))?;
        end(session).await?;
        Ok(size)
    }
}

async fn end(session: Session) -> Result<(), SinkError> {
    session.batch_execute("ROLLBACK").await.map_err(judged)?;
    session.done();
    Ok(())
}

/// What is prepared is one statement: another behind it could end the transaction.
async fn read(session: &Session, sql: &str, most: usize) -> Result<Answer, Error> {
    let declare = format!("DECLARE answer NO SCROLL CURSOR FOR\n{sql}");
    session.execute(&declare, &[]).await?;
    let mut answer = Answer::default();
    let mut ended = false;
    // One by one: a row may be as large as it likes.
    while !ended && !answer.more {
        ended = true;
        for message in session.simple_query("FETCH NEXT FROM answer").await? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    answer.columns = columns.iter().map(|it| it.name().to_owned()).collect();
                }
                SimpleQueryMessage::Row(row) => {
                    ended = false;
                    let values = (0..row.len()).map(|at| row.get(at).map(str::to_owned));
                    answer.push(values.collect(), most);
                }
                _ => {}
            }
        }
    }
    Ok(answer)
}

/// Rows of tables of more bytes are not counted.
const COUNTED: i64 = 1 << 30;

async fn measure(session: &Session, table: &str) -> Result<Option<TableSize>, Error> {
    const LOOK: &str = "
        SELECT to_regclass($1) IS NOT NULL, pg_total_relation_size(to_regclass($1)),
               pg_relation_size(to_regclass($1)),
               (SELECT reltuples::int8 FROM pg_class WHERE oid = to_regclass($1)),
               EXISTS (SELECT FROM pg_attribute
                       WHERE attrelid = to_regclass($1) AND NOT attisdropped
                         AND attname = '_timestamp' AND atttypid = 'timestamptz'::regtype)";
    let look = session.query_one(LOOK, &[&table]).await?;
    let (there, bytes, own): (bool, Option<i64>, Option<i64>) =
        (look.get(0), look.get(1), look.get(2));
    let (guess, dated): (Option<i64>, bool) = (look.get(3), look.get(4));
    if !there {
        return Ok(None);
    }
    let bytes: Option<u64> = bytes.and_then(|bytes| bytes.try_into().ok());
    // Before it was analysed for the first time nothing is guessed.
    if let Some(rows) = guess.filter(|rows| *rows >= 0 && own.is_some_and(|own| own > COUNTED)) {
        let rows = rows.unsigned_abs();
        return Ok(Some(TableSize { rows, guessed: true, bytes, newest_ms: None }));
    }
    let newest = match dated {
        true => "floor(extract(epoch FROM max(_timestamp)) * 1000)::int8",
        false => "NULL::int8",
    };
    let count = session.query_one(&format!("SELECT count(*), {newest} FROM {table}"), &[]).await?;
    let rows: i64 = count.get(0);
    let (rows, newest_ms) = (rows.unsigned_abs(), count.get(1));
    Ok(Some(TableSize { rows, guessed: false, bytes, newest_ms }))
}
