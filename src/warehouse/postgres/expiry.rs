//! Old rows of streams go, some pages of the table at a time, each in a transaction that says which they were.
//!
//! A pass reads the table once from its beginning to its end: there need be no index on the time. Pages are
//! read by their numbers, so what went before is not looked at again.

use tokio_postgres::types::ToSql;

use super::pool::{Session, Sessions, judged};
use super::table::{ident, table_name};
use crate::record::SinkError;
use crate::retention::{Span, joined};
use crate::warehouse::{OldRows, Passed};

/// Pages of one transaction.
const PAGES: u64 = 1024;

const LOOK: &str = "
    SELECT c.relkind::text, pg_relation_size(c.oid) / current_setting('block_size')::int8,
           ARRAY(SELECT a.attname::text FROM pg_attribute AS a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
           ARRAY(SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
           c.relhassubclass
    FROM pg_class AS c WHERE c.oid = to_regclass($1)";

const HELD: &str = "SELECT 1 FROM tidegate.leases WHERE name = $1 AND token = $2 FOR SHARE";

const WRITE_DOWN: &str = "
    INSERT INTO tidegate.expired (feed, topic, partition, from_offset, to_offset)
    SELECT $1, it.* FROM unnest($2::text[], $3::int4[], $4::int8[], $5::int8[]) AS it";

/// A day that is still to come was noted by a clock that was ahead.
const DONE: &str = "
    SELECT before >= $2::text::date AND before <= (now() AT TIME ZONE 'UTC')::date
    FROM tidegate.expiry WHERE feed = $1";

const FINISH: &str = "
    INSERT INTO tidegate.expiry (feed, before) VALUES ($1, $2::text::date)
    ON CONFLICT (feed) DO UPDATE SET before = excluded.before, finished_at = now()";

/// Taken out and not only read: another pass may write down more meanwhile.
const WRITTEN: &str = "
    DELETE FROM tidegate.expired WHERE feed = $1
    RETURNING topic, partition, from_offset, to_offset";

/// Offsets from here on are read again, unless they are those of another topic than before.
pub(super) const FORGET: &str = "
    WITH again AS (
        SELECT FROM (VALUES (1)) AS one
        WHERE NOT EXISTS (SELECT FROM tidegate.progress
                          WHERE (feed, topic, partition) = ($1, $2, $3) AND topic_id <> $5::text::uuid)),
    cut AS (
        UPDATE tidegate.expired SET to_offset = $4 - 1
        WHERE (feed, topic, partition) = ($1, $2, $3) AND from_offset < $4 AND to_offset >= $4
          AND EXISTS (SELECT FROM again))
    DELETE FROM tidegate.expired
    WHERE (feed, topic, partition) = ($1, $2, $3) AND from_offset >= $4 AND EXISTS (SELECT FROM again)";

/// The table as a pass finds it.
struct Found {
    table: String,
    pages: u64,
    /// Which rows are old.
    old: String,
}

/// None where there is no table.
async fn look(session: &Session, old: &OldRows, schema: &str) -> Result<Option<Found>, SinkError> {
    let table = table_name(&old.feed, schema);
    let row = session.query_opt(LOOK, &[&table]).await.map_err(judged)?;
    let Some(row) = row else { return Ok(None) };
    let (kind, pages, has_children): (String, i64, bool) = (row.get(0), row.get(1), row.get(4));
    let (names, types): (Vec<String>, Vec<String>) = (row.get(2), row.get(3));
    if kind != "r" || has_children {
        return Err(SinkError::lasting(format!(
            "{table} is no plain table, and its old rows are nobody's but its owner's: drop old \
             partitions there, and leave out `warehouse.retention_days`"
        )));
    }
    let type_of = |name: &str| {
        let at = names.iter().position(|it| it == name)?;
        types.get(at).map(String::as_str)
    };
    if let Some(missing) = old.needed().into_iter().find(|name| type_of(name).is_none()) {
        return Err(old.lacking(&table, missing));
    }
    let before = |name: &str| match type_of(name) {
        Some("date") => Some(format!("DATE '{}'", old.before)),
        Some("timestamp with time zone") => {
            Some(format!("TIMESTAMPTZ '{} 00:00:00+00'", old.before))
        }
        Some("timestamp without time zone") => Some(format!("TIMESTAMP '{} 00:00:00'", old.before)),
        _ => None,
    };
    for name in [&old.time, "_timestamp"] {
        if before(name).is_none() {
            return Err(old.lacking(&table, &format!("{name} that is a time")));
        }
    }
    let old = old.condition(ident, |name| before(name).unwrap_or_default());
    Ok(Some(Found { table, pages: pages.unsigned_abs(), old }))
}

pub(super) async fn count(
    sessions: &Sessions,
    schema: &str,
    old: &OldRows,
) -> Result<u64, SinkError> {
    let session = sessions.get().await?;
    let Some(Found { table, old, .. }) = look(&session, old, schema).await? else { return Ok(0) };
    let count = session.query_one(&format!("SELECT count(*) FROM {table} WHERE {old}"), &[]).await;
    let count: i64 = count.map_err(judged)?.get(0);
    session.done();
    Ok(count.unsigned_abs())
}

pub(super) async fn take_out(
    sessions: &Sessions,
    schema: &str,
    old: &OldRows,
    from: i64,
    lease: Option<(&str, i64)>,
) -> Result<Passed, SinkError> {
    let session = sessions.get().await?;
    let Some(found) = look(&session, old, schema).await? else {
        session.done();
        return Ok(Passed { rows: 0, next: None });
    };
    let Found { table, pages, old: is_old } = found;
    let from = u64::try_from(from).unwrap_or(0);
    let to = from + PAGES;
    begin(&session).await?;
    let delete = format!(
        "DELETE FROM ONLY {table} WHERE ctid >= '({from},0)'::tid AND ctid < '({to},0)'::tid AND {is_old} \
         RETURNING _topic::text, _partition::int4, _offset::int8"
    );
    let gone = session.query(&delete, &[]).await.map_err(judged)?;
    let spans = gone.iter().map(|row| Span::one(row.get(0), row.get(1), row.get(2))).collect();
    write_down(&session, &old.feed.name, &joined(spans)).await?;
    commit(&session, lease).await?;
    session.done();
    let next = (to < pages).then_some(to as i64);
    Ok(Passed { rows: gone.len() as u64, next })
}

pub(super) async fn is_done(sessions: &Sessions, old: &OldRows) -> Result<bool, SinkError> {
    let session = sessions.get().await?;
    let params: [&(dyn ToSql + Sync); 2] = [&&*old.feed.name, &old.before.to_string()];
    let done = session.query_opt(DONE, &params).await.map_err(judged)?;
    session.done();
    Ok(done.is_some_and(|row| row.get(0)))
}

/// Notes that a pass has come to the end, and says in few words what went.
pub(super) async fn finish(
    sessions: &Sessions,
    old: &OldRows,
    lease: Option<(&str, i64)>,
) -> Result<(), SinkError> {
    let session = sessions.get().await?;
    let feed = &*old.feed.name;
    begin(&session).await?;
    let written = session.query(WRITTEN, &[&feed]).await.map_err(judged)?;
    let spans = written.iter().map(|row| Span {
        topic: row.get(0),
        partition: row.get(1),
        first: row.get(2),
        last: row.get(3),
    });
    write_down(&session, feed, &joined(spans.collect())).await?;
    session.execute(FINISH, &[&feed, &old.before.to_string()]).await.map_err(judged)?;
    commit(&session, lease).await?;
    session.done();
    Ok(())
}

/// A transaction that waits for nobody long: who makes an index of the table is let do so.
async fn begin(session: &Session) -> Result<(), SinkError> {
    const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '2s'";
    session.batch_execute(BEGIN).await.map_err(judged)
}

/// Ends it while the lease is held, which is asked for last: whoever renews it does not wait for the rest.
async fn commit(session: &Session, lease: Option<(&str, i64)>) -> Result<(), SinkError> {
    if let Some((name, token)) = lease
        && session.query_opt(HELD, &[&name, &token]).await.map_err(judged)?.is_none()
    {
        return Err(SinkError::passing("the lease has passed to another node"));
    }
    session.batch_execute("COMMIT").await.map_err(judged)
}

async fn write_down(session: &Session, feed: &str, spans: &[Span]) -> Result<(), SinkError> {
    if spans.is_empty() {
        return Ok(());
    }
    let topics: Vec<&str> = spans.iter().map(|span| span.topic.as_str()).collect();
    let partitions: Vec<i32> = spans.iter().map(|span| span.partition).collect();
    let firsts: Vec<i64> = spans.iter().map(|span| span.first).collect();
    let lasts: Vec<i64> = spans.iter().map(|span| span.last).collect();
    let params: [&(dyn ToSql + Sync); 5] = [&feed, &topics, &partitions, &firsts, &lasts];
    session.execute(WRITE_DOWN, &params).await.map_err(judged).map(drop)
}
