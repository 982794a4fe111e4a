//! Where a record lies in the lake: its time, its folder, its file's name.
//!
//! Pure. A name is never used twice: it carries a random id.

mod slots;

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::config::{
    DEFAULT_LAYOUT, Feed, LakeFormat, LakeOptions, Piece, Placeholder, Precision, RESERVED_FOLDERS,
    Segment, Storage, Template, TimeSource,
};

pub use slots::{By, Slot, Slots, end_of, precision_of, slots};

/// A file's time is when it was written.
const INGEST: &str = "ingest";

/// Where the changes lie of a table that shows snapshots: readers of the folder pass over it.
pub const CHANGES: &str = "_changes";

/// The end of a replayed file's name, before its ending.
const REPLAYED: &str = "-replayed";

/// Whether a file holds rows that came out of quarantine.
pub fn is_replayed(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(stem, _)| stem.ends_with(REPLAYED))
}

/// Folder of a feed's table below the lake's root, where the feed file says nothing of it.
pub fn table_path(feed: &str) -> String {
    format!("streams/{feed}")
}

/// Folder of a feed's quarantine table, below the lake's root.
pub fn quarantine_path(feed: &str) -> String {
    format!("quarantine/{feed}")
}

/// Whether a file's name is one that a layout gives: nothing else is ever taken for ours.
pub fn is_ours(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    let Some((stem, ending)) = name.rsplit_once('.') else { return false };
    let stem = stem.strip_suffix(REPLAYED).unwrap_or(stem);
    let id = stem.rsplit_once('_').map(|(_, id)| id);
    let is_id =
        |id: &str| id.len() == 32 && id.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    matches!(ending, "parquet" | "jsonl") && id.is_some_and(is_id)
}

/// A feed's layout: its table's folder, and what its files below are called.
#[derive(Debug, Clone)]
pub struct Layout {
    folder: String,
    /// The folder of the snapshots, where there are any: the one above.
    snapshots: Option<String>,
    template: Template,
    feed: String,
    topic: String,
    ending: &'static str,
    /// What the time of its files goes by, as commits say it.
    by: String,
    /// What it goes by where nothing is said, as in files of releases that had no choice.
    unsaid: String,
}

/// What of a file's name its rows' time does not tell: the partition and the first offset.
#[derive(Debug, Clone, Copy, Default)]
pub struct First {
    pub partition: i32,
    pub offset: i64,
}

impl Layout {
    /// The error says what is wrong with the feed's `lake.layout`.
    pub fn of(feed: &Feed) -> Result<Self, String> {
        let options = feed.lake.clone().unwrap_or_default();
        let mut layout = Self::new(options.layout(), &feed.name, &feed.topic, options.format)?;
        if options.storage != Storage::Append {
            let changes = format!("{}/{CHANGES}", layout.folder);
            layout.snapshots = Some(std::mem::replace(&mut layout.folder, changes));
        }
        if options.format == LakeFormat::Delta
            && layout.template.has(Placeholder::is_of_one_partition)
        {
            return Err("a Delta table's files hold several partitions".to_owned());
        }
        let said = |time| match time {
            TimeSource::Ingest => INGEST.to_owned(),
            TimeSource::Kafka => "kafka".to_owned(),
            TimeSource::Column(index) => format!("column:{}", feed.schema.columns[index].name),
        };
        layout.by = said(feed.lake_time());
        layout.unsaid = said(feed.schema.time.map_or(TimeSource::Kafka, TimeSource::Column));
        // The columns may be inferred, and then no feed file was checked for it.
        let taken = |key: &str| {
            feed.schema.columns.iter().any(|column| column.name.eq_ignore_ascii_case(key))
        };
        match layout.columns().into_iter().find(|key| taken(key)) {
            Some(key) => Err(format!("`{key}=` is also a column of the feed")),
            None => Ok(layout),
        }
    }

    /// The folder that a reader of a feed is given, which its columns have no part in.
    pub fn shown_folder(options: &LakeOptions, feed: &str, topic: &str) -> Result<String, String> {
        Self::new(options.layout(), feed, topic, options.format).map(|layout| layout.folder)
    }

    /// The layout of a feed's quarantine table.
    pub fn of_quarantine(feed: &str) -> Result<Self, String> {
        let layout = Self::new(DEFAULT_LAYOUT, feed, "", LakeFormat::Delta)?;
        Ok(Self { folder: quarantine_path(feed), by: INGEST.to_owned(), ..layout })
    }

