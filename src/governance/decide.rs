//! May somebody do something, and why.

use super::{Action, Effect, Mask, Principal, Row, RowId, Target};

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
    pub grants: Vec<Grant>,
    pub denials: Vec<Denial>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    pub row: RowId,
    pub target: Target,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Denial {
    pub row: RowId,
    pub target: Target,
}

impl Access {
    /// The rows it comes from.
    pub fn rows(&self) -> impl Iterator<Item = &RowId> {
        let grants = self.grants.iter().map(|grant| &grant.row);
        grants.chain(self.denials.iter().map(|denial| &denial.row))
    }

    /// Whether everything is seen as it stands.
    pub fn is_all(&self) -> bool {
        self.denials.is_empty() && self.grants.iter().any(|grant| grant.target.is_all())
    }

    /// Whether some value is shown otherwise than it is.
    pub fn masks(&self) -> impl Iterator<Item = (&str, Mask)> {
        let masks = self.grants.iter().flat_map(|grant| &grant.target.masks);
        masks.map(|(name, mask)| (name.as_str(), *mask))
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
        let (id, target) = (row.id.clone(), row.target.clone());
        match row.effect {
            // What is narrower is for reading alone; elsewhere it is not to be less than meant.
            Effect::Deny if action != Action::Read || target.is_all() => {
                return Decision::Denied(Some(id));
            }
            Effect::Deny => access.denials.push(Denial { row: id, target }),
            Effect::Allow => access.grants.push(Grant { row: id, target }),
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
    if row.action != action || !row.feed.matches(feed) || !row.is_for(principal) {
        return Verdict::Other;
    }
    if row.has_expired(now_ms) { Verdict::Expired } else { Verdict::Counts }
}
