//! `lake.layout`: the path of a feed's files, as a template.

use super::fault::{listed, nearest};

/// s4's layout, and the default: what readers of Hive paths prune by.
pub const DEFAULT_LAYOUT: &str =
    "streams/{feed}/year={year}/month={month}/day={day}/data_{year}{month}{day}";

/// The same for a table of snapshots: its changes lie in `_changes` below `tables/{feed}`.
pub const DEFAULT_TABLE_LAYOUT: &str =
    "tables/{feed}/year={year}/month={month}/day={day}/data_{year}{month}{day}";

/// Where the lake keeps what is not a feed's table.
pub const RESERVED_FOLDERS: [&str; 2] = ["_tidegate", "quarantine"];

/// A template, read: folders, then the beginning of the file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
    /// How many segments at the front are the same for every file: the table's folder.
    fixed: usize,
    precision: Precision,
}

pub type Segment = Vec<Piece>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Of(Placeholder),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placeholder {
    Feed,
    Topic,
    TopicUpper,
    Year,
    Month,
    Day,
    Hour,
    Date,
    Partition,
    Offset,
}

/// How finely a layout tells times apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    Year,
    Month,
    Day,
    Hour,
}

const NAMES: [(&str, Placeholder); 10] = [
    ("feed", Placeholder::Feed),
    ("topic", Placeholder::Topic),
    ("TOPIC", Placeholder::TopicUpper),
    ("year", Placeholder::Year),
    ("month", Placeholder::Month),
    ("day", Placeholder::Day),
    ("hour", Placeholder::Hour),
    ("date", Placeholder::Date),
    ("partition", Placeholder::Partition),
    ("offset", Placeholder::Offset),
];

impl Placeholder {
    /// Whether it is the same for all files of a feed.
    fn is_fixed(self) -> bool {
        matches!(self, Self::Feed | Self::Topic | Self::TopicUpper)
    }

    /// Whether only a file of one partition has it.
    pub fn is_of_one_partition(self) -> bool {
        matches!(self, Self::Partition | Self::Offset)
    }
}

impl Template {
    /// The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('/') || text.contains("://") {
            return Err("it begins below the lake: no `/` or address in front".to_owned());
        }
        let segments = text.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        let same = |segment: &Segment| {
            segment.iter().all(|piece| match piece {
                Piece::Text(_) => true,
                Piece::Of(of) => of.is_fixed(),
            })
        };
        // The last segment is the file's name, whatever it holds.
        let folders = segments.len() - 1;
        let fixed = segments[..folders].iter().take_while(|segment| same(segment)).count();
        let mut own = segments[..fixed].iter().flatten();
        if !own.any(|piece| matches!(piece, Piece::Of(of) if of.is_fixed())) {
            return Err("the folders before the first time must hold `{feed}`, `{topic}` or \
                        `{TOPIC}`: a table has a folder of its own"
                .to_owned());
        }
        if let Some(Piece::Text(first)) = segments[0].first()
            && segments[0].len() == 1
            && RESERVED_FOLDERS.contains(&first.as_str())
        {
            return Err(format!("the lake keeps other things in `{first}`"));
        }
        let precision = precision(&segments)?;
        let template = Self { segments, fixed, precision };
        let mut columns: Vec<&str> = template.columns().map(|(name, _)| name).collect();
        columns.sort_unstable();
        match columns.windows(2).find(|pair| pair[0].eq_ignore_ascii_case(pair[1])) {
            Some(pair) => Err(format!("`{}=` stands there twice", pair[0])),
            None => Ok(template),
        }
    }

    /// The table's folder.
    pub fn table(&self) -> &[Segment] {
        &self.segments[..self.fixed]
    }

    /// What follows below it: folders, and the beginning of the file's name.
    pub fn below(&self) -> &[Segment] {
        &self.segments[self.fixed..]
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The `key={value}` folders below the table's: its partition columns.
    pub fn columns(&self) -> impl Iterator<Item = (&str, Placeholder)> {
        let below = self.below();
        below[..below.len() - 1].iter().filter_map(|segment| match segment.as_slice() {
            [Piece::Text(key), Piece::Of(of)] => key.strip_suffix('=').map(|key| (key, *of)),
            _ => None,
        })
    }

    pub fn has(&self, wanted: impl Fn(Placeholder) -> bool) -> bool {
        let mut pieces = self.segments.iter().flatten();
        pieces.any(|piece| matches!(piece, Piece::Of(of) if wanted(*of)))
    }
}

