//! Values that come out of a database one by one, gathered into Arrow batches.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder,
    Int32Builder, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder,
    TimestampMicrosecondBuilder,
};

use super::rows::{Read, Wanted};
use crate::config::{Column, ColumnType};
use crate::record::SinkError;

/// A batch is full when its texts and bytes are more than this: rows may be large.
const LARGE: usize = 8 << 20;

/// A value as it came, in the widest form of its kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Whole(i64),
    Double(f64),
    Boolean(bool),
    /// Counted in the last digit of its column's scale.
    Decimal(i128),
    /// Microseconds since the epoch.
    Timestamp(i64),
    /// Days since the epoch.
    Date(i32),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// A batch that rows are put into, value by value.
pub(super) struct Filling<'a> {
    wanted: &'a Wanted,
    columns: Vec<Values>,
    rows: usize,
    bytes: usize,
}

impl<'a> Filling<'a> {
    pub fn new(wanted: &'a Wanted) -> Self {
        let columns = wanted.columns.iter().map(|column| Values::of(column.kind)).collect();
        Self { wanted, columns, rows: 0, bytes: 0 }
    }

    /// Puts the next row's value of the column at `at`; says why it cannot be one.
    pub fn put(&mut self, at: usize, cell: Cell<'_>) -> Result<(), String> {
        self.bytes += match cell {
            Cell::Text(text) => text.len(),
            Cell::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        self.columns[at].put(self.wanted.columns[at].kind, cell)
    }

    /// All columns have their value of the row.
    pub fn end_row(&mut self) {
        self.rows += 1;
    }

    pub fn is_full(&self) -> bool {
        self.rows >= self.wanted.batch_rows || self.bytes > LARGE
    }

    /// The rows, if there are any.
    pub fn finish(self) -> Result<Option<Read>, SinkError> {
        let Some(last) = self.rows.checked_sub(1) else { return Ok(None) };
        let mut arrays: Vec<ArrayRef> = self.columns.into_iter().map(Values::finish).collect();
        let after = self.wanted.key_of(&arrays, last)?;
        let schema = self.wanted.schema.clone();
        arrays.truncate(schema.fields().len());
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options);
        Ok(Some((batch.map_err(SinkError::lasting)?, after)))
    }
}

/// One column of a batch.
enum Values {
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Decimal(Decimal128Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Date(Date32Builder),
}

impl Values {
    fn of(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Int => Self::Int(Int32Builder::new()),
            ColumnType::Long => Self::Long(Int64Builder::new()),
            ColumnType::Double => Self::Double(Float64Builder::new()),
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Decimal { .. } => {
                Self::Decimal(Decimal128Builder::new().with_data_type(kind.arrow()))
            }
            ColumnType::Timestamp => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(kind.arrow()))
            }
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Bytes => Self::Bytes(BinaryBuilder::new()),
            // Nested columns are JSON or columns by now: see `warehouse::nested`.
            ColumnType::String | ColumnType::Number | ColumnType::Json | ColumnType::Nested(_) => {
                Self::Text(StringBuilder::new())
            }
        }
    }

    fn put(&mut self, kind: ColumnType, cell: Cell<'_>) -> Result<(), String> {
        let unfit = || format!("a value that is no {kind}");
        match (self, cell) {
            (values, Cell::Null) => values.put_null(),
            (Self::Text(_), Cell::Text(text))
                if kind == ColumnType::Number && !looks_like_number(text) =>
            {
                return Err(unfit());
            }
            (Self::Text(it), Cell::Text(text)) => it.append_value(text),
            (Self::Bytes(it), Cell::Bytes(bytes)) => it.append_value(bytes),
            (Self::Int(it), Cell::Whole(number)) => {
                it.append_value(i32::try_from(number).map_err(|_| unfit())?);
            }
            (Self::Long(it), Cell::Whole(number)) => it.append_value(number),
            (Self::Double(it), Cell::Double(number)) => it.append_value(number),
            (Self::Boolean(it), Cell::Boolean(truth)) => it.append_value(truth),
            (Self::Decimal(it), Cell::Decimal(unscaled)) => it.append_value(unscaled),
            (Self::Timestamp(it), Cell::Timestamp(micros)) => it.append_value(micros),
            (Self::Date(it), Cell::Date(days)) => it.append_value(days),
            _ => return Err(unfit()),
        }
        Ok(())
    }

    fn put_null(&mut self) {
        match self {
            Self::Text(it) => it.append_null(),
            Self::Bytes(it) => it.append_null(),
            Self::Int(it) => it.append_null(),
            Self::Long(it) => it.append_null(),
            Self::Double(it) => it.append_null(),
            Self::Boolean(it) => it.append_null(),
            Self::Decimal(it) => it.append_null(),
            Self::Timestamp(it) => it.append_null(),
            Self::Date(it) => it.append_null(),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut it) => Arc::new(it.finish()),
            Self::Bytes(mut it) => Arc::new(it.finish()),
            Self::Int(mut it) => Arc::new(it.finish()),
            Self::Long(mut it) => Arc::new(it.finish()),
            Self::Double(mut it) => Arc::new(it.finish()),
            Self::Boolean(mut it) => Arc::new(it.finish()),
            Self::Decimal(mut it) => Arc::new(it.finish()),
            Self::Timestamp(mut it) => Arc::new(it.finish()),
            Self::Date(mut it) => Arc::new(it.finish()),
        }
    }
}

/// Whether a text that a database keeps for a number is one of JSON's, and no NaN or infinity.
fn looks_like_number(text: &str) -> bool {
    text.strip_prefix('-').unwrap_or(text).starts_with(|first: char| first.is_ascii_digit())
}

/// An error that says which column of which table holds what it must not. The value itself is not told:
/// whoever asks may have no right to it.
pub(super) fn misfit(table: &str, column: &Column, why: &str) -> SinkError {
    SinkError::lasting(format!("table {table}: column {} has {why}", column.name))
}
