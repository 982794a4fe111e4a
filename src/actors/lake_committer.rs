//! One feed's commits to its lake table: what is staged meanwhile goes into the next commit together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use opentelemetry::trace::SpanContext;
use opentelemetry::{Array, StringValue, Value};
use tracing::warn;

use super::intake::answer;
use super::message::{Beat, Loss, Outcome, Receipt};
use super::{Io, RETRY, join_error};
use crate::lake::{LakeTable, Staged};
use crate::record::{Blame, Claim, SinkError, SinkKind, Verdict, told};
use crate::telemetry::trace::{Landed, LandedFile, Span, Start};
use crate::telemetry::{fault, metrics};

/// So many files a span names.
const MOST_FILES: usize = 64;

const LAKE: &str = SinkKind::Lake.name();

/// A staged set, in the order its rows came. From the lake writer.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Commit {
    pub sequence: u64,
    /// None: staging failed and was answered already; the sequence goes on.
    pub staged: Option<Staged>,
    /// Whom to answer, part by part.
    pub to: Vec<(Claim, Recipient<Receipt>)>,
    pub records: usize,
    /// The span of its staging.
    pub trace: SpanContext,
}

pub struct LakeCommitter {
    feed: Arc<str>,
    table: Arc<dyn LakeTable>,
    io: Io,
    detach_after: Duration,
    waiting: BTreeMap<u64, Commit>,
    next: u64,
    committing: bool,
}

impl LakeCommitter {
    pub fn build(
        feed: Arc<str>,
        table: Arc<dyn LakeTable>,
        io: Io,
        detach_after: Duration,
    ) -> Self {
        let (waiting, next, committing) = (BTreeMap::new(), 0, false);
        Self { feed, table, io, detach_after, waiting, next, committing }
    }

    fn go_on(&mut self, ctx: &mut Context<Self>) {
        if self.committing {
            return;
        }
        let mut commits = Vec::new();
        while let Some(commit) = self.waiting.remove(&self.next) {
            self.next += 1;
            commits.extend(commit.staged.is_some().then_some(commit));
        }
        if commits.is_empty() {
            return;
        }
        fault::point("lake_committer.commit");
        self.committing = true;
        let (feed, table, patience) = (self.feed.clone(), self.table.clone(), self.detach_after);
        let span = Start::inner("lake commit")
            .with("tidegate.feed", feed.to_string())
            .with("tidegate.records", commits.iter().map(|it| it.records as i64).sum::<i64>())
            .linked(commits.iter().map(|commit| commit.trace.clone()))
            .root();
        let committing = span.clone();
        let work = async move {
            let sets: Vec<Staged> =
                commits.iter().filter_map(|commit| commit.staged.clone()).collect();
            let outcome = commit_patiently(&feed, table.as_ref(), &sets, patience).await;
            if let Err(error) = &outcome {
                committing.failed(error.blame.name(), "the commit failed");
            }
            committing.end();
            answer(receipts(&feed, &commits, &sets, outcome, &committing)).await;
        };
        let task = self.io.spawn(span.around(work));
        ctx.spawn(task.into_actor(self).map(|done, committer, ctx| {
            committer.committing = false;
            if let Err(error) = done {
                // The sets it carried were not answered: end, and be built anew with their lanes.
                warn!(target: "tidegate::lake", error = %join_error(&error), "a commit task died");
                ctx.stop();
                return;
            }
            committer.go_on(ctx);
        }));
    }
}

async fn commit_patiently(
    feed: &str,
    table: &dyn LakeTable,
    sets: &[Staged],
    patience: Duration,
) -> Result<Vec<Vec<Verdict>>, SinkError> {
    let since = Instant::now();
    let mut attempt = 0;
    loop {
        match table.commit(sets).await {
            Err(error) if error.blame == Blame::Passing && since.elapsed() < patience => {
                metrics::SINK_RETRIES.add([feed, LAKE], 1);
                warn!(target: "tidegate::lake", feed, %error, attempt, "commit failed; trying again");
                tokio::time::sleep(RETRY.wait(attempt, rand::random())).await;
                attempt += 1;
            }
            outcome => {
                let took = since.elapsed().as_secs_f64();
                metrics::SINK_COMMIT_SECONDS.record([feed, LAKE], took);
                return outcome;
            }
        }
    }
}

