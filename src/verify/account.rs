//! What a sink holds of one partition, weighed against the log. Pure.

use super::offsets::Offsets;
use crate::record::OffsetRange;

/// How many differing offsets are named.
pub const EXAMPLES: usize = 5;

/// A count, and the first few of what was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub count: u64,
    pub first: Vec<i64>,
}

impl Found {
    pub fn add(&mut self, offset: i64) {
        self.count += 1;
        if self.first.len() < EXAMPLES {
            self.first.push(offset);
        }
    }
}

impl Extend<i64> for Found {
    fn extend<T: IntoIterator<Item = i64>>(&mut self, offsets: T) {
        offsets.into_iter().for_each(|offset| self.add(offset));
    }
}

/// What was met in one partition of a sink.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub rows: u64,
    /// Rows and quarantined records, each offset once.
    held: Offsets,
    /// Of these, the quarantined.
    pub quarantined: Offsets,
    /// Rows that came back from quarantine.
    replayed: Offsets,
    /// Of these, those that were met there too.
    came_back: Offsets,
    doubled: Found,
    /// Rows that stand where no reader would look for them.
    misplaced: Found,
    /// Rows and quarantined records of former topics of this name.
    pub former: u64,
    /// Rows that retention took away, as it wrote them down.
    pub retired: u64,
    /// Rows that were taken for a former topic's by their offset alone.
    taken_for_former: Offsets,
    /// For each former topic, which of its records were met.
    met: Vec<Offsets>,
    first: Option<i64>,
}

impl Tally {
    pub fn row(&mut self, offset: i64) {
        self.last_of_key(offset);
        if !self.held.insert(offset) {
            self.doubled.add(offset);
        }
    }

    /// A table's row, which stands for all records of its key.
    pub fn last_of_key(&mut self, offset: i64) {
        self.rows += 1;
        self.see(offset);
    }

    /// A row that came back from quarantine, whose record is met there, too.
    pub fn replayed_row(&mut self, offset: i64) {
        self.row(offset);
        self.replayed.insert(offset);
    }

    /// A row that was there until retention took it away.
    pub fn retire(&mut self, offset: i64, replayed: bool) {
        match replayed {
            true => self.replayed_row(offset),
            false => self.row(offset),
        }
        self.rows -= 1;
        self.retired += 1;
    }

    /// A record in quarantine that is written down as replayed: its row must be there, whatever the
    /// file it lies in is called by now.
    pub fn quarantined_and_replayed(&mut self, offset: i64) {
        self.came_back.insert(offset);
    }

    pub fn quarantine(&mut self, offset: i64) {
        if self.replayed.contains(offset) {
            self.came_back.insert(offset);
            return;
        }
        self.see(offset);
        if !self.held.insert(offset) {
            self.doubled.add(offset);
        }
        self.quarantined.insert(offset);
    }

    /// Takes a row whose offset former topics had too, by the ranges that were taken of them: rows do
    /// not say which topic they are of, so the first at an offset is the former's. Answers false when
    /// each of them has its row already.
    pub fn row_of_former(&mut self, ranges: &[OffsetRange], offset: i64) -> bool {
        let taken = self.meet_former(ranges, offset);
        if taken {
            self.former += 1;
            self.taken_for_former.insert(offset);
        }
        taken
    }

    /// A record in quarantine says which topic it is of; it has no row.
    pub fn quarantined_of_former(&mut self, ranges: &[OffsetRange], offset: i64) {
        self.former += 1;
        self.meet_former(ranges, offset);
    }

    fn meet_former(&mut self, ranges: &[OffsetRange], offset: i64) -> bool {
        if self.met.len() < ranges.len() {
            self.met.resize_with(ranges.len(), Offsets::default);
        }
        let mut both = ranges.iter().zip(&mut self.met);
        both.any(|(range, met)| range.contains(offset) && met.insert(offset))
    }

    pub fn misplace(&mut self, offset: i64) {
        self.misplaced.add(offset);
    }

    fn see(&mut self, offset: i64) {
        self.first = Some(self.first.map_or(offset, |first| first.min(offset)));
    }

    /// The least offset that was met.
    pub fn first(&self) -> Option<i64> {
        self.first
    }
}

/// What the log holds of one partition.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// The offsets it holds: the first, and one past the last.
    pub low: i64,
    pub high: i64,
    /// The records that were read.
    pub records: Offsets,
    /// Of these, those that do not decode; for tables only.
    pub rejects: Offsets,
}

/// One partition's account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    pub lost: Found,
    pub doubled: Found,
    pub out_of_place: Found,
    pub unchecked: u64,
}

