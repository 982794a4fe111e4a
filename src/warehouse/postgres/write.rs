//! The transaction: rows, quarantine and progress of many partitions, fenced.
//!
//! Four round trips, whatever the number of rows and partitions: BEGIN and the start of COPY; the rows
//! and, behind them, the fence; delete and upsert under a savepoint; quarantine, progress and COMMIT.
//! Rows that the server refuses take more, but no other transaction: only a part left out, a deadlock,
//! or a row that COPY itself fails at has it done again.
//! Nothing shared is locked before the rows are over, and nothing of the feed's table is touched before
//! the fence has answered: a process that freezes on the way holds, at worst, progress rows that a
//! claim knows how to free.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use futures::future::try_join_all;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::{join, try_join};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CopyInSink, Error, Row, Statement};

use super::apply::Apply;
use super::pool::{Session, blamed, judged};
use super::replay::Held;
use super::stage::{TOPIC, Target, Upsert};
use super::{Postgres, check, copy, reject, versions};
use crate::config::Feed;
use crate::record::{Blame, SinkError, Verdict};
use crate::telemetry::fault;
use crate::telemetry::trace::Span;
use crate::warehouse::Part;
use crate::warehouse::intake::Intake;
use crate::warehouse::reduce::Selection;

/// Deferred constraints would fail at COMMIT, too late to find the row.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET CONSTRAINTS ALL IMMEDIATE";

/// Names the parts that still hold their fence, and holds them until the end of the transaction, whose
/// number it tells too: the progress has it as `xmin`, the rows the number of their savepoint, just above.
const FENCE: &str = "
    SELECT w.part, pg_current_xact_id()::text
    FROM tidegate.progress p
    JOIN unnest($2::text[], $3::int4[], $4::text[], $5::int8[], $6::int4[])
        AS w(topic, partition, claim, start, part)
      ON (p.feed, p.topic, p.partition, p.claim, p.next_offset)
       = ($1, w.topic, w.partition, w.claim::uuid, w.start)
    ORDER BY p.feed, p.topic, p.partition
    FOR UPDATE OF p";

/// What stands there instead, for the parts that lost it.
const FOUND: &str = "
    SELECT w.part, p.next_offset
    FROM tidegate.progress p
    JOIN unnest($2::text[], $3::int4[], $4::int4[]) AS w(topic, partition, part)
      ON (p.feed, p.topic, p.partition) = ($1, w.topic, w.partition)";

const ADVANCE: &str = "
    UPDATE tidegate.progress p
    SET next_offset = w.next_offset, topic_id = coalesce(p.topic_id, w.topic_id::uuid),
        updated_at = now()
    FROM unnest($2::text[], $3::int4[], $4::int8[], $5::text[])
        AS w(topic, partition, next_offset, topic_id)
    WHERE (p.feed, p.topic, p.partition) = ($1, w.topic, w.partition)";

const PROGRESS: &str = "tidegate.progress";

/// Deadlocks are tried again here: the victim has lost nothing but time.
const DEADLOCK_TRIES: u32 = 5;

/// How one try of the transaction ended.
enum Step {
    Committed,
    /// Rolled back with fewer parts or rows to write.
    Again,
}

impl Postgres {
    pub(super) async fn write_parts(
        &self,
        feed: &Feed,
        parts: &[Part],
    ) -> Result<Vec<Verdict>, SinkError> {
        self.write_held(feed, parts, None).await.map(Intake::committed)
    }

