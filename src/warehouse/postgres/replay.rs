//! Records that come back from quarantine: the same transaction as any write, but what it continues is not
//! the progress: it is that each of them is in quarantine, and no row yet.

use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::Postgres;
use super::pool::{Session, judged};
use crate::config::Feed;
use crate::record::{Part, Settled, SinkError, TopicId, TopicPartition, Verdict};
use crate::warehouse::intake::Intake;
use crate::warehouse::{Replay, Replayed, Settlement};

/// Holds the partition where it is, if it has passed the records and gone no further than was searched:
/// no newer record of a key comes between.
const HOLD: &str = "
    SELECT 1 FROM tidegate.progress
    WHERE (feed, topic, partition) = ($1, $2, $3) AND next_offset > $4 AND next_offset <= $5
    FOR UPDATE";

const OPEN: &str = "
    SELECT record_offset FROM tidegate.quarantine
    WHERE (feed, topic, partition) = ($1, $2, $3)
      AND topic_id = coalesce($4::text::uuid, '00000000-0000-0000-0000-000000000000')
      AND record_offset = ANY($5) AND coalesce(settled, '') NOT IN ('replayed', 'read_again')
    ORDER BY id FOR UPDATE";

const CAME_BACK: &str = "
    SELECT count(*) FROM tidegate.quarantine
    WHERE (feed, topic, partition) = ($1, $2, $3) AND settled IN ('replayed', 'read_again')";

const SETTLE: &str = "
    UPDATE tidegate.quarantine
    SET settled = $6, settled_by = $7, settled_why = $8, settled_at = now()
    WHERE (feed, topic, partition) = ($1, $2, $3)
      AND topic_id = coalesce($4::text::uuid, '00000000-0000-0000-0000-000000000000')
      AND record_offset = ANY($5) AND coalesce(settled, '') NOT IN ('replayed', 'read_again')";

/// What a replay continues.
pub(super) struct Held<'a> {
    feed: &'a str,
    replay: &'a Replay,
}

impl Held<'_> {
    /// The one part, if it holds.
    pub async fn parts(&self, session: &Session) -> Result<Vec<usize>, Error> {
        let Replay { source, seen, came_back, .. } = self.replay;
        let hold = session.prepare_cached(HOLD).await?;
        let last = self.replay.last();
        let params: [&(dyn ToSql + Sync); 5] =
            [&self.feed, &&*source.topic, &source.partition, &last, seen];
        if session.query(&hold, &params).await?.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(came_back) = came_back {
            let count = session.prepare_cached(CAME_BACK).await?;
            let params: [&(dyn ToSql + Sync); 3] = [&self.feed, &&*source.topic, &source.partition];
            if session.query_one(&count, &params).await?.get::<_, i64>(0) != *came_back {
                return Ok(Vec::new());
            }
        }
        let offsets = self.replay.batch.offsets.values().to_vec();
        let topic_id = self.replay.topic_id.text();
        let open = session.prepare_cached(OPEN).await?;
        let params: [&(dyn ToSql + Sync); 5] =
            [&self.feed, &&*source.topic, &source.partition, &topic_id, &offsets];
        let open = session.query(&open, &params).await?.len();
        Ok(if open == offsets.len() { vec![0] } else { Vec::new() })
    }

    /// Settles what is a row by now.
    pub async fn settle(&self, session: &Session, intake: &Intake) -> Result<(), Error> {
        let landed = self.replay.but(&intake.refusals());
        let Replay { source, topic_id, by, .. } = self.replay;
        let settled = (Settled::Replayed, by.as_str(), None);
        settle(session, self.feed, source, *topic_id, &landed, settled).await.map(drop)
    }
}

impl Postgres {
    pub(super) async fn replay_part(
        &self,
        feed: &Feed,
        part: Part,
        replay: &Replay,
    ) -> Result<Replayed, SinkError> {
        let held = Held { feed: &feed.name, replay };
        let intake = self.write_held(feed, &[part], Some(&held)).await?;
        let refused = intake.refusals();
        Ok(match intake.committed().first() {
            Some(Verdict::Durable { .. }) => Replayed::Landed { refused },
            _ => Replayed::Moved,
        })
    }

    pub(super) async fn settle_records(
        &self,
        feed: &str,
        settlement: &Settlement,
    ) -> Result<u64, SinkError> {
        let Settlement { source, topic_id, offsets, settled, by, why } = settlement;
        let session = self.sessions.get().await?;
        let settled = (*settled, by.as_str(), why.as_deref());
        let count = settle(&session, feed, source, *topic_id, offsets, settled).await;
        let count = count.map_err(judged)?;
        session.done();
        Ok(count)
    }
}

async fn settle(
    session: &Session,
    feed: &str,
    source: &TopicPartition,
    topic_id: TopicId,
    offsets: &[i64],
    (settled, by, why): (Settled, &str, Option<&str>),
) -> Result<u64, Error> {
    let statement = session.prepare_cached(SETTLE).await?;
    let topic_id = topic_id.text();
    let params: [&(dyn ToSql + Sync); 8] = [
        &feed,
        &&*source.topic,
        &source.partition,
        &topic_id,
        &offsets,
        &settled.name(),
        &by,
        &why,
    ];
    session.execute(&statement, &params).await
}
