//! A table's present rows, read back in the order of its primary key.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Field, Int32Type, Int64Type, Schema, SchemaRef,
    TimestampMicrosecondType,
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use super::shape::shaped;
use super::spell;
use crate::config::{Column, ColumnType, Feed, FeedKind};
use crate::record::{Bound, Lack, SinkError, Value};

/// Which rows of a table are wanted, and what of them.
#[derive(Debug, Clone)]
pub struct RowsRequest {
    /// Of the table as it stands in the database (`shaped(feed)`), in the order in which they are
    /// wanted.
    pub columns: Vec<String>,
    /// Rows beyond them need not come, and may all the same: whoever asks filters again.
    pub bounds: Vec<Bound>,
    /// Only rows behind this one.
    pub after: Option<After>,
    pub batch_rows: usize,
}

/// The primary key of a row to go on behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct After(Vec<KeyValue>);

/// A value of a key column, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum KeyValue {
    /// Of `int` and `long` columns.
    Long(i64),
    Text(String),
    /// All its digits: not every reader of JSON has so long integers.
    Decimal(String),
    /// Microseconds since the epoch.
    Timestamp(i64),
    /// Days since the epoch.
    Date(i32),
    Bool(bool),
    Bytes(Vec<u8>),
}

/// Some rows in their order, and the key of the last one.
pub type Read = (RecordBatch, After);

/// Rows on their way.
pub type Rows = BoxStream<'static, Result<Read, SinkError>>;

/// A database whose tables are read.
///
/// All rows of one call are of one moment, which is past when the call is answered; writers neither wait
/// for a reader nor it for them. Rows come in the order that the database itself has for the key's
/// columns, so that the key's index serves it: of texts the table's collation, and in SQLite that of the
/// texts it keeps decimals and times as. Whoever takes no rows for a minute loses the session, and is
/// told so.
#[async_trait]
pub trait RowReader: Send + Sync {
    /// Batches hold at least one row and at most `batch_rows`, fewer where rows are large. A value that
    /// Arrow does not hold (an infinite time, a NaN among decimals) or that is not of its column's type
    /// is an error, and never a null.
    async fn rows(&self, feed: &Feed, request: RowsRequest) -> Result<Rows, SinkError>;
}

/// A request held against its feed: what both databases go by.
#[derive(Debug)]
pub(super) struct Wanted {
    /// As its table has it.
    pub feed: Feed,
    /// What is read: the requested columns, then those of the key that are not among them.
    pub columns: Vec<Column>,
    /// Of the requested columns.
    pub schema: SchemaRef,
    /// Where in `columns` those of the key are.
    key: Vec<usize>,
    /// With the columns they are of.
    pub bounds: Vec<(Column, Bound)>,
    pub after: Option<Vec<KeyValue>>,
    pub batch_rows: usize,
}

impl Wanted {
    pub fn of(feed: &Feed, request: RowsRequest) -> Result<Self, SinkError> {
        let unfit = |why: &str| SinkError::lasting(format!("feed {}: {why}", feed.name));
        if feed.kind != FeedKind::Table {
            return Err(unfit("it is a stream, and only a table has present rows"));
        }
        if feed.warehouse.is_none() {
            return Err(unfit("it has no warehouse side, and so no table to read rows from"));
        }
        let feed = shaped(feed).into_owned();
        let keys = feed.schema.key();
        if keys.is_empty() {
            return Err(unfit("it has no key, and so no order to read its rows in"));
        }
        let all = &feed.schema.columns;
        let find = |name: &str| all.iter().find(|column| column.name == name).cloned();
        let named = |name: &String| {
            find(name).ok_or_else(|| unfit(&format!("its table has no column {name}")))
        };
        let mut columns = request.columns.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        let field = |column: &Column| Field::new(&column.name, column.kind.arrow(), true);
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let mut key = Vec::new();
        for column in keys {
            let found = columns.iter().position(|other| other.name == column.name);
            key.push(found.unwrap_or(columns.len()));
            columns.extend(found.is_none().then(|| column.clone()));
        }
        let after = request.after.map(|After(values)| values);
        if after.as_ref().is_some_and(|values| !fits(values, keys)) {
            return Err(unfit("the row to go on behind is not one of its keys"));
        }
        let of_column = |bound: Bound| find(&bound.column).map(|column| (column, bound));
        let bounds = request.bounds.into_iter().filter_map(of_column).collect();
        let batch_rows = request.batch_rows.max(1);
        Ok(Self { columns, schema, key, bounds, after, batch_rows, feed })
    }

