//! One feed: as it is configured, and what each sink has of it.

use serde::Serialize;

use super::{Sinks, lake};
use crate::catalog::{Known, Named};
use crate::config::{
    Feed, FeedFile, FeedKind, LakeFormat, LakeOptions, OnGap, Shape, Storage, WarehouseOptions,
    Window,
};
use crate::layout::Layout;
use crate::reads::watermarks;
use crate::report::facts::{ColumnFacts, FeedFacts, LakeFacts, MarkFacts, Side, Told};
use crate::warehouse::TableSize;

/// A feed that is looked at.
pub struct Looking<'r> {
    pub sinks: &'r Sinks,
    pub known: &'r Known,
    pub named: &'r Named,
}

impl Looking<'_> {
    pub async fn facts(&self) -> FeedFacts {
        let file = &self.named.file;
        let feed = match self.known.feed(self.named).await {
            Ok(Some(feed)) => Ok(feed),
            Ok(None) => Err("its columns are not known yet".to_owned()),
            Err(why) => Err(why),
        };
        FeedFacts {
            name: self.named.name.clone(),
            kind: match file.kind {
                FeedKind::Stream => "stream",
                FeedKind::Table => "table",
            },
            description: file.description.clone(),
            topic: self.named.topic.clone(),
            enabled: file.enabled,
            settings: settings(file),
            lake: self.lake(feed.as_deref()).await,
            warehouse: self.warehouse(feed.as_deref()).await,
            marks: self.marks(feed.as_deref()).await,
            columns: feed.map(|feed| columns(&feed)),
        }
    }

    async fn lake(&self, feed: Result<&Feed, &String>) -> Side<LakeFacts> {
        let (Some(options), Some(lake)) = (&self.named.file.lake, &self.sinks.lake) else {
            return Side::Without;
        };
        let place = match feed.map(Layout::of) {
            Ok(Ok(layout)) => layout.shown().to_owned(),
            _ => options.layout().to_owned(),
        };
        let found = match (feed, lake) {
            (Err(_), _) => Ok(None),
            (Ok(_), Err(why)) => Err(why.clone()),
            (Ok(feed), Ok(lake)) => lake::facts(lake, feed).await,
        };
        Side::At(place, found)
    }

    async fn warehouse(&self, feed: Result<&Feed, &String>) -> Side<TableSize> {
        let (Some(options), Some(_)) = (&self.named.file.warehouse, &self.sinks.database) else {
            return Side::Without;
        };
        let place = match feed.map(Feed::table) {
            Ok((Some(schema), table)) => format!("{schema}.{table}"),
            Ok((None, table)) => table,
            Err(_) => self.named.file.own_table(options),
        };
        let found = match (feed, self.sinks.database()) {
            (Err(_), _) => Ok(None),
            (Ok(_), Err(why)) => Err(why),
            (Ok(feed), Ok(database)) => {
                database.ad_hoc.measure(feed).await.map_err(|error| error.to_string())
            }
        };
        Side::At(place, found)
    }

    async fn marks(&self, feed: Result<&Feed, &String>) -> Told<Vec<MarkFacts>> {
        let Ok(feed) = feed else { return Ok(Vec::new()) };
        let database = self.sinks.bookkeeping().ok().map(|it| it.warehouse.as_ref());
        let found = watermarks(feed, self.sinks.lake(), database).await;
        let found = found.map_err(|error| error.to_string())?.into_iter();
        let mark = |((topic, partition), marks)| MarkFacts { topic, partition, marks };
        Ok(found.map(mark).collect())
    }
}

fn columns(feed: &Feed) -> Vec<ColumnFacts> {
    let from_key = feed.schema.from_key();
    let column = |(index, column): (usize, &crate::config::Column)| ColumnFacts {
        name: column.name.clone(),
        kind: column.kind.to_string(),
        path: column.path().to_owned(),
        role: match (index < feed.schema.key_columns, index < from_key, column.required) {
            (true, ..) => "primary key",
            (_, true, _) => "key",
            (.., true) => "required",
            _ => "",
        },
    };
    feed.schema.columns.iter().enumerate().map(column).collect()
}

