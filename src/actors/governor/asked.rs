//! What everybody else has of the governor: decisions, at once, and a way into the audit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Addr, Message};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::{Governor, Setup};
use crate::governance::{AuditRow, Principal, id_of};
use crate::grants::Rules;
use crate::volume::{Remembered, Spool, SpoolFull, recall};

/// How long a row of the audit waits for a governor that is built anew, and for the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why nothing is decided now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    #[error("the permission rows have not been read yet")]
    Unknown,
    #[error("the permission rows were last read {0:?} ago, and the database does not answer")]
    Stale(Duration),
}

/// Asks the governor. Cheap to clone.
#[derive(Clone)]
pub struct Governance {
    shared: Arc<Shared>,
}

/// What outlives a governor that died.
pub(super) struct Shared {
    rules: watch::Sender<Option<Arc<Rules>>>,
    governor: watch::Sender<Option<Addr<Governor>>>,
    pub spool: Arc<Mutex<Spool>>,
    /// Told when the database has all of the audit.
    pub emptied: Notify,
    stale_after: Duration,
}

/// Rows for the spool. Answered when they are on the disk.
#[derive(Message)]
#[rtype(result = "Result<(), SpoolFull>")]
pub(super) struct Keep(pub Vec<AuditRow>);

impl Shared {
    pub fn open(setup: &Setup) -> Result<Self, SpoolFull> {
        let spool = Spool::open(&setup.volume, setup.spool_bytes)?;
        Ok(Self {
            rules: watch::Sender::new(remembered(setup)),
            governor: watch::Sender::new(None),
            spool: Arc::new(Mutex::new(spool)),
            emptied: Notify::new(),
            stale_after: setup.stale_after,
        })
    }

    pub fn rules(&self) -> Option<Arc<Rules>> {
        self.rules.borrow().clone()
    }

    pub fn put(&self, rules: Arc<Rules>) {
        self.rules.send_replace(Some(rules));
    }

    pub fn lives_at(&self, governor: Addr<Governor>) {
        self.governor.send_replace(Some(governor));
    }

    pub fn has_sent_all(&self) -> bool {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Governance {
    pub(super) fn of(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The rows as they count now.
    pub fn rules(&self, now_ms: i64) -> Result<Arc<Rules>, Undecided> {
        let rules = self.shared.rules().ok_or(Undecided::Unknown)?;
        // Of a clock that was set back nobody knows how long ago it was.
        let age = Duration::from_millis(now_ms.abs_diff(rules.as_of_ms));
        if age > self.shared.stale_after {
            return Err(Undecided::Stale(age));
        }
        Ok(rules)
    }

    /// Tells whenever the rows were read.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<Rules>>> {
        self.shared.rules.subscribe()
    }

    /// For how long rows count that cannot be read anew.
    pub fn stale_after(&self) -> Duration {
        self.shared.stale_after
    }

    /// Whose token it is; none if it is nobody's, or no more.
    pub fn holder(&self, bearer: &str, now_ms: i64) -> Result<Option<Principal>, Undecided> {
        let rules = self.rules(now_ms)?;
        let Some(id) = id_of(bearer) else { return Ok(None) };
        let token = rules.tokens.iter().find(|token| token.id == id);
        Ok(token.filter(|token| token.admits(bearer, now_ms)).map(|token| token.principal.clone()))
    }

    /// Writes rows down. When it answers well they will be in the audit, whatever becomes of this node.
    pub async fn record(&self, rows: Vec<AuditRow>) -> Result<(), SpoolFull> {
        let mut governor = self.shared.governor.subscribe();
        let keeping = async {
            loop {
                let alive = governor.wait_for(Option::is_some).await.ok()?.clone()?;
                match alive.send(Keep(rows.clone())).await {
                    Ok(kept) => return Some(kept),
                    // It died; the next one takes the rows again, which are known by their ids.
                    Err(_) => governor.changed().await.ok()?,
                }
            }
        };
        let kept = tokio::time::timeout(PATIENCE, keeping).await.ok().flatten();
        kept.unwrap_or_else(|| Err(SpoolFull::Failing("there is no governor".to_owned())))
    }

    /// Waits until the rows are such.
    #[cfg(test)]
    pub async fn until(&self, mut such: impl FnMut(&Rules) -> bool) {
        let mut rules = self.shared.rules.subscribe();
        let such = |rules: &Option<Arc<Rules>>| rules.as_ref().is_some_and(|rules| such(rules));
        rules.wait_for(such).await.expect("there is a governor");
    }

    /// Waits until the database has all of the audit, at most so long. What it has not by then waits on the
    /// volume for the node's next life.
    pub async fn settle(&self, within: Duration) {
        let settled = async {
            loop {
                let emptied = self.shared.emptied.notified();
                if self.shared.has_sent_all() {
                    return;
                }
                emptied.await;
            }
        };
        let _ = tokio::time::timeout(within, settled).await;
    }
}

fn remembered(setup: &Setup) -> Option<Arc<Rules>> {
    match recall(&setup.volume) {
        Ok(Some(Remembered { database, .. })) if database != setup.database => {
            warn!(target: "tidegate::governor", database, "the remembered permission rows are of another database, and not used");
            None
        }
        // Rows that a former node file gave are no rows, and some of its denials may be missing.
        Ok(Some(Remembered { sources, .. })) if sources != *setup.grants.sources() => {
            warn!(target: "tidegate::governor", "the remembered permission rows are of other `governance.sources`, and not used");
            None
        }
        Ok(Some(Remembered { as_of_ms, rows, tokens, salt, .. })) => {
            info!(target: "tidegate::governor", rows = rows.len(), as_of_ms, "permission rows remembered");
            Some(Arc::new(Rules::remembered(rows, tokens, &salt, as_of_ms)))
        }
        Ok(None) => None,
        Err(error) => {
            warn!(target: "tidegate::governor", error, "the remembered permission rows cannot be read");
            None
        }
    }
}
