//! The folder of feed files: its texts as they were at one moment, and what of them may run.
//!
//! Files lie in the folder itself or in `active` below it; what is in `archived` is never read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::check::{self, Written};
use super::declaration::{declared, is_declaration, renamed};
use super::load::typed;
use super::node::DEFAULT_SCHEMA;
use super::reference::feed_schema;
use super::walk::Walked;
use super::{Fault, Faults, FeedFile, Node, document};

/// Feeds that are carried.
pub const ACTIVE: &str = "active";
/// Feeds that were, and are not read.
pub const ARCHIVED: &str = "archived";

/// Every feed file's text, or why there is none. Two of them are equal if nothing has changed,
/// whatever the files' times and links say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(BTreeMap<PathBuf, Result<String, String>>);

impl Folder {
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let text = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            (path, text)
        };
        Ok(Self(feed_paths(path)?.into_iter().map(text).collect()))
    }

    /// The same with one more file, or with another text of one.
    pub fn with(mut self, path: &Path, text: String) -> Self {
        self.0.insert(path.to_owned(), Ok(text));
        self
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    pub fn without(mut self, path: &Path) -> Self {
        self.0.remove(path);
        self
    }

    /// Every feed, checked one by one and side by side; or all faults.
    pub fn check(&self, node: &Node) -> Result<Vec<FeedFile>, Faults> {
        let (sound, faults): (Vec<_>, Vec<_>) =
            self.0.iter().map(|(path, text)| read(path, text, node)).unzip();
        let mut faults: Vec<Fault> = faults.into_iter().flatten().collect();
        let files: Vec<File> = sound.into_iter().flatten().collect();
        let feeds: Vec<FeedFile> = files.iter().map(|file| file.feed.clone()).collect();
        let of = |path: &Path| files.iter().find(|file| *file.feed.file == *path);
        for fault in check::between(&feeds, tables_in(node)) {
            let Some(file) = of(&fault.file) else { continue };
            let fault = file.in_its_words(fault);
            if !file.walked.explains(&fault.field) {
                faults.push(fault);
            }
        }
        if faults.is_empty() { Ok(feeds) } else { Err(Faults(faults)) }
    }

    /// The feeds whose files have no fault of their own, whatever the others say, and the faults.
    pub fn sound(&self, node: &Node) -> (Vec<FeedFile>, Vec<Fault>) {
        let (sound, faults): (Vec<_>, Vec<_>) =
            self.0.iter().map(|(path, text)| read(path, text, node)).unzip();
        let feeds = sound.into_iter().flatten().map(|file: File| file.feed).collect();
        (feeds, faults.into_iter().flatten().collect())
    }

    /// What is to run now, where `running` are. A file with a fault is refused by itself: a feed that
    /// runs goes on as it is, and a new one does not get in the way of those that run.
    pub fn change(&self, node: &Node, running: &[FeedFile]) -> (Vec<FeedFile>, Vec<Fault>) {
        let at = |path: &Path| running.iter().find(|feed| *feed.file == *path);
        let moved = |feed: &FeedFile| {
            let mut gone = running.iter().filter(|old| !self.0.contains_key(&old.file));
            gone.any(|old| old.is_same_as(feed))
        };
        let (mut feeds, mut changed, mut new) = (Vec::new(), Vec::new(), Vec::new());
        let mut faults = Vec::new();
        for (path, text) in &self.0 {
            let (file, found) = read(path, text, node);
            let sound = file.filter(|_| found.is_empty());
            faults.extend(found);
            match (sound, at(path)) {
                (Some(file), Some(old)) if file.feed == *old => feeds.push(old.clone()),
                (Some(file), Some(old)) => changed.push((file, old)),
                // Of a file that was moved, the feed goes on.
                (Some(file), None) if moved(&file.feed) => feeds.push(file.feed),
                (Some(file), None) => new.push(file),
                (None, Some(old)) => feeds.push(old.clone()),
                (None, None) => {}
            }
        }
        let fits = |feeds: &[FeedFile], feed: &FeedFile| -> Vec<Fault> {
            let beside = [feeds, std::slice::from_ref(feed)].concat();
            let of_it = |fault: &Fault| *fault.file == *feed.file;
            check::between(&beside, tables_in(node)).into_iter().filter(of_it).collect()
        };
        let changed = changed.into_iter().map(|(file, old)| (file, Some(old)));
        for (file, old) in changed.chain(new.into_iter().map(|file| (file, None))) {
            let found = fits(&feeds, &file.feed);
            if found.is_empty() {
                feeds.push(file.feed);
                continue;
            }
            faults.extend(found.into_iter().map(|fault| file.in_its_words(fault)));
            // Unless another has taken its place meanwhile.
            feeds.extend(old.filter(|old| fits(&feeds, old).is_empty()).cloned());
        }
        feeds.sort_by(|a, b| a.file.cmp(&b.file));
        (feeds, faults)
    }
}

