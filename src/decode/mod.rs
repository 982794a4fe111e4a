//! Bytes to columns: a Kafka record's key and value become a row, or a reject that says why not.
//!
//! This room is the hot loop. It is pure: no clock, no I/O, no runtime; what may enter it is a
//! schema, raw bytes, and nothing else. One bad record never spoils its neighbours, and none
//! vanishes: rows and rejects together are the records of the range, each in offset order.
//!
//! | column | accepts | else |
//! |---|---|---|
//! | `string` | a string | `WrongType` |
//! | `int`, `long` | a number without point or exponent | `OutOfRange` beyond 32 or 64 bits; `1.0` is `WrongType` |
//! | `double` | a number | `OutOfRange` if it overflows to infinity |
//! | `boolean` | `true`, `false` | `WrongType` |
//! | `decimal(P,S)` | a number, or a string holding one; exact, exponents too | `OutOfRange` beyond P digits, or with more than S that count after the point |
//! | `timestamp` | a string `YYYY-MM-DD` `T` or space `HH:MM[:SS[.fraction]]` and nothing (UTC), `Z` or an offset, or the date alone (midnight, UTC); an integer counts since 1970 in milliseconds, or in what the column's `epoch` says | `OutOfRange` outside the years 0001 to 9999 and for days no calendar has |
//! | `date` | a string `YYYY-MM-DD`; an integer is epoch days | the same |
//! | `bytes` | a string that is base64; the whole of a key or value that is not JSON, as it stands | `WrongType` |
//! | `number` | a number; its text is kept as it stands | `WrongType` |
//! | `json` | anything; its text is kept as it stands | |
//! | `struct<…>` | an object; its fields as above, each null where it is absent or null | as its fields |
//! | `array<…>`, `map<string,…>` | an array; an object | as what is in it; a name twice in a map: `DuplicateField` |
//!
//! * `null` and a missing field are null, or `MissingField` where the column is required. Key
//!   columns always are.
//! * With `rest` a last column holds what no column takes: `{"path":value, …}`, each value as it
//!   stands; inside arrays a path has the index, as in `items[2].note`.
//! * A value that is not what its column's `check` says: `CheckFailed`, or a warning. Null passes.
//! * A declared field that stands twice in one object: `DuplicateField`. Where a path goes through
//!   something that is not an object: `WrongType`; through `null`: null.
//! * Not JSON, more after the object, deeper than 128 levels, empty: `Malformed`. A message that is
//!   JSON but no object, the word `null` included: `WrongType`. Bytes that are not UTF-8, and in a
//!   string column an escape that is half a surrogate pair: `Encoding`.
//! * A key of format `string` is the one key column's text, and numbers and `true` count there
//!   without quotes. A key of format `json` is an object, read by path, or with one key column the
//!   bare value. Keys of other formats, and the windows behind them: [`key`].
//! * Avro is spelled as JSON by the schema it was written with ([`crate::avro`]) and then read as
//!   above: times as ISO 8601, decimals with all their digits, bytes as base64. Bytes that are not as
//!   the schema says: `Malformed`; no schema to read with: `NoSchema`. Schemas are handed in: see
//!   [`Decoder::unknown_schemas`].
//! * In Connect's envelope (`connect`) the payload is read; a payload that is null is a value that is.
//! * A table's record without a value is a delete: its row has the key columns alone. In a stream
//!   it is `Malformed`.
//! * A kept document is the value's text (in an envelope the payload's), null for a delete.
//! * Kept headers are a JSON array of [name, base64 or null]; `[]` where there are none.

mod checks;
mod column;
mod columns;
mod connect;
mod escape;
mod fault;
mod fields;
mod infer;
mod json;
mod key;
mod nested;
mod number;
mod rows;
mod schemas;
#[cfg(test)]
mod tests;
mod time;
mod tree;
mod wider;

pub use checks::Warned;
pub use fields::{NewField, NewFields};
pub use infer::{Inference, infer, infer_avro};

/// What a value in Kafka Connect's envelope carries, if it is one.
pub fn connect_payload(value: &[u8]) -> Option<&[u8]> {
    connect::payload(std::str::from_utf8(value).ok()?).ok().map(str::as_bytes)
}

use std::collections::{BTreeSet, HashMap};

