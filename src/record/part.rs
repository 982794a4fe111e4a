use std::sync::Arc;

use super::{Batch, Claim, OffsetRange, TopicId, TopicPartition};

/// The rows of one partition in one write: contiguous batches under one claim.
#[derive(Debug, Clone)]
pub struct Part {
    pub source: TopicPartition,
    pub topic_id: TopicId,
    pub claim: Claim,
    pub batches: Vec<Arc<Batch>>,
}

impl Part {
    /// The offsets of all batches together.
    pub fn range(&self) -> OffsetRange {
        let start = self.batches.first().map_or(0, |batch| batch.range.start);
        let end = self.batches.last().map_or(start, |batch| batch.range.end);
        OffsetRange::new(start, end)
    }

    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(|batch| batch.num_rows()).sum()
    }
}
