//! The permission rows in PostgreSQL: each reader has a schema with one view of every table that he may see
//! something of, and no right to the tables. `view` makes the views, `actual` reads what there is, `plan`
//! compares, and here it is carried out, one step a transaction.
//!
//! One node at a time does it: it holds an advisory lock in a transaction of its own, which the server ends
//! soon if the node is frozen, and looks before each step that it still does.

mod actual;
mod condition;
mod plan;
mod view;

use std::sync::Arc;

use async_trait::async_trait;

use self::plan::Step;
use self::view::{MARK, WantedView};
use super::pool::{Session, Sessions, judged};
use super::snapshot::kept_tables;
use super::table::{ident, table_name};
use crate::config::{self, Feed, Rights};
use crate::record::SinkError;
use crate::warehouse::{
    Reader, ReaderView, Readers, Reconciled, RightsChange, RightsStore, dimension, shaped,
};

/// The comment of schemas that are ours to make views in.
const READER_SCHEMA: &str = "tidegate reader";

/// "tide", and what the lock is for.
const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock(1953064037, 5)";
const HOLD: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10s'";
/// Whoever reads a view keeps it from being replaced: it is closed then, which waits for nobody.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '500ms'; SET LOCAL search_path = pg_catalog, pg_temp; \
                     SET LOCAL standard_conforming_strings = on; SET LOCAL timezone = 'UTC'";

pub(in crate::warehouse) struct PostgresRights {
    sessions: Sessions,
    schema: String,
    readers: String,
}

impl PostgresRights {
    pub fn open(config: &config::Warehouse, rights: &Rights) -> Result<Self, SinkError> {
        // One holds the lock, the other works.
        let own = config::Warehouse { connections: 2, ..config.clone() };
        let (schema, readers) = (config.schema.clone(), rights.readers.clone());
        Ok(Self { sessions: Sessions::open(&own)?, schema, readers })
    }

    /// All tables that hold rows of the feeds, whether they are there or not.
    fn tables(&self, feeds: &[Arc<Feed>]) -> Result<Vec<String>, SinkError> {
        let mut tables = Vec::new();
        for feed in feeds.iter().filter(|feed| feed.warehouse.is_some()) {
            let own = table_name(feed, &self.schema);
            tables.extend(kept_tables(&own));
            tables.push(own);
            for dimension in dimension::tables(&shaped(feed))? {
                tables.push(table_name(&dimension.feed, &self.schema));
            }
        }
        Ok(tables)
    }
}

#[async_trait]
impl RightsStore for PostgresRights {
    async fn readers(&self) -> Result<Readers, SinkError> {
        let session = self.sessions.get().await?;
        let readers = actual::readers(&session, &self.readers).await?;
        session.done();
        Ok(readers)
    }

    async fn reconcile(
        &self,
        readers: &[Reader],
        feeds: &[Arc<Feed>],
        views: &[ReaderView],
        dry_run: bool,
    ) -> Result<Option<Reconciled>, SinkError> {
        let lock = self.sessions.get().await?;
        lock.batch_execute(HOLD).await.map_err(judged)?;
        if !lock.query_one(TRY_LOCK, &[]).await.map_err(judged)?.get::<_, bool>(0) {
            lock.batch_execute("ROLLBACK").await.map_err(judged)?;
            lock.done();
            return Ok(None);
        }
        let session = self.sessions.get().await?;
        let tables = self.tables(feeds)?;
        let actual = actual::read(&session, readers, &tables).await?;
        let there = existing(&session, &tables).await?;
        let (mut wanted, mut open) = (Vec::new(), Vec::new());
        for view in views {
            let table = table_name(&view.feed, &self.schema);
            if !there.contains(&table) {
                continue; // made with the feed's first rows
            }
            match WantedView::of(view, &table) {
                Some(view) => wanted.push(view),
                None => open.push(format!(
                    "a permission row of {} compares {} with what PostgreSQL has no form for: {} sees nothing of it",
                    view.feed.name, table, view.role
                )),
            }
        }
        let plan = plan::plan(readers, &wanted, &actual);
        open.extend(plan.open);
        let mut changes = Vec::new();
        for step in plan.steps {
            lock.batch_execute("SELECT 1").await.map_err(judged)?;
            let failed = if dry_run { None } else { carry_out(&session, &step).await? };
            changes.push(RightsChange { what: step.what, sql: step.script, failed });
        }
        lock.batch_execute("COMMIT").await.map_err(judged)?;
        session.done();
        lock.done();
        Ok(Some(Reconciled { changes, open }))
    }
}

const EXISTING: &str =
    "SELECT name FROM unnest($1::text[]) AS given (name) WHERE to_regclass(name) IS NOT NULL";

async fn existing(session: &Session, tables: &[String]) -> Result<Vec<String>, SinkError> {
    let found = session.query(EXISTING, &[&tables]).await.map_err(judged)?;
    Ok(found.iter().map(|row| row.get(0)).collect())
}

/// Answers why it is not done, if it is not. An error: the connection is of no more use.
async fn carry_out(session: &Session, step: &Step) -> Result<Option<String>, SinkError> {
    let Err(error) = in_transaction(session, &step.script).await else { return Ok(None) };
    session.batch_execute("ROLLBACK").await.map_err(judged)?;
    let mut why = judged(error).message;
    if let Some(close) = &step.close
        && let Err(error) = in_transaction(session, close).await
    {
        session.batch_execute("ROLLBACK").await.map_err(judged)?;
        why += &format!("; nor could it be closed: {}", judged(error).message);
    }
    Ok(Some(why))
}

async fn in_transaction(session: &Session, script: &str) -> Result<(), tokio_postgres::Error> {
    session.batch_execute(BEGIN).await?;
    session.batch_execute(script).await?;
    session.batch_execute("COMMIT").await
}

/// Views of ours that read a table, in quotes: a column that one reads cannot get another type.
pub(super) async fn views_of(
    session: &Session,
    table: &str,
) -> Result<Vec<String>, tokio_postgres::Error> {
    const VIEWS: &str = "
        SELECT DISTINCT n.nspname::text, c.relname::text
        FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class c ON c.oid = r.ev_class
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
          AND d.refobjid = to_regclass($1) AND c.relkind = 'v'
          AND starts_with(coalesce(obj_description(c.oid, 'pg_class'), ''), $2)";
    let found = session.query(VIEWS, &[&table, &MARK]).await?;
    let place = |row: &tokio_postgres::Row| format!("{}.{}", ident(row.get(0)), ident(row.get(1)));
    Ok(found.iter().map(place).collect())
}
