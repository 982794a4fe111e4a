//! The node file and the folder of feed files, read and checked whole.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::reference::node_schema;
use super::walk::{Walked, walk};
use super::{Fault, Faults, FeedFile, Folder, Node, check_node, document, folder};

/// Reads the node file. Relative paths in it are taken from its folder. Credentials are read once,
/// to find a missing one now and not at the first connection, and are not kept.
pub fn load_node(path: &Path) -> Result<Node, Faults> {
    let value = read(path)?;
    let (node, walked) = typed::<Node>(path, &node_schema(), value);
    let mut faults = Vec::new();
    let node = node.map(|mut node| {
        let folder = path.parent().unwrap_or(Path::new(""));
        let folder = std::path::absolute(folder.join(".")).unwrap_or(folder.to_owned());
        check_node::resolve_paths(&mut node, &folder);
        faults = check_node::node(&node, path);
        if let Some(lake) = &mut node.lake {
            lake.governed = node.governance.files.enforce;
        }
        node
    });
    faults.retain(|fault| !walked.explains(&fault.field));
    finish(node, walked.faults.into_iter().chain(faults).collect())
}

/// Reads the node file and its feed files; answers both, or the faults of all of them.
pub fn load(path: &Path) -> Result<(Node, Vec<FeedFile>), Faults> {
    match load_node(path) {
        Ok(node) => {
            let feeds = load_feeds(&node.feeds, &node)?;
            Ok((node, feeds))
        }
        Err(mut faults) => {
            faults.0.extend(faults_of_feeds_beside(path));
            Err(faults)
        }
    }
}

