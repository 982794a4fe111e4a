//! One write while it is being decided: which parts are still in it, which rows are refused, which
//! rows are left to send. Pure; the adapters tell it what the database said.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reduce::{self, At, Selection};
use super::{Part, spell};
use crate::config::{Feed, FeedKind, Quarantine, Schema};
use crate::record::{Batch, Op, RejectClass, SinkError, TopicId, TopicPartition, Verdict};

/// Why this sink alone refuses a row.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub class: RejectClass,
    pub reason: String,
}

/// A batch and the part it belongs to.
pub(super) struct Placed {
    pub part: usize,
    pub batch: Arc<Batch>,
}

pub(super) struct Intake {
    kind: FeedKind,
    schema: Schema,
    limits: Quarantine,
    pub parts: Arc<[Part]>,
    /// The batches of all parts, in order; [`At::batch`] counts them.
    pub batches: Arc<[Placed]>,
    /// What has been decided; `None` while a part is still in the write.
    verdicts: Vec<Option<Verdict>>,
    refused: BTreeMap<At, Refusal>,
    /// Rejected records of each batch: those that could not be decoded and the refused rows.
    rejected: Vec<usize>,
}

/// What becomes a row of the quarantine table.
pub(super) struct Quarantined<'a> {
    pub source: &'a TopicPartition,
    pub topic_id: TopicId,
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// A JSON array.
    pub headers: String,
    pub class: RejectClass,
    pub reason: String,
    /// The sink that alone refused the record; `None` where it could not be decoded for any.
    pub sink: Option<&'static str>,
}

/// Finds the rows of a batch that a database is known to refuse.
pub(super) type Check = fn(&Schema, &Batch) -> Vec<(usize, Refusal)>;

impl Intake {
    /// Takes the parts in, settles those with too many rejects, and refuses the rows that `check`
    /// finds.
    pub fn new(feed: &Feed, parts: &[Part], check: Check) -> Result<Self, SinkError> {
        let placed = |(part, of): (usize, &Part)| {
            of.batches.iter().map(move |batch| Placed { part, batch: batch.clone() }).collect()
        };
        let batches: Vec<Vec<Placed>> = parts.iter().enumerate().map(placed).collect();
        let batches: Arc<[Placed]> = batches.into_iter().flatten().collect();
        let mut intake = Self {
            kind: feed.kind,
            schema: feed.schema.clone(),
            limits: feed.quarantine.clone(),
            parts: parts.into(),
            batches: batches.clone(),
            verdicts: vec![None; parts.len()],
            refused: BTreeMap::new(),
            rejected: batches.iter().map(|placed| placed.batch.rejects.len()).collect(),
        };
        intake.check_shape(feed)?;
        for (index, part) in parts.iter().enumerate() {
            if part.batches.is_empty() {
                // It covers nothing, so there is nothing a fence could protect.
                intake.verdicts[index] = Some(Verdict::Durable { quarantined: 0 });
            }
        }
        for (index, placed) in batches.iter().enumerate() {
            if let Some(reject) = placed.batch.rejects.last() {
                intake.weigh(index, &reject.reason);
            }
            for (row, refusal) in check(&intake.schema, &placed.batch) {
                intake.refuse(At { batch: index as u32, row: row as u32 }, refusal);
            }
        }
        Ok(intake)
    }

    /// A batch of another feed or another schema is our own mistake; better parked than misread.
    fn check_shape(&self, feed: &Feed) -> Result<(), SinkError> {
        let wanted = feed.schema.arrow();
        for Placed { part, batch } in self.batches.iter() {
            let source = &self.parts[*part].source;
            if source.topic != feed.topic || batch.source != *source {
                return Err(SinkError::lasting(format!(
                    "a batch of {} does not belong to feed {} ({})",
                    batch.source, feed.name, feed.topic
                )));
            }
            let found = batch.rows.schema();
            let types = |schema: &arrow::datatypes::Schema| -> Vec<_> {
                schema.fields().iter().map(|field| field.data_type().clone()).collect()
            };
            if found != wanted && types(&found) != types(&wanted) {
                return Err(SinkError::lasting(format!(
                    "a batch of {source} does not have the columns of feed {}",
                    feed.name
                )));
            }
        }
        Ok(())
    }

    /// The parts that are still in the write.
    pub fn live(&self) -> impl Iterator<Item = usize> {
        (0..self.parts.len()).filter(|part| self.verdicts[*part].is_none())
    }

    /// Leaves a part out of the write.
    pub fn settle(&mut self, part: usize, verdict: Verdict) {
        self.verdicts[part] = Some(verdict);
    }

    /// Puts a row into quarantine, and leaves its part out if those are too many now.
    pub fn refuse(&mut self, at: At, refusal: Refusal) {
        let reason = refusal.reason.clone();
        if self.refused.insert(at, refusal).is_none() {
            self.rejected[at.batch as usize] += 1;
        }
        self.weigh(at.batch as usize, &reason);
    }

    /// Whether the batch, or its part as a whole, has more rejects than the feed allows. The part is
    /// weighed too because a batch may be too small to be judged alone.
    fn weigh(&mut self, batch: usize, reason: &str) {
        let part = self.batches[batch].part;
        if self.verdicts[part].is_some() {
            return;
        }
        let weight = |index: usize| {
            let batch = &self.batches[index].batch;
            (self.rejected[index], batch.num_rows() + batch.rejects.len())
        };
        let whole = (0..self.batches.len())
            .filter(|index| self.batches[*index].part == part)
            .map(weight)
            .fold((0, 0), |sum, (rejected, rows)| (sum.0 + rejected, sum.1 + rows));
        for (rejected, rows) in [weight(batch), whole] {
            let share = rejected as f64 / rows.max(1) as f64;
            if rows >= self.limits.park_min_records && share > self.limits.park_above {
                self.verdicts[part] = Some(Verdict::TooManyRejects {
                    rejected: rejected as u64,
                    rows: rows as u64,
                    reason: reason.to_owned(),
                });
                return;
            }
        }
    }

