//! Leases and chores.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::expiry;
use super::pool::{Sessions, judged};
use crate::config;
use crate::record::SinkError;
use crate::status::{Beat, FORGOTTEN, NodeTold};
use crate::warehouse::{JanitorStore, Lease, OldRows, Passed, Run, Signal};

const HOLD: &str = "
    INSERT INTO tidegate.leases AS l (name, holder, token, expires_at)
    VALUES ($1, $2, 1, now() + make_interval(secs => $3))
    ON CONFLICT (name) DO UPDATE
    SET holder = excluded.holder, expires_at = excluded.expires_at,
        token = l.token + CASE WHEN l.holder = excluded.holder AND l.expires_at > now() THEN 0 ELSE 1 END
    WHERE l.holder = excluded.holder OR l.expires_at <= now()
    RETURNING token";

const HOLDER: &str = "SELECT holder FROM tidegate.leases WHERE name = $1";

const RELEASE: &str =
    "UPDATE tidegate.leases SET expires_at = now() WHERE name = $1 AND holder = $2";

const NOTE: &str = "
    INSERT INTO tidegate.chores AS c (chore, node, token, started_at, finished_at, failed, report)
    VALUES ($1, $2, $3, to_timestamp($4::bigint / 1000.0), to_timestamp($5::bigint / 1000.0), $6,
            $7::text::jsonb)
    ON CONFLICT (chore) DO UPDATE
    SET node = excluded.node, token = excluded.token, started_at = excluded.started_at,
        finished_at = excluded.finished_at, failed = excluded.failed, report = excluded.report
    WHERE c.token <= excluded.token";

const RUNS: &str = "
    SELECT chore, node, token, (extract(epoch FROM started_at) * 1000)::bigint,
           (extract(epoch FROM finished_at) * 1000)::bigint, failed, report::text
    FROM tidegate.chores ORDER BY chore";

const SIGNAL: &str = "
    INSERT INTO tidegate.signals (chore, asked_by, asked_at) VALUES ($1, $2, clock_timestamp())
    ON CONFLICT (chore) DO UPDATE SET asked_by = excluded.asked_by, asked_at = excluded.asked_at";

const SIGNALS: &str =
    "SELECT chore, asked_by, asked_at::text FROM tidegate.signals ORDER BY asked_at, chore";

const ANSWERED: &str = "DELETE FROM tidegate.signals WHERE chore = $1 AND asked_at::text = $2";

const BEAT: &str = "
    WITH forgotten AS (
        DELETE FROM tidegate.nodes WHERE beat_at < now() - make_interval(secs => $4) AND instance <> $1::text::uuid)
    INSERT INTO tidegate.nodes AS n (instance, node, told)
    VALUES ($1::text::uuid, $2, $3::text::jsonb)
    ON CONFLICT (instance) DO UPDATE SET told = excluded.told, beat_at = now()";

const BEATS: &str = "
    SELECT instance::text, told::text, (extract(epoch FROM now() - beat_at) * 1000)::bigint
    FROM tidegate.nodes";

/// The lease is locked until the rows are gone, so that it does not pass to another meanwhile.
const EXPIRE_AUDIT: &str = "
    WITH held AS (SELECT 1 FROM tidegate.leases WHERE name = $3 AND token = $4 FOR SHARE)
    DELETE FROM tidegate.audit WHERE id IN (
        SELECT id FROM tidegate.audit
        WHERE at < to_timestamp($1::bigint / 1000.0) AND ($3::text IS NULL OR EXISTS (SELECT FROM held))
        ORDER BY at LIMIT $2)";

pub(in crate::warehouse) struct PostgresJanitor {
    sessions: Sessions,
    /// Of the feeds' tables that name none.
    schema: String,
}

impl PostgresJanitor {
    pub fn open(config: &config::Warehouse) -> Result<Self, SinkError> {
        // Beside the writers': a chore waits for none of them, and the lease for no chore.
        let config = config::Warehouse { connections: 2, ..config.clone() };
        Ok(Self { sessions: Sessions::open(&config)?, schema: config.schema })
    }
}

#[async_trait]
impl JanitorStore for PostgresJanitor {
    async fn hold(&self, lease: &str, holder: &str, time: Duration) -> Result<Lease, SinkError> {
        let session = self.sessions.get().await?;
        let held = session.query_opt(HOLD, &[&lease, &holder, &time.as_secs_f64()]).await;
        let held = held.map_err(judged)?;
        let lease = match held {
            Some(row) => Lease::Held { token: row.get(0) },
            None => {
                let by = session.query_opt(HOLDER, &[&lease]).await.map_err(judged)?;
                Lease::Taken { by: by.map(|row| row.get(0)).unwrap_or_default() }
            }
        };
        session.done();
        Ok(lease)
    }

    async fn release(&self, lease: &str, holder: &str) -> Result<(), SinkError> {
        let session = self.sessions.get().await?;
        session.execute(RELEASE, &[&lease, &holder]).await.map_err(judged)?;
        session.done();
        Ok(())
    }

