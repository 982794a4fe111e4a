//! Feeds as they run: a feed file and a topic become a feed whose columns are known.
//!
//! Columns that no file declares are inferred once from the topic's first records, or from the newest
//! schema of these where they are Avro, and kept beside the lake's tables, or in the warehouse where
//! there is no lake. The first writer wins, so every node of
//! a cluster and every later start works with the same columns. Where a feed evolves, new fields are
//! added to what is kept, one change after the other, whichever node found them.

mod known;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

pub use self::known::{Known, Named};
use crate::avro::{AvroSchema, parts};
use crate::config::{
    Column, Feed, FeedFile, Kafka, Kept, Nesting, Schema, Storage, VERSION, ValueFormat,
};
use crate::decode::{Inference, NewFields, connect_payload, infer, infer_avro};
use crate::lake::LakeStore;
use crate::layout::Layout;
use crate::record::{RawBatch, RawRecord, TopicPartition};
use crate::registry::{Away, Registry};
use crate::source::Log;
use crate::telemetry::fault;
use crate::warehouse::Warehouse;

/// Records looked at for an inference, over all partitions.
const SAMPLE: usize = 2000;

#[derive(Clone)]
pub struct Catalog {
    kafka: Kafka,
    lake: Option<LakeStore>,
    warehouse: Option<Arc<dyn Warehouse>>,
    registry: Option<Registry>,
}

impl Catalog {
    pub fn new(
        kafka: Kafka,
        lake: Option<LakeStore>,
        warehouse: Option<Arc<dyn Warehouse>>,
        registry: Option<Registry>,
    ) -> Self {
        Self { kafka, lake, warehouse, registry }
    }

    /// Where the schemas of Avro records are.
    pub fn registry(&self) -> Option<&Registry> {
        self.registry.as_ref()
    }

    /// The feed that a file makes of a topic.
    ///
    /// Errors: the kept columns cannot be read or written, or the topic holds no record to infer them
    /// from yet. Both pass by themselves.
    pub async fn feed(&self, file: &FeedFile, topic: &str) -> Result<Feed, NoFeed> {
        if let Some(feed) = self.known(file, topic).await? {
            return Ok(feed);
        }
        let name = file.name_for(topic).map_err(|fault| fault.to_string())?;
        let columns = self.infer(file, topic).await?;
        info!(target: "tidegate::catalog", feed = name, topic, columns = columns.len(), "columns inferred");
        let kept = Kept { columns, left_out: Vec::new() };
        let text = self.keep(&name, kept.to_text()).await?;
        Ok(resolved(file, topic, Some(parsed(&name, &text)?))?)
    }

    /// The same, without a look at the topic's records: none while its columns are not known.
    pub async fn known(&self, file: &FeedFile, topic: &str) -> Result<Option<Feed>, String> {
        let name = file.name_for(topic).map_err(|fault| fault.to_string())?;
        let declared = file.value_columns().is_some();
        let kept = match declared && !file.evolves() {
            true => None,
            false => self.kept(&name).await?,
        };
        match kept {
            Some((_, text)) => resolved(file, topic, Some(parsed(&name, &text)?)).map(Some),
            None if declared => resolved(file, topic, None).map(Some),
            None => Ok(None),
        }
    }

    /// Adds fields that no column of the feed takes to what is kept for it: another node may have added
    /// the same, or others, meanwhile.
    pub async fn extend(
        &self,
        file: &FeedFile,
        feed: &Feed,
        new: &NewFields,
    ) -> Result<(), String> {
        let taken: Vec<&str> = feed.schema.columns.iter().map(|it| it.name.as_str()).collect();
        let case = feed.schema.evolve.map(|evolve| evolve.case).unwrap_or_default();
        if self.kept(&feed.name).await?.is_none() {
            self.keep(&feed.name, Kept::default().to_text()).await?;
        }
        let Some((home, mut text)) = self.kept(&feed.name).await? else {
            return Err("nothing is kept, and nothing can be".to_owned());
        };
        loop {
            let mut kept = parsed(&feed.name, &text)?;
            let former = kept.clone();
            if !new.add_to(&mut kept, &taken, case, |columns| fits(file, &feed.topic, columns)) {
                if !is_known(&feed.schema, &kept) {
                    // Another node has added them, and the feed does not know yet.
                    return Ok(());
                }
                new.leave_out(&mut kept);
            }
            self.widen(file, &feed.topic, former, &mut kept).await?;
            let wanted = kept.to_text();
            if wanted == text {
                if !is_known(&feed.schema, &kept) {
                    return Ok(());
                }
                let paths = new.paths().join(", ");
                return Err(format!("these fields can have no column: {paths}"));
            }
            let changed = match home {
                Home::Lake(lake) => lake.change_columns(&feed.name, &text, wanted.clone()).await,
                Home::Warehouse(warehouse) => {
                    warehouse.change_columns(&feed.name, &text, &wanted).await
                }
            };
            text = changed
                .map_err(|error| format!("keeping the columns of feed {}: {error}", feed.name))?;
            if text == wanted {
                info!(target: "tidegate::catalog", feed = %feed.name, fields = ?new.paths(), left_out = ?kept.left_out, "new fields");
                fault::point("catalog.extended");
                return Ok(());
            }
        }
    }

