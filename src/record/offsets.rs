use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One partition of one topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Offsets `start..end`. `end` is the consumer's position: it counts transaction markers and
/// compaction holes, so it may lie beyond the last record + 1, and a range may hold no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    pub start: i64,
    pub end: i64,
}

impl OffsetRange {
    pub fn new(start: i64, end: i64) -> Self {
        debug_assert!(start <= end, "range {start}..{end} runs backwards");
        Self { start, end }
    }

    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    pub fn contains(&self, offset: i64) -> bool {
        (self.start..self.end).contains(&offset)
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// Why offsets of a log were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// The broker no longer held them.
    Expired,
    /// The same, and `tidegate resolve --skip-gap` went on after them.
    SkippedGap,
    /// `tidegate resolve --to-offset` went on after them.
    SkippedTo,
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GapReason::Expired => "expired on the broker before they were read",
            GapReason::SkippedGap => {
                "expired on the broker before they were read; skipped by `resolve --skip-gap`"
            }
            GapReason::SkippedTo => "skipped by `resolve --to-offset`",
        })
    }
}

/// The random id an owner writes when it takes a partition. Never a counter: a sink restored from
/// a backup would repeat one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim(pub Uuid);

impl Claim {
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The broker's id of a topic, which changes when the topic is deleted and created again.
/// Unknown (a broker before 2.8) compares equal to anything.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct TopicId(Option<Uuid>);

impl TopicId {
    pub const UNKNOWN: TopicId = TopicId(None);

    pub fn new(id: Uuid) -> Self {
        Self((!id.is_nil()).then_some(id))
    }

    pub fn get(self) -> Option<Uuid> {
        self.0
    }

    /// As both databases take it; none where nobody knows it.
    pub fn text(self) -> Option<String> {
        self.0.map(|id| id.to_string())
    }

    pub fn is_known(self) -> bool {
        self.0.is_some()
    }

    /// Whether both ids may name the same topic.
    pub fn agrees(self, other: TopicId) -> bool {
        match (self.0, other.0) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }
}

impl From<Option<Uuid>> for TopicId {
    fn from(id: Option<Uuid>) -> Self {
        id.map_or(Self::UNKNOWN, Self::new)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => id.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

/// How far a sink has come in one partition, as the sink itself records it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Progress {
    /// The offset the next commit must start at.
    pub next_offset: i64,
    pub topic_id: TopicId,
}

/// What a sink answers about one part of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Committed and synced, together with its progress. `quarantined` counts the rows this sink
    /// alone refused, beside the batch's own rejects.
    Durable { quarantined: u64 },
    /// Another owner or another watermark stands in the sink: nothing of this part was written.
    Fenced { found: Option<i64> },
    /// More rows were refused than the feed allows: nothing of this part was written.
    TooManyRejects { rejected: u64, rows: u64, reason: String },
}
