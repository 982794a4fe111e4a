//! Permission rows → who may open the files of a feed. Files can neither be masked nor cut by rows, so a
//! folder is opened to those alone who may read all that is in it, and only as far as its mode can say it:
//! to everybody, to one Unix group, or to nobody but its owner.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Action, Effect, Grantee, Row};

/// A folder of the lake that holds rows of one feed, or its records in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FeedFolder {
    pub feed: String,
    /// What a row must allow for all that is in it: `read`, or `quarantine`.
    pub action: Action,
    /// Below the lake's root.
    pub path: String,
}

impl FeedFolder {
    fn holds(&self, other: &Self) -> bool {
        other.path == self.path || other.path.starts_with(&format!("{}/", self.path))
    }

    /// Another feed's folder that is this one, inside it or around it.
    pub fn entangled<'f>(&self, folders: &'f [Self]) -> Option<&'f Self> {
        let other = |it: &&Self| (&it.feed, it.action) != (&self.feed, self.action);
        folders.iter().filter(other).find(|it| self.holds(it) || it.holds(self))
    }
}

/// The rows about a folder that have not expired.
#[derive(Debug, Clone, Default)]
pub struct About<'r> {
    /// They allow all that is in it.
    pub whole: Vec<&'r Row>,
    /// They allow some columns or rows, or with masks.
    pub narrow: Vec<&'r Row>,
    /// They take something away, however little.
    pub denials: Vec<&'r Row>,
}

impl<'r> About<'r> {
    pub fn of(rows: &'r [Row], folder: &FeedFolder, now_ms: i64) -> Self {
        let mut about = Self::default();
        for row in rows {
            if !row.is_about(folder.action, &folder.feed) || row.has_expired(now_ms) {
                continue;
            }
            match row.effect {
                Effect::Deny => about.denials.push(row),
                Effect::Allow if row.target.is_all() => about.whole.push(row),
                Effect::Allow => about.narrow.push(row),
            }
        }
        about
    }

    /// A row that denies something to one of those whom this one is for, as far as anybody can tell.
    pub fn denial(&self, grantee: &Grantee) -> Option<&'r Row> {
        self.denials.iter().find(|denial| denial.grantee.may_meet(grantee)).copied()
    }
}

/// To whom a folder is open, beside its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenTo {
    Everybody,
    /// The members of a Unix group.
    Group(String),
    Nobody,
}

/// What the rows say of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    pub folder: FeedFolder,
    pub to: OpenTo,
    /// Which rows decide it, for people.
    pub why: String,
    /// The rows let somebody read what no mode can let him: what could be done about it.
    pub remedy: Option<String>,
}

/// To whom each folder is to be open. `groups` are Unix groups by the names that rows have for them, as
/// `governance.files.groups` has them.
pub fn openings(
    rows: &[Row],
    folders: &[FeedFolder],
    groups: &BTreeMap<String, String>,
    now_ms: i64,
) -> Vec<Opening> {
    let opening = |folder: &FeedFolder| {
        let (to, why, remedy) = match folder.entangled(folders) {
            Some(other) => (
                OpenTo::Nobody,
                format!("the files of feed {} are in the same folder", other.feed),
                Some("give each feed a `lake.layout` of its own".to_owned()),
            ),
            None => open_to(&About::of(rows, folder, now_ms), groups),
        };
        Opening { folder: folder.clone(), to, why, remedy }
    };
    folders.iter().map(opening).collect()
}

