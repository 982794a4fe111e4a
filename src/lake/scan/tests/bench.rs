//! Tables of several columns, and their rows as text.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as Answer,
};

use super::super::*;
use crate::config::{Column, ColumnType, LakeOptions, Schema};
use crate::lake::tests::{Lab, commit, source, topic_id};
use crate::lake::{LakeTable, open};
use crate::record::{
    Batch, Claim, GapReason, Hold, OffsetRange, Part, Progress, Reject, RejectClass,
};

pub const FORMATS: [LakeFormat; 3] = [LakeFormat::Delta, LakeFormat::Parquet, LakeFormat::Jsonl];

const COLUMNS: [(&str, ColumnType); 7] = [
    ("id", ColumnType::Long),
    ("name", ColumnType::String),
    ("at", ColumnType::Timestamp),
    ("price", ColumnType::Decimal { precision: 12, scale: 2 }),
    ("share", ColumnType::Double),
    ("on", ColumnType::Date),
    ("flag", ColumnType::Boolean),
];

pub fn feed(format: LakeFormat) -> Arc<Feed> {
    let columns = COLUMNS.map(|(name, kind)| Column::new(name, kind)).to_vec();
    let options = LakeOptions { format, ..LakeOptions::default() };
    let schema = Schema::json(columns, 0);
    Arc::new(Feed { lake: Some(options), schema, ..(*crate::lake::tests::feed()).clone() })
}

