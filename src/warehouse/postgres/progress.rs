//! Who owns a partition and how far it has come: claims and resets; and the columns kept for a feed.

use std::collections::HashMap;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::expiry::FORGET;
use super::pool::{APPLICATION, Session, judged};
use super::{Postgres, gaps};
use crate::config::Feed;
use crate::record::{Claim, Progress, SinkError, TopicId, TopicPartition};
use crate::warehouse::ClaimRequest;

/// Takes partitions, in the order of the table's key as every writer locks them. What is recorded
/// wins over the start and over the topic id that the request brings.
const CLAIM_OR_START: &str = "
    INSERT INTO tidegate.progress AS p
        (feed, topic, partition, topic_id, claim, start_offset, next_offset)
    SELECT $1, r.topic, r.partition, r.topic_id::uuid, r.claim::uuid, r.start, r.start
    FROM unnest($2::text[], $3::int4[], $4::text[], $5::text[], $6::int8[])
        AS r(topic, partition, topic_id, claim, start)
    ORDER BY r.topic, r.partition
    ON CONFLICT (feed, topic, partition) DO UPDATE
    SET claim = EXCLUDED.claim, updated_at = now(),
        topic_id = coalesce(p.topic_id, EXCLUDED.topic_id)
    RETURNING p.topic, p.partition, p.topic_id::text, p.next_offset";

/// The same for partitions that are taken only if there is progress.
const CLAIM_ONLY: &str = "
    UPDATE tidegate.progress AS p
    SET claim = r.claim::uuid, updated_at = now(),
        topic_id = coalesce(p.topic_id, r.topic_id::uuid)
    FROM (SELECT held.topic, held.partition, r.topic_id, r.claim
          FROM tidegate.progress AS held
          JOIN unnest($2::text[], $3::int4[], $4::text[], $5::text[], $6::int8[])
              AS r(topic, partition, topic_id, claim, start)
            ON held.topic = r.topic AND held.partition = r.partition
          WHERE held.feed = $1
          ORDER BY held.topic, held.partition
          FOR UPDATE OF held) AS r
    WHERE p.feed = $1 AND p.topic = r.topic AND p.partition = r.partition
    RETURNING p.topic, p.partition, p.topic_id::text, p.next_offset";

/// Ends the sessions that hold the progress rows: those whose transaction id stands in a row as its
/// locker. Only Tidegate's own. (A session that merely wrote the row last may be at work for another
/// feed by now.)
const END_HOLDERS: &str = "
    SELECT a.pid, pg_terminate_backend(a.pid)
    FROM pg_stat_activity a
    WHERE a.application_name LIKE $4 AND a.datname = current_database()
      AND a.pid <> pg_backend_pid()
      AND EXISTS (
        SELECT FROM tidegate.progress p
        JOIN unnest($2::text[], $3::int4[]) AS r(topic, partition)
          ON p.topic = r.topic AND p.partition = r.partition
        JOIN pg_locks l
          ON l.pid = a.pid AND l.locktype = 'transactionid' AND l.granted
         AND l.transactionid::text = p.xmax::text
        WHERE p.feed = $1)";

/// What was taken of a topic that is no more. Locks the row for the reset that follows.
const LEAVE: &str = "
    INSERT INTO tidegate.former (feed, topic, partition, topic_id, start_offset, end_offset)
    SELECT feed, topic, partition, topic_id, start_offset, next_offset FROM tidegate.progress
    WHERE feed = $1 AND topic = $2 AND partition = $3
      AND topic_id <> $4::text::uuid AND start_offset < next_offset
    FOR UPDATE";

/// In the same topic the rows from the former start on are still there.
const RESET: &str = "
    INSERT INTO tidegate.progress AS p
        (feed, topic, partition, topic_id, claim, start_offset, next_offset)
    VALUES ($1, $2, $3, $4::text::uuid, $5::text::uuid, $6, $6)
    ON CONFLICT (feed, topic, partition) DO UPDATE
    SET claim = EXCLUDED.claim, next_offset = EXCLUDED.next_offset,
        topic_id = EXCLUDED.topic_id, updated_at = now(),
        start_offset = CASE WHEN p.topic_id <> EXCLUDED.topic_id THEN EXCLUDED.start_offset
                            ELSE least(p.start_offset, EXCLUDED.start_offset) END";

