//! A lake table's columns, in Arrow and in Delta.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake_core::kernel::{
    ArrayType, DataType as DeltaType, MapType, PrimitiveType, StructField, StructType,
};

use crate::config::{Column, ColumnType, Feed, FeedKind, Placeholder, VERSION};
use crate::layout::Layout;

/// The Arrow schema of the files of a feed: its columns, then the record's coordinates.
///
/// | column | type | meaning |
/// |---|---|---|
/// | `_op` | string | `upsert` or `delete`; table feeds only |
/// | `_topic`, `_partition`, `_offset` | string, int, long | where the record stood |
/// | `_timestamp` | timestamp | Kafka's timestamp, UTC |
/// | `_key` | binary | the record key's bytes; with `keep_key` |
/// | `_headers` | string | the headers as JSON; with `keep_headers` |
pub fn lake_schema(feed: &Feed) -> SchemaRef {
    let mut fields: Vec<Field> =
        feed.schema.arrow().fields().iter().map(|field| field.as_ref().clone()).collect();
    if feed.kind == FeedKind::Table {
        fields.push(Field::new("_op", constant_text(), true));
    }
    fields.extend([
        Field::new("_topic", constant_text(), true),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("_timestamp", timestamp(), true),
    ]);
    let options = feed.lake.clone().unwrap_or_default();
    if options.keep_key {
        fields.push(Field::new("_key", DataType::Binary, true));
    }
    if options.keep_headers {
        fields.push(Field::new("_headers", DataType::Utf8, true));
    }
    Arc::new(Schema::new(fields))
}

/// The columns of a file of JSON lines, as if a line were a record: those of [`lake_schema`], whatever of them
/// the feed keeps.
pub fn line_columns(feed: &Feed) -> impl Iterator<Item = Column> {
    let own = feed.schema.columns.iter();
    let own = own.map(|column| Column::new(column.name.clone(), column.kind));
    let ours = [
        ("_op", ColumnType::String),
        ("_topic", ColumnType::String),
        ("_partition", ColumnType::Int),
        ("_offset", ColumnType::Long),
        ("_timestamp", ColumnType::Timestamp),
        ("_key", ColumnType::Bytes),
        ("_headers", ColumnType::Json),
    ];
    own.chain(ours.map(|(name, kind)| Column::new(name, kind)))
}

/// Text of few values: one byte a row in memory.
pub fn constant_text() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8))
}

pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The Delta schema of a table whose files have `files` as their schema and `layout` as their paths.
pub fn delta_columns(files: &Schema, layout: &Layout) -> Vec<StructField> {
    let columns =
        files.fields().iter().map(|field| (field.name().as_str(), delta_type(field.data_type())));
    let partitions = layout.partitioned_by().into_iter();
    let partitions = partitions.map(|(name, of)| (name, delta_type(&partition_type(of))));
    columns.chain(partitions).map(|(name, kind)| StructField::nullable(name, kind)).collect()
}

/// The type of a partition column.
pub fn partition_type(of: Placeholder) -> DataType {
    match of {
        Placeholder::Date => DataType::Date32,
        Placeholder::Year | Placeholder::Month | Placeholder::Day | Placeholder::Hour => {
            DataType::Int32
        }
        _ => DataType::Utf8,
    }
}

/// The Delta schema of a table of snapshots: the feed's columns, and the version they are of.
pub fn snapshot_columns(feed: &Feed) -> Vec<StructField> {
    let schema = feed.schema.arrow();
    let columns =
        schema.fields().iter().map(|field| (field.name().as_str(), delta_type(field.data_type())));
    let columns = columns.chain([(VERSION, DeltaType::STRING)]);
    columns.map(|(name, kind)| StructField::nullable(name, kind)).collect()
}

fn delta_type(kind: &DataType) -> DeltaType {
    let primitive = match kind {
        DataType::Struct(fields) => {
            let field = |field: &Arc<Field>| {
                StructField::nullable(field.name(), delta_type(field.data_type()))
            };
            // Their names are different: a type whose are not is refused with the feed file.
            let fields = fields.iter().map(field);
            return DeltaType::from(StructType::new_unchecked(fields));
        }
        DataType::List(item) => {
            return DeltaType::from(ArrayType::new(delta_type(item.data_type()), true));
        }
        DataType::Map(entries, _) => {
            let value = match entries.data_type() {
                DataType::Struct(fields) if fields.len() == 2 => delta_type(fields[1].data_type()),
                _ => DeltaType::STRING,
            };
            return DeltaType::from(MapType::new(DeltaType::STRING, value, true));
        }
        DataType::Int32 => PrimitiveType::Integer,
        DataType::Int64 => PrimitiveType::Long,
        DataType::Float64 => PrimitiveType::Double,
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::Date32 => PrimitiveType::Date,
        DataType::Timestamp(..) => PrimitiveType::Timestamp,
        DataType::Binary => PrimitiveType::Binary,
        DataType::Decimal128(precision, scale) => {
            PrimitiveType::decimal(*precision, *scale as u8).unwrap_or(PrimitiveType::String)
        }
        _ => PrimitiveType::String,
    };
    DeltaType::Primitive(primitive)
}
