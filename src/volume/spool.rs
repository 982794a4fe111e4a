//! Rows of the audit on their way to the database. What is in here is synced: it is not lost with the node,
//! and sent until the database has it. Bounded: who fills it is told so, and refuses what would go
//! unrecorded.
//!
//! Files are named by numbers and only ever appended to. One is taken away when all in it has arrived.

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::remembered::{fresh, prepare, private};
use super::sealed::{Broken, Kind, open, seal};
use crate::governance::AuditRow;

const ENDING: &str = "audit";
const KIND: Kind = Kind { letter: b'a', version: 1 };
/// A file gets no longer than about this.
const FILE_BYTES: u64 = 4 << 20;

/// Why a row could not be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpoolFull {
    #[error("the audit's spool is full ({bytes} bytes wait for the database)")]
    Full { bytes: u64 },
    #[error("the audit's spool cannot be written: {0}")]
    Failing(String),
}

pub struct Spool {
    folder: PathBuf,
    most: u64,
    /// In their order; the last is the one that is written to.
    files: VecDeque<Segment>,
    writing: Option<fs::File>,
    next: u64,
    /// Held as long as the spool is open: two nodes on one volume would lose each other's rows.
    _lock: fs::File,
}

#[derive(Debug, Clone)]
struct Segment {
    path: PathBuf,
    bytes: u64,
}

/// The rows of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Oldest {
    pub path: PathBuf,
    pub rows: Vec<AuditRow>,
    /// Something in it is not what was written, or is of another release; what stands behind it is not read.
    pub spoiled: bool,
}

impl Spool {
    /// Opens the spool in a folder of the volume, with what a former node of it left there.
    pub fn open(volume: &Path, most: u64) -> Result<Self, SpoolFull> {
        let folder = volume.join("audit");
        prepare(&folder).map_err(SpoolFull::Failing)?;
        let lock = private(&folder.join("lock")).map_err(|error| failing(&folder, &error))?;
        if lock.try_lock().is_err() {
            let taken = format!(
                "{} is another node's: give each node a volume of its own",
                folder.display()
            );
            return Err(SpoolFull::Failing(taken));
        }
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|error| failing(&folder, &error))? {
            let path = entry.map_err(|error| failing(&folder, &error))?.path();
            let number = path.file_stem().and_then(|it| it.to_str()?.parse::<u64>().ok());
            let ours = path.extension().is_some_and(|ending| ending == ENDING);
            if let Some(number) = number.filter(|_| ours) {
                let bytes = fs::metadata(&path).map_err(|error| failing(&path, &error))?.len();
                found.push((number, Segment { path, bytes }));
            }
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        let next = found.last().map_or(0, |(number, _)| number + 1);
        let files = found.into_iter().map(|(_, segment)| segment).collect();
        Ok(Self { folder, most, files, writing: None, next, _lock: lock })
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|segment| segment.bytes).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Keeps rows, all or none. When it answers, they are on the disk.
    pub fn keep(&mut self, rows: &[AuditRow]) -> Result<(), SpoolFull> {
        let mut sealed = Vec::new();
        for row in rows {
            sealed.extend(seal(KIND, row).map_err(SpoolFull::Failing)?);
        }
        let bytes = self.bytes();
        if bytes + sealed.len() as u64 > self.most {
            return Err(SpoolFull::Full { bytes });
        }
        self.append(&sealed)
    }

    fn append(&mut self, sealed: &[u8]) -> Result<(), SpoolFull> {
        let long = self.files.back().is_none_or(|segment| segment.bytes >= FILE_BYTES);
        if self.writing.is_none() || long {
            self.begin_file()?;
        }
        let (Some(file), Some(segment)) = (&mut self.writing, self.files.back_mut()) else {
            return Err(SpoolFull::Failing("no file to write to".to_owned()));
        };
        if let Err(error) = file.write_all(sealed).and_then(|()| file.sync_data()) {
            // What was refused is not to be sent later. If that fails, too, the file ends here: rows that are
            // sent although their reads were refused tell of more than happened, not of less.
            let undone = file.set_len(segment.bytes).and_then(|()| file.seek(SeekFrom::End(0)));
            if undone.is_err() {
                self.writing = None;
            }
            return Err(failing(&segment.path, &error));
        }
        segment.bytes += sealed.len() as u64;
        Ok(())
    }

    fn begin_file(&mut self) -> Result<(), SpoolFull> {
        let path = self.folder.join(format!("{:020}.{ENDING}", self.next));
        self.next += 1;
        let file = fresh(&path).map_err(|error| failing(&path, &error))?;
        let folder = fs::File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(|error| failing(&self.folder, &error))?;
        self.writing = Some(file);
        self.files.push_back(Segment { path, bytes: 0 });
        Ok(())
    }

    /// The rows of the oldest file, which then is written to no more. What is not whole at its end was never
    /// answered for, and is left out.
    pub fn oldest(&mut self) -> Result<Option<Oldest>, SpoolFull> {
        let (path, bytes) = loop {
            let Some(segment) = self.files.front() else { return Ok(None) };
            if self.files.len() == 1 {
                self.writing = None;
            }
            let path = segment.path.clone();
            match fs::read(&path) {
                Ok(bytes) => break (path, bytes),
                // Somebody took it away.
                Err(error) if error.kind() == ErrorKind::NotFound => drop(self.files.pop_front()),
                Err(error) => {
                    // Those behind it need not wait for a file that cannot be read now.
                    self.files.rotate_left(1);
                    self.writing = None;
                    return Err(failing(&path, &error));
                }
            }
        };
        let (mut rows, mut at) = (Vec::new(), 0);
        let spoiled = loop {
            match open(KIND, &bytes[at..]) {
                Ok((row, length)) => {
                    rows.push(row);
                    at += length;
                }
                Err(Broken::Cut) => break false,
                Err(Broken::Bad) => break true,
            }
        };
        Ok(Some(Oldest { path, rows, spoiled }))
    }

