//! Small files of a Delta table become large ones, in the order of time. No row changes, so readers of any
//! version, and those that follow the log for changes, notice nothing.
//!
//! Files are joined only where they are of one partition, of one topic, and of the very columns that the table
//! has: what a rewriting could lose is left as it is. At most one run of rows and one file are in memory.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::super::change::{Change, Kind, TIME_TAG, TOPIC_TAG};
use super::super::commit_loop::{Log, State};
use super::super::encode::{Encoded, Rewriting};
use super::super::log::judged_write;
use super::super::quarantine::kept_at;
use super::super::scan::{At, Position, Request, ScanFile, TableScan};
use super::super::{StagedFile, Staging, join};
use super::replace::removed;
use super::{Amount, Mode, Of, Upkeep};
use crate::config::{LakeOptions, TimeSource};
use crate::layout::{end_of, is_ours, is_replayed};
use crate::record::{Blame, SinkError, TopicId};
use crate::retention::{Bounds, Crumb, bins};
use crate::telemetry::fault;

/// Rows that are sorted together, in memory.
const RUN_BYTES: usize = 64 << 20;
/// How much larger rows are in memory than in a file, where they are compressed well.
const COMPRESSED: u64 = 16;

/// What a pass made of a table's small files, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compacted {
    pub joined: Amount,
    pub made: Amount,
    /// Small files that have other columns than the table, or types that are no longer its own.
    pub other_columns: u64,
    /// What could not be joined, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// Files that were gone when theirs should have been committed; they are looked at again.
    pub overtaken: u64,
}

/// Files that may be joined: of one folder and time, of one topic, gone by the same.
type Group = (Vec<(String, Option<String>)>, Option<String>, Option<String>, String);

impl Upkeep {
    /// Joins small files. Tables that are not Delta, or that show snapshots, are left alone.
    pub async fn compact(
        &self,
        bounds: Bounds,
        now_ms: i64,
        mode: Mode,
    ) -> Result<Compacted, SinkError> {
        let mut done = Compacted::default();
        if !self.is_delta() || !self.is_appended_to() {
            return Ok(done);
        }
        let Some(scan) = self.scan(At::Latest).await? else { return Ok(done) };
        let (places, crumbs) = crumbs(&scan, self.has_former().await?, now_ms);
        let placed = |bin: Vec<usize>| bin.into_iter().map(|index| places[index]).collect();
        let bins: Vec<Vec<usize>> = bins(&crumbs, bounds).into_iter().map(placed).collect();
        if mode == Mode::DryRun {
            bins.iter().flatten().for_each(|file| done.joined.add(scan.files()[*file].size));
            return Ok(done);
        }
        if bins.is_empty() {
            return Ok(done);
        }
        let log = self.log().await?;
        for files in bins {
            let bytes: u64 = files.iter().map(|file| scan.files()[*file].size).sum();
            // The first of a pass is done however large it is, or it would never be.
            if done.joined.bytes > 0 && done.joined.bytes + bytes > bounds.most_bytes {
                break;
            }
            // What cannot be joined is in nobody else's way.
            if let Err(error) = self.join_files(&log, &scan, files, bounds, &mut done).await {
                if error.blame == Blame::Passing {
                    return Err(error);
                }
                warn!(target: "tidegate::janitor", feed = %self.feed.name, %error, "some small files cannot be joined");
                done.faults.push(error.message);
            }
        }
        if done.made.files > 0 {
            info!(target: "tidegate::janitor", feed = %self.feed.name, joined = done.joined.files, made = done.made.files, "small files are joined");
        }
        Ok(done)
    }

    async fn join_files(
        &self,
        log: &Log,
        scan: &TableScan,
        files: Vec<usize>,
        bounds: Bounds,
        done: &mut Compacted,
    ) -> Result<(), SinkError> {
        let (files, others) = self.alike(scan, files).await?;
        done.other_columns += others;
        if files.len() < 2 {
            return Ok(());
        }
        let of = scan.only(&files);
        let (made, staged) = self.rewrite(&of).await?;
        fault::point("janitor.compacted");
        let size = made.size;
        let change = Change {
            kind: Kind::Compaction(bounds.target_bytes),
            files: vec![made],
            removed: of.files().iter().map(|file| removed(file, None)).collect(),
            said: Some(("tidegateCompaction", json!({"files": files.len()}))),
            ..Change::default()
        };
        if self.replace(log, scan, change, staged).await? {
            of.files().iter().for_each(|file| done.joined.add(file.size));
            done.made.add(size);
        } else {
            done.overtaken += files.len() as u64;
        }
        Ok(())
    }

