//! Permission rows, tokens and the audit, kept beside the bookkeeping.

use std::time::Duration;

use async_trait::async_trait;

use serde_json::Value;

use crate::config::{PermissionSource, Sources};
use crate::governance::{AuditQuestion, AuditRow, Found, Row, Token, Written, WrittenToken};
use crate::record::SinkError;

/// All that decisions are made from, as it stood at one moment.
#[derive(Debug, Clone, Default)]
pub struct Permissions {
    pub rows: Vec<Written>,
    pub tokens: Vec<WrittenToken>,
    pub salt: Vec<u8>,
    /// What the existing tables hold, in the order of their names.
    pub found: Vec<Found>,
}

/// An existing table with more rows is not read: all nodes read it again every second.
pub const MOST_ROWS: usize = 10_000;

/// The rows of a table, of which there were asked for one more than are allowed.
pub(super) fn bounded(name: &str, rows: Vec<Vec<Value>>) -> Found {
    match rows.len() > MOST_ROWS {
        false => Ok(rows),
        true => Err(format!(
            "it has more than {MOST_ROWS} rows, and none of them counts: let \
             governance.sources.{name}.table name a view of those that matter"
        )),
    }
}

/// Why a table is not read, and what helps.
pub(super) fn unread(name: &str, source: &PermissionSource, error: &str) -> String {
    format!(
        "the table {} cannot be read, and none of its rows counts: {error}. Correct \
         governance.sources.{name}, or let the warehouse's user read the table",
        source.table
    )
}

/// What can be changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Adds a row, whose own id is not looked at.
    Grant(Row),
    /// Takes the row of this number away.
    Revoke(i64),
    AddToken(Token),
    /// Ends the token of this id.
    RevokeToken(String),
    /// Adds a row that lets somebody manage, unless there is one that does.
    FirstManager(Row),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Changed {
    /// The new row has this number.
    Granted(i64),
    /// The row as it was.
    Revoked(Box<Written>),
    Token,
    /// There was no such row, or no token that had not ended: nothing was changed, and nothing recorded.
    Nothing,
}

/// Where the governor's rows are.
#[async_trait]
pub trait GovernanceStore: Send + Sync + 'static {
    /// Everything, as it stood at one moment, the rows of these tables with it. One of them that cannot be
    /// read is none, and the others are read all the same. Makes the salt where there is none.
    async fn load(&self, sources: &Sources) -> Result<Permissions, SinkError>;

    /// Carries out a change together with its row in the audit: both or none.
    async fn change(&self, change: &Change, audit: &AuditRow) -> Result<Changed, SinkError>;

    /// Adds rows to the audit, each once however often it is sent.
    async fn record(&self, rows: &[AuditRow]) -> Result<(), SinkError>;

    async fn audit(&self, question: &AuditQuestion) -> Result<Vec<AuditRow>, SinkError>;

    /// Waits until something may have changed, at most so long.
    async fn changed(&self, within: Duration);
}
