//! Batches to files, one for each time that the layout tells apart.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Int8Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{
    SortColumn, SortOptions, concat, interleave_record_batch, lexsort_to_indices, max, min,
    take_record_batch,
};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use chrono::{DateTime, Datelike, SecondsFormat};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value, json};

pub use super::columns::lake_schema;
use super::jsonl;
use crate::config::{Codec, Feed, LakeFormat, LakeOptions};
use crate::layout::{By, Layout, Slot, Slots, slots};
use crate::record::{Batch, Part};

/// One file, whole, in memory.
pub struct Encoded {
    pub slot: Slot,
    pub bytes: Vec<u8>,
    pub rows: usize,
    /// The least offset of its rows.
    pub first: i64,
    /// Delta's statistics, as JSON.
    pub stats: String,
}

/// Encodes the rows of all parts: one file for each time they belong to, one after the other, so that
/// beside the batches there is one open file and no copy of more than a batch. Each goes to `take` as
/// it is ready, until `take` wants no more. `now` is the time of rows that go by no other.
pub fn encode(
    feed: &Feed,
    layout: &Layout,
    now_ms: i64,
    parts: &[Part],
    mut take: impl FnMut(Encoded) -> bool,
) -> Result<(), ArrowError> {
    let schema = lake_schema(feed);
    let by = By::of(feed, now_ms);
    let mut by_slot: BTreeMap<Slot, Vec<Picked>> = BTreeMap::new();
    for batch in parts.iter().flat_map(|part| &part.batches).filter(|batch| batch.num_rows() > 0) {
        let rows = with_coordinates(feed, &schema, batch)?;
        match slots(&batch.rows, by, &batch.timestamps, layout.precision()) {
            Slots::One(slot) => by_slot.entry(slot).or_default().push(Picked { rows, only: None }),
            Slots::Many(slots) => {
                for (slot, only) in split(&slots) {
                    let picked = Picked { rows: rows.clone(), only: Some(only) };
                    by_slot.entry(slot).or_default().push(picked);
                }
            }
        }
    }
    let options = feed.lake.clone().unwrap_or_default();
    while let Some((slot, picked)) = by_slot.pop_first() {
        let rows = picked.into_iter().map(Picked::take);
        let parquet = options.format != LakeFormat::Jsonl;
        let write = |rows: &mut dyn Iterator<Item = Result<RecordBatch, ArrowError>>, count| {
            match parquet {
                true => encode_parquet(slot, &schema, rows, properties(&options, &schema, count)?),
                false => encode_lines(feed, slot, rows),
            }
        };
        let file = if options.sort.is_empty() && options.bloom.is_empty() {
            write(&mut rows.into_iter(), 0)?
        } else {
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let count = rows.iter().map(RecordBatch::num_rows).sum();
            match options.sort.is_empty() {
                true => write(&mut rows.into_iter().map(Ok), count)?,
                false => write(&mut Sorted::by(&options.sort, &rows)?, count)?,
            }
        };
        if !take(file) {
            break;
        }
    }
    Ok(())
}

/// A batch, or those of its rows that belong to one time.
struct Picked {
    rows: RecordBatch,
    only: Option<UInt32Array>,
}

impl Picked {
    fn take(self) -> Result<RecordBatch, ArrowError> {
        match &self.only {
            Some(only) => take_record_batch(&self.rows, only),
            None => Ok(self.rows),
        }
    }
}

fn split(slots: &[Slot]) -> BTreeMap<Slot, UInt32Array> {
    let mut rows: BTreeMap<Slot, Vec<u32>> = BTreeMap::new();
    for (row, slot) in slots.iter().enumerate() {
        rows.entry(*slot).or_default().push(row as u32);
    }
    rows.into_iter().map(|(slot, rows)| (slot, UInt32Array::from(rows))).collect()
}

