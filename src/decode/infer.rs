//! Columns proposed from sample records, for a feed that declares none.
//!
//! Objects are flattened into columns (`LOCATION.CITY` becomes `location_city`), or kept as structs
//! and arrays; what has no one type that holds every sample (mixtures, maps with many names, and
//! arrays where they are not kept) is kept whole as `json`.

use std::collections::HashSet;

use super::fault::Outcome;
use super::json::Cursor;
use super::nested::each_item;
use super::time;
use crate::avro::AvroSchema;
use crate::config::{
    Column, ColumnType, Key, KeyFormat, Nested, Nesting, PARTITION_COLUMNS, overlaps,
    valid_field_name,
};

/// What the samples suggest.
#[derive(Debug, Clone, PartialEq)]
pub struct Inference {
    /// The value's columns, in the order in which their fields were first seen.
    pub columns: Vec<Column>,
    /// How to read the record key, if every sample has one of the same form.
    pub key: Option<Key>,
    /// Records whose value was a JSON object.
    pub samples: usize,
    /// Records with a value that was not; those without a value count in neither.
    pub skipped: usize,
    /// Fields that no path can name, since their own name is empty or holds a `.`.
    pub left_out: Vec<String>,
}

/// Deepest object that is still flattened, and most fields of one.
const MAX_LEVELS: usize = 8;
const MAX_FIELDS: usize = 100;
/// PostgreSQL's limit of a name, in bytes.
const MAX_NAME: usize = 63;

/// Proposes columns from sample (key, value) records; none if no value is a JSON object. No value
/// column takes a name of `declared`, the key columns the feed has already.
pub fn infer<'a>(
    records: impl IntoIterator<Item = (Option<&'a [u8]>, Option<&'a [u8]>)>,
    declared: &[Column],
    nesting: Nesting,
) -> Option<Inference> {
    let mut value = Object::default();
    let mut key = KeySamples::default();
    let (mut samples, mut skipped) = (0, 0);
    for (key_bytes, value_bytes) in records {
        key.add(key_bytes);
        match value_bytes.map(|bytes| value.add(bytes)) {
            Some(true) => samples += 1,
            Some(false) => skipped += 1,
            None => {}
        }
    }
    if samples == 0 {
        return None;
    }
    // A sink tells names apart by more than case only.
    let mut names = Names::but(declared.iter().map(|column| &*column.name));
    let mut left_out = Vec::new();
    let mut columns = Vec::new();
    for field in value.fields {
        match field.can_be_named() {
            true => field.columns("", nesting, &mut names, &mut columns),
            false => left_out.push(field.name),
        }
    }
    let key = key.propose(&mut names);
    Some(Inference { columns, key, samples, skipped, left_out })
}

/// Proposes columns from the schemas of Avro values, the newest first: its fields, and those of older
/// ones that it has no more. None if none of them is a record. `keys` are the records', `of_keys` the
/// newest schema of the keys where all of them are Avro.
pub fn infer_avro<'a>(
    values: &[&AvroSchema],
    of_keys: Option<&AvroSchema>,
    keys: impl IntoIterator<Item = Option<&'a [u8]>>,
    declared: &[Column],
    nesting: Nesting,
) -> Option<Inference> {
    let mut names = Names::but(declared.iter().map(|column| &*column.name));
    let mut columns: Vec<Column> = Vec::new();
    for (path, kind) in values.iter().filter_map(|schema| schema.columns(nesting)).flatten() {
        if !columns.iter().any(|known| overlaps(known.path(), &path)) {
            columns.push(names.column(&path, kind));
        }
    }
    if columns.is_empty() {
        return None;
    }
    let key = match of_keys {
        Some(schema) => avro_key(schema, &mut names),
        None => {
            let mut samples = KeySamples::default();
            keys.into_iter().for_each(|key| samples.add(key));
            samples.propose(&mut names)
        }
    };
    Some(Inference { columns, key, samples: 0, skipped: 0, left_out: Vec::new() })
}

