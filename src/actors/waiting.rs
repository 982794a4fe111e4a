//! Raw batches that wait until the schemas of their records are known, in the order they were read.

use std::collections::VecDeque;
use std::sync::Arc;

use super::message::Stream;
use crate::record::OffsetRange;
use crate::source::Read;

/// What one stream has brought and nobody has decoded yet.
pub struct Waiting {
    pub stream: Stream,
    batches: VecDeque<Arc<Read>>,
    reading: Reading,
}

#[derive(Clone, Copy, PartialEq)]
enum Reading {
    GoesOn,
    /// Nothing is kept, so that the budget is there for those who do not wait.
    Halted,
    /// It begins again at this offset; what comes from further on was on its way before.
    GoesBack(i64),
}

impl Waiting {
    pub fn new(stream: Stream) -> Self {
        Self { stream, batches: VecDeque::new(), reading: Reading::GoesOn }
    }

    pub fn push(&mut self, read: Arc<Read>) {
        if self.takes(read.raw.range) {
            self.batches.push_back(read);
        }
    }

    fn takes(&mut self, range: OffsetRange) -> bool {
        match self.reading {
            Reading::GoesOn => true,
            Reading::Halted => false,
            Reading::GoesBack(to) if range.start > to => false,
            Reading::GoesBack(_) => {
                self.reading = Reading::GoesOn;
                true
            }
        }
    }

    pub fn first(&self) -> Option<&Arc<Read>> {
        self.batches.front()
    }

    pub fn pop(&mut self) {
        self.batches.pop_front();
    }

    /// Lets go of what waits. Answers whether the stream is to be halted, which it may be already.
    pub fn halt(&mut self) -> bool {
        let halts = !self.batches.is_empty() && self.reading != Reading::Halted;
        self.batches.clear();
        if halts {
            self.reading = Reading::Halted;
        }
        halts
    }

    pub fn is_halted(&self) -> bool {
        self.reading == Reading::Halted
    }

    pub fn go_back(&mut self, to: i64) {
        self.reading = Reading::GoesBack(to);
    }

    /// The stream is another from now on, or none.
    pub fn forget(&mut self) {
        self.batches.clear();
        self.reading = Reading::GoesOn;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::budget::Budget;
    use crate::record::{RawBatch, TopicPartition};

    fn read(start: i64, end: i64) -> Arc<Read> {
        let mut raw = RawBatch::new(TopicPartition::new("t", 0), start);
        raw.range = OffsetRange::new(start, end);
        let polled = crate::telemetry::trace::Polled::default();
        Arc::new(Read { raw, charge: Budget::new(1).charge(1), polled })
    }

    #[test]
    fn what_was_on_its_way_before_the_halt_is_not_taken_behind_it() {
        let mut waiting = Waiting::new(Stream::Main);
        waiting.push(read(10, 20));
        waiting.push(read(20, 30));
        assert!(waiting.halt());
        assert!(!waiting.halt() && waiting.first().is_none());
        waiting.push(read(30, 40));
        waiting.go_back(10);
        waiting.push(read(40, 50));
        assert!(waiting.first().is_none());
        for (start, end) in [(10, 15), (15, 45)] {
            waiting.push(read(start, end));
        }
        assert_eq!(waiting.first().unwrap().raw.range, OffsetRange::new(10, 15));
        waiting.pop();
        assert_eq!(waiting.first().unwrap().raw.range, OffsetRange::new(15, 45));
    }
}