    /// The key of a row, by arrays of all `columns`.
    pub fn key_of(&self, arrays: &[Arc<dyn Array>], row: usize) -> Result<After, SinkError> {
        let value = |at: &usize| {
            let column = &self.columns[*at];
            KeyValue::of(column.kind, &arrays[*at], row).ok_or_else(|| {
                let (feed, name) = (&self.feed.name, &column.name);
                SinkError::lasting(format!(
                    "feed {feed}: column {name} of the key is null in a row of its table"
                ))
            })
        };
        self.key.iter().map(value).collect::<Result<_, _>>().map(After)
    }
}

/// Whether a key may have these values.
fn fits(values: &[KeyValue], keys: &[Column]) -> bool {
    let each = |(value, column): (&KeyValue, &Column)| match (value, column.kind) {
        (KeyValue::Long(value), ColumnType::Int) => i32::try_from(*value).is_ok(),
        (KeyValue::Long(_), ColumnType::Long)
        | (KeyValue::Text(_), ColumnType::String)
        | (KeyValue::Timestamp(_), ColumnType::Timestamp)
        | (KeyValue::Date(_), ColumnType::Date)
        | (KeyValue::Bool(_), ColumnType::Boolean)
        | (KeyValue::Bytes(_), ColumnType::Bytes) => true,
        (KeyValue::Decimal(text), ColumnType::Decimal { precision, scale }) => {
            spell::read_decimal(text, precision, scale).is_some()
        }
        _ => false,
    };
    values.len() == keys.len() && values.iter().zip(keys).all(each)
}

impl KeyValue {
    /// `None` where it is null, or of a type that no key column has (see [`ColumnType::can_be_key`]).
    fn of(kind: ColumnType, array: &dyn Array, row: usize) -> Option<Self> {
        if array.is_null(row) {
            return None;
        }
        Some(match kind {
            ColumnType::Int => Self::Long(array.as_primitive::<Int32Type>().value(row).into()),
            ColumnType::Long => Self::Long(array.as_primitive::<Int64Type>().value(row)),
            ColumnType::String => Self::Text(array.as_string::<i32>().value(row).to_owned()),
            ColumnType::Decimal { precision, scale } => {
                let value = array.as_primitive::<Decimal128Type>().value(row);
                Self::Decimal(spell::decimal(value, precision, scale))
            }
            ColumnType::Timestamp => {
                Self::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            ColumnType::Date => Self::Date(array.as_primitive::<Date32Type>().value(row)),
            ColumnType::Boolean => Self::Bool(array.as_boolean().value(row)),
            ColumnType::Bytes => Self::Bytes(array.as_binary::<i32>().value(row).to_owned()),
            ColumnType::Double | ColumnType::Number | ColumnType::Json | ColumnType::Nested(_) => {
                return None;
            }
        })
    }
}

/// What a bound says, as comparisons in SQL with the values behind them.
pub(super) fn ends(bound: &Bound) -> Vec<(&'static str, &Value)> {
    match (&bound.least, &bound.greatest) {
        (Some(least), Some(greatest)) if least == greatest => vec![("=", least)],
        (least, greatest) => {
            let least = least.iter().map(|value| (">=", value));
            least.chain(greatest.iter().map(|value| ("<=", value))).collect()
        }
    }
}

/// A node makes the table, and nobody else has to.
pub(super) fn absent(table: &str) -> SinkError {
    let why =
        format!("table {table} does not exist yet; a node makes it when it first writes to it");
    SinkError::lacking(Lack::Absent, why)
}
