//! The janitor of one node. Of all nodes' janitors one is active: the one that holds the lease, which the
//! database keeps, or the lake where there is no database. One that gives no sign for the lease's time has
//! lost it, and knows so by its own clock; one whose machine was suspended, when it asks again. One that can
//! do nothing, for instance as it does not reach the lake, gives the lease up and leaves it to others for a
//! while.
//!
//! The lease keeps the cluster from doing everything several times. It is not what makes the chores safe: one
//! that sleeps, wakes and goes on beside its successor commits nothing that was overtaken, as `lake::upkeep`
//! says, and in the database its token is refused.
//!
//! A chore is done when its schedule says so, or when somebody asks for it, whatever its schedule: the
//! database keeps what is asked for until it is done, and the janitor looks when it renews its lease.
//!
//! One chore runs at a time. It runs where all I/O does, and is dropped at the next await when the lease is
//! lost; each may be cut off anywhere.

mod chores;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};
use uuid::Uuid;

pub use self::chores::{Chore, Done, Report, Work};
use self::chores::{LEASE, now_ms, renewal};
use super::message::Stop;
use super::{Alive, Edges, Io, join_error, tend};
use crate::lake::LakeLease;
use crate::lake::upkeep::Mode;
use crate::record::{Blame, SinkError, SinkKind};
use crate::telemetry::{fault, metrics};
use crate::warehouse::{JanitorStore, Lease, Run, Signal};

/// How long a node that stops waits for the end of its lease.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often it is looked whether a chore is due.
const LOOK: Duration = Duration::from_secs(1);

/// What a janitor is built from.
#[derive(Clone)]
pub struct Setup {
    pub work: Work,
    pub edges: Arc<Edges>,
    /// This node's name.
    pub node: String,
    pub io: Io,
}

pub struct Janitor {
    setup: Setup,
    /// Its own for this life: a janitor built anew is another holder.
    holder: String,
    held: Option<Held>,
    /// When each chore was done last, by whomever: milliseconds since the epoch.
    last: BTreeMap<Chore, i64>,
    /// What somebody asked for, the first first.
    asked: Vec<Signal>,
    /// What is being done or is done, as far as the database may still say that it is asked for.
    heard: BTreeSet<Signal>,
    running: Option<Running>,
    runs: u64,
    /// Leaves the lease to others until then.
    back_at: Option<Instant>,
    told: Option<String>,
    stopping: bool,
    _alive: Alive,
}

struct Running {
    number: u64,
    chore: Chore,
    task: AbortHandle,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    token: i64,
    /// By the clock of this node, from before it was asked for.
    until: Instant,
}

/// The node's janitor, whichever life it is in.
#[derive(Clone)]
pub struct Kept(Arc<Mutex<Option<Addr<Janitor>>>>);

/// Keeps a janitor alive on this arbiter from now on.
pub fn live(setup: Setup, arbiter: &ArbiterHandle) -> Kept {
    for chore in Chore::ALL {
        // The first that fails is seen as one more.
        metrics::CHORES_RUN.add([chore.name()], 0);
        metrics::CHORES_FAILED.add([chore.name()], 0);
    }
    let kept = Kept(Arc::default());
    let lives = kept.clone();
    arbiter.spawn(tend("janitor", move |alive| {
        let janitor = Janitor {
            setup: setup.clone(),
            holder: format!("{}/{}", setup.node, Uuid::new_v4().simple()),
            held: None,
            last: BTreeMap::new(),
            asked: Vec::new(),
            heard: BTreeSet::new(),
            running: None,
            runs: 0,
            back_at: None,
            told: None,
            stopping: false,
            _alive: alive,
        };
        *lives.lock() = Some(janitor.start());
    }));
    kept
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Option<Addr<Janitor>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what it does, and its lease, so that another node's goes on at once.
    pub async fn stop(&self) {
        let janitor = self.lock().clone();
        if let Some(janitor) = janitor {
            drop(tokio::time::timeout(FAREWELL, janitor.send(Stop)).await);
        }
    }
}

/// Where the lease is.
struct Leasehold {
    store: Option<Arc<dyn JanitorStore>>,
    lake: Option<crate::lake::LakeStore>,
}

