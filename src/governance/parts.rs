//! A permission row whose parts are understood, or not: what it is then.

use super::{Action, Effect, Grantee, Pattern, Row, RowId, Target};

/// The parts of one written row, each with what it says or what is wrong with it.
pub(super) struct Parts {
    pub id: RowId,
    pub grantee: Result<Grantee, String>,
    pub feeds: Result<Vec<Pattern>, String>,
    pub actions: Result<Vec<Action>, String>,
    /// What is denied where it is not understood which action is.
    pub reach: Vec<Action>,
    pub effect: Effect,
    pub target: Result<Target, String>,
    pub expires_at_ms: Result<Option<i64>, String>,
    /// What else is wrong with it.
    pub fault: Option<String>,
    pub granted_by: String,
    pub reason: String,
}

impl Parts {
    /// The rows that they make, and what is wrong with them. One that allows and is not understood is none;
    /// one that denies then denies more than was meant, and not less.
    pub fn rows(self) -> (Vec<Row>, Option<String>) {
        let Self { id, effect, granted_by, reason, .. } = self;
        let mut faults: Vec<String> = Vec::new();
        let mut noted = |fault: String| faults.push(fault);
        let grantee = self.grantee.map_err(&mut noted).ok();
        let feeds = self.feeds.map_err(&mut noted).ok();
        let actions = self.actions.map_err(&mut noted).ok();
        let target = self.target.map_err(&mut noted).ok();
        let expires = self.expires_at_ms.map_err(&mut noted).ok();
        faults.extend(self.fault);
        let whole = grantee.is_some() && feeds.is_some() && actions.is_some();
        // Of what is not understood all that it could mean is denied.
        let target = target.filter(|_| whole).unwrap_or_default();
        let grantee = grantee.unwrap_or(Grantee::Everybody);
        let feeds = feeds.unwrap_or_else(|| vec![Pattern::all()]);
        let actions = actions.unwrap_or(self.reach);
        let one = |(feed, action): (&Pattern, Action)| Row {
            id: id.clone(),
            grantee: grantee.clone(),
            feed: feed.clone(),
            action,
            effect,
            target: target.clone(),
            // A denial that ends nobody knows when does not end.
            expires_at_ms: expires.unwrap_or(None),
            granted_by: granted_by.clone(),
            reason: reason.clone(),
        };
        let pairs = feeds.iter().flat_map(|feed| actions.iter().map(move |action| (feed, *action)));
        let mut rows: Vec<Row> = pairs.map(one).collect();
        let senseless = rows.iter().find_map(Row::fault);
        if senseless.is_some() {
            rows.iter_mut().for_each(|row| row.target = Target::default());
        }
        faults.extend(senseless);
        if !faults.is_empty() && effect == Effect::Allow {
            rows.clear();
        }
        (rows, faults.into_iter().reduce(|all, one| format!("{all}; {one}")))
    }
}
