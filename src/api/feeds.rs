//! Which feeds there are for their caller, and what he sees of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::web::{Data, Json, Path};
use chrono::Utc;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, Caller, Named, Problem};
use crate::config::{Feed, FeedKind, LakeFormat};
use crate::governance::{Access, Action, Salt};
use crate::grants::instant;
use crate::lake::Snapshots;
use crate::lake::scan::At;
use crate::reads::{self, Marks, Sight};
use crate::record::SinkError;

#[derive(Debug, Serialize, ToSchema)]
pub struct FeedSummary {
    name: String,
    /// `stream` or `table`.
    #[serde(rename = "type")]
    kind: &'static str,
    description: Option<String>,
    /// `false`: the feed is paused, and what it has can be read.
    enabled: bool,
}

impl FeedSummary {
    fn of(named: Named) -> Self {
        let file = named.file;
        let kind = match file.kind {
            FeedKind::Stream => "stream",
            FeedKind::Table => "table",
        };
        Self { name: named.name, kind, description: file.description, enabled: file.enabled }
    }
}

/// The feeds that you may read.
#[utoipa::path(get, path = "/v1/feeds", tag = "feeds", responses(
    (status = 200, body = Vec<FeedSummary>),
    Problem))]
pub async fn list(caller: Caller, api: Data<Api>) -> Result<Json<Vec<FeedSummary>>, Problem> {
    let now = Utc::now().timestamp_millis();
    let rules = api.governance.rules(now)?;
    let known = api.known.clone();
    let mut feeds = api.on_io(async move { known.all().await }).await?;
    let may = |name: &str| rules.decide(caller.principal(), Action::Read, name, now).is_allowed();
    feeds.retain(|named| may(&named.name));
    Ok(Json(feeds.into_iter().map(FeedSummary::of).collect()))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FeedDetails {
    #[serde(flatten)]
    summary: FeedSummary,
    /// What you see of it in the lake; nothing where it has no lake side, or no table there yet.
    lake: Option<Side>,
    /// What you see of its table in the warehouse. Only a table feed's present rows are read there.
    warehouse: Option<Side>,
}

/// One sink's side of a feed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Side {
    /// `delta`, `parquet`, `jsonl` or `table`.
    format: &'static str,
    /// In the order in which rows have them.
    columns: Vec<ColumnDetails>,
    /// Which rows you see, as the permission rows have it.
    rows: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ColumnDetails {
    name: String,
    /// As feed files write it.
    #[serde(rename = "type")]
    kind: String,
    /// How it is masked for you, in some rows or in all: `null`, `hash`, `last4`, `month`, `year`; of fields
    /// inside of it with their paths.
    masks: Vec<String>,
    /// Rows can be chosen by it.
    filterable: bool,
}

impl Side {
    fn of(format: &'static str, sight: &Sight) -> Self {
        let columns = sight.columns().map(|(column, kind, masks)| ColumnDetails {
            name: column.name.clone(),
            kind: kind.to_string(),
            masks,
            filterable: sight.plain(&column.name).is_some(),
        });
        Self { format, columns: columns.collect(), rows: sight.granted_in_words() }
    }
}

/// What you see of a feed: its columns, with their types and masks.
#[utoipa::path(get, path = "/v1/feeds/{feed}", tag = "feeds",
    params(("feed" = String, Path, description = "Name of the feed")), responses(
    (status = 200, body = FeedDetails),
    Problem))]
pub async fn show(
    caller: Caller,
    feed: Path<String>,
    api: Data<Api>,
) -> Result<Json<FeedDetails>, Problem> {
    let found = find(&api, &caller, feed.into_inner()).await?;
    found.record(&api, &caller).await?;
    let Found { named, feed, lake, warehouse, .. } = found;
    let format = match feed.lake.as_ref().map(|options| options.format).unwrap_or_default() {
        LakeFormat::Delta => "delta",
        LakeFormat::Parquet => "parquet",
        LakeFormat::Jsonl => "jsonl",
    };
    let lake = lake.map(|sight| Side::of(format, &sight));
    let warehouse = warehouse.map(|sight| Side::of("table", &sight));
    Ok(Json(FeedDetails { summary: FeedSummary::of(named), lake, warehouse }))
}

