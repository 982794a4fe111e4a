//! The feeds that there are, as the node knows them now.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tracing::warn;

use super::Catalog;
use crate::config::{ARCHIVED, Feed, FeedFile, Node, load_sound_feeds};
use crate::lake::LakeStore;
use crate::layout::Layout;
use crate::registry::Registry;
use crate::source::Log;
use crate::warehouse::Warehouse;

/// How long the broker's topics count as known; feeds of patterns need them.
const TOPICS_FOR: Duration = Duration::from_secs(5);

/// The feed files, and what makes feeds of them. Cheap to clone.
#[derive(Clone)]
pub struct Known {
    files: Arc<RwLock<Vec<FeedFile>>>,
    catalog: Catalog,
    log: Arc<Log>,
    topics: Arc<Mutex<Option<Topics>>>,
}

/// The broker's topics, and when they were.
type Topics = (Instant, Arc<[String]>);

/// A feed by its name: the file it comes from, and its topic.
#[derive(Debug, Clone)]
pub struct Named {
    pub name: String,
    pub file: FeedFile,
    pub topic: String,
}

impl Named {
    /// Where the lake has its rows, below its root; none if it has none of them.
    pub fn lake_folder(&self) -> Result<Option<String>, String> {
        let folder = |options| Layout::shown_folder(options, &self.name, &self.topic);
        self.file.lake.as_ref().map(folder).transpose()
    }
}

impl Known {
    pub fn new(files: Vec<FeedFile>, catalog: Catalog, log: Arc<Log>) -> Self {
        let files = Arc::new(RwLock::new(files));
        Self { files, catalog, log, topics: Arc::default() }
    }

    /// Such as a command knows them, with the sinks that it has opened.
    pub fn open(
        node: &Node,
        files: Vec<FeedFile>,
        lake: Option<LakeStore>,
        warehouse: Option<Arc<dyn Warehouse>>,
    ) -> Result<Self, String> {
        let log = Log::open(&node.kafka)?;
        let registry = node.schema_registry.as_ref().map(Registry::open).transpose()?;
        let catalog = Catalog::new(node.kafka.clone(), lake, warehouse, registry);
        Ok(Self::new(files, catalog, Arc::new(log)))
    }

    /// The feeds that were, as far as their files are in the archive and can be read.
    pub fn archived(node: &Node, catalog: Catalog, log: Arc<Log>) -> Self {
        let folder = node.feeds.join(ARCHIVED);
        let none = (Vec::new(), Vec::new());
        let (files, faults) = if folder.is_dir() { load_sound_feeds(&folder, node) } else { none };
        for fault in faults {
            warn!(target: "tidegate::catalog", %fault, "an archived feed is not known");
        }
        Self::new(files, catalog, log)
    }

    /// The files are others from now on.
    pub fn replace(&self, files: Vec<FeedFile>) {
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = files;
    }

    /// All feeds, by their names.
    pub async fn all(&self) -> Vec<Named> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner).clone();
        let open = |file: &FeedFile| file.topics.is_some() || file.topic_names().count() > 1;
        let topics = if files.iter().any(open) { self.topics().await } else { Arc::default() };
        let mut all = Vec::new();
        for file in files {
            let named = |topic: &str| {
                let name = file.name_for(topic).ok()?;
                Some(Named { name, file: file.clone(), topic: topic.to_owned() })
            };
            match file.topics {
                None => {
                    // One of its spellings exists.
                    let there = file.topic_names().find(|name| topics.iter().any(|it| it == name));
                    all.extend(there.or(file.topic_names().next()).and_then(named));
                }
                Some(_) => {
                    let of = topics.iter().filter(|topic| file.matches(topic));
                    all.extend(of.filter_map(|topic| named(topic)));
                }
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The feed of a name, if there is one whose columns are known.
    pub async fn find(&self, name: &str) -> Result<Option<(Named, Arc<Feed>)>, String> {
        let Some(named) = self.all().await.into_iter().find(|named| named.name == name) else {
            return Ok(None);
        };
        Ok(self.feed(&named).await?.map(|feed| (named, feed)))
    }

    /// The same of one of [`Known::all`].
    pub async fn feed(&self, named: &Named) -> Result<Option<Arc<Feed>>, String> {
        Ok(self.catalog.known(&named.file, &named.topic).await?.map(Arc::new))
    }

    /// As the broker had them when it last answered.
    async fn topics(&self) -> Arc<[String]> {
        let lock = || self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().clone();
        if let Some((at, topics)) = &known
            && at.elapsed() < TOPICS_FOR
        {
            return topics.clone();
        }
        let log = self.log.clone();
        let asked = tokio::task::spawn_blocking(move || log.topics()).await;
        match asked.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(topics) => {
                let topics: Arc<[String]> = topics.into();
                *lock() = Some((Instant::now(), topics.clone()));
                topics
            }
            Err(error) => {
                warn!(target: "tidegate::catalog", error, "the broker's topics are not known: feeds of patterns are those of before");
                known.map(|(_, topics)| topics).unwrap_or_default()
            }
        }
    }
}
