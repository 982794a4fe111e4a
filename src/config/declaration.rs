//! Feed files in the form that export scripts over ksqlDB keep: `feed_name`, `feed_type`,
//! `ksqldb_source` and so on. They are checked by the names that stand in them and become a
//! [`FeedFile`] here; nothing behind this room knows of them.

use std::path::Path;

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::walk::{Walked, walk};
use super::{
    Column, Fault, FeedFile, FeedKind, Key, LakeFormat, LakeOptions, LakeTime, OnGap, Quarantine,
    Start, Storage, WarehouseOptions,
};

/// A feed file as export scripts over ksqlDB write it, with blocks of our own beside their fields.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// Name of the feed: lower-case letters, digits, `_` and `-`.
    pub feed_name: String,
    /// `stream`: immutable events, appended. `table`: a keyed changelog, which needs a `key`.
    pub feed_type: FeedKind,
    /// The topic, as it is named here or in upper case, as ksqlDB spells it; if the broker has both
    /// the feed does not begin. Default: the feed's name.
    #[serde(default)]
    pub ksqldb_source: Option<String>,
    /// What the feed is, for people. Not used by the node.
    #[serde(default)]
    pub description: Option<String>,
    /// The time folders of the lake. Default: year, month and day.
    #[serde(default)]
    pub partitioning: Option<Partitioning>,
    /// As `lake.storage` of a feed file of our own: `append`, every record; for a table also
    /// `overwrite`, versioned snapshots, and `ignore`, one of them. Default: `append` for a stream,
    /// `overwrite` for a table.
    #[serde(default)]
    pub storage_mode: Option<Storage>,
    /// As `lake.format` of a feed file of our own. Default: `parquet`, in a table of snapshots below
    /// a Delta log.
    #[serde(default)]
    pub format: Option<LakeFormat>,
    /// How many days the lake keeps, as in a feed file of our own. A table's snapshots are kept by their own
    /// rule. Default: for good.
    #[serde(default)]
    pub retention_days: Option<u32>,
    /// `enabled: false` pauses the feed. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// When the feed was declared, for people. Not used by the node.
    #[serde(default)]
    pub created_at: Option<String>,
    /// As in a feed file of our own; a table needs it.
    #[serde(default)]
    pub key: Option<Key>,
    /// As in a feed file of our own.
    #[serde(default)]
    pub columns: Option<Vec<Column>>,
    /// As in a feed file of our own.
    #[serde(default)]
    pub rest: Option<bool>,
    /// As in a feed file of our own.
    #[serde(default)]
    pub time: Option<String>,
    /// As in a feed file of our own.
    #[serde(default)]
    pub start: Option<Start>,
    /// As in a feed file of our own.
    #[serde(default)]
    pub on_gap: Option<OnGap>,
    /// As in a feed file of our own.
    #[serde(default)]
    pub quarantine: Option<Quarantine>,
    /// As in a feed file of our own; what it says of format and layout goes before the fields above.
    #[serde(default)]
    pub lake: Option<LakeOptions>,
    /// As in a feed file of our own.
    #[serde(default)]
    pub warehouse: Option<WarehouseOptions>,
}