fn tables_in(node: &Node) -> &str {
    node.warehouse.as_ref().map_or(DEFAULT_SCHEMA, |warehouse| &warehouse.schema)
}

/// One feed file, as far as it could be read.
struct File {
    feed: FeedFile,
    walked: Walked,
    /// A declaration as it is written, whose faults are told in its own names.
    declaration: Option<Value>,
}

impl File {
    fn in_its_words(&self, fault: Fault) -> Fault {
        match &self.declaration {
            Some(written) => renamed(fault, written),
            None => fault,
        }
    }
}

fn read(path: &Path, text: &Result<String, String>, node: &Node) -> (Option<File>, Vec<Fault>) {
    let text = text.as_ref().map_err(|error| unreadable(path, error));
    let value = match text.and_then(|text| document::parse(path, text)) {
        Ok(value) => value,
        Err(fault) => return (None, vec![fault]),
    };
    let written =
        Written { lake: value.get("lake").is_some(), warehouse: value.get("warehouse").is_some() };
    let declaration = is_declaration(&value).then(|| value.clone());
    let (feed, mut walked) = match declaration {
        Some(_) => declared(path, value),
        None => typed::<FeedFile>(path, &feed_schema(), value),
    };
    let mut faults = std::mem::take(&mut walked.faults);
    let Some(mut feed) = feed else { return (None, faults) };
    feed.file = path.to_owned();
    let found = check::feed(&mut feed, written, node);
    let file = File { feed, walked, declaration };
    let found = found.into_iter().map(|fault| file.in_its_words(fault));
    faults.extend(found.filter(|fault| !file.walked.explains(&fault.field)));
    (Some(file), faults)
}

pub(super) fn unreadable(path: &Path, error: &str) -> Fault {
    Fault::new(path, "", format!("no readable file ({error})"), "a readable UTF-8 file")
}

