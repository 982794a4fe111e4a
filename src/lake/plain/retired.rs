//! Files that retention took out of a plain table: documents, numbered without a hole, each written once.
//!
//! How many there were when somebody looked names a state for good, as a version does of a Delta table.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};

use super::super::log::{judged, judged_write};
use crate::record::SinkError;

const FOLDER: &str = "_retired";
/// Documents fetched at once.
const FETCHES: usize = 16;

/// One pass of retention.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retired {
    pub at_ms: i64,
    /// Why, for people.
    pub policy: String,
    pub files: Vec<RetiredFile>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetiredFile {
    pub path: String,
    pub size: u64,
    pub rows: u64,
    /// The offsets that went with it, by topic and partition: for those who compare.
    #[serde(skip_deserializing)]
    pub gone: serde_json::Value,
}

/// All passes, the oldest first, each with the store's word for it.
#[derive(Debug, Clone, Default)]
pub struct Retirements(Vec<(ObjectMeta, Arc<Retired>)>);

impl Retirements {
    /// What was known before, and is the same, is not fetched again.
    pub async fn read(store: &dyn ObjectStore, before: &Self) -> Result<Self, SinkError> {
        let folder = Path::from(FOLDER);
        let listed: Vec<_> = store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(|error| judged(&error).context("listing what is retired"))?;
        let mut there: HashMap<Path, ObjectMeta> =
            listed.into_iter().map(|meta| (meta.location.clone(), meta)).collect();
        let mut reads = Vec::new();
        while let Some(meta) = there.remove(&path(reads.len())) {
            let same = before.0.get(reads.len()).filter(|(before, _)| *before == meta).cloned();
            reads.push(async {
                match same {
                    Some(same) => Ok(same),
                    None => fetch(store, meta).await,
                }
            });
        }
        stream::iter(reads).buffered(FETCHES).try_collect().await.map(Self)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How many there were at a moment.
    pub fn count_at(&self, time_ms: i64) -> usize {
        self.0.iter().take_while(|(_, retired)| retired.at_ms <= time_ms).count()
    }

    pub fn files(&self) -> impl Iterator<Item = &RetiredFile> {
        self.0.iter().flat_map(|(_, retired)| &retired.files)
    }

    /// The paths of files that were gone when there were so many.
    pub fn paths(&self, count: usize) -> HashSet<&str> {
        let files = self.0.iter().take(count).flat_map(|(_, retired)| &retired.files);
        files.map(|file| file.path.as_str()).collect()
    }

    /// The paths of files that went at this moment or before, by the store's clock and by what was written.
    pub fn until(&self, time_ms: i64) -> impl Iterator<Item = &str> {
        let at = |(meta, retired): &(ObjectMeta, Arc<Retired>)| {
            retired.at_ms.max(meta.last_modified.timestamp_millis())
        };
        let due = self.0.iter().filter(move |document| at(document) <= time_ms);
        due.flat_map(|(_, retired)| &retired.files).map(|file| file.path.as_str())
    }

    /// Writes the next. Fails if somebody else's came first.
    pub async fn add(
        &mut self,
        store: &dyn ObjectStore,
        retired: &Retired,
    ) -> Result<(), SinkError> {
        let body = serde_json::to_vec(retired).map_err(SinkError::lasting)?;
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match store.put_opts(&path(self.0.len()), body.into(), create).await {
            Ok(_) => {
                *self = Self::read(store, self).await?;
                Ok(())
            }
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Err(SinkError::passing("another pass retired files at the same time"))
            }
            Err(error) => Err(judged_write(&error).context("writing which files are retired")),
        }
    }
}

fn path(number: usize) -> Path {
    Path::from(format!("{FOLDER}/{number:08}.json"))
}

async fn fetch(
    store: &dyn ObjectStore,
    meta: ObjectMeta,
) -> Result<(ObjectMeta, Arc<Retired>), SinkError> {
    let path = &meta.location;
    let failed = |error: Error| judged(&error).context(format!("reading {path}"));
    let bytes = store.get(path).await.map_err(failed)?.bytes().await.map_err(failed)?;
    let retired = serde_json::from_slice(&bytes)
        .map_err(|error| SinkError::lasting(format!("{path} is damaged: {error}")))?;
    Ok((meta, Arc::new(retired)))
}
