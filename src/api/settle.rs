//! Records in quarantine that come back as rows, or are to stay out. Whoever may do so need not be able to see
//! them: reasons, which may quote a record, are told to those who may see the quarantine.

use std::future::Future;

use actix_web::web::{Data, Json, Path};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::warn;
use utoipa::ToSchema;

use super::quarantine::Which;
use super::{Api, Caller, Problem};
use crate::governance::{Action, Decision};
use crate::record::SinkKind;
use crate::replay::{self, Hand, Outcome};

/// Most records that one request settles: they are in memory at once.
const MOST: usize = 500;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replaying {
    /// `{}`: all that nothing was made of yet.
    which: Which,
    /// Only say what would come of it.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Discarding {
    /// `{}`: all that nothing was made of yet.
    which: Which,
    /// The reason, which is kept with them.
    why: String,
    /// Only say how many.
    #[serde(default)]
    dry_run: bool,
}

/// What came of the chosen records of one partition in one sink.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayOutcome {
    #[schema(inline)]
    sink: SinkKind,
    topic: String,
    partition: i32,
    /// Offsets of those that are rows now.
    replayed: Vec<i64>,
    /// Offsets of those whose keys have a newer state.
    superseded: Vec<i64>,
    /// Those that stay in quarantine.
    left: Vec<Left>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Left {
    offset: i64,
    /// Why; none for who may not see the quarantine.
    reason: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Discarded {
    #[schema(inline)]
    sink: SinkKind,
    topic: String,
    partition: i32,
    records: u64,
}

/// Make rows of records in quarantine: each is decoded again, with the feed as it is configured now, and becomes
/// the row that it would have been, once, however often it is asked for.
///
/// At most 500 records at once. Needs a row with `--action replay`.
#[utoipa::path(post, path = "/v1/feeds/{feed}/quarantine/replay", tag = "feeds",
    params(("feed" = String, Path, description = "Name of the feed")),
    request_body = Replaying, responses(
    (status = 200, body = Vec<ReplayOutcome>),
    Problem))]
pub async fn replay(
    caller: Caller,
    feed: Path<String>,
    body: Json<Replaying>,
    api: Data<Api>,
) -> Result<Json<Vec<ReplayOutcome>>, Problem> {
    let feed = feed.into_inner();
    let (access, rules) = api.access(&caller, Action::Replay, &feed).await?;
    let now = Utc::now().timestamp_millis();
    let sees = rules.decide(caller.principal(), Action::Quarantine, &feed, now);
    let tells = matches!(sees, Decision::Allowed(_));
    let Replaying { which, dry_run } = body.into_inner();
    let chosen = which.chosen(&feed)?;
    let hand = hand(&caller, dry_run);
    let permit = api.limits.read(&caller)?;
    let why = if dry_run { "only tried" } else { "over the API" };
    api.record_change(&caller, "replay", &access, &chosen, why).await?;
    if let (Decision::Allowed(access), true) = (&sees, tells) {
        // The reasons may quote what the records hold.
        api.record_change(&caller, "quarantine", access, &chosen, "the reasons of a replay")
            .await?;
    }
    let (config, known) = (api.config.clone(), api.known.clone());
    let replayed = async move {
        let files: Vec<_> = known.all().await.into_iter().map(|named| named.file).collect();
        replay::replay(&config, &files, &chosen, &hand).await
    };
    let outcomes = settle(&api, permit, replayed).await?;
    Ok(Json(outcomes.into_iter().map(|outcome| told(outcome, tells)).collect()))
}

/// Settle records in quarantine as what is to stay out. They are kept, and may be replayed all the same later.
///
/// At most 500 records at once. Needs a row with `--action replay`.
#[utoipa::path(post, path = "/v1/feeds/{feed}/quarantine/discard", tag = "feeds",
    params(("feed" = String, Path, description = "Name of the feed")),
    request_body = Discarding, responses(
    (status = 200, body = Vec<Discarded>),
    Problem))]
pub async fn discard(
    caller: Caller,
    feed: Path<String>,
    body: Json<Discarding>,
    api: Data<Api>,
) -> Result<Json<Vec<Discarded>>, Problem> {
    let feed = feed.into_inner();
    let (access, _) = api.access(&caller, Action::Replay, &feed).await?;
    let Discarding { which, why, dry_run } = body.into_inner();
    if why.trim().is_empty() {
        return Err(Problem::bad_request("why: the reason is kept with the records"));
    }
    let chosen = which.chosen(&feed)?;
    let hand = hand(&caller, dry_run);
    let permit = api.limits.read(&caller)?;
    let said = if dry_run { format!("only tried: {why}") } else { why.clone() };
    api.record_change(&caller, "discard", &access, &chosen, &said).await?;
    let config = api.config.clone();
    let discarded = async move { replay::discard(&config, &chosen, &why, &hand).await };
    let discarded =
        settle(&api, permit, discarded).await?.into_iter().map(|(sink, source, records)| {
            Discarded {
                sink,
                topic: source.topic.to_string(),
                partition: source.partition,
                records,
            }
        });
    Ok(Json(discarded.collect()))
}

fn hand(caller: &Caller, dry_run: bool) -> Hand {
    Hand { by: caller.principal().to_string(), dry_run, most: MOST }
}

/// Holds the permit to the end of the work, also where the caller is gone.
async fn settle<T: Send + 'static>(
    api: &Api,
    permit: impl Send + 'static,
    work: impl Future<Output = Result<T, replay::Failed>> + Send + 'static,
) -> Result<T, Problem> {
    let within = api.read_time;
    let done = api.on_io(async move {
        let _permit = permit;
        timeout(within, work).await
    });
    match done.await? {
        Ok(Ok(settled)) => Ok(settled),
        Ok(Err(replay::Failed::TooMany(most))) => Err(Problem::bad_request(format!(
            "these are more than {most} records: choose fewer, by `partition`, `from` and `before`"
        ))),
        Ok(Err(replay::Failed::Error(error))) => {
            warn!(target: "tidegate::api", error, "records in quarantine cannot be settled");
            Err(Problem::unavailable("the records cannot be settled now"))
        }
        Err(_) => Err(Problem::unavailable(
            "it takes longer than `api.limits.read_time`: some may be settled, and the rest is when it \
             is asked for again; choose fewer",
        )),
    }
}

fn told(outcome: Outcome, tells: bool) -> ReplayOutcome {
    let Outcome { sink, source, replayed, superseded, left } = outcome;
    let left = left.into_iter();
    let left = left.map(|(offset, reason)| Left { offset, reason: tells.then_some(reason) });
    ReplayOutcome {
        sink,
        topic: source.topic.to_string(),
        partition: source.partition,
        replayed,
        superseded,
        left: left.collect(),
    }
}
