//! Whose lake this is: an id beside the tables, written once.

use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::LakeStore;
use super::log::judged;
use crate::record::SinkError;

#[derive(Serialize, Deserialize)]
struct Installation {
    installation: Uuid,
}

const NAME: &str = "installation.json";

impl LakeStore {
    /// The id of the installation that owns the lake; an unowned lake becomes `mine`'s, and `adopt`
    /// replaces another's.
    pub async fn installation(&self, mine: Uuid, adopt: bool) -> Result<Uuid, SinkError> {
        let store = self.below("_tidegate");
        let body = serde_json::to_vec(&Installation { installation: mine }).map_err(SinkError::lasting)?;
        let mode = if adopt { PutMode::Overwrite } else { PutMode::Create };
        let options = PutOptions { mode, ..PutOptions::default() };
        match store.put_opts(&NAME.into(), body.into(), options).await {
            Ok(_) => return Ok(mine),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
            Err(error) => return Err(judged(&error).context("writing the lake's installation id")),
        }
        let got = store.get(&NAME.into()).await.map_err(|error| judged(&error))?;
        let bytes = got.bytes().await.map_err(|error| judged(&error))?;
        let found: Installation = serde_json::from_slice(&bytes)
            .map_err(|error| SinkError::lasting(format!("_tidegate/{NAME} is damaged: {error}")))?;
        Ok(found.installation)
    }
}
