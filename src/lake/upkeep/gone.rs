//! Which offsets went with a file: written into the commit that took it away, so that whoever compares the
//! table with its topic knows them from those that were lost.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use futures::TryStreamExt;
use serde::Serialize;

use super::super::scan::{Request, TableScan};
use crate::record::SinkError;

/// Files of one commit.
const FILES: usize = 500;
/// Ranges of offsets that one commit names, but for those of one file.
const RANGES: usize = 100_000;

/// Offsets of one partition: ranges, both ends included.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gone {
    pub topic: String,
    pub partition: i32,
    pub offsets: Vec<(i64, i64)>,
}

/// What is in a file of the table.
pub async fn offsets_in(scan: &TableScan, file: usize) -> Result<Vec<Gone>, SinkError> {
    let of = scan.only(&[file]);
    let columns = ["_topic", "_partition", "_offset"].map(str::to_owned).to_vec();
    let mut batches = std::pin::pin!(of.batches(Request { columns, ..Request::default() }));
    let mut found = Found::default();
    while let Some((batch, _)) = batches.try_next().await? {
        found.take(&batch).map_err(SinkError::lasting)?;
    }
    Ok(found.gone())
}

/// As many of these files as one commit takes, with what is in each.
pub async fn some_of(
    scan: &TableScan,
    files: &[usize],
) -> Result<Vec<(usize, Vec<Gone>)>, SinkError> {
    let (mut some, mut ranges) = (Vec::new(), 0);
    for file in files.iter().take(FILES) {
        let gone = offsets_in(scan, *file).await?;
        ranges += gone.iter().map(|gone| gone.offsets.len()).sum::<usize>();
        some.push((*file, gone));
        if ranges >= RANGES {
            break;
        }
    }
    Ok(some)
}

#[derive(Default)]
struct Found(BTreeMap<(String, i32), Vec<i64>>);

impl Found {
    fn take(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let column = |name| batch.column_by_name(name).ok_or_else(|| format!("no column {name}"));
        let topics = column("_topic")?.as_string::<i32>();
        let partitions = column("_partition")?.as_primitive::<Int32Type>();
        let offsets = column("_offset")?.as_primitive::<Int64Type>();
        let mut last: Option<(&str, i32, &mut Vec<i64>)> = None;
        let whole = |row: &usize| {
            topics.is_valid(*row) && partitions.is_valid(*row) && offsets.is_valid(*row)
        };
        for row in (0..batch.num_rows()).filter(whole) {
            let (topic, partition) = (topics.value(row), partitions.value(row));
            let of = match last.take() {
                Some((of, at, known)) if of == topic && at == partition => known,
                _ => self.0.entry((topic.to_owned(), partition)).or_default(),
            };
            of.push(offsets.value(row));
            last = Some((topic, partition, of));
        }
        Ok(())
    }

    fn gone(self) -> Vec<Gone> {
        let of = |((topic, partition), mut offsets): ((String, i32), Vec<i64>)| {
            offsets.sort_unstable();
            Gone { topic, partition, offsets: ranges(&offsets) }
        };
        self.0.into_iter().map(of).collect()
    }
}

fn ranges(sorted: &[i64]) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for offset in sorted {
        match ranges.last_mut() {
            Some((_, end)) if *offset <= *end + 1 => *end = *offset,
            _ => ranges.push((*offset, *offset)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_ranges() {
        assert_eq!(ranges(&[]), []);
        assert_eq!(ranges(&[1, 2, 3, 5, 7, 8]), [(1, 3), (5, 5), (7, 8)]);
        assert_eq!(ranges(&[4, 4]), [(4, 4)]);
    }
}
