//! One column of a feed and its type.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use arrow::datatypes::{DataType, TimeUnit};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ValueCheck;
use super::nested::{self, Nested};

/// What the lake is partitioned by, in this order: names no column may have.
pub const PARTITION_COLUMNS: [&str; 3] = ["year", "month", "day"];

/// One column of a feed, in the lake and in the warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Column name in both sinks: at most 63 bytes, letters, digits and `_`, not starting with `_`
    /// or a digit.
    pub name: String,
    /// `string`, `int`, `long`, `double`, `boolean`, `decimal(P,S)`, `timestamp`, `date`, `bytes`,
    /// `number` (any JSON number, kept as its text) or `json`; `struct<name:type,…>`, `array<type>` and
    /// `map<string,type>` of these.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Where the value stands in the message: field names joined by `.`. Default: the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What a number in a `timestamp` column counts since 1970: `seconds`, `millis` or `micros`.
    /// Default: `millis`.
    #[serde(default, skip_serializing_if = "Epoch::is_millis")]
    pub epoch: Epoch,
    /// A record without a value here is rejected. Default: false. Key columns are always required.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// What the values must be. Not for key columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<ValueCheck>,
}

impl Column {
    /// A column found under its own name, null where it is absent.
    pub fn new(name: impl Into<String>, kind: ColumnType) -> Self {
        Self {
            name: name.into(),
            kind,
            path: None,
            epoch: Epoch::Millis,
            required: false,
            check: None,
        }
    }

    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or(&self.name)
    }
}

/// What a number that stands for a time counts since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Epoch {
    Seconds,
    #[default]
    Millis,
    Micros,
}

impl Epoch {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_millis(&self) -> bool {
        *self == Self::Millis
    }
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    String,
    /// 32-bit.
    Int,
    /// 64-bit.
    Long,
    Double,
    Boolean,
    /// At most 38 digits, `scale` of them after the point.
    Decimal {
        precision: u8,
        scale: u8,
    },
    /// UTC, microseconds.
    Timestamp,
    Date,
    /// Any bytes; in JSON they are base64 text. `bytea` in PostgreSQL.
    Bytes,
    /// Any JSON number, kept as its text, however many digits it has.
    Number,
    /// Any JSON value, kept as its text; `jsonb` in PostgreSQL.
    Json,
    /// Values inside values.
    Nested(&'static Nested),
}

impl ColumnType {
    /// Whether two values of the type are one key in one way only.
    pub fn can_be_key(self) -> bool {
        !matches!(
            self,
            ColumnType::Double | ColumnType::Number | ColumnType::Json | ColumnType::Nested(_)
        )
    }

    /// The decimal that integers become: all of 64 bits, and as many digits after the point as a double
    /// that somebody wrote down usually has.
    pub const WIDE: Self = Self::Decimal { precision: 38, scale: 18 };

    /// Whether every value of the type is one of `to`, too. (Of longs beyond 53 bits some are no doubles.)
    pub fn widens_to(self, to: Self) -> bool {
        use ColumnType::{Date, Decimal, Double, Int, Long, Timestamp};
        /// Digits that any value of so many bits can have.
        const INT: u8 = 10;
        const LONG: u8 = 19;
        match (self, to) {
            (Int, Long | Double) | (Date, Timestamp) => true,
            (Int, Decimal { precision, scale }) => precision - scale >= INT,
            (Long, Decimal { precision, scale }) => precision - scale >= LONG,
            (Decimal { precision, scale }, Decimal { precision: digits, scale: after }) => {
                self != to && after >= scale && digits - after >= precision - scale
            }
            _ => false,
        }
    }

    /// The Arrow type of the column in a batch and in the lake.
    pub fn arrow(self) -> DataType {
        match self {
            ColumnType::String | ColumnType::Number | ColumnType::Json => DataType::Utf8,
            ColumnType::Int => DataType::Int32,
            ColumnType::Long => DataType::Int64,
            ColumnType::Double => DataType::Float64,
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::Decimal { precision, scale } => {
                DataType::Decimal128(precision, scale as i8)
            }
            ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ColumnType::Date => DataType::Date32,
            ColumnType::Bytes => DataType::Binary,
            ColumnType::Nested(nested) => nested.arrow(),
        }
    }
}

pub(super) const TYPE_TEXT: &str = "`string`, `int`, `long`, `double`, `boolean`, `decimal(P,S)`, \
    `timestamp`, `date`, `bytes`, `number` or `json`, where `P` is 1 to 38 digits, `S` of them after \
    the point; or `struct<name:type,…>`, `array<type>`, `map<string,type>` of these";

impl FromStr for ColumnType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "string" => ColumnType::String,
            "int" => ColumnType::Int,
            "long" => ColumnType::Long,
            "double" => ColumnType::Double,
            "boolean" => ColumnType::Boolean,
            "timestamp" => ColumnType::Timestamp,
            "date" => ColumnType::Date,
            "bytes" => ColumnType::Bytes,
            "number" => ColumnType::Number,
            "json" => ColumnType::Json,
            _ => {
                let other = decimal(text).or_else(|| nested::parse(text));
                return other.ok_or_else(|| format!("a column type is {TYPE_TEXT}"));
            }
        })
    }
}