    /// `replay`: what the write continues instead of the progress.
    pub(super) async fn write_held(
        &self,
        feed: &Feed,
        parts: &[Part],
        replay: Option<&Held<'_>>,
    ) -> Result<Intake, SinkError> {
        let target = self.target(feed).await?;
        let (feed_, parts) = (feed.clone(), parts.to_vec());
        let mut intake = off_runtime(move || Intake::new(&feed_, &parts, check::check)).await?;
        let mut deadlocks = 0;
        while intake.live().next().is_some() {
            let session = self.sessions.get().await?;
            let (back, selection) = off_runtime(move || {
                let selection = Arc::new(intake.select());
                (intake, selection)
            })
            .await;
            intake = back;
            let rows = selection.rows.len();
            let attempt = Attempt { session, feed, target: &target, selection, replay };
            match attempt.run(&mut intake).await {
                Ok(Step::Committed) => break,
                Ok(Step::Again) => {
                    let (feed, parts) = (&*feed.name, intake.live().count());
                    let refused = intake.refused();
                    if parts > 0 {
                        tracing::info!(feed, rows, parts, refused, "writes again what is left");
                    }
                }
                Err(error) if passes_at_once(&error) && deadlocks < DEADLOCK_TRIES => {
                    deadlocks += 1;
                    let (feed, error) = (&*feed.name, judged(error).message);
                    tracing::info!(feed, rows, deadlocks, error, "writes again, after a deadlock");
                    tokio::time::sleep(pause(deadlocks)).await;
                }
                Err(error) => return Err(self.surface(feed, error)),
            }
        }
        Ok(intake)
    }

    /// What cannot be laid on a single record is for a person to mend; then the table is looked at
    /// anew.
    fn surface(&self, feed: &Feed, error: Error) -> SinkError {
        let mut error = without_values(error);
        if error.blame == Blame::Record {
            error.blame = Blame::Lasting;
        }
        if error.blame == Blame::Lasting {
            self.forget_target(feed);
        }
        error
    }
}

/// What a server says of data may hold some; of the rest it says what a person needs.
fn without_values(error: Error) -> SinkError {
    const OF_THE_WORLD: [&str; 12] =
        ["08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58"];
    let Some(db) = error.as_db_error() else { return judged(error) };
    let state = db.code().code().to_owned();
    if OF_THE_WORLD.iter().any(|class| state.starts_with(class)) {
        return judged(error);
    }
    let named = [("constraint", db.constraint()), ("column", db.column()), ("table", db.table())];
    let named = named.iter().filter_map(|(what, name)| Some(format!(", {what} {}", (*name)?)));
    let message =
        format!("the server refused rows (SQLSTATE {state}{})", named.collect::<String>());
    SinkError { message, ..judged(error) }
}

fn passes_at_once(error: &Error) -> bool {
    let codes = [&SqlState::T_R_DEADLOCK_DETECTED, &SqlState::T_R_SERIALIZATION_FAILURE];
    error.code().is_some_and(|code| codes.contains(&code))
}

/// 10 to 320 ms, and not the same for two that met.
fn pause(tries: u32) -> Duration {
    Duration::from_millis(rand::random_range(5..=10) << tries)
}

/// Runs what computes on a thread that may block.
async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    finished(spawn_blocking(work)).await
}

async fn finished<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and we with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// One try of the transaction. Dropped before its end, it closes the connection.
struct Attempt<'a> {
    session: Session,
    feed: &'a Feed,
    target: &'a Arc<Target>,
    selection: Arc<Selection>,
    replay: Option<&'a Held<'a>>,
}

impl<'a> Attempt<'a> {
    async fn run(self, intake: &mut Intake) -> Result<Step, Error> {
        let live: Vec<usize> = intake.live().collect();
        let fence = self.session.prepare_cached(FENCE).await?;
        let fence = self.fence(&fence, intake, &live);
        let mut apply = None;
        let held = if self.selection.rows.is_empty() {
            let (begun, held) = join!(self.begin(), fence);
            begun.and(held)
        } else {
            let prepared = self.prepare().await?;
            let held = self.stage(intake, &prepared.copy, fence).await;
            apply = Some(prepared);
            held
        };
        let held = match held {
            Err(error) if self.copy_refused(intake, &error) => return self.roll_back().await,
            held => held?,
        };
        if held.len() < live.len() {
            let lost: Vec<usize> = live.into_iter().filter(|part| !held.contains(part)).collect();
            return self.leave_out(intake, &lost).await;
        }
        if let Some(apply) = apply
            && !self.apply(intake, &apply).await?
        {
            return self.roll_back().await;
        }
        self.commit(intake, &live).await?;
        self.session.done();
        Ok(Step::Committed)
    }

