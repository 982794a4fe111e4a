//! Offsets that were not read: open while the partition waits before them, settled afterwards.

use rusqlite::Connection;

use super::{File, judged, progress};
use crate::record::{Claim, GapReason, OffsetRange, SinkError, TopicPartition, Verdict};

/// One per partition: found again, it may reach further.
const OPEN: &str = "
    INSERT INTO tidegate_gaps (feed, topic, partition, topic_id, from_offset, to_offset, reason)
    SELECT feed, topic, partition, topic_id, ?5, ?6, ?7 FROM tidegate_progress
    WHERE feed = ?1 AND topic = ?2 AND partition = ?3 AND claim = ?4 AND next_offset = ?5
    ON CONFLICT (feed, topic, partition) WHERE settled_at IS NULL DO UPDATE
    SET topic_id = excluded.topic_id, from_offset = excluded.from_offset,
        to_offset = excluded.to_offset, reason = excluded.reason
    WHERE (topic_id, from_offset, to_offset)
       IS NOT (excluded.topic_id, excluded.from_offset, excluded.to_offset)";

const MOVE: &str = "
    UPDATE tidegate_progress
    SET next_offset = ?6, updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    WHERE feed = ?1 AND topic = ?2 AND partition = ?3 AND claim = ?4 AND next_offset = ?5";

const SETTLE_AS: &str = "
    UPDATE tidegate_gaps
    SET from_offset = ?4, to_offset = ?5, reason = ?6,
        settled_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    WHERE feed = ?1 AND topic = ?2 AND partition = ?3 AND settled_at IS NULL";

const SETTLED: &str = "
    INSERT INTO tidegate_gaps
        (feed, topic, partition, topic_id, from_offset, to_offset, reason, settled_at)
    SELECT feed, topic, partition, topic_id, ?4, ?5, ?6, strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    FROM tidegate_progress WHERE feed = ?1 AND topic = ?2 AND partition = ?3";

pub(super) fn open(
    file: &mut File,
    feed: &str,
    source: &TopicPartition,
    claim: Claim,
    gap: OffsetRange,
) -> Result<(), SinkError> {
    let (topic, claim) = (&*source.topic, claim.to_string());
    let reason = GapReason::Expired.to_string();
    let row = (feed, topic, source.partition, claim, gap.start, gap.end, reason);
    file.transaction(|transaction| transaction.execute(OPEN, row).map(drop).map_err(judged))
}

pub(super) fn skip(
    file: &mut File,
    feed: &str,
    source: &TopicPartition,
    claim: Claim,
    gap: OffsetRange,
    reason: GapReason,
) -> Result<Verdict, SinkError> {
    let (topic, partition) = (&*source.topic, source.partition);
    let skip = |connection: &Connection| -> rusqlite::Result<Verdict> {
        let fenced = (feed, topic, partition, claim.to_string(), gap.start, gap.end);
        if connection.execute(MOVE, fenced)? == 0 {
            let found = progress::standing(connection, feed, source)?;
            return Ok(Verdict::Fenced { found: found.map(|(_, next_offset)| next_offset) });
        }
        let row = (feed, topic, partition, gap.start, gap.end, reason.to_string());
        if connection.execute(SETTLE_AS, row.clone())? == 0 {
            connection.execute(SETTLED, row)?;
        }
        Ok(Verdict::Durable { quarantined: 0 })
    };
    file.transaction(|transaction| skip(transaction).map_err(judged))
}

/// Progress was set by hand: nothing waits before the gap any more.
pub(super) fn settle(
    connection: &Connection,
    feed: &str,
    source: &TopicPartition,
) -> rusqlite::Result<()> {
    const SETTLE: &str = "
        UPDATE tidegate_gaps SET settled_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
        WHERE feed = ?1 AND topic = ?2 AND partition = ?3 AND settled_at IS NULL";
    connection.execute(SETTLE, (feed, &*source.topic, source.partition)).map(drop)
}
