//! Whose lake this is: an id beside the tables, written once.

use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::LakeStore;
use super::log::{judged, judged_write};
use crate::record::SinkError;

#[derive(Serialize, Deserialize)]
struct Installation {
    installation: Uuid,
}

fn columns_name(feed: &str) -> Path {
    Path::from(format!("{feed}.json"))
}

const NAME: &str = "installation.json";

impl LakeStore {
    /// Keeps the columns inferred for a feed; the first writer wins, and its columns are answered.
    pub async fn keep_columns(&self, feed: &str, columns: String) -> Result<String, SinkError> {
        let store = self.below("_tidegate/columns");
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match store.put_opts(&columns_name(feed), columns.clone().into(), options).await {
            Ok(_) => Ok(columns),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Ok(self.kept_columns(feed).await?.unwrap_or(columns))
            }
            Err(error) => Err(judged_write(&error)),
        }
    }

    pub async fn kept_columns(&self, feed: &str) -> Result<Option<String>, SinkError> {
        let got = match self.below("_tidegate/columns").get(&columns_name(feed)).await {
            Ok(got) => got.bytes().await.map_err(|error| judged(&error))?,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(judged(&error)),
        };
        String::from_utf8(got.into()).map(Some).map_err(|error| {
            SinkError::lasting(format!("_tidegate/columns of feed {feed} is damaged: {error}"))
        })
    }

    /// The id of the installation that owns the lake; an unowned lake becomes `mine`'s, and `adopt`
    /// replaces another's.
    pub async fn installation(&self, mine: Uuid, adopt: bool) -> Result<Uuid, SinkError> {
        let store = self.below("_tidegate");
        let body =
            serde_json::to_vec(&Installation { installation: mine }).map_err(SinkError::lasting)?;
        let mode = if adopt { PutMode::Overwrite } else { PutMode::Create };
        let options = PutOptions { mode, ..PutOptions::default() };
        match store.put_opts(&NAME.into(), body.into(), options).await {
            Ok(_) => return Ok(mine),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
            Err(error) => {
                return Err(judged_write(&error).context("writing the lake's installation id"));
            }
        }
        let found = self.known_installation().await?;
        found.ok_or_else(|| SinkError::passing(format!("_tidegate/{NAME} was removed meanwhile")))
    }

    /// The id of the installation that owns the lake, if one does.
    pub async fn known_installation(&self) -> Result<Option<Uuid>, SinkError> {
        let got = match self.below("_tidegate").get(&NAME.into()).await {
            Ok(got) => got,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(judged(&error).context("reading the lake's installation id")),
        };
        let bytes = got.bytes().await.map_err(|error| judged(&error))?;
        let found: Installation = serde_json::from_slice(&bytes)
            .map_err(|error| SinkError::lasting(format!("_tidegate/{NAME} is damaged: {error}")))?;
        Ok(Some(found.installation))
    }
}
