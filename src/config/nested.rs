//! Types of values inside values: structs, arrays and maps, as `struct<name:type>`, `array<type>` and
//! `map<string,type>` write them.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, Fields};

use super::{Column, ColumnType};

/// A type with types inside.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Nested {
    /// An object of named fields, any of which may be absent.
    Struct(Vec<(String, ColumnType)>),
    /// Any number of values, null among them.
    Array(ColumnType),
    /// An object of any names, with values of one type.
    Map(ColumnType),
}

/// Deepest nesting of a type.
pub const MAX_LEVELS: usize = 16;

impl Nested {
    /// The one copy of this type. A process knows few types and knows them all along, which is what
    /// lets a [`ColumnType`] be copied like a number.
    pub fn intern(self) -> ColumnType {
        static KNOWN: LazyLock<Mutex<HashSet<&'static Nested>>> = LazyLock::new(Mutex::default);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let nested = known.get(&self).copied().unwrap_or_else(|| {
            let kept: &'static Nested = Box::leak(Box::new(self));
            known.insert(kept);
            kept
        });
        ColumnType::Nested(nested)
    }

    pub fn arrow(&self) -> DataType {
        match self {
            Nested::Struct(fields) => DataType::Struct(arrow_fields(fields)),
            // As Parquet and Delta name what is inside.
            Nested::Array(kind) => {
                DataType::List(Arc::new(Field::new("element", kind.arrow(), true)))
            }
            Nested::Map(kind) => DataType::Map(
                Arc::new(Field::new("key_value", DataType::Struct(map_fields(*kind)), false)),
                false,
            ),
        }
    }
}

/// A column of a warehouse and where it stands in the batch: the number of the feed's column, then of
/// the field in each struct.
#[derive(Debug, Clone, PartialEq)]
pub struct Flat {
    pub column: Column,
    pub path: Vec<usize>,
}

/// The columns with the fields of their structs as columns of their own, named `column_field`. Arrays
/// and maps stay what they are.
pub fn flatten(columns: &[Column]) -> Vec<Flat> {
    let mut flat = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        flatten_into(column.clone(), vec![index], &mut flat);
    }
    flat
}

fn flatten_into(column: Column, path: Vec<usize>, flat: &mut Vec<Flat>) {
    let ColumnType::Nested(Nested::Struct(fields)) = column.kind else {
        flat.push(Flat { column, path });
        return;
    };
    for (index, (name, kind)) in fields.iter().enumerate() {
        let inner = Column {
            path: Some(format!("{}.{name}", column.path())),
            ..Column::new(format!("{}_{name}", column.name), *kind)
        };
        let path = path.iter().copied().chain([index]).collect();
        flatten_into(inner, path, flat);
    }
}

/// The Arrow fields of a struct.
pub fn arrow_fields(fields: &[(String, ColumnType)]) -> Fields {
    fields.iter().map(|(name, kind)| Field::new(name, kind.arrow(), true)).collect()
}

/// The Arrow fields of a map's entries.
pub fn map_fields(kind: ColumnType) -> Fields {
    let key = Field::new("key", DataType::Utf8, false);
    [key, Field::new("value", kind.arrow(), true)].into_iter().collect()
}

impl fmt::Display for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Nested::Array(kind) => write!(f, "array<{kind}>"),
            Nested::Map(kind) => write!(f, "map<string,{kind}>"),
            Nested::Struct(fields) => {
                f.write_str("struct<")?;
                for (index, (name, kind)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{name}:{kind}")?;
                }
                f.write_str(">")
            }
        }
    }
}

/// A nested type, if the text is one.
pub(super) fn parse(text: &str) -> Option<ColumnType> {
    parse_at(text, 1)
}

fn parse_at(text: &str, level: usize) -> Option<ColumnType> {
    if level > MAX_LEVELS {
        return None;
    }
    let (word, inside) = text.strip_suffix('>')?.split_once('<')?;
    let inner = |text: &str| -> Option<ColumnType> {
        let text = text.trim();
        match text.ends_with('>') {
            true => parse_at(text, level + 1),
            false => text.parse().ok(),
        }
    };
    let nested = match (word.trim(), parts(inside)?.as_slice()) {
        ("array", [kind]) => Nested::Array(inner(kind)?),
        ("map", [key, kind]) if key.trim() == "string" => Nested::Map(inner(kind)?),
        ("struct", fields) => {
            let mut seen = HashSet::new();
            let field = |field: &&str| {
                let (name, kind) = field.split_once(':')?;
                let name = name.trim();
                // Readers of the lake do not tell case apart.
                let new = seen.insert(name.to_lowercase());
                (new && valid_name(name)).then_some((name.to_owned(), inner(kind)?))
            };
            Nested::Struct(fields.iter().map(field).collect::<Option<_>>()?)
        }
        _ => return None,
    };
    Some(nested.intern())
}

/// A field's name that every reader of the lake takes as it is.
pub fn valid_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What commas divide, outside of brackets.
fn parts(text: &str) -> Option<Vec<&str>> {
    let (mut depth, mut start) = (0_usize, 0);
    let mut parts = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'<' | b'(' => depth += 1,
            b'>' | b')' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (depth == 0).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_inside_types_are_read() {
        let text = " struct< a : array< decimal(5, 2) >, B_1:map<string, struct<c:json>> > ".trim();
        let kind: ColumnType = text.parse().unwrap();
        let plain = "struct<a:array<decimal(5,2)>,B_1:map<string,struct<c:json>>>";
        assert_eq!(kind.to_string(), plain);
        assert_eq!(plain.parse(), Ok(kind));
        let ColumnType::Nested(one) = kind else { panic!("{kind:?}") };
        let Ok(ColumnType::Nested(other)) = plain.parse() else { panic!("{plain}") };
        assert!(std::ptr::eq(one, other), "one copy of each");
    }

    #[test]
    fn structs_are_flattened() {
        let kind = "struct<a:long,b:struct<c:string,d:array<long>>>".parse().unwrap();
        let flat = flatten(&[Column::new("x", ColumnType::Int), Column::new("y", kind)]);
        let names: Vec<_> = flat.iter().map(|flat| flat.column.name.as_str()).collect();
        assert_eq!(names, ["x", "y_a", "y_b_c", "y_b_d"]);
        assert_eq!(flat[3].path, [1, 1, 1]);
        assert_eq!(flat[3].column.kind.to_string(), "array<long>");
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for text in [
            "array<>",
            "array<long,long>",
            "array<long",
            "array<long>>",
            "map<long,long>",
            "map<string>",
            "struct<>",
            "struct<a>",
            "struct<a:long,A:long>",
            "struct<a b:long>",
            "struct<1a:long>",
            "struct<a:long,>",
            "list<long>",
            "array<text>",
        ] {
            assert!(text.parse::<ColumnType>().is_err(), "{text}");
        }
        let deep = format!("{}long{}", "array<".repeat(17), ">".repeat(17));
        assert!(deep.parse::<ColumnType>().is_err());
    }
}
