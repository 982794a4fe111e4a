//! What a feed's folder in the lake shows: every record, or a table's state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, Fault, FeedFile, FeedKind, LakeFormat, LakeOptions};

/// What readers find in a table's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    #[default]
    Append,
    Overwrite,
    Ignore,
}

impl Storage {
    pub fn name(self) -> &'static str {
        match self {
            Storage::Append => "append",
            Storage::Overwrite => "overwrite",
            Storage::Ignore => "ignore",
        }
    }
}

/// The snapshots of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotOptions {
    /// How often a snapshot is taken while a node runs, if anything changed. Default: 1h.
    pub every: Duration,
    /// How many of the last versions stay readable, the present one included; the files of older ones
    /// are deleted when the next snapshot is due, so that no reader loses what it has just opened.
    /// Default: 2.
    pub keep: u32,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self { every: Duration::from_secs(3600), keep: 2 }
    }
}

/// What is wrong with how a feed is to be stored.
pub fn faults(feed: &FeedFile, options: &LakeOptions) -> Vec<Fault> {
    let mut faults = Vec::new();
    let fault = |field: &str, found: String, allowed: &str| {
        Fault::new(&feed.file, format!("lake.{field}"), found, allowed)
    };
    let storage = format!("`{}`", options.storage.name());
    if options.storage == Storage::Append {
        if options.snapshots.is_some() {
            let fault = fault("snapshots", "snapshots of a feed that is appended".into(), NONE);
            faults.push(fault.remedy("add `storage: overwrite`, or take `snapshots` out"));
        }
        return faults;
    }
    if feed.kind != FeedKind::Table {
        let allowed = "`append` for a stream: its records have no later state";
        let remedy = "if each record is the last state of its key, write `type: table` and a `key`";
        faults.push(fault("storage", storage.clone(), allowed).remedy(remedy));
    }
    if options.format != LakeFormat::Delta {
        let found =
            format!("`{}` with `storage: {}`", options.format.ending(), options.storage.name());
        let remedy = "take `format` out: the snapshots are Parquet files all the same, and each lies \
                      whole in its version's folder";
        faults.push(fault("format", found, "`delta`").remedy(remedy));
    }
    let snapshots = options.snapshots();
    if snapshots.every.is_zero() {
        faults.push(fault("snapshots.every", "0".into(), "a duration such as `1h`"));
    }
    if snapshots.keep == 0 {
        faults.push(fault("snapshots.keep", "0".into(), "1 or more: the present version is one"));
    }
    // The columns may be inferred, and then the table itself refuses it.
    let named = feed.key.iter().flat_map(|key| &key.columns).chain(feed.columns.iter().flatten());
    let mut names = named.map(|column| &column.name);
    if names.any(|name| name.eq_ignore_ascii_case(VERSION)) {
        let allowed = "columns of other names than `version`, which tells the snapshots apart";
        let remedy = "give the column another `name` and keep its `path`";
        faults.push(
            fault("storage", format!("{storage} and a column `version`"), allowed).remedy(remedy),
        );
    }
    faults
}

const NONE: &str = "nothing, unless `storage` is `overwrite` or `ignore`";

/// The partition column of a table of snapshots.
pub const VERSION: &str = "version";

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: &str, lake: &str) -> Vec<String> {
        let text = format!(
            "{{feed: a, type: {kind}, topic: t, lake: {lake}, \
             key: {{format: string, columns: [{{name: id, type: string}}]}}}}"
        );
        let feed: FeedFile = serde_saphyr::from_str(&text).unwrap();
        let faults = faults(&feed, feed.lake.as_ref().unwrap());
        faults.into_iter().map(|fault| fault.to_string()).collect()
    }

    #[test]
    fn tables_alone_have_snapshots() {
        for lake in ["{}", "{storage: overwrite}", "{storage: ignore, snapshots: {keep: 1}}"] {
            assert_eq!(found("table", lake), Vec::<String>::new(), "{lake}");
        }
        for (kind, lake, said) in [
            ("stream", "{storage: overwrite}", "`type: table`"),
            ("stream", "{storage: ignore}", "lake.storage"),
            ("table", "{snapshots: {every: 1m}}", "add `storage: overwrite`"),
            ("table", "{storage: overwrite, format: jsonl}", "take `format` out"),
            ("table", "{storage: overwrite, snapshots: {every: 0s}}", "lake.snapshots.every"),
            ("table", "{storage: overwrite, snapshots: {keep: 0}}", "lake.snapshots.keep"),
        ] {
            let found = found(kind, lake);
            assert!(found.len() == 1 && found[0].contains(said), "{lake}: {found:?}");
        }
    }
}