/// Weighs rows that are appended: each record of the claimed range that the log still holds must be
/// there once, as a row or in quarantine.
///
/// `strict`: the log loses records from its start alone, so a row from further on that it does not
/// hold was never committed. In a compacted topic nobody can tell.
pub fn weigh(
    claimed: OffsetRange,
    log: &Held,
    tally: &Tally,
    gaps: &[OffsetRange],
    strict: bool,
) -> Account {
    let OffsetRange { start, end } = claimed;
    let within_gap = |offset: &i64| gaps.iter().any(|gap| gap.contains(*offset));
    let mut account = Account { doubled: tally.doubled.clone(), ..Account::default() };
    let from = start.max(log.low);
    for offset in log.records.without(&tally.held, from, end).filter(|it| !within_gap(it)) {
        // A row is there that was taken for a former topic's; that one may have had a hole instead.
        match tally.taken_for_former.contains(offset) {
            true => account.unchecked += 1,
            false => account.lost.add(offset),
        }
    }
    let unknown = tally.held.without(&log.records, from, end.max(from));
    account.out_of_place = tally.misplaced.clone();
    // Nothing that could have come back.
    account.out_of_place.extend(tally.replayed.without(&tally.came_back, i64::MIN, i64::MAX));
    if strict {
        account.out_of_place.extend(unknown);
    } else {
        account.unchecked += unknown.count() as u64;
    }
    account.out_of_place.extend(tally.held.within(i64::MIN, start));
    account.out_of_place.extend(tally.held.within(end, i64::MAX));
    account.unchecked += expired(claimed, log.low, gaps);
    account
}

/// Weighs a table's rejects: each must be in quarantine. Its rows are compared by key.
pub fn weigh_rejects(
    claimed: OffsetRange,
    log: &Held,
    tally: &Tally,
    gaps: &[OffsetRange],
) -> Account {
    let mut account = Account { out_of_place: tally.misplaced.clone(), ..Account::default() };
    let from = claimed.start.max(log.low);
    let missing = log.rejects.without(&tally.quarantined, from, claimed.end);
    account.lost.extend(missing.filter(|offset| !gaps.iter().any(|gap| gap.contains(*offset))));
    account.out_of_place.extend(tally.quarantined.within(i64::MIN, claimed.start));
    account.out_of_place.extend(tally.quarantined.within(claimed.end, i64::MAX));
    account.unchecked = expired(claimed, log.low, gaps);
    account
}

