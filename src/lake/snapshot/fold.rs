//! The last state of each key, from the last snapshot and the changes since, within a bound of memory.
//!
//! Keys are dealt into buckets by their hash, and each bucket is folded by a pass of its own over all
//! files. One that turns out too large is halved and folded again.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, interleave_record_batch, take_record_batch};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::config::Schema;

/// Rows of a batch that is written.
const ROWS: usize = 1 << 16;
/// Halving ends here: so many keys of one hash do not occur.
const MOST_BITS: u32 = 24;
/// What the map holds for a key beside its bytes.
const PER_KEY: usize = 64;

/// The keys whose hash ends in these bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    bits: u32,
    value: u64,
}

impl Bucket {
    /// All keys, in at least so many buckets.
    pub fn deal(count: usize) -> Vec<Bucket> {
        let bits = count.max(1).next_power_of_two().ilog2().min(MOST_BITS);
        (0..1 << bits).map(|value| Bucket { bits, value }).collect()
    }

    pub fn halves(self) -> Option<[Bucket; 2]> {
        let bits = self.bits + 1;
        let half = |value| Bucket { bits, value };
        (bits <= MOST_BITS).then(|| [half(self.value), half(self.value | 1 << self.bits)])
    }

    fn holds(self, key: &[u8]) -> bool {
        if self.bits == 0 {
            return true;
        }
        let mut hash = DefaultHasher::new();
        hash.write(key);
        hash.finish() & ((1 << self.bits) - 1) == self.value
    }
}

/// Where the rows of a file come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The last snapshot: older than every change.
    Base,
    /// This version of the changelog. Replayed rows came back from quarantine: their offsets had been
    /// passed before.
    Change { commit: u64, replayed: bool },
}

#[derive(Debug)]
pub enum Failure {
    /// The bucket does not fit into the memory it may take.
    TooLarge,
    Unreadable(String),
}

impl From<ArrowError> for Failure {
    fn from(error: ArrowError) -> Self {
        Failure::Unreadable(error.to_string())
    }
}

/// One pass.
pub struct Fold {
    schema: SchemaRef,
    key_columns: usize,
    converter: RowConverter,
    bucket: Bucket,
    limit: usize,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    last: HashMap<Box<[u8]>, Last>,
    key_bytes: usize,
}

/// A key's last record so far.
#[derive(Clone, Copy)]
struct Last {
    rank: Rank,
    /// Batch and row; none for a tombstone.
    at: Option<(u32, u32)>,
}

#[derive(Clone, Copy)]
enum Rank {
    Base,
    Change { partition: i32, commit: u64, replayed: bool, offset: i64, timestamp: i64 },
}

impl Rank {
    /// Within a partition the log's order decides. A key that moved to another partition has no order
    /// there: then the later timestamp does.
    fn follows(self, other: Rank) -> bool {
        match (self, other) {
            (Rank::Base, _) => false,
            (Rank::Change { .. }, Rank::Base) => true,
            (
                Rank::Change { partition, commit, replayed, offset, timestamp },
                Rank::Change {
                    partition: on,
                    commit: before,
                    replayed: back,
                    offset: at,
                    timestamp: then,
                },
            ) => {
                if partition == on {
                    match (replayed, back) {
                        (false, false) => (commit, offset) >= (before, at),
                        // What was committed after a replay was beyond all that could be replayed.
                        (true, false) => commit > before && offset >= at,
                        (false, true) => commit > before || offset >= at,
                        (true, true) => offset >= at,
                    }
                } else {
                    (timestamp, partition) > (then, on)
                }
            }
        }
    }
}

impl Fold {
    pub fn new(schema: &Schema, bucket: Bucket, limit: usize) -> Result<Self, Failure> {
        let columns = schema.arrow();
        let key_columns = schema.key_columns;
        let keys = columns.fields()[..key_columns].iter();
        let keys = keys.map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(Self {
            schema: columns,
            key_columns,
            converter: RowConverter::new(keys)?,
            bucket,
            limit,
            held: Vec::new(),
            held_bytes: 0,
            last: HashMap::new(),
            key_bytes: 0,
        })
    }