fn receipts(
    feed: &str,
    commits: &[Commit],
    sets: &[Staged],
    outcome: Result<Vec<Vec<Verdict>>, SinkError>,
    span: &Span,
) -> Vec<(Recipient<Receipt>, Receipt)> {
    let is_durable = |of: &Vec<Verdict>| matches!(of.as_slice(), [Verdict::Durable { .. }, ..]);
    let landed = outcome.iter().flatten().zip(commits).filter(|(of, _)| is_durable(of));
    let records: Vec<usize> = landed.map(|(_, commit)| commit.records).collect();
    if !records.is_empty() {
        metrics::SINK_COMMITS.add([feed, LAKE], 1);
        metrics::SINK_BATCH.record([feed, LAKE], records.iter().sum::<usize>() as f64);
    }
    let mut receipts = Vec::new();
    for (index, (commit, set)) in commits.iter().zip(sets).enumerate() {
        let verdicts = outcome.as_ref().map(|verdicts| verdicts[index].as_slice());
        if matches!(verdicts, Ok([Verdict::Durable { .. }, ..])) {
            metrics::SINK_RECORDS.add([feed, LAKE], commit.records as u64);
            metrics::LAKE_FILES.add([feed], set.files.len() as u64);
            metrics::LAKE_BYTES.add([feed], set.files.iter().map(|file| file.size).sum());
        }
        let landed = where_it_is(span, set);
        for (at, (claim, to)) in commit.to.iter().enumerate() {
            let outcome = match &verdicts {
                Ok(verdicts) => match &verdicts[at] {
                    Verdict::Durable { .. } => {
                        let (end, landed) = (set.parts[at].range.end, landed.clone());
                        Outcome::Durable { end, landed }
                    }
                    Verdict::Fenced { found } => {
                        metrics::FENCED.add([feed, LAKE], 1);
                        let part = &set.parts[at];
                        warn!(target: "tidegate::lake", source = %part.source, range = %part.range, ?found, "fenced: the lake stands at another offset");
                        Outcome::Lost(Loss::Fenced { found: *found })
                    }
                    Verdict::TooManyRejects { reason, .. } => {
                        Outcome::Lost(Loss::TooManyRejects(told(reason)))
                    }
                },
                Err(error) => Outcome::Lost(Loss::Failed((*error).clone())),
            };
            receipts.push((to.clone(), Receipt { sink: SinkKind::Lake, claim: *claim, outcome }));
        }
    }
    receipts
}

/// For those who follow a record: in which files it may be.
fn where_it_is(span: &Span, set: &Staged) -> Landed {
    let commit = span.context();
    if !commit.is_sampled() {
        return Landed::default();
    }
    let files = set.files.iter().map(|file| LandedFile::of(&file.path, &file.stats));
    Landed { commit: Some(commit), files: files.collect() }
}

/// What was staged, as a span tells it.
pub fn files(staged: &Staged) -> Value {
    let paths: Vec<StringValue> =
        staged.files.iter().take(MOST_FILES).map(|file| file.path.clone().into()).collect();
    Value::Array(Array::String(paths))
}

impl Actor for LakeCommitter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(super::WRITER_MAILBOX);
    }
}

impl Handler<Commit> for LakeCommitter {
    type Result = ();

    fn handle(&mut self, commit: Commit, ctx: &mut Self::Context) {
        self.waiting.insert(commit.sequence, commit);
        self.go_on(ctx);
    }
}

impl Handler<Beat> for LakeCommitter {
    type Result = ();

    fn handle(&mut self, _: Beat, _: &mut Self::Context) {}
}