    /// Widens the columns in the warehouse that are to be wider than `former`; those that it cannot are as
    /// they were. First there, since a table of wider columns takes narrower values, too.
    async fn widen(
        &self,
        file: &FeedFile,
        topic: &str,
        former: Kept,
        kept: &mut Kept,
    ) -> Result<(), String> {
        let mut wide = former.clone();
        for (index, before) in former.columns.iter().enumerate() {
            let Some(wanted) = kept.columns.get_mut(index).filter(|it| it.kind != before.kind)
            else {
                continue;
            };
            wide.columns[index].kind = wanted.kind;
            let feed = file.resolve(topic, Some(wide.columns.clone()));
            let feed = feed.map_err(|fault| fault.to_string())?;
            let warehouse = self.warehouse.as_ref().filter(|_| feed.warehouse.is_some());
            let widened = match warehouse {
                Some(warehouse) => warehouse.widen(&feed, before).await,
                None => Ok(true),
            };
            let widened = widened.map_err(|error| format!("widening {}: {error}", before.name))?;
            if !widened {
                wide.columns[index].kind = before.kind;
                wanted.kind = before.kind;
                kept.leave_out(before.path());
            }
        }
        Ok(())
    }

    /// What is kept for a feed, and where: beside the lake, else in the warehouse, where a node without a
    /// lake may have put it.
    async fn kept(&self, feed: &str) -> Result<Option<(Home<'_>, String)>, String> {
        for home in self.homes() {
            let kept = match home {
                Home::Lake(lake) => lake.kept_columns(feed).await,
                Home::Warehouse(warehouse) => warehouse.kept_columns(feed).await,
            };
            let kept =
                kept.map_err(|error| format!("reading the columns kept for feed {feed}: {error}"))?;
            if let Some(kept) = kept {
                return Ok(Some((home, kept)));
            }
        }
        Ok(None)
    }

    /// Where columns may be kept, the first for new ones. By the node's configuration and not by the
    /// feeds, so that all nodes and all times agree.
    fn homes(&self) -> impl Iterator<Item = Home<'_>> {
        let lake = self.lake.iter().map(Home::Lake);
        lake.chain(self.warehouse.iter().map(|warehouse| Home::Warehouse(warehouse.as_ref())))
    }

    /// Keeps what was found first; answers what is kept.
    async fn keep(&self, feed: &str, columns: String) -> Result<String, String> {
        let kept = match self.homes().next() {
            Some(Home::Lake(lake)) => lake.keep_columns(feed, columns).await,
            Some(Home::Warehouse(warehouse)) => warehouse.keep_columns(feed, &columns).await,
            None => Ok(columns),
        };
        kept.map_err(|error| format!("keeping the columns of feed {feed}: {error}"))
    }

    async fn infer(&self, file: &FeedFile, topic: &str) -> Result<Vec<Column>, NoFeed> {
        let declared = file.key.as_ref().map(|key| key.columns.clone()).unwrap_or_default();
        let samples = Samples::read(&self.kafka, topic).await?;
        if samples.records().next().is_none() {
            return Err(NoFeed::Waiting(samples.nothing("record")));
        }
        let nesting = file.nested;
        let inferred = match file.format {
            ValueFormat::Avro => {
                samples.avro(self.registry.as_ref(), &declared, nesting, Tries::One).await?
            }
            format => samples.json(format, &declared, nesting)?,
        };
        Ok(inferred.columns.into_iter().map(|column| file.case.column(column)).collect())
    }
}

/// Why a topic has no feed so far.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoFeed {
    /// The topic is empty, and nothing else says which columns there are.
    #[error("{0}")]
    Waiting(String),
    #[error("{0}")]
    Failed(String),
}

