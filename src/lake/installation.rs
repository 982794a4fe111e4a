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

/// The columns kept for a feed, and those they were changed to: a local disk has no conditional update,
/// only a conditional create.
fn columns_name(feed: &str, change: u32) -> Path {
    Path::from(match change {
        0 => format!("{feed}.json"),
        _ => format!("{feed}.{change}.json"),
    })
}

const NAME: &str = "installation.json";

impl LakeStore {
    /// Keeps the columns inferred for a feed; the first writer wins, and its columns are answered.
    pub async fn keep_columns(&self, feed: &str, columns: String) -> Result<String, SinkError> {
        self.create_columns(feed, 0, columns).await
    }

    /// Keeps other columns for a feed if those kept are still `from`; answers what is kept now.
    pub async fn change_columns(
        &self,
        feed: &str,
        from: &str,
        to: String,
    ) -> Result<String, SinkError> {
        match self.last_columns(feed).await? {
            Some((change, kept)) if kept == from => self.create_columns(feed, change + 1, to).await,
            Some((_, kept)) => Ok(kept),
            None => Err(SinkError::passing("the columns were removed meanwhile")),
        }
    }

    pub async fn kept_columns(&self, feed: &str) -> Result<Option<String>, SinkError> {
        Ok(self.last_columns(feed).await?.map(|(_, columns)| columns))
    }

    async fn create_columns(
        &self,
        feed: &str,
        change: u32,
        columns: String,
    ) -> Result<String, SinkError> {
        let store = self.below("_tidegate/columns");
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let name = columns_name(feed, change);
        match store.put_opts(&name, columns.clone().into(), options).await {
            Ok(_) => Ok(columns),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                Ok(self.kept_columns(feed).await?.unwrap_or(columns))
            }
            Err(error) => Err(judged_write(&error)),
        }
    }

    /// The latest of them, with the number of its change.
    async fn last_columns(&self, feed: &str) -> Result<Option<(u32, String)>, SinkError> {
        let store = self.below("_tidegate/columns");
        let mut last = None;
        for change in 0.. {
            let got = match store.get(&columns_name(feed, change)).await {
                Ok(got) => got.bytes().await.map_err(|error| judged(&error))?,
                Err(Error::NotFound { .. }) => break,
                Err(error) => return Err(judged(&error)),
            };
            let text = String::from_utf8(got.into()).map_err(|error| {
                SinkError::lasting(format!(
                    "_tidegate/columns/{} is damaged: {error}",
                    columns_name(feed, change)
                ))
            })?;
            last = Some((change, text));
        }
        Ok(last)
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
