//! What a feed file says about its rows' shape in the warehouse, checked against its columns.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::check::{MAX_IDENTIFIER, TOPIC, reserved_schema, valid_table};
use super::fault::{listed, nearest};
use super::shape::{DOCUMENT_COLUMN, SNAPSHOTS_SUFFIX};
use super::{
    Column, Dimension, Fault, FeedFile, FeedKind, Key, Shape, ValueFormat, WarehouseOptions,
};

/// Their statements are sent in one go, in this order.
const MAX_DIMENSIONS: usize = 16;

/// The faults of shape, dimensions and snapshots.
pub fn shape_faults(feed: &FeedFile, options: &WarehouseOptions) -> Vec<Fault> {
    let mut faults = Vec::new();
    document(feed, options, &mut faults);
    let columns = all_columns(feed);
    if options.dimensions.len() > MAX_DIMENSIONS {
        let found = format!("{} dimensions", options.dimensions.len());
        let allowed = "at most 16";
        faults.push(Fault::new(&feed.file, "warehouse.dimensions", found, allowed));
    }
    for (index, dimension) in options.dimensions.iter().enumerate() {
        let at = format!("warehouse.dimensions[{index}]");
        one_dimension(feed, dimension, &at, columns.as_deref(), &mut faults);
    }
    different_tables(feed, options, &mut faults);
    snapshots(feed, options, &mut faults);
    retention(feed, options, &mut faults);
    faults
}

fn document(feed: &FeedFile, options: &WarehouseOptions, faults: &mut Vec<Fault>) {
    if options.shape != Shape::Document {
        return;
    }
    let mut fault = |field: &str, found: String, allowed: &str| {
        faults.push(Fault::new(&feed.file, field, found, allowed));
    };
    if matches!(feed.format, ValueFormat::String | ValueFormat::Bytes) {
        let allowed = "`columns`: only JSON objects (`format: json` or `connect`) are documents";
        fault("warehouse.shape", "`document`".to_owned(), allowed);
    }
    let key = feed.key.iter().flat_map(|key| &key.columns).enumerate();
    for (index, column) in key.filter(|(_, it)| it.name.eq_ignore_ascii_case(DOCUMENT_COLUMN)) {
        let allowed = "a name other than `data`, the column of the document itself";
        fault(&format!("key.columns[{index}].name"), format!("`{}`", column.name), allowed);
    }
    if !options.dimensions.is_empty() {
        let allowed = "none with `shape: document`, whose rows have no columns to take them from";
        fault("warehouse.dimensions", "dimensions".to_owned(), allowed);
    }
}

/// All columns of the feed, where they need not be inferred.
pub fn all_columns(feed: &FeedFile) -> Option<Vec<Column>> {
    let key = feed.key.iter().flat_map(|key| key.columns.clone());
    let window = feed.key.as_ref().map(Key::window_columns).unwrap_or_default();
    let value = feed.value_columns()?;
    Some(key.chain(window).chain(value).collect())
}

fn one_dimension(
    feed: &FeedFile,
    dimension: &Dimension,
    at: &str,
    columns: Option<&[Column]>,
    faults: &mut Vec<Fault>,
) {
    let mut fault = |field: &str, found: String, allowed: String| {
        faults.push(Fault::new(&feed.file, format!("{at}.{field}"), found, allowed));
    };
    let table = &dimension.table;
    if !valid_table(table) {
        let allowed = "`name` or `schema.name`, each of at most 63 letters, digits and `_`";
        fault("table", format!("`{table}`"), allowed.to_owned());
    } else if table.split_once('.').is_some_and(|(schema, _)| reserved_schema(schema)) {
        let allowed = "a schema that is neither PostgreSQL's nor Tidegate's own (`tidegate`)";
        fault("table", format!("`{table}`"), allowed.to_owned());
    }
    if dimension.key.is_empty() {
        fault("key", "no columns".to_owned(), "at least one column of the feed".to_owned());
    }
    let mut seen = HashSet::new();
    for (list, names) in [("key", &dimension.key), ("columns", &dimension.columns)] {
        for (index, name) in names.iter().enumerate() {
            if !seen.insert(name.to_lowercase()) {
                let allowed = "a column that the dimension has not yet".to_owned();
                fault(&format!("{list}[{index}]"), format!("`{name}`, a second time"), allowed);
            }
        }
    }
    let Some(columns) = columns else { return };
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    for (list, wanted) in [("key", &dimension.key), ("columns", &dimension.columns)] {
        for (index, name) in wanted.iter().enumerate() {
            let field = format!("{list}[{index}]");
            match columns.iter().find(|column| column.name == *name) {
                None => {
                    let allowed = format!("a column of the feed: {}", listed(&names));
                    let found = format!("`{name}`, which is not a column");
                    let fault = Fault::new(&feed.file, format!("{at}.{field}"), found, allowed);
                    faults.push(fault.nearest(nearest(name, names.iter().copied())));
                }
                Some(column) if list == "key" && !column.kind.can_be_key() => {
                    let found = format!("`{name}`, a column of type `{}`", column.kind);
                    let allowed = "a type whose values are equal in one way only: not `json`, \
                                   `number`, `double` or a nested type";
                    faults.push(Fault::new(&feed.file, format!("{at}.{field}"), found, allowed));
                }
                Some(_) => {}
            }
        }
    }
}

