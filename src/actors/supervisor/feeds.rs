//! Feeds that come, go and change while the node runs. Those that do not are not disturbed.

use std::collections::HashSet;
use std::sync::Arc;

use actix::prelude::*;
use tracing::{info, warn};

use super::super::message::{RenewFeeds, ReplaceFeeds};
use super::{Key, Supervisor};
use crate::config::FeedFile;
use crate::record::{SinkKind, TopicPartition};
use crate::source::Command;

/// The topics and patterns that feeds read.
pub fn subscription(feeds: &[FeedFile]) -> Vec<String> {
    let enabled = feeds.iter().filter(|feed| feed.enabled);
    let mut topics: Vec<String> = enabled
        .flat_map(|feed| feed.topic_names().chain(feed.topics.as_deref()).map(str::to_owned))
        .collect();
    topics.sort();
    topics.dedup();
    topics
}

/// Feeds that run among `these` and not, as they are, among `those`.
fn only_in<'f>(these: &'f [FeedFile], those: &[FeedFile]) -> Vec<&'f FeedFile> {
    let there = |file: &FeedFile| those.iter().any(|it| it.enabled && it.is_same_as(file));
    these.iter().filter(|file| file.enabled && !there(file)).collect()
}

/// Whether a file makes the feed of this name of this topic.
fn makes(file: &FeedFile, name: &str, topic: &str) -> bool {
    file.matches(topic) && file.name_for(topic).is_ok_and(|it| it == name)
}

impl Supervisor {
    fn replace(&mut self, files: Vec<FeedFile>, ctx: &mut Context<Self>) {
        let before = std::mem::replace(&mut self.setup.feeds, files);
        let (ended, begun) =
            (only_in(&before, &self.setup.feeds), only_in(&self.setup.feeds, &before));
        for file in &ended {
            let again = begun.iter().any(|now| now.feed == file.feed);
            let what = if again { "drained, to begin anew" } else { "drained and ended" };
            info!(target: "tidegate::supervisor", feed = file.feed, "the feed file changed: {what}");
        }
        for file in begun.iter().filter(|file| !ended.iter().any(|it| it.feed == file.feed)) {
            info!(target: "tidegate::supervisor", feed = file.feed, "a feed was added");
        }
        if ended.is_empty() && begun.is_empty() {
            return;
        }
        let made = |name: &str, topic: &str| ended.iter().any(|file| makes(file, name, topic));
        let known = self.feeds.values().map(|feed| (feed.name.clone(), feed.topic.clone()));
        let keys = self.owned.keys().chain(&self.asking);
        let keys = keys.map(|(feed, source)| (feed.clone(), source.topic.clone()));
        let names: HashSet<Arc<str>> =
            known.chain(keys).filter(|(name, topic)| made(name, topic)).map(|it| it.0).collect();
        // What is read still is given back when it is drained, not before.
        let ending: Vec<FeedFile> = ended.into_iter().cloned().collect();
        let both = subscription(&[self.setup.feeds.as_slice(), &ending].concat());
        self.tell_main(Command::Subscribe(both));
        let begun = begun.into_iter().cloned().collect();
        self.renew(names, begun, ctx);
    }

    /// Drains these feeds, takes their writers down, and begins what these files make.
    fn renew(&mut self, names: HashSet<Arc<str>>, begun: Vec<FeedFile>, ctx: &mut Context<Self>) {
        let keys: Vec<Key> =
            self.owned.keys().filter(|(feed, _)| names.contains(feed)).cloned().collect();
        for name in &names {
            self.feeds.remove(name);
            // Answers to what was asked before are of the former feed.
            *self.versions.entry(name.clone()).or_default() += 1;
            *self.ending.entry(name.clone()).or_default() += 1;
        }
        let drained = self.drain(&keys, ctx);
        let deadline = self.setup.node.drain_deadline.get();
        let waiting = async move { tokio::time::timeout(deadline, drained).await.is_ok() };
        ctx.spawn(waiting.into_actor(self).map(move |in_time, supervisor, ctx| {
            if !in_time {
                warn!(target: "tidegate::supervisor", feeds = ?names, "the drain deadline passed: what is in flight is abandoned");
            }
            for name in &names {
                supervisor.take_down(name);
            }
            if !supervisor.stopping {
                supervisor.tell_main(Command::Subscribe(subscription(&supervisor.setup.feeds)));
                supervisor.begin_new(begun, ctx);
            }
        }));
    }

