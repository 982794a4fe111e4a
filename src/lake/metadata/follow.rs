//! A task beside a table that writes its `_metadata.json` when something was committed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

use super::super::{LakeTable, Staged};
use super::Metadata;
use crate::record::{
    GapReason, OffsetRange, Part, Progress, SinkError, TopicId, TopicPartition, Verdict,
};

/// Commits that come so close together are told of once.
const TOGETHER: Duration = Duration::from_secs(1);
/// How often it is looked at without any commit here: another node may have died after its own.
const AGAIN: Duration = Duration::from_secs(30);

pub struct Follower {
    heard: watch::Sender<Heard>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    commits: u64,
    ended: bool,
}

impl Follower {
    pub fn start(metadata: Metadata) -> Arc<Self> {
        let (heard, hears) = watch::channel(Heard::default());
        let task = tokio::spawn(follow(metadata, hears));
        Arc::new(Self { heard, task: Mutex::new(Some(task)) })
    }

    pub fn committed(&self) {
        self.heard.send_modify(|heard| heard.commits += 1);
    }

    /// Writes what is still to be written, and ends.
    pub async fn finish(&self) {
        self.heard.send_modify(|heard| heard.ended = true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            drop(task.await);
        }
    }
}

async fn follow(mut metadata: Metadata, mut hears: watch::Receiver<Heard>) {
    loop {
        let heard = *hears.borrow_and_update();
        if let Err(error) = metadata.write().await {
            warn!(target: "tidegate::lake", feed = %metadata.feed.name, %error, "_metadata.json could not be written; trying again");
        }
        if heard.ended {
            return;
        }
        tokio::select! {
            changed = hears.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(AGAIN) => {}
        }
        let ended = async {
            // Its sender lives as long as the table does.
            drop(hears.wait_for(|heard| heard.ended).await);
        };
        drop(tokio::time::timeout(TOGETHER, ended).await);
    }
}

/// A table whose commits are told of.
pub struct Followed {
    table: Arc<dyn LakeTable>,
    follower: Arc<Follower>,
}

impl Followed {
    pub fn new(table: Arc<dyn LakeTable>, follower: Arc<Follower>) -> Self {
        Self { table, follower }
    }
}

#[async_trait]
impl LakeTable for Followed {
    async fn progress(&self) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        self.table.progress().await
    }

    async fn begin(&self, starts: &[(TopicPartition, Progress)]) -> Result<(), SinkError> {
        self.table.begin(starts).await?;
        self.follower.committed();
        Ok(())
    }

    async fn stage(&self, parts: Vec<Part>) -> Result<Staged, SinkError> {
        self.table.stage(parts).await
    }

    async fn commit(&self, sets: &[Staged]) -> Result<Vec<Vec<Verdict>>, SinkError> {
        let committed = self.table.commit(sets).await;
        // After a failure too: it may have landed.
        self.follower.committed();
        committed
    }

    async fn open_gap(
        &self,
        source: &TopicPartition,
        topic_id: TopicId,
        gap: OffsetRange,
    ) -> Result<(), SinkError> {
        self.table.open_gap(source, topic_id, gap).await?;
        self.follower.committed();
        Ok(())
    }

    async fn record_gap(
        &self,
        source: &TopicPartition,
        topic_id: TopicId,
        gap: OffsetRange,
        reason: GapReason,
    ) -> Result<Verdict, SinkError> {
        let recorded = self.table.record_gap(source, topic_id, gap, reason).await;
        self.follower.committed();
        recorded
    }

    async fn replays(&self, source: &TopicPartition) -> Result<i64, SinkError> {
        self.table.replays(source).await
    }

    async fn replay(&self, part: Part, after: i64, by: &str) -> Result<bool, SinkError> {
        let replayed = self.table.replay(part, after, by).await;
        self.follower.committed();
        replayed
    }

    async fn reset(&self, source: &TopicPartition, progress: Progress) -> Result<(), SinkError> {
        self.table.reset(source, progress).await?;
        self.follower.committed();
        Ok(())
    }
}