fn different_tables(feed: &FeedFile, options: &WarehouseOptions, faults: &mut Vec<Fault>) {
    let own = feed.own_table(options);
    let mut tables = HashSet::from([own.to_lowercase()]);
    for (index, dimension) in options.dimensions.iter().enumerate() {
        if !tables.insert(dimension.table.to_lowercase()) {
            let found = format!("`{}`, a second time", dimension.table);
            let allowed = "a table that the feed does not write yet";
            let field = format!("warehouse.dimensions[{index}].table");
            faults.push(Fault::new(&feed.file, field, found, allowed));
        }
    }
}

fn snapshots(feed: &FeedFile, options: &WarehouseOptions, faults: &mut Vec<Fault>) {
    let Some(snapshots) = &options.snapshots else { return };
    let mut fault = |field: &str, found: String, allowed: &str| {
        faults.push(Fault::new(&feed.file, field, found, allowed));
    };
    if feed.kind == FeedKind::Stream {
        let allowed = "none with `type: stream`, whose rows never change";
        fault("warehouse.snapshots", "snapshots".to_owned(), allowed);
    }
    if snapshots.every.get().as_secs() < 1 {
        fault("warehouse.snapshots.every", snapshots.every.to_string(), "1s or more");
    }
    if snapshots.keep == 0 {
        fault("warehouse.snapshots.keep", "0".to_owned(), "1 or more");
    }
    let table = feed.own_table(options);
    let name = table.rsplit('.').next().unwrap_or_default().replace(TOPIC, "");
    if name.len() <= MAX_IDENTIFIER && name.len() + SNAPSHOTS_SUFFIX.len() > MAX_IDENTIFIER {
        let found = format!("`{table}`, {} bytes", name.len());
        fault("warehouse.table", found, "with `snapshots`, a name of at most 53 bytes");
    }
}

fn retention(feed: &FeedFile, options: &WarehouseOptions, faults: &mut Vec<Fault>) {
    let Some(days) = options.retention_days else { return };
    let mut fault = |allowed: &str| {
        faults.push(Fault::new(&feed.file, "warehouse.retention_days", days.to_string(), allowed));
    };
    if feed.kind == FeedKind::Table {
        fault(
            "none with `type: table`, whose rows are the present state; deletes come by the topic",
        );
    }
    if days == 0 {
        fault("1 or more");
    }
}

/// What only shows when all feeds stand side by side. `tables` are the feeds' own, each under its name
/// as `key` makes it.
pub fn between_dimensions<'f>(
    feeds: &'f [FeedFile],
    tables: &HashMap<String, &Path>,
    key: impl Fn(&str) -> String,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut known: HashMap<String, (&'f Dimension, &'f Path)> = HashMap::new();
    for feed in feeds {
        let dimensions = feed.warehouse.iter().flat_map(|options| &options.dimensions);
        for (index, dimension) in dimensions.enumerate() {
            let field = format!("warehouse.dimensions[{index}]");
            let name = key(&dimension.table);
            if let Some(other) = tables.get(&name).filter(|other| **other != feed.file) {
                let found = format!("`{}`, as in {}", dimension.table, other.display());
                let allowed = "a table that no feed writes as its own";
                faults.push(Fault::new(&feed.file, format!("{field}.table"), found, allowed));
            }
            let (first, file) = *known.entry(name).or_insert((dimension, &feed.file));
            if first.key != dimension.key {
                let found = format!(
                    "{}, and in {} {}",
                    listed_names(dimension),
                    file.display(),
                    listed_names(first)
                );
                let allowed = "the same key as every other feed that fills the dimension";
                faults.push(Fault::new(&feed.file, format!("{field}.key"), found, allowed));
            }
        }
    }
    faults
}

