//! The record key: what its bytes say, and the window behind it.
//!
//! Sources: Kafka's `IntegerSerializer`, `LongSerializer` and `DoubleSerializer` (big-endian), Kafka
//! Streams' `TimeWindowedSerializer` (key, start), `SessionWindowedSerializer` (key, end, start) and
//! `WindowKeySchema` (key, start, sequence number), which ksqlDB uses for its tables. Times are
//! milliseconds since the epoch in eight bytes, the sequence number has four.

use super::columns::Columns;
use super::fault::{Fault, Outcome};
use super::json::Cursor;
use super::schemas::Schemas;
use super::tree::Tree;
use super::{connect, utf8};
use crate::config::{KeyFormat, Schema, Window, WindowColumns};
use crate::record::RejectClass;

pub(super) struct KeyReader {
    inner: Inner,
    window: Option<WindowColumns>,
}

enum Inner {
    Unread,
    Text,
    Int,
    Long,
    Double,
    Json { tree: Tree, bare: bool, form: Form, spelled: String },
}

/// How a key with fields is written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Json,
    Connect,
    Avro,
}

impl KeyReader {
    pub fn new(schema: &Schema) -> Self {
        let columns = &schema.columns[..schema.inner_key()];
        let inner = match schema.key_format {
            _ if columns.is_empty() => Inner::Unread,
            KeyFormat::None => Inner::Unread,
            KeyFormat::String => Inner::Text,
            KeyFormat::Int => Inner::Int,
            KeyFormat::Long => Inner::Long,
            KeyFormat::Double => Inner::Double,
            format @ (KeyFormat::Json | KeyFormat::Connect | KeyFormat::Avro) => Inner::Json {
                tree: Tree::new("the key", columns.iter().enumerate()),
                bare: columns.len() == 1,
                form: match format {
                    KeyFormat::Connect => Form::Connect,
                    KeyFormat::Avro => Form::Avro,
                    _ => Form::Json,
                },
                spelled: String::new(),
            },
        };
        Self { inner, window: schema.window }
    }

    /// The key less the window behind it; none if it is too short to have one.
    pub fn without_window<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let len = self.window.map_or(0, |window| window_len(window.kind));
        key.get(..key.len().checked_sub(len)?)
    }

    pub fn read(
        &mut self,
        key: Option<&[u8]>,
        schemas: &Schemas,
        columns: &mut Columns,
    ) -> Outcome<()> {
        if matches!(self.inner, Inner::Unread) && self.window.is_none() {
            return Ok(());
        }
        let Some(mut key) = key else {
            return Err(Fault::new(RejectClass::MissingField, "the record has no key"));
        };
        if let Some(window) = self.window {
            key = read_window(key, window, columns)?;
        }
        match &mut self.inner {
            Inner::Unread => Ok(()),
            Inner::Text => columns.read_text(0, utf8(key, "the key")?),
            Inner::Int => columns.read_long(0, i32::from_be_bytes(exactly(key, "an int")?).into()),
            Inner::Long => columns.read_long(0, i64::from_be_bytes(exactly(key, "a long")?)),
            Inner::Double => columns.read_double(0, f64::from_be_bytes(exactly(key, "a double")?)),
            Inner::Json { tree, bare, form, spelled } => {
                let text = match form {
                    Form::Json => utf8(key, "the key")?,
                    Form::Connect => {
                        connect::payload(utf8(key, "the key")?).map_err(Fault::in_key)?
                    }
                    Form::Avro => {
                        schemas.spell(key, "the key", spelled)?;
                        spelled
                    }
                };
                let mut cursor = Cursor::new(text);
                cursor.space();
                let read = match *bare && cursor.peek() != b'{' {
                    true => columns.read(0, &mut cursor),
                    false => tree.read(&mut cursor, columns),
                };
                read.and_then(|()| cursor.end()).map_err(Fault::in_key)
            }
        }
    }
}

fn exactly<const N: usize>(key: &[u8], what: &str) -> Outcome<[u8; N]> {
    key.try_into().map_err(|_| {
        let reason = format!("the key: {} bytes, where {what} has {N}", key.len());
        Fault::new(RejectClass::WrongType, reason)
    })
}

/// Bytes behind the key.
fn window_len(kind: Window) -> usize {
    match kind {
        Window::None => 0,
        Window::Time => 8,
        Window::Store => 12,
        Window::Session => 16,
    }
}

/// Reads the window behind the key into its columns; answers the key without it.
fn read_window<'k>(
    key: &'k [u8],
    window: WindowColumns,
    columns: &mut Columns,
) -> Outcome<&'k [u8]> {
    let len = window_len(window.kind);
    if len == 0 {
        return Ok(key);
    }
    let Some((inner, bounds)) = key.len().checked_sub(len).map(|at| key.split_at(at)) else {
        let reason = format!("the key: {} bytes, too few for the {len} of a window", key.len());
        return Err(Fault::new(RejectClass::WrongType, reason));
    };
    // Of those eight bytes there are enough.
    let millis =
        |at: usize| bounds[at..].first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
    let (start, end) = match window.kind {
        Window::Session => (millis(8), Some(millis(0))),
        _ => (millis(0), window.size_ms.map(|size| millis(0).saturating_add(size))),
    };
    if start < 0 || end.is_some_and(|end| end < start) {
        let reason =
            format!("the key: a window from {start} to {end:?}, expected times since 1970");
        return Err(Fault::new(RejectClass::OutOfRange, reason));
    }
    columns.read_long(window.start, start)?;
    if let Some(end) = end {
        columns.read_long(window.start + 1, end)?;
    }
    Ok(inner)
}