fn avro_key(schema: &AvroSchema, names: &mut Names) -> Option<Key> {
    let columns = match schema.columns(Nesting::Flatten) {
        Some(fields) => fields.iter().map(|(path, kind)| names.column(path, *kind)).collect(),
        None => vec![names.column("key", schema.bare()?)],
    };
    Some(Key::new(KeyFormat::Avro, columns))
}

/// The kinds of value a field was seen with; one bit each.
mod kind {
    pub const BOOLEAN: u8 = 1;
    pub const LONG: u8 = 2;
    pub const DOUBLE: u8 = 4;
    pub const TIMESTAMP: u8 = 8;
    pub const STRING: u8 = 16;
    pub const OBJECT: u8 = 32;
    pub const ARRAY: u8 = 64;
    /// Integers beyond 64 bits, what is too deep or too wide.
    pub const OTHER: u8 = 128;
}

#[derive(Default)]
struct Object {
    fields: Vec<Field>,
}

pub(super) struct Field {
    pub name: String,
    kinds: u8,
    inner: Object,
    /// What all items of its arrays have in common.
    items: Option<Box<Field>>,
}

impl Object {
    /// Adds a sample, if it is an object from its first byte to its last.
    fn add(&mut self, bytes: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let mut cursor = Cursor::new(text);
        cursor.space();
        if cursor.peek() != b'{' {
            return false;
        }
        // Once for the syntax, so that a broken sample leaves no trace.
        let start = cursor.at();
        if cursor.skip().and_then(|()| cursor.end()).is_err() {
            return false;
        }
        cursor.rewind(start);
        self.read(&mut cursor, 1).is_ok()
    }

    fn read(&mut self, cursor: &mut Cursor<'_>, level: usize) -> Outcome<()> {
        let mut scratch = String::new();
        cursor.eat(b'{');
        cursor.space();
        if cursor.eat(b'}') {
            return Ok(());
        }
        loop {
            // A name with half a surrogate pair belongs to no field.
            let name = cursor.text(&mut scratch)?.to_owned();
            cursor.colon()?;
            self.field(name).read(cursor, level)?;
            if !cursor.more_members()? {
                return Ok(());
            }
        }
    }

    fn field(&mut self, name: String) -> &mut Field {
        let known = self.fields.iter().position(|field| field.name == name);
        let index = known.unwrap_or_else(|| {
            self.fields.push(Field::new(name));
            self.fields.len() - 1
        });
        &mut self.fields[index]
    }

    /// A struct, if every name can be a field's.
    fn struct_type(&self) -> Option<ColumnType> {
        let mut seen = HashSet::new();
        let possible = (1..=MAX_FIELDS).contains(&self.fields.len())
            && self.fields.iter().all(|field| {
                valid_field_name(&field.name) && seen.insert(field.name.to_lowercase())
            });
        let field = |field: &Field| (field.name.clone(), field.nested_type());
        possible.then(|| Nested::Struct(self.fields.iter().map(field).collect()).intern())
    }

    /// Whether every field inside can be a column of its own.
    fn can_be_flattened(&self) -> bool {
        (1..=MAX_FIELDS).contains(&self.fields.len()) && self.fields.iter().all(Field::can_be_named)
    }
}

impl Field {
    pub fn new(name: String) -> Self {
        Self { name, kinds: 0, inner: Object::default(), items: None }
    }

