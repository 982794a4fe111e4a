//! Where nodes of clusters without a database tell of themselves: a document for each, in the lake.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use super::LakeStore;
use super::log::{judged, judged_write};
use crate::record::SinkError;
use crate::status::{Beat, FORGOTTEN, NodeTold};

pub struct Board {
    lake: LakeStore,
    nodes: Arc<dyn ObjectStore>,
    beats: AtomicU32,
}

/// So seldom those that are silent are looked for.
const SWEEP: u32 = 20;

impl Board {
    pub fn new(lake: &LakeStore) -> Self {
        let nodes = lake.below("_tidegate/nodes");
        Self { lake: lake.clone(), nodes, beats: AtomicU32::new(0) }
    }

    /// What a node tells of itself, in the place of what it told before. Those that were silent for long, by the
    /// times of the store's files, are forgotten with it.
    pub async fn beat(&self, instance: Uuid, told: &NodeTold) -> Result<(), SinkError> {
        let body = serde_json::to_vec(told).map_err(SinkError::lasting)?;
        let written = self.nodes.put(&document(instance), body.into()).await;
        written.map_err(|error| judged_write(&error))?;
        if !self.beats.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP) {
            return Ok(());
        }
        let there = self.there().await?;
        // This node's own is new, whatever clocks say.
        let newest = there.iter().map(|(_, at_ms)| *at_ms).max().unwrap_or(0);
        for (silent, at_ms) in there {
            if newest - at_ms > FORGOTTEN.as_millis() as i64 {
                self.leave(silent).await?;
            }
        }
        Ok(())
    }

    /// What all told last. Ages are by the store's clock.
    pub async fn beats(&self) -> Result<Vec<Beat>, SinkError> {
        let there = self.there().await?;
        if there.is_empty() {
            return Ok(Vec::new());
        }
        let (now_ms, mut beats) = (self.lake.now_ms().await?, Vec::new());
        for (instance, at_ms) in there {
            let age_ms = (now_ms - at_ms).max(0);
            let body = match self.nodes.get(&document(instance)).await {
                Ok(found) => found.bytes().await.map_err(|error| judged(&error))?,
                Err(Error::NotFound { .. }) => continue,
                Err(error) => return Err(judged(&error)),
            };
            // Of another release it may not be understood.
            if let Ok(told) = serde_json::from_slice(&body) {
                beats.push(Beat { instance, told, age_ms });
            }
        }
        Ok(beats)
    }

    /// It has ended.
    pub async fn leave(&self, instance: Uuid) -> Result<(), SinkError> {
        match self.nodes.delete(&document(instance)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(judged(&error)),
        }
    }

    /// When each told last, by the store's clock: milliseconds since the epoch.
    async fn there(&self) -> Result<Vec<(Uuid, i64)>, SinkError> {
        let listed: Vec<_> =
            self.nodes.list(None).try_collect().await.map_err(|error: Error| judged(&error))?;
        let named = listed.iter().filter_map(|file| {
            let name = file.location.filename()?.strip_suffix(".json")?;
            Some((name.parse::<Uuid>().ok()?, file.last_modified.timestamp_millis()))
        });
        Ok(named.collect())
    }
}

fn document(instance: Uuid) -> Path {
    Path::from(format!("{instance}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::tests::Lab;

    #[tokio::test(flavor = "multi_thread")]
    async fn each_node_tells_of_itself_until_it_leaves() {
        let lab = Lab::new();
        let board = Board::new(&lab.store());
        assert_eq!(board.beats().await.unwrap(), []);
        let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
        let told = |node: &str| NodeTold { node: node.to_owned(), ..NodeTold::default() };
        board.beat(a, &told("a")).await.unwrap();
        board.beat(b, &told("b")).await.unwrap();
        board.beat(a, &told("again")).await.unwrap();
        let mut nodes: Vec<String> =
            board.beats().await.unwrap().into_iter().map(|beat| beat.told.node).collect();
        nodes.sort();
        assert_eq!(nodes, ["again", "b"]);
        board.leave(a).await.unwrap();
        board.leave(a).await.unwrap();
        let left = board.beats().await.unwrap();
        assert_eq!((left.len(), left[0].instance), (1, b));
        assert!(left[0].age_ms < 60_000);
    }
}
