//! Waiting until the sinks have reached the log's end, as it was when the waiting began.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::check::Sources;
use super::table::Table;
use crate::config::{Feed, FeedFile, Node};
use crate::record::{SinkKind, TopicPartition};

const ASK_EVERY: Duration = Duration::from_millis(500);

/// Where the logs of some feeds ended at one moment.
pub struct Ends {
    sources: Sources,
    goals: Vec<Goal>,
}

/// A partition that has not come so far in a sink.
#[derive(Debug, Clone)]
pub struct Behind {
    pub feed: Arc<str>,
    pub sink: SinkKind,
    pub source: TopicPartition,
    /// None where there is no progress yet.
    pub at: Option<i64>,
    pub end: i64,
}

impl Ends {
    /// As they are now; the feeds are of `files`.
    pub async fn seen(node: &Node, files: &[FeedFile], feeds: &[Feed]) -> Result<Self, String> {
        let sources = super::open(node, files, ProgressBar::hidden()).await?;
        let mut goals = Vec::new();
        for feed in feeds {
            let goal = goal(&sources, feed).await?;
            let missing = || format!("feed {}: the broker has no topic {}", feed.name, feed.topic);
            goals.push(goal.ok_or_else(missing)?);
        }
        Ok(Self { sources, goals })
    }

    /// Who has not reached them by now.
    pub async fn behind(&mut self) -> Result<Vec<Behind>, String> {
        let mut behind = Vec::new();
        for goal in &mut self.goals {
            behind.append(&mut goal.behind(&self.sources).await?);
        }
        Ok(behind)
    }

    /// The ends of one feed's topic, less its empty partitions.
    pub fn of(&self, feed: &str) -> HashMap<TopicPartition, i64> {
        let goal = self.goals.iter().find(|goal| *goal.feed.name == *feed);
        goal.map(|goal| goal.ends.clone()).unwrap_or_default()
    }

    /// How many offsets the warehouse has passed of the feed.
    pub async fn in_warehouse(&self, feed: &Feed) -> Result<Option<i64>, String> {
        let (Some(database), Some(_)) = (&self.sources.warehouse, &feed.warehouse) else {
            return Ok(None);
        };
        let progress = database.progress(&feed.name).await?;
        Ok(Some(progress.values().map(|standing| standing.next_offset).sum()))
    }
}

/// One feed and where the log ended in each partition.
struct Goal {
    feed: Feed,
    ends: HashMap<TopicPartition, i64>,
    topic_id: crate::record::TopicId,
    lake: Option<Table>,
}

/// Answers whether they have.
pub async fn until_caught_up(
    sources: &Sources,
    feeds: &[Feed],
    limit: Duration,
) -> Result<bool, String> {
    let deadline = Instant::now() + limit;
    let mut goals = Vec::new();
    for feed in feeds {
        goals.extend(goal(sources, feed).await?);
    }
    loop {
        let mut behind = 0;
        for goal in &mut goals {
            behind += goal.behind(sources).await?.len();
        }
        if behind == 0 {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sources.bar.set_message(format!("waiting for {behind} partitions to reach the log's end"));
        sources.bar.tick();
        tokio::time::sleep(ASK_EVERY.min(deadline - Instant::now())).await;
    }
}

async fn goal(sources: &Sources, feed: &Feed) -> Result<Option<Goal>, String> {
    let Some(topic) = sources.broker.describe(&feed.topic).await? else { return Ok(None) };
    // Of an empty partition nothing need be claimed.
    let filled = topic.partitions.iter().filter(|(_, held)| held.high > held.low);
    let ends = filled
        .map(|(partition, held)| (TopicPartition::new(feed.topic.clone(), *partition), held.high));
    let lake = match (&sources.lake, &feed.lake) {
        (Some(store), Some(_)) => Some(Table::open(store, feed).await?),
        _ => None,
    };
    Ok(Some(Goal { feed: feed.clone(), ends: ends.collect(), topic_id: topic.id, lake }))
}

impl Goal {
    /// Partitions that have not reached it, in both sinks together.
    async fn behind(&mut self, sources: &Sources) -> Result<Vec<Behind>, String> {
        let mut behind = Vec::new();
        let mut hold = |sink, source: &TopicPartition, end: i64, at: Option<i64>| {
            if at.is_none_or(|at| at < end) {
                let (feed, source) = (self.feed.name.clone(), source.clone());
                behind.push(Behind { feed, sink, source, at, end });
            }
        };
        if let Some(lake) = &mut self.lake {
            lake.advance().await?;
            for (source, end) in &self.ends {
                let mark = lake.mark_of(source, self.topic_id);
                let mark = mark.filter(|mark| mark.topic_id.agrees(self.topic_id));
                hold(SinkKind::Lake, source, *end, mark.map(|mark| mark.next_offset));
            }
        }
        if let (Some(database), Some(_)) = (&sources.warehouse, &self.feed.warehouse) {
            let progress = database.progress(&self.feed.name).await?;
            for (source, end) in &self.ends {
                let found = progress.get(source);
                let found = found.filter(|found| found.topic_id.agrees(self.topic_id));
                hold(SinkKind::Warehouse, source, *end, found.map(|found| found.next_offset));
            }
        }
        Ok(behind)
    }
}
