//! The lake's side of a feed: its table and its quarantine, file by file.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use arrow::array::{
    Array, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use indicatif::ProgressBar;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::account::Tally;
use super::delta::{DeltaLog, Mark, TableFile, said};
use super::lines::read_lines;
use super::table::Table;
use crate::config::{ColumnType, Feed, FeedKind, LakeFormat, TimeSource};
use crate::lake::{LakeStore, settlements};
use crate::layout::{self, By, Layout, Slots, is_replayed};
use crate::record::{Settled, TopicId, TopicPartition};

/// Files fetched and read at once.
const FILES: usize = 3;

/// A feed's two tables as they stood at one moment.
pub struct Lake {
    pub rows: Table,
    quarantine: Table,
    /// Partitions and offsets that are written down as replayed, in the topic read last.
    replayed: HashSet<(i32, i64)>,
    layout: Layout,
}

/// What the lake holds of a feed's topic.
#[derive(Default)]
pub struct Scan {
    pub tallies: HashMap<i32, Tally>,
    pub files: u64,
    pub bytes: u64,
    /// Rows of another topic, or of a partition that has no progress.
    pub astray: u64,
    /// Files that the log names and that cannot be read, with the reason.
    pub unreadable: Vec<String>,
}

impl Lake {
    pub async fn open(store: &LakeStore, feed: &Feed) -> Result<Self, String> {
        // In this order: rejects are committed before the progress that covers them, so they are in
        // a quarantine that is read after it.
        let rows = Table::open(store, feed).await?;
        let quarantine = DeltaLog::open(store.below(&layout::quarantine_path(&feed.name))).await?;
        let mut replayed = HashSet::new();
        for it in settlements(store, &feed.name).await.map_err(|error| error.to_string())? {
            let source = TopicPartition::new(it.topic.as_str(), it.partition);
            let topic_id = TopicId::from(it.topic_id);
            let present = rows.mark_of(&source, TopicId::UNKNOWN).map(|mark| mark.topic_id);
            if it.settled == Settled::Replayed && present.is_some_and(|id| id.agrees(topic_id)) {
                replayed.extend(it.offsets.into_iter().map(|offset| (it.partition, offset)));
            }
        }
        let layout = Layout::of(feed)?;
        Ok(Self { rows, quarantine: Table::Delta(quarantine), replayed, layout })
    }

    pub async fn scan(
        &self,
        feed: &Feed,
        present: TopicId,
        bar: &ProgressBar,
    ) -> Result<Scan, String> {
        let mut scan = Scan::default();
        let wanted = Wanted::of(feed, &self.layout);
        scan.unreadable.extend_from_slice(self.rows.faults());
        let put = |tally: &mut Tally, file: &TableFile, _, offset| match is_replayed(&file.path) {
            true => tally.replayed_row(offset),
            false => tally.row(offset),
        };
        scan.read(&self.rows, &wanted, present, bar, put).await?;
        (scan.files, scan.bytes) =
            self.rows.files().iter().fold((0, 0), |sum, file| (sum.0 + 1, sum.1 + file.size));
        scan.take_retired(&self.rows, feed, present);
        let beyond = |partition| {
            let source = TopicPartition::new(feed.topic.clone(), partition);
            self.rows.mark_of(&source, present).map_or(i64::MIN, |mark| mark.next_offset)
        };
        let ends: HashMap<i32, i64> =
            self.rows.sources().iter().map(|it| (it.partition, beyond(it.partition))).collect();
        let columns = offsets().collect();
        let format = LakeFormat::Delta;
        let wanted =
            Wanted { columns, format, time: None, by_time: false, is_table: false, ..wanted };
        let put = |tally: &mut Tally, _: &TableFile, partition: i32, offset| {
            // Rejects are committed before the rows beside them; those further on are not due yet.
            if ends.get(&partition).is_some_and(|end| offset < *end) {
                match self.replayed.contains(&(partition, offset)) {
                    true => tally.quarantined_and_replayed(offset),
                    false => tally.quarantine(offset),
                }
            }
        };
        scan.read(&self.quarantine, &wanted, present, bar, put).await?;
        Ok(scan)
    }
}

