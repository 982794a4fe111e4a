//! Whether the node answers, and who it takes its caller for.

use actix_web::web::{Data, Json};
use chrono::Utc;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, Caller, Problem};
use crate::governance::{Action, Decision};
use crate::grants::instant;
use crate::status::Cluster;

#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, always: a node that is not well does not answer.
    status: &'static str,
}

/// Whether the node answers at all. For nobody in particular: it needs no token.
#[utoipa::path(get, path = "/healthz", tag = "node", security(()),
    responses((status = 200, body = Health)))]
pub async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Status {
    /// Of the node.
    version: &'static str,
    node: String,
    /// Whom your token makes you.
    principal: String,
    roles: Vec<String>,
    groups: Vec<String>,
    /// When this node last read the permission rows that it decides by (RFC 3339).
    permissions_as_of: String,
}

/// Who you are here, and by which permission rows the node decides.
#[utoipa::path(get, path = "/v1/status", tag = "node", responses(
    (status = 200, body = Status),
    Problem))]
pub async fn status(caller: Caller, api: Data<Api>) -> Result<Json<Status>, Problem> {
    let rules = api.governance.rules(Utc::now().timestamp_millis())?;
    let by = caller.principal();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        node: api.node.clone(),
        principal: by.name.clone(),
        roles: by.roles.iter().cloned().collect(),
        groups: by.groups.iter().cloned().collect(),
        permissions_as_of: instant(rules.as_of_ms),
    }))
}

/// The cluster: its nodes, and of the feeds of which you may see everything, or which you may manage, how far
/// behind each is in each sink, and what is not well. Why it is not is told to those who may manage the feed.
#[utoipa::path(get, path = "/v1/cluster", tag = "node", responses(
    (status = 200, description = "`members`, `feeds`, `problems` and `partitions`"),
    Problem))]
pub async fn cluster(caller: Caller, api: Data<Api>) -> Result<Json<Cluster>, Problem> {
    let now = Utc::now().timestamp_millis();
    let rules = api.governance.rules(now)?;
    let store = api.janitor.clone();
    let told = api.on_io(async move { store.beats().await }).await?;
    let told = told.map_err(|error| Problem::internal("asking what nodes tell", error))?;
    let decide = |action, feed: &str| rules.decide(caller.principal(), action, feed, now);
    let manages = |feed: &str| decide(Action::Manage, feed).is_allowed();
    // How much there is, is for those who may see every row.
    let reads = |feed: &str| match decide(Action::Read, feed) {
        Decision::Allowed(access) => access.is_all(),
        Decision::Denied(_) => false,
    };
    Ok(Json(Cluster::of(told, &[]).only(|feed| reads(feed) || manages(feed), manages)))
}
