//! Up to which offsets a feed's records are durable.

use std::collections::BTreeMap;

use crate::config::Feed;
use crate::lake::{LakeStore, read_progress};
use crate::record::SinkError;
use crate::warehouse::Warehouse;

/// Every record before these offsets is durable in that sink; none where nothing is, or where the sink was
/// not asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    pub lake: Option<i64>,
    pub warehouse: Option<i64>,
}

/// By topic and partition, out of the sinks that are given and that the feed has a side in.
pub async fn watermarks(
    feed: &Feed,
    lake: Option<&LakeStore>,
    warehouse: Option<&dyn Warehouse>,
) -> Result<BTreeMap<(String, i32), Marks>, SinkError> {
    let mut found: BTreeMap<_, Marks> = BTreeMap::new();
    if let (Some(warehouse), Some(_)) = (warehouse, &feed.warehouse) {
        for (source, progress) in warehouse.progress(&feed.name).await? {
            let key = (source.topic.to_string(), source.partition);
            found.entry(key).or_default().warehouse = Some(progress.next_offset);
        }
    }
    if let (Some(lake), Some(_)) = (lake, &feed.lake) {
        for (source, progress) in read_progress(lake, feed).await? {
            let key = (source.topic.to_string(), source.partition);
            found.entry(key).or_default().lake = Some(progress.next_offset);
        }
    }
    Ok(found)
}
