//! Modes and groups of feeds' folders on a local disk: only the folder of each feed, since who cannot pass
//! it reaches nothing below.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use uzers::{get_effective_uid, get_group_by_gid, get_group_by_name, get_user_by_uid};

use super::LakeStore;
use super::upkeep::Mode;
use crate::governance::{
    CLOSED, FeedFolder, FolderMode, ModeChange, OpenTo, Opening, WantedMode, mode_changes,
};
use crate::record::SinkError;

/// The permission bits of a mode.
const BITS: u32 = 0o777;

/// A folder beside what the rows say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FolderAccess {
    #[serde(flatten)]
    pub folder: FeedFolder,
    /// What it is to be.
    pub wanted: Access,
    /// What it was before anything was changed; none while there is no such folder.
    pub found: Option<Access>,
    /// Its owner's name.
    pub owner: Option<String>,
    /// Whether it differed, and so was changed, or would be.
    pub differs: bool,
    /// Which rows decide it.
    pub why: String,
    /// What of the rows is not so, and what could be done about it.
    pub notes: Vec<String>,
    /// Why it is not as wanted, after an attempt.
    pub failed: Option<String>,
}

/// Permission bits, and a group's name, where they say something of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    #[serde(serialize_with = "octal")]
    pub mode: u32,
    pub group: Option<String>,
}

fn octal<S: Serializer>(mode: &u32, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{mode:03o}"))
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let group = self.group.as_ref().map(|group| format!(" {group}")).unwrap_or_default();
        write!(f, "{:03o}{group}", self.mode)
    }
}

