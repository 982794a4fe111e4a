//! Structs, arrays and maps on their way into a database, which has neither: as JSON, or flattened into
//! columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder, make_array};
use arrow::buffer::NullBuffer;
use arrow::error::ArrowError;

use crate::config::{Column, ColumnType, Feed, Flat, Nested, NestedIn, flatten};
use crate::json;
use crate::record::Batch;

/// How a feed's columns stand in a warehouse.
pub(super) struct Unnested {
    feed: Feed,
    flat: Vec<Flat>,
    /// The feed's own columns, by the number in [`Flat::path`].
    columns: Vec<Column>,
}

impl Unnested {
    /// None where they stand as they are.
    pub fn of(feed: &Feed) -> Option<Self> {
        let nested = |column: &Column| matches!(column.kind, ColumnType::Nested(_));
        let columns = &feed.schema.columns;
        if !columns.iter().any(nested) {
            return None;
        }
        let way = feed.warehouse.as_ref().map(|options| options.nested).unwrap_or_default();
        let flat = match way {
            NestedIn::Columns => flatten(columns),
            NestedIn::Json => {
                let whole = |(index, column): (usize, &Column)| Flat {
                    column: column.clone(),
                    path: vec![index],
                };
                columns.iter().enumerate().map(whole).collect()
            }
        };
        let mut shaped = feed.clone();
        let plain = |flat: &Flat| Column {
            kind: if nested(&flat.column) { ColumnType::Json } else { flat.column.kind },
            ..flat.column.clone()
        };
        shaped.schema.columns = flat.iter().map(plain).collect();
        let place = |time: usize| flat.iter().position(|flat| flat.path == [time]);
        shaped.schema.time = feed.schema.time.and_then(place);
        Some(Self { feed: shaped, flat, columns: columns.clone() })
    }

    /// The feed as the database sees it.
    pub fn into_feed(self) -> Feed {
        self.feed
    }

    pub fn batch(&self, batch: &Batch) -> Result<Batch, ArrowError> {
        let arrays = self.flat.iter().map(|flat| self.array(flat, &batch.rows));
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatch::try_new(self.feed.schema.arrow(), arrays)?;
        Ok(Batch { rows, ..batch.clone() })
    }

    fn array(&self, flat: &Flat, rows: &RecordBatch) -> Result<ArrayRef, ArrowError> {
        let (column, fields) = flat.path.split_first().map_or((0, &[][..]), |(a, b)| (*a, b));
        let mut array = rows.column(column).clone();
        let mut kind = self.columns[column].kind;
        for field in fields {
            let outer = array.as_struct();
            let inner = outer.column(*field).to_data();
            // A field of a struct that is null is null, whatever lies there.
            let nulls = NullBuffer::union(outer.nulls(), inner.nulls());
            array = make_array(inner.into_builder().nulls(nulls).build()?);
            if let ColumnType::Nested(Nested::Struct(fields)) = kind {
                kind = fields[*field].1;
            }
        }
        match kind {
            ColumnType::Nested(_) => spelled(kind, &array),
            _ => Ok(array),
        }
    }
}

/// Each value as JSON.
fn spelled(kind: ColumnType, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let mut texts = StringBuilder::new();
    let mut text = Vec::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        json::write(&mut text, kind, array, row)?;
        // Only whole texts were put in.
        texts.append_value(String::from_utf8_lossy(&text));
    }
    Ok(Arc::new(texts.finish()))
}
