//! A schema registry with Confluent's interface, as a reader of records needs it: the schema for an id.
//!
//! What an id means never changes, so it is asked for once in a process. Ids enter here, and no record;
//! what leaves is a schema, or why there is none. The two ways of having none are kept apart:
//!
//! * The registry says that it has no such schema, or what it has cannot be read: that is an answer.
//!   The record cannot be read. (Only its own error codes count. A 404 from whatever else answers at a
//!   mistaken address does not.)
//! * The registry does not answer, or not us: [`Away`]. Nothing is known of the record; who asked waits
//!   and asks again.

#[cfg(test)]
pub mod double;
mod http;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Mutex as Gate;
use tracing::{info, warn};

use self::http::{Body, Http, Said};
use crate::avro::{AvroSchema, Known};
use crate::config::SchemaRegistry;
use crate::decode::Decoder;
use crate::flow::backoff::Backoff;
use crate::record::RawBatch;

/// How long an answer that there is no such schema is believed.
const MISSING_FOR: Duration = Duration::from_secs(30);
/// Such answers kept at most: a topic of garbage names an id in every record.
const MISSING_MOST: usize = 10_000;
/// Before a schema that is not there is asked for once more: registries follow one another by a moment.
const MISSING_AGAIN: Duration = Duration::from_millis(300);
/// With more missing than this it is no moment's matter, and nothing is asked for twice.
const MISSING_FEW: usize = 16;
/// Schemas asked for at once.
const AT_ONCE: usize = 8;
/// Schemas that one may refer to, in all.
const MOST_REFERENCES: usize = 200;
/// How often a registry that is away is told of.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Why the registry could not be asked. It passes, or somebody mends it.
#[derive(Debug, Clone)]
pub struct Away(Arc<str>);

impl Away {
    pub fn new(reason: impl Into<Arc<str>>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Asks for the schemas that a batch cannot be decoded without, for a command: see
/// [`Registry::schemas_soon`]. Without a registry the records are rejects.
pub async fn learn(
    registry: Option<&Registry>,
    decoder: &mut Decoder,
    raw: &RawBatch,
) -> Result<(), String> {
    let unknown = decoder.unknown_schemas(raw, raw.range.start);
    let Some(registry) = registry.filter(|_| !unknown.is_empty()) else { return Ok(()) };
    let found = registry.schemas_soon(unknown).await;
    let found = found.map_err(|away| format!("asking the schema registry: {away}"))?;
    found.into_iter().for_each(|(id, known)| decoder.learn(id, known));
    Ok(())
}

#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    http: Http,
    known: Mutex<HashMap<u32, Known>>,
    /// Since when an id was not there, and what was said.
    missing: Mutex<HashMap<u32, (Instant, Arc<str>)>>,
    /// One question at a time for an id. Inside: when it last found the registry away.
    gates: Mutex<HashMap<u32, Arc<Gate<LastAway>>>>,
    told: Mutex<Told>,
}

type LastAway = Option<(Instant, Away)>;

#[derive(Default)]
struct Told {
    away: bool,
    at: Option<Instant>,
}

impl Registry {
    /// Errors: its certificate cannot be used.
    pub fn open(config: &SchemaRegistry) -> Result<Self, String> {
        Ok(Self(Arc::new(Inner {
            http: Http::open(config)?,
            known: Mutex::default(),
            missing: Mutex::default(),
            gates: Mutex::default(),
            told: Mutex::default(),
        })))
    }

    /// What is known of an id without asking.
    pub fn cached(&self, id: u32) -> Option<Known> {
        if let Some(known) = locked(&self.0.known).get(&id) {
            return Some(known.clone());
        }
        let missing = locked(&self.0.missing);
        let (since, reason) = missing.get(&id)?;
        (since.elapsed() < MISSING_FOR).then(|| Err(reason.clone()))
    }

    /// All of these, or why the registry could not be asked.
    pub async fn schemas(&self, ids: BTreeSet<u32>) -> Result<Vec<(u32, Known)>, Away> {
        let asking = stream::iter(ids).map(async |id| Ok((id, self.schema(id).await?)));
        asking.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// The same for a command, which asks again for a while and then gives up.
    pub async fn schemas_soon(&self, ids: BTreeSet<u32>) -> Result<Vec<(u32, Known)>, Away> {
        const AGAIN: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(4));
        for attempt in 0..4 {
            if let Ok(found) = self.schemas(ids.clone()).await {
                return Ok(found);
            }
            tokio::time::sleep(AGAIN.wait(attempt, rand::random())).await;
        }
        self.schemas(ids).await
    }

