//! The words of permission rows: actions, effects, whom a row is for and which feeds. Node files say them of
//! existing tables, and the rows themselves have them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What somebody may do with a feed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// See its rows.
    Read,
    /// See its records in quarantine, which are raw bytes: no mask reaches into them.
    Quarantine,
    /// Replay and discard its records in quarantine.
    Replay,
    /// Add and change its feed file.
    Write,
    /// Grant and revoke.
    Manage,
}

impl Action {
    pub const ALL: [Self; 5] =
        [Self::Read, Self::Quarantine, Self::Replay, Self::Write, Self::Manage];

    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Quarantine => "quarantine",
            Self::Replay => "replay",
            Self::Write => "write",
            Self::Manage => "manage",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|action| action.name() == text);
        found.ok_or_else(|| {
            format!("`{text}` is no action: read, quarantine, replay, write or manage")
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    Allow,
    Deny,
}

impl Effect {
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// Whom a row is for: `user:ada`, `role:analyst`, `group:finance`, or `*` for everybody who is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grantee {
    User(String),
    Role(String),
    Group(String),
    Everybody,
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Role(name) => write!(f, "role:{name}"),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::Everybody => f.write_str("*"),
        }
    }
}

impl FromStr for Grantee {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = match text.split_once(':') {
            _ if text == "*" => Some(Self::Everybody),
            Some((_, name)) if !valid_name(name) => None,
            Some(("user", name)) => Some(Self::User(name.to_owned())),
            Some(("role", name)) => Some(Self::Role(name.to_owned())),
            Some(("group", name)) => Some(Self::Group(name.to_owned())),
            _ => None,
        };
        found.ok_or_else(|| {
            format!("`{text}` is nobody: write `user:NAME`, `role:NAME`, `group:NAME` or `*`")
        })
    }
}

impl Grantee {
    /// Whether somebody may be both, as far as anybody can tell.
    pub fn may_meet(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::User(one), Self::User(other)) => one == other,
            _ => true,
        }
    }

    /// The one of this kind and name.
    pub fn of(kind: GranteeKind, name: &str) -> Result<Self, String> {
        format!("{}:{name}", kind.name()).parse()
    }
}

/// What a name is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GranteeKind {
    #[default]
    User,
    Role,
    Group,
}

impl GranteeKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Role => "role",
            Self::Group => "group",
        }
    }
}

/// Names of people come from elsewhere: what is visible and no space around it.
pub fn valid_name(name: &str) -> bool {
    (1..=200).contains(&name.len()) && name.trim() == name && !name.chars().any(char::is_control)
}

/// Feeds by their names: `*` stands for any characters, none included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(String);

impl Pattern {
    pub fn all() -> Self {
        Self("*".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn matches(&self, feed: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = feed.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-*".contains(c);
        match !text.is_empty() && text.len() <= 200 && text.chars().all(allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "`{text}` names no feed: lower-case letters, digits, `_`, `-`, and `*` for any of them"
            )),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Both are one text wherever they are written.
macro_rules! as_text {
    ($kind:ident, $format:literal, $meaning:literal) => {
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $kind {
            fn schema_name() -> Cow<'static, str> {
                stringify!($kind).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "description": $meaning })
            }
        }
    };
}

as_text!(Grantee, "grantee", "Whom a row is for: `user:NAME`, `role:NAME`, `group:NAME` or `*`.");
as_text!(
    Pattern,
    "feed-pattern",
    "A feed: lower-case letters, digits, `_`, `-`, and `*` for any of them."
);