    pub fn read(&mut self, cursor: &mut Cursor<'_>, level: usize) -> Outcome<()> {
        let kind = match cursor.peek() {
            b'n' => 0,
            b't' | b'f' => kind::BOOLEAN,
            b'"' => {
                let mut scratch = String::new();
                let text = cursor.text(&mut scratch)?;
                self.kinds |= if time::is_zoned(text) { kind::TIMESTAMP } else { kind::STRING };
                return Ok(());
            }
            // Fields are looked up one by one: a map of many names is not worth walking.
            b'{' if level < MAX_LEVELS && self.inner.fields.len() <= MAX_FIELDS => {
                self.kinds |= kind::OBJECT;
                return self.inner.read(cursor, level + 1);
            }
            b'[' if level < MAX_LEVELS => {
                self.kinds |= kind::ARRAY;
                let items = self.items.get_or_insert_with(|| Box::new(Field::new(String::new())));
                return each_item(cursor, |cursor| items.read(cursor, level + 1));
            }
            b'-' | b'0'..=b'9' => {
                let number = cursor.number()?;
                self.kinds |= match (number.is_integer(), number.to_long()) {
                    (true, Ok(_)) => kind::LONG,
                    (true, Err(_)) => kind::OTHER,
                    (false, _) if number.to_double().is_err() => kind::OTHER,
                    (false, _) => kind::DOUBLE,
                };
                return Ok(());
            }
            _ => kind::OTHER,
        };
        self.kinds |= kind;
        cursor.skip()
    }

    /// Paths and types of the columns it becomes, where a value was seen.
    pub fn types(&self, prefix: &str, nesting: Nesting, types: &mut Vec<(String, ColumnType)>) {
        let path = format!("{prefix}{}", self.name);
        if nesting == Nesting::Keep {
            types.push((path, self.nested_type()));
        } else if self.kinds == kind::OBJECT && self.inner.can_be_flattened() {
            let prefix = format!("{path}.");
            let fields = self.inner.fields.iter().filter(|field| field.kinds != 0);
            fields.for_each(|field| field.types(&prefix, nesting, types));
        } else {
            types.push((path, self.column_type()));
        }
    }

    pub fn can_be_named(&self) -> bool {
        !self.name.is_empty() && !self.name.contains('.')
    }

    fn columns(
        &self,
        prefix: &str,
        nesting: Nesting,
        names: &mut Names,
        columns: &mut Vec<Column>,
    ) {
        let path = format!("{prefix}{}", self.name);
        if nesting == Nesting::Keep && self.kinds != 0 {
            columns.push(column(&path, self.nested_type(), names));
            return;
        }
        if self.kinds == kind::OBJECT && self.inner.can_be_flattened() {
            let prefix = format!("{path}.");
            for field in &self.inner.fields {
                field.columns(&prefix, nesting, names, columns);
            }
            return;
        }
        columns.push(column(&path, self.column_type(), names));
    }

    /// Its type with the types inside it.
    fn nested_type(&self) -> ColumnType {
        match (self.kinds, &self.items) {
            // Inside a type nothing can be added later: what was never seen may be anything.
            (0, _) => ColumnType::Json,
            (kind::OBJECT, _) => self.inner.struct_type().unwrap_or(ColumnType::Json),
            (kind::ARRAY, Some(items)) => Nested::Array(items.nested_type()).intern(),
            _ => self.column_type(),
        }
    }

    fn column_type(&self) -> ColumnType {
        const NUMBER: u8 = kind::LONG | kind::DOUBLE;
        const TEXT: u8 = kind::TIMESTAMP | kind::STRING;
        match self.kinds {
            kind::BOOLEAN => ColumnType::Boolean,
            kind::LONG => ColumnType::Long,
            kind::DOUBLE | NUMBER => ColumnType::Double,
            kind::TIMESTAMP => ColumnType::Timestamp,
            // Never anything but null: a string column can hold most of what may come.
            0 | kind::STRING | TEXT => ColumnType::String,
            _ => ColumnType::Json,
        }
    }
}

fn column(path: &str, kind: ColumnType, names: &mut Names) -> Column {
    let name = names.make(path);
    let path = (name != path).then(|| path.to_owned());
    Column { path, ..Column::new(name, kind) }
}

/// Column names given so far, without case, which is not enough to tell two apart in a sink.
pub(super) struct Names(HashSet<String>);