/// The batch's rows with the columns every lake table has.
fn with_coordinates(
    feed: &Feed,
    schema: &SchemaRef,
    batch: &Batch,
) -> Result<RecordBatch, ArrowError> {
    let count = batch.num_rows();
    let mut columns: Vec<ArrayRef> = batch.rows.columns().to_vec();
    if schema.index_of("_op").is_ok() {
        columns.push(ops(batch.deletes.as_ref(), count)?);
    }
    columns.push(constant(&batch.source.topic, count)?);
    columns.push(Arc::new(Int32Array::from_value(batch.source.partition, count)));
    columns.push(Arc::new(batch.offsets.clone()));
    columns.push(Arc::new(micros(&batch.timestamps)));
    let options = feed.lake.as_ref();
    if options.is_some_and(|options| options.keep_key) {
        columns.push(match &batch.keys {
            Some(keys) => Arc::new(keys.clone()),
            None => Arc::new(arrow::array::BinaryArray::new_null(count)),
        });
    }
    if options.is_some_and(|options| options.keep_headers) {
        columns.push(match &batch.headers {
            Some(headers) => Arc::new(headers.clone()),
            None => Arc::new(StringArray::new_null(count)),
        });
    }
    RecordBatch::try_new(schema.clone(), columns)
}

fn ops(deletes: Option<&BooleanArray>, count: usize) -> Result<ArrayRef, ArrowError> {
    let keys: Int8Array = match deletes {
        Some(deletes) => deletes.values().iter().map(|delete| Some(i8::from(delete))).collect(),
        None => Int8Array::from_value(0, count),
    };
    Ok(Arc::new(DictionaryArray::try_new(
        keys,
        Arc::new(StringArray::from(vec!["upsert", "delete"])),
    )?))
}

/// One text for every row.
pub fn constant(text: &str, count: usize) -> Result<ArrayRef, ArrowError> {
    let keys = Int8Array::from_value(0, count);
    Ok(Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(vec![text])))?))
}

/// Milliseconds to a UTC timestamp column.
pub fn micros(millis: &Int64Array) -> TimestampMicrosecondArray {
    let micros: Int64Array = millis.unary(|millis| millis.saturating_mul(1000));
    TimestampMicrosecondArray::new(micros.values().clone(), micros.nulls().cloned())
        .with_timezone("UTC")
}

pub fn encode_file(
    slot: Slot,
    schema: &SchemaRef,
    rows: impl IntoIterator<Item = Result<RecordBatch, ArrowError>>,
    zstd_level: i32,
) -> Result<Encoded, ArrowError> {
    let options = LakeOptions { zstd_level, ..LakeOptions::default() };
    encode_parquet(slot, schema, rows, properties(&options, schema, 0)?)
}

/// How a Parquet file of so many rows is written.
fn properties(
    options: &LakeOptions,
    schema: &SchemaRef,
    rows: usize,
) -> Result<WriterProperties, ArrowError> {
    let compression = match options.codec {
        Codec::Zstd => Compression::ZSTD(ZstdLevel::try_new(options.zstd_level)?),
        Codec::Snappy => Compression::SNAPPY,
        Codec::Lz4 => Compression::LZ4_RAW,
        Codec::Gzip => Compression::GZIP(GzipLevel::default()),
        Codec::None => Compression::UNCOMPRESSED,
    };
    let mut builder = WriterProperties::builder()
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned());
    for name in &options.bloom {
        let column = ColumnPath::from(name.as_str());
        builder = builder
            .set_column_bloom_filter_enabled(column.clone(), true)
            .set_column_bloom_filter_max_ndv(column, rows.max(1) as u64);
    }
    let sorting = |name: &String| -> Result<SortingColumn, ArrowError> {
        // Parquet counts what is inside nested columns.
        let before = &schema.fields()[..schema.index_of(name)?];
        let column_idx = before.iter().map(|field| leaves(field.data_type())).sum();
        Ok(SortingColumn { column_idx, descending: false, nulls_first: true })
    };
    let sorting = options.sort.iter().map(sorting).collect::<Result<Vec<_>, _>>()?;
    let sorting = Some(sorting).filter(|sorting| !sorting.is_empty());
    Ok(builder.set_sorting_columns(sorting).build())
}

