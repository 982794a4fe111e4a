//! The chores. Each looks at every feed in turn, needs no input and remembers nothing: done again, it finds
//! nothing to do; cut off anywhere, the next run goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde::{Deserialize, Serialize};
use tracing::{Instrument, info_span, warn};

use crate::catalog::{Known, Named};
use crate::config::{Feed, Janitor, Schedule};
use crate::lake::LakeStore;
use crate::lake::upkeep::{Compacted, Expired, Mode, Upkeep, Vacuumed};
use crate::record::SinkError;
use crate::retention::{Bounds, Policy};
use crate::telemetry::metrics;
use crate::warehouse::JanitorStore;

/// Name of the janitor's lease.
pub const LEASE: &str = "janitor";
/// Rows of the audit that go at once.
const AUDIT_ROWS: u32 = 10_000;
const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Chore {
    /// Take out of the lake what is older than a feed keeps.
    Retention,
    /// Join small files of Delta tables.
    Compaction,
    /// Delete files that nothing refers to any more.
    Vacuum,
    /// Take old rows out of the audit.
    Audit,
}

impl Chore {
    pub const ALL: [Chore; 4] = [Chore::Retention, Chore::Compaction, Chore::Vacuum, Chore::Audit];

    pub fn name(self) -> &'static str {
        match self {
            Chore::Retention => "retention",
            Chore::Compaction => "compaction",
            Chore::Vacuum => "vacuum",
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
            Chore::Vacuum => &config.vacuum,
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
    Failed(String),
}

impl Report {
    pub fn failed(&self) -> bool {
        let failed = |done: &Done| match done {
            Done::Failed(_) => true,
            Done::Compacted(it) => !it.faults.is_empty(),
            _ => false,
        };
        self.error.is_some() || self.feeds.values().any(failed)
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
        let span = info_span!(target: "tidegate::janitor", "chore", chore = chore.name());
        let report = async {
            match chore {
                // The audit is of all feeds.
                Chore::Audit if only.is_some() => Report::default(),
                Chore::Audit => self.audit(mode).await,
                _ => self.tables(chore, only, mode).await,
            }
        };
        let report = report.instrument(span).await;
        if mode == Mode::Do {
            metrics::CHORES_RUN.add(1);
            metrics::CHORES_FAILED.add(u64::from(report.failed()));
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
        let Some(lake) = &self.lake else { return report };
        let named = self.known.all().await;
        let wanted = named.iter().filter(|it| only.is_none_or(|only| only == it.name));
        for Named { name, .. } in wanted {
            report.looked += 1;
            let done = match self.known.find(name).await {
                // Its columns are not known, so it has no table yet.
                Ok(None) => continue,
                Ok(Some((named, feed))) => self.table(chore, lake, &named, feed, mode).await,
                Err(error) => Err(SinkError::passing(error)),
            };
            let done = done.unwrap_or_else(|error| {
                warn!(target: "tidegate::janitor", feed = name, chore = chore.name(), %error, "a chore failed; the next run tries again");
                Some(Done::Failed(error.to_string()))
            });
            report.feeds.extend(done.map(|done| (name.clone(), done)));
        }
        report
    }

    async fn table(
        &self,
        chore: Chore,
        lake: &LakeStore,
        named: &Named,
        feed: Arc<Feed>,
        mode: Mode,
    ) -> Result<Option<Done>, SinkError> {
        let Some(upkeep) = Upkeep::of(lake, feed)? else { return Ok(None) };
        let grace_ms = self.config.grace.get().as_millis() as i64;
        Ok(match chore {
            Chore::Retention => {
                let bytes = named.file.retention_bytes.map(|bytes| bytes.bytes() as u64);
                let policy = Policy { days: named.file.retention_days, bytes };
                if policy == Policy::default() {
                    return Ok(None);
                }
                let done = upkeep.expire(policy, grace_ms, now_ms(), mode).await?;
                if mode == Mode::Do {
                    metrics::ROWS_EXPIRED.add(done.rows);
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
                    metrics::FILES_COMPACTED.add(done.joined.files);
                }
                Some(done).filter(|done| *done != Compacted::default()).map(Done::Compacted)
            }
            Chore::Vacuum => {
                let now = upkeep.store_now(mode).await?;
                let done = upkeep.vacuum(grace_ms, now, mode).await?;
                if mode == Mode::Do {
                    metrics::FILES_SWEPT.add(done.swept.files);
                }
                Some(done).filter(|done| *done != Vacuumed::default()).map(Done::Vacuumed)
            }
            Chore::Audit => None,
        })
    }
}

pub fn now_ms() -> i64 {
    Utc::now().timestamp_millis()
}

/// How soon the lease is asked for again, and how long an answer may take: so one may be missed.
pub fn renewal(lease: Duration) -> Duration {
    lease / 4
}
