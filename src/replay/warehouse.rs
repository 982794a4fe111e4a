//! Into the warehouse: the transaction that writes the rows settles the records, so each lands once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::decode::{Decoded, rows};
use super::newer::{Search, search};
use super::{EACH, Outcome, Place, Settling, TRIES, of_former, said};
use crate::config::FeedKind;
use crate::record::{Batch, OffsetRange, Progress, Settled, SinkKind, TopicId, TopicPartition};
use crate::verify::{Chosen, Kept, State, quarantined};
use crate::warehouse::{Replay, Replayed, Warehouse, record_keys};

pub(super) async fn replay(
    place: &mut Place<'_>,
    source: &TopicPartition,
    kept: Vec<Kept>,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::new(SinkKind::Warehouse, source);
    let Some(warehouse) = place.warehouse.clone().filter(|_| place.feed.warehouse.is_some()) else {
        return Err(format!("feed {} has no warehouse side any more", place.feed.name));
    };
    warehouse.check_schema().await.map_err(said)?;
    let progress = warehouse.progress(&place.feed.name).await.map_err(said)?;
    let Some(progress) = progress.get(source).copied() else {
        return Err(format!("{source}: the warehouse has no progress"));
    };
    let mut due = Vec::with_capacity(kept.len());
    for record in kept {
        let topic_id = record.topic_id.map_or(TopicId::UNKNOWN, TopicId::new);
        match topic_id.agrees(progress.topic_id) {
            true => due.push(record),
            false => outcome.left.push((record.offset, of_former(&record))),
        }
    }
    let mut tries = 0;
    // Records whose topic has an id and those from before it was told are settled apart.
    while let Some(topic_id) = due.first().map(|record| record.topic_id) {
        let (one, others): (Vec<Kept>, Vec<Kept>) =
            due.into_iter().partition(|record| record.topic_id == topic_id);
        let chunk: Vec<Kept> = one.iter().take(EACH).cloned().collect();
        let landing = Landing { place, warehouse: &*warehouse, source, progress };
        let moved = !landing.land(&chunk, &mut outcome).await?;
        due = one.into_iter().skip(if moved { 0 } else { chunk.len() }).chain(others).collect();
        due.sort_by_key(|record| record.offset);
        if moved {
            tries += 1;
            if tries > TRIES {
                return Err(format!("{source}: others settle its records meanwhile; try again"));
            }
            let open = unsettled(place, source).await?;
            due.retain(|record| open.contains(&record.offset));
        }
    }
    Ok(outcome)
}

/// Offsets of the partition that are no rows, in the warehouse's quarantine.
async fn unsettled(place: &Place<'_>, source: &TopicPartition) -> Result<HashSet<i64>, String> {
    let all = Chosen {
        feed: Some(place.feed.name.to_string()),
        sink: Some(SinkKind::Warehouse),
        class: None,
        partition: Some(source.partition),
        offsets: OffsetRange { start: i64::MIN, end: i64::MAX },
        state: None,
    };
    let all = quarantined(place.node, &all, usize::MAX).await?.into_iter();
    let open = all.filter(|record| {
        let state = record.settled.as_ref().map_or(State::Open, |it| State::Settled(it.settled));
        *record.topic == *source.topic && state != State::Settled(Settled::Replayed)
    });
    Ok(open.map(|record| record.offset).collect())
}

struct Landing<'l, 'p> {
    place: &'l mut Place<'p>,
    warehouse: &'l dyn Warehouse,
    source: &'l TopicPartition,
    progress: Progress,
}

