//! What travels: offsets, batches, receipts, rejects, and the class of an error.
//!
//! The ground floor. Plain values only: no actor, no runtime, no client library, no clock.

mod batch;
mod bound;
mod error;
mod headers;
mod offsets;
mod part;
mod raw;
mod reject;

pub use batch::{Batch, Hold, Op};
pub use bound::{Bound, Value};
pub use error::{Blame, Lack, SinkError};
pub use headers::{Header, headers_json, headers_of};
pub use offsets::{Claim, GapReason, OffsetRange, Progress, TopicId, TopicPartition, Verdict};
pub use part::Part;
pub use raw::{Headers, RawBatch, RawRecord};
pub use reject::{Reject, RejectClass, Settled, told};

/// The two kinds of destination. Each keeps its own progress; neither waits for the other.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    clap::ValueEnum,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    Lake,
    Warehouse,
}

impl SinkKind {
    pub const ALL: [SinkKind; 2] = [SinkKind::Lake, SinkKind::Warehouse];

    pub const fn name(self) -> &'static str {
        match self {
            SinkKind::Lake => "lake",
            SinkKind::Warehouse => "warehouse",
        }
    }
}

impl std::fmt::Display for SinkKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
