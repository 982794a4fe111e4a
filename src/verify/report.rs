//! What a verification found.

use serde::Serialize;

use super::account::{Account, Found};
use super::keys::{Fault, Keys};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    Difference,
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub feeds: Vec<FeedReport>,
    /// With `wait`: the sinks had not reached the log's end when the time was over.
    pub waited_in_vain: bool,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Serialize)]
pub struct FeedReport {
    pub feed: String,
    #[serde(rename = "type")]
    pub kind: crate::config::FeedKind,
    pub topic: String,
    /// None where the feed has no lake side.
    pub lake: Option<SinkReport>,
    /// None where the feed has no warehouse side.
    pub warehouse: Option<SinkReport>,
    /// What a reader of the numbers should know.
    pub notes: Vec<String>,
}

/// One sink of a feed. Counts are of rows and records, `unchecked` and `behind` of offsets.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SinkReport {
    pub rows: u64,
    /// Records of the claimed offsets that are neither a row nor in quarantine.
    pub lost: u64,
    /// Rows and quarantined records beyond the first of their offset.
    pub doubled: u64,
    /// Rows outside the claimed offsets, of records that were never committed, of another topic, or
    /// in a file of another day.
    pub out_of_place: u64,
    pub quarantined: u64,
    /// Rows and quarantined records of former topics of this name; not compared.
    pub former: u64,
    /// Rows that retention took out of the lake, as it wrote them down; they count as there.
    pub retired: u64,
    /// Claimed offsets that the log no longer holds, or whose row may be a former topic's.
    pub unchecked: u64,
    /// Offsets of the log that the sink does not claim yet.
    pub behind: u64,
    /// Lake only: the table's files and their size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Files that the lake's log names and that cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableReport>,
    pub partitions: Vec<PartitionReport>,
    pub gaps: Vec<GapReport>,
    /// The first few of each kind.
    pub examples: Vec<Example>,
}

/// The warehouse's table of a keyed feed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TableReport {
    pub keys: u64,
    pub missing_keys: u64,
    pub wrong_rows: u64,
    pub extra_keys: u64,
    /// Rows whose record the log no longer holds.
    pub unchecked_keys: u64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct PartitionReport {
    pub partition: i32,
    /// The first offset the sink claims; none where it claims nothing.
    pub start: Option<i64>,
    /// One past the last.
    pub watermark: Option<i64>,
    pub log_low: i64,
    pub log_high: i64,
    /// False where the sink claims nothing, or its progress is for a topic that is no more.
    pub compared: bool,
    pub rows: u64,
    pub lost: u64,
    pub doubled: u64,
    pub out_of_place: u64,
    pub quarantined: u64,
    pub former: u64,
    pub retired: u64,
    pub unchecked: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct GapReport {
    pub partition: i32,
    pub from: i64,
    pub to: i64,
    pub reason: String,
    /// False while the sink waits before it: `tidegate resolve --skip-gap` goes on.
    pub settled: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Example {
    pub fault: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// How many offsets of one kind are named for a sink, whatever its partitions.
const EXAMPLES: usize = 10;

impl Report {
    pub fn of(feeds: Vec<FeedReport>, waited_in_vain: bool) -> Self {
        let differs = feeds.iter().any(FeedReport::differs);
        let verdict = if differs { Verdict::Difference } else { Verdict::Ok };
        Self { feeds, waited_in_vain, verdict }
    }
}

impl FeedReport {
    pub fn differs(&self) -> bool {
        self.lake.iter().chain(&self.warehouse).any(SinkReport::differs)
    }
}

impl SinkReport {
    pub fn differs(&self) -> bool {
        let table = self.table.as_ref();
        self.lost + self.doubled + self.out_of_place > 0
            || !self.unreadable.is_empty()
            || table.is_some_and(|it| it.missing_keys + it.wrong_rows + it.extra_keys > 0)
    }

    /// Adds one partition's account.
    pub fn add(&mut self, mut partition: PartitionReport, account: &Account) {
        partition.lost = account.lost.count;
        partition.doubled = account.doubled.count;
        partition.out_of_place = account.out_of_place.count;
        partition.unchecked = account.unchecked;
        self.rows += partition.rows;
        self.lost += partition.lost;
        self.doubled += partition.doubled;
        self.out_of_place += partition.out_of_place;
        self.quarantined += partition.quarantined;
        self.former += partition.former;
        self.retired += partition.retired;
        self.unchecked += partition.unchecked;
        self.behind += behind(&partition);
        let Account { lost, doubled, out_of_place, .. } = account;
        for (fault, found) in [("lost", lost), ("doubled", doubled), ("out_of_place", out_of_place)]
        {
            self.name(fault, partition.partition, found);
        }
        self.partitions.push(partition);
    }

    fn name(&mut self, fault: &'static str, partition: i32, found: &Found) {
        let named = self.examples.iter().filter(|example| example.fault == fault).count();
        self.examples.extend(found.first.iter().take(EXAMPLES.saturating_sub(named)).map(
            |offset| Example {
                fault,
                partition: Some(partition),
                offset: Some(*offset),
                key: None,
            },
        ));
    }

    pub fn add_keys(&mut self, keys: Keys) {
        self.table = Some(TableReport {
            keys: keys.rows,
            missing_keys: keys.missing,
            wrong_rows: keys.wrong,
            extra_keys: keys.extra,
            unchecked_keys: keys.unchecked,
        });
        self.examples.extend(keys.examples.into_iter().map(|(fault, words)| Example {
            fault: match fault {
                Fault::Missing => "missing_key",
                Fault::Wrong => "wrong_row",
                Fault::Extra => "extra_key",
            },
            partition: None,
            offset: None,
            key: Some(words),
        }));
    }
}

fn behind(partition: &PartitionReport) -> u64 {
    // Progress in a former topic is none in this one.
    let watermark = partition.watermark.filter(|_| partition.compared);
    let from = watermark.unwrap_or(partition.log_low).max(partition.log_low);
    (partition.log_high - from).max(0) as u64
}
