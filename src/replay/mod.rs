//! Records that come back from quarantine, and those that are to stay there.
//!
//! A record is decoded again, with the feed as it is configured now, and becomes the row it would have
//! been, with its own coordinates, in each sink that keeps it in quarantine: in the lake by a commit that
//! counts the partition's replays, in the warehouse by the transaction that settles it. So two commands
//! at once, or one that is run again after a crash, add it once. Nodes may be at work meanwhile; nothing
//! here touches their progress or their claims.
//!
//! A keyed table in the warehouse has the last state of each key. So a record whose key has been written
//! or deleted since becomes no row there: see [`newer`]. A changelog in the lake takes it all the same,
//! since its readers go by offsets.

mod decode;
mod lake;
mod newer;
mod warehouse;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::catalog::Catalog;
use crate::config::{Feed, FeedFile, Node};
use crate::lake::LakeStore;
use crate::record::{Progress, Settled, SinkError, SinkKind, TopicId, TopicPartition};
use crate::registry::Registry;
use crate::verify::{Chosen, Kept, quarantined};
use crate::warehouse::Warehouse;

/// Records of one commit.
const EACH: usize = 5_000;
/// How often a sink that moved meanwhile is looked at anew.
const TRIES: u32 = 8;

/// What came of the chosen records of one partition in one sink.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub sink: SinkKind,
    pub source: TopicPartition,
    /// Offsets of those that are rows now.
    pub replayed: Vec<i64>,
    /// Offsets of those whose keys have a newer state.
    pub superseded: Vec<i64>,
    /// Those that stay, each with the reason.
    pub left: Vec<(i64, String)>,
}

impl Outcome {
    fn new(sink: SinkKind, source: &TopicPartition) -> Self {
        let (replayed, superseded, left) = Default::default();
        Self { sink, source: source.clone(), replayed, superseded, left }
    }
}

/// Who does it, and whether it is only tried.
#[derive(Debug, Clone)]
pub struct Hand {
    pub by: String,
    pub dry_run: bool,
    /// So many records at most.
    pub most: usize,
}

/// Why nothing was done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failed {
    #[error("these are more than {0} records: choose fewer, by --partition or --offsets")]
    TooMany(usize),
    #[error("{0}")]
    Error(String),
}

impl From<String> for Failed {
    fn from(error: String) -> Self {
        Self::Error(error)
    }
}

/// Makes rows of the chosen records. `chosen.feed` must be given.
pub async fn replay(
    node: &Node,
    files: &[FeedFile],
    chosen: &Chosen,
    hand: &Hand,
) -> Result<Vec<Outcome>, Failed> {
    let sinks = Sinks::open(node)?;
    let registry = node.schema_registry.as_ref().map(Registry::open).transpose()?;
    let (lake, warehouse) = (sinks.lake.clone(), sinks.warehouse.clone());
    let catalog = Catalog::new(node.kafka.clone(), lake, warehouse, registry);
    let waits = Waits::default();
    let given_up = waits.0.clone();
    let command = Command { node, files, chosen, hand, sinks, catalog, given_up };
    let mut outcomes = Vec::new();
    for ((sink, source), kept) in grouped(node, chosen, hand.most).await? {
        let offsets: Vec<i64> = kept.iter().map(|record| record.offset).collect();
        let replayed = command.one(sink, &source, kept).await;
        // What is wrong with one partition or sink is none of the others'.
        outcomes.push(replayed.unwrap_or_else(|error| {
            let left = offsets.into_iter().map(|offset| (offset, error.clone())).collect();
            Outcome { left, ..Outcome::new(sink, &source) }
        }));
    }
    Ok(outcomes)
}

/// Settles the chosen records as discarded. Answers how many there were, by partition and sink.
pub async fn discard(
    node: &Node,
    chosen: &Chosen,
    why: &str,
    hand: &Hand,
) -> Result<Vec<(SinkKind, TopicPartition, u64)>, Failed> {
    let feed = chosen.feed.as_deref().unwrap_or_default();
    let sinks = Sinks::open(node)?;
    let mut discarded = Vec::new();
    for ((sink, source), kept) in grouped(node, chosen, hand.most).await? {
        let mut by_topic: BTreeMap<Option<uuid::Uuid>, Vec<i64>> = BTreeMap::new();
        for record in &kept {
            by_topic.entry(record.topic_id).or_default().push(record.offset);
        }
        let mut count = 0;
        for (topic_id, offsets) in by_topic {
            let topic_id = TopicId::from(topic_id);
            let settled = Settling { topic_id, settled: Settled::Discarded, why: Some(why), hand };
            count += match (sink, &sinks.lake, &sinks.warehouse) {
                _ if hand.dry_run => offsets.len() as u64,
                (SinkKind::Lake, Some(lake), _) => {
                    settled.in_lake(lake, feed, &source, offsets).await?
                }
                (SinkKind::Warehouse, _, Some(warehouse)) => {
                    settled.in_warehouse(&**warehouse, feed, &source, offsets).await?
                }
                // What is not configured has shown no record.
                (SinkKind::Lake, None, _) | (SinkKind::Warehouse, _, None) => 0,
            };
        }
        discarded.push((sink, source, count));
    }
    Ok(discarded)
}

type Groups = BTreeMap<(SinkKind, TopicPartition), Vec<Kept>>;

