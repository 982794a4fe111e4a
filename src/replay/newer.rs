//! Whether a record's key was written or deleted after it: asked of the log, which has the records in
//! their order, while a table has only the last of each key, and of a deleted key nothing.
//!
//! The log proves it as long as it still holds the record itself. Compaction removes a record only after
//! a newer one of its key, and a tombstone only after all records before it; so where the record is there,
//! every newer one of its key that mattered is, too. Where it is not there, although the log begins
//! before it, a newer one came. Where the log begins after it, nobody can tell; nor where compaction may
//! have taken a record whose key is the same and was spelled in other bytes.
//!
//! What counts is what the warehouse has taken: the log up to its progress, less what waits in quarantine.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::decode::decoder;
use crate::config::{Column, ColumnType, Feed, KeyFormat, Node, Schema, ValueFormat};
use crate::decode::Decoder;
use crate::record::{Batch, RawBatch, Reject, TopicId, TopicPartition};
use crate::registry::{Registry, learn};
use crate::source::Log;
use crate::warehouse::record_keys;

/// Where it is asked, and what of.
pub(super) struct Question {
    pub node: Node,
    pub registry: Option<Registry>,
    pub feed: Arc<Feed>,
    pub source: TopicPartition,
    pub topic_id: TopicId,
    /// Compaction may have taken records from the middle of the log.
    pub compacted: bool,
    /// Offsets in quarantine, which changed nothing.
    pub waiting: HashSet<i64>,
    /// Nobody waits for it any more.
    pub given_up: Arc<AtomicBool>,
}

/// A search of the log, which goes on as the warehouse does.
pub(super) struct Search {
    question: Question,
    log: Arc<Log>,
    /// Where the log begins.
    low: i64,
    decoder: Decoder,
    keys: Decoder,
    /// Of each key the offsets that are asked about.
    asked: HashMap<Vec<u8>, BTreeSet<i64>>,
    offsets: BTreeSet<i64>,
    present: HashSet<i64>,
    superseded: BTreeSet<i64>,
    /// The last record that cannot be read, not even its key.
    unreadable: Option<i64>,
    /// Behind it no offset is missing.
    last_hole: i64,
    /// The log was read up to here.
    pub seen: i64,
}

impl Search {
    /// Asks about the keys of these rows, of which the log is not read yet. Blocks.
    pub fn open(question: Question, rows: &[Batch]) -> Result<Self, String> {
        let Question { node, feed, source, topic_id, .. } = &question;
        let mut asked: HashMap<Vec<u8>, BTreeSet<i64>> = HashMap::new();
        for batch in rows {
            for (key, offset) in keys(feed, batch)? {
                asked.entry(key).or_default().insert(offset);
            }
        }
        let offsets: BTreeSet<i64> = asked.values().flatten().copied().collect();
        let log = Log::open(&node.kafka)?;
        let id = log.topic_id(&source.topic)?;
        if !id.agrees(*topic_id) {
            return Err(format!(
                "{source}: the topic was made again (the broker has id {id}, the warehouse \
                 {topic_id}); `tidegate resolve` settles that first"
            ));
        }
        let low = log.bounds(source, id)?.low;
        let seen = offsets.first().map_or(i64::MAX, |first| low.max(*first));
        let (decoder, keys) = (decoder(feed, true), key_decoder(feed));
        let (present, superseded, unreadable) = Default::default();
        Ok(Self {
            question,
            log: Arc::new(log),
            low,
            decoder,
            keys,
            asked,
            offsets,
            present,
            superseded,
            unreadable,
            last_hole: seen,
            seen,
        })
    }

