//! The bookkeeping schema: bringing it up, judging it, and whose database it is.

use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use super::{File, judged};
use crate::record::SinkError;
use crate::warehouse::schema::{self, Applied, Migration};

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "0001_bookkeeping",
        breaking: false,
        sql: include_str!("../../../migrations/sqlite/0001_bookkeeping.sql"),
    },
    Migration {
        version: 2,
        name: "0002_snapshots",
        breaking: false,
        sql: include_str!("../../../migrations/sqlite/0002_snapshots.sql"),
    },
    Migration {
        version: 3,
        name: "0003_settled",
        breaking: false,
        sql: include_str!("../../../migrations/sqlite/0003_settled.sql"),
    },
    Migration {
        version: 4,
        name: "0004_governance",
        breaking: false,
        sql: include_str!("../../../migrations/sqlite/0004_governance.sql"),
    },
    Migration {
        version: 5,
        name: "0005_janitor",
        breaking: false,
        sql: include_str!("../../../migrations/sqlite/0005_janitor.sql"),
    },
    Migration {
        version: 6,
        name: "0006_rights",
        breaking: false,
        sql: include_str!("../../../migrations/sqlite/0006_rights.sql"),
    },
    Migration {
        version: 7,
        name: "0007_signals",
        breaking: false,
        sql: include_str!("../../../migrations/sqlite/0007_signals.sql"),
    },
    Migration {
        version: 8,
        name: "0008_expired",
        breaking: false,
        sql: include_str!("../../../migrations/sqlite/0008_expired.sql"),
    },
    Migration {
        version: 9,
        name: "0009_nodes",
        breaking: false,
        sql: include_str!("../../../migrations/sqlite/0009_nodes.sql"),
    },
];

const LIST: &str = "CREATE TABLE IF NOT EXISTS tidegate_migrations (
    version    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    breaking   INTEGER NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)";

/// The same as text.
pub fn bookkeeping() -> Vec<String> {
    let one = |migration: &Migration| {
        let Migration { version, name, breaking, sql } = migration;
        format!(
            "-- {name}\n{}\nINSERT INTO tidegate_migrations (version, name, breaking) \
             VALUES ({version}, '{name}', {breaking});",
            sql.trim_end()
        )
    };
    std::iter::once(format!("{LIST};")).chain(MIGRATIONS.iter().map(one)).collect()
}

pub(super) fn migrate(file: &mut File) -> Result<Vec<String>, SinkError> {
    file.transaction(|transaction| apply_missing(transaction).map_err(judged))
}

fn apply_missing(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection.execute(LIST, [])?;
    let present = applied(connection)?;
    let mut names = Vec::new();
    for migration in schema::missing(MIGRATIONS, &present) {
        connection.execute_batch(migration.sql)?;
        connection.execute(
            "INSERT INTO tidegate_migrations (version, name, breaking) VALUES (?1, ?2, ?3)",
            (migration.version, migration.name, migration.breaking),
        )?;
        names.push(migration.name.to_owned());
    }
    Ok(names)
}

fn applied(connection: &Connection) -> rusqlite::Result<Vec<Applied>> {
    let mut rows = connection.prepare("SELECT version, name, breaking FROM tidegate_migrations")?;
    let applied = rows.query_map([], |row| {
        Ok(Applied { version: row.get(0)?, name: row.get(1)?, breaking: row.get(2)? })
    })?;
    applied.collect()
}

pub(super) fn judge(file: &mut File) -> Result<(), SinkError> {
    const FIND: &str =
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'tidegate_migrations'";
    let connection = file.connection()?;
    let present = connection.query_row(FIND, [], |_| Ok(())).optional().map_err(judged)?;
    let applied = match present {
        Some(()) => applied(connection).map_err(judged)?,
        None => vec![],
    };
    schema::judge(MIGRATIONS, &applied)
}

pub(super) fn installation(file: &mut File, mine: Uuid, adopt: bool) -> Result<Uuid, SinkError> {
    const KEEP: &str = "INSERT INTO tidegate_installation (one, id) VALUES (1, ?1) \
                        ON CONFLICT (one) DO NOTHING";
    const ADOPT: &str = "INSERT INTO tidegate_installation (one, id) VALUES (1, ?1) \
                         ON CONFLICT (one) DO UPDATE SET id = excluded.id";
    let read = |connection: &Connection| -> rusqlite::Result<String> {
        connection.execute(if adopt { ADOPT } else { KEEP }, [mine.to_string()])?;
        connection.query_row("SELECT id FROM tidegate_installation", [], |row| row.get(0))
    };
    let id = file.transaction(|transaction| read(transaction).map_err(judged))?;
    id.parse().map_err(SinkError::lasting)
}