    /// Takes a file away whose rows have arrived. One that is spoiled is set aside, for somebody to look at.
    pub fn arrived(&mut self, oldest: &Oldest) -> Result<(), SpoolFull> {
        let path = &oldest.path;
        let done = match oldest.spoiled {
            true => fs::rename(path, path.with_extension("spoiled")),
            false => fs::remove_file(path),
        };
        match done {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failing(path, &error)),
            _ => {}
        }
        self.files.retain(|segment| segment.path != *path);
        Ok(())
    }
}

fn failing(path: &Path, error: &std::io::Error) -> SpoolFull {
    SpoolFull::Failing(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u128) -> AuditRow {
        AuditRow {
            id: uuid::Uuid::from_u128(number),
            at_ms: 5,
            principal: "user:ada".to_owned(),
            action: "read".to_owned(),
            feed: None,
            allowed: true,
            columns: vec!["a".to_owned()],
            rows: Some("all".to_owned()),
            why: "row 1".to_owned(),
            origin: "cli".to_owned(),
            trace_id: None,
            node: "n".to_owned(),
        }
    }

    fn all(spool: &mut Spool) -> Vec<u128> {
        let mut ids = Vec::new();
        while let Some(oldest) = spool.oldest().unwrap() {
            ids.extend(oldest.rows.iter().map(|row| row.id.as_u128()));
            spool.arrived(&oldest).unwrap();
        }
        ids
    }

    #[test]
    fn what_is_kept_outlives_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        assert!(spool.is_empty() && spool.oldest().unwrap().is_none());
        spool.keep(&[row(1), row(2)]).unwrap();
        spool.keep(&[row(3)]).unwrap();
        drop(spool);
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        spool.keep(&[row(4)]).unwrap();
        // Sent, and the answer lost: it is sent again.
        assert_eq!(spool.oldest().unwrap().unwrap().rows.len(), 3);
        assert_eq!(all(&mut spool), [1, 2, 3, 4]);
        assert!(spool.is_empty());
        spool.keep(&[row(5)]).unwrap();
        assert_eq!(all(&mut spool), [5]);
    }

    #[test]
    fn rows_that_come_while_others_are_sent_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        spool.keep(&[row(1)]).unwrap();
        let oldest = spool.oldest().unwrap().unwrap();
        spool.keep(&[row(2)]).unwrap();
        assert_eq!(oldest.rows.len(), 1);
        spool.arrived(&oldest).unwrap();
        spool.arrived(&oldest).unwrap();
        assert_eq!(all(&mut spool), [2]);
    }

    #[test]
    fn a_full_spool_keeps_nothing_of_what_does_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let one = seal(KIND, &row(1)).unwrap().len() as u64;
        let mut spool = Spool::open(folder.path(), one * 2).unwrap();
        spool.keep(&[row(1)]).unwrap();
        assert_eq!(spool.keep(&[row(2), row(3)]), Err(SpoolFull::Full { bytes: one }));
        spool.keep(&[row(4)]).unwrap();
        assert_eq!(all(&mut spool), [1, 4]);
    }

    #[test]
    fn a_row_that_was_cut_off_costs_itself_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        spool.keep(&[row(1), row(2)]).unwrap();
        let path = spool.oldest().unwrap().unwrap().path;
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        drop(spool);
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        spool.keep(&[row(3)]).unwrap();
        assert_eq!(all(&mut spool), [1, 3]);
    }

    #[test]
    fn what_is_spoiled_is_set_aside_and_not_taken_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        spool.keep(&[row(1), row(2), row(3)]).unwrap();
        let oldest = spool.oldest().unwrap().unwrap();
        let mut bytes = fs::read(&oldest.path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&oldest.path, &bytes).unwrap();
        spool.keep(&[row(4)]).unwrap();
        let oldest = spool.oldest().unwrap().unwrap();
        assert!(oldest.spoiled && oldest.rows.len() == 1, "{oldest:?}");
        spool.arrived(&oldest).unwrap();
        assert_eq!(all(&mut spool), [4]);
        let kept = fs::read(oldest.path.with_extension("spoiled")).unwrap();
        assert_eq!(kept, bytes);
    }

    #[test]
    fn a_volume_is_one_nodes() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), 1 << 20).unwrap();
        let other = Spool::open(folder.path(), 1 << 20).err();
        assert!(matches!(other, Some(SpoolFull::Failing(why)) if why.contains("another node")));
        drop(spool);
        assert!(Spool::open(folder.path(), 1 << 20).is_ok());
    }

    #[test]
    fn a_file_that_somebody_took_away_is_waited_for_by_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        spool.keep(&[row(1)]).unwrap();
        let oldest = spool.oldest().unwrap().unwrap();
        spool.keep(&[row(2)]).unwrap();
        fs::remove_file(&oldest.path).unwrap();
        assert_eq!(all(&mut spool), [2]);
    }

    #[test]
    fn a_spool_that_cannot_be_written_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        fs::remove_dir_all(folder.path().join("audit")).unwrap();
        assert!(matches!(spool.keep(&[row(1)]), Err(SpoolFull::Failing(_))));
    }
}