    /// Begins what the files make of a feed's name now.
    pub fn begin_named(&mut self, name: &str, sources: &[TopicPartition], ctx: &mut Context<Self>) {
        let topics = || sources.iter().map(|source| &*source.topic);
        let now = self
            .setup
            .feeds
            .iter()
            .filter(|file| file.enabled && topics().any(|topic| makes(file, name, topic)));
        let files = now.cloned().collect();
        self.begin_new(files, ctx);
    }

    /// Begins feeds on what is assigned already; others that wait there for their time go on waiting.
    fn begin_new(&mut self, mut files: Vec<FeedFile>, ctx: &mut Context<Self>) {
        // Some may be gone again.
        let now = &self.setup.feeds;
        files.retain(|file| now.iter().any(|it| it.enabled && it.is_same_as(file)));
        let assigned = self.assigned.iter();
        let read = assigned.filter(|source| files.iter().any(|file| file.matches(&source.topic)));
        let sources: Vec<TopicPartition> = read.cloned().collect();
        let asking = self.ask(&sources, Some(&files));
        self.begin_answered(asking, ctx);
    }

    fn take_down(&mut self, name: &Arc<str>) {
        let left = self.ending.get_mut(name).map_or(0, |count| {
            *count -= 1;
            *count
        });
        // Changed once more meanwhile: the last change ends it.
        if left > 0 {
            return;
        }
        self.ending.remove(name);
        let keys: Vec<Key> = self.owned.keys().filter(|(feed, _)| feed == name).cloned().collect();
        for key in &keys {
            self.drop_partition(key);
        }
        for sink in SinkKind::ALL {
            self.writers.remove(&(name.clone(), sink));
        }
        info!(target: "tidegate::supervisor", feed = %name, partitions = keys.len(), "the feed is drained");
    }
}

impl Handler<ReplaceFeeds> for Supervisor {
    type Result = ();

    fn handle(&mut self, ReplaceFeeds(files): ReplaceFeeds, ctx: &mut Self::Context) {
        if !self.stopping {
            self.replace(files, ctx);
        }
    }
}

impl Handler<RenewFeeds> for Supervisor {
    type Result = ();

    fn handle(&mut self, RenewFeeds(names): RenewFeeds, ctx: &mut Self::Context) {
        if self.stopping {
            return;
        }
        let names: HashSet<Arc<str>> = names.into_iter().collect();
        let known: Vec<(Arc<str>, Arc<str>)> = self
            .feeds
            .values()
            .filter(|feed| names.contains(&feed.name))
            .map(|feed| (feed.name.clone(), feed.topic.clone()))
            .collect();
        let files = self.setup.feeds.iter().filter(|file| {
            file.enabled && known.iter().any(|(name, topic)| makes(file, name, topic))
        });
        let files = files.cloned().collect();
        self.renew(names, files, ctx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_from_what_moved() {
        let file = |text: &str| -> FeedFile { serde_json::from_str(text).unwrap() };
        let a = file(r#"{"feed": "a", "type": "stream", "topic": "t"}"#);
        let b = file(r#"{"feed": "b", "type": "stream", "topics": "^u.*"}"#);
        let moved = FeedFile { file: "elsewhere".into(), ..a.clone() };
        let paused = FeedFile { enabled: false, ..b.clone() };
        let other = FeedFile { rest: true, ..a.clone() };
        let names = |of: Vec<&FeedFile>| of.iter().map(|it| it.feed.clone()).collect::<Vec<_>>();
        let both = [a.clone(), b.clone()];
        assert_eq!(names(only_in(&both, &[moved, b.clone()])), [""; 0]);
        assert_eq!(names(only_in(&both, &[other, paused.clone()])), ["a", "b"]);
        assert_eq!(names(only_in(std::slice::from_ref(&paused), &both)), [""; 0]);
        assert_eq!(names(only_in(&both, &[paused])), ["a", "b"]);
        let upper = FeedFile { topic_in_upper_case: Some("T".into()), ..a };
        assert_eq!(subscription(&[b, upper.clone(), upper]), ["T", "^u.*", "t"]);
    }
}
