//! What somebody may see of a feed, as one sink has it: which columns, how each is shown by which grant, and
//! which records.

use std::collections::{BTreeMap, BTreeSet};

use super::{Access, Days, Mask, Predicate, RowId, Target};
use crate::config::{ColumnType, covers, overlaps};

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

/// The feed's columns by their names in either sink, with their paths in the message: what a row calls by a
/// name may stand elsewhere under its path.
pub type Paths = BTreeMap<String, String>;

/// What may be seen.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Those of which something may be seen, in the sink's order.
    pub columns: Vec<Shown>,
    /// Which records each grant is about, and each denial that takes away whole records, or columns.
    pub grants: Vec<Condition>,
    pub denials: Vec<Denied>,
    pub time: TimeColumns,
    /// All columns of the sink, those that are not shown among them: conditions read them.
    pub sink: Vec<SinkColumn>,
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
    /// `None`: nothing of it may be seen. `paths` has the columns of both sinks.
    pub fn of(
        access: &Access,
        columns: &[SinkColumn],
        paths: &Paths,
        time: &TimeColumns,
    ) -> Option<Self> {
        let sink = Sink { columns, paths, time };
        let mut unfit = Vec::new();
        let mut targets = Vec::new();
        for grant in &access.grants {
            match sink.unfit(&grant.target).or_else(|| sink.shows_nothing(&grant.target)) {
                Some(why) => unfit.push((grant.row.clone(), why)),
                None => targets.push(&grant.target),
            }
        }
        let mut denials = Vec::new();
        for denial in &access.denials {
            let target = &denial.target;
            // Whom it would keep from what is not known here.
            let everything = target.columns.is_none() && condition(target).is_all();
            if everything || sink.unfit(target).is_some() {
                return None;
            }
            denials.push(target);
        }
        let shown: Vec<Shown> =
            columns.iter().filter_map(|column| sink.shown(column, &targets, &denials)).collect();
        let tells = shown.iter().any(|it| it.column.part != Part::Coordinate);
        let denied = |target: &&Target| Denied {
            condition: condition(target),
            whole: target.columns.is_none(),
        };
        (tells && !targets.is_empty()).then(|| Self {
            columns: shown,
            grants: targets.iter().map(|target| condition(target)).collect(),
            denials: denials.iter().map(denied).collect(),
            time: time.clone(),
            sink: columns.to_vec(),
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

/// A sink's columns, and what names mean in it.
struct Sink<'s> {
    columns: &'s [SinkColumn],
    paths: &'s Paths,
    time: &'s TimeColumns,
}

impl Sink<'_> {
    /// Why a target cannot be judged here.
    fn unfit(&self, target: &Target) -> Option<String> {
        for name in target.predicate.iter().flat_map(Predicate::columns) {
            let Some(column) = self.columns.iter().find(|column| column.name == name) else {
                return Some(format!("its predicate reads {name}, which the feed does not have"));
            };
            let misfit = target.predicate.as_ref().and_then(|it| it.misfit(name, column.kind));
            if misfit.is_some() {
                return misfit;
            }
        }
        // A column that is to be shown and is not there is only not shown; one that is to be hidden may be
        // there under another name.
        let denied = target.columns.iter().flatten().filter(|_| target.masks.is_empty());
        let denied = denied.filter(|name| !self.is_column(name));
        for name in target.masks.keys().chain(denied) {
            if let Some(why) = self.unknown(name) {
                return Some(why);
            }
        }
        let timeless = self.time.event.is_none() && self.time.kafka.is_none();
        (timeless && !target.days.is_all())
            .then(|| "its days are of no column of the table".to_owned())
    }

    fn is_column(&self, name: &str) -> bool {
        self.columns.iter().any(|it| it.name == name) || self.paths.contains_key(name)
    }

    /// Why a name hides nothing that is here.
    fn unknown(&self, name: &str) -> Option<String> {
        if let Some(column) = self.columns.iter().find(|it| it.name == name) {
            let is_place = column.part == Part::Coordinate;
            return is_place
                .then(|| format!("{name} is where a record stood, and is never hidden"));
        }
        let path = self.path_of(name);
        let alike = |known: &str| known != name && known.eq_ignore_ascii_case(name);
        let own = self.columns.iter().flat_map(|it| [it.name.as_str(), it.path.as_str()]);
        let known = self.paths.iter().flat_map(|(name, path)| [name.as_str(), path.as_str()]);
        if !self.paths.contains_key(name)
            && let Some(meant) = own.chain(known).find(|known| alike(known))
        {
            return Some(format!(
                "{name} is no column or field of the feed: did you mean {meant}?"
            ));
        }
        let hits = |column: &SinkColumn| match column.part {
            Part::Rest | Part::Document => true,
            Part::Value | Part::Key => overlaps(path, &column.path),
            Part::Coordinate | Part::RawKey | Part::Headers => false,
        };
        // A column of the other sink alone is nothing that this one shows.
        let elsewhere = self.paths.contains_key(name);
        let found = elsewhere || self.columns.iter().any(hits);
        (!found).then(|| format!("{name} is no column or field of the feed"))
    }

    fn path_of<'n>(&'n self, name: &'n str) -> &'n str {
        let own = self.columns.iter().find(|it| it.name == name).map(|it| it.path.as_str());
        own.or_else(|| self.paths.get(name).map(String::as_str)).unwrap_or(name)
    }

    /// A grant of columns that the sink does not have shows not even that there are records.
    fn shows_nothing(&self, target: &Target) -> Option<String> {
        let shows = |column: &SinkColumn| {
            column.part != Part::Coordinate && self.show(column, target).is_some()
        };
        (!self.columns.iter().any(shows)).then(|| "it shows no column of the table".to_owned())
    }

    /// A column as grants and denials leave it; none if nobody shows it.
    fn shown(&self, column: &SinkColumn, grants: &[&Target], denials: &[&Target]) -> Option<Shown> {
        let by = grants.iter().enumerate();
        let mut by: Vec<(usize, Show)> =
            by.filter_map(|(index, target)| Some((index, self.show(column, target)?))).collect();
        by.sort_by(|(_, a), (_, b)| a.cmp(b));
        let mut but = Vec::new();
        for (index, target) in denials.iter().enumerate() {
            let Some(names) = &target.columns else { continue };
            match self.hidden(column, names.iter().map(|name| (name.as_str(), Mask::Null))) {
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
    fn show(&self, column: &SinkColumn, target: &Target) -> Option<Show> {
        if column.part == Part::Coordinate {
            return Some(Show::Plain);
        }
        if target.columns.as_ref().is_some_and(|names| !names.contains(&column.name)) {
            return None;
        }
        if column.part == Part::RawKey
            && let Some(names) = &target.columns
            && self.columns.iter().any(|it| it.part == Part::Key && !names.contains(&it.name))
        {
            return None;
        }
        let masks = target.masks.iter().map(|(name, mask)| (name.as_str(), *mask));
        // Documents hold the columns that are not shown, too.
        let others = self.paths.keys().filter(|name| {
            let is_document = matches!(column.part, Part::Rest | Part::Document);
            is_document && target.columns.as_ref().is_some_and(|names| !names.contains(*name))
        });
        let masks = masks.chain(others.map(|name| (name.as_str(), Mask::Null)));
        Some(match self.hidden(column, masks) {
            None => Show::Plain,
            // Of raw bytes no part can be hidden.
            Some(_) if column.part == Part::RawKey => return None,
            Some(Show::Masked(mask)) if !mask.fits(column.kind) => Show::Masked(Mask::Null),
            Some(show) => show,
        })
    }

    /// What hiding these columns and fields does to a column.
    fn hidden<'n>(
        &self,
        column: &SinkColumn,
        names: impl Iterator<Item = (&'n str, Mask)>,
    ) -> Option<Show> {
        let mut inside: Vec<(String, Mask)> = Vec::new();
        let mut whole: Option<Mask> = None;
        for (name, mask) in names {
            if name == column.name {
                whole = whole.max(Some(mask));
                continue;
            }
            // By their paths, since two columns may hold one field, and key and value the same.
            let path = self.path_of(name);
            match column.part {
                Part::RawKey => {
                    // It holds every part of the key; what it holds where no column does, nobody knows.
                    let mut keys = self.columns.iter().filter(|it| it.part == Part::Key).peekable();
                    if keys.peek().is_none() || keys.any(|key| overlaps(path, &key.path)) {
                        whole = Some(Mask::Null);
                    }
                }
                Part::Rest | Part::Document => inside.push((path.to_owned(), mask)),
                Part::Value | Part::Key => match path.strip_prefix(column.path.as_str()) {
                    Some("") => whole = whole.max(Some(mask)),
                    Some(below) if below.starts_with('.') => match column.kind {
                        ColumnType::Json | ColumnType::Nested(_) => {
                            inside.push((below[1..].to_owned(), mask));
                        }
                        // A text that holds a document, perhaps: nobody looks into it.
                        _ => whole = Some(Mask::Null),
                    },
                    _ if covers(path, &column.path) => whole = whole.max(Some(mask)),
                    _ => {}
                },
                // What a header repeats of it, nobody knows.
                Part::Headers => whole = Some(Mask::Null),
                Part::Coordinate => {}
            }
        }
        match whole {
            Some(mask) => Some(Show::Masked(mask)),
            None => (!inside.is_empty()).then_some(Show::Inside(inside)),
        }
    }
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