/// A feed of which its caller may see something.
struct Found {
    named: Named,
    feed: Arc<Feed>,
    access: Access,
    lake: Option<Sight>,
    warehouse: Option<Sight>,
}

impl Found {
    async fn record(&self, api: &Api, caller: &Caller) -> Result<(), Problem> {
        let sight = self.lake.as_ref().or(self.warehouse.as_ref());
        api.record(caller, Action::Read, &self.feed.name, &self.access, sight).await
    }

    /// How much there is tells of rows, and so is for those who may see every one.
    async fn of_all_rows(&self, api: &Api, caller: &Caller) -> Result<(), Problem> {
        let mut sights = self.lake.iter().chain(&self.warehouse);
        if sights.all(Sight::is_of_all_rows) {
            return Ok(());
        }
        let told = Problem::forbidden("how much there is, is for those who may see every row");
        let why = "sizes, without the right to every row".to_owned();
        Err(api.denied(caller, Action::Read.name(), &self.feed.name, why, told).await)
    }
}

async fn find(api: &Api, caller: &Caller, name: String) -> Result<Found, Problem> {
    let (access, rules) = api.access(caller, Action::Read, &name).await?;
    let why = match api.find(&name).await? {
        None => "allowed, and there is no such feed",
        Some((named, feed)) => {
            let (lake, warehouse) = sights(api, &feed, &access, &rules.salt)?;
            if lake.is_some() || warehouse.is_some() {
                return Ok(Found { named, feed, access, lake, warehouse });
            }
            "the rows allow it, and show nothing of what the feed has"
        }
    };
    Err(api.refuse(caller, Action::Read.name(), &name, why.to_owned()).await)
}

/// What is seen of either side.
fn sights(
    api: &Api,
    feed: &Feed,
    access: &Access,
    salt: &Salt,
) -> Result<(Option<Sight>, Option<Sight>), Problem> {
    let lake = match feed.lake.as_ref().and(api.lake.as_ref()) {
        Some(_) => {
            let sight = Sight::of_lake(feed, access, salt);
            sight.map_err(|error| Problem::of_sink("a feed's layout", &error))?
        }
        None => None,
    };
    let warehouse = feed.warehouse.as_ref();
    let warehouse = warehouse.and_then(|_| Sight::of_warehouse(feed, access, salt));
    Ok((lake, warehouse))
}

/// The files of the lake's table that lie in one place.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Partition {
    /// Those partition columns that you see as they are, with their values.
    values: BTreeMap<String, Option<String>>,
    files: u64,
    bytes: u64,
    /// Unknown where a file does not say.
    rows: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Partitions {
    /// The version of the table, if it has any.
    version: Option<u64>,
    partitions: Vec<Partition>,
}

/// The lake table's partitions. Only for those who may see every row: sizes tell of rows.
#[utoipa::path(get, path = "/v1/feeds/{feed}/partitions", tag = "feeds",
    params(("feed" = String, Path, description = "Name of the feed")), responses(
    (status = 200, body = Partitions),
    Problem))]
pub async fn partitions(
    caller: Caller,
    feed: Path<String>,
    api: Data<Api>,
) -> Result<Json<Partitions>, Problem> {
    let asked = find(&api, &caller, feed.into_inner()).await?;
    let Some(sight) = &asked.lake else {
        return Err(Problem::not_found("the feed has no lake side that you see"));
    };
    asked.of_all_rows(&api, &caller).await?;
    asked.record(&api, &caller).await?;
    let scan = api.scans.open(&api, &asked.feed, At::Latest).await?;
    let mut found: BTreeMap<_, Partition> = BTreeMap::new();
    for file in scan.files() {
        let mut values = file.values.clone();
        values.retain(|name, _| sight.plain(name).is_some());
        let new = || Partition { values: values.clone(), rows: Some(0), ..Partition::default() };
        let partition = found.entry(values.clone()).or_insert_with(new);
        partition.files += 1;
        partition.bytes += file.size;
        partition.rows = partition.rows.zip(file.rows).map(|(sum, rows)| sum + rows);
    }
    Ok(Json(Partitions { version: scan.version(), partitions: found.into_values().collect() }))
}

