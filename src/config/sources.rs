//! Existing tables that say who may what: how their columns are read as permission rows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Action, Effect, Grantee, GranteeKind, Pattern};

/// The tables, by the names that their rows are known by.
pub type Sources = BTreeMap<String, PermissionSource>;

/// An existing table or view, and what its columns say. Columns are named as the database has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PermissionSource {
    /// `name` or `schema.name`; without a schema it is in `warehouse.schema`.
    pub table: String,
    /// Columns whose values tell its rows apart, such as its primary key. A row is shown as
    /// `NAME#VALUE`, several values joined by commas.
    pub id: Vec<String>,
    /// Whom a row is for.
    pub principal: PrincipalColumn,
    /// Which feeds it is about: what `column` says, or `always` the same.
    pub feed: FeedColumn,
    /// What it is about: what `column` says, or `always` the same. Nothing is given but what is named here,
    /// `manage` least of all.
    pub action: ActionColumn,
    /// Columns that must all be true for a row to count: a boolean, 1 or 0, or `true`, `t`, `yes`, `y`
    /// and their opposites. NULL is false. Default: every row counts.
    #[serde(default)]
    pub only_if: Vec<String>,
    /// Whether it allows or denies. Default: every row allows.
    #[serde(default)]
    pub effect: Option<EffectColumn>,
    /// Column that names the columns that may be read: an array, a JSON array as text, or names joined
    /// by commas. NULL: all. Default: all columns.
    #[serde(default)]
    pub columns: Option<String>,
    /// Column with a JSON object of columns and their masks (`null`, `hash`, `last4`, `month`,
    /// `year`). NULL: none. Default: no masks.
    #[serde(default)]
    pub masks: Option<String>,
    /// Column with a condition in SQL, of which the rows that may be read are true. NULL: all. Default:
    /// all rows.
    #[serde(default)]
    pub predicate: Option<String>,
    /// Column with the time from which on a row counts no more; without a zone it is UTC, and a day ends
    /// where it begins. NULL: never. Default: never.
    #[serde(default)]
    pub expires_at: Option<String>,
}

/// Whom a row is for. NULL is nobody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalColumn {
    /// Column with the name.
    pub column: String,
    /// What it is the name of. Default: `user`.
    #[serde(default)]
    pub kind: GranteeKind,
    /// Values that stand for somebody else, such as `{PUBLIC: '*'}`. A `*` in the table is nobody
    /// unless it is named here. Default: none.
    #[serde(default)]
    pub names: BTreeMap<String, Grantee>,
}

/// Which feeds a row is about. Either `column` or `always`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedColumn {
    /// Column with a feed's name, in whichever case.
    #[serde(default)]
    pub column: Option<String>,
    /// Values that stand for other feeds, such as `{ALL: ['*']}`. A `*` in the table is no feed unless
    /// it is named here. Default: none.
    #[serde(default)]
    pub names: BTreeMap<String, Vec<Pattern>>,
    /// Feeds that every row is about.
    #[serde(default)]
    pub always: Vec<Pattern>,
}

/// What a row is about. Either `column` with `names`, or `always`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionColumn {
    /// Column with a word for it.
    #[serde(default)]
    pub column: Option<String>,
    /// What each of its values stands for, such as `{SELECT: [read]}`; no other is understood.
    #[serde(default)]
    pub names: BTreeMap<String, Vec<Action>>,
    /// Actions that every row is about.
    #[serde(default)]
    pub always: Vec<Action>,
}

/// Whether a row allows or denies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EffectColumn {
    /// Column with a word for it.
    pub column: String,
    /// What each of its values stands for; one that is not named here denies where one of them does,
    /// and else allows nothing.
    pub names: BTreeMap<String, Effect>,
}

impl PermissionSource {
    /// The columns that are read, each once.
    pub fn read_columns(&self) -> Vec<&str> {
        let optional =
            [&self.feed.column, &self.action.column, &self.columns, &self.masks, &self.predicate];
        let effect = self.effect.as_ref().map(|effect| &effect.column);
        let all = self.id.iter().chain([&self.principal.column]).chain(&self.only_if);
        let all = all.chain(optional.into_iter().flatten()).chain(&self.expires_at).chain(effect);
        let mut columns: Vec<&str> = Vec::new();
        for column in all {
            if !columns.contains(&column.as_str()) {
                columns.push(column);
            }
        }
        columns
    }

    /// All actions that its rows may be about.
    pub fn reach(&self) -> Vec<Action> {
        let named = self.action.names.values().flatten().chain(&self.action.always);
        let mut actions: Vec<Action> = named.copied().collect();
        actions.sort_unstable();
        actions.dedup();
        actions
    }

    /// Whether a row of it may deny.
    pub fn may_deny(&self) -> bool {
        let effects = self.effect.iter().flat_map(|effect| effect.names.values());
        effects.into_iter().any(|effect| *effect == Effect::Deny)
    }
}
