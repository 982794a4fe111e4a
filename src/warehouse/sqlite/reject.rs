//! Records that become no row.

use rusqlite::Connection;

use crate::warehouse::intake::Quarantined;
use crate::warehouse::spell;

/// `ON CONFLICT`: after a reset the same record comes by again, and it is kept already.
const KEEP: &str = "
    INSERT INTO tidegate_quarantine
        (feed, topic, topic_id, partition, record_offset, record_timestamp, key, value, headers,
         class, reason, sink)
    VALUES (?1, ?2, coalesce(?3, '00000000-0000-0000-0000-000000000000'), ?4, ?5, ?6, ?7, ?8, ?9,
            ?10, ?11, ?12)
    ON CONFLICT (feed, topic, partition, record_offset, topic_id) DO UPDATE
    SET settled = NULL, settled_by = NULL, settled_why = NULL, settled_at = NULL,
        class = excluded.class, reason = excluded.reason
    WHERE settled = 'read_again'";

pub(super) fn keep(
    connection: &Connection,
    feed: &str,
    rows: &[Quarantined<'_>],
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(KEEP)?;
    for row in rows {
        let micros = row.timestamp_ms.and_then(|ms| ms.checked_mul(1_000));
        statement.execute((
            feed,
            &*row.source.topic,
            row.topic_id.text(),
            row.source.partition,
            row.offset,
            micros.and_then(spell::timestamp),
            &row.key,
            &row.value,
            &row.headers,
            row.class.name(),
            &row.reason,
            row.sink,
        ))?;
    }
    Ok(())
}
