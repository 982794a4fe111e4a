//! What a plain table's folder shows, link by link, for those who only want to know.

use std::collections::{BTreeMap, HashMap, HashSet};

use object_store::{Error, ObjectStore, ObjectStoreExt};

use super::super::log::judged;
use super::super::metadata::{Overview, Totals};
use super::chain::{Chain, Link};
use super::retired::Retirements;
use super::{location, sources};
use crate::record::{SinkError, TopicPartition};

/// All chains, as far as they were read.
#[derive(Default)]
pub struct PlainReading {
    chains: HashMap<TopicPartition, [ChainReading; 2]>,
    retirements: Retirements,
}

struct ChainReading {
    chain: Chain,
    folders: BTreeMap<String, Totals>,
    created_ms: Option<i64>,
}

impl PlainReading {
    pub async fn read(&mut self, store: &dyn ObjectStore) -> Result<Option<Overview>, SinkError> {
        let mut overview = Overview::default();
        // Before the chains: a file that is retired has its link.
        self.retirements = Retirements::read(store, &self.retirements).await?;
        let retired = self.retirements.paths(self.retirements.count());
        for source in sources(store).await? {
            let both = self.chains.entry(source.clone()).or_insert_with(|| {
                [Chain::new(source.clone()), Chain::of_replays(source.clone())]
                    .map(ChainReading::new)
            });
            for (reading, is_progress) in both.iter_mut().zip([true, false]) {
                reading.advance(store, &retired).await?;
                let Some(tip) = &reading.chain.tip else { continue };
                if is_progress {
                    overview.offsets.insert(source.to_string(), tip.link.to);
                }
                overview.created_ms =
                    [overview.created_ms, reading.created_ms].into_iter().flatten().min();
                overview.last_ms = overview.last_ms.max(Some(tip.link.written_ms));
                for (folder, totals) in &reading.folders {
                    overview.folders.entry(folder.clone()).or_default().add(*totals);
                }
            }
        }
        for file in self.retirements.files() {
            let totals = Totals { files: 1, rows: file.rows, bytes: file.size };
            overview.take_away(&file.path, totals);
        }
        Ok((!overview.offsets.is_empty()).then_some(overview))
    }
}

impl ChainReading {
    fn new(chain: Chain) -> Self {
        Self { chain, folders: BTreeMap::new(), created_ms: None }
    }

    async fn advance(
        &mut self,
        store: &dyn ObjectStore,
        retired: &HashSet<&str>,
    ) -> Result<(), SinkError> {
        if self.chain.tip.is_some() && !self.chain.stands(store).await? {
            // The folder was replaced under us.
            *self = Self::new(self.chain.anew());
        }
        let mut next = self.chain.follower(store).await?;
        while let Some(standing) = next {
            let before = self.chain.tip.replace(standing);
            next = self.chain.follower(store).await?;
            let Some(tip) = &self.chain.tip else { return Ok(()) };
            // Every link is made after the files of the one before it are in place; those of the last
            // may still be on their way.
            if next.is_none() && !is_published(store, &tip.link, retired).await? {
                self.chain.tip = before;
                return Ok(());
            }
            let mut folders = Overview::default();
            for file in &tip.link.files {
                let totals = Totals { files: 1, rows: file.rows as u64, bytes: file.size };
                folders.add(&file.path, totals);
            }
            self.created_ms = self.created_ms.or(Some(tip.link.written_ms));
            for (folder, totals) in folders.folders {
                self.folders.entry(folder).or_default().add(totals);
            }
        }
        Ok(())
    }
}

/// Whether a link's files are where readers look.
pub async fn is_published(
    store: &dyn ObjectStore,
    link: &Link,
    retired: &HashSet<&str>,
) -> Result<bool, SinkError> {
    // One that was and is no more was where they look.
    for file in link.files.iter().filter(|file| !retired.contains(file.path.as_str())) {
        match store.head(&location(&file.path)).await {
            Ok(_) => {}
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(judged(&error)),
        }
    }
    Ok(true)
}
