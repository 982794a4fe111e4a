//! What a feed file means, checked: columns, key, names, and the sinks the node has.

use std::collections::HashMap;
use std::path::Path;

use super::check_columns::{column_faults, flat_fault, time_column};
use super::check_shape::{all_columns, between_dimensions, shape_faults};
use super::files::file_faults;
use super::{
    ColumnType, Fault, FeedFile, FeedKind, Key, KeyFormat, LakeFormat, LakeOptions, NestedIn,
    Nesting, Node, Piece, Placeholder, Template, ValueFormat, Warehouse, WarehouseOptions, Window,
};

/// PostgreSQL cuts longer identifiers silently.
pub const MAX_IDENTIFIER: usize = 63;
/// The feed's name is a folder in the lake, with a suffix for its quarantine.
const MAX_FEED_NAME: usize = 200;
pub const TOPIC: &str = "{topic}";

/// Which sides a feed file names itself; the others follow the node.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    pub lake: bool,
    pub warehouse: bool,
}

/// Takes out the sides the node does not have, and collects the faults of one feed file.
pub fn feed(feed: &mut FeedFile, written: Written, node: &Node) -> Vec<Fault> {
    if !written.lake && node.lake.is_none() {
        feed.lake = None;
    }
    let takes_rows = |warehouse: &Warehouse| !warehouse.only_bookkeeping;
    if !written.warehouse && !node.warehouse.as_ref().is_some_and(takes_rows) {
        feed.warehouse = None;
    }
    let mut check = FeedCheck { feed, faults: Vec::new() };
    check.names();
    check.topics();
    check.key();
    check.format();
    check.columns();
    check.time();
    check.sides(node);
    check.registry(node);
    check.quarantine();
    check.faults
}

struct FeedCheck<'a> {
    feed: &'a FeedFile,
    faults: Vec<Fault>,
}

