//! The last row of each key. Fewer rows sent beats any faster sending, and one statement may not
//! touch a key twice.

use std::cmp::Ordering;
use std::collections::HashMap;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use std::sync::Arc;

use super::intake::Placed;
use crate::config::Schema;
use crate::record::Op;

/// Where a row is: its batch, counted over all parts of the write, and its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub batch: u32,
    pub row: u32,
}

/// The rows to send, in the order they are sent: `deletes` of them first.
#[derive(Debug)]
pub(super) struct Selection {
    pub rows: Vec<At>,
    pub deletes: usize,
}

/// A row with the first bytes of its key in which keys differ at all, so that sorting seldom has to
/// look at the key itself.
struct Keyed {
    prefix: [u64; 2],
    at: At,
}

/// Keeps the last row of each key, deletes before upserts (their keys differ, so their order does not
/// matter), each sorted by the whole key: two writers that touch the same keys lock them in the same
/// order, and an index is walked from left to right.
pub(super) fn last_of_each_key(schema: &Schema, batches: &[Placed], rows: Vec<At>) -> Selection {
    let keys = Keys::of(schema, batches);
    let shared = keys.shared_prefix(&rows);
    let mut keyed: Vec<Keyed> =
        rows.into_iter().map(|at| Keyed { prefix: prefix(&keys.get(at)[shared..]), at }).collect();
    let by_key = |a: &Keyed, b: &Keyed| -> Ordering {
        a.prefix.cmp(&b.prefix).then_with(|| keys.get(a.at).cmp(keys.get(b.at)))
    };
    keyed.sort_unstable_by(|a, b| by_key(a, b).then(a.at.cmp(&b.at)));
    let last_of_run = |index: usize| match keyed.get(index + 1) {
        Some(next) => by_key(&keyed[index], next) != Ordering::Equal,
        None => true,
    };
    let mut selection = Selection { rows: Vec::with_capacity(keyed.len()), deletes: 0 };
    let mut upserts = Vec::with_capacity(keyed.len());
    for index in (0..keyed.len()).filter(|index| last_of_run(*index)) {
        let at = keyed[index].at;
        match batches[at.batch as usize].batch.op(at.row as usize) {
            Op::Delete => selection.rows.push(at),
            Op::Upsert => upserts.push(at),
        }
    }
    selection.deletes = selection.rows.len();
    selection.rows.append(&mut upserts);
    selection
}

/// Of the keys of `tops`, one row each, all of `rows` that came before, the newest first. Keys without
/// any are left out.
pub(super) fn versions_below(
    schema: &Schema,
    batches: &[Placed],
    rows: &[At],
    tops: &[At],
) -> Vec<Vec<At>> {
    let keys = Keys::of(schema, batches);
    let places: HashMap<&[u8], usize> =
        tops.iter().enumerate().map(|(place, at)| (keys.get(*at), place)).collect();
    let mut below = vec![Vec::new(); tops.len()];
    for at in rows.iter().rev() {
        if let Some(place) = places.get(keys.get(*at)).filter(|place| *at < tops[**place]) {
            below[*place].push(*at);
        }
    }
    below.retain(|versions| !versions.is_empty());
    below
}

fn prefix(bytes: &[u8]) -> [u64; 2] {
    let mut padded = [0; 16];
    let len = bytes.len().min(16);
    padded[..len].copy_from_slice(&bytes[..len]);
    let number = u128::from_be_bytes(padded);
    [(number >> 64) as u64, number as u64]
}

/// The keys of all batches in a form whose bytes compare as the keys do.
struct Keys(Vec<Rows>);

impl Keys {
    fn of(schema: &Schema, batches: &[Placed]) -> Self {
        // `Intake::new` has compared the columns' types, and all of them are types that rows hold.
        let convert = |placed: &Placed| {
            let rows = record_keys(schema, &placed.batch.rows);
            rows.unwrap_or_else(|error| unreachable!("key columns: {error}"))
        };
        Self(batches.iter().map(convert).collect())
    }

    fn get(&self, at: At) -> &[u8] {
        self.0[at.batch as usize].row(at.row as usize).data()
    }

    /// How many first bytes all keys share.
    fn shared_prefix(&self, rows: &[At]) -> usize {
        let Some(first) = rows.first().map(|at| self.get(*at)) else { return 0 };
        rows.iter().fold(first.len(), |shared, at| {
            let key = self.get(*at);
            let shared = shared.min(key.len());
            if key[..shared] == first[..shared] {
                return shared;
            }
            first.iter().zip(key).take_while(|(a, b)| a == b).count()
        })
    }
}

/// The key of each row in a form whose bytes compare, and are equal, as the keys are to a database.
pub fn record_keys(schema: &Schema, rows: &RecordBatch) -> Result<Rows, ArrowError> {
    let fields = schema.key().iter().map(|key| SortField::new(key.kind.arrow())).collect();
    let columns = &rows.columns()[..schema.key_columns];
    let columns: Vec<ArrayRef> = columns.iter().map(one_zero).collect();
    RowConverter::new(fields)?.convert_columns(&columns)
}

/// 0.0 and -0.0 are one key to a database, as all NaN are.
fn one_zero(column: &ArrayRef) -> ArrayRef {
    if *column.data_type() != DataType::Float64 {
        return column.clone();
    }
    let numbers = column.as_primitive::<Float64Type>();
    Arc::new(numbers.unary::<_, Float64Type>(|number| match number {
        _ if number.is_nan() => f64::NAN,
        _ => number + 0.0,
    }))
}
