//! Records that became no row. They are raw bytes, which no mask reaches into, so they need a right of their
//! own.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json, Path};
use serde::Deserialize;
use tokio::time::timeout;
use tracing::warn;
use utoipa::{IntoParams, ToSchema};

use super::{Api, Caller, Problem, query};
use crate::governance::Action;
use crate::record::{OffsetRange, SinkKind};
use crate::verify::{Chosen, QuarantinedRecord, WantedState, quarantined};

/// Most records of an answer: each may be as large as a record is.
const MOST: usize = 100;

/// Which of a feed's records to show.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct QuarantineQuery {
    /// Only what this sink keeps.
    #[param(inline)]
    sink: Option<SinkKind>,
    /// Only what was rejected for this class of reasons, such as `wrong_type`.
    class: Option<String>,
    partition: Option<i32>,
    /// From this offset on.
    from: Option<i64>,
    /// Before this offset.
    before: Option<i64>,
    /// What was made of them. Default: `open`, of which nothing was made yet.
    #[param(inline)]
    state: Option<WantedState>,
    /// At most so many records. Default: 50.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
}

impl QuarantineQuery {
    fn read(self, feed: &str) -> Result<(Chosen, usize), Problem> {
        let Self { sink, class, partition, from, before, state, limit } = self;
        let limit = limit.unwrap_or(50);
        if !(1..=MOST).contains(&limit) {
            return Err(Problem::bad_request(format!("limit: 1 to {MOST}")));
        }
        Ok((Which { sink, class, partition, from, before, state }.chosen(feed)?, limit))
    }
}

/// Which of a feed's records are meant.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Only what this sink keeps.
    #[schema(inline)]
    sink: Option<SinkKind>,
    /// Only what was rejected for this class of reasons, such as `wrong_type`.
    class: Option<String>,
    partition: Option<i32>,
    /// From this offset on.
    from: Option<i64>,
    /// Before this offset.
    before: Option<i64>,
    /// What was made of them. Default: `open`, of which nothing was made yet.
    #[schema(inline)]
    state: Option<WantedState>,
}

impl Which {
    pub fn chosen(self, feed: &str) -> Result<Chosen, Problem> {
        let class = |name: String| {
            name.parse().map_err(|error| Problem::bad_request(format!("class: {error}")))
        };
        Ok(Chosen {
            feed: Some(feed.to_owned()),
            sink: self.sink,
            class: self.class.map(class).transpose()?,
            partition: self.partition,
            offsets: OffsetRange {
                start: self.from.unwrap_or(i64::MIN),
                end: self.before.unwrap_or(i64::MAX),
            },
            state: self.state.unwrap_or(WantedState::Open).of_each(),
        })
    }
}

/// The records of a feed that became no row, the newest first: those of the warehouse and of the lake.
///
/// A record that no sink could take stands once, with both their names.
#[utoipa::path(get, path = "/v1/feeds/{feed}/quarantine", tag = "feeds",
    params(("feed" = String, Path, description = "Name of the feed"), QuarantineQuery), responses(
    (status = 200, body = Vec<QuarantinedRecord>),
    Problem))]
pub async fn list(
    request: HttpRequest,
    caller: Caller,
    feed: Path<String>,
    api: Data<Api>,
) -> Result<Json<Vec<QuarantinedRecord>>, Problem> {
    let feed = feed.into_inner();
    let (access, _) = api.access(&caller, Action::Quarantine, &feed).await?;
    let (chosen, limit) = query::<QuarantineQuery>(&request)?.read(&feed)?;
    let permit = api.limits.read(&caller)?;
    api.record(&caller, Action::Quarantine, &feed, &access, None).await?;
    let config = api.config.clone();
    let within = api.read_time;
    let found = api.on_io(async move {
        let _permit = permit;
        let read = timeout(within, quarantined(&config, &chosen, limit)).await;
        read.unwrap_or_else(|_| Err("it takes longer than `api.limits.read_time`".to_owned()))
    });
    let found = found.await?.map_err(|error| {
        warn!(target: "tidegate::api", error, "the quarantine cannot be read");
        Problem::unavailable("the quarantine cannot be read now")
    })?;
    Ok(Json(found.iter().map(QuarantinedRecord::from).collect()))
}