impl FeedCheck<'_> {
    fn fault(
        &mut self,
        field: impl Into<String>,
        found: impl Into<Box<str>>,
        allowed: impl Into<String>,
    ) -> &mut Fault {
        self.faults.push(Fault::new(&self.feed.file, field, found, allowed));
        let last = self.faults.len() - 1;
        &mut self.faults[last]
    }

    fn names(&mut self) {
        let name = &self.feed.feed;
        let filled =
            if self.feed.topics.is_some() { name.replace(TOPIC, "t") } else { name.clone() };
        if !valid_feed_name(&filled) {
            let allowed = "lower-case letters, digits, `_` and `-`, starting with a letter or digit, \
                 at most 200 bytes; with `topics`, also `{topic}`";
            let meant = filled.to_lowercase().replace(|c| !plain(c) && c != '-', "_");
            let meant = Some(meant).filter(|meant| *meant != filled && valid_feed_name(meant));
            self.fault("feed", format!("`{name}`"), allowed).nearest = meant;
        }
        if self.feed.topics.is_some() && !name.contains(TOPIC) {
            let allowed =
                "with `topics`, a name that contains `{topic}`: each topic is its own feed";
            self.fault("feed", format!("`{name}`"), allowed).nearest =
                Some(format!("{name}_{TOPIC}"));
        }
    }

    fn topics(&mut self) {
        match (&self.feed.topic, &self.feed.topics) {
            (Some(topic), None) => self.one_topic(topic),
            (None, Some(pattern)) => self.topic_pattern(pattern),
            (Some(_), Some(_)) => {
                let allowed =
                    "exactly one of `topic` (one name) and `topics` (a regular expression)";
                self.fault("topic", "both `topic` and `topics`", allowed);
            }
            (None, None) => {
                let allowed =
                    "exactly one of `topic` (one name) and `topics` (a regular expression)";
                self.fault("topic", "neither `topic` nor `topics`", allowed);
            }
        }
    }

    fn one_topic(&mut self, topic: &str) {
        let legal = topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if legal && (1..=249).contains(&topic.len()) && topic != "." && topic != ".." {
            return;
        }
        let fault = self.fault(
            "topic",
            format!("`{topic}`"),
            "a Kafka topic name: 1 to 249 letters, digits, `.`, `_` and `-`",
        );
        if topic.starts_with('^') {
            fault.remedy = Some("a regular expression goes into `topics`".into());
        }
    }

    fn topic_pattern(&mut self, pattern: &str) {
        if !pattern.starts_with('^') {
            self.fault(
                "topics",
                format!("`{pattern}`"),
                "a regular expression that starts with `^`",
            )
            .nearest = Some(format!("^{pattern}"));
        }
        if let Err(error) = regex::Regex::new(pattern) {
            // The error draws the pattern over several lines; its last one says what is wrong.
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            self.fault("topics", format!("`{pattern}` ({reason})"), "a valid regular expression");
        }
    }

    fn key(&mut self) {
        let Some(key) = &self.feed.key else {
            if self.feed.kind == FeedKind::Table {
                self.fault("key", "nothing", "a key: `type: table` needs one").remedy =
                    Some(KEY_LINES.into());
            }
            return;
        };
        let count = key.columns.len();
        if key.format == KeyFormat::None {
            if self.feed.kind == FeedKind::Table {
                let fault = self.fault("key.format", "`none`", "a key: `type: table` needs one");
                fault.remedy = Some(KEY_LINES.into());
            } else if count > 0 || key.window != Window::None {
                let allowed = "a format that can be read: with `none` the key is not looked at";
                self.fault("key.format", "`none`, and columns or a window", allowed);
            }
            return;
        }
        if count == 0 {
            self.fault("key.columns", "no columns", "at least one column").remedy =
                Some(KEY_LINES.into());
        } else if !key.format.has_fields() && count > 1 {
            let allowed = "exactly one column, unless the format is `json`, `connect` or `avro`";
            self.fault("key.columns", format!("{count} columns"), allowed).remedy =
                Some("several key columns need `format: json`".into());
        }
        self.window(key);
    }

    fn window(&mut self, key: &Key) {
        let sized = matches!(key.window, Window::Time | Window::Store);
        if key.window_size.is_some() && !sized {
            let allowed = "nothing, unless `window` is `time` or `store`";
            self.fault("key.window_size", "a size", allowed);
        }
        if key.window_size.is_some_and(|size| size.get().is_zero()) {
            self.fault("key.window_size", "0", "the window's length, such as `5m`");
        }
        if key.window == Window::None && !key.window_in_key {
            let allowed = "nothing, unless there is a `window`";
            self.fault("key.window_in_key", "`false`", allowed);
        }
    }

    /// A value that is one column whole has one, of a type that such bytes can become.
    fn format(&mut self) {
        let whole = match self.feed.format {
            ValueFormat::Json | ValueFormat::Connect | ValueFormat::Avro => return,
            ValueFormat::String => "string",
            ValueFormat::Bytes => "bytes",
        };
        if self.feed.rest {
            let allowed = format!("nothing: with `format: {whole}` the value has no fields");
            self.fault("rest", "`true`", allowed);
        }
        if self.feed.evolve == Some(true) {
            let allowed = format!("nothing: with `format: {whole}` the value has no fields");
            self.fault("evolve", "`true`", allowed);
        }
        let Some(columns) = &self.feed.columns else { return };
        if columns.len() != 1 {
            let allowed = format!("exactly one column with `format: {whole}`, or none named");
            self.fault("columns", format!("{} columns", columns.len()), allowed);
        } else if self.feed.format == ValueFormat::Bytes && columns[0].kind != ColumnType::Bytes {
            let found = format!("`{}`", columns[0].kind);
            self.fault("columns[0].type", found, "`bytes` with `format: bytes`");
        }
    }

    fn columns(&mut self) {
        let value = self.feed.value_columns();
        let faults = column_faults(self.feed.key.as_ref(), value.as_deref());
        for (field, found, allowed) in faults {
            self.fault(field, found, allowed);
        }
        if self.feed.columns.as_ref().is_some_and(Vec::is_empty) && self.feed.key.is_none() {
            self.fault("columns", "an empty list", "at least one column").remedy =
                Some("leave `columns` out to have them inferred".into());
        }
        let flat = self.feed.warehouse.as_ref().map(|options| options.nested);
        if flat == Some(NestedIn::Columns)
            && let Some((found, allowed, remedy)) = flat_fault(value.as_deref().unwrap_or_default())
        {
            self.fault("warehouse.nested", found, allowed).remedy = Some(remedy.into());
        }
        let inferred = self.feed.columns.is_none() || self.feed.evolves();
        if !inferred && self.feed.nested != Nesting::Flatten {
            let allowed = "nothing, unless columns are inferred or the feed says `evolve: true`";
            self.fault("nested", "`keep`", allowed);
        }
    }

    fn time(&mut self) {
        let Some(columns) = all_columns(self.feed) else { return };
        let unfit = self.feed.time.as_ref().and_then(|time| time_column(time, &columns).err());
        let of_lake = self.feed.lake.as_ref().and_then(|options| options.time.as_ref());
        let of_lake = of_lake.and_then(|time| time.unfit(&columns));
        for (field, unfit) in [("time", unfit), ("lake.time", of_lake)] {
            if let Some((found, allowed, meant)) = unfit {
                self.fault(field, found, allowed).nearest = meant;
            }
        }
    }

    fn sides(&mut self, node: &Node) {
        let (lake, warehouse) = (self.feed.lake.as_ref(), self.feed.warehouse.as_ref());
        if lake.is_some() && node.lake.is_none() {
            self.fault("lake", "a lake side", "none: the node file has no `lake`").remedy =
                Some("add `lake: {url: …}` to the node file, or write `lake: null`".into());
        }
        if warehouse.is_some() && node.warehouse.is_none() {
            self.fault("warehouse", "a warehouse side", "none: the node file has no `warehouse`")
                .remedy = Some(
                "add `warehouse: {url: …}` to the node file, or write `warehouse: null`".into(),
            );
        }
        if lake.is_none() && warehouse.is_none() {
            self.fault("lake", "neither a lake side nor a warehouse side", "at least one of them");
        }
        if let Some(options) = lake {
            self.lake(options);
        }
        if let Some(options) = warehouse {
            self.warehouse(options);
        }
    }

    /// Avro can be read with a registry alone.
    fn registry(&mut self, node: &Node) {
        let key = self.feed.key.as_ref().is_some_and(|key| key.format == KeyFormat::Avro);
        let value = self.feed.format == ValueFormat::Avro;
        for (field, avro) in [("key.format", key), ("format", value)] {
            if avro && node.schema_registry.is_none() {
                let allowed = "another format: the node file has no `schema_registry`";
                self.fault(field, "`avro`", allowed).remedy =
                    Some("add `schema_registry: {url: …}` to the node file".into());
            }
        }
    }

    fn lake(&mut self, options: &LakeOptions) {
        if !(1..=22).contains(&options.zstd_level) {
            self.fault("lake.zstd_level", format!("{}", options.zstd_level), "1 to 22");
        }
        if let Some(late) = options.late_linger.filter(|late| late.get() < options.linger.get()) {
            let allowed = format!("`linger` ({}) or longer", options.linger);
            self.fault("lake.late_linger", format!("`{late}`"), allowed);
        }
        self.layout(options);
        self.faults.extend(super::storage::faults(self.feed, options));
        let columns = all_columns(self.feed);
        self.faults.extend(file_faults(self.feed, options, columns.as_deref()));
        self.bounds("lake", options.max_records, options.max_bytes.bytes());
    }

    fn layout(&mut self, options: &LakeOptions) {
        let found = format!("`{}`", options.layout());
        let template = match Template::parse(options.layout()) {
            Ok(template) => template,
            Err(wrong) => {
                let allowed = "a path such as `{feed}/date={date}/data`";
                self.fault("lake.layout", format!("{found} ({wrong})"), allowed);
                return;
            }
        };
        if options.format == LakeFormat::Delta && template.has(Placeholder::is_of_one_partition) {
            let allowed = "no `{partition}` or `{offset}` with `format: delta`, whose files hold \
                           records of several partitions";
            self.fault("lake.layout", found.as_str(), allowed);
        }
        let value = self.feed.value_columns().unwrap_or_default();
        let columns = self.feed.key.iter().flat_map(|key| &key.columns).chain(&value);
        let names: Vec<String> = columns.map(|column| column.name.clone()).collect();
        for (key, _) in template.columns() {
            if names.iter().any(|name| name.eq_ignore_ascii_case(key)) {
                let allowed = format!("a key other than `{key}=`, which is a column of the feed");
                self.fault("lake.layout", found.as_str(), allowed);
            }
        }
    }

    fn warehouse(&mut self, options: &WarehouseOptions) {
        self.bounds("warehouse", options.max_records, options.max_bytes.bytes());
        self.faults.extend(shape_faults(self.feed, options));
        let Some(table) = &options.table else {
            let name = self.feed.feed.replace(TOPIC, "");
            if name.len() > MAX_IDENTIFIER {
                let found = format!("a default table name of {} bytes", name.len());
                self.fault("warehouse.table", found, "at most 63 bytes").remedy =
                    Some("give the table a shorter name here".into());
            }
            return;
        };
        if !valid_table(&table.replace(TOPIC, "t")) {
            let allowed = "`name` or `schema.name`, each of at most 63 letters, digits and `_`";
            self.fault("warehouse.table", format!("`{table}`"), allowed);
        } else if table.split_once('.').is_some_and(|(schema, _)| reserved_schema(schema)) {
            let allowed = "a schema that is neither PostgreSQL's nor Tidegate's own (`tidegate`)";
            self.fault("warehouse.table", format!("`{table}`"), allowed);
        }
        match (self.feed.topics.is_some(), table.contains(TOPIC)) {
            (true, false) => {
                let allowed =
                    "with `topics`, a name that contains `{topic}`: one table for each topic";
                self.fault("warehouse.table", format!("`{table}`"), allowed).nearest =
                    Some(format!("{table}_{TOPIC}"));
            }
            (false, true) => {
                let allowed =
                    "a name without `{topic}`, which stands for a topic only with `topics`";
                self.fault("warehouse.table", format!("`{table}`"), allowed);
            }
            _ => {}
        }
    }

    fn bounds(&mut self, side: &str, max_records: usize, max_bytes: usize) {
        if max_records == 0 {
            self.fault(format!("{side}.max_records"), "0", "1 or more");
        }
        if max_bytes == 0 {
            self.fault(format!("{side}.max_bytes"), "0", "1 byte or more");
        }
    }

    fn quarantine(&mut self) {
        let share = self.feed.quarantine.park_above;
        if !(0.0..=1.0).contains(&share) {
            self.fault("quarantine.park_above", format!("{share}"), "a share from 0 to 1");
        }
    }
}

