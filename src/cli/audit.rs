use chrono::DateTime;
use serde_json::{Value, json};

use super::permissions::with_grants;
use super::server::Server;
use super::{Exit, NodeFile, Output, print_json};
use crate::governance::{AuditQuestion, AuditRow};
use crate::grants::instant;
use crate::telemetry::print::answer;

/// What was asked for, by whom, and what became of it; the newest first.
#[derive(Debug, clap::Args)]
pub struct Audit {
    #[command(flatten)]
    file: NodeFile,
    #[command(flatten)]
    server: Server,
    /// Only what this feed is concerned with.
    #[arg(long, value_name = "FEED")]
    feed: Option<String>,
    /// Only what this one did: `user:ada`, `local:root`.
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Only this: read, grant, revoke, replay, …
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only what was denied.
    #[arg(long)]
    denied: bool,
    /// From this time on (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<i64>,
    /// Before this time (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<i64>,
    /// At most so many.
    #[arg(long, value_name = "N", default_value = "50")]
    limit: u32,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

fn time(text: &str) -> Result<i64, String> {
    let time = DateTime::parse_from_rfc3339(text);
    time.map(|time| time.timestamp_millis())
        .map_err(|_| "a time such as `2026-01-31T00:00:00Z`".to_owned())
}

impl Audit {
    pub fn run(self) -> Exit {
        let question = AuditQuestion {
            principal: self.principal,
            feed: self.feed,
            action: self.action,
            allowed: self.denied.then_some(false),
            from_ms: self.since,
            before_ms: self.before,
            most: self.limit.into(),
        };
        let rows = match self.server.remote() {
            Ok(Some(remote)) => remote.get(&["v1", "audit"], &asked(&question)),
            Ok(None) => with_grants(&self.file, async |grants| grants.audit(&question).await)
                .map(|rows| rows.iter().map(row_json).collect()),
            Err(exit) => Err(exit),
        };
        let rows: Vec<Value> = match rows {
            Ok(rows) => rows,
            Err(exit) => return exit,
        };
        match self.output {
            Output::Json => print_json(&rows),
            Output::Text if rows.is_empty() => answer!("Nothing is recorded."),
            Output::Text => rows.iter().for_each(|row| answer!("{}", line(row))),
        }
        Exit::Good
    }
}

/// A question as the API takes it.
fn asked(question: &AuditQuestion) -> Vec<(&'static str, String)> {
    let AuditQuestion { principal, feed, action, allowed, from_ms, before_ms, most } = question;
    let all = [
        ("principal", principal.clone()),
        ("feed", feed.clone()),
        ("action", action.clone()),
        ("allowed", allowed.map(|it| it.to_string())),
        ("from", from_ms.map(instant)),
        ("before", before_ms.map(instant)),
        ("limit", Some(most.to_string())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn line(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let outcome = if row["allowed"] == true { "" } else { " DENIED" };
    let mut said = format!("{}  {} {}", text("at"), text("principal"), text("action"));
    said += &row["feed"].as_str().map(|feed| format!(" {feed}")).unwrap_or_default();
    said += &format!("{outcome}  {}", text("why"));
    let columns: Vec<&str> =
        row["columns"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !columns.is_empty() {
        said += &format!("; columns {}", columns.join(", "));
    }
    said += &row["rows"].as_str().map(|rows| format!("; {rows}")).unwrap_or_default();
    format!("{said}  from {} on {}", text("origin"), text("node"))
}

fn row_json(row: &AuditRow) -> Value {
    json!({
        "id": row.id, "at": instant(row.at_ms), "principal": row.principal, "action": row.action,
        "feed": row.feed, "allowed": row.allowed, "columns": row.columns, "rows": row.rows,
        "why": row.why, "origin": row.origin, "trace_id": row.trace_id, "node": row.node,
    })
}
