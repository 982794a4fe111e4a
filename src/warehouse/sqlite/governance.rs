//! Permission rows, tokens and the audit. Nobody tells of changes here: whoever waits looks again soon.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat};
use rusqlite::{Connection, OptionalExtension, Row as Found};

use super::{File, Sqlite, judged, sources};
use crate::config::Sources;
use crate::governance::{AuditQuestion, AuditRow, Principal, Row, RowId, Written, WrittenToken};
use crate::record::SinkError;
use crate::warehouse::{Change, Changed, GovernanceStore, Permissions};

/// How soon a change is looked for.
const LOOK: Duration = Duration::from_secs(1);

const ROWS: &str = "
    SELECT id, principal, feed, action, effect, columns, masks, predicate, day_from, day_to, expires_at,
           granted_by, reason
    FROM tidegate_permissions";

const TOKENS: &str = "
    SELECT id, hash, principal, roles, groups, created_by, expires_at, revoked_at IS NOT NULL
    FROM tidegate_tokens ORDER BY created_at, id";

const FIND_SALT: &str = "SELECT salt FROM tidegate_salt";

const MAKE_SALT: &str = "
    INSERT INTO tidegate_salt (one, salt) VALUES (1, randomblob(32)) ON CONFLICT (one) DO NOTHING";

const GRANT: &str = "
    INSERT INTO tidegate_permissions (principal, feed, action, effect, columns, masks, predicate, day_from,
                                      day_to, expires_at, granted_by, reason)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

const MANAGERS: &str = "
    SELECT count(*) FROM tidegate_permissions
    WHERE action = 'manage' AND effect = 'allow' AND (expires_at IS NULL OR expires_at > ?1)";

