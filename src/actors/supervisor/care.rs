//! Care: heartbeats, the memory budget, and partitions whose place in the log is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tracing::{info, warn};

use super::super::message::{Beat, Detach, Flush, InFlight, Loss, Stream};
use super::partitions::CLAIMING;
use super::{Key, Supervisor};
use crate::config::{FeedFile, nearest};
use crate::record::{SinkKind, TopicPartition};
use crate::telemetry::metrics;
use crate::telemetry::pulse::{Heart, Standing};

/// An actor that has not answered by then is as good as dead: nothing it does blocks that long.
const BEAT_WITHIN: Duration = Duration::from_secs(30);

/// How often a feed without a topic is spoken of.
const TOPICS_EVERY: Duration = Duration::from_secs(30);

/// Feeds that read nothing: the name or pattern that no topic has, and a topic that may be meant.
fn without_topic<'f>(
    files: &'f [FeedFile],
    topics: &[String],
) -> Vec<(&'f FeedFile, &'f str, Option<String>)> {
    let enabled = files.iter().filter(|file| file.enabled);
    let silent = enabled.filter(|file| match file.topic_pattern() {
        Some(pattern) => !topics.iter().any(|topic| pattern.is_match(topic)),
        None => !file.topic_names().any(|name| topics.iter().any(|topic| topic == name)),
    });
    silent
        .filter_map(|file| {
            let missing = file.topic.as_deref().or(file.topics.as_deref())?;
            let names = topics.iter().map(String::as_str);
            Some((file, missing, file.topic.as_ref().and_then(|topic| nearest(topic, names))))
        })
        .collect()
}

enum Watched {
    Partition(Key),
    Writer(Arc<str>, SinkKind),
}

impl Supervisor {
    pub fn tick(&mut self, ctx: &mut Context<Self>) {
        self.tell_pulse();
        if self.stopping {
            return;
        }
        self.beat(ctx);
        self.relieve(ctx);
        self.look_for_topics(ctx);
        self.keep_snapshots();
    }

    /// What is seen of it from outside.
    pub fn tell_pulse(&self) {
        let mut standing = Standing::default();
        for ((feed, source), owned) in &self.owned {
            let state = owned.state();
            *standing.counts.entry((feed.clone(), state)).or_default() += 1;
            if state == CLAIMING {
                standing.claiming.push(format!("{source} of feed {feed}"));
            }
        }
        let is_new = |key: &Key| !self.owned.contains_key(key) && self.assigned.contains(&key.1);
        for ((feed, _), state) in self.refused.iter().filter(|(key, _)| is_new(key)) {
            *standing.counts.entry((feed.clone(), state)).or_default() += 1;
        }
        // Asked for the first time, and not answered yet.
        let asked =
            self.asking.iter().filter(|key| is_new(key) && !self.refused.contains_key(*key));
        standing.claiming.extend(asked.map(|(feed, source)| format!("{source} of feed {feed}")));
        standing.claiming.sort();
        self.setup.pulse.stands(standing);
        self.setup.pulse.beat(Heart::Supervisor, chrono::Utc::now().timestamp_millis());
    }

    /// One node takes them: the one that owns the topic's first partition.
    fn keep_snapshots(&mut self) {
        let first = self.owned.iter().filter(|((_, source), _)| source.partition == 0);
        let feeds = first.filter(|(_, owned)| owned.consumer().is_some()).map(|(_, it)| &it.feed);
        self.snapshots.keep(feeds, &self.setup.edges, &self.setup.io);
    }

    /// A name that no topic has reads nothing and fails nothing: somebody must be told.
    fn look_for_topics(&mut self, ctx: &mut Context<Self>) {
        if Instant::now() < self.topics_due {
            return;
        }
        self.topics_due = Instant::now() + TOPICS_EVERY;
        let log = self.setup.edges.log.clone();
        let asking = self
            .setup
            .io
            .spawn(async move { tokio::task::spawn_blocking(move || log.topics()).await });
        ctx.spawn(asking.into_actor(self).map(|answer, supervisor, _| {
            // A broker that does not answer is told of elsewhere.
            let Ok(Ok(Ok(topics))) = answer else { return };
            for (file, missing, nearest) in without_topic(&supervisor.setup.feeds, &topics) {
                warn!(target: "tidegate::supervisor", feed = file.feed, topic = missing, nearest, "the broker has no such topic: the feed waits for it");
            }
        }));
    }

