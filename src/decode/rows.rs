//! What a row carries beside its columns: offset, time, operation, key bytes, headers.

use arrow::array::{BinaryBuilder, BooleanArray, Int64Array, Int64Builder, StringBuilder};

use crate::record::{Batch, RawRecord, headers_json};

pub(super) struct Rows {
    offsets: Vec<i64>,
    timestamps: Int64Builder,
    deletes: Option<Vec<bool>>,
    keys: Option<BinaryBuilder>,
    headers: Option<StringBuilder>,
    documents: Option<StringBuilder>,
}

impl Rows {
    pub fn new(records: usize, table: bool, keep_key: bool, keep_headers: bool) -> Self {
        Self {
            offsets: Vec::with_capacity(records),
            timestamps: Int64Builder::with_capacity(records),
            deletes: table.then(|| Vec::with_capacity(records)),
            keys: keep_key.then(|| BinaryBuilder::with_capacity(records, records * 16)),
            headers: keep_headers.then(|| StringBuilder::with_capacity(records, records * 2)),
            documents: None,
        }
    }

    /// Makes ready for the values whole, about so many bytes of them.
    pub fn keep_documents(&mut self, records: usize, bytes: usize) {
        self.documents = Some(StringBuilder::with_capacity(records, bytes));
    }

    /// The document of the row that was pushed last, if rows have any.
    pub fn push_document(&mut self, document: Option<&str>) {
        if let Some(documents) = &mut self.documents {
            documents.append_option(document);
        }
    }

    #[inline]
    pub fn push(&mut self, record: &RawRecord<'_>, delete: bool) {
        self.offsets.push(record.offset);
        self.timestamps.append_option((record.timestamp_ms != -1).then_some(record.timestamp_ms));
        if let Some(deletes) = &mut self.deletes {
            deletes.push(delete);
        }
        if let Some(keys) = &mut self.keys {
            keys.append_option(record.key);
        }
        if let Some(headers) = &mut self.headers {
            headers.append_value(headers_json(record.headers));
        }
    }

    pub fn finish_into(mut self, batch: &mut Batch) {
        batch.offsets = Int64Array::from(self.offsets);
        batch.timestamps = self.timestamps.finish();
        batch.deletes = self.deletes.map(BooleanArray::from);
        batch.keys = self.keys.map(|mut keys| keys.finish());
        batch.headers = self.headers.map(|mut headers| headers.finish());
        batch.documents = self.documents.map(|mut documents| documents.finish());
    }
}