const ADD_TOKEN: &str = "
    INSERT INTO tidegate_tokens (id, hash, principal, roles, groups, created_by, expires_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

const REVOKE_TOKEN: &str = "
    UPDATE tidegate_tokens SET revoked_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    WHERE id = ?1 AND revoked_at IS NULL";

const RECORD: &str = "
    INSERT INTO tidegate_audit (id, at, principal, action, feed, allowed, columns, rows, why, origin,
                                trace_id, node)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (id) DO NOTHING";

const AUDIT: &str = "
    SELECT id, at, principal, action, feed, allowed, columns, rows, why, origin, trace_id, node
    FROM tidegate_audit
    WHERE (?1 IS NULL OR principal = ?1) AND (?2 IS NULL OR feed = ?2) AND (?3 IS NULL OR action = ?3)
      AND (?4 IS NULL OR allowed = ?4) AND (?5 IS NULL OR at >= ?5) AND (?6 IS NULL OR at < ?6)
    ORDER BY at DESC, id LIMIT ?7";

pub(in crate::warehouse) struct SqliteGovernance(Sqlite);

impl SqliteGovernance {
    pub fn open(path: &Path) -> Result<Self, SinkError> {
        Sqlite::open(path).map(Self)
    }

    /// What only reads takes no lock that a writer waits for.
    async fn read<T: Send + 'static>(
        &self,
        doing: &str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SinkError> {
        let work = |file: &mut File| {
            let transaction = file.connection()?.transaction().map_err(judged)?;
            work(&transaction).map_err(judged)
        };
        self.0.run(doing.to_owned(), work).await
    }
}

#[async_trait]
impl GovernanceStore for SqliteGovernance {
    async fn load(&self, sources: &Sources) -> Result<Permissions, SinkError> {
        let sources = sources.clone();
        let (rows, tokens, salt, found) = self
            .read("reading the permission rows", move |connection| {
                let rows = connection
                    .prepare_cached(&format!("{ROWS} ORDER BY id"))?
                    .query_map([], written)?
                    .collect::<rusqlite::Result<_>>()?;
                let tokens = connection
                    .prepare_cached(TOKENS)?
                    .query_map([], token)?
                    .collect::<rusqlite::Result<_>>()?;
                let salt = connection.query_row(FIND_SALT, [], |it| it.get(0)).optional()?;
                let found = sources::read(connection, &sources)?;
                Ok((rows, tokens, salt, found))
            })
            .await?;
        let make = |connection: &Connection| {
            connection.execute(MAKE_SALT, [])?;
            connection.query_row(FIND_SALT, [], |it| it.get(0))
        };
        let salt = match salt {
            Some(salt) => salt,
            None => self.0.transact("making the salt", make).await?,
        };
        Ok(Permissions { rows, tokens, salt, found })
    }

    async fn change(&self, change: &Change, audit: &AuditRow) -> Result<Changed, SinkError> {
        let (change, audit) = (change.clone(), audit.clone());
        self.0
            .transact("changing permissions", move |connection| {
                let changed = carry_out(connection, &change)?;
                if changed != Changed::Nothing {
                    record(connection, &[audit])?;
                }
                Ok(changed)
            })
            .await
    }

    async fn record(&self, rows: &[AuditRow]) -> Result<(), SinkError> {
        let rows = rows.to_vec();
        self.0.transact("writing the audit", move |connection| record(connection, &rows)).await
    }

    async fn audit(&self, question: &AuditQuestion) -> Result<Vec<AuditRow>, SinkError> {
        let question = question.clone();
        self.read("reading the audit", move |connection| {
            let AuditQuestion { principal, feed, action, allowed, from_ms, before_ms, most } =
                question;
            let (from, before) = (from_ms.map(time), before_ms.map(time));
            let mut rows = connection.prepare_cached(AUDIT)?;
            let params = (principal, feed, action, allowed, from, before, most);
            rows.query_map(params, audited)?.collect()
        })
        .await
    }

    async fn changed(&self, within: Duration) {
        tokio::time::sleep(LOOK.min(within)).await;
    }
}

fn carry_out(connection: &Connection, change: &Change) -> rusqlite::Result<Changed> {
    Ok(match change {
        Change::Grant(row) => Changed::Granted(grant(connection, row)?),
        Change::FirstManager(row) => {
            let found =
                connection.query_row(MANAGERS, [time(now_ms())], |it| it.get::<_, i64>(0))?;
            match found {
                0 => Changed::Granted(grant(connection, row)?),
                _ => Changed::Nothing,
            }
        }
        Change::Revoke(id) => {
            let find = format!("{ROWS} WHERE id = ?1");
            let found = connection.query_row(&find, [id], written).optional()?;
            connection.execute("DELETE FROM tidegate_permissions WHERE id = ?1", [id])?;
            found.map_or(Changed::Nothing, |row| Changed::Revoked(Box::new(row)))
        }
        Change::AddToken(token) => {
            let Principal { name, roles, groups } = &token.principal;
            let (roles, groups) = (json(roles), json(groups));
            let expires = token.expires_at_ms.map(time);
            let params = (&token.id, &token.hash, name, roles, groups, &token.created_by, expires);
            connection.execute(ADD_TOKEN, params)?;
            Changed::Token
        }
        Change::RevokeToken(id) => match connection.execute(REVOKE_TOKEN, [id])? {
            0 => Changed::Nothing,
            _ => Changed::Token,
        },
    })
}

fn grant(connection: &Connection, row: &Row) -> rusqlite::Result<i64> {
    let target = &row.target;
    let masks = (!target.masks.is_empty()).then(|| json(&target.masks));
    connection.execute(
        GRANT,
        rusqlite::params![
            row.grantee.to_string(),
            row.feed.as_str(),
            row.action.name(),
            row.effect.name(),
            target.columns.as_ref().map(json),
            masks,
            target.predicate.as_ref().map(ToString::to_string),
            target.days.from.map(|day| day.to_string()),
            target.days.to.map(|day| day.to_string()),
            row.expires_at_ms.map(time),
            row.granted_by,
            row.reason,
        ],
    )?;
    Ok(connection.last_insert_rowid())
}

fn record(connection: &Connection, rows: &[AuditRow]) -> rusqlite::Result<()> {
    let mut record = connection.prepare_cached(RECORD)?;
    for row in rows {
        record.execute(rusqlite::params![
            row.id.to_string(),
            time(row.at_ms),
            row.principal,
            row.action,
            row.feed,
            row.allowed,
            json(&row.columns),
            row.rows,
            row.why,
            row.origin,
            row.trace_id,
            row.node,
        ])?;
    }
    Ok(())
}

fn written(row: &Found<'_>) -> rusqlite::Result<Written> {
    Ok(Written {
        id: RowId::Own(row.get(0)?),
        principal: row.get(1)?,
        feed: row.get(2)?,
        action: row.get(3)?,
        effect: row.get(4)?,
        columns: row.get(5)?,
        masks: row.get(6)?,
        predicate: row.get(7)?,
        day_from: row.get(8)?,
        day_to: row.get(9)?,
        expires_at: row.get(10)?,
        granted_by: row.get(11)?,
        reason: row.get(12)?,
    })
}

fn token(row: &Found<'_>) -> rusqlite::Result<WrittenToken> {
    Ok(WrittenToken {
        id: row.get(0)?,
        hash: row.get(1)?,
        principal: row.get(2)?,
        roles: row.get(3)?,
        groups: row.get(4)?,
        created_by: row.get(5)?,
        expires_at: row.get(6)?,
        revoked: row.get(7)?,
    })
}

fn audited(row: &Found<'_>) -> rusqlite::Result<AuditRow> {
    Ok(AuditRow {
        id: row.get::<_, String>(0)?.parse().unwrap_or_default(),
        at_ms: millis(&row.get::<_, String>(1)?),
        principal: row.get(2)?,
        action: row.get(3)?,
        feed: row.get(4)?,
        allowed: row.get(5)?,
        columns: serde_json::from_str(&row.get::<_, String>(6)?).unwrap_or_default(),
        rows: row.get(7)?,
        why: row.get(8)?,
        origin: row.get(9)?,
        trace_id: row.get(10)?,
        node: row.get(11)?,
    })
}

pub(super) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn json(value: &impl serde::Serialize) -> String {
    // Lists and maps of names are always JSON.
    serde_json::to_string(value).unwrap_or_default()
}

/// Of one length, so that texts are in the order of times.
pub(super) fn time(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms).unwrap_or(DateTime::UNIX_EPOCH);
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

pub(super) fn millis(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).map_or(i64::MIN, |time| time.timestamp_millis())
}
