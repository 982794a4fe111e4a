//! Into the warehouse: the transaction that writes the rows settles the records, so each lands once.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::decode::{Decoded, rows};
use super::newer::{Question, Search};
use super::{EACH, Outcome, Place, Settling, TRIES, due, said};
use crate::config::FeedKind;
use crate::record::{Settled, SinkKind, TopicId, TopicPartition};
use crate::verify::{Kept, may_be_compacted, offsets_in_quarantine};
use crate::warehouse::{Replay, Replayed, Warehouse};

/// How often a search goes on behind a partition that does.
const CHASES: u32 = 200;

pub(super) async fn replay(
    place: &mut Place<'_>,
    source: &TopicPartition,
    kept: Vec<Kept>,
) -> Result<Outcome, String> {
    let mut outcome = Outcome::new(SinkKind::Warehouse, source);
    let Some(warehouse) = place.sinks.warehouse.clone().filter(|_| place.feed.warehouse.is_some())
    else {
        return Err(format!("feed {} has no warehouse side any more", place.feed.name));
    };
    warehouse.check_schema().await.map_err(said)?;
    let progress = warehouse.progress(&place.feed.name).await.map_err(said)?;
    let Some(progress) = progress.get(source).copied() else {
        return Err(format!("{source}: the warehouse has no progress"));
    };
    let not_passed = "progress was set back before it: a node reads it again";
    let kept = due(kept, progress, not_passed, &mut outcome);
    // Those from before the topic told its id are settled apart.
    let mut by_topic: BTreeMap<Option<uuid::Uuid>, Vec<Kept>> = BTreeMap::new();
    for record in kept {
        by_topic.entry(record.topic_id).or_default().push(record);
    }
    // A stream's records are all rows, whatever the log has lost.
    let compacted = place.feed.kind == FeedKind::Table
        && may_be_compacted(&place.node.kafka, &source.topic).await?;
    for (topic_id, kept) in by_topic {
        let topic_id = TopicId::from(topic_id);
        for chunk in kept.chunks(EACH) {
            let present = progress.topic_id;
            let warehouse = &*warehouse;
            let came_back = None;
            let landing =
                Landing { place, warehouse, source, topic_id, present, compacted, came_back };
            landing.land(chunk, progress.next_offset, &mut outcome).await?;
        }
    }
    Ok(outcome)
}

struct Landing<'l, 'p> {
    place: &'l mut Place<'p>,
    warehouse: &'l dyn Warehouse,
    source: &'l TopicPartition,
    /// Of the records, and of the topic as the warehouse knows it.
    topic_id: TopicId,
    present: TopicId,
    compacted: bool,
    /// How many of the partition's records had come back when the search began, and by ourselves since.
    came_back: Option<i64>,
}

impl Landing<'_, '_> {
    async fn land(
        mut self,
        chunk: &[Kept],
        next_offset: i64,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let mut runs = Vec::new();
        // In the order of their offsets, so that the last of a key comes last.
        for run in chunk.chunk_by(|a, b| a.is_row == b.is_row) {
            let shaped = run.first().is_some_and(|record| record.is_row);
            let decoded = match shaped {
                true => rows(&self.place.feed, self.source, run)?,
                false => self.place.decode(self.source, run).await?,
            };
            runs.push((decoded, shaped));
        }
        outcome.left.extend(runs.iter().flat_map(|(decoded, _)| decoded.rejected.iter().cloned()));
        if !self.place.hand.dry_run {
            self.warehouse.prepare(&self.place.feed).await.map_err(said)?;
        }
        let mut search = self.search(&runs, next_offset).await?;
        let mut landed = HashSet::new();
        let mut gone = HashSet::new();
        for (decoded, shaped) in runs {
            search = self.run(&decoded, shaped, search, &mut landed, &mut gone, outcome).await?;
        }
        let Some(search) = search else { return Ok(()) };
        let settled = |offset: &i64| landed.contains(offset) || gone.contains(offset);
        let superseded = search.superseded();
        let superseded: BTreeSet<i64> =
            superseded.into_iter().filter(|offset| !settled(offset)).collect();
        if !superseded.is_empty() && !self.place.hand.dry_run {
            let (settled, why) = (Settled::Superseded, Some("its key has a newer state"));
            let topic_id = self.topic_id;
            let settling = Settling { topic_id, settled, why, hand: self.place.hand };
            let offsets = superseded.iter().copied().collect();
            let feed = &self.place.feed.name;
            settling.in_warehouse(self.warehouse, feed, self.source, offsets).await?;
        }
        outcome.superseded.extend(superseded);
        outcome.left.extend(search.unknown().into_iter().filter(|(offset, _)| !settled(offset)));
        Ok(())
    }