    /// One round of heartbeats; the next begins when all have answered. A closed mailbox answers at
    /// once.
    fn beat(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.beating, true) {
            return;
        }
        let partitions = self.owned.iter().filter_map(|(key, owned)| {
            let consumer = owned.consumer()?.clone();
            Some((Watched::Partition(key.clone()), consumer.recipient::<Beat>()))
        });
        let writers = self.writers.iter().flat_map(|((feed, sink), writers)| {
            let beats = writers.beats.iter();
            beats.map(|beat| (Watched::Writer(feed.clone(), *sink), beat.clone()))
        });
        let round: Vec<_> = partitions.chain(writers).collect();
        let beating = async move {
            let beats = round.into_iter().map(|(watched, actor)| async move {
                let answer = tokio::time::timeout(BEAT_WITHIN, actor.send(Beat)).await;
                let dead = !matches!(answer, Ok(Ok(())));
                dead.then_some((watched, actor))
            });
            futures::future::join_all(beats).await
        };
        ctx.spawn(beating.into_actor(self).map(|dead, supervisor, ctx| {
            supervisor.beating = false;
            for (watched, actor) in dead.into_iter().flatten() {
                supervisor.bury(watched, &actor, ctx);
            }
        }));
    }

    fn bury(&mut self, watched: Watched, actor: &Recipient<Beat>, ctx: &mut Context<Self>) {
        match watched {
            Watched::Partition(key) => {
                // The one that died, not one built meanwhile.
                let same = self
                    .owned
                    .get(&key)
                    .and_then(|owned| owned.consumer())
                    .is_some_and(|consumer| consumer.clone().recipient::<Beat>() == *actor);
                if same && !self.stopping {
                    metrics::ACTOR_RESTARTS.add(["partition"], 1);
                    warn!(target: "tidegate::supervisor", feed = %key.0, source = %key.1, "a partition consumer died; it is built anew");
                    self.fail(&key, "the partition consumer died".to_owned(), ctx);
                }
            }
            Watched::Writer(feed, sink) => {
                let same = self
                    .writers
                    .get(&(feed.clone(), sink))
                    .is_some_and(|writers| writers.beats.contains(actor));
                if same {
                    self.writer_died(&feed, sink);
                }
            }
        }
    }

    /// Under a full budget the lake's open batches leave first; if that does not help, the sink that
    /// holds most of it is detached, so that the other goes on.
    fn relieve(&mut self, ctx: &mut Context<Self>) {
        let budget = &self.setup.budget;
        if !budget.is_tight() {
            self.full_since = None;
            return;
        }
        for writers in self.writers.values() {
            drop(writers.flush.try_send(Flush));
        }
        let since = *self.full_since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.setup.node.detach_after.get() {
            return;
        }
        let consumers: Vec<_> =
            self.owned.values().filter_map(|owned| owned.consumer().cloned()).collect();
        let asking = async move {
            let answers = consumers.iter().map(|consumer| consumer.send(InFlight));
            let mut bytes: HashMap<SinkKind, usize> = HashMap::new();
            for (sink, held) in
                futures::future::join_all(answers).await.into_iter().flatten().flatten()
            {
                *bytes.entry(sink).or_default() += held;
            }
            bytes
        };
        ctx.spawn(asking.into_actor(self).map(|bytes, supervisor, _| {
            supervisor.detach_the_slower(&bytes);
        }));
    }

    fn detach_the_slower(&mut self, bytes: &HashMap<SinkKind, usize>) {
        let half = self.setup.budget.limit() / 2;
        let Some((&sink, &held)) = bytes.iter().max_by_key(|(_, held)| **held) else { return };
        let others_keep_up = bytes.iter().all(|(other, held)| *other == sink || *held < half / 2);
        if bytes.len() < 2 || held < half || !others_keep_up {
            return;
        }
        info!(target: "tidegate::supervisor", %sink, held, "the sink holds most of the memory budget: detached, to be caught up on its own");
        self.full_since = None;
        for owned in self.owned.values() {
            if let Some(consumer) = owned.consumer() {
                drop(consumer.try_send(Detach { sink, loss: Loss::TooSlow }));
            }
        }
    }

    /// The broker has no records where some partition of a stream wants to read, and does not say
    /// which. Each position is compared with the log; a partition whose next offset is not there is
    /// begun again, which judges its progress.
    pub fn recheck(
        &mut self,
        stream: Stream,
        read: Vec<(TopicPartition, i64)>,
        ctx: &mut Context<Self>,
    ) {
        let mut topics: HashMap<Arc<str>, Vec<TopicPartition>> = HashMap::new();
        for (source, _) in &read {
            topics.entry(source.topic.clone()).or_default().push(source.clone());
        }
        let (edges, asked) = (self.setup.edges.clone(), Instant::now());
        // Topic by topic: of one that is gone there is no answer.
        let asking = self.setup.io.spawn(async move {
            let answers = topics.values().map(|sources| edges.bounds(sources));
            let answers = futures::future::join_all(answers).await;
            answers.into_iter().flatten().flatten().collect::<HashMap<_, _>>()
        });
        ctx.spawn(asking.into_actor(self).map(move |bounds, supervisor, ctx| {
            let bounds = bounds.unwrap_or_default();
            let gone = gone(&read, |source, position| {
                let mut feeds = supervisor.owned.iter().filter(|((_, of), _)| of == source);
                bounds
                    .get(source)
                    .is_some_and(|log| feeds.all(|(_, owned)| log.holds(owned.topic_id, position)))
            });
            // What was begun since then reads from elsewhere.
            let concerned = supervisor.owned.iter().filter(|((_, source), owned)| {
                gone.contains(source) && owned.consumer().is_some() && owned.since < asked
            });
            let concerned: Vec<Key> = concerned.map(|(key, _)| key.clone()).collect();
            for key in concerned {
                match stream {
                    Stream::Main => supervisor.fail(&key, GONE.to_owned(), ctx),
                    Stream::CatchUp(sink) => supervisor.begin_catch_up_again(&key, sink),
                }
            }
        }));
    }
}

