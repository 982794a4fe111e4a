//! What somebody may see of a feed, as one sink has it: which columns, how each is shown by which grant, and
//! which records.

use std::collections::BTreeSet;

use super::{Access, Days, Mask, Predicate, RowId, Target};
use crate::config::ColumnType;

/// A column as a sink has it.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkColumn {
    pub name: String,
    /// Where its value stood in the message.
    pub path: String,
    pub kind: ColumnType,
    pub part: Part,
}

/// What of a record a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Value,
    /// A part of the record key.
    Key,
    /// Where the record stood: topic, partition, offset, Kafka's timestamp, operation, version.
    Coordinate,
    /// The record key's bytes.
    RawKey,
    Headers,
    /// All that no column takes, by its paths.
    Rest,
    /// The whole message.
    Document,
}

/// The columns by which a record has its day.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TimeColumns {
    pub event: Option<String>,
    pub kafka: Option<String>,
}

/// What may be seen.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Those of which something may be seen, in the sink's order.
    pub columns: Vec<Shown>,
    /// Which records each grant is about, and each denial that takes away whole records, or columns.
    pub grants: Vec<Condition>,
    pub denials: Vec<Denied>,
    pub time: TimeColumns,
    /// Rows that allow and cannot be judged here, each with the reason.
    pub unfit: Vec<(RowId, String)>,
}

/// Records of which a predicate is true and that are of these days.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Condition {
    pub predicate: Option<Predicate>,
    pub days: Days,
}

impl Condition {
    pub fn is_all(&self) -> bool {
        self.predicate.is_none() && self.days.is_all()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Denied {
    pub condition: Condition,
    /// The record itself is taken away, and not only some of its columns.
    pub whole: bool,
}

/// A column that is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub column: SinkColumn,
    /// By which grant and how, the most telling first.
    pub by: Vec<(usize, Show)>,
    /// By which denial what of it is taken away.
    pub but: Vec<(usize, Show)>,
    /// It is shown as text, since a mask makes text of it.
    pub as_text: bool,
}

/// How a value is shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Show {
    Plain,
    /// With masks of fields inside it, by their paths from there.
    Inside(Vec<(String, Mask)>),
    Masked(Mask),
}

impl Shown {
    /// Whether whoever asks may compare with its values: they are shown as they are wherever they are shown.
    pub fn is_plain(&self, grants: usize) -> bool {
        self.but.is_empty()
            && self.by.len() == grants
            && self.by.iter().all(|(_, show)| *show == Show::Plain)
    }
}

impl View {
    /// `None`: nothing of it may be seen.
    pub fn of(access: &Access, columns: &[SinkColumn], time: &TimeColumns) -> Option<Self> {
        let unfit_for = |target: &Target| unfit(target, columns, time);
        let mut unfit = Vec::new();
        let mut targets = Vec::new();
        for grant in &access.grants {
            match unfit_for(&grant.target) {
                Some(why) => unfit.push((grant.row.clone(), why)),
                None => targets.push(&grant.target),
            }
        }
        let mut denials = Vec::new();
        for denial in &access.denials {
            // Whom it would keep from what is not known here.
            if unfit_for(&denial.target).is_some() {
                return None;
            }
            let target = &denial.target;
            if target.columns.is_none() && condition(target).is_all() {
                return None;
            }
            denials.push(target);
        }
        let shown = |column: &SinkColumn| shown(column, columns, &targets, &denials);
        let columns_shown: Vec<Shown> = columns.iter().filter_map(shown).collect();
        let tells = columns_shown.iter().any(|it| it.column.part != Part::Coordinate);
        (tells && !targets.is_empty()).then(|| Self {
            columns: columns_shown,
            grants: targets.iter().map(|target| condition(target)).collect(),
            denials: denials
                .iter()
                .map(|target| Denied {
                    condition: condition(target),
                    whole: target.columns.is_none(),
                })
                .collect(),
            time: time.clone(),
            unfit,
        })
    }

    /// The column of a name, if whoever asks may compare with its values.
    pub fn plain(&self, name: &str) -> Option<&SinkColumn> {
        let shown = self.columns.iter().find(|shown| shown.column.name == name)?;
        shown.is_plain(self.grants.len()).then_some(&shown.column)
    }

    /// The columns that must be read to judge which records are shown.
    pub fn judged_by(&self) -> BTreeSet<&str> {
        let denials = self.denials.iter().map(|denied| &denied.condition);
        let mut names = BTreeSet::new();
        for condition in self.grants.iter().chain(denials) {
            names.extend(condition.predicate.iter().flat_map(Predicate::columns));
            if !condition.days.is_all() {
                names.extend(self.time.event.as_deref());
                names.extend(self.time.kafka.as_deref());
            }
        }
        names
    }
}

fn condition(target: &Target) -> Condition {
    Condition { predicate: target.predicate.clone(), days: target.days }
}

