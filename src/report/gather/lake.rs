//! A feed's table in the lake, by its files as the log or the chains name them.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use tokio::time::timeout;

use crate::config::Feed;
use crate::lake::LakeStore;
use crate::lake::scan::{At, NotOpened, ScanFile, TableScan};
use crate::report::facts::{LakeFacts, Point, TimeTotals, Told};

/// How long one table's log may take.
const WITHIN: Duration = Duration::from_secs(60);
/// Times that a chart has room for; of more days months are made, and of these years.
const TIMES: usize = 62;
/// Points that a chart has room for.
const POINTS: usize = 200;

/// None where there is no table yet.
pub async fn facts(lake: &LakeStore, feed: &Feed) -> Told<Option<LakeFacts>> {
    let opened = timeout(WITHIN, TableScan::open(lake, feed, At::Latest)).await;
    match opened {
        Ok(Ok(scan)) => Ok(Some(of(&scan))),
        Ok(Err(NotOpened::NoTable(_))) => Ok(None),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("reading its log took more than {} seconds", WITHIN.as_secs())),
    }
}

fn of(scan: &TableScan) -> LakeFacts {
    let files = scan.files();
    let rows = files.iter().map(|file| file.rows);
    LakeFacts {
        version: scan.version(),
        committed_ms: scan.committed_ms(),
        files: files.len() as u64,
        bytes: files.iter().map(|file| file.size).sum(),
        rows: rows.sum(),
        times: times(
            files.iter().map(|file| (day(file), file.rows.unwrap_or_default(), file.size)),
        ),
        growth: growth(files.iter().map(|it| (it.added_ms, it.rows.unwrap_or_default(), it.size))),
    }
}

/// The day, month or year that a file's rows are of; else the day on which it was added.
fn day(file: &ScanFile) -> String {
    match &file.time {
        Some(time) => time.chars().take(10).collect(),
        None => DateTime::from_timestamp_millis(file.added_ms)
            .map(|time| time.date_naive().to_string())
            .unwrap_or_default(),
    }
}

/// Adds up by time; where there are too many, by longer times.
fn times(files: impl Iterator<Item = (String, u64, u64)>) -> Vec<TimeTotals> {
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (time, rows, bytes) in files {
        add(&mut found, time, (rows, bytes));
    }
    for length in ["0000-00".len(), "0000".len()] {
        if found.len() <= TIMES {
            break;
        }
        for (time, totals) in std::mem::take(&mut found) {
            add(&mut found, time.chars().take(length).collect(), totals);
        }
    }
    found.into_iter().map(|(time, (rows, bytes))| TimeTotals { time, rows, bytes }).collect()
}

fn add(found: &mut BTreeMap<String, (u64, u64)>, time: String, totals: (u64, u64)) {
    let sum = found.entry(time).or_default();
    (sum.0, sum.1) = (sum.0 + totals.0, sum.1 + totals.1);
}

/// What there was after each commit; of too many commits each so-manieth, the first and the last among them.
fn growth(files: impl Iterator<Item = (i64, u64, u64)>) -> Vec<Point> {
    let mut commits: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for (at_ms, rows, bytes) in files {
        let sum = commits.entry(at_ms).or_default();
        (sum.0, sum.1) = (sum.0 + rows, sum.1 + bytes);
    }
    let (mut rows, mut bytes) = (0, 0);
    let mut points = Vec::new();
    for (at_ms, more) in commits {
        (rows, bytes) = (rows + more.0, bytes + more.1);
        points.push(Point { at_ms, rows, bytes });
    }
    if points.len() <= POINTS {
        return points;
    }
    let last = points.len() - 1;
    (0..POINTS).map(|index| points[index * last / (POINTS - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_days_months_are_made_and_of_these_years() {
        let day = |number: i32| {
            let day = chrono::NaiveDate::default() + chrono::Days::new(number as u64);
            (day.to_string(), 2, 10)
        };
        let of = |days: i32| times((0..days).map(day));
        assert_eq!(of(0), []);
        assert_eq!(of(62).len(), 62);
        let months = of(63);
        let names: Vec<&str> = months.iter().map(|it| it.time.as_str()).collect();
        assert_eq!(names, ["1970-01", "1970-02", "1970-03"]);
        let years = of(365 * 6);
        assert_eq!(years.len(), 6);
        assert_eq!(
            years
                .iter()
                .map(|it| (it.rows, it.bytes))
                .fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1)),
            (2 * 365 * 6, 10 * 365 * 6)
        );
    }

    #[test]
    fn growth_begins_with_the_first_commit_and_ends_with_all_there_is() {
        let point = |at_ms, rows, bytes| Point { at_ms, rows, bytes };
        assert_eq!(growth([].into_iter()), []);
        assert_eq!(
            growth([(5, 1, 10), (3, 1, 10), (5, 2, 20)].into_iter()),
            [point(3, 1, 10), point(5, 4, 40)]
        );
        let many = growth((0..100_000).map(|at| (at, 1, 3)));
        assert_eq!(many.len(), POINTS);
        assert_eq!((many[0], many[POINTS - 1]), (point(0, 1, 3), point(99_999, 100_000, 300_000)));
        assert!(many.is_sorted_by(|one, next| one.at_ms < next.at_ms && one.rows < next.rows));
    }
}
