//! The permission rows in the database itself: made so after each change, and looked at again now and then,
//! since somebody may have changed what is there, or who is a member of what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use chrono::Utc;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Governor;
use crate::actors::join_error;
use crate::governance::Principal;
use crate::grants::{Hand, Rules, node_name};
use crate::record::SinkError;
use crate::telemetry::fault;
use crate::warehouse::{Reconciled, RightsChange};

/// Between two looks while nothing changes.
const LOOK: Duration = Duration::from_secs(10);
/// After one that did not do everything.
const RETRY: Duration = Duration::from_secs(2);

/// So often another node may be at it, about once a second, before that is told.
const PATIENCE: u32 = 30;

#[derive(Default)]
pub(super) struct Enforcement {
    running: bool,
    /// The rows changed while it ran.
    again: bool,
    /// Not before.
    next: Option<Instant>,
    /// As of when it was last decided, milliseconds since the epoch.
    decided_ms: i64,
    /// How often another node has been at it since this one last was.
    waited: u32,
    /// What has been told already.
    told: Vec<String>,
}

impl Governor {
    /// These are the rows now, others than before or not.
    pub(super) fn enforce(&mut self, rules: Arc<Rules>, changed: bool, ctx: &mut Context<Self>) {
        let Some(rights) = self.setup.rights.clone() else { return };
        if self.enforcement.running {
            self.enforcement.again |= changed;
            return;
        }
        let is_due = self.enforcement.next.is_none_or(|next| Instant::now() >= next);
        let (now_ms, before_ms) = (Utc::now().timestamp_millis(), self.enforcement.decided_ms);
        // What ends is no change of the rows.
        let ended = rules.rows.iter().any(|row| row.expired_between(before_ms, now_ms));
        if !changed && !ended && !std::mem::take(&mut self.enforcement.again) && !is_due {
            return;
        }
        self.enforcement.running = true;
        self.enforcement.decided_ms = now_ms;
        let doing = self.setup.io.spawn(async move {
            fault::point("governor.enforce");
            rights.reconcile(&rules, now_ms, false).await
        });
        let done = async move { doing.await.unwrap_or_else(|error| Err(join_error(&error))) };
        ctx.spawn(done.into_actor(self).map(|done, governor, ctx| {
            governor.enforcement.running = false;
            governor.enforced(done, ctx);
        }));
    }

    fn enforced(&mut self, done: Result<Option<Reconciled>, SinkError>, ctx: &mut Context<Self>) {
        let (changes, open) = match done {
            Ok(Some(Reconciled { changes, open })) => {
                self.enforcement.waited = 0;
                (changes, open)
            }
            // Another node is at it, and may have begun before the rows changed.
            Ok(None) => {
                self.enforcement.waited += 1;
                self.enforcement.again = true;
                if self.enforcement.waited < PATIENCE {
                    return;
                }
                let why = "another session has been at it all the time: see who holds the row `rights` of \
                           tidegate.leases";
                (Vec::new(), vec![why.to_owned()])
            }
            Err(error) => (Vec::new(), vec![format!("the rights cannot be looked at: {error}")]),
        };
        let failed = |it: &RightsChange| {
            it.failed.as_ref().map(|why| format!("{}, which failed: {why}", it.what))
        };
        let mut told = open;
        told.extend(changes.iter().filter_map(failed));
        for what in told.iter().filter(|what| !self.enforcement.told.contains(what)) {
            warn!(target: "tidegate::governor", what, "rights in the database are not as the permission rows say");
        }
        let is_whole = told.is_empty();
        self.enforcement.told = told;
        self.enforcement.next = Some(Instant::now() + if is_whole { LOOK } else { RETRY });
        let done: Vec<&RightsChange> = changes.iter().filter(|it| it.failed.is_none()).collect();
        for change in &done {
            info!(target: "tidegate::governor", what = change.what, "rights in the database changed");
        }
        if !done.is_empty() {
            let hand = governor();
            let row = |it: &&RightsChange| hand.audit("rights", None, true, it.what.clone());
            // Nobody waits for them.
            let (answer, _) = oneshot::channel();
            self.trail.keep(done.iter().map(row).collect(), answer);
            self.write(ctx);
        }
    }
}

/// What the governor does by itself.
fn governor() -> Hand {
    let by = Principal { name: "governor".to_owned(), ..Principal::user("") };
    Hand { by, origin: "governor".to_owned(), node: node_name(), trace_id: None }
}
