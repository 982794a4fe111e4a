//! The schemas that Avro records were written with, as far as they were handed in.

use std::collections::{BTreeSet, HashMap};

use super::fault::{Fault, Outcome};
use super::fields::NewFields;
use crate::avro::{Known, parts};
use crate::config::{Nesting, overlaps};
use crate::record::RejectClass;

#[derive(Default)]
pub(super) struct Schemas {
    known: HashMap<u32, Known>,
    /// The values' own, of the last batch.
    met: BTreeSet<u32>,
    /// Bytes of JSON that the values of this batch may still become.
    left: usize,
}

/// What the values of a batch may become as JSON: so much, and so often their own bytes. Few bytes of a
/// hostile record become many, and the memory budget knows the bytes alone.
const MOST_TEXT: usize = 64 << 20;
const MOST_TIMES: usize = 16;

impl Schemas {
    /// The id before a key or value, where its schema is still to be asked for.
    pub fn unknown(&self, bytes: &[u8]) -> Option<u32> {
        let (id, _) = parts(bytes)?;
        (!self.known.contains_key(&id)).then_some(id)
    }

    pub fn learn(&mut self, id: u32, known: Known) {
        self.known.insert(id, known);
    }

    /// Forgets what could not be read with: whoever asks again may hear otherwise.
    pub fn forget_missing(&mut self) {
        self.known.retain(|_, known| known.is_ok());
    }

    /// A batch of so many bytes comes.
    pub fn begin(&mut self, bytes: usize) {
        self.met.clear();
        self.left = MOST_TEXT + bytes.saturating_mul(MOST_TIMES);
    }

    /// Spells a value as JSON into `out`, which is emptied first.
    pub fn spell_value(&mut self, bytes: &[u8], out: &mut String) -> Outcome<()> {
        if let Some((id, _)) = parts(bytes) {
            self.met.insert(id);
        }
        self.spell(bytes, "the value", out)?;
        match self.left.checked_sub(out.len()) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Fault::new(
                RejectClass::OutOfRange,
                format!(
                    "the value is {} bytes as JSON, too many beside those before it",
                    out.len()
                ),
            )),
        }
    }

    pub fn spell(&self, bytes: &[u8], what: &str, out: &mut String) -> Outcome<()> {
        out.clear();
        let Some((id, datum)) = parts(bytes) else {
            let reason = format!(
                "{what}: {} bytes that do not begin with a zero and a schema's id",
                bytes.len()
            );
            return Err(Fault::malformed(reason));
        };
        let schema = match self.known.get(&id) {
            Some(Ok(schema)) => schema,
            Some(Err(reason)) => {
                return Err(Fault::new(RejectClass::NoSchema, format!("{what}: {reason}")));
            }
            None => {
                let reason = format!("{what}: schema {id} was not asked for");
                return Err(Fault::new(RejectClass::NoSchema, reason));
            }
        };
        schema.spell(datum, out).map_err(|reason| {
            Fault::malformed(format!("{what}, which is not as its schema {id} says: {reason}"))
        })
    }

    /// Gives new fields the types that their schemas say, the newest first: what a value looks like as
    /// JSON says less.
    pub fn type_fields(&self, new: &mut NewFields, nesting: Nesting) {
        for id in self.met.iter().rev() {
            let Some(Ok(schema)) = self.known.get(id) else { continue };
            let columns = schema.columns(nesting).unwrap_or_default();
            for field in new.fields.iter_mut().filter(|field| !field.from_schema) {
                let own = columns.iter().filter(|(path, _)| overlaps(path, &field.path));
                let own: Vec<_> = own.cloned().collect();
                if !own.is_empty() {
                    (field.columns, field.from_schema) = (own, true);
                }
            }
        }
    }
}