    fn new(text: &str, feed: &str, topic: &str, format: LakeFormat) -> Result<Self, String> {
        let template = Template::parse(text).map_err(|wrong| format!("lake.layout: {wrong}"))?;
        let (feed, topic) = (feed.to_owned(), topic.to_owned());
        let ending = format.ending();
        let (folder, snapshots) = (String::new(), None);
        let (by, unsaid) = Default::default();
        let mut layout = Self { folder, snapshots, template, feed, topic, ending, by, unsaid };
        let segments = layout.template.table().iter();
        let segments: Vec<String> =
            segments.map(|segment| layout.render(segment, Slot::EPOCH, First::default())).collect();
        if RESERVED_FOLDERS.contains(&segments[0].as_str()) {
            return Err(format!("lake.layout: the lake keeps other things in `{}`", segments[0]));
        }
        layout.folder = segments.join("/");
        Ok(layout)
    }

    /// The table's folder, below the lake's root: that of its records.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The folder of the table's snapshots; none where it has no other than that of its records.
    pub fn snapshots(&self) -> Option<&str> {
        self.snapshots.as_deref()
    }

    /// The folder that a reader is given.
    pub fn shown(&self) -> &str {
        self.snapshots().unwrap_or(&self.folder)
    }

    /// What the time of its files goes by, as commits say it.
    pub fn by(&self) -> &str {
        &self.by
    }

    /// Whether rows can be told to lie in the wrong place by a file whose commit says this. `ingest` is
    /// in no row; and a file that went by something else than the feed does now is right as it was.
    pub fn tells_place(&self, by: Option<&str>) -> bool {
        self.by != INGEST && by.unwrap_or(&self.unsaid) == self.by
    }

    pub fn precision(&self) -> Precision {
        self.template.precision()
    }

    /// The names of the partition columns, and what each tells.
    pub fn partitioned_by(&self) -> Vec<(&str, Placeholder)> {
        self.template.columns().collect()
    }

    pub fn columns(&self) -> Vec<&str> {
        self.template.columns().map(|(name, _)| name).collect()
    }

    /// The partition columns of a file with their values, as a Delta log writes them.
    pub fn values(&self, slot: Slot) -> Vec<(String, String)> {
        let value = |of| match of {
            Placeholder::Year => slot.year().to_string(),
            Placeholder::Month => slot.month().to_string(),
            Placeholder::Day => slot.day().to_string(),
            Placeholder::Hour => slot.hour().to_string(),
            other => self.value(other, slot, First::default()),
        };
        self.template.columns().map(|(name, of)| (name.to_owned(), value(of))).collect()
    }

    /// Path of a new file below the table's folder.
    pub fn file(&self, slot: Slot, first: First, id: Uuid) -> String {
        let below = self.template.below().iter();
        let path: Vec<String> = below.map(|segment| self.render(segment, slot, first)).collect();
        format!("{}_{}.{}", path.join("/"), id.simple(), self.ending)
    }

    /// The same for rows that come out of quarantine: whoever reads the files can tell them from those
    /// that a node wrote.
    pub fn replayed_file(&self, slot: Slot, first: First, id: Uuid) -> String {
        let path = self.file(slot, first, id);
        let stem = path.strip_suffix(self.ending).and_then(|stem| stem.strip_suffix('.'));
        format!("{}{REPLAYED}.{}", stem.unwrap_or(&path), self.ending)
    }

    /// What a file's partition columns say of its time, as [`Slot::label`] does; none where they do
    /// not say it.
    pub fn label_of(&self, values: &BTreeMap<String, Option<String>>) -> Option<String> {
        let of = |wanted| {
            let (name, _) = self.template.columns().find(|(_, of)| *of == wanted)?;
            values.get(name)?.clone()
        };
        let number = |wanted| of(wanted)?.parse::<i32>().ok();
        let date = of(Placeholder::Date).or_else(|| {
            let year = format!("{:04}", number(Placeholder::Year)?);
            let Some(month) = number(Placeholder::Month) else { return Some(year) };
            let Some(day) = number(Placeholder::Day) else {
                return Some(format!("{year}-{month:02}"));
            };
            Some(format!("{year}-{month:02}-{day:02}"))
        })?;
        match number(Placeholder::Hour) {
            Some(hour) if date.len() > 7 => Some(format!("{date}T{hour:02}")),
            _ => Some(date),
        }
    }

