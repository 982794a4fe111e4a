//! Into the lake: a commit that lands only if nobody has replayed into the partition since it was asked
//! which of the records are rows already.

use std::sync::Arc;

use super::{EACH, Outcome, Place, Settling, TRIES, due, said};
use crate::lake::LakeTable;
use crate::record::{Batch, Claim, Part, Settled, SinkKind, TopicId, TopicPartition};
use crate::telemetry::fault;
use crate::verify::{Kept, rows_at};

pub(super) async fn replay(
    place: &mut Place<'_>,
    source: &TopicPartition,
    kept: Vec<Kept>,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::new(SinkKind::Lake, source);
    let Some(store) = place.sinks.lake.clone().filter(|_| place.feed.lake.is_some()) else {
        return Err(format!("feed {} has no lake side any more", place.feed.name));
    };
    let progress = crate::lake::read_progress(&store, &place.feed).await.map_err(said)?;
    let Some(progress) = progress.get(source).copied() else {
        return Err(format!("{source}: the lake's table has no progress"));
    };
    // Whoever commits the range around it reads it again.
    let not_passed = "a node has not committed its neighbours yet";
    let due = due(kept, progress, not_passed, &mut outcome);
    for chunk in due.chunks(EACH) {
        let decoded = place.decode(source, chunk).await?;
        outcome.left.extend(decoded.rejected);
        let offsets = decoded.rows.offsets.values().to_vec();
        if offsets.is_empty() {
            continue;
        }
        if !place.hand.dry_run {
            // After decoding, which may have given the feed more columns.
            let table = crate::lake::open(&store, place.feed.clone()).await.map_err(said)?;
            let adding = Adding { place, table: &*table, source, topic_id: progress.topic_id };
            adding.add(decoded.rows).await?;
            fault::point("replay.before_settling");
            let settled = Settled::Replayed;
            let topic_id = progress.topic_id;
            let settling = Settling { topic_id, settled, why: None, hand: place.hand };
            settling.in_lake(&store, &place.feed.name, source, offsets.clone()).await?;
        }
        outcome.replayed.extend(offsets);
    }
    Ok(outcome)
}

struct Adding<'a> {
    place: &'a Place<'a>,
    table: &'a dyn LakeTable,
    source: &'a TopicPartition,
    topic_id: TopicId,
}

impl Adding<'_> {
    async fn add(&self, rows: Batch) -> Result<(), String> {
        let Some(store) = &self.place.sinks.lake else { return Ok(()) };
        let asked = rows.offsets.values().iter().copied().collect();
        for _ in 0..TRIES {
            // In this order: what is added after the count was asked changes it.
            let count = self.table.replays(self.source).await.map_err(said)?;
            let there = rows_at(store, &self.place.feed, self.source, &asked).await?;
            let left = rows.only(|offset| !there.contains(&offset));
            let left = left.map_err(|error| error.to_string())?;
            if left.num_rows() == 0 {
                return Ok(());
            }
            let part = Part {
                source: self.source.clone(),
                topic_id: self.topic_id,
                claim: Claim::random(),
                batches: vec![Arc::new(left)],
            };
            if self.table.replay(part, count, &self.place.hand.by).await.map_err(said)? {
                return Ok(());
            }
        }
        Err(format!("{}: others replay into it all the time; try again", self.source))
    }
}
