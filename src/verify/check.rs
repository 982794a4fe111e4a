//! One feed: both sinks are read, then the log once for both.

use std::collections::HashMap;

use indicatif::ProgressBar;

use super::account::{Held, Tally};
use super::lake::{self, Lake};
use super::report::FeedReport;
use super::spool::{Entry, Spool};
use super::topic::{Broker, Topic};
use super::warehouse::{self, Database};
use super::{canon, gap, start};
use crate::config::{Feed, FeedKind, Schema, Start};
use crate::decode::Decoder;
use crate::lake::LakeStore;
use crate::record::{Batch, OffsetRange, Op, RawBatch, TopicId, TopicPartition};
use crate::registry::{Registry, learn};
use crate::warehouse::{shaped, shaped_batch};

/// Where everything is read from.
pub struct Sources {
    pub broker: Broker,
    pub lake: Option<LakeStore>,
    pub warehouse: Option<Database>,
    /// Where the schemas of Avro records are.
    pub registry: Option<Registry>,
    pub bar: ProgressBar,
}

/// What a sink says it has of one partition.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub range: OffsetRange,
    /// What was passed over.
    pub gaps: Vec<OffsetRange>,
    /// What was taken of former topics of this name.
    pub former: Vec<OffsetRange>,
    /// It is for the topic the broker has now; else there is nothing to compare with.
    pub present: bool,
}

pub(super) type Claims = HashMap<i32, Claim>;

pub async fn check(sources: &Sources, feed: &Feed) -> Result<FeedReport, String> {
    let mut checking = Checking::read_sinks(sources, feed).await?;
    checking.read_log(sources)?;
    let lake = checking.lake.take().map(|(lake, scan)| checking.report_lake(&lake, &scan));
    let warehouse = checking.warehouse.take();
    let warehouse = warehouse.map(|scan| checking.report_warehouse(scan)).transpose()?;
    Ok(FeedReport {
        feed: feed.name.to_string(),
        kind: feed.kind,
        topic: feed.topic.to_string(),
        lake,
        warehouse,
        notes: checking.notes,
    })
}

pub(super) struct Checking<'a> {
    pub feed: &'a Feed,
    pub topic: Topic,
    lake: Option<(Lake, lake::Scan)>,
    warehouse: Option<warehouse::Scan>,
    pub lake_claims: Claims,
    pub warehouse_claims: Claims,
    /// A table's records by key, as far as the warehouse claims them.
    pub records: Spool,
    pub notes: Vec<String>,
}

impl<'a> Checking<'a> {
    /// The sinks before the log, so that the log holds all that they claim.
    async fn read_sinks(sources: &Sources, feed: &'a Feed) -> Result<Self, String> {
        let bar = &sources.bar;
        bar.set_message(format!("{}: reading the warehouse", feed.name));
        let warehouse = match (&sources.warehouse, &feed.warehouse) {
            (Some(database), Some(_)) => Some(database.scan(feed).await?),
            _ => None,
        };
        let lake = match (&sources.lake, &feed.lake) {
            (Some(store), Some(_)) => Some(Lake::open(store, feed).await?),
            _ => None,
        };
        let mut notes = Vec::new();
        let topic = sources.broker.describe(&feed.topic).await?.unwrap_or_else(|| {
            notes.push(format!("the broker has no topic {}: nothing was compared", feed.topic));
            Topic {
                name: feed.topic.clone(),
                id: TopicId::UNKNOWN,
                partitions: Default::default(),
                strict: false,
            }
        });
        bar.set_message(format!("{}: reading the lake", feed.name));
        let lake = match lake {
            Some(lake) => {
                let scan = lake.scan(feed, topic.id, bar).await?;
                Some((lake, scan))
            }
            None => None,
        };
        let (lake_claims, warehouse_claims) = Default::default();
        let records = Spool::new();
        let mut checking =
            Self { feed, topic, lake, warehouse, lake_claims, warehouse_claims, records, notes };
        let begins = checking.begins(sources)?;
        checking.lake_claims = checking.claims_of_lake(&begins);
        checking.warehouse_claims = checking.claims_of_warehouse();
        Ok(checking)
    }

    /// Where the feed's rule says that reading begins, by partition, as far as that can be known.
    fn begins(&self, sources: &Sources) -> Result<HashMap<i32, i64>, String> {
        let mut begins = HashMap::new();
        for (partition, held) in &self.topic.partitions {
            let begin = match self.feed.start {
                Start::Earliest => Some(held.low),
                Start::Latest => None,
                Start::Timestamp(time) => {
                    let source = TopicPartition::new(self.feed.topic.clone(), *partition);
                    sources.broker.log.offset_at(&source, time)?
                }
            };
            begins.extend(begin.map(|begin| (*partition, begin)));
        }
        Ok(begins)
    }

    fn claims_of_lake(&self, begins: &HashMap<i32, i64>) -> Claims {
        let Some((lake, scan)) = &self.lake else { return Claims::new() };
        let mut claims = Claims::new();
        let sources = lake.rows.sources().into_iter();
        for source in sources.filter(|source| source.topic == self.feed.topic) {
            let Some(mark) = lake.rows.mark_of(source, self.topic.id) else { continue };
            let gaps = gap::passed(lake.rows.gaps(), source, mark.topic_id);
            let seen = scan.tallies.get(&source.partition).and_then(Tally::first);
            let begin = begins.get(&source.partition).copied();
            let start = mark
                .start
                .unwrap_or_else(|| start::first_claimed(begin, seen, &gaps, mark.next_offset));
            claims.insert(
                source.partition,
                Claim {
                    range: OffsetRange {
                        start: start.min(mark.next_offset),
                        end: mark.next_offset,
                    },
                    gaps,
                    former: Vec::new(),
                    present: self.is_present(source.partition, mark.topic_id),
                },
            );
        }
        claims
    }

