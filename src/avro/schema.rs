//! A schema made ready for reading: names resolved, types numbered, field names spelled as JSON.

use std::collections::HashMap;
use std::fmt;

use apache_avro::Schema;
use apache_avro::schema::{Name, Namespace};
use serde_json::Value;

use crate::config::{ColumnType, Nested, Nesting, valid_field_name};

/// A writer's schema.
#[derive(Debug)]
pub struct AvroSchema {
    pub(super) nodes: Vec<Node>,
}

/// Number of a node; the root is the first.
pub(super) type Id = usize;

#[derive(Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    /// Sixteen bytes; one that is a string is no other than any string.
    Uuid,
    /// Its symbols as JSON.
    Enum(Vec<String>),
    Record(Vec<Field>),
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
    /// Bytes, or so many of them.
    Decimal {
        precision: usize,
        scale: usize,
        fixed: Option<usize>,
    },
    Date,
    /// Units of a second.
    Time(i64),
    Timestamp(i64),
    LocalTimestamp(i64),
}

#[derive(Debug)]
pub(super) struct Field {
    pub name: String,
    /// The name as JSON.
    pub quoted: String,
    pub value: Id,
}

/// Deepest record whose fields are columns or types of their own, and most columns: records that hold
/// one record twice, and that another twice, are short to write and endless to spell out.
const MAX_LEVELS: usize = 8;
const MAX_COLUMNS: usize = 1000;
/// Fields looked at for columns; what lies beyond is JSON.
const MAX_STEPS: usize = 10_000;

/// Records that are being looked into, and fields that were looked at.
struct Open {
    records: Vec<Id>,
    steps: usize,
}

/// Deepest nesting of a schema's documents together: each is bounded by itself, and one may refer to the
/// next.
const MAX_NESTING: usize = 1000;

/// Most digits of a decimal after its point.
const MAX_SCALE: usize = 1000;

const MILLIS: i64 = 1_000;
const MICROS: i64 = 1_000_000;
const NANOS: i64 = 1_000_000_000;

impl AvroSchema {
    /// `references` are the schemas whose names it uses.
    pub fn parse(text: &str, references: &[String]) -> Result<Self, String> {
        let wrong = |error: &dyn fmt::Display| format!("not an Avro schema: {error}");
        let plain = |text: &str| as_the_library_keeps_it(text).map_err(|error| wrong(&error));
        let references: Vec<String> =
            references.iter().map(|text| plain(text)).collect::<Result<_, _>>()?;
        let nesting: usize = references.iter().map(|text| nesting(text)).sum();
        if nesting > MAX_NESTING {
            return Err(format!(
                "its references are nested {nesting} levels deep, of {MAX_NESTING}"
            ));
        }
        let (schema, others) = Schema::parse_str_with_list(&plain(text)?, &references)
            .map_err(|error| wrong(&error))?;
        let mut compile =
            Compile { nodes: Vec::new(), named: HashMap::new(), open: HashMap::new() };
        for schema in others.iter().chain([&schema]) {
            compile.declare(schema, &None);
        }
        // The first, whatever it holds.
        compile.node(&schema, &None)?;
        Ok(Self { nodes: compile.nodes })
    }

    /// Paths and types of the columns that a record of this schema becomes; none if it is no record.
    pub fn columns(&self, nesting: Nesting) -> Option<Vec<(String, ColumnType)>> {
        let Node::Record(fields) = &self.nodes[0] else { return None };
        let mut columns = Vec::new();
        let mut open = Open { records: vec![0], steps: 0 };
        self.fields("", fields, nesting, &mut open, &mut columns);
        Some(columns)
    }

    /// The type of a value that is no record.
    pub fn bare(&self) -> Option<ColumnType> {
        match self.nodes[0] {
            Node::Record(_) => None,
            _ => Some(self.kind(
                self.not_null(0)?,
                Nesting::Flatten,
                &mut Open { records: vec![0], steps: 0 },
            )),
        }
    }

    fn fields(
        &self,
        prefix: &str,
        fields: &[Field],
        nesting: Nesting,
        open: &mut Open,
        columns: &mut Vec<(String, ColumnType)>,
    ) {
        for field in fields {
            let path = format!("{prefix}{}", field.name);
            let Some(id) = self.not_null(field.value) else { continue };
            open.steps += 1;
            if columns.len() >= MAX_COLUMNS || open.steps > MAX_STEPS {
                return;
            }
            let deeper = nesting == Nesting::Flatten && open.records.len() < MAX_LEVELS;
            match &self.nodes[id] {
                Node::Record(inner)
                    if deeper && !inner.is_empty() && !open.records.contains(&id) =>
                {
                    open.records.push(id);
                    self.fields(&format!("{path}."), inner, nesting, open, columns);
                    open.records.pop();
                }
                _ => columns.push((path, self.kind(id, nesting, open))),
            }
        }
    }

