//! What a report tells: plain values, out of which the page is made without a look at anything else.

use crate::reads::Marks;
use crate::verify::Counted;
use crate::warehouse::{Answer, TableSize};

/// Something, or in words why it cannot be told.
pub type Told<T> = Result<T, String>;

/// An installation at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    pub title: String,
    /// Of the release that made it.
    pub version: &'static str,
    /// Who asked for it.
    pub by: String,
    /// Milliseconds since the epoch, as all times here.
    pub at_ms: i64,
    pub places: Places,
    pub feeds: Vec<FeedFacts>,
    /// Feed files of which no feed has come yet: the feed's name as written, and why.
    pub waiting: Vec<(String, String)>,
    pub governance: Told<Governance>,
    pub chores: Vec<ChoreFacts>,
    /// Whether it is known how the chores ended.
    pub runs: Told<()>,
    /// Each sink's name with what its quarantine holds.
    pub quarantine: Vec<(&'static str, Told<Vec<Counted>>)>,
    pub queries: Option<Queries>,
}

/// Where everything is, without credentials.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub kafka: String,
    pub group: String,
    pub lake: Option<String>,
    pub warehouse: Option<String>,
    pub registry: Option<String>,
    pub api: Option<String>,
}

#[derive(Debug, Clone)]
pub struct FeedFacts {
    pub name: String,
    /// `stream` or `table`.
    pub kind: &'static str,
    pub description: Option<String>,
    pub topic: String,
    pub enabled: bool,
    /// How it is read and kept: what, and how.
    pub settings: Vec<(&'static str, String)>,
    pub columns: Told<Vec<ColumnFacts>>,
    pub lake: Side<LakeFacts>,
    pub warehouse: Side<TableSize>,
    pub marks: Told<Vec<MarkFacts>>,
}

/// A feed's side in one of the sinks.
#[derive(Debug, Clone)]
pub enum Side<T> {
    /// It has none there.
    Without,
    /// What stands there, and what there is of it: none where there is no table yet.
    At(String, Told<Option<T>>),
}

impl<T> Side<T> {
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::At(_, Ok(Some(found))) => Some(found),
            _ => None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct ColumnFacts {
    pub name: String,
    pub kind: String,
    /// Where in the message its value stands.
    pub path: String,
    /// `key`, `required`, or nothing.
    pub role: &'static str,
}

/// A table of the lake, as its log or its chains have it.
#[derive(Debug, Clone, Default)]
pub struct LakeFacts {
    /// The version of a Delta table.
    pub version: Option<u64>,
    pub committed_ms: Option<i64>,
    pub files: u64,
    pub bytes: u64,
    /// Unknown where a file does not say.
    pub rows: Option<u64>,
    /// By the times that the layout tells apart, in their order.
    pub times: Vec<TimeTotals>,
    /// How it grew to what is there now, commit by commit; of many, some.
    pub growth: Vec<Point>,
}

/// Rows of one time: a day, a month or a year.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimeTotals {
    pub time: String,
    pub rows: u64,
    pub bytes: u64,
}

/// What there was at a moment, of the files that are there still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub at_ms: i64,
    pub rows: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone)]
pub struct MarkFacts {
    pub topic: String,
    pub partition: i32,
    pub marks: Marks,
}

#[derive(Debug, Clone, Default)]
pub struct Governance {
    pub rows: Vec<PermissionFacts>,
    /// How many rows are left out, being too many.
    pub more: usize,
    /// What is not as it should be: which row or token, and what is wrong.
    pub faults: Vec<(String, String)>,
    pub denials: Vec<Denial>,
    /// How many denials were looked at, and whether there may be older ones.
    pub looked_at: usize,
    pub older: bool,
}

#[derive(Debug, Clone)]
pub struct PermissionFacts {
    pub id: String,
    pub sentence: String,
    pub granted_by: String,
    pub reason: String,
    pub expired: bool,
}

/// The same thing denied to the same one, so many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    pub principal: String,
    pub action: String,
    pub feed: Option<String>,
    pub why: String,
    pub times: u64,
    pub last_ms: i64,
}

#[derive(Debug, Clone)]
pub struct ChoreFacts {
    pub name: &'static str,
    pub schedule: String,
    pub last: Option<RunFacts>,
}

#[derive(Debug, Clone)]
pub struct RunFacts {
    pub node: String,
    pub started_ms: i64,
    pub finished_ms: i64,
    pub failed: bool,
    /// What was done, feed by feed, and what went wrong.
    pub done: Vec<(String, String)>,
}

/// The folder of queries, and what they answer.
#[derive(Debug, Clone, Default)]
pub struct Queries {
    pub folder: String,
    pub asked: Vec<Query>,
    /// Files that are not run.
    pub not_run: Vec<String>,
    /// What keeps the folder from being read.
    pub fault: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Query {
    pub file: String,
    /// The comment that it begins with.
    pub about: String,
    pub sql: String,
    pub answer: Told<Answer>,
}
