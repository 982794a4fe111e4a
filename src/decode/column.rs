//! One column under construction: a JSON value or a key's text goes straight into its Arrow builder.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    Float64Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::fault::{Fault, Misfit, Outcome, excerpt};
use super::json::Cursor;
use super::nested::NestedValues;
use super::number::Number;
use super::time;
use super::wider::wider;
use crate::config::{Column, ColumnType, Epoch, Nested};
use crate::record::RejectClass;

pub(super) struct Slot {
    /// How reasons call the field.
    place: String,
    kind: ColumnType,
    epoch: Epoch,
    required: bool,
    values: Values,
    /// Bytes of text a row took in the last batch, so that the next one is allocated once.
    row_bytes: usize,
    /// Whether a wider type may take the place of its own.
    widens: bool,
    /// The type that would have held the value that failed last, and that of all whose records were whole.
    wish: Option<ColumnType>,
    wider: Option<ColumnType>,
}

enum Values {
    Text(StringBuilder),
    Json(StringBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Decimal(Decimal128Builder, u8, u8),
    Timestamp(TimestampMicrosecondBuilder, Epoch),
    Date(Date32Builder),
    Bytes(BinaryBuilder),
    Number(StringBuilder),
    Nested(Box<NestedValues>),
}

/// Runs one expression on whatever builder there is.
macro_rules! each {
    ($values:expr, $builder:ident => $run:expr) => {
        match $values {
            Values::Text($builder) | Values::Json($builder) | Values::Number($builder) => $run,
            Values::Int($builder) => $run,
            Values::Long($builder) => $run,
            Values::Double($builder) => $run,
            Values::Boolean($builder) => $run,
            Values::Decimal($builder, ..) => $run,
            Values::Timestamp($builder, _) => $run,
            Values::Date($builder) => $run,
            Values::Bytes($builder) => $run,
            Values::Nested($builder) => $run,
        }
    };
}

impl Slot {
    /// `rest`: members inside it that its type does not name are kept.
    pub fn new(column: &Column, is_key: bool, rest: bool) -> Self {
        let place =
            if is_key { format!("key {}", column.path()) } else { column.path().to_owned() };
        let required = column.required || is_key;
        Self { required, ..Self::inside(place, column.kind, column.epoch, rest) }
    }

    /// A value inside another one.
    pub fn inside(place: String, kind: ColumnType, epoch: Epoch, rest: bool) -> Self {
        let values = match kind {
            ColumnType::Nested(nested) => {
                Values::Nested(Box::new(NestedValues::new(&place, nested, epoch, rest)))
            }
            _ => builder(kind, epoch, 0, 0),
        };
        let (required, row_bytes, widens, wish, wider) = (false, 16, false, None, None);
        Self { place, kind, epoch, required, values, row_bytes, widens, wish, wider }
    }

    /// Notices values that a wider type would hold.
    pub fn widening(self) -> Self {
        Self { widens: true, ..self }
    }

    /// Ends the record whose value failed; of one that was not `whole` nothing is wished for.
    pub fn end_wish(&mut self, whole: bool) {
        if let Some(wish) = self.wish.take().filter(|_| whole) {
            self.wider = Some(wish);
        }
    }

    /// Whether its last value failed and a wider type would have held it.
    pub fn wishes(&self) -> bool {
        self.wish.is_some()
    }

    /// The path of its field and the wider type that its values asked for.
    pub fn take_wider(&mut self) -> Option<(String, ColumnType)> {
        Some((self.place.clone(), self.wider.take()?))
    }

    /// Takes what the value read last held and its type does not name: paths from here, as JSON text
    /// without quotes, and values.
    pub fn take_rest(&mut self) -> Vec<(String, String)> {
        match &mut self.values {
            Values::Nested(nested) => nested.take_rest(),
            _ => Vec::new(),
        }
    }

    /// How reasons and the rest call the field.
    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Makes room for `rows` rows with `bytes` bytes of text.
    pub fn begin(&mut self, rows: usize, bytes: usize) {
        match &mut self.values {
            Values::Nested(nested) => nested.begin(rows, bytes),
            values => *values = builder(self.kind, self.epoch, rows, bytes),
        }
    }

    pub fn finish(&mut self) -> ArrayRef {
        let held = match &self.values {
            Values::Text(text) | Values::Json(text) | Values::Number(text) => {
                text.values_slice().len()
            }
            Values::Bytes(bytes) => bytes.values_slice().len(),
            _ => 0,
        };
        if held > 0 {
            self.row_bytes = held * 9 / 8 / self.len() + 1;
        }
        match &mut self.values {
            Values::Nested(nested) => nested.finish(),
            values => each!(values, values => Arc::new(values.finish())),
        }
    }

