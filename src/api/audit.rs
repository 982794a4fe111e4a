//! The audit, for those who may manage everything; and for everybody what he did himself.

use actix_web::HttpRequest;
use actix_web::web::{Data, Json};
use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::permissions::may_manage;
use super::{Api, Caller, Problem, query};
use crate::governance::{AuditQuestion, AuditRow};

/// Most rows of an answer.
const MOST: i64 = 1000;

/// Which rows of the audit.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Of whom, such as `user:ada`. Without the right to manage everything it is you.
    principal: Option<String>,
    feed: Option<String>,
    /// `read`, `quarantine`, `replay`, `grant`, `revoke`, `sign-in` …
    action: Option<String>,
    /// Only what was allowed, or only what was denied.
    allowed: Option<bool>,
    /// From this time on (RFC 3339).
    from: Option<String>,
    /// Before this time (RFC 3339): to go on, that of the last row.
    before: Option<String>,
    /// At most so many rows. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

/// One row of the audit.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entry {
    id: String,
    /// RFC 3339.
    at: String,
    principal: String,
    action: String,
    feed: Option<String>,
    allowed: bool,
    /// The columns that were shown, those under a mask with it behind them.
    columns: Vec<String>,
    /// Which rows, in words.
    rows: Option<String>,
    /// The permission rows that decided, or what was missing.
    why: String,
    /// The address that it came from, or the machine.
    origin: String,
    trace_id: Option<String>,
    node: String,
}

impl From<AuditRow> for Entry {
    fn from(row: AuditRow) -> Self {
        let AuditRow { id, at_ms, principal, action, feed, allowed, columns, rows, why, .. } = row;
        let AuditRow { origin, trace_id, node, .. } = row;
        let at = DateTime::from_timestamp_millis(at_ms).unwrap_or_default();
        let (id, at) = (id.to_string(), at.to_rfc3339_opts(SecondsFormat::Millis, true));
        Self {
            id,
            at,
            principal,
            action,
            feed,
            allowed,
            columns,
            rows,
            why,
            origin,
            trace_id,
            node,
        }
    }
}

/// Who did what, the newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "governance", params(AuditQuery), responses(
    (status = 200, body = Vec<Entry>),
    Problem))]
pub async fn list(
    caller: Caller,
    request: HttpRequest,
    api: Data<Api>,
) -> Result<Json<Vec<Entry>>, Problem> {
    let query: AuditQuery = query(&request)?;
    let texts = [&query.principal, &query.feed, &query.action];
    if texts.into_iter().flatten().any(|text| text.contains('\0')) {
        return Err(Problem::bad_request("query: a text with a NUL character"));
    }
    let own = &caller.principal().name;
    let principal = match may_manage(&api, &caller, "*")? {
        true => query.principal,
        false if query.principal.as_ref().is_none_or(|of| of == own) => Some(own.clone()),
        false => {
            let why = "the audit of another".to_owned();
            let row = caller.hand.audit("audit", None, false, why);
            api.governance.record(vec![row]).await?;
            let detail = "what others did is for those who may `manage` every feed (`*`)";
            return Err(Problem::forbidden(detail));
        }
    };
    let time = |field: &str, text: Option<String>| match text {
        None => Ok(None),
        Some(text) => {
            DateTime::parse_from_rfc3339(&text).map(|time| Some(time.timestamp_millis())).map_err(
                |_| Problem::bad_request(format!("{field}: a time such as 2026-01-31T00:00:00Z")),
            )
        }
    };
    let most = query.limit.unwrap_or(100);
    if !(1..=MOST).contains(&most) {
        return Err(Problem::bad_request(format!("limit: 1 to {MOST}")));
    }
    let question = AuditQuestion {
        principal,
        feed: query.feed,
        action: query.action,
        allowed: query.allowed,
        from_ms: time("from", query.from)?,
        before_ms: time("before", query.before)?,
        most,
    };
    let grants = api.grants.clone();
    let found = api.on_io(async move { grants.audit(&question).await }).await?;
    let rows = found.map_err(|error| Problem::of_sink("reading the audit", &error))?;
    Ok(Json(rows.into_iter().map(Entry::from).collect()))
}
