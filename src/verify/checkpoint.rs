//! A checkpoint of a Delta log: the same actions as in its entries, as Parquet.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, Int32Array, Int64Array, RecordBatch, StructArray};
use arrow::datatypes::{Int32Type, Int64Type};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::delta::{Add, Line, Protocol, Remove, Txn, said};

const COLUMNS: [&str; 11] = [
    "add.path",
    "add.size",
    "add.modificationTime",
    "add.stats",
    "add.partitionValues",
    "add.tags",
    "remove.path",
    "txn.appId",
    "txn.version",
    "txn.lastUpdated",
    "protocol.minReaderVersion",
];

/// The actions of a checkpoint in one piece.
pub(super) async fn read(store: &dyn ObjectStore, version: u64) -> Result<Vec<Line>, String> {
    let name = format!("{version:020}.checkpoint.parquet");
    let path = Path::from(format!("_delta_log/{name}"));
    let bytes = store.get(&path).await.map_err(said)?.bytes().await.map_err(said)?;
    let damaged = |error: &dyn std::fmt::Display| format!("checkpoint {name}: {error}");
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| damaged(&error))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), COLUMNS);
    let reader = builder.with_projection(mask).build().map_err(|error| damaged(&error))?;
    let mut lines = Vec::new();
    for batch in reader {
        take_lines(&batch.map_err(|error| damaged(&error))?, &mut lines);
    }
    Ok(lines)
}

fn take_lines(batch: &RecordBatch, lines: &mut Vec<Line>) {
    let action = |name| batch.column_by_name(name).and_then(|column| column.as_struct_opt());
    let [add, remove, txn, protocol] = ["add", "remove", "txn", "protocol"].map(action);
    for row in 0..batch.num_rows() {
        let add = add.and_then(|add| {
            Some(Add {
                path: text(add, "path", row)?,
                size: long(add, "size", row).unwrap_or(0).unsigned_abs(),
                modification_time: long(add, "modificationTime", row).unwrap_or(0),
                stats: text(add, "stats", row),
                partition_values: texts(add, "partitionValues", row).unwrap_or_default(),
                tags: texts(add, "tags", row),
                ..Add::default()
            })
        });
        let txn = txn.and_then(|txn| {
            Some(Txn {
                app_id: text(txn, "appId", row)?,
                version: long(txn, "version", row)?,
                last_updated: long(txn, "lastUpdated", row),
            })
        });
        let remove = remove.and_then(|remove| {
            Some(Remove { path: text(remove, "path", row)?, data_change: false, tags: None })
        });
        let protocol = protocol.and_then(|protocol| {
            Some(Protocol { min_reader_version: long(protocol, "minReaderVersion", row)? })
        });
        lines.push(Line { add, remove, txn, protocol, ..Line::default() });
    }
}

fn text(action: &StructArray, name: &str, row: usize) -> Option<String> {
    let column = action.column_by_name(name)?.as_string_opt::<i32>()?;
    (action.is_valid(row) && column.is_valid(row)).then(|| column.value(row).to_owned())
}

/// A map of texts.
fn texts(action: &StructArray, name: &str, row: usize) -> Option<BTreeMap<String, Option<String>>> {
    let column = action.column_by_name(name)?.as_map_opt()?;
    if action.is_null(row) || column.is_null(row) {
        return None;
    }
    let entries = column.value(row);
    let keys = entries.column(0).as_string_opt::<i32>()?;
    let values = entries.column(1).as_string_opt::<i32>()?;
    let value = |at| values.is_valid(at).then(|| values.value(at).to_owned());
    Some((0..entries.len()).map(|at| (keys.value(at).to_owned(), value(at))).collect())
}

fn long(action: &StructArray, name: &str, row: usize) -> Option<i64> {
    let column = action.column_by_name(name)?;
    if action.is_null(row) || column.is_null(row) {
        return None;
    }
    let wide: Option<&Int64Array> = column.as_primitive_opt::<Int64Type>();
    let narrow: Option<&Int32Array> = column.as_primitive_opt::<Int32Type>();
    wide.map(|wide| wide.value(row)).or(narrow.map(|narrow| i64::from(narrow.value(row))))
}