    /// What a union with null is otherwise; none for null itself.
    fn not_null(&self, id: Id) -> Option<Id> {
        match &self.nodes[id] {
            Node::Null => None,
            Node::Union(of) => {
                let mut of = of.iter().filter(|id| !matches!(self.nodes[**id], Node::Null));
                match (of.next(), of.next()) {
                    (None, _) => None,
                    (Some(one), None) => self.not_null(*one),
                    _ => Some(id),
                }
            }
            _ => Some(id),
        }
    }

    /// The type of a column that holds it. What has no one type, or holds itself, is JSON.
    fn kind(&self, id: Id, nesting: Nesting, open: &mut Open) -> ColumnType {
        open.steps += 1;
        let keep =
            nesting == Nesting::Keep && open.records.len() < MAX_LEVELS && open.steps <= MAX_STEPS;
        match &self.nodes[id] {
            Node::Boolean => ColumnType::Boolean,
            // An int may become a long by Avro's rules, and a column's type stays.
            Node::Int | Node::Long => ColumnType::Long,
            Node::Float | Node::Double => ColumnType::Double,
            Node::Bytes | Node::Fixed(_) => ColumnType::Bytes,
            Node::String | Node::Uuid | Node::Enum(_) | Node::Time(_) => ColumnType::String,
            Node::Decimal { precision: precision @ 1..=38, scale, .. } if scale <= precision => {
                ColumnType::Decimal { precision: *precision as u8, scale: *scale as u8 }
            }
            Node::Decimal { .. } => ColumnType::Number,
            Node::Date => ColumnType::Date,
            Node::Timestamp(_) | Node::LocalTimestamp(_) => ColumnType::Timestamp,
            Node::Array(item) if keep => self.inside(*item, open, Nested::Array),
            Node::Map(value) if keep => self.inside(*value, open, Nested::Map),
            Node::Record(fields) if keep && !open.records.contains(&id) => {
                open.records.push(id);
                let field = |field: &Field| {
                    let kind = self.inner(field.value, open)?;
                    valid_field_name(&field.name).then(|| (field.name.clone(), kind))
                };
                let fields: Option<Vec<_>> = fields.iter().map(field).collect();
                open.records.pop();
                match fields {
                    Some(fields) if !fields.is_empty() => Nested::Struct(fields).intern(),
                    _ => ColumnType::Json,
                }
            }
            _ => ColumnType::Json,
        }
    }

    fn inner(&self, id: Id, open: &mut Open) -> Option<ColumnType> {
        Some(self.kind(self.not_null(id)?, Nesting::Keep, open))
    }

    fn inside(&self, id: Id, open: &mut Open, of: fn(ColumnType) -> Nested) -> ColumnType {
        self.inner(id, open).map_or(ColumnType::Json, |kind| of(kind).intern())
    }
}

struct Compile<'s> {
    nodes: Vec<Node>,
    /// Where each name is declared, and in which namespace.
    named: HashMap<Name, (&'s Schema, Namespace)>,
    /// Those that have a node already.
    open: HashMap<Name, Id>,
}

impl<'s> Compile<'s> {
    /// Notes every name declared inside a schema.
    fn declare(&mut self, schema: &'s Schema, namespace: &Namespace) {
        let own = schema.name().map(|name| name.fully_qualified_name(namespace));
        let inside = own.as_ref().map_or_else(|| namespace.clone(), |name| name.namespace.clone());
        if let Some(name) = own.filter(|_| !matches!(schema, Schema::Ref { .. })) {
            self.named.insert(name, (schema, namespace.clone()));
        }
        match schema {
            Schema::Record(record) => {
                record.fields.iter().for_each(|field| self.declare(&field.schema, &inside));
            }
            Schema::Array(array) => self.declare(&array.items, namespace),
            Schema::Map(map) => self.declare(&map.types, namespace),
            Schema::Union(union) => {
                union.variants().iter().for_each(|schema| self.declare(schema, namespace));
            }
            // By its name it is the decimal and not the bytes inside.
            Schema::Decimal(decimal) => {
                let name = decimal.inner.name().map(|name| name.fully_qualified_name(namespace));
                self.named.extend(name.map(|name| (name, (schema, namespace.clone()))));
            }
            _ => {}
        }
    }