/// What is in quarantine from there on comes by again.
const READ_AGAIN: &str = "
    UPDATE tidegate.quarantine
    SET settled = 'read_again', settled_by = NULL, settled_why = NULL, settled_at = now()
    WHERE (feed, topic, partition) = ($1, $2, $3)
      AND topic_id = coalesce($4::text::uuid, '00000000-0000-0000-0000-000000000000')
      AND record_offset >= $5 AND settled IS NULL";

impl Postgres {
    pub(super) async fn take_partitions(
        &self,
        feed: &Feed,
        requests: &[ClaimRequest],
    ) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        if requests.is_empty() {
            return Ok(HashMap::new());
        }
        let session = self.sessions.get().await?;
        match self.try_claim(&session, feed, requests).await {
            Ok(found) => {
                session.done();
                return Ok(found);
            }
            Err(error) if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                return Err(judged(error));
            }
            Err(_) => drop(session),
        }
        self.end_holders(feed, requests).await?;
        let session = self.sessions.get().await?;
        let found = self.try_claim(&session, feed, requests).await.map_err(judged)?;
        session.done();
        Ok(found)
    }

    /// One transaction for all partitions: a statement for those with a start, and one for those
    /// without.
    async fn try_claim(
        &self,
        session: &Session,
        feed: &Feed,
        requests: &[ClaimRequest],
    ) -> Result<HashMap<TopicPartition, Progress>, tokio_postgres::Error> {
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {}",
            self.lock_timeout.as_millis().max(1)
        );
        session.batch_execute(&begin).await?;
        let mut found = HashMap::new();
        for (sql, with_start) in [(CLAIM_OR_START, true), (CLAIM_ONLY, false)] {
            let chosen: Vec<_> =
                requests.iter().filter(|request| request.start.is_some() == with_start).collect();
            if !chosen.is_empty() {
                found.extend(claim(session, sql, feed, &chosen).await?);
            }
        }
        session.batch_execute("COMMIT").await?;
        Ok(found)
    }

    async fn end_holders(&self, feed: &Feed, requests: &[ClaimRequest]) -> Result<(), SinkError> {
        let topics: Vec<&str> = requests.iter().map(|request| &*request.source.topic).collect();
        let partitions: Vec<i32> =
            requests.iter().map(|request| request.source.partition).collect();
        let ours = format!("{APPLICATION}%");
        let session = self.sessions.get().await?;
        let ended = session
            .query(END_HOLDERS, &[&&*feed.name, &topics, &partitions, &ours])
            .await
            .map_err(judged)?;
        session.done();
        for row in ended {
            let (pid, signalled): (i32, bool) = (row.get(0), row.get(1));
            tracing::warn!(
                feed = &*feed.name,
                pid,
                signalled,
                "ended a session that held a claim up"
            );
        }
        Ok(())
    }

    pub(super) async fn read_progress(
        &self,
        feed: &str,
    ) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        const READ: &str = "SELECT topic, partition, topic_id::text, next_offset \
                            FROM tidegate.progress WHERE feed = $1";
        let session = self.sessions.get().await?;
        let statement = session.prepare_cached(READ).await.map_err(judged)?;
        let rows = session.query(&statement, &[&feed]).await.map_err(judged)?;
        session.done();
        Ok(rows.iter().map(progress_of).collect())
    }

    pub(super) async fn set_progress(
        &self,
        feed: &str,
        source: &TopicPartition,
        topic_id: TopicId,
        next_offset: i64,
    ) -> Result<(), SinkError> {
        let topic_id = topic_id.text();
        let claim = Claim::random().to_string();
        let session = self.sessions.get().await?;
        let (topic, partition) = (&*source.topic, source.partition);
        let reset = async {
            session.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
            session.execute(LEAVE, &[&feed, &topic, &partition, &topic_id]).await?;
            gaps::settle(&session, feed, source).await?;
            session.execute(FORGET, &[&feed, &topic, &partition, &next_offset, &topic_id]).await?;
            let row: [&(dyn ToSql + Sync); 6] =
                [&feed, &topic, &partition, &topic_id, &claim, &next_offset];
            session.execute(RESET, &row).await?;
            let row: [&(dyn ToSql + Sync); 5] =
                [&feed, &topic, &partition, &topic_id, &next_offset];
            session.execute(READ_AGAIN, &row).await?;
            session.batch_execute("COMMIT").await
        };
        reset.await.map_err(judged)?;
        session.done();
        Ok(())
    }

    pub(super) async fn first_columns(
        &self,
        feed: &str,
        columns: &str,
    ) -> Result<String, SinkError> {
        const KEEP: &str = "INSERT INTO tidegate.columns (feed, columns) VALUES ($1, $2::text::json) \
                            ON CONFLICT (feed) DO NOTHING";
        let session = self.sessions.get().await?;
        session.execute(KEEP, &[&feed, &columns]).await.map_err(judged)?;
        session.done();
        self.columns_there(feed).await
    }

    pub(super) async fn other_columns(
        &self,
        feed: &str,
        from: &str,
        to: &str,
    ) -> Result<String, SinkError> {
        // As text: the column keeps JSON to the letter, and has no equality.
        const CHANGE: &str = "UPDATE tidegate.columns SET columns = $3::text::json \
                              WHERE feed = $1 AND columns::text = $2";
        let session = self.sessions.get().await?;
        session.execute(CHANGE, &[&feed, &from, &to]).await.map_err(judged)?;
        session.done();
        self.columns_there(feed).await
    }

    async fn columns_there(&self, feed: &str) -> Result<String, SinkError> {
        let kept = self.read_columns(feed).await?;
        kept.ok_or_else(|| {
            SinkError::passing("the columns were removed by somebody else meanwhile")
        })
    }

    pub(super) async fn read_columns(&self, feed: &str) -> Result<Option<String>, SinkError> {
        const READ: &str = "SELECT columns::text FROM tidegate.columns WHERE feed = $1";
        let session = self.sessions.get().await?;
        let row = session.query_opt(READ, &[&feed]).await.map_err(judged)?;
        session.done();
        Ok(row.map(|row| row.get(0)))
    }
}

