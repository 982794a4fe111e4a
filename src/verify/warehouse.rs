//! The warehouse's side of a feed, read as any client would read it: plain SELECTs in one snapshot.

use std::collections::HashMap;

use super::account::Tally;
use super::gap::Gap;
use super::spool::{Entry, Spool, Values};
use super::{canon, postgres, sqlite};
use crate::config::{Feed, FeedKind};
use crate::record::{OffsetRange, TopicId, TopicPartition};
use crate::warehouse::shaped;

/// Either database.
pub enum Database {
    Postgres(postgres::Postgres),
    Sqlite(sqlite::Sqlite),
}

/// What the warehouse holds of a feed's topic.
#[derive(Default)]
pub struct Scan {
    pub progress: HashMap<TopicPartition, Standing>,
    pub gaps: Vec<Gap>,
    /// What was taken of former topics of these names.
    pub former: HashMap<TopicPartition, Vec<OffsetRange>>,
    pub tallies: HashMap<i32, Tally>,
    /// The rows of a table, by key.
    pub table: Option<Spool>,
    /// Rows of another topic, or of a partition that has no progress.
    pub astray: u64,
    /// The table's name, where there is none or none that this user may see.
    pub without_table: Option<String>,
    /// The table keeps no offsets, being somebody else's.
    pub without_offsets: bool,
    pub rows: u64,
}

/// How far a partition has come, as the bookkeeping says it.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    pub topic_id: TopicId,
    pub start: i64,
    pub next_offset: i64,
}

/// A row of the bookkeeping's quarantine.
pub struct Quarantined {
    pub topic: String,
    pub topic_id: Option<uuid::Uuid>,
    pub partition: i32,
    pub offset: i64,
}

/// A row of the feed's table: the columns asked for, and where it comes from, as far as it says.
pub struct Row {
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    pub columns: Values,
}

/// The columns that say where a row comes from.
pub const ORIGIN: [&str; 3] = ["_topic", "_partition", "_offset"];

impl Database {
    pub async fn open(config: &crate::config::Warehouse) -> Result<Self, String> {
        match config.url.strip_prefix("sqlite:") {
            Some(path) => sqlite::Sqlite::open(path.as_ref()).map(Database::Sqlite),
            None => postgres::Postgres::open(config).await.map(Database::Postgres),
        }
    }

    pub async fn progress(&self, feed: &str) -> Result<HashMap<TopicPartition, Standing>, String> {
        match self {
            Database::Postgres(database) => database.progress(feed).await,
            Database::Sqlite(database) => database.progress(feed),
        }
    }

    /// The columns kept for a feed that declares none, as JSON.
    pub async fn kept_columns(&self, feed: &str) -> Result<Option<String>, String> {
        match self {
            Database::Postgres(database) => database.kept_columns(feed).await,
            Database::Sqlite(database) => database.kept_columns(feed),
        }
    }

    /// Reads everything about the feed in one snapshot.
    pub async fn scan(&self, feed: &Feed) -> Result<Scan, String> {
        let feed = &*shaped(feed);
        self.begin().await?;
        let scanned = self.scan_in_snapshot(feed).await;
        self.end().await?;
        scanned
    }

    async fn begin(&self) -> Result<(), String> {
        match self {
            Database::Postgres(database) => database.begin().await,
            Database::Sqlite(database) => database.begin(),
        }
    }

    async fn end(&self) -> Result<(), String> {
        match self {
            Database::Postgres(database) => database.end().await,
            Database::Sqlite(database) => database.end(),
        }
    }

    async fn scan_in_snapshot(&self, feed: &Feed) -> Result<Scan, String> {
        let mut scan = Scan { progress: self.progress(&feed.name).await?, ..Scan::default() };
        let (gaps, former) = match self {
            Database::Postgres(it) => (it.gaps(&feed.name).await?, it.former(&feed.name).await?),
            Database::Sqlite(it) => (it.gaps(&feed.name)?, it.former(&feed.name)?),
        };
        scan.gaps = gaps;
        for (source, range) in former {
            scan.former.entry(source).or_default().push(range);
        }
        let mut quarantined = |record: Quarantined| scan.take_quarantined(feed, &record);
        match self {
            Database::Postgres(it) => it.quarantine(&feed.name, &mut quarantined).await?,
            Database::Sqlite(it) => it.quarantine(&feed.name, &mut quarantined)?,
        }
        let expired = match self {
            Database::Postgres(it) => it.expired(&feed.name).await?,
            Database::Sqlite(it) => it.expired(&feed.name)?,
        };
        // Before the rows: they are older, and those of a former topic are the oldest.
        for (source, first, last) in expired {
            scan.take_expired(feed, &source, first..=last);
        }
        self.scan_rows(feed, &mut scan).await?;
        Ok(scan)
    }

