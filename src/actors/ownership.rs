//! Taking a partition: its claim and watermark in each sink, compared with what the log holds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tracing::{info, warn};

use super::installation::Installation;
use crate::catalog::Catalog;
use crate::config::{Feed, Start, Storage};
use crate::flow::start::{LogBounds, Verdict as Judgement, begin, judge};
use crate::lake::{self, Followed, Follower, LakeStore, LakeTable, Metadata};
use crate::record::{
    Blame, Claim, GapReason, OffsetRange, Progress, SinkError, SinkKind, TopicPartition, Verdict,
};
use crate::source::Log;
use crate::telemetry::trace;
use crate::warehouse::{ClaimRequest, Warehouse};

/// A sink that has not answered by then counts as detached: the others begin without it.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

type FeedSink = (Arc<str>, SinkKind);

/// A lake table with the feed it was opened for: another of its name may follow it.
type Opened = (Arc<Feed>, Arc<dyn LakeTable>);

/// The outside, as the actors reach it.
pub struct Edges {
    pub warehouse: Option<Arc<dyn Warehouse>>,
    pub lake: Option<LakeStore>,
    pub log: Arc<Log>,
    pub catalog: Catalog,
    installation: Installation,
    tables: std::sync::Mutex<HashMap<Arc<str>, Opened>>,
    /// What writes the feeds' `_metadata.json`, where they ask for it.
    followers: std::sync::Mutex<HashMap<Arc<str>, Arc<Follower>>>,
    opening: Mutex<()>,
    /// One claim at a time for a feed and sink.
    claims: std::sync::Mutex<HashMap<FeedSink, Arc<Mutex<()>>>>,
    /// The lake's store was seen to honour a conditional create.
    proved: AtomicBool,
    prepared: Mutex<HashMap<Arc<str>, Arc<Feed>>>,
}

/// What one sink answered for one partition.
#[derive(Debug, Clone)]
pub enum Lane {
    Granted {
        claim: Claim,
        watermark: i64,
    },
    /// The sink cannot take the partition now; it is detached and tried again.
    Detached(String),
    /// The partition must not go on before someone settles it.
    Park(String),
}

/// A partition of a feed, with every sink's answer.
#[derive(Debug, Clone)]
pub struct Established {
    pub source: TopicPartition,
    pub bounds: LogBounds,
    pub lanes: Vec<(SinkKind, Lane)>,
}

impl Established {
    /// Why the partition must be parked, if it must.
    pub fn park(&self) -> Option<&str> {
        self.lanes.iter().find_map(|(_, lane)| match lane {
            Lane::Park(reason) => Some(reason.as_str()),
            _ => None,
        })
    }

    /// The lowest watermark of the sinks that answered.
    pub fn offset(&self) -> Option<i64> {
        let granted = self.lanes.iter().filter_map(|(_, lane)| match lane {
            Lane::Granted { watermark, .. } => Some(*watermark),
            _ => None,
        });
        granted.min()
    }
}

impl Edges {
    pub fn new(
        warehouse: Option<Arc<dyn Warehouse>>,
        lake: Option<LakeStore>,
        log: Arc<Log>,
        catalog: Catalog,
        installation: Installation,
    ) -> Self {
        Self {
            warehouse,
            lake,
            log,
            catalog,
            installation,
            tables: std::sync::Mutex::default(),
            followers: std::sync::Mutex::default(),
            opening: Mutex::default(),
            claims: std::sync::Mutex::default(),
            proved: AtomicBool::new(false),
            prepared: Mutex::default(),
        }
    }

    pub fn sinks(&self, feed: &Feed) -> Vec<SinkKind> {
        SinkKind::ALL
            .into_iter()
            .filter(|sink| match sink {
                SinkKind::Lake => feed.lake.is_some() && self.lake.is_some(),
                SinkKind::Warehouse => feed.warehouse.is_some() && self.warehouse.is_some(),
            })
            .collect()
    }

