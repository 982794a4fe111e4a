//! The chores. Each looks at every feed in turn, needs no input and remembers nothing: done again, it finds
//! nothing to do; cut off anywhere, the next run goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::catalog::{Known, Named};
use crate::config::{Feed, Janitor, Schedule};
use crate::lake::LakeStore;
use crate::lake::upkeep::{Compacted, Expired, LakeFiles, Logged, Mode, Upkeep, Vacuumed};
use crate::record::{SinkError, SinkKind};
use crate::retention::{Bounds, Policy};
use crate::telemetry::trace::{Span, Start};
use crate::telemetry::{fault, metrics};
use crate::verify;
use crate::warehouse::{AdHoc, JanitorStore, OldRows, TableSize};

/// Name of the janitor's lease.
pub const LEASE: &str = "janitor";
/// Rows of the audit that go at once.
const AUDIT_ROWS: u32 = 10_000;
const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Chore {
    /// Take out of the lake, and of streams' tables in the warehouse, what is older than a feed keeps.
    Retention,
    /// Join small files of Delta tables.
    Compaction,
    /// Write the checkpoints that Delta logs lack, and take old entries out of them.
    Checkpoints,
    /// Delete files that nothing refers to any more.
    Vacuum,
    /// Count rows and bytes, and say how new they are.
    Statistics,
    /// Take old rows out of the audit.
    Audit,
}

impl Chore {
    pub const ALL: [Chore; 6] = [
        Chore::Retention,
        Chore::Compaction,
        Chore::Checkpoints,
        Chore::Vacuum,
        Chore::Statistics,
        Chore::Audit,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Chore::Retention => "retention",
            Chore::Compaction => "compaction",
            Chore::Checkpoints => "checkpoints",
            Chore::Vacuum => "vacuum",
            Chore::Statistics => "statistics",
            Chore::Audit => "audit",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|chore| chore.name() == name)
    }

    pub fn schedule(self, config: &Janitor) -> &Schedule {
        match self {
            Chore::Retention => &config.retention,
            Chore::Compaction => &config.compaction,
            Chore::Checkpoints => &config.checkpoints,
            Chore::Vacuum => &config.vacuum,
            Chore::Statistics => &config.statistics,
            Chore::Audit => &config.audit,
        }
    }
}

/// What the chores work on.
#[derive(Clone)]
pub struct Work {
    pub config: Janitor,
    pub known: Known,
    pub lake: Option<LakeStore>,
    pub store: Option<Arc<dyn JanitorStore>>,
    /// Counts rows of the warehouse.
    pub ad_hoc: Option<Arc<dyn AdHoc>>,
    /// Old rows of the warehouse go, too: it is known to be this installation's.
    pub retires_rows: bool,
    /// The token of the lease that a run is under; none by hand.
    pub token: Option<i64>,
}

/// What a run did, and where it failed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Feeds that were looked at.
    #[serde(skip)]
    pub(super) looked: usize,
    /// Feeds of which there is something to say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feeds: BTreeMap<String, Done>,
    /// The same of their quarantines in the lake.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantines: BTreeMap<String, Done>,
    /// The same of their tables in the warehouse.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub warehouse: BTreeMap<String, Done>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_rows: Option<u64>,
    /// What kept all of it from being done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What came of one feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    Expired(Expired),
    Compacted(Compacted),
    Vacuumed(Vacuumed),
    Logged(Logged),
    RowsExpired(RowsExpired),
    Measured(Measured),
    Failed(String),
}

/// Old rows that went from a table of the warehouse, or would.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowsExpired {
    pub rows: u64,
    /// They were of days before this one, in UTC.
    pub before: chrono::NaiveDate,
}

/// A table, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// None where a file does not say.
    pub rows: Option<u64>,
    /// As the database guesses, since to count them would take long.
    pub guessed: bool,
    /// In the warehouse with its indexes; none where the database does not tell.
    pub bytes: Option<u64>,
    /// None in a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// The newest of its records' timestamps, milliseconds since the epoch; of a plain table the last commit.
    pub newest_ms: Option<i64>,
    /// How old that was when it was looked at: milliseconds.
    pub age_ms: Option<i64>,
}

impl Report {
    pub fn failed(&self) -> bool {
        let failed = |done: &Done| match done {
            Done::Failed(_) => true,
            Done::Compacted(it) => !it.faults.is_empty(),
            _ => false,
        };
        self.error.is_some()
            || self
                .feeds
                .values()
                .chain(self.quarantines.values())
                .chain(self.warehouse.values())
                .any(failed)
    }

    /// Nothing could be done, as where the lake cannot be reached: another node may fare better.
    pub fn in_vain(&self) -> bool {
        let failed = self.feeds.values().filter(|done| matches!(done, Done::Failed(_))).count();
        self.error.is_some() || (failed > 0 && failed == self.looked)
    }
}

