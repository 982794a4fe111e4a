//! Batch after batch of what may be seen.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use futures::{Stream, TryStreamExt};

use super::Sight;
use crate::config::Feed;
use crate::governance::Predicate;
use crate::lake::scan::{Keep, Position, Request, TableScan};
use crate::record::SinkError;
use crate::warehouse::{After, RowReader, RowsRequest};

/// Rows that are looked at together.
pub const BATCH_ROWS: usize = 8192;

/// Rows as they are seen, maybe none, and where to go on behind all that were looked at for them.
#[derive(Debug, Clone)]
pub struct Seen<P> {
    pub rows: RecordBatch,
    pub next: P,
}

/// A question to a lake table at one state.
pub struct LakeReading {
    pub scan: TableScan,
    /// What is seen of what is asked for.
    pub sight: Sight,
    /// A question's, of which that sight was made.
    pub filter: Option<Predicate>,
}

impl LakeReading {
    pub fn rows(
        &self,
        from: Position,
    ) -> impl Stream<Item = Result<Seen<Position>, SinkError>> + Send + use<> {
        let filter = self.filter.as_ref();
        let keep = filter.cloned().map(keep);
        let keep_columns = filter.map(|filter| filter.columns().into_iter().map(str::to_owned));
        let request = Request {
            columns: self.sight.reads(),
            bounds: self.sight.bounds(filter),
            keep,
            keep_columns: keep_columns.into_iter().flatten().collect(),
            from,
            batch_rows: BATCH_ROWS,
        };
        let sight = self.sight.clone();
        self.scan.batches(request).and_then(move |(rows, next)| {
            let sight = sight.clone();
            async move { Ok(Seen { rows: seen(sight, rows).await?, next }) }
        })
    }
}

/// A question to a table in the warehouse.
pub struct WarehouseReading {
    pub reader: Arc<dyn RowReader>,
    pub feed: Arc<Feed>,
    /// What is seen of what is asked for.
    pub sight: Sight,
    /// A question's, of which that sight was made.
    pub filter: Option<Predicate>,
}

impl WarehouseReading {
    pub async fn rows(
        &self,
        after: Option<After>,
        batch_rows: usize,
    ) -> Result<impl Stream<Item = Result<Seen<After>, SinkError>> + Send + use<>, SinkError> {
        let filter = self.filter.clone();
        let mut columns = self.sight.reads();
        for name in filter.iter().flat_map(Predicate::columns) {
            if !columns.iter().any(|own| own == name) {
                columns.push(name.to_owned());
            }
        }
        let bounds = self.sight.bounds(filter.as_ref());
        let request = RowsRequest { columns, bounds, after, batch_rows };
        let rows = self.reader.rows(&self.feed, request).await?;
        let (sight, keep) = (self.sight.clone(), filter.map(keep));
        Ok(rows.and_then(move |(rows, next)| {
            let (sight, keep) = (sight.clone(), keep.clone());
            async move {
                let rows = match keep {
                    Some(keep) => {
                        let wanted = keep(&rows).map_err(SinkError::lasting)?;
                        let kept = arrow::compute::filter_record_batch(&rows, &wanted);
                        kept.map_err(SinkError::lasting)?
                    }
                    None => rows,
                };
                Ok(Seen { rows: seen(sight, rows).await?, next })
            }
        }))
    }
}

fn keep(filter: Predicate) -> Keep {
    Arc::new(move |rows: &RecordBatch| -> Result<BooleanArray, String> {
        filter.holds(rows).map_err(|error| error.to_string())
    })
}

async fn seen(sight: Sight, rows: RecordBatch) -> Result<RecordBatch, SinkError> {
    let seeing = tokio::task::spawn_blocking(move || sight.see(&rows));
    let seen = seeing.await.map_err(|error| SinkError::passing(error.to_string()))?;
    seen.map_err(|error| SinkError::lasting(format!("what may be seen cannot be made: {error}")))
}
