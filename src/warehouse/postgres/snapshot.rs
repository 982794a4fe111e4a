//! Versions of a table, kept beside it. One is taken in one REPEATABLE READ transaction, which sees rows
//! and progress as some commit left them, and locks neither. One table holds all versions, so that
//! rights are granted once, no version is in any reader's way, and taking one needs no DDL.

use std::time::Duration;

use tokio_postgres::Error;

use super::Postgres;
use super::pool::{Session, judged};
use super::table::{ident, names};
use crate::config::{Feed, SNAPSHOT_SUFFIX, SNAPSHOTS_SUFFIX};
use crate::record::SinkError;
use crate::warehouse::{KeptSnapshot, Snapshot};

/// One feed is snapshotted once at a time: "tidf", and the feed.
const TRY_LOCK: &str = "SELECT pg_try_advisory_lock(1953064038, hashtext($1))";
const UNLOCK: &str = "SELECT pg_advisory_unlock(1953064038, hashtext($1))";

const COLUMNS: &str = "
    SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum";

/// A version is due when the last one is so many seconds old.
const NEXT: &str = "
    SELECT coalesce(max(version), 0) + 1,
           coalesce(max(taken_at) + make_interval(secs => $2) <= now(), true)
    FROM tidegate.snapshots WHERE feed = $1";

const RECORD: &str = "
    INSERT INTO tidegate.snapshots (feed, version, taken_at, rows, offsets)
    SELECT $1, $2, now(), $3,
           coalesce(jsonb_agg(jsonb_build_object('topic', topic, 'partition', partition,
               'topic_id', topic_id, 'next_offset', next_offset) ORDER BY topic, partition), '[]')
    FROM tidegate.progress WHERE feed = $1";

const FORGET: &str = "DELETE FROM tidegate.snapshots WHERE feed = $1 AND version <= $2";

const KEPT: &str = "
    SELECT version, (extract(epoch FROM taken_at) * 1000)::bigint, rows FROM tidegate.snapshots
    WHERE feed = $1 ORDER BY version DESC";

impl Postgres {
    pub(super) async fn read_snapshots(&self, feed: &str) -> Result<Vec<KeptSnapshot>, SinkError> {
        let session = self.sessions.get().await?;
        let rows = session.query(KEPT, &[&feed]).await.map_err(judged)?;
        session.done();
        let kept = rows.iter().map(|row| KeptSnapshot {
            version: row.get(0),
            taken_ms: row.get(1),
            rows: row.get(2),
        });
        Ok(kept.collect())
    }

    pub(super) async fn take_snapshot(
        &self,
        feed: &Feed,
        after: Option<Duration>,
        keep: u32,
    ) -> Result<Option<Snapshot>, SinkError> {
        let target = self.target(feed).await?;
        let session = self.sessions.get().await?;
        // Before the transaction, whose first look decides what it sees.
        let locked = session.query_one(TRY_LOCK, &[&&*feed.name]).await.map_err(judged)?;
        if !locked.get::<_, bool>(0) {
            session.done();
            return Ok(None);
        }
        let taking = Taking { session: &session, feed, table: &target.table, after, keep };
        let taken = taking.run().await.map_err(judged)?;
        session.query_one(UNLOCK, &[&&*feed.name]).await.map_err(judged)?;
        session.done();
        Ok(taken)
    }
}

struct Taking<'a> {
    session: &'a Session,
    feed: &'a Feed,
    /// In quotes, as are all names made of it.
    table: &'a str,
    after: Option<Duration>,
    keep: u32,
}

