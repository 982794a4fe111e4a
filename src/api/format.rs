//! Rows as bytes, piece by piece: JSON lines, CSV, Parquet, Arrow's stream.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;

use crate::config::ColumnType;
use crate::json;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Jsonl,
    Csv,
    Parquet,
    Arrow,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::Jsonl, Self::Csv, Self::Parquet, Self::Arrow];

    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jsonl => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// The one that an `Accept` header likes best; JSON lines where it has no wish.
    pub fn accepted(accept: &str) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for wish in accept.split(',') {
            let mut parts = wish.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            let quality = quality.unwrap_or(1.0);
            let meant = match kind.as_str() {
                "" | "*/*" | "application/*" => Some(Self::Jsonl),
                "text/*" => Some(Self::Csv),
                "application/jsonl" | "application/json-lines" | "application/ndjson" => {
                    Some(Self::Jsonl)
                }
                kind => Self::ALL.into_iter().find(|format| format.media_type() == kind),
            };
            if let Some(format) = meant
                && quality > 0.0
                && best.is_none_or(|(known, _)| quality > known)
            {
                best = Some((quality, format));
            }
        }
        best.map(|(_, format)| format)
    }
}

/// Writes rows of one schema in one format.
pub struct Encoder {
    kinds: Vec<ColumnType>,
    out: Shared,
    into: Into,
}

enum Into {
    /// With the names as JSON.
    Jsonl(Vec<Vec<u8>>),
    Csv(SchemaRef, Box<csv::Writer<Shared>>),
    Parquet(Box<ArrowWriter<Shared>>),
    Arrow(Box<StreamWriter<Shared>>),
}

/// Bytes of a row group that is not ended.
const ROW_GROUP: usize = 8 << 20;

impl Encoder {
    /// `kinds`: the types of the schema's columns, as feeds call them.
    pub fn new(
        format: Format,
        schema: &SchemaRef,
        kinds: Vec<ColumnType>,
    ) -> Result<Self, ArrowError> {
        let out = Shared::default();
        let into = match format {
            Format::Jsonl => {
                let name = |field: &Arc<Field>| {
                    let mut name = Vec::new();
                    json::quoted(&mut name, field.name()).map(|()| name)
                };
                Into::Jsonl(schema.fields().iter().map(name).collect::<Result<_, _>>()?)
            }
            Format::Csv => {
                let field = |(field, kind): (&Arc<Field>, &ColumnType)| {
                    let kind =
                        if is_flat(*kind) { field.data_type().clone() } else { DataType::Utf8 };
                    Field::new(field.name(), kind, true)
                };
                let fields = schema.fields().iter().zip(&kinds).map(field);
                let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
                let writer = csv::WriterBuilder::new().with_header(true).build(out.clone());
                let mut writer = Box::new(writer);
                // The header is there though no row follows.
                writer.write(&RecordBatch::new_empty(schema.clone()))?;
                Into::Csv(schema, writer)
            }
            Format::Parquet => {
                Into::Parquet(Box::new(ArrowWriter::try_new(out.clone(), schema.clone(), None)?))
            }
            Format::Arrow => Into::Arrow(Box::new(StreamWriter::try_new(out.clone(), schema)?)),
        };
        Ok(Self { kinds, out, into })
    }

    /// Takes rows; answers what can be sent by now.
    pub fn rows(&mut self, rows: &RecordBatch) -> Result<Bytes, ArrowError> {
        match &mut self.into {
            Into::Jsonl(names) => {
                let mut out = Vec::with_capacity(rows.num_rows() * 64);
                lines(&mut out, names, &self.kinds, rows)?;
                return Ok(out.into());
            }
            Into::Csv(schema, writer) => {
                let columns = rows.columns().iter().zip(&self.kinds);
                let columns = columns.map(|(values, kind)| match is_flat(*kind) {
                    true => Ok(values.clone()),
                    false => spelled(*kind, values),
                });
                let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
                writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
            }
            Into::Parquet(writer) => {
                writer.write(rows)?;
                if writer.in_progress_size() > ROW_GROUP {
                    writer.flush()?;
                }
            }
            Into::Arrow(writer) => writer.write(rows)?,
        }
        Ok(self.out.take())
    }

    /// What comes behind the last row.
    pub fn end(self) -> Result<Bytes, ArrowError> {
        match self.into {
            Into::Jsonl(_) => {}
            Into::Csv(_, writer) => drop(writer),
            Into::Parquet(writer) => drop(writer.close()?),
            Into::Arrow(mut writer) => writer.finish()?,
        }
        Ok(self.out.take())
    }
}

fn lines(
    out: &mut Vec<u8>,
    names: &[Vec<u8>],
    kinds: &[ColumnType],
    rows: &RecordBatch,
) -> Result<(), ArrowError> {
    for row in 0..rows.num_rows() {
        out.push(b'{');
        for (index, ((name, kind), values)) in
            names.iter().zip(kinds).zip(rows.columns()).enumerate()
        {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            out.push(b':');
            json::write(out, *kind, values, row)?;
        }
        out.extend_from_slice(b"}\n");
    }
    Ok(())
}

/// Whether CSV has a form for it.
fn is_flat(kind: ColumnType) -> bool {
    !matches!(kind, ColumnType::Nested(_) | ColumnType::Bytes)
}

/// As text: JSON, and bytes as base64.
fn spelled(kind: ColumnType, values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let mut texts = StringBuilder::new();
    let mut text = Vec::new();
    for row in 0..values.len() {
        if values.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        json::write(&mut text, kind, values, row)?;
        let text = String::from_utf8_lossy(&text);
        texts.append_value(if kind == ColumnType::Bytes { text.trim_matches('"') } else { &*text });
    }
    Ok(Arc::new(texts.finish()))
}

/// What a writer has written and nobody has taken.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
