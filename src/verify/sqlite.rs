//! SQLite, through a connection of its own that can only read.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row as Found};

use super::canon::hex;
use super::gap::Gap;
use super::quarantine::{Chosen, Counted, Fate, Kept, Marked, State};
use super::warehouse::{Quarantined, Row, Standing};
use crate::config::{Column, Feed};
use crate::record::{OffsetRange, RejectClass, SinkKind, TopicId, TopicPartition};

pub struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    pub fn open(path: &Path) -> Result<Self, String> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|error| format!("opening {}: {error}", path.display()))?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(said)?;
        Ok(Self { connection })
    }

    pub fn begin(&self) -> Result<(), String> {
        self.connection.execute_batch("BEGIN").map_err(said)
    }

    pub fn end(&self) -> Result<(), String> {
        self.connection.execute_batch("ROLLBACK").map_err(said)
    }

    /// Calls `each` with the rows of a statement, if the table it reads exists.
    fn each(
        &self,
        table: &str,
        sql: &str,
        parameters: impl Params,
        mut each: impl FnMut(&Found<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        const FIND: &str =
            "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1";
        let exists = self.connection.query_row(FIND, [table], |_| Ok(())).optional();
        if exists.map_err(said)?.is_none() {
            return Ok(());
        }
        let mut statement = self.connection.prepare(sql).map_err(said)?;
        let mut rows = statement.query(parameters).map_err(said)?;
        while let Some(row) = rows.next().map_err(said)? {
            each(row)?;
        }
        Ok(())
    }

    pub fn progress(&self, feed: &str) -> Result<HashMap<TopicPartition, Standing>, String> {
        const READ: &str = "SELECT topic, partition, topic_id, start_offset, next_offset FROM tidegate_progress WHERE feed = ?1";
        let mut progress = HashMap::new();
        self.each("tidegate_progress", READ, [feed], |row| {
            let topic_id = TopicId::from(uuid_of(row, 2)?);
            let source = TopicPartition::new(get::<String>(row, 0)?, get(row, 1)?);
            let (start, next_offset) = (get(row, 3)?, get(row, 4)?);
            progress.insert(source, Standing { topic_id, start, next_offset });
            Ok(())
        })?;
        Ok(progress)
    }

    pub fn gaps(&self, feed: &str) -> Result<Vec<Gap>, String> {
        const READ: &str = "SELECT topic, partition, topic_id, from_offset, to_offset, reason, \
                                   settled_at IS NOT NULL \
                            FROM tidegate_gaps WHERE feed = ?1 ORDER BY recorded_at";
        let mut gaps = Vec::new();
        self.each("tidegate_gaps", READ, [feed], |row| {
            gaps.push(Gap {
                source: TopicPartition::new(get::<String>(row, 0)?, get(row, 1)?),
                topic_id: TopicId::from(uuid_of(row, 2)?),
                range: OffsetRange { start: get(row, 3)?, end: get(row, 4)? },
                reason: get(row, 5)?,
                settled: get(row, 6)?,
            });
            Ok(())
        })?;
        Ok(gaps)
    }

    pub fn former(&self, feed: &str) -> Result<Vec<(TopicPartition, OffsetRange)>, String> {
        const READ: &str = "SELECT topic, partition, start_offset, end_offset \
                            FROM tidegate_former WHERE feed = ?1";
        let mut former = Vec::new();
        self.each("tidegate_former", READ, [feed], |row| {
            let source = TopicPartition::new(get::<String>(row, 0)?, get(row, 1)?);
            former.push((source, OffsetRange { start: get(row, 2)?, end: get(row, 3)? }));
            Ok(())
        })?;
        Ok(former)
    }

    /// Offsets whose rows went because they were old, both ends included.
    pub fn expired(&self, feed: &str) -> Result<Vec<(TopicPartition, i64, i64)>, String> {
        const READ: &str = "SELECT topic, partition, from_offset, to_offset \
                            FROM tidegate_expired WHERE feed = ?1";
        let mut expired = Vec::new();
        self.each("tidegate_expired", READ, [feed], |row| {
            let source = TopicPartition::new(get::<String>(row, 0)?, get(row, 1)?);
            expired.push((source, get(row, 2)?, get(row, 3)?));
            Ok(())
        })?;
        Ok(expired)
    }

    pub fn quarantine(&self, feed: &str, each: &mut impl FnMut(Quarantined)) -> Result<(), String> {
        const READ: &str = "SELECT topic, partition, record_offset, topic_id \
                            FROM tidegate_quarantine \
                            WHERE feed = ?1 AND coalesce(settled, '') NOT IN ('replayed', 'read_again')";
        self.check_quarantine()?;
        self.each("tidegate_quarantine", READ, [feed], |row| {
            each(Quarantined {
                topic: get(row, 0)?,
                partition: get(row, 1)?,
                offset: get(row, 2)?,
                topic_id: uuid_of(row, 3)?.filter(|id| !id.is_nil()),
            });
            Ok(())
        })
    }

    pub fn kept_columns(&self, feed: &str) -> Result<Option<String>, String> {
        const READ: &str = "SELECT columns FROM tidegate_columns WHERE feed = ?1";
        let mut kept = None;
        self.each("tidegate_columns", READ, [feed], |row| {
            kept = Some(get(row, 0)?);
            Ok(())
        })?;
        Ok(kept)
    }

    /// The names of the table's columns; none where there is no table.
    pub fn table_columns(&self, feed: &Feed) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        let table = table(feed);
        let sql = format!("PRAGMA table_info({})", ident(&table));
        self.each(&table, &sql, [], |row| {
            names.push(get(row, 1)?);
            Ok(())
        })?;
        Ok(names)
    }

    pub fn rows(
        &self,
        feed: &Feed,
        columns: &[Column],
        origin: &[&str],
        take: &mut impl FnMut(Row) -> Result<(), String>,
    ) -> Result<(), String> {
        let one = |name: &str| match origin.contains(&name) {
            true => ident(name),
            false => "NULL".to_owned(),
        };
        let mut wanted: Vec<String> = super::warehouse::ORIGIN.map(one).into();
        wanted.extend(columns.iter().map(|column| ident(&column.name)));
        let table = table(feed);
        let sql = format!("SELECT {} FROM {}", wanted.join(", "), ident(&table));
        self.each(&table, &sql, [], |row| {
            let texts = (0..columns.len()).map(|index| text(row, 3 + index));
            let columns = texts.collect::<Result<_, _>>()?;
            take(Row {
                topic: get(row, 0)?,
                partition: get(row, 1)?,
                offset: get(row, 2)?,
                columns,
            })
        })
    }

    /// The newest rows of the quarantine.
    /// One of an older release lacks what is asked for.
    fn check_quarantine(&self) -> Result<(), String> {
        const ASK: &str = "SELECT count(*), count(*) FILTER (WHERE name = 'settled') \
                           FROM pragma_table_info('tidegate_quarantine')";
        let found = self.connection.query_row(ASK, [], |row| Ok((row.get(0)?, row.get(1)?)));
        match found.map_err(said)? {
            (1_i64.., 0_i64) => Err(super::quarantine::OLDER.to_owned()),
            (_, _) => Ok(()),
        }
    }

    /// How many records of each kind there are.
    pub fn count_quarantine(&self) -> Result<Vec<Counted>, String> {
        const COUNT: &str = "
            SELECT feed, class, coalesce(settled, 'open'), count(*), max(reason)
            FROM tidegate_quarantine GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
        self.check_quarantine()?;
        let mut counted = Vec::new();
        self.each("tidegate_quarantine", COUNT, [], |row| {
            counted.push(Counted {
                feed: get(row, 0)?,
                class: get(row, 1)?,
                state: get(row, 2)?,
                records: get::<i64>(row, 3)?.unsigned_abs(),
                reason: get(row, 4)?,
            });
            Ok(())
        })?;
        Ok(counted)
    }

    /// Offset, topic and fate of each record of a partition.
    pub fn quarantined_offsets(
        &self,
        feed: &str,
        source: &TopicPartition,
    ) -> Result<Vec<Marked>, String> {
        const READ: &str = "SELECT record_offset, topic_id, settled FROM tidegate_quarantine
                            WHERE (feed, topic, partition) = (?1, ?2, ?3)";
        let mut found = Vec::new();
        self.check_quarantine()?;
        let of = (feed, &*source.topic, source.partition);
        self.each("tidegate_quarantine", READ, of, |row| {
            found.push(Marked {
                offset: get(row, 0)?,
                topic_id: uuid_of(row, 1)?,
                settled: get(row, 2)?,
            });
            Ok(())
        })?;
        Ok(found)
    }

    pub fn quarantined(&self, chosen: &Chosen, most: i64) -> Result<Vec<Kept>, String> {
        const READ: &str = "
            SELECT feed, topic, partition, record_offset, topic_id, record_timestamp, key, value,
                   headers, class, reason, sink IS NOT NULL, created_at, settled, settled_by,
                   settled_why, settled_at
            FROM tidegate_quarantine
            WHERE (?1 IS NULL OR feed = ?1) AND (?2 IS NULL OR class = ?2)
              AND (?3 IS NULL OR partition = ?3) AND record_offset >= ?4 AND record_offset < ?5
              AND (?6 IS NULL OR coalesce(settled, 'open') = ?6)
            ORDER BY id DESC LIMIT ?7";
        let (class, state) = (chosen.class.map(RejectClass::name), chosen.state.map(State::name));
        let OffsetRange { start, end } = chosen.offsets;
        let params = (chosen.feed.as_deref(), class, chosen.partition, start, end, state, most);
        let mut kept = Vec::new();
        self.check_quarantine()?;
        self.each("tidegate_quarantine", READ, params, |row| {
            let at = millis(get(row, 16)?).unwrap_or(0);
            let by = get::<Option<String>>(row, 14)?.unwrap_or_default();
            kept.push(Kept {
                feed: get(row, 0)?,
                sinks: vec![SinkKind::Warehouse],
                topic: get(row, 1)?,
                partition: get(row, 2)?,
                offset: get(row, 3)?,
                topic_id: uuid_of(row, 4)?.filter(|id| !id.is_nil()),
                timestamp_ms: millis(get(row, 5)?),
                key: get(row, 6)?,
                value: get(row, 7)?,
                headers: get(row, 8)?,
                class: get(row, 9)?,
                reason: get(row, 10)?,
                is_row: get(row, 11)?,
                kept_at_ms: millis(get(row, 12)?).unwrap_or(0),
                settled: Fate::of(get(row, 13)?, by, get(row, 15)?, at)?,
            });
            Ok(())
        })?;
        Ok(kept)
    }
}

fn millis(text: Option<String>) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(&text?).ok().map(|time| time.timestamp_millis())
}

fn get<T: FromSql>(row: &Found<'_>, column: usize) -> Result<T, String> {
    row.get(column).map_err(said)
}

fn uuid_of(row: &Found<'_>, column: usize) -> Result<Option<uuid::Uuid>, String> {
    Ok(get::<Option<String>>(row, column)?.and_then(|text| text.parse().ok()))
}

/// Any value as text.
fn text(row: &Found<'_>, column: usize) -> Result<Option<String>, String> {
    Ok(match row.get_ref(column).map_err(said)? {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Blob(bytes) => Some(hex(bytes)),
    })
}

/// An SQL identifier in quotes, whatever is in it.
fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A file has no schemas: `schema.name` is the table's name as it stands.
pub fn table(feed: &Feed) -> String {
    match feed.table() {
        (Some(schema), name) => format!("{schema}.{name}"),
        (None, name) => name,
    }
}

fn said(error: rusqlite::Error) -> String {
    format!("reading the warehouse: {error}")
}
