//! Rows of one partition as the warehouse takes them. Pure.

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray,
};

use crate::config::WarehouseOptions;
use crate::record::{Batch, Hold, OffsetRange, Reject, TopicPartition};

/// Rows in the order of their offsets, and what each carries beside its columns.
pub(super) struct Rows {
    pub columns: RecordBatch,
    pub offsets: Int64Array,
    /// Milliseconds since the epoch.
    pub timestamps: Int64Array,
    pub deletes: Option<BooleanArray>,
    pub keys: Option<BinaryArray>,
    pub headers: Option<StringArray>,
    pub documents: Option<StringArray>,
}

impl Rows {
    fn slice(&self, from: usize, len: usize) -> Rows {
        Rows {
            columns: self.columns.slice(from, len),
            offsets: self.offsets.slice(from, len),
            timestamps: self.timestamps.slice(from, len),
            deletes: self.deletes.as_ref().map(|array| array.slice(from, len)),
            keys: self.keys.as_ref().map(|array| array.slice(from, len)),
            headers: self.headers.as_ref().map(|array| array.slice(from, len)),
            documents: self.documents.as_ref().map(|array| array.slice(from, len)),
        }
    }

    pub fn into_batch(
        self,
        source: TopicPartition,
        range: OffsetRange,
        rejects: Vec<Reject>,
    ) -> Batch {
        Batch {
            source,
            range,
            rows: self.columns,
            offsets: self.offsets,
            timestamps: self.timestamps,
            deletes: self.deletes,
            keys: self.keys,
            headers: self.headers,
            documents: self.documents,
            rejects: rejects.into(),
            payload_bytes: 0,
            hold: Hold::default(),
        }
    }
}

/// Cuts a range into transactions, each of no more rows and bytes than the feed allows.
pub(super) fn slices(
    range: OffsetRange,
    rows: Rows,
    rejects: Vec<Reject>,
    options: &WarehouseOptions,
) -> Vec<(OffsetRange, Rows, Vec<Reject>)> {
    let count = rows.offsets.len();
    let bytes = rows.columns.get_array_memory_size()
        + rows.documents.as_ref().map_or(0, |array| array.get_array_memory_size());
    let by_bytes = options.max_bytes.bytes().max(1).saturating_mul(count) / bytes.max(1);
    let each = options.max_records.min(by_bytes).max(1);
    let mut rejects = rejects.into_iter().peekable();
    let mut slices = Vec::new();
    let (mut from, mut start) = (0, range.start);
    loop {
        let len = each.min(count - from);
        let last = from + len == count;
        let end = if last { range.end } else { rows.offsets.value(from + len) };
        let own = std::iter::from_fn(|| rejects.next_if(|reject| reject.offset < end)).collect();
        slices.push((OffsetRange::new(start, end), rows.slice(from, len), own));
        if last {
            return slices;
        }
        (from, start) = (from + len, end);
    }
}

/// Columns under one schema, however many rows they have.
pub(super) fn batch_of(
    schema: arrow::datatypes::SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, String> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::record::RejectClass;

    #[test]
    fn a_range_is_cut_into_transactions_without_a_seam() {
        let offsets = Int64Array::from(vec![10, 11, 15, 16, 20]);
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let columns = batch_of(schema, vec![Arc::new(offsets.clone())], 5).unwrap();
        let rows = Rows {
            columns,
            timestamps: offsets.clone(),
            offsets,
            deletes: None,
            keys: None,
            headers: None,
            documents: None,
        };
        let reject = |offset| Reject {
            offset,
            timestamp_ms: -1,
            key: None,
            value: None,
            headers: vec![],
            class: RejectClass::Malformed,
            reason: String::new(),
        };
        let options = WarehouseOptions { max_records: 2, ..Default::default() };
        let rejects = vec![reject(9), reject(14), reject(25)];
        let slices = slices(OffsetRange::new(8, 30), rows, rejects, &options);
        let shown: Vec<_> = slices
            .iter()
            .map(|(range, rows, rejects)| {
                let rejects: Vec<i64> = rejects.iter().map(|reject| reject.offset).collect();
                (range.start, range.end, rows.offsets.values().to_vec(), rejects)
            })
            .collect();
        assert_eq!(
            shown,
            [
                (8, 15, vec![10, 11], vec![9, 14]),
                (15, 20, vec![15, 16], vec![]),
                (20, 30, vec![20], vec![25])
            ]
        );
    }
}
