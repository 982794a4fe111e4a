//! Proof, on the store itself, that a conditional create is honoured. A store or a proxy that
//! ignores the condition lets two writers take one log version, and loses rows without a word.

use futures::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use super::LakeStore;
use super::log::{judged, judged_write};
use crate::record::SinkError;

const WRITERS: usize = 8;

impl LakeStore {
    /// The store's clock: milliseconds since the epoch.
    pub async fn now_ms(&self) -> Result<i64, SinkError> {
        let (store, name) = (self.below("_tidegate"), Path::from("clock"));
        let asked = store.put(&name, PutPayload::from_static(b"what time is it")).await;
        asked.map_err(|error| judged_write(&error).context("asking the store for the time"))?;
        let told = store.head(&name).await;
        let told = told.map_err(|error| judged(&error).context("asking the store for the time"))?;
        Ok(told.last_modified.timestamp_millis())
    }

    /// Creates one object several times, at once and again: exactly one may win.
    pub async fn prove_conditional_create(&self) -> Result<(), SinkError> {
        let store = self.below("_tidegate");
        let path: Path = format!("probe-{}", uuid::Uuid::new_v4().simple()).into();
        let create = || async {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            store.put_opts(&path, PutPayload::from_static(b"probe"), options).await
        };
        let mut outcomes = join_all((0..WRITERS).map(|_| create())).await;
        outcomes.push(create().await);
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let odd = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).find(|error| {
            !matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. })
        });
        drop(store.delete(&path).await);
        match (won, odd) {
            (1, _) => Ok(()),
            (0, Some(error)) => Err(judged_write(error).context("writing to the lake")),
            (won, _) => Err(SinkError::lasting(format!(
                "the lake's store does not honour a conditional create (If-None-Match): {won} of {} \
                 writers of one new object were told that they made it; two nodes would overwrite \
                 each other's commits. Use a store that honours it, and no proxy that strips it",
                WRITERS + 1
            ))),
        }
    }
}
