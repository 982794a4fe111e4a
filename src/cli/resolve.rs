use std::sync::Arc;

use clap::{ArgGroup, ValueEnum};

use super::{Exit, NodeFile, block_on, failed};
use crate::config::{Feed, FeedKind, LakeFormat, Node, OnGap};
use crate::flow::start::{LogBounds, Verdict as Judgement, judge};
use crate::lake::{self, LakeStore};
use crate::layout::Layout;
use crate::record::{Claim, GapReason, OffsetRange, Progress, SinkKind, TopicPartition, Verdict};
use crate::source::Log;
use crate::telemetry::print::answer;
use crate::verify;
use crate::warehouse::{self, ClaimRequest, Warehouse};

/// Settle partitions that a node has parked, by setting the progress a sink keeps.
///
/// A node may run meanwhile: it is refused once, reads the new progress and goes on from there; a
/// parked partition is tried again within `park_retry`. Partitions that need no settling are left
/// alone and named.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("how").required(true)))]
pub struct Resolve {
    #[command(flatten)]
    file: NodeFile,
    /// The feed, as `verify` names it.
    #[arg(long, value_name = "FEED")]
    feed: String,
    /// The topic the feed must be of.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Only this partition.
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Only this sink.
    #[arg(long, value_enum)]
    sink: Option<Sink>,
    /// The topic was created again or truncated: begin at the log's start. Rows of the former topic
    /// stay.
    #[arg(long, group = "how")]
    restart: bool,
    /// Records expired before they were read: go on at the log's start, and record the gap.
    #[arg(long, group = "how")]
    skip_gap: bool,
    /// Go on at this offset; needs --partition. Forward, what is skipped is recorded as a gap;
    /// backward, a stream's rows from there on come a second time.
    #[arg(long, value_name = "OFFSET", group = "how", requires = "partition")]
    to_offset: Option<i64>,
    /// The lake's table was rolled back by a Delta RESTORE: set its progress back too.
    #[arg(long, group = "how", conflicts_with_all = ["partition", "sink"])]
    rewind_lake: bool,
    /// The lake's log is cleaned up so far that it cannot tell of a Delta RESTORE, and there was none:
    /// go on from the progress it has.
    #[arg(long, group = "how", conflicts_with_all = ["partition", "sink"])]
    trust_lake: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sink {
    Lake,
    Warehouse,
}

#[derive(Debug, Clone, Copy)]
enum Settling {
    Restart,
    SkipGap,
    ToOffset(i64),
}

/// What to do with one partition in one sink.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Leave(String),
    /// Set progress to this offset of the topic that is there now.
    Set(i64),
    /// Move progress past these offsets and record them as a gap.
    Skip(OffsetRange),
}

impl Resolve {
    pub fn run(self) -> Exit {
        let (node, files) = match self.file.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        let settled = block_on(async {
            let feeds = verify::feeds(&node, &files, Some(&self.feed)).await?;
            let of_topic = |feed: &&Feed| self.topic.as_deref().is_none_or(|it| it == &*feed.topic);
            let feed = feeds.iter().find(of_topic);
            let feed = feed.ok_or_else(|| format!("feed {} is not of that topic", self.feed))?;
            if self.rewind_lake {
                return rewind(&node, feed).await;
            }
            if self.trust_lake {
                return trust(&node, feed).await;
            }
            self.settle(&node, feed).await
        });
        match settled {
            Ok(Ok(())) => Exit::Good,
            Ok(Err(error)) => failed(error),
            Err(exit) => exit,
        }
    }

    async fn settle(&self, node: &Node, feed: &Feed) -> Result<(), String> {
        let settling = match (self.restart, self.to_offset) {
            (true, _) => Settling::Restart,
            (_, Some(offset)) => Settling::ToOffset(offset),
            _ => Settling::SkipGap,
        };
        let bounds = bounds(node, feed, self.partition)?;
        let wants = |sink| self.sink.is_none_or(|wanted| wanted == sink);
        if let (Some(config), Some(_), true) = (&node.lake, &feed.lake, wants(Sink::Lake)) {
            let store = LakeStore::open(config).map_err(|error| error.to_string())?;
            settle_lake(&store, feed, settling, &bounds).await?;
        }
        if let (Some(config), Some(_), true) =
            (&node.warehouse, &feed.warehouse, wants(Sink::Warehouse))
        {
            let warehouse = warehouse::open(config).map_err(|error| error.to_string())?;
            settle_warehouse(&*warehouse, feed, settling, &bounds).await?;
        }
        Ok(())
    }
}

