//! Files of the lake by the offsets they hold, and their rows in the order of these.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray,
    UInt32Array, new_null_array,
};
use arrow::compute::{
    cast, concat_batches, filter_record_batch, sort_to_indices, take_record_batch,
};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::document::documents;
use super::rows::{Rows, batch_of};
use crate::config::{Feed, FeedKind, LakeFormat, Schema};
use crate::decode::Decoder;
use crate::lake::line_columns;
use crate::record::{
    OffsetRange, RawBatch, Reject, RejectClass, TopicId, TopicPartition, headers_of,
};
use crate::verify::{LakeFile, LakeTable, is_former};

/// Rows decoded at once from one file.
const STEP: usize = 8192;

/// The files of a table by partition, with the offsets each holds of it.
pub(super) struct Index {
    store: Arc<dyn ObjectStore>,
    format: LakeFormat,
    columns: Schema,
    partitions: HashMap<i32, Vec<Held>>,
}

/// What one file holds of one partition.
#[derive(Debug, Clone)]
struct Held {
    path: String,
    first: i64,
    last: i64,
    rows: usize,
}

impl Index {
    pub async fn of(table: &LakeTable, feed: &Feed, allow_missing: bool) -> Result<Self, String> {
        let format = feed.lake.as_ref().map(|options| options.format).unwrap_or_default();
        Self::build(table, feed, format, allow_missing).await
    }

    pub async fn of_quarantine(table: &LakeTable, feed: &Feed) -> Result<Self, String> {
        Self::build(table, feed, LakeFormat::Delta, false).await
    }

    async fn build(
        table: &LakeTable,
        feed: &Feed,
        format: LakeFormat,
        allow_missing: bool,
    ) -> Result<Self, String> {
        let columns = Schema::json(line_columns(feed).collect(), 0);
        let mut index = Self { store: table.store(), format, columns, partitions: HashMap::new() };
        for file in table.files() {
            let batches = match index.read(&file.path, &COORDINATES, None).await {
                Err(error) if !(allow_missing && error.contains(MISSING)) => return Err(error),
                read => read.unwrap_or_default(),
            };
            for (partition, held) in held(&file.path, &batches, feed)? {
                let source = TopicPartition::new(feed.topic.clone(), partition);
                if !of_former(table, file, &source) {
                    index.partitions.entry(partition).or_default().push(held);
                }
            }
        }
        for held in index.partitions.values_mut() {
            held.sort_by_key(|held| (held.first, held.last));
        }
        Ok(index)
    }

    fn held(&self, source: &TopicPartition) -> &[Held] {
        self.partitions.get(&source.partition).map_or(&[], Vec::as_slice)
    }

    /// The first offset it has rows of.
    pub fn first(&self, source: &TopicPartition) -> Option<i64> {
        self.held(source).first().map(|held| held.first)
    }

    /// As much of `[next, until)` as holds about `most` rows.
    pub fn window(
        &self,
        source: &TopicPartition,
        next: i64,
        until: i64,
        most: usize,
    ) -> OffsetRange {
        let files: Vec<&Held> = self
            .held(source)
            .iter()
            .filter(|held| held.last >= next && held.first < until)
            .collect();
        // Rows lie as evenly in a file's offsets as anybody knows without reading it.
        let rows_before = |end: i64| -> usize {
            let of = |held: &&Held| {
                let span = (held.last - held.first + 1) as f64;
                let inside = (held.last + 1).min(end) - held.first.max(next);
                (held.rows as f64 * inside.max(0) as f64 / span).ceil() as usize
            };
            files.iter().map(of).sum()
        };
        let (mut low, mut high) = (next + 1, until);
        if rows_before(high) <= most {
            return OffsetRange::new(next, until);
        }
        while low < high {
            let middle = low + (high - low + 1) / 2;
            match rows_before(middle) <= most {
                true => low = middle,
                false => high = middle - 1,
            }
        }
        OffsetRange::new(next, low)
    }