/// How many of Parquet's columns a column is.
fn leaves(kind: &DataType) -> i32 {
    match kind {
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        DataType::List(field) | DataType::Map(field, _) => leaves(field.data_type()),
        _ => 1,
    }
}

/// Rows of several batches in one order. Beside the batches it holds what it sorts by, and few rows.
struct Sorted<'a> {
    batches: Vec<&'a RecordBatch>,
    order: std::vec::IntoIter<(usize, usize)>,
}

impl<'a> Sorted<'a> {
    fn by(columns: &[String], batches: &'a [RecordBatch]) -> Result<Self, ArrowError> {
        let column = |name: &String| {
            let parts = batches.iter().map(|batch| {
                let missing = || ArrowError::SchemaError(format!("no column {name}"));
                batch.column_by_name(name).map(AsRef::as_ref).ok_or_else(missing)
            });
            let parts = parts.collect::<Result<Vec<&dyn Array>, ArrowError>>()?;
            let values = concat(&parts)?;
            Ok(SortColumn { values, options: Some(SortOptions::default()) })
        };
        let columns = columns.iter().map(column).collect::<Result<Vec<_>, ArrowError>>()?;
        let places = batches
            .iter()
            .enumerate()
            .flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row)));
        let places: Vec<(usize, usize)> = places.collect();
        let order = lexsort_to_indices(&columns, None)?;
        let order: Vec<_> = order.values().iter().map(|at| places[*at as usize]).collect();
        Ok(Self { batches: batches.iter().collect(), order: order.into_iter() })
    }
}

impl Iterator for Sorted<'_> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next: Vec<_> = self.order.by_ref().take(SORTED_AT_ONCE).collect();
        (!next.is_empty()).then(|| interleave_record_batch(&self.batches, &next))
    }
}

const SORTED_AT_ONCE: usize = 8192;

/// Rows of other files, written into one: run after run, each in its own order.
pub struct Rewriting {
    writer: ArrowWriter<Vec<u8>>,
    sort: Vec<String>,
    bounds: Bounds,
}

impl Rewriting {
    /// `rows`: how many there will be. `in_one_run`: the whole file will be in one order.
    pub fn new(
        options: &LakeOptions,
        schema: &SchemaRef,
        sort: &[String],
        rows: usize,
        in_one_run: bool,
    ) -> Result<Self, ArrowError> {
        let claimed = if in_one_run { sort.to_vec() } else { Vec::new() };
        let options = LakeOptions { sort: claimed, ..options.clone() };
        let writer = writer(schema, properties(&options, schema, rows)?)?;
        Ok(Self { writer, sort: sort.to_vec(), bounds: Bounds::default() })
    }

    pub fn write(&mut self, run: &[RecordBatch]) -> Result<(), ArrowError> {
        for batch in Sorted::by(&self.sort, run)? {
            let batch = batch?;
            self.bounds.add(&batch);
            self.writer.write(&batch)?;
        }
        Ok(())
    }

    pub fn finish(self) -> Result<Encoded, ArrowError> {
        let Self { writer, bounds, .. } = self;
        let bytes = writer.into_inner()?;
        Ok(bounds.encoded(Slot::EPOCH, bytes))
    }
}

/// Without the Arrow schema in the file a dictionary column is plain text to every reader.
fn writer(
    schema: &SchemaRef,
    properties: WriterProperties,
) -> Result<ArrowWriter<Vec<u8>>, ArrowError> {
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    Ok(ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options)?)
}

