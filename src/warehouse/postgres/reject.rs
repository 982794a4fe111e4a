//! Records that become no row: finding those that the server refuses, and keeping them.

use tokio_postgres::error::DbError;

use super::pool::{Session, worded};
use super::{check, copy};
use crate::record::RejectClass;
use crate::warehouse::intake::{Quarantined, Refusal};

/// `ON CONFLICT`: after a reset the same record comes by again, and it is kept already.
const KEEP: &str = "
    INSERT INTO tidegate.quarantine
        (feed, topic, topic_id, partition, record_offset, record_timestamp, key, value, headers,
         class, reason, sink)
    SELECT $1, q.topic, coalesce(q.topic_id::uuid, '00000000-0000-0000-0000-000000000000'),
           q.partition, q.record_offset,
           'epoch'::timestamptz + q.record_timestamp * interval '1 millisecond',
           q.key, q.value, q.headers::jsonb, q.class, q.reason, q.sink
    FROM unnest($2::text[], $3::text[], $4::int4[], $5::int8[], $6::int8[], $7::bytea[], $8::bytea[],
                $9::text[], $10::text[], $11::text[], $12::text[])
        AS q(topic, topic_id, partition, record_offset, record_timestamp, key, value, headers,
             class, reason, sink)
    ON CONFLICT (feed, topic, partition, record_offset, topic_id) DO UPDATE
    SET settled = NULL, settled_by = NULL, settled_why = NULL, settled_at = NULL,
        class = EXCLUDED.class, reason = EXCLUDED.reason
    WHERE quarantine.settled = 'read_again'";

/// How much goes in one statement.
const CHUNK_ROWS: usize = 10_000;
const CHUNK_BYTES: usize = 16 << 20;

pub(super) async fn keep(
    session: &Session,
    feed: &str,
    mut rows: &[Quarantined<'_>],
) -> Result<(), tokio_postgres::Error> {
    while !rows.is_empty() {
        let mut bytes = 0;
        let fits = rows.iter().take(CHUNK_ROWS).take_while(|row| {
            let before = bytes;
            bytes += row.key.as_ref().map_or(0, Vec::len)
                + row.value.as_ref().map_or(0, Vec::len)
                + row.headers.len();
            before < CHUNK_BYTES
        });
        let (chunk, rest) = rows.split_at(fits.count());
        keep_chunk(session, feed, chunk).await?;
        rows = rest;
    }
    Ok(())
}

async fn keep_chunk(
    session: &Session,
    feed: &str,
    rows: &[Quarantined<'_>],
) -> Result<(), tokio_postgres::Error> {
    fn all<'a, T>(rows: &'a [Quarantined<'_>], of: impl Fn(&'a Quarantined<'_>) -> T) -> Vec<T> {
        rows.iter().map(of).collect()
    }
    let statement = session.prepare_cached(KEEP).await?;
    let held = |ms: &i64| copy::holds_time(*ms);
    session
        .execute(
            &statement,
            &[
                &feed,
                &all(rows, |row| &*row.source.topic),
                &all(rows, |row| row.topic_id.text()),
                &all(rows, |row| row.source.partition),
                &all(rows, |row| row.offset),
                &all(rows, |row| row.timestamp_ms.filter(held)),
                &all(rows, |row| row.key.as_deref()),
                &all(rows, |row| row.value.as_deref()),
                &all(rows, |row| check::without_nul(&row.headers)),
                &all(rows, |row| row.class.name()),
                &all(rows, |row| row.reason.replace('\0', "\u{fffd}")),
                &all(rows, |row| row.sink),
            ],
        )
        .await?;
    Ok(())
}

/// The server's words about a row. Their DETAIL repeats the row, which is kept anyway.
pub(super) fn refusal(error: &DbError) -> Refusal {
    let code = error.code().code();
    let class = match code {
        // Too long, out of range, a limit of an index or of jsonb.
        "22001" | "22003" | "22008" | "54000" | "54001" => RejectClass::OutOfRange,
        _ => RejectClass::SinkRefused,
    };
    let column = error.column().map(|column| format!("{column}: ")).unwrap_or_default();
    Refusal { class, reason: format!("{column}{}", worded(error)) }
}

/// The row that COPY was at: "COPY tidegate_stage_1, line 5, column a" is row 4, in any language.
pub(super) fn copy_row(error: &DbError) -> Option<usize> {
    let (_, after) = error.where_()?.split_once(", ")?;
    let number = after.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?;
    number.parse::<usize>().ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::SinkExt;

    use super::super::pool::blamed;
    use super::*;
    use crate::record::Blame;
    use crate::warehouse::contract::lab::Lab;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_server_names_the_row_that_copy_was_at() {
        let lab = Lab::postgres().await;
        lab.client().batch_execute("CREATE TABLE t (a text)").await.unwrap();
        let mut rows = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        for text in [b'a', b'b', 0, b'c'] {
            rows.extend_from_slice(&[0, 1, 0, 0, 0, 1, text]);
        }
        let sink = lab.client().copy_in("COPY t FROM STDIN (FORMAT binary)").await.unwrap();
        let mut sink = std::pin::pin!(sink);
        sink.send(Bytes::from(rows)).await.unwrap();
        let error = sink.finish().await.unwrap_err();
        assert_eq!(blamed(&error), Blame::Record);
        assert_eq!(copy_row(error.as_db_error().unwrap()), Some(2));
    }
}