impl Work {
    /// Runs a chore over all feeds, or over one.
    pub async fn run(&self, chore: Chore, only: Option<&str>, mode: Mode) -> Report {
        let since = Instant::now();
        let start = Start::inner(format!("chore {}", chore.name()));
        let span = start.with("tidegate.chore", chore.name()).here();
        let report = async {
            match chore {
                // The audit is of all feeds.
                Chore::Audit if only.is_some() => Report::default(),
                Chore::Audit => self.audit(mode).await,
                _ => self.tables(chore, only, mode).await,
            }
        };
        let report = span.around(report).await;
        if report.failed() {
            span.failed("chore", "the chore failed, at least for some table");
        }
        if mode == Mode::Do {
            let labels = [chore.name()];
            metrics::CHORES_RUN.add(labels, 1);
            metrics::CHORES_FAILED.add(labels, u64::from(report.failed()));
            metrics::CHORE_SECONDS.record(labels, since.elapsed().as_secs_f64());
        }
        report
    }

    async fn audit(&self, mode: Mode) -> Report {
        let Some(store) = self.store.as_ref().filter(|_| mode == Mode::Do) else {
            return Report::default();
        };
        let before = now_ms() - i64::from(self.config.audit_days) * DAY_MS;
        let lease = self.token.map(|token| (LEASE, token));
        let mut gone = 0;
        loop {
            match store.expire_audit(before, AUDIT_ROWS, lease).await {
                Ok(0) => return Report { audit_rows: Some(gone), ..Report::default() },
                Ok(more) => gone += more,
                Err(error) => {
                    let error = Some(error.to_string());
                    return Report { audit_rows: Some(gone), error, ..Report::default() };
                }
            }
        }
    }

    async fn tables(&self, chore: Chore, only: Option<&str>, mode: Mode) -> Report {
        let mut report = Report::default();
        let named = self.known.all().await;
        let wanted = named.iter().filter(|it| only.is_none_or(|only| only == it.name));
        for Named { name, .. } in wanted {
            report.looked += 1;
            let told = |done: Result<Option<Done>, SinkError>| {
                let done = done.unwrap_or_else(|error| {
                    warn!(target: "tidegate::janitor", feed = name, chore = chore.name(), %error, "a chore failed; the next run tries again");
                    Some(Done::Failed(error.to_string()))
                });
                done.map(|done| (name.clone(), done))
            };
            let (named, feed) = match self.known.find(name).await {
                // Its columns are not known, so it has no table yet.
                Ok(None) => continue,
                Ok(Some(found)) => found,
                Err(error) => {
                    report.feeds.extend(told(Err(SinkError::passing(error))));
                    continue;
                }
            };
            // What it is done to, below the chore.
            let span = |what: &str| {
                let start = Start::inner(format!("{} {what}", chore.name()));
                Span::current().child(start.with("tidegate.feed", name.clone()))
            };
            if let Some(lake) = &self.lake {
                let done = self.rows(chore, lake, &named, feed.clone(), mode);
                report.feeds.extend(told(span("lake").around(done).await));
                let done = self.quarantine(chore, lake, feed.clone(), mode);
                report.quarantines.extend(told(span("quarantine").around(done).await));
            }
            let done = self.warehouse(chore, &feed, mode);
            report.warehouse.extend(told(span("warehouse").around(done).await));
        }
        report
    }

    async fn rows(
        &self,
        chore: Chore,
        lake: &LakeStore,
        named: &Named,
        feed: Arc<Feed>,
        mode: Mode,
    ) -> Result<Option<Done>, SinkError> {
        let Some(upkeep) = Upkeep::of(lake, feed)? else { return Ok(None) };
        let bytes = named.file.retention_bytes.map(|bytes| bytes.bytes() as u64);
        let policy = Policy { days: named.file.retention_days, bytes };
        self.table(chore, lake, &upkeep, policy, mode).await
    }

    async fn warehouse(
        &self,
        chore: Chore,
        feed: &Feed,
        mode: Mode,
    ) -> Result<Option<Done>, SinkError> {
        let Some(options) = &feed.warehouse else { return Ok(None) };
        match (chore, options.retention_days, &self.store, &self.ad_hoc) {
            (Chore::Retention, Some(days), Some(store), _) if self.retires_rows => {
                // Of two clocks the one that is behind: what goes is gone.
                let now = store.now_ms().await?.min(now_ms());
                let Some(old) = OldRows::of(feed, days, now) else { return Ok(None) };
                self.old_rows(store.as_ref(), &old, mode).await
            }
            (Chore::Statistics, _, _, Some(ad_hoc)) => {
                let size = ad_hoc.measure(feed).await?;
                let measured = size.map(|TableSize { rows, guessed, bytes, newest_ms }| Measured {
                    rows: Some(rows),
                    guessed,
                    bytes,
                    files: None,
                    newest_ms,
                    age_ms: newest_ms.map(|newest| now_ms() - newest),
                });
                Ok(measured.map(Done::Measured))
            }
            _ => Ok(None),
        }
    }