fn encode_parquet(
    slot: Slot,
    schema: &SchemaRef,
    rows: impl IntoIterator<Item = Result<RecordBatch, ArrowError>>,
    properties: WriterProperties,
) -> Result<Encoded, ArrowError> {
    let mut writer = writer(schema, properties)?;
    let mut bounds = Bounds::default();
    for batch in rows {
        let batch = batch?;
        bounds.add(&batch);
        writer.write(&batch)?;
    }
    let bytes = writer.into_inner()?;
    Ok(bounds.encoded(slot, bytes))
}

fn encode_lines(
    feed: &Feed,
    slot: Slot,
    rows: impl IntoIterator<Item = Result<RecordBatch, ArrowError>>,
) -> Result<Encoded, ArrowError> {
    let mut bytes = Vec::new();
    let mut bounds = Bounds::default();
    for batch in rows {
        let batch = batch?;
        bounds.add(&batch);
        jsonl::write(&mut bytes, feed, &batch)?;
    }
    Ok(bounds.encoded(slot, bytes))
}

/// Row count and the bounds of the offset and of Kafka's timestamp, by which a reader can skip the file.
#[derive(Default)]
struct Bounds {
    rows: usize,
    offsets: Option<(i64, i64)>,
    /// Microseconds since the epoch.
    timestamps: Option<(i64, i64)>,
    /// Rows without a timestamp.
    untimed: usize,
}

impl Bounds {
    fn add(&mut self, rows: &RecordBatch) {
        self.rows += rows.num_rows();
        let column = |name| rows.column_by_name(name).map(|column| column.as_any());
        let offsets = column("_offset").and_then(|it| it.downcast_ref::<Int64Array>());
        if let Some((least, most)) = offsets.and_then(|it| min(it).zip(max(it))) {
            self.offsets = Some(wider(self.offsets, (least, most)));
        }
        let times = column("_timestamp").and_then(|it| it.downcast_ref());
        let Some(times): Option<&TimestampMicrosecondArray> = times else { return };
        self.untimed += times.null_count();
        if let Some((least, most)) = min(times).zip(max(times)) {
            self.timestamps = Some(wider(self.timestamps, (least, most)));
        }
    }

    fn encoded(&self, slot: Slot, bytes: Vec<u8>) -> Encoded {
        let first = self.offsets.map_or(0, |(least, _)| least);
        Encoded { slot, bytes, rows: self.rows, first, stats: self.stats() }
    }

    fn stats(&self) -> String {
        let (mut least, mut most, mut nulls) = (Map::new(), Map::new(), Map::new());
        let mut say = |name: &str, bounds: (Value, Value), missing: usize| {
            least.insert(name.to_owned(), bounds.0);
            most.insert(name.to_owned(), bounds.1);
            nulls.insert(name.to_owned(), json!(missing));
        };
        if let Some((least, most)) = self.offsets {
            say("_offset", (json!(least), json!(most)), 0);
        }
        let times = self.timestamps.map(|(least, most)| (spelled(least, 0), spelled(most, 999)));
        if let Some((Some(least), Some(most))) = times {
            say("_timestamp", (json!(least), json!(most)), self.untimed);
        }
        if least.is_empty() {
            return json!({"numRecords": self.rows}).to_string();
        }
        let (rows, least, most, nulls) = (self.rows, least, most, nulls);
        json!({"numRecords": rows, "minValues": least, "maxValues": most, "nullCount": nulls})
            .to_string()
    }
}

fn wider(known: Option<(i64, i64)>, (least, most): (i64, i64)) -> (i64, i64) {
    known.map_or((least, most), |known| (known.0.min(least), known.1.max(most)))
}

/// As Delta writes a time: cut to milliseconds, after `more` microseconds so that nothing is left out. None
/// for years that it has no words for.
fn spelled(micros: i64, more: i64) -> Option<String> {
    let time = DateTime::from_timestamp_micros(micros.checked_add(more)?)?;
    let known = (0..=9999).contains(&time.year());
    known.then(|| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}
