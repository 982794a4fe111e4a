//! What nodes tell of themselves, wherever the cluster keeps it: in the database, and without one in the lake.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::config::Node;
use crate::lake::{Board, LakeStore};
use crate::record::SinkError;
use crate::status::{BEAT_EVERY, Beat, NodeTold};
use crate::warehouse::{JanitorStore, open_janitor};

#[derive(Clone)]
pub enum Beats {
    Database(Arc<dyn JanitorStore>),
    Lake(Arc<Board>),
}

impl Beats {
    /// None: there is neither a warehouse nor a lake.
    pub fn open(node: &Node) -> Result<Option<Self>, SinkError> {
        if let Some(warehouse) = &node.warehouse {
            return Ok(Some(Self::Database(open_janitor(warehouse)?)));
        }
        let lake = node.lake.as_ref().map(LakeStore::open).transpose()?;
        Ok(lake.map(|lake| Self::Lake(Arc::new(Board::new(&lake)))))
    }

    /// How often a node tells of itself. Each time in a bucket costs a little.
    pub fn every(&self) -> Duration {
        match self {
            Self::Database(_) => BEAT_EVERY,
            Self::Lake(_) => 3 * BEAT_EVERY,
        }
    }

    pub async fn tell(&self, instance: Uuid, told: &NodeTold) -> Result<(), SinkError> {
        match self {
            Self::Database(store) => store.beat(instance, told).await,
            Self::Lake(board) => board.beat(instance, told).await,
        }
    }

    /// Those of all nodes.
    pub async fn all(&self) -> Result<Vec<Beat>, SinkError> {
        match self {
            Self::Database(store) => store.beats().await,
            Self::Lake(board) => board.beats().await,
        }
    }

    pub async fn leave(&self, instance: Uuid) -> Result<(), SinkError> {
        match self {
            Self::Database(store) => store.leave(instance).await,
            Self::Lake(board) => board.leave(instance).await,
        }
    }
}
