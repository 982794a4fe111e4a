//! What is written down of a decision.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One row of the audit: who asked for what, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// By which a row that is sent twice is one.
    pub id: Uuid,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    pub principal: String,
    /// An action on a feed, or what else was done: `grant`, `revoke`, `token`, `sign-in`.
    pub action: String,
    pub feed: Option<String>,
    pub allowed: bool,
    /// The columns that were shown, those under a mask with its name behind them.
    pub columns: Vec<String>,
    /// Which rows, in words.
    pub rows: Option<String>,
    /// The permission rows that decided, or what was missing.
    pub why: String,
    /// Where it came from: an address, or the machine.
    pub origin: String,
    pub trace_id: Option<String>,
    pub node: String,
}

/// Which rows of the audit somebody wants to see, the newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditQuestion {
    pub principal: Option<String>,
    pub feed: Option<String>,
    pub action: Option<String>,
    pub allowed: Option<bool>,
    /// Milliseconds since the epoch, from and before.
    pub from_ms: Option<i64>,
    pub before_ms: Option<i64>,
    pub most: i64,
}