fn listed_names(dimension: &Dimension) -> String {
    listed(&dimension.key.iter().map(String::as_str).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::check::{self, Written};
    use super::*;

    const NODE: &str = r#"{"kafka": {"bootstrap": "a:1"},
        "lake": {"url": "lake"}, "warehouse": {"url": "sqlite:w.db"}}"#;

    const TABLE: &str = "feed: a\ntype: table\ntopic: t\n\
        key: {format: string, columns: [{name: id, type: string}]}\n";
    const COLUMNS: &str = "columns: [{name: user, type: string}, {name: mean, type: double}]\n";

    fn faults(text: &str) -> Vec<Fault> {
        let mut file =
            serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let node = serde_json::from_str(NODE).unwrap();
        check::feed(&mut file, Written { lake: true, warehouse: true }, &node)
    }

    fn dimension(text: &str) -> String {
        format!("{TABLE}{COLUMNS}warehouse: {{dimensions: [{{{text}}}]}}")
    }

    #[test]
    fn sound_shapes_have_no_faults() {
        for text in [
            format!(
                "{TABLE}case: keep\nwarehouse: {{table: T_USD, shape: document, snapshots: {{}}}}"
            ),
            "feed: a\ntype: stream\ntopic: t\nlake: null\nwarehouse: {shape: document}".to_owned(),
            dimension("table: dwh.users, key: [user, id], columns: [mean], foreign_key: true"),
            // The columns are inferred.
            format!(
                "{TABLE}warehouse: {{dimensions: [{{table: u, key: [b]}}], snapshots: {{every: 1h, keep: 2}}}}"
            ),
        ] {
            assert_eq!(faults(&text), [], "{text}");
        }
    }

    #[test]
    fn each_fault_is_named() {
        let of = |options: &str| format!("{TABLE}{COLUMNS}warehouse: {{{options}}}");
        let long = "x".repeat(54);
        for (text, field, part) in [
            (
                format!("{}\nformat: bytes", TABLE.to_owned() + "warehouse: {shape: document}"),
                "warehouse.shape",
                "JSON objects",
            ),
            (
                of("shape: document, dimensions: [{table: u, key: [user]}]"),
                "warehouse.dimensions",
                "none with",
            ),
            (
                of("shape: document").replace("name: id", "name: Data"),
                "key.columns[0].name",
                "`data`",
            ),
            (dimension("table: 'u-v', key: [user]"), "warehouse.dimensions[0].table", "letters"),
            (
                dimension("table: tidegate.u, key: [user]"),
                "warehouse.dimensions[0].table",
                "Tidegate's own",
            ),
            (
                dimension("table: A, key: [user]"),
                "warehouse.dimensions[0].table",
                "does not write yet",
            ),
            (dimension("table: u, key: []"), "warehouse.dimensions[0].key", "at least one"),
            (
                dimension("table: u, key: [usr]"),
                "warehouse.dimensions[0].key[0]",
                "did you mean `user`",
            ),
            (dimension("table: u, key: [mean]"), "warehouse.dimensions[0].key[0]", "one way only"),
            (
                dimension("table: u, key: [mean]").replace("type: double", "type: number"),
                "warehouse.dimensions[0].key[0]",
                "one way only",
            ),
            (
                dimension("table: u, key: [user], columns: [USER]"),
                "warehouse.dimensions[0].columns[0]",
                "a second time",
            ),
            (of("snapshots: {every: 0s}"), "warehouse.snapshots.every", "1s"),
            (of("snapshots: {keep: 0}"), "warehouse.snapshots.keep", "1 or more"),
            (of(&format!("table: {long}, snapshots: {{}}")), "warehouse.table", "53 bytes"),
            (
                "feed: a\ntype: stream\ntopic: t\nwarehouse: {snapshots: {}}".to_owned(),
                "warehouse.snapshots",
                "never change",
            ),
        ] {
            let found = faults(&text);
            let named =
                found.iter().any(|fault| fault.field == field && fault.to_string().contains(part));
            assert!(named, "{text}: {found:?}");
        }
    }

    #[test]
    fn dimensions_of_several_feeds_agree() {
        let feed = |name: &str, options: &str| -> FeedFile {
            let text = format!(
                "feed: {name}\ntype: stream\ntopic: t\nlake: {{layout: '{name}/x'}}\n\
                 warehouse: {{{options}}}"
            );
            let mut file: FeedFile = serde_saphyr::from_str(&text).unwrap();
            file.file = format!("{name}.yaml").into();
            file
        };
        let users = "dimensions: [{table: public.Users, key: [id], columns: [a]}]";
        let sound = [feed("a", users), feed("b", "dimensions: [{table: users, key: [id]}]")];
        assert_eq!(check::between(&sound, "public"), []);
        let clash = [
            feed("a", users),
            feed("b", "dimensions: [{table: users, key: [x]}]"),
            feed("users", ""),
        ];
        let found = check::between(&clash, "public");
        let fields: Vec<&str> = found.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "warehouse.dimensions[0].table",
                "warehouse.dimensions[0].table",
                "warehouse.dimensions[0].key"
            ]
        );
    }
}
