//! The transaction: rows, quarantine and progress of many partitions, fenced.
//!
//! A row that SQLite refuses fails alone, its statement undone and the transaction going on, so nothing
//! has to be searched for, and the earlier versions of its key are tried right away.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode};

use super::dimension::Dimensions;
use super::replay::Held;
use super::table::{OFFSET, PARTITION, TOPIC, Target};
use super::{File, blame, judged, progress, reject};
use crate::config::{ColumnType, Feed, Schema};
use crate::record::{Batch, Blame, Op, RejectClass, SinkError, Verdict};
use crate::warehouse::Part;
use crate::warehouse::intake::{Intake, Refusal};
use crate::warehouse::spell;

const ADVANCE: &str = "
    UPDATE tidegate_progress
    SET next_offset = ?4, topic_id = coalesce(topic_id, ?5),
        updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
    WHERE feed = ?1 AND topic = ?2 AND partition = ?3";

pub(super) fn write(
    file: &mut File,
    feed: &Feed,
    parts: &[Part],
) -> Result<Vec<Verdict>, SinkError> {
    write_held(file, feed, parts, None).map(Intake::committed)
}

/// `replay`: what the write continues instead of the progress.
pub(super) fn write_held(
    file: &mut File,
    feed: &Feed,
    parts: &[Part],
    replay: Option<&Held<'_>>,
) -> Result<Intake, SinkError> {
    let mut intake = Intake::new(feed, parts, check)?;
    let target = file.target(feed)?;
    let mut written = false;
    while !written && intake.live().next().is_some() {
        written = attempt(file, feed, &target, &mut intake, replay).map_err(|mut error| {
            if error.blame != Blame::Passing {
                // Not to be laid on a single record: for a person to mend. Then look anew.
                error.blame = Blame::Lasting;
                file.targets.remove(&feed.name);
            }
            error
        })?;
        let (parts, refused) = (intake.live().count(), intake.refused());
        if !written && parts > 0 {
            tracing::info!(feed = &*feed.name, parts, refused, "writes again, with fewer parts");
        }
    }
    Ok(intake)
}

/// One try of the transaction. False if it was rolled back, to be done again with fewer parts.
fn attempt(
    file: &mut File,
    feed: &Feed,
    target: &Target,
    intake: &mut Intake,
    replay: Option<&Held<'_>>,
) -> Result<bool, SinkError> {
    let transaction = file.begin()?;
    match replay {
        None => leave_out_fenced(&transaction, &feed.name, intake).map_err(judged)?,
        Some(replay) if !replay.holds(&transaction).map_err(judged)? => {
            intake.settle(0, Verdict::Fenced { found: None });
            return Ok(false);
        }
        Some(_) => {}
    }
    let selection = intake.select();
    let (batches, parts) = (intake.batches.clone(), intake.live().count());
    let mut refused = Vec::new();
    let mut writer = Writer::new(&transaction, target, feed).map_err(judged)?;
    for (number, at) in selection.rows.iter().enumerate() {
        let batch = &batches[at.batch as usize].batch;
        let Err(error) = writer.put(batch, at.row as usize, number < selection.deletes) else {
            continue;
        };
        refused.push(*at);
        intake.refuse(*at, refusal(error)?);
        if intake.live().count() < parts {
            return Ok(false);
        }
    }
    for versions in intake.uncovered(refused)() {
        for at in versions {
            let (batch, row) = (&batches[at.batch as usize].batch, at.row as usize);
            let Err(error) = writer.put(batch, row, batch.op(row) == Op::Delete) else { break };
            intake.refuse(at, refusal(error)?);
            if intake.live().count() < parts {
                return Ok(false);
            }
        }
    }
    drop(writer);
    match replay {
        Some(replay) => replay.settle(&transaction, intake).map_err(judged)?,
        None => {
            let rows = intake.quarantine();
            reject::keep(&transaction, &feed.name, &rows).map_err(judged)?;
            advance(&transaction, &feed.name, intake).map_err(judged)?;
        }
    }
    transaction.commit().map_err(judged)?;
    Ok(true)
}

fn leave_out_fenced(
    connection: &Connection,
    feed: &str,
    intake: &mut Intake,
) -> rusqlite::Result<()> {
    for index in intake.live().collect::<Vec<_>>() {
        let part = &intake.parts[index];
        let found = progress::standing(connection, feed, &part.source)?;
        let holds = found.as_ref().is_some_and(|(claim, next_offset)| {
            *claim == part.claim.to_string() && *next_offset == part.range().start
        });
        if !holds {
            let found = found.map(|(_, next_offset)| next_offset);
            intake.settle(index, Verdict::Fenced { found });
        }
    }
    Ok(())
}

fn advance(connection: &Connection, feed: &str, intake: &Intake) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(ADVANCE)?;
    for part in intake.live().map(|index| &intake.parts[index]) {
        let source = &part.source;
        let topic_id = part.topic_id.text();
        let row = (feed, &*source.topic, source.partition, part.range().end, topic_id);
        statement.execute(row)?;
    }
    Ok(())
}

