//! Records as the quarantine keeps them, decoded with the feed as it is now.

use std::sync::Arc;

use arrow::array::BooleanArray;

use super::Place;
use crate::config::{Column, Feed, FeedKind, Schema};
use crate::decode::Decoder;
use crate::record::{Batch, RawBatch, TopicPartition, headers_of};
use crate::registry::learn;
use crate::verify::Kept;
use crate::warehouse::shaped;

/// What decoding made of some records.
pub(super) struct Decoded {
    /// Their rows, and no rejects.
    pub rows: Batch,
    /// Those that are rejected again, each with the reason.
    pub rejected: Vec<(i64, String)>,
}

impl Place<'_> {
    /// Decodes records' own bytes. New fields are added to the feed's columns first, where it evolves.
    pub async fn decode(
        &mut self,
        source: &TopicPartition,
        kept: &[Kept],
    ) -> Result<Decoded, String> {
        let raw = raw(source, kept)?;
        loop {
            let mut decoder = decoder(&self.feed, self.hand.dry_run);
            learn(self.catalog.registry(), &mut decoder, &raw).await?;
            let batch = decoder.decode(&raw, raw.range.start);
            let Some(new) = decoder.new_fields() else { return Ok(split(batch)) };
            self.catalog.extend(self.file, &self.feed, &new).await?;
            self.feed = Arc::new(self.catalog.feed(self.file, &source.topic).await?);
        }
    }
}

/// A decoder for the feed; a `plain` one looks for no new fields.
pub(super) fn decoder(feed: &Feed, plain: bool) -> Decoder {
    let mut feed = feed.clone();
    feed.schema.evolve = feed.schema.evolve.filter(|_| !plain);
    Decoder::of(&feed)
}

/// Reads rows that the warehouse refused and kept as JSON: with the columns of its table, by their names.
pub(super) fn rows(feed: &Feed, source: &TopicPartition, kept: &[Kept]) -> Result<Decoded, String> {
    let feed = &*shaped(feed);
    let by_name = |column: &Column| Column::new(column.name.clone(), column.kind);
    let schema = Schema::json(feed.schema.columns.iter().map(by_name).collect(), 0);
    let start = kept.first().map_or(0, |record| record.offset);
    let mut raw = RawBatch::new(source.clone(), start);
    for record in kept {
        // A tombstone is kept as its key alone.
        let row = record.value.as_deref().or(record.key.as_deref());
        raw.push(record.offset, record.timestamp_ms.unwrap_or(-1), None, row, []);
    }
    let mut decoded = split(Decoder::new(&schema, false, false, false).decode(&raw, start));
    if feed.kind == FeedKind::Table {
        let is_delete = |offset: &i64| {
            let found = kept.binary_search_by_key(offset, |record| record.offset);
            found.is_ok_and(|at| kept[at].value.is_none())
        };
        let deletes = decoded.rows.offsets.values().iter().map(|offset| Some(is_delete(offset)));
        decoded.rows.deletes = Some(deletes.collect::<BooleanArray>());
    }
    Ok(decoded)
}

fn raw(source: &TopicPartition, kept: &[Kept]) -> Result<RawBatch, String> {
    let start = kept.first().map_or(0, |record| record.offset);
    let mut raw = RawBatch::new(source.clone(), start);
    for record in kept {
        let headers = headers_of(&record.headers)?;
        let headers = headers.iter().map(|(name, content)| (name.as_str(), content.as_deref()));
        let time = record.timestamp_ms.unwrap_or(-1);
        raw.push(record.offset, time, record.key.as_deref(), record.value.as_deref(), headers);
    }
    Ok(raw)
}

fn split(batch: Batch) -> Decoded {
    let rejects = batch.rejects.iter();
    let rejected = rejects.map(|reject| (reject.offset, reject.reason.clone())).collect();
    Decoded { rows: Batch { rejects: [].into(), ..batch }, rejected }
}
