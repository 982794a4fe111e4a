//! May somebody do something, and why.

use super::{Action, Effect, Principal, Row, RowId, Target};

/// What the rows say.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    Allowed(Access),
    /// By the row that denies; by none where none allows.
    Denied(Option<RowId>),
}

/// What may be seen: of each record what one of the grants shows and none of the denials takes away.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Access {
    pub grants: Vec<Counted>,
    pub denials: Vec<Counted>,
}

/// What a row that counts is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    pub row: RowId,
    pub target: Target,
    /// From then on it counts no more: milliseconds since the epoch.
    pub expires_at_ms: Option<i64>,
}

impl Access {
    /// The rows it comes from.
    pub fn rows(&self) -> impl Iterator<Item = &RowId> {
        self.grants.iter().chain(&self.denials).map(|counted| &counted.row)
    }

    /// Whether everything is seen as it stands.
    pub fn is_all(&self) -> bool {
        self.denials.is_empty() && self.grants.iter().any(|grant| grant.target.is_all())
    }
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

/// What somebody may do with a feed now.
pub fn decide<'r>(
    rows: impl IntoIterator<Item = &'r Row>,
    principal: &Principal,
    action: Action,
    feed: &str,
    now_ms: i64,
) -> Decision {
    let mut access = Access::default();
    for row in rows {
        if judged(row, principal, action, feed, now_ms) != Verdict::Counts {
            continue;
        }
        let (target, expires_at_ms) = (row.target.clone(), row.expires_at_ms);
        let counted = Counted { row: row.id.clone(), target, expires_at_ms };
        match row.effect {
            // What is narrower is for reading alone; elsewhere it is not to be less than meant.
            Effect::Deny if action != Action::Read || row.target.is_all() => {
                return Decision::Denied(Some(counted.row));
            }
            Effect::Deny => access.denials.push(counted),
            Effect::Allow => access.grants.push(counted),
        }
    }
    match access.grants.is_empty() {
        true => Decision::Denied(None),
        false => Decision::Allowed(access),
    }
}

/// What a row has to do with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Counts,
    Expired,
    /// For another, or for other feeds or actions.
    Other,
}

/// A row beside the question that it was held against.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit<'r> {
    pub row: &'r Row,
    pub verdict: Verdict,
}

impl<'r> Hit<'r> {
    pub fn of(row: &'r Row, principal: &Principal, action: Action, feed: &str, now: i64) -> Self {
        Self { row, verdict: judged(row, principal, action, feed, now) }
    }
}

fn judged(row: &Row, principal: &Principal, action: Action, feed: &str, now_ms: i64) -> Verdict {
    if !row.is_about(action, feed) || !row.is_for(principal) {
        return Verdict::Other;
    }
    if row.has_expired(now_ms) { Verdict::Expired } else { Verdict::Counts }
}