/// Which of these offsets of a partition, in the topic that is read now, are rows of the feed's table:
/// those that came back from quarantine, and those that a node has read again since.
pub async fn rows_at(
    store: &LakeStore,
    feed: &Feed,
    source: &TopicPartition,
    asked: &BTreeSet<i64>,
) -> Result<HashSet<i64>, String> {
    let table = Table::open(store, feed).await?;
    let wanted = Wanted::of(feed, &Layout::of(feed)?);
    let mark = table.mark_of(source, TopicId::UNKNOWN);
    let had_another = table.had_another(source);
    let mut offsets = HashSet::new();
    // What retention took was a row.
    for retired in table.retired() {
        if Standing::of(mark, &retired.file, had_another) == Standing::Present {
            offsets.extend(retired.of(source).filter(|it| asked.contains(it)));
        }
    }
    let may_hold = |file: &&TableFile| match file.offsets {
        Some((least, most)) => asked.range(least..=most).next().is_some(),
        None => true,
    };
    for file in table.files().into_iter().filter(may_hold) {
        if Standing::of(mark, file, had_another) != Standing::Present {
            continue;
        }
        let rows = read_file(&*table.store(), file, wanted.clone()).await?;
        let rows = rows.map_err(|why| format!("{}: {why}", file.path))?;
        let own = (0..rows.offsets.len()).filter(|row| {
            rows.partitions.value(*row) == source.partition
                && *rows.topics.value(*row) == *source.topic
        });
        offsets.extend(own.map(|row| rows.offsets.value(row)).filter(|it| asked.contains(it)));
    }
    Ok(offsets)
}

fn offsets() -> impl Iterator<Item = (String, ColumnType)> {
    let kinds = [
        ("_topic", ColumnType::String),
        ("_partition", ColumnType::Int),
        ("_offset", ColumnType::Long),
    ];
    kinds.into_iter().map(|(name, kind)| (name.to_owned(), kind))
}

/// What is read of each file.
#[derive(Clone)]
struct Wanted {
    topic: String,
    format: LakeFormat,
    layout: Layout,
    columns: Vec<(String, ColumnType)>,
    /// The column whose time is the file's.
    time: Option<String>,
    by_time: bool,
    is_table: bool,
}

impl Wanted {
    fn of(feed: &Feed, layout: &Layout) -> Self {
        let time = match feed.lake_time() {
            TimeSource::Column(index) => feed.schema.columns.get(index),
            TimeSource::Kafka | TimeSource::Ingest => None,
        };
        let is_table = feed.kind == FeedKind::Table;
        let mut columns: Vec<_> = offsets().collect();
        columns.push(("_timestamp".to_owned(), ColumnType::Timestamp));
        columns.extend(time.map(|column| (column.name.clone(), column.kind)));
        if is_table {
            columns.push(("_op".to_owned(), ColumnType::String));
        }
        Self {
            topic: feed.topic.to_string(),
            format: feed.lake.as_ref().map(|options| options.format).unwrap_or_default(),
            layout: layout.clone(),
            columns,
            time: time.map(|column| column.name.clone()),
            by_time: true,
            is_table,
        }
    }
}

/// One file's coordinates.
struct Rows {
    topics: StringArray,
    partitions: Int32Array,
    offsets: Int64Array,
    /// Rows that belong to another time than the file, or whose `_op` is none.
    misplaced: Vec<usize>,
}

impl Scan {
    /// Offsets of files that retention took away: they count as there.
    fn take_retired(&mut self, log: &Table, feed: &Feed, present: TopicId) {
        for retired in log.retired() {
            for source in retired.sources().filter(|source| source.topic == feed.topic) {
                let standing = Standing::of(
                    log.mark_of(&source, present),
                    &retired.file,
                    log.had_another(&source),
                );
                if standing != Standing::Present {
                    continue;
                }
                let tally = self.tallies.entry(source.partition).or_default();
                for offset in retired.of(&source) {
                    tally.retire(offset, is_replayed(&retired.file.path));
                }
            }
        }
    }

