//! The permission rows: who may what.

use std::collections::BTreeMap;

use actix_web::web::{Data, Json, Path};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Api, Caller, Problem, query};
use crate::governance::{
    Action, Days, Effect, Grantee, Mask, Pattern, Predicate, Principal, Row, RowId, Target,
};
use crate::grants::{instant, sentence};

/// A permission row.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// `user:NAME`, `role:NAME`, `group:NAME`, or `*` for everybody who is known.
    #[schema(example = "group:analysts")]
    principal: String,
    /// A feed's name; `*` in it stands for any characters.
    #[schema(example = "sales_*")]
    feed: String,
    /// `read`, `quarantine`, `replay`, `write` or `manage`.
    #[schema(example = "read")]
    action: String,
    /// `allow` or `deny`. Default: `allow`.
    #[serde(default = "allow")]
    effect: String,
    /// Only these columns, or fields by their paths. Default: all.
    #[serde(default)]
    columns: Option<Vec<String>>,
    /// Columns, or fields by their paths, with their masks: `null`, `hash`, `last4`, `month`, `year`.
    #[serde(default)]
    masks: BTreeMap<String, String>,
    /// Only rows of which this is true, as SQL has it. Default: all.
    #[serde(default, rename = "where")]
    filter: Option<String>,
    /// From this day on, and up to this day, by the feed's event time.
    #[serde(default)]
    from: Option<NaiveDate>,
    #[serde(default)]
    to: Option<NaiveDate>,
    /// When it ends (RFC 3339). Default: never.
    #[serde(default)]
    expires: Option<String>,
    /// Why, for people.
    reason: String,
}

fn allow() -> String {
    Effect::Allow.name().to_owned()
}

/// A permission row as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct Standing {
    /// Its number, or where an existing table has it.
    id: String,
    row: Permission,
    granted_by: String,
    /// The whole row in words.
    says: String,
}

impl From<&Row> for Standing {
    fn from(row: &Row) -> Self {
        let Target { columns, masks, predicate, days } = &row.target;
        let masks = masks.iter().map(|(name, mask)| (name.clone(), mask.name().to_owned()));
        let standing = Permission {
            principal: row.grantee.to_string(),
            feed: row.feed.to_string(),
            action: row.action.name().to_owned(),
            effect: row.effect.name().to_owned(),
            columns: columns.as_ref().map(|names| names.iter().cloned().collect()),
            masks: masks.collect(),
            filter: predicate.as_ref().map(Predicate::to_string),
            from: days.from,
            to: days.to,
            expires: row.expires_at_ms.map(instant),
            reason: row.reason.clone(),
        };
        let (id, granted_by) = (row.id.to_string(), row.granted_by.clone());
        Self { id, row: standing, granted_by, says: sentence(row) }
    }
}

impl Permission {
    fn row(self, by: &Principal) -> Result<Row, String> {
        let of = |field: &str, fault: String| format!("{field}: {fault}");
        if serde_json::to_string(&self).is_ok_and(|text| text.contains("\\u0000")) {
            return Err("a text with a NUL character, which no database keeps".to_owned());
        }
        let of_calendar = |day: &NaiveDate| (1..=9999).contains(&day.year());
        if ![self.from, self.to].iter().flatten().all(of_calendar) {
            return Err("from, to: days of the years 1 to 9999".to_owned());
        }
        let grantee: Grantee = self.principal.parse().map_err(|it| of("principal", it))?;
        let feed: Pattern = self.feed.parse().map_err(|it| of("feed", it))?;
        let action: Action = self.action.parse().map_err(|it| of("action", it))?;
        let effect = match self.effect.as_str() {
            "allow" => Effect::Allow,
            "deny" => Effect::Deny,
            other => return Err(format!("effect: `{other}`; `allow` or `deny`")),
        };
        let mask = |(name, mask): (String, String)| {
            let mask: Mask = mask.parse().map_err(|it| of("masks", it))?;
            Ok::<_, String>((name, mask))
        };
        let predicate = self.filter.map(|text| text.parse::<Predicate>()).transpose();
        let expires = |text: String| {
            let time = DateTime::parse_from_rfc3339(&text);
            time.map(|time| time.timestamp_millis())
                .map_err(|_| "expires: a time such as 2026-01-31T00:00:00Z".to_owned())
        };
        if self.reason.trim().is_empty() {
            return Err("reason: say why, for whoever reads the audit".to_owned());
        }
        let row = Row {
            id: RowId::Own(0),
            grantee,
            feed,
            action,
            effect,
            target: Target {
                columns: self.columns.map(|names| names.into_iter().collect()),
                masks: self.masks.into_iter().map(mask).collect::<Result<_, _>>()?,
                predicate: predicate.map_err(|it| of("where", it))?,
                days: Days { from: self.from, to: self.to },
            },
            expires_at_ms: self.expires.map(expires).transpose()?,
            granted_by: by.name.clone(),
            reason: self.reason,
        };
        match row.fault() {
            Some(fault) => Err(fault),
            None => Ok(row),
        }
    }
}

