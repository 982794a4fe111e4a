//! What nodes tell of themselves, and the cluster that comes of it: plain values, without a look at anything.
//!
//! Each node writes a [`Beat`] every few seconds where all can read it. Whoever asks puts the beats together.

mod cluster;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use cluster::{Cluster, FeedLine, Member, Problem, Wanted};

/// How often a node tells of itself.
pub const BEAT_EVERY: Duration = Duration::from_secs(5);
/// One that has not told for so long is taken to be gone.
pub const SILENT_MS: i64 = 30_000;
/// After that nobody speaks of it any more.
pub const FORGOTTEN: Duration = Duration::from_secs(600);
/// Partitions that a node tells of one by one: those that are not well first, then those with the most to do.
pub const MOST_PARTITIONS: usize = 1000;

/// What a node told last.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// Of the process: a node that is started again is another.
    pub instance: Uuid,
    pub told: NodeTold,
    /// How long ago, by the clock of where it is kept.
    pub age_ms: i64,
}

/// A node, as it sees itself. Times are milliseconds since the epoch, by its own clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeTold {
    pub node: String,
    /// The consumer group.
    pub group: String,
    pub version: String,
    pub started_ms: i64,
    pub at_ms: i64,
    pub draining: bool,
    /// Bytes of the memory budget.
    pub memory_used: u64,
    pub memory_limit: u64,
    /// It is the cluster's janitor.
    pub janitor: bool,
    /// All its partitions, summed up.
    pub feeds: Vec<FeedTold>,
    /// Some of them, at most [`MOST_PARTITIONS`].
    pub partitions: Vec<PartitionTold>,
    pub left_out: usize,
}

/// One feed's partitions of one node, in one sink.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeedTold {
    pub feed: String,
    pub sink: String,
    pub partitions: usize,
    /// Those of which the sink is detached.
    pub detached: usize,
    /// Offsets that are not durable, as far as they are known.
    pub lag: i64,
    /// Of the oldest record that is not.
    pub age_ms: i64,
    /// Offsets a second that became durable, since the beat before.
    pub rate: f64,
    pub committed_ms: Option<i64>,
}

/// One partition of one feed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionTold {
    pub feed: String,
    pub topic: String,
    pub partition: i32,
    /// `running`, `claiming`, `failing` or `parked`.
    pub state: String,
    /// Why, where it is not running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What went wrong last, however long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorTold>,
    /// One past the last record of the log, as far as it is known.
    pub end: i64,
    pub sinks: Vec<SinkTold>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorTold {
    pub at_ms: i64,
    pub says: String,
}

/// How far a sink has come with a partition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkTold {
    /// `lake` or `warehouse`.
    pub sink: String,
    pub attached: bool,
    /// Everything below is durable. None: not known yet.
    pub next: Option<i64>,
    pub lag: Option<i64>,
    /// How long the oldest record that is not durable has waited.
    pub age_ms: i64,
    pub committed_ms: Option<i64>,
    pub rate: f64,
}

impl PartitionTold {
    pub fn is_well(&self) -> bool {
        self.state == "running" && self.sinks.iter().all(|sink| sink.attached)
    }

    fn lag(&self) -> i64 {
        self.sinks.iter().filter_map(|sink| sink.lag).max().unwrap_or(0)
    }
}

impl NodeTold {
    /// Of these partitions, as they are now and as the same node told of them before.
    pub fn of_partitions(mut self, mut all: Vec<PartitionTold>, before: Option<&Progress>) -> Self {
        let passed = before.map_or(0.0, |before| (self.at_ms - before.at_ms) as f64 / 1000.0);
        if let Some(before) = before.filter(|_| passed > 0.0) {
            for (partition, sink) in all.iter_mut().flat_map(sinks_of) {
                let key = Progress::key(partition, sink);
                if let (Some(next), Some(was)) = (sink.next, before.next.get(&key)) {
                    sink.rate = (next - was).max(0) as f64 / passed;
                }
            }
        }
        for partition in &all {
            for sink in &partition.sinks {
                self.add(&partition.feed, sink);
            }
        }
        all.sort_by_key(|it| (it.is_well(), -it.lag()));
        self.left_out = all.len().saturating_sub(MOST_PARTITIONS);
        all.truncate(MOST_PARTITIONS);
        self.partitions = all;
        self
    }

