//! The feed file as written, and the feed as it runs.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use chrono::{DateTime, SecondsFormat};
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    ByteSize, Case, Codec, Column, ColumnType, DEFAULT_LAYOUT, DEFAULT_TABLE_LAYOUT, Dimension,
    Duration, LakeTime, Shape, SnapshotOptions, Snapshots, Storage,
};

/// One feed file: which topics, how their records are read, and where they go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedFile {
    /// Name of the feed: lower-case letters, digits, `_` and `-`. With `topics`, `{topic}` in it
    /// stands for the topic's name (lower-cased, all but these characters as `_`).
    pub feed: String,
    /// `stream`: immutable events, appended. `table`: a keyed changelog, upserted and deleted.
    #[serde(rename = "type")]
    pub kind: FeedKind,
    /// What the feed is, for people. Not used by the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The one topic of the feed. Give this or `topics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// A regular expression, starting with `^`: one feed for each topic that matches it whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<String>,
    /// Where a partition without progress begins: `earliest`, `latest` or a timestamp
    /// (RFC 3339). Resolved once per partition and sink. Default: `earliest`.
    #[serde(default)]
    pub start: Start,
    /// What to do when the broker no longer holds records that were never read: `park` the
    /// partition, or `continue` at the log's start. Recorded either way. Default: `park`.
    #[serde(default)]
    pub on_gap: OnGap,
    /// How the record key is read. Required for a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// How the record value is read. `json`: an object. `connect`: the same inside Kafka Connect's
    /// schema envelope. `avro`: a record with its schema's id before it, as Confluent's serializers
    /// write it; the node file names the registry. `string`, `bytes`: the whole value is the one
    /// column, by default `value`. Default: `json`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub format: ValueFormat,
    /// The columns taken from the value. Default: inferred from the first records, with `avro` from
    /// their newest schema, and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<Column>>,
    /// Whether a field that no column takes becomes one, in both sinks, while the node runs: its type is
    /// that of the values it was met with. A field that can have no column (its name, or too many) is in
    /// `_rest`, if there is one. A column that was found so also gets a wider type for the first value
    /// that needs it (`int` to `long`, both to `decimal(38,18)`, decimals to 38 digits, `date` to
    /// `timestamp`), where the lake's files have no types (`jsonl`) or there is none, the warehouse is
    /// PostgreSQL, keeps no `snapshots` and can change the column, and the node serves both sinks;
    /// elsewhere such records are in quarantine. Default: true where `columns` is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evolve: Option<bool>,
    /// What inference makes of objects: `flatten`, their fields become columns; `keep`, they become
    /// columns of nested types, and so do arrays. Default: `flatten`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nested: Nesting,
    /// Keep the fields that no column takes, in a last column `_rest`: a JSON object of their paths
    /// and values, null where there are none. Default: false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rest: bool,
    /// The case of table names and of inferred columns. `lower`: folded to lower case, so that SQL needs
    /// no quotes, however they are written there; a column that then has the name of another gets a
    /// number behind it. `keep`: as they are written. Default: `lower`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub case: Case,
    /// The timestamp or date column that gives a record's event time, by its name or the path of its
    /// field; its place in the lake goes by it, unless `lake.time` says another. Default: Kafka's
    /// timestamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// `enabled: false` pauses the feed. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The lake side; `lake: null` leaves the lake out.
    #[serde(default = "lake_default")]
    pub lake: Option<LakeOptions>,
    /// The warehouse side; `warehouse: null` leaves the warehouse out.
    #[serde(default = "warehouse_default")]
    pub warehouse: Option<WarehouseOptions>,
    /// When rejects stop being the records' fault.
    #[serde(default)]
    pub quarantine: Quarantine,
    /// How many days the lake keeps: whole folders of the layout's times go when their end is longer ago,
    /// by the time that `lake.time` says; files of a layout without `key={…}` times go by when they were
    /// committed. Tables that show snapshots keep these by their own rule. Default: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u32>,
    /// What the lake keeps: of times that are over, the oldest go until the table's files are no larger.
    /// Default: whatever their size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<ByteSize>,
    /// What the topic may be named instead: one of both exists.
    #[serde(skip)]
    pub topic_in_upper_case: Option<String>,
    /// The node serves one of its sinks alone.
    #[serde(skip)]
    pub is_partial: bool,
    /// The file this was read from, for messages.
    #[serde(skip)]
    pub file: PathBuf,
}