impl Leasehold {
    fn of(work: &Work) -> Self {
        Self { store: work.store.clone(), lake: work.lake.clone() }
    }

    async fn hold(&self, holder: &str, time: Duration) -> Result<Lease, SinkError> {
        let in_database = match &self.store {
            Some(store) => Some(store.hold(LEASE, holder, time).await),
            None => None,
        };
        match (in_database, &self.lake) {
            // A database that has no bookkeeping, as no feed is written there, keeps no lease.
            (Some(Err(error)), Some(_)) if error.blame != Blame::Lasting => Err(error),
            (None | Some(Err(_)), Some(lake)) => {
                match LakeLease::new(lake, LEASE).hold(holder, time, now_ms()).await? {
                    Ok(token) => Ok(Lease::Held { token }),
                    Err(by) => Ok(Lease::Taken { by }),
                }
            }
            (Some(answer), _) => answer,
            (None, None) => Ok(Lease::Taken { by: String::new() }),
        }
    }

    /// What is asked for; none where it cannot be known now.
    async fn signals(&self) -> Option<Vec<Signal>> {
        let signals = tokio::time::timeout(LOOK, self.store.as_ref()?.signals()).await;
        signals.ok()?.ok()
    }

    async fn release(&self, holder: &str) -> Result<(), SinkError> {
        if let Some(lake) = &self.lake {
            LakeLease::new(lake, LEASE).release(holder).await?;
        }
        match &self.store {
            Some(store) => store.release(LEASE, holder).await,
            None => Ok(()),
        }
    }
}

impl Janitor {
    /// Asks for the lease, and again when a quarter of its time is over.
    fn keep_lease(&mut self, ctx: &mut Context<Self>) {
        if self.stopping {
            return;
        }
        let time = self.setup.work.config.lease.get();
        if self.stands_back() {
            ctx.run_later(renewal(time), Self::keep_lease);
            return;
        }
        fault::point("janitor.lease");
        let (leasehold, holder) = (Leasehold::of(&self.setup.work), self.holder.clone());
        let asked = Instant::now();
        let asking = self.setup.io.spawn(async move {
            let asking = async {
                let lease = leasehold.hold(&holder, time).await?;
                let asked = match lease {
                    Lease::Held { .. } => leasehold.signals().await,
                    Lease::Taken { .. } => None,
                };
                Ok((lease, asked))
            };
            let answer = tokio::time::timeout(renewal(time), asking).await;
            answer.unwrap_or_else(|_| Err(SinkError::passing("no answer")))
        });
        let answer = async move { asking.await.unwrap_or_else(|error| Err(join_error(&error))) };
        ctx.spawn(answer.into_actor(self).map(move |answer, janitor, ctx| {
            match answer {
                Ok((Lease::Held { token }, signals)) => {
                    // What the database no longer says is forgotten, unless it was not asked now.
                    if let Some(signals) = signals {
                        janitor.heard.retain(|signal| signals.contains(signal));
                        let new = |signal: &Signal| !janitor.heard.contains(signal);
                        janitor.asked = signals.into_iter().filter(new).collect();
                    }
                    janitor.hold(Held { token, until: asked + time }, ctx);
                }
                Ok((Lease::Taken { by }, _)) => {
                    janitor.lose("another node has it");
                    debug!(target: "tidegate::janitor", by, "another node is the janitor");
                }
                Err(error) => {
                    let error = error.to_string();
                    if janitor.told.as_ref() != Some(&error) {
                        warn!(target: "tidegate::janitor", error, "the lease cannot be asked for; trying again");
                        janitor.told = Some(error);
                    }
                }
            }
            ctx.run_later(renewal(time).saturating_sub(asked.elapsed()), Self::keep_lease);
        }));
    }

    fn hold(&mut self, held: Held, ctx: &mut Context<Self>) {
        self.told = None;
        // Asked for before it was given up.
        if self.stopping || self.stands_back() {
            return;
        }
        let before = self.held.replace(held);
        if before.is_none_or(|before| before.token != held.token) {
            info!(target: "tidegate::janitor", token = held.token, "this node is the janitor");
            self.remember(ctx);
        }
    }