    fn add(&mut self, feed: &str, sink: &SinkTold) {
        let one = FeedTold {
            feed: feed.to_owned(),
            sink: sink.sink.clone(),
            partitions: 1,
            detached: usize::from(!sink.attached),
            lag: sink.lag.unwrap_or(0),
            age_ms: sink.age_ms,
            rate: sink.rate,
            committed_ms: sink.committed_ms,
        };
        match self.feeds.iter_mut().find(|it| it.feed == one.feed && it.sink == one.sink) {
            Some(sum) => sum.add(one),
            None => self.feeds.push(one),
        }
    }
}

impl FeedTold {
    /// More partitions of the same feed, in the same sink.
    fn add(&mut self, more: Self) {
        (self.feed, self.sink) = (more.feed, more.sink);
        self.partitions += more.partitions;
        self.detached += more.detached;
        self.lag += more.lag;
        self.age_ms = self.age_ms.max(more.age_ms);
        self.rate += more.rate;
        self.committed_ms = self.committed_ms.max(more.committed_ms);
    }
}

/// The names of a partition, with each of its sinks.
fn sinks_of(
    partition: &mut PartitionTold,
) -> impl Iterator<Item = ((&String, &String, i32), &mut SinkTold)> {
    let PartitionTold { feed, topic, partition, sinks, .. } = partition;
    let names = (&*feed, &*topic, *partition);
    sinks.iter_mut().map(move |sink| (names, sink))
}

/// How far the partitions were, to tell how fast they go.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    at_ms: i64,
    next: std::collections::HashMap<(String, String, i32, String), i64>,
}

impl Progress {
    pub fn of(at_ms: i64, partitions: &[PartitionTold]) -> Self {
        let next = partitions.iter().flat_map(|of| {
            of.sinks.iter().filter_map(|sink| {
                let names = (&of.feed, &of.topic, of.partition);
                Some((Self::key(names, sink), sink.next?))
            })
        });
        Self { at_ms, next: next.collect() }
    }

    fn key(
        (feed, topic, partition): (&String, &String, i32),
        sink: &SinkTold,
    ) -> (String, String, i32, String) {
        (feed.clone(), topic.clone(), partition, sink.sink.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32, next: i64, end: i64) -> PartitionTold {
        let sink = SinkTold {
            sink: "lake".to_owned(),
            attached: true,
            next: Some(next),
            lag: Some(end - next),
            ..SinkTold::default()
        };
        PartitionTold {
            feed: "f".to_owned(),
            topic: "t".to_owned(),
            partition: number,
            state: "running".to_owned(),
            end,
            sinks: vec![sink],
            ..PartitionTold::default()
        }
    }

    #[test]
    fn a_node_tells_how_fast_it_is_and_where_it_is_not_well_first() {
        let before = Progress::of(1_000, &[partition(0, 10, 10), partition(1, 10, 10)]);
        let mut parked = partition(2, 0, 5);
        parked.state = "parked".to_owned();
        let now = vec![partition(0, 40, 40), partition(1, 10, 90), parked];
        let told =
            NodeTold { at_ms: 4_000, ..NodeTold::default() }.of_partitions(now, Some(&before));
        let order: Vec<i32> = told.partitions.iter().map(|it| it.partition).collect();
        assert_eq!(order, [2, 1, 0]);
        let sum = &told.feeds[0];
        assert_eq!((sum.partitions, sum.lag, sum.rate), (3, 85, 10.0));
    }

    #[test]
    fn of_many_partitions_the_rest_is_counted() {
        let many = (0..1500).map(|number| partition(number, 0, i64::from(number))).collect();
        let told = NodeTold::default().of_partitions(many, None);
        assert_eq!((told.partitions.len(), told.left_out), (MOST_PARTITIONS, 500));
        assert_eq!((told.partitions[0].partition, told.feeds[0].partitions), (1499, 1500));
    }
}