fn decimal(text: &str) -> Option<ColumnType> {
    let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
    // `parse` alone would take `+5`.
    let digits = |text: &str| {
        let text = text.trim();
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u8>().ok()).flatten()
    };
    let (precision, scale) = (digits(precision)?, digits(scale)?);
    ((1..=38).contains(&precision) && scale <= precision)
        .then_some(ColumnType::Decimal { precision, scale })
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ColumnType::String => "string",
            ColumnType::Int => "int",
            ColumnType::Long => "long",
            ColumnType::Double => "double",
            ColumnType::Boolean => "boolean",
            ColumnType::Decimal { precision, scale } => {
                return write!(f, "decimal({precision},{scale})");
            }
            ColumnType::Timestamp => "timestamp",
            ColumnType::Date => "date",
            ColumnType::Bytes => "bytes",
            ColumnType::Number => "number",
            ColumnType::Json => "json",
            ColumnType::Nested(nested) => return nested.fmt(f),
        })
    }
}

impl Serialize for ColumnType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for ColumnType {
    fn schema_name() -> Cow<'static, str> {
        "ColumnType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "column-type",
            "pattern": "^(string|int|long|double|boolean|timestamp|date|bytes|number|json\
                |decimal\\( *[0-9]{1,2} *, *[0-9]{1,2} *\\)|(struct|array|map)<.+>)$",
            "examples": ["string", "int", "long", "double", "boolean", "decimal(38,9)",
                "timestamp", "date", "bytes", "number", "json", "struct<city:string,zip:string>",
                "array<long>", "map<string,double>"],
            "description": format!("A column type: {TYPE_TEXT}."),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_type_holds_all_that_its_column_held() {
        let widens = |from: &str, to: &str| {
            from.parse::<ColumnType>().unwrap().widens_to(to.parse().unwrap())
        };
        for (from, to) in [
            ("int", "long"),
            ("int", "double"),
            ("int", "decimal(12,2)"),
            ("long", "decimal(38,0)"),
            ("long", "decimal(38,18)"),
            ("decimal(10,2)", "decimal(38,4)"),
            ("date", "timestamp"),
        ] {
            assert!(widens(from, to) && !widens(to, from), "{from} {to}");
        }
        for (from, to) in [
            ("int", "int"),
            ("int", "decimal(11,2)"),
            ("long", "decimal(20,2)"),
            ("long", "string"),
            ("long", "double"),
            ("decimal(10,2)", "decimal(10,2)"),
            ("decimal(10,2)", "decimal(38,31)"),
            ("decimal(10,2)", "double"),
            ("boolean", "long"),
            ("timestamp", "date"),
        ] {
            assert!(!widens(from, to), "{from} {to}");
        }
    }

    #[test]
    fn types_are_read_and_printed() {
        let schema = ColumnType::json_schema(&mut SchemaGenerator::default());
        let pattern = regex::Regex::new(schema.get("pattern").unwrap().as_str().unwrap()).unwrap();
        for text in [
            "string",
            "int",
            "long",
            "double",
            "boolean",
            "timestamp",
            "date",
            "json",
            "decimal(10,2)",
            "decimal(38,38)",
            "decimal(1,0)",
            "number",
            "struct<city:string,zip:decimal(5,0)>",
            "array<map<string,array<json>>>",
        ] {
            let kind: ColumnType = text.parse().unwrap();
            assert_eq!(kind.to_string(), text);
            assert!(pattern.is_match(text), "{text}");
        }
        assert_eq!("decimal(10, 2)".parse(), Ok(ColumnType::Decimal { precision: 10, scale: 2 }));
        for text in [
            "",
            "text",
            "String",
            "decimal",
            "decimal(10)",
            "decimal(0,0)",
            "decimal(39,0)",
            "decimal(5,6)",
            "decimal(+5,2)",
            "decimal(5,-2)",
            "decimal(,)",
        ] {
            assert!(text.parse::<ColumnType>().is_err(), "{text}");
        }
    }
}