fn segment(text: &str) -> Result<Segment, String> {
    if text.is_empty() {
        return Err("a folder without a name".to_owned());
    }
    if text.starts_with(['.', '_']) {
        return Err(format!("`{text}`: readers pass over names that begin with `.` or `_`"));
    }
    let mut pieces = Segment::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        push_text(&mut pieces, &rest[..open])?;
        let inside = rest[open..].strip_prefix('{').and_then(|inside| inside.split_once('}'));
        let (name, after) = inside.ok_or_else(|| format!("`{text}`: a brace without its other"))?;
        let known = NAMES.iter().find(|(known, _)| *known == name);
        let (_, of) = known.ok_or_else(|| unknown(name))?;
        pieces.push(Piece::Of(*of));
        rest = after;
    }
    push_text(&mut pieces, rest)?;
    Ok(pieces)
}

fn push_text(pieces: &mut Segment, text: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
    if let Some(odd) = text.chars().find(|c| !legal(*c)) {
        return Err(format!("`{odd}`: folders are letters, digits, `-`, `_`, `.` and `=`"));
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
    Ok(())
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    let meant = nearest(name, names.clone());
    let meant = meant.map(|meant| format!(", did you mean `{{{meant}}}`?")).unwrap_or_default();
    format!("`{{{name}}}`{meant} There are {}, each in braces", listed(&names))
}

/// The finest time the path tells, if each coarser one is told too.
fn precision(segments: &[Segment]) -> Result<Precision, String> {
    let has = |wanted| segments.iter().flatten().any(|piece| *piece == Piece::Of(wanted));
    let year = has(Placeholder::Year);
    let month = year && has(Placeholder::Month);
    let day = (month && has(Placeholder::Day)) || has(Placeholder::Date);
    let whole = (month || day || !has(Placeholder::Month))
        && (day || !has(Placeholder::Day))
        && (day || !has(Placeholder::Hour));
    match () {
        () if !whole => {
            Err("a month needs its `{year}`, a day its `{month}`, an hour its `{day}` \
                             or `{date}`"
                .to_owned())
        }
        () if has(Placeholder::Hour) => Ok(Precision::Hour),
        () if day => Ok(Precision::Day),
        () if month => Ok(Precision::Month),
        () if year => Ok(Precision::Year),
        () => Err("no time: it needs `{date}`, or `{year}`, `{month}` and `{day}`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_of_other_systems_are_read() {
        for (text, fixed, columns, precision) in [
            (DEFAULT_LAYOUT, 2, "year month day", Precision::Day),
            ("{feed}/date={date}/data", 1, "date", Precision::Day),
            ("{TOPIC}/{date}/{TOPIC}_{date}", 1, "", Precision::Day),
            ("a/{feed}/y={year}/{partition}/{month}_{offset}", 2, "y", Precision::Month),
            ("{feed}/dt={date}/hour={hour}/p={partition}/part", 1, "dt hour p", Precision::Hour),
        ] {
            let read = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let names: Vec<&str> = read.columns().map(|(name, _)| name).collect();
            assert_eq!((read.fixed, read.precision), (fixed, precision), "{text}");
            assert_eq!(names.join(" "), columns, "{text}");
        }
    }

    #[test]
    fn faults_are_told() {
        for (text, told) in [
            ("/{feed}/{date}", "below the lake"),
            ("s3://{feed}/{date}", "below the lake"),
            ("{feed}/../{date}", "pass over"),
            ("{feed}//{date}", "without a name"),
            ("{feed}/{date}/", "without a name"),
            ("_x/{feed}/{date}", "pass over"),
            ("{feed}/{dates}", "did you mean `{date}`"),
            ("{feed}/{date", "without its other"),
            ("{feed}/date}", "without its other"),
            ("{feed}/a b/{date}", "letters, digits"),
            ("{date}/{feed}", "a folder of its own"),
            ("{feed}", "a folder of its own"),
            ("quarantine/{feed}/{date}", "keeps other things"),
            ("{feed}/data", "no time"),
            ("{feed}/{hour}/data", "an hour its"),
            ("{feed}/{year}/{day}", "a day its"),
            ("{feed}/d={date}/D={date}/x", "twice"),
        ] {
            let error = Template::parse(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