    /// Reads the log up to an offset. Blocks, on a thread of a runtime that may.
    pub fn advance(mut self, to: i64) -> Result<Self, String> {
        if self.seen >= to {
            return Ok(self);
        }
        let source = self.question.source.clone();
        let (log, start) = (self.log.clone(), self.seen);
        let mut expected = start;
        let mut failed = None;
        log.read(&source, start, to, |raw| {
            for record in raw.iter_from(start) {
                if record.offset != expected {
                    self.last_hole = record.offset;
                }
                expected = record.offset + 1;
                if self.offsets.contains(&record.offset) {
                    self.present.insert(record.offset);
                }
            }
            if self.question.given_up.load(Ordering::Relaxed) {
                failed = Some("nobody waits for it any more".to_owned());
                return false;
            }
            match self.take(&raw) {
                Ok(()) => true,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if expected != to {
            self.last_hole = to;
        }
        self.seen = to;
        Ok(self)
    }

    fn take(&mut self, raw: &RawBatch) -> Result<(), String> {
        let runtime = tokio::runtime::Handle::current();
        let registry = self.question.registry.as_ref();
        runtime.block_on(learn(registry, &mut self.decoder, raw))?;
        let batch = self.decoder.decode(raw, raw.range.start);
        let feed = self.question.feed.clone();
        let mut newer = keys(&feed, &batch)?;
        // What landed once may not be decoded any more; its key mostly is.
        let waiting = &self.question.waiting;
        let rejects = batch.rejects.iter().filter(|it| !waiting.contains(&it.offset));
        let rejects: Vec<&Reject> = rejects.collect();
        if !rejects.is_empty() {
            let mut raw = RawBatch::new(raw.source.clone(), raw.range.start);
            for reject in rejects {
                raw.push(reject.offset, -1, reject.key.as_deref(), Some(b""), []);
            }
            runtime.block_on(learn(registry, &mut self.keys, &raw))?;
            let batch = self.keys.decode(&raw, raw.range.start);
            newer.extend(keys(&feed, &batch)?);
            let unreadable = batch.rejects.last().map(|reject| reject.offset);
            self.unreadable = unreadable.max(self.unreadable);
        }
        for (key, offset) in newer {
            if let Some(of_key) = self.asked.get(&key).filter(|_| !waiting.contains(&offset)) {
                self.superseded.extend(of_key.range(..offset));
            }
        }
        Ok(())
    }

    /// The records whose keys have a newer state.
    pub fn superseded(&self) -> BTreeSet<i64> {
        let gone = |offset: &&i64| **offset >= self.low && !self.present.contains(offset);
        let gone = self.offsets.iter().filter(gone).copied();
        self.superseded.iter().copied().chain(gone).collect()
    }

    /// Those of which nobody can tell, each with the reason.
    pub fn unknown(&self) -> Vec<(i64, String)> {
        let superseded = self.superseded();
        let left = self.offsets.iter().filter(|offset| !superseded.contains(offset));
        left.filter_map(|offset| Some((*offset, self.doubt(*offset)?))).collect()
    }

    fn doubt(&self, offset: i64) -> Option<String> {
        if offset < self.low {
            return Some(format!(
                "the log begins at {} by now, so nobody can tell whether its key was written or \
                 deleted since",
                self.low
            ));
        }
        if let Some(unreadable) = self.unreadable.filter(|it| *it > offset) {
            return Some(format!(
                "the record at {unreadable} cannot be read with the feed as it is now, so nobody can \
                 tell whether it is of the same key"
            ));
        }
        let several =
            matches!(self.question.feed.schema.key_format, KeyFormat::Json | KeyFormat::Avro);
        (self.question.compacted && several && self.last_hole > offset).then(|| {
            "the topic is compacted, and a key of its format may be spelled in several ways: a newer \
             record of it may be gone"
                .to_owned()
        })
    }
}

/// Reads keys alone.
fn key_decoder(feed: &Feed) -> Decoder {
    let schema = &feed.schema;
    let mut columns = schema.columns[..schema.from_key()].to_vec();
    // The value is bytes that nobody looks at.
    columns.push(Column::new("\0", ColumnType::Bytes));
    let key = Schema {
        value_format: ValueFormat::Bytes,
        columns,
        rest: false,
        time: None,
        evolve: None,
        left_out: Vec::new(),
        ..schema.clone()
    };
    Decoder::new(&key, true, false, false)
}

/// The keys of a batch's rows, whether it has the columns of the feed or of its table: both begin with
/// the key's.
fn keys(feed: &Feed, batch: &Batch) -> Result<Vec<(Vec<u8>, i64)>, String> {
    let keys = record_keys(&feed.schema, &batch.rows).map_err(|error| error.to_string())?;
    let offsets = batch.offsets.values().iter();
    Ok(keys.iter().zip(offsets).map(|(key, offset)| (key.as_ref().to_vec(), *offset)).collect())
}