fn bounds(
    node: &Node,
    feed: &Feed,
    only: Option<i32>,
) -> Result<Vec<(TopicPartition, LogBounds)>, String> {
    let log = Log::open(&node.kafka)?;
    let topic = &feed.topic;
    let count = log.partitions(topic)?.ok_or_else(|| format!("the broker has no topic {topic}"))?;
    let id = log.topic_id(topic)?;
    let wanted = (0..count).filter(|partition| only.is_none_or(|only| only == *partition));
    let sources: Vec<_> =
        wanted.map(|partition| TopicPartition::new(topic.clone(), partition)).collect();
    if sources.is_empty() {
        return Err(format!("{topic} has partitions 0 to {}", count - 1));
    }
    sources.into_iter().map(|source| Ok((source.clone(), log.bounds(&source, id)?))).collect()
}

/// Pure: what settles a partition that stands at `progress`.
fn plan(settling: Settling, progress: &Progress, log: &LogBounds) -> Step {
    let same_topic = progress.topic_id.agrees(log.topic_id);
    let next = progress.next_offset;
    match settling {
        Settling::Restart if !same_topic || next > log.high => Step::Set(log.low),
        Settling::Restart => Step::Leave(match judge(progress, log, OnGap::Park) {
            Judgement::Continue => "in order".to_owned(),
            _ => "records have expired; --skip-gap goes on after them".to_owned(),
        }),
        Settling::SkipGap if !same_topic => {
            Step::Leave("the topic was created again; --restart begins at its start".to_owned())
        }
        Settling::SkipGap if next < log.low => Step::Skip(OffsetRange::new(next, log.low)),
        Settling::SkipGap => Step::Leave("no gap".to_owned()),
        Settling::ToOffset(offset) if !(log.low..=log.high).contains(&offset) => {
            Step::Leave(format!("the log holds offsets {} to {}", log.low, log.high))
        }
        Settling::ToOffset(offset) if same_topic && offset == next => {
            Step::Leave("there already".to_owned())
        }
        Settling::ToOffset(offset) if same_topic && offset > next => {
            Step::Skip(OffsetRange::new(next, offset))
        }
        Settling::ToOffset(offset) => Step::Set(offset),
    }
}

fn reason(settling: Settling) -> GapReason {
    match settling {
        Settling::ToOffset(_) => GapReason::SkippedTo,
        Settling::SkipGap | Settling::Restart => GapReason::SkippedGap,
    }
}

async fn settle_lake(
    store: &LakeStore,
    feed: &Feed,
    settling: Settling,
    bounds: &[(TopicPartition, LogBounds)],
) -> Result<(), String> {
    let named = |error| format!("lake: {error}");
    if lake::read_progress(store, feed).await.map_err(named)?.is_empty() {
        answer!("lake: feed {} has no progress yet", feed.name);
        return Ok(());
    }
    let table = lake::open(store, Arc::new(feed.clone())).await.map_err(named)?;
    let progress = table.progress().await.map_err(named)?;
    for (source, log) in bounds {
        let Some(found) = progress.get(source) else {
            say(SinkKind::Lake, source, "no progress yet");
            continue;
        };
        let step = plan(settling, found, log);
        match &step {
            Step::Leave(_) => {}
            Step::Set(offset) => {
                let progress = Progress { next_offset: *offset, topic_id: log.topic_id };
                table.reset(source, progress).await.map_err(named)?;
            }
            Step::Skip(gap) => {
                let done = table.record_gap(source, found.topic_id, *gap, reason(settling));
                if !matches!(done.await.map_err(named)?, Verdict::Durable { .. }) {
                    return Err(format!("lake: {source} moved meanwhile; look again"));
                }
            }
        }
        told(SinkKind::Lake, feed, source, log, found, &step);
    }
    Ok(())
}

async fn settle_warehouse(
    warehouse: &dyn Warehouse,
    feed: &Feed,
    settling: Settling,
    bounds: &[(TopicPartition, LogBounds)],
) -> Result<(), String> {
    let named = |error| format!("warehouse: {error}");
    warehouse.check_schema().await.map_err(named)?;
    let progress = warehouse.progress(&feed.name).await.map_err(named)?;
    for (source, log) in bounds {
        let Some(found) = progress.get(source) else {
            say(SinkKind::Warehouse, source, "no progress yet");
            continue;
        };
        let step = plan(settling, found, log);
        match &step {
            Step::Leave(_) => {}
            Step::Set(offset) => {
                let reset = warehouse.reset(&feed.name, source, log.topic_id, *offset);
                reset.await.map_err(named)?;
            }
            Step::Skip(gap) => {
                skip(warehouse, feed, source, log, *gap, reason(settling)).await?;
            }
        }
        told(SinkKind::Warehouse, feed, source, log, found, &step);
    }
    Ok(())
}