    fn push(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// The number of a schema's node, made if need be; one that holds itself is open by then.
    fn node(&mut self, schema: &'s Schema, namespace: &Namespace) -> Result<Id, String> {
        let name = schema.name().map(|name| name.fully_qualified_name(namespace));
        if let Some(id) = name.as_ref().and_then(|name| self.open.get(name)) {
            return Ok(*id);
        }
        let simple = match schema {
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Boolean,
            Schema::Int => Node::Int,
            Schema::Long => Node::Long,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes | Schema::BigDecimal => Node::Bytes,
            Schema::String | Schema::Uuid => Node::String,
            Schema::Fixed(fixed) if fixed.size == 16 && fixed.attributes.contains_key(UUID) => {
                Node::Uuid
            }
            Schema::Fixed(fixed) => Node::Fixed(fixed.size),
            Schema::Duration => Node::Fixed(12),
            Schema::Enum(of) => Node::Enum(of.symbols.iter().map(|it| quoted(it)).collect()),
            Schema::Decimal(decimal) if decimal.scale > MAX_SCALE => {
                return Err(format!("a decimal of scale {}", decimal.scale));
            }
            Schema::Decimal(decimal) => Node::Decimal {
                precision: decimal.precision,
                scale: decimal.scale,
                fixed: match &*decimal.inner {
                    Schema::Fixed(fixed) => Some(fixed.size),
                    _ => None,
                },
            },
            Schema::Date => Node::Date,
            Schema::TimeMillis => Node::Time(MILLIS),
            Schema::TimeMicros => Node::Time(MICROS),
            Schema::TimestampMillis => Node::Timestamp(MILLIS),
            Schema::TimestampMicros => Node::Timestamp(MICROS),
            Schema::TimestampNanos => Node::Timestamp(NANOS),
            Schema::LocalTimestampMillis => Node::LocalTimestamp(MILLIS),
            Schema::LocalTimestampMicros => Node::LocalTimestamp(MICROS),
            Schema::LocalTimestampNanos => Node::LocalTimestamp(NANOS),
            Schema::Ref { name } => {
                let name = name.fully_qualified_name(namespace);
                let Some((schema, namespace)) = self.named.get(&name).cloned() else {
                    return Err(format!("the schema names {name}, which is nowhere declared"));
                };
                return self.node(schema, &namespace);
            }
            Schema::Array(array) => {
                let id = self.push(Node::Null);
                let items = self.node(&array.items, namespace)?;
                self.nodes[id] = Node::Array(items);
                return Ok(id);
            }
            Schema::Map(map) => {
                let id = self.push(Node::Null);
                let values = self.node(&map.types, namespace)?;
                self.nodes[id] = Node::Map(values);
                return Ok(id);
            }
            Schema::Union(union) => {
                let id = self.push(Node::Null);
                let of: Result<Vec<Id>, String> =
                    union.variants().iter().map(|schema| self.node(schema, namespace)).collect();
                self.nodes[id] = Node::Union(of?);
                return Ok(id);
            }
            Schema::Record(record) => {
                let id = self.push(Node::Null);
                let inside = name.as_ref().and_then(|name| name.namespace.clone());
                self.open.extend(name.map(|name| (name, id)));
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    let value = self.node(&field.schema, &inside)?;
                    let (name, quoted) = (field.name.clone(), quoted(&field.name));
                    fields.push(Field { name, quoted, value });
                }
                self.nodes[id] = Node::Record(fields);
                return Ok(id);
            }
        };
        let id = self.push(simple);
        self.open.extend(name.map(|name| (name, id)));
        Ok(id)
    }
}

/// What a fixed type says of itself where its logical type is taken away.
const UUID: &str = "tidegate.uuid";

/// The schema without the logical types over which the library forgets that a type is fixed, and with
/// it the name that others know it by: the size of such a value could not be told.
fn as_the_library_keeps_it(text: &str) -> serde_json::Result<String> {
    let mut schema: Value = serde_json::from_str(text)?;
    without_lossy_types(&mut schema);
    Ok(schema.to_string())
}

fn without_lossy_types(schema: &mut Value) {
    match schema {
        Value::Array(of) => of.iter_mut().for_each(without_lossy_types),
        Value::Object(fields) => {
            let of_string = fields.get("type").is_some_and(|of| of == "string");
            let logical = fields.get("logicalType").and_then(Value::as_str);
            if let (Some(logical @ ("uuid" | "duration")), false) = (logical, of_string) {
                let uuid = logical == "uuid";
                fields.remove("logicalType");
                if uuid {
                    fields.insert(UUID.to_owned(), Value::Bool(true));
                }
            }
            fields.values_mut().for_each(without_lossy_types);
        }
        _ => {}
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// How deep a JSON document's brackets are, at the most.
fn nesting(text: &str) -> usize {
    let (mut deep, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' => deep += 1,
            b'}' | b']' => deep = deep.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(deep);
    }
    deepest
}
