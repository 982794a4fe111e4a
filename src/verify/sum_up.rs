//! One feed: each partition weighed, and what is found put into a report.

use std::collections::{BTreeSet, HashMap};

use super::account::{Account, Held, Tally, weigh, weigh_rejects};
use super::check::{Checking, Claims};
use super::gap::{self, Gap};
use super::lake::{self, Lake};
use super::report::{GapReport, PartitionReport, SinkReport};
use super::spool::{Entry, Spool};
use super::topic::Topic;
use super::{keys, warehouse};
use crate::config::FeedKind;
use crate::record::{OffsetRange, TopicPartition};
use crate::warehouse::shaped;

impl Checking<'_> {
    pub fn report_lake(&mut self, lake: &Lake, scan: &lake::Scan) -> SinkReport {
        let mut report = SinkReport {
            files: Some(scan.files),
            bytes: Some(scan.bytes),
            unreadable: scan.unreadable.clone(),
            out_of_place: scan.astray,
            gaps: self.gaps(lake.rows.gaps(), &self.lake_claims),
            ..SinkReport::default()
        };
        if scan.astray > 0 {
            self.notes.push(format!(
                "lake: rows of another topic, or of a partition without progress: {}",
                scan.astray
            ));
        }
        if let Some(version) = lake.rows.restored() {
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
            gaps: self.gaps(&scan.gaps, &self.warehouse_claims),
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
        Ok(report)
    }

    fn gaps(&self, gaps: &[Gap], claims: &Claims) -> Vec<GapReport> {
        let of_topic = gaps.iter().filter(|gap| gap.source.topic == self.feed.topic);
        let known = of_topic.map(|gap| gap.source.partition);
        let partitions: BTreeSet<i32> = known.chain(claims.keys().copied()).collect();
        let reports = partitions.into_iter().flat_map(|partition| {
            let source = TopicPartition::new(self.feed.topic.clone(), partition);
            let low = self.topic.partitions.get(&partition).map_or(0, |held| held.low);
            gap::reports(gaps, &source, claims.get(&partition), low)
        });
        reports.collect()
    }

    fn add_keys(
        &mut self,
        report: &mut SinkReport,
        table: &mut Spool,
        claims: &Claims,
    ) -> Result<(), String> {
        let columns = &shaped(self.feed).schema.columns;
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
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
                former: tally.former,
                retired: tally.retired,
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
/// It has if the record stood before the log's start, or in a topic that is no more. Compaction alone keeps the last record of each
/// key, so a row without any is wrong, unless a later record, not claimed yet, took its place.
fn may_be_gone(row: &Entry, topic: &Topic, claims: &Claims) -> bool {
    let in_partition = |partition: i32, offset: Option<i64>| {
        let (Some(held), Some(claim)) = (topic.partitions.get(&partition), claims.get(&partition))
        else {
            return false;
        };
        let before_the_log = offset.unwrap_or(claim.range.start) < held.low;
        let in_former = |range: &OffsetRange| offset.is_none_or(|offset| range.contains(offset));
        let of_former = claim.former.iter().any(in_former);
        let replaced = !topic.strict && claim.range.end < held.high;
        !claim.present || before_the_log || replaced || of_former
    };
    match row.partition {
        Some(partition) => in_partition(partition, row.offset),
        // A table that does not keep where its rows come from.
        None => topic.partitions.keys().any(|partition| in_partition(*partition, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TopicId;
    use crate::verify::check::Claim;

    #[test]
    fn a_row_without_a_record_is_judged_by_where_it_stood() {
        let judged = |former: &[OffsetRange], strict, end, present, partition, offset| {
            let held = Held { low: 10, high: 100, ..Held::default() };
            let partitions = [(0, held)].into();
            let topic = Topic { name: "t".into(), id: TopicId::UNKNOWN, partitions, strict };
            let range = OffsetRange::new(10, end);
            let claim = Claim { range, gaps: Vec::new(), former: former.to_vec(), present };
            let row = Entry { key: Vec::new(), partition, offset, columns: None };
            may_be_gone(&row, &topic, &HashMap::from([(0, claim)]))
        };
        let gone = |strict, end, present, partition, offset| {
            judged(&[], strict, end, present, partition, offset)
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
        // Of a former topic of this name, perhaps.
        let former = [OffsetRange::new(90, 95)];
        assert!(judged(&former, true, 100, true, Some(0), Some(92)));
        assert!(!judged(&former, true, 100, true, Some(0), Some(95)));
        assert!(judged(&former, true, 100, true, None, None));
    }
}