/// The faults of the feed files beside a node file that is itself faulty: they are checked against
/// what the file says of its feeds folder and its sinks, as far as it says it.
fn faults_of_feeds_beside(path: &Path) -> Vec<Fault> {
    let Ok(node) = read(path) else { return Vec::new() };
    let folder = node.get("feeds").and_then(Value::as_str).unwrap_or("feeds");
    let folder = path.parent().unwrap_or(Path::new("")).join(folder);
    let mut stand_in = serde_json::json!({"kafka": {"bootstrap": "stand-in:1"}});
    for (sink, url) in [("lake", "stand-in"), ("warehouse", "sqlite:/stand-in")] {
        if node.get(sink).is_some_and(|sink| !sink.is_null()) {
            stand_in[sink] = serde_json::json!({"url": url});
        }
    }
    if node.get("schema_registry").is_some_and(|registry| !registry.is_null()) {
        stand_in["schema_registry"] = serde_json::json!({"url": "http://stand-in"});
    }
    match serde_json::from_value::<Node>(stand_in) {
        Ok(stand_in) if folder.is_dir() => {
            load_feeds(&folder, &stand_in).err().map(|faults| faults.0).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// Reads every feed file of the folder, in the order of their names, and checks them one by one
/// and side by side.
pub fn load_feeds(folder: &Path, node: &Node) -> Result<Vec<FeedFile>, Faults> {
    Folder::read(folder)?.check(node)
}

/// Those of the folder's feeds that are sound each by itself, and what is wrong with the others.
pub fn load_sound_feeds(folder: &Path, node: &Node) -> (Vec<FeedFile>, Vec<Fault>) {
    match Folder::read(folder) {
        Ok(folder) => folder.sound(node),
        Err(fault) => (Vec::new(), vec![fault]),
    }
}

fn finish<T>(value: Option<T>, faults: Vec<Fault>) -> Result<T, Faults> {
    match value {
        Some(value) if faults.is_empty() => Ok(value),
        _ => Err(Faults(faults)),
    }
}

fn read(path: &Path) -> Result<Value, Fault> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| folder::unreadable(path, &error.to_string()))?;
    document::parse(path, &text)
}

/// The value as its type, as far as its structure allows.
pub(super) fn typed<T: DeserializeOwned>(
    path: &Path,
    schema: &Value,
    mut value: Value,
) -> (Option<T>, Walked) {
    let mut walked = walk(path, schema, &mut value);
    if !walked.usable {
        return (None, walked);
    }
    match serde_json::from_value(value) {
        Ok(typed) => (Some(typed), walked),
        Err(error) => {
            // The schema let through what the type refuses.
            walked.faults.push(Fault::new(
                path,
                "",
                error.to_string(),
                "what the schema describes",
            ));
            (None, walked)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn fields(faults: Faults) -> Vec<String> {
        let mut fields: Vec<String> = faults
            .0
            .into_iter()
            .map(|fault| {
                let file = fault.file.file_name().unwrap_or_default().to_string_lossy();
                format!("{file} {}", fault.field)
            })
            .collect();
        fields.sort();
        fields
    }

    const NODE: &str = "\
kafka: {bootstrap: 'a:1'}
lake: {url: lake}
warehouse: {url: 'postgres://u@h/d', password: {file: password}}
";

    #[test]
    fn a_sound_folder_loads() {
        let folder = folder(&[
            ("node.yaml", NODE),
            ("password", "hunter2\n"),
            ("feeds/b.yaml", "{feed: b, type: stream, topic: t}"),
            ("feeds/a.json", r#"{"feed": "a", "type": "stream", "topic": "t", "start": "latest"}"#),
            ("feeds/c.yml", "{feed: c, type: stream, topic: t, lake: null}"),
            ("feeds/..data/d.yaml", "not read"),
            ("feeds/.hidden.yaml", "not read"),
            ("feeds/README.md", "not read"),
        ]);
        let node = load_node(&folder.path().join("node.yaml")).unwrap();
        assert!(node.feeds.is_absolute());
        let feeds = load_feeds(&node.feeds, &node).unwrap();
        let names: Vec<&str> = feeds.iter().map(|feed| feed.feed.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(feeds[2].lake.is_none() && feeds[2].warehouse.is_some());
        assert!(feeds[0].file.ends_with("feeds/a.json"));
    }

    #[test]
    fn structure_and_meaning_are_both_reported_at_once() {
        let folder = folder(&[(
            "node.yaml",
            "kafka: {bootstrap: broker, grup: x, settings: {group.id: x}}\n\
             lake: {url: 'gs://x'}\nmemory: {budget: 1MiB}\ndrain_deadline: soon\nwarehose: {}\n",
        )]);
        let faults = load_node(&folder.path().join("node.yaml")).unwrap_err();
        assert!(faults.to_string().starts_with("7 faults"), "{faults}");
        assert_eq!(
            fields(faults),
            [
                "node.yaml drain_deadline",
                "node.yaml kafka.bootstrap",
                "node.yaml kafka.grup",
                "node.yaml kafka.settings.group.id",
                "node.yaml lake.url",
                "node.yaml memory.budget",
                "node.yaml warehose",
            ]
        );
    }

    #[test]
    fn the_faults_of_all_feed_files_come_together() {
        let folder = folder(&[
            ("node.yaml", "kafka: {bootstrap: 'a:1'}\nlake: {url: lake}\n"),
            ("feeds/1.yaml", "{feed: a, type: table, topic: t, ky: {}}"),
            ("feeds/2.yaml", "{feed: a, type: stream, topics: t, warehouse: {}}"),
            ("feeds/3.yaml", "a: 1\na: 2\n"),
            ("feeds/4.json", "[]"),
            ("feeds/5.yaml", "{feed: e, type: stream, topic: t, columns: [{name: a, type: x}]}"),
            ("feeds/6.yaml", "{type: stream, topic: t}"),
        ]);
        let node = load_node(&folder.path().join("node.yaml")).unwrap();
        let faults = load_feeds(&node.feeds, &node).unwrap_err();
        assert_eq!(
            fields(faults),
            [
                // `ky` was meant as `key`: that the key is missing is not said again.
                "1.yaml ky",
                "2.yaml feed",
                "2.yaml feed",
                "2.yaml topics",
                "2.yaml warehouse",
                "3.yaml ",
                "4.json ",
                "5.yaml columns[0].type",
                "6.yaml feed",
            ]
        );
    }

    /// Faults of structure and of meaning in one file; what follows from another fault is not said.
    #[test]
    fn a_fault_of_structure_hides_none_of_meaning() {
        let cases: [(&str, &[&str]); 12] = [
            ("{feed: A b, type: tabel, topic: t}", &["feed", "type"]),
            (
                "{type: stream, topic: t/t, lake: {zstd_level: 0}}",
                &["feed", "lake.zstd_level", "topic"],
            ),
            ("{feed: 7, type: stream, lake: null}", &["feed", "lake", "topic"]),
            (
                "{feed: a, type: stream, topic: t, columns: [{name: _x, type: int}, {name: y, type: z}]}",
                &["columns[0].name", "columns[1].type"],
            ),
            (
                "{feed: a, type: stream, topic: t, columns: [{type: int}, 7, {name: _x, type: int}]}",
                &["columns[0].name", "columns[1]", "columns[2].name"],
            ),
            (
                "{feed: a, type: table, topic: t, key: {columns: [{name: a b, type: int}]}}",
                &["key.columns[0].name", "key.format"],
            ),
            ("{feed: a, type: table, topic: t, key: {format: json}}", &["key.columns"]),
            // What the time column is cannot be told from a type that is wrong.
            (
                "{feed: a, type: stream, topic: t, time: at, columns: [{name: at, type: dat}]}",
                &["columns[0].type"],
            ),
            ("{feed: 'x-{topic}', type: stream, topics: 7}", &["topics"]),
            ("{feed: 'x-{topic}', type: stream, tpics: ^t, start: now}", &["start", "tpics"]),
            (
                "{feed: a, type: stream, topic: t, lake: {linger: 5, zstd_level: 0}}",
                &["lake.linger", "lake.zstd_level"],
            ),
            (
                "{feed: a, type: stream, topic: t, quarantine: {park_above: 2, x: 1}}",
                &["quarantine.park_above", "quarantine.x"],
            ),
        ];
        let folder = folder(&[("node.yaml", "kafka: {bootstrap: 'a:1'}\nlake: {url: lake}\n")]);
        let node = load_node(&folder.path().join("node.yaml")).unwrap();
        fs::create_dir(folder.path().join("feeds")).unwrap();
        for (text, expected) in cases {
            fs::write(folder.path().join("feeds/f.yaml"), text).unwrap();
            let faults = load_feeds(&node.feeds, &node).unwrap_err();
            let expected: Vec<String> =
                expected.iter().map(|field| format!("f.yaml {field}")).collect();
            assert_eq!(fields(faults), expected, "{text}");
        }
    }

    #[test]
    fn a_node_file_without_what_is_required_is_checked_too() {
        let cases: [(&str, &[&str]); 4] = [
            (
                "{kafka: {grup: x}, lake: {url: 'gs://x'}}",
                &["kafka.bootstrap", "kafka.grup", "lake.url"],
            ),
            (
                "{memory: {budget: 1MiB}, lake: {s3: {region: r}}}",
                &["kafka", "lake.url", "memory.budget"],
            ),
            (
                "{kafka: {bootstrap: a, sasl: {mechanism: PLAIN, username: ''}}}",
                &["kafka.bootstrap", "kafka.sasl.password", "kafka.sasl.username"],
            ),
            (
                "{kafka: {bootstrap: 'a:1'}, warehouse: {connections: 0, tls: {mode: verify-full}}, lake: {url: ''}}",
                &["lake.url", "warehouse.connections", "warehouse.url"],
            ),
        ];
        for (text, expected) in cases {
            let folder = folder(&[("n.yaml", text)]);
            let faults = load_node(&folder.path().join("n.yaml")).unwrap_err();
            let expected: Vec<String> =
                expected.iter().map(|field| format!("n.yaml {field}")).collect();
            assert_eq!(fields(faults), expected, "{text}");
        }
    }

    #[test]
    fn a_missing_file_or_folder_is_a_fault() {
        let folder = folder(&[("node.yaml", NODE), ("password", "x")]);
        assert_eq!(
            fields(load_node(&folder.path().join("none.yaml")).unwrap_err()),
            ["none.yaml "]
        );
        let node = load_node(&folder.path().join("node.yaml")).unwrap();
        let faults = load_feeds(&node.feeds, &node).unwrap_err();
        assert!(faults.to_string().contains("create it"), "{faults}");
    }

    #[test]
    fn secrets_are_never_printed() {
        let folder = folder(&[("node.yaml", NODE), ("password", "hunter2\n")]);
        let node = load_node(&folder.path().join("node.yaml")).unwrap();
        assert!(!format!("{node:?}").contains("hunter2"));
        let text = node.warehouse.unwrap().password.unwrap().read().unwrap();
        assert_eq!(text.reveal(), "hunter2");
        assert_eq!(format!("{text:?}"), "***");
    }
}
