//! The audit's way: onto the volume, several requests with one sync, then to the database.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::Governor;
use super::asked::Keep;
use crate::actors::join_error;
use crate::governance::AuditRow;
use crate::grants::Grants;
use crate::record::{Blame, SinkError};
use crate::telemetry::{fault, metrics};
use crate::volume::{Oldest, Spool, SpoolFull};

/// Requests that wait for the disk at once.
pub(super) const WAITING: usize = 1024;
/// What comes within this goes to the database with it.
const GATHER: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(10);

/// Where the rows are on their way.
pub(super) struct Trail {
    spool: Arc<Mutex<Spool>>,
    /// Rows for the next sync, and who waits for each.
    waiting: Vec<Waiting>,
    writing: bool,
    sending: bool,
    away: bool,
}

type Waiting = (Vec<AuditRow>, oneshot::Sender<Result<(), SpoolFull>>);

/// What became of sending the oldest file.
enum Sent {
    All,
    Some,
    Failed(String),
}

impl Trail {
    pub fn new(spool: Arc<Mutex<Spool>>) -> Self {
        // The first that is refused is seen as one more.
        metrics::AUDIT_REFUSED.add([], 0);
        Self { spool, waiting: Vec::new(), writing: false, sending: false, away: false }
    }

    pub fn keep(&mut self, rows: Vec<AuditRow>, answer: oneshot::Sender<Result<(), SpoolFull>>) {
        self.waiting.push((rows, answer));
    }
}

impl Handler<Keep> for Governor {
    type Result = ResponseFuture<Result<(), SpoolFull>>;

    fn handle(&mut self, Keep(rows): Keep, ctx: &mut Self::Context) -> Self::Result {
        fault::point("governor.keep");
        let (answer, answered) = oneshot::channel();
        self.trail.keep(rows, answer);
        self.write(ctx);
        let died = || SpoolFull::Failing("the governor died".to_owned());
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(died())) })
    }
}

impl Governor {
    /// Writes what waits, unless a write is under way: then it goes with the next.
    pub(super) fn write(&mut self, ctx: &mut Context<Self>) {
        if self.trail.writing || self.trail.waiting.is_empty() {
            return;
        }
        self.trail.writing = true;
        let waiting = std::mem::take(&mut self.trail.waiting);
        let spool = self.trail.spool.clone();
        let writing = self.setup.io.spawn_blocking(move || keep(&mut lock(&spool), waiting));
        ctx.spawn(writing.into_actor(self).map(|_, governor, ctx| {
            governor.trail.writing = false;
            governor.write(ctx);
            governor.send(ctx);
        }));
    }

    /// Sends what is on the volume, unless that is under way.
    pub(super) fn send(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.trail.sending, true) {
            return;
        }
        let (spool, grants) = (self.trail.spool.clone(), self.setup.grants.clone());
        let sending = self.setup.io.spawn(send_oldest(spool, grants));
        let sent = async move {
            sending.await.unwrap_or_else(|error| Sent::Failed(join_error(&error).to_string()))
        };
        ctx.spawn(sent.into_actor(self).map(|sent, governor, ctx| match sent {
            // Something may have come while it was looked.
            Sent::All if !governor.shared.has_sent_all() => governor.send_again(ctx),
            Sent::All => {
                governor.trail.sending = false;
                governor.shared.emptied.notify_waiters();
            }
            Sent::Some => {
                if std::mem::take(&mut governor.trail.away) {
                    info!(target: "tidegate::governor", "the audit is written again");
                }
                ctx.run_later(GATHER, Self::send_again);
            }
            Sent::Failed(error) => {
                if !std::mem::replace(&mut governor.trail.away, true) {
                    warn!(target: "tidegate::governor", error, "the audit waits on the volume for the database");
                }
                ctx.run_later(RETRY, Self::send_again);
            }
        }));
    }

    fn send_again(&mut self, ctx: &mut Context<Self>) {
        self.trail.sending = false;
        self.send(ctx);
    }
}

fn lock(spool: &Mutex<Spool>) -> std::sync::MutexGuard<'_, Spool> {
    spool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// With one sync, unless that is more than there is room for: then who came first has it.
fn keep(spool: &mut Spool, waiting: Vec<Waiting>) {
    let all: Vec<AuditRow> = waiting.iter().flat_map(|(rows, _)| rows).cloned().collect();
    let together = spool.keep(&all);
    for (rows, answer) in waiting {
        let kept = match &together {
            Err(SpoolFull::Full { .. }) => spool.keep(&rows),
            together => together.clone(),
        };
        match kept {
            Ok(()) => metrics::AUDIT_ROWS.add([], rows.len() as u64),
            Err(_) => metrics::AUDIT_REFUSED.add([], rows.len() as u64),
        }
        // Whoever asked may be gone.
        drop(answer.send(kept));
    }
}

async fn send_oldest(spool: Arc<Mutex<Spool>>, grants: Grants) -> Sent {
    let failed = |error: &dyn std::fmt::Display| Sent::Failed(error.to_string());
    let asked = spool.clone();
    let oldest = match tokio::task::spawn_blocking(move || lock(&asked).oldest()).await {
        Ok(Ok(Some(oldest))) => oldest,
        Ok(Ok(None)) => return Sent::All,
        Ok(Err(error)) => return failed(&error),
        Err(error) => return failed(&error),
    };
    if oldest.spoiled {
        warn!(target: "tidegate::governor", file = %oldest.path.display(), read = oldest.rows.len(), "a file of the audit is spoiled: what can be read of it is sent, and it is set aside");
    }
    if let Err(error) = record(&grants, &oldest).await {
        return failed(&error);
    }
    match tokio::task::spawn_blocking(move || lock(&spool).arrived(&oldest)).await {
        Ok(Ok(())) => Sent::Some,
        // What has arrived is sent once more, and known there by its ids.
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

/// A row that the database refuses by itself must not keep the others from it.
async fn record(grants: &Grants, oldest: &Oldest) -> Result<(), SinkError> {
    let within = async |rows: &[AuditRow]| {
        let sent = tokio::time::timeout(WITHIN, grants.record(rows)).await;
        sent.unwrap_or_else(|_| Err(SinkError::passing("no answer")))
    };
    match within(&oldest.rows).await {
        Err(error) if error.blame == Blame::Record => {}
        sent => return sent,
    }
    for row in &oldest.rows {
        match within(std::slice::from_ref(row)).await {
            Err(error) if error.blame == Blame::Record => {
                error!(target: "tidegate::governor", %error, ?row, "the database refuses a row of the audit: here it is");
            }
            Err(error) => return Err(error),
            Ok(()) => {}
        }
    }
    Ok(())
}
