//! Where reading begins: progress compared with what the log holds.

use crate::config::{OnGap, Start};
use crate::record::{OffsetRange, Progress, TopicId};

/// What the broker holds of a partition.
#[derive(Debug, Clone, Copy)]
pub struct LogBounds {
    pub low: i64,
    /// One past the last offset.
    pub high: i64,
    pub topic_id: TopicId,
}

impl LogBounds {
    /// Whether reading may go on at `position` of the topic that is known by this id.
    pub fn holds(&self, topic_id: TopicId, position: i64) -> bool {
        topic_id.agrees(self.topic_id) && (self.low..=self.high).contains(&position)
    }
}

/// How a lane with progress may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Continue,
    /// The broker has expired records that were never read; the feed says to go on after them.
    Skip(OffsetRange),
    /// The same, and the feed says to wait before them for somebody to settle it.
    ParkAtGap(OffsetRange, String),
    Park(String),
}

/// Judges recorded progress against the log.
pub fn judge(progress: &Progress, log: &LogBounds, on_gap: OnGap) -> Verdict {
    if !progress.topic_id.agrees(log.topic_id) {
        return Verdict::Park(format!(
            "the topic was deleted and created again: progress is for topic id {}, the broker has {}; \
             settle it with `tidegate resolve --restart`, which begins at the new log's start",
            progress.topic_id, log.topic_id
        ));
    }
    let next = progress.next_offset;
    if next > log.high {
        return Verdict::Park(format!(
            "progress stands at {next}, but the log ends at {}: the topic was re-created or truncated; \
             settle it with `tidegate resolve --restart`",
            log.high
        ));
    }
    if next >= log.low {
        return Verdict::Continue;
    }
    let gap = OffsetRange::new(next, log.low);
    match on_gap {
        OnGap::Continue => Verdict::Skip(gap),
        OnGap::Park => {
            let reason = format!(
                "offsets {gap} have expired on the broker and were never read; settle it with \
                 `tidegate resolve --skip-gap`, or set `on_gap: continue` in the feed"
            );
            Verdict::ParkAtGap(gap, reason)
        }
    }
}

/// Where a partition without progress begins, once the feed's rule is resolved. `at_time` is the
/// first offset at or after the rule's timestamp, if the log has one.
///
/// A partition that appears beside others with progress was added later: it begins at the log's
/// start, or what was produced before the rebalance would be lost.
pub fn begin(start: Start, added_later: bool, log: &LogBounds, at_time: Option<i64>) -> i64 {
    if added_later {
        return log.low;
    }
    match start {
        Start::Earliest => log.low,
        Start::Latest => log.high,
        Start::Timestamp(_) => at_time.unwrap_or(log.high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn progress(next_offset: i64, id: u128) -> Progress {
        Progress { next_offset, topic_id: TopicId::new(Uuid::from_u128(id)) }
    }

    fn log(low: i64, high: i64) -> LogBounds {
        LogBounds { low, high, topic_id: TopicId::new(Uuid::from_u128(1)) }
    }

    #[test]
    fn judges_every_case() {
        let continues = |next, low, high| judge(&progress(next, 1), &log(low, high), OnGap::Park);
        assert_eq!(continues(5, 0, 10), Verdict::Continue);
        assert_eq!(continues(10, 0, 10), Verdict::Continue);
        assert_eq!(continues(5, 5, 10), Verdict::Continue);
        assert!(matches!(
            continues(4, 5, 10),
            Verdict::ParkAtGap(OffsetRange { start: 4, end: 5 }, why) if why.contains("[4, 5)")
        ));
        assert!(matches!(continues(11, 0, 10), Verdict::Park(why) if why.contains("ends at 10")));
        assert_eq!(
            judge(&progress(4, 1), &log(5, 10), OnGap::Continue),
            Verdict::Skip(OffsetRange::new(4, 5))
        );
        // Re-created and already longer than the watermark: only the id tells.
        assert!(matches!(
            judge(&progress(5, 2), &log(0, 10), OnGap::Continue),
            Verdict::Park(why) if why.contains("created again")
        ));
        // A broker without topic ids.
        assert_eq!(judge(&progress(5, 0), &log(0, 10), OnGap::Park), Verdict::Continue);
    }

    #[test]
    fn begins_by_the_rule_unless_the_partition_was_added_later() {
        let log = log(3, 9);
        assert_eq!(begin(Start::Earliest, false, &log, None), 3);
        assert_eq!(begin(Start::Latest, false, &log, None), 9);
        assert_eq!(begin(Start::Latest, true, &log, None), 3);
        assert_eq!(begin(Start::Timestamp(0), false, &log, Some(6)), 6);
        assert_eq!(begin(Start::Timestamp(0), false, &log, None), 9);
    }
}
