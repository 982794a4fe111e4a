//! One feed's way to staged files: batches gather, are encoded on every core, and go to the committer
//! in the order they came.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use opentelemetry::trace::SpanContext;
use tracing::warn;

use super::intake::{Intake, Load, answer};
use super::lake_committer::{Commit, LakeCommitter, files};
use super::message::{Abandon, Beat, Deliver, Flush, Loss, Outcome, Receipt};
use super::{Io, RETRY, bounds, join_error};
use crate::config::{Feed, LakeOptions};
use crate::flow::budget::Budget;
use crate::lake::{LakeTable, Staged};
use crate::layout::{By, Layout, Slot, slots};
use crate::record::{Batch, Blame, SinkError, SinkKind};
use crate::telemetry::trace::Start;
use crate::telemetry::{fault, metrics};

/// On-time records may stand on both sides of an hour's end.
const TIMES_ON_TIME: usize = 2;

/// The times of what waits, where a feed waits longer for late records.
struct Times {
    feed: Arc<Feed>,
    layout: Layout,
    linger: Duration,
    late_linger: Duration,
    known: BTreeSet<Slot>,
}

impl Times {
    fn of(feed: &Arc<Feed>, options: &LakeOptions) -> Option<Self> {
        let (linger, late_linger) = (options.linger.get(), options.late_linger?.get());
        let layout = Layout::of(feed).ok()?;
        Some(Self { feed: feed.clone(), layout, linger, late_linger, known: BTreeSet::new() })
    }

    /// Takes up a batch; answers how long what waits may wait.
    fn add(&mut self, batch: &Batch) -> Duration {
        // What goes by the time of its file is of one time whenever that is.
        if self.known.len() <= TIMES_ON_TIME && batch.num_rows() > 0 {
            let by = By::of(&self.feed, 0);
            let found = slots(&batch.rows, by, &batch.timestamps, self.layout.precision());
            self.known.extend(found.all());
        }
        if self.known.len() > TIMES_ON_TIME { self.late_linger } else { self.linger }
    }
}

pub struct LakeWriter {
    feed: Arc<str>,
    table: Arc<dyn LakeTable>,
    committer: Addr<LakeCommitter>,
    io: Io,
    budget: Budget,
    detach_after: Duration,
    intake: Intake,
    /// Sets being encoded and staged.
    staging: usize,
    /// Order of the sets, for the committer.
    sequence: u64,
    timer: Option<SpawnHandle>,
    times: Option<Times>,
}

impl LakeWriter {
    pub fn build(
        feed: &Arc<Feed>,
        options: &LakeOptions,
        table: Arc<dyn LakeTable>,
        committer: Addr<LakeCommitter>,
        io: Io,
        budget: Budget,
        detach_after: Duration,
    ) -> Self {
        // Two sets being staged and one gathering must fit beside everything else.
        let max_bytes = options.max_bytes.bytes().min(budget.limit() / 6);
        let bounds = bounds(
            options.max_records,
            crate::config::ByteSize::new(max_bytes as u64),
            options.linger,
        );
        Self {
            feed: feed.name.clone(),
            table,
            committer,
            io,
            budget,
            detach_after,
            intake: Intake::new(SinkKind::Lake, bounds),
            staging: 0,
            sequence: 0,
            timer: None,
            times: Times::of(feed, options),
        }
    }

    fn go_on(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if self.staging >= self.io.cores() {
            return;
        }
        match self.intake.due_in() {
            None => {}
            Some(Duration::ZERO) => self.stage(ctx),
            Some(wait) => {
                self.timer = Some(ctx.run_later(wait, |writer, ctx| {
                    writer.timer = None;
                    writer.go_on(ctx);
                }));
            }
        }
    }

