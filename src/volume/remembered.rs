//! The last good permission rows, for a node that starts while the database is away.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::sealed::{Kind, open, seal};
use crate::config::Sources;
use crate::governance::{Row, Token};

const FILE: &str = "permissions";
const KIND: Kind = Kind { letter: b'p', version: 2 };

/// All that decisions are made from, and when it was read from the database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// Milliseconds since the epoch.
    pub as_of_ms: i64,
    /// Address of the database whose rows they are: a volume may come to another installation.
    pub database: String,
    /// How existing tables were read.
    pub sources: Sources,
    pub rows: Vec<Row>,
    pub tokens: Vec<Token>,
    pub salt: Vec<u8>,
}

/// Writes it beside what is there, and then in its place.
pub fn remember(volume: &Path, remembered: &Remembered) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", volume.join(FILE).display());
    let sealed = seal(KIND, remembered)?;
    // What cannot be read back would be missed when it is needed.
    if open::<Remembered>(KIND, &sealed).is_err() {
        return Err("the permission rows do not read back as they were written".to_owned());
    }
    let fresh = volume.join(format!("{FILE}.new"));
    prepare(volume)?;
    let mut file = private(&fresh).map_err(said)?;
    file.write_all(&sealed).and_then(|()| file.sync_all()).map_err(said)?;
    fs::rename(&fresh, volume.join(FILE)).map_err(said)?;
    fs::File::open(volume).and_then(|folder| folder.sync_all()).map_err(said)
}

/// What was remembered last; none where there is nothing, or nothing whole.
pub fn recall(volume: &Path) -> Result<Option<Remembered>, String> {
    let path = volume.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => Ok(open(KIND, &bytes).ok().map(|(remembered, _)| remembered)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Makes the folder, for its owner alone: it holds the salt, and who may see what. One that is there has
/// rights of its own; the files in it are their owner's alone all the same.
pub(super) fn prepare(folder: &Path) -> Result<(), String> {
    use std::os::unix::fs::DirBuilderExt;
    let said = |error: std::io::Error| format!("{}: {error}", folder.display());
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(said)?;
    // Its name must outlive a crash as its files do.
    let above = folder.ancestors().skip(1).filter(|it| !it.as_os_str().is_empty()).take(2);
    for folder in above {
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(said)?;
    }
    Ok(())
}

/// An empty file for its owner alone.
pub(super) fn private(path: &Path) -> std::io::Result<fs::File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // One that was there has a mode of its own.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The same where none is there.
pub(super) fn fresh(path: &Path) -> std::io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::governance::{Action, Days, Effect, Mask, Principal, RowId, Target};

    fn remembered() -> Remembered {
        let row = Row {
            id: RowId::Source("old".to_owned(), "3".to_owned()),
            grantee: "group:a b".parse().unwrap(),
            feed: "sales*".parse().unwrap(),
            action: Action::Read,
            effect: Effect::Deny,
            target: Target {
                columns: Some(["a".to_owned()].into()),
                masks: [("a".to_owned(), Mask::Hash)].into(),
                predicate: Some("a IN (1, -2.5) OR NOT b IS NULL".parse().unwrap()),
                days: Days { from: "2026-01-31".parse().ok(), to: None },
            },
            expires_at_ms: Some(-1),
            granted_by: "user:é".to_owned(),
            reason: String::new(),
        };
        let token = Token {
            id: "x".to_owned(),
            hash: vec![1, 2, 3],
            principal: Principal::user("ada"),
            created_by: "y".to_owned(),
            expires_at_ms: None,
            revoked: true,
        };
        let own = Row { id: RowId::Own(1), target: Target::default(), ..row.clone() };
        let database = "postgres://x".to_owned();
        let (rows, tokens, salt) = (vec![row, own], vec![token], vec![0, 255]);
        let source = "{table: t, id: [a], principal: {column: b, names: {x: '*'}}, feed: {always: ['f*']}, \
                      action: {column: c, names: {y: [read]}}, expires_at: d}";
        let sources = [("old".to_owned(), serde_saphyr::from_str(source).unwrap())].into();
        Remembered { as_of_ms: 1, database, sources, rows, tokens, salt }
    }

    #[test]
    fn what_is_remembered_is_recalled() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("a/b");
        assert_eq!(recall(&volume), Ok(None));
        let first = remembered();
        remember(&volume, &first).unwrap();
        assert_eq!(recall(&volume), Ok(Some(first.clone())));
        let second = Remembered { as_of_ms: 2, rows: Vec::new(), ..first };
        remember(&volume, &second).unwrap();
        assert_eq!(recall(&volume), Ok(Some(second)));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&volume), mode(&volume.join(FILE))), (0o700, 0o600));
        // What a crash left there with another mode is not written to as it is.
        let left = volume.join(format!("{FILE}.new"));
        fs::write(&left, "left").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o644)).unwrap();
        remember(&volume, &recall(&volume).unwrap().unwrap()).unwrap();
        assert_eq!(mode(&volume.join(FILE)), 0o600);
        fs::write(volume.join(FILE), b"half").unwrap();
        assert_eq!(recall(&volume), Ok(None));
    }
}
