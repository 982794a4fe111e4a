//! A feed's table in the lake, whichever its format.

use std::sync::Arc;

use object_store::ObjectStore;

use super::delta::{DeltaLog, Mark, TableFile, newest};
use super::gap::Gap;
use super::plain::PlainLog;
use super::retired::RetiredFile;
use crate::config::{Feed, LakeFormat};
use crate::lake::LakeStore;
use crate::layout::{self, Layout};
use crate::record::{TopicId, TopicPartition};

/// A feed's quarantine in the lake, which is a Delta table whatever the feed's own is.
pub async fn quarantine_table(store: &LakeStore, feed: &Feed) -> Result<Table, String> {
    let folder = store.below(&layout::quarantine_path(&feed.name));
    DeltaLog::open(folder).await.map(Table::Delta)
}

pub enum Table {
    Delta(DeltaLog),
    Plain(PlainLog),
}

impl Table {
    pub async fn open(store: &LakeStore, feed: &Feed) -> Result<Self, String> {
        let layout = Layout::of(feed)?;
        let folder = store.below(layout.folder());
        let format = feed.lake.as_ref().map(|options| options.format).unwrap_or_default();
        Ok(match format {
            LakeFormat::Delta => Self::Delta(DeltaLog::open(folder).await?),
            LakeFormat::Parquet | LakeFormat::Jsonl => {
                Self::Plain(PlainLog::open(folder, format.ending()).await?)
            }
        })
    }

    /// Reads what was committed since.
    pub async fn advance(&mut self) -> Result<(), String> {
        match self {
            Self::Delta(log) => log.advance().await,
            Self::Plain(log) => log.advance().await.map(drop),
        }
    }

    /// The files that make the table up.
    pub fn files(&self) -> Vec<&TableFile> {
        match self {
            Self::Delta(log) => log.files(),
            Self::Plain(log) => log.files.iter().collect(),
        }
    }

    /// How far the partition has come in the topic the broker has now, else in the topic written last.
    pub fn mark_of(&self, source: &TopicPartition, present: TopicId) -> Option<&Mark> {
        match self {
            Self::Delta(log) => log.mark_of(source, present),
            Self::Plain(log) => newest(log.marks.get(source)?, present),
        }
    }

    /// Whether the partition is known under another topic id too.
    pub fn had_another(&self, source: &TopicPartition) -> bool {
        match self {
            Self::Delta(log) => log.had_another(source),
            Self::Plain(log) => log.marks.get(source).is_some_and(|marks| marks.len() > 1),
        }
    }

    pub fn sources(&self) -> Vec<&TopicPartition> {
        match self {
            Self::Delta(log) => log.sources().collect(),
            Self::Plain(log) => log.marks.keys().collect(),
        }
    }

    pub fn gaps(&self) -> &[Gap] {
        match self {
            Self::Delta(log) => &log.gaps,
            Self::Plain(log) => &log.gaps,
        }
    }

    /// A Delta RESTORE that no commit of a node followed.
    pub fn restored(&self) -> Option<u64> {
        match self {
            Self::Delta(log) => log.restored,
            Self::Plain(_) => None,
        }
    }

    /// What is wrong with the folder itself.
    pub fn faults(&self) -> &[String] {
        match self {
            Self::Delta(_) => &[],
            Self::Plain(log) => &log.faults,
        }
    }

    /// Files that were removed with their rows, as far as a log tells: not those that were written anew,
    /// nor what a RESTORE set back.
    pub fn taken_away(&self) -> &[String] {
        match self {
            Self::Delta(log) => &log.taken_away,
            Self::Plain(_) => &[],
        }
    }

    /// Files that retention took away, and the offsets that went with them.
    pub fn retired(&self) -> Vec<&RetiredFile> {
        match self {
            Self::Delta(log) => log.retired.values().collect(),
            Self::Plain(log) => log.retired.iter().collect(),
        }
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        match self {
            Self::Delta(log) => log.store(),
            Self::Plain(log) => log.store(),
        }
    }
}
