//! How the lake's files are written: compression, bloom filters and order, checked against the columns.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault::{listed, nearest};
use super::{Column, ColumnType, Fault, FeedFile, LakeFormat, LakeOptions};

/// How a Parquet file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    #[default]
    Zstd,
    Snappy,
    Lz4,
    Gzip,
    None,
}

/// The faults of a lake side's files. `columns`: all of the feed's, where they are known.
pub fn file_faults(
    feed: &FeedFile,
    options: &LakeOptions,
    columns: Option<&[Column]>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    if options.format == LakeFormat::Jsonl {
        let of_parquet =
            [("codec", options.codec != Codec::Zstd), ("bloom", !options.bloom.is_empty())];
        for (field, _) in of_parquet.into_iter().filter(|(_, set)| *set) {
            let allowed = "nothing with `format: jsonl`, whose files are plain text";
            faults.push(Fault::new(&feed.file, format!("lake.{field}"), "a value", allowed));
        }
    }
    for (list, wanted) in [("bloom", &options.bloom), ("sort", &options.sort)] {
        for (index, name) in wanted.iter().enumerate() {
            let field = format!("lake.{list}[{index}]");
            if wanted[..index].contains(name) {
                let found = format!("`{name}`, a second time");
                faults.push(Fault::new(&feed.file, &field, found, "each column once"));
            }
            let Some(columns) = columns else { continue };
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let nested = |column: &&Column| {
                column.name == *name && matches!(column.kind, ColumnType::Nested(_))
            };
            if let Some(column) = columns.iter().find(nested) {
                let found = format!("`{name}`, of type `{}`", column.kind);
                faults.push(Fault::new(&feed.file, &field, found, "a column that is not nested"));
            }
            if !names.contains(&name.as_str()) {
                let found = format!("`{name}`, which is not a column");
                let allowed = format!("a column of the feed: {}", listed(&names));
                let fault = Fault::new(&feed.file, &field, found, allowed);
                faults.push(fault.nearest(nearest(name, names)));
            }
        }
    }
    faults
}
