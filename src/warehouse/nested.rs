//! Structs, arrays and maps on their way into a database, which has neither: as JSON, or flattened into
//! columns. The adapters behind it know plain columns only.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder, make_array};
use arrow::buffer::NullBuffer;
use arrow::error::ArrowError;
use async_trait::async_trait;

use super::{ClaimRequest, Warehouse};
use crate::config::{Column, ColumnType, Feed, Flat, Nested, NestedIn, flatten};
use crate::json;
use crate::record::{
    Batch, Claim, GapReason, OffsetRange, Part, Progress, SinkError, TopicId, TopicPartition,
    Verdict,
};

/// How a feed's columns stand in a warehouse.
pub struct Shape {
    feed: Feed,
    flat: Vec<Flat>,
    /// The feed's own columns, by the number in [`Flat::path`].
    columns: Vec<Column>,
}

impl Shape {
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
    pub fn feed(&self) -> &Feed {
        &self.feed
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

/// A warehouse that takes nested columns.
pub(super) struct Shaped<W>(pub W);

fn shaped<'f>(feed: &'f Feed, shape: &'f Option<Shape>) -> &'f Feed {
    shape.as_ref().map_or(feed, Shape::feed)
}

#[async_trait]
impl<W: Warehouse> Warehouse for Shaped<W> {
    async fn migrate(&self) -> Result<Vec<String>, SinkError> {
        self.0.migrate().await
    }

    async fn check_schema(&self) -> Result<(), SinkError> {
        self.0.check_schema().await
    }

    async fn installation(&self, mine: uuid::Uuid, adopt: bool) -> Result<uuid::Uuid, SinkError> {
        self.0.installation(mine, adopt).await
    }

    async fn prepare(&self, feed: &Feed) -> Result<(), SinkError> {
        self.0.prepare(shaped(feed, &Shape::of(feed))).await
    }

    async fn claim(
        &self,
        feed: &Feed,
        requests: &[ClaimRequest],
    ) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        self.0.claim(shaped(feed, &Shape::of(feed)), requests).await
    }

    async fn progress(&self, feed: &str) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        self.0.progress(feed).await
    }

    async fn write(&self, feed: &Feed, parts: &[Part]) -> Result<Vec<Verdict>, SinkError> {
        let Some(shape) = Shape::of(feed) else { return self.0.write(feed, parts).await };
        let parts = parts.to_vec();
        let reshaped = tokio::task::spawn_blocking(move || {
            let part = |part: Part| {
                let batches = part.batches.iter().map(|batch| shape.batch(batch).map(Arc::new));
                let batches = batches.collect::<Result<_, _>>()?;
                Ok(Part { batches, ..part })
            };
            let parts: Result<Vec<Part>, ArrowError> = parts.into_iter().map(part).collect();
            (shape, parts)
        });
        let (shape, parts) = reshaped.await.map_err(|it| SinkError::lasting(it.to_string()))?;
        let parts = parts.map_err(|it| SinkError::lasting(it.to_string()))?;
        self.0.write(shape.feed(), &parts).await
    }

    async fn open_gap(
        &self,
        feed: &Feed,
        source: &TopicPartition,
        claim: Claim,
        gap: OffsetRange,
    ) -> Result<(), SinkError> {
        self.0.open_gap(feed, source, claim, gap).await
    }

    async fn record_gap(
        &self,
        feed: &Feed,
        source: &TopicPartition,
        claim: Claim,
        gap: OffsetRange,
        reason: GapReason,
    ) -> Result<Verdict, SinkError> {
        self.0.record_gap(feed, source, claim, gap, reason).await
    }

    async fn reset(
        &self,
        feed: &str,
        source: &TopicPartition,
        topic_id: TopicId,
        next_offset: i64,
    ) -> Result<(), SinkError> {
        self.0.reset(feed, source, topic_id, next_offset).await
    }

    async fn keep_columns(&self, feed: &str, columns: &str) -> Result<String, SinkError> {
        self.0.keep_columns(feed, columns).await
    }

    async fn kept_columns(&self, feed: &str) -> Result<Option<String>, SinkError> {
        self.0.kept_columns(feed).await
    }

    async fn ping(&self) -> Result<(), SinkError> {
        self.0.ping().await
    }
}