    /// The staging table and the statements, which the connection remembers.
    async fn prepare(&self) -> Result<Apply<'a>, Error> {
        let (session, target) = (&self.session, self.target);
        if !session.has_stage(target.stage) {
            session.batch_execute(&target.create_stage).await?;
            session.remember_stage(target.stage);
        }
        let delete = async {
            match &target.delete {
                Some(sql) => session.prepare_cached(sql).await.map(Some),
                None => Ok(None),
            }
        };
        let dimension = |upsert: &'a Upsert| session.prepare_cached(&upsert.from_stage);
        let (copy, delete, insert, dimensions) = try_join!(
            session.prepare_cached(&target.copy),
            delete,
            session.prepare_cached(&target.insert),
            try_join_all(target.dimensions.iter().map(dimension)),
        )?;
        let topic = target.sends(TOPIC).then_some(&*self.feed.topic);
        let deletes = self.selection.deletes;
        Ok(Apply { copy, delete, insert, dimensions, deletes, topic, target })
    }

    /// Sends the rows to the staging table, and the fence behind them. A COPY that fails is the
    /// answer: the fence then failed with it.
    async fn stage(
        &self,
        intake: &Intake,
        copy: &Statement,
        fence: impl Future<Output = Result<Vec<usize>, Error>>,
    ) -> Result<Vec<usize>, Error> {
        let copying = async {
            let (begun, sink) = join!(self.begin(), self.session.copy_in(copy));
            begun?;
            let mut sink = pin!(sink?);
            self.send_rows(intake, sink.as_mut()).await?;
            let (copied, held) = join!(sink.finish(), fence);
            copied.and(held)
        };
        self.session.traced("COPY", Some("tidegate_stage"), copying).await
    }

    async fn begin(&self) -> Result<(), Error> {
        self.session.traced("BEGIN", None, self.session.batch_execute(BEGIN)).await
    }

    /// Encodes on a thread of its own, a little ahead of the connection.
    async fn send_rows(
        &self,
        intake: &Intake,
        mut sink: Pin<&mut CopyInSink<Bytes>>,
    ) -> Result<(), Error> {
        let (sender, mut chunks) = mpsc::channel(2);
        let (target, batches) = (self.target.clone(), intake.batches.clone());
        let selection = self.selection.clone();
        let encoding = spawn_blocking(move || {
            let send = |chunk| sender.blocking_send(chunk).is_ok();
            copy::encode(&target, &batches, &selection.rows, send);
        });
        while let Some(chunk) = chunks.recv().await {
            sink.feed(chunk).await?;
            fault::point("warehouse.in_copy");
        }
        // If it panicked the rows are not whole; then the sink is dropped, which fails the COPY.
        finished(encoding).await;
        Ok(())
    }

    async fn fence(
        &self,
        statement: &Statement,
        intake: &Intake,
        live: &[usize],
    ) -> Result<Vec<usize>, Error> {
        if let Some(replay) = self.replay {
            return replay.parts(&self.session).await;
        }
        let parts = || live.iter().map(|part| &intake.parts[*part]);
        let topics: Vec<&str> = parts().map(|part| &*part.source.topic).collect();
        let partitions: Vec<i32> = parts().map(|part| part.source.partition).collect();
        let claims: Vec<String> = parts().map(|part| part.claim.to_string()).collect();
        let starts: Vec<i64> = parts().map(|part| part.range().start).collect();
        let indexes: Vec<i32> = live.iter().map(|part| *part as i32).collect();
        let params: [&(dyn ToSql + Sync); 6] =
            [&&*self.feed.name, &topics, &partitions, &claims, &starts, &indexes];
        let asking = self.session.query(statement, &params);
        let rows = self.session.traced("SELECT", Some(PROGRESS), asking).await?;
        if let Some(row) = rows.first() {
            Span::current().set("tidegate.warehouse.transaction", row.get::<_, String>(1));
        }
        Ok(rows.iter().map(part_of).collect())
    }

    /// Leaves the row that COPY failed at out of the next try. False if it is not to blame.
    fn copy_refused(&self, intake: &mut Intake, error: &Error) -> bool {
        let Some(db) = error.as_db_error().filter(|_| blamed(error) == Blame::Record) else {
            return false;
        };
        let at = reject::copy_row(db).and_then(|row| self.selection.rows.get(row).copied());
        if let Some(at) = at {
            intake.refuse(at, reject::refusal(db));
        }
        at.is_some()
    }

    /// False if a part is to be left out and the transaction done again without it.
    async fn apply(&self, intake: &mut Intake, apply: &Apply<'_>) -> Result<bool, Error> {
        let rows = &self.selection.rows;
        let parts = intake.live().count();
        let mut refused = Vec::new();
        let refuse = |row: usize, refusal| {
            refused.push(rows[row]);
            intake.refuse(rows[row], refusal);
            intake.live().count() == parts
        };
        apply.all_but_refused(&self.session, rows.len(), refuse).await?;
        if intake.live().count() == parts && !refused.is_empty() {
            let uncovered = off_runtime(intake.uncovered(refused)).await;
            let name = &self.feed.name;
            versions::settle(&self.session, self.target, name, intake, &uncovered).await?;
        }
        Ok(intake.live().count() == parts)
    }

    async fn commit(&self, intake: &Intake, live: &[usize]) -> Result<(), Error> {
        if let Some(replay) = self.replay {
            replay.settle(&self.session, intake).await?;
            fault::point("warehouse.before_commit");
            return self.end("COMMIT").await;
        }
        let rows = intake.quarantine();
        if !rows.is_empty() {
            let keeping = reject::keep(&self.session, &self.feed.name, &rows);
            self.session.traced("INSERT", Some("tidegate.quarantine"), keeping).await?;
        }
        let parts = || live.iter().map(|part| &intake.parts[*part]);
        let topics: Vec<&str> = parts().map(|part| &*part.source.topic).collect();
        let partitions: Vec<i32> = parts().map(|part| part.source.partition).collect();
        let ends: Vec<i64> = parts().map(|part| part.range().end).collect();
        let topic_ids: Vec<Option<String>> = parts().map(|part| part.topic_id.text()).collect();
        let params: [&(dyn ToSql + Sync); 5] =
            [&&*self.feed.name, &topics, &partitions, &ends, &topic_ids];
        let statement = self.session.prepare_cached(ADVANCE).await?;
        fault::point("warehouse.before_commit");
        let advancing = self.session.execute(&statement, &params);
        let advancing = self.session.traced("UPDATE", Some(PROGRESS), advancing);
        let (advanced, committed) = join!(advancing, self.end("COMMIT"));
        let advanced = advanced?;
        debug_assert_eq!(advanced, live.len() as u64, "the fence holds each of these rows");
        committed
    }

    async fn end(&self, how: &'static str) -> Result<(), Error> {
        self.session.traced(how, None, self.session.batch_execute(how)).await
    }

    /// Rolls back without the parts that lost their fence.
    async fn leave_out(self, intake: &mut Intake, lost: &[usize]) -> Result<Step, Error> {
        self.end("ROLLBACK").await?;
        let sources = || lost.iter().map(|part| &intake.parts[*part].source);
        let topics: Vec<&str> = sources().map(|source| &*source.topic).collect();
        let partitions: Vec<i32> = sources().map(|source| source.partition).collect();
        let indexes: Vec<i32> = lost.iter().map(|part| *part as i32).collect();
        let params: [&(dyn ToSql + Sync); 4] = [&&*self.feed.name, &topics, &partitions, &indexes];
        let rows = self.session.query(FOUND, &params).await?;
        for part in lost {
            let row = rows.iter().find(|row| part_of(row) == *part);
            intake.settle(*part, Verdict::Fenced { found: row.map(|row| row.get(1)) });
        }
        self.session.done();
        Ok(Step::Again)
    }

    async fn roll_back(self) -> Result<Step, Error> {
        self.end("ROLLBACK").await?;
        self.session.done();
        Ok(Step::Again)
    }
}

fn part_of(row: &Row) -> usize {
    row.get::<_, i32>(0) as usize
}
