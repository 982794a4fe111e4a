//! The lake's quarantine: a table per feed with progress of its own, committed before the data.
//!
//! Delta has no commit over two tables. So the rejects of a range become durable first; if the data's
//! commit then fails, the range is read again and its rejects, already below the quarantine's
//! progress, are not written twice.

use std::sync::Arc;

use arrow::array::Int32Array;
use arrow::array::{Array, ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::is_not_null;
use arrow::compute::kernels::zip::zip;
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

/// The same rows, those that do not say when they were kept as of this moment: milliseconds since the epoch.
pub fn kept_at(batch: RecordBatch, added_ms: i64) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let at = schema.index_of("kept_at")?;
    let known = batch.column(at);
    if known.null_count() == 0 {
        return Ok(batch);
    }
    let added = micros(&Int64Array::from_value(added_ms, batch.num_rows()));
    let filled = zip(&is_not_null(known)?, known, &added)?;
    let mut columns = batch.columns().to_vec();
    columns[at] = filled;
    RecordBatch::try_new(schema, columns)
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::TimestampMicrosecondType;

    #[test]
    fn what_does_not_say_when_it_was_kept_is_of_its_file() {
        let fields =
            vec![Field::new("n", DataType::Int32, true), Field::new("kept_at", timestamp(), true)];
        let times = Int64Array::from(vec![Some(1), None, Some(3)]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int32Array::from(vec![1, 2, 3])), Arc::new(micros(&times))];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let told = kept_at(batch, 9).unwrap();
        let times = told.column(1).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(times.values(), &[1000, 9000, 3000]);
        assert_eq!(times.null_count(), 0);
    }
}
