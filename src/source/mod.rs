//! The source: one poll thread per Kafka consumer, and questions about the log.
//!
//! Records leave here as [`RawBatch`]es, charged to the budget. No actor is known here: deliveries
//! and events go through closures.

mod client;
mod complaints;
mod group;
mod headers;
mod kafka;
mod log;
mod rebalance;
mod slot;
mod topic_id;

use std::sync::Arc;

use crate::flow::budget::Charge;
use crate::record::{RawBatch, TopicPartition};
use crate::telemetry::trace::Polled;

pub use client::{client_config, group_consumer_config, producer_config};
pub use complaints::Complaints;
pub use group::Member;
pub use kafka::{KafkaSource, Membership};
pub use log::Log;

/// A raw batch with its charge to the budget: free when the last holder lets go.
#[derive(Debug)]
pub struct Read {
    pub raw: RawBatch,
    pub charge: Charge,
    pub polled: Polled,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Taken,
    /// No room now: it is offered again.
    Full,
    /// Nobody is there any more.
    Gone,
}

/// Where the batches of one partition go: one route per feed that reads it.
pub struct Route {
    pub feed: Arc<str>,
    pub deliver: Box<dyn FnMut(Arc<Read>) -> Delivery + Send>,
}

/// What happens to the consumer.
#[derive(Debug)]
pub enum Event {
    /// The group is as it should be, with partitions for this consumer or without. Said again and again.
    Joined,
    /// The group gave these partitions; they wait, with all others, for [`Command::Assign`].
    Assigned(Vec<TopicPartition>),
    /// The group takes these; it waits for [`Command::Unassign`].
    Revoked(Vec<TopicPartition>),
    /// The session expired: these already belong to somebody else.
    Lost(Vec<TopicPartition>),
    /// The broker has no records at a position asked for. It does not say which: these were read,
    /// each from there on.
    OutOfRange(Vec<(TopicPartition, i64)>),
    /// A partition could not be read from where it was to start.
    Refused { source: TopicPartition, feed: Arc<str>, reason: String },
    /// The budget has been full for a while: reading stands still.
    Full,
    /// The poll thread panicked and has left the group: whatever it was assigned is no longer read.
    Panicked,
    /// The consumer cannot go on. `unsupported`: the broker lacks the group protocol asked for.
    Failed { reason: String, unsupported: bool },
}

/// What the poll thread is told.
pub enum Command {
    /// Answers [`Event::Assigned`].
    Assign(Vec<Assignment>),
    /// Reads an assigned partition from `offset` for `route`, going back if it is already further.
    Start { source: TopicPartition, offset: i64, route: Route },
    /// Ends a feed's route; a partition without routes is paused.
    Halt { source: TopicPartition, feed: Arc<str> },
    /// Answers [`Event::Revoked`] and [`Event::Lost`].
    Unassign(Vec<TopicPartition>),
    /// Everything below `offset` is durable in every sink of the feed.
    Mirror { source: TopicPartition, feed: Arc<str>, offset: i64 },
    /// Reads these topics and patterns from the group from now on.
    Subscribe(Vec<String>),
    /// Leaves the group and ends the thread.
    Close,
}

/// One partition of an answer: where to read from, and for whom. Without routes it stays paused.
pub struct Assignment {
    pub source: TopicPartition,
    /// None: not known yet.
    pub offset: Option<i64>,
    pub routes: Vec<Route>,
}