    /// Lands records of one kind, as often as others have moved meanwhile.
    async fn run(
        &mut self,
        decoded: &Decoded,
        shaped: bool,
        mut search: Option<Search>,
        landed: &mut HashSet<i64>,
        gone: &mut HashSet<i64>,
        outcome: &mut Outcome,
    ) -> Result<Option<Search>, String> {
        let (mut chases, mut tries) = (0, 0);
        loop {
            let mut stay: HashSet<i64> = gone.clone();
            if let Some(search) = &search {
                stay.extend(search.superseded());
                stay.extend(search.unknown().iter().map(|(offset, _)| *offset));
            }
            let batch = decoded.rows.only(|offset| !stay.contains(&offset));
            let batch = batch.map_err(|error| error.to_string())?;
            if batch.num_rows() == 0 {
                return Ok(search);
            }
            let offsets = batch.offsets.values().to_vec();
            if self.place.hand.dry_run {
                landed.extend(&offsets);
                outcome.replayed.extend(offsets);
                return Ok(search);
            }
            let replay = Replay {
                source: self.source.clone(),
                topic_id: self.topic_id,
                batch: Arc::new(batch),
                shaped,
                seen: search.as_ref().map_or(i64::MAX, |search| search.seen),
                came_back: self.came_back,
                by: self.place.hand.by.clone(),
            };
            match self.warehouse.replay(&self.place.feed, &replay).await.map_err(said)? {
                Replayed::Landed { refused } => {
                    let stay: HashSet<i64> = refused.iter().map(|(offset, _)| *offset).collect();
                    let rows = offsets.into_iter().filter(|offset| !stay.contains(offset));
                    let rows: Vec<i64> = rows.collect();
                    if let Some(came_back) = &mut self.came_back {
                        *came_back += rows.len() as i64;
                    }
                    landed.extend(&rows);
                    outcome.replayed.extend(rows);
                    outcome.left.extend(refused);
                    return Ok(search);
                }
                Replayed::Moved => {}
            }
            let next_offset = self.next_offset().await?;
            search = match search {
                Some(search) if search.seen < next_offset && chases < CHASES => {
                    chases += 1;
                    Some(self.advanced(search, next_offset).await?)
                }
                search => {
                    tries += 1;
                    if tries > TRIES {
                        return Err(format!(
                            "{}: others settle its records, or move its progress, all the time; try \
                             again",
                            self.source
                        ));
                    }
                    let (open, _) = waiting(self.place, self.source, self.present, true).await?;
                    gone.extend(offsets.into_iter().filter(|offset| !open.contains(offset)));
                    search
                }
            };
        }
    }

    async fn next_offset(&self) -> Result<i64, String> {
        let progress = self.warehouse.progress(&self.place.feed.name).await.map_err(said)?;
        Ok(progress.get(self.source).map_or(0, |progress| progress.next_offset))
    }

    /// Which rows of a keyed table are not the last of their keys; none for a stream, where all are.
    async fn search(
        &mut self,
        runs: &[(Decoded, bool)],
        next_offset: i64,
    ) -> Result<Option<Search>, String> {
        if self.place.feed.kind == FeedKind::Stream {
            return Ok(None);
        }
        let (waiting, came_back) = waiting(self.place, self.source, self.present, false).await?;
        self.came_back = Some(came_back);
        let question = Question {
            node: self.place.node.clone(),
            registry: self.place.catalog.registry().cloned(),
            feed: self.place.feed.clone(),
            source: self.source.clone(),
            topic_id: self.present,
            compacted: self.compacted,
            waiting,
            given_up: self.place.given_up.clone(),
        };
        let batches: Vec<_> = runs.iter().map(|(decoded, _)| decoded.rows.clone()).collect();
        let opening = tokio::task::spawn_blocking(move || Search::open(question, &batches));
        let search = opening.await.map_err(|error| error.to_string())??;
        self.advanced(search, next_offset).await.map(Some)
    }

    async fn advanced(&self, search: Search, to: i64) -> Result<Search, String> {
        let advancing = tokio::task::spawn_blocking(move || search.advance(to));
        advancing.await.map_err(|error| error.to_string())?
    }
}

/// Offsets of the partition, in the topic that is read now, that wait in the warehouse's quarantine, or
/// were left there; with `superseded` those, too. And how many have come back from there.
async fn waiting(
    place: &Place<'_>,
    source: &TopicPartition,
    present: TopicId,
    superseded: bool,
) -> Result<(HashSet<i64>, i64), String> {
    let Some(config) = &place.node.warehouse else { return Ok((HashSet::new(), 0)) };
    let all = offsets_in_quarantine(config, &place.feed.name, source).await?;
    let is_back =
        |settled: &Option<Settled>| matches!(settled, Some(Settled::Replayed | Settled::ReadAgain));
    let came_back = all.iter().filter(|(_, _, settled)| is_back(settled)).count();
    let waits = all.into_iter().filter(|(_, topic_id, settled)| {
        let waits = match settled {
            None | Some(Settled::Discarded) => true,
            Some(Settled::Superseded) => superseded,
            Some(Settled::Replayed | Settled::ReadAgain) => false,
        };
        topic_id.agrees(present) && waits
    });
    Ok((waits.map(|(offset, ..)| offset).collect(), came_back as i64))
}
