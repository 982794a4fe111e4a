//! The table's columns as a scan gives them, whatever a file has.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Date32Array, Int32Array, RecordBatch, RecordBatchOptions, StringArray,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use chrono::NaiveDate;

use super::ScanFile;
use crate::config::{Feed, VERSION};
use crate::lake::columns::{constant_text, partition_type};
use crate::lake::lake_schema;
use crate::lake::quarantine::quarantine_schema;
use crate::layout::Layout;

/// The columns of the feed's files, then the partition columns, and how many these are.
pub fn table_schema(feed: &Feed, layout: &Layout) -> (SchemaRef, usize) {
    match layout.snapshots() {
        Some(_) => with_partitions(&feed.schema.arrow(), vec![(VERSION, DataType::Utf8)]),
        None => with_partitions(&lake_schema(feed), partitions_of(layout)),
    }
}

/// The same of a quarantine's files.
pub fn quarantine_table_schema(layout: &Layout) -> (SchemaRef, usize) {
    with_partitions(&quarantine_schema(), partitions_of(layout))
}

fn partitions_of(layout: &Layout) -> Vec<(&str, DataType)> {
    let partitions = layout.partitioned_by().into_iter();
    partitions.map(|(name, of)| (name, partition_type(of))).collect()
}

fn with_partitions(files: &Schema, partitions: Vec<(&str, DataType)>) -> (SchemaRef, usize) {
    let plain = |field: &Arc<Field>| match *field.data_type() == constant_text() {
        true => Field::new(field.name(), DataType::Utf8, true),
        false => field.as_ref().clone().with_nullable(true),
    };
    let count = partitions.len();
    let partitions = partitions.into_iter().map(|(name, kind)| Field::new(name, kind, true));
    let fields: Vec<Field> = files.fields().iter().map(plain).chain(partitions).collect();
    (Arc::new(Schema::new(fields)), count)
}

/// A file's rows in the columns of `schema`: cast where the file has another type, null where it has
/// none, and the partition columns from its path.
pub fn shaped(
    rows: &RecordBatch,
    schema: &SchemaRef,
    partitions: &[String],
    file: &ScanFile,
) -> Result<RecordBatch, ArrowError> {
    let count = rows.num_rows();
    let column = |field: &Arc<Field>| {
        let kind = field.data_type();
        if partitions.contains(field.name()) {
            let text = file.values.get(field.name()).and_then(Option::as_deref);
            return Ok(constant(text, kind, count));
        }
        match rows.column_by_name(field.name()) {
            Some(values) if values.data_type() == kind => Ok(values.clone()),
            Some(values) => cast(values, kind),
            None => Ok(new_null_array(kind, count)),
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

fn constant(text: Option<&str>, kind: &DataType, count: usize) -> ArrayRef {
    let array: Option<ArrayRef> = text.and_then(|text| {
        Some(match kind {
            DataType::Int32 => Arc::new(Int32Array::from_value(text.parse().ok()?, count)) as _,
            DataType::Date32 => {
                let date = text.parse::<NaiveDate>().ok()?;
                let days = date.signed_duration_since(NaiveDate::default()).num_days();
                Arc::new(Date32Array::from_value(i32::try_from(days).ok()?, count)) as _
            }
            _ => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, count))) as _,
        })
    });
    array.unwrap_or_else(|| new_null_array(kind, count))
}
