//! The lake read from outside: its Delta logs, followed while the node writes, and its live files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int32Type, Int64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;

use super::DemoError;
use super::holdings::{Adding, ByTopic, Holdings, key_columns};
use super::report::Volume;
use crate::generate::{Topic, Total};
use crate::layout;

/// The tables of all topics.
pub struct Lake {
    tables: [Table; Topic::DEMO.len()],
    quarantine: [Table; Topic::DEMO.len()],
}

/// One Delta table, as far as its log has been read.
struct Table {
    folder: PathBuf,
    next_version: u64,
    /// Live files and their sizes.
    files: BTreeMap<String, u64>,
    /// Progress by partition.
    ends: Vec<i64>,
    /// Versions that brought files.
    commits: u64,
}

/// A line of a log entry.
#[derive(Deserialize)]
struct Line {
    add: Option<Add>,
    remove: Option<Remove>,
    txn: Option<Txn>,
}

#[derive(Deserialize)]
struct Add {
    path: String,
    size: u64,
}

#[derive(Deserialize)]
struct Remove {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Txn {
    app_id: String,
    version: i64,
}

impl Lake {
    pub fn open(folder: &Path) -> Self {
        let table = |path: String| Table {
            folder: folder.join(path),
            next_version: 0,
            files: BTreeMap::new(),
            ends: Vec::new(),
            commits: 0,
        };
        Self {
            tables: Topic::DEMO.map(|topic| table(layout::table_path(topic.name()))),
            quarantine: Topic::DEMO.map(|topic| table(layout::quarantine_path(topic.name()))),
        }
    }

    /// Reads what the logs of the tables have got since.
    pub fn refresh(&mut self) -> Result<(), DemoError> {
        self.tables.iter_mut().try_for_each(Table::refresh)
    }

    /// The offset up to which a partition is durable.
    pub fn next_offset(&self, topic: Topic, partition: i32) -> i64 {
        self.tables[topic as usize].ends.get(partition as usize).copied().unwrap_or(0)
    }

    /// Records that are durable, quarantined ones included.
    pub fn records(&self) -> u64 {
        self.tables.iter().flat_map(|table| &table.ends).map(|end| *end as u64).sum()
    }

    pub fn volume(&self, wanted: impl Fn(Topic) -> bool) -> Volume {
        let mut volume = Volume::default();
        for topic in Topic::DEMO.into_iter().filter(|topic| wanted(*topic)) {
            let table = &self.tables[topic as usize];
            volume.files += table.files.len() as u64;
            volume.bytes += table.files.values().sum::<u64>();
            volume.commits += table.commits;
        }
        volume
    }

    /// Reads all live files.
    pub fn holdings(&mut self) -> Result<ByTopic, DemoError> {
        let mut by_topic = ByTopic::default();
        for topic in Topic::DEMO {
            by_topic[topic as usize] = self.of_topic(topic)?;
        }
        Ok(by_topic)
    }

    fn of_topic(&mut self, topic: Topic) -> Result<Holdings, DemoError> {
        let mut adding = Adding::default();
        let table = &self.tables[topic as usize];
        match topic.is_table() {
            true => {
                table.read(&changelog_columns(topic), |rows| changes(topic, rows, &mut adding))?
            }
            false => {
                let columns = ["_partition", "_offset", "transaction_id", "amount"];
                table.read(&columns, |rows| transactions(rows, &mut adding))?;
            }
        }
        let mut quarantined = BTreeMap::new();
        let table = &mut self.quarantine[topic as usize];
        table.refresh()?;
        table.read(&["class"], |rows| {
            let classes = text(rows, "class")?;
            for class in classes.as_string::<i32>().iter().flatten() {
                *quarantined.entry(class.to_owned()).or_default() += 1;
            }
            Some(())
        })?;
        Ok(adding.finish(quarantined))
    }
}

impl Table {
    fn refresh(&mut self) -> Result<(), DemoError> {
        loop {
            let entry = self.folder.join(format!("_delta_log/{:020}.json", self.next_version));
            let failed = |error: &dyn std::fmt::Display| {
                DemoError::failed(format!("{}: {error}", entry.display()))
            };
            let content = match std::fs::read_to_string(&entry) {
                Ok(content) => content,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed(&error)),
            };
            let commits = self.commits;
            for line in content.lines() {
                self.apply(serde_json::from_str(line).map_err(|error| failed(&error))?, commits);
            }
            self.next_version += 1;
        }
    }

    fn apply(&mut self, line: Line, commits: u64) {
        if let Some(add) = line.add {
            self.files.insert(add.path, add.size);
            self.commits = commits + 1;
        }
        if let Some(remove) = line.remove {
            self.files.remove(&remove.path);
        }
        let Some(txn) = line.txn else { return };
        // tidegate:TOPIC:PARTITION:TOPIC-ID
        let partition = txn.app_id.split(':').nth(2).and_then(|part| part.parse::<usize>().ok());
        let Some(partition) = partition else { return };
        if partition >= self.ends.len() {
            self.ends.resize(partition + 1, 0);
        }
        self.ends[partition] = txn.version;
    }

