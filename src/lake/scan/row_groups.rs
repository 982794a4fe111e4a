//! One Parquet file, row group after row group: the footer is fetched first, then of each row group
//! that matters the wanted columns.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use parquet::basic::Type;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};

use tokio::task::JoinHandle;

use super::bounds::of_group;
use super::reading::{Piece, Plan, died};
use super::{ScanFile, Table};
use crate::lake::columns::timestamp;
use crate::record::SinkError;

/// What is fetched first of a file's end. A file that is no larger needs no second look.
const TAIL: u64 = 64 << 10;

pub struct ParquetFile {
    table: Arc<Table>,
    plan: Arc<Plan>,
    index: usize,
    /// Away only while it decodes.
    decoder: Option<ParquetPushDecoder>,
    /// The rows that are still to come.
    left: VecDeque<Range<u64>>,
}

impl ParquetFile {
    pub async fn open(
        table: Arc<Table>,
        plan: Arc<Plan>,
        index: usize,
        from: u64,
        footer: Footer,
    ) -> Result<Self, SinkError> {
        let (metadata, tail) = footer.arrived().await?;
        let file = &table.found.files[index];
        let whole = (tail.len() as u64 == file.size).then_some(tail);
        let (decoder, left) =
            decoder(metadata, &plan, from, whole).map_err(|error| damaged(file, &error))?;
        Ok(Self { table, plan, index, decoder: Some(decoder), left: left.into() })
    }

    fn file(&self) -> &ScanFile {
        &self.table.found.files[self.index]
    }

    pub async fn next(&mut self) -> Result<Option<Piece>, SinkError> {
        while let Some(mut decoder) = self.decoder.take() {
            let (table, plan, index) = (self.table.clone(), self.plan.clone(), self.index);
            let step = tokio::task::spawn_blocking(move || {
                let file = &table.found.files[index];
                let step = match decoder.try_decode().map_err(|error| damaged(file, &error))? {
                    DecodeResult::NeedsData(ranges) => Step::Fetch(ranges),
                    DecodeResult::Finished => Step::End,
                    DecodeResult::Data(rows) => {
                        Step::Rows(plan.finish(&rows, file)?, rows.num_rows() as u64)
                    }
                };
                Ok::<_, SinkError>((decoder, step))
            });
            let (mut decoder, step) = step.await.map_err(died)??;
            match step {
                Step::Fetch(ranges) => {
                    let file = self.file();
                    let fetched = self.table.store.get_ranges(&file.location, &ranges).await;
                    let fetched = fetched.map_err(|error| self.table.unreadable(file, &error))?;
                    let pushed = decoder.push_ranges(ranges, fetched);
                    pushed.map_err(|error| damaged(file, &error))?;
                    self.decoder = Some(decoder);
                }
                Step::Rows(rows, count) => {
                    let row = self.pass(count);
                    self.decoder = Some(decoder);
                    return Ok(Some(Piece { rows, row, ended: self.left.is_empty() }));
                }
                Step::End => {}
            }
        }
        Ok(None)
    }

    /// Counts rows as looked at; answers the row after the last of them.
    fn pass(&mut self, mut count: u64) -> u64 {
        let mut row = 0;
        while let Some(next) = self.left.front_mut().filter(|_| count > 0) {
            let here = count.min(next.end - next.start);
            next.start += here;
            count -= here;
            row = next.start;
            if next.is_empty() {
                self.left.pop_front();
            }
        }
        row
    }
}

/// A file's metadata on its way, and as much of its end as is fetched for it. Dropped, it is given up.
pub struct Footer(JoinHandle<Result<(ParquetMetaData, Bytes), SinkError>>);

impl Footer {
    pub fn fetch(table: &Arc<Table>, index: usize) -> Self {
        let table = table.clone();
        Self(tokio::spawn(async move { footer(&table, &table.found.files[index]).await }))
    }

    async fn arrived(mut self) -> Result<(ParquetMetaData, Bytes), SinkError> {
        (&mut self.0).await.map_err(died)?
    }
}

impl Drop for Footer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The columns that a file has, under the types that a scan reads them as.
pub async fn columns_in(table: &Arc<Table>, index: usize) -> Result<SchemaRef, SinkError> {
    let (metadata, _) = Footer::fetch(table, index).arrived().await?;
    let typed = typed(Arc::new(metadata));
    let typed = typed.map_err(|error| damaged(&table.found.files[index], &error))?;
    Ok(typed.schema().clone())
}

