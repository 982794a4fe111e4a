//! The publisher: generated records into a Kafka topic each, as a well-behaved producer sends them.
//!
//! Idempotent, so that a retry doubles nothing and a key's records keep their order. How fast and
//! how far it may go is asked of a closure before each batch of transactions: a [`Pace`] for a rate,
//! the demo's back-pressure, or a stop. What the broker has acknowledged, by partition, is in the
//! [`Tally`] that the closure sees. One thread: delivery reports are taken up between batches.

mod pace;
mod progress;
mod publisher;
mod tally;
mod topics;

pub use pace::{Allowance, Pace, Speed};
pub use progress::{Gauge, Progress};
pub use publisher::Publisher;
pub use tally::{PartitionTally, Tally, TopicTally};

/// Why publishing could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the producer's settings are refused: {0}")]
    Settings(String),
    #[error("no broker answers at {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("topic {topic} could not be created: {reason}")]
    Topic { topic: String, reason: String },
}