    fn render(&self, segment: &Segment, slot: Slot, first: First) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Of(of) => self.value(*of, slot, first),
        };
        segment.iter().map(piece).collect()
    }

    fn value(&self, of: Placeholder, slot: Slot, first: First) -> String {
        match of {
            Placeholder::Feed => self.feed.clone(),
            Placeholder::Topic => self.topic.clone(),
            Placeholder::TopicUpper => self.topic.to_uppercase(),
            Placeholder::Year => format!("{:04}", slot.year()),
            Placeholder::Month => format!("{:02}", slot.month()),
            Placeholder::Day => format!("{:02}", slot.day()),
            Placeholder::Hour => format!("{:02}", slot.hour()),
            Placeholder::Date => slot.label(Precision::Day),
            Placeholder::Partition => first.partition.to_string(),
            Placeholder::Offset => first.offset.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-10-13, 07:00.
    const SLOT: Slot = Slot(20374 * 24 + 7);

    fn layout(text: &str, format: LakeFormat) -> Layout {
        Layout::new(text, "sales", "Raw.Sales", format).unwrap()
    }

    fn path(layout: &Layout) -> String {
        let first = First { partition: 3, offset: 40 };
        format!("{}/{}", layout.folder(), layout.file(SLOT, first, Uuid::from_u128(1)))
    }

    const ID: &str = "00000000000000000000000000000001";

    #[test]
    fn each_known_layout_comes_out() {
        let delta = LakeFormat::Delta;
        for (text, format, expected) in [
            (
                DEFAULT_LAYOUT,
                delta,
                "streams/sales/year=2025/month=10/day=13/data_20251013_ID.parquet",
            ),
            ("{feed}/date={date}/data", delta, "sales/date=2025-10-13/data_ID.parquet"),
            (
                "{TOPIC}/{date}/{TOPIC}_{date}",
                LakeFormat::Jsonl,
                "RAW.SALES/2025-10-13/RAW.SALES_2025-10-13_ID.jsonl",
            ),
            (
                "a/{topic}/dt={date}/hour={hour}/{partition}-{offset}",
                LakeFormat::Parquet,
                "a/Raw.Sales/dt=2025-10-13/hour=07/3-40_ID.parquet",
            ),
        ] {
            assert_eq!(path(&layout(text, format)), expected.replace("ID", ID));
        }
        assert_eq!(table_path("sales"), layout(DEFAULT_LAYOUT, delta).folder());
    }

    #[test]
    fn replayed_files_are_told_by_their_names() {
        let layout = layout("{TOPIC}/{date}/{TOPIC}_{date}", LakeFormat::Jsonl);
        let file = layout.file(SLOT, First::default(), Uuid::from_u128(1));
        let replayed = layout.replayed_file(SLOT, First::default(), Uuid::from_u128(1));
        assert_eq!(replayed, format!("2025-10-13/RAW.SALES_2025-10-13_{ID}-replayed.jsonl"));
        assert!(is_replayed(&replayed) && !is_replayed(&file));
        assert!(is_ours(&replayed) && is_ours(&file));
        for other in [
            "part-0001.parquet",
            "data_20251013.parquet",
            "x/data_1",
            &file.replace("jsonl", "bak"),
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn partition_columns_tell_the_time_again() {
        for (text, values, label) in [
            (DEFAULT_LAYOUT, "year=2025 month=10 day=13", Some("2025-10-13")),
            ("{feed}/dt={date}/h={hour}/x", "dt=2025-10-13 h=7", Some("2025-10-13T07")),
            ("{feed}/y={year}/{month}/x", "y=2025", Some("2025")),
            ("{feed}/{date}/x", "", None),
        ] {
            let layout = layout(text, LakeFormat::Delta);
            let found = layout.values(SLOT);
            let shown: Vec<String> =
                found.iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(shown.join(" "), values);
            let found = found.into_iter().map(|(key, value)| (key, Some(value))).collect();
            assert_eq!(layout.label_of(&found).as_deref(), label);
        }
    }

    #[test]
    fn changes_lie_hidden_below_the_snapshots() {
        let text = r#"{"feed": "totals", "type": "table", "topic": "T",
            "key": {"format": "string", "columns": [{"name": "id", "type": "string"}]},
            "columns": [{"name": "v", "type": "long"}], "lake": {"storage": "overwrite"}}"#;
        let file: crate::config::FeedFile = serde_json::from_str(text).unwrap();
        let layout = Layout::of(&file.resolve("T", None).unwrap()).unwrap();
        assert_eq!(layout.folder(), "tables/totals/_changes");
        assert_eq!(layout.snapshots(), Some("tables/totals"));
        let options = file.lake.as_ref().unwrap();
        assert_eq!(Layout::shown_folder(options, "totals", "T").as_deref(), Ok(layout.shown()));
    }

    #[test]
    fn what_the_lake_keeps_itself_is_no_table() {
        let wrong = Layout::new("{topic}/{date}/x", "a", "quarantine", LakeFormat::Delta);
        assert!(wrong.unwrap_err().contains("quarantine"));
    }
}
