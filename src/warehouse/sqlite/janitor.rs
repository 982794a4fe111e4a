//! Leases and chores.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{SecondsFormat, Utc};
use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::governance::{millis, now_ms, time};
use super::{Sqlite, expiry};
use crate::record::SinkError;
use crate::status::{Beat, FORGOTTEN, NodeTold};
use crate::warehouse::{JanitorStore, Lease, OldRows, Passed, Run, Signal};

const HOLD: &str = "
    INSERT INTO tidegate_leases AS l (name, holder, token, expires_at) VALUES (?1, ?2, 1, ?3)
    ON CONFLICT (name) DO UPDATE
    SET holder = excluded.holder, expires_at = excluded.expires_at,
        token = l.token + CASE WHEN l.holder = excluded.holder AND l.expires_at > ?4 THEN 0 ELSE 1 END
    WHERE l.holder = excluded.holder OR l.expires_at <= ?4
    RETURNING token";

const NOTE: &str = "
    INSERT INTO tidegate_chores AS c (chore, node, token, started_at, finished_at, failed, report)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (chore) DO UPDATE
    SET node = excluded.node, token = excluded.token, started_at = excluded.started_at,
        finished_at = excluded.finished_at, failed = excluded.failed, report = excluded.report
    WHERE c.token <= excluded.token";

const RUNS: &str = "
    SELECT chore, node, token, started_at, finished_at, failed, report
    FROM tidegate_chores ORDER BY chore";

const SIGNAL: &str = "
    INSERT INTO tidegate_signals (chore, asked_by, asked_at) VALUES (?1, ?2, ?3)
    ON CONFLICT (chore) DO UPDATE SET asked_by = excluded.asked_by, asked_at = excluded.asked_at";

const SIGNALS: &str =
    "SELECT chore, asked_by, asked_at FROM tidegate_signals ORDER BY asked_at, chore";

const ANSWERED: &str = "DELETE FROM tidegate_signals WHERE chore = ?1 AND asked_at = ?2";

const BEAT: &str = "
    INSERT INTO tidegate_nodes (instance, node, told, beat_at) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (instance) DO UPDATE SET told = excluded.told, beat_at = excluded.beat_at";

const BEATS: &str = "SELECT instance, told, beat_at FROM tidegate_nodes";

const EXPIRE_AUDIT: &str = "
    DELETE FROM tidegate_audit WHERE id IN (
        SELECT id FROM tidegate_audit
        WHERE at < ?1 AND (?3 IS NULL OR EXISTS (
            SELECT 1 FROM tidegate_leases WHERE name = ?3 AND token = ?4))
        ORDER BY at LIMIT ?2)";

pub(in crate::warehouse) struct SqliteJanitor(Sqlite);

impl SqliteJanitor {
    pub fn open(path: &Path) -> Result<Self, SinkError> {
        Sqlite::open(path).map(Self)
    }
}

#[async_trait]
impl JanitorStore for SqliteJanitor {
    async fn hold(&self, lease: &str, holder: &str, time: Duration) -> Result<Lease, SinkError> {
        let (lease, holder) = (lease.to_owned(), holder.to_owned());
        self.0
            .transact("taking a lease", move |connection| {
                let now = now_ms();
                let until = now + time.as_millis() as i64;
                let held = connection.query_row(HOLD, (&lease, holder, until, now), |it| it.get(0));
                if let Some(token) = held.optional()? {
                    return Ok(Lease::Held { token });
                }
                let find = "SELECT holder FROM tidegate_leases WHERE name = ?1";
                Ok(Lease::Taken { by: connection.query_row(find, [&lease], |it| it.get(0))? })
            })
            .await
    }

    async fn release(&self, lease: &str, holder: &str) -> Result<(), SinkError> {
        let (lease, holder) = (lease.to_owned(), holder.to_owned());
        self.0
            .transact("ending a lease", move |connection| {
                let end =
                    "UPDATE tidegate_leases SET expires_at = ?3 WHERE name = ?1 AND holder = ?2";
                connection.execute(end, (lease, holder, now_ms())).map(drop)
            })
            .await
    }

    async fn note(&self, run: &Run) -> Result<bool, SinkError> {
        let run = run.clone();
        self.0
            .transact("noting a chore's run", move |connection| {
                let Run { chore, node, token, started_ms, finished_ms, failed, report } = run;
                let (started, finished) = (time(started_ms), time(finished_ms));
                let params = (chore, node, token, started, finished, failed, report.to_string());
                Ok(connection.execute(NOTE, params)? > 0)
            })
            .await
    }