/// Feed files in the order of their names. Hidden files are left out: Kubernetes keeps its own
/// copies of a mounted ConfigMap under names that start with `..`.
fn feed_paths(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let unreadable = |error| {
        Fault::new(folder, "", format!("no readable folder ({error})"), "a folder of feed files")
            .remedy("create it, or name another with `feeds` in the node file")
    };
    let mut paths = Vec::new();
    let active = folder.join(ACTIVE);
    let folders = [Some(folder), active.is_dir().then_some(active.as_path())];
    for folder in folders.into_iter().flatten() {
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let hidden = path.file_name().is_some_and(|it| it.to_string_lossy().starts_with('.'));
            let extension = path.extension().and_then(|extension| extension.to_str());
            if !hidden && matches!(extension, Some("yaml" | "yml" | "json")) && !path.is_dir() {
                paths.push(path);
            }
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LakeFormat, LakeTime, Storage};

    fn node() -> Node {
        let text = r#"{"kafka": {"bootstrap": "a:1"}, "lake": {"url": "lake"},
            "warehouse": {"url": "sqlite:w.db"}}"#;
        serde_json::from_str(text).unwrap()
    }

    fn folder(files: &[(&str, &str)]) -> Folder {
        let file = |(path, text): &(&str, &str)| (PathBuf::from(path), Ok((*text).to_owned()));
        Folder(files.iter().map(file).collect())
    }

    fn stream(name: &str) -> String {
        format!("{{feed: {name}, type: stream, topic: {name}}}")
    }

    /// (file, feed) of what runs, and (file, field) of what was refused.
    fn changed(files: &[(&str, &str)], running: &[FeedFile]) -> (Vec<String>, Vec<String>) {
        let (feeds, faults) = folder(files).change(&node(), running);
        let feeds = feeds.iter().map(|feed| format!("{} {}", feed.file.display(), feed.feed));
        let faults = faults.iter().map(|it| format!("{} {}", it.file.display(), it.field));
        (feeds.collect(), faults.collect())
    }

    #[test]
    fn a_fault_touches_no_feed_that_runs() {
        let (a, b, c) = (stream("a"), stream("b"), stream("c"));
        let running = folder(&[("a.yaml", &a), ("b.yaml", &b)]).check(&node()).unwrap();
        type Case<'c> = (&'c [(&'c str, &'c str)], &'c [&'c str], &'c [&'c str]);
        let cases: [Case<'_>; 7] = [
            (
                &[("a.yaml", &a), ("b.yaml", &b), ("c.yaml", &c)],
                &["a.yaml a", "b.yaml b", "c.yaml c"],
                &[],
            ),
            (&[("b.yaml", &b)], &["b.yaml b"], &[]),
            // A file that became unreadable; one that was cut.
            (&[("a.yaml", "{feed"), ("b.yaml", &b)], &["a.yaml a", "b.yaml b"], &["a.yaml "]),
            (
                &[("a.yaml", "feed: a\n"), ("b.yaml", &b)],
                &["a.yaml a", "b.yaml b"],
                &["a.yaml type", "a.yaml topic"],
            ),
            // A name that runs already, in a file before it and in a changed one.
            (
                &[("0.yaml", &a), ("a.yaml", &a), ("b.yaml", &b)],
                &["a.yaml a", "b.yaml b"],
                &["0.yaml feed"],
            ),
            (&[("a.yaml", &b), ("b.yaml", &b)], &["a.yaml a", "b.yaml b"], &["a.yaml feed"]),
            // Two that change places.
            (&[("a.yaml", &b), ("b.yaml", &a)], &["a.yaml b", "b.yaml a"], &[]),
        ];
        for (files, feeds, faults) in cases {
            let found = changed(files, &running);
            assert_eq!(
                (found.0.as_slice(), found.1.as_slice()),
                (strings(feeds).as_slice(), strings(faults).as_slice()),
                "{files:?}"
            );
        }
    }

    fn strings(of: &[&str]) -> Vec<String> {
        of.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_file_that_is_moved_is_the_same_feed() {
        let running = folder(&[("a.yaml", &stream("a"))]).check(&node()).unwrap();
        let (feeds, faults) = folder(&[("active/a.yaml", &stream("a"))]).change(&node(), &running);
        assert_eq!(faults, []);
        assert!(feeds[0].is_same_as(&running[0]) && feeds[0] != running[0]);
    }

    #[test]
    fn what_is_archived_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        for (path, name) in [("a.yaml", "a"), ("active/b.yaml", "b"), ("archived/c.yaml", "c")] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, stream(name)).unwrap();
        }
        let feeds = Folder::read(folder.path()).unwrap().check(&node()).unwrap();
        let names: Vec<&str> = feeds.iter().map(|feed| feed.feed.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    /// A ConfigMap's files are links through `..data`, which is put in place in one step.
    #[test]
    fn a_config_map_is_read_through_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", stream("a")), ("..2", stream("b"))] {
            std::fs::create_dir(path(version)).unwrap();
            std::fs::write(path(version).join("a.yaml"), text).unwrap();
        }
        std::os::unix::fs::symlink("..data/a.yaml", path("a.yaml")).unwrap();
        let swap = |version: &str| {
            std::os::unix::fs::symlink(version, path("..tmp")).unwrap();
            std::fs::rename(path("..tmp"), path("..data")).unwrap();
            Folder::read(folder.path()).unwrap()
        };
        let (first, second) = (swap("..1"), swap("..2"));
        assert_ne!(first, second);
        assert_eq!(first, swap("..1"));
        let running = first.check(&node()).unwrap();
        assert_eq!(second.change(&node(), &running).0[0].feed, "b");
    }

    const S4: &str = r#"{"feed_name": "transaction_flattened", "feed_type": "stream",
        "ksqldb_source": "transaction_flattened", "description": "one row for each",
        "partitioning": {"type": "date", "columns": ["year", "month", "day"]},
        "storage_mode": "append", "format": "parquet", "retention_days": 365, "enabled": true,
        "created_at": "2025-01-15T10:00:00"}"#;

    #[test]
    fn a_declaration_is_a_feed_as_it_stands() {
        let feeds = folder(&[("s4.json", S4)]).check(&node()).unwrap_or_else(|it| panic!("{it}"));
        let feed = &feeds[0];
        assert_eq!((feed.feed.as_str(), feed.retention_days), ("transaction_flattened", Some(365)));
        let names: Vec<&str> = feed.topic_names().collect();
        assert_eq!(names, ["transaction_flattened", "TRANSACTION_FLATTENED"]);
        assert!(feed.matches("TRANSACTION_FLATTENED") && !feed.matches("Transaction_flattened"));
        let lake = feed.lake.as_ref().unwrap();
        assert_eq!(lake.layout(), super::super::DEFAULT_LAYOUT);
        assert_eq!(lake.format, LakeFormat::Parquet);
        let timed = S4.replace(r#""day"]}"#, r#""day"], "time": "ingest"}"#);
        let timed =
            folder(&[("s4.json", &timed)]).check(&node()).unwrap_or_else(|it| panic!("{it}"));
        assert_eq!(timed[0].lake.as_ref().unwrap().time, Some(LakeTime::Ingest));
        // With blocks of our own, and without what may be left out.
        let own = r#"{"feed_name": "totals", "feed_type": "table", "enabled": false,
            "storage_mode": "append", "lake": {"linger": "1s", "layout": "{feed}/date={date}/x"},
            "warehouse": null, "key": {"format": "string", "columns": [{"name": "id", "type": "string"}]}}"#;
        let feeds = folder(&[("own.json", own)]).check(&node()).unwrap_or_else(|it| panic!("{it}"));
        assert_eq!(feeds[0].lake.as_ref().unwrap().storage, Storage::Append);
        // A table is a table of snapshots unless it says otherwise, Parquet files below a Delta log.
        let table = own.replace(r#""storage_mode": "append", "#, r#""format": "parquet", "#);
        let table = table.replace(r#", "layout": "{feed}/date={date}/x""#, "");
        let table =
            folder(&[("t.json", &table)]).check(&node()).unwrap_or_else(|it| panic!("{it}"));
        let lake = table[0].lake.as_ref().unwrap();
        assert_eq!((lake.storage, lake.format), (Storage::Overwrite, LakeFormat::Delta));
        assert!(lake.metadata && lake.layout.is_none());
        let feed = &feeds[0];
        assert!(!feed.enabled && feed.warehouse.is_none());
        assert_eq!(feed.lake.as_ref().unwrap().layout(), "{feed}/date={date}/x");
        assert_eq!(feed.topic_names().collect::<Vec<_>>(), ["totals", "TOTALS"]);
    }

    #[test]
    fn faults_of_a_declaration_are_told_in_its_own_names() {
        let with = |from: &str, to: &str| S4.replace(from, to);
        let cases = [
            (with(r#""feed_type": "stream""#, r#""feed_type": "tabel""#), "feed_type", "`table`?"),
            (
                with(r#"feed_name": "transaction_flattened""#, r#"feed_name": "Flat""#),
                "feed_name",
                "`flat`?",
            ),
            (
                with(r#"source": "transaction_flattened""#, r#"source": "a b""#),
                "ksqldb_source",
                "topic name",
            ),
            (
                with(r#"["year", "month", "day"]"#, r#"["year", "day"]"#),
                "partitioning.columns",
                "`{month}`",
            ),
            (with(r#""day"]"#, r#""dya"]"#), "partitioning.columns[2]", "`day`?"),
            (
                with(
                    r#""day"]}"#,
                    r#""day"], "time": "ingset"}, "columns": [{"name": "a", "type": "int"}]"#,
                ),
                "partitioning.time",
                "`ingest`?",
            ),
            (with(r#""retention_days""#, r#""retention""#), "retention", "`retention_days`?"),
            (with(r#""append""#, r#""overwrite""#), "storage_mode", "`append` for a stream"),
            (with(r#""type": "date""#, r#""type": "size""#), "partitioning.type", "`date`"),
            (with("stream", "table"), "key", "\"key\": {\n"),
            (
                with(
                    r#""enabled""#,
                    r#""time": "at", "columns": [{"name": "a", "type": "int"}], "enabled""#,
                ),
                "time",
                "not a column",
            ),
        ];
        for (text, field, said) in cases {
            let faults = folder(&[("s4.json", &text)]).check(&node()).unwrap_err().0;
            let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
            assert_eq!(fields, [field], "{text}");
            let message = faults[0].to_string();
            let (flat, said) = (message.replace("\n    ", "\n"), said.to_owned());
            assert!(flat.contains(&said), "{said:?} in {message}");
        }
        let twice = folder(&[("a.json", S4), ("b.json", S4)]).check(&node()).unwrap_err();
        assert_eq!(twice.0[0].field, "feed_name");
    }
}