fn lake_default() -> Option<LakeOptions> {
    Some(LakeOptions::default())
}

fn warehouse_default() -> Option<WarehouseOptions> {
    Some(WarehouseOptions::default())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FeedKind {
    Stream,
    Table,
}

/// Where a partition without progress begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    #[default]
    Earliest,
    Latest,
    /// The first record at or after this time, milliseconds since the epoch.
    Timestamp(i64),
}

pub(super) const START_TEXT: &str =
    "`earliest`, `latest` or a timestamp such as `2026-01-31T00:00:00Z`";

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            _ => DateTime::parse_from_rfc3339(text)
                .map(|time| Start::Timestamp(time.timestamp_millis()))
                .map_err(|_| format!("a start is {START_TEXT}")),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Earliest => f.write_str("earliest"),
            Start::Latest => f.write_str("latest"),
            Start::Timestamp(millis) => match DateTime::from_timestamp_millis(*millis) {
                Some(time) => f.write_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
                // Not reached by any timestamp that was read from text.
                None => write!(f, "{millis}ms"),
            },
        }
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Start {
    fn schema_name() -> Cow<'static, str> {
        "Start".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({
            "type": "string",
            "format": "start",
            "pattern": "^(earliest|latest|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]+([Zz]|[+-][0-9:]+))$",
            "examples": ["earliest", "latest"],
            "description": format!("Where to begin: {START_TEXT}."),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnGap {
    #[default]
    Park,
    Continue,
}

/// How the record key is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// `none`: the key is not read. `string`, and `int` (4 bytes), `long` (8 bytes), `double`
    /// (8 bytes), big-endian as Kafka's own serializers write them: the key's bytes are the one key
    /// column. `json`: an object with the key columns, or a bare value for the one key column.
    /// `connect`: the same inside Kafka Connect's schema envelope. `avro`: the same in Avro, with its
    /// schema's id before it.
    pub format: KeyFormat,
    /// The key columns, first in the table; a table's primary key. Default: none.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// What follows the key in its bytes, as ksqlDB and Kafka Streams write windowed tables: `time`
    /// (the window's start), `session` (its end, then its start), `store` (its start and a sequence
    /// number, in the topics behind Kafka Streams' window stores). It becomes the column
    /// `window_start`, with `session` also `window_end`. Default: `none`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub window: Window,
    /// Length of a `time` or `store` window, which its key does not tell. With it there is a column
    /// `window_end`, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_size: Option<Duration>,
    /// How the window's bounds are kept: `timestamp`, or `long` in epoch milliseconds. Default:
    /// `timestamp`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub window_type: WindowType,
    /// Whether `window_start` (with `session` also `window_end`) belongs to the table's primary key.
    /// Without it a table keeps each key's latest window. Default: true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub window_in_key: bool,
}

impl Key {
    pub fn new(format: KeyFormat, columns: Vec<Column>) -> Self {
        Self {
            format,
            columns,
            window: Window::None,
            window_size: None,
            window_type: WindowType::Timestamp,
            window_in_key: true,
        }
    }

    /// The columns that the window becomes.
    pub fn window_columns(&self) -> Vec<Column> {
        let kind = match self.window_type {
            WindowType::Timestamp => ColumnType::Timestamp,
            WindowType::Long => ColumnType::Long,
        };
        let has_end = self.window == Window::Session || self.window_size.is_some();
        let names = match (self.window, has_end) {
            (Window::None, _) => &[][..],
            (_, false) => &WINDOW_COLUMNS[..1],
            (_, true) => &WINDOW_COLUMNS[..],
        };
        let column = |name: &&str| Column { required: true, ..Column::new(*name, kind) };
        names.iter().map(column).collect()
    }

    /// How many of [`Key::window_columns`] belong to the primary key: an end that follows from the
    /// start does not.
    pub fn window_keys(&self) -> usize {
        match self.window {
            _ if !self.window_in_key => 0,
            Window::None => 0,
            Window::Time | Window::Store => 1,
            Window::Session => 2,
        }
    }
}

/// Where the fields go that no column takes.
pub const REST_COLUMN: &str = "_rest";

/// What a window becomes.
pub const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyFormat {
    None,
    String,
    Int,
    Long,
    Double,
    Json,
    Connect,
    Avro,
}

impl KeyFormat {
    /// Whether the key has fields, found by their paths.
    pub fn has_fields(self) -> bool {
        matches!(self, KeyFormat::Json | KeyFormat::Connect | KeyFormat::Avro)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    #[default]
    None,
    Time,
    Session,
    Store,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WindowType {
    #[default]
    Timestamp,
    Long,
}

/// How the record value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValueFormat {
    #[default]
    Json,
    Connect,
    Avro,
    String,
    Bytes,
}

impl ValueFormat {
    /// Whether the value has fields, found by their paths.
    pub fn has_fields(self) -> bool {
        matches!(self, ValueFormat::Json | ValueFormat::Connect | ValueFormat::Avro)
    }
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_true(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The lake side of a feed. A batch is committed when the first of its bounds is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LakeOptions {
    /// `delta`: Parquet files below a Delta log. `parquet`, `jsonl`: plain files, for those who read
    /// the folder itself; each holds records of one partition, and appears whole and once. A table's
    /// format is never changed. Default: `delta`.
    #[serde(skip_serializing_if = "is_default")]
    pub format: LakeFormat,
    /// Path of the files below the lake's root, with `{feed}`, `{topic}`, `{TOPIC}` (in upper case),
    /// `{year}`, `{month}`, `{day}`, `{hour}`, `{date}` (`2026-01-31`) in UTC and, unless the format
    /// is `delta`, `{partition}` and `{offset}` (the file's first). The folders before the first time
    /// are the table's own; `key={…}` folders are its partition columns. The last part begins the
    /// file's name, which goes on with `_`, a unique id and the format's ending. With `storage:
    /// overwrite` or `ignore` the table's folder holds the snapshots, and what follows lies below
    /// `_changes` in it; `tables` stands for `streams` in the default. Default:
    /// `streams/{feed}/year={year}/month={month}/day={day}/data_{year}{month}{day}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// The time by which the layout's folders are chosen: `kafka`, the record's timestamp there;
    /// `ingest`, when a node wrote the file, one for all records of a commit; or a timestamp or date
    /// column, by its name or the path of its field, and Kafka's timestamp where that is null or beyond
    /// the years 1 to 9999. The two words always mean themselves: a column that is named so is chosen by
    /// the feed's `time`. Records that go by `ingest` and are read again after a crash may have another
    /// time than before, and are there once all the same. Default: the feed's `time`, else `kafka`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<LakeTime>,
    /// How long a record may wait before its file is committed. Default: 10s.
    pub linger: Duration,
    /// The same while what waits belongs to more than two of the layout's times, as late records do: a
    /// commit makes a file for each. The feed's other records wait with them, since a partition is
    /// committed in the order of its offsets. At least `linger`. Default: `linger`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_linger: Option<Duration>,
    /// Size of a batch in memory. Default: 64MiB.
    pub max_bytes: ByteSize,
    /// Records of a batch. Default: 1000000.
    pub max_records: usize,
    /// How Parquet files are compressed. `gzip` and `lz4` are for readers that know nothing better.
    /// Default: `zstd`.
    #[serde(skip_serializing_if = "is_default")]
    pub codec: Codec,
    /// Level of ZSTD, 1 to 22. Default: 1.
    pub zstd_level: i32,
    /// Columns with a bloom filter in each Parquet file, by which a reader skips files that lack a
    /// value. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bloom: Vec<String>,
    /// Columns by which the rows of a file are sorted, ascending, nulls first; of one file only, since
    /// files follow the topic. Default: as the records came.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sort: Vec<String>,
    /// Keep the record key's bytes as `_key`. Default: false.
    pub keep_key: bool,
    /// Keep the record's headers as `_headers`. Default: false.
    pub keep_headers: bool,
    /// What readers find in the table's folder. `append`: every record. `overwrite`, for a table: its
    /// last state, each snapshot in the place of the one before, as `version=vN`. `ignore`, for a
    /// table: its state when it was first read to the log's end, and never another. Both keep the
    /// records themselves in `_changes` below it. Default: `append`.
    #[serde(skip_serializing_if = "is_default")]
    pub storage: Storage,
    /// The snapshots of a table that is not `append`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<SnapshotOptions>,
    /// Keep a `_metadata.json` in the table's folder, which tells in a few words what is in it: within
    /// seconds of each commit. Default: false.
    #[serde(skip_serializing_if = "is_default")]
    pub metadata: bool,
}

/// How a feed's rows lie in the lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LakeFormat {
    #[default]
    Delta,
    Parquet,
    Jsonl,
}

impl LakeFormat {
    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            LakeFormat::Delta | LakeFormat::Parquet => "parquet",
            LakeFormat::Jsonl => "jsonl",
        }
    }
}

impl LakeOptions {
    pub fn layout(&self) -> &str {
        self.layout.as_deref().unwrap_or(match self.storage {
            Storage::Append => DEFAULT_LAYOUT,
            Storage::Overwrite | Storage::Ignore => DEFAULT_TABLE_LAYOUT,
        })
    }

    pub fn snapshots(&self) -> SnapshotOptions {
        self.snapshots.clone().unwrap_or_default()
    }

    /// Whether files written before a column got a wider type are read like those after. JSON lines have
    /// no types; of Parquet files with different ones, no reader makes a table.
    pub fn takes_wider(&self) -> bool {
        self.format == LakeFormat::Jsonl && self.storage == Storage::Append
    }
}

impl Default for LakeOptions {
    fn default() -> Self {
        Self {
            format: LakeFormat::Delta,
            layout: None,
            time: None,
            linger: Duration::from_secs(10),
            late_linger: None,
            max_bytes: ByteSize::mib(64),
            max_records: 1_000_000,
            codec: Codec::Zstd,
            zstd_level: 1,
            bloom: Vec::new(),
            sort: Vec::new(),
            keep_key: false,
            keep_headers: false,
            storage: Storage::Append,
            snapshots: None,
            metadata: false,
        }
    }
}

/// The warehouse side of a feed. A batch is sent when the first of its bounds is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WarehouseOptions {
    /// Table name, `name` (in the node's `warehouse.schema`) or `schema.name`; with `topics` it contains `{topic}` as the feed's name
    /// does. Default: the feed's name with `-` as `_`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// How structs stand in the table: `json`, each as one `jsonb` column, or `columns`, each field as a
    /// column named `column_field`. Arrays and maps are `jsonb` either way. Default: `json`.
    #[serde(skip_serializing_if = "is_default")]
    pub nested: NestedIn,
    /// `columns`: a column for each of the feed's. `document`: the whole value as JSON in the column
    /// `data` (`jsonb`, or text in SQLite), the key's columns beside it; where there is no lake side,
    /// no columns are inferred. What `jsonb` refuses (a NUL character) is in quarantine. Default:
    /// `columns`.
    #[serde(skip_serializing_if = "is_default")]
    pub shape: Shape,
    /// Tables of the values that rows refer to, filled from the same columns in the same transaction,
    /// each row before the first one that refers to it. A row that is overwritten within its
    /// transaction gives nothing, and a delete takes nothing away. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dimensions: Vec<Dimension>,
    /// Keep versions of the table, each from one moment: `<table>_snapshots` has the table's columns
    /// behind `_version` and `_taken_at`, the view `<table>_snapshot` shows the newest, and
    /// `tidegate.snapshots` the offsets each stands for. Only with `type: table`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Snapshots>,
    /// How many days the table keeps: rows of days whose end is longer ago go, once a day, by the feed's
    /// `time` if the table has that column and it is not null, else by Kafka's timestamp, in UTC. Only with
    /// `type: stream`. Default: for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u32>,
    /// How long a record may wait while the warehouse is idle. Default: 20ms.
    pub linger: Duration,
    /// Size of a transaction's rows in memory. Default: 64MiB.
    pub max_bytes: ByteSize,
    /// Records of a transaction. Default: 100000.
    pub max_records: usize,
}

/// What inference makes of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Nesting {
    #[default]
    Flatten,
    Keep,
}

