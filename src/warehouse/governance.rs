//! Permission rows, tokens and the audit, kept beside the bookkeeping.

use std::time::Duration;

use async_trait::async_trait;

use crate::governance::{AuditQuestion, AuditRow, Row, Token, Written};
use crate::record::SinkError;

/// All that decisions are made from, as it stood at one moment.
#[derive(Debug, Clone, Default)]
pub struct Permissions {
    pub rows: Vec<Written>,
    pub tokens: Vec<Token>,
    pub salt: Vec<u8>,
}

/// Where the governor's rows are.
#[async_trait]
pub trait GovernanceStore: Send + Sync + 'static {
    /// Everything, in one transaction. Makes the salt where there is none.
    async fn load(&self) -> Result<Permissions, SinkError>;

    /// Adds a row; answers its number. The row's own id is not looked at.
    async fn grant(&self, row: &Row) -> Result<i64, SinkError>;

    /// Takes a row away; answers it as it was.
    async fn revoke(&self, id: i64) -> Result<Option<Written>, SinkError>;

    async fn add_token(&self, token: &Token) -> Result<(), SinkError>;

    /// Ends a token; answers whether there was one that had not ended.
    async fn revoke_token(&self, id: &str) -> Result<bool, SinkError>;

    /// Adds rows to the audit, each once however often it is sent.
    async fn record(&self, rows: &[AuditRow]) -> Result<(), SinkError>;

    async fn audit(&self, question: &AuditQuestion) -> Result<Vec<AuditRow>, SinkError>;

    /// Waits until something may have changed, at most so long.
    async fn changed(&self, within: Duration);
}
