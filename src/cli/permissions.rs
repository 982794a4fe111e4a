mod bucket_policy;
mod database;
pub(super) mod files;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use clap::Subcommand;
use serde_json::{Value, json};

use super::server::Server;
use super::{Exit, NodeFile, Output, block_on, failed, local_user, print_json};
use crate::config::{Duration, Node};
use crate::governance::{
    Action, Days, Decision, Effect, Grantee, Hit, Mask, Pattern, Predicate, Principal, Row, RowId,
    Target, Verdict,
};
use crate::grants::{Grants, Hand, Rules, instant, sentence};
use crate::record::SinkError;
use crate::telemetry::print::{answer, tell};
use crate::warehouse;

/// Who may do what with which feed: the permission rows, in the warehouse's database.
///
/// Denied is what no row allows, and what any row denies. Every change leaves a row in the audit. The API
/// reads under the rows, and in PostgreSQL itself those whom `governance.postgres` names; whoever else has
/// the database's or the lake's own credentials is not held to them. With `--server` what is done is what the
/// rows let the token's owner do, and stands in the audit under his name; without it, it is whoever runs the
/// command on this machine, with the database's credentials. `files` and `bucket-policy` give the
/// lake's own rights to those who may read whole feeds.
#[derive(Debug, clap::Args)]
pub struct Permissions {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a row.
    Grant(Grant),
    /// Take a row away.
    Revoke {
        #[command(flatten)]
        file: NodeFile,
        #[command(flatten)]
        server: Server,
        /// The row's number, as `list` shows it.
        id: RowId,
        /// The reason, for the audit.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List the rows, those that have expired among them; with `--server` those that its API shows.
    List {
        #[command(flatten)]
        file: NodeFile,
        #[command(flatten)]
        server: Server,
        /// Only rows that are about this feed.
        #[arg(long, value_name = "FEED")]
        feed: Option<String>,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Say whether somebody may do something with a feed, and which rows decide it.
    ///
    /// Exit codes: 0 allowed, 3 denied.
    Explain {
        #[command(flatten)]
        file: NodeFile,
        #[command(flatten)]
        who: Who,
        #[arg(long, value_name = "FEED")]
        feed: String,
        #[arg(long, value_name = "ACTION", default_value = "read")]
        action: Action,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    Database(database::Database),
    Files(files::Files),
    BucketPolicy(bucket_policy::BucketPolicy),
}

#[derive(Debug, clap::Args)]
struct Grant {
    #[command(flatten)]
    file: NodeFile,
    #[command(flatten)]
    server: Server,
    /// `user:NAME`, `role:NAME`, `group:NAME`, or `*` for everybody who is known.
    #[arg(long, value_name = "WHOM")]
    to: Grantee,
    /// A feed's name; `*` in it stands for any characters.
    #[arg(long, value_name = "FEED")]
    feed: Pattern,
    /// read, quarantine, replay, write or manage.
    #[arg(long, value_name = "ACTION", default_value = "read")]
    action: Action,
    /// Deny instead: a row that denies beats all that allow.
    #[arg(long)]
    deny: bool,
    /// Only these columns.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// How a column, or a field by its path, is shown: null, hash, last4, month or year.
    #[arg(long = "mask", value_name = "NAME=MASK", value_parser = mask)]
    masks: Vec<(String, Mask)>,
    /// Only rows of which this is true: comparisons of columns with literals, IN, BETWEEN, IS NULL, joined
    /// by AND, OR and NOT.
    #[arg(long = "where", value_name = "CONDITION")]
    predicate: Option<Predicate>,
    /// Only from this day on, by event time, UTC.
    #[arg(long, value_name = "DAY")]
    from: Option<NaiveDate>,
    /// Only to this day, which is included.
    #[arg(long, value_name = "DAY")]
    to_day: Option<NaiveDate>,
    /// When the row ends: a time (RFC 3339), or how long from now (`30d`).
    #[arg(long, value_name = "WHEN", value_parser = expiry)]
    expires: Option<i64>,
    /// The reason, which is kept with the row.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Somebody, as a token or an issuer would name him.
#[derive(Debug, clap::Args)]
pub struct Who {
    /// `user:NAME`, or the name alone.
    #[arg(long = "for", value_name = "NAME")]
    name: String,
    /// A role he has. May be repeated.
    #[arg(long = "role", value_name = "NAME")]
    roles: Vec<String>,
    /// A group he is in. May be repeated.
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
}

impl Who {
    pub fn principal(self) -> Result<Principal, String> {
        let name = self.name.strip_prefix("user:").unwrap_or(&self.name);
        for grantee in [format!("user:{name}")]
            .into_iter()
            .chain(self.roles.iter().map(|role| format!("role:{role}")))
            .chain(self.groups.iter().map(|group| format!("group:{group}")))
        {
            grantee.parse::<Grantee>()?;
        }
        let (roles, groups) = (BTreeSet::from_iter(self.roles), BTreeSet::from_iter(self.groups));
        Ok(Principal { roles, groups, ..Principal::user(name) })
    }
}

fn mask(text: &str) -> Result<(String, Mask), String> {
    let (name, mask) = text.split_once('=').ok_or("a name, `=` and a mask, as in `ip=hash`")?;
    Ok((name.to_owned(), mask.parse()?))
}

/// A time from now on, milliseconds since the epoch.
pub fn expiry(text: &str) -> Result<i64, String> {
    let now = Utc::now().timestamp_millis();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        let at = time.timestamp_millis();
        return match at > now && time.naive_utc() < FAR {
            true => Ok(at),
            false => Err(format!("{text} has passed, or is beyond the year 9999")),
        };
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok());
    let length = match days {
        Some(days) => days.checked_mul(86_400_000),
        None => {
            text.parse::<Duration>().ok().and_then(|it| i64::try_from(it.get().as_millis()).ok())
        }
    };
    let at = length.filter(|length| *length > 0).and_then(|length| now.checked_add(length));
    at.filter(|at| DateTime::from_timestamp_millis(*at).is_some_and(|it| it.naive_utc() < FAR))
        .ok_or_else(|| {
            "a time such as `2027-01-31T00:00:00Z`, or a length such as `30d` or `8h`".to_owned()
        })
}

/// Databases and people know no later year.
const FAR: chrono::NaiveDateTime = match NaiveDate::from_ymd_opt(10_000, 1, 1) {
    Some(day) => day.and_time(chrono::NaiveTime::MIN),
    None => chrono::NaiveDateTime::MAX,
};

/// The permission rows of a node's database.
pub async fn grants(node: &Node) -> Result<Grants, SinkError> {
    let grants = Grants::open(node)?;
    if let Some(config) = &node.warehouse {
        warehouse::open(config)?.check_schema().await?;
    }
    Ok(grants)
}

/// What is done with them.
pub fn with_grants<T>(
    file: &NodeFile,
    work: impl AsyncFnOnce(Grants) -> Result<T, SinkError>,
) -> Result<T, Exit> {
    let (node, _) = file.load()?;
    let done = block_on(async { work(grants(&node).await?).await })?;
    done.map_err(failed)
}

pub fn hand() -> Hand {
    Hand::local(&local_user())
}

impl Permissions {
    pub fn run(self) -> Exit {
        let done = match self.command {
            Command::Grant(grant) => grant.run(),
            Command::Revoke { file, server, id, reason } => revoke(&file, &server, &id, &reason),
            Command::List { file, server, feed, output } => {
                list(&file, &server, feed.as_deref(), output)
            }
            Command::Explain { file, who, feed, action, output } => {
                explain(&file, who, &feed, action, output)
            }
            Command::Database(database) => database.run(),
            Command::Files(files) => files.run(),
            Command::BucketPolicy(policy) => policy.run(),
        };
        done.unwrap_or_else(|exit| exit)
    }
}

impl Grant {
    fn run(self) -> Result<Exit, Exit> {
        let hand = hand();
        let mut masked = self.masks.iter().map(|(name, _)| name).collect::<Vec<_>>();
        masked.sort_unstable();
        if let Some(twice) = masked.windows(2).find(|pair| pair[0] == pair[1]) {
            tell!("error: {} has two masks", twice[0]);
            return Err(Exit::UsedWrongly);
        }
        let row = Row {
            id: RowId::Own(0),
            grantee: self.to,
            feed: self.feed,
            action: self.action,
            effect: if self.deny { Effect::Deny } else { Effect::Allow },
            target: Target {
                columns: self.columns.map(BTreeSet::from_iter),
                masks: BTreeMap::from_iter(self.masks),
                predicate: self.predicate,
                days: Days { from: self.from, to: self.to_day },
            },
            expires_at_ms: self.expires,
            granted_by: hand.by.name.clone(),
            reason: self.reason,
        };
        if let Some(fault) = row.fault() {
            tell!("error: {fault}");
            return Err(Exit::UsedWrongly);
        }
        let id = match self.server.remote()? {
            Some(remote) => {
                let granted = remote.post(&["v1", "permissions"], &asked_for(&row))?;
                granted["id"].as_i64().ok_or_else(|| failed("the row has no number"))?
            }
            None => with_grants(&self.file, async |grants| grants.grant(&hand, &row).await)?,
        };
        answer!("row {id}: {}", sentence(&row));
        Ok(Exit::Good)
    }
}

/// A row as the API takes it.
fn asked_for(row: &Row) -> Value {
    let mut asked = row_json(row);
    if let Some(fields) = asked.as_object_mut() {
        // Both are the server's to say.
        fields.retain(|name, _| name != "id" && name != "granted_by");
    }
    asked
}

fn revoke(file: &NodeFile, server: &Server, id: &RowId, reason: &str) -> Result<Exit, Exit> {
    let hand = hand();
    let revoked = match server.remote()? {
        Some(remote) => {
            let why = [("reason", reason.to_owned())];
            remote.delete(&["v1", "permissions", &id.to_string()], &why)?;
            true
        }
        None => with_grants(file, async |grants| grants.revoke(&hand, id, reason).await)?,
    };
    match revoked {
        true => {
            answer!("Row {id} is revoked.");
            Ok(Exit::Good)
        }
        false => Err(failed(format!("there is no row {id}; `permissions list` shows them"))),
    }
}

fn rules(file: &NodeFile) -> Result<Rules, Exit> {
    let rules = with_grants(file, async |grants| grants.rules().await)?;
    for (name, fault) in &rules.faults {
        tell!("{name}: {fault}");
    }
    Ok(rules)
}

fn list(
    file: &NodeFile,
    server: &Server,
    feed: Option<&str>,
    output: Output,
) -> Result<Exit, Exit> {
    let rows: Vec<Listed> = match server.remote()? {
        Some(remote) => {
            let standing: Vec<Value> = remote.get(&["v1", "permissions"], &[])?;
            standing.iter().map(Listed::told).collect()
        }
        None => rules(file)?.rows.iter().map(Listed::of).collect(),
    };
    let about = |listed: &&Listed| {
        let pattern = listed.row["feed"].as_str().and_then(|text| text.parse::<Pattern>().ok());
        feed.is_none_or(|feed| pattern.is_some_and(|pattern| pattern.matches(feed)))
    };
    let rows: Vec<&Listed> = rows.iter().filter(about).collect();
    match output {
        Output::Json => print_json(&rows.iter().map(|listed| &listed.row).collect::<Vec<_>>()),
        Output::Text if rows.is_empty() => answer!("No row: everything is denied."),
        Output::Text => rows.iter().for_each(|listed| answer!("{}", listed.line())),
    }
    Ok(Exit::Good)
}

/// A row as it is listed, whoever has told of it.
struct Listed {
    row: Value,
    says: String,
}

impl Listed {
    fn of(row: &Row) -> Self {
        Self { row: row_json(row), says: sentence(row) }
    }

    /// As the API has it.
    fn told(standing: &Value) -> Self {
        let mut row = standing["row"].clone();
        for own in ["id", "granted_by"] {
            row[own] = standing[own].clone();
        }
        Self { row, says: standing["says"].as_str().unwrap_or_default().to_owned() }
    }

    fn line(&self) -> String {
        let text = |name: &str| self.row[name].as_str().unwrap_or_default();
        let ends = DateTime::parse_from_rfc3339(text("expires"));
        let over = if ends.is_ok_and(|at| at <= Utc::now()) { " (expired)" } else { "" };
        let (id, by, reason) = (text("id"), text("granted_by"), text("reason"));
        format!("{id}  {}{over}  by {by}: {reason}", self.says)
    }
}

fn explain(
    file: &NodeFile,
    who: Who,
    feed: &str,
    action: Action,
    output: Output,
) -> Result<Exit, Exit> {
    let principal = who.principal().map_err(|error| {
        tell!("error: {error}");
        Exit::UsedWrongly
    })?;
    let rules = rules(file)?;
    let now = Utc::now().timestamp_millis();
    let decision = rules.decide(&principal, action, feed, now);
    let hits: Vec<Hit<'_>> = rules
        .rows
        .iter()
        .map(|row| Hit::of(row, &principal, action, feed, now))
        .filter(|hit| hit.verdict != Verdict::Other)
        .collect();
    let allowed = decision.is_allowed();
    match output {
        Output::Json => {
            let hit = |hit: &Hit<'_>| {
                let mut row = row_json(hit.row);
                row["expired"] = json!(hit.verdict == Verdict::Expired);
                row
            };
            print_json(&json!({
                "principal": principal.name, "feed": feed, "action": action.name(),
                "allowed": allowed, "why": why(&decision), "rows": hits.iter().map(hit).collect::<Vec<_>>(),
            }));
        }
        Output::Text => {
            let may = if allowed { "may" } else { "may not" };
            answer!("{principal} {may} {action} {feed}: {}", why(&decision));
            for Hit { row, verdict } in &hits {
                let over =
                    if *verdict == Verdict::Expired { " (expired: it does not count)" } else { "" };
                answer!("  {}  {}{over}", row.id, sentence(row));
            }
        }
    }
    Ok(if allowed { Exit::Good } else { Exit::Difference })
}

fn why(decision: &Decision) -> String {
    match decision {
        Decision::Denied(None) => "no row allows it".to_owned(),
        Decision::Denied(Some(id)) => format!("row {id} denies it"),
        Decision::Allowed(access) => {
            let ids = |ids: Vec<String>| ids.join(", ");
            let grants = ids(access.grants.iter().map(|grant| grant.row.to_string()).collect());
            let denials = ids(access.denials.iter().map(|denial| denial.row.to_string()).collect());
            match (access.is_all(), denials.is_empty()) {
                (true, _) => format!("all of it, by row {grants}"),
                (false, true) => format!("what row {grants} shows"),
                (false, false) => {
                    format!("what row {grants} shows, but what row {denials} takes away")
                }
            }
        }
    }
}

fn row_json(row: &Row) -> Value {
    let Target { columns, masks, predicate, days } = &row.target;
    json!({
        "id": row.id.to_string(), "principal": row.grantee.to_string(), "feed": row.feed,
        "action": row.action, "effect": row.effect, "columns": columns, "masks": masks,
        "where": predicate, "from": days.from, "to": days.to,
        "expires": row.expires_at_ms.map(instant), "granted_by": row.granted_by, "reason": row.reason,
    })
}