/// Whether the caller may manage all that a pattern matches: one who manages single feeds grants those.
pub fn may_manage(api: &Api, caller: &Caller, feed: &str) -> Result<bool, Problem> {
    let now = Utc::now().timestamp_millis();
    let rules = api.governance.rules(now)?;
    let own = |row: &&Row| row.is_for(caller.principal()) && row.action == Action::Manage;
    let mut denials = rules.rows.iter().filter(own).filter(|row| row.effect == Effect::Deny);
    // Of what a pattern matches nobody knows all, so that one denial may be among it.
    let may_hide = feed.contains('*') && denials.any(|row| !row.has_expired(now));
    Ok(!may_hide && rules.decide(caller.principal(), Action::Manage, feed, now).is_allowed())
}

pub async fn refused(api: &Api, caller: &Caller, doing: &str, feed: &str) -> Problem {
    let why = "no row lets him manage it".to_owned();
    let told = Problem::forbidden("a row that lets you `manage` that feed, or pattern, is needed");
    api.denied(caller, doing, feed, why, told).await
}

/// The permission rows: all for those who may manage every feed, and for others those that allow them
/// something. What is denied, and by what, may tell of feeds that they are not to know.
#[utoipa::path(get, path = "/v1/permissions", tag = "governance", responses(
    (status = 200, body = Vec<Standing>),
    Problem))]
pub async fn list(caller: Caller, api: Data<Api>) -> Result<Json<Vec<Standing>>, Problem> {
    let all = may_manage(&api, &caller, "*")?;
    let rules = api.governance.rules(Utc::now().timestamp_millis())?;
    let own = |row: &&Row| row.effect == Effect::Allow && row.is_for(caller.principal());
    let shown = rules.rows.iter().filter(|row| all || own(row));
    Ok(Json(shown.map(Standing::from).collect()))
}

/// The number of a new row.
#[derive(Debug, Serialize, ToSchema)]
pub struct Granted {
    id: i64,
}

/// Add a row. It counts within seconds, on every node. Needs the right to manage the feed or pattern.
#[utoipa::path(post, path = "/v1/permissions", tag = "governance", request_body = Permission, responses(
    (status = 201, body = Granted),
    Problem))]
pub async fn grant(
    caller: Caller,
    body: Json<Permission>,
    api: Data<Api>,
) -> Result<HttpResponse, Problem> {
    let row = body.into_inner().row(caller.principal()).map_err(Problem::bad_request)?;
    if !may_manage(&api, &caller, row.feed.as_str())? {
        return Err(refused(&api, &caller, "grant", row.feed.as_str()).await);
    }
    let (grants, hand) = (api.grants.clone(), caller.hand.clone());
    let granted = api.on_io(async move { grants.grant(&hand, &row).await }).await?;
    let id = granted.map_err(|error| Problem::of_sink("granting", &error))?;
    Ok(HttpResponse::Created().json(Granted { id }))
}

/// Why a row goes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Revocation {
    /// Why, for the audit.
    reason: String,
}

/// Take a row away. Needs the right to manage what it is about.
#[utoipa::path(delete, path = "/v1/permissions/{row}", tag = "governance",
    params(("row" = String, Path, description = "The row's number"), Revocation), responses(
    (status = 204, description = "It is gone"),
    Problem))]
pub async fn revoke(
    caller: Caller,
    id: Path<String>,
    request: HttpRequest,
    api: Data<Api>,
) -> Result<HttpResponse, Problem> {
    let Revocation { reason: why } = query(&request)?;
    if why.contains('\0') {
        return Err(Problem::bad_request("reason: a text with a NUL character"));
    }
    let id: RowId = id.parse().map_err(Problem::bad_request)?;
    let rules = api.governance.rules(Utc::now().timestamp_millis())?;
    let found = rules.rows.iter().find(|row| row.id == id);
    // A row that is not understood is in nobody's hands but theirs who manage everything.
    let feed = found.map_or("*", |row| row.feed.as_str()).to_owned();
    let known = found.is_some();
    if !may_manage(&api, &caller, &feed)? {
        // Whether there is one is not for everybody.
        return Err(refused(&api, &caller, "revoke", if known { &feed } else { "*" }).await);
    }
    if let RowId::Source(..) = id {
        let told = if known { Problem::foreign_row } else { Problem::not_found };
        return Err(told(api.grants.foreign(&id)));
    }
    let (grants, hand) = (api.grants.clone(), caller.hand.clone());
    let revoked = api.on_io(async move { grants.revoke(&hand, &id, &why).await }).await?;
    match revoked.map_err(|error| Problem::of_sink("revoking", &error))? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(Problem::not_found("there is no row of this number")),
    }
}