    /// Whether rows of a former topic of this name may be in the table. Nothing is written for it.
    async fn has_former(&self) -> Result<bool, SinkError> {
        let mut state = State::default();
        Log::replay(self.store.below(self.layout.folder()).as_ref(), &mut state).await?;
        Ok(state.marks.has_former())
    }

    /// Of these files those whose columns the table has, all of them under its types, and the number of
    /// the others.
    async fn alike(
        &self,
        scan: &TableScan,
        files: Vec<usize>,
    ) -> Result<(Vec<usize>, u64), SinkError> {
        let (mut alike, mut others) = (Vec::new(), 0);
        for file in files {
            let found = scan.columns_in(file).await?;
            let table = scan.schema();
            let same = found.fields().iter().all(|field| {
                let known = table.field_with_name(field.name());
                known.is_ok_and(|known| same_type(known.data_type(), field.data_type()))
            });
            match same {
                true => alike.push(file),
                false => others += 1,
            }
        }
        Ok((alike, others))
    }

    /// Writes the rows of all files into one.
    pub(super) async fn rewrite(&self, of: &TableScan) -> Result<(StagedFile, Staging), SinkError> {
        let failed =
            |error: ArrowError| SinkError::lasting(format!("joining small files: {error}"));
        let first = of.files().first().ok_or_else(|| SinkError::lasting("no files to join"))?;
        let columns = self.columns(&of.schema());
        let sort = self.sort();
        let rows = rows_of(of);
        let options = self.options();
        let request =
            Request { columns: columns.clone(), batch_rows: batch_rows(of), ..Request::default() };
        let mut batches = std::pin::pin!(of.batches(request));
        let schema = of.schema();
        let schema = schema.project(
            &columns.iter().filter_map(|name| schema.index_of(name).ok()).collect::<Vec<_>>(),
        );
        let schema: SchemaRef = std::sync::Arc::new(schema.map_err(failed)?);
        let mut writing: Option<Rewriting> = None;
        let mut run: Vec<RecordBatch> = Vec::new();
        let mut held = 0;
        loop {
            let next = batches.try_next().await?;
            let ended = next.is_none();
            if let Some((batch, position)) = next.filter(|(batch, _)| batch.num_rows() > 0) {
                let batch = self.dated(batch, of, position)?;
                held += batch.get_array_memory_size();
                run.push(batch);
            }
            if !ended && held < RUN_BYTES {
                continue;
            }
            let mut into = match writing.take() {
                Some(writing) => writing,
                None => Rewriting::new(&options, &schema, &sort, rows, ended).map_err(failed)?,
            };
            let rows = std::mem::take(&mut run);
            held = 0;
            let written = tokio::task::spawn_blocking(move || {
                if !rows.is_empty() {
                    into.write(&rows)?;
                }
                Ok(into)
            });
            let into =
                written.await.map_err(|error| SinkError::passing(format!("joining: {error}")))?;
            let into = into.map_err(failed)?;
            if ended {
                let encoded = tokio::task::spawn_blocking(move || into.finish());
                let encoded = encoded
                    .await
                    .map_err(|error| SinkError::passing(format!("joining: {error}")))?;
                let encoded = encoded.map_err(failed)?;
                if encoded.rows != rows_of(of) {
                    return Err(SinkError::lasting(format!(
                        "joining small files of feed {}: {} rows were read where the log says {}",
                        self.feed.name,
                        encoded.rows,
                        rows_of(of)
                    )));
                }
                return self.put(of, first, encoded).await;
            }
            writing = Some(into);
        }
    }

    /// A record in quarantine whose file does not say when it was kept was kept when the file was added.
    fn dated(
        &self,
        batch: RecordBatch,
        of: &TableScan,
        after: Position,
    ) -> Result<RecordBatch, SinkError> {
        if self.of != Of::Quarantine {
            return Ok(batch);
        }
        // What ends a file leads to the next one's beginning.
        let file = if after.row == 0 { after.file.saturating_sub(1) } else { after.file };
        let added_ms = of.files().get(file as usize).map_or(0, |file| file.added_ms);
        kept_at(batch, added_ms).map_err(SinkError::lasting)
    }

    /// The columns that are in files.
    fn columns(&self, schema: &SchemaRef) -> Vec<String> {
        let told = self.layout.columns();
        let names = schema.fields().iter().map(|field| field.name().clone());
        names.filter(|name| !told.contains(&name.as_str())).collect()
    }