impl Landing<'_, '_> {
    /// False if others have moved meanwhile: what is left must be looked at anew.
    async fn land(mut self, chunk: &[Kept], outcome: &mut Outcome) -> Result<bool, String> {
        let (spelled, own): (Vec<Kept>, Vec<Kept>) =
            chunk.iter().cloned().partition(|record| record.is_row);
        let own = self.place.decode(self.source, &own).await?;
        if !self.place.hand.dry_run {
            self.warehouse.prepare(&self.place.feed).await.map_err(said)?;
        }
        let spelled = rows(&self.place.feed, self.source, &spelled)?;
        let search = self.search(&own, &spelled).await?;
        let stays: HashSet<i64> = search.unknown.iter().map(|(offset, _)| *offset).collect();
        let topic_id = chunk.first().and_then(|record| record.topic_id);
        let topic_id = topic_id.map_or(TopicId::UNKNOWN, TopicId::new);
        let mut left: Vec<(i64, String)> =
            own.rejected.iter().chain(&spelled.rejected).cloned().collect();
        for (decoded, shaped) in [(&own, false), (&spelled, true)] {
            let lands = |offset| !stays.contains(&offset) && !search.superseded.contains(&offset);
            let batch = decoded.rows.only(lands).map_err(|error| error.to_string())?;
            if batch.num_rows() == 0 {
                continue;
            }
            let offsets = batch.offsets.values().to_vec();
            if self.place.hand.dry_run {
                outcome.replayed.extend(offsets);
                continue;
            }
            let replay = Replay {
                source: self.source.clone(),
                topic_id,
                batch: Arc::new(batch),
                shaped,
                seen: search.seen,
                by: self.place.hand.by.clone(),
            };
            match self.warehouse.replay(&self.place.feed, &replay).await.map_err(said)? {
                Replayed::Moved => return Ok(false),
                Replayed::Landed { refused } => {
                    let stay: HashSet<i64> = refused.iter().map(|(offset, _)| *offset).collect();
                    outcome.replayed.extend(offsets.iter().filter(|it| !stay.contains(it)));
                    left.extend(refused);
                }
            }
        }
        if !search.superseded.is_empty() && !self.place.hand.dry_run {
            let (settled, why) = (Settled::Superseded, Some("its key has a newer state"));
            let settling = Settling { topic_id, settled, why, hand: &self.place.hand };
            let offsets = search.superseded.iter().copied().collect();
            let feed = &self.place.feed.name;
            settling.in_warehouse(self.warehouse, feed, self.source, offsets).await?;
        }
        outcome.superseded.extend(&search.superseded);
        outcome.left.append(&mut left);
        outcome.left.extend(search.unknown);
        Ok(true)
    }

    /// Which rows of a keyed table are not the last of their keys.
    async fn search(&mut self, own: &Decoded, spelled: &Decoded) -> Result<Search, String> {
        if self.place.feed.kind == FeedKind::Stream {
            return Ok(Search { seen: i64::MAX, ..Search::default() });
        }
        let waiting = unsettled(self.place, self.source).await?;
        let (node, feed) = (self.place.node.clone(), self.place.feed.clone());
        let registry = self.place.catalog.registry().cloned();
        let (source, topic_id) = (self.source.clone(), self.progress.topic_id);
        let batches = [own.rows.clone(), spelled.rows.clone()];
        let searching = tokio::task::spawn_blocking(move || {
            let mut found = search(
                &node,
                registry.as_ref(),
                &feed,
                &source,
                topic_id,
                &batches.each_ref(),
                &waiting,
            )?;
            // They are written apart: of a key that both have, the older would come last.
            found.superseded.extend(older_of_both(&feed.schema, &batches)?);
            Ok::<_, String>(found)
        });
        searching.await.map_err(|error| error.to_string())?
    }
}

/// Of the keys that both batches have, all offsets but those of the batch that has the last.
fn older_of_both(
    schema: &crate::config::Schema,
    batches: &[Batch; 2],
) -> Result<BTreeSet<i64>, String> {
    let mut keys: HashMap<Vec<u8>, [Vec<i64>; 2]> = HashMap::new();
    for (index, batch) in batches.iter().enumerate() {
        let found = record_keys(schema, &batch.rows).map_err(|error| error.to_string())?;
        for (key, offset) in found.iter().zip(batch.offsets.values()) {
            keys.entry(key.as_ref().to_vec()).or_default()[index].push(*offset);
        }
    }
    let older = keys.into_values().filter(|[a, b]| !a.is_empty() && !b.is_empty());
    Ok(older.flat_map(|[a, b]| if a.last() < b.last() { a } else { b }).collect())
}
