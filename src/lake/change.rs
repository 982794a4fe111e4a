//! One commit of ours as its entry in the Delta log says it.

use std::collections::HashMap;

use bytes::Bytes;
use deltalake_core::kernel::transaction::CommitData;
use deltalake_core::kernel::{Action, Add, Transaction};
use deltalake_core::protocol::{DeltaOperation, OutputMode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{StagedFile, log};
use crate::record::{Progress, SinkError, TopicPartition};

/// On each file: what its partition columns go by, as `Layout::by` says. Readers pass over it.
const TIME_TAG: &str = "tidegate.time";

#[derive(Debug)]
pub struct Change {
    /// By which a commit whose answer was lost is known again.
    pub id: Uuid,
    pub files: Vec<StagedFile>,
    /// Progress from here on.
    pub marks: HashMap<TopicPartition, Progress>,
    /// What else the commit says of itself, and under which name.
    pub said: Option<(&'static str, Value)>,
    /// The partition that rows come back to from quarantine: its replays are counted.
    pub replayed: Option<TopicPartition>,
}

impl Default for Change {
    fn default() -> Self {
        let (files, marks) = (Vec::new(), HashMap::new());
        Self { id: Uuid::new_v4(), files, marks, said: None, replayed: None }
    }
}

impl Change {
    /// `replays`: how often something was replayed into the partition before.
    pub fn entry(&self, now_ms: i64, replays: i64) -> Result<Bytes, SinkError> {
        let adds = self.files.iter().map(|file| {
            Action::Add(Add {
                path: file.path.clone(),
                partition_values: file
                    .partition_values
                    .iter()
                    .map(|(name, value)| (name.clone(), Some(value.clone())))
                    .collect(),
                size: file.size as i64,
                modification_time: now_ms,
                data_change: true,
                stats: Some(file.stats.clone()),
                tags: Some(HashMap::from([(TIME_TAG.to_owned(), Some(file.by.clone()))])),
                ..Add::default()
            })
        });
        let progress = self.marks.iter().map(|(source, progress)| {
            (log::app_id(source, progress.topic_id), progress.next_offset)
        });
        let counted = self.replayed.iter().map(|source| (log::replays_id(source), replays + 1));
        let txns = progress.chain(counted).map(|(app_id, version)| {
            Transaction::new_with_last_update(app_id, version, Some(now_ms))
        });
        let operation = DeltaOperation::StreamingUpdate {
            output_mode: OutputMode::Append,
            query_id: "tidegate".to_owned(),
            epoch_id: now_ms,
        };
        let rows: usize = self.files.iter().map(|file| file.rows).sum();
        let mut said = HashMap::from([
            ("tidegateCommit".to_owned(), json!(self.id)),
            ("tidegateRows".to_owned(), json!(rows)),
        ]);
        said.extend(self.said.clone().map(|(name, value)| (name.to_owned(), value)));
        CommitData::new(adds.collect(), operation, said, txns.collect())
            .get_bytes()
            .map_err(SinkError::lasting)
    }
}
