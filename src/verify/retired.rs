//! Rows that retention took out of the lake, as it wrote them down: they were there, and are not lost.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::delta::{TableFile, said};
use crate::record::TopicPartition;

/// Documents fetched at once.
const FETCHES: usize = 16;

/// A file that went, and the offsets that went with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetiredFile {
    pub file: TableFile,
    pub gone: Vec<Gone>,
}

impl RetiredFile {
    pub fn sources(&self) -> impl Iterator<Item = TopicPartition> {
        self.gone.iter().map(|gone| TopicPartition::new(gone.topic.as_str(), gone.partition))
    }

    /// The offsets of a partition that went with it.
    pub fn of(&self, source: &TopicPartition) -> impl Iterator<Item = i64> {
        let own = self
            .gone
            .iter()
            .filter(|gone| *gone.topic == *source.topic && gone.partition == source.partition);
        own.flat_map(|gone| &gone.offsets).flat_map(|(first, last)| *first..=*last)
    }
}

/// Offsets of one partition: ranges, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    pub topic: String,
    pub partition: i32,
    pub offsets: Vec<(i64, i64)>,
}

/// What a plain table's folder says of it.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    pub files: Vec<Named>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub path: String,
    pub gone: Vec<Gone>,
}

/// All that was retired from a plain table.
pub(super) async fn documents(store: &Arc<dyn ObjectStore>) -> Result<Vec<Named>, String> {
    let folder = Path::from("_retired");
    let listed: Vec<_> = store.list(Some(&folder)).try_collect().await.map_err(said)?;
    let names: HashSet<Path> = listed.into_iter().map(|meta| meta.location).collect();
    let counted = (0..).map(|number| Path::from(format!("_retired/{number:08}.json")));
    let mut fetches = Vec::new();
    for path in counted.take_while(|path| names.contains(path)) {
        let store = store.clone();
        fetches.push(async move {
            let bytes = store.get(&path).await.map_err(said)?.bytes().await.map_err(said)?;
            serde_json::from_slice(&bytes).map_err(|error| format!("{path}: {error}"))
        });
    }
    let read: Vec<Document> =
        futures::stream::iter(fetches).buffered(FETCHES).try_collect().await?;
    Ok(read.into_iter().flat_map(|document| document.files).collect())
}
