//! Old rows of streams: which they are, and where a pass through a table has come.

use chrono::{DateTime, NaiveDate};

use super::shape::shaped;
use crate::config::{Column, ColumnType, Feed, FeedKind};
use crate::record::SinkError;

const DAY_MS: i64 = 86_400_000;

/// Rows of a stream's table that are of days before one, in UTC.
#[derive(Debug, Clone)]
pub struct OldRows {
    pub feed: Feed,
    /// The column that says when a row's record happened.
    pub time: String,
    pub before: NaiveDate,
}

impl OldRows {
    /// Of days whose end is longer ago than `days`. None for a table, whose rows are the present state.
    pub fn of(feed: &Feed, days: u32, now_ms: i64) -> Option<Self> {
        if feed.kind == FeedKind::Table {
            return None;
        }
        let before = DateTime::from_timestamp_millis(now_ms - i64::from(days) * DAY_MS)?;
        let time = feed.schema.time.and_then(|index| feed.schema.columns.get(index));
        let feed = shaped(feed).into_owned();
        // As it stands in the table, if it does: in a document it does not.
        let there = |time: &&Column| {
            let is_time = matches!(time.kind, ColumnType::Timestamp | ColumnType::Date);
            is_time
                && feed.schema.columns.iter().any(|it| it.name == time.name && it.kind == time.kind)
        };
        let time = time.filter(there).map_or("_timestamp", |time| &time.name).to_owned();
        Some(Self { feed, time, before: before.date_naive() })
    }

    /// The columns by which a row is known again, which every row that goes has, and those that tell its time.
    pub(super) fn needed(&self) -> [&str; 5] {
        ["_topic", "_partition", "_offset", "_timestamp", &self.time]
    }

    /// That a row is old and says where it comes from. Where the feed's own time is null, Kafka's counts.
    /// `before`: what a column's value is less than, if it is of a day before.
    pub(super) fn condition(
        &self,
        ident: impl Fn(&str) -> String,
        before: impl Fn(&str) -> String,
    ) -> String {
        let (time, kafka) = (ident(&self.time), ident("_timestamp"));
        let is_before = |name: &str| format!("{} < {}", ident(name), before(name));
        let old = match self.time == "_timestamp" {
            true => is_before("_timestamp"),
            false => format!(
                "({} OR ({time} IS NULL AND {}))",
                is_before(&self.time),
                is_before("_timestamp")
            ),
        };
        let whole =
            ["_topic", "_partition", "_offset"].map(|it| format!("{} IS NOT NULL", ident(it)));
        format!("{old} AND {kafka} IS NOT NULL AND {}", whole.join(" AND "))
    }

    /// That the table lacks one of them.
    pub(super) fn lacking(&self, table: &str, column: &str) -> SinkError {
        SinkError::lasting(format!(
            "table {table} has no column {column}, and which rows of feed {} are old could not be known, \
             or not written down: leave out `warehouse.retention_days`, or add the column",
            self.feed.name
        ))
    }
}

/// How far a pass has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Rows that went.
    pub rows: u64,
    /// Where it goes on; none at the end. It begins at the least there is.
    pub next: Option<i64>,
}