/// The time folders of the lake.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Partitioning {
    /// `date`: by event time (or by what `time` says), in UTC.
    #[serde(rename = "type")]
    pub kind: PartitionKind,
    /// The folders, the coarsest first.
    pub columns: Vec<TimeFolder>,
    /// As `lake.time` of a feed file of our own.
    #[serde(default)]
    pub time: Option<LakeTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PartitionKind {
    Date,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeFolder {
    Year,
    Month,
    Day,
    Hour,
    Date,
}

fn yes() -> bool {
    true
}

pub fn declaration_schema() -> Value {
    schema_for!(Declaration).to_value()
}

/// Whether a file is of this form.
pub fn is_declaration(value: &Value) -> bool {
    let has = |name| value.get(name).is_some();
    (has("feed_name") || has("feed_type")) && !has("feed")
}

/// Checks a declaration and makes a feed file of it.
pub fn declared(file: &Path, mut value: Value) -> (Option<FeedFile>, Walked) {
    let mut walked = walk(file, &declaration_schema(), &mut value);
    let Value::Object(declared) = value else { return (None, walked) };
    if !walked.usable {
        return (None, walked);
    }
    let other = declared.get("ksqldb_source").filter(|it| !it.is_null());
    let topic = other.unwrap_or(&declared["feed_name"]).as_str().unwrap_or_default();
    let upper = Some(topic.to_uppercase()).filter(|upper| upper != topic);
    let feed = serde_json::from_value::<FeedFile>(translated(&declared));
    match feed {
        Ok(feed) => (Some(FeedFile { topic_in_upper_case: upper, ..feed }), walked),
        Err(error) => {
            walked.faults.push(Fault::new(
                file,
                "",
                error.to_string(),
                "what the schema describes",
            ));
            (None, walked)
        }
    }
}

/// The same in the fields of a feed file of our own.
fn translated(declared: &Map<String, Value>) -> Value {
    let given = |name: &str| declared.get(name).filter(|value| !value.is_null());
    let mut feed = Map::new();
    for name in [
        "description",
        "retention_days",
        "enabled",
        "key",
        "columns",
        "rest",
        "time",
        "start",
        "on_gap",
        "quarantine",
        "lake",
        "warehouse",
    ] {
        // `lake: null` has a meaning of its own.
        if let Some(value) = declared.get(name)
            && (!value.is_null() || ["lake", "warehouse"].contains(&name))
        {
            feed.insert(name.to_owned(), value.clone());
        }
    }
    feed.insert("feed".to_owned(), declared["feed_name"].clone());
    feed.insert("type".to_owned(), declared["feed_type"].clone());
    let topic = given("ksqldb_source").unwrap_or(&declared["feed_name"]);
    feed.insert("topic".to_owned(), topic.clone());
    let lake = feed.entry("lake").or_insert_with(|| json!({}));
    if let Value::Object(lake) = lake {
        let of_kind = if declared["feed_type"] == "table" { "overwrite" } else { "append" };
        let mode = given("storage_mode").cloned().unwrap_or_else(|| of_kind.into());
        let mode = lake.entry("storage").or_insert(mode).clone();
        let format = given("format").cloned().unwrap_or_else(|| "parquet".into());
        if mode == "append" {
            lake.entry("format").or_insert(format);
            if let Some(folders) = given("partitioning") {
                lake.entry("layout").or_insert_with(|| layout(&folders["columns"]).into());
            }
        } else if format != "parquet" {
            lake.entry("format").or_insert(format);
        }
        if let Some(time) = given("partitioning").and_then(|it| it.get("time"))
            && !time.is_null()
        {
            lake.entry("time").or_insert(time.clone());
        }
        lake.entry("metadata").or_insert(true.into());
    }
    feed.into()
}

/// s4's folders, and file names that begin with the same time.
fn layout(columns: &Value) -> String {
    let names = || columns.as_array().into_iter().flatten().filter_map(Value::as_str);
    let folders: String = names().map(|name| format!("{name}={{{name}}}/")).collect();
    let times: String = names().map(|name| format!("{{{name}}}")).collect();
    format!("streams/{{feed}}/{folders}data_{times}")
}

/// A fault of the feed file that was made, in the names of the declaration.
pub fn renamed(mut fault: Fault, written: &Value) -> Fault {
    let in_lake = |name: &str| written.pointer(&format!("/lake/{name}")).is_some();
    let name = match fault.field.as_str() {
        "feed" => "feed_name",
        "type" => "feed_type",
        "topic" if written.get("ksqldb_source").is_some_and(|it| !it.is_null()) => "ksqldb_source",
        "topic" => "feed_name",
        "lake.layout" if !in_lake("layout") => "partitioning.columns",
        "lake.time" if !in_lake("time") => "partitioning.time",
        "lake.format" if !in_lake("format") => "format",
        "lake.storage" if !in_lake("storage") => "storage_mode",
        "key" if fault.file.extension().is_some_and(|it| it.eq_ignore_ascii_case("json")) => {
            fault.remedy = Some(KEY_LINES.into());
            "key"
        }
        _ => return fault,
    };
    fault.field = name.to_owned();
    fault
}

const KEY_LINES: &str = "add, with the name and type of your key:\n\
    \"key\": {\n\
    \x20 \"format\": \"string\",\n\
    \x20 \"columns\": [{\"name\": \"id\", \"type\": \"string\"}]\n\
    }";
