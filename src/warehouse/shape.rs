//! A feed and its batches as their table in the warehouse has them: by columns, what is nested as JSON
//! or columns too, or as documents. What is below this knows plain columns only, and a document is one
//! of them.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::error::ArrowError;

use super::Replay;
use super::nested::Unnested;
use crate::config::Feed;
use crate::record::{Batch, Claim, Part, SinkError};

/// The feed with the columns of its table.
pub fn shaped(feed: &Feed) -> Cow<'_, Feed> {
    if feed.is_document() {
        return Cow::Owned(Feed { schema: feed.schema.document(), ..feed.clone() });
    }
    Unnested::of(feed).map_or(Cow::Borrowed(feed), |unnested| Cow::Owned(unnested.into_feed()))
}

/// The batch with the columns of the feed's table.
pub fn shaped_batch(feed: &Feed, batch: &Batch) -> Result<Batch, SinkError> {
    let shaped = match Unnested::of(feed) {
        _ if feed.is_document() => document(feed, batch),
        Some(unnested) => unnested.batch(batch),
        None => Ok(batch.clone()),
    };
    shaped.map_err(|error| {
        SinkError::lasting(format!("a batch of {} is not the feed's: {error}", batch.source))
    })
}

fn document(feed: &Feed, batch: &Batch) -> Result<Batch, ArrowError> {
    let Some(documents) = &batch.documents else {
        return Err(ArrowError::SchemaError("it has no documents".to_owned()));
    };
    let from_key = batch.rows.columns().iter().take(feed.schema.from_key());
    let columns: Vec<ArrayRef> =
        from_key.cloned().chain([Arc::new(documents.clone()) as ArrayRef]).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let schema = feed.schema.document().arrow();
    let rows = RecordBatch::try_new_with_options(schema, columns, &options)?;
    Ok(Batch { rows, documents: None, ..batch.clone() })
}

/// A replay as the one part of a write, and the feed that it is written by: whoever replays has decided
/// already that so many of them may be refused.
pub(super) async fn shaped_replay(feed: &Feed, replay: &Replay) -> Result<(Feed, Part), SinkError> {
    let part = Part {
        source: replay.source.clone(),
        topic_id: replay.topic_id,
        claim: Claim::random(),
        batches: vec![replay.batch.clone()],
    };
    let shaped_part = match replay.shaped {
        true => None,
        false => shaped_parts(feed, std::slice::from_ref(&part)).await?.first().cloned(),
    };
    let mut feed = shaped(feed).into_owned();
    feed.quarantine.park_above = 1.0;
    Ok((feed, shaped_part.unwrap_or(part)))
}

/// The parts with the columns of the feed's table; off the runtime where that takes computing.
pub(super) async fn shaped_parts<'a>(
    feed: &Feed,
    parts: &'a [Part],
) -> Result<Cow<'a, [Part]>, SinkError> {
    if !feed.is_document() && Unnested::of(feed).is_none() {
        return Ok(Cow::Borrowed(parts));
    }
    let (feed, parts) = (feed.clone(), parts.to_vec());
    let shaping = tokio::task::spawn_blocking(move || {
        let one = |part: Part| {
            let batches = part.batches.iter().map(|batch| shaped_batch(&feed, batch).map(Arc::new));
            Ok(Part { batches: batches.collect::<Result<_, SinkError>>()?, ..part })
        };
        parts.into_iter().map(one).collect::<Result<Vec<_>, SinkError>>()
    });
    shaping.await.map_err(SinkError::lasting)?.map(Cow::Owned)
}