/// The chosen records by sink and partition, in the order of their offsets.
async fn grouped(node: &Node, chosen: &Chosen, most: usize) -> Result<Groups, Failed> {
    let mut groups = Groups::new();
    let records = quarantined(node, chosen, most.saturating_add(1)).await?;
    if records.len() > most {
        return Err(Failed::TooMany(most));
    }
    for record in records {
        let source = TopicPartition::new(record.topic.as_str(), record.partition);
        for sink in &record.sinks {
            groups.entry((*sink, source.clone())).or_default().push(record.clone());
        }
    }
    for kept in groups.values_mut() {
        kept.sort_by_key(|record| record.offset);
    }
    Ok(groups)
}

/// The sinks of the node file.
struct Sinks {
    lake: Option<LakeStore>,
    warehouse: Option<Arc<dyn Warehouse>>,
}

impl Sinks {
    fn open(node: &Node) -> Result<Self, String> {
        let lake = node.lake.as_ref().map(LakeStore::open).transpose().map_err(said)?;
        let warehouse = node.warehouse.as_ref().map(crate::warehouse::open).transpose();
        Ok(Self { lake, warehouse: warehouse.map_err(said)? })
    }
}

/// What was asked for, and what it is done with.
struct Command<'a> {
    node: &'a Node,
    files: &'a [FeedFile],
    chosen: &'a Chosen,
    hand: &'a Hand,
    sinks: Sinks,
    catalog: Catalog,
    given_up: Arc<AtomicBool>,
}

/// Whoever asked waits, for as long as this lives: reading the log ends with it, which no dropped future does
/// to a thread.
#[derive(Default)]
struct Waits(Arc<AtomicBool>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Command<'_> {
    async fn one(
        &self,
        sink: SinkKind,
        source: &TopicPartition,
        kept: Vec<Kept>,
    ) -> Result<Outcome, String> {
        let mut place = self.place(source).await?;
        match sink {
            SinkKind::Lake => lake::replay(&mut place, source, kept).await,
            SinkKind::Warehouse => warehouse::replay(&mut place, source, kept).await,
        }
    }

    async fn place(&self, source: &TopicPartition) -> Result<Place<'_>, String> {
        let name = self.chosen.feed.as_deref().unwrap_or_default();
        let of_feed = |file: &&FeedFile| {
            file.matches(&source.topic)
                && file.name_for(&source.topic).is_ok_and(|found| found == name)
        };
        let file = self.files.iter().find(of_feed).ok_or_else(|| {
            format!(
                "no feed file makes feed {name} of topic {} any more: put it back into the feed \
                 folder, or discard the records",
                source.topic
            )
        })?;
        let feed = Arc::new(self.catalog.feed(file, &source.topic).await?);
        let Self { node, hand, sinks, catalog, given_up, .. } = self;
        Ok(Place { node, file, catalog, feed, sinks, hand, given_up })
    }
}

/// One partition's feed, and where it goes.
struct Place<'a> {
    node: &'a Node,
    file: &'a FeedFile,
    catalog: &'a Catalog,
    feed: Arc<Feed>,
    sinks: &'a Sinks,
    hand: &'a Hand,
    given_up: &'a Arc<AtomicBool>,
}

/// The records of the topic that a sink reads now, whose offsets it has passed. The others stay.
fn due(kept: Vec<Kept>, progress: Progress, not_passed: &str, outcome: &mut Outcome) -> Vec<Kept> {
    let mut due = Vec::with_capacity(kept.len());
    for record in kept {
        if !TopicId::from(record.topic_id).agrees(progress.topic_id) {
            outcome.left.push((record.offset, of_former(&record)));
        } else if record.offset >= progress.next_offset {
            outcome.left.push((record.offset, not_passed.to_owned()));
        } else {
            due.push(record);
        }
    }
    due
}

/// How records are settled.
struct Settling<'a> {
    topic_id: TopicId,
    settled: Settled,
    why: Option<&'a str>,
    hand: &'a Hand,
}

impl Settling<'_> {
    async fn in_lake(
        &self,
        store: &LakeStore,
        feed: &str,
        source: &TopicPartition,
        offsets: Vec<i64>,
    ) -> Result<u64, String> {
        let count = offsets.len() as u64;
        let settlement = crate::lake::Settlement {
            settled: self.settled,
            topic: source.topic.to_string(),
            partition: source.partition,
            topic_id: self.topic_id.get(),
            offsets,
            by: self.hand.by.clone(),
            why: self.why.map(str::to_owned),
            at_ms: chrono::Utc::now().timestamp_millis(),
        };
        crate::lake::settle(store, feed, &settlement).await.map_err(said)?;
        Ok(count)
    }

    async fn in_warehouse(
        &self,
        warehouse: &dyn Warehouse,
        feed: &str,
        source: &TopicPartition,
        offsets: Vec<i64>,
    ) -> Result<u64, String> {
        let settlement = crate::warehouse::Settlement {
            source: source.clone(),
            topic_id: self.topic_id,
            offsets,
            settled: self.settled,
            by: self.hand.by.clone(),
            why: self.why.map(str::to_owned),
        };
        warehouse.settle(feed, &settlement).await.map_err(said)
    }
}

/// Why a record of a topic that was made again since stays where it is.
fn of_former(kept: &Kept) -> String {
    let id = kept.topic_id.map_or("unknown".to_owned(), |id| id.to_string());
    format!("it is of a former topic of this name (id {id}), whose offsets come again: discard it")
}

fn said(error: SinkError) -> String {
    error.to_string()
}
