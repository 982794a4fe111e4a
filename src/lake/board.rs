//! Where nodes of clusters without a database tell of themselves: a document for each, in the lake.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use uuid::Uuid;

use super::LakeStore;
use super::log::{judged, judged_write};
use crate::record::SinkError;
use crate::status::{Beat, FORGOTTEN, NodeTold};

pub struct Board(Arc<dyn ObjectStore>);

impl Board {
    pub fn new(lake: &LakeStore) -> Self {
        Self(lake.below("_tidegate/nodes"))
    }

    /// What a node tells of itself, in the place of what it told before. Those that were silent for long, by the
    /// times of the store's files, are forgotten with it.
    pub async fn beat(&self, instance: Uuid, told: &NodeTold) -> Result<(), SinkError> {
        let body = serde_json::to_vec(told).map_err(SinkError::lasting)?;
        self.0.put(&document(instance), body.into()).await.map_err(|error| judged_write(&error))?;
        for (silent, age_ms) in self.there().await? {
            if age_ms > FORGOTTEN.as_millis() as i64 {
                self.leave(silent).await?;
            }
        }
        Ok(())
    }

    /// What all told last. Ages are by this machine's clock, or the store's if that is ahead.
    pub async fn beats(&self) -> Result<Vec<Beat>, SinkError> {
        let mut beats = Vec::new();
        for (instance, age_ms) in self.there().await? {
            let body = match self.0.get(&document(instance)).await {
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
        match self.0.delete(&document(instance)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(judged(&error)),
        }
    }

    async fn there(&self) -> Result<Vec<(Uuid, i64)>, SinkError> {
        let listed: Vec<_> =
            self.0.list(None).try_collect().await.map_err(|error: Error| judged(&error))?;
        let named = listed.iter().filter_map(|file| {
            let name = file.location.filename()?.strip_suffix(".json")?;
            Some((name.parse::<Uuid>().ok()?, file.last_modified.timestamp_millis()))
        });
        let named: Vec<(Uuid, i64)> = named.collect();
        let newest = named.iter().map(|(_, at)| *at).max().unwrap_or(0);
        let newest = newest.max(chrono::Utc::now().timestamp_millis());
        Ok(named.into_iter().map(|(instance, at)| (instance, newest - at)).collect())
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
