//! What was made of records in the lake's quarantine, and by whom: a document for each time somebody
//! did, in a folder that readers of the quarantine pass over. Written once and never changed.
//!
//! It is an account, and decides nothing of what is a row: that is for the table's commits.

use chrono::Utc;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::LakeStore;
use super::log::{judged, judged_write};
use crate::layout;
use crate::record::{Settled, SinkError};

const FOLDER: &str = "_settled";
/// Documents fetched at once.
const FETCHES: usize = 16;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settlement {
    pub settled: Settled,
    pub topic: String,
    pub partition: i32,
    /// None: the broker told none.
    #[serde(default)]
    pub topic_id: Option<Uuid>,
    pub offsets: Vec<i64>,
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub at_ms: i64,
}

/// Writes it down for good.
pub async fn settle(
    store: &LakeStore,
    feed: &str,
    settlement: &Settlement,
) -> Result<(), SinkError> {
    let table = store.below(&layout::quarantine_path(feed));
    let name = format!("{}_{}.json", Utc::now().format("%Y%m%dT%H%M%S%6f"), Uuid::new_v4());
    let path = Path::from_iter([FOLDER, &name]);
    let body = serde_json::to_vec(settlement).map_err(SinkError::lasting)?;
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let written = table.put_opts(&path, body.into(), create).await;
    written.map(drop).map_err(|error| judged_write(&error).context(format!("writing {path}")))
}

/// All of a feed, the oldest first.
pub async fn settlements(store: &LakeStore, feed: &str) -> Result<Vec<Settlement>, SinkError> {
    let table = store.below(&layout::quarantine_path(feed));
    let listed: Vec<_> =
        table.list(Some(&Path::from(FOLDER))).try_collect().await.map_err(|it| judged(&it))?;
    let mut paths: Vec<Path> = listed.into_iter().map(|meta| meta.location).collect();
    paths.sort_unstable();
    let mut fetches = Vec::new();
    for path in &paths {
        fetches.push(fetch(table.as_ref(), path));
    }
    stream::iter(fetches).buffered(FETCHES).try_collect().await
}

async fn fetch(store: &dyn ObjectStore, path: &Path) -> Result<Settlement, SinkError> {
    let failed = |error| judged(&error).context(format!("reading {path}"));
    let bytes = store.get(path).await.map_err(failed)?.bytes().await.map_err(failed)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| SinkError::lasting(format!("{path} is damaged: {error}")))
}