    /// The partition's rows of a range, in the order of their offsets.
    pub async fn rows(
        &self,
        feed: &Feed,
        source: &TopicPartition,
        range: OffsetRange,
    ) -> Result<Rows, String> {
        let batch = self.chosen(source, range).await?;
        rows_of(feed, &batch).map_err(|why| format!("{source} {range}: {why}"))
    }

    /// The partition's rejects of a range, in the order of their offsets.
    pub async fn rejects(
        &self,
        source: &TopicPartition,
        range: OffsetRange,
    ) -> Result<Vec<Reject>, String> {
        let batch = self.chosen(source, range).await?;
        let mut rejects = rejects_of(&batch).map_err(|why| format!("{source} {range}: {why}"))?;
        rejects.dedup_by_key(|reject| reject.offset);
        Ok(rejects)
    }

    async fn chosen(
        &self,
        source: &TopicPartition,
        range: OffsetRange,
    ) -> Result<RecordBatch, String> {
        let mut chosen: Vec<RecordBatch> = Vec::new();
        let files = self.held(source).iter();
        for held in files.filter(|held| held.last >= range.start && held.first < range.end) {
            let only = Some((source.partition, range));
            chosen.extend(self.read(&held.path, &[], only).await?);
        }
        let Some(schema) = chosen.first().map(RecordBatch::schema) else {
            return Ok(RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty())));
        };
        // A file may be older than a column.
        let wide = chosen.iter().map(RecordBatch::schema).max_by_key(|it| it.fields().len());
        let schema = wide.unwrap_or(schema);
        let chosen = chosen.iter().map(|batch| widened(batch, &schema));
        let chosen = chosen.collect::<Result<Vec<_>, String>>()?;
        let all = concat_batches(&schema, &chosen).map_err(|error| error.to_string())?;
        let order = sort_to_indices(column(&all, "_offset")?, None, None);
        let order: UInt32Array = order.map_err(|error| error.to_string())?;
        take_record_batch(&all, &order).map_err(|error| error.to_string())
    }

    /// A file's rows, or those of one partition and range; with `columns` no others.
    async fn read(
        &self,
        path: &str,
        columns: &[&str],
        only: Option<(i32, OffsetRange)>,
    ) -> Result<Vec<RecordBatch>, String> {
        let location = Path::from_url_path(path).map_err(|error| error.to_string())?;
        let got = match self.store.get(&location).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(format!(
                    "{path}: {MISSING}; to load what is there, say --allow-missing"
                ));
            }
            Err(error) => return Err(format!("{path}: {error}")),
        };
        let bytes = got.bytes().await.map_err(|error| format!("{path}: {error}"))?;
        let (format, mut schema) = (self.format, self.columns.clone());
        if !columns.is_empty() {
            schema.columns.retain(|column| columns.contains(&column.name.as_str()));
        }
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let read = tokio::task::spawn_blocking(move || match format {
            LakeFormat::Delta | LakeFormat::Parquet => read_parquet(bytes, &columns, only),
            LakeFormat::Jsonl => read_lines(&bytes, schema, only),
        });
        let read = read.await.map_err(|error| error.to_string())?;
        read.map_err(|error| format!("{path}: {error}"))
    }
}

const MISSING: &str = "the lake's log names this file, and it is not there";

const COORDINATES: [&str; 3] = ["_topic", "_partition", "_offset"];

/// Whether the file's rows are of a topic of the same name, before it was made again.
fn of_former(table: &LakeTable, file: &LakeFile, source: &TopicPartition) -> bool {
    let mark = table.mark_of(source, TopicId::UNKNOWN);
    table.had_another(source) && mark.is_some_and(|mark| is_former(mark, file))
}

