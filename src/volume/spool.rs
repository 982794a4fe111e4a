//! Rows of the audit on their way to the database. What is in here is synced: it is not lost with the node,
//! and sent until the database has it. Bounded: who fills it is told so, and refuses what would go
//! unrecorded.
//!
//! Files are named by numbers and only ever appended to. One is taken away when all in it has arrived.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::remembered::{prepare, private};
use super::sealed::{Kind, open, seal};
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
}

#[derive(Debug, Clone)]
struct Segment {
    path: PathBuf,
    bytes: u64,
}

impl Spool {
    /// Opens the spool in a folder of the volume, with what a former node of it left there.
    pub fn open(volume: &Path, most: u64) -> Result<Self, SpoolFull> {
        let folder = volume.join("audit");
        prepare(&folder).map_err(SpoolFull::Failing)?;
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
        Ok(Self { folder, most, files, writing: None, next })
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
        let written = self.append(&sealed);
        if written.is_err() {
            // What was half written ends that file: the next row begins another.
            self.writing = None;
        }
        written
    }

    fn append(&mut self, sealed: &[u8]) -> Result<(), SpoolFull> {
        let long = self.files.back().is_none_or(|segment| segment.bytes >= FILE_BYTES);
        if self.writing.is_none() || long {
            let path = self.folder.join(format!("{:020}.{ENDING}", self.next));
            self.next += 1;
            let file = private(&path).map_err(|error| failing(&path, &error))?;
            let folder = fs::File::open(&self.folder).and_then(|folder| folder.sync_all());
            folder.map_err(|error| failing(&self.folder, &error))?;
            self.writing = Some(file);
            self.files.push_back(Segment { path, bytes: 0 });
        }
        let (Some(file), Some(segment)) = (&mut self.writing, self.files.back_mut()) else {
            return Err(SpoolFull::Failing("no file to write to".to_owned()));
        };
        segment.bytes += sealed.len() as u64;
        let written = file.write_all(sealed).and_then(|()| file.sync_data());
        written.map_err(|error| failing(&segment.path, &error))
    }

    /// The rows of the oldest file, which then is written to no more. What is not whole at its end was never
    /// answered for, and is left out.
    pub fn oldest(&mut self) -> Result<Option<(PathBuf, Vec<AuditRow>)>, SpoolFull> {
        let Some(segment) = self.files.front() else { return Ok(None) };
        if self.files.len() == 1 {
            self.writing = None;
        }
        let path = segment.path.clone();
        let bytes = fs::read(&path).map_err(|error| failing(&path, &error))?;
        let mut rows = Vec::new();
        let mut at = 0;
        while let Some((row, length)) = open(KIND, &bytes[at..]) {
            rows.push(row);
            at += length;
        }
        Ok(Some((path, rows)))
    }

    /// Takes a file away whose rows have arrived.
    pub fn arrived(&mut self, path: &Path) -> Result<(), SpoolFull> {
        fs::remove_file(path).map_err(|error| failing(path, &error))?;
        self.files.retain(|segment| segment.path != path);
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
        while let Some((path, rows)) = spool.oldest().unwrap() {
            ids.extend(rows.iter().map(|row| row.id.as_u128()));
            spool.arrived(&path).unwrap();
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
        assert_eq!(spool.oldest().unwrap().unwrap().1.len(), 3);
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
        let (path, rows) = spool.oldest().unwrap().unwrap();
        spool.keep(&[row(2)]).unwrap();
        assert_eq!(rows.len(), 1);
        spool.arrived(&path).unwrap();
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
        let (path, _) = spool.oldest().unwrap().unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        drop(spool);
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        spool.keep(&[row(3)]).unwrap();
        assert_eq!(all(&mut spool), [1, 3]);
    }

    #[test]
    fn a_spool_that_cannot_be_written_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        fs::remove_dir_all(folder.path().join("audit")).unwrap();
        assert!(matches!(spool.keep(&[row(1)]), Err(SpoolFull::Failing(_))));
    }
}