impl Names {
    /// None of these.
    pub fn but<'a>(taken: impl Iterator<Item = &'a str>) -> Self {
        let taken = taken.map(str::to_ascii_lowercase);
        Self(taken.chain(PARTITION_COLUMNS.map(str::to_owned)).collect())
    }

    pub fn column(&mut self, path: &str, kind: ColumnType) -> Column {
        column(path, kind, self)
    }

    /// A valid name after `path`, not given before.
    fn make(&mut self, path: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let name: String = path.chars().map(plain).collect();
        let name = name.trim_start_matches('_');
        let mut base = match name.chars().next() {
            None => "field".to_owned(),
            Some('0'..='9') => format!("field_{name}"),
            Some(_) => name.to_owned(),
        };
        base.truncate(MAX_NAME);
        let mut name = base.clone();
        let mut count = 1;
        while !self.0.insert(name.clone()) {
            count += 1;
            let suffix = format!("_{count}");
            name = base.clone();
            name.truncate(MAX_NAME - suffix.len());
            name.push_str(&suffix);
        }
        name
    }
}

/// What the record keys have in common.
struct KeySamples {
    object: Object,
    any: bool,
    all_objects: bool,
    all_quoted: bool,
    all_text: bool,
}

impl Default for KeySamples {
    fn default() -> Self {
        let object = Object::default();
        Self { object, any: false, all_objects: true, all_quoted: true, all_text: true }
    }
}

impl KeySamples {
    fn add(&mut self, key: Option<&[u8]>) {
        let key = key.unwrap_or(&[0xFF]);
        self.any = true;
        self.all_objects = self.all_objects && self.object.add(key);
        let text = std::str::from_utf8(key);
        self.all_text &= text.is_ok();
        self.all_quoted &= text.is_ok_and(|text| {
            let mut cursor = Cursor::new(text);
            cursor.string().and_then(|_| cursor.end()).is_ok()
        });
    }

