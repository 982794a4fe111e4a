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

use crate::catalog::Catalog;
use crate::config::{Feed, FeedFile, Node};
use crate::lake::LakeStore;
use crate::record::{Settled, SinkError, SinkKind, TopicId, TopicPartition};
use crate::registry::Registry;
use crate::verify::{Chosen, Kept, quarantined};
use crate::warehouse::Warehouse;

/// So many records are taken up by one command, the newest; whoever has more says which.
const MOST: usize = 100_000;
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
}

/// Makes rows of the chosen records. `chosen.feed` must be given.
pub async fn replay(
    node: &Node,
    files: &[FeedFile],
    chosen: &Chosen,
    hand: &Hand,
) -> Result<Vec<Outcome>, String> {
    let mut outcomes = Vec::new();
    for ((sink, source), kept) in grouped(node, chosen).await? {
        let offsets: Vec<i64> = kept.iter().map(|record| record.offset).collect();
        let replayed = one(node, files, chosen, hand, (sink, &source), kept).await;
        // What is wrong with one partition or sink is none of the others'.
        outcomes.push(replayed.unwrap_or_else(|error| {
            let left = offsets.into_iter().map(|offset| (offset, error.clone())).collect();
            Outcome { left, ..Outcome::new(sink, &source) }
        }));
    }
    Ok(outcomes)
}

async fn one(
    node: &Node,
    files: &[FeedFile],
    chosen: &Chosen,
    hand: &Hand,
    (sink, source): (SinkKind, &TopicPartition),
    kept: Vec<Kept>,
) -> Result<Outcome, String> {
    let mut place = Place::open(node, files, chosen, source, hand.clone()).await?;
    match sink {
        SinkKind::Lake => lake::replay(&mut place, source, kept).await,
        SinkKind::Warehouse => warehouse::replay(&mut place, source, kept).await,
    }
}

/// Settles the chosen records as discarded. Answers how many there were, by partition and sink.
pub async fn discard(
    node: &Node,
    chosen: &Chosen,
    why: &str,
    hand: &Hand,
) -> Result<Vec<(SinkKind, TopicPartition, u64)>, String> {
    let feed = chosen.feed.as_deref().unwrap_or_default();
    let mut discarded = Vec::new();
    for ((sink, source), kept) in grouped(node, chosen).await? {
        let mut by_topic: BTreeMap<Option<uuid::Uuid>, Vec<i64>> = BTreeMap::new();
        for record in &kept {
            by_topic.entry(record.topic_id).or_default().push(record.offset);
        }
        let mut count = 0;
        for (topic_id, offsets) in by_topic {
            let topic_id = topic_id.map_or(TopicId::UNKNOWN, TopicId::new);
            let settled = Settling { topic_id, settled: Settled::Discarded, why: Some(why), hand };
            count += match (sink, hand.dry_run) {
                (_, true) => offsets.len() as u64,
                (SinkKind::Lake, _) => {
                    settled.in_lake(&open_lake(node)?, feed, &source, offsets).await?
                }
                (SinkKind::Warehouse, _) => {
                    settled.in_warehouse(&*open_warehouse(node)?, feed, &source, offsets).await?
                }
            };
        }
        discarded.push((sink, source, count));
    }
    Ok(discarded)
}

type Groups = BTreeMap<(SinkKind, TopicPartition), Vec<Kept>>;

/// The chosen records by sink and partition, in the order of their offsets.
async fn grouped(node: &Node, chosen: &Chosen) -> Result<Groups, String> {
    let mut groups = Groups::new();
    let records = quarantined(node, chosen, MOST + 1).await?;
    if records.len() > MOST {
        return Err(format!(
            "these are more than {MOST} records: choose fewer, by --partition or --offsets"
        ));
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

/// One partition's feed, and the sinks it goes to.
struct Place<'a> {
    node: &'a Node,
    file: &'a FeedFile,
    catalog: Catalog,
    feed: Arc<Feed>,
    lake: Option<LakeStore>,
    warehouse: Option<Arc<dyn Warehouse>>,
    hand: Hand,
}

impl<'a> Place<'a> {
    async fn open(
        node: &'a Node,
        files: &'a [FeedFile],
        chosen: &Chosen,
        source: &TopicPartition,
        hand: Hand,
    ) -> Result<Self, String> {
        let name = chosen.feed.as_deref().unwrap_or_default();
        let of_feed = |file: &&FeedFile| {
            file.matches(&source.topic)
                && file.name_for(&source.topic).is_ok_and(|found| found == name)
        };
        let file = files.iter().find(of_feed).ok_or_else(|| {
            format!(
                "no feed file makes feed {name} of topic {} any more: put it back into the feed \
                 folder, or discard the records",
                source.topic
            )
        })?;
        let lake = node.lake.as_ref().map(LakeStore::open).transpose().map_err(said)?;
        let warehouse = node.warehouse.as_ref().map(crate::warehouse::open).transpose();
        let warehouse = warehouse.map_err(said)?;
        let registry = node.schema_registry.as_ref().map(Registry::open).transpose()?;
        let catalog = Catalog::new(node.kafka.clone(), lake.clone(), warehouse.clone(), registry);
        let feed = Arc::new(catalog.feed(file, &source.topic).await?);
        Ok(Self { node, file, catalog, feed, lake, warehouse, hand })
    }
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

fn open_lake(node: &Node) -> Result<LakeStore, String> {
    let config = node.lake.as_ref().ok_or("the node file has no `lake`")?;
    LakeStore::open(config).map_err(said)
}

fn open_warehouse(node: &Node) -> Result<Arc<dyn Warehouse>, String> {
    let config = node.warehouse.as_ref().ok_or("the node file has no `warehouse`")?;
    crate::warehouse::open(config).map_err(said)
}

/// Why a record of a topic that was made again since stays where it is.
fn of_former(kept: &Kept) -> String {
    let id = kept.topic_id.map_or("unknown".to_owned(), |id| id.to_string());
    format!("it is of a former topic of this name (id {id}), whose offsets come again: discard it")
}

fn said(error: SinkError) -> String {
    error.to_string()
}