/// Claimed offsets below the log's start, less those that were skipped.
fn expired(claimed: OffsetRange, low: i64, gaps: &[OffsetRange]) -> u64 {
    let end = claimed.end.min(low);
    let overlap = |gap: &OffsetRange| (gap.end.min(end) - gap.start.max(claimed.start)).max(0);
    let skipped: i64 = gaps.iter().map(overlap).sum();
    (end - claimed.start - skipped).max(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(low: i64, offsets: impl IntoIterator<Item = i64>) -> Held {
        let mut held = Held { low, ..Held::default() };
        for offset in offsets {
            held.records.insert(offset);
            held.high = offset + 1;
        }
        held
    }

    fn rows(offsets: impl IntoIterator<Item = i64>) -> Tally {
        let mut tally = Tally::default();
        offsets.into_iter().for_each(|offset| tally.row(offset));
        tally
    }

    fn claim(start: i64, end: i64) -> OffsetRange {
        OffsetRange::new(start, end)
    }

    #[test]
    fn all_there_is_no_difference_whatever_the_holes() {
        // 3 is a transaction marker, 7 was aborted.
        let log = log(0, [0, 1, 2, 4, 5, 6, 8]);
        let mut tally = rows([0, 1, 2, 4, 5, 8]);
        tally.quarantine(6);
        let account = weigh(claim(0, 10), &log, &tally, &[], true);
        assert_eq!(account, Account::default());
        assert_eq!((tally.rows, tally.quarantined.len()), (6, 1));
    }

    #[test]
    fn finds_what_is_lost_doubled_and_out_of_place() {
        let mut tally = rows([1, 2, 2, 4, 12, 7]);
        tally.quarantine(4);
        tally.misplace(1);
        let account = weigh(claim(2, 10), &log(0, [0, 1, 2, 3, 4, 5, 11]), &tally, &[], true);
        assert_eq!(account.lost.first, [3, 5]);
        assert_eq!(account.doubled.first, [2, 4]);
        // Misplaced; an offset that was never committed; below the claim; beyond it.
        assert_eq!(account.out_of_place.first, [1, 7, 1, 12]);
    }

    #[test]
    fn beyond_the_watermark_nothing_is_expected() {
        let account = weigh(claim(0, 2), &log(0, 0..100), &rows([0, 1]), &[], true);
        assert_eq!(account, Account::default());
    }

    #[test]
    fn what_the_log_no_longer_holds_is_unchecked() {
        let account = weigh(claim(0, 10), &log(6, 6..10), &rows([0, 1, 6, 7, 8, 9]), &[], true);
        assert_eq!(account, Account { unchecked: 6, ..Account::default() });
        // A recorded gap is no loss, and not unchecked either.
        let account =
            weigh(claim(0, 10), &log(6, 6..10), &rows([0, 1, 6, 7, 8, 9]), &[claim(2, 6)], true);
        assert_eq!(account.unchecked, 2);
        // A compacted record leaves its row alone.
        let account = weigh(claim(0, 4), &log(0, [0, 3]), &rows(0..4), &[], false);
        assert_eq!(account, Account { unchecked: 2, ..Account::default() });
    }

    #[test]
    fn rows_of_former_topics_are_neither_doubled_nor_out_of_place() {
        let former = [claim(0, 20), claim(5, 10)];
        let mut tally = Tally::default();
        let mut row = |offset| {
            if !tally.row_of_former(&former, offset) {
                tally.row(offset);
            }
        };
        (0..20).for_each(&mut row);
        (5..10).for_each(&mut row);
        (0..8).for_each(&mut row);
        let account = weigh(claim(0, 8), &log(0, 0..8), &tally, &[], true);
        assert_eq!((account, tally.former, tally.rows), (Account::default(), 25, 8));
        // One more than the topics had, and one that none of them had.
        for offset in [6, 30] {
            assert!(!tally.row_of_former(&former, offset));
            tally.row(offset);
        }
        let account = weigh(claim(0, 8), &log(0, 0..8), &tally, &[], true);
        assert_eq!((account.doubled.first, account.out_of_place.first), (vec![6], vec![30]));
    }

    #[test]
    fn a_row_that_may_be_either_topics_is_unchecked() {
        let mut tally = Tally::default();
        // The former topic had a record at 1 in quarantine, none at 2, and nothing from 3 on.
        tally.quarantined_of_former(&[claim(0, 3)], 1);
        for offset in [0, 0, 1, 2, 3] {
            if !tally.row_of_former(&[claim(0, 3)], offset) {
                tally.row(offset);
            }
        }
        let account = weigh(claim(0, 5), &log(0, 0..5), &tally, &[], true);
        assert_eq!((account.lost.first, account.unchecked), (vec![4], 1));
    }

    #[test]
    fn a_gap_settled_by_hand_is_not_lost() {
        let account = weigh(claim(0, 5), &log(0, 0..5), &rows([0, 1, 4]), &[claim(2, 4)], true);
        assert_eq!(account, Account::default());
    }

    #[test]
    fn a_tables_rejects_must_be_in_quarantine() {
        let mut log = log(2, 2..10);
        for offset in [3, 5] {
            log.rejects.insert(offset);
        }
        let mut tally = Tally::default();
        [0, 3, 11].into_iter().for_each(|offset| tally.quarantine(offset));
        let account = weigh_rejects(claim(0, 10), &log, &tally, &[]);
        assert_eq!((account.lost.first, account.unchecked), (vec![5], 2));
        assert_eq!(account.out_of_place.first, [11]);
    }

    #[test]
    fn what_retention_took_is_not_lost_and_not_there_twice() {
        let mut tally = rows([3, 4]);
        (0..3).for_each(|offset| tally.retire(offset, offset == 1));
        tally.quarantine(1);
        let account = weigh(claim(0, 5), &log(0, 0..5), &tally, &[], true);
        assert_eq!((account, tally.rows, tally.retired), (Account::default(), 2, 3));
        tally.row(0);
        let account = weigh(claim(0, 5), &log(0, 0..5), &tally, &[], true);
        assert_eq!(account.doubled.first, [0]);
    }

    #[test]
    fn what_came_back_from_quarantine_is_a_row_once() {
        let mut tally = rows([0, 1]);
        tally.replayed_row(2);
        (2..4).for_each(|offset| tally.quarantine(offset));
        let account = weigh(claim(0, 4), &log(0, 0..4), &tally, &[], true);
        assert_eq!(account, Account::default());
        assert_eq!((tally.rows, tally.quarantined.len()), (3, 1));
        // By what is written down alone; then its row may not be missing.
        let mut told = rows([0, 1, 2]);
        (2..4).for_each(|offset| told.quarantined_and_replayed(offset));
        let account = weigh(claim(0, 4), &log(0, 0..4), &told, &[], true);
        assert_eq!((account.doubled.count, account.lost.first), (0, vec![3]));
        // Twice; beside a row of its own; and out of nowhere.
        for (offset, doubled) in [(2, true), (1, true), (5, false)] {
            let mut tally = tally.clone();
            tally.replayed_row(offset);
            let account = weigh(claim(0, 6), &log(0, 0..6), &tally, &[], true);
            assert_eq!(account.doubled.count, u64::from(doubled), "{offset}");
            assert_eq!(account.out_of_place.count, u64::from(offset != 2), "{offset}");
        }
    }

    #[test]
    fn examples_are_few() {
        let account = weigh(claim(0, 100), &log(0, 0..100), &rows([]), &[], true);
        assert_eq!((account.lost.count, account.lost.first), (100, vec![0, 1, 2, 3, 4]));
    }
}
