//! The governor of one node: permission rows in memory, as the database has them now, or as it had them
//! when it last answered; and the audit's way to the database.
//!
//! Decisions are made from memory by a pure function, on whichever thread asks ([`Governance`]). While the
//! database is away they go on being made from the last good rows, which also lie on the node's volume, and
//! never by wider ones: what expires meanwhile has expired. After `governance.stale_after` everything is
//! denied.
//!
//! Where people read in the database itself, it makes the rows count there too (`enforce`).
//!
//! A row of the audit is on the volume, synced, before [`Governance::record`] answers; from there it is sent
//! until the database has it. Where it can be put nowhere, what it is about is refused.

mod asked;
mod enforce;
mod files;
#[cfg(test)]
mod tests;
mod trail;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tracing::{info, warn};

use self::asked::Shared;
pub use self::asked::{Governance, Undecided};
use self::enforce::Enforcement;
pub use self::files::Files;
use self::trail::Trail;
use super::{Alive, Io, join_error, tend};
use crate::grants::{Grants, Rules};
use crate::record::SinkError;
use crate::rights::DatabaseRights;
use crate::telemetry::fault;
use crate::volume::{Remembered, SpoolFull, remember};

/// A change that nobody told of is seen after this at the latest.
const LOOK: Duration = Duration::from_secs(1);
/// How long a reading may take.
const WITHIN: Duration = Duration::from_secs(5);
/// While the database does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// How old the time on the volume may get while the rows stay as they are: a restart while the database is
/// away is rare, and a write a second is not.
const OLD_MS: i64 = 60_000;

/// What a governor is built from.
#[derive(Clone)]
pub struct Setup {
    pub grants: Grants,
    /// Address of the database that the grants are in.
    pub database: String,
    pub volume: PathBuf,
    /// The audit's spool holds no more.
    pub spool_bytes: u64,
    pub stale_after: Duration,
    /// Of those who read in the database itself, if any do.
    pub rights: Option<DatabaseRights>,
    pub io: Io,
}

pub struct Governor {
    setup: Setup,
    shared: Arc<Shared>,
    trail: Trail,
    enforcement: Enforcement,
    away: bool,
    /// Faults that have been told.
    told: Vec<(String, String)>,
    /// As of when the volume has the rows, milliseconds since the epoch.
    remembered_ms: i64,
    remembering: bool,
    _alive: Alive,
}

/// A governor that is not alive yet.
pub struct Unborn {
    setup: Setup,
    shared: Arc<Shared>,
}

impl Unborn {
    /// Keeps a governor alive on this arbiter from now on.
    pub fn live(self, arbiter: &ArbiterHandle) {
        let Self { setup, shared } = self;
        arbiter.spawn(tend("governor", move |alive| {
            let governor = Governor {
                setup: setup.clone(),
                shared: shared.clone(),
                trail: Trail::new(shared.spool.clone()),
                enforcement: Enforcement::default(),
                away: false,
                told: Vec::new(),
                remembered_ms: 0,
                remembering: false,
                _alive: alive,
            };
            shared.lives_at(governor.start());
        }));
    }
}

impl Governor {
    /// Opens what the volume holds.
    pub fn open(setup: Setup) -> Result<(Governance, Unborn), SpoolFull> {
        let shared = Arc::new(Shared::open(&setup)?);
        Ok((Governance::of(shared.clone()), Unborn { setup, shared }))
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        fault::point("governor.look");
        let grants = self.setup.grants.clone();
        let reading = self.setup.io.spawn(async move {
            let read = tokio::time::timeout(WITHIN, grants.rules()).await;
            read.unwrap_or_else(|_| Err(SinkError::passing("no answer")))
        });
        let read = async move { reading.await.unwrap_or_else(|error| Err(join_error(&error))) };
        ctx.spawn(read.into_actor(self).map(|read, governor, ctx| match read {
            Ok(rules) => {
                governor.take(rules, ctx);
                governor.wait(ctx);
            }
            Err(error) => {
                if !std::mem::replace(&mut governor.away, true) {
                    warn!(target: "tidegate::governor", %error, "the permission rows cannot be read; deciding by the last ones");
                }
                ctx.run_later(RETRY, Self::look);
            }
        }));
    }

    /// Looks again when something may have changed.
    fn wait(&mut self, ctx: &mut Context<Self>) {
        let grants = self.setup.grants.clone();
        let waiting = self.setup.io.spawn(async move { grants.changed(LOOK).await });
        ctx.spawn(waiting.into_actor(self).map(|_, governor, ctx| governor.look(ctx)));
    }

    fn take(&mut self, rules: Rules, ctx: &mut Context<Self>) {
        if std::mem::take(&mut self.away) {
            info!(target: "tidegate::governor", "the permission rows are read again");
        }
        if rules.faults != self.told {
            for (of, fault) in &rules.faults {
                warn!(target: "tidegate::governor", of, fault, "permission rows or a token are not understood: they allow nothing");
            }
            self.told.clone_from(&rules.faults);
        }
        let same = self.shared.rules().is_some_and(|known| known.says_what(&rules));
        let rules = Arc::new(rules);
        self.shared.put(rules.clone());
        self.enforce(rules.clone(), !same, ctx);
        if !same || rules.as_of_ms - self.remembered_ms > OLD_MS {
            self.remember(&rules, ctx);
        }
    }

    fn remember(&mut self, rules: &Rules, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.remembering, true) {
            // They are looked at again within a second.
            self.remembered_ms = 0;
            return;
        }
        let as_of_ms = rules.as_of_ms;
        let remembered = Remembered {
            as_of_ms,
            database: self.setup.database.clone(),
            sources: self.setup.grants.sources().clone(),
            rows: rules.rows.clone(),
            tokens: rules.tokens.clone(),
            salt: rules.salt.bytes().to_vec(),
        };
        let volume = self.setup.volume.clone();
        self.remembered_ms = as_of_ms;
        let writing = self.setup.io.spawn_blocking(move || remember(&volume, &remembered));
        ctx.spawn(writing.into_actor(self).map(|written, governor, _| {
            governor.remembering = false;
            let failed = written.map_err(|error| error.to_string()).and_then(|written| written);
            if let Err(error) = failed {
                governor.remembered_ms = 0;
                warn!(target: "tidegate::governor", error, "the permission rows cannot be kept on the volume: a restart while the database is away would deny everything");
            }
        }));
    }
}

impl Actor for Governor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(trail::WAITING);
        self.look(ctx);
        self.send(ctx);
    }
}
