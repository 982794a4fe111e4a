//! A partition's chain of links: each is named by where the one before it ends, and made only if it
//! is absent. Making it is the commit, and the fence.
//!
//! ```text
//! _commits/<topic>-<partition>/begin.json                            where it begins
//!                              <generation>-<offset>.json            what continues at that offset
//!                              <generation>-<offset>.gap.json        a gap that it waits before
//!                              _last.json                            a late link, to walk on from
//!                              replays/…                             a chain of its own
//! ```
//!
//! Setting progress by hand is a link like any other, so whoever writes meanwhile is refused; what
//! follows it counts as another generation, and offsets that come a second time have other names.
//!
//! Rows that come back from quarantine lie before the progress, so they have a chain beside: it counts
//! them from zero, each link one replay.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::log::{judged, judged_write, stands};
use crate::config::LakeFormat;
use crate::record::{OffsetRange, Progress, SinkError, TopicId, TopicPartition};

pub const COMMITS: &str = "_commits";
pub const FIRST: &str = "begin.json";
const HINT: &str = "_last.json";

/// One commit of one partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    pub kind: Kind,
    pub commit: Uuid,
    /// Of what follows it.
    pub generation: u64,
    pub topic: String,
    pub partition: i32,
    pub topic_id: Option<Uuid>,
    pub from: i64,
    /// Where the next link continues.
    pub to: i64,
    pub format: LakeFormat,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<LinkedFile>,
    /// Why its records are not in the lake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// Which rows came back, and by whose hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<serde_json::Value>,
    /// When it was written, for people.
    pub written_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Begin,
    Rows,
    Gap,
    /// Progress was set by hand.
    Reset,
    /// Rows came back from quarantine.
    Replay,
}

/// A file as the table has it once it is published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkedFile {
    pub path: String,
    pub size: u64,
    pub rows: usize,
    /// The time its rows belong to, and what that goes by; the latter empty in links of the first
    /// release.
    pub time: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// A gap that a partition waits before; it moves no progress.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenGap {
    pub topic_id: Option<Uuid>,
    pub from: i64,
    pub to: i64,
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
struct Hint {
    link: String,
}

impl Link {
    pub fn progress(&self) -> Progress {
        let topic_id = TopicId::from(self.topic_id);
        Progress { next_offset: self.to, topic_id }
    }

    /// What the link that follows it is called.
    pub fn next_name(&self) -> String {
        slot(self.generation, self.to)
    }
}

fn slot(generation: u64, offset: i64) -> String {
    format!("{generation:06}-{offset:020}.json")
}

/// A link that stands in the store.
#[derive(Debug, Clone)]
pub struct Standing {
    pub link: Link,
    name: String,
    /// The store's word for it, to notice that the folder was replaced under us.
    meta: ObjectMeta,
}

/// A partition's chain as far as it is known.
#[derive(Debug)]
pub struct Chain {
    pub source: TopicPartition,
    /// Of its replays, not of its progress.
    pub replays: bool,
    pub tip: Option<Standing>,
    /// The tip's files are where readers look.
    pub published: bool,
    /// Links since the hint was written.
    unhinted: u32,
}

/// What came of making a link.
#[derive(Debug, PartialEq, Eq)]
pub enum Made {
    Ours,
    /// It was there already, and ours: the answer had been lost.
    OursBefore,
    Taken,
    /// The store told nothing, and nothing is there.
    Unknown(String),
}

/// The hint is written every so many links.
const HINT_EVERY: u32 = 16;

impl Chain {
    pub fn new(source: TopicPartition) -> Self {
        Self { source, replays: false, tip: None, published: false, unhinted: 0 }
    }

    pub fn of_replays(source: TopicPartition) -> Self {
        Self { replays: true, ..Self::new(source) }
    }

    /// The same chain, nothing of it known.
    pub fn anew(&self) -> Self {
        Self { replays: self.replays, ..Self::new(self.source.clone()) }
    }

    /// The partition that a folder below `_commits` is of.
    pub fn of_folder(name: &str) -> Option<TopicPartition> {
        let (topic, partition) = name.rsplit_once('-')?;
        Some(TopicPartition::new(topic, partition.parse().ok()?))
    }

    pub fn progress(&self) -> Option<Progress> {
        self.tip.as_ref().map(|tip| tip.link.progress())
    }

    fn path(&self, name: &str) -> Path {
        let folder = format!("{}-{}", self.source.topic, self.source.partition);
        match self.replays {
            false => Path::from_iter([COMMITS, &folder, name]),
            true => Path::from_iter([COMMITS, &folder, "replays", name]),
        }
    }

    /// Walks to the chain's end.
    pub async fn walk(&mut self, store: &dyn ObjectStore) -> Result<(), SinkError> {
        if self.tip.is_some() && !self.stands(store).await? {
            *self = self.anew();
        }
        if self.tip.is_none() {
            self.tip = match self.hinted(store).await? {
                Some(link) => Some(link),
                None => self.read(store, FIRST).await?,
            };
        }
        while let Some(tip) = &self.tip
            && let Some(next) = self.read(store, &tip.link.next_name()).await?
        {
            self.tip = Some(next);
            self.published = false;
        }
        Ok(())
    }