fn held(path: &str, batches: &[RecordBatch], feed: &Feed) -> Result<HashMap<i32, Held>, String> {
    let mut all: HashMap<i32, Held> = HashMap::new();
    for batch in batches {
        let topics = cast(column(batch, "_topic")?, &arrow::datatypes::DataType::Utf8);
        let topics = topics.map_err(|error| error.to_string())?;
        let topics = topics.as_string::<i32>();
        let partitions = column(batch, "_partition")?.as_primitive::<Int32Type>();
        let offsets = column(batch, "_offset")?.as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            if topics.value(row) != &*feed.topic {
                continue;
            }
            let offset = offsets.value(row);
            let held = all.entry(partitions.value(row)).or_insert_with(|| Held {
                path: path.to_owned(),
                first: offset,
                last: offset,
                rows: 0,
            });
            held.first = held.first.min(offset);
            held.last = held.last.max(offset);
            held.rows += 1;
        }
    }
    Ok(all)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, String> {
    batch.column_by_name(name).ok_or_else(|| format!("no column {name}"))
}

/// Adds the wanted rows of a batch.
fn keep(
    kept: &mut Vec<RecordBatch>,
    batch: RecordBatch,
    only: Option<(i32, OffsetRange)>,
) -> Result<(), String> {
    let Some((partition, range)) = only else {
        kept.push(batch);
        return Ok(());
    };
    let partitions = column(&batch, "_partition")?.as_primitive::<Int32Type>();
    let offsets = column(&batch, "_offset")?.as_primitive::<Int64Type>();
    let inside = (0..batch.num_rows())
        .map(|row| partitions.value(row) == partition && range.contains(offsets.value(row)));
    let inside: BooleanArray = inside.map(Some).collect();
    let batch = filter_record_batch(&batch, &inside).map_err(|error| error.to_string())?;
    kept.extend((batch.num_rows() > 0).then_some(batch));
    Ok(())
}

/// The batch with the columns of a later file.
fn widened(
    batch: &RecordBatch,
    schema: &arrow::datatypes::SchemaRef,
) -> Result<RecordBatch, String> {
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(array) => cast(array, field.data_type()).map_err(|error| error.to_string()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    batch_of(schema.clone(), columns.collect::<Result<_, String>>()?, batch.num_rows())
}

fn read_parquet(
    bytes: Bytes,
    columns: &[String],
    only: Option<(i32, OffsetRange)>,
) -> Result<Vec<RecordBatch>, String> {
    let said = |error: parquet::errors::ParquetError| error.to_string();
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(said)?;
    if !columns.is_empty() {
        let names = columns.iter().map(String::as_str);
        let mask = ProjectionMask::columns(builder.parquet_schema(), names);
        builder = builder.with_projection(mask);
    }
    let reader = builder.with_batch_size(STEP).build().map_err(said)?;
    let mut kept = Vec::new();
    for batch in reader {
        keep(&mut kept, batch.map_err(|error| error.to_string())?, only)?;
    }
    Ok(kept)
}

fn read_lines(
    text: &[u8],
    schema: Schema,
    only: Option<(i32, OffsetRange)>,
) -> Result<Vec<RecordBatch>, String> {
    let mut decoder = Decoder::new(&schema, false, false, false);
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).peekable();
    let mut batches = Vec::new();
    let mut number = 0;
    while lines.peek().is_some() {
        let mut raw = RawBatch::new(TopicPartition::new("", 0), number);
        for line in lines.by_ref().take(STEP) {
            raw.push(number, -1, None, Some(line), []);
            number += 1;
        }
        let decoded = decoder.decode(&raw, 0);
        if let Some(reject) = decoded.rejects.first() {
            return Err(format!("line {}: {}", reject.offset + 1, reject.reason));
        }
        keep(&mut batches, decoded.rows, only)?;
    }
    Ok(batches)
}