    /// The feed's lake table, if it has been opened.
    pub fn opened_table(&self, feed: &Feed) -> Option<Arc<dyn LakeTable>> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = tables.get(&feed.name).filter(|(of, _)| **of == *feed);
        opened.map(|(_, table)| table.clone())
    }

    /// The feed's lake table, opened once.
    pub async fn table(&self, feed: &Arc<Feed>) -> Result<Arc<dyn LakeTable>, SinkError> {
        let _one_at_a_time = self.opening.lock().await;
        if let Some(table) = self.opened_table(feed) {
            return Ok(table);
        }
        let store =
            self.lake.as_ref().ok_or_else(|| SinkError::lasting("no lake is configured"))?;
        self.check_installation(SinkKind::Lake).await?;
        if !self.proved.load(Ordering::Relaxed) {
            store.prove_conditional_create().await?;
            self.proved.store(true, Ordering::Relaxed);
        }
        let mut table = lake::open(store, feed.clone()).await?;
        if let Some(metadata) = Metadata::of(store, feed)? {
            let follower = Follower::start(metadata);
            let shows_snapshots =
                feed.lake.as_ref().is_some_and(|options| options.storage != Storage::Append);
            if !shows_snapshots {
                table = Arc::new(Followed::new(table, follower.clone()));
            }
            let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
            followers.insert(feed.name.clone(), follower);
        }
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.insert(feed.name.clone(), (feed.clone(), table.clone()));
        Ok(table)
    }

    /// A snapshot of the feed was taken.
    pub fn shows_another(&self, feed: &str) {
        let followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(follower) = followers.get(feed) {
            follower.committed();
        }
    }

    /// Lets those who follow the tables write their last word.
    pub async fn finish(&self) {
        let followers =
            std::mem::take(&mut *self.followers.lock().unwrap_or_else(PoisonError::into_inner));
        futures::future::join_all(followers.values().map(|follower| follower.finish())).await;
    }

    /// Whether the sink belongs to the same installation as the other.
    pub async fn check_installation(&self, sink: SinkKind) -> Result<(), SinkError> {
        self.installation.check(sink, self.warehouse.as_deref(), self.lake.as_ref()).await
    }

    async fn warehouse_for(&self, feed: &Arc<Feed>) -> Result<Arc<dyn Warehouse>, SinkError> {
        let warehouse = self
            .warehouse
            .clone()
            .ok_or_else(|| SinkError::lasting("no warehouse is configured"))?;
        if self.prepared.lock().await.get(&feed.name) != Some(feed) {
            // A node that began while it was away has not looked. Somebody may be about to migrate.
            let checked = warehouse.check_schema().await;
            checked.map_err(|error| SinkError { blame: Blame::Passing, ..error })?;
        }
        self.check_installation(SinkKind::Warehouse).await?;
        let mut prepared = self.prepared.lock().await;
        if prepared.get(&feed.name) != Some(feed) {
            warehouse.prepare(feed).await?;
            prepared.insert(feed.name.clone(), feed.clone());
        }
        Ok(warehouse)
    }

    /// Fails if the broker has `other` beside `topic`, where a feed means one of both.
    pub async fn expect_no_topic(&self, other: &str, topic: &str) -> Result<(), String> {
        let (log, name) = (self.log.clone(), other.to_owned());
        let asked = tokio::task::spawn_blocking(move || log.partitions(&name));
        match asked.await.map_err(|error| error.to_string())?? {
            None => Ok(()),
            Some(_) => Err(format!(
                "the broker has both `{topic}` and `{other}`, and the feed file does not say which \
                 is meant: write it with `feed`, `type` and `topic`, or delete the other topic"
            )),
        }
    }

    /// Asks the broker what it holds of the partitions of one topic.
    pub async fn bounds(
        &self,
        sources: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, LogBounds>, String> {
        let (log, sources) = (self.log.clone(), sources.to_vec());
        let asked = tokio::task::spawn_blocking(move || {
            let mut ids = HashMap::new();
            let mut asked = Vec::with_capacity(sources.len());
            for source in sources {
                let id = match ids.get(&source.topic) {
                    Some(id) => *id,
                    None => {
                        let id = log.topic_id(&source.topic)?;
                        ids.insert(source.topic.clone(), id);
                        id
                    }
                };
                asked.push((source, id));
            }
            let found = log.bounds_of(&asked)?;
            let bounds = asked.into_iter().map(|(source, _)| source).zip(found).collect();
            Ok(bounds)
        });
        asked.await.map_err(|error| error.to_string())?
    }

    /// Where the log of every partition that holds records ends now.
    pub async fn log_ends(&self, topic: &Arc<str>) -> Result<HashMap<TopicPartition, i64>, String> {
        let (log, name) = (self.log.clone(), topic.clone());
        let asked = tokio::task::spawn_blocking(move || log.partitions(&name));
        let count = asked.await.map_err(|error| error.to_string())??.unwrap_or(0);
        let sources: Vec<TopicPartition> =
            (0..count).map(|partition| TopicPartition::new(topic.clone(), partition)).collect();
        let bounds = self.bounds(&sources).await?;
        let filled = bounds.into_iter().filter(|(_, log)| log.high > log.low);
        Ok(filled.map(|(source, log)| (source, log.high)).collect())
    }

    /// Claims partitions of one feed in all its sinks at once.
    pub async fn establish(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        sources: &[(TopicPartition, LogBounds)],
    ) -> Vec<Established> {
        let sinks = self.sinks(feed);
        let claims = sinks.iter().map(|sink| self.claim(feed, *sink, sources));
        let answers = futures::future::join_all(claims).await;
        sources
            .iter()
            .map(|(source, bounds)| Established {
                source: source.clone(),
                bounds: *bounds,
                lanes: sinks
                    .iter()
                    .zip(&answers)
                    .map(|(sink, answer)| {
                        let lane = answer.get(source).cloned();
                        (*sink, lane.unwrap_or_else(|| Lane::Detached("no answer".to_owned())))
                    })
                    .collect(),
            })
            .collect()
    }

    fn claims_of(&self, feed: &Arc<str>, sink: SinkKind) -> Arc<Mutex<()>> {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.entry((feed.clone(), sink)).or_default().clone()
    }

    /// Claims partitions of one feed in one sink. A sink that fails or is slow detaches all of them.
    pub async fn claim(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        sink: SinkKind,
        sources: &[(TopicPartition, LogBounds)],
    ) -> HashMap<TopicPartition, Lane> {
        let span = trace::Start::inner(format!("claim {sink}"))
            .with("tidegate.feed", feed.name.to_string())
            .with("tidegate.sink", sink.name())
            .with("tidegate.partitions", sources.len() as i64)
            .root();
        let claiming = async {
            let alone = self.claims_of(&feed.name, sink).lock_owned().await;
            let (edges, feed, sources) = (self.clone(), feed.clone(), sources.to_vec());
            // On its own, so that one that waits out a lock ends whoever holds it even when nobody
            // waits for the answer any more; and alone, so that it never overtakes a later one.
            let claimed = tokio::spawn(span.around(async move {
                let _alone = alone;
                match sink {
                    SinkKind::Lake => edges.claim_lake(&feed, &sources).await,
                    SinkKind::Warehouse => edges.claim_warehouse(&feed, &sources).await,
                }
            }));
            claimed.await.unwrap_or_else(|error| Err(super::join_error(&error)))
        };
        let outcome = match tokio::time::timeout(ANSWER_WITHIN, claiming).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SinkError::passing(format!("no answer in {ANSWER_WITHIN:?}"))),
        };
        match outcome {
            Ok(lanes) => lanes,
            Err(error) => {
                span.failed(error.blame.name(), "the sink could not be claimed");
                warn!(target: "tidegate::ownership", feed = %feed.name, %sink, %error, "the sink could not be claimed");
                let detached = |(source, _): &(TopicPartition, LogBounds)| {
                    (source.clone(), Lane::Detached(error.to_string()))
                };
                sources.iter().map(detached).collect()
            }
        }
    }

    async fn claim_lake(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        sources: &[(TopicPartition, LogBounds)],
    ) -> Result<HashMap<TopicPartition, Lane>, SinkError> {
        let table = self.table(feed).await?;
        let mut progress = table.progress().await?;
        let absent: Vec<_> =
            sources.iter().filter(|(source, _)| !progress.contains_key(source)).collect();
        if !absent.is_empty() {
            let starts = self.starts(feed, &absent, &progress).await?;
            table.begin(&starts).await?;
            progress = table.progress().await?;
        }
        let mut lanes = HashMap::new();
        for (source, bounds) in sources {
            let Some(found) = progress.get(source) else { continue };
            let claim = Claim::random();
            let lane = match judge(found, bounds, feed.on_gap) {
                Judgement::Continue => Lane::Granted { claim, watermark: found.next_offset },
                Judgement::Park(reason) => Lane::Park(format!("lake: {reason}")),
                Judgement::ParkAtGap(gap, reason) => {
                    let kept = table.open_gap(source, found.topic_id, gap).await;
                    not_kept(feed, source, SinkKind::Lake, kept);
                    Lane::Park(format!("lake: {reason}"))
                }
                Judgement::Skip(gap) => {
                    let expired = GapReason::Expired;
                    let verdict = table.record_gap(source, found.topic_id, gap, expired).await?;
                    skipped(feed, source, SinkKind::Lake, claim, gap, &verdict)
                }
            };
            lanes.insert(source.clone(), lane);
        }
        Ok(lanes)
    }

    async fn claim_warehouse(
        self: &Arc<Self>,
        feed: &Arc<Feed>,
        sources: &[(TopicPartition, LogBounds)],
    ) -> Result<HashMap<TopicPartition, Lane>, SinkError> {
        let warehouse = self.warehouse_for(feed).await?;
        let mut requests: Vec<ClaimRequest> = sources
            .iter()
            .map(|(source, bounds)| ClaimRequest {
                source: source.clone(),
                topic_id: bounds.topic_id,
                claim: Claim::random(),
                start: None,
            })
            .collect();
        let mut progress = warehouse.claim(feed, &requests).await?;
        let absent: Vec<_> =
            sources.iter().filter(|(source, _)| !progress.contains_key(source)).collect();
        if !absent.is_empty() {
            let known = warehouse.progress(&feed.name).await?;
            let starts: HashMap<_, _> =
                self.starts(feed, &absent, &known).await?.into_iter().collect();
            for request in &mut requests {
                request.start = starts.get(&request.source).map(|start| start.next_offset);
            }
            let late: Vec<ClaimRequest> =
                requests.iter().filter(|request| request.start.is_some()).cloned().collect();
            progress.extend(warehouse.claim(feed, &late).await?);
        }
        let mut lanes = HashMap::new();
        for ((source, bounds), request) in sources.iter().zip(&requests) {
            let Some(found) = progress.get(source) else { continue };
            let claim = request.claim;
            let lane = match judge(found, bounds, feed.on_gap) {
                Judgement::Continue => Lane::Granted { claim, watermark: found.next_offset },
                Judgement::Park(reason) => Lane::Park(format!("warehouse: {reason}")),
                Judgement::ParkAtGap(gap, reason) => {
                    let kept = warehouse.open_gap(feed, source, claim, gap).await;
                    not_kept(feed, source, SinkKind::Warehouse, kept);
                    Lane::Park(format!("warehouse: {reason}"))
                }
                Judgement::Skip(gap) => {
                    let expired = GapReason::Expired;
                    let verdict = warehouse.record_gap(feed, source, claim, gap, expired).await?;
                    skipped(feed, source, SinkKind::Warehouse, claim, gap, &verdict)
                }
            };
            lanes.insert(source.clone(), lane);
        }
        Ok(lanes)
    }

    /// Where partitions without progress begin, by the feed's rule.
    async fn starts(
        self: &Arc<Self>,
        feed: &Feed,
        absent: &[&(TopicPartition, LogBounds)],
        known: &HashMap<TopicPartition, Progress>,
    ) -> Result<Vec<(TopicPartition, Progress)>, SinkError> {
        let mut starts = Vec::new();
        for (source, bounds) in absent {
            let beside = known.iter().any(|(other, progress)| {
                other.topic == source.topic && progress.topic_id.agrees(bounds.topic_id)
            });
            let at_time = match feed.start {
                Start::Timestamp(time) => {
                    let (log, source) = (self.log.clone(), source.clone());
                    let asked =
                        tokio::task::spawn_blocking(move || log.offset_at(&source, time)).await;
                    asked.map_err(SinkError::passing)?.map_err(SinkError::passing)?
                }
                Start::Earliest | Start::Latest => None,
            };
            let next_offset = begin(feed.start, beside, bounds, at_time);
            info!(target: "tidegate::ownership", feed = %feed.name, %source, next_offset, "no progress yet: begins here");
            starts.push((source.clone(), Progress { next_offset, topic_id: bounds.topic_id }));
        }
        Ok(starts)
    }
}

/// The partition is parked all the same, and the gap is found again when it is tried again.
fn not_kept(feed: &Feed, source: &TopicPartition, sink: SinkKind, kept: Result<(), SinkError>) {
    if let Err(error) = kept {
        warn!(target: "tidegate::ownership", feed = %feed.name, %source, %sink, %error, "a gap could not be recorded yet");
    }
}

fn skipped(
    feed: &Feed,
    source: &TopicPartition,
    sink: SinkKind,
    claim: Claim,
    gap: OffsetRange,
    verdict: &Verdict,
) -> Lane {
    match verdict {
        Verdict::Durable { .. } => {
            warn!(target: "tidegate::ownership", feed = %feed.name, %source, %sink, %gap, "these offsets have expired on the broker unread; recorded as a gap");
            Lane::Granted { claim, watermark: gap.end }
        }
        _ => Lane::Detached("another owner moved the partition".to_owned()),
    }
}