fn open_to(
    about: &About<'_>,
    groups: &BTreeMap<String, String>,
) -> (OpenTo, String, Option<String>) {
    let closed = |why: String, remedy: &str| (OpenTo::Nobody, why, Some(remedy.to_owned()));
    let Some(first) = about.whole.first() else {
        return match about.narrow.first() {
            None => (OpenTo::Nobody, "no row lets anybody read all of it".to_owned(), None),
            Some(row) => (
                OpenTo::Nobody,
                format!("row {} shows a part of it, and files are whole", row.id),
                None,
            ),
        };
    };
    // Groups overlap, and a mode has no exceptions.
    if let Some(denial) = about.denials.first() {
        return closed(
            format!("row {} denies {} something of it", denial.id, denial.grantee),
            "nobody can be left out of a mode: take the row away, or let it be read over the API",
        );
    }
    if let Some(row) = about.whole.iter().find(|row| row.grantee == Grantee::Everybody) {
        return (OpenTo::Everybody, format!("row {}", row.id), None);
    }
    let mut by_group: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for &row in &about.whole {
        if let Some(group) = unix_group(&row.grantee, groups) {
            by_group.entry(group).or_default().push(row);
        }
    }
    match by_group.iter().collect::<Vec<_>>().as_slice() {
        [] => closed(
            format!(
                "row {} is for {}, and a mode knows no users but the owner",
                first.id, first.grantee
            ),
            "grant it to a group, or let it be read over the API",
        ),
        [(group, rows)] => match stranger(group, rows, groups) {
            None => (OpenTo::Group((**group).to_owned()), said(rows), None),
            Some(stranger) => closed(
                format!(
                    "{} lets {} read it, but Unix group {group} stands for {stranger}, too",
                    said(rows),
                    rows[0].grantee
                ),
                "grant it to both, or name another Unix group under `governance.files.groups`",
            ),
        },
        several => {
            let names: Vec<&str> = several.iter().map(|(group, _)| **group).collect();
            closed(
                format!("several groups may read it ({}), and a folder has one", names.join(", ")),
                "name one Unix group for all of them under `governance.files.groups`",
            )
        }
    }
}

/// The Unix group that stands for a grantee.
fn unix_group<'g>(grantee: &'g Grantee, groups: &'g BTreeMap<String, String>) -> Option<&'g str> {
    let (key, name) = match grantee {
        Grantee::Group(name) => (name.clone(), name),
        Grantee::Role(name) => (format!("{ROLE}{name}"), name),
        Grantee::User(_) | Grantee::Everybody => return None,
    };
    Some(groups.get(&key).unwrap_or(name))
}

/// Before the names of roles in `governance.files.groups`.
const ROLE: &str = "role:";

/// Somebody else whom the configuration has in the same Unix group, and whom no row lets in.
fn stranger(group: &str, rows: &[&Row], groups: &BTreeMap<String, String>) -> Option<Grantee> {
    let granted: BTreeSet<&Grantee> = rows.iter().map(|row| &row.grantee).collect();
    let members = groups.iter().filter(|(_, of)| *of == group).map(|(key, _)| {
        let role = key.strip_prefix(ROLE).map(|name| Grantee::Role(name.to_owned()));
        role.unwrap_or_else(|| Grantee::Group(key.clone()))
    });
    members.into_iter().find(|member| !granted.contains(member))
}

fn said(rows: &[&Row]) -> String {
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    format!("row {}", ids.join(", "))
}

/// A folder's permission bits (nine of them) and its group, as the system has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderMode {
    pub bits: u32,
    pub gid: u32,
}

/// Nobody but the owner.
pub const CLOSED: u32 = 0o700;

/// What a folder's bits are to be, and its group where these say something of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedMode {
    pub bits: u32,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeChange {
    Bits(u32),
    Group(u32),
}

/// What leads from one to the other, in an order in which nobody is let in between who is not meant.
pub fn mode_changes(actual: FolderMode, wanted: WantedMode) -> Vec<ModeChange> {
    let mut changes = Vec::new();
    let mut bits = actual.bits;
    if let Some(gid) = wanted.gid.filter(|gid| *gid != actual.gid) {
        // Neither the former group nor the next one may have what the other is to have.
        let between = bits & wanted.bits & !0o070;
        if between != bits {
            changes.push(ModeChange::Bits(between));
            bits = between;
        }
        changes.push(ModeChange::Group(gid));
    }
    if bits != wanted.bits {
        changes.push(ModeChange::Bits(wanted.bits));
    }
    changes
}
