//! Sizes and durations as people write them: `64MiB`, `20ms`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes. Text: `64MiB`, `512KiB`, `10MB`; a plain whole number is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

/// Largest first: a size is printed in the first unit that divides it.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

pub(super) const SIZE_TEXT: &str = "a whole number with `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`, `TB` or `TiB`, such as \
     `64MiB`; without a unit, bytes";

impl ByteSize {
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The size as a length in memory; one that no address space holds is the largest that does.
    pub const fn bytes(self) -> usize {
        if self.0 > usize::MAX as u64 { usize::MAX } else { self.0 as usize }
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        measure(text, "B", &SIZES).map(Self).ok_or_else(|| format!("a size is {SIZE_TEXT}"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.0, "B", &SIZES)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl de::Visitor<'_> for Size {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SIZE_TEXT)
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Size)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "format": "byte-size",
            "pattern": "^[0-9]+ ?(B|kB|KiB|MB|MiB|GB|GiB|TB|TiB)?$",
            "minimum": 0,
            "description": format!("A size: {SIZE_TEXT}."),
        })
    }
}

/// A length of time, in whole milliseconds. Text: `20ms`, `10s`, `5m`, `1h`, `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(u64);

const TIMES: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

pub(super) const DURATION_TEXT: &str =
    "a whole number with `ms`, `s`, `m`, `h` or `d`, such as `10s`";

impl Duration {
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000)
    }

    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn get(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A number alone is refused: nobody remembers whether it is seconds or milliseconds.
        measure(text, "", &TIMES).map(Self).ok_or_else(|| format!("a duration is {DURATION_TEXT}"))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.0, "s", &TIMES)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "duration-text",
            "pattern": "^[0-9]+ ?(ms|s|m|h|d)$",
            "description": format!("A duration: {DURATION_TEXT}."),
        })
    }
}

/// Number and unit; `bare` is the unit of a number alone. None also when it does not fit.
fn measure(text: &str, bare: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = if unit.is_empty() { bare } else { unit.trim_start() };
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn print(f: &mut fmt::Formatter<'_>, value: u64, zero: &str, units: &[(&str, u64)]) -> fmt::Result {
    match units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor)) {
        Some((unit, factor)) => write!(f, "{}{unit}", value / factor),
        None => write!(f, "0{zero}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_printed() {
        for (text, bytes, canonical) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("512KiB", 512 << 10, "512KiB"),
            ("1GiB", 1 << 30, "1GiB"),
            ("1024MiB", 1 << 30, "1GiB"),
            ("10MB", 10_000_000, "10MB"),
            ("64 MB", 64_000_000, "64MB"),
            ("100kB", 100_000, "100kB"),
            ("123", 123, "123B"),
            ("7B", 7, "7B"),
            ("0", 0, "0B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size, ByteSize::new(bytes), "{text}");
            assert_eq!(size.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(size));
        }
        for text in ["", "MiB", "64mib", "1.5GiB", "-1", "64 MiB x", "99999999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_and_printed() {
        for (text, millis, canonical) in [
            ("20ms", 20, "20ms"),
            ("10s", 10_000, "10s"),
            ("90s", 90_000, "90s"),
            ("60s", 60_000, "1m"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("30d", 30 * 86_400_000, "30d"),
            ("0ms", 0, "0s"),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration.get().as_millis(), millis, "{text}");
            assert_eq!(duration.to_string(), canonical, "{text}");
        }
        for text in ["", "10", "s", "1.5s", "-1s", "10S", "1w"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn both_travel_through_json() {
        let size: ByteSize = serde_json::from_str("1024").unwrap();
        assert_eq!(serde_json::to_string(&size).unwrap(), "\"1KiB\"");
        assert_eq!(serde_json::from_str::<ByteSize>("\"1KiB\"").unwrap(), size);
        assert!(serde_json::from_str::<ByteSize>("-5").is_err());
        let duration: Duration = serde_json::from_str("\"2s\"").unwrap();
        assert_eq!(serde_json::to_string(&duration).unwrap(), "\"2s\"");
    }

    #[test]
    fn schema_patterns_agree_with_the_parsers() {
        let pattern = |schema: Schema| {
            regex::Regex::new(schema.get("pattern").unwrap().as_str().unwrap()).unwrap()
        };
        let mut generator = SchemaGenerator::default();
        let size = pattern(ByteSize::json_schema(&mut generator));
        let duration = pattern(Duration::json_schema(&mut generator));
        for text in ["64MiB", "10MB", "7", "1 GiB", "5m", "20ms", "x", "", "1w", "1.5s"] {
            assert_eq!(size.is_match(text), text.parse::<ByteSize>().is_ok(), "{text}");
            assert_eq!(duration.is_match(text), text.parse::<Duration>().is_ok(), "{text}");
        }
    }
}
