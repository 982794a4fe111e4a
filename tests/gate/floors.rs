//! The floor rule, read from the sources: a room imports only from floors below its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Rooms by floor, from the ground up; `lib.rs` says the same in words.
const FLOORS: [&[&str]; 7] = [
    &["record", "config"],
    &["decode", "avro", "json", "flow", "layout", "generate", "governance", "retention", "status"],
    &["source", "registry", "oidc", "http", "lake", "warehouse", "volume", "publish", "telemetry"],
    &["catalog", "grants", "reads", "beats"],
    &["rights", "verify"],
    &["actors", "replay"],
    &["api", "app", "demo", "doctor", "load", "report", "cli"],
];

/// Same floor, and allowed all the same: (from, to).
const ALLOWED: [(&str, &str); 14] = [
    ("config", "record"),
    // Its tests read back what they decoded.
    ("decode", "json"),
    // A format to be decoded, large enough for a room.
    ("decode", "avro"),
    // A hash is of the text that both spell.
    ("governance", "json"),
    ("publish", "source"),
    // Their clients are opened alike.
    ("registry", "http"),
    ("oidc", "http"),
    ("app", "api"),
    ("cli", "app"),
    ("demo", "app"),
    ("cli", "demo"),
    ("cli", "doctor"),
    ("cli", "load"),
    ("cli", "report"),
];

/// What the two lowest floors must not know of.
const WORLD: [&str; 3] = ["actix", "tokio", "rdkafka"];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn may_import(from: &str, to: &str) -> bool {
    let (Some(of), Some(below)) = (floor(from), floor(to)) else { return false };
    from == to
        || below < of
        || (below == of && (to == "telemetry" || ALLOWED.contains(&(from, to))))
}

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                let below = path.strip_prefix(&root).expect("below src").to_owned();
                sources.push((below, code_of(&text)));
            }
        }
    }
    sources.sort();
    sources
}

/// Without comments, which may name what they like.
fn code_of(text: &str) -> String {
    let code = text.lines().map(|line| match line.split_once("//") {
        // `://` stands in addresses.
        Some((code, _)) if !code.ends_with(':') => code,
        _ => line,
    });
    code.collect::<Vec<_>>().join("\n")
}

fn room_of(path: &Path) -> &str {
    let first = path.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The rooms that `code` names after `crate::`, in `use` lines, braces and paths alike.
fn imports(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let word = code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        if word {
            continue;
        }
        let rest = &code[at + found.len()..];
        match rest.strip_prefix('{') {
            Some(list) => rooms.extend(first_names(list)),
            None => rooms.extend(name_at(rest)),
        }
    }
    rooms
}

/// The first names of a list in braces: of `a::{b, c}, d}` they are `a` and `d`.
fn first_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.extend(name_at(list[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn name_at(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn imports_go_down_only() {
    let mut faults = Vec::new();
    let mut seen = 0;
    for (path, code) in sources() {
        let room = room_of(&path);
        if ["lib", "main"].contains(&room) {
            continue;
        }
        assert!(floor(room).is_some(), "src/{} is on no floor: name its room here", path.display());
        for to in imports(&code) {
            seen += 1;
            if !may_import(room, &to) {
                faults.push(format!("src/{}: `crate::{to}` from `{room}`", path.display()));
            }
        }
    }
    assert!(seen > 100, "only {seen} imports found: they are no longer read rightly");
    assert!(faults.is_empty(), "imports to a floor that is not below:\n{}", faults.join("\n"));
}

#[test]
fn the_two_lowest_floors_know_nothing_of_the_world() {
    let mut faults = Vec::new();
    for (path, code) in sources() {
        if floor(room_of(&path)).is_none_or(|floor| floor > 1) {
            continue;
        }
        for name in WORLD {
            for (at, _) in code.match_indices(&format!("{name}::")) {
                let line = code[..at].lines().count();
                faults.push(format!("src/{}:{line} names {name}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The rule itself, and the reading of imports, on lines that break it.
#[test]
fn an_upward_import_is_found() {
    assert!(may_import("actors", "lake") && may_import("lake", "telemetry"));
    assert!(may_import("config", "record") && !may_import("record", "config"));
    assert!(!may_import("lake", "actors") && !may_import("lake", "warehouse"));
    assert!(!may_import("decode", "flow") && !may_import("flow", "nowhere"));
    let code =
        "use crate::{lake::{self, Table}, record::Part};\nlet x = crate::flow::f(mycrate::y);";
    let rooms: Vec<String> = imports(code).into_iter().collect();
    assert_eq!(rooms, ["flow", "lake", "record"]);
    assert_eq!(imports("pub(crate) fn f() {}").len(), 0);
    assert!(
        imports(&code_of("// crate::actors is above\nuse crate::config::Feed;")).contains("config")
    );
    assert!(!imports(&code_of("// crate::actors is above")).contains("actors"));
}