/// How structs stand in a warehouse's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NestedIn {
    #[default]
    Json,
    Columns,
}

impl Default for WarehouseOptions {
    fn default() -> Self {
        Self {
            table: None,
            nested: NestedIn::Json,
            shape: Shape::Columns,
            dimensions: Vec::new(),
            snapshots: None,
            retention_days: None,
            linger: Duration::from_millis(20),
            max_bytes: ByteSize::mib(64),
            max_records: 100_000,
        }
    }
}

/// When rejects stop being the records' fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quarantine {
    /// Park a partition when more than this share of a batch is rejected, 0 to 1. Default: 0.5.
    pub park_above: f64,
    /// ... and the batch has at least this many records. Default: 1000.
    pub park_min_records: usize,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self { park_above: 0.5, park_min_records: 1000 }
    }
}

/// A feed as it runs: one topic, its columns known.
#[derive(Debug, Clone, PartialEq)]
pub struct Feed {
    pub name: Arc<str>,
    pub kind: FeedKind,
    pub topic: Arc<str>,
    pub start: Start,
    pub on_gap: OnGap,
    pub schema: Schema,
    pub lake: Option<LakeOptions>,
    pub warehouse: Option<WarehouseOptions>,
    pub quarantine: Quarantine,
}

impl Feed {
    /// The warehouse table, without quotes: (schema or none, name).
    pub fn table(&self) -> (Option<String>, String) {
        let declared = self.warehouse.as_ref().and_then(|options| options.table.as_deref());
        match declared.map(|table| table.split_once('.').ok_or(table)) {
            Some(Ok((schema, name))) => (Some(schema.to_owned()), name.to_owned()),
            Some(Err(name)) => (None, name.to_owned()),
            None => (None, self.name.replace('-', "_")),
        }
    }
}

