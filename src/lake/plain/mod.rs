//! Plain tables: files that are read by looking into the folder, exactly once all the same.
//!
//! A file is staged whole under a name that no reader looks for. Then a link in its partition's
//! [`chain`] names it: that is the commit. Then it is published: moved to where readers look. What was
//! committed and not published, because its node died in between, is published by whoever comes next,
//! before anything else. So a reader of the folder sees each row at most once, and no row that lost
//! the race; a link counts only if the chain leads to it.
//!
//! A link is of one partition, and so are the files it names.

mod chain;
mod history;
mod reading;
mod retired;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use tokio::sync::Mutex;
use tracing::{info, warn};
use uuid::Uuid;

use self::chain::{COMMITS, Chain, Kind, Link, LinkedFile, Made, OpenGap};
use super::delta::{Quarantine, now_ms, refuse_other_format};
use super::encode::{Encoded, encode};
use super::log::{judged, judged_write};
use super::retry::{self, ATTEMPTS};
use super::{LakeStore, LakeTable, Staged, StagedFile, StagedPart, Staging, join, staging};
use crate::config::{Feed, LakeFormat};
use crate::layout::{First, Layout};
use crate::record::{
    GapReason, OffsetRange, Part, Progress, SinkError, TopicId, TopicPartition, Verdict,
};
use crate::telemetry::fault;

pub use chain::LinkedFile as PlainFile;
pub use history::{End, History, Run};
pub use reading::PlainReading;
pub use retired::{Retired, RetiredFile, Retirements};

/// Chains that are walked or carried on at the same time, and files of one that are moved.
const AT_ONCE: usize = 8;

/// A chain's partition, and whether it is of replays.
type ChainName = (TopicPartition, bool);

/// One feed's folder of plain files.
pub struct PlainTable {
    feed: Arc<Feed>,
    format: LakeFormat,
    layout: Arc<Layout>,
    store: Arc<dyn ObjectStore>,
    chains: std::sync::Mutex<HashMap<ChainName, Arc<Mutex<Chain>>>>,
    quarantine: Quarantine,
}

impl PlainTable {
    pub async fn open(store: &LakeStore, feed: Arc<Feed>) -> Result<Self, SinkError> {
        let layout = Layout::of(&feed).map_err(SinkError::lasting)?;
        let format = feed.lake.as_ref().map(|options| options.format).unwrap_or_default();
        refuse_other_format(store, layout.folder(), "_delta_log", format.ending()).await?;
        let quarantine = Quarantine::open(store, &feed.name).await?;
        let below = store.below(layout.folder());
        let (layout, chains) = (Arc::new(layout), std::sync::Mutex::default());
        Ok(Self { feed, format, layout, store: below, chains, quarantine })
    }

