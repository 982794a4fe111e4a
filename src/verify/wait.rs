//! Waiting until the sinks have reached the log's end, as it was when the waiting began.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::check::Sources;
use super::table::Table;
use super::warehouse::Standing;
use crate::config::Feed;
use crate::record::TopicPartition;

const ASK_EVERY: Duration = Duration::from_millis(500);

/// One feed and where the log ended in each partition.
struct Goal<'a> {
    feed: &'a Feed,
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
            behind += goal.behind(sources).await?;
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

async fn goal<'a>(sources: &Sources, feed: &'a Feed) -> Result<Option<Goal<'a>>, String> {
    let Some(topic) = sources.broker.describe(&feed.topic).await? else { return Ok(None) };
    // Of an empty partition nothing need be claimed.
    let filled = topic.partitions.iter().filter(|(_, held)| held.high > held.low);
    let ends = filled
        .map(|(partition, held)| (TopicPartition::new(feed.topic.clone(), *partition), held.high));
    let lake = match (&sources.lake, &feed.lake) {
        (Some(store), Some(_)) => Some(Table::open(store, feed).await?),
        _ => None,
    };
    Ok(Some(Goal { feed, ends: ends.collect(), topic_id: topic.id, lake }))
}

impl Goal<'_> {
    /// How many partitions have not reached it, in both sinks together.
    async fn behind(&mut self, sources: &Sources) -> Result<usize, String> {
        let mut behind = 0;
        if let Some(lake) = &mut self.lake {
            lake.advance().await?;
            behind += self
                .ends
                .iter()
                .filter(|(source, end)| {
                    let mark = lake.mark_of(source, self.topic_id);
                    !mark.is_some_and(|mark| {
                        mark.topic_id.agrees(self.topic_id) && mark.next_offset >= **end
                    })
                })
                .count();
        }
        if let (Some(database), Some(_)) = (&sources.warehouse, &self.feed.warehouse) {
            let progress = database.progress(&self.feed.name).await?;
            let reached = |found: &Standing, end: i64| {
                found.topic_id.agrees(self.topic_id) && found.next_offset >= end
            };
            behind += self
                .ends
                .iter()
                .filter(|(source, end)| {
                    !progress.get(source).is_some_and(|found| reached(found, **end))
                })
                .count();
        }
        Ok(behind)
    }
}
