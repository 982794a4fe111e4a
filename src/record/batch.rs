use std::sync::Arc;

use arrow::array::{
    Array, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;

use super::{OffsetRange, Reject, TopicPartition};

/// What a row of a keyed feed does to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Upsert,
    Delete,
}

/// The decoded records of one partition: columns, offsets and rejects. Both sinks take it as it is.
///
/// `offsets`, `timestamps`, and where present `deletes`, `keys` and `headers` have one entry per
/// row of `rows`. The rows and the rejects together are the records of `range`.
#[derive(Debug, Clone)]
pub struct Batch {
    pub source: TopicPartition,
    pub range: OffsetRange,
    /// The feed's columns, in the order of its schema; key columns first.
    pub rows: RecordBatch,
    pub offsets: Int64Array,
    /// Kafka's timestamp, milliseconds since the epoch; null where the record has none.
    pub timestamps: Int64Array,
    /// True where the row is a tombstone (keyed feeds only): every column but the key is null.
    pub deletes: Option<BooleanArray>,
    /// The record's key bytes, where the feed keeps them.
    pub keys: Option<BinaryArray>,
    /// The record's headers as a JSON array of [name, base64 or null], where the feed keeps them.
    pub headers: Option<StringArray>,
    /// The values whole, as JSON text, where the warehouse keeps them so; null for a tombstone.
    pub documents: Option<StringArray>,
    pub rejects: Arc<[Reject]>,
    /// Key and value bytes of the records of `range`, as they came from Kafka.
    pub payload_bytes: usize,
    pub hold: Hold,
}

impl Batch {
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// When its first record was written, by Kafka's timestamp: milliseconds since the epoch. None: unknown.
    pub fn first_ms(&self) -> Option<i64> {
        let row = self.timestamps.iter().next().flatten();
        let reject = self.rejects.first().map(|reject| reject.timestamp_ms);
        row.or(reject).filter(|first| *first >= 0)
    }

    pub fn op(&self, row: usize) -> Op {
        match &self.deletes {
            Some(deletes) if deletes.value(row) => Op::Delete,
            _ => Op::Upsert,
        }
    }

    /// The memory the batch holds, in bytes: whole buffers, once.
    pub fn size(&self) -> usize {
        let rejects: usize = self
            .rejects
            .iter()
            .map(|reject| {
                size_of::<Reject>()
                    + reject.key.as_ref().map_or(0, Vec::len)
                    + reject.value.as_ref().map_or(0, Vec::len)
            })
            .sum();
        self.rows.get_array_memory_size()
            + self.offsets.get_array_memory_size()
            + self.timestamps.get_array_memory_size()
            + self.deletes.as_ref().map_or(0, |array| array.get_array_memory_size())
            + self.keys.as_ref().map_or(0, |array| array.get_array_memory_size())
            + self.headers.as_ref().map_or(0, |array| array.get_array_memory_size())
            + self.documents.as_ref().map_or(0, |array| array.get_array_memory_size())
            + rejects
    }

    /// The rows at the offsets that are wanted, and no rejects.
    pub fn only(&self, wanted: impl Fn(i64) -> bool) -> Result<Batch, ArrowError> {
        let keep: BooleanArray =
            self.offsets.values().iter().map(|offset| Some(wanted(*offset))).collect();
        let one = |array: &dyn Array| filter(array, &keep);
        let [keys, headers, documents, deletes] = [
            self.keys.as_ref().map(|it| it as &dyn Array),
            self.headers.as_ref().map(|it| it as &dyn Array),
            self.documents.as_ref().map(|it| it as &dyn Array),
            self.deletes.as_ref().map(|it| it as &dyn Array),
        ]
        .map(|array| array.map(one).transpose());
        Ok(Batch {
            source: self.source.clone(),
            range: self.range,
            rows: filter_record_batch(&self.rows, &keep)?,
            offsets: one(&self.offsets)?.as_primitive::<Int64Type>().clone(),
            timestamps: one(&self.timestamps)?.as_primitive::<Int64Type>().clone(),
            deletes: deletes?.map(|array| array.as_boolean().clone()),
            keys: keys?.map(|array| array.as_binary::<i32>().clone()),
            headers: headers?.map(|array| array.as_string::<i32>().clone()),
            documents: documents?.map(|array| array.as_string::<i32>().clone()),
            rejects: [].into(),
            payload_bytes: self.payload_bytes,
            hold: self.hold.clone(),
        })
    }

    /// The part of the batch at or after offset `from`; shares the buffers.
    pub fn cut_before(&self, from: i64) -> Batch {
        if from <= self.range.start {
            return self.clone();
        }
        let from = from.min(self.range.end);
        let first = self.offsets.values().partition_point(|offset| *offset < from);
        let len = self.num_rows() - first;
        Batch {
            source: self.source.clone(),
            range: OffsetRange::new(from, self.range.end),
            rows: self.rows.slice(first, len),
            offsets: self.offsets.slice(first, len),
            timestamps: self.timestamps.slice(first, len),
            deletes: self.deletes.as_ref().map(|array| array.slice(first, len)),
            keys: self.keys.as_ref().map(|array| array.slice(first, len)),
            headers: self.headers.as_ref().map(|array| array.slice(first, len)),
            documents: self.documents.as_ref().map(|array| array.slice(first, len)),
            rejects: self.rejects.iter().filter(|reject| reject.offset >= from).cloned().collect(),
            payload_bytes: self.payload_bytes,
            hold: self.hold.clone(),
        }
    }
}

/// Something kept alive with a batch and let go with its last reference: its charge to the budget.
#[derive(Clone, Default)]
pub struct Hold(Option<Arc<dyn std::any::Any + Send + Sync>>);

impl Hold {
    pub fn new(held: impl std::any::Any + Send + Sync) -> Self {
        Self(Some(Arc::new(held)))
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Hold" } else { "-" })
    }
}
