//! Who owns a partition and how far it has come: claims and resets; and the columns kept for a feed.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row};

use super::expiry::FORGET;
use super::{File, gaps, judged};
use crate::record::{Claim, Progress, SinkError, TopicId, TopicPartition};
use crate::warehouse::ClaimRequest;

/// What is recorded wins over the start and over the topic id that the request brings.
const CLAIM_OR_START: &str = "
    INSERT INTO tidegate_progress (feed, topic, partition, topic_id, claim, start_offset, next_offset)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
    ON CONFLICT (feed, topic, partition) DO UPDATE
    SET claim = excluded.claim, updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
        topic_id = coalesce(topic_id, excluded.topic_id)
    RETURNING topic, partition, topic_id, next_offset";

/// The same for a partition that is taken only if there is progress.
const CLAIM_ONLY: &str = "
    UPDATE tidegate_progress
    SET claim = ?5, updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
        topic_id = coalesce(topic_id, ?4)
    WHERE feed = ?1 AND topic = ?2 AND partition = ?3 AND ?6 IS NULL
    RETURNING topic, partition, topic_id, next_offset";

/// What was taken of a topic that is no more.
const LEAVE: &str = "
    INSERT INTO tidegate_former (feed, topic, partition, topic_id, start_offset, end_offset)
    SELECT feed, topic, partition, topic_id, start_offset, next_offset FROM tidegate_progress
    WHERE feed = ?1 AND topic = ?2 AND partition = ?3
      AND topic_id <> ?4 AND start_offset < next_offset";

/// In the same topic the rows from the former start on are still there.
const RESET: &str = "
    INSERT INTO tidegate_progress
        (feed, topic, partition, topic_id, claim, start_offset, next_offset)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
    ON CONFLICT (feed, topic, partition) DO UPDATE
    SET claim = excluded.claim, next_offset = excluded.next_offset, topic_id = excluded.topic_id,
        start_offset = CASE WHEN topic_id <> excluded.topic_id THEN excluded.start_offset
                            ELSE min(start_offset, excluded.start_offset) END,
        updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

/// What is in quarantine from there on comes by again.
const READ_AGAIN: &str = "
    UPDATE tidegate_quarantine
    SET settled = 'read_again', settled_by = NULL, settled_why = NULL,
        settled_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    WHERE feed = ?1 AND topic = ?2 AND partition = ?3
      AND topic_id = coalesce(?4, '00000000-0000-0000-0000-000000000000')
      AND record_offset >= ?5 AND settled IS NULL";

pub(super) fn claim(
    file: &mut File,
    feed: &str,
    requests: &[ClaimRequest],
) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
    let one = |connection: &Connection, request: &ClaimRequest| {
        let sql = if request.start.is_some() { CLAIM_OR_START } else { CLAIM_ONLY };
        let source = &request.source;
        connection
            .prepare_cached(sql)?
            .query_row(
                (
                    feed,
                    &*source.topic,
                    source.partition,
                    request.topic_id.text(),
                    request.claim.to_string(),
                    request.start,
                ),
                progress_of,
            )
            .optional()
    };
    file.transaction(|transaction| {
        let claimed = requests.iter().filter_map(|request| one(transaction, request).transpose());
        claimed.collect::<rusqlite::Result<_>>().map_err(judged)
    })
}

pub(super) fn read(
    file: &mut File,
    feed: &str,
) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
    const READ: &str =
        "SELECT topic, partition, topic_id, next_offset FROM tidegate_progress WHERE feed = ?1";
    let connection = file.connection()?;
    let mut rows = connection.prepare_cached(READ).map_err(judged)?;
    let rows = rows.query_map([feed], progress_of).map_err(judged)?;
    rows.collect::<rusqlite::Result<_>>().map_err(judged)
}

/// What stands in the sink for one partition: its claim and the offset to go on from.
pub(super) fn standing(
    connection: &Connection,
    feed: &str,
    source: &TopicPartition,
) -> rusqlite::Result<Option<(String, i64)>> {
    const READ: &str = "SELECT claim, next_offset FROM tidegate_progress \
                        WHERE feed = ?1 AND topic = ?2 AND partition = ?3";
    connection
        .prepare_cached(READ)?
        .query_row((feed, &*source.topic, source.partition), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

pub(super) fn set(
    file: &mut File,
    feed: &str,
    source: &TopicPartition,
    topic_id: TopicId,
    next_offset: i64,
) -> Result<(), SinkError> {
    let (topic, partition, id) = (&*source.topic, source.partition, topic_id.text());
    let reset = |connection: &Connection| -> rusqlite::Result<()> {
        connection.execute(LEAVE, (feed, topic, partition, &id))?;
        for forget in FORGET {
            connection.execute(forget, (feed, topic, partition, next_offset, &id))?;
        }
        gaps::settle(connection, feed, source)?;
        let claim = Claim::random().to_string();
        connection.execute(RESET, (feed, topic, partition, &id, claim, next_offset))?;
        connection.execute(READ_AGAIN, (feed, topic, partition, &id, next_offset)).map(drop)
    };
    file.transaction(|transaction| reset(transaction).map_err(judged))
}

pub(super) fn keep_columns(
    file: &mut File,
    feed: &str,
    columns: &str,
) -> Result<String, SinkError> {
    const KEEP: &str = "INSERT INTO tidegate_columns (feed, columns) VALUES (?1, ?2) \
                        ON CONFLICT (feed) DO NOTHING";
    file.transaction(|transaction| {
        transaction.execute(KEEP, (feed, columns)).map_err(judged)?;
        let kept = columns_of(transaction, feed).map_err(judged)?;
        kept.ok_or_else(|| SinkError::passing("the columns were not kept"))
    })
}

pub(super) fn change_columns(
    file: &mut File,
    feed: &str,
    from: &str,
    to: &str,
) -> Result<String, SinkError> {
    const CHANGE: &str =
        "UPDATE tidegate_columns SET columns = ?3 WHERE feed = ?1 AND columns = ?2";
    file.transaction(|transaction| {
        transaction.execute(CHANGE, (feed, from, to)).map_err(judged)?;
        let kept = columns_of(transaction, feed).map_err(judged)?;
        kept.ok_or_else(|| SinkError::passing("the columns were removed meanwhile"))
    })
}

pub(super) fn kept_columns(file: &mut File, feed: &str) -> Result<Option<String>, SinkError> {
    columns_of(file.connection()?, feed).map_err(judged)
}

fn columns_of(connection: &Connection, feed: &str) -> rusqlite::Result<Option<String>> {
    const READ: &str = "SELECT columns FROM tidegate_columns WHERE feed = ?1";
    connection.query_row(READ, [feed], |row| row.get(0)).optional()
}

/// Reads `topic, partition, topic_id, next_offset`.
fn progress_of(row: &Row<'_>) -> rusqlite::Result<(TopicPartition, Progress)> {
    let topic: String = row.get(0)?;
    let topic_id: Option<String> = row.get(2)?;
    let topic_id = TopicId::from(topic_id.and_then(|id| id.parse().ok()));
    let progress = Progress { next_offset: row.get(3)?, topic_id };
    Ok((TopicPartition::new(topic, row.get(1)?), progress))
}
