//! Values that are not shown as they are.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{Mask, Part};
use crate::config::{ColumnType, covers};

/// What an installation's hashes begin with, so that nobody else's tables tell their values.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt(Arc<[u8]>);

impl Salt {
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn hash(&self, text: &str) -> String {
        let digest = Sha256::new().chain_update(&self.0).chain_update(text).finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The values under a mask: of their own type, or text where the column is shown as text.
pub(super) fn masked(
    values: &ArrayRef,
    kind: ColumnType,
    mask: Mask,
    text: bool,
    salt: &Salt,
) -> Result<ArrayRef, ArrowError> {
    let out = if text { DataType::Utf8 } else { kind.arrow() };
    match mask {
        Mask::Hash | Mask::Last4 if mask.fits(kind) => {
            let texts = as_text(values, kind)?;
            let texts = texts.as_string::<i32>().iter();
            let show = |value: &str| match mask {
                Mask::Hash => salt.hash(value),
                _ => last4(value),
            };
            let shown: StringArray = texts.map(|value| value.map(show)).collect();
            Ok(Arc::new(shown))
        }
        Mask::Month | Mask::Year if mask.fits(kind) => generalised(values, kind, mask),
        _ => Ok(new_null_array(&out, values.len())),
    }
}

fn last4(text: &str) -> String {
    let count = text.chars().count();
    let shown: String = text.chars().skip(if count > 4 { count - 4 } else { count }).collect();
    format!("****{shown}")
}

fn first_day(day: NaiveDate, mask: Mask) -> Option<NaiveDate> {
    let month = if mask == Mask::Year { 1 } else { day.month() };
    NaiveDate::from_ymd_opt(day.year(), month, 1)
}

fn generalised(values: &ArrayRef, kind: ColumnType, mask: Mask) -> Result<ArrayRef, ArrowError> {
    if kind == ColumnType::Date {
        let days = values.as_primitive::<Date32Type>().iter().map(|day| {
            let day = NaiveDate::default() + chrono::TimeDelta::days(day?.into());
            Some((first_day(day, mask)? - NaiveDate::default()).num_days() as i32)
        });
        return Ok(Arc::new(days.collect::<Date32Array>()));
    }
    let instants = values.as_primitive::<TimestampMicrosecondType>().iter().map(|micros| {
        let day = DateTime::from_timestamp_micros(micros?)?.date_naive();
        Some(first_day(day, mask)?.and_time(NaiveTime::MIN).and_utc().timestamp_micros())
    });
    Ok(Arc::new(instants.collect::<TimestampMicrosecondArray>().with_timezone("UTC")))
}

/// Values as text, each spelled in one way: what a hash is of.
pub(super) fn as_text(values: &ArrayRef, kind: ColumnType) -> Result<ArrayRef, ArrowError> {
    if let ColumnType::Nested(_) = kind {
        let mut texts = Vec::with_capacity(values.len());
        for row in 0..values.len() {
            let mut text = Vec::new();
            texts.push(match values.is_valid(row) {
                true => {
                    crate::json::write(&mut text, kind, values, row)?;
                    String::from_utf8(text).ok()
                }
                false => None,
            });
        }
        return Ok(Arc::new(StringArray::from(texts)));
    }
    cast(values, &DataType::Utf8)
}

/// JSON values with masks of fields inside them. What is not JSON is hidden whole.
pub(super) fn inside(
    values: &ArrayRef,
    kind: ColumnType,
    masks: &[(String, Mask)],
    part: Part,
    salt: &Salt,
) -> Result<ArrayRef, ArrowError> {
    let inner = Inner { masks, salt, by_paths: part == Part::Rest };
    match kind {
        ColumnType::Json | ColumnType::Nested(_) => {}
        // Nothing is inside it.
        _ => return Ok(values.clone()),
    }
    let texts = as_text(values, kind)?;
    let texts = texts.as_string::<i32>().iter();
    let shown: StringArray = texts.map(|text| inner.document(text?)).collect();
    Ok(Arc::new(shown))
}

struct Inner<'a> {
    masks: &'a [(String, Mask)],
    salt: &'a Salt,
    /// The names of the outermost members are paths.
    by_paths: bool,
}

impl Inner<'_> {
    fn document(&self, text: &str) -> Option<String> {
        let value: &RawValue = serde_json::from_str(text).ok()?;
        let mut out = String::with_capacity(text.len());
        self.value(value, "", &mut out)?;
        Some(out)
    }

    fn value(&self, value: &RawValue, path: &str, out: &mut String) -> Option<()> {
        let text = value.get();
        match text.as_bytes().first() {
            Some(b'{') => {
                let Members(members) = serde_json::from_str(text).ok()?;
                out.push('{');
                for (index, (name, member)) in members.into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(&serde_json::to_string(&name).ok()?);
                    out.push(':');
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    // A name in the rest is a path, whose indices mean items and not names.
                    let as_path = without_indices(&path);
                    let masks_it = |path: &str| self.masks.iter().any(|(it, _)| covers(it, path));
                    let path = match self.by_paths && !masks_it(&path) {
                        true => as_path,
                        false => path,
                    };
                    self.member(member, &path, out)?;
                }
                out.push('}');
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                out.push('[');
                for (index, item) in items.into_iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    self.value(item, path, out)?;
                }
                out.push(']');
            }
            _ => out.push_str(text),
        }
        Some(())
    }

    fn member(&self, value: &RawValue, path: &str, out: &mut String) -> Option<()> {
        let hit = self.masks.iter().filter(|(masked, _)| covers(masked, path));
        match hit.map(|(_, mask)| *mask).max() {
            Some(mask) => out.push_str(&self.scalar(value, mask)),
            None if self.masks.iter().any(|(masked, _)| covers(path, masked)) => {
                self.value(value, path, out)?;
            }
            None => out.push_str(value.get()),
        }
        Some(())
    }

    /// A value under a mask, as JSON.
    fn scalar(&self, value: &RawValue, mask: Mask) -> String {
        let text = value.get();
        let plain = match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(text).ok(),
            Some(b'-' | b'0'..=b'9') => Some(text.to_owned()),
            _ => None,
        };
        let shown = plain.and_then(|plain| match mask {
            Mask::Null => None,
            Mask::Hash => Some(self.salt.hash(&plain)),
            Mask::Last4 => Some(last4(&plain)),
            Mask::Month | Mask::Year => {
                let day: NaiveDate = plain.get(..10)?.parse().ok()?;
                first_day(day, mask).map(|day| day.to_string())
            }
        });
        shown.map_or_else(|| "null".to_owned(), |shown| serde_json::Value::from(shown).to_string())
    }
}

/// `items[2].note` is the field `items.note`; other brackets are part of a name.
fn without_indices(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('[') {
        let inside = &rest[at + 1..];
        let digits = inside.bytes().take_while(u8::is_ascii_digit).count();
        let is_index = digits > 0 && inside[digits..].starts_with(']');
        out.push_str(&rest[..at + usize::from(!is_index)]);
        rest = if is_index { &inside[digits + 1..] } else { inside };
    }
    out + rest
}

/// An object's members in their order, one that stands twice twice.
struct Members<'j>(Vec<(String, &'j RawValue)>);

impl<'j> serde::Deserialize<'j> for Members<'j> {
    fn deserialize<D: Deserializer<'j>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'j> Visitor<'j> for Each {
            type Value = Members<'j>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Members<'j>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}
