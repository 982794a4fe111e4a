//! This machine: room on its disks, and memory.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::config::Node;
use crate::lake::LakeStore;

/// Less room than this is soon none.
const ROOM: u64 = 1 << 30;

pub fn examine(node: &Node) -> Vec<Finding> {
    let mut findings = vec![folder("volume", &node.volume)];
    let lake = node.lake.as_ref().and_then(|config| LakeStore::open(config).ok());
    if let Some(folder_of_lake) = lake.and_then(|store| store.local_folder("")) {
        findings.push(folder("lake's folder", &folder_of_lake));
    }
    findings.extend(memory(node.memory.budget.bytes() as u64, memory_limit()));
    findings
}

/// Whether something can be written there, and how much.
fn folder(about: &str, path: &Path) -> Finding {
    let shown = path.display();
    let there = path.ancestors().find(|it| it.exists()).map(Path::to_owned);
    let probe = path.join(format!(".doctor-{}", std::process::id()));
    let written = std::fs::create_dir_all(path)
        .and_then(|()| std::fs::write(&probe, "probe"))
        .and_then(|()| std::fs::remove_file(&probe));
    if let Err(error) = written {
        let remedy = "let the node's user write there, or name another folder";
        return Finding::bad(about, format!("{shown} cannot be written to: {error}"), remedy);
    }
    match free(&there.unwrap_or_else(|| PathBuf::from("/"))) {
        Some(free) if free < ROOM => Finding::doubtful(
            about,
            format!("{shown} has {} MiB of room", free >> 20),
            "make room: what cannot be written stops the node's sinks",
        ),
        Some(free) => Finding::good(about, format!("{shown} has {} GiB of room", free >> 30)),
        None => Finding::good(about, format!("{shown} can be written to")),
    }
}

/// Bytes that this user may still write.
fn free(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: the path ends with a zero, and the structure is plain numbers that the call fills.
    let found = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut found) == 0).then_some(found)
    }?;
    Some(found.f_bavail as u64 * found.f_frsize as u64)
}

/// What this process's group may have; none where nothing limits it.
fn memory_limit() -> Option<u64> {
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?;
    limit.trim().parse().ok()
}

/// The budget is what lies between Kafka and the sinks; beside it there are encoders, files that are joined, and
/// the program.
fn memory(budget: u64, limit: Option<u64>) -> Option<Finding> {
    let limit = limit?;
    let wanted = budget / 2 * 3 + (256 << 20);
    let says = format!("the budget is {} MiB, the limit {} MiB", budget >> 20, limit >> 20);
    Some(match wanted > limit {
        true => {
            let remedy = format!(
                "raise the limit to {} MiB, or lower `memory.budget`: a node takes half as much again",
                wanted >> 20
            );
            Finding::doubtful("memory", says, &remedy)
        }
        false => Finding::good("memory", says),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_budget_needs_more_memory_than_itself() {
        let state = |budget: u64, limit| memory(budget << 20, limit).map(|it| it.state);
        assert_eq!(state(512, None), None);
        assert_eq!(state(512, Some(1024 << 20)), Some(State::Good));
        assert_eq!(state(512, Some(1023 << 20)), Some(State::Doubtful));
    }

    #[test]
    fn a_folder_is_made_and_left_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let found = folder("volume", &path);
        assert_ne!(found.state, State::Bad, "{found:?}");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        std::fs::write(root.path().join("file"), "").unwrap();
        let found = folder("volume", &root.path().join("file"));
        assert_eq!(found.state, State::Bad, "{found:?}");
    }
}
