//! One feed: each partition weighed, and what is found put into a report.

use std::collections::{BTreeSet, HashMap};

use super::account::{Account, Held, Tally, weigh, weigh_rejects};
use super::check::{Checking, Claims, Gaps};
use super::lake::{self, Lake};
use super::report::{GapReport, PartitionReport, SinkReport};
use super::spool::{Entry, Spool};
use super::topic::Topic;
use super::{keys, warehouse};
use crate::config::{Feed, FeedKind};

impl Checking<'_> {
    pub fn report_lake(&mut self, lake: &Lake, scan: &lake::Scan) -> SinkReport {
        let mut report = SinkReport {
            files: Some(scan.files),
            bytes: Some(scan.bytes),
            unreadable: scan.unreadable.clone(),
            out_of_place: scan.astray,
            gaps: gap_reports(self.feed, &lake.rows.gaps),
            ..SinkReport::default()
        };
        if scan.astray > 0 {
            self.notes.push(format!(
                "lake: rows of another topic, or of a partition without progress: {}",
                scan.astray
            ));
        }
        if let Some(version) = lake.rows.restored {
            self.notes.push(format!(
                "lake: rolled back by a Delta RESTORE (version {version}) and not settled since: \
                 `tidegate resolve --feed {} --rewind-lake`",
                self.feed.name
            ));
        }
        let claims = std::mem::take(&mut self.lake_claims);
        self.add_partitions("lake", &mut report, &claims, &scan.tallies, false);
        report
    }

    pub fn report_warehouse(&mut self, mut scan: warehouse::Scan) -> Result<SinkReport, String> {
        let mut report = SinkReport {
            out_of_place: scan.astray,
            gaps: gap_reports(self.feed, &scan.gaps),
            ..SinkReport::default()
        };
        if scan.astray > 0 {
            self.notes.push(format!(
                "warehouse: rows of another topic, or of a partition without progress: {}",
                scan.astray
            ));
        }
        if let Some(name) = scan.without_table.as_ref().filter(|_| !scan.progress.is_empty()) {
            self.notes.push(format!("warehouse: there is no table {name} that this user can see"));
        }
        let is_table = self.feed.kind == FeedKind::Table;
        if scan.without_offsets && !is_table {
            self.notes.push(
                "warehouse: the table has no columns _topic, _partition and _offset: its rows were \
                 not compared"
                    .to_owned(),
            );
            return Ok(report);
        }
        let claims = std::mem::take(&mut self.warehouse_claims);
        self.add_partitions("warehouse", &mut report, &claims, &scan.tallies, is_table);
        if let Some(table) = &mut scan.table {
            self.add_keys(&mut report, table, &claims)?;
            report.rows = scan.rows;
        }
        if report.doubled > 0 && !is_table && self.made_again {
            self.notes.push(
                "warehouse: there was a topic of this name before, and rows do not say which topic \
                 they are of: the doubled ones may be of the former"
                    .to_owned(),
            );
        }
        Ok(report)
    }

    fn add_keys(
        &mut self,
        report: &mut SinkReport,
        table: &mut Spool,
        claims: &Claims,
    ) -> Result<(), String> {
        let columns = self.feed.schema.columns.iter();
        let names: Vec<String> = columns.map(|column| column.name.clone()).collect();
        let expired = |row: &Entry| may_be_gone(row, &self.topic, claims);
        report.add_keys(keys::compare(&mut self.records, table, &names, expired)?);
        Ok(())
    }

    fn add_partitions(
        &mut self,
        sink: &str,
        report: &mut SinkReport,
        claims: &Claims,
        tallies: &HashMap<i32, Tally>,
        keyed: bool,
    ) {
        let partitions: BTreeSet<i32> =
            self.topic.partitions.keys().chain(claims.keys()).copied().collect();
        let none = Tally::default();
        let nothing = Held::default();
        for partition in partitions {
            let held = self.topic.partitions.get(&partition).unwrap_or(&nothing);
            let tally = tallies.get(&partition).unwrap_or(&none);
            let claim = claims.get(&partition);
            let entry = PartitionReport {
                partition,
                start: claim.map(|claim| claim.range.start),
                watermark: claim.map(|claim| claim.range.end),
                log_low: held.low,
                log_high: held.high,
                compared: claim.is_some_and(|claim| claim.present),
                rows: tally.rows,
                quarantined: tally.quarantined.len(),
                ..PartitionReport::default()
            };
            if tally.former > 0 {
                self.notes.push(format!(
                    "{sink}: partition {partition}: rows of a former topic of this name: {}",
                    tally.former
                ));
            }
            let account = match claim {
                Some(claim) if claim.present && keyed => {
                    weigh_rejects(claim.range, held, tally, &claim.gaps)
                }
                Some(claim) if claim.present => {
                    weigh(claim.range, held, tally, &claim.gaps, self.topic.strict)
                }
                Some(claim) => {
                    self.notes.push(format!(
                        "{sink}: partition {partition}: its progress is for a topic the broker no \
                         longer has: not compared"
                    ));
                    let unchecked = (claim.range.end - claim.range.start).max(0) as u64;
                    Account { unchecked, ..Account::default() }
                }
                None => Account::default(),
            };
            report.add(entry, &account);
        }
    }
}

/// Whether the log may have dropped the record of a table's row.
///
/// It has if the record stood before the log's start. Compaction alone keeps the last record of each
/// key, so a row without any is wrong, unless a later record, not claimed yet, took its place.
fn may_be_gone(row: &Entry, topic: &Topic, claims: &Claims) -> bool {
    let in_partition = |partition: i32, offset: Option<i64>| {
        let (Some(held), Some(claim)) = (topic.partitions.get(&partition), claims.get(&partition))
        else {
            return false;
        };
        let before_the_log = offset.unwrap_or(claim.range.start) < held.low;
        let replaced = !topic.strict && claim.range.end < held.high;
        !claim.present || before_the_log || replaced
    };
    match row.partition {
        Some(partition) => in_partition(partition, row.offset),
        // A table that does not keep where its rows come from.
        None => topic.partitions.keys().any(|partition| in_partition(*partition, None)),
    }
}

fn gap_reports(feed: &Feed, gaps: &Gaps) -> Vec<GapReport> {
    let of_topic = gaps.iter().filter(|(source, _, _)| source.topic == feed.topic);
    of_topic
        .map(|(source, range, reason)| GapReport {
            partition: source.partition,
            from: range.start,
            to: range.end,
            reason: reason.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{OffsetRange, TopicId};
    use crate::verify::check::Claim;

    #[test]
    fn a_row_without_a_record_is_judged_by_where_it_stood() {
        let gone = |strict, end, present, partition, offset| {
            let held = Held { low: 10, high: 100, ..Held::default() };
            let partitions = [(0, held)].into();
            let topic = Topic { name: "t".into(), id: TopicId::UNKNOWN, partitions, strict };
            let claim = Claim { range: OffsetRange::new(10, end), gaps: Vec::new(), present };
            let row = Entry { key: Vec::new(), partition, offset, columns: None };
            may_be_gone(&row, &topic, &HashMap::from([(0, claim)]))
        };
        assert!(gone(true, 100, true, Some(0), Some(5)));
        assert!(!gone(true, 50, true, Some(0), Some(20)));
        // Compacted: certain only once all is claimed.
        assert!(gone(false, 50, true, Some(0), Some(20)));
        assert!(!gone(false, 100, true, Some(0), Some(20)));
        // Of a topic that is no more.
        assert!(gone(true, 100, false, Some(0), Some(20)));
        // A table that says nothing, of a log that is whole.
        assert!(!gone(true, 100, true, None, None));
    }
}
