//! Values in PostgreSQL's binary form: those that come, and those that are sent to be compared with.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::config::ColumnType;
use crate::warehouse::filling::Cell;
use crate::warehouse::postgres::copy::{
    END_DATE, EPOCH_DAYS, EPOCH_MICROS, MIN_DATE, MIN_TIMESTAMP, put_numeric,
};

/// A value's bytes, whatever its type.
pub(super) struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// How a column comes: as it is, or cast to what holds all that it may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Form {
    way: Way,
    cast: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Text,
    Integer,
    Numeric,
    Double,
    Boolean,
    Timestamp,
    Date,
    Bytes,
}

impl Form {
    /// Of a column that the table has as `found`, a domain as what it is made of.
    pub fn of(kind: ColumnType, found: &Type) -> Self {
        let among = |types: &[Type]| types.contains(found);
        let or_cast = |way, own: &[Type], cast| match among(own) {
            true => Self { way, cast: "" },
            false => Self { way, cast },
        };
        match kind {
            ColumnType::Int | ColumnType::Long if among(&[Type::INT2, Type::INT4, Type::INT8]) => {
                Self { way: Way::Integer, cast: "" }
            }
            // A cast to an integer or a decimal would round. Digits are looked at here instead.
            ColumnType::Int | ColumnType::Long | ColumnType::Decimal { .. } => {
                // To a numeric as such, a double would lose its last digits.
                let rounds = among(&[Type::FLOAT4, Type::FLOAT8]);
                let cast = if rounds { "::text::numeric" } else { "::numeric" };
                or_cast(Way::Numeric, &[Type::NUMERIC], cast)
            }
            ColumnType::Double => {
                or_cast(Way::Double, &[Type::FLOAT4, Type::FLOAT8], "::double precision")
            }
            ColumnType::Boolean => or_cast(Way::Boolean, &[Type::BOOL], "::boolean"),
            ColumnType::Timestamp => {
                or_cast(Way::Timestamp, &[Type::TIMESTAMPTZ], "::timestamp with time zone")
            }
            ColumnType::Date => or_cast(Way::Date, &[Type::DATE], "::date"),
            ColumnType::Bytes => or_cast(Way::Bytes, &[Type::BYTEA], "::bytea"),
            // Nested columns are JSON or columns by now: see `warehouse::nested`.
            ColumnType::String | ColumnType::Number | ColumnType::Json | ColumnType::Nested(_) => {
                or_cast(Way::Text, &[Type::TEXT, Type::VARCHAR], "::text")
            }
        }
    }

    pub fn cast(self) -> &'static str {
        self.cast
    }

    /// Whether the server may find a value that it cannot cast.
    pub fn may_fail(self) -> bool {
        !matches!(self.cast, "" | "::text")
    }

    /// A value of the column, or why it is none.
    pub fn cell(self, kind: ColumnType, raw: Option<Raw<'_>>) -> Result<Cell<'_>, String> {
        let Some(Raw(raw)) = raw else { return Ok(Cell::Null) };
        let cell = match self.way {
            Way::Text => std::str::from_utf8(raw).ok().map(Cell::Text),
            Way::Bytes => Some(Cell::Bytes(raw)),
            Way::Integer => integer(raw).map(Cell::Whole),
            Way::Numeric => match kind {
                ColumnType::Decimal { precision, scale } => {
                    let value = numeric(raw, scale);
                    let held = 10u128.pow(precision.into());
                    value.filter(|value| value.unsigned_abs() < held).map(Cell::Decimal)
                }
                _ => numeric(raw, 0).and_then(|value| i64::try_from(value).ok()).map(Cell::Whole),
            },
            Way::Double => double(raw).map(Cell::Double),
            Way::Boolean => array(raw).map(|[byte]| Cell::Boolean(byte != 0)),
            Way::Timestamp => array(raw)
                .and_then(|raw| i64::from_be_bytes(raw).checked_add(EPOCH_MICROS))
                .filter(|micros| *micros >= MIN_TIMESTAMP + EPOCH_MICROS)
                .map(Cell::Timestamp),
            Way::Date => array(raw)
                .map(i32::from_be_bytes)
                .filter(|days| (MIN_DATE..END_DATE).contains(days))
                .map(|days| Cell::Date(days + EPOCH_DAYS)),
        };
        cell.ok_or_else(|| match self.way {
            Way::Timestamp | Way::Date => format!("an infinite {kind}, or one too far away"),
            _ => format!("a value that is no {kind}"),
        })
    }
}

fn array<const N: usize>(raw: &[u8]) -> Option<[u8; N]> {
    raw.try_into().ok()
}

