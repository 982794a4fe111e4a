//! One file of JSON lines, piece after piece. Its rows have no index: to go on in it, what lies before
//! is fetched once more and passed over.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema as ArrowSchema;
use object_store::ObjectStoreExt;

use super::reading::{Piece, Plan, died};
use super::{ScanFile, Table};
use crate::config::Schema;
use crate::decode::Decoder;
use crate::record::{RawBatch, SinkError, TopicPartition};

/// What is fetched at once, and about as much is held.
const CHUNK: u64 = 1 << 20;

/// Lines passed over, or counted, at once.
const PASSED: usize = 1 << 16;

pub struct LinesFile {
    table: Arc<Table>,
    plan: Arc<Plan>,
    index: usize,
    /// Bytes that were fetched.
    fetched: u64,
    /// What is not decoded yet, and how many lines of it are whole.
    text: Vec<u8>,
    lines: usize,
    row: u64,
    from: u64,
    /// None if no column of the file is wanted. Away only while it decodes.
    decoder: Option<Decoder>,
}

impl LinesFile {
    pub fn open(table: Arc<Table>, plan: Arc<Plan>, index: usize, from: u64) -> Self {
        let columns = table.lines.iter().filter(|it| plan.in_files.contains(&it.name));
        let schema = Schema::json(columns.cloned().collect(), 0);
        let decoder =
            (!plan.in_files.is_empty()).then(|| Decoder::new(&schema, false, false, false));
        let (fetched, text, lines, row) = Default::default();
        Self { table, plan, index, fetched, text, lines, row, from, decoder }
    }

    fn file(&self) -> &ScanFile {
        &self.table.found.files[self.index]
    }

    pub async fn next(&mut self) -> Result<Option<Piece>, SinkError> {
        while self.row < self.from {
            let most = (self.from - self.row).min(PASSED as u64) as usize;
            if self.take(most).await?.is_none() {
                return Ok(None);
            }
        }
        let Some((text, count)) = self.take(self.plan.batch_rows).await? else { return Ok(None) };
        let (table, plan, index) = (self.table.clone(), self.plan.clone(), self.index);
        let (decoder, before) = (self.decoder.take(), self.row - count as u64);
        let decoding = tokio::task::spawn_blocking(move || {
            let file = &table.found.files[index];
            let mut decoder = decoder;
            let rows = decode(decoder.as_mut(), &text, count, before, file)?;
            Ok::<_, SinkError>((decoder, plan.finish(&rows, file)?))
        });
        let (decoder, rows) = decoding.await.map_err(died)??;
        self.decoder = decoder;
        let ended = self.text.is_empty() && self.fetched >= self.file().size;
        Ok(Some(Piece { rows, row: self.row, ended }))
    }

    /// The next lines, at most so many and about as long as a chunk, and how many they are.
    async fn take(&mut self, most: usize) -> Result<Option<(Vec<u8>, usize)>, SinkError> {
        let size = self.file().size;
        let enough = |it: &Self| it.lines >= most || it.text.len() as u64 >= CHUNK;
        while self.fetched < size && (self.lines == 0 || !enough(self)) {
            let range = self.fetched..size.min(self.fetched + CHUNK);
            let file = self.file();
            let got = self.table.store.get_range(&file.location, range).await;
            let got = got.map_err(|error| self.table.unreadable(file, &error))?;
            if got.is_empty() {
                return Err(SinkError::lasting(format!(
                    "{} is damaged: it is cut short",
                    file.path
                )));
            }
            self.fetched += got.len() as u64;
            self.lines += got.iter().filter(|byte| **byte == b'\n').count();
            self.text.extend_from_slice(&got);
            if self.fetched >= size && !self.text.ends_with(b"\n") {
                self.text.push(b'\n');
                self.lines += 1;
            }
        }
        let count = self.lines.min(most);
        if count == 0 {
            return Ok(None);
        }
        let ends = self.text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let end = ends.map(|(at, _)| at + 1).nth(count - 1).unwrap_or(self.text.len());
        let rest = self.text.split_off(end);
        self.lines -= count;
        self.row += count as u64;
        Ok(Some((std::mem::replace(&mut self.text, rest), count)))
    }
}

fn decode(
    decoder: Option<&mut Decoder>,
    text: &[u8],
    count: usize,
    before: u64,
    file: &ScanFile,
) -> Result<RecordBatch, SinkError> {
    let Some(decoder) = decoder else {
        let (none, options) = (Arc::new(ArrowSchema::empty()), RecordBatchOptions::new());
        let options = options.with_row_count(Some(count));
        return RecordBatch::try_new_with_options(none, Vec::new(), &options)
            .map_err(SinkError::lasting);
    };
    let mut raw = RawBatch::new(TopicPartition::new("", 0), 0);
    for (line, at) in text.split(|byte| *byte == b'\n').take(count).zip(0..) {
        raw.push(at, -1, None, Some(line), []);
    }
    let decoded = decoder.decode(&raw, 0);
    match decoded.rejects.first() {
        Some(reject) => Err(SinkError::lasting(format!(
            "{}, line {}: {}",
            file.path,
            before + reject.offset as u64 + 1,
            reject.reason
        ))),
        None => Ok(decoded.rows),
    }
}
