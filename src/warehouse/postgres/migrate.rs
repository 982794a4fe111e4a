//! The bookkeeping schema: bringing it up, judging it, and whose database it is.

use uuid::Uuid;

use super::Postgres;
use super::pool::{Session, judged};
use crate::record::SinkError;
use crate::warehouse::schema::{self, Applied, Migration};

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "0001_bookkeeping",
        breaking: false,
        sql: include_str!("../../../migrations/postgres/0001_bookkeeping.sql"),
    },
    Migration {
        version: 2,
        name: "0002_snapshots",
        breaking: false,
        sql: include_str!("../../../migrations/postgres/0002_snapshots.sql"),
    },
    Migration {
        version: 3,
        name: "0003_settled",
        breaking: false,
        sql: include_str!("../../../migrations/postgres/0003_settled.sql"),
    },
    Migration {
        version: 4,
        name: "0004_governance",
        breaking: false,
        sql: include_str!("../../../migrations/postgres/0004_governance.sql"),
    },
    Migration {
        version: 5,
        name: "0005_janitor",
        breaking: false,
        sql: include_str!("../../../migrations/postgres/0005_janitor.sql"),
    },
    Migration {
        version: 6,
        name: "0006_rights",
        breaking: false,
        sql: include_str!("../../../migrations/postgres/0006_rights.sql"),
    },
    Migration {
        version: 7,
        name: "0007_signals",
        breaking: false,
        sql: include_str!("../../../migrations/postgres/0007_signals.sql"),
    },
    Migration {
        version: 8,
        name: "0008_expired",
        breaking: false,
        sql: include_str!("../../../migrations/postgres/0008_expired.sql"),
    },
    Migration {
        version: 9,
        name: "0009_nodes",
        breaking: false,
        sql: include_str!("../../../migrations/postgres/0009_nodes.sql"),
    },
];

/// Any number that others are unlikely to take: "tide", and what the lock is for.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(1953064037, 1)";

const BEGIN: &str = "CREATE SCHEMA IF NOT EXISTS tidegate;
    CREATE TABLE IF NOT EXISTS tidegate.migrations (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        breaking   boolean NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )";

/// The same as text, for whoever may create a schema where the node may not.
pub fn bookkeeping() -> Vec<String> {
    let one = |migration: &Migration| {
        let Migration { version, name, breaking, sql } = migration;
        format!(
            "-- {name}\n{}\nINSERT INTO tidegate.migrations (version, name, breaking) \
             VALUES ({version}, '{name}', {breaking});",
            sql.trim_end()
        )
    };
    let begin = format!("{BEGIN};");
    std::iter::once(begin).chain(MIGRATIONS.iter().map(one)).collect()
}

impl Postgres {
    /// All in one transaction, under a lock that a second node waits for.
    pub(super) async fn run_migrations(&self) -> Result<Vec<String>, SinkError> {
        let session = self.sessions.get().await?;
        let applied = migrate(&session).await.map_err(judged)?;
        session.done();
        Ok(applied)
    }

    pub(super) async fn judge_schema(&self) -> Result<(), SinkError> {
        let session = self.sessions.get().await?;
        let row = session
            .query_one(
                "SELECT to_regclass('tidegate.migrations') IS NOT NULL, \
                        current_setting('server_encoding')",
                &[],
            )
            .await
            .map_err(judged)?;
        let (present, encoding): (bool, &str) = (row.get(0), row.get(1));
        if encoding != "UTF8" {
            return Err(SinkError::lasting(format!(
                "the database's encoding is {encoding}, which cannot hold every text; create it \
                 with ENCODING 'UTF8'"
            )));
        }
        let applied = if present { applied(&session).await.map_err(judged)? } else { vec![] };
        session.done();
        schema::judge(MIGRATIONS, &applied)
    }

    pub(super) async fn settle_installation(
        &self,
        mine: Uuid,
        adopt: bool,
    ) -> Result<Uuid, SinkError> {
        const KEEP: &str = "INSERT INTO tidegate.installation (id) VALUES ($1::text::uuid) \
                            ON CONFLICT (one) DO NOTHING";
        const ADOPT: &str = "INSERT INTO tidegate.installation (id) VALUES ($1::text::uuid) \
                             ON CONFLICT (one) DO UPDATE SET id = EXCLUDED.id";
        let session = self.sessions.get().await?;
        let sql = if adopt { ADOPT } else { KEEP };
        session.execute(sql, &[&mine.to_string()]).await.map_err(judged)?;
        let row = session.query_one("SELECT id::text FROM tidegate.installation", &[]).await;
        let id = row.map_err(judged)?.get::<_, String>(0);
        session.done();
        id.parse().map_err(SinkError::lasting)
    }
}

async fn migrate(session: &Session) -> Result<Vec<String>, tokio_postgres::Error> {
    session.batch_execute("BEGIN; SET LOCAL statement_timeout = '10min'").await?;
    session.batch_execute(MIGRATION_LOCK).await?;
    session.batch_execute(BEGIN).await?;
    let present = applied(session).await?;
    let mut names = Vec::new();
    for migration in schema::missing(MIGRATIONS, &present) {
        session.batch_execute(migration.sql).await?;
        session
            .execute(
                "INSERT INTO tidegate.migrations (version, name, breaking) VALUES ($1, $2, $3)",
                &[&migration.version, &migration.name, &migration.breaking],
            )
            .await?;
        names.push(migration.name.to_owned());
    }
    session.batch_execute("COMMIT").await?;
    Ok(names)
}

async fn applied(session: &Session) -> Result<Vec<Applied>, tokio_postgres::Error> {
    let rows =
        session.query("SELECT version, name, breaking FROM tidegate.migrations", &[]).await?;
    let applied = |row: &tokio_postgres::Row| Applied {
        version: row.get(0),
        name: row.get(1),
        breaking: row.get(2),
    };
    Ok(rows.iter().map(applied).collect())
}
