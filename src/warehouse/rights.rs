//! The permission rows in the database itself: what whoever signs in there may read.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use crate::config::Feed;
use crate::governance::View;
use crate::record::SinkError;

/// Somebody who signs in to the database, by his role there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    pub role: String,
    /// The roles that he is a member of, directly or not; not the one that makes him a reader.
    pub member_of: BTreeSet<String>,
}

/// Who reads, and what keeps others from it.
#[derive(Debug, Clone, Default)]
pub struct Readers {
    pub readers: Vec<Reader>,
    /// What a person has to mend, with the remedy.
    pub open: Vec<String>,
}

/// What a reader may see of a feed's table.
#[derive(Debug, Clone)]
pub struct ReaderView {
    pub role: String,
    pub feed: Arc<Feed>,
    pub view: View,
    /// From then on nothing, until somebody has decided again: milliseconds since the epoch.
    pub until_ms: Option<i64>,
}

/// Something that is made so in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RightsChange {
    /// In words.
    pub what: String,
    pub sql: String,
    /// Why it is not done. What it would narrow is closed then.
    pub failed: Option<String>,
}

/// What was, or would be, made so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    pub changes: Vec<RightsChange>,
    /// What only a person can mend, with the remedy.
    pub open: Vec<String>,
}

impl Reconciled {
    pub fn is_settled(&self) -> bool {
        self.changes.is_empty() && self.open.is_empty()
    }
}

/// A database with roles of its own.
///
/// A reader has a schema of his role's name, and in it one view of each table that he may see something of,
/// named like the table. He has no right to the tables themselves. What is there and is not ours is never
/// changed, except that rights of readers to feeds' tables and to the bookkeeping are revoked.
#[async_trait]
pub trait RightsStore: Send + Sync + 'static {
    async fn readers(&self) -> Result<Readers, SinkError>;

    /// Makes the readers' views and rights such, and takes away what is beyond them: of `feeds`, which are
    /// all that there are. Idempotent. What fails is left closed, and the others go on. `None`: another
    /// node is at it.
    async fn reconcile(
        &self,
        readers: &[Reader],
        feeds: &[Arc<Feed>],
        views: &[ReaderView],
        dry_run: bool,
    ) -> Result<Option<Reconciled>, SinkError>;
}