impl Taking<'_> {
    async fn run(&self) -> Result<Option<Snapshot>, Error> {
        let feed = &*self.feed.name;
        let seconds = self.after.map_or(0.0, |after| after.as_secs_f64());
        let next = self.session.query_one(NEXT, &[&feed, &seconds]).await?;
        if self.after.is_some() && !next.get::<_, bool>(1) {
            return Ok(None);
        }
        let columns = self.prepare().await?;
        // The table may be large, and nobody waits for this. The lock comes before the first look: a table
        // that is written anew meanwhile is empty to whoever looked before.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL statement_timeout = 0; \
             LOCK TABLE {} IN ACCESS SHARE MODE",
            self.table
        );
        self.session.batch_execute(&begin).await?;
        let version: i64 = self.session.query_one(NEXT, &[&feed, &seconds]).await?.get(0);
        let (kept, columns) = (self.kept(), columns.join(", "));
        let copy = format!(
            "INSERT INTO {kept} (_version, _taken_at, {columns}) SELECT $1, now(), {columns} FROM {}",
            self.table
        );
        let rows = self.session.execute(&copy, &[&version]).await?;
        self.session.execute(RECORD, &[&feed, &version, &(rows as i64)]).await?;
        let last_to_go = version - i64::from(self.keep);
        let delete = format!("DELETE FROM {kept} WHERE _version <= $1");
        self.session.execute(&delete, &[&last_to_go]).await?;
        self.session.execute(FORGET, &[&feed, &last_to_go]).await?;
        self.session.batch_execute("COMMIT").await?;
        Ok(Some(Snapshot { version, rows }))
    }

    fn kept(&self) -> String {
        with_suffix(self.table, SNAPSHOTS_SUFFIX)
    }

    /// Makes the table of versions and its view, or brings them up to the table's columns, which it
    /// answers in quotes.
    async fn prepare(&self) -> Result<Vec<String>, Error> {
        let kept = self.kept();
        let view = with_suffix(self.table, SNAPSHOT_SUFFIX);
        let own = self.columns(self.table).await?;
        let there = self.columns(&kept).await?;
        let quoted: Vec<String> = own.iter().map(|(name, _)| ident(name)).collect();
        let mut changes = Vec::new();
        let mut retyped = false;
        if there.is_empty() {
            let columns: Vec<String> =
                own.iter().map(|(name, kind)| format!("{} {kind}", ident(name))).collect();
            changes.push(format!(
                "CREATE TABLE {kept} (_version bigint NOT NULL, _taken_at timestamptz NOT NULL, {}, \
                 PRIMARY KEY (_version, {}))",
                columns.join(", "),
                names(self.feed.schema.key())
            ));
        }
        for (name, kind) in own.iter().filter(|_| !there.is_empty()) {
            let name_ = ident(name);
            match there.iter().find(|(other, _)| other == name) {
                None => changes.push(format!("ALTER TABLE {kept} ADD COLUMN {name_} {kind}")),
                Some((_, found)) if found != kind => {
                    retyped = true;
                    changes.push(format!("ALTER TABLE {kept} ALTER COLUMN {name_} TYPE {kind}"));
                }
                Some(_) => {}
            }
        }
        if changes.is_empty() && !self.columns(&view).await?.is_empty() {
            return Ok(quoted);
        }
        let feed = self.feed.name.replace('\'', "''");
        // Only a type that changed needs another view: a dropped one takes its grants with it.
        let drop = if retyped { format!("DROP VIEW IF EXISTS {view}; ") } else { String::new() };
        self.session
            .batch_execute(&format!(
                "BEGIN; {drop}{}; CREATE OR REPLACE VIEW {view} AS SELECT * FROM {kept} \
                 WHERE _version = (SELECT max(version) FROM tidegate.snapshots WHERE feed = '{feed}'); \
                 COMMIT",
                changes.join("; ")
            ))
            .await?;
        Ok(quoted)
    }

    async fn columns(&self, table: &str) -> Result<Vec<(String, String)>, Error> {
        let rows = self.session.query(COLUMNS, &[&table]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

/// The tables and views of a table's versions, in quotes.
pub(super) fn kept_tables(table: &str) -> [String; 2] {
    [SNAPSHOTS_SUFFIX, SNAPSHOT_SUFFIX].map(|suffix| with_suffix(table, suffix))
}

/// A quoted name with something behind it.
fn with_suffix(table: &str, suffix: &str) -> String {
    format!("{}{suffix}\"", table.strip_suffix('"').unwrap_or(table))
}
