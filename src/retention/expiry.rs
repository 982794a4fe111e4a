//! Which times of a table are over: whole partitions, by age and by size.

use std::collections::BTreeMap;

/// How much of a table is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// Partitions whose end is longer ago go.
    pub days: Option<u32>,
    /// The oldest partitions go until no more is left.
    pub bytes: Option<u64>,
}

/// A file, as far as its age matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dated {
    /// The end of the time its rows belong to, milliseconds since the epoch; files of one end are one
    /// partition. None: it cannot be told.
    pub end_ms: Option<i64>,
    pub bytes: u64,
}

const DAY_MS: i64 = 86_400_000;

/// Indices of the files whose time is over. A partition that is not at its end yet never goes, however
/// large it is; nor does one whose time cannot be told.
pub fn expired(files: &[Dated], policy: Policy, now_ms: i64) -> Vec<usize> {
    let mut partitions: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        if let Some(end) = file.end_ms {
            partitions.entry(end).or_default().push(index);
        }
    }
    let before = policy.days.map(|days| now_ms - i64::from(days) * DAY_MS);
    let mut held: u64 = files.iter().map(|file| file.bytes).sum();
    let mut gone = Vec::new();
    for (end, of) in partitions {
        let too_old = before.is_some_and(|before| end <= before);
        let too_much = policy.bytes.is_some_and(|bytes| held > bytes) && end <= now_ms;
        if !too_old && !too_much {
            break;
        }
        held -= of.iter().map(|index| files[*index].bytes).sum::<u64>();
        gone.extend(of);
    }
    gone.sort_unstable();
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 20_381 * DAY_MS + DAY_MS / 2;

    /// A file of the day that is so many days before today's, whose noon it is.
    fn day(before: i64, bytes: u64) -> Dated {
        Dated { end_ms: Some((20_382 - before) * DAY_MS), bytes }
    }

    fn days(days: u32) -> Policy {
        Policy { days: Some(days), bytes: None }
    }

    #[test]
    fn a_partition_goes_when_all_of_it_is_too_old() {
        let files = [day(8, 1), day(7, 1), day(0, 1), day(8, 1)];
        // The rest of the day seven days ago is wanted still.
        assert_eq!(expired(&files, days(7), NOW), [0, 3]);
        assert_eq!(expired(&files, days(7), NOW + DAY_MS / 2), [0, 1, 3]);
        assert!(expired(&files, Policy::default(), NOW).is_empty());
    }

    #[test]
    fn the_oldest_go_until_few_enough_bytes_are_left() {
        let files = [day(2, 5), day(3, 5), day(1, 5), day(0, 50)];
        let bytes = |bytes| Policy { days: None, bytes: Some(bytes) };
        assert_eq!(expired(&files, bytes(60), NOW), [1]);
        assert_eq!(expired(&files, bytes(65), NOW), [] as [usize; 0]);
        // Today's is written to.
        assert_eq!(expired(&files, bytes(1), NOW), [0, 1, 2]);
        assert_eq!(expired(&files, Policy { days: Some(3), bytes: Some(64) }, NOW), [1]);
    }

    #[test]
    fn what_is_to_come_or_cannot_be_told_stays() {
        let files = [day(-400, 9), Dated { end_ms: None, bytes: 9 }];
        assert!(expired(&files, Policy { days: Some(0), bytes: Some(0) }, NOW).is_empty());
    }
}
