//! How far the generator is ahead of the sinks, in bytes.

use std::collections::VecDeque;

use crate::generate::Topic;
use crate::publish::Tally;

/// Remembers how many bytes lay before which offset, so that the sinks' offsets can be read as
/// bytes. Rounds up: a partition is never less ahead than it says.
#[derive(Default)]
pub struct Lead {
    /// By topic, then partition.
    tracks: [Vec<Track>; Topic::DEMO.len()],
}

#[derive(Default, Clone)]
struct Track {
    /// An offset, and the bytes before it; oldest first.
    marks: VecDeque<(i64, u64)>,
    durable_bytes: u64,
}

impl Lead {
    /// Bytes by which the fullest partition may be ahead. `durable` tells up to where a partition
    /// is durable in every sink.
    pub fn of(&mut self, tally: &Tally, durable: impl Fn(Topic, i32) -> i64) -> u64 {
        let mut most = 0;
        for topic in Topic::DEMO {
            let of = tally.topic(topic);
            let tracks = &mut self.tracks[topic as usize];
            tracks.resize(tracks.len().max(of.partitions.len()), Track::default());
            // What is on its way may all be for one partition.
            let unanswered = of.unanswered_bytes();
            most = most.max(unanswered);
            for (partition, (track, taken)) in tracks.iter_mut().zip(&of.partitions).enumerate() {
                if track.marks.back().is_none_or(|(end, _)| *end < taken.end) {
                    track.marks.push_back((taken.end, taken.taken_bytes));
                }
                let durable = durable(topic, partition as i32);
                while let Some((_, bytes)) = track.marks.pop_front_if(|(end, _)| *end <= durable) {
                    track.durable_bytes = bytes;
                }
                most = most.max(taken.taken_bytes - track.durable_bytes + unanswered);
            }
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_partition_counts_and_offsets_become_bytes() {
        let topic = Topic::TransactionLog;
        let mut tally = Tally::default();
        let mut lead = Lead::default();
        assert_eq!(lead.of(&tally, |_, _| 0), 0);

        let take = |tally: &mut Tally, partition, offset, bytes| {
            let of = tally.topic_mut(topic);
            of.sent_bytes += bytes;
            of.take(partition, offset, bytes);
        };
        take(&mut tally, 0, 0, 100);
        take(&mut tally, 1, 0, 300);
        assert_eq!(lead.of(&tally, |_, _| 0), 300);
        take(&mut tally, 0, 1, 1000);
        assert_eq!(lead.of(&tally, |_, _| 0), 1100);
        // The first record of both is durable.
        assert_eq!(lead.of(&tally, |_, _| 1), 1000);
        tally.topic_mut(topic).sent_bytes += 7;
        assert_eq!(lead.of(&tally, |_, _| 1), 1007);
        assert_eq!(lead.of(&tally, |_, _| 2), 7);
        // Between two marks nothing is let go.
        take(&mut tally, 0, 2, 10);
        take(&mut tally, 0, 3, 10);
        assert_eq!(lead.of(&tally, |_, _| 3), 27);
        assert_eq!(lead.of(&tally, |_, _| 4), 7);
    }

    #[test]
    fn one_topic_does_not_hide_another() {
        let mut tally = Tally::default();
        for (topic, bytes) in [(Topic::TransactionLog, 5), (Topic::PaymentMethodTotals, 50)] {
            tally.topic_mut(topic).sent_bytes += bytes;
            tally.topic_mut(topic).take(0, 0, bytes);
        }
        let durable = |topic, _| i64::from(topic == Topic::PaymentMethodTotals);
        assert_eq!(Lead::default().of(&tally, durable), 5);
    }
}