    /// When the chores were done last, whoever did them. Until that is known none begins.
    fn remember(&mut self, ctx: &mut Context<Self>) {
        self.last.clear();
        let store = self.setup.work.store.clone();
        let asking = self.setup.io.spawn(async move {
            match store {
                Some(store) => store.runs().await,
                None => Ok(Vec::new()),
            }
        });
        let answer = async move { asking.await.unwrap_or_else(|error| Err(join_error(&error))) };
        ctx.spawn(answer.into_actor(self).map(|answer, janitor, ctx| {
            let runs = match answer {
                Ok(runs) => runs,
                // Without bookkeeping nobody noted any.
                Err(error) if error.blame == Blame::Lasting => Vec::new(),
                Err(error) => {
                    debug!(target: "tidegate::janitor", %error, "the last runs cannot be read; trying again");
                    ctx.run_later(LOOK, |janitor, ctx| {
                        if janitor.held.is_some() {
                            janitor.remember(ctx);
                        }
                    });
                    return;
                }
            };
            let now = now_ms();
            for chore in Chore::ALL {
                let last = runs.iter().find(|run| run.chore == chore.name());
                // A clock that was ahead must not put it off for long.
                let last = last.map_or(now, |run| run.finished_ms.min(now));
                janitor.last.insert(chore, last);
            }
        }));
    }

    fn lose(&mut self, why: &str) {
        // Whoever is next does what is left.
        self.heard.clear();
        if self.held.take().is_some() {
            warn!(target: "tidegate::janitor", why, "this node is no longer the janitor");
            if let Some(Running { chore, task, .. }) = self.running.take() {
                warn!(target: "tidegate::janitor", chore = chore.name(), "a chore is left where it is");
                task.abort();
            }
        }
    }

    /// What is seen of it from outside, of the one that is the janitor alone.
    fn tell_numbers(&self) {
        if self.held.is_none() {
            return forget_numbers();
        }
        metrics::JANITOR.set([], 1.0);
        for (chore, last) in &self.last {
            let due = chore.schedule(&self.setup.work.config).after(*last);
            if let Some(due) = due {
                metrics::CHORE_LAST.set([chore.name()], *last as f64 / 1000.0);
                metrics::CHORE_DUE.set([chore.name()], due as f64 / 1000.0);
            }
        }
    }