impl From<String> for NoFeed {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<NoFeed> for String {
    fn from(why: NoFeed) -> Self {
        why.to_string()
    }
}

fn resolved(file: &FeedFile, topic: &str, kept: Option<Kept>) -> Result<Feed, String> {
    let columns = kept.as_ref().map(|kept| kept.columns.clone());
    let mut feed = file.resolve(topic, columns).map_err(|fault| fault.to_string())?;
    if feed.schema.evolve.is_some() {
        feed.schema.left_out = left_out(&feed.schema, kept.unwrap_or_default());
        // What somebody declared is as it was meant.
        let declared = file.value_columns().unwrap_or_default();
        feed.schema.left_out.extend(declared.iter().map(|it| it.path().to_owned()));
    }
    Ok(feed)
}

/// What the first records of a topic suggest, and the format that they seem to have.
pub async fn propose(
    kafka: &Kafka,
    registry: Option<&Registry>,
    topic: &str,
) -> Result<(ValueFormat, Inference), String> {
    let samples = Samples::read(kafka, topic).await?;
    // No JSON begins with a zero byte.
    if samples.records().any(|record| record.value.and_then(parts).is_some())
        && let Err(none) = samples.json(ValueFormat::Json, &[], Nesting::Flatten)
    {
        let avro = samples.avro(registry, &[], Nesting::Flatten, Tries::Some).await;
        return match registry {
            Some(_) => Ok((ValueFormat::Avro, avro?)),
            None => Err(format!(
                "{none}. Its values look like Avro: add `schema_registry: {{url: …}}` to the node file"
            )),
        };
    }
    Ok((ValueFormat::Json, samples.json(ValueFormat::Json, &[], Nesting::Flatten)?))
}

/// How long a feed that begins waits for the schemas of its first records, before it is tried again.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// How often a registry is asked: who comes again by himself asks once.
#[derive(Clone, Copy)]
enum Tries {
    One,
    Some,
}

/// The first records of a topic.
struct Samples {
    topic: String,
    batches: Vec<RawBatch>,
}

impl Samples {
    async fn read(kafka: &Kafka, topic: &str) -> Result<Self, String> {
        let (kafka, topic) = (kafka.clone(), topic.to_owned());
        let reading = tokio::task::spawn_blocking(move || {
            let batches = sample(&kafka, &topic)?;
            Ok(Self { topic, batches })
        });
        reading.await.map_err(|error| error.to_string())?
    }

    fn records(&self) -> impl Iterator<Item = RawRecord<'_>> {
        self.batches.iter().flat_map(|batch| (0..batch.len()).map(|at| batch.get(at)))
    }

    fn json(
        &self,
        format: ValueFormat,
        declared: &[Column],
        nesting: Nesting,
    ) -> Result<Inference, String> {
        let records = self
            .records()
            .map(|record| (record.key, record.value.map(|value| payload(format, value))));
        infer(records, declared, nesting).ok_or_else(|| self.nothing("JSON object"))
    }

    async fn avro(
        &self,
        registry: Option<&Registry>,
        declared: &[Column],
        nesting: Nesting,
        tries: Tries,
    ) -> Result<Inference, String> {
        let Some(registry) = registry else {
            return Err("there is no `schema_registry`".to_owned());
        };
        let id = |bytes: Option<&[u8]>| bytes.and_then(parts).map(|(id, _)| id);
        let values: BTreeSet<u32> = self.records().filter_map(|record| id(record.value)).collect();
        let keys: Option<BTreeSet<u32>> = self.records().map(|record| id(record.key)).collect();
        let keys = keys.unwrap_or_default();
        let both = values.union(&keys).copied().collect();
        let found = match tries {
            Tries::One => {
                // Others wait for what becomes of this feed.
                let asking = tokio::time::timeout(ANSWER_WITHIN, registry.schemas(both));
                asking.await.unwrap_or_else(|_| Err(Away::new("no answer yet")))
            }
            Tries::Some => registry.schemas_soon(both).await,
        };
        let found = found.map_err(|away| format!("asking the schema registry: {away}"))?;
        // A registry counts upwards.
        let newest = |ids: &BTreeSet<u32>| {
            let mut of: Vec<_> = found.iter().filter(|(id, _)| ids.contains(id)).collect();
            of.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
            of.into_iter().filter_map(|(_, known)| known.as_deref().ok()).collect::<Vec<_>>()
        };
        let (values, keys): (_, Vec<&AvroSchema>) = (newest(&values), newest(&keys));
        let raw_keys = self.records().map(|record| record.key);
        let inferred = infer_avro(&values, keys.first().copied(), raw_keys, declared, nesting);
        let mut inferred = inferred.ok_or_else(|| {
            let reason = found.iter().find_map(|(_, known)| known.as_ref().err());
            let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("{}{reason}", self.nothing("Avro record"))
        })?;
        let read = |value: &[u8]| {
            let known =
                parts(value).map(|(of, _)| found.iter().any(|(id, it)| *id == of && it.is_ok()));
            known.unwrap_or(false)
        };
        let valued = self.records().filter_map(|record| record.value);
        (inferred.samples, inferred.skipped) = valued.fold((0, 0), |(samples, skipped), value| {
            if read(value) { (samples + 1, skipped) } else { (samples, skipped + 1) }
        });
        Ok(inferred)
    }

