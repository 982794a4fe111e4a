//! The warehouse read from outside: progress while the node writes, and at the end its rows.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row};

use super::DemoError;
use super::holdings::{Adding, ByTopic, Holdings, key_columns};
use crate::generate::{Topic, Total};

pub struct Warehouse {
    connection: Connection,
    ends: HashMap<(Topic, i32), i64>,
}

impl Warehouse {
    /// For reading only; the node has made the file by now.
    pub fn open(path: &Path) -> Result<Self, DemoError> {
        let open = || {
            let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            Ok(connection)
        };
        Ok(Self { connection: open().map_err(failed)?, ends: HashMap::new() })
    }

    pub fn refresh(&mut self) -> Result<(), DemoError> {
        const READ: &str = "SELECT feed, partition, next_offset FROM tidegate_progress";
        let read = |connection: &Connection| {
            let mut statement = connection.prepare_cached(READ)?;
            let rows = statement.query_map([], |row| {
                let feed: String = row.get(0)?;
                Ok((Topic::from_name(&feed), row.get(1)?, row.get(2)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        for (topic, partition, end) in read(&self.connection).map_err(failed)? {
            if let Some(topic) = topic {
                self.ends.insert((topic, partition), end);
            }
        }
        Ok(())
    }

    /// The offset up to which a partition is durable.
    pub fn next_offset(&self, topic: Topic, partition: i32) -> i64 {
        self.ends.get(&(topic, partition)).copied().unwrap_or(0)
    }

    /// Records that are durable, quarantined ones included.
    pub fn records(&self) -> u64 {
        self.ends.values().map(|end| *end as u64).sum()
    }

    pub fn holdings(&self) -> Result<ByTopic, DemoError> {
        let mut by_topic = ByTopic::default();
        for topic in Topic::DEMO {
            by_topic[topic as usize] = self.of_topic(topic).map_err(failed)?;
        }
        Ok(by_topic)
    }

    fn of_topic(&self, topic: Topic) -> rusqlite::Result<Holdings> {
        let quarantined = self.quarantined(topic)?;
        // The node makes a table when its feed begins; a demo of few records may end before.
        if !self.has_table(topic)? {
            return Ok(Holdings { quarantined, ..Holdings::default() });
        }
        if !topic.is_table() {
            return Ok(self.stream(topic)?.finish(quarantined));
        }
        let keys = self.table(topic)?;
        Ok(Holdings { rows: keys.len() as u64, keys, quarantined, ..Holdings::default() })
    }

    fn has_table(&self, topic: Topic) -> rusqlite::Result<bool> {
        const FIND: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        self.connection.prepare_cached(FIND)?.exists([topic.name()])
    }

    fn stream(&self, topic: Topic) -> rusqlite::Result<Adding> {
        let name = topic.name();
        let sql = format!("SELECT _partition, _offset, transaction_id, amount FROM {name}");
        let mut adding = Adding::default();
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get_ref(2)?.as_str()?;
            adding.transaction(row.get(0)?, row.get(1)?, id, i128::from(cents(row, 3)?));
        }
        Ok(adding)
    }

    fn table(&self, topic: Topic) -> rusqlite::Result<BTreeMap<Vec<String>, Total>> {
        let keys = key_columns(topic);
        let sql = format!(
            "SELECT total_amount, transaction_count, {} FROM {}",
            keys.join(", "),
            topic.name()
        );
        let mut statement = self.connection.prepare(&sql)?;
        let rows = statement.query_map([], |row| {
            let total = Total { cents: cents(row, 0)?, count: count(row, 1)? };
            let key = (0..keys.len()).map(|index| row.get(2 + index));
            Ok((key.collect::<rusqlite::Result<Vec<String>>>()?, total))
        })?;
        rows.collect()
    }

    fn quarantined(&self, topic: Topic) -> rusqlite::Result<BTreeMap<String, u64>> {
        const COUNT: &str =
            "SELECT class, count(*) FROM tidegate_quarantine WHERE feed = ?1 GROUP BY class";
        let mut statement = self.connection.prepare_cached(COUNT)?;
        let rows = statement.query_map([topic.name()], |row| Ok((row.get(0)?, count(row, 1)?)))?;
        rows.collect()
    }
}

fn failed(error: rusqlite::Error) -> DemoError {
    DemoError::failed(format!("reading the warehouse: {error}"))
}

fn count(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(|count| count.max(0) as u64)
}

/// An amount, kept as text with two decimals.
fn cents(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let text = row.get_ref(index)?.as_str()?;
    parse_cents(text).ok_or_else(|| {
        let reason = format!("{text:?} is no amount");
        rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, reason.into())
    })
}

fn parse_cents(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if part.len() != 2 || !digits(part) || !digits(whole) {
        return None;
    }
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        assert_eq!(parse_cents("0.05"), Some(5));
        assert_eq!(parse_cents("90071992547409.93"), Some(9_007_199_254_740_993));
        for text in ["", "5", "5.0", "5.000", "-5.00", "+5.00", "5.+1", "a.00", "1e3.00"] {
            assert_eq!(parse_cents(text), None, "{text}");
        }
    }
}
