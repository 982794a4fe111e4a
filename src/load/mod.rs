//! The lake's rows into the warehouse, by their coordinates: how a warehouse is rebuilt after the broker
//! has let the records go, and how one is filled from a lake alone.
//!
//! It is an owner like any other. It claims a partition in the warehouse, continues at the warehouse's
//! own watermark and commits rows, rejects and progress together under the same fence; so it may be
//! stopped and begun again at any point, and a record that is there already is not taken again. It ends
//! at the lake's watermark. What it reads of the lake is what `verify` reads.
//!
//! A node may be at work meanwhile; the fence decides. One that waits, parked before records that
//! have expired, loses its claim and claims again; then `load` does, too. One that writes is ahead:
//! `load` leaves it the partition.
//!
//! In memory are the file that is read and at most so many rows as the feed's transactions have
//! (`warehouse.max_records`); files are read in the order of their offsets, those that overlap together.

mod document;
mod partition;
mod read;
mod rows;

use crate::config::{Feed, Node};
use crate::lake::LakeStore;
use crate::record::{OffsetRange, TopicId, TopicPartition};
use crate::verify::{LakeTable, quarantine_table};
use crate::warehouse;

use self::partition::Loading;
use self::read::Index;

/// What came of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub source: TopicPartition,
    pub range: OffsetRange,
    pub rows: u64,
    pub rejects: u64,
    /// Rows that the warehouse alone refused; they are in its quarantine.
    pub refused: u64,
    /// Why it ended before the lake's watermark.
    pub stopped: Option<String>,
}

/// Loads every partition of the feed's topic that the lake knows. `allow_missing`: go on where the lake
/// says, or can no longer deny, that rows were taken away.
pub async fn load(node: &Node, feed: &Feed, allow_missing: bool) -> Result<Vec<Loaded>, String> {
    let said = |error: crate::record::SinkError| error.to_string();
    let (Some(lake), Some(_)) = (&node.lake, &feed.lake) else {
        return Err(format!("feed {} has no lake side to load from", feed.name));
    };
    let (Some(config), Some(options)) = (&node.warehouse, &feed.warehouse) else {
        return Err(format!("feed {} has no warehouse side to load into", feed.name));
    };
    let store = LakeStore::open(lake).map_err(said)?;
    // In this order: rejects are committed before the progress that covers them.
    let table = LakeTable::open(&store, feed).await?;
    let quarantine = quarantine_table(&store, feed).await?;
    if let Some(version) = table.restored() {
        return Err(format!(
            "the lake's table was rolled back by a RESTORE (version {version}); first run `tidegate \
             resolve --feed {} --rewind-lake`",
            feed.name
        ));
    }
    let away = table.taken_away();
    if !allow_missing && !away.is_empty() {
        return Err(format!(
            "{} files of the lake's table were removed with their rows, the first of them {}: the \
             warehouse would lack these rows; to load what is left, say --allow-missing",
            away.len(),
            away[0]
        ));
    }
    let retired = table.retired().len();
    if !allow_missing && retired > 0 {
        return Err(format!(
            "retention took {retired} files out of the lake's table: the warehouse would lack their \
             rows; to load what is left, say --allow-missing"
        ));
    }
    let warehouse = warehouse::open(config).map_err(said)?;
    warehouse.check_schema().await.map_err(said)?;
    if let Some(id) = store.known_installation().await.map_err(said)? {
        // A warehouse that is new belongs to the lake's from now on.
        let found = warehouse.installation(id, false).await.map_err(said)?;
        if found != id {
            return Err(format!(
                "the lake belongs to installation {id}, the warehouse to {found}: together they would \
                 mix two histories"
            ));
        }
    }
    warehouse.prepare(feed).await.map_err(said)?;
    let rows = Index::of(&table, feed, allow_missing).await?;
    let rejects = Index::of_quarantine(&quarantine, feed).await?;
    let mut sources: Vec<&TopicPartition> =
        table.sources().into_iter().filter(|source| source.topic == feed.topic).collect();
    sources.sort_by_key(|source| source.partition);
    let mut loaded = Vec::new();
    for source in sources {
        let Some(mark) = table.mark_of(source, TopicId::UNKNOWN) else { continue };
        let gaps = table.gaps().iter().filter(|gap| gap.settled && gap.source == *source);
        let gaps = gaps.filter(|gap| gap.topic_id.agrees(mark.topic_id)).cloned().collect();
        let loading = Loading {
            feed,
            options,
            warehouse: &*warehouse,
            source,
            mark,
            gaps,
            rows: &rows,
            rejects: &rejects,
            allow_missing,
        };
        loaded.push(loading.run().await?);
    }
    Ok(loaded)
}
