//! Permission rows, tokens and the audit. A trigger tells of changes, to whoever listens.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_postgres::Row as Found;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::pool::{Hearing, Session, Sessions, judged};
use super::sources;
use crate::config::{self, Sources};
use crate::governance::{
    AuditQuestion, AuditRow, Principal, Row, RowId, Token, Written, WrittenToken,
};
use crate::record::SinkError;
use crate::warehouse::{Change, Changed, GovernanceStore, Permissions};

const CHANNEL: &str = "tidegate_permissions";
/// Between attempts to listen.
const PAUSE: Duration = Duration::from_millis(500);

/// A time or a day as one text whatever the database's style, and its infinities as they are.
macro_rules! text_of {
    (time $column:literal) => {
        text_of!($column, " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'")
    };
    (day $column:literal) => {
        text_of!($column, ", 'YYYY-MM-DD'")
    };
    ($column:literal, $form:literal) => {
        concat!(
            "CASE WHEN isfinite(",
            $column,
            ") THEN to_char(",
            $column,
            $form,
            ") ELSE ",
            $column,
            "::text END"
        )
    };
}

/// A row's columns.
macro_rules! row {
    () => {
        concat!(
            "id, principal, feed, action, effect, columns::text, masks::text, predicate, ",
            text_of!(day "day_from"), ", ", text_of!(day "day_to"), ", ", text_of!(time "expires_at"),
            ", granted_by, reason"
        )
    };
}

const ROWS: &str = concat!("SELECT ", row!(), " FROM tidegate.permissions ORDER BY id");

const TOKENS: &str = concat!(
    "SELECT id, hash, principal, roles::text, groups::text, created_by, ",
    text_of!(time "expires_at"),
    ", revoked_at IS NOT NULL FROM tidegate.tokens ORDER BY created_at, id"
);

const FIND_SALT: &str = "SELECT salt FROM tidegate.salt";

const MAKE_SALT: &str = "
    INSERT INTO tidegate.salt (salt) VALUES (decode(replace(gen_random_uuid()::text ||
        gen_random_uuid()::text, '-', ''), 'hex')) ON CONFLICT (one) DO NOTHING";

const GRANT: &str = "
    INSERT INTO tidegate.permissions (principal, feed, action, effect, columns, masks, predicate, day_from,
                                      day_to, expires_at, granted_by, reason)
    VALUES ($1, $2, $3, $4, $5::text::jsonb, $6::text::jsonb, $7, $8::text::date, $9::text::date,
            to_timestamp($10::bigint / 1000.0), $11, $12)
    RETURNING id";

const REVOKE: &str = concat!("DELETE FROM tidegate.permissions WHERE id = $1 RETURNING ", row!());

/// Whoever asks at the same time waits, and then finds the first.
const ALONE: &str = "LOCK TABLE tidegate.permissions IN SHARE ROW EXCLUSIVE MODE";

const MANAGERS: &str = "
    SELECT EXISTS (SELECT FROM tidegate.permissions
                   WHERE action = 'manage' AND effect = 'allow'
                     AND (expires_at IS NULL OR expires_at > now()))";

const ADD_TOKEN: &str = "
    INSERT INTO tidegate.tokens (id, hash, principal, roles, groups, created_by, expires_at)
    VALUES ($1, $2, $3, $4::text::jsonb, $5::text::jsonb, $6, to_timestamp($7::bigint / 1000.0))";

const REVOKE_TOKEN: &str =
    "UPDATE tidegate.tokens SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL";

const RECORD: &str = "
    INSERT INTO tidegate.audit (id, at, principal, action, feed, allowed, columns, rows, why, origin,
                                trace_id, node)
    SELECT id::uuid, to_timestamp(at / 1000.0), principal, action, feed, allowed, columns::jsonb, rows, why,
           origin, trace_id, node
    FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[],
                $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
         AS sent (id, at, principal, action, feed, allowed, columns, rows, why, origin, trace_id, node)
    ON CONFLICT (id) DO NOTHING";

const AUDIT: &str = "
    SELECT id::text, (extract(epoch FROM at) * 1000)::bigint, principal, action, feed, allowed,
           columns::text, rows, why, origin, trace_id, node
    FROM tidegate.audit
    WHERE ($1::text IS NULL OR principal = $1) AND ($2::text IS NULL OR feed = $2)
      AND ($3::text IS NULL OR action = $3) AND ($4::boolean IS NULL OR allowed = $4)
      AND ($5::bigint IS NULL OR at >= to_timestamp($5::bigint / 1000.0))
      AND ($6::bigint IS NULL OR at < to_timestamp($6::bigint / 1000.0))
    ORDER BY at DESC, id LIMIT $7";

