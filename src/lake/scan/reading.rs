//! One reading of a table: file after file, without those that cannot hold a wanted row.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};

use super::bounds::{Known, of_file, of_partition};
use super::columns::shaped;
use super::lines::LinesFile;
use super::row_groups::{Footer, ParquetFile};
use super::{Bound, Keep, Position, Request, ScanFile, Table};
use crate::config::LakeFormat;
use crate::record::SinkError;

/// Footers that are fetched before their files are read: of small files that is all there is to fetch.
const AHEAD: usize = 2;

/// A request, checked against the table.
pub struct Plan {
    /// The columns that are read: those asked for, then what only `keep` looks at.
    read: SchemaRef,
    /// How many of them are asked for.
    asked: usize,
    /// The names of those of them that are in the files.
    pub in_files: Vec<String>,
    /// All that are told by a file's path.
    partitions: Vec<String>,
    pub bounds: Vec<Bound>,
    keep: Option<Keep>,
    pub batch_rows: usize,
}

impl Plan {
    pub fn of(table: &Table, request: Request) -> Result<Self, SinkError> {
        let fields = table.schema.fields();
        let known = |name: &String| {
            let at = table.schema.index_of(name).map_err(|_| {
                SinkError::lasting(format!("feed {} has no column {name}", table.name))
            })?;
            Ok::<_, SinkError>(fields[at].clone())
        };
        let mut seen = HashSet::new();
        let columns = request.columns.iter().filter(|name| seen.insert(*name)).collect::<Vec<_>>();
        let asked = columns.len();
        if asked < request.columns.len() {
            return Err(SinkError::lasting("a column is asked for twice"));
        }
        let beside = request.keep_columns.iter().filter(|name| seen.insert(*name));
        let read = columns.into_iter().chain(beside).map(known).collect::<Result<Vec<_>, _>>()?;
        request.bounds.iter().try_for_each(|bound| known(&bound.column).map(drop))?;
        let partitions = &fields[fields.len() - table.partitions..];
        let partitions: Vec<String> = partitions.iter().map(|it| it.name().clone()).collect();
        let names = read.iter().map(|field| field.name().clone());
        Ok(Self {
            in_files: names.filter(|name| !partitions.contains(name)).collect(),
            read: Arc::new(Schema::new(read)),
            asked,
            partitions,
            bounds: request.bounds,
            keep: request.keep,
            batch_rows: request.batch_rows.max(1),
        })
    }

    /// Whether no row of the file can lie within the bounds.
    fn skips(&self, table: &Table, file: &ScanFile) -> bool {
        if self.bounds.is_empty() {
            return false;
        }
        let stats = file.stats.as_deref().and_then(|stats| serde_json::from_str(stats).ok());
        let known = |bound: &Bound| {
            let Ok(field) = table.schema.field_with_name(&bound.column) else {
                return Known::default();
            };
            if self.is_partition(&bound.column) {
                let text = file.values.get(&bound.column).and_then(Option::as_deref);
                return of_partition(text, field.data_type());
            }
            let of = |stats| of_file(stats, &bound.column, field.data_type());
            stats.as_ref().map(of).unwrap_or_default()
        };
        self.bounds.iter().any(|bound| bound.misses(&known(bound)))
    }

    pub fn is_partition(&self, column: &str) -> bool {
        self.partitions.iter().any(|name| name == column)
    }

    fn empty(&self) -> Result<RecordBatch, SinkError> {
        let asked: Vec<usize> = (0..self.asked).collect();
        RecordBatch::new_empty(self.read.clone()).project(&asked).map_err(SinkError::lasting)
    }

    /// The wanted of these rows, as the table has them.
    pub fn finish(&self, rows: &RecordBatch, file: &ScanFile) -> Result<RecordBatch, SinkError> {
        let failed = |error| SinkError::lasting(format!("{}: {error}", file.path));
        let mut rows = shaped(rows, &self.read, &self.partitions, file).map_err(failed)?;
        if let Some(keep) = &self.keep {
            let kept = keep(&rows).map_err(SinkError::lasting)?;
            rows = filter_record_batch(&rows, &kept).map_err(failed)?;
        }
        let asked: Vec<usize> = (0..self.asked).collect();
        rows.project(&asked).map_err(failed)
    }
}

/// Some rows of a file.
pub struct Piece {
    pub rows: RecordBatch,
    /// The row after the last that was looked at.
    pub row: u64,
    /// That was the file's last.
    pub ended: bool,
}

enum Open {
    Parquet(ParquetFile),
    Lines(Box<LinesFile>),
}

pub struct Reading {
    table: Arc<Table>,
    plan: Arc<Plan>,
    at: Position,
    open: Option<Open>,
    /// The footers of the files that come next.
    ahead: VecDeque<(usize, Footer)>,
}

impl Reading {
    pub fn new(table: Arc<Table>, plan: Arc<Plan>, at: Position) -> Self {
        Self { table, plan, at, open: None, ahead: VecDeque::new() }
    }

    pub async fn next(&mut self) -> Result<Option<(RecordBatch, Position)>, SinkError> {
        loop {
            let piece = match &mut self.open {
                Some(Open::Parquet(file)) => file.next().await?,
                Some(Open::Lines(file)) => file.next().await?,
                None => match self.next_file().await? {
                    Some(open) => {
                        self.open = Some(open);
                        continue;
                    }
                    None => return Ok(None),
                },
            };
            let rows = match piece {
                Some(Piece { rows, row, ended: false }) => {
                    self.at.row = row;
                    rows
                }
                // The rest of the file, if there was any, cannot matter.
                rest => {
                    self.open = None;
                    self.at = Position { file: self.at.file + 1, row: 0 };
                    rest.map_or_else(|| self.plan.empty(), |piece| Ok(piece.rows))?
                }
            };
            return Ok(Some((rows, self.at)));
        }
    }

    async fn next_file(&mut self) -> Result<Option<Open>, SinkError> {
        let Some(index) = self.after(self.at.file as usize) else { return Ok(None) };
        if index as u64 > self.at.file {
            self.at = Position { file: index as u64, row: 0 };
        }
        let (table, plan, row) = (self.table.clone(), self.plan.clone(), self.at.row);
        if self.table.format == LakeFormat::Jsonl {
            return Ok(Some(Open::Lines(Box::new(LinesFile::open(table, plan, index, row)))));
        }
        let footer = match self.ahead.pop_front() {
            Some((of, footer)) if of == index => footer,
            _ => Footer::fetch(&self.table, index),
        };
        let mut last = self.ahead.back().map_or(index, |(last, _)| *last);
        while self.ahead.len() < AHEAD
            && let Some(next) = self.after(last + 1)
        {
            self.ahead.push_back((next, Footer::fetch(&self.table, next)));
            last = next;
        }
        Ok(Some(Open::Parquet(ParquetFile::open(table, plan, index, row, footer).await?)))
    }

    /// The first file that may matter, from this one on.
    fn after(&self, index: usize) -> Option<usize> {
        let files = self.table.found.files.get(index..)?.iter();
        let next = files.take_while(|file| self.plan.skips(&self.table, file)).count() + index;
        (next < self.table.found.files.len()).then_some(next)
    }
}

/// What decodes a file did not come back.
pub fn died(error: tokio::task::JoinError) -> SinkError {
    SinkError::passing(format!("decoding: {error}"))
}
