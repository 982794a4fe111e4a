//! Columns checked: their names, their paths, and which of them may be the event time.

use std::collections::HashMap;

use super::check::{MAX_IDENTIFIER, plain};
use super::fault::{listed, nearest};
use super::value_check::check_faults;
use super::{Column, ColumnType, Flat, Key, KeyFormat, PARTITION_COLUMNS, flatten};

/// Faults of a feed's columns, as (field, found, allowed).
pub fn column_faults(
    key: Option<&Key>,
    value: Option<&[Column]>,
) -> Vec<(String, String, &'static str)> {
    let key_columns = key.map(|key| key.columns.as_slice()).unwrap_or_default();
    let value = value.unwrap_or_default();
    let lists = [("key.columns", key_columns), ("columns", value)];
    let mut faults = Vec::new();
    let window = key.map(Key::window_columns).unwrap_or_default();
    let mut names: HashMap<String, String> =
        window.into_iter().map(|column| (column.name, "key.window".to_owned())).collect();
    for (list, columns) in lists {
        for (index, column) in columns.iter().enumerate() {
            let field = format!("{list}[{index}].name");
            if !valid_column_name(&column.name) {
                let allowed = "1 to 63 letters (A to Z), digits and `_`, starting with a letter";
                faults.push((field.clone(), format!("`{}`", column.name), allowed));
            }
            if PARTITION_COLUMNS.iter().any(|name| column.name.eq_ignore_ascii_case(name)) {
                let allowed =
                    "a name other than `year`, `month` and `day`, which the lake is partitioned by";
                faults.push((field.clone(), format!("`{}`", column.name), allowed));
            }
            if list == "key.columns" && !can_be_key(column.kind, key) {
                let field = format!("{list}[{index}].type");
                let allowed = "a type whose values are equal in one way only: not `json`, `number` \
                               or a nested type, and `double` only with `format: double`";
                faults.push((field, format!("`{}`", column.kind), allowed));
            }
            for (below, found, allowed) in check_faults(column) {
                let below = if below.is_empty() { "" } else { &format!(".{below}") };
                faults.push((format!("{list}[{index}].check{below}"), found, allowed));
            }
            if list == "key.columns" && column.check.is_some() {
                let allowed =
                    "no check: a tombstone with a key that fails could not delete its row";
                faults.push((format!("{list}[{index}].check"), "a check".to_owned(), allowed));
            }
            // SQLite and most readers of the lake do not tell case apart.
            if let Some(first) = names.insert(column.name.to_lowercase(), field.clone()) {
                let found = format!("`{}`, as in {first}", column.name);
                faults.push((field, found, "a name that no other column has, in any case"));
            }
        }
    }
    // Other keys have no fields: their column's path is not looked at.
    if key.is_some_and(|key| key.format.has_fields()) {
        path_faults("key.columns", key_columns, &mut faults);
    }
    path_faults("columns", value, &mut faults);
    faults
}

/// What is wrong with the fields of structs as columns of a table, as (found, allowed, remedy).
pub fn flat_fault(columns: &[Column]) -> Option<(String, &'static str, String)> {
    let mut seen = HashMap::new();
    for Flat { column, path } in flatten(columns) {
        let of = &columns[path[0]].name;
        let remedy = || format!("`nested: json`, or another name or type for `{of}`");
        if column.name.len() > MAX_IDENTIFIER {
            let found = format!("`columns`, which names a column `{}`", column.name);
            return Some((found, "names of at most 63 bytes", remedy()));
        }
        if let Some(other) = seen.insert(column.name.to_lowercase(), of) {
            let found = format!("`columns`, with `{}` twice, as in `{other}`", column.name);
            return Some((found, "names that no other column has, in any case", remedy()));
        }
    }
    None
}

fn can_be_key(kind: ColumnType, key: Option<&Key>) -> bool {
    // Eight bytes of a key say one number in one way.
    kind.can_be_key()
        || kind == ColumnType::Double && key.is_some_and(|key| key.format == KeyFormat::Double)
}

fn path_faults(list: &str, columns: &[Column], faults: &mut Vec<(String, String, &'static str)>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, column) in columns.iter().enumerate() {
        let path = column.path();
        let field = format!("{list}[{index}].path");
        if path.split('.').any(str::is_empty) {
            let allowed = "field names joined by `.`, none of them empty";
            faults.push((field.clone(), format!("`{path}`"), allowed));
        }
        if let Some(first) = seen.insert(path, index) {
            let found = format!("`{path}`, as in {list}[{first}]");
            faults.push((field, found, "a path that no other column has"));
        }
    }
    for (index, column) in columns.iter().enumerate() {
        let path = column.path();
        let parents = path.match_indices('.').map(|(at, _)| &path[..at]);
        for parent in parents.filter(|parent| !parent.is_empty()) {
            if let Some(leaf) = seen.get(parent) {
                faults.push((
                    format!("{list}[{index}].path"),
                    format!("`{path}`, inside `{parent}`, which is {list}[{leaf}]"),
                    "a field is either a column or holds columns",
                ));
            }
        }
    }
}

/// What is wrong with a time, as (found, allowed, nearest).
pub type Unfit = (String, String, Option<String>);

/// The column that a time names, by its name or else by the path of its field.
pub fn time_column(time: &str, columns: &[Column]) -> Result<usize, Unfit> {
    let fits = |kind| matches!(kind, ColumnType::Timestamp | ColumnType::Date);
    let named = columns.iter().position(|column| column.name == time);
    let index = named.or_else(|| columns.iter().position(|column| column.path() == time));
    if let Some(index) = index.filter(|index| fits(columns[*index].kind)) {
        return Ok(index);
    }
    let found = match index {
        Some(index) => format!("`{time}`, a column of type `{}`", columns[index].kind),
        None => format!("`{time}`, which is not a column"),
    };
    let names: Vec<&str> = columns
        .iter()
        .filter(|column| fits(column.kind))
        .map(|column| column.name.as_str())
        .collect();
    let allowed = if names.is_empty() {
        "a column of type `timestamp` or `date`, and the feed has none".to_owned()
    } else {
        format!("a column of type `timestamp` or `date`: {}", listed(&names))
    };
    Err((found, allowed, nearest(time, names)))
}

fn valid_column_name(name: &str) -> bool {
    (1..=MAX_IDENTIFIER).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(plain)
}
