//! The permission rows in PostgreSQL: each reader has a schema with one view of every table that he may see
//! something of, and no right to the tables. `view` makes the views, `actual` reads what there is, `plan`
//! compares, and here it is carried out, one step a transaction.
//!
//! One node at a time does it: it holds a row of the bookkeeping locked in a transaction of its own, which the
//! server ends soon if the node is frozen, and looks before each step that it still does. (An advisory lock
//! could be held by anybody.)

mod actual;
mod condition;
mod plan;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use self::condition::Found;
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

const MAKE_LOCK: &str = "
    INSERT INTO tidegate.leases (name, holder, token, expires_at) VALUES ('rights', '', 0, now())
    ON CONFLICT (name) DO NOTHING";
const HOLD: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10s'";
const TRY_LOCK: &str = "SELECT FROM tidegate.leases WHERE name = 'rights' FOR UPDATE SKIP LOCKED";
/// Nobody's lock holds up what is to be shut.
const LOOK: &str = "BEGIN; SET LOCAL lock_timeout = '1s'";
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
        lock.execute(MAKE_LOCK, &[]).await.map_err(judged)?;
        lock.batch_execute(HOLD).await.map_err(judged)?;
        if lock.query_opt(TRY_LOCK, &[]).await.map_err(judged)?.is_none() {
            lock.batch_execute("ROLLBACK").await.map_err(judged)?;
            lock.done();
            return Ok(None);
        }
        let session = self.sessions.get().await?;
        let tables = self.tables(feeds)?;
        session.batch_execute(LOOK).await.map_err(judged)?;
        let actual = actual::read(&session, readers, &tables).await?;
        let there = columns(&session, &tables).await?;
        session.batch_execute("COMMIT").await.map_err(judged)?;
        let (mut wanted, mut open) = (Vec::new(), Vec::new());
        for view in views {
            let table = table_name(&view.feed, &self.schema);
            // It is made with the feed's first rows.
            let Some(found) = there.get(&table) else { continue };
            match WantedView::of(view, &table, found) {
                Ok(view) => wanted.push(view),
                Err(why) => open.push(format!("{} sees nothing of {table}: {why}", view.role)),
            }
        }
        let plan = plan::plan(readers, &wanted, &actual);
        open.extend(plan.open);
        if !dry_run {
            shut(&session, &plan.steps).await?;
        }
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

/// Of a domain that which it is of.
const COLUMNS: &str = "
    SELECT given.name, a.attname::text,
           format_type(CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END, NULL)
    FROM unnest($1::text[]) AS given (name)
    JOIN pg_attribute a ON a.attrelid = to_regclass(given.name) AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid";

/// The columns of those tables that are there.
async fn columns(
    session: &Session,
    tables: &[String],
) -> Result<BTreeMap<String, Found>, SinkError> {
    let mut columns: BTreeMap<String, Found> = BTreeMap::new();
    for row in session.query(COLUMNS, &[&tables]).await.map_err(judged)? {
        columns.entry(row.get(0)).or_default().insert(row.get(1), row.get(2));
    }
    Ok(columns)
}

/// What is to end is shut before anything else, since what somebody reads may take a while to be dropped.
async fn shut(session: &Session, steps: &[Step]) -> Result<(), SinkError> {
    for close in steps.iter().filter(|step| step.ends).filter_map(|step| step.close.as_ref()) {
        if in_transaction(session, close).await.is_err() {
            session.batch_execute("ROLLBACK").await.map_err(judged)?;
        }
    }
    Ok(())
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

/// Statements that leave readers' views of a table with their columns and nothing to show, so that it can be
/// changed: a column that a view reads gets no other type. They are made anew by whoever keeps the rights.
pub(super) async fn emptied_views(
    session: &Session,
    table: &str,
) -> Result<String, tokio_postgres::Error> {
    const VIEWS: &str = "
        SELECT n.nspname::text, c.relname::text,
               string_agg(format('NULL::%s AS %I', format_type(a.atttypid, a.atttypmod), a.attname), ', '
                          ORDER BY a.attnum)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relkind = 'v' AND obj_description(n.oid, 'pg_namespace') = $2
          AND starts_with(coalesce(obj_description(c.oid, 'pg_class'), ''), $3)
          AND EXISTS (SELECT FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid
                      WHERE r.ev_class = c.oid AND d.classid = 'pg_rewrite'::regclass
                        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass($1))
        GROUP BY 1, 2";
    let found = session.query(VIEWS, &[&table, &READER_SCHEMA, &MARK]).await?;
    let emptied = |row: &tokio_postgres::Row| {
        let (place, columns) = (view::place(row.get(0), row.get(1)), row.get::<_, &str>(2));
        format!(
            "CREATE OR REPLACE VIEW {place} WITH (security_barrier) AS SELECT {columns} WHERE false; "
        )
    };
    Ok(found.iter().map(emptied).collect())
}
