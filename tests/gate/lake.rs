//! What the lake claims to hold: a Delta log read as its specification says, entry by entry, and the
//! chains of a plain table, link by link.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Progress of each partition in a table's latest version; empty where there is no table yet.
pub fn progress(table: &Path) -> HashMap<i32, i64> {
    let mut progress = HashMap::new();
    for chain in std::fs::read_dir(table.join("_commits")).into_iter().flatten().flatten() {
        let name = chain.file_name().to_string_lossy().into_owned();
        let partition = name.rsplit_once('-').and_then(|(_, partition)| partition.parse().ok());
        let partition = partition.expect("a chain's folder names its partition");
        progress.extend(
            links(&chain.path())
                .last()
                .map(|link| (partition, link["to"].as_i64().expect("where it ends"))),
        );
    }
    for (_, line) in lines(table) {
        let txn = &line["txn"];
        let (Some(app_id), Some(next)) = (txn["appId"].as_str(), txn["version"].as_i64()) else {
            continue;
        };
        // tidegate:TOPIC:PARTITION:TOPIC-ID; replays are counted under another name.
        if !app_id.starts_with("tidegate:") {
            continue;
        }
        let partition = app_id.split(':').nth(2).and_then(|partition| partition.parse().ok());
        progress.insert(partition.expect("the application id names a partition"), next);
    }
    progress
}

/// The links of a partition's chain, from its beginning.
fn links(chain: &Path) -> Vec<Value> {
    let mut links: Vec<Value> = Vec::new();
    let mut name = "begin.json".to_owned();
    while let Ok(text) = std::fs::read_to_string(chain.join(&name)) {
        let Ok(link) = serde_json::from_str::<Value>(&text) else { break };
        let number = |field: &str| link[field].as_i64().expect("a number");
        name = format!("{:06}-{:020}.json", number("generation"), number("to"));
        links.push(link);
    }
    links
}

/// The Parquet files of a Delta table's latest version, or those that the folder of a plain table
/// shows.
pub fn files(table: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if table.join("_commits").is_dir() {
        shown(table, &mut files);
        return files;
    }
    for (_, line) in lines(table) {
        let path = |action: &str| line[action]["path"].as_str().map(|path| table.join(path));
        files.extend(path("add"));
        if let Some(removed) = path("remove") {
            files.retain(|file| *file != removed);
        }
    }
    files
}

fn shown(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_name().to_string_lossy().starts_with('_') {
            true => {}
            false if path.is_dir() => shown(&path, files),
            false => files.extend((path.extension() == Some("parquet".as_ref())).then_some(path)),
        }
    }
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