const GONE: &str = "the log no longer holds the next offset";

/// The partitions whose position the log does not hold. If it holds all of them by now, the one that
/// stands still is among them all the same, so all must begin again.
fn gone(
    read: &[(TopicPartition, i64)],
    holds: impl Fn(&TopicPartition, i64) -> bool,
) -> Vec<TopicPartition> {
    let all = read.iter().map(|(source, _)| source.clone());
    let gone: Vec<TopicPartition> = read
        .iter()
        .filter(|(source, position)| !holds(source, *position))
        .map(|(source, _)| source.clone())
        .collect();
    if gone.is_empty() { all.collect() } else { gone }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feeds_without_a_topic_are_named() {
        let file = |text: &str| -> FeedFile { serde_json::from_str(text).unwrap() };
        let files = [
            file(r#"{"feed": "a", "type": "stream", "topic": "orders"}"#),
            file(r#"{"feed": "b", "type": "stream", "topic": "order"}"#),
            file(r#"{"feed": "c", "type": "stream", "topic": "nothing-alike", "enabled": false}"#),
            file(r#"{"feed": "{topic}", "type": "stream", "topics": "^raw_.*"}"#),
            file(r#"{"feed": "e-{topic}", "type": "stream", "topics": "^ord.*"}"#),
        ];
        let topics = ["orders".to_owned(), "payments".to_owned()];
        let found = without_topic(&files, &topics);
        let found: Vec<_> =
            found.iter().map(|(_, missing, nearest)| (*missing, nearest.as_deref())).collect();
        assert_eq!(found, [("order", Some("orders")), ("^raw_.*", None)]);
    }

    #[test]
    fn those_alone_whose_position_is_gone() {
        let at = |partition, position| (TopicPartition::new("t", partition), position);
        let read = [at(0, 10), at(1, 20), at(2, 30)];
        let numbers = |held: &[i32]| -> Vec<i32> {
            let gone = gone(&read, |source, _| held.contains(&source.partition));
            gone.iter().map(|source| source.partition).collect()
        };
        assert_eq!(numbers(&[0, 2]), [1]);
        assert_eq!(numbers(&[]), [0, 1, 2]);
        // One of them stands still, and nothing tells which.
        assert_eq!(numbers(&[0, 1, 2]), [0, 1, 2]);
    }
}