/// Passes an error on unless it is the record's fault.
fn refusal(error: rusqlite::Error) -> Result<Refusal, SinkError> {
    let class = match error.sqlite_error_code() {
        Some(ErrorCode::TooBig) => RejectClass::OutOfRange,
        Some(code) if blame(code) == Blame::Record => RejectClass::SinkRefused,
        _ => return Err(judged(error)),
    };
    Ok(Refusal { class, reason: error.to_string() })
}

/// Writes rows through two statements.
struct Writer<'a> {
    delete: Option<CachedStatement<'a>>,
    insert: CachedStatement<'a>,
    dimensions: Dimensions<'a>,
    schema: &'a Schema,
    origin: &'a [&'static str],
}

impl<'a> Writer<'a> {
    fn new(
        connection: &'a Connection,
        target: &'a Target,
        feed: &'a Feed,
    ) -> rusqlite::Result<Self> {
        let delete =
            target.delete.as_ref().map(|sql| connection.prepare_cached(sql)).transpose()?;
        let insert = connection.prepare_cached(&target.insert)?;
        let dimensions = Dimensions::new(connection, &target.dimensions, feed)?;
        Ok(Self { delete, insert, dimensions, schema: &feed.schema, origin: &target.origin })
    }

    fn put(&mut self, batch: &Batch, row: usize, delete: bool) -> rusqlite::Result<()> {
        let (statement, columns) = match &mut self.delete {
            Some(statement) if delete => (statement, self.schema.key()),
            _ => (&mut self.insert, &self.schema.columns[..]),
        };
        for (index, column) in columns.iter().enumerate() {
            let value = value(column.kind, batch.rows.column(index), row);
            statement.raw_bind_parameter(index + 1, value)?;
        }
        if !delete {
            for (index, name) in self.origin.iter().enumerate() {
                let at = columns.len() + index + 1;
                match *name {
                    TOPIC => statement.raw_bind_parameter(at, &*batch.source.topic)?,
                    PARTITION => statement.raw_bind_parameter(at, batch.source.partition)?,
                    OFFSET => statement.raw_bind_parameter(at, batch.offsets.value(row))?,
                    _ => statement.raw_bind_parameter(at, record_time(batch, row))?,
                }
            }
        }
        match delete {
            true => statement.raw_execute().map(drop),
            false => self.dimensions.put(batch, row, || statement.raw_execute().map(drop)),
        }
    }
}

/// A record's timestamp; null if there is none or it lies beyond the calendar.
pub(super) fn record_time(batch: &Batch, row: usize) -> Option<String> {
    let ms = batch.timestamps.is_valid(row).then(|| batch.timestamps.value(row));
    ms.and_then(|ms| ms.checked_mul(1_000)).and_then(spell::timestamp)
}

/// A value as SQLite keeps it. `Intake::new` has compared the columns' types with the feed's.
pub(super) fn value(kind: ColumnType, array: &dyn Array, row: usize) -> ToSqlOutput<'_> {
    if array.is_null(row) {
        return ToSqlOutput::Owned(Value::Null);
    }
    let spelled = |text: Option<String>| ToSqlOutput::Owned(text.map_or(Value::Null, Value::Text));
    match kind {
        // Nested columns are JSON or columns by now: see `warehouse::nested`.
        ColumnType::String | ColumnType::Json | ColumnType::Number | ColumnType::Nested(_) => {
            ToSqlOutput::Borrowed(ValueRef::Text(array.as_string::<i32>().value(row).as_bytes()))
        }
        ColumnType::Bytes => {
            ToSqlOutput::Borrowed(ValueRef::Blob(array.as_binary::<i32>().value(row)))
        }
        ColumnType::Int => array.as_primitive::<Int32Type>().value(row).into(),
        ColumnType::Long => array.as_primitive::<Int64Type>().value(row).into(),
        ColumnType::Double => array.as_primitive::<Float64Type>().value(row).into(),
        ColumnType::Boolean => array.as_boolean().value(row).into(),
        ColumnType::Decimal { precision, scale } => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            spelled(Some(spell::decimal(value, precision, scale)))
        }
        ColumnType::Timestamp => {
            spelled(spell::timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row)))
        }
        ColumnType::Date => spelled(spell::date(array.as_primitive::<Date32Type>().value(row))),
    }
}

/// Finds the rows with a value that would silently become null.
fn check(schema: &Schema, batch: &Batch) -> Vec<(usize, Refusal)> {
    let mut refused = Vec::new();
    for (column, array) in schema.columns.iter().zip(batch.rows.columns()) {
        let lost = |row: usize| match column.kind {
            ColumnType::Double => array.as_primitive::<Float64Type>().value(row).is_nan(),
            ColumnType::Timestamp => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                chrono::DateTime::from_timestamp_micros(micros).is_none()
            }
            ColumnType::Date => {
                spell::date(array.as_primitive::<Date32Type>().value(row)).is_none()
            }
            _ => false,
        };
        if !matches!(column.kind, ColumnType::Double | ColumnType::Timestamp | ColumnType::Date) {
            continue;
        }
        for row in (0..array.len()).filter(|row| array.is_valid(*row) && lost(*row)) {
            let reason = format!("{}: a value that SQLite has no form for", column.name);
            refused.push((row, Refusal { class: RejectClass::OutOfRange, reason }));
        }
    }
    refused
}
