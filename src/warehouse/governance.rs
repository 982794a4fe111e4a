//! Permission rows, tokens and the audit, kept beside the bookkeeping.

use std::time::Duration;

use async_trait::async_trait;

use crate::governance::{AuditQuestion, AuditRow, Row, Token, Written, WrittenToken};
use crate::record::SinkError;

/// All that decisions are made from, as it stood at one moment.
#[derive(Debug, Clone, Default)]
pub struct Permissions {
    pub rows: Vec<Written>,
    pub tokens: Vec<WrittenToken>,
    pub salt: Vec<u8>,
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
    /// Everything, in one transaction. Makes the salt where there is none.
    async fn load(&self) -> Result<Permissions, SinkError>;

    /// Carries out a change together with its row in the audit: both or none.
    async fn change(&self, change: &Change, audit: &AuditRow) -> Result<Changed, SinkError>;

    /// Adds rows to the audit, each once however often it is sent.
    async fn record(&self, rows: &[AuditRow]) -> Result<(), SinkError>;

    async fn audit(&self, question: &AuditQuestion) -> Result<Vec<AuditRow>, SinkError>;

    /// Waits until something may have changed, at most so long.
    async fn changed(&self, within: Duration);
}