/// The columns of a feed: key columns first, then the value's.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    pub key_format: KeyFormat,
    pub value_format: ValueFormat,
    /// Key columns and window columns, then value columns.
    pub columns: Vec<Column>,
    /// How many of `columns` are the primary key.
    pub key_columns: usize,
    pub window: Option<WindowColumns>,
    /// Whether the last column is [`REST_COLUMN`].
    pub rest: bool,
    /// Index in `columns` of the event time, if one is declared.
    pub time: Option<usize>,
    /// Whether, and how, fields that no column takes become columns.
    pub evolve: Option<Evolve>,
    /// Paths of fields that cannot become columns, and are not proposed again.
    pub left_out: Vec<String>,
}

/// How fields that no column takes become columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evolve {
    pub nesting: Nesting,
    pub case: Case,
    /// Whether kept columns get wider types, too: what the lake has can be read by the new ones.
    pub widen: bool,
}

/// Where in a [`Schema`] the parts of a windowed key go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowColumns {
    pub kind: Window,
    /// Index of `window_start`: as many columns before it are read from the key itself.
    pub start: usize,
    /// How many window columns there are, one or two.
    pub count: usize,
    /// Length of the window in milliseconds, where it is known.
    pub size_ms: Option<i64>,
}

impl Schema {
    /// JSON objects; the first `key_columns` columns are the key.
    pub fn json(columns: Vec<Column>, key_columns: usize) -> Self {
        let key_format = if key_columns == 0 { KeyFormat::None } else { KeyFormat::Json };
        let value_format = ValueFormat::Json;
        Self {
            key_format,
            value_format,
            columns,
            key_columns,
            window: None,
            rest: false,
            time: None,
            evolve: None,
            left_out: Vec::new(),
        }
    }