pub(in crate::warehouse) struct PostgresGovernance {
    sessions: Sessions,
    /// Of the existing tables that name none.
    schema: String,
    hearing: Mutex<Option<Hearing>>,
}

impl PostgresGovernance {
    pub fn open(config: &config::Warehouse) -> Result<Self, SinkError> {
        // Beside the writers', so that none of both waits for the other.
        let config = config::Warehouse { connections: 2, ..config.clone() };
        let sessions = Sessions::open(&config)?;
        Ok(Self { sessions, schema: config.schema, hearing: Mutex::default() })
    }
}

#[async_trait]
impl GovernanceStore for PostgresGovernance {
    async fn load(&self, sources: &Sources) -> Result<Permissions, SinkError> {
        let session = self.sessions.get().await?;
        let load = async {
            // It never changes: whatever the others are read with is its own.
            let salt = salt(&session).await?;
            session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let rows = session.query(ROWS, &[]).await?;
            let tokens = session.query(TOKENS, &[]).await?;
            let found = sources::read(&session, &self.schema, sources).await?;
            session.batch_execute("COMMIT").await?;
            Ok((rows, tokens, salt, found))
        };
        let (rows, tokens, salt, found) = load.await.map_err(judged)?;
        session.done();
        let tokens = tokens.iter().map(token).collect();
        Ok(Permissions { rows: rows.iter().map(written).collect(), tokens, salt, found })
    }

    async fn change(&self, change: &Change, audit: &AuditRow) -> Result<Changed, SinkError> {
        let session = self.sessions.get().await?;
        session.batch_execute("BEGIN").await.map_err(judged)?;
        let changed = carry_out(&session, change).await?;
        if changed != Changed::Nothing {
            record(&session, std::slice::from_ref(audit)).await?;
        }
        session.batch_execute("COMMIT").await.map_err(judged)?;
        session.done();
        Ok(changed)
    }

    async fn record(&self, rows: &[AuditRow]) -> Result<(), SinkError> {
        let session = self.sessions.get().await?;
        record(&session, rows).await?;
        session.done();
        Ok(())
    }

    async fn audit(&self, question: &AuditQuestion) -> Result<Vec<AuditRow>, SinkError> {
        let AuditQuestion { principal, feed, action, allowed, from_ms, before_ms, most } = question;
        let session = self.sessions.get().await?;
        let params: [&(dyn ToSql + Sync); 7] =
            [principal, feed, action, allowed, from_ms, before_ms, most];
        let rows = session.query(AUDIT, &params).await.map_err(judged)?;
        session.done();
        rows.iter().map(audited).collect()
    }

    async fn changed(&self, within: Duration) {
        let mut hearing = self.hearing.lock().await;
        match hearing.as_mut() {
            Some(heard) => match tokio::time::timeout(within, heard.next()).await {
                Err(_) | Ok(true) => {}
                Ok(false) => *hearing = None,
            },
            None => match tokio::time::timeout(within, self.sessions.listen(CHANNEL)).await {
                // What changed before is not told again: it is to be looked at now.
                Ok(Ok(begun)) => *hearing = Some(begun),
                Ok(Err(_)) => tokio::time::sleep(PAUSE.min(within)).await,
                Err(_) => {}
            },
        }
    }
}

async fn salt(session: &Session) -> Result<Vec<u8>, tokio_postgres::Error> {
    if let Some(found) = session.query_opt(FIND_SALT, &[]).await? {
        return Ok(found.get(0));
    }
    session.execute(MAKE_SALT, &[]).await?;
    session.query_one(FIND_SALT, &[]).await.map(|found| found.get(0))
}

async fn carry_out(session: &Session, change: &Change) -> Result<Changed, SinkError> {
    match change {
        Change::Grant(row) => grant(session, row).await.map(Changed::Granted),
        Change::FirstManager(row) => {
            session.batch_execute(ALONE).await.map_err(judged)?;
            match session.query_one(MANAGERS, &[]).await.map_err(judged)?.get(0) {
                true => Ok(Changed::Nothing),
                false => grant(session, row).await.map(Changed::Granted),
            }
        }
        Change::Revoke(id) => {
            let row = session.query_opt(REVOKE, &[id]).await.map_err(judged)?;
            Ok(row
                .as_ref()
                .map(written)
                .map_or(Changed::Nothing, |row| Changed::Revoked(Box::new(row))))
        }
        Change::AddToken(token) => add_token(session, token).await.map(|()| Changed::Token),
        Change::RevokeToken(id) => {
            let count = session.execute(REVOKE_TOKEN, &[id]).await.map_err(judged)?;
            Ok(if count > 0 { Changed::Token } else { Changed::Nothing })
        }
    }
}