    fn stage(&mut self, ctx: &mut Context<Self>) {
        fault::point("lake_writer.stage");
        self.staging += 1;
        let load = self.intake.take();
        if let Some(times) = self.times.as_mut().filter(|_| self.intake.is_empty()) {
            times.known.clear();
        }
        let sequence = self.sequence;
        self.sequence += 1;
        let (table, committer) = (self.table.clone(), self.committer.clone());
        let feed = self.feed.clone();
        let patience = self.detach_after;
        let span = Start::inner("lake stage")
            .with("tidegate.feed", feed.to_string())
            .with("tidegate.records", load.records as i64)
            .linked(load.traces.iter().cloned())
            .root();
        let staging = span.clone();
        let work = async move {
            let Load { parts, receipts, records, left_out, .. } = load;
            answer(left_out).await;
            let to: Vec<_> = parts.iter().map(|part| part.claim).zip(receipts).collect();
            let staged = stage_patiently(&feed, table.as_ref(), parts, patience).await;
            fault::point("lake_writer.staged");
            match &staged {
                Ok(staged) => staging.set("tidegate.lake.files", files(staged)),
                Err(error) => staging.failed(error.blame.name(), "staging failed"),
            }
            // Behind it the commit waits for its turn.
            staging.end();
            let failed = staged.as_ref().err().map(|error| {
                let lost = |(claim, to): &(_, Recipient<Receipt>)| {
                    let outcome = Outcome::Lost(Loss::Failed(error.clone()));
                    (to.clone(), Receipt { sink: SinkKind::Lake, claim: *claim, outcome })
                };
                (error.clone(), to.iter().map(lost).collect::<Vec<_>>())
            });
            let trace = staging.context();
            let commit = Commit { sequence, staged: staged.ok(), to, records, trace };
            // A dead committer takes the lanes with it: the supervisor builds both anew.
            let _ = committer.send(commit).await;
            failed
        };
        let task = self.io.spawn(span.around(work));
        let committer = self.committer.clone();
        let done = async move {
            match task.await {
                Ok(failed) => failed,
                Err(error) => {
                    // The sets behind it must not wait for it.
                    let (to, trace) = (Vec::new(), SpanContext::NONE);
                    let skip = Commit { sequence, staged: None, to, records: 0, trace };
                    let _ = committer.send(skip).await;
                    Some((join_error(&error), Vec::new()))
                }
            }
        };
        ctx.spawn(done.into_actor(self).map(|failed, writer, ctx| {
            writer.staging -= 1;
            if let Some((error, mut receipts)) = failed {
                // Told only now: what a lane sends once it has heard is not failed with the rest.
                receipts.extend(writer.intake.fail_all(&Loss::Failed(error)));
                writer.io.spawn(answer(receipts));
            }
            writer.go_on(ctx);
        }));
        self.go_on(ctx);
    }
}

async fn stage_patiently(
    feed: &str,
    table: &dyn LakeTable,
    parts: Vec<crate::record::Part>,
    patience: Duration,
) -> Result<Staged, SinkError> {
    let since = Instant::now();
    let mut attempt = 0;
    loop {
        match table.stage(parts.clone()).await {
            Err(error) if error.blame == Blame::Passing && since.elapsed() < patience => {
                metrics::SINK_RETRIES.add([feed, SinkKind::Lake.name()], 1);
                warn!(target: "tidegate::lake", feed, %error, attempt, "staging failed; trying again");
                tokio::time::sleep(RETRY.wait(attempt, rand::random())).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

impl Actor for LakeWriter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(super::WRITER_MAILBOX);
    }
}

impl Handler<Deliver> for LakeWriter {
    type Result = ();

    fn handle(&mut self, deliver: Deliver, ctx: &mut Self::Context) {
        if let Some(times) = &mut self.times {
            self.intake.wait(times.add(&deliver.batch));
        }
        self.intake.push(deliver);
        if self.budget.is_tight() {
            self.intake.hurry();
        }
        if self.timer.is_none() || self.intake.due_in() == Some(Duration::ZERO) {
            self.go_on(ctx);
        }
    }
}

impl Handler<Flush> for LakeWriter {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) {
        self.intake.hurry();
        self.go_on(ctx);
    }
}

impl Handler<Abandon> for LakeWriter {
    type Result = ();

    fn handle(&mut self, Abandon(claims): Abandon, _: &mut Self::Context) {
        self.intake.forget(&claims);
    }
}

impl Handler<Beat> for LakeWriter {
    type Result = ();

    fn handle(&mut self, _: Beat, _: &mut Self::Context) {}
}