    async fn runs(&self) -> Result<Vec<Run>, SinkError> {
        self.0
            .transact("reading the chores' runs", |connection| {
                let mut runs = connection.prepare_cached(RUNS)?;
                let run = |row: &rusqlite::Row<'_>| {
                    Ok(Run {
                        chore: row.get(0)?,
                        node: row.get(1)?,
                        token: row.get(2)?,
                        started_ms: millis(&row.get::<_, String>(3)?),
                        finished_ms: millis(&row.get::<_, String>(4)?),
                        failed: row.get(5)?,
                        report: serde_json::from_str(&row.get::<_, String>(6)?).unwrap_or_default(),
                    })
                };
                runs.query_map([], run)?.collect()
            })
            .await
    }

    async fn signal(&self, chore: &str, by: &str) -> Result<(), SinkError> {
        let (chore, by) = (chore.to_owned(), by.to_owned());
        // Two at once are told apart, and two after each other are in their order.
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true);
        let asked = format!("{now} {}", Uuid::new_v4().simple());
        self.0
            .transact("asking for a chore", move |connection| {
                connection.execute(SIGNAL, (chore, by, asked)).map(drop)
            })
            .await
    }

    async fn signals(&self) -> Result<Vec<Signal>, SinkError> {
        self.0
            .transact("reading which chores are asked for", |connection| {
                let mut signals = connection.prepare_cached(SIGNALS)?;
                let signal = |row: &rusqlite::Row<'_>| {
                    Ok(Signal { chore: row.get(0)?, by: row.get(1)?, asked: row.get(2)? })
                };
                signals.query_map([], signal)?.collect()
            })
            .await
    }

    async fn answered(&self, signal: &Signal) -> Result<(), SinkError> {
        let Signal { chore, asked, .. } = signal.clone();
        self.0
            .transact("noting that a chore is done", move |connection| {
                connection.execute(ANSWERED, (chore, asked)).map(drop)
            })
            .await
    }

    async fn beat(&self, instance: Uuid, told: &NodeTold) -> Result<(), SinkError> {
        let text = serde_json::to_string(told).map_err(SinkError::lasting)?;
        let node = told.node.clone();
        self.0
            .transact("telling of the node", move |connection| {
                let now = now_ms();
                let forgotten = now - FORGOTTEN.as_millis() as i64;
                connection.execute("DELETE FROM tidegate_nodes WHERE beat_at < ?1", [forgotten])?;
                connection.execute(BEAT, (instance.to_string(), node, text, now)).map(drop)
            })
            .await
    }

    async fn beats(&self) -> Result<Vec<Beat>, SinkError> {
        self.0
            .transact("reading what nodes tell", |connection| {
                let now = now_ms();
                let mut beats = connection.prepare_cached(BEATS)?;
                let beat = |row: &rusqlite::Row<'_>| {
                    let (instance, told): (String, String) = (row.get(0)?, row.get(1)?);
                    Ok((instance, told, now - row.get::<_, i64>(2)?))
                };
                let rows = beats.query_map([], beat)?.collect::<Result<Vec<_>, _>>()?;
                // Of another release it may not be understood.
                let beat = |(instance, told, age_ms): (String, String, i64)| {
                    let (instance, told) =
                        (instance.parse().ok()?, serde_json::from_str(&told).ok()?);
                    Some(Beat { instance, told, age_ms })
                };
                Ok(rows.into_iter().filter_map(beat).collect())
            })
            .await
    }

    async fn leave(&self, instance: Uuid) -> Result<(), SinkError> {
        self.0
            .transact("telling that the node has ended", move |connection| {
                let gone = "DELETE FROM tidegate_nodes WHERE instance = ?1";
                connection.execute(gone, [instance.to_string()]).map(drop)
            })
            .await
    }

    async fn expire_audit(
        &self,
        before_ms: i64,
        most: u32,
        lease: Option<(&str, i64)>,
    ) -> Result<u64, SinkError> {
        let lease = lease.map(|(name, token)| (name.to_owned(), token));
        self.0
            .transact("taking old rows out of the audit", move |connection| {
                let (name, token) = lease.unzip();
                Ok(connection.execute(EXPIRE_AUDIT, (time(before_ms), most, name, token))? as u64)
            })
            .await
    }

    async fn now_ms(&self) -> Result<i64, SinkError> {
        Ok(now_ms())
    }

    async fn old_rows(&self, old: &OldRows) -> Result<u64, SinkError> {
        let old = old.clone();
        self.0.transact("counting old rows", move |it| expiry::count(it, &old)).await?
    }

    async fn is_expired(&self, old: &OldRows) -> Result<bool, SinkError> {
        let old = old.clone();
        self.0.transact("asking for old rows", move |it| expiry::is_done(it, &old)).await
    }

    async fn expire_rows(
        &self,
        old: &OldRows,
        from: i64,
        lease: Option<(&str, i64)>,
    ) -> Result<Passed, SinkError> {
        let old = old.clone();
        let lease = lease.map(|(name, token)| (name.to_owned(), token));
        let take_out = move |it: &Connection| expiry::take_out(it, &old, from, lease.as_ref());
        self.0.transact("taking out old rows", take_out).await?
    }

    async fn finish_expiry(
        &self,
        old: &OldRows,
        lease: Option<(&str, i64)>,
    ) -> Result<(), SinkError> {
        let old = old.clone();
        let lease = lease.map(|(name, token)| (name.to_owned(), token));
        let finish = move |it: &Connection| expiry::finish(it, &old, lease.as_ref());
        self.0.transact("noting that old rows are out", finish).await?
    }
}
