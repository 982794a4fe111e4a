//! Feed files found, written, moved and switched. Nothing is put where nodes read it that they would
//! refuse.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::cli::{Exit, put};
use crate::config::{ACTIVE, ARCHIVED, Fault, Faults, FeedFile, Folder, Node};
use crate::telemetry::print::{answer, tell};

/// The folders of a node's feed files.
pub struct Files<'n> {
    node: &'n Node,
}

impl<'n> Files<'n> {
    pub fn of(node: &'n Node) -> Self {
        Self { node }
    }

    pub fn archived(&self) -> PathBuf {
        self.node.feeds.join(ARCHIVED)
    }

    /// Where a feed file goes so that nodes read it.
    pub fn active(&self) -> PathBuf {
        let active = self.node.feeds.join(ACTIVE);
        if active.is_dir() { active } else { self.node.feeds.clone() }
    }

    /// The file of a feed, with its text: by its name, else by the file's own. Faulty files too.
    pub fn find(&self, folder: &Path, name: &str) -> Result<(PathBuf, String), Exit> {
        let files = Folder::read(folder).map_err(faulty)?;
        let (named, _) = files.change(self.node, &[]);
        let by_name = named.iter().find(|feed| feed.feed == name).map(|feed| feed.file.as_path());
        let by_file = || files.paths().find(|path| path.file_stem().is_some_and(|it| it == name));
        let Some(path) = by_name.or_else(by_file) else {
            let known: Vec<&str> = named.iter().map(|feed| feed.feed.as_str()).collect();
            tell!(
                "error: no feed `{name}` in {}; there are: {}",
                folder.display(),
                known.join(", ")
            );
            return Err(Exit::UsedWrongly);
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(path, &error))?;
        Ok((path.to_owned(), text))
    }

    /// Checks a file beside all others; `instead` is one that it takes the place of.
    fn check(&self, path: &Path, text: &str, instead: Option<&Path>) -> Result<FeedFile, Exit> {
        let mut folder = Folder::read(&self.node.feeds).map_err(faulty)?;
        if let Some(instead) = instead {
            folder = folder.without(instead);
        }
        // The others are right; it is the new one that must fit.
        let (running, _) = folder.clone().without(path).change(self.node, &[]);
        let (feeds, faults) = folder.with(path, text.to_owned()).change(self.node, &running);
        let faults: Vec<Fault> = faults.into_iter().filter(|it| *it.file == *path).collect();
        match feeds.into_iter().find(|feed| feed.file == path) {
            Some(feed) if faults.is_empty() => Ok(feed),
            _ => {
                tell!("{}", Faults(faults));
                Err(Exit::UsedWrongly)
            }
        }
    }

    /// Writes a new feed file; where the folder is read-only, prints it.
    pub fn add(&self, name: &str, text: &str) -> Exit {
        let path = self.active().join(format!("{name}.yaml"));
        if let Err(exit) = self.check(&path, text, None) {
            return exit;
        }
        let endings = ["yaml", "yml", "json"];
        for folder in [self.node.feeds.clone(), self.active(), self.archived()] {
            let mut taken = endings.iter().map(|ending| folder.join(format!("{name}.{ending}")));
            if let Some(taken) = taken.find(|path| path.exists()) {
                tell!("error: {} is there already", taken.display());
                if folder == self.archived() {
                    tell!("    `tidegate feeds restore {name}` makes it active again");
                }
                return Exit::UsedWrongly;
            }
        }
        match put(&path, text) {
            Ok(()) => {
                answer!("{}: written", path.display());
                Exit::Good
            }
            Err(error) if is_read_only(&error) => {
                answer!("{}", text.trim_end());
                tell!("{}: not written ({error}); put the text above there", path.display());
                Exit::UsedWrongly
            }
            Err(error) => failed(&path, &error),
        }
    }

    /// Moves a feed's file out of the nodes' sight.
    pub fn archive(&self, name: &str) -> Exit {
        let (path, _) = match self.find(&self.node.feeds, name) {
            Ok(found) => found,
            Err(exit) => return exit,
        };
        if let Err(error) = std::fs::create_dir_all(self.archived()) {
            return failed(&self.archived(), &error);
        }
        rename(&path, &self.archived())
    }