    /// Gives `take` some columns of every live file. A file it cannot make sense of is an error.
    fn read(
        &self,
        columns: &[&str],
        mut take: impl FnMut(&RecordBatch) -> Option<()>,
    ) -> Result<(), DemoError> {
        for path in self.files.keys() {
            let path = self.folder.join(path);
            let failed = |error: &dyn std::fmt::Display| {
                DemoError::failed(format!("{}: {error}", path.display()))
            };
            let file = File::open(&path).map_err(|error| failed(&error))?;
            let builder =
                ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| failed(&error))?;
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            let reader = builder.with_projection(mask).with_batch_size(8192).build();
            for rows in reader.map_err(|error| failed(&error))? {
                let rows = rows.map_err(|error| failed(&error))?;
                take(&rows).ok_or_else(|| failed(&"its columns are not those of the feed"))?;
            }
        }
        Ok(())
    }
}

fn changelog_columns(topic: Topic) -> Vec<&'static str> {
    let own = ["_partition", "_offset", "_op", "total_amount", "transaction_count"];
    own.iter().chain(key_columns(topic)).copied().collect()
}

fn transactions(rows: &RecordBatch, adding: &mut Adding) -> Option<()> {
    let (partitions, offsets) = places(rows)?;
    let (partitions, offsets) =
        (partitions.as_primitive::<Int32Type>(), offsets.as_primitive::<Int64Type>());
    let ids = text(rows, "transaction_id")?;
    let ids = ids.as_string::<i32>();
    let amounts = rows.column_by_name("amount")?.as_primitive_opt::<Decimal128Type>()?;
    for row in 0..rows.num_rows() {
        let (id, amount) = (ids.value(row), amounts.value(row));
        adding.transaction(partitions.value(row), offsets.value(row), id, amount);
    }
    Some(())
}

fn changes(topic: Topic, rows: &RecordBatch, adding: &mut Adding) -> Option<()> {
    let (partitions, offsets) = places(rows)?;
    let (partitions, offsets) =
        (partitions.as_primitive::<Int32Type>(), offsets.as_primitive::<Int64Type>());
    let ops = text(rows, "_op")?;
    let keys: Vec<ArrayRef> =
        key_columns(topic).iter().map(|name| text(rows, name)).collect::<Option<_>>()?;
    let amounts = rows.column_by_name("total_amount")?.as_primitive_opt::<Decimal128Type>()?;
    let counts = rows.column_by_name("transaction_count")?.as_primitive_opt::<Int64Type>()?;
    for row in 0..rows.num_rows() {
        let key = keys.iter().map(|column| column.as_string::<i32>().value(row).to_owned());
        let total = match ops.as_string::<i32>().value(row) {
            "delete" => None,
            _ => Some(Total {
                cents: u64::try_from(amounts.value(row)).ok()?,
                count: u64::try_from(counts.value(row)).ok()?,
            }),
        };
        adding.change(partitions.value(row), offsets.value(row), key.collect(), total);
    }
    Some(())
}

fn places(rows: &RecordBatch) -> Option<(ArrayRef, ArrayRef)> {
    let partitions = rows.column_by_name("_partition")?;
    let offsets = rows.column_by_name("_offset")?;
    partitions.as_primitive_opt::<Int32Type>()?;
    offsets.as_primitive_opt::<Int64Type>()?;
    Some((partitions.clone(), offsets.clone()))
}

fn text(rows: &RecordBatch, name: &str) -> Option<ArrayRef> {
    cast(rows.column_by_name(name)?, &DataType::Utf8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_live_files_and_progress() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join(layout::table_path("transaction_log"));
        let log = table.join("_delta_log");
        std::fs::create_dir_all(&log).unwrap();
        let write = |version: u64, lines: &[&str]| {
            std::fs::write(log.join(format!("{version:020}.json")), lines.join("\n")).unwrap();
        };
        let mut lake = Lake::open(folder.path());
        lake.refresh().unwrap();
        write(0, &[r#"{"protocol":{"minReaderVersion":1}}"#, r#"{"metaData":{"id":"x"}}"#]);
        write(
            1,
            &[
                r#"{"add":{"path":"a","size":5,"stats":"{}"}}"#,
                r#"{"add":{"path":"b","size":7}}"#,
                r#"{"txn":{"appId":"tidegate:transaction_log:2:-","version":9}}"#,
                r#"{"txn":{"appId":"spark","version":3}}"#,
            ],
        );
        lake.refresh().unwrap();
        assert_eq!(lake.next_offset(Topic::TransactionLog, 2), 9);
        assert_eq!(lake.next_offset(Topic::TransactionLog, 0), 0);
        assert_eq!(lake.next_offset(Topic::TransactionLog, 7), 0);
        write(2, &[r#"{"remove":{"path":"a"}}"#]);
        lake.refresh().unwrap();
        let volume = lake.volume(|topic| topic == Topic::TransactionLog);
        assert_eq!((volume.files, volume.bytes, volume.commits), (1, 7, 1));
        assert_eq!(lake.records(), 9);
        // A file that the log names must be there.
        assert!(lake.holdings().is_err());
        write(3, &["not json"]);
        assert!(lake.refresh().is_err());
    }
}