    pub fn key(&self) -> &[Column] {
        &self.columns[..self.key_columns]
    }

    /// The columns that do not belong to the primary key.
    pub fn value(&self) -> &[Column] {
        &self.columns[self.key_columns..]
    }

    /// How many columns come from the record key, the window's included.
    pub fn from_key(&self) -> usize {
        self.window.map_or(self.key_columns, |window| window.start + window.count)
    }

    /// How many columns are read from the key without its window.
    pub fn inner_key(&self) -> usize {
        self.window.map_or(self.key_columns, |window| window.start)
    }

    /// The Arrow schema of a batch's rows.
    pub fn arrow(&self) -> SchemaRef {
        // Nullable throughout: a tombstone has only its key, and `required` is checked when decoding.
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|column| Field::new(&column.name, column.kind.arrow(), true))
            .collect();
        Arc::new(ArrowSchema::new(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_and_printed() {
        for (text, canonical) in [
            ("earliest", "earliest"),
            ("latest", "latest"),
            ("2026-01-31T00:00:00Z", "2026-01-31T00:00:00Z"),
            ("2026-01-31T02:00:00.250+02:00", "2026-01-31T00:00:00.250Z"),
        ] {
            let start: Start = text.parse().unwrap();
            assert_eq!(start.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(start));
        }
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(Start::Timestamp(1000)));
        for text in ["", "Earliest", "2026-01-31", "2026-01-31T00:00:00", "0"] {
            assert!(text.parse::<Start>().is_err(), "{text}");
        }
    }
}
