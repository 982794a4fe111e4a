//! What is marked, kept in the lake: a document for each pass, numbered, of which the last counts. A pass
//! that was overtaken finds its number taken, so that nobody's old marks come in the place of newer ones.

use object_store::{Error, ObjectStoreExt, PutMode, PutOptions};

use super::super::LakeStore;
use super::super::log::{judged, judged_write};
use super::super::numbered::{name, numbers};
use crate::record::SinkError;
use crate::retention::Marked;

#[derive(Debug, Default)]
pub struct Marks {
    number: u64,
    known: Marked,
}

fn folder(feed: &str) -> String {
    format!("_tidegate/vacuum/{feed}")
}

impl Marks {
    pub async fn read(lake: &LakeStore, feed: &str) -> Result<Self, SinkError> {
        let store = lake.below(&folder(feed));
        let Some(number) = numbers(store.as_ref()).await?.last().copied() else {
            return Ok(Self::default());
        };
        let failed = |error: Error| judged(&error).context("reading what is marked");
        let bytes =
            store.get(&name(number)).await.map_err(failed)?.bytes().await.map_err(failed)?;
        // A damaged one is as good as none: everything is marked anew.
        Ok(Self { number, known: serde_json::from_slice(&bytes).unwrap_or_default() })
    }

    pub fn known(&self) -> &Marked {
        &self.known
    }

    /// Fails if somebody else's came first.
    pub async fn write(
        &mut self,
        lake: &LakeStore,
        feed: &str,
        marked: Marked,
    ) -> Result<(), SinkError> {
        if marked == self.known {
            return Ok(());
        }
        let store = lake.below(&folder(feed));
        let body = serde_json::to_vec(&marked).map_err(SinkError::lasting)?;
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match store.put_opts(&name(self.number + 1), body.into(), create).await {
            Ok(_) => {}
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                return Err(SinkError::passing("another pass marked files at the same time"));
            }
            Err(error) => return Err(judged_write(&error).context("writing what is marked")),
        }
        (self.number, self.known) = (self.number + 1, marked);
        for old in numbers(store.as_ref()).await?.into_iter().filter(|old| *old < self.number) {
            match store.delete(&name(old)).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(judged(&error)),
            }
        }
        Ok(())
    }
}
