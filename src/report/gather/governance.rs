//! Permission rows, and of the audit what was denied.

use std::collections::BTreeMap;

use chrono::Utc;

use crate::config::Node;
use crate::governance::AuditQuestion;
use crate::grants::{Grants, Hand, sentence};
use crate::record::SinkError;
use crate::report::facts::{Denial, Governance, PermissionFacts, Told};

/// Permission rows that are shown.
const ROWS: usize = 500;
/// Denials that are looked at, the newest.
const DENIALS: i64 = 1000;
/// Kinds of denials that are shown.
const KINDS: usize = 50;

fn said(error: SinkError) -> String {
    error.to_string()
}

/// Writes down who had the report made.
pub async fn record(node: &Node, hand: &Hand, out: &str) -> Told<()> {
    let row = hand.audit("report", None, true, format!("a report of everything, to {out}"));
    let grants = Grants::open(node).map_err(said)?;
    grants.record(&[row]).await.map_err(|error| format!("the audit: {error}"))
}

pub async fn governance(node: &Node) -> Told<Governance> {
    let grants = Grants::open(node).map_err(said)?;
    let rules = grants.rules().await.map_err(said)?;
    let now = Utc::now().timestamp_millis();
    let rows = rules.rows.iter().take(ROWS).map(|row| PermissionFacts {
        id: row.id.to_string(),
        sentence: sentence(row),
        granted_by: row.granted_by.clone(),
        reason: row.reason.clone(),
        expired: row.has_expired(now),
    });
    let question =
        AuditQuestion { allowed: Some(false), most: DENIALS, ..AuditQuestion::default() };
    let denied = grants.audit(&question).await.map_err(said)?;
    let mut kinds: BTreeMap<_, (u64, i64)> = BTreeMap::new();
    for row in &denied {
        let kind = (&row.principal, &row.action, &row.feed, &row.why);
        let (times, last_ms) = kinds.entry(kind).or_insert((0, row.at_ms));
        (*times, *last_ms) = (*times + 1, row.at_ms.max(*last_ms));
    }
    let denial = |((principal, action, feed, why), (times, last_ms)): (
        (&String, &String, &Option<String>, &String),
        _,
    )| {
        let (principal, action) = (principal.clone(), action.clone());
        Denial { principal, action, feed: feed.clone(), why: why.clone(), times, last_ms }
    };
    let mut denials: Vec<Denial> = kinds.into_iter().map(denial).collect();
    denials.sort_by_key(|it| std::cmp::Reverse((it.times, it.last_ms)));
    let left_out = denials.len() > KINDS;
    denials.truncate(KINDS);
    Ok(Governance {
        rows: rows.collect(),
        more: rules.rows.len().saturating_sub(ROWS),
        faults: rules.faults.into_iter().take(ROWS).collect(),
        denials,
        looked_at: denied.len(),
        older: left_out || denied.len() as i64 == DENIALS,
    })
}
