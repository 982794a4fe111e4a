//! What a table holds, folder by folder: read once, then kept up with the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use deltalake_core::kernel::EagerSnapshot;
use deltalake_core::logstore::LogStoreRef;
use object_store::{ObjectMeta, ObjectStore};

use super::super::delta::judged_delta;
use super::super::log::{CommitLine, LogFile, entry_path, read_log, stands};
use super::super::plain::PlainReading;
use super::super::{LakeStore, format};
use crate::config::{Feed, LakeFormat};
use crate::layout::Layout;
use crate::record::SinkError;

/// A table as it stood at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overview {
    /// Of a Delta table.
    pub version: Option<u64>,
    /// Where each partition of a plain table stands.
    pub offsets: BTreeMap<String, i64>,
    pub folders: BTreeMap<String, Totals>,
    pub created_ms: Option<i64>,
    /// When it was last committed to.
    pub last_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
}

impl Totals {
    pub fn add(&mut self, other: Totals) {
        self.files += other.files;
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

impl Overview {
    pub fn total(&self) -> Totals {
        let mut total = Totals::default();
        self.folders.values().for_each(|folder| total.add(*folder));
        total
    }

    pub fn add(&mut self, path: &str, totals: Totals) {
        self.folders.entry(folder_of(path).to_owned()).or_default().add(totals);
    }

    /// A folder without files is none.
    pub fn take_away(&mut self, path: &str, totals: Totals) {
        let folder = folder_of(path);
        if let Some(left) = self.folders.get_mut(folder) {
            left.files = left.files.saturating_sub(totals.files);
            left.rows = left.rows.saturating_sub(totals.rows);
            left.bytes = left.bytes.saturating_sub(totals.bytes);
            if left.files == 0 {
                self.folders.remove(folder);
            }
        }
    }
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Reads a feed's table again and again.
pub struct TableReader {
    store: Arc<dyn ObjectStore>,
    kind: Kind,
}

enum Kind {
    Delta { log: LogStoreRef, known: Option<Box<Known>> },
    Plain(PlainReading),
}

/// A Delta table's files as of a version.
struct Known {
    version: u64,
    /// That version's entry, to notice that the log was replaced.
    entry: Option<ObjectMeta>,
    files: HashMap<String, Totals>,
    created_ms: Option<i64>,
}

impl TableReader {
    /// Of the table that readers of the feed are shown.
    pub fn of(lake: &LakeStore, feed: &Feed) -> Result<Self, SinkError> {
        let layout = Layout::of(feed).map_err(SinkError::lasting)?;
        Self::at(lake, feed, layout.shown())
    }

    /// Of the table that holds the feed's records.
    pub fn of_records(lake: &LakeStore, feed: &Feed) -> Result<Self, SinkError> {
        let layout = Layout::of(feed).map_err(SinkError::lasting)?;
        Self::at(lake, feed, layout.folder())
    }

    fn at(lake: &LakeStore, feed: &Feed, folder: &str) -> Result<Self, SinkError> {
        let kind = match format(feed) {
            LakeFormat::Delta => Kind::Delta { log: lake.log_store(folder)?, known: None },
            LakeFormat::Parquet | LakeFormat::Jsonl => Kind::Plain(PlainReading::default()),
        };
        Ok(Self { store: lake.below(folder), kind })
    }

    /// None where there is no table yet.
    pub async fn read(&mut self) -> Result<Option<Overview>, SinkError> {
        let store = self.store.as_ref();
        let (log, known) = match &mut self.kind {
            Kind::Plain(reading) => return reading.read(store).await,
            Kind::Delta { log, known } => (log, known),
        };
        if let Some(of) = known
            && !of.stands(store).await?
        {
            *known = None;
        }
        if known.is_none() {
            *known = Known::load(log, store).await?.map(Box::new);
        }
        let Some(known) = known else { return Ok(None) };
        while let Some(file) = read_log(store, known.version + 1).await? {
            known.take(file);
        }
        Ok(Some(known.overview()))
    }
}

impl Known {
    async fn load(log: &LogStoreRef, store: &dyn ObjectStore) -> Result<Option<Self>, SinkError> {
        if !log.is_delta_table_location().await.map_err(judged_delta)? {
            return Ok(None);
        }
        let library = EagerSnapshot::try_new(log.as_ref(), None).await.map_err(judged_delta)?;
        let mut known = Self {
            version: library.version(),
            entry: None,
            files: HashMap::new(),
            created_ms: library.metadata().created_time(),
        };
        for file in library.log_data().iter() {
            let rows = file.num_records().unwrap_or(0) as u64;
            let totals = Totals { files: 1, rows, bytes: file.size() as u64 };
            known.files.insert(file.path().into_owned(), totals);
        }
        known.entry = read_log(store, known.version).await?.map(|file| file.meta);
        Ok(Some(known))
    }

    async fn stands(&self, store: &dyn ObjectStore) -> Result<bool, SinkError> {
        match &self.entry {
            Some(entry) => stands(store, &entry_path(self.version), entry).await,
            None => Ok(true),
        }
    }

    fn take(&mut self, file: LogFile) {
        (self.version, self.entry) = (file.version, Some(file.meta));
        for line in file.lines {
            match line {
                CommitLine::Add(add) => {
                    let (rows, bytes) = (add.rows(), add.size);
                    self.files.insert(add.path, Totals { files: 1, rows, bytes });
                }
                CommitLine::Remove(remove) => drop(self.files.remove(&remove.path)),
                _ => {}
            }
        }
    }

    fn overview(&self) -> Overview {
        let mut overview = Overview {
            version: Some(self.version),
            created_ms: self.created_ms,
            last_ms: self.entry.as_ref().map(|entry| entry.last_modified.timestamp_millis()),
            ..Overview::default()
        };
        self.files.iter().for_each(|(path, totals)| overview.add(path, *totals));
        overview
    }
}
