//! Which feeds there are: one for each topic that a feed file matches, its columns known.

use super::warehouse::Database;
use crate::config::{Column, ColumnType, Feed, FeedFile, Kept, LakeTime};
use crate::lake::LakeStore;
use crate::source::Log;

/// The feeds of all files, or the one named `only`.
pub async fn find(
    files: &[FeedFile],
    only: Option<&str>,
    log: &Log,
    lake: Option<&LakeStore>,
    warehouse: Option<&Database>,
) -> Result<Vec<Feed>, String> {
    let mut feeds = Vec::new();
    for file in files {
        for topic in topics(file, log)? {
            // Its name does not depend on its columns.
            let named = file
                .resolve(&topic, file.value_columns().is_none().then(|| stand_in(file)))
                .map_err(|fault| fault.to_string())?;
            if only.is_some_and(|only| *named.name != *only) {
                continue;
            }
            let columns = match file.value_columns() {
                Some(_) if !file.evolves() => None,
                _ => kept(&named.name, lake, warehouse).await?,
            };
            let feed = match columns {
                Some(columns) => file.resolve(&topic, Some(columns)),
                None => Ok(named),
            };
            feeds.push(feed.map_err(|fault| fault.to_string())?);
        }
    }
    match only {
        Some(only) if feeds.is_empty() => Err(format!("there is no feed {only}")),
        _ => Ok(feeds),
    }
}

fn topics(file: &FeedFile, log: &Log) -> Result<Vec<String>, String> {
    if file.topics.is_none() && file.topic_in_upper_case.is_none() {
        return Ok(file.topic.iter().cloned().collect());
    }
    let pattern = file.topic_pattern();
    let mut topics = log.topics()?;
    topics.retain(|topic| match &pattern {
        Some(pattern) => pattern.is_match(topic),
        None => file.matches(topic),
    });
    topics.sort();
    Ok(topics)
}

/// Columns for a feed whose own are not known: offsets are compared without any, but those must be
/// there that its file speaks of.
fn stand_in(file: &FeedFile) -> Vec<Column> {
    let mut known: Vec<Column> = Vec::new();
    if let Some(key) = &file.key {
        known.extend(key.columns.iter().cloned().chain(key.window_columns()));
    }
    let from_key = known.len();
    let lake = file.lake.as_ref();
    for name in lake.iter().flat_map(|options| options.sort.iter().chain(&options.bloom)) {
        if !known.iter().any(|column| column.name == *name) {
            // Of a type that a time has, too.
            known.push(Column::new(name, ColumnType::Timestamp));
        }
    }
    let of_lake = match lake.and_then(|options| options.time.as_ref()) {
        Some(LakeTime::Field(field)) => Some(field),
        _ => None,
    };
    for time in file.time.iter().chain(of_lake) {
        if !known.iter().any(|column| column.name == *time || column.path() == time) {
            let name = format!("time_not_known_{}", known.len());
            let path = Some(time.clone());
            known.push(Column { path, ..Column::new(name, ColumnType::Timestamp) });
        }
    }
    if known.len() == from_key {
        known.push(Column::new("columns_not_known", ColumnType::Json));
    }
    known.split_off(from_key)
}

/// The columns inferred for a feed, as the node keeps them: beside the lake, else in the warehouse.
async fn kept(
    feed: &str,
    lake: Option<&LakeStore>,
    warehouse: Option<&Database>,
) -> Result<Option<Vec<Column>>, String> {
    let mut kept = None;
    if let Some(lake) = lake {
        kept = lake.kept_columns(feed).await.map_err(|error| error.to_string())?;
    }
    if let (None, Some(warehouse)) = (&kept, warehouse) {
        kept = warehouse.kept_columns(feed).await?;
    }
    let Some(text) = kept else { return Ok(None) };
    let kept =
        Kept::parse(&text).map_err(|error| format!("the columns kept for feed {feed}: {error}"))?;
    Ok(Some(kept.columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its time may be a column of the key, or the window behind it.
    #[test]
    fn a_stand_in_is_no_second_column_of_its_name() {
        for (time, window) in [
            ("window_start", "time"),
            ("at", "none"),
            ("id", "none"),
            ("M.AT", "none"),
            ("at, lake: {time: M.AT}", "none"),
            ("at, lake: {time: ingest}", "none"),
            ("at, lake: {sort: [id, at, v], bloom: [v]}", "none"),
        ] {
            let text = format!(
                "{{feed: a, type: table, topic: t, time: {time}, key: {{format: string, window: \
                 {window}, columns: [{{name: id, type: timestamp}}]}}}}"
            );
            let file: FeedFile = serde_saphyr::from_str(&text).unwrap();
            let feed = file.resolve("t", Some(stand_in(&file)));
            assert!(feed.is_ok(), "{time}: {}", feed.unwrap_err());
        }
    }
}
