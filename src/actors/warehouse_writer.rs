//! One feed's way into the warehouse: while one transaction is in flight the next batch gathers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use opentelemetry::trace::SpanContext;
use tracing::{debug, info, warn};

use super::intake::{Intake, Load, answer};
use super::message::{Abandon, Beat, Deliver, Flush, Loss, Outcome, Receipt};
use super::{Io, RETRY, bounds, join_error};
use crate::config::{Feed, Snapshots, WarehouseOptions};
use crate::record::{Blame, SinkError, SinkKind, Verdict, told};
use crate::telemetry::trace::{Landed, Start};
use crate::telemetry::{fault, metrics};
use crate::warehouse::Warehouse;

pub struct WarehouseWriter {
    feed: Arc<Feed>,
    warehouse: Arc<dyn Warehouse>,
    io: Io,
    detach_after: Duration,
    intake: Intake,
    writing: bool,
    timer: Option<SpawnHandle>,
    snapshots: Option<Snapshots>,
    taking: bool,
}

/// How often it is asked whether a snapshot is due.
const LOOK_EVERY: Duration = Duration::from_secs(30);

impl WarehouseWriter {
    pub fn build(
        feed: Arc<Feed>,
        options: &WarehouseOptions,
        warehouse: Arc<dyn Warehouse>,
        io: Io,
        detach_after: Duration,
    ) -> Self {
        let bounds = bounds(options.max_records, options.max_bytes, options.linger);
        let intake = Intake::new(SinkKind::Warehouse, bounds);
        let (snapshots, writing, taking, timer) = (options.snapshots.clone(), false, false, None);
        Self { feed, warehouse, io, detach_after, intake, writing, timer, snapshots, taking }
    }

    /// Starts a transaction if one is due and none is in flight; else sets the clock.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if self.writing {
            return;
        }
        match self.intake.due_in() {
            None => {}
            Some(Duration::ZERO) => self.write(ctx),
            Some(wait) => {
                self.timer = Some(ctx.run_later(wait, |writer, ctx| {
                    writer.timer = None;
                    writer.go_on(ctx);
                }));
            }
        }
    }

    fn write(&mut self, ctx: &mut Context<Self>) {
        fault::point("warehouse_writer.write");
        self.writing = true;
        let mut load = self.intake.take();
        let left_out = std::mem::take(&mut load.left_out);
        let (feed, warehouse) = (self.feed.clone(), self.warehouse.clone());
        let patience = self.detach_after;
        let span = Start::inner("warehouse commit")
            .with("tidegate.feed", feed.name.to_string())
            .with("tidegate.records", load.records as i64)
            .linked(load.traces.iter().cloned())
            .root();
        let committing = span.clone();
        let work = async move {
            answer(left_out).await;
            let outcome = write_patiently(&feed, warehouse.as_ref(), &load, patience).await;
            let failed = outcome.as_ref().err().cloned();
            if let Some(error) = &failed {
                committing.failed(error.blame.name(), "the transaction failed");
            }
            committing.end();
            let commit = Some(committing.context()).filter(SpanContext::is_sampled);
            let landed = Landed { commit, ..Landed::default() };
            let receipts = receipts(&feed.name, &load, outcome, &landed);
            match failed {
                None => {
                    answer(receipts).await;
                    None
                }
                Some(error) => Some((error, receipts)),
            }
        };
        let task = self.io.spawn(span.around(work));
        let done = async move {
            task.await.unwrap_or_else(|error| Some((join_error(&error), Vec::new())))
        };
        ctx.spawn(done.into_actor(self).map(|failed, writer, ctx| {
            writer.writing = false;
            if let Some((error, mut receipts)) = failed {
                // Told only now: what a lane sends once it has heard is not failed with the rest.
                receipts.extend(writer.intake.fail_all(&Loss::Failed(error)));
                writer.io.spawn(answer(receipts));
            }
            writer.go_on(ctx);
        }));
    }
}

impl WarehouseWriter {
    /// Takes a snapshot if one is due, beside whatever is being written.
    fn look_for_snapshot(&mut self, ctx: &mut Context<Self>) {
        let Some(snapshots) = self.snapshots.clone().filter(|_| !self.taking) else { return };
        self.taking = true;
        let (feed, warehouse) = (self.feed.clone(), self.warehouse.clone());
        let taking = self.io.spawn(async move {
            match warehouse.snapshot(&feed, Some(snapshots.every.get()), snapshots.keep).await {
                Ok(Some(taken)) => {
                    info!(target: "tidegate::warehouse", feed = %feed.name, version = taken.version, rows = taken.rows, "snapshot taken");
                }
                Ok(None) => {}
                Err(error) => {
                    warn!(target: "tidegate::warehouse", feed = %feed.name, %error, "no snapshot could be taken; trying again");
                }
            }
        });
        ctx.spawn(taking.into_actor(self).map(|_, writer, _| writer.taking = false));
    }
}

