//! The text of a file as a tree of values, each key once.

use std::fmt;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::Fault;

/// Reads the text of a file: JSON by its extension, otherwise YAML.
pub fn parse(file: &Path, text: &str) -> Result<Value, Fault> {
    let json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let (language, result) = if json {
        let unique: Result<Unique, _> = serde_json::from_str(text);
        ("JSON", unique.map(|unique| unique.0).map_err(|error| error.to_string()))
    } else {
        // Strict booleans: otherwise a column named `no` becomes `false`. No snippet: the lines
        // around a fault may hold what must not be printed.
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let value = serde_saphyr::from_str_with_options::<Value>(text, options);
        ("YAML", value.map_err(|error| error.without_snippet().to_string()))
    };
    result.map_err(|error| {
        Fault::new(file, "", error, format!("one {language} document, each key once in its place"))
    })
}

/// A JSON value whose objects name each key once; `serde_json` itself keeps the last.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(Unique(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(list.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
                let mut map = Map::new();
                while let Some(key) = entries.next_key::<String>()? {
                    if map.contains_key(&key) {
                        return Err(de::Error::custom(format!("duplicate key `{key}`")));
                    }
                    let Unique(value) = entries.next_value()?;
                    map.insert(key, value);
                }
                Ok(map.into())
            }
        }
        deserializer.deserialize_any(Any).map(Unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, text: &str) -> Result<Value, String> {
        parse(Path::new(file), text).map_err(|fault| fault.to_string())
    }

    #[test]
    fn yaml_and_json_give_the_same_values() {
        let yaml = "a: 1\nb: [x, 1.5, null]\nc: {d: true, e: no, f: 2026-01-01T00:00:00Z}\n";
        let json = r#"{"a": 1, "b": ["x", 1.5, null],
            "c": {"d": true, "e": "no", "f": "2026-01-01T00:00:00Z"}}"#;
        assert_eq!(read("x.yaml", yaml).unwrap(), read("x.json", json).unwrap());
    }

    #[test]
    fn a_key_given_twice_is_refused_in_both() {
        for (file, text) in [
            ("x.yaml", "a: 1\nb: {c: 1, c: 2}\n"),
            ("x.json", r#"{"a": 1, "b": {"c": 1, "c": 2}}"#),
        ] {
            let error = read(file, text).unwrap_err();
            assert!(error.contains("duplicate") && error.contains('c'), "{error}");
            assert!(error.starts_with(file), "{error}");
        }
    }

    #[test]
    fn broken_text_is_named_by_its_line_and_not_shown() {
        let error = read("x.yaml", "password: hunter2\nb: }\n").unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let error = read("x.json", "{\"password\": \"hunter2\",\n nonsense}").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        assert!(read("x.yaml", "a: 1\n---\nb: 2\n").is_err());
    }
}
