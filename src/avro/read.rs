//! Binary values spelled as JSON.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, SecondsFormat};
use uuid::Uuid;

use super::schema::{AvroSchema, Id, Node};

/// Deepest value, as in JSON.
const MAX_DEPTH: usize = 128;
/// Longest text that a value may become, and twice its bytes more: names are short in bytes.
const MAX_TEXT: usize = 64 << 20;
/// Items without any bytes of their own, such as nulls: a count alone must not fill the memory.
const MAX_EMPTY_ITEMS: i64 = 1 << 12;

type Read<T> = Result<T, String>;

impl AvroSchema {
    /// Appends the value as JSON text; `bytes` must be it, and nothing more.
    pub fn spell(&self, bytes: &[u8], out: &mut String) -> Result<(), String> {
        let most = out.len() + MAX_TEXT + 2 * bytes.len();
        let mut reader = Reader { nodes: &self.nodes, bytes, whole: bytes.len(), empty: 0, most };
        reader.value(0, out, 0)?;
        match reader.bytes.len() {
            0 => Ok(()),
            left => Err(format!("{left} bytes behind the value")),
        }
    }
}

struct Reader<'a> {
    nodes: &'a [Node],
    bytes: &'a [u8],
    whole: usize,
    /// Items so far that have no bytes.
    empty: i64,
    /// Length that the text may have.
    most: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, id: Id, out: &mut String, depth: usize) -> Read<()> {
        if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        if out.len() > self.most {
            return Err(self.wrong(format!("more than {MAX_TEXT} bytes as JSON")));
        }
        match &self.nodes[id] {
            Node::Null => out.push_str("null"),
            Node::Boolean => match self.take(1)? {
                [0] => out.push_str("false"),
                [1] => out.push_str("true"),
                other => return Err(self.wrong(format!("a boolean of {other:?}"))),
            },
            Node::Int => {
                let number = self.long()?;
                if i32::try_from(number).is_err() {
                    return Err(self.wrong(format!("an int of {number}")));
                }
                let _ = write!(out, "{number}");
            }
            Node::Long => {
                let _ = write!(out, "{}", self.long()?);
            }
            Node::Float => real(f32::from_le_bytes(self.array()?).into(), out)?,
            Node::Double => real(f64::from_le_bytes(self.array()?), out)?,
            Node::Bytes => {
                let bytes = self.sized()?;
                base64(bytes, out);
            }
            Node::Fixed(size) => base64(self.take(*size)?, out),
            Node::Uuid => _ = write!(out, "\"{}\"", Uuid::from_bytes(self.array()?)),
            Node::String => {
                let text = self.text()?;
                text_as_json(text, out);
            }
            Node::Enum(symbols) => {
                let index = self.long()?;
                let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
                out.push_str(symbol.ok_or_else(|| self.wrong(format!("a symbol {index}")))?);
            }
            Node::Record(fields) => {
                for (index, field) in fields.iter().enumerate() {
                    out.push(if index == 0 { '{' } else { ',' });
                    out.push_str(&field.quoted);
                    out.push(':');
                    self.value(field.value, out, depth + 1)?;
                }
                out.push_str(if fields.is_empty() { "{}" } else { "}" });
            }
            Node::Array(item) => {
                out.push('[');
                self.blocks(out, |reader, out| reader.value(*item, out, depth + 1))?;
                out.push(']');
            }
            Node::Map(value) => {
                out.push('{');
                self.blocks(out, |reader, out| {
                    text_as_json(reader.text()?, out);
                    out.push(':');
                    reader.value(*value, out, depth + 1)
                })?;
                out.push('}');
            }
            Node::Union(of) => {
                let index = self.long()?;
                let id = usize::try_from(index).ok().and_then(|index| of.get(index));
                let id = *id.ok_or_else(|| self.wrong(format!("a union's branch {index}")))?;
                self.value(id, out, depth + 1)?;
            }
            Node::Decimal { scale, fixed, .. } => {
                let bytes = match fixed {
                    Some(size) => self.take(*size)?,
                    None => self.sized()?,
                };
                self.decimal(bytes, *scale, out)?;
            }
            Node::Date => {
                let days = self.long()?;
                let date = i32::try_from(days)
                    .ok()
                    .and_then(|days| days.checked_add(719_163))
                    .and_then(NaiveDate::from_num_days_from_ce_opt);
                // Beyond the calendar: as a number that no column of dates or times takes.
                match date {
                    Some(date) => _ = write!(out, "\"{date}\""),
                    None => _ = write!(out, "{}", i64::MAX),
                }
            }
            Node::Time(units) => {
                let (time, units) = (self.long()?, *units);
                let (seconds, part) = (time.div_euclid(units), time.rem_euclid(units));
                if !(0..86_400).contains(&seconds) {
                    return Err(self.wrong(format!("a time of day of {time}")));
                }
                let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
                let micros = part * (1_000_000 / units);
                let _ = write!(out, "\"{hours:02}:{minutes:02}:{:02}.{micros:06}\"", seconds % 60);
            }
            Node::Timestamp(units) | Node::LocalTimestamp(units) => {
                let (time, units) = (self.long()?, *units);
                let (seconds, part) = (time.div_euclid(units), time.rem_euclid(units));
                let nanos = part * (1_000_000_000 / units);
                match DateTime::from_timestamp(seconds, nanos as u32) {
                    Some(time) => {
                        let text = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
                        let _ = write!(out, "\"{text}\"");
                    }
                    // Beyond the calendar: as a number, which the column refuses as out of range.
                    None => _ = write!(out, "{}", i64::MAX),
                }
            }
        }
        Ok(())
    }

    /// Items in blocks, each with its count before it; a negative count is followed by the block's size.
    fn blocks(
        &mut self,
        out: &mut String,
        mut item: impl FnMut(&mut Self, &mut String) -> Read<()>,
    ) -> Read<()> {
        let mut first = true;
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                count =
                    count.checked_neg().ok_or_else(|| self.wrong("a count without end".into()))?;
                self.long()?;
            }
            for _ in 0..count {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                let before = self.bytes.len();
                item(self, out)?;
                if self.bytes.len() == before {
                    self.empty += 1;
                    if self.empty > MAX_EMPTY_ITEMS {
                        return Err(self.wrong(format!("more than {MAX_EMPTY_ITEMS} empty items")));
                    }
                }
            }
        }
    }

    fn decimal(&self, bytes: &[u8], scale: usize, out: &mut String) -> Read<()> {
        let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
        let sign = if negative { 0xFF } else { 0 };
        // 16 bytes hold the 38 digits that any column can; more may only repeat the sign.
        let (more, bytes) = bytes.split_at(bytes.len().saturating_sub(16));
        let same_sign = bytes.first().is_none_or(|byte| (byte & 0x80 != 0) == negative);
        if more.iter().any(|byte| *byte != sign) || !same_sign {
            let size = more.len() + bytes.len();
            return Err(self.wrong(format!("a decimal of {size} bytes, of which 16 can be read")));
        }
        let mut wide = [sign; 16];
        wide[16 - bytes.len()..].copy_from_slice(bytes);
        let unscaled = i128::from_be_bytes(wide);
        let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
        let (whole, part) = digits.split_at(digits.len() - scale);
        let sign = if unscaled < 0 { "-" } else { "" };
        let point = if scale > 0 { "." } else { "" };
        let _ = write!(out, "{sign}{whole}{point}{part}");
        Ok(())
    }

    /// A number in zigzag, seven bits a byte, the lowest first.
    fn long(&mut self) -> Read<i64> {
        let mut number: u64 = 0;
        for shift in (0..70).step_by(7) {
            let [byte] = self.array()?;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err(self.wrong("a number of more than 64 bits".into()))
    }

    fn sized(&mut self) -> Read<&'a [u8]> {
        let size = self.long()?;
        match usize::try_from(size) {
            Ok(size) => self.take(size),
            Err(_) => Err(self.wrong(format!("a size of {size}"))),
        }
    }

    fn text(&mut self) -> Read<&'a str> {
        let bytes = self.sized()?;
        std::str::from_utf8(bytes).map_err(|_| self.wrong("a string that is not UTF-8".into()))
    }

    fn take(&mut self, size: usize) -> Read<&'a [u8]> {
        match self.bytes.split_at_checked(size) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(self.wrong(format!("{size} bytes wanted, {} left", self.bytes.len()))),
        }
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| self.wrong("too few bytes".into()))
    }

    #[cold]
    fn wrong(&self, found: String) -> String {
        format!("{found}, before byte {} of the value", self.whole - self.bytes.len())
    }
}

fn real(number: f64, out: &mut String) -> Read<()> {
    if !number.is_finite() {
        return Err(format!("{number}, which JSON has no form for"));
    }
    // As the shortest text that reads the same.
    let _ = write!(out, "{number:?}");
    Ok(())
}

fn base64(bytes: &[u8], out: &mut String) {
    out.push('"');
    STANDARD.encode_string(bytes, out);
    out.push('"');
}

fn text_as_json(text: &str, out: &mut String) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}