    pub fn len(&self) -> usize {
        each!(&self.values, values => values.len())
    }

    /// A null whatever the column allows: a tombstone's, or a row's that will be dropped.
    pub fn pad(&mut self) {
        each!(&mut self.values, values => values.append_null())
    }

    /// A null in a row that counts.
    #[inline]
    pub fn null(&mut self) -> Outcome<()> {
        if self.required {
            return Err(self.missing());
        }
        self.pad();
        Ok(())
    }

    #[cold]
    fn missing(&self) -> Box<Fault> {
        let reason = format!("{}: no value, expected {}", self.place, expected(self.kind));
        Fault::new(RejectClass::MissingField, reason)
    }

    /// Appends the JSON value under the cursor. If that fails, it appends nothing or a null.
    #[inline]
    pub fn read(&mut self, cursor: &mut Cursor<'_>, scratch: &mut String) -> Outcome<()> {
        let start = cursor.at();
        let misfit = match (&mut self.values, cursor.peek()) {
            (_, b'n') => {
                cursor.literal("null")?;
                return self.null();
            }
            (Values::Text(values), b'"') => match cursor.text(scratch) {
                Ok(text) => {
                    values.append_value(text);
                    Ok(())
                }
                Err(fault) => return Err(fault.at(&self.place)),
            },
            (Values::Json(values), _) => {
                cursor.skip()?;
                values.append_value(cursor.since(start));
                Ok(())
            }
            (Values::Boolean(values), first @ (b't' | b'f')) => {
                cursor.literal(if first == b't' { "true" } else { "false" })?;
                values.append_value(first == b't');
                Ok(())
            }
            (Values::Nested(values), b'{' | b'[') => match values.read(cursor, scratch)? {
                true => Ok(()),
                false => Err(Misfit::Type),
            },
            (values, b'-' | b'0'..=b'9') => values.append_number(cursor.number()?),
            (values, b'"') => {
                let text = cursor.text(scratch).map_err(|fault| fault.at(&self.place))?;
                values.append_quoted(text)
            }
            _ => Err(Misfit::Type),
        };
        misfit.map_err(|misfit| self.misfit_at(misfit, cursor, start))
    }

    #[cold]
    fn misfit_at(&mut self, misfit: Misfit, cursor: &mut Cursor<'_>, start: usize) -> Box<Fault> {
        cursor.rewind(start);
        match cursor.skip() {
            Ok(()) => {
                let found = cursor.since(start);
                if self.widens {
                    self.wish = wider(self.wider.unwrap_or(self.kind), found);
                }
                self.misfit(misfit, found)
            }
            Err(malformed) => malformed,
        }
    }

    #[cold]
    fn misfit(&self, misfit: Misfit, found: &str) -> Box<Fault> {
        let (found, expected) = (excerpt(found), expected(self.kind));
        Fault::new(misfit.class(), format!("{}: found {found}, expected {expected}", self.place))
    }

    /// Appends JSON text that was read before.
    pub fn append_json(&mut self, text: &str) {
        match &mut self.values {
            Values::Json(values) => values.append_value(text),
            // The column for the rest is a JSON column.
            _ => self.pad(),
        }
    }

    /// Appends a number out of a binary key.
    pub fn read_long(&mut self, number: i64) -> Outcome<()> {
        if let Values::Timestamp(values, epoch) = &mut self.values {
            match time::from_epoch(number, *epoch) {
                Ok(micros) => values.append_value(micros),
                Err(misfit) => return Err(self.misfit(misfit, &number.to_string())),
            }
            return Ok(());
        }
        self.read_text(&number.to_string())
    }

    /// Appends a number out of a binary key. Of the two zeros one is meant, and no number is none.
    pub fn read_double(&mut self, number: f64) -> Outcome<()> {
        match &mut self.values {
            _ if number.is_nan() => Err(self.misfit(Misfit::Range, "NaN")),
            Values::Double(values) => {
                values.append_value(number + 0.0);
                Ok(())
            }
            _ => self.read_text(&(number + 0.0).to_string()),
        }
    }

    /// Appends the whole of a key or value that is not looked into.
    pub fn read_bytes(&mut self, bytes: &[u8]) -> Outcome<()> {
        match &mut self.values {
            Values::Bytes(values) => {
                values.append_value(bytes);
                Ok(())
            }
            // The configuration allows no other column here.
            _ => Err(self.misfit(Misfit::Type, "bytes")),
        }
    }

