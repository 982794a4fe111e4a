//! A Delta log read as its specification says, file by file: what the lake claims to hold.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Progress of each partition in a table's latest version; empty where there is no table yet.
pub fn progress(table: &Path) -> HashMap<i32, i64> {
    let mut progress = HashMap::new();
    for (_, line) in lines(table) {
        let txn = &line["txn"];
        let (Some(app_id), Some(next)) = (txn["appId"].as_str(), txn["version"].as_i64()) else {
            continue;
        };
        // tidegate:TOPIC:PARTITION:TOPIC-ID
        let partition = app_id.split(':').nth(2).and_then(|partition| partition.parse().ok());
        progress.insert(partition.expect("the application id names a partition"), next);
    }
    progress
}

/// The Parquet files of a table's latest version.
pub fn files(table: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (_, line) in lines(table) {
        let path = |action: &str| line[action]["path"].as_str().map(|path| table.join(path));
        files.extend(path("add"));
        if let Some(removed) = path("remove") {
            files.retain(|file| *file != removed);
        }
    }
    files
}

/// Every action of every version. The log is never cleaned here, so checkpoints can be left aside.
pub fn lines(table: &Path) -> Vec<(u64, Value)> {
    let mut lines = Vec::new();
    for version in 0.. {
        let entry = table.join(format!("_delta_log/{version:020}.json"));
        let Ok(text) = std::fs::read_to_string(entry) else { break };
        // On S3 an entry is seen whole or not at all; a folder may show one being written.
        let Ok(parsed) = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()
        else {
            break;
        };
        lines.extend(parsed.into_iter().map(|line| (version, line)));
    }
    lines
}
