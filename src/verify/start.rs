//! Where the offsets that the lake claims begin, if nothing says so. Pure.
//!
//! The warehouse keeps it beside the progress, and the lake's log says it: the first commit that names
//! a partition carries its start. Where those first entries are gone it is the least of what is known:
//!
//! * where the feed's rule begins: the log's start for `earliest`, since the log's start only moves up
//!   and what lies below it cannot be compared anyway; the first offset at the time for a timestamp;
//!   not known for `latest`;
//! * the first offset seen among rows, quarantine and gaps.
//!
//! So in such a lake, with `start: latest`, records lost before the first row of a partition go unseen.

use crate::record::OffsetRange;

/// `begin`: by the feed's rule; `seen`: the least offset met; `end`: the watermark.
pub fn first_claimed(begin: Option<i64>, seen: Option<i64>, gaps: &[OffsetRange], end: i64) -> i64 {
    let gap = gaps.iter().map(|gap| gap.start).min();
    [begin, seen, gap].into_iter().flatten().min().map_or(end, |least| least.min(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_least_that_is_known() {
        let gap = [OffsetRange::new(3, 8)];
        assert_eq!(first_claimed(Some(0), Some(2), &[], 10), 0);
        assert_eq!(first_claimed(Some(5), Some(2), &[], 10), 2);
        assert_eq!(first_claimed(Some(8), Some(8), &gap, 10), 3);
        assert_eq!(first_claimed(None, Some(7), &[], 10), 7);
        assert_eq!(first_claimed(None, None, &[], 10), 10);
        // Retention went past the watermark.
        assert_eq!(first_claimed(Some(20), None, &[], 10), 10);
    }
}