    async fn scan_rows(&self, feed: &Feed, scan: &mut Scan) -> Result<(), String> {
        let found = match self {
            Database::Postgres(database) => database.table_columns(feed).await?,
            Database::Sqlite(database) => database.table_columns(feed)?,
        };
        let has = |name: &str| found.iter().any(|column| column == name);
        if feed.kind == FeedKind::Table {
            scan.table = Some(Spool::new());
        }
        if found.is_empty() {
            scan.without_table = Some(match self {
                Database::Postgres(database) => database.table(feed).0,
                Database::Sqlite(_) => sqlite::table(feed),
            });
            return Ok(());
        }
        let origin: Vec<&str> = ORIGIN.into_iter().filter(|name| has(name)).collect();
        scan.without_offsets = origin.len() < ORIGIN.len();
        if scan.without_offsets && feed.kind == FeedKind::Stream {
            return Ok(());
        }
        let columns: &[_] = if feed.kind == FeedKind::Table { &feed.schema.columns } else { &[] };
        if let Some(missing) = columns.iter().find(|column| !has(&column.name)) {
            return Err(format!("the warehouse's table has no column {}", missing.name));
        }
        let mut take = |row: Row| scan.take_row(feed, row);
        match self {
            Database::Postgres(it) => it.rows(feed, columns, &origin, &mut take).await,
            Database::Sqlite(it) => it.rows(feed, columns, &origin, &mut take),
        }
    }
}

impl Scan {
    fn take_quarantined(&mut self, feed: &Feed, record: &Quarantined) {
        let source = TopicPartition::new(record.topic.as_str(), record.partition);
        let Some(progress) = self.progress.get(&source) else {
            self.astray += 1;
            return;
        };
        let tally = self.tallies.entry(record.partition).or_default();
        let of_another_topic = *record.topic != *feed.topic
            || progress.topic_id.get().zip(record.topic_id).is_some_and(|(a, b)| a != b);
        match of_another_topic {
            true => tally.quarantined_of_former(former_of(&self.former, &source), record.offset),
            false => tally.quarantine(record.offset),
        }
    }

    fn take_expired(
        &mut self,
        feed: &Feed,
        source: &TopicPartition,
        offsets: std::ops::RangeInclusive<i64>,
    ) {
        if source.topic != feed.topic || !self.progress.contains_key(source) {
            return;
        }
        let tally = self.tallies.entry(source.partition).or_default();
        let former = former_of(&self.former, source);
        for offset in offsets {
            if !tally.row_of_former(former, offset) {
                tally.retire(offset, false);
            }
        }
    }

    fn take_row(&mut self, feed: &Feed, row: Row) -> Result<(), String> {
        self.rows += 1;
        let source = row.topic.as_deref().zip(row.partition);
        let source = source.map(|(topic, partition)| TopicPartition::new(topic, partition));
        let known = source
            .as_ref()
            .filter(|source| source.topic == feed.topic && self.progress.contains_key(source));
        let (Some(source), Some(offset)) = (known, row.offset) else {
            // A table without these columns is compared by its keys alone.
            if !self.without_offsets {
                self.astray += 1;
            }
            return self.spool(feed, row);
        };
        let tally = self.tallies.entry(source.partition).or_default();
        let former = former_of(&self.former, source);
        match feed.kind {
            FeedKind::Stream if tally.row_of_former(former, offset) => {}
            FeedKind::Stream => tally.row(offset),
            FeedKind::Table => {
                tally.last_of_key(offset);
                // A row is the last of many records: only where it stands can be judged alone.
                let end = self.progress.get(source).map_or(i64::MAX, |found| found.next_offset);
                if offset >= end && !former.iter().any(|range| range.contains(offset)) {
                    tally.misplace(offset);
                }
            }
        }
        self.spool(feed, row)
    }

    fn spool(&mut self, feed: &Feed, row: Row) -> Result<(), String> {
        let Some(spool) = &mut self.table else { return Ok(()) };
        let columns = feed.schema.columns.iter().zip(row.columns);
        let mut values: Values = columns
            .map(|(column, text)| text.map(|text| canon::spelled(column.kind, &text)))
            .collect();
        let rest = values.split_off(feed.schema.key_columns.min(values.len()));
        spool.push(&Entry {
            key: values,
            partition: row.partition,
            offset: row.offset,
            columns: Some(rest),
        })
    }
}

fn former_of<'a>(
    former: &'a HashMap<TopicPartition, Vec<OffsetRange>>,
    source: &TopicPartition,
) -> &'a [OffsetRange] {
    former.get(source).map_or(&[], Vec::as_slice)
}