    async fn read(
        &mut self,
        log: &Table,
        wanted: &Wanted,
        present: TopicId,
        bar: &ProgressBar,
        mut put: impl FnMut(&mut Tally, &TableFile, i32, i64),
    ) -> Result<(), String> {
        let files = log.files();
        bar.set_length(files.len() as u64);
        bar.set_position(0);
        let store = log.store();
        let reads = files.into_iter().map(|file| {
            let (store, wanted) = (store.clone(), wanted.clone());
            async move { Ok::<_, String>((file, read_file(&*store, file, wanted).await?)) }
        });
        let mut reads = futures::stream::iter(reads).buffered(FILES);
        while let Some((file, rows)) = reads.try_next().await? {
            bar.inc(1);
            match rows {
                Ok(rows) => self.take(log, file, &rows, wanted, present, &mut put),
                Err(reason) => self.unreadable.push(format!("{}: {reason}", file.path)),
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        log: &Table,
        file: &TableFile,
        rows: &Rows,
        wanted: &Wanted,
        present: TopicId,
        put: &mut impl FnMut(&mut Tally, &TableFile, i32, i64),
    ) {
        let mut known: HashMap<i32, Standing> = HashMap::new();
        let mut misplaced = rows.misplaced.iter().peekable();
        for row in 0..rows.offsets.len() {
            let misplaced = misplaced.next_if(|next| **next == row).is_some();
            let (partition, offset) = (rows.partitions.value(row), rows.offsets.value(row));
            let whole = rows.partitions.is_valid(row) && rows.offsets.is_valid(row);
            if !whole || rows.topics.is_null(row) || rows.topics.value(row) != wanted.topic {
                self.astray += 1;
                continue;
            }
            let standing = *known.entry(partition).or_insert_with(|| {
                let source = TopicPartition::new(wanted.topic.as_str(), partition);
                Standing::of(log.mark_of(&source, present), file, log.had_another(&source))
            });
            let tally = match standing {
                Standing::Unknown => {
                    self.astray += 1;
                    continue;
                }
                _ => self.tallies.entry(partition).or_default(),
            };
            if standing == Standing::Former {
                tally.former += 1;
                continue;
            }
            put(tally, file, partition, offset);
            if misplaced {
                tally.misplace(offset);
            }
        }
    }
}

/// What a file's rows of one partition are to the present topic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Present,
    /// Of a topic of the same name, before it was made again.
    Former,
    /// The log has no progress for them.
    Unknown,
}

impl Standing {
    fn of(mark: Option<&Mark>, file: &TableFile, had_another: bool) -> Self {
        match mark {
            None => Standing::Unknown,
            Some(mark) if had_another => {
                if is_former(mark, file) {
                    Standing::Former
                } else {
                    Standing::Present
                }
            }
            Some(_) => Standing::Present,
        }
    }
}

/// Of a partition that is known under several topic ids: whether a file's rows are of another than the mark.
pub fn is_former(mark: &Mark, file: &TableFile) -> bool {
    match (file.topic, mark.topic_id.get()) {
        // A file that was written anew is younger than its rows.
        (Some(of), Some(present)) => of != present,
        _ => file.version < mark.since,
    }
}

/// The rows of a file; the inner error is the file's own fault, the outer the store's.
async fn read_file(
    store: &dyn ObjectStore,
    file: &TableFile,
    wanted: Wanted,
) -> Result<Result<Rows, String>, String> {
    // A log spells paths as URLs do.
    let path = match Path::from_url_path(&file.path) {
        Ok(path) => path,
        Err(error) => return Ok(Err(error.to_string())),
    };
    // A running node may be about to publish it.
    let patience = if file.time.is_some() { PUBLISHING } else { Duration::ZERO };
    let since = Instant::now();
    let bytes = loop {
        match store.get(&path).await {
            Ok(got) => break got.bytes().await.map_err(said)?,
            Err(Error::NotFound { .. }) if since.elapsed() < patience => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(Error::NotFound { .. }) => return Ok(Err("there is no such file".to_owned())),
            Err(error) => return Err(said(error)),
        }
    };
    let time = file.time.clone().or_else(|| wanted.layout.label_of(&file.values));
    let time = time.filter(|_| wanted.layout.tells_place(file.by.as_deref()));
    let read = tokio::task::spawn_blocking(move || read_rows(bytes, &wanted, time.as_deref()));
    read.await.map_err(|error| error.to_string())
}

/// How long a plain table's file may take from its commit to its place.
const PUBLISHING: Duration = Duration::from_secs(3);

/// Decodes the wanted columns of a whole file.
pub(super) fn read_columns(bytes: Bytes, columns: &[String]) -> Result<RecordBatch, String> {
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| error.to_string())?;
    let mask =
        ProjectionMask::columns(builder.parquet_schema(), columns.iter().map(String::as_str));
    let reader = builder.with_projection(mask).build().map_err(|error| error.to_string())?;
    let schema = reader_schema(&reader);
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    concat_batches(&schema, &batches).map_err(|error| error.to_string())
}