/// A state of a table that was kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct TableSnapshot {
    /// `lake` or `warehouse`.
    sink: &'static str,
    /// Its number, which only rises. In the lake it is in the folder's name (`version=vN`), in the
    /// warehouse in the column `_version`.
    version: i64,
    /// RFC 3339.
    taken_at: String,
    rows: i64,
    /// Of its files; unknown to a warehouse.
    bytes: Option<u64>,
}

/// The kept states of a table feed: the lake's present one, and the warehouse's, the newest first. Only for
/// those who may see every row.
#[utoipa::path(get, path = "/v1/feeds/{feed}/snapshots", tag = "feeds",
    params(("feed" = String, Path, description = "Name of the feed")), responses(
    (status = 200, body = Vec<TableSnapshot>),
    Problem))]
pub async fn snapshots(
    caller: Caller,
    feed: Path<String>,
    api: Data<Api>,
) -> Result<Json<Vec<TableSnapshot>>, Problem> {
    let found = find(&api, &caller, feed.into_inner()).await?;
    found.of_all_rows(&api, &caller).await?;
    found.record(&api, &caller).await?;
    let lake = api.lake.clone().filter(|_| found.lake.is_some());
    let warehouse = api.warehouse.clone().filter(|_| found.warehouse.is_some());
    let feed = found.feed;
    let reading = async move {
        let mut kept = Vec::new();
        if let Some(lake) = lake
            && let Some(snapshots) = Snapshots::of(&lake, &feed, 0)?
            && let Some(present) = snapshots.present().await?
        {
            kept.push(TableSnapshot {
                sink: "lake",
                version: present.version as i64,
                taken_at: instant(present.taken_ms),
                rows: present.rows as i64,
                bytes: Some(present.bytes),
            });
        }
        if let Some(warehouse) = warehouse {
            let versions = warehouse.snapshots(&feed.name).await?;
            kept.extend(versions.into_iter().map(|it| TableSnapshot {
                sink: "warehouse",
                version: it.version,
                taken_at: instant(it.taken_ms),
                rows: it.rows,
                bytes: None,
            }));
        }
        Ok(kept)
    };
    let read: Result<_, SinkError> = api.on_io(reading).await?;
    read.map(Json).map_err(|error| Problem::of_sink("reading snapshots", &error))
}

/// Up to where a topic-partition is durable.
#[derive(Debug, Serialize, ToSchema)]
pub struct Watermark {
    topic: String,
    partition: i32,
    /// Every record before this offset is durable in the lake; unknown to the lake if nothing is.
    lake: Option<i64>,
    /// The same of the warehouse.
    warehouse: Option<i64>,
}

/// Up to which offsets a feed's records are durable, in each sink. Only for those who may see every row.
#[utoipa::path(get, path = "/v1/feeds/{feed}/watermarks", tag = "feeds",
    params(("feed" = String, Path, description = "Name of the feed")), responses(
    (status = 200, body = Vec<Watermark>),
    Problem))]
pub async fn watermarks(
    caller: Caller,
    feed: Path<String>,
    api: Data<Api>,
) -> Result<Json<Vec<Watermark>>, Problem> {
    let found = find(&api, &caller, feed.into_inner()).await?;
    found.of_all_rows(&api, &caller).await?;
    found.record(&api, &caller).await?;
    let api = api.into_inner();
    let asked = api.clone();
    api.on_io(async move { progress(&asked, &found.feed).await }).await?.map(Json)
}

async fn progress(api: &Api, feed: &Feed) -> Result<Vec<Watermark>, Problem> {
    let failed = |error: SinkError| Problem::of_sink("reading watermarks", &error);
    let found = reads::watermarks(feed, api.lake.as_ref(), api.warehouse.as_deref()).await;
    let watermark = |((topic, partition), Marks { lake, warehouse })| Watermark {
        topic,
        partition,
        lake,
        warehouse,
    };
    Ok(found.map_err(failed)?.into_iter().map(watermark).collect())
}