async fn claim(
    session: &Session,
    sql: &str,
    feed: &Feed,
    requests: &[&ClaimRequest],
) -> Result<Vec<(TopicPartition, Progress)>, tokio_postgres::Error> {
    let topics: Vec<&str> = requests.iter().map(|request| &*request.source.topic).collect();
    let partitions: Vec<i32> = requests.iter().map(|request| request.source.partition).collect();
    let topic_ids: Vec<Option<String>> =
        requests.iter().map(|request| request.topic_id.text()).collect();
    let claims: Vec<String> = requests.iter().map(|request| request.claim.to_string()).collect();
    let starts: Vec<Option<i64>> = requests.iter().map(|request| request.start).collect();
    let statement = session.prepare_cached(sql).await?;
    let rows = session
        .query(&statement, &[&&*feed.name, &topics, &partitions, &topic_ids, &claims, &starts])
        .await?;
    Ok(rows.iter().map(progress_of).collect())
}

/// Reads `topic, partition, topic_id, next_offset`.
fn progress_of(row: &Row) -> (TopicPartition, Progress) {
    let topic_id: Option<&str> = row.get(2);
    // Written by a column of type uuid.
    let topic_id = TopicId::from(topic_id.and_then(|id| id.parse().ok()));
    (
        TopicPartition::new(row.get::<_, &str>(0), row.get(1)),
        Progress { next_offset: row.get(3), topic_id },
    )
}
