//! Records that come back from quarantine: the same transaction as any write, but what it continues is not
//! the progress: it is that each of them is in quarantine, and no row yet.

use rusqlite::Connection;

use super::progress;
use super::{File, judged, write};
use crate::config::Feed;
use crate::record::{Part, Settled, SinkError, TopicId, TopicPartition, Verdict};
use crate::warehouse::intake::Intake;
use crate::warehouse::{Replay, Replayed, Settlement};

const OPEN: &str = "
    SELECT count(*) FROM tidegate_quarantine
    WHERE feed = ?1 AND topic = ?2 AND partition = ?3
      AND topic_id = coalesce(?4, '00000000-0000-0000-0000-000000000000')
      AND record_offset = ?5 AND coalesce(settled, '') NOT IN ('replayed', 'read_again')";

const CAME_BACK: &str = "
    SELECT count(*) FROM tidegate_quarantine
    WHERE feed = ?1 AND topic = ?2 AND partition = ?3 AND settled IN ('replayed', 'read_again')";

const SETTLE: &str = "
    UPDATE tidegate_quarantine
    SET settled = ?6, settled_by = ?7, settled_why = ?8,
        settled_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    WHERE feed = ?1 AND topic = ?2 AND partition = ?3
      AND topic_id = coalesce(?4, '00000000-0000-0000-0000-000000000000')
      AND record_offset = ?5 AND coalesce(settled, '') NOT IN ('replayed', 'read_again')";

/// What a replay continues.
pub(super) struct Held<'a> {
    feed: &'a str,
    replay: &'a Replay,
}

impl Held<'_> {
    pub fn holds(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let Replay { source, seen, came_back, .. } = self.replay;
        let found = progress::standing(connection, self.feed, source)?;
        let passed = |next_offset| next_offset > self.replay.last() && next_offset <= *seen;
        if !found.is_some_and(|(_, next_offset)| passed(next_offset)) {
            return Ok(false);
        }
        if let Some(came_back) = came_back {
            let partition = (self.feed, &*source.topic, source.partition);
            let mut count = connection.prepare_cached(CAME_BACK)?;
            if count.query_row(partition, |row| row.get::<_, i64>(0))? != *came_back {
                return Ok(false);
            }
        }
        let mut open = connection.prepare_cached(OPEN)?;
        for offset in self.replay.batch.offsets.values() {
            let topic_id = self.replay.topic_id.text();
            let record = (self.feed, &*source.topic, source.partition, topic_id, offset);
            if open.query_row(record, |row| row.get::<_, i64>(0))? != 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Settles what is a row by now.
    pub fn settle(&self, connection: &Connection, intake: &Intake) -> rusqlite::Result<()> {
        let landed = self.replay.but(&intake.refusals());
        let Replay { source, topic_id, by, .. } = self.replay;
        let settled = (Settled::Replayed, by.as_str(), None);
        settle(connection, self.feed, source, *topic_id, &landed, settled).map(drop)
    }
}

pub(super) fn replay(
    file: &mut File,
    feed: &Feed,
    part: Part,
    replay: &Replay,
) -> Result<Replayed, SinkError> {
    let held = Held { feed: &feed.name, replay };
    let intake = write::write_held(file, feed, &[part], Some(&held))?;
    let refused = intake.refusals();
    Ok(match intake.committed().first() {
        Some(Verdict::Durable { .. }) => Replayed::Landed { refused },
        _ => Replayed::Moved,
    })
}

pub(super) fn settle_records(
    file: &mut File,
    feed: &str,
    settlement: &Settlement,
) -> Result<u64, SinkError> {
    let Settlement { source, topic_id, offsets, settled, by, why } = settlement;
    file.transaction(|transaction| {
        let settled = (*settled, by.as_str(), why.as_deref());
        settle(transaction, feed, source, *topic_id, offsets, settled).map_err(judged)
    })
}

fn settle(
    connection: &Connection,
    feed: &str,
    source: &TopicPartition,
    topic_id: TopicId,
    offsets: &[i64],
    (settled, by, why): (Settled, &str, Option<&str>),
) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(SETTLE)?;
    let mut count = 0;
    for offset in offsets {
        let (topic_id, settled) = (topic_id.text(), settled.name());
        let record = (feed, &*source.topic, source.partition, topic_id, offset, settled, by, why);
        count += statement.execute(record)? as u64;
    }
    Ok(count)
}