/// Makes the folder, if it is not there and modes are kept: with the closed one from its first moment. Those
/// above it are anybody's to pass.
pub(super) fn make(lake: &LakeStore, folder: &str) -> Result<(), SinkError> {
    let Some(path) = lake.local_folder(folder).filter(|_| lake.is_governed()) else {
        return Ok(());
    };
    let made = || -> std::io::Result<()> {
        let Some(above) = path.parent().filter(|_| !path.is_dir()) else { return Ok(()) };
        fs::create_dir_all(above)?;
        match fs::DirBuilder::new().mode(CLOSED).create(&path) {
            // Another node was faster.
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for folder in path.ancestors().skip(1).take(folder.split('/').count() + 1) {
            fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    made().map_err(|error| SinkError::passing(format!("making {}: {error}", path.display())))
}

/// Brings a folder to what the rows say of it, or says what that would be. None where the lake is a bucket.
/// Unless it `may_widen`, the folder is left as it is or made narrower.
pub fn settle(
    lake: &LakeStore,
    opening: &Opening,
    mode: Mode,
    may_widen: bool,
) -> Option<FolderAccess> {
    let path = lake.local_folder(&opening.folder.path)?;
    let mut notes = Vec::from_iter(opening.remedy.clone());
    let (wanted, group) = wanted(&opening.to, &mut notes);
    let mut access = FolderAccess {
        folder: opening.folder.clone(),
        wanted: Access { mode: wanted.bits, group },
        found: None,
        owner: None,
        differs: false,
        why: opening.why.clone(),
        notes,
        failed: None,
    };
    let stat = match fs::metadata(&path) {
        Ok(stat) => stat,
        Err(error) => {
            let gone = error.kind() == ErrorKind::NotFound;
            access.failed = (!gone).then(|| format!("{}: {error}", path.display()));
            return Some(access);
        }
    };
    let actual = FolderMode { bits: stat.mode() & BITS, gid: stat.gid() };
    access.found = Some(Access { mode: actual.bits, group: Some(group_name(actual.gid)) });
    access.owner = Some(owner_name(stat.uid()));
    let wanted = if may_widen { wanted } else { narrower(actual, wanted) };
    let changes = mode_changes(actual, wanted);
    access.differs = !changes.is_empty();
    if mode == Mode::Do {
        access.failed = apply(&path, &changes, &access);
    }
    if wanted.bits != CLOSED {
        access.notes.extend(shut_above(&path, wanted.gid));
        access.notes.extend(shut_below(&path, wanted.gid));
    }
    Some(access)
}

/// What both let in.
fn narrower(actual: FolderMode, wanted: WantedMode) -> WantedMode {
    let another = wanted.gid.is_some_and(|gid| gid != actual.gid);
    let kept = if another { !0o070 } else { !0 };
    WantedMode { bits: actual.bits & wanted.bits & kept, gid: None }
}

/// The bits and the group that say so; closed where the system has no such group.
fn wanted(to: &OpenTo, notes: &mut Vec<String>) -> (WantedMode, Option<String>) {
    match to {
        OpenTo::Everybody => (WantedMode { bits: 0o755, gid: None }, None),
        OpenTo::Nobody => (WantedMode { bits: CLOSED, gid: None }, None),
        OpenTo::Group(name) => match get_group_by_name(name) {
            Some(group) => (WantedMode { bits: 0o750, gid: Some(group.gid()) }, Some(name.clone())),
            None => {
                notes.push(format!(
                    "there is no Unix group {name}: make it (`groupadd {name}`), or name another under \
                     `governance.files.groups`"
                ));
                (WantedMode { bits: CLOSED, gid: None }, None)
            }
        },
    }
}

/// Answers why it did not work. The folder then is no wider than it was, and closed if it can be.
fn apply(path: &Path, changes: &[ModeChange], access: &FolderAccess) -> Option<String> {
    for change in changes {
        let done = match change {
            ModeChange::Bits(bits) => set_bits(path, *bits),
            ModeChange::Group(gid) => chown(path, None, Some(*gid)),
        };
        let Err(error) = done else { continue };
        let owner = access.owner.as_deref().unwrap_or_default();
        let (at, user) = (path.display(), owner_name(get_effective_uid()));
        return Some(match change {
            ModeChange::Bits(bits) => format!(
                "{at} cannot have the mode {bits:03o}: {error}. It belongs to {owner}, and this runs as \
                 {user}: `chown -R {user} {at}`"
            ),
            ModeChange::Group(gid) => {
                drop(set_bits(path, CLOSED));
                let group = group_name(*gid);
                format!(
                    "{at} cannot be given to group {group}, and is closed: {error}. Make {user} a member \
                     (`usermod -aG {group} {user}`) and start again"
                )
            }
        });
    }
    None
}

/// Leaves what is beside the bits, such as setgid, as it is.
fn set_bits(path: &Path, bits: u32) -> std::io::Result<()> {
    let beside = fs::metadata(path)?.mode() & 0o7000;
    fs::set_permissions(path, fs::Permissions::from_mode(beside | bits))
}

fn lets(stat: &fs::Metadata, gid: Option<u32>, bits: u32) -> bool {
    let mode = stat.mode();
    mode & bits == bits || (gid == Some(stat.gid()) && mode & (bits << 3) == bits << 3)
}

/// A folder above that stops those to whom this one is open.
fn shut_above(path: &Path, gid: Option<u32>) -> Option<String> {
    let shut = path.ancestors().skip(1).find(|folder| {
        let stat = fs::metadata(folder);
        stat.is_ok_and(|stat| !lets(&stat, gid, 0o001))
    })?;
    Some(format!("nobody gets there through {}: `chmod o+x {0}`", shut.display()))
}

/// What was written by a process that lets nobody else read its files is closed, however open the folder.
fn shut_below(path: &Path, gid: Option<u32>) -> Option<String> {
    let folders = fs::read_dir(path).ok()?.flatten().map(|entry| entry.path());
    let mut folders = folders.filter(|path| path.is_dir()).take(LOOKED_AT);
    let shut: PathBuf = folders.find(|folder| {
        let stat = fs::metadata(folder);
        stat.is_ok_and(|stat| !lets(&stat, gid, 0o005))
    })?;
    Some(format!(
        "{} was written under a closed umask: start the nodes with `umask 022`, and once say \
         `chmod -R o+rX {}/*`",
        shut.display(),
        path.display()
    ))
}

/// One process writes them all.
const LOOKED_AT: usize = 16;

fn group_name(gid: u32) -> String {
    let name = get_group_by_gid(gid).map(|group| group.name().to_string_lossy().into_owned());
    name.unwrap_or_else(|| gid.to_string())
}

fn owner_name(uid: u32) -> String {
    let name = get_user_by_uid(uid).map(|user| user.name().to_string_lossy().into_owned());
    name.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Lake;
    use crate::governance::Action;

    fn place() -> (tempfile::TempDir, LakeStore) {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let url = folder.path().join("lake").display().to_string();
        let lake = LakeStore::open(&Lake { url, s3: None, governed: true }).unwrap();
        (folder, lake)
    }

    fn opening(to: OpenTo) -> Opening {
        let (feed, path) = ("sales".to_owned(), "streams/sales".to_owned());
        let folder = FeedFolder { feed, action: Action::Read, path };
        Opening { folder, to, why: "a test".to_owned(), remedy: None }
    }

    fn mode(lake: &LakeStore) -> u32 {
        let path = lake.local_folder("streams/sales").unwrap();
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_folder_is_closed_and_those_above_are_not() {
        let (_folder, lake) = place();
        make(&lake, "streams/sales").unwrap();
        make(&lake, "streams/sales").unwrap();
        assert_eq!(mode(&lake), CLOSED);
        let above = fs::metadata(lake.local_folder("streams").unwrap()).unwrap().mode();
        assert_eq!(above & 0o001, 0o001, "{above:o}");
        // One that is open stays open.
        settle(&lake, &opening(OpenTo::Everybody), Mode::Do, true).unwrap();
        make(&lake, "streams/sales").unwrap();
        assert_eq!(mode(&lake), 0o755);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_table_is_closed_before_anything_is_in_it() {
        let (_folder, lake) = place();
        let feed = super::super::tests::feed();
        let table = super::super::open(&lake, feed.clone()).await.unwrap();
        assert!(table.progress().await.unwrap().is_empty());
        for folder in [format!("streams/{}", feed.name), format!("quarantine/{}", feed.name)] {
            let path = lake.local_folder(&folder).unwrap();
            assert!(path.join("_delta_log").is_dir(), "{folder}");
            let mode = fs::metadata(path).unwrap().mode();
            assert_eq!(mode & BITS, CLOSED, "{folder}: {mode:o}");
        }
    }

    #[test]
    fn modes_are_left_alone_where_nobody_asked() {
        let folder = tempfile::tempdir().unwrap();
        let lake = LakeStore::open_local(&folder.path().join("lake")).unwrap();
        make(&lake, "streams/sales").unwrap();
        assert!(!lake.local_folder("streams/sales").unwrap().exists());
    }

    #[test]
    fn what_differs_is_said_and_then_changed_once() {
        let (_folder, lake) = place();
        let wide = opening(OpenTo::Everybody);
        let absent = settle(&lake, &wide, Mode::Do, true).unwrap();
        assert_eq!((absent.found, absent.differs, absent.failed), (None, false, None));
        make(&lake, "streams/sales").unwrap();
        let would = settle(&lake, &wide, Mode::DryRun, true).unwrap();
        assert!(would.differs && mode(&lake) == CLOSED, "{would:?}");
        let done = settle(&lake, &wide, Mode::Do, true).unwrap();
        assert!(done.differs && done.failed.is_none() && done.notes.is_empty(), "{done:?}");
        assert_eq!(mode(&lake), 0o755);
        assert!(!settle(&lake, &wide, Mode::Do, true).unwrap().differs);
        // By hand, with a bit that is none of ours.
        let path = lake.local_folder("streams/sales").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2777)).unwrap();
        settle(&lake, &opening(OpenTo::Nobody), Mode::Do, true).unwrap();
        assert_eq!(mode(&lake), 0o2700);
        let json = serde_json::to_value(&done).unwrap();
        assert_eq!(
            (&json["wanted"]["mode"], &json["found"]["mode"]),
            (&"755".into(), &"700".into())
        );
        assert_eq!(json["feed"], "sales");
    }

    #[test]
    fn a_group_that_is_not_there_opens_nothing() {
        let (_folder, lake) = place();
        make(&lake, "streams/sales").unwrap();
        settle(&lake, &opening(OpenTo::Everybody), Mode::Do, true).unwrap();
        let to = OpenTo::Group("no-such-group-here".to_owned());
        let closed = settle(&lake, &opening(to), Mode::Do, true).unwrap();
        assert_eq!((mode(&lake), closed.wanted.mode), (CLOSED, CLOSED));
        assert!(closed.notes[0].contains("groupadd no-such-group-here"), "{:?}", closed.notes);
    }

    #[test]
    fn the_groups_own_folder_is_for_the_group() {
        let (_folder, lake) = place();
        make(&lake, "streams/sales").unwrap();
        // A process may give a folder to its own group, whoever runs it.
        let own = uzers::get_effective_groupname().expect("a group with a name");
        let own = own.to_string_lossy().into_owned();
        let done = settle(&lake, &opening(OpenTo::Group(own.clone())), Mode::Do, true).unwrap();
        assert_eq!((mode(&lake), done.failed), (0o750, None));
        assert_eq!(done.wanted.group, Some(own));
    }

    #[test]
    fn what_keeps_others_out_above_and_below_is_told() {
        let (folder, lake) = place();
        make(&lake, "streams/sales").unwrap();
        let log = lake.local_folder("streams/sales/_delta_log").unwrap();
        fs::DirBuilder::new().mode(0o700).create(&log).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let notes = settle(&lake, &opening(OpenTo::Everybody), Mode::Do, true).unwrap().notes;
        assert!(notes[0].contains("`chmod o+x"), "{notes:?}");
        assert!(notes[1].contains("closed umask"), "{notes:?}");
        // Who is closed out needs neither.
        assert_eq!(settle(&lake, &opening(OpenTo::Nobody), Mode::Do, true).unwrap().notes, [""; 0]);
    }

    #[test]
    fn rows_of_before_open_nothing() {
        let (_folder, lake) = place();
        make(&lake, "streams/sales").unwrap();
        let everybody = opening(OpenTo::Everybody);
        assert!(!settle(&lake, &everybody, Mode::Do, false).unwrap().differs);
        assert_eq!(mode(&lake), 0o700);
        settle(&lake, &everybody, Mode::Do, true).unwrap();
        assert_eq!(mode(&lake), 0o755);
        settle(&lake, &opening(OpenTo::Nobody), Mode::Do, false).unwrap();
        assert_eq!(mode(&lake), 0o700, "and they close");
    }
}