    /// Progress recorded for the table in `folder`, if there is one: for reading only.
    pub async fn read_progress(
        store: &LakeStore,
        folder: &str,
    ) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        let store = store.below(folder);
        let mut progress = HashMap::new();
        for source in sources(store.as_ref()).await? {
            let mut chain = Chain::new(source.clone());
            chain.walk(store.as_ref()).await?;
            progress.extend(chain.progress().map(|found| (source, found)));
        }
        Ok(progress)
    }

    fn chain(&self, source: &TopicPartition) -> Arc<Mutex<Chain>> {
        self.known(Chain::new(source.clone()))
    }

    fn chain_of_replays(&self, source: &TopicPartition) -> Arc<Mutex<Chain>> {
        self.known(Chain::of_replays(source.clone()))
    }

    /// The chain as far as it is known, else this one.
    fn known(&self, new: Chain) -> Arc<Mutex<Chain>> {
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (new.source.clone(), new.replays);
        chains.entry(name).or_insert_with(|| Arc::new(Mutex::new(new))).clone()
    }

    /// Walks to the chain's end and finishes what was committed there and not published.
    async fn refresh(&self, chain: &mut Chain) -> Result<(), SinkError> {
        chain.walk(self.store.as_ref()).await?;
        let Some(tip) = &chain.tip else { return Ok(()) };
        if tip.link.format != self.format {
            return Err(SinkError::lasting(format!(
                "the lake table of feed {} holds {} files, and a table's format is never changed: \
                 give `lake.layout` another folder",
                self.feed.name,
                tip.link.format.ending()
            )));
        }
        self.publish(chain).await
    }

    /// Moves the files of the chain's last link to where readers look.
    async fn publish(&self, chain: &mut Chain) -> Result<(), SinkError> {
        let Some(tip) = chain.tip.as_ref().filter(|_| !chain.published) else { return Ok(()) };
        fault::point("lake.before_publish");
        let mut left: Vec<&str> = tip.link.files.iter().map(|file| file.path.as_str()).collect();
        left = self.move_files(&left).await?;
        if !left.is_empty() {
            // Somebody has moved them already, unless the whole folder is away.
            if !chain.stands(self.store.as_ref()).await? {
                return Err(SinkError::passing("publishing: the commit itself is not there"));
            }
            self.move_files(&left).await?;
        }
        chain.published = true;
        Ok(())
    }

    /// Moves staged files; answers those that were not staged.
    async fn move_files<'a>(&self, paths: &[&'a str]) -> Result<Vec<&'a str>, SinkError> {
        let mut moves = Vec::new();
        for path in paths {
            moves.push(self.publish_file(path));
        }
        let moved: Vec<bool> = stream::iter(moves).buffered(AT_ONCE).try_collect().await?;
        Ok(paths.iter().zip(moved).filter(|(_, moved)| !moved).map(|(path, _)| *path).collect())
    }

    /// Answers whether it was staged until now.
    async fn publish_file(&self, path: &str) -> Result<bool, SinkError> {
        match self.store.rename(&staged_path(path), &location(path)).await {
            Ok(()) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(judged(&error).context(format!("publishing {path}"))),
        }
    }

    /// Commits one part of a staged set, if its partition stands exactly where it begins.
    async fn commit_part(&self, set: &Staged, at: usize) -> Result<Verdict, SinkError> {
        const DURABLE: Verdict = Verdict::Durable { quarantined: 0 };
        let part = &set.parts[at];
        let range = part.range;
        let chain = self.chain(&part.source);
        let mut chain = chain.lock().await;
        for attempt in 0..ATTEMPTS {
            self.refresh(&mut chain).await?;
            let Some(stands) = chain.progress() else {
                return Ok(Verdict::Fenced { found: None });
            };
            if stands.next_offset != range.start || !stands.topic_id.agrees(part.topic_id) {
                let there = chain.continued_at(self.store.as_ref(), range.start).await?;
                if there.is_some_and(|link| link.commit == set.id) {
                    self.told_late(&part.source);
                    return Ok(DURABLE);
                }
                return Ok(Verdict::Fenced { found: Some(stands.next_offset) });
            }
            if range.start == range.end {
                return Ok(DURABLE);
            }
            let kind = if set.gap.is_some() { Kind::Gap } else { Kind::Rows };
            let mut link = chain.link(kind, set.id, range, part.topic_id);
            link.files = files_of(set, at);
            link.gap = set.gap.map(|reason| reason.to_string());
            fault::point("lake.before_commit");
            if self.append(&mut chain, link, attempt).await? {
                return Ok(DURABLE);
            }
        }
        Err(retry::lost())
    }

    /// Commits parts of one partition in order: each of a set, by its index.
    async fn commit_parts(
        &self,
        sets: &[Staged],
        parts: Vec<(usize, usize)>,
    ) -> Result<Vec<(usize, usize, Verdict)>, SinkError> {
        let mut verdicts = Vec::with_capacity(parts.len());
        for (set, at) in parts {
            verdicts.push((set, at, self.commit_part(&sets[set], at).await?));
        }
        Ok(verdicts)
    }

    /// Makes a link and publishes what it names. Answers false if another one is there by now.
    async fn append(
        &self,
        chain: &mut Chain,
        mut link: Link,
        attempt: u32,
    ) -> Result<bool, SinkError> {
        link.format = self.format;
        match chain.append(self.store.as_ref(), &link).await? {
            Made::Ours => {}
            Made::OursBefore => self.told_late(&chain.source),
            Made::Taken => {
                retry::pause(attempt).await;
                return Ok(false);
            }
            Made::Unknown(error) => {
                warn!(target: "tidegate::lake", source = %chain.source, %error, "a commit's outcome is unknown: reading the chain");
                if attempt > 0 {
                    // The store itself is in trouble: whoever waits longer is to decide that.
                    return Err(SinkError::passing(format!("writing a commit: {error}")));
                }
                return Ok(false);
            }
        }
        self.publish(chain).await?;
        chain.hint(self.store.as_ref()).await;
        Ok(true)
    }

    fn told_late(&self, source: &TopicPartition) {
        info!(target: "tidegate::lake", feed = %self.feed.name, %source, "a commit whose answer was lost had landed");
    }

    async fn put(&self, encoded: Encoded, part: usize, of: i32) -> Result<StagedFile, SinkError> {
        let first = First { partition: of, offset: encoded.first };
        let path = self.layout.file(encoded.slot, first, Uuid::new_v4());
        self.put_at(path, encoded, part).await
    }

    async fn put_at(
        &self,
        path: String,
        encoded: Encoded,
        part: usize,
    ) -> Result<StagedFile, SinkError> {
        let size = encoded.bytes.len() as u64;
        self.store
            .put(&staged_path(&path), encoded.bytes.into())
            .await
            .map_err(|error| judged_write(&error).context(format!("staging {path}")))?;
        Ok(StagedFile {
            path,
            size,
            rows: encoded.rows,
            partition_values: Vec::new(),
            stats: encoded.stats,
            time: encoded.slot.label(self.layout.precision()),
            by: self.layout.by().to_owned(),
            part: Some(part),
            topic: TopicId::UNKNOWN,
            written_ms: None,
        })
    }

    async fn progress_of(
        &self,
        source: TopicPartition,
    ) -> Result<Option<(TopicPartition, Progress)>, SinkError> {
        // Also what was replayed and not published.
        self.refresh(&mut *self.chain_of_replays(&source).lock().await).await?;
        let chain = self.chain(&source);
        let mut chain = chain.lock().await;
        self.refresh(&mut chain).await?;
        Ok(chain.progress().map(|found| (source, found)))
    }

    async fn begin_one(&self, source: &TopicPartition, start: Progress) -> Result<(), SinkError> {
        let chain = self.chain(source);
        let mut chain = chain.lock().await;
        for attempt in 0..ATTEMPTS {
            self.refresh(&mut chain).await?;
            if chain.tip.is_some() {
                return Ok(());
            }
            let range = OffsetRange::new(start.next_offset, start.next_offset);
            let link = chain.link(Kind::Begin, Uuid::new_v4(), range, start.topic_id);
            if self.append(&mut chain, link, attempt).await? {
                return Ok(());
            }
        }
        Err(retry::lost())
    }
}