async fn grant(session: &Session, row: &Row) -> Result<i64, SinkError> {
    let target = &row.target;
    let columns = target.columns.as_ref().map(json).transpose()?;
    let masks = (!target.masks.is_empty()).then(|| json(&target.masks)).transpose()?;
    let predicate = target.predicate.as_ref().map(ToString::to_string);
    let [from, to] = [target.days.from, target.days.to].map(|day| day.map(|it| it.to_string()));
    let params: [&(dyn ToSql + Sync); 12] = [
        &row.grantee.to_string(),
        &row.feed.as_str(),
        &row.action.name(),
        &row.effect.name(),
        &columns,
        &masks,
        &predicate,
        &from,
        &to,
        &row.expires_at_ms,
        &row.granted_by,
        &row.reason,
    ];
    Ok(session.query_one(GRANT, &params).await.map_err(judged)?.get(0))
}

async fn add_token(session: &Session, token: &Token) -> Result<(), SinkError> {
    let Principal { name, roles, groups } = &token.principal;
    let (roles, groups) = (json(roles)?, json(groups)?);
    let params: [&(dyn ToSql + Sync); 7] =
        [&token.id, &token.hash, name, &roles, &groups, &token.created_by, &token.expires_at_ms];
    session.execute(ADD_TOKEN, &params).await.map(drop).map_err(judged)
}

async fn record(session: &Session, rows: &[AuditRow]) -> Result<(), SinkError> {
    fn each<'r, T>(rows: &'r [AuditRow], of: impl Fn(&'r AuditRow) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    let columns = rows.iter().map(|row| {
        let columns: Vec<String> = row.columns.iter().map(|name| storable(name)).collect();
        json(&columns)
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let params: [&(dyn ToSql + Sync); 12] = [
        &each(rows, |row| row.id.to_string()),
        &each(rows, |row| row.at_ms),
        &each(rows, |row| storable(&row.principal)),
        &each(rows, |row| storable(&row.action)),
        &each(rows, |row| row.feed.as_deref().map(storable)),
        &each(rows, |row| row.allowed),
        &columns,
        &each(rows, |row| row.rows.as_deref().map(storable)),
        &each(rows, |row| storable(&row.why)),
        &each(rows, |row| storable(&row.origin)),
        &each(rows, |row| row.trace_id.as_deref().map(storable)),
        &each(rows, |row| storable(&row.node)),
    ];
    session.execute(RECORD, &params).await.map(drop).map_err(judged)
}

fn written(row: &Found) -> Written {
    Written {
        id: RowId::Own(row.get(0)),
        principal: row.get(1),
        feed: row.get(2),
        action: row.get(3),
        effect: row.get(4),
        columns: row.get(5),
        masks: row.get(6),
        predicate: row.get(7),
        day_from: row.get(8),
        day_to: row.get(9),
        expires_at: row.get(10),
        granted_by: row.get(11),
        reason: row.get(12),
    }
}

fn token(row: &Found) -> WrittenToken {
    WrittenToken {
        id: row.get(0),
        hash: row.get(1),
        principal: row.get(2),
        roles: row.get(3),
        groups: row.get(4),
        created_by: row.get(5),
        expires_at: row.get(6),
        revoked: row.get(7),
    }
}

fn audited(row: &Found) -> Result<AuditRow, SinkError> {
    Ok(AuditRow {
        id: row.get::<_, &str>(0).parse::<Uuid>().map_err(SinkError::lasting)?,
        at_ms: row.get(1),
        principal: row.get(2),
        action: row.get(3),
        feed: row.get(4),
        allowed: row.get(5),
        columns: serde_json::from_str(row.get(6)).map_err(SinkError::lasting)?,
        rows: row.get(7),
        why: row.get(8),
        origin: row.get(9),
        trace_id: row.get(10),
        node: row.get(11),
    })
}

fn json(value: &impl serde::Serialize) -> Result<String, SinkError> {
    serde_json::to_string(value).map_err(SinkError::lasting)
}

/// PostgreSQL's texts hold no NUL, and what somebody sends may hold one.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}