fn integer(raw: &[u8]) -> Option<i64> {
    match raw.len() {
        2 => array(raw).map(|raw| i16::from_be_bytes(raw).into()),
        4 => array(raw).map(|raw| i32::from_be_bytes(raw).into()),
        _ => array(raw).map(i64::from_be_bytes),
    }
}

fn double(raw: &[u8]) -> Option<f64> {
    match raw.len() {
        4 => array(raw).map(|raw| f32::from_be_bytes(raw).into()),
        _ => array(raw).map(f64::from_be_bytes),
    }
}

/// A `numeric` counted in the last digit of `scale`; `None` where it has digits behind that, is too large
/// for 128 bits, or no number.
fn numeric(raw: &[u8], scale: u8) -> Option<i128> {
    const NEGATIVE: i16 = 0x4000;
    let mut words = raw.chunks_exact(2).map(|word| i16::from_be_bytes([word[0], word[1]]));
    let (_count, weight, sign) = (words.next()?, words.next()?, words.next()?);
    let _shown = words.next()?;
    if sign != 0 && sign != NEGATIVE {
        return None;
    }
    let mut value = 0i128;
    for (place, digit) in (0i32..).zip(words).filter(|(_, digit)| *digit != 0) {
        let digit = i128::from(digit);
        let exponent = 4 * (i32::from(weight) - place) + i32::from(scale);
        let unit = 10i128.checked_pow(exponent.unsigned_abs())?;
        let part = match exponent >= 0 {
            true => digit.checked_mul(unit)?,
            false if digit % unit == 0 => digit / unit,
            false => return None,
        };
        value = value.checked_add(part)?;
    }
    Some(if sign == NEGATIVE { -value } else { value })
}

/// A value to compare with.
#[derive(Debug)]
pub(super) enum Param {
    Long(i64),
    Double(f64),
    Numeric(i128, u8),
    Text(String),
    Bool(bool),
    Bytes(Vec<u8>),
    /// As PostgreSQL counts.
    Timestamp(i64),
    /// As PostgreSQL counts.
    Date(i32),
}

impl Param {
    /// `None` where PostgreSQL holds no such time.
    pub fn timestamp(micros: i64) -> Option<Self> {
        let micros = micros.checked_sub(EPOCH_MICROS)?;
        (micros >= MIN_TIMESTAMP).then_some(Self::Timestamp(micros))
    }

    /// `None` where PostgreSQL holds no such day.
    pub fn date(days: i32) -> Option<Self> {
        let days = days.checked_sub(EPOCH_DAYS)?;
        (MIN_DATE..END_DATE).contains(&days).then_some(Self::Date(days))
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::Long(_) => "bigint",
            Self::Double(_) => "double precision",
            Self::Numeric(..) => "numeric",
            Self::Text(_) => "text",
            Self::Bool(_) => "boolean",
            Self::Bytes(_) => "bytea",
            Self::Timestamp(_) => "timestamp with time zone",
            Self::Date(_) => "date",
        }
    }
}

impl ToSql for Param {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Long(number) => out.put_i64(*number),
            Self::Double(number) => out.put_f64(*number),
            Self::Numeric(unscaled, scale) => {
                let mut field = Vec::new();
                put_numeric(&mut field, *unscaled, (*scale).into());
                out.extend_from_slice(field.get(4..).unwrap_or_default()); // without its length
            }
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Bool(truth) => out.put_u8((*truth).into()),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Timestamp(micros) => out.put_i64(*micros),
            Self::Date(days) => out.put_i32(*days),
        }
        Ok(IsNull::No)
    }

    /// Each place in the question says its type: see [`Param::kind`].
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_come_back_as_they_were_sent() {
        let most = 10i128.pow(38) - 1;
        for scale in [0u8, 1, 2, 3, 4, 5, 18, 37, 38] {
            for value in [0, 1, -1, 9_999, 10_000, -123_456_789, most, -most, most / 7] {
                let mut field = Vec::new();
                put_numeric(&mut field, value, scale.into());
                assert_eq!(numeric(&field[4..], scale), Some(value), "{value} {scale}");
                // With more digits than there may be, and with fewer.
                assert_eq!(numeric(&field[4..], scale + 1), value.checked_mul(10));
                let fewer = (value % 10 == 0).then_some(value / 10);
                assert_eq!(
                    scale.checked_sub(1).and_then(|it| numeric(&field[4..], it)),
                    scale.checked_sub(1).and(fewer)
                );
            }
        }
        for sign in [0xC000u16, 0xD000, 0xF000] {
            let mut special = [0; 8];
            special[4..6].copy_from_slice(&sign.to_be_bytes());
            assert_eq!(numeric(&special, 2), None);
        }
    }
}
