//! Entries sorted into buckets by their key, in memory while they are few and in files when not, so
//! that two large tables can be compared a bucket at a time.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};

use bincode::config::{Configuration, standard};
use bincode::serde::{decode_from_std_read, encode_into_std_write};
use serde::{Deserialize, Serialize};

/// One spelled value each; none is null.
pub type Values = Vec<Option<String>>;

/// A row of the warehouse, or a record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub key: Values,
    /// Where it stood; not known of a table that keeps no such columns.
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    /// The columns after the key; none is a delete.
    pub columns: Option<Values>,
}

pub const BUCKETS: usize = 64;

/// What all buckets together hold in memory before they go to files.
const IN_MEMORY: usize = 64 << 20;

const ENCODING: Configuration = standard();

pub struct Spool {
    buckets: Vec<Bucket>,
    buffered: usize,
    limit: usize,
    pub len: u64,
}

#[derive(Default)]
struct Bucket {
    buffer: Vec<u8>,
    file: Option<File>,
    entries: u64,
}

impl Spool {
    pub fn new() -> Self {
        Self::with_limit(IN_MEMORY)
    }

    fn with_limit(limit: usize) -> Self {
        let buckets = (0..BUCKETS).map(|_| Bucket::default()).collect();
        Self { buckets, buffered: 0, limit, len: 0 }
    }

    pub fn push(&mut self, entry: &Entry) -> Result<(), String> {
        let mut hasher = DefaultHasher::new();
        entry.key.hash(&mut hasher);
        let bucket = &mut self.buckets[(hasher.finish() % BUCKETS as u64) as usize];
        let before = bucket.buffer.len();
        encode_into_std_write(entry, &mut bucket.buffer, ENCODING)
            .map_err(|error| format!("spooling a row: {error}"))?;
        bucket.entries += 1;
        self.len += 1;
        self.buffered += bucket.buffer.len() - before;
        if self.buffered > self.limit {
            for bucket in &mut self.buckets {
                bucket.flush().map_err(|error| {
                    format!("spooling into {}: {error}", std::env::temp_dir().display())
                })?;
            }
            self.buffered = 0;
        }
        Ok(())
    }

    /// The entries of one bucket, in the order they came.
    pub fn read(
        &mut self,
        bucket: usize,
    ) -> Result<impl Iterator<Item = Result<Entry, String>> + '_, String> {
        let Bucket { buffer, file, entries } = &mut self.buckets[bucket];
        let read_back = |error: std::io::Error| format!("reading what was spooled: {error}");
        let mut source: Box<dyn Read + '_> = Box::new(buffer.as_slice());
        if let Some(file) = file {
            file.seek(SeekFrom::Start(0)).map_err(read_back)?;
            source = Box::new(BufReader::with_capacity(1 << 20, &*file).chain(buffer.as_slice()));
        }
        Ok((0..*entries).map(move |_| {
            decode_from_std_read(&mut source, ENCODING)
                .map_err(|error| format!("reading what was spooled: {error}"))
        }))
    }
}

impl Bucket {
    fn flush(&mut self) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(unnamed_file()?),
        };
        file.write_all(&self.buffer)?;
        self.buffer = Vec::new();
        Ok(())
    }
}

/// A file that has no name any more, so that nothing is left behind however this process ends.
fn unnamed_file() -> std::io::Result<File> {
    let path = std::env::temp_dir().join(format!("tidegate-verify-{}", uuid::Uuid::new_v4()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: i64, offset: i64) -> Entry {
        Entry {
            key: vec![Some(key.to_string())],
            partition: Some(0),
            offset: Some(offset),
            columns: (offset % 3 > 0).then(|| vec![None, Some("value".to_owned())]),
        }
    }

    #[test]
    fn gives_back_what_was_pushed_from_memory_and_from_files() {
        for limit in [usize::MAX, 1000] {
            let mut spool = Spool::with_limit(limit);
            let entries: Vec<Entry> = (0..2000).map(|offset| entry(offset % 300, offset)).collect();
            entries.iter().for_each(|entry| spool.push(entry).unwrap());
            let mut back: Vec<Entry> = Vec::new();
            for bucket in 0..BUCKETS {
                let read: Vec<Entry> =
                    spool.read(bucket).unwrap().collect::<Result<_, _>>().unwrap();
                assert!(read.is_sorted_by_key(|entry| entry.offset), "in order");
                back.extend(read);
            }
            back.sort_by_key(|entry| entry.offset);
            assert_eq!(back, entries);
            assert_eq!(spool.buckets.iter().any(|bucket| bucket.file.is_some()), limit == 1000);
        }
    }
}
