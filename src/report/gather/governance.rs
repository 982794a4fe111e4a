//! Permission rows, and of the audit what was denied.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::Utc;

use crate::config::Node;
use crate::governance::{AuditQuestion, AuditRow};
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

/// Whether there is one, whatever else the bookkeeping lacks.
pub async fn has_audit(node: &Node) -> bool {
    let question = AuditQuestion { most: 1, ..AuditQuestion::default() };
    match Grants::open(node) {
        Ok(grants) => grants.audit(&question).await.is_ok(),
        Err(_) => false,
    }
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
    let mut denials = counted(&denied);
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

/// Denials of one kind together; those that came most often first.
fn counted(denied: &[AuditRow]) -> Vec<Denial> {
    let mut kinds: BTreeMap<_, Denial> = BTreeMap::new();
    for row in denied {
        let kind = (&row.principal, &row.action, &row.feed, &row.why);
        let new = || Denial {
            principal: row.principal.clone(),
            action: row.action.clone(),
            feed: row.feed.clone(),
            why: row.why.clone(),
            times: 0,
            last_ms: row.at_ms,
        };
        let denial = kinds.entry(kind).or_insert_with(new);
        denial.times += 1;
        denial.last_ms = denial.last_ms.max(row.at_ms);
    }
    let mut denials: Vec<Denial> = kinds.into_values().collect();
    denials.sort_by_key(|it| Reverse((it.times, it.last_ms)));
    denials
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_denied_to_the_same_one_is_told_once() {
        let hand = Hand::local("ada");
        let row = |feed: &str, why: &str, at_ms| AuditRow {
            at_ms,
            ..hand.audit("read", Some(feed), false, why.to_owned())
        };
        let rows = [
            row("a", "no row allows it", 30),
            row("b", "no row allows it", 20),
            row("a", "no row allows it", 40),
            row("a", "row 1 denies it", 50),
        ];
        let told = counted(&rows);
        let told: Vec<_> = told
            .iter()
            .map(|it| (it.feed.as_deref(), it.why.as_str(), it.times, it.last_ms))
            .collect();
        assert_eq!(
            told,
            [
                (Some("a"), "no row allows it", 2, 40),
                (Some("a"), "row 1 denies it", 1, 50),
                (Some("b"), "no row allows it", 1, 20),
            ]
        );
    }
}
