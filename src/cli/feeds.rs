mod draft;
mod files;

use clap::{Subcommand, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::json;

use self::draft::Draft;
use self::files::Files;
use super::{Exit, NodeFile, Output, block_on, failed, print_json};
use crate::catalog;
use crate::config::{
    Column, ColumnType, FeedFile, FeedKind, Key, KeyFormat, ValueFormat, load_node,
};
use crate::registry::Registry;
use crate::telemetry::print::{answer, tell};

/// List, check, write and switch the feed files.
///
/// Nodes look at the folder while they run: a file that comes starts its feed on every node, one that
/// goes is drained. Files lie in the feeds folder or in `active` below it; what is in `archived` is
/// not read.
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
    /// Print one feed's file; as JSON, with all its defaults.
    Show {
        #[command(flatten)]
        file: NodeFile,
        name: String,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Write a new feed file, checked first. Where the folder is read-only, print it and exit 2.
    Add(Add),
    /// Move a feed's file to `archived`: the feed is drained and ends.
    Archive(Named),
    /// Move a feed's file back from `archived`.
    Restore(Named),
    /// Write `enabled: true` into a feed's file.
    Enable(Named),
    /// Write `enabled: false` into a feed's file: the feed is drained and stands still.
    Disable(Named),
    /// Read some records of a topic and print the feed file that fits them.
    Infer(Infer),
}

#[derive(Debug, clap::Args)]
struct Named {
    #[command(flatten)]
    file: NodeFile,
    name: String,
}

#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    file: NodeFile,
    /// Name of the feed.
    #[arg(long)]
    name: String,
    /// `stream` or `table`.
    #[arg(long = "type", value_enum)]
    kind: Kind,
    /// The topic. Default: the feed's name.
    #[arg(long, value_name = "TOPIC")]
    source: Option<String>,
    #[arg(long)]
    description: Option<String>,
    /// How the record key is read; a table needs it.
    #[arg(long, value_parser = named::<KeyFormat>, requires = "key", value_name = "FORMAT")]
    key_format: Option<KeyFormat>,
    /// A key column, `NAME:TYPE` or `NAME:TYPE:PATH`; may be given several times.
    #[arg(long, value_parser = column, requires = "key_format", value_name = "NAME:TYPE[:PATH]")]
    key: Vec<Column>,
    /// A column of the value, written likewise. Without any they are inferred.
    #[arg(long, value_parser = column, value_name = "NAME:TYPE[:PATH]")]
    column: Vec<Column>,
    /// How the record value is read: `json`, `connect`, `avro`, `string` or `bytes`.
    #[arg(long, value_parser = named::<ValueFormat>, default_value = "json")]
    format: ValueFormat,
    /// Paused until `feeds enable`.
    #[arg(long)]
    disabled: bool,
}

#[derive(Debug, clap::Args)]
struct Infer {
    #[command(flatten)]
    file: NodeFile,
    topic: String,
    /// `stream` or `table`.
    #[arg(long = "type", value_enum, default_value = "stream")]
    kind: Kind,
    /// Name of the feed. Default: the topic's, in lower case.
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Stream,
    Table,
}

impl From<Kind> for FeedKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Stream => FeedKind::Stream,
            Kind::Table => FeedKind::Table,
        }
    }
}

/// What a feed file calls by this name.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn column(text: &str) -> Result<Column, String> {
    let mut parts = text.splitn(3, ':');
    let (Some(name), Some(kind)) = (parts.next(), parts.next()) else {
        return Err("write NAME:TYPE or NAME:TYPE:PATH".to_owned());
    };
    let kind: ColumnType = kind.parse()?;
    Ok(Column { path: parts.next().map(str::to_owned), ..Column::new(name, kind) })
}