#[async_trait]
impl LakeTable for PlainTable {
    async fn progress(&self) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        let sources = sources(self.store.as_ref()).await?;
        let mut walks = Vec::new();
        for source in sources {
            walks.push(self.progress_of(source));
        }
        let found: Vec<_> = stream::iter(walks).buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn begin(&self, starts: &[(TopicPartition, Progress)]) -> Result<(), SinkError> {
        let mut begins = Vec::new();
        for (source, start) in starts {
            begins.push(self.begin_one(source, *start));
        }
        stream::iter(begins).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn stage(&self, parts: Vec<Part>) -> Result<Staged, SinkError> {
        let staged_parts: Vec<StagedPart> = parts.iter().map(StagedPart::of).collect();
        let (feed, layout, now) = (self.feed.clone(), self.layout.clone(), now_ms());
        let encoding = move |take: &mut dyn FnMut((usize, Encoded)) -> bool| {
            // No file holds rows of two parts.
            for (index, part) in parts.iter().enumerate() {
                let mut wanted = true;
                encode(&feed, &layout, now, std::slice::from_ref(part), |file| {
                    wanted = take((index, file));
                    wanted
                })?;
                if !wanted {
                    break;
                }
            }
            Ok(())
        };
        let put = |(part, file): (usize, Encoded)| {
            self.put(file, part, staged_parts[part].source.partition)
        };
        let staged = Some(Staging::now());
        let files = staging::stage(encoding, put).await?;
        Ok(Staged { id: Uuid::new_v4(), files, parts: staged_parts, gap: None, staged })
    }

    /// Parts stand and fall alone: no file holds rows of two.
    async fn commit(&self, sets: &[Staged]) -> Result<Vec<Vec<Verdict>>, SinkError> {
        self.quarantine.keep(sets).await?;
        let mut by_source: BTreeMap<&TopicPartition, Vec<(usize, usize)>> = BTreeMap::new();
        for (set, staged) in sets.iter().enumerate() {
            for (at, part) in staged.parts.iter().enumerate() {
                by_source.entry(&part.source).or_default().push((set, at));
            }
        }
        let mut chains = Vec::new();
        for parts in by_source.into_values() {
            chains.push(self.commit_parts(sets, parts));
        }
        // All to their ends, whatever becomes of one.
        let outcomes: Vec<_> = stream::iter(chains).buffer_unordered(AT_ONCE).collect().await;
        let of_set = |set: &Staged| vec![Verdict::Fenced { found: None }; set.parts.len()];
        let mut answers: Vec<Vec<Verdict>> = sets.iter().map(of_set).collect();
        for outcome in outcomes {
            for (set, at, verdict) in outcome? {
                answers[set][at] = verdict;
            }
        }
        Ok(answers)
    }

    async fn open_gap(
        &self,
        source: &TopicPartition,
        topic_id: TopicId,
        gap: OffsetRange,
    ) -> Result<(), SinkError> {
        let chain = self.chain(source);
        let mut chain = chain.lock().await;
        self.refresh(&mut chain).await?;
        if chain.progress().is_none_or(|stands| stands.next_offset != gap.start) {
            return Ok(());
        }
        let reason = GapReason::Expired.to_string();
        let topic_id = topic_id.get();
        let said = OpenGap { topic_id, from: gap.start, to: gap.end, reason };
        chain.say_gap(self.store.as_ref(), &said).await
    }

    async fn record_gap(
        &self,
        source: &TopicPartition,
        topic_id: TopicId,
        gap: OffsetRange,
        reason: GapReason,
    ) -> Result<Verdict, SinkError> {
        let part = StagedPart { source: source.clone(), topic_id, range: gap, rejects: Vec::new() };
        self.commit_part(&Staged::gap(part, reason), 0).await
    }

    async fn replays(&self, source: &TopicPartition) -> Result<i64, SinkError> {
        let chain = self.chain_of_replays(source);
        let mut chain = chain.lock().await;
        self.refresh(&mut chain).await?;
        Ok(chain.tip.as_ref().map_or(0, |tip| tip.link.to))
    }

    async fn replay(&self, part: Part, after: i64, by: &str) -> Result<bool, SinkError> {
        let (source, topic_id) = (part.source.clone(), part.topic_id);
        let said = super::replayed(&part, by);
        let (feed, layout, now) = (self.feed.clone(), self.layout.clone(), now_ms());
        let files = staging::stage(
            move |take| encode(&feed, &layout, now, &[part], take),
            |file| {
                let first = First { partition: source.partition, offset: file.first };
                let path = self.layout.replayed_file(file.slot, first, Uuid::new_v4());
                self.put_at(path, file, 0)
            },
        )
        .await?;
        let staged = Staged { id: Uuid::new_v4(), files, ..Staged::default() };
        let chain = self.chain_of_replays(&source);
        let mut chain = chain.lock().await;
        for attempt in 0..ATTEMPTS {
            self.refresh(&mut chain).await?;
            let tip = chain.tip.as_ref();
            if tip.is_some_and(|tip| tip.link.commit == staged.id) {
                self.told_late(&source);
                return Ok(true);
            }
            if tip.map_or(0, |tip| tip.link.to) != after {
                return Ok(false);
            }
            let range = OffsetRange::new(after, after + 1);
            let mut link = chain.link(Kind::Replay, staged.id, range, topic_id);
            link.files = files_of(&staged, 0);
            link.replay = Some(said.clone());
            if self.append(&mut chain, link, attempt).await? {
                return Ok(true);
            }
        }
        Err(retry::lost())
    }

    async fn reset(&self, source: &TopicPartition, progress: Progress) -> Result<(), SinkError> {
        self.begin_one(source, progress).await?;
        let chain = self.chain(source);
        let mut chain = chain.lock().await;
        for attempt in 0..ATTEMPTS {
            self.refresh(&mut chain).await?;
            let Some(stands) = chain.progress() else { continue };
            let range = OffsetRange { start: stands.next_offset, end: progress.next_offset };
            let mut link = chain.link(Kind::Reset, Uuid::new_v4(), range, progress.topic_id);
            link.generation += 1;
            if self.append(&mut chain, link, attempt).await? {
                return Ok(());
            }
        }
        Err(retry::lost())
    }
}

/// The partitions that have a chain.
async fn sources(store: &dyn ObjectStore) -> Result<Vec<TopicPartition>, SinkError> {
    let listed = store
        .list_with_delimiter(Some(&Path::from(COMMITS)))
        .await
        .map_err(|error| judged(&error).context("listing the table's commits"))?;
    let folders = listed.common_prefixes.iter().filter_map(Path::filename);
    Ok(folders.filter_map(Chain::of_folder).collect())
}

fn files_of(set: &Staged, part: usize) -> Vec<LinkedFile> {
    let own = set.files.iter().filter(|file| file.part == Some(part));
    own.map(|file| LinkedFile {
        path: file.path.clone(),
        size: file.size,
        rows: file.rows,
        time: file.time.clone(),
        by: file.by.clone(),
    })
    .collect()
}

fn location(path: &str) -> Path {
    join(&Path::default(), path)
}

/// Where a file waits for its commit: neither the folder nor the ending is one that readers take.
fn staged_path(path: &str) -> Path {
    let name = path.rsplit('/').next().unwrap_or(path);
    Path::from_iter(["_staged".to_owned(), format!("{name}.part")])
}
