//! The demo's folder: whose it is, and what lies in it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{DemoError, Options};
use crate::generate::Topic;

const MARKER: &str = ".tidegate-demo";
const NODE: &str = "tidegate.yaml";
const FEEDS: &str = "feeds";
const LAKE: &str = "lake";
const WAREHOUSE: &str = "warehouse.db";

pub fn lake(folder: &Path) -> PathBuf {
    folder.join(LAKE)
}

pub fn warehouse(folder: &Path) -> PathBuf {
    folder.join(WAREHOUSE)
}

pub fn node(folder: &Path) -> PathBuf {
    folder.join(NODE)
}

/// Takes away what an earlier demo left. A folder without our marker is refused unless it is empty;
/// what we did not put there stays.
pub fn clear(folder: &Path) -> Result<(), DemoError> {
    let at = folder.display();
    let failed = |error: std::io::Error| DemoError::failed(format!("{at}: {error}"));
    let mut entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(DemoError::Refused(format!("{at} is not a folder; choose another --dir")));
        }
        Err(error) => return Err(failed(error)),
    };
    if !folder.join(MARKER).is_file() {
        return match entries.next() {
            None => Ok(()),
            Some(_) => Err(DemoError::Refused(format!(
                "{at} is not empty and no earlier demo made it (it has no {MARKER}): nothing was \
                 touched; choose another --dir"
            ))),
        };
    }
    let names = [NODE, FEEDS, LAKE, WAREHOUSE].into_iter().map(str::to_owned);
    let beside = ["-wal", "-shm", "-journal"].map(|suffix| format!("{WAREHOUSE}{suffix}"));
    for name in names.chain(beside) {
        let path = folder.join(name);
        let removed = match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Writes the node file and the feed files. Answers the node file's path.
pub fn furnish(folder: &Path, broker: &str, options: &Options) -> Result<PathBuf, DemoError> {
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text)
            .map_err(|error| DemoError::failed(format!("{}: {error}", path.display())))
    };
    std::fs::create_dir_all(folder.join(FEEDS))
        .map_err(|error| DemoError::failed(format!("{}: {error}", folder.display())))?;
    // The marker first: whatever happens next, the folder is known as ours.
    write(
        &folder.join(MARKER),
        "`tidegate demo` made this folder and may replace what it put here.\n",
    )?;
    for topic in Topic::DEMO {
        let text = format!("{}{LAKE_SIDE}", topic.feed());
        write(&folder.join(FEEDS).join(format!("{}.yaml", topic.name())), &text)?;
    }
    let node = node(folder);
    write(&node, &node_file(broker, options))?;
    Ok(node)
}

/// A demo is short: its lake commits sooner than a node in service should.
const LAKE_SIDE: &str = "lake:\n  linger: 1s\n";

fn node_file(broker: &str, options: &Options) -> String {
    format!(
        "\
# The node of `tidegate demo --messages {messages} --seed {seed} --bad {bad}`.
kafka:
  # The demo's own broker, which ended with it. To use yours, copy this file and the feeds to a
  # folder of their own: the lake and the warehouse here hold the progress in the demo's topics.
  bootstrap: {broker}
  group: tidegate-demo
  protocol: {PROTOCOL}
  settings:
    # That broker does not wake a waiting fetch when records come in.
    fetch.wait.max.ms: 20
feeds: {FEEDS}
lake:
  url: {LAKE}
warehouse:
  url: sqlite:{WAREHOUSE}
",
        messages = options.messages,
        seed = options.seed,
        bad = options.bad,
    )
}

/// The faster of the two on that broker.
const PROTOCOL: &str = "classic";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load_feeds, load_node};

    fn options(folder: &Path) -> Options {
        Options { folder: folder.to_owned(), messages: 10, seed: 1, bad: 0.005 }
    }

    #[test]
    fn what_is_written_is_a_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = furnish(folder.path(), "127.0.0.1:9092", &options(folder.path())).unwrap();
        let node = load_node(&file).unwrap_or_else(|faults| panic!("{faults}"));
        let feeds = load_feeds(&node.feeds, &node).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(feeds.len(), Topic::DEMO.len());
        let linger = crate::config::Duration::from_secs(1);
        assert!(feeds.iter().all(|feed| feed.lake.as_ref().unwrap().linger == linger));
        assert_eq!(node.lake.unwrap().url, lake(folder.path()).to_string_lossy());
    }

    #[test]
    fn only_what_an_earlier_demo_left_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo");
        clear(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        clear(&path).unwrap();
        furnish(&path, "127.0.0.1:9092", &options(&path)).unwrap();
        std::fs::create_dir_all(lake(&path).join("streams")).unwrap();
        std::fs::write(warehouse(&path), "x").unwrap();
        std::fs::write(path.join("notes.txt"), "mine").unwrap();
        clear(&path).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [MARKER, "notes.txt"]);
    }

    #[test]
    fn a_folder_without_the_marker_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NODE), "mine").unwrap();
        let error = clear(folder.path()).unwrap_err();
        assert!(matches!(error, DemoError::Refused(_)), "{error}");
        assert_eq!(std::fs::read_to_string(folder.path().join(NODE)).unwrap(), "mine");
        let file = folder.path().join(NODE);
        assert!(matches!(clear(&file).unwrap_err(), DemoError::Refused(_)));
    }
}