/// Why a target cannot be judged in this sink.
fn unfit(target: &Target, columns: &[SinkColumn], time: &TimeColumns) -> Option<String> {
    for name in target.predicate.iter().flat_map(Predicate::columns) {
        let Some(column) = columns.iter().find(|column| column.name == name) else {
            return Some(format!("its predicate reads {name}, which the feed does not have"));
        };
        if let Some(why) =
            target.predicate.as_ref().and_then(|it| it.misfit(&column.name, column.kind))
        {
            return Some(why);
        }
    }
    let timeless = time.event.is_none() && time.kafka.is_none();
    (timeless && !target.days.is_all()).then(|| "its days are of no column of the table".to_owned())
}

/// A column as grants and denials leave it; none if nobody shows it.
fn shown(
    column: &SinkColumn,
    columns: &[SinkColumn],
    grants: &[&Target],
    denials: &[&Target],
) -> Option<Shown> {
    let by = grants.iter().enumerate();
    let mut by: Vec<(usize, Show)> =
        by.filter_map(|(index, target)| Some((index, show(column, columns, target)?))).collect();
    by.sort_by(|(_, a), (_, b)| a.cmp(b));
    let mut but = Vec::new();
    for (index, target) in denials.iter().enumerate() {
        let Some(names) = &target.columns else { continue };
        match hidden(column, columns, names.iter().map(|name| (name.as_str(), Mask::Null))) {
            // Of every record: it is not there.
            Some(Show::Masked(_)) if condition(target).is_all() => return None,
            Some(show) => but.push((index, show)),
            None => {}
        }
    }
    let masks = by.iter().filter_map(|(_, show)| match show {
        Show::Masked(mask) => Some(*mask),
        Show::Plain | Show::Inside(_) => None,
    });
    let as_text = masks.clone().any(|mask| matches!(mask, Mask::Hash | Mask::Last4))
        || (matches!(column.kind, ColumnType::Nested(_))
            && by.iter().chain(&but).any(|(_, show)| matches!(show, Show::Inside(_))));
    (!by.is_empty()).then(|| Shown { column: column.clone(), by, but, as_text })
}

/// How one grant shows a column; none if it does not.
fn show(column: &SinkColumn, columns: &[SinkColumn], target: &Target) -> Option<Show> {
    if column.part == Part::Coordinate {
        return Some(Show::Plain);
    }
    if target.columns.as_ref().is_some_and(|names| !names.contains(&column.name)) {
        return None;
    }
    if column.part == Part::RawKey
        && let Some(names) = &target.columns
        && columns.iter().any(|it| it.part == Part::Key && !names.contains(&it.name))
    {
        return None;
    }
    let masks = target.masks.iter().map(|(name, mask)| (name.as_str(), *mask));
    Some(match hidden(column, columns, masks) {
        None => Show::Plain,
        // Of raw bytes no part can be hidden.
        Some(_) if column.part == Part::RawKey => return None,
        Some(Show::Masked(mask)) => {
            Show::Masked(if mask.fits(column.kind) { mask } else { Mask::Null })
        }
        Some(show) => show,
    })
}

/// What hiding these columns and fields does to a column.
fn hidden<'n>(
    column: &SinkColumn,
    columns: &[SinkColumn],
    names: impl Iterator<Item = (&'n str, Mask)>,
) -> Option<Show> {
    let mut inside = Vec::new();
    let mut whole: Option<Mask> = None;
    for (name, mask) in names {
        let named = columns.iter().find(|it| it.name == name);
        let part = named.map(|it| it.part);
        if column.part == Part::RawKey {
            // It holds every part of the key.
            if part == Some(Part::Key) || name == column.name {
                whole = Some(Mask::Null);
            }
            continue;
        }
        if name == column.name {
            whole = whole.max(Some(mask));
            continue;
        }
        if part == Some(Part::Coordinate) {
            continue;
        }
        // By their paths, since two columns may hold one field, and key and value the same.
        let path = named.map_or(name, |it| it.path.as_str());
        match column.part {
            Part::Rest | Part::Document => inside.push((path.to_owned(), mask)),
            Part::Value | Part::Key => match path.strip_prefix(column.path.as_str()) {
                Some("") => whole = whole.max(Some(mask)),
                Some(below) if below.starts_with('.') => inside.push((below[1..].to_owned(), mask)),
                _ if is_below(&column.path, path) => whole = whole.max(Some(mask)),
                _ => {}
            },
            Part::Coordinate | Part::RawKey | Part::Headers => {}
        }
    }
    match whole {
        Some(mask) => Some(Show::Masked(mask)),
        None if inside.is_empty() => None,
        // Nothing is inside a plain value; a path there names nothing.
        None => Some(Show::Inside(inside)),
    }
}

/// Whether the field at `path` lies in the one at `outer`.
fn is_below(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
}

impl Mask {
    /// Whether it says something of values of a type; else it is `null`.
    pub fn fits(self, kind: ColumnType) -> bool {
        use ColumnType::{Date, Decimal, Int, Long, String, Timestamp};
        match self {
            Self::Null => true,
            Self::Month | Self::Year => matches!(kind, Date | Timestamp),
            Self::Last4 | Self::Hash => matches!(kind, String | Int | Long | Decimal { .. }),
        }
    }
}