    fn nothing(&self, what: &str) -> String {
        format!(
            "topic {} holds no {what} yet to infer columns from; waiting for records, or declare \
             `columns` in the feed file",
            self.topic
        )
    }
}

/// Fields that are not proposed again: also those whose kept column gave way to a declared one.
fn left_out(schema: &Schema, kept: Kept) -> Vec<String> {
    let value = &schema.columns[schema.from_key()..];
    let taken = |column: &Column| value.iter().any(|own| own.path() == column.path());
    let gave_way = kept.columns.iter().filter(|column| !taken(column));
    let gave_way: Vec<String> = gave_way.map(|column| column.path().to_owned()).collect();
    [kept.left_out, gave_way].concat()
}

/// Where the columns of a feed are kept.
#[derive(Clone, Copy)]
enum Home<'c> {
    Lake(&'c LakeStore),
    Warehouse(&'c dyn Warehouse),
}

/// Whether the feed can be begun with these columns, in every sink.
fn fits(file: &FeedFile, topic: &str, columns: &[Column]) -> bool {
    let Ok(feed) = file.resolve(topic, Some(columns.to_vec())) else { return false };
    let storage = feed.lake.as_ref().map(|options| options.storage).unwrap_or_default();
    let is_version = |column: &Column| column.name.eq_ignore_ascii_case(VERSION);
    let hidden = storage != Storage::Append && feed.schema.columns.iter().any(is_version);
    !hidden && (feed.lake.is_none() || Layout::of(&feed).is_ok())
}

/// Whether all that is kept is in the feed already.
fn is_known(schema: &Schema, kept: &Kept) -> bool {
    let value = &schema.columns[schema.from_key()..];
    let left_out = |path: &str| schema.left_out.iter().any(|it| it == path);
    let has = |column: &Column| {
        value.iter().any(|own| own.path() == column.path() && own.kind == column.kind)
    };
    kept.columns.iter().all(|column| has(column) || left_out(column.path()))
        && kept.left_out.iter().all(|path| left_out(path))
}

fn parsed(feed: &str, text: &str) -> Result<Kept, String> {
    Kept::parse(text).map_err(|error| format!("the columns kept for feed {feed}: {error}"))
}

/// The part of a value that the columns are taken from.
fn payload(format: ValueFormat, value: &[u8]) -> &[u8] {
    match format {
        // What is no envelope is no sample either, and is skipped as what it is.
        ValueFormat::Connect => connect_payload(value).unwrap_or_default(),
        _ => value,
    }
}

/// The first records of every partition, as many of each.
fn sample(kafka: &Kafka, topic: &str) -> Result<Vec<RawBatch>, String> {
    // A client of its own: reading assigns partitions, and others may ask at the same time.
    let log = Log::open(kafka)?;
    let Some(partitions) = log.partitions(topic)? else {
        return Err(format!("topic {topic} does not exist"));
    };
    let id = log.topic_id(topic)?;
    let each = (SAMPLE / partitions.max(1) as usize).max(20);
    let mut batches = Vec::new();
    for partition in 0..partitions {
        let source = TopicPartition::new(topic, partition);
        let bounds = log.bounds(&source, id)?;
        let end = bounds.high.min(bounds.low + each as i64);
        if end > bounds.low {
            log.read(&source, bounds.low, end, |batch| {
                batches.push(batch);
                true
            })?;
        }
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ColumnType;

    #[test]
    fn a_kept_column_that_gave_way_is_not_found_again_and_again() {
        let text = "{feed: a, type: stream, topic: t, evolve: true, columns: [{name: note, path: n, \
                    type: int}]}";
        let file: FeedFile = serde_saphyr::from_str(text).unwrap();
        let kept = ["note", "other"].map(|name| Column::new(name, ColumnType::Int));
        let kept = Kept { columns: kept.to_vec(), left_out: vec!["x".to_owned()] };
        let feed = file.resolve("t", Some(kept.columns.clone())).unwrap();
        let names: Vec<&str> = feed.schema.columns.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["note", "other"]);
        assert_eq!(left_out(&feed.schema, kept), ["x", "note"]);
    }
}