    /// The rows to send: those of the live parts that are not refused; of a table's only the last of
    /// each key, sorted by key.
    pub fn select(&self) -> Selection {
        let rows = self.rows();
        match self.kind {
            FeedKind::Stream => Selection { rows, deletes: 0 },
            FeedKind::Table => reduce::last_of_each_key(&self.schema, &self.batches, rows),
        }
    }

    /// The rows of the live parts that are not refused.
    fn rows(&self) -> Vec<At> {
        let live = |at: &At| {
            self.verdicts[self.batches[at.batch as usize].part].is_none()
                && !self.refused.contains_key(at)
        };
        // Nearly always nothing is refused or left out, and then nothing is looked up row by row.
        let all = self.refused.is_empty() && self.verdicts.iter().all(Option::is_none);
        let rows = self.batches.iter().enumerate().flat_map(|(index, placed)| {
            let batch = index as u32;
            (0..placed.batch.num_rows() as u32).map(move |row| At { batch, row })
        });
        if all { rows.collect() } else { rows.filter(live).collect() }
    }

    /// Finds what refusing rows of a selection uncovers: of each of their keys the earlier rows, the
    /// newest first, to be tried in their place until one is taken. It computes as long as `select`.
    pub fn uncovered(&self, refused: Vec<At>) -> impl FnOnce() -> Vec<Vec<At>> + Send + 'static {
        let of_keys = self.kind == FeedKind::Table && !refused.is_empty();
        let rows = if of_keys { self.rows() } else { Vec::new() };
        let (schema, batches) = (self.schema.clone(), self.batches.clone());
        move || match rows.is_empty() {
            true => Vec::new(),
            false => reduce::versions_below(&schema, &batches, &rows, &refused),
        }
    }

    /// The offsets of the refused rows, each with the reason.
    pub fn refusals(&self) -> Vec<(i64, String)> {
        let of = |(at, refusal): (&At, &Refusal)| {
            let batch = &self.batches[at.batch as usize].batch;
            (batch.offsets.value(at.row as usize), refusal.reason.clone())
        };
        self.refused.iter().map(of).collect()
    }

    /// How many rows are refused so far, in all parts.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// The quarantine rows of the live parts.
    pub fn quarantine(&self) -> Vec<Quarantined<'_>> {
        let live = |placed: &&Placed| self.verdicts[placed.part].is_none();
        let mut rows: Vec<_> = self
            .batches
            .iter()
            .filter(live)
            .flat_map(|placed| {
                let part = &self.parts[placed.part];
                placed.batch.rejects.iter().map(move |reject| Quarantined {
                    source: &part.source,
                    topic_id: part.topic_id,
                    offset: reject.offset,
                    timestamp_ms: (reject.timestamp_ms >= 0).then_some(reject.timestamp_ms),
                    key: reject.key.clone(),
                    value: reject.value.clone(),
                    headers: reject.headers_json(),
                    class: reject.class,
                    reason: reject.reason.clone(),
                    sink: None,
                })
            })
            .collect();
        for (at, refusal) in &self.refused {
            let placed = &self.batches[at.batch as usize];
            if live(&placed) {
                rows.push(self.refused_row(placed, at.row as usize, refusal));
            }
        }
        rows
    }

    /// A row that only this sink refused. The record's own bytes are gone by now (a batch keeps them
    /// for what could not be decoded), so its value is kept as the row spelled in JSON; that of a
    /// tombstone is null, as it was.
    fn refused_row(&self, placed: &Placed, row: usize, refusal: &Refusal) -> Quarantined<'_> {
        let part = &self.parts[placed.part];
        let batch = &placed.batch;
        // Of a tombstone the key is all there is to tell the row by.
        let key = match &batch.keys {
            Some(keys) if batch.op(row) == Op::Upsert => {
                arrow::array::Array::is_valid(keys, row).then(|| keys.value(row).to_vec())
            }
            _ if self.schema.key_columns > 0 => {
                Some(spell::row(self.schema.key(), batch, row).into_bytes())
            }
            _ => None,
        };
        let value = (batch.op(row) == Op::Upsert)
            .then(|| spell::row(&self.schema.columns, batch, row).into_bytes());
        let headers = batch.headers.as_ref().map(|headers| headers.value(row).to_owned());
        Quarantined {
            source: &part.source,
            topic_id: part.topic_id,
            offset: batch.offsets.value(row),
            timestamp_ms: arrow::array::Array::is_valid(&batch.timestamps, row)
                .then(|| batch.timestamps.value(row)),
            key,
            value,
            headers: headers.unwrap_or_else(|| "[]".to_owned()),
            class: refusal.class,
            reason: format!("{} (the value kept is the row as JSON)", refusal.reason),
            sink: Some("warehouse"),
        }
    }

    /// The answers, once the live parts are committed.
    pub fn committed(mut self) -> Vec<Verdict> {
        let mut quarantined = vec![0; self.parts.len()];
        for at in self.refused.keys() {
            quarantined[self.batches[at.batch as usize].part] += 1;
        }
        let durable = |part: usize| Verdict::Durable { quarantined: quarantined[part] };
        let taken = std::mem::take(&mut self.verdicts);
        taken
            .into_iter()
            .enumerate()
            .map(|(part, verdict)| verdict.unwrap_or_else(|| durable(part)))
            .collect()
    }
}