const KEY_LINES: &str = "add, with the name and type of your key:\n\
    key:\n\
    \x20 format: string\n\
    \x20 columns:\n\
    \x20   - {name: id, type: string}";

/// The characters of a column or table name.
pub fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

pub fn valid_feed_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    name.len() <= MAX_FEED_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(legal)
}

/// A warehouse table, `name` or `schema.name`.
pub fn valid_table(table: &str) -> bool {
    table.split('.').count() <= 2 && table.split('.').all(valid_identifier)
}

pub fn valid_identifier(name: &str) -> bool {
    (1..=MAX_IDENTIFIER).contains(&name.len()) && name.chars().all(plain)
}

/// Feeds' tables have no place here: a feed could be named like a table of the bookkeeping.
pub fn reserved_schema(schema: &str) -> bool {
    ["tidegate", "information_schema"].contains(&schema) || schema.starts_with("pg_")
}

/// What only shows when all feeds stand side by side: names and tables used twice. `schema` is that of
/// tables that name none.
pub fn between(feeds: &[FeedFile], schema: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut names: HashMap<&str, &Path> = HashMap::new();
    let mut tables: HashMap<String, &Path> = HashMap::new();
    let mut folders: Vec<(String, &Path)> = Vec::new();
    for feed in feeds {
        if let Some(first) = names.insert(&feed.feed, &feed.file) {
            let found = format!("`{}`, as in {}", feed.feed, first.display());
            faults.push(Fault::new(&feed.file, "feed", found, "a name that no other feed has"));
            continue;
        }
        if let Some(folder) = lake_folder(feed) {
            // Not inside one another either: who reads the outer one would read both.
            let inside = |a: &str, b: &str| a.starts_with(&format!("{b}/")) || a == b;
            let taken = folders.iter().find(|(it, _)| inside(it, &folder) || inside(&folder, it));
            if let Some((_, first)) = taken {
                let found = format!("the folder `{folder}`, as in {}", first.display());
                let allowed = "a folder that no other feed writes";
                faults.push(Fault::new(&feed.file, "lake.layout", found, allowed));
            }
            folders.push((folder, &feed.file));
        }
        let Some(options) = &feed.warehouse else { continue };
        let table = feed.own_table(options);
        if let Some(first) = tables.insert(table_key(&table, schema), &feed.file) {
            let found = format!("`{table}`, as in {}", first.display());
            let allowed = "a table that no other feed writes";
            faults.push(Fault::new(&feed.file, "warehouse.table", found, allowed));
        }
    }
    faults.extend(between_dimensions(feeds, &tables, |table| table_key(table, schema)));
    faults
}