impl Feeds {
    pub fn run(self) -> Exit {
        match self.command {
            Command::List { file, output } => with_feeds(&file, |feeds| list(feeds, output)),
            Command::Check { file } => {
                with_feeds(&file, |feeds| answer!("{} feed files: good", feeds.len()))
            }
            Command::Show { file, name, output: Output::Text } => {
                with_files(&file, |files, at| match files.find(at, &name) {
                    Ok((path, text)) => {
                        answer!("# {}\n{}", path.display(), text.trim_end());
                        Exit::Good
                    }
                    Err(exit) => exit,
                })
            }
            Command::Show { file, name, output: Output::Json } => show(&file, &name),
            Command::Add(add) => {
                with_files(&add.file, |files, _| files.add(&add.name, &add.text()))
            }
            Command::Archive(of) => with_files(&of.file, |files, _| files.archive(&of.name)),
            Command::Restore(of) => with_files(&of.file, |files, _| files.restore(&of.name)),
            Command::Enable(of) => with_files(&of.file, |files, _| files.switch(&of.name, true)),
            Command::Disable(of) => with_files(&of.file, |files, _| files.switch(&of.name, false)),
            Command::Infer(infer) => infer.run(),
        }
    }
}

fn with_feeds(file: &NodeFile, then: impl FnOnce(&[FeedFile])) -> Exit {
    match file.load() {
        Ok((_, feeds)) => {
            then(&feeds);
            Exit::Good
        }
        Err(exit) => exit,
    }
}

/// For what must work beside a feed file that is wrong.
fn with_files(file: &NodeFile, then: impl FnOnce(Files<'_>, &std::path::Path) -> Exit) -> Exit {
    match load_node(file.path()) {
        Ok(node) => then(Files::of(&node), &node.feeds),
        Err(faults) => {
            tell!("{faults}");
            Exit::UsedWrongly
        }
    }
}

fn show(file: &NodeFile, name: &str) -> Exit {
    let feeds = match file.load() {
        Ok((_, feeds)) => feeds,
        Err(exit) => return exit,
    };
    match feeds.iter().find(|feed| feed.feed == name) {
        Some(feed) => {
            print_json(&json!({"file": feed.file, "feed": feed}));
            Exit::Good
        }
        None => {
            tell!("error: there is no feed `{name}`");
            Exit::UsedWrongly
        }
    }
}

impl Add {
    fn text(&self) -> String {
        let key = self.key_format.map(|format| Key::new(format, self.key.clone()));
        let draft = Draft {
            comments: Vec::new(),
            name: &self.name,
            kind: self.kind.into(),
            topic: self.source.as_deref().unwrap_or(&self.name),
            description: self.description.as_deref(),
            format: self.format,
            key: key.as_ref(),
            columns: &self.column,
            enabled: !self.disabled,
        };
        draft.text()
    }
}

impl Infer {
    fn run(self) -> Exit {
        let node = match load_node(self.file.path()) {
            Ok(node) => node,
            Err(faults) => {
                tell!("{faults}");
                return Exit::UsedWrongly;
            }
        };
        let found = block_on(async {
            let registry = node.schema_registry.as_ref().map(Registry::open).transpose()?;
            catalog::propose(&node.kafka, registry.as_ref(), &self.topic).await
        });
        let (format, found) = match found {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return failed(error),
            Err(exit) => return exit,
        };
        let lower = self.topic.to_lowercase();
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        let name = self.name.unwrap_or_else(|| lower.replace(|c| !legal(c), "_"));
        let mut comments = vec![format!("from {} records of topic {}", found.samples, self.topic)];
        if found.skipped > 0 {
            let what = if format == ValueFormat::Avro { "Avro record" } else { "JSON object" };
            comments.push(format!("{} more hold no {what}", found.skipped));
        }
        if !found.left_out.is_empty() {
            comments.push(format!("no path can name: {}", found.left_out.join(", ")));
        }
        let table = matches!(self.kind, Kind::Table);
        let draft = Draft {
            comments,
            name: &name,
            kind: self.kind.into(),
            topic: &self.topic,
            description: None,
            format,
            key: found.key.as_ref().filter(|_| table),
            columns: &found.columns,
            enabled: true,
        };
        answer!("{}", draft.text().trim_end());
        if table && found.key.is_none() {
            tell!(
                "the records' keys have no form that can be told: write the `key` block yourself"
            );
            return Exit::Failed;
        }
        Exit::Good
    }
}

fn list(feeds: &[FeedFile], output: Output) {
    match output {
        Output::Json => print_json(&feeds.iter().map(describe).collect::<Vec<_>>()),
        Output::Text => feeds.iter().for_each(|feed| answer!("{}", line(feed))),
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
