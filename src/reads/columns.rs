//! Where in a record the values of a sink's columns come from.

use arrow::datatypes::{DataType, FieldRef, SchemaRef};

use crate::config::{
    ColumnType, DOCUMENT_COLUMN, Feed, Placeholder, REST_COLUMN, Schema, TimeSource,
};
use crate::governance::{Part, Paths, SinkColumn, TimeColumns};
use crate::layout::Layout;
use crate::warehouse::shaped;

/// Kafka's timestamp, in the lake.
const TIMESTAMP: &str = "_timestamp";

/// The columns of a lake table as a scan gives them.
pub fn of_lake(feed: &Feed, table: &SchemaRef) -> Vec<SinkColumn> {
    let layout = Layout::of(feed).ok();
    let folders = layout.as_ref().map(Layout::partitioned_by).unwrap_or_default();
    let time = match feed.lake_time() {
        TimeSource::Column(index) => feed.schema.columns.get(index),
        TimeSource::Kafka | TimeSource::Ingest => None,
    };
    let column = |field: &FieldRef| {
        let name = field.name().as_str();
        let here = |part| {
            let (name, kind) = (name.to_owned(), plain(field.data_type()));
            SinkColumn { path: name.clone(), name, kind, part }
        };
        let at = feed.schema.columns.iter().position(|column| column.name == name);
        at.map(|index| own(&feed.schema, index)).unwrap_or_else(|| {
            let folder = folders.iter().find(|(own, _)| *own == name).map(|(_, of)| *of);
            // A folder's date is of the time that it goes by, whatever the folder is called.
            match (folder.filter(|of| is_time(*of)).and(time), name) {
                (Some(time), _) => SinkColumn { path: time.path().to_owned(), ..here(Part::Value) },
                (None, "_key") => here(Part::RawKey),
                (None, "_headers") => SinkColumn { kind: ColumnType::Json, ..here(Part::Headers) },
                (None, _) => here(Part::Coordinate),
            }
        })
    };
    table.fields().iter().map(column).collect()
}

fn is_time(of: Placeholder) -> bool {
    use Placeholder::{Date, Day, Hour, Month, Year};
    matches!(of, Year | Month | Day | Hour | Date)
}

/// The column at a place among a feed's own.
fn own(schema: &Schema, index: usize) -> SinkColumn {
    let column = &schema.columns[index];
    let part = match column.name.as_str() {
        REST_COLUMN if schema.rest => Part::Rest,
        _ if index < schema.from_key() => Part::Key,
        _ => Part::Value,
    };
    let (name, path) = (column.name.clone(), column.path().to_owned());
    SinkColumn { name, path, kind: column.kind, part }
}

/// The type that a column has which no feed declares.
fn plain(kind: &DataType) -> ColumnType {
    match kind {
        DataType::Int32 => ColumnType::Int,
        DataType::Int64 => ColumnType::Long,
        DataType::Timestamp(..) => ColumnType::Timestamp,
        DataType::Date32 => ColumnType::Date,
        DataType::Binary => ColumnType::Bytes,
        _ => ColumnType::String,
    }
}

/// The columns of a table in the warehouse.
pub fn of_warehouse(feed: &Feed) -> Vec<SinkColumn> {
    let schema = &shaped(feed).schema;
    let columns = (0..schema.columns.len()).map(|index| own(schema, index));
    let column = |column: SinkColumn| {
        let whole = feed.is_document() && column.part == Part::Value;
        match whole && column.name == DOCUMENT_COLUMN {
            true => SinkColumn { part: Part::Document, ..column },
            false => column,
        }
    };
    columns.map(column).collect()
}

/// The feed's columns by all the names that they have in either sink.
pub fn paths(feed: &Feed) -> Paths {
    let lake = feed.schema.columns.iter();
    let table = shaped(feed);
    let both = lake.chain(table.schema.columns.iter());
    both.map(|column| (column.name.clone(), column.path().to_owned())).collect()
}

/// The columns by which a record has its day, among those that the sink has.
pub fn time(feed: &Feed, columns: &[SinkColumn]) -> TimeColumns {
    let event = feed.schema.time.and_then(|index| feed.schema.columns.get(index));
    let event = event.map(|column| column.name.clone());
    let has = |name: &String| columns.iter().any(|column| column.name == *name);
    let kafka = Some(TIMESTAMP.to_owned()).filter(has);
    TimeColumns { event: event.filter(has), kafka }
}
