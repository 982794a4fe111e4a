//! Offsets that were not read: open while the partition waits before them, settled afterwards.

use tokio_postgres::types::ToSql;

use super::Postgres;
use super::pool::{Session, judged};
use crate::config::Feed;
use crate::record::{Claim, GapReason, OffsetRange, SinkError, TopicPartition, Verdict};

/// One per partition: found again, it may reach further.
const OPEN: &str = "
    INSERT INTO tidegate.gaps AS g
        (feed, topic, partition, topic_id, from_offset, to_offset, reason)
    SELECT feed, topic, partition, topic_id, $5::int8, $6::int8, $7::text FROM tidegate.progress
    WHERE feed = $1 AND topic = $2 AND partition = $3
      AND claim = $4::text::uuid AND next_offset = $5::int8
    ON CONFLICT (feed, topic, partition) WHERE settled_at IS NULL DO UPDATE
    SET topic_id = EXCLUDED.topic_id, from_offset = EXCLUDED.from_offset,
        to_offset = EXCLUDED.to_offset, reason = EXCLUDED.reason
    WHERE (g.topic_id, g.from_offset, g.to_offset)
       IS DISTINCT FROM (EXCLUDED.topic_id, EXCLUDED.from_offset, EXCLUDED.to_offset)";

const SKIP: &str = "
    WITH moved AS (
        UPDATE tidegate.progress
        SET next_offset = $6, updated_at = now()
        WHERE feed = $1 AND topic = $2 AND partition = $3
          AND claim = $4::text::uuid AND next_offset = $5
        RETURNING feed, topic, partition, topic_id),
    settled AS (
        UPDATE tidegate.gaps AS g
        SET from_offset = $5, to_offset = $6, reason = $7, settled_at = now()
        FROM moved AS m
        WHERE g.settled_at IS NULL
          AND (g.feed, g.topic, g.partition) = (m.feed, m.topic, m.partition)
        RETURNING g.feed),
    kept AS (
        INSERT INTO tidegate.gaps
            (feed, topic, partition, topic_id, from_offset, to_offset, reason, settled_at)
        SELECT feed, topic, partition, topic_id, $5, $6, $7, now() FROM moved
        WHERE NOT EXISTS (SELECT FROM settled))
    SELECT count(*) FROM moved";

impl Postgres {
    pub(super) async fn keep_open_gap(
        &self,
        feed: &Feed,
        source: &TopicPartition,
        claim: Claim,
        gap: OffsetRange,
    ) -> Result<(), SinkError> {
        let (claim, reason) = (claim.to_string(), GapReason::Expired.to_string());
        let row: [&(dyn ToSql + Sync); 7] = [
            &&*feed.name,
            &&*source.topic,
            &source.partition,
            &claim,
            &gap.start,
            &gap.end,
            &reason,
        ];
        let session = self.sessions.get().await?;
        session.execute(OPEN, &row).await.map_err(judged)?;
        session.done();
        Ok(())
    }

    pub(super) async fn skip_gap(
        &self,
        feed: &Feed,
        source: &TopicPartition,
        claim: Claim,
        gap: OffsetRange,
        reason: GapReason,
    ) -> Result<Verdict, SinkError> {
        let (claim, reason) = (claim.to_string(), reason.to_string());
        let row: [&(dyn ToSql + Sync); 7] = [
            &&*feed.name,
            &&*source.topic,
            &source.partition,
            &claim,
            &gap.start,
            &gap.end,
            &reason,
        ];
        let session = self.sessions.get().await?;
        let moved: i64 = session.query_one(SKIP, &row).await.map_err(judged)?.get(0);
        session.done();
        if moved == 1 {
            return Ok(Verdict::Durable { quarantined: 0 });
        }
        let found = self.read_progress(&feed.name).await?;
        Ok(Verdict::Fenced { found: found.get(source).map(|progress| progress.next_offset) })
    }
}

/// Progress was set by hand: nothing waits before the gap any more.
pub(super) async fn settle(
    session: &Session,
    feed: &str,
    source: &TopicPartition,
) -> Result<(), tokio_postgres::Error> {
    const SETTLE: &str = "UPDATE tidegate.gaps SET settled_at = now() \
                          WHERE feed = $1 AND topic = $2 AND partition = $3 AND settled_at IS NULL";
    session.execute(SETTLE, &[&feed, &&*source.topic, &source.partition]).await.map(drop)
}