    /// Moves a feed's file back, if nodes would take it.
    pub fn restore(&self, name: &str) -> Exit {
        let restored = self.find(&self.archived(), name).and_then(|(path, text)| {
            let to = self.active().join(path.file_name().unwrap_or_default());
            self.check(&to, &text, None).map(|_| path)
        });
        match restored {
            Ok(path) => rename(&path, &self.active()),
            Err(exit) => exit,
        }
    }

    /// Writes `enabled` into a feed's file and leaves the rest of its text as it is.
    pub fn switch(&self, name: &str, on: bool) -> Exit {
        let (path, text) = match self.find(&self.node.feeds, name) {
            Ok(found) => found,
            Err(exit) => return exit,
        };
        let before = match self.check(&path, &text, Some(&path)) {
            Ok(feed) => feed,
            Err(exit) => return exit,
        };
        let state = if on { "enabled" } else { "disabled" };
        if before.enabled == on {
            answer!("{}: {state} already", path.display());
            return Exit::Good;
        }
        let switched = switched(&text, on);
        let after = self.check(&path, &switched, Some(&path));
        if !after.is_ok_and(|after| after == FeedFile { enabled: on, ..before }) {
            tell!("error: {}: write `enabled: {on}` by hand", path.display());
            return Exit::UsedWrongly;
        }
        match put(&path, &switched) {
            Ok(()) => {
                answer!("{}: {state}", path.display());
                Exit::Good
            }
            Err(error) if is_read_only(&error) => {
                answer!("{}", switched.trim_end());
                tell!("{}: not written ({error}); put the text above there", path.display());
                Exit::UsedWrongly
            }
            Err(error) => failed(&path, &error),
        }
    }
}

/// The text with `enabled` as it is to be, wherever it is written. Who calls sees whether it fits.
fn switched(text: &str, on: bool) -> String {
    let is_object = text.trim_start().starts_with('{');
    let pattern =
        if is_object { r#"("?enabled"?\s*:\s*)\w+"# } else { r"(?m)^(enabled\s*:\s*)\w+" };
    let there = Regex::new(pattern).ok().filter(|pattern| pattern.is_match(text));
    let json = is_object && serde_json::from_str::<serde_json::Value>(text).is_ok();
    match (there, is_object) {
        (Some(pattern), _) => pattern.replace(text, format!("${{1}}{on}")).into_owned(),
        (None, true) if json => text.replacen('{', &format!("{{\n  \"enabled\": {on},"), 1),
        (None, true) => text.replacen('{', &format!("{{enabled: {on}, "), 1),
        (None, false) => format!("{}\nenabled: {on}\n", text.trim_end()),
    }
}

fn rename(path: &Path, folder: &Path) -> Exit {
    let to = folder.join(path.file_name().unwrap_or_default());
    if to.exists() {
        tell!("error: {} is there already", to.display());
        return Exit::UsedWrongly;
    }
    match std::fs::rename(path, &to) {
        Ok(()) => {
            answer!("{}: now {}", path.display(), to.display());
            Exit::Good
        }
        Err(error) => failed(path, &error),
    }
}

fn is_read_only(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

fn failed(path: &Path, error: &std::io::Error) -> Exit {
    tell!("error: {}: {error}", path.display());
    if is_read_only(error) { Exit::UsedWrongly } else { Exit::Failed }
}

fn faulty(fault: Fault) -> Exit {
    tell!("{}", Faults(vec![fault]));
    Exit::UsedWrongly
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_leaves_the_text_as_it_is() {
        for (text, expected) in [
            ("feed: a # mine\ntype: stream", "feed: a # mine\ntype: stream\nenabled: false\n"),
            ("enabled:  true  # now\nfeed: a\n", "enabled:  false  # now\nfeed: a\n"),
            ("{feed: a}\n", "{enabled: false, feed: a}\n"),
            ("{feed: a, enabled: yes}\n", "{feed: a, enabled: false}\n"),
            ("{\n  \"feed\": \"a\"}", "{\n  \"enabled\": false,\n  \"feed\": \"a\"}"),
            ("{\"feed\": \"a\", \"enabled\": true}", "{\"feed\": \"a\", \"enabled\": false}"),
        ] {
            assert_eq!(switched(text, false), expected);
        }
    }
}
