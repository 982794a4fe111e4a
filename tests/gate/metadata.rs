//! `_metadata.json` follows the table, whoever writes it, and says what a recount finds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::lake;
use crate::servers::wait_for;
use crate::snapshots;
use crate::source_place::{COLUMNS, Place, SOON, Sender};

const DAY: i64 = 86_400_000;
/// 2025-10-13.
const FIRST: i64 = 1_760_313_600_000;

fn metadata(table: &Path) -> Value {
    let text = std::fs::read(table.join("_metadata.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Records and bytes of each folder, counted in the files themselves.
fn recount(table: &Path) -> BTreeMap<String, (u64, u64)> {
    let mut folders: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut files = lake::files(table);
    shown(table, "jsonl", &mut files);
    for file in files {
        let bytes = std::fs::read(&file).expect("a file of the table");
        let size = bytes.len() as u64;
        let rows = if file.extension() == Some("jsonl".as_ref()) {
            bytes.iter().filter(|byte| **byte == b'\n').count() as u64
        } else {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes));
            reader.expect("Parquet").metadata().file_metadata().num_rows() as u64
        };
        let folder = file.parent().unwrap().strip_prefix(table).unwrap().display().to_string();
        let sum = folders.entry(folder).or_default();
        *sum = (sum.0 + rows, sum.1 + size);
    }
    folders
}

fn shown(folder: &Path, ending: &str, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !entry.file_name().to_string_lossy().starts_with('_') {
            shown(&path, ending, files);
        } else if path.extension().is_some_and(|it| it == ending) {
            files.push(path);
        }
    }
}

fn agrees(table: &Path, found: &Value) {
    let counted = recount(table);
    let near = |megabytes: &Value, bytes: u64| {
        (megabytes.as_f64().expect("a number") - bytes as f64 / 1_048_576.0).abs() < 1e-5
    };
    let partitions = found["partitions"].as_array().expect("a list");
    assert_eq!(partitions.len(), counted.len(), "{found:#}");
    for partition in partitions {
        let (rows, bytes) = counted[partition["path"].as_str().expect("a path")];
        assert_eq!(partition["records"], rows, "{partition}");
        assert!(near(&partition["size_mb"], bytes), "{partition}: {bytes}");
    }
    assert_eq!(found["total_records"], counted.values().map(|(rows, _)| rows).sum::<u64>());
    assert!(near(&found["total_size_mb"], counted.values().map(|(_, bytes)| bytes).sum()));
}

/// Two nodes commit to one table, and are counted together.
fn follows(format: &'static str) {
    let mut place = Place::with_format("metadata", format);
    let topic = place.topic("orders", 4, &[]);
    place.feed(
        "orders",
        &format!(
            "topic: {topic}\n{COLUMNS}\nlake: {{linger: 100ms, format: {format}, metadata: true}}"
        ),
    );
    let nodes = ["one", "other"].map(|name| place.world.node(name));
    let sender = Sender::new();
    let table = place.lake_table("orders");
    let mut sent = 0;
    for round in 0..3 {
        for partition in 0..4 {
            let (from, at) = (sent, FIRST + round * DAY);
            sent += 100;
            sender.send_at(&topic, partition, from..sent, Some(at));
        }
        // Within seconds of the commit, while the nodes run.
        wait_for("the file to tell of every record", SOON, || {
            (metadata(&table)["total_records"] == sent).then_some(())
        });
    }
    for mut node in nodes {
        assert!(node.terminate(SOON).0.success());
    }
    place.verify();
    let found = metadata(&table);
    agrees(&table, &found);
    assert_eq!(found["partitions"][2]["path"], "year=2025/month=10/day=15");
    assert_eq!(found["source"], json!(topic));
    assert_eq!(found["type"], "stream");
    assert_eq!(found["storage_mode"], "append");
    assert_eq!(found["format"], format);
    assert_eq!(found["partitioning"], json!({"type": "date", "columns": ["year", "month", "day"]}));
    if format == "delta" {
        let last = lake::lines(&table).last().expect("a log").0;
        assert_eq!(found["table_version"], last);
    } else {
        let ends: Vec<&Value> =
            found["offsets"].as_object().expect("where it stands").values().collect();
        assert_eq!(ends, [&json!(300); 4]);
    }
    // One that was lost, or overwritten by a node that was held up, is written again.
    let text = std::fs::read(table.join("_metadata.json")).expect("the file");
    let late =
        String::from_utf8_lossy(&text).replace("\"total_records\": 1200", "\"total_records\": 3");
    std::fs::write(table.join("_metadata.json"), late).expect("the file");
    let (code, printed) = place.command(&["export", "--stream", "orders"]);
    assert_eq!(code, 0, "{printed}");
    let again = std::fs::read(table.join("_metadata.json")).expect("the file");
    assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&text));
}

#[test]
fn metadata_follows_a_delta_table() {
    follows("delta");
}

#[test]
fn metadata_follows_plain_parquet() {
    follows("parquet");
}

#[test]
fn metadata_follows_json_lines() {
    follows("jsonl");
}

#[test]
fn metadata_names_the_present_snapshot() {
    let mut place = Place::new("metadata-table");
    let topic = place.topic("totals", 1, &[]);
    let lake = "storage: overwrite, metadata: true, snapshots: {every: 200ms}";
    snapshots::feed(&place, "totals", &topic, lake);
    snapshots::change(&topic, 1, (0..100).map(|key| (key, Some(1))));
    let mut node = place.node();
    let table = snapshots::table(&place, "totals");
    wait_for("a first snapshot to be told of", SOON, || {
        (metadata(&table)["total_records"] == 100).then_some(())
    });
    snapshots::change(&topic, 1, (0..40).map(|key| (key, None)));
    wait_for("the next", SOON, || (metadata(&table)["total_records"] == 60).then_some(()));
    assert!(node.terminate(SOON).0.success());
    let found = metadata(&table);
    let versions = snapshots::versions(&place, "totals");
    let version = versions.last().expect("a snapshot")["version"].clone();
    assert_eq!(found["partitions"][0]["path"], format!("version=v{version}"));
    assert_eq!(found["storage_mode"], "overwrite");
    assert_eq!(found["partitioning"], json!({"type": "version", "columns": ["version"]}));
    assert_eq!(found["table_version"], lake::lines(&table).last().expect("a log").0);
    agrees(&table, &found);
}