    fn claims_of_warehouse(&self) -> Claims {
        let Some(scan) = &self.warehouse else { return Claims::new() };
        let mut claims = Claims::new();
        for (source, progress) in &scan.progress {
            if source.topic != self.feed.topic {
                continue;
            }
            let gaps = gap::passed(&scan.gaps, source, progress.topic_id);
            let (start, end) = (progress.start, progress.next_offset);
            claims.insert(
                source.partition,
                Claim {
                    range: OffsetRange { start: start.min(end), end },
                    gaps,
                    former: scan.former.get(source).cloned().unwrap_or_default(),
                    present: self.is_present(source.partition, progress.topic_id),
                },
            );
        }
        claims
    }

    fn is_present(&self, partition: i32, topic_id: TopicId) -> bool {
        topic_id.agrees(self.topic.id) && self.topic.partitions.contains_key(&partition)
    }

    /// Reads, once for both sinks, what either claims.
    fn read_log(&mut self, sources: &Sources) -> Result<(), String> {
        let schema = Schema { evolve: None, ..self.feed.schema.clone() };
        let mut decoder = (self.feed.kind == FeedKind::Table && self.warehouse.is_some())
            .then(|| Decoder::new(&schema, true, false, false))
            .map(|decoder| decoder.keep_documents(self.feed.is_document()));
        let partitions: Vec<i32> = self.topic.partitions.keys().copied().collect();
        for partition in partitions {
            let claims = [&self.lake_claims, &self.warehouse_claims].map(|it| it.get(&partition));
            let ranges = claims.into_iter().flatten().filter(|claim| claim.present);
            let ranges: Vec<OffsetRange> = ranges.map(|claim| claim.range).collect();
            let (Some(start), Some(end)) = (
                ranges.iter().map(|range| range.start).min(),
                ranges.iter().map(|range| range.end).max(),
            ) else {
                continue;
            };
            let mut held = self.topic.partitions.remove(&partition).unwrap_or_default();
            let bar = &sources.bar;
            bar.set_message(format!("{}: reading partition {partition}", self.feed.name));
            bar.set_length((end.min(held.high) - start.max(held.low)).max(0) as u64);
            bar.set_position(0);
            let keyed = self.warehouse_claims.get(&partition).filter(|claim| claim.present);
            let tally = self.warehouse.as_ref().and_then(|scan| scan.tallies.get(&partition));
            let range = OffsetRange { start, end };
            let (feed, records) = (self.feed, &mut self.records);
            sources.broker.read(&self.topic, partition, &mut held, range, |raw, held| {
                bar.inc((raw.range.end - raw.range.start) as u64);
                match (&mut decoder, keyed) {
                    (Some(decoder), Some(claim)) => {
                        learn_schemas(sources.registry.as_ref(), decoder, raw)?;
                        keep_records(feed, decoder, raw, claim, tally, held, records)
                    }
                    _ => Ok(()),
                }
            })?;
            self.topic.partitions.insert(partition, held);
        }
        Ok(())
    }
}

/// Asks for the schemas of a batch's records. Blocks, on a runtime of several threads.
fn learn_schemas(
    registry: Option<&Registry>,
    decoder: &mut Decoder,
    raw: &RawBatch,
) -> Result<(), String> {
    let learning = learn(registry, decoder, raw);
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(learning))
}

/// Decodes a batch and keeps its rows by key, as far as the warehouse must have taken them.
fn keep_records(
    feed: &Feed,
    decoder: &mut Decoder,
    raw: &RawBatch,
    claim: &Claim,
    tally: Option<&Tally>,
    held: &mut Held,
    records: &mut Spool,
) -> Result<(), String> {
    let mut batch = decoder.decode(raw, raw.range.start);
    batch = shaped_batch(feed, &batch).map_err(|error| error.to_string())?;
    let feed = &*shaped(feed);
    for reject in batch.rejects.iter() {
        held.rejects.insert(reject.offset);
    }
    for row in 0..batch.num_rows() {
        let offset = batch.offsets.value(row);
        // What the warehouse alone refused is in its quarantine and changes no row.
        let refused = tally.is_some_and(|tally| tally.quarantined.contains(offset));
        let skipped = claim.gaps.iter().any(|gap| gap.contains(offset));
        if claim.range.contains(offset) && !refused && !skipped {
            records.push(&entry(feed, &batch, row))?;
        }
    }
    Ok(())
}

fn entry(feed: &Feed, batch: &Batch, row: usize) -> Entry {
    let columns = feed.schema.columns.iter().zip(batch.rows.columns());
    let mut values = columns.map(|(column, array)| canon::decoded(column.kind, array, row));
    let key = values.by_ref().take(feed.schema.key_columns).collect();
    Entry {
        key,
        partition: Some(batch.source.partition),
        offset: Some(batch.offsets.value(row)),
        columns: (batch.op(row) == Op::Upsert).then(|| values.collect()),
    }
}
