//! Rows of dimensions: each before the row that refers to it, undone with it.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Date32Type, TimestampMicrosecondType};
use rusqlite::{CachedStatement, Connection};

use super::table::{OFFSET, PARTITION, TIMESTAMP, TOPIC, ident, names};
use super::write::{record_time, value};
use crate::config::{ColumnType, Feed};
use crate::record::Batch;
use crate::warehouse::dimension::DimensionTable;
use crate::warehouse::spell;

/// What decides which of two rows is the newer one, first things first.
const ORDER: [&str; 4] = [TIMESTAMP, TOPIC, PARTITION, OFFSET];

/// A dimension as it is written: its columns among the feed's, and the statement that takes their values
/// and then those of [`ORDER`].
pub(super) struct Upsert {
    columns: Vec<(usize, ColumnType)>,
    keys: usize,
    sql: String,
}

impl Upsert {
    pub fn new(table: &str, dimension: &DimensionTable) -> Self {
        let schema = &dimension.feed.schema;
        let own = schema.columns.iter().map(|column| ident(&column.name));
        let into: Vec<String> = own.chain(ORDER.map(ident)).collect();
        let changed: Vec<String> = into[schema.key_columns..]
            .iter()
            .map(|name| format!("{name} = excluded.{name}"))
            .collect();
        // A row that was there before these columns is older than all.
        let least = ["''", "''", "-1", "-1"];
        let ranked = |row: &str| -> String {
            let value = |(name, least)| format!("coalesce({row}.{}, {least})", ident(name));
            ORDER.into_iter().zip(least).map(value).collect::<Vec<_>>().join(", ")
        };
        let sql = format!(
            "INSERT INTO {table} AS d ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {} \
             WHERE ({}) < ({})",
            into.join(", "),
            vec!["?"; into.len()].join(", "),
            names(schema.key()),
            changed.join(", "),
            ranked("d"),
            ranked("excluded"),
        );
        let kinds = schema.columns.iter().map(|column| column.kind);
        let columns = dimension.columns.iter().copied().zip(kinds).collect();
        Self { columns, keys: schema.key_columns, sql }
    }
}

/// The dimensions of a feed while rows are written.
pub(super) struct Dimensions<'a> {
    upserts: Vec<(&'a Upsert, CachedStatement<'a>)>,
    connection: &'a Connection,
    time: Option<(usize, ColumnType)>,
}

impl<'a> Dimensions<'a> {
    pub fn new(
        connection: &'a Connection,
        upserts: &'a [Upsert],
        feed: &Feed,
    ) -> rusqlite::Result<Self> {
        let prepared = upserts.iter().map(|upsert| {
            let statement = connection.prepare_cached(&upsert.sql)?;
            Ok((upsert, statement))
        });
        let column = |index: usize| (index, feed.schema.columns[index].kind);
        let upserts = prepared.collect::<rusqlite::Result<_>>()?;
        Ok(Self { upserts, connection, time: feed.schema.time.map(column) })
    }

    /// Writes the row's dimensions and then, by `own`, the row itself: all of it or nothing.
    pub fn put(
        &mut self,
        batch: &Batch,
        row: usize,
        own: impl FnOnce() -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        if self.upserts.is_empty() {
            return own();
        }
        self.connection.prepare_cached("SAVEPOINT one_row")?.execute([])?;
        let done = self.upsert(batch, row).and_then(|()| own());
        if done.is_err() {
            self.connection.prepare_cached("ROLLBACK TO one_row")?.execute([])?;
        }
        self.connection.prepare_cached("RELEASE one_row")?.execute([])?;
        done
    }

    fn upsert(&mut self, batch: &Batch, row: usize) -> rusqlite::Result<()> {
        let time = self.time(batch, row);
        for (upsert, statement) in &mut self.upserts {
            let array = |index: usize| batch.rows.column(index);
            if upsert.columns[..upsert.keys].iter().any(|(index, _)| array(*index).is_null(row)) {
                continue;
            }
            for (at, (index, kind)) in upsert.columns.iter().enumerate() {
                statement.raw_bind_parameter(at + 1, value(*kind, array(*index), row))?;
            }
            let first = upsert.columns.len() + 1;
            statement.raw_bind_parameter(first, &*time)?;
            statement.raw_bind_parameter(first + 1, &*batch.source.topic)?;
            statement.raw_bind_parameter(first + 2, batch.source.partition)?;
            statement.raw_bind_parameter(first + 3, batch.offsets.value(row))?;
            statement.raw_execute()?;
        }
        Ok(())
    }

    /// A time as text that compares as times do; that of no time is before all.
    fn time(&self, batch: &Batch, row: usize) -> String {
        let declared = self.time.and_then(|(index, kind)| {
            let array = batch.rows.column(index);
            match kind {
                _ if array.is_null(row) => None,
                ColumnType::Date => spell::date(array.as_primitive::<Date32Type>().value(row))
                    .map(|day| format!("{day}T00:00:00.000000Z")),
                _ => spell::timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row)),
            }
        });
        let time = declared.or_else(|| record_time(batch, row));
        time.filter(|time| time.starts_with(|c: char| c.is_ascii_digit())).unwrap_or_default()
    }
}