    /// How files are written. What the feed says is of its rows alone.
    fn options(&self) -> LakeOptions {
        match self.of {
            Of::Rows => self.feed.lake.clone().unwrap_or_default(),
            Of::Quarantine => LakeOptions::default(),
        }
    }

    /// By the feed's own order, else by time.
    fn sort(&self) -> Vec<String> {
        let options = self.options();
        if !options.sort.is_empty() {
            return options.sort;
        }
        let time = match (self.of, self.feed.lake_time()) {
            (Of::Rows, TimeSource::Column(index)) => self.feed.schema.columns[index].name.clone(),
            _ => "_timestamp".to_owned(),
        };
        let mut by = vec![time];
        by.extend(["_partition", "_offset"].map(str::to_owned));
        by
    }

    async fn put(
        &self,
        of: &TableScan,
        first: &ScanFile,
        encoded: Encoded,
    ) -> Result<(StagedFile, Staging), SinkError> {
        let path = beside(&first.path);
        let size = encoded.bytes.len() as u64;
        // From before it is there.
        let staged = Staging::now();
        let location = join(&object_store::path::Path::default(), &path);
        let store = self.store.below(self.layout.folder());
        let written = store.put(&location, encoded.bytes.into()).await;
        written.map_err(|error| judged_write(&error).context(format!("writing {path}")))?;
        debug!(target: "tidegate::janitor", feed = %self.feed.name, path, "small files are written as one");
        let values = first.values.iter();
        let topic = first.tags.get(TOPIC_TAG).and_then(|id| Uuid::parse_str(id).ok());
        let file = StagedFile {
            path,
            size,
            rows: encoded.rows,
            partition_values: values
                .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
                .collect(),
            stats: encoded.stats,
            time: first.time.clone().unwrap_or_default(),
            by: first.tags.get(TIME_TAG).cloned().unwrap_or_default(),
            part: None,
            topic: TopicId::from(topic),
            // As old as the youngest of its rows.
            written_ms: of.files().iter().map(|file| file.added_ms).max(),
        };
        Ok((file, staged))
    }
}

/// So many rows that a batch stays small against what is sorted at once, as far as the files' sizes tell.
fn batch_rows(of: &TableScan) -> usize {
    let bytes: u64 = of.files().iter().map(|file| file.size).sum();
    let each = bytes.saturating_mul(COMPRESSED) / (rows_of(of) as u64).max(1);
    (RUN_BYTES as u64 / 8 / each.max(1)).clamp(1, 8192) as usize
}

fn rows_of(of: &TableScan) -> usize {
    of.files().iter().filter_map(|file| file.rows).sum::<u64>() as usize
}

/// Files of which it is known what they are: their places in the scan, and how they group.
fn crumbs(scan: &TableScan, has_former: bool, now_ms: i64) -> (Vec<usize>, Vec<Crumb<Group>>) {
    let (mut places, mut crumbs) = (Vec::new(), Vec::new());
    for (index, file) in scan.files().iter().enumerate() {
        let topic = file.tags.get(TOPIC_TAG).cloned();
        // Rows of two topics of one name must not meet: nothing would tell them apart any more.
        let apart = topic.is_some() || !has_former;
        if !apart || file.rows.is_none() || !is_ours(&file.path) || is_replayed(&file.path) {
            continue;
        }
        let values: BTreeMap<_, _> = file.values.clone();
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let group = (values.into_iter().collect(), file.tags.get(TIME_TAG).cloned(), topic, folder);
        let closed = file.time.as_deref().and_then(end_of).is_some_and(|end| end <= now_ms);
        places.push(index);
        crumbs.push(Crumb { group, closed, bytes: file.size });
    }
    (places, crumbs)
}

/// A new name beside an old one.
fn beside(path: &str) -> String {
    let stem = path.rsplit_once('_').map_or(path, |(stem, _)| stem);
    format!("{stem}_{}.parquet", Uuid::new_v4().simple())
}

/// Whether values of both are written the same, whatever the elements of a list are called.
fn same_type(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len()
                && a.iter()
                    .zip(b)
                    .all(|(a, b)| a.name() == b.name() && same_type(a.data_type(), b.data_type()))
        }
        (DataType::List(a), DataType::List(b)) => same_type(a.data_type(), b.data_type()),
        (DataType::Map(a, _), DataType::Map(b, _)) => match (a.data_type(), b.data_type()) {
            (DataType::Struct(a), DataType::Struct(b)) => {
                a.len() == b.len()
                    && a.iter().zip(b).all(|(a, b)| same_type(a.data_type(), b.data_type()))
            }
            _ => false,
        },
        _ => a == b,
    }
}