    /// Once a day the table is looked through from its beginning, and whenever somebody does it by hand.
    async fn old_rows(
        &self,
        store: &dyn JanitorStore,
        old: &OldRows,
        mode: Mode,
    ) -> Result<Option<Done>, SinkError> {
        if self.token.is_some() && store.is_expired(old).await? {
            return Ok(None);
        }
        let mut rows = 0;
        match mode {
            Mode::DryRun => rows = store.old_rows(old).await?,
            Mode::Do => {
                let lease = self.token.map(|token| (LEASE, token));
                let mut from = Some(i64::MIN);
                while let Some(at) = from {
                    let passed = store.expire_rows(old, at, lease).await?;
                    fault::point("janitor.expired");
                    metrics::ROWS_EXPIRED.add([SinkKind::Warehouse.name()], passed.rows);
                    (rows, from) = (rows + passed.rows, passed.next);
                }
                store.finish_expiry(old, lease).await?;
            }
        }
        Ok((rows > 0).then_some(Done::RowsExpired(RowsExpired { rows, before: old.before })))
    }

    /// What waits there to be judged is kept however old it is.
    async fn quarantine(
        &self,
        chore: Chore,
        lake: &LakeStore,
        feed: Arc<Feed>,
        mode: Mode,
    ) -> Result<Option<Done>, SinkError> {
        let Some(upkeep) = Upkeep::of_quarantine(lake, feed)? else { return Ok(None) };
        self.table(chore, lake, &upkeep, Policy::default(), mode).await
    }

    async fn table(
        &self,
        chore: Chore,
        lake: &LakeStore,
        upkeep: &Upkeep,
        policy: Policy,
        mode: Mode,
    ) -> Result<Option<Done>, SinkError> {
        let grace_ms = self.config.grace.get().as_millis() as i64;
        Ok(match chore {
            Chore::Retention => {
                if policy == Policy::default() {
                    return Ok(None);
                }
                let done = upkeep.expire(policy, grace_ms, now_ms(), mode).await?;
                if mode == Mode::Do {
                    metrics::ROWS_EXPIRED.add([SinkKind::Lake.name()], done.rows);
                }
                Some(done).filter(|done| *done != Expired::default()).map(Done::Expired)
            }
            Chore::Compaction => {
                let bounds = Bounds {
                    target_bytes: self.config.target_size.bytes() as u64,
                    least_files: self.config.least_files,
                    most_bytes: self.config.pass.bytes() as u64,
                };
                let done = upkeep.compact(bounds, now_ms(), mode).await?;
                if mode == Mode::Do {
                    metrics::FILES_COMPACTED.add([], done.joined.files);
                }
                Some(done).filter(|done| *done != Compacted::default()).map(Done::Compacted)
            }
            Chore::Checkpoints => {
                let done = self.log(lake, upkeep, mode).await?;
                if mode == Mode::Do {
                    metrics::LOG_FILES_TAKEN_OUT.add([], done.taken.files);
                }
                Some(done).filter(|done| *done != Logged::default()).map(Done::Logged)
            }
            Chore::Vacuum => {
                let now = upkeep.store_now(mode).await?;
                let done = upkeep.vacuum(grace_ms, now, mode).await?;
                if mode == Mode::Do {
                    metrics::FILES_SWEPT.add([], done.swept.files);
                }
                Some(done).filter(|done| *done != Vacuumed::default()).map(Done::Vacuumed)
            }
            Chore::Statistics => {
                let files = upkeep.files().await?;
                // Every feed has a quarantine, and hardly one a record in it.
                let files = files.filter(|files| files.amount.files > 0);
                files.map(|files| Done::Measured(measured(&files, now_ms())))
            }
            Chore::Audit => None,
        })
    }
}

impl Work {
    /// A log's checkpoint, then its old entries.
    async fn log(
        &self,
        lake: &LakeStore,
        upkeep: &Upkeep,
        mode: Mode,
    ) -> Result<Logged, SinkError> {
        let mut done = Logged { checkpoint: upkeep.checkpoint(mode).await?, ..Logged::default() };
        let keep_ms = self.config.log_retention.get().as_millis() as i64;
        let Some(cut) = upkeep.cut(keep_ms, upkeep.store_now(mode).await?).await? else {
            return Ok(done);
        };
        if mode == Mode::DryRun {
            (done.begins, done.taken) = (Some(cut.version), cut.amount());
            return Ok(done);
        }
        let folder = upkeep.folder();
        verify::remember(lake, folder, cut.version).await.map_err(SinkError::passing)?;
        fault::point("janitor.remembered");
        let taken = upkeep.take_out(&cut).await?;
        done.taken = taken.amount;
        if taken.all {
            done.begins = Some(cut.version);
            verify::forget(lake, folder, cut.version).await.map_err(SinkError::passing)?;
        }
        Ok(done)
    }
}

fn measured(files: &LakeFiles, now_ms: i64) -> Measured {
    Measured {
        rows: files.rows,
        guessed: false,
        bytes: Some(files.amount.bytes),
        files: Some(files.amount.files),
        newest_ms: files.newest_ms,
        age_ms: files.newest_ms.map(|newest| now_ms - newest),
    }
}

pub fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}

/// How soon the lease is asked for again, and how long an answer may take: so one may be missed.
pub fn renewal(lease: Duration) -> Duration {
    lease / 4
}
