use clap::Subcommand;
use serde_json::json;

use super::{Exit, NodeFile, Output, print_json};
use crate::config::{FeedFile, FeedKind};
use crate::telemetry::print::answer;

/// List or check the feed files.
#[derive(Debug, clap::Args)]
pub struct Feeds {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the feeds: name, type, topics, sinks.
    List {
        #[command(flatten)]
        file: NodeFile,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Check every feed file; name every fault at once.
    Check {
        #[command(flatten)]
        file: NodeFile,
    },
}

impl Feeds {
    pub fn run(self) -> Exit {
        let (file, output) = match &self.command {
            Command::List { file, output } => (file, Some(*output)),
            Command::Check { file } => (file, None),
        };
        let feeds = match file.load() {
            Ok((_, feeds)) => feeds,
            Err(exit) => return exit,
        };
        match output {
            None => answer!("{} feed files: good", feeds.len()),
            Some(Output::Json) => print_json(&feeds.iter().map(describe).collect::<Vec<_>>()),
            Some(Output::Text) => feeds.iter().for_each(|feed| answer!("{}", line(feed))),
        }
        Exit::Good
    }
}

fn sinks(feed: &FeedFile) -> Vec<&'static str> {
    let sides = [("lake", feed.lake.is_some()), ("warehouse", feed.warehouse.is_some())];
    sides.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
}

fn topics(feed: &FeedFile) -> &str {
    feed.topic.as_deref().or(feed.topics.as_deref()).unwrap_or_default()
}

fn kind(feed: &FeedFile) -> &'static str {
    match feed.kind {
        FeedKind::Stream => "stream",
        FeedKind::Table => "table",
    }
}

fn describe(feed: &FeedFile) -> serde_json::Value {
    json!({
        "feed": feed.feed, "type": kind(feed), "topics": topics(feed), "sinks": sinks(feed),
        "enabled": feed.enabled,
    })
}

fn line(feed: &FeedFile) -> String {
    let paused = if feed.enabled { "" } else { "  (disabled)" };
    format!(
        "{:<32} {:<7} {:<32} {}{paused}",
        feed.feed,
        kind(feed),
        topics(feed),
        sinks(feed).join(" + ")
    )
}