async fn skip(
    warehouse: &dyn Warehouse,
    feed: &Feed,
    source: &TopicPartition,
    log: &LogBounds,
    gap: OffsetRange,
    reason: GapReason,
) -> Result<(), String> {
    let named = |error| format!("warehouse: {error}");
    let claim = Claim::random();
    let request =
        ClaimRequest { source: source.clone(), topic_id: log.topic_id, claim, start: None };
    warehouse.claim(feed, &[request]).await.map_err(named)?;
    match warehouse.record_gap(feed, source, claim, gap, reason).await.map_err(named)? {
        Verdict::Durable { .. } => Ok(()),
        _ => Err(format!("warehouse: {source} moved meanwhile; look again")),
    }
}

fn lake_of(node: &Node, feed: &Feed) -> Result<LakeStore, String> {
    let (Some(config), Some(_)) = (&node.lake, &feed.lake) else {
        return Err(format!("feed {} has no lake side", feed.name));
    };
    if feed.lake.as_ref().is_some_and(|options| options.format != LakeFormat::Delta) {
        return Err(format!("the lake table of feed {} has no Delta log", feed.name));
    }
    LakeStore::open(config).map_err(|error| error.to_string())
}

async fn trust(node: &Node, feed: &Feed) -> Result<(), String> {
    let (store, layout) = (lake_of(node, feed)?, Layout::of(feed)?);
    match lake::trust(&store, layout.folder()).await.map_err(|error| error.to_string())? {
        true => answer!("lake: feed {} goes on from the progress it has", feed.name),
        false => answer!("lake: the log of feed {} tells enough by itself", feed.name),
    }
    Ok(())
}

async fn rewind(node: &Node, feed: &Feed) -> Result<(), String> {
    let (store, layout) = (lake_of(node, feed)?, Layout::of(feed)?);
    let rewound = lake::rewind(&store, layout.folder()).await.map_err(|error| error.to_string())?;
    let Some(rewound) = rewound else {
        answer!("lake: no RESTORE of feed {} is unsettled", feed.name);
        return Ok(());
    };
    answer!(
        "lake: version {} brought back version {}; progress is set back to it:",
        rewound.restore,
        rewound.target
    );
    for (source, before, after) in rewound.partitions {
        let word = |offset: Option<i64>| offset.map_or("none".to_owned(), |it| it.to_string());
        say(SinkKind::Lake, &source, &format!("{} -> {}", word(before), word(after)));
    }
    Ok(())
}

fn told(
    sink: SinkKind,
    feed: &Feed,
    source: &TopicPartition,
    log: &LogBounds,
    before: &Progress,
    step: &Step,
) {
    let next = before.next_offset;
    match step {
        Step::Leave(why) => say(sink, source, &format!("left at {next}: {why}")),
        Step::Set(offset) => {
            say(sink, source, &format!("{next} -> {offset}"));
            let appended = sink == SinkKind::Lake || feed.kind == FeedKind::Stream;
            match (appended, before.topic_id.agrees(log.topic_id)) {
                (true, true) => {
                    answer!("  rows that are in the {sink} already will be there twice");
                }
                (true, false) => answer!("  rows of the former topic stay in the {sink}"),
                (false, _) => {}
            }
        }
        Step::Skip(gap) => {
            say(sink, source, &format!("{next} -> {}, recorded as a gap", gap.end));
        }
    }
}

fn say(sink: SinkKind, source: &TopicPartition, words: &str) {
    answer!("{sink}: {source}: {words}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TopicId;
    use uuid::Uuid;

    fn step(settling: Settling, next_offset: i64, id: u128) -> Step {
        let topic_id = TopicId::new(Uuid::from_u128(id));
        let log = LogBounds { low: 10, high: 20, topic_id: TopicId::new(Uuid::from_u128(1)) };
        plan(settling, &Progress { next_offset, topic_id }, &log)
    }

    #[test]
    fn only_what_needs_it_is_settled() {
        let (restart, skip) = (Settling::Restart, Settling::SkipGap);
        assert_eq!(step(restart, 5, 2), Step::Set(10));
        assert_eq!(step(restart, 25, 1), Step::Set(10));
        assert!(matches!(step(restart, 15, 1), Step::Leave(why) if why == "in order"));
        assert!(matches!(step(restart, 5, 1), Step::Leave(why) if why.contains("--skip-gap")));
        assert_eq!(step(skip, 5, 1), Step::Skip(OffsetRange::new(5, 10)));
        assert!(matches!(step(skip, 10, 1), Step::Leave(_)));
        assert!(matches!(step(skip, 5, 2), Step::Leave(why) if why.contains("--restart")));
    }

    #[test]
    fn an_offset_by_hand_is_one_the_log_has() {
        let to = |offset, next, id| step(Settling::ToOffset(offset), next, id);
        assert_eq!(to(15, 12, 1), Step::Skip(OffsetRange::new(12, 15)));
        assert_eq!(to(12, 15, 1), Step::Set(12));
        assert_eq!(to(15, 12, 2), Step::Set(15));
        for (offset, next) in [(9, 12), (21, 12), (12, 12)] {
            assert!(matches!(to(offset, next, 1), Step::Leave(_)));
        }
    }
}
