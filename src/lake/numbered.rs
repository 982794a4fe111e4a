//! Documents in a folder that are numbered as they are made, each once: the last counts.

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use super::log::judged;
use crate::record::SinkError;

pub fn name(number: u64) -> Path {
    Path::from(format!("{number:012}.json"))
}

/// In order.
pub async fn numbers(store: &dyn ObjectStore) -> Result<Vec<u64>, SinkError> {
    let listed: Vec<_> = store
        .list(None)
        .try_collect()
        .await
        .map_err(|error| judged(&error).context("listing documents of the lake"))?;
    let names = listed.iter().filter_map(|meta| meta.location.filename());
    let mut numbers: Vec<u64> =
        names.filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}
