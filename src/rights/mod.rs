//! The permission rows where somebody reads past the API: in the database itself. Decisions become views;
//! what there is already is compared with them and made so.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::debug;

use crate::catalog::Known;
use crate::config::{Feed, Node};
use crate::governance::{Action, Decision, Principal};
use crate::grants::Rules;
use crate::reads::Sight;
use crate::record::SinkError;
use crate::warehouse::{self, Reader, ReaderView, Reconciled, RightsStore};

/// Keeps what readers have in the database to what the permission rows say.
#[derive(Clone)]
pub struct DatabaseRights {
    known: Known,
    store: Arc<dyn RightsStore>,
    /// As they were last known: what keeps columns may be away, and nobody's view goes with it.
    last: Arc<Mutex<BTreeMap<String, Arc<Feed>>>>,
}

impl DatabaseRights {
    /// None where the node file does not ask for it.
    pub fn of(node: &Node, known: &Known) -> Result<Option<Self>, SinkError> {
        let (Some(config), Some(rights)) = (&node.warehouse, &node.governance.postgres) else {
            return Ok(None);
        };
        let store = warehouse::open_rights(config, rights)?;
        Ok(store.map(|store| Self { known: known.clone(), store, last: Arc::default() }))
    }

    /// Makes the database agree with the rows; in a dry run it only says what it would do. `None`: another
    /// node is at it.
    pub async fn reconcile(
        &self,
        rules: &Rules,
        now_ms: i64,
        dry_run: bool,
    ) -> Result<Option<Reconciled>, SinkError> {
        let readers = self.store.readers().await?;
        let (feeds, unknown) = self.feeds().await;
        let mut views = Vec::new();
        for reader in &readers.readers {
            for feed in &feeds {
                views.extend(seen(rules, reader, feed, now_ms));
            }
        }
        // The tables of feeds that were are kept shut, too.
        let feeds: Vec<Arc<Feed>> = self.last().values().cloned().collect();
        let done = self.store.reconcile(&readers.readers, &feeds, &views, dry_run).await?;
        Ok(done.map(|Reconciled { changes, open }| {
            let open = readers.open.into_iter().chain(unknown).chain(open).collect();
            Reconciled { changes, open }
        }))
    }

    /// Those with a table in the warehouse, and what is not known of others.
    async fn feeds(&self) -> (Vec<Arc<Feed>>, Vec<String>) {
        let (mut feeds, mut unknown) = (Vec::new(), Vec::new());
        for named in self.known.all().await {
            if named.file.warehouse.is_none() {
                continue;
            }
            match self.known.feed(&named).await {
                Ok(Some(feed)) => {
                    self.last().insert(named.name, feed.clone());
                    feeds.push(feed);
                }
                // Its columns are not known before its first records, nor has it a table.
                Ok(None) => debug!(target: "tidegate::rights", feed = named.name, "no columns yet"),
                Err(error) => {
                    feeds.extend(self.last().get(&named.name).cloned());
                    unknown.push(format!("{}: {error}", named.name));
                }
            }
        }
        (feeds, unknown)
    }

    fn last(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Feed>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As the token of somebody of that name and with these roles would read.
fn principal(reader: &Reader) -> Principal {
    let (roles, groups) = (reader.member_of.clone(), reader.member_of.clone());
    Principal { roles, groups, ..Principal::user(&reader.role) }
}

/// What a reader sees of a feed's table; none if nothing.
fn seen(rules: &Rules, reader: &Reader, feed: &Arc<Feed>, now_ms: i64) -> Option<ReaderView> {
    let decision = rules.decide(&principal(reader), Action::Read, &feed.name, now_ms);
    let Decision::Allowed(access) = decision else { return None };
    let sight = Sight::of_warehouse(feed, &access, &rules.salt)?;
    // It counts no longer then, whether or not a node is there to say so.
    let until_ms = access.grants.iter().filter_map(|grant| grant.expires_at_ms).min();
    Some(ReaderView {
        role: reader.role.clone(),
        feed: feed.clone(),
        view: sight.view().clone(),
        until_ms,
    })
}