    fn propose(self, names: &mut Names) -> Option<Key> {
        let one = |names: &mut Names| vec![column("key", ColumnType::String, names)];
        match self {
            Self { any: false, .. } | Self { all_text: false, .. } => None,
            Self { all_objects: true, object, .. } if object.can_be_flattened() => {
                let mut columns = Vec::new();
                let flatten = Nesting::Flatten;
                let fields = object.fields.iter();
                fields.for_each(|field| field.columns("", flatten, names, &mut columns));
                Some(Key::new(KeyFormat::Json, columns))
            }
            Self { all_quoted: true, .. } => Some(Key::new(KeyFormat::Json, one(names))),
            _ => Some(Key::new(KeyFormat::String, one(names))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<Inference> {
        let records = values.iter().map(|value| (None, Some(value.as_bytes())));
        infer(records, &[], Nesting::Flatten)
    }

    fn columns(values: &[&str]) -> Vec<(String, ColumnType, String)> {
        let inference = of(values).expect("an object");
        let whole = |c: Column| (c.name.clone(), c.kind, c.path().to_owned());
        inference.columns.into_iter().map(whole).collect()
    }

    #[test]
    fn finds_the_types() {
        use ColumnType::*;
        let found = columns(&[
            r#"{"A":1,"b":1,"T":"2025-10-13T16:38:28Z","t2":"2025-10-13T16:38:28Z","L":{"C":"x","D":{"E":true}},"n":null,"arr":[1],"mix":1,"o":{}}"#,
            r#"{"A":2,"b":1.5,"T":"2025-10-13T16:38:28+02:00","t2":"soon","L":null,"n":null,"mix":"1","big":99999999999999999999,"inf":1e999}"#,
        ]);
        let expected = [
            ("a", Long, "A"),
            ("b", Double, "b"),
            ("t", Timestamp, "T"),
            ("t2", String, "t2"),
            ("l_c", String, "L.C"),
            ("l_d_e", Boolean, "L.D.E"),
            ("n", String, "n"),
            ("arr", Json, "arr"),
            ("mix", Json, "mix"),
            ("o", Json, "o"),
            ("big", Json, "big"),
            ("inf", Json, "inf"),
        ];
        let expected = expected.map(|(name, kind, path)| (name.to_owned(), kind, path.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn keeps_what_is_nested() {
        let values = [
            r#"{"o":{"a":1,"b":[]},"l":[1,null],"deep":[{"x":1},{"y":"t"}],"mix":[1,"a"],"bad":{"a b":1},"case":{"a":1,"A":2},"e":[]}"#,
            r#"{"o":{"b":[true],"c":{"d":1.5}},"l":[2.5],"deep":[],"e":null}"#,
        ];
        let records = values.iter().map(|value| (None, Some(value.as_bytes())));
        let found = infer(records, &[], Nesting::Keep).unwrap().columns;
        let found: Vec<_> = found.iter().map(|it| format!("{} {}", it.name, it.kind)).collect();
        let expected = [
            "o struct<a:long,b:array<boolean>,c:struct<d:double>>",
            "l array<double>",
            "deep array<struct<x:long,y:string>>",
            "mix array<json>",
            "bad json",
            "case json",
            "e array<json>",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn makes_names_valid_and_different() {
        let long = "x".repeat(70);
        let text = format!(
            r#"{{"a.b":1,"A":1,"a":2,"_A":3,"1st":4,"né e":5,"日本":6,"{long}":7,"{long}y":8,"m":{{"k.1":1}},"":9,"a_2":0}}"#
        );
        let inference = of(&[&text]).unwrap();
        let names: Vec<_> = inference.columns.iter().map(|column| column.name.as_str()).collect();
        let (cut, cut_2) = ("x".repeat(63), format!("{}_2", "x".repeat(61)));
        let expected =
            ["a", "a_2", "a_3", "field_1st", "n__e", "field", &cut, &cut_2, "m", "a_2_2"];
        assert_eq!(names, expected);
        assert_eq!(inference.left_out, ["a.b", ""]);
        assert_eq!(inference.columns[8].kind, ColumnType::Json);
    }

    #[test]
    fn skips_what_is_no_object() {
        assert_eq!(of(&["[1]", "", "{", "null", "{\"a\":1}x", "{\"a\":01}"]), None);
        let inference = of(&["{\"a\":tru}", "{\"b\":1}", "5"]).unwrap();
        assert_eq!((inference.samples, inference.skipped, inference.columns.len()), (1, 2, 1));
    }

    #[test]
    fn keeps_maps_and_deep_objects_whole() {
        let wide: Vec<_> = (0..200).map(|n| format!("\"k{n}\":{n}")).collect();
        let wide = format!("{{\"m\":{{{}}}}}", wide.join(","));
        assert_eq!(columns(&[&wide, &wide]), [("m".to_owned(), ColumnType::Json, "m".to_owned())]);
        let deep = format!("{}1{}", "{\"d\":".repeat(20), "}".repeat(20));
        let found = columns(&[&deep]);
        assert_eq!((found.len(), found[0].1), (1, ColumnType::Json));
    }

    #[test]
    fn proposes_a_key() {
        let key = |keys: &[Option<&str>]| {
            let records = keys.iter().map(|k| (k.map(str::as_bytes), Some(&b"{\"key\":1}"[..])));
            let key = infer(records, &[], Nesting::Flatten).unwrap().key;
            key.map(|k| (k.format, k.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>()))
        };
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(key(&[Some("TXN-1")]), Some((KeyFormat::String, names(&["key_2"]))));
        assert_eq!(key(&[Some("\"TXN-1\"")]), Some((KeyFormat::Json, names(&["key_2"]))));
        let object = r#"{"USER_ID":"u","TYPE":"t"}"#;
        assert_eq!(key(&[Some(object)]), Some((KeyFormat::Json, names(&["user_id", "type"]))));
        assert_eq!(key(&[Some(object), Some("x")]), Some((KeyFormat::String, names(&["key_2"]))));
        assert_eq!(key(&[Some("x"), None]), None);
    }

    #[test]
    fn leaves_declared_names_alone() {
        let id = Column::new("id", ColumnType::String);
        let found = infer([(None, Some(&b"{\"ID\":1}"[..]))], &[id], Nesting::Flatten).unwrap();
        assert_eq!(found.columns[0].name, "id_2");
    }
}