use arrow::array::{BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;

use self::checks::Checks;
use self::column::Slot;
use self::columns::Columns;
use self::fault::{Fault, Outcome};
use self::fields::Noticed;
use self::json::Cursor;
use self::key::KeyReader;
use self::rows::Rows;
use self::schemas::Schemas;
use self::tree::Tree;
use crate::avro::Known;
use crate::config::{Column, Feed, FeedKind, KeyFormat, Nesting, Schema, ValueFormat};
use crate::record::{Batch, Hold, OffsetRange, RawBatch, RawRecord, Reject, RejectClass};

/// Decodes the batches of one feed, one after the other; it learns their field order and size.
pub struct Decoder {
    schema: SchemaRef,
    key: KeyReader,
    from_key: usize,
    value: ValueReader,
    columns: Columns,
    checks: Checks,
    warned: Vec<Warned>,
    table: bool,
    keep_key: bool,
    keep_headers: bool,
    documents: bool,
    schemas: Schemas,
    /// The last value as JSON, where it is Avro.
    spelled: String,
    nesting: Nesting,
    /// Whether the keys, and the values, are Avro.
    avro: (bool, bool),
}

enum ValueReader {
    Json(Tree),
    Connect(Tree),
    Avro(Tree),
    /// The whole value is the column of this number.
    Text(usize),
    Bytes(usize),
}

impl Decoder {
    /// `table`: the feed is a keyed changelog, whose null value is a delete.
    pub fn new(schema: &Schema, table: bool, keep_key: bool, keep_headers: bool) -> Self {
        let from_key = schema.from_key();
        let widens = schema.evolve.is_some_and(|evolve| evolve.widen);
        let slot = |(number, column): (usize, &Column)| {
            let is_key = number < from_key;
            let left_out = || schema.left_out.iter().any(|path| path == column.path());
            let slot = Slot::new(column, is_key, schema.rest);
            if widens && !is_key && !left_out() { slot.widening() } else { slot }
        };
        let fields = schema.columns.len() - usize::from(schema.rest);
        let tree =
            || Tree::new("the value", schema.columns[..fields].iter().enumerate().skip(from_key));
        let value = match schema.value_format {
            ValueFormat::Json => ValueReader::Json(tree()),
            ValueFormat::Connect => ValueReader::Connect(tree()),
            ValueFormat::Avro => ValueReader::Avro(tree()),
            ValueFormat::String => ValueReader::Text(from_key),
            ValueFormat::Bytes => ValueReader::Bytes(from_key),
        };
        let slots = schema.columns.iter().enumerate().map(slot).collect();
        let mut columns = Columns::new(slots, schema.rest.then_some(fields));
        if let Some(evolve) = schema.evolve {
            columns.notice(Noticed::new(evolve.nesting, &schema.left_out));
        }
        Self {
            schema: schema.arrow(),
            key: KeyReader::new(schema),
            from_key,
            value,
            columns,
            checks: Checks::new(&schema.columns),
            warned: Vec::new(),
            table: table && schema.key_columns > 0,
            keep_key,
            keep_headers,
            documents: false,
            schemas: Schemas::default(),
            spelled: String::new(),
            nesting: schema.evolve.map(|evolve| evolve.nesting).unwrap_or_default(),
            avro: (
                schema.key_format == KeyFormat::Avro && schema.inner_key() > 0,
                schema.value_format == ValueFormat::Avro,
            ),
        }
    }

    /// For a feed's records, with all that its sinks take.
    pub fn of(feed: &Feed) -> Self {
        let lake = feed.lake.as_ref();
        let table = feed.kind == FeedKind::Table;
        let keep_key = lake.is_some_and(|lake| lake.keep_key);
        let keep_headers = lake.is_some_and(|lake| lake.keep_headers);
        Self::new(&feed.schema, table, keep_key, keep_headers).keep_documents(feed.is_document())
    }

    /// Ids of the schemas that the records of `raw` at or after `from` were written with, as far as
    /// [`Decoder::learn`] has not brought them: to be asked for before the batch is decoded.
    pub fn unknown_schemas(&self, raw: &RawBatch, from: i64) -> BTreeSet<u32> {
        let (keys, values) = self.avro;
        let mut unknown = BTreeSet::new();
        if keys || values {
            for record in raw.iter_from(from.clamp(raw.range.start, raw.range.end)) {
                let key = record.key.filter(|_| keys).and_then(|key| self.key.without_window(key));
                let value = record.value.filter(|_| values);
                let both = [key, value].into_iter().flatten();
                unknown.extend(both.filter_map(|bytes| self.schemas.unknown(bytes)));
            }
        }
        unknown
    }

    /// Takes in what a registry has under an id. What is no schema counts for the next batch alone.
    pub fn learn(&mut self, id: u32, known: Known) {
        self.schemas.learn(id, known);
    }

    /// Keeps each value whole beside its columns, too.
    pub fn keep_documents(mut self, documents: bool) -> Self {
        self.documents = documents;
        self
    }

    /// Fields that the last batch had and no column takes, and columns whose values were of a wider type,
    /// where the schema evolves: what was decoded lacks them.
    pub fn new_fields(&mut self) -> Option<NewFields> {
        let mut new = self.columns.new_fields()?;
        self.schemas.type_fields(&mut new, self.nesting);
        Some(new)
    }

    /// Decodes the records of `raw` at or after the offset `from`.
    pub fn decode(&mut self, raw: &RawBatch, from: i64) -> Batch {
        let batch = self.read(raw, from, &HashMap::new());
        let (failed, warned) = self.checks.failed(&batch);
        self.warned.extend(warned);
        let batch = if failed.is_empty() { batch } else { self.read(raw, from, &failed) };
        self.schemas.forget_missing();
        batch
    }

    /// What failed a check and was let through since this was asked last.
    pub fn take_warned(&mut self) -> Vec<Warned> {
        std::mem::take(&mut self.warned)
    }

    /// Reads the records into rows and rejects; those whose values `failed` a check are rejects.
    fn read(&mut self, raw: &RawBatch, from: i64, failed: &HashMap<i64, String>) -> Batch {
        let start = from.clamp(raw.range.start, raw.range.end);
        let mut rows = Rows::new(raw.len(), self.table, self.keep_key, self.keep_headers);
        if self.documents {
            rows.keep_documents(raw.len(), raw.payload_bytes());
        }
        let mut rejects = Vec::new();
        let mut payload_bytes = 0;
        let mut bad = Vec::new();
        self.columns.begin(raw.len(), raw.payload_bytes());
        self.schemas.begin(raw.payload_bytes());
        for (index, record) in raw.iter_from(start).enumerate() {
            payload_bytes += record.key.map_or(0, <[u8]>::len);
            payload_bytes += record.value.map_or(0, <[u8]>::len);
            let read = match failed.get(&record.offset) {
                Some(reason) => Err(Fault::new(RejectClass::CheckFailed, reason.as_str())),
                None => self.record(&record),
            };
            match read {
                Ok(delete) => {
                    rows.push(&record, delete);
                    if self.documents {
                        rows.push_document(self.document(&record).filter(|_| !delete));
                    }
                }
                Err(fault) => {
                    // Avro was read to its end before it was spelled.
                    let (avro, value) = (self.avro.1, record.value.unwrap_or_default());
                    self.columns.end_failed(|| avro || is_json(value));
                    self.columns.pad_row();
                    bad.push(index);
                    rejects.push(Reject::of(record, fault.class, fault.reason));
                }
            }
        }
        let mut batch = Batch {
            source: raw.source.clone(),
            range: OffsetRange::new(start, raw.range.end),
            rows: self.finish(&bad),
            offsets: Int64Array::from(Vec::<i64>::new()),
            timestamps: Int64Array::from(Vec::<i64>::new()),
            deletes: None,
            keys: None,
            headers: None,
            documents: None,
            hold: Hold::default(),
            rejects: rejects.into(),
            payload_bytes,
        };
        rows.finish_into(&mut batch);
        batch
    }

    /// Appends one row; whether it is a delete. On a fault the row may be left incomplete.
    fn record(&mut self, record: &RawRecord<'_>) -> Outcome<bool> {
        self.key.read(record.key, &self.schemas, &mut self.columns)?;
        match record.value {
            Some(value) if self.value(value)? => {
                self.columns.end_row()?;
                Ok(false)
            }
            _ if self.table => {
                self.columns.end_tombstone(self.from_key)?;
                Ok(true)
            }
            _ => Err(Fault::malformed("the value is null")),
        }
    }

    /// Reads a value into its columns; whether it is one: an envelope may hold null.
    fn value(&mut self, value: &[u8]) -> Outcome<bool> {
        let enveloped = matches!(self.value, ValueReader::Connect(_));
        let (tree, text) = match &mut self.value {
            ValueReader::Bytes(column) => {
                self.columns.read_bytes(*column, value)?;
                return Ok(true);
            }
            ValueReader::Text(column) => {
                self.columns.read_text(*column, utf8(value, "the value")?)?;
                return Ok(true);
            }
            ValueReader::Json(tree) => (tree, utf8(value, "the value")?),
            ValueReader::Connect(tree) => (tree, connect::payload(utf8(value, "the value")?)?),
            ValueReader::Avro(tree) => {
                self.schemas.spell_value(value, &mut self.spelled)?;
                (tree, self.spelled.as_str())
            }
        };
        let mut cursor = Cursor::new(text);
        cursor.space();
        if enveloped && cursor.eat_all(b"null") {
            return Ok(false);
        }
        tree.read(&mut cursor, &mut self.columns)?;
        cursor.end()?;
        Ok(true)
    }

    /// The value of a record that has been read, whole.
    fn document<'r>(&'r self, record: &RawRecord<'r>) -> Option<&'r str> {
        if let ValueReader::Avro(_) = self.value {
            return Some(&self.spelled);
        }
        let text = std::str::from_utf8(record.value?).ok()?;
        match &self.value {
            ValueReader::Connect(_) => connect::payload(text).ok().map(str::trim),
            _ => Some(text.trim()),
        }
    }

    /// The rows, without those of the bad records.
    fn finish(&mut self, bad: &[usize]) -> RecordBatch {
        let columns = self.columns.finish();
        let count = self.columns.rows();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .expect("every column has the schema's type and one value per record");
        if bad.is_empty() {
            return rows;
        }
        let mut good = vec![true; count];
        bad.iter().for_each(|index| good[*index] = false);
        filter_record_batch(&rows, &BooleanArray::from(good)).expect("one flag per row")
    }
}

#[inline]
fn utf8<'a>(bytes: &'a [u8], what: &str) -> Outcome<&'a str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let reason = format!("{what}: byte {} is not UTF-8", error.valid_up_to());
        Fault::new(RejectClass::Encoding, reason)
    })
}

fn is_json(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut cursor = Cursor::new(text);
    cursor.skip().and_then(|()| cursor.end()).is_ok()
}
