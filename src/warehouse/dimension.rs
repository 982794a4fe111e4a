//! The tables beside a feed's own that are filled from the same rows. Each is made and checked as the
//! table of a feed would be, with the columns it takes; how its rows get there is the adapters' matter.
//!
//! The newest record of a key wins, by `(time, topic, partition, offset)`: an order that all records
//! have, so that it does not matter which partition, feed or node comes first. Hence every row keeps
//! these four. The time is the feed's event time, else Kafka's, else before all others. A topic that was
//! made again counts its offsets anew, and its times say that it is newer.

use std::collections::HashSet;

use crate::config::{Column, Dimension, Feed, FeedKind, Schema, WarehouseOptions};
use crate::record::SinkError;

/// A dimension of a feed.
pub(super) struct DimensionTable {
    /// A table feed with the dimension's columns, its name and no other purpose.
    pub feed: Feed,
    /// Where these columns stand among the feed's own.
    pub columns: Vec<usize>,
    pub foreign_key: bool,
}

/// The dimensions of a feed, in the order in which they are written.
pub(super) fn tables(feed: &Feed) -> Result<Vec<DimensionTable>, SinkError> {
    feed.dimensions().into_iter().map(|dimension| table(feed, dimension)).collect()
}

fn table(feed: &Feed, dimension: &Dimension) -> Result<DimensionTable, SinkError> {
    let wrong = |what: String| {
        SinkError::lasting(format!("warehouse.dimensions: table {}: {what}", dimension.table))
    };
    let mut columns = Vec::new();
    for name in dimension.key.iter().chain(&dimension.columns) {
        let index = feed.schema.columns.iter().position(|column| column.name == *name);
        let Some(index) = index else {
            let all: Vec<&str> = feed.schema.columns.iter().map(|it| it.name.as_str()).collect();
            return Err(wrong(format!("the feed has no column {name}; it has {}", all.join(", "))));
        };
        columns.push(index);
    }
    let own: Vec<Column> = columns.iter().map(|at| feed.schema.columns[*at].clone()).collect();
    let keys = &own[..dimension.key.len()];
    if let Some(key) = keys.iter().find(|key| !key.kind.can_be_key()) {
        return Err(wrong(format!("{} is {}, which is no key", key.name, key.kind)));
    }
    debug_assert_eq!(columns.iter().collect::<HashSet<_>>().len(), columns.len());
    let options = WarehouseOptions { table: Some(dimension.table.clone()), ..Default::default() };
    let feed = Feed {
        name: format!("{}/{}", feed.name, dimension.table).into(),
        kind: FeedKind::Table,
        schema: Schema::json(own, dimension.key.len()),
        warehouse: Some(options),
        ..feed.clone()
    };
    Ok(DimensionTable { feed, columns, foreign_key: dimension.foreign_key })
}