/// A word of a feed file, as it is written there.
fn word(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string())
}

fn settings(file: &FeedFile) -> Vec<(&'static str, String)> {
    let mut said = vec![("Values", values(file))];
    if let Some(key) = &file.key {
        let names: Vec<String> =
            key.columns.iter().map(|column| format!("{} {}", column.name, column.kind)).collect();
        let window = match key.window {
            Window::None => String::new(),
            window => format!(", with the window ({}) behind it", word(window)),
        };
        said.push(("Keys", format!("{}: {}{window}", word(key.format), names.join(", "))));
    }
    if let Some(options) = &file.lake {
        said.push(("Lake", in_lake(options)));
        said.push(("Layout", options.layout().to_owned()));
        said.push(("Kept in the lake", kept(file, options)));
        said.push(("Committed to the lake", every(options.linger, options.max_records)));
    }
    if let Some(options) = &file.warehouse {
        said.push(("Warehouse", in_warehouse(file, options)));
        said.push(("Committed to the warehouse", every(options.linger, options.max_records)));
    }
    said.push(("Begins at", file.start.to_string()));
    said.push((
        "Records that the broker let go unread",
        match file.on_gap {
            OnGap::Park => "park the partition until somebody settles it".to_owned(),
            OnGap::Continue => "are recorded, and passed over".to_owned(),
        },
    ));
    said
}

fn values(file: &FeedFile) -> String {
    let columns = match (file.value_columns().is_some(), file.evolves()) {
        (true, false) => "columns as declared",
        (true, true) => "columns as declared; new fields become columns",
        (false, false) => "columns inferred",
        (false, true) => "columns inferred; new fields become columns",
    };
    format!("{}, {columns}", word(file.format))
}

fn in_lake(options: &LakeOptions) -> String {
    let format = match options.format {
        LakeFormat::Delta => format!("Delta Lake, Parquet files with {}", word(options.codec)),
        LakeFormat::Parquet => format!("plain Parquet files with {}", word(options.codec)),
        LakeFormat::Jsonl => "plain files of JSON lines".to_owned(),
    };
    match options.storage {
        Storage::Append => format,
        storage => {
            let snapshots = options.snapshots();
            let (every, keep) = (snapshots.every, snapshots.keep);
            format!("{format}; snapshots ({}), each {every}, {keep} kept", storage.name())
        }
    }
}

fn kept(file: &FeedFile, options: &LakeOptions) -> String {
    if options.storage != Storage::Append {
        return "as its snapshots are".to_owned();
    }
    let days = file.retention_days.map(|days| format!("{days} days"));
    let bytes = file.retention_bytes.map(|bytes| format!("{bytes}"));
    match (days, bytes) {
        (None, None) => "for good".to_owned(),
        (Some(one), None) | (None, Some(one)) => one,
        (Some(days), Some(bytes)) => format!("{days}, and no more than {bytes}"),
    }
}

fn every(linger: crate::config::Duration, records: usize) -> String {
    format!("every {linger}, or when {records} records wait")
}

fn in_warehouse(file: &FeedFile, options: &WarehouseOptions) -> String {
    let mut said = match (file.kind, options.shape) {
        (FeedKind::Stream, Shape::Columns) => "every record as a row".to_owned(),
        (FeedKind::Stream, Shape::Document) => "every record as one document".to_owned(),
        (FeedKind::Table, Shape::Columns) => "the present row of each key".to_owned(),
        (FeedKind::Table, Shape::Document) => "the present document of each key".to_owned(),
    };
    if let Some(snapshots) = &options.snapshots {
        said += &format!("; versions each {}, {} kept", snapshots.every, snapshots.keep);
    }
    let tables: Vec<&str> = options.dimensions.iter().map(|it| it.table.as_str()).collect();
    if !tables.is_empty() {
        said += &format!("; dimensions {}", tables.join(", "));
    }
    said
}
