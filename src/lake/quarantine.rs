//! The lake's quarantine: a table per feed with progress of its own, committed before the data.
//!
//! Delta has no commit over two tables. So the rejects of a range become durable first; if the data's
//! commit then fails, the range is read again and its rejects, already below the quarantine's
//! progress, are not written twice.

use std::sync::Arc;

use arrow::array::Int32Array;
use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::columns::{constant_text, timestamp};
use super::encode::{Encoded, constant, encode_file, micros};
use crate::layout::Slot;
use crate::record::{Reject, TopicPartition};

pub fn quarantine_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("_topic", constant_text(), true),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("_timestamp", timestamp(), true),
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("headers", DataType::Utf8, true),
        Field::new("class", DataType::Utf8, true),
        Field::new("reason", DataType::Utf8, true),
        Field::new("kept_at", timestamp(), true),
    ]))
}

/// One file of rejects, in the partition of the day they were put there: milliseconds since the epoch.
pub fn encode_rejects(
    kept_ms: i64,
    rejects: &[(TopicPartition, &[Reject])],
) -> Result<Encoded, ArrowError> {
    let schema = quarantine_schema();
    let batches = rejects.iter().map(|(source, rejects)| rows(&schema, source, rejects, kept_ms));
    encode_file(Slot::day_of_millis(kept_ms), &schema, batches, 3)
}

fn rows(
    schema: &SchemaRef,
    source: &TopicPartition,
    rejects: &[Reject],
    kept_ms: i64,
) -> Result<RecordBatch, ArrowError> {
    let timestamps: Int64Array = rejects
        .iter()
        .map(|reject| (reject.timestamp_ms >= 0).then_some(reject.timestamp_ms))
        .collect();
    let headers = rejects.iter().map(|reject| Some(reject.headers_json()));
    let columns: Vec<ArrayRef> = vec![
        constant(&source.topic, rejects.len())?,
        Arc::new(Int32Array::from_value(source.partition, rejects.len())),
        Arc::new(Int64Array::from_iter_values(rejects.iter().map(|reject| reject.offset))),
        Arc::new(micros(&timestamps)),
        Arc::new(rejects.iter().map(|reject| reject.key.as_deref()).collect::<BinaryArray>()),
        Arc::new(rejects.iter().map(|reject| reject.value.as_deref()).collect::<BinaryArray>()),
        Arc::new(headers.collect::<StringArray>()),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| reject.class.name()))),
        Arc::new(StringArray::from_iter_values(rejects.iter().map(|reject| &reject.reason))),
        Arc::new(micros(&Int64Array::from_value(kept_ms, rejects.len()))),
    ];
    RecordBatch::try_new(schema.clone(), columns)
}