fn reader_schema(reader: &impl arrow::array::RecordBatchReader) -> arrow::datatypes::SchemaRef {
    reader.schema()
}

fn read_rows(bytes: Bytes, wanted: &Wanted, time: Option<&str>) -> Result<Rows, String> {
    let batch = match wanted.format {
        LakeFormat::Delta | LakeFormat::Parquet => {
            let names: Vec<String> = wanted.columns.iter().map(|(name, _)| name.clone()).collect();
            read_columns(bytes, &names)?
        }
        LakeFormat::Jsonl => read_lines(&bytes, &wanted.columns)?,
    };
    let missing = |name: &str| format!("no column {name} of the right type");
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
    let topics = column("_topic")?.as_string_opt::<i32>().ok_or_else(|| missing("_topic"))?.clone();
    let partitions = column("_partition")?
        .as_primitive_opt::<Int32Type>()
        .ok_or_else(|| missing("_partition"))?
        .clone();
    let offsets = column("_offset")?
        .as_primitive_opt::<Int64Type>()
        .ok_or_else(|| missing("_offset"))?
        .clone();
    let mut misplaced = Vec::new();
    if let (true, Some(time)) = (wanted.by_time, time) {
        misplaced = of_another_time(&batch, wanted, time)?;
    }
    if wanted.is_table {
        let ops = column("_op")?.as_string_opt::<i32>().ok_or_else(|| missing("_op"))?;
        let known =
            |row: usize| ops.is_valid(row) && ["upsert", "delete"].contains(&ops.value(row));
        misplaced.extend((0..ops.len()).filter(|row| !known(*row)));
        misplaced.sort_unstable();
        misplaced.dedup();
    }
    Ok(Rows { topics, partitions, offsets, misplaced })
}

/// Rows that a reader who looks for their time would not find in this file.
fn of_another_time(
    batch: &RecordBatch,
    wanted: &Wanted,
    label: &str,
) -> Result<Vec<usize>, String> {
    let times = batch
        .column_by_name("_timestamp")
        .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
        .ok_or("no column _timestamp of the right type")?;
    let time = wanted.time.as_ref().and_then(|name| batch.schema().index_of(name).ok());
    let known_type = |index: &usize| {
        matches!(batch.column(*index).data_type(), DataType::Timestamp(..) | DataType::Date32)
    };
    if time.is_some() != wanted.time.is_some() || !time.iter().all(known_type) {
        return Err("no time column of the right type".to_owned());
    }
    let precision =
        layout::precision_of(label).ok_or_else(|| format!("a time that is none: {label}"))?;
    let by = time.map_or(By::Kafka, By::Column);
    Ok(match layout::slots(batch, by, &millis(times), precision) {
        Slots::One(slot) if slot.label(precision) == label => Vec::new(),
        Slots::One(_) => (0..batch.num_rows()).collect(),
        Slots::Many(slots) => {
            (0..slots.len()).filter(|row| slots[*row].label(precision) != label).collect()
        }
    })
}

fn millis(times: &TimestampMicrosecondArray) -> Int64Array {
    let millis: Int64Array = times.unary(|micros| micros.div_euclid(1000));
    Int64Array::new(millis.values().clone(), times.nulls().cloned())
}