/// A table's name, alike for all that mean it: SQLite does not tell case.
fn table_key(table: &str, schema: &str) -> String {
    let in_schema = table.strip_prefix(schema).and_then(|rest| rest.strip_prefix('.'));
    in_schema.unwrap_or(table).to_lowercase()
}

/// The folder of a feed's table in the lake, without its case. With `topics` the pattern stands for
/// the topics: they are not known.
fn lake_folder(feed: &FeedFile) -> Option<String> {
    let template = Template::parse(feed.lake.as_ref()?.layout()).ok()?;
    let topic = feed.topic.as_deref().or(feed.topics.as_deref()).unwrap_or_default();
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Of(Placeholder::Feed) => feed.feed.clone(),
        Piece::Of(_) => topic.to_owned(),
    };
    let segments = template.table().iter();
    let segments: Vec<String> = segments.map(|pieces| pieces.iter().map(piece).collect()).collect();
    Some(segments.join("/").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = r#"{"kafka": {"bootstrap": "a:1"},
        "lake": {"url": "lake"}, "warehouse": {"url": "sqlite:w.db"}}"#;

    fn parsed(text: &str) -> FeedFile {
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn faults(text: &str) -> Vec<Fault> {
        let node = serde_json::from_str(NODE).unwrap();
        feed(&mut parsed(text), Written { lake: true, warehouse: true }, &node)
    }

    const STREAM: &str = "feed: a\ntype: stream\ntopic: t\n";
    const TABLE: &str = "feed: a\ntype: table\ntopic: t\n";

    #[test]
    fn sound_feeds_have_no_faults() {
        for text in [
            STREAM.to_owned(),
            format!("{TABLE}key: {{format: string, columns: [{{name: id, type: string}}]}}"),
            "feed: 'raw-{topic}'\ntype: stream\ntopics: '^raw\\..*'\nwarehouse: {table: 'raw.{topic}'}"
                .to_owned(),
            format!("{STREAM}columns: [{{name: AT, path: a.at, type: date}}]\ntime: AT"),
            format!("{STREAM}format: bytes"),
            format!("{STREAM}format: connect\nrest: true\ncolumns: [{{name: a, type: bytes}}]"),
            format!("{STREAM}key: {{format: none}}"),
            format!("{TABLE}key: {{format: double, columns: [{{name: id, type: double}}]}}"),
            format!(
                "{TABLE}key: {{format: string, window: session, window_type: long, \
                 columns: [{{name: id, type: string}}]}}"
            ),
            format!(
                "{TABLE}key: {{format: json, window: time, window_size: 5m, \
                 columns: [{{name: a, type: string}}, {{name: b, type: long}}]}}\ntime: window_end\n\
                 columns: [{{name: v, type: long}}]"
            ),
            format!("{STREAM}columns: [{{name: a, path: a.x, type: int}}, {{name: b, path: ab, type: int}}]"),
        ] {
            assert_eq!(faults(&text), [], "{text}");
        }
    }

    #[test]
    fn each_fault_is_named() {
        let columns = |columns: &str| format!("{STREAM}columns: [{columns}]\n");
        let key = |key: &str| format!("{TABLE}key: {{{key}}}\n");
        let cases: Vec<(String, &str, &str)> = vec![
            ("feed: Ab c\ntype: stream\ntopic: t".into(), "feed", "`ab_c`"),
            ("feed: '{topic}'\ntype: stream\ntopic: t".into(), "feed", "with `topics`"),
            ("feed: a\ntype: stream\ntopics: ^t".into(), "feed", "`a_{topic}`"),
            ("feed: a\ntype: stream".into(), "topic", "neither"),
            ("feed: '{topic}'\ntype: stream\ntopic: t\ntopics: ^t".into(), "topic", "both"),
            ("feed: a\ntype: stream\ntopic: ^t.*".into(), "topic", "`topics`"),
            ("feed: '{topic}'\ntype: stream\ntopics: t".into(), "topics", "`^t`"),
            ("feed: '{topic}'\ntype: stream\ntopics: '^(t'".into(), "topics", "unclosed group"),
            (TABLE.into(), "key", "- {name: id, type: string}"),
            (key("format: string, columns: []"), "key.columns", "at least one"),
            (
                key("format: string, columns: [{name: a, type: int}, {name: b, type: int}]"),
                "key.columns",
                "exactly one",
            ),
            (key("format: none"), "key.format", "needs one"),
            (
                format!("{STREAM}key: {{format: none, columns: [{{name: a, type: int}}]}}"),
                "key.format",
                "can be read",
            ),
            (
                key("format: long, columns: [{name: a, type: double}]"),
                "key.columns[0].type",
                "double",
            ),
            (key("format: int, columns: [{name: a, type: json}]"), "key.columns[0].type", "json"),
            (
                key("format: string, window_size: 5m, columns: [{name: a, type: int}]"),
                "key.window_size",
                "unless",
            ),
            (
                key(
                    "format: string, window: time, window_size: 0s, columns: [{name: a, type: int}]",
                ),
                "key.window_size",
                "5m",
            ),
            (
                key("format: string, window_in_key: false, columns: [{name: a, type: int}]"),
                "key.window_in_key",
                "unless",
            ),
            (
                format!(
                    "{}columns: [{{name: window_start, type: int}}]",
                    key("format: string, window: time, columns: [{name: a, type: int}]")
                ),
                "columns[0].name",
                "as in key.window",
            ),
            (
                format!(
                    "{STREAM}format: string\ncolumns: [{{name: a, type: int}}, {{name: b, type: int}}]"
                ),
                "columns",
                "exactly one column",
            ),
            (
                format!("{STREAM}format: bytes\ncolumns: [{{name: a, type: string}}]"),
                "columns[0].type",
                "`bytes`",
            ),
            (format!("{STREAM}format: bytes\nrest: true"), "rest", "no fields"),
            (format!("{STREAM}format: avro"), "format", "add `schema_registry: {url: …}`"),
            (
                key("format: avro, columns: [{name: a, type: int}, {name: b, type: int}]"),
                "key.format",
                "the node file has no `schema_registry`",
            ),
            (columns("{name: _a, type: int}"), "columns[0].name", "starting with a letter"),
            (columns("{name: 1a, type: int}"), "columns[0].name", "starting with a letter"),
            (columns("{name: a b, type: int, path: a}"), "columns[0].name", "`a b`"),
            (columns("{name: é, type: int}"), "columns[0].name", "`é`"),
            (columns("{name: '', type: int, path: x}"), "columns[0].name", "1 to 63"),
            (columns(&format!("{{name: {}, type: int}}", "a".repeat(64))), "columns[0].name", "63"),
            (
                columns("{name: a, type: int}, {name: A, type: int}"),
                "columns[1].name",
                "as in columns[0].name",
            ),
            (
                format!(
                    "{}columns: [{{name: ID, type: int}}]",
                    key("format: json, columns: [{name: id, type: int}]")
                ),
                "columns[0].name",
                "as in key.columns[0].name",
            ),
            (
                columns("{name: a, path: x, type: int}, {name: b, path: x, type: int}"),
                "columns[1].path",
                "as in columns[0]",
            ),
            (
                columns(
                    "{name: L, path: LOCATION, type: json}, {name: b, path: LOCATION.CITY, type: int}",
                ),
                "columns[1].path",
                "inside `LOCATION`",
            ),
            (
                columns("{name: b, path: a.b.c, type: int}, {name: L, path: a, type: json}"),
                "columns[0].path",
                "which is columns[1]",
            ),
            (columns("{name: a, path: a..b, type: int}"), "columns[0].path", "none of them empty"),
            (columns("{name: a, path: '', type: int}"), "columns[0].path", "none of them empty"),
            (columns(""), "columns", "inferred"),
            (format!("{}time: ta", columns("{name: at, type: date}")), "time", "did you mean `at`"),
            (format!("{}time: a", columns("{name: a, type: int}")), "time", "of type `int`"),
            (format!("{STREAM}lake: {{zstd_level: 0}}"), "lake.zstd_level", "1 to 22"),
            (format!("{STREAM}lake: {{format: jsonl, codec: gzip}}"), "lake.codec", "plain text"),
            (format!("{STREAM}lake: {{format: jsonl, bloom: [a]}}"), "lake.bloom", "plain text"),
            (
                format!("{STREAM}columns: [{{name: user, type: int}}]\nlake: {{sort: [usr]}}"),
                "lake.sort[0]",
                "`user`",
            ),
            (format!("{STREAM}lake: {{bloom: [a, a]}}"), "lake.bloom[1]", "once"),
            (format!("{STREAM}lake: {{layout: '{{feed}}/x'}}"), "lake.layout", "no time"),
            (
                format!("{STREAM}lake: {{layout: '{{feed}}/{{date}}/{{partition}}'}}"),
                "lake.layout",
                "several partitions",
            ),
            (
                format!(
                    "{}lake: {{layout: '{{feed}}/AT={{date}}/x'}}",
                    columns("{name: at, type: date}")
                ),
                "lake.layout",
                "a column of the feed",
            ),
            (
                format!("{STREAM}lake: {{linger: 5s, late_linger: 1s}}"),
                "lake.late_linger",
                "`linger` (5s) or longer",
            ),
            (format!("{STREAM}lake: {{max_records: 0}}"), "lake.max_records", "1 or more"),
            (format!("{STREAM}lake: {{max_bytes: 0}}"), "lake.max_bytes", "1 byte or more"),
            (format!("{STREAM}warehouse: {{max_records: 0}}"), "warehouse.max_records", "1 or"),
            (format!("{STREAM}warehouse: {{max_bytes: 0B}}"), "warehouse.max_bytes", "1 byte"),
            (format!("{STREAM}warehouse: {{table: a.b.c}}"), "warehouse.table", "schema.name"),
            (format!("{STREAM}warehouse: {{table: a-b}}"), "warehouse.table", "`a-b`"),
            (
                format!("{STREAM}warehouse: {{table: tidegate.gaps}}"),
                "warehouse.table",
                "Tidegate's own",
            ),
            (format!("{STREAM}warehouse: {{table: '{TOPIC}'}}"), "warehouse.table", "only with"),
            (
                "feed: '{topic}'\ntype: stream\ntopics: ^t\nwarehouse: {table: x}".into(),
                "warehouse.table",
                "`x_{topic}`",
            ),
            (
                format!("feed: {}\ntype: stream\ntopic: t", "a".repeat(64)),
                "warehouse.table",
                "at most 63",
            ),
            (format!("{STREAM}quarantine: {{park_above: 1.5}}"), "quarantine.park_above", "0 to 1"),
            (format!("{STREAM}lake: null\nwarehouse: null"), "lake", "at least one of them"),
        ];
        for (text, field, said) in cases {
            let found = faults(&text);
            assert_eq!(found.len(), 1, "{text}: {found:#?}");
            assert_eq!(found[0].field, field, "{text}");
            let message = found[0].to_string();
            assert!(message.contains(said), "{said:?} in {message}");
        }
    }

    #[test]
    fn sides_follow_the_node_unless_they_are_written() {
        let node: Node =
            serde_json::from_str(r#"{"kafka": {"bootstrap": "a:1"}, "lake": {"url": "l"}}"#)
                .unwrap();
        let mut file = parsed(STREAM);
        assert_eq!(feed(&mut file, Written { lake: false, warehouse: false }, &node), []);
        assert!(file.lake.is_some() && file.warehouse.is_none());
        let bookkeeping = Node {
            warehouse: serde_json::from_str(r#"{"url": "sqlite:w.db", "only_bookkeeping": true}"#)
                .unwrap(),
            ..node.clone()
        };
        let mut file = parsed(STREAM);
        assert_eq!(feed(&mut file, Written { lake: false, warehouse: false }, &bookkeeping), []);
        assert!(file.lake.is_some() && file.warehouse.is_none());
        let mut file = parsed(&format!("{STREAM}warehouse: {{table: x}}"));
        assert_eq!(feed(&mut file, Written { lake: false, warehouse: true }, &bookkeeping), []);
        assert!(file.warehouse.is_some());
        let mut file = parsed(&format!("{STREAM}warehouse: {{table: x}}"));
        let found = feed(&mut file, Written { lake: false, warehouse: true }, &node);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].field, "warehouse");
    }

    #[test]
    fn names_and_tables_are_used_once() {
        let named = |file: &str, text: &str| {
            let mut feed = parsed(text);
            feed.file = file.into();
            feed
        };
        let feeds = [
            named("1.yaml", "{feed: a-b, type: stream, topic: t}"),
            named("2.yaml", "{feed: a-b, type: stream, topic: u}"),
            named("3.yaml", "{feed: a_b, type: stream, topic: t}"),
            named("4.yaml", "{feed: c, type: stream, topic: t, warehouse: {table: public.A_B}}"),
            named("5.yaml", "{feed: d, type: stream, topic: t, warehouse: null}"),
            named(
                "6.yaml",
                "{feed: e, type: stream, topic: d, lake: {layout: 'streams/{topic}/{date}/x'}}",
            ),
        ];
        let found: Vec<(String, String)> = between(&feeds, "public")
            .into_iter()
            .map(|fault| (fault.file.display().to_string(), fault.field))
            .collect();
        let expected = [
            ("2.yaml", "feed"),
            ("3.yaml", "warehouse.table"),
            ("4.yaml", "warehouse.table"),
            ("6.yaml", "lake.layout"),
        ];
        assert_eq!(found, expected.map(|(file, field)| (file.to_owned(), field.to_owned())));
    }
}