    /// Appends a value that is the whole of a text: a record key of format `string`.
    pub fn read_text(&mut self, text: &str) -> Outcome<()> {
        let misfit = match &mut self.values {
            Values::Bytes(values) => {
                values.append_value(text);
                Ok(())
            }
            Values::Text(values) => {
                values.append_value(text);
                Ok(())
            }
            Values::Json(values) => {
                let mut cursor = Cursor::new(text);
                cursor.skip().and_then(|()| cursor.end()).map_err(|fault| fault.at(&self.place))?;
                values.append_value(text);
                Ok(())
            }
            Values::Boolean(values) => match text {
                "true" | "false" => {
                    values.append_value(text == "true");
                    Ok(())
                }
                _ => Err(Misfit::Type),
            },
            values => match Number::whole(text) {
                Some(number) => values.append_number(number),
                None => values.append_quoted(text),
            },
        };
        misfit.map_err(|misfit| self.misfit(misfit, text))
    }
}

impl Values {
    #[inline]
    fn append_number(&mut self, number: Number<'_>) -> Result<(), Misfit> {
        match self {
            Values::Int(values) => values.append_value(number.to_int()?),
            Values::Long(values) => values.append_value(number.to_long()?),
            Values::Double(values) => values.append_value(number.to_double()?),
            Values::Decimal(values, precision, scale) => {
                values.append_value(number.to_decimal(*precision, *scale)?)
            }
            Values::Timestamp(values, epoch) => {
                values.append_value(time::from_epoch(number.to_long()?, *epoch)?)
            }
            Values::Date(values) => values.append_value(time::from_days(number.to_long()?)?),
            Values::Number(values) => values.append_value(number.text),
            Values::Text(_)
            | Values::Json(_)
            | Values::Boolean(_)
            | Values::Bytes(_)
            | Values::Nested(_) => return Err(Misfit::Type),
        }
        Ok(())
    }

    #[inline]
    fn append_quoted(&mut self, text: &str) -> Result<(), Misfit> {
        match self {
            Values::Timestamp(values, _) => values.append_value(time::timestamp(text)?),
            Values::Date(values) => values.append_value(time::date(text)?),
            Values::Decimal(values, precision, scale) => {
                let number = Number::whole(text).ok_or(Misfit::Type)?;
                values.append_value(number.to_decimal(*precision, *scale)?);
            }
            Values::Bytes(values) => {
                values.append_value(STANDARD.decode(text).map_err(|_| Misfit::Type)?);
            }
            _ => return Err(Misfit::Type),
        }
        Ok(())
    }
}

fn builder(kind: ColumnType, epoch: Epoch, rows: usize, bytes: usize) -> Values {
    match kind {
        ColumnType::String => Values::Text(StringBuilder::with_capacity(rows, bytes)),
        ColumnType::Json => Values::Json(StringBuilder::with_capacity(rows, bytes)),
        ColumnType::Number => Values::Number(StringBuilder::with_capacity(rows, bytes)),
        // Made once, in `Slot::inside`; what is made here is never filled.
        ColumnType::Nested(_) => Values::Json(StringBuilder::new()),
        ColumnType::Int => Values::Int(Int32Builder::with_capacity(rows)),
        ColumnType::Long => Values::Long(Int64Builder::with_capacity(rows)),
        ColumnType::Double => Values::Double(Float64Builder::with_capacity(rows)),
        ColumnType::Boolean => Values::Boolean(BooleanBuilder::with_capacity(rows)),
        ColumnType::Decimal { precision, scale } => {
            let values = Decimal128Builder::with_capacity(rows).with_data_type(kind.arrow());
            Values::Decimal(values, precision, scale)
        }
        ColumnType::Timestamp => {
            let values = TimestampMicrosecondBuilder::with_capacity(rows);
            Values::Timestamp(values.with_data_type(kind.arrow()), epoch)
        }
        ColumnType::Date => Values::Date(Date32Builder::with_capacity(rows)),
        ColumnType::Bytes => Values::Bytes(BinaryBuilder::with_capacity(rows, bytes)),
    }
}

fn expected(kind: ColumnType) -> String {
    match kind {
        ColumnType::String => "a string".to_owned(),
        ColumnType::Json => "a JSON value".to_owned(),
        ColumnType::Number => "a number".to_owned(),
        ColumnType::Nested(Nested::Struct(_) | Nested::Map(_)) => "an object".to_owned(),
        ColumnType::Nested(Nested::Array(_)) => "an array".to_owned(),
        ColumnType::Int => "an integer of 32 bits".to_owned(),
        ColumnType::Long => "an integer of 64 bits".to_owned(),
        ColumnType::Double => "a number that fits a double".to_owned(),
        ColumnType::Boolean => "true or false".to_owned(),
        ColumnType::Bytes => "base64 text".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("a decimal({precision},{scale})"),
        ColumnType::Timestamp => {
            "an ISO 8601 timestamp or a number since 1970, years 0001 to 9999".to_owned()
        }
        ColumnType::Date => "a date YYYY-MM-DD or epoch days, years 0001 to 9999".to_owned(),
    }
}