fn rows_of(feed: &Feed, batch: &RecordBatch) -> Result<Rows, String> {
    let count = batch.num_rows();
    let schema = feed.schema.arrow();
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(array) => cast(array, field.data_type())
            .map_err(|error| format!("column {}: {error}", field.name())),
        None => Ok(new_null_array(field.data_type(), count)),
    });
    let columns = batch_of(schema.clone(), columns.collect::<Result<_, String>>()?, count)?;
    if count == 0 {
        let none = Int64Array::from(Vec::<i64>::new());
        let (deletes, documents) = (feed.kind == FeedKind::Table, feed.is_document());
        return Ok(Rows {
            columns,
            offsets: none.clone(),
            timestamps: none,
            deletes: deletes.then(|| BooleanArray::from(Vec::<bool>::new())),
            keys: None,
            headers: None,
            documents: documents.then(|| StringArray::from(Vec::<&str>::new())),
        });
    }
    let text = |name: &str| -> Result<Option<StringArray>, String> {
        let Some(array) = batch.column_by_name(name) else { return Ok(None) };
        let array = cast(array, &arrow::datatypes::DataType::Utf8);
        Ok(Some(array.map_err(|error| error.to_string())?.as_string::<i32>().clone()))
    };
    let deletes: Option<BooleanArray> = match feed.kind {
        FeedKind::Stream => None,
        FeedKind::Table => {
            let ops = text("_op")?.ok_or("no column _op")?;
            Some(ops.iter().map(|op| Some(op == Some("delete"))).collect())
        }
    };
    let is_delete = |row: usize| deletes.as_ref().is_some_and(|deletes| deletes.value(row));
    let documents = feed.is_document().then(|| documents(&feed.schema, &columns, is_delete));
    let keys = batch.column_by_name("_key").map(|array| array.as_binary::<i32>().clone());
    // A line has a field for each column that it might have.
    let keys: Option<BinaryArray> = keys.filter(|keys| keys.null_count() < keys.len());
    let headers = text("_headers")?.filter(|headers| headers.null_count() == 0);
    Ok(Rows {
        offsets: column(batch, "_offset")?.as_primitive::<Int64Type>().clone(),
        timestamps: millis(column(batch, "_timestamp")?),
        columns,
        deletes,
        keys,
        headers,
        documents,
    })
}

fn millis(times: &ArrayRef) -> Int64Array {
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let millis: Int64Array = times.unary(|micros| micros.div_euclid(1000));
    Int64Array::new(millis.values().clone(), times.nulls().cloned())
}

fn rejects_of(batch: &RecordBatch) -> Result<Vec<Reject>, String> {
    if batch.num_rows() == 0 {
        return Ok(Vec::new());
    }
    let offsets = column(batch, "_offset")?.as_primitive::<Int64Type>();
    let times = millis(column(batch, "_timestamp")?);
    let [keys, values] =
        ["key", "value"].map(|name| column(batch, name).map(|array| array.as_binary::<i32>()));
    let (keys, values) = (keys?, values?);
    let [headers, classes, reasons] = ["headers", "class", "reason"]
        .map(|name| column(batch, name).map(|array| array.as_string::<i32>()));
    let (headers, classes, reasons) = (headers?, classes?, reasons?);
    let bytes = |array: &BinaryArray, row| array.is_valid(row).then(|| array.value(row).to_vec());
    let one = |row: usize| {
        Ok(Reject {
            offset: offsets.value(row),
            timestamp_ms: if times.is_valid(row) { times.value(row) } else { -1 },
            key: bytes(keys, row),
            value: bytes(values, row),
            headers: headers_of(headers.value(row))?,
            class: class_of(classes.value(row))?,
            reason: reasons.value(row).to_owned(),
        })
    };
    (0..batch.num_rows()).map(one).collect()
}

fn class_of(name: &str) -> Result<RejectClass, String> {
    let class = serde_json::from_value(serde_json::Value::from(name));
    class.map_err(|_| format!("a class of rejects that this release does not know: {name}"))
}
