//! Whether a record's key was written or deleted after it: asked of the log, which has the records in
//! their order, while a table has only the last of each key, and of a deleted key nothing.
//!
//! The log proves it as long as it still holds the record itself. Compaction removes a record only after
//! a newer one of its key, and a tombstone only after all records before it; so where the record is there,
//! every newer one of its key that mattered is, too. Where it is not there, although the log begins
//! before it, a newer one came. Where the log begins after it, nobody can tell.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::decode::decoder;
use crate::config::{Feed, Node};
use crate::record::{Batch, RawBatch, TopicId, TopicPartition};
use crate::registry::{Registry, learn};
use crate::source::Log;
use crate::warehouse::record_keys;

/// What a search found of the records it was asked about.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The log was read up to here.
    pub seen: i64,
    pub superseded: BTreeSet<i64>,
    /// Nobody can tell; with the reason.
    pub unknown: Vec<(i64, String)>,
}

/// Of each key the offsets that are asked about.
type Asked = HashMap<Vec<u8>, BTreeSet<i64>>;

/// Searches the log for newer records of the rows' keys. Records in quarantine (`waiting`) changed
/// nothing, and do not count. Blocks, on a thread that may.
pub(super) fn search(
    node: &Node,
    registry: Option<&Registry>,
    feed: &Feed,
    source: &TopicPartition,
    topic_id: TopicId,
    rows: &[&Batch],
    waiting: &HashSet<i64>,
) -> Result<Search, String> {
    let mut asked = Asked::new();
    for batch in rows {
        for (key, offset) in keys(feed, batch)? {
            asked.entry(key).or_default().insert(offset);
        }
    }
    let offsets: BTreeSet<i64> = asked.values().flatten().copied().collect();
    let Some(first) = offsets.first().copied() else { return Ok(Search::default()) };
    let log = Log::open(&node.kafka)?;
    let id = log.topic_id(&source.topic)?;
    if !id.agrees(topic_id) {
        return Err(format!(
            "{source}: the topic was made again (the broker has id {id}, the warehouse {topic_id}); \
             `tidegate resolve` settles that first"
        ));
    }
    let bounds = log.bounds(source, id)?;
    let mut found = Search { seen: bounds.high, ..Search::default() };
    let mut present = HashSet::new();
    let mut decoder = decoder(feed, true);
    let runtime = tokio::runtime::Handle::current();
    let mut failed = None;
    let start = first.max(bounds.low);
    if start < bounds.high {
        let reached = log.read(source, start, bounds.high, |raw| {
            present
                .extend(raw.iter_from(start).map(|it| it.offset).filter(|it| offsets.contains(it)));
            let learned = runtime.block_on(learn(registry, &mut decoder, &raw));
            let newer = learned.and_then(|()| {
                newer_in(feed, &raw, &mut decoder, &asked, waiting, &mut found.superseded)
            });
            match newer {
                Ok(()) => true,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        })?;
        found.seen = found.seen.max(reached);
    }
    if let Some(error) = failed {
        return Err(error);
    }
    for offset in offsets {
        if present.contains(&offset) || found.superseded.contains(&offset) {
            continue;
        }
        if offset < bounds.low {
            let reason = format!(
                "the log begins at {} by now, so nobody can tell whether its key was written or deleted \
                 since",
                bounds.low
            );
            found.unknown.push((offset, reason));
        } else {
            found.superseded.insert(offset);
        }
    }
    Ok(found)
}

fn newer_in(
    feed: &Feed,
    raw: &RawBatch,
    decoder: &mut crate::decode::Decoder,
    asked: &Asked,
    waiting: &HashSet<i64>,
    superseded: &mut BTreeSet<i64>,
) -> Result<(), String> {
    let batch = decoder.decode(raw, raw.range.start);
    for (key, offset) in keys(feed, &batch)? {
        if let Some(of_key) = asked.get(&key).filter(|_| !waiting.contains(&offset)) {
            superseded.extend(of_key.range(..offset));
        }
    }
    Ok(())
}

/// The keys of a batch's rows, whether it has the columns of the feed or of its table: both begin with
/// the key's.
fn keys(feed: &Feed, batch: &Batch) -> Result<Vec<(Vec<u8>, i64)>, String> {
    let keys = record_keys(&feed.schema, &batch.rows).map_err(|error| error.to_string())?;
    let offsets = batch.offsets.values().iter();
    Ok(keys.iter().zip(offsets).map(|(key, offset)| (key.as_ref().to_vec(), *offset)).collect())
}
