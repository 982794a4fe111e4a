//! Avro values as Confluent's serializers write them: a zero byte, the schema's id in a registry (four
//! bytes, big-endian), then the value in Avro's binary encoding, which nothing but that schema can read.
//!
//! A value becomes JSON text, which is decoded like any other: so columns, nested types, the rest and
//! new fields mean the same for both. What JSON has no form for is spelled as the columns read it:
//! times in ISO 8601, bytes in base64, decimals with all their digits. This room is pure: schemas come
//! in as text, from whoever has asked the registry.
//!
//! Source: the Avro 1.12 specification. The library parses schemas; the bytes are read here, since it
//! would build a tree of every value first.

mod read;
mod schema;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use schema::AvroSchema;

/// What a registry has under an id: a schema to read with, or why there is none.
pub type Known = Result<Arc<AvroSchema>, Arc<str>>;

/// Bytes before the value.
const HEADER: usize = 5;

/// The schema's id and the value behind it, if the bytes begin as they must.
pub fn parts(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (header, value) = bytes.split_first_chunk::<HEADER>()?;
    let [0, id @ ..] = header else { return None };
    Some((u32::from_be_bytes(*id), value))
}