enum Step {
    Fetch(Vec<Range<u64>>),
    /// Those that are wanted, and how many were looked at.
    Rows(RecordBatch, u64),
    End,
}

async fn footer(table: &Table, file: &ScanFile) -> Result<(ParquetMetaData, Bytes), SinkError> {
    let mut wanted = TAIL;
    loop {
        let range = file.size.saturating_sub(wanted)..file.size;
        let tail = table.store.get_range(&file.location, range).await;
        let tail = tail.map_err(|error| table.unreadable(file, &error))?;
        let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
        match reader.try_parse_sized(&tail, file.size).and_then(|()| reader.finish()) {
            Ok(metadata) => return Ok((metadata, tail)),
            Err(ParquetError::NeedMoreData(more)) if more as u64 > wanted => wanted = more as u64,
            Err(error) => return Err(damaged(file, &error)),
        }
    }
}

/// Reads the wanted columns of the row groups that matter, from a row on; and which rows those are.
fn decoder(
    metadata: ParquetMetaData,
    plan: &Plan,
    from: u64,
    whole: Option<Bytes>,
) -> Result<(ParquetPushDecoder, Vec<Range<u64>>), ParquetError> {
    let metadata = typed(Arc::new(metadata))?;
    let (mut groups, mut left, mut start) = (Vec::new(), Vec::new(), 0);
    let mut passed = 0;
    for (index, group) in metadata.metadata().row_groups().iter().enumerate() {
        let rows = start..start + group.num_rows() as u64;
        start = rows.end;
        if rows.end > from && !misses(plan, &metadata, group) {
            if groups.is_empty() {
                passed = from.saturating_sub(rows.start);
            }
            groups.push(index);
            left.push(rows.start.max(from)..rows.end);
        }
    }
    let roots = metadata.schema().fields().iter().enumerate();
    let roots = roots.filter(|(_, field)| plan.in_files.contains(field.name()));
    let mask = ProjectionMask::roots(metadata.parquet_schema(), roots.map(|(index, _)| index));
    let mut decoder = ParquetPushDecoderBuilder::new_with_metadata(metadata)
        .with_projection(mask)
        .with_row_groups(groups)
        .with_batch_size(plan.batch_rows)
        .with_offset(passed as usize)
        .build()?;
    if let Some(whole) = whole {
        decoder.push_range(0..whole.len() as u64, whole)?;
    }
    Ok((decoder, left))
}

/// The types are those of the format, and not what a writer of Arrow noted beside them; and times as
/// Spark writes them go beyond the years that nanoseconds do.
fn typed(metadata: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let typed = ArrowReaderMetadata::try_new(metadata.clone(), options.clone())?;
    let leaves = typed.parquet_schema().columns().iter();
    let old = leaves.filter(|leaf| leaf.physical_type() == Type::INT96);
    let old: Vec<&[String]> = old.map(|leaf| leaf.path().parts()).collect();
    if old.is_empty() {
        return Ok(typed);
    }
    let is_old =
        |field: &Field| old.iter().any(|path| matches!(path, [own] if own == field.name()));
    let fields = typed.schema().fields().iter().map(|field| match is_old(field) {
        true => Field::new(field.name(), timestamp(), field.is_nullable()),
        false => field.as_ref().clone(),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    ArrowReaderMetadata::try_new(metadata, options.with_schema(schema))
}

/// Whether no row of the group can lie within the bounds.
fn misses(plan: &Plan, metadata: &ArrowReaderMetadata, group: &RowGroupMetaData) -> bool {
    let in_files = plan.bounds.iter().filter(|bound| !plan.is_partition(&bound.column));
    in_files.into_iter().any(|bound| {
        let field = metadata.schema().field_with_name(&bound.column);
        let known = |field: &Field| of_group(group, &bound.column, field.data_type());
        field.is_ok_and(|field| bound.misses(&known(field)))
    })
}

fn damaged(file: &ScanFile, error: &ParquetError) -> SinkError {
    SinkError::lasting(format!("{} is damaged: {error}", file.path))
}
