//! Offsets that a sink did not read: those it passed over, and those it waits before. Pure.

use super::check::Claim;
use super::report::GapReport;
use crate::record::{GapReason, OffsetRange, TopicId, TopicPartition};

/// A gap as a sink records it.
#[derive(Debug, Clone)]
pub struct Gap {
    pub source: TopicPartition,
    pub topic_id: TopicId,
    pub range: OffsetRange,
    pub reason: String,
    /// The sink went on after it.
    pub settled: bool,
}

impl Gap {
    fn report(&self) -> GapReport {
        GapReport {
            partition: self.source.partition,
            from: self.range.start,
            to: self.range.end,
            reason: self.reason.clone(),
            settled: self.settled,
        }
    }
}

/// What a partition passed over in one topic. (A former topic's gap excuses no loss in this one.)
pub fn passed(gaps: &[Gap], source: &TopicPartition, topic_id: TopicId) -> Vec<OffsetRange> {
    let passed = gaps.iter().filter(|gap| gap.settled && gap.source == *source);
    passed.filter(|gap| gap.topic_id.agrees(topic_id)).map(|gap| gap.range).collect()
}

/// All that a partition passed over, and what it waits before.
pub fn reports(
    gaps: &[Gap],
    source: &TopicPartition,
    claim: Option<&Claim>,
    low: i64,
) -> Vec<GapReport> {
    let of_it = |gap: &&Gap| gap.source == *source;
    let settled = gaps.iter().filter(of_it).filter(|gap| gap.settled).map(Gap::report);
    let mut reports: Vec<GapReport> = settled.collect();
    let Some(claim) = claim.filter(|claim| claim.present) else { return reports };
    let next = claim.range.end;
    if next < low {
        // Open whether or not a node has come to it yet; it may reach further than what was recorded.
        let known = gaps.iter().filter(of_it).find(|gap| !gap.settled && gap.range.start == next);
        let reason = known.map_or_else(|| GapReason::Expired.to_string(), |it| it.reason.clone());
        let partition = source.partition;
        reports.push(GapReport { partition, from: next, to: low, reason, settled: false });
    }
    reports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(id: u128, start: i64, end: i64, settled: bool) -> Gap {
        Gap {
            source: TopicPartition::new("t", 0),
            topic_id: TopicId::new(uuid::Uuid::from_u128(id)),
            range: OffsetRange::new(start, end),
            reason: "why".into(),
            settled,
        }
    }

    fn claim(end: i64) -> Claim {
        let (gaps, former) = Default::default();
        Claim { range: OffsetRange::new(0, end), gaps, former, present: true }
    }

    #[test]
    fn only_what_was_passed_over_in_this_topic_is_excused() {
        let gaps = [gap(1, 2, 4, true), gap(2, 5, 7, true), gap(1, 9, 12, false)];
        let id = TopicId::new(uuid::Uuid::from_u128(1));
        assert_eq!(passed(&gaps, &gaps[0].source, id), [OffsetRange::new(2, 4)]);
        assert_eq!(passed(&gaps, &TopicPartition::new("t", 1), id), []);
    }

    #[test]
    fn what_a_sink_waits_before_is_open_until_it_went_on() {
        let gaps = [gap(1, 2, 4, true), gap(1, 9, 12, false)];
        let shown = |claim: Option<&Claim>, low| -> Vec<(i64, i64, bool)> {
            let reports = reports(&gaps, &gaps[0].source, claim, low);
            reports.iter().map(|gap| (gap.from, gap.to, gap.settled)).collect()
        };
        assert_eq!(shown(Some(&claim(9)), 15), [(2, 4, true), (9, 15, false)]);
        // The log's start and the watermark say it, found or not.
        assert_eq!(shown(Some(&claim(8)), 15), [(2, 4, true), (8, 15, false)]);
        assert_eq!(shown(Some(&claim(15)), 15), [(2, 4, true)]);
        assert_eq!(shown(None, 15), [(2, 4, true)]);
    }
}
