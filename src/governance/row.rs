//! Permission rows as they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Predicate;
use crate::config::{Action, Effect, Grantee, Pattern};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Principal {
    /// `user:ada`; on the machine itself `local:ada`, for whom no row can be written.
    pub name: String,
    pub roles: BTreeSet<String>,
    pub groups: BTreeSet<String>,
}

impl Principal {
    pub fn user(name: &str) -> Self {
        let (roles, groups) = Default::default();
        Self { name: format!("user:{name}"), roles, groups }
    }

    /// Somebody at the machine's own terminal.
    pub fn local(name: &str) -> Self {
        Self { name: format!("local:{name}"), ..Self::user(name) }
    }

    fn is(&self, grantee: &Grantee) -> bool {
        match grantee {
            Grantee::User(name) => self.name.strip_prefix("user:") == Some(name),
            Grantee::Role(role) => self.roles.contains(role),
            Grantee::Group(group) => self.groups.contains(group),
            Grantee::Everybody => true,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// How a value is shown that is not shown as it is; the most telling first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Mask {
    /// A date or timestamp as the first day of its month.
    Month,
    /// The same of its year.
    Year,
    /// The last four characters, `****` before them; nothing else of a value that has no more.
    Last4,
    /// SHA-256 of the installation's salt and the value: equal values stay equal.
    Hash,
    Null,
}

impl Mask {
    pub const ALL: [Self; 5] = [Self::Month, Self::Year, Self::Last4, Self::Hash, Self::Null];

    pub fn name(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Year => "year",
            Self::Last4 => "last4",
            Self::Hash => "hash",
            Self::Null => "null",
        }
    }
}

impl FromStr for Mask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mask| mask.name() == text);
        found.ok_or_else(|| format!("`{text}` is no mask: null, hash, last4, month or year"))
    }
}

/// Days from the first to the last, both included; open where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Days {
    pub from: Option<NaiveDate>,
    pub to: Option<NaiveDate>,
}

impl Days {
    pub fn is_all(self) -> bool {
        self.from.is_none() && self.to.is_none()
    }
}

/// Which row, for whoever reads a decision: a number of our own, or where an existing table has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RowId {
    Own(i64),
    /// The name of the source under `governance.sources`, and what the row's `id` columns hold.
    Source(String, String),
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(id) => write!(f, "{id}"),
            Self::Source(source, place) => write!(f, "{source}#{place}"),
        }
    }
}

impl FromStr for RowId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((source, place)) = text.split_once('#') {
            return Ok(Self::Source(source.to_owned(), place.to_owned()));
        }
        let id = text.parse().map(Self::Own);
        id.map_err(|_| format!("`{text}` is no row: a number, or a source's name, `#` and a place"))
    }
}

/// What of a feed a row is about.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Target {
    /// Columns by their names; all without it.
    pub columns: Option<BTreeSet<String>>,
    /// Masks of columns by their names, or of fields by their paths.
    pub masks: BTreeMap<String, Mask>,
    pub predicate: Option<Predicate>,
    pub days: Days,
}

impl Target {
    /// Whether it is about all of a feed, as it stands.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

/// One permission row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub id: RowId,
    pub grantee: Grantee,
    pub feed: Pattern,
    pub action: Action,
    pub effect: Effect,
    pub target: Target,
    /// Milliseconds since the epoch, from which on there is no such row.
    pub expires_at_ms: Option<i64>,
    pub granted_by: String,
    pub reason: String,
}

impl Row {
    pub fn is_for(&self, principal: &Principal) -> bool {
        principal.is(&self.grantee)
    }

    pub fn is_about(&self, action: Action, feed: &str) -> bool {
        self.action == action && self.feed.matches(feed)
    }

    pub fn has_expired(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// It counted at the one moment and does at the other no more.
    pub fn expired_between(&self, before_ms: i64, now_ms: i64) -> bool {
        self.has_expired(now_ms) && !self.has_expired(before_ms)
    }

    /// What makes no sense together, whatever the feeds have.
    pub fn fault(&self) -> Option<String> {
        let narrow = !self.target.is_all();
        let Target { columns, masks, days, .. } = &self.target;
        if narrow && self.action != Action::Read {
            return Some(format!(
                "columns, masks, rows and days are for `read`; `{}` is given or not",
                self.action
            ));
        }
        if self.effect == Effect::Deny && !masks.is_empty() {
            return Some(
                "a row that denies has no masks: deny the columns, or allow with masks".into(),
            );
        }
        if columns.as_ref().is_some_and(BTreeSet::is_empty) {
            return Some("an empty list of columns: name some, or leave it out for all".into());
        }
        match (days.from, days.to) {
            (Some(from), Some(to)) if from > to => {
                Some(format!("the days {from} to {to} are none"))
            }
            _ => None,
        }
    }
}