const WAREHOUSE: &str = SinkKind::Warehouse.name();

/// Tries again after passing errors, until the sink has been away for `patience`.
async fn write_patiently(
    feed: &Feed,
    warehouse: &dyn Warehouse,
    load: &Load,
    patience: Duration,
) -> Result<Vec<Verdict>, SinkError> {
    let since = Instant::now();
    let mut attempt = 0;
    loop {
        match warehouse.write(feed, &load.parts).await {
            Ok(verdicts) => {
                let labels = [&*feed.name, WAREHOUSE];
                metrics::SINK_COMMIT_SECONDS.record(labels, since.elapsed().as_secs_f64());
                if verdicts.iter().any(|it| matches!(it, Verdict::Durable { .. })) {
                    metrics::SINK_COMMITS.add(labels, 1);
                    metrics::SINK_BATCH.record(labels, load.records as f64);
                }
                debug!(target: "tidegate::warehouse", feed = %feed.name, records = load.records, ms = since.elapsed().as_millis() as u64, "committed");
                return Ok(verdicts);
            }
            Err(error) if error.blame == Blame::Passing && since.elapsed() < patience => {
                metrics::SINK_RETRIES.add([&feed.name, WAREHOUSE], 1);
                warn!(target: "tidegate::warehouse", feed = %feed.name, %error, attempt, "write failed; trying again");
                tokio::time::sleep(RETRY.wait(attempt, rand::random())).await;
                attempt += 1;
            }
            Err(error) => {
                let took = since.elapsed().as_secs_f64();
                metrics::SINK_COMMIT_SECONDS.record([&feed.name, WAREHOUSE], took);
                warn!(target: "tidegate::warehouse", feed = %feed.name, %error, "write given up");
                return Err(error);
            }
        }
    }
}

fn receipts(
    feed: &str,
    load: &Load,
    outcome: Result<Vec<Verdict>, SinkError>,
    landed: &Landed,
) -> Vec<(Recipient<Receipt>, Receipt)> {
    let verdicts: Vec<Result<Verdict, SinkError>> = match outcome {
        Ok(verdicts) => verdicts.into_iter().map(Ok).collect(),
        Err(error) => load.parts.iter().map(|_| Err(error.clone())).collect(),
    };
    load.parts
        .iter()
        .zip(&load.receipts)
        .zip(verdicts)
        .map(|((part, to), verdict)| {
            let range = part.range();
            let outcome = match verdict {
                Ok(Verdict::Durable { quarantined }) => {
                    let rejects: usize = part.batches.iter().map(|batch| batch.rejects.len()).sum();
                    let records = (part.num_rows() + rejects) as u64;
                    metrics::SINK_RECORDS.add([feed, WAREHOUSE], records);
                    metrics::SINK_REFUSED.add([feed, WAREHOUSE], quarantined);
                    Outcome::Durable { end: range.end, landed: landed.clone() }
                }
                Ok(Verdict::Fenced { found }) => {
                    metrics::FENCED.add([feed, WAREHOUSE], 1);
                    warn!(target: "tidegate::warehouse", source = %part.source, %range, ?found, "fenced: the warehouse has another owner or offset");
                    Outcome::Lost(Loss::Fenced { found })
                }
                Ok(Verdict::TooManyRejects { rejected, rows, reason }) => {
                    Outcome::Lost(Loss::TooManyRejects(format!(
                        "{rejected} of {rows} records in {range} of {} were refused, the first \
                         because: {}",
                        part.source,
                        told(&reason)
                    )))
                }
                Err(error) => Outcome::Lost(Loss::Failed(error)),
            };
            (to.clone(), Receipt { sink: SinkKind::Warehouse, claim: part.claim, outcome })
        })
        .collect()
}

impl Actor for WarehouseWriter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(super::WRITER_MAILBOX);
        if let Some(snapshots) = &self.snapshots {
            let every = snapshots.every.get().min(LOOK_EVERY);
            ctx.run_interval(every, |writer, ctx| writer.look_for_snapshot(ctx));
        }
    }
}

impl Handler<Deliver> for WarehouseWriter {
    type Result = ();

    fn handle(&mut self, deliver: Deliver, ctx: &mut Self::Context) {
        self.intake.push(deliver);
        // A timer that runs is early enough; only becoming due changes anything.
        if self.timer.is_none() || self.intake.due_in() == Some(Duration::ZERO) {
            self.go_on(ctx);
        }
    }
}

impl Handler<Flush> for WarehouseWriter {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) {
        self.intake.hurry();
        self.go_on(ctx);
    }
}

impl Handler<Abandon> for WarehouseWriter {
    type Result = ();

    fn handle(&mut self, Abandon(claims): Abandon, _: &mut Self::Context) {
        self.intake.forget(&claims);
    }
}

impl Handler<Beat> for WarehouseWriter {
    type Result = ();

    fn handle(&mut self, _: Beat, _: &mut Self::Context) {}
}