    /// Takes up a file: first those of the snapshot, then the changes in the order of their commits.
    pub fn take(&mut self, file: Bytes, origin: Origin) -> Result<(), Failure> {
        let unreadable = |error| Failure::Unreadable(format!("{error}"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?;
        for batch in reader.build().map_err(unreadable)? {
            self.take_batch(&batch?, origin)?;
            if self.held_bytes + self.key_bytes > self.limit {
                self.compact()?;
            }
        }
        Ok(())
    }

    fn take_batch(&mut self, batch: &RecordBatch, origin: Origin) -> Result<(), Failure> {
        let rows = aligned(batch, &self.schema)?;
        let keys = self.converter.convert_columns(&rows.columns()[..self.key_columns])?;
        let change = match origin {
            Origin::Base => None,
            Origin::Change { commit, replayed } => {
                Some((commit, replayed, Coordinates::of(batch)?))
            }
        };
        let (mut chosen, place) = (Vec::new(), self.held.len() as u32);
        for row in 0..rows.num_rows() {
            let key = keys.row(row);
            let key = key.as_ref();
            if !self.bucket.holds(key) {
                continue;
            }
            let (rank, deleted) = match &change {
                None => (Rank::Base, false),
                Some((commit, replayed, coordinates)) => coordinates.rank(row, *commit, *replayed),
            };
            let at = (!deleted).then_some((place, chosen.len() as u32));
            match self.last.get_mut(key) {
                Some(known) if !rank.follows(known.rank) => continue,
                Some(known) => *known = Last { rank, at },
                None => {
                    self.key_bytes += key.len() + PER_KEY;
                    self.last.insert(key.into(), Last { rank, at });
                }
            }
            if !deleted {
                chosen.push(row as u32);
            }
        }
        let chosen = take_record_batch(&rows, &UInt32Array::from(chosen))?;
        self.held_bytes += chosen.get_array_memory_size();
        self.held.push(chosen);
        Ok(())
    }

    /// Lets go of the rows that others have followed.
    fn compact(&mut self) -> Result<(), Failure> {
        let mut places = Vec::with_capacity(self.last.len());
        for known in self.last.values_mut() {
            if let Some(at) = &mut known.at {
                places.push((at.0 as usize, at.1 as usize));
                *at = ((places.len() - 1) as u32 / ROWS as u32, ((places.len() - 1) % ROWS) as u32);
            }
        }
        self.held = gathered(&self.held, &places)?;
        self.held_bytes = self.held.iter().map(RecordBatch::get_array_memory_size).sum();
        // What is left must leave room for as much again.
        let too_large = self.held_bytes + self.key_bytes > self.limit / 2;
        if too_large && self.bucket.halves().is_some() {
            return Err(Failure::TooLarge);
        }
        Ok(())
    }

    /// The rows that are left, sorted by their keys.
    pub fn finish(self) -> Result<Vec<RecordBatch>, Failure> {
        let left = self.last.into_iter().filter_map(|(key, last)| Some((key, last.at?)));
        let mut rows: Vec<_> = left.collect();
        rows.sort_unstable();
        let places: Vec<_> = rows.iter().map(|(_, at)| (at.0 as usize, at.1 as usize)).collect();
        gathered(&self.held, &places)
    }
}

fn gathered(held: &[RecordBatch], places: &[(usize, usize)]) -> Result<Vec<RecordBatch>, Failure> {
    let held: Vec<&RecordBatch> = held.iter().collect();
    let chunks = places.chunks(ROWS).map(|chunk| interleave_record_batch(&held, chunk));
    Ok(chunks.collect::<Result<_, _>>()?)
}

/// A changelog's own columns.
struct Coordinates<'b> {
    partitions: &'b [i32],
    offsets: &'b [i64],
    timestamps: &'b [i64],
    ops: &'b arrow::array::StringArray,
}

impl<'b> Coordinates<'b> {
    fn of(batch: &'b RecordBatch) -> Result<Self, Failure> {
        let column = |name: &str| {
            let missing = || Failure::Unreadable(format!("no column {name} of the right type"));
            batch.column_by_name(name).map(AsRef::as_ref).ok_or_else(missing)
        };
        let wrong = |name: &str| Failure::Unreadable(format!("{name} is of another type"));
        let (partitions, offsets) = (column("_partition")?, column("_offset")?);
        let (timestamps, ops) = (column("_timestamp")?, column("_op")?);
        Ok(Self {
            partitions: partitions
                .as_primitive_opt::<Int32Type>()
                .ok_or_else(|| wrong("_partition"))?
                .values(),
            offsets: offsets
                .as_primitive_opt::<Int64Type>()
                .ok_or_else(|| wrong("_offset"))?
                .values(),
            timestamps: timestamps
                .as_primitive_opt::<TimestampMicrosecondType>()
                .ok_or_else(|| wrong("_timestamp"))?
                .values(),
            ops: ops.as_string_opt::<i32>().ok_or_else(|| wrong("_op"))?,
        })
    }

    /// Its rank, and whether it is a tombstone.
    fn rank(&self, row: usize, commit: u64, replayed: bool) -> (Rank, bool) {
        let rank = Rank::Change {
            partition: self.partitions[row],
            commit,
            replayed,
            offset: self.offsets[row],
            timestamp: self.timestamps[row],
        };
        (rank, self.ops.value(row) == "delete")
    }
}

/// The table's columns out of a file's: what an older file has not is null, what it has of another type
/// is cast.
fn aligned(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Failure> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