    async fn note(&self, run: &Run) -> Result<bool, SinkError> {
        let session = self.sessions.get().await?;
        let Run { chore, node, token, started_ms, finished_ms, failed, report } = run;
        let report = report.to_string();
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
            [chore, node, token, started_ms, finished_ms, failed, &report];
        let noted = session.execute(NOTE, &params).await.map_err(judged)?;
        session.done();
        Ok(noted > 0)
    }

    async fn runs(&self) -> Result<Vec<Run>, SinkError> {
        let session = self.sessions.get().await?;
        let rows = session.query(RUNS, &[]).await.map_err(judged)?;
        session.done();
        let runs = rows.iter().map(|row| {
            let report = serde_json::from_str(row.get(6)).map_err(SinkError::lasting)?;
            Ok(Run {
                chore: row.get(0),
                node: row.get(1),
                token: row.get(2),
                started_ms: row.get(3),
                finished_ms: row.get(4),
                failed: row.get(5),
                report,
            })
        });
        runs.collect()
    }

    async fn signal(&self, chore: &str, by: &str) -> Result<(), SinkError> {
        let session = self.sessions.get().await?;
        session.execute(SIGNAL, &[&chore, &by]).await.map_err(judged)?;
        session.done();
        Ok(())
    }

    async fn signals(&self) -> Result<Vec<Signal>, SinkError> {
        let session = self.sessions.get().await?;
        let rows = session.query(SIGNALS, &[]).await.map_err(judged)?;
        session.done();
        let signal = |row: &tokio_postgres::Row| Signal {
            chore: row.get(0),
            by: row.get(1),
            asked: row.get(2),
        };
        Ok(rows.iter().map(signal).collect())
    }

    async fn answered(&self, signal: &Signal) -> Result<(), SinkError> {
        let session = self.sessions.get().await?;
        session.execute(ANSWERED, &[&signal.chore, &signal.asked]).await.map_err(judged)?;
        session.done();
        Ok(())
    }

    async fn beat(&self, instance: Uuid, told: &NodeTold) -> Result<(), SinkError> {
        let session = self.sessions.get().await?;
        let text = serde_json::to_string(told).map_err(SinkError::lasting)?;
        // What jsonb cannot hold.
        let text = text.replace("\\u0000", "\u{fffd}");
        let (instance, silent) = (instance.to_string(), FORGOTTEN.as_secs_f64());
        session.execute(BEAT, &[&instance, &told.node, &text, &silent]).await.map_err(judged)?;
        session.done();
        Ok(())
    }

    async fn beats(&self) -> Result<Vec<Beat>, SinkError> {
        let session = self.sessions.get().await?;
        let rows = session.query(BEATS, &[]).await.map_err(judged)?;
        session.done();
        // Of another release it may not be understood.
        let beat = |row: &tokio_postgres::Row| {
            let told = serde_json::from_str(row.get(1)).ok()?;
            let instance = row.get::<_, &str>(0).parse().ok()?;
            Some(Beat { instance, told, age_ms: row.get(2) })
        };
        Ok(rows.iter().filter_map(beat).collect())
    }

    async fn leave(&self, instance: Uuid) -> Result<(), SinkError> {
        let session = self.sessions.get().await?;
        let gone = "DELETE FROM tidegate.nodes WHERE instance = $1::text::uuid";
        session.execute(gone, &[&instance.to_string()]).await.map_err(judged)?;
        session.done();
        Ok(())
    }

    async fn expire_audit(
        &self,
        before_ms: i64,
        most: u32,
        lease: Option<(&str, i64)>,
    ) -> Result<u64, SinkError> {
        let session = self.sessions.get().await?;
        let (name, token) = (lease.map(|(name, _)| name), lease.map(|(_, token)| token));
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&before_ms, &i64::from(most), &name, &token];
        let gone = session.execute(EXPIRE_AUDIT, &params).await.map_err(judged)?;
        session.done();
        Ok(gone)
    }

    async fn now_ms(&self) -> Result<i64, SinkError> {
        const NOW: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::int8";
        let session = self.sessions.get().await?;
        let now = session.query_one(NOW, &[]).await.map_err(judged)?.get(0);
        session.done();
        Ok(now)
    }

    async fn old_rows(&self, old: &OldRows) -> Result<u64, SinkError> {
        expiry::count(&self.sessions, &self.schema, old).await
    }

    async fn is_expired(&self, old: &OldRows) -> Result<bool, SinkError> {
        expiry::is_done(&self.sessions, old).await
    }

    async fn expire_rows(
        &self,
        old: &OldRows,
        from: i64,
        lease: Option<(&str, i64)>,
    ) -> Result<Passed, SinkError> {
        expiry::take_out(&self.sessions, &self.schema, old, from, lease).await
    }

    async fn finish_expiry(
        &self,
        old: &OldRows,
        lease: Option<(&str, i64)>,
    ) -> Result<(), SinkError> {
        expiry::finish(&self.sessions, old, lease).await
    }
}
