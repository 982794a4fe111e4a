//! One commit of ours as its entry in the Delta log says it.

use std::collections::HashMap;

use bytes::Bytes;
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{Action, Add, Remove, Transaction};
use deltalake_core::protocol::{DeltaOperation, OutputMode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{StagedFile, log};
use crate::record::{Progress, SinkError, TopicId, TopicPartition};

/// On each file: what its partition columns go by, as `Layout::by` says. Readers pass over it.
pub const TIME_TAG: &str = "tidegate.time";
/// On each file: the id of the topic that all its rows are of, where it is known.
pub const TOPIC_TAG: &str = "tidegate.topic";
/// On a file that retention takes away: whose offsets go with it, as `upkeep` writes them.
pub const TAKEN_TAG: &str = "tidegate.taken";

#[derive(Debug)]
pub struct Change {
    /// By which a commit whose answer was lost is known again.
    pub id: Uuid,
    pub kind: Kind,
    pub files: Vec<StagedFile>,
    pub removed: Vec<RemovedFile>,
    /// Progress from here on.
    pub marks: HashMap<TopicPartition, Progress>,
    /// What else the commit says of itself, and under which name.
    pub said: Option<(&'static str, Value)>,
    /// The partition that rows come back to from quarantine: its replays are counted.
    pub replayed: Option<TopicPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Rows come.
    Rows,
    /// Rows go, because of this.
    Retention(String),
    /// The same rows, in other files of about so many bytes.
    Compaction(u64),
}

/// A file that the table has no more.
#[derive(Debug, Clone)]
pub struct RemovedFile {
    pub path: String,
    pub size: u64,
    pub partition_values: HashMap<String, Option<String>>,
    /// Where its rows are in no other file: which they are.
    pub taken: Option<String>,
}

impl Default for Change {
    fn default() -> Self {
        let (files, removed, marks) = Default::default();
        let (said, replayed, kind) = (None, None, Kind::Rows);
        Self { id: Uuid::new_v4(), kind, files, removed, marks, said, replayed }
    }
}

impl Change {
    /// `replays`: how often something was replayed into the partition before.
    pub fn entry(&self, now_ms: i64, replays: i64) -> Result<Bytes, SinkError> {
        let changes_rows = !matches!(self.kind, Kind::Compaction(_));
        let adds = self.files.iter().map(|file| {
            Action::Add(Add {
                path: file.path.clone(),
                partition_values: file
                    .partition_values
                    .iter()
                    .map(|(name, value)| (name.clone(), Some(value.clone())))
                    .collect(),
                size: file.size as i64,
                modification_time: file.written_ms.unwrap_or(now_ms),
                data_change: changes_rows,
                stats: Some(file.stats.clone()),
                tags: Some(tags(&file.by, file.topic)),
                ..Add::default()
            })
        });
        let removes = self.removed.iter().map(|file| {
            let taken =
                |taken: &String| HashMap::from([(TAKEN_TAG.to_owned(), Some(taken.clone()))]);
            Action::Remove(Remove {
                path: file.path.clone(),
                data_change: changes_rows,
                deletion_timestamp: Some(now_ms),
                extended_file_metadata: Some(true),
                partition_values: Some(file.partition_values.clone()),
                size: Some(file.size as i64),
                tags: file.taken.as_ref().map(taken),
                deletion_vector: None,
                base_row_id: None,
                default_row_commit_version: None,
            })
        });
        let progress = self.marks.iter().map(|(source, progress)| {
            (log::app_id(source, progress.topic_id), progress.next_offset)
        });
        let counted = self.replayed.iter().map(|source| (log::replays_id(source), replays + 1));
        let txns = progress.chain(counted).map(|(app_id, version)| {
            Transaction::new_with_last_update(app_id, version, Some(now_ms))
        });
        let rows: usize = self.files.iter().map(|file| file.rows).sum();
        let mut said = HashMap::from([
            ("tidegateCommit".to_owned(), json!(self.id)),
            ("tidegateRows".to_owned(), json!(rows)),
        ]);
        said.extend(self.said.clone().map(|(name, value)| (name.to_owned(), value)));
        let actions = removes.chain(adds).collect();
        CommitData::new(actions, self.kind.operation(now_ms), said, txns.collect())
            .get_bytes()
            .map_err(SinkError::lasting)
    }
}

impl Kind {
    fn operation(&self, now_ms: i64) -> DeltaOperation {
        match self {
            Kind::Rows => DeltaOperation::StreamingUpdate {
                output_mode: OutputMode::Append,
                query_id: "tidegate".to_owned(),
                epoch_id: now_ms,
            },
            Kind::Retention(why) => DeltaOperation::Delete { predicate: Some(why.clone()) },
            Kind::Compaction(target) => {
                DeltaOperation::Optimize { predicate: None, target_size: *target as i64 }
            }
        }
    }
}

fn tags(by: &str, topic: TopicId) -> HashMap<String, Option<String>> {
    let by = (!by.is_empty()).then(|| (TIME_TAG.to_owned(), Some(by.to_owned())));
    let topic = topic.get().map(|id| (TOPIC_TAG.to_owned(), Some(id.to_string())));
    by.into_iter().chain(topic).collect()
}
