//! Two steps to a file's end: it is marked when nothing refers to it, and goes when it has been marked for
//! long enough and nothing refers to it still.

use std::collections::{BTreeMap, BTreeSet};

/// Files that were seen unreferenced, and since when: milliseconds since the epoch.
pub type Marked = BTreeMap<String, i64>;

/// A file in a table's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub path: String,
    pub bytes: u64,
    /// When it was written: milliseconds since the epoch.
    pub written_ms: i64,
    /// Its name is one that we give.
    pub ours: bool,
    /// The table refers to it.
    pub live: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Indices of files that may be deleted now.
    pub due: Vec<usize>,
    /// What is marked from now on, what is due among it: that is forgotten when it is gone.
    pub marked: Marked,
    /// Indices of files that are somebody else's.
    pub foreign: Vec<usize>,
}

/// What is due after `grace_ms`. A file younger than that is never due, whatever was marked before under its
/// name; a mark from the future begins anew.
pub fn sweep(seen: &[Seen], marked: &Marked, grace_ms: i64, now_ms: i64) -> Sweep {
    let mut sweep = Sweep::default();
    let mut paths = BTreeSet::new();
    for (index, file) in seen.iter().enumerate() {
        if file.live || !paths.insert(&file.path) {
            continue;
        }
        if !file.ours {
            sweep.foreign.push(index);
            continue;
        }
        let since = marked.get(&file.path).copied().filter(|since| *since <= now_ms);
        let since = since.unwrap_or(now_ms);
        if since.max(file.written_ms).saturating_add(grace_ms) <= now_ms && since < now_ms {
            sweep.due.push(index);
        }
        sweep.marked.insert(file.path.clone(), since);
    }
    sweep
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, written_ms: i64) -> Seen {
        Seen { path: path.to_owned(), bytes: 1, written_ms, ours: true, live: false }
    }

    fn marked(of: &[(&str, i64)]) -> Marked {
        of.iter().map(|(path, since)| ((*path).to_owned(), *since)).collect()
    }

    #[test]
    fn a_file_is_marked_first_and_goes_after_its_time() {
        let files = [seen("a", 0)];
        let first = sweep(&files, &Marked::new(), 10, 100);
        assert_eq!((first.due.len(), first.marked.clone()), (0, marked(&[("a", 100)])));
        assert!(sweep(&files, &first.marked, 10, 109).due.is_empty());
        assert_eq!(sweep(&files, &first.marked, 10, 110).due, [0]);
        // Without any time to wait there are two steps all the same.
        assert!(sweep(&files, &Marked::new(), 0, 100).due.is_empty());
    }

    #[test]
    fn what_is_live_foreign_or_young_stays() {
        let files = [
            Seen { live: true, ..seen("a", 0) },
            Seen { ours: false, ..seen("b", 0) },
            seen("c", 95),
        ];
        let marks = marked(&[("a", 0), ("b", 0), ("c", 0), ("gone", 0)]);
        let found = sweep(&files, &marks, 10, 100);
        assert_eq!(found, Sweep { due: vec![], marked: marked(&[("c", 0)]), foreign: vec![1] });
    }

    #[test]
    fn a_file_that_came_back_begins_anew() {
        let files = [Seen { live: true, ..seen("a", 0) }];
        let after = sweep(&files, &marked(&[("a", 1)]), 10, 100);
        let again = sweep(&[seen("a", 0)], &after.marked, 10, 101);
        assert!(again.due.is_empty());
        assert_eq!(again.marked, marked(&[("a", 101)]));
        // So does a mark that a clock ahead of ours made.
        assert_eq!(sweep(&[seen("a", 0)], &marked(&[("a", 500)]), 10, 101), again);
    }
}
