//! What the cluster's janitor did, for those who may manage everything.

use actix_web::HttpResponse;
use actix_web::web::{Data, Json, Path};
use serde::Serialize;
use utoipa::ToSchema;

use super::permissions::{may_manage, refused};
use super::{Api, Caller, Problem};
use crate::actors::janitor::Chore as Chores;
use crate::grants::instant;

/// One chore, and its last run.
#[derive(Debug, Serialize, ToSchema)]
pub struct Chore {
    /// `retention`, `compaction`, `checkpoints`, `vacuum`, `statistics` or `audit`.
    chore: &'static str,
    /// When it is done: `off`, a duration, or a cron expression in UTC; as this node is configured.
    schedule: String,
    /// None: it was never done.
    last_run: Option<LastRun>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LastRun {
    /// The node whose janitor did it.
    node: String,
    /// RFC 3339.
    started_at: String,
    finished_at: String,
    /// Whether it failed, for one feed at least.
    failed: bool,
    /// What it did, by feed, and what went wrong.
    report: serde_json::Value,
}

/// Ask for a chore now, whatever its schedule: the cluster's janitor begins within seconds, after what it
/// does now. `GET /v1/janitor` has what came of it.
#[utoipa::path(post, path = "/v1/janitor/{chore}", tag = "node",
    params(("chore" = String, Path, description = "`retention`, `compaction`, `checkpoints`, `vacuum`, `statistics` or `audit`")), responses(
    (status = 202, description = "It will be done"),
    Problem))]
pub async fn signal(
    caller: Caller,
    chore: Path<String>,
    api: Data<Api>,
) -> Result<HttpResponse, Problem> {
    if !may_manage(&api, &caller, "*")? {
        return Err(refused(&api, &caller, "janitor", "*").await);
    }
    let Some(chore) = Chores::named(&chore) else {
        let names = Chores::ALL.map(Chores::name).join(", ");
        return Err(Problem::not_found(format!("the chores are {names}")));
    };
    let row = caller.hand.audit("janitor", None, true, format!("asked for {}", chore.name()));
    api.governance.record(vec![row]).await?;
    let (store, by) = (api.janitor.clone(), caller.principal().name.clone());
    let asked = api.on_io(async move { store.signal(chore.name(), &by).await }).await?;
    asked.map_err(|error| Problem::of_sink("asking for a chore", &error))?;
    Ok(HttpResponse::Accepted().finish())
}

/// The chores, and what came of each when it was done last.
#[utoipa::path(get, path = "/v1/janitor", tag = "node", responses(
    (status = 200, body = Vec<Chore>),
    Problem))]
pub async fn show(caller: Caller, api: Data<Api>) -> Result<Json<Vec<Chore>>, Problem> {
    if !may_manage(&api, &caller, "*")? {
        return Err(refused(&api, &caller, "manage", "*").await);
    }
    let store = api.janitor.clone();
    let runs = api.on_io(async move { store.runs().await }).await?;
    let runs = runs.map_err(|error| Problem::of_sink("reading the chores' runs", &error))?;
    let chore = |chore: Chores| {
        let last = runs.iter().find(|run| run.chore == chore.name());
        Chore {
            chore: chore.name(),
            schedule: chore.schedule(&api.config.janitor).to_string(),
            last_run: last.map(|run| LastRun {
                node: run.node.clone(),
                started_at: instant(run.started_ms),
                finished_at: instant(run.finished_ms),
                failed: run.failed,
                report: run.report.clone(),
            }),
        }
    };
    Ok(Json(Chores::ALL.map(chore).into()))
}