    /// The link after the last one that is known, from the very first on.
    pub async fn follower(&self, store: &dyn ObjectStore) -> Result<Option<Standing>, SinkError> {
        let name = self.tip.as_ref().map_or_else(|| FIRST.to_owned(), |tip| tip.link.next_name());
        self.read(store, &name).await
    }

    /// Whether the last link that is known is there still, and the same.
    pub async fn stands(&self, store: &dyn ObjectStore) -> Result<bool, SinkError> {
        let Some(tip) = &self.tip else { return Ok(false) };
        stands(store, &self.path(&tip.name), &tip.meta).await
    }

    /// The link that the hint names. It may be anything but wrong: late links only lie ahead.
    async fn hinted(&self, store: &dyn ObjectStore) -> Result<Option<Standing>, SinkError> {
        let Some((bytes, _)) = get(store, &self.path(HINT)).await? else { return Ok(None) };
        match serde_json::from_slice::<Hint>(&bytes) {
            Ok(hint) => self.read(store, &hint.link).await,
            Err(_) => Ok(None),
        }
    }

    async fn read(
        &self,
        store: &dyn ObjectStore,
        name: &str,
    ) -> Result<Option<Standing>, SinkError> {
        let path = self.path(name);
        let Some((bytes, meta)) = get(store, &path).await? else { return Ok(None) };
        let link = serde_json::from_slice(&bytes)
            .map_err(|error| SinkError::lasting(format!("{path} is damaged: {error}")))?;
        Ok(Some(Standing { link, name: name.to_owned(), meta }))
    }

    /// The link that continued at this offset, in the generation that goes on.
    pub async fn continued_at(
        &self,
        store: &dyn ObjectStore,
        offset: i64,
    ) -> Result<Option<Link>, SinkError> {
        let Some(tip) = &self.tip else { return Ok(None) };
        let name = slot(tip.link.generation, offset);
        Ok(self.read(store, &name).await?.map(|standing| standing.link))
    }

    /// Makes the next link, and goes on to it if it is ours.
    pub async fn append(
        &mut self,
        store: &dyn ObjectStore,
        link: &Link,
    ) -> Result<Made, SinkError> {
        let name = self.tip.as_ref().map_or_else(|| FIRST.to_owned(), |tip| tip.link.next_name());
        let body = serde_json::to_vec(link).map_err(SinkError::lasting)?;
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let made = store.put_opts(&self.path(&name), body.into(), create).await;
        let error = made.err();
        let there = self.read(store, &name).await?;
        let ours = there.filter(|there| there.link.commit == link.commit);
        Ok(match (error, ours) {
            (error, Some(standing)) => {
                self.tip = Some(standing);
                self.published = false;
                if error.is_some() { Made::OursBefore } else { Made::Ours }
            }
            (Some(Error::AlreadyExists { .. } | Error::Precondition { .. }) | None, None) => {
                Made::Taken
            }
            (Some(error), None) => Made::Unknown(error.to_string()),
        })
    }

    /// Says once that the partition waits before a gap.
    pub async fn say_gap(&self, store: &dyn ObjectStore, gap: &OpenGap) -> Result<(), SinkError> {
        let Some(tip) = &self.tip else { return Ok(()) };
        let name = slot(tip.link.generation, gap.from).replace(".json", ".gap.json");
        let body = serde_json::to_vec(gap).map_err(SinkError::lasting)?;
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match store.put_opts(&self.path(&name), body.into(), create).await {
            Ok(_) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
            Err(error) => Err(judged_write(&error)),
        }
    }

    /// Writes the hint now and then. A failure costs only a longer walk.
    pub async fn hint(&mut self, store: &dyn ObjectStore) {
        self.unhinted += 1;
        if self.unhinted < HINT_EVERY {
            return;
        }
        self.unhinted = 0;
        let Some(tip) = &self.tip else { return };
        let hint = Hint { link: tip.name.clone() };
        if let Ok(body) = serde_json::to_vec(&hint)
            && let Err(error) = store.put(&self.path(HINT), body.into()).await
        {
            tracing::debug!(target: "tidegate::lake", source = %self.source, %error, "no hint was written");
        }
    }

    /// The link that would carry the chain on from `range.start`, with nothing in it yet.
    pub fn link(&self, kind: Kind, commit: Uuid, range: OffsetRange, topic_id: TopicId) -> Link {
        Link {
            kind,
            commit,
            generation: self.tip.as_ref().map_or(0, |tip| tip.link.generation),
            topic: self.source.topic.to_string(),
            partition: self.source.partition,
            topic_id: topic_id.get(),
            from: range.start,
            to: range.end,
            format: LakeFormat::default(),
            files: Vec::new(),
            gap: None,
            replay: None,
            written_ms: chrono::Utc::now().timestamp_millis(),
        }
    }
}

async fn get(
    store: &dyn ObjectStore,
    path: &Path,
) -> Result<Option<(Bytes, ObjectMeta)>, SinkError> {
    let failed = |error: Error| judged(&error).context(format!("reading {path}"));
    match store.get(path).await {
        Ok(got) => {
            let meta = got.meta.clone();
            Ok(Some((got.bytes().await.map_err(failed)?, meta)))
        }
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}
