//! Every message between actors, with its reply.

use std::sync::Arc;

use actix::{Addr, Message, Recipient};
use opentelemetry::trace::SpanContext;

use super::partition_consumer::PartitionConsumer;
use crate::config::{Feed, FeedFile};
use crate::decode::NewFields;
use crate::record::{Batch, Claim, SinkError, SinkKind, TopicId, TopicPartition};
use crate::source::{Event, Read};
use crate::status::PartitionTold;
use crate::telemetry::trace::Landed;

/// Raw records for a partition consumer. From the poll thread.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Records {
    pub read: Arc<Read>,
    pub stream: Stream,
}

/// Which consumer read the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The group's, which feeds every attached sink.
    Main,
    /// The one that catches one sink up.
    CatchUp(SinkKind),
}

/// A decoded batch for a sink's writer. The answer comes later, as a [`Receipt`].
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct Deliver {
    pub batch: Arc<Batch>,
    pub claim: Claim,
    pub topic_id: TopicId,
    pub receipts: Recipient<Receipt>,
    /// The delivery's span, for those who carry it on.
    pub trace: SpanContext,
}

/// What became of a delivered batch.
#[derive(Message, Debug, Clone)]
#[rtype(result = "()")]
pub struct Receipt {
    pub sink: SinkKind,
    pub claim: Claim,
    pub outcome: Outcome,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    /// Everything below `end` is durable in the sink.
    Durable { end: i64, landed: Landed },
    /// The lane is lost: nothing more under this claim will be written.
    Lost(Loss),
}

/// Why a sink gave a lane up.
#[derive(Debug, Clone)]
pub enum Loss {
    /// Another owner or another offset stands in the sink.
    Fenced { found: Option<i64> },
    /// The sink could not write for longer than it may.
    Failed(SinkError),
    /// It held too much of the memory budget for too long.
    TooSlow,
    /// So many records were rejected that they are not to blame.
    TooManyRejects(String),
    /// The writer actor died.
    WriterDied,
    /// Records are missing between what the sink holds and what the consumer brought.
    Missing { next: i64, start: i64 },
}

impl Loss {
    /// In a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Loss::Fenced { .. } => "fenced",
            Loss::Failed(_) => "failed",
            Loss::TooSlow => "too slow",
            Loss::TooManyRejects(_) => "too many rejects",
            Loss::WriterDied => "writer died",
            Loss::Missing { .. } => "missing",
        }
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Loss::Fenced { found: Some(found) } => {
                write!(f, "fenced: the sink stands at offset {found} or has another owner")
            }
            Loss::Fenced { found: None } => write!(f, "fenced: the sink has another owner"),
            Loss::Failed(error) => write!(f, "{error}"),
            Loss::TooSlow => write!(f, "the sink holds too much of the memory budget"),
            Loss::TooManyRejects(reason) => write!(f, "{reason}"),
            Loss::WriterDied => write!(f, "the writer died"),
            Loss::Missing { next, start } => {
                write!(f, "offset {next} is needed, but reading resumed at {start}")
            }
        }
    }
}

/// What waits in a writer is to leave now.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub struct Flush;

/// A writer forgets what waits under these claims.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct Abandon(pub Vec<Claim>);

/// Proof of life.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub struct Beat;

/// A partition consumer takes no more and answers when nothing is in flight.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub struct Drain;

/// A claim was granted for a detached lane. Answers where its catch-up must begin, or nothing if the
/// lane could join at once.
#[derive(Message)]
#[rtype(result = "Option<i64>")]
pub struct Attach {
    pub sink: SinkKind,
    pub claim: Claim,
    pub watermark: i64,
    pub writer: Recipient<Deliver>,
}

/// A sink is taken from a partition consumer.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct Detach {
    pub sink: SinkKind,
    pub loss: Loss,
}

/// Bytes delivered and not yet answered, per sink.
#[derive(Message, Clone, Copy)]
#[rtype(result = "Vec<(SinkKind, usize)>")]
pub struct InFlight;

/// A partition consumer's lane changed. To the supervisor.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct LaneChanged {
    pub feed: Arc<str>,
    pub source: TopicPartition,
    pub sink: SinkKind,
    pub claim: Option<Claim>,
    pub change: LaneChange,
}

/// Records of a partition have fields that no column takes, or values of a wider type than their column's,
/// and the feed evolves: its consumer has stopped before them. To the supervisor.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct Evolve {
    pub feed: Arc<Feed>,
    pub source: TopicPartition,
    pub new: NewFields,
}

/// A stream of a partition is to be halted, or to be read from this offset again: its consumer waits
/// for the schema registry, or no longer. To the supervisor.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reading {
    pub feed: Arc<str>,
    pub source: TopicPartition,
    pub consumer: Addr<PartitionConsumer>,
    pub stream: Stream,
    pub from: Option<i64>,
}

#[derive(Debug, Clone)]
pub enum LaneChange {
    Lost(Loss),
    /// Caught up and attached to the main stream again.
    Joined,
}

/// What happened to a Kafka consumer. To the supervisor.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct SourceEvent {
    pub stream: Stream,
    pub event: Event,
}

/// Drains everything and leaves the group. To the supervisor; answers when done.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub struct Stop;

/// The feeds as they are from now on. To the supervisor: those that are new begin, those that are gone
/// are drained and end, those that differ are drained and begin anew.
#[derive(Message, Debug, Clone)]
#[rtype(result = "()")]
pub struct ReplaceFeeds(pub Vec<FeedFile>);

/// These feeds are drained and begin anew, their columns asked for once more. To the supervisor.
#[derive(Message, Debug, Clone)]
#[rtype(result = "()")]
pub struct RenewFeeds(pub Vec<Arc<str>>);

/// Asks the supervisor what it owns.
#[derive(Message, Clone, Copy)]
#[rtype(result = "Vec<PartitionStatus>")]
pub struct Status;

#[derive(Debug, Clone)]
pub struct PartitionStatus {
    pub feed: Arc<str>,
    pub topic: Arc<str>,
    pub partition: i32,
    /// In words.
    pub state: String,
    pub told: PartitionTold,
}