/// What a record at this offset has in a column; its column `more` is the offset.
fn column(name: &str, offsets: &[i64]) -> ArrayRef {
    let values = offsets.iter().copied();
    match name {
        "id" => Arc::new(Int64Array::from_iter_values(values.map(|at| at * 10))),
        "name" => {
            let name = |at| (at % 5 != 4).then(|| format!("n{:04}", at * 7 % 1000));
            Arc::new(values.map(name).collect::<StringArray>())
        }
        "at" => {
            let micros = values.map(|at| Some(at * 1_234_567 - 5_000_000));
            Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        "price" => {
            let cents = values.map(|at| Some(i128::from(at) * 25 - 100));
            let cents = cents.collect::<Decimal128Array>();
            Arc::new(cents.with_precision_and_scale(12, 2).unwrap())
        }
        "share" => Arc::new(Float64Array::from_iter_values(values.map(|at| at as f64 / 3.0 - 2.0))),
        "on" => Arc::new(Date32Array::from_iter_values(values.map(|at| (at % 50) as i32 - 10))),
        "flag" => Arc::new(values.map(|at| Some(at % 2 == 0)).collect::<BooleanArray>()),
        _ => Arc::new(Int64Array::from_iter_values(values)),
    }
}

/// Rows of these offsets in the feed's columns.
pub fn rows(feed: &Feed, offsets: &[i64]) -> RecordBatch {
    let schema = feed.schema.arrow();
    let columns = schema.fields().iter().map(|field| column(field.name(), offsets));
    RecordBatch::try_new(schema.clone(), columns.collect()).unwrap()
}

/// Four rows are of one day.
pub fn timestamp(offset: i64) -> i64 {
    offset * 6 * 3_600_000
}

fn part(feed: &Feed, partition: i32, range: Range<i64>, rejected: &[i64]) -> Part {
    let offsets: Vec<i64> = range.clone().filter(|at| !rejected.contains(at)).collect();
    let reject = |offset: &i64| Reject {
        offset: *offset,
        timestamp_ms: 0,
        key: None,
        value: Some(b"{".to_vec()),
        headers: Vec::new(),
        class: RejectClass::Malformed,
        reason: "cut short".to_owned(),
    };
    let batch = Batch {
        source: source(partition),
        range: OffsetRange::new(range.start, range.end),
        rows: rows(feed, &offsets),
        timestamps: Int64Array::from_iter_values(offsets.iter().copied().map(timestamp)),
        offsets: Int64Array::from(offsets),
        deletes: None,
        keys: None,
        headers: None,
        documents: None,
        rejects: rejected.iter().map(reject).collect::<Vec<_>>().into(),
        payload_bytes: 0,
        hold: Hold::default(),
    };
    let (source, topic_id) = (source(partition), topic_id());
    Part { source, topic_id, claim: Claim::random(), batches: vec![Arc::new(batch)] }
}

/// A row as a scan of all columns gives it.
fn row(feed: &Feed, partition: i32, offset: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(timestamp(offset)).unwrap();
    let at = TimestampMicrosecondArray::from(vec![timestamp(offset) * 1000]).with_timezone("UTC");
    let at = array_value_to_string(&at, 0).unwrap();
    let own = text(&rows(feed, &[offset])).remove(0);
    format!("{own}|t|{partition}|{offset}|{at}|{}", time.format("%Y|%-m|%-d"))
}

pub struct Bench {
    pub lab: Lab,
    pub feed: Arc<Feed>,
    pub table: Arc<dyn LakeTable>,
    next: [i64; 2],
}

impl Bench {
    pub async fn new(format: LakeFormat) -> Self {
        Self::of(Lab::new(), feed(format)).await
    }

    pub async fn of(lab: Lab, feed: Arc<Feed>) -> Self {
        let table = open(&lab.store(), feed.clone()).await.unwrap();
        let start = Progress { next_offset: 0, topic_id: topic_id() };
        // Each in a commit of its own, so that versions count alike.
        for partition in [0, 1] {
            table.begin(&[(source(partition), start)]).await.unwrap();
        }
        Self { lab, feed, table, next: [0; 2] }
    }

    /// The same table, of a feed that has more columns.
    pub async fn widen(&mut self, feed: Arc<Feed>) {
        self.table = open(&self.lab.store(), feed.clone()).await.unwrap();
        self.feed = feed;
    }

    /// Commits the next so many records, and answers their rows. Of those rejected there are none.
    pub async fn commit(&mut self, partition: i32, count: i64, rejected: &[i64]) -> Vec<String> {
        let next = &mut self.next[partition as usize];
        let range = *next..*next + count;
        *next = range.end;
        let part = part(&self.feed, partition, range.clone(), rejected);
        commit(self.table.as_ref(), vec![part]).await;
        // Commits are told apart by milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        let offsets = range.filter(|offset| !rejected.contains(offset));
        offsets.map(|offset| row(&self.feed, partition, offset)).collect()
    }

    /// The same of partition 0, for a feed with keys: each a new one.
    pub async fn upsert(&mut self, count: i64) {
        let range = self.next[0]..self.next[0] + count;
        self.next[0] = range.end;
        let mut part = part(&self.feed, 0, range, &[]);
        let batch = Arc::get_mut(&mut part.batches[0]).unwrap();
        batch.deletes = Some(BooleanArray::from(vec![false; count as usize]));
        commit(self.table.as_ref(), vec![part]).await;
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }

    pub fn is_delta(&self) -> bool {
        crate::lake::format(&self.feed) == LakeFormat::Delta
    }

    /// Passes over the next so many records of a partition.
    pub async fn skip(&mut self, partition: i32, count: i64, why: GapReason) {
        let next = &mut self.next[partition as usize];
        let range = OffsetRange::new(*next, *next + count);
        *next = range.end;
        let of = source(partition);
        self.table.record_gap(&of, topic_id(), range, why).await.unwrap();
    }

    /// Writes a checkpoint of the latest version of a Delta table, which it answers.
    pub async fn checkpoint(&self) -> u64 {
        let version = self.scan(At::Latest).await.unwrap().version().unwrap();
        let log = self.lab.store().log_store("streams/f").unwrap();
        crate::lake::commit_loop::write_checkpoint(log, version).await.unwrap();
        version
    }

    pub async fn scan(&self, at: At) -> Result<TableScan, NotOpened> {
        TableScan::open(&self.lab.store(), &self.feed, at).await
    }

    /// A scan, and what it fetches of the files.
    pub async fn counted(&self) -> (TableScan, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        let counting = counts.clone();
        let store = self.counting(counting);
        let scan = TableScan::open(&store, &self.feed, At::Latest).await.unwrap();
        (scan, counts)
    }

    pub fn counting(&self, counts: Arc<Counts>) -> LakeStore {
        self.lab.store().over(|inner| Arc::new(Counting { inner, counts }))
    }

    pub fn path(&self, below: &str) -> std::path::PathBuf {
        self.lab.folder.path().join("streams/f").join(below)
    }
}

/// All columns.
pub fn all(scan: &TableScan) -> Request {
    let columns = scan.schema().fields().iter().map(|field| field.name().clone()).collect();
    Request { columns, ..Request::default() }
}

pub async fn given(scan: &TableScan, request: Request) -> Vec<(RecordBatch, Position)> {
    scan.batches(request).try_collect().await.unwrap()
}

/// Rows as text, a null as nothing.
pub fn text(batch: &RecordBatch) -> Vec<String> {
    let value = |values: &ArrayRef, row| match values.is_null(row) {
        true => String::new(),
        false => array_value_to_string(values, row).unwrap(),
    };
    let row = |row| batch.columns().iter().map(|it| value(it, row)).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(row).collect()
}

pub fn collect(batches: &[(RecordBatch, Position)]) -> Vec<String> {
    batches.iter().flat_map(|(batch, _)| text(batch)).collect()
}

/// What was fetched of a table's files.
#[derive(Debug, Default)]
pub struct Counts {
    gets: AtomicU64,
    bytes: AtomicU64,
    links: AtomicU64,
}

impl Counts {
    /// Gets and bytes since it was asked last.
    pub fn take(&self) -> (u64, u64) {
        (self.gets.swap(0, Ordering::SeqCst), self.bytes.swap(0, Ordering::SeqCst))
    }

    /// Links of a plain table that were fetched since it was asked last.
    pub fn take_links(&self) -> u64 {
        self.links.swap(0, Ordering::SeqCst)
    }

    fn add(&self, location: &object_store::path::Path, bytes: u64) {
        if location.as_ref().contains("_commits") {
            self.links.fetch_add(1, Ordering::SeqCst);
        } else if !location.as_ref().contains("_delta_log") {
            self.gets.fetch_add(1, Ordering::SeqCst);
            self.bytes.fetch_add(bytes, Ordering::SeqCst);
        }
    }
}

#[derive(Debug)]
struct Counting {
    inner: Arc<dyn ObjectStore>,
    counts: Arc<Counts>,
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counting({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Answer<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Answer<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Answer<GetResult> {
        let head = options.head;
        let got = self.inner.get_opts(location, options).await?;
        if !head {
            self.counts.add(location, got.range.end - got.range.start);
        }
        Ok(got)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Answer<Vec<Bytes>> {
        self.counts.add(location, ranges.iter().map(|range| range.end - range.start).sum());
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Answer<Path>>,
    ) -> BoxStream<'static, Answer<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Answer<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Answer<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Answer<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