    async fn schema(&self, id: u32) -> Result<Known, Away> {
        let asked = Instant::now();
        if let Some(known) = self.cached(id) {
            return Ok(known);
        }
        let gate = locked(&self.0.gates).entry(id).or_default().clone();
        let mut last = gate.lock().await;
        if let Some(known) = self.cached(id) {
            return Ok(known);
        }
        // Who waited here while another asked has been answered, too.
        if let Some((at, away)) = &*last
            && *at >= asked
        {
            return Err(away.clone());
        }
        let fetched = self.fetch(id).await;
        self.tell(fetched.as_ref().err());
        match fetched {
            Ok(known) => {
                locked(&self.0.gates).remove(&id);
                Ok(known)
            }
            Err(away) => {
                *last = Some((Instant::now(), away.clone()));
                Err(away)
            }
        }
    }

    async fn fetch(&self, id: u32) -> Result<Known, Away> {
        let path = ["schemas".to_owned(), "ids".to_owned(), id.to_string()];
        let mut said = self.0.http.get(&path).await?;
        if matches!(said, Said::Missing(_)) && self.few_are_missing() {
            tokio::time::sleep(MISSING_AGAIN).await;
            said = self.0.http.get(&path).await?;
        }
        let body = match said {
            Said::Body(body) => body,
            Said::Missing(why) => return Ok(self.missing(id, why)),
        };
        let known = match self.references(&body).await? {
            Ok(references) => parsed(&body, &references),
            Err(why) => return Ok(self.missing(id, why)),
        };
        let known = known.map(Arc::new).map_err(|reason| Arc::from(self.about(id, &reason)));
        locked(&self.0.known).insert(id, known.clone());
        Ok(known)
    }

    /// The schemas whose names a schema uses, and those that these use; or which of them is missing.
    async fn references(&self, body: &Body) -> Result<Result<Vec<String>, String>, Away> {
        let mut open = body.references.clone();
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        while let Some(reference) = open.pop() {
            if !seen.insert((reference.subject.clone(), reference.version)) {
                continue;
            }
            if seen.len() > MOST_REFERENCES {
                return Ok(Err(format!("refers to more than {MOST_REFERENCES} others")));
            }
            let version = reference.version.to_string();
            let path = ["subjects".to_owned(), reference.subject, "versions".to_owned(), version];
            match self.0.http.get(&path).await? {
                Said::Body(body) => {
                    open.extend(body.references);
                    found.push(body.schema);
                }
                Said::Missing(why) => return Ok(Err(format!("refers to {}: {why}", path[1]))),
            }
        }
        Ok(Ok(found))
    }

    fn few_are_missing(&self) -> bool {
        let missing = locked(&self.0.missing);
        let mut lately = missing.values().filter(|(since, _)| since.elapsed() < MISSING_FOR);
        lately.nth(MISSING_FEW).is_none()
    }

    fn missing(&self, id: u32, why: String) -> Known {
        let reason: Arc<str> = self.about(id, &why).into();
        let mut missing = locked(&self.0.missing);
        if missing.len() >= MISSING_MOST {
            missing.clear();
        }
        missing.insert(id, (Instant::now(), reason.clone()));
        Err(reason)
    }

    fn about(&self, id: u32, reason: &str) -> String {
        format!("schema {id} of {}: {reason}", self.0.http.base)
    }

    /// Tells of a registry that is away, so often that a log can bear it, and of its coming back.
    fn tell(&self, away: Option<&Away>) {
        let registry = &self.0.http.base;
        let mut told = locked(&self.0.told);
        match away {
            None if std::mem::take(&mut told.away) => {
                told.at = None;
                info!(target: "tidegate::registry", %registry, "the schema registry answers again");
            }
            None => {}
            Some(reason) => {
                told.away = true;
                if told.at.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                    told.at = Some(Instant::now());
                    warn!(target: "tidegate::registry", %registry, %reason, "the schema registry cannot be asked: partitions whose records need its schemas wait");
                }
            }
        }
    }
}

fn parsed(body: &Body, references: &[String]) -> Result<AvroSchema, String> {
    match body.kind.as_deref() {
        None | Some("AVRO") => AvroSchema::parse(&body.schema, references),
        Some(other) => Err(format!("is of type {other}, and the feed reads Avro")),
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