    /// Runs what is due, one after the other.
    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.held.is_some_and(|held| held.until <= Instant::now()) {
            self.lose("it could not be renewed in time");
        }
        self.tell_numbers();
        let (Some(held), None) = (self.held, &self.running) else { return };
        // Until it is known when each was done last, none begins.
        if self.last.is_empty() {
            return;
        }
        while !self.asked.is_empty() {
            let signal = self.asked.remove(0);
            match Chore::named(&signal.chore) {
                Some(chore) => {
                    self.heard.insert(signal.clone());
                    return self.run(chore, Some(signal), held, ctx);
                }
                // Of a newer release, whose nodes know it.
                None => {
                    debug!(target: "tidegate::janitor", chore = signal.chore, "an unknown chore is asked for")
                }
            }
        }
        let now = now_ms();
        let due = |(chore, last): (&Chore, &i64)| {
            let at = chore.schedule(&self.setup.work.config).after(*last)?;
            (at <= now).then_some((at, *chore))
        };
        if let Some((_, chore)) = self.last.iter().filter_map(due).min() {
            self.run(chore, None, held, ctx);
        }
    }

    fn run(&mut self, chore: Chore, signal: Option<Signal>, held: Held, ctx: &mut Context<Self>) {
        if let Some(Signal { by, .. }) = &signal {
            info!(target: "tidegate::janitor", chore = chore.name(), by, "a chore is asked for");
        }
        let Setup { work, edges, node, io } = self.setup.clone();
        let work = Work { token: Some(held.token), ..work };
        let task = io.spawn(async move {
            fault::point("janitor.run");
            let started_ms = now_ms();
            let ours = match work.lake {
                Some(_) => edges.check_installation(SinkKind::Lake).await,
                None => Ok(()),
            };
            let work = Work { retires_rows: retires_rows(chore, &edges).await, ..work };
            let report = match ours {
                Ok(()) => work.run(chore, None, Mode::Do).await,
                Err(error) => Report { error: Some(error.to_string()), ..Report::default() },
            };
            let run = Run {
                chore: chore.name().to_owned(),
                node,
                token: held.token,
                started_ms,
                finished_ms: now_ms(),
                failed: report.failed(),
                report: serde_json::to_value(&report).unwrap_or_default(),
            };
            let noted = match &work.store {
                Some(store) => store.note(&run).await,
                None => Ok(true),
            };
            if let Err(error) = &noted {
                warn!(target: "tidegate::janitor", chore = chore.name(), %error, "what a chore did could not be noted");
            }
            // One that could do nothing, or was overtaken, leaves it to another node.
            let done = matches!(noted, Ok(true)) && !report.in_vain();
            if let (Some(store), Some(signal)) = (&work.store, signal.filter(|_| done))
                && let Err(error) = store.answered(&signal).await
            {
                warn!(target: "tidegate::janitor", chore = chore.name(), %error, "a chore that was asked for is done, and will be done again");
            }
            report.in_vain()
        });
        self.runs += 1;
        let number = self.runs;
        self.running = Some(Running { number, chore, task: task.abort_handle() });
        ctx.spawn(task.into_actor(self).map(move |outcome, janitor, _| {
            // Another may have begun since this one was left.
            if janitor.running.as_ref().is_none_or(|running| running.number != number) {
                return;
            }
            janitor.running = None;
            janitor.last.insert(chore, now_ms());
            match outcome {
                Ok(true) => janitor.step_back(),
                Err(error) if error.is_panic() => {
                    warn!(target: "tidegate::janitor", chore = chore.name(), "a chore panicked; the next run tries again");
                }
                _ => {}
            }
        }));
    }

    fn stands_back(&self) -> bool {
        self.back_at.is_some_and(|back| Instant::now() < back)
    }

    /// Leaves the lease to others, for some times of it.
    fn step_back(&mut self) {
        self.lose("it could do nothing");
        self.back_at = Some(Instant::now() + self.setup.work.config.lease.get() * 4);
        let (leasehold, holder) = (Leasehold::of(&self.setup.work), self.holder.clone());
        drop(self.setup.io.spawn(async move { leasehold.release(&holder).await }));
    }
}

/// Rows of a warehouse that is another installation's stay, and of one that cannot be asked.
async fn retires_rows(chore: Chore, edges: &Edges) -> bool {
    if chore != Chore::Retention || edges.warehouse.is_none() {
        return false;
    }
    match edges.check_installation(SinkKind::Warehouse).await {
        Ok(()) => true,
        Err(error) => {
            warn!(target: "tidegate::janitor", %error, "old rows of the warehouse stay for now");
            false
        }
    }
}

impl Actor for Janitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.keep_lease(ctx);
        ctx.run_interval(LOOK, |janitor, ctx| janitor.look(ctx));
    }
}

impl Handler<Stop> for Janitor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, _: &mut Self::Context) -> Self::Result {
        self.stopping = true;
        let held = self.held.take().is_some();
        if let Some(Running { task, .. }) = self.running.take() {
            task.abort();
        }
        let (leasehold, holder) = (Leasehold::of(&self.setup.work), self.holder.clone());
        let releasing = self.setup.io.spawn(async move {
            if held && let Err(error) = leasehold.release(&holder).await {
                debug!(target: "tidegate::janitor", %error, "the lease is not ended, and will be over by itself");
            }
        });
        Box::pin(async move { drop(releasing.await) })
    }
}

impl Drop for Janitor {
    /// One that died leaves nothing running: another is built in its place.
    fn drop(&mut self) {
        if let Some(Running { task, .. }) = self.running.take() {
            task.abort();
        }
        forget_numbers();
    }
}

fn forget_numbers() {
    metrics::JANITOR.replace([]);
    metrics::CHORE_LAST.replace([]);
    metrics::CHORE_DUE.replace([]);
}
