use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{Exit, NodeFile, Output, block_on, failed, print_json};
use crate::telemetry::print::answer;
use crate::verify::{Kept, newest, shortened};

/// Look at the records that became no row.
#[derive(Debug, clap::Args)]
pub struct Quarantine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, newest first: those of the warehouse and of the lake.
    ///
    /// A record that no sink could take stands once, with both their names. With `--output json` keys
    /// and values are whole, in base64 and, where they are UTF-8, as text.
    List {
        #[command(flatten)]
        file: NodeFile,
        /// Only this feed.
        #[arg(long, value_name = "FEED")]
        feed: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value = "50")]
        limit: usize,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
}

impl Quarantine {
    pub fn run(self) -> Exit {
        let Command::List { file, feed, limit, output } = self.command;
        let node = match file.load() {
            Ok((node, _)) => node,
            Err(exit) => return exit,
        };
        let kept = match block_on(newest(&node, feed.as_deref(), limit)) {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => return failed(error),
            Err(exit) => return exit,
        };
        match output {
            Output::Json => print_json(&kept.iter().map(describe).collect::<Vec<_>>()),
            Output::Text if kept.is_empty() => answer!("No record is in quarantine."),
            Output::Text => kept.iter().for_each(|record| answer!("{}", text(record))),
        }
        Exit::Good
    }
}

fn time(millis: i64) -> Option<String> {
    let time = DateTime::from_timestamp_millis(millis)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

fn sinks(record: &Kept) -> Vec<&'static str> {
    record.sinks.iter().map(|sink| sink.name()).collect()
}

fn describe(record: &Kept) -> Value {
    let text = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().and_then(|bytes| String::from_utf8(bytes.clone()).ok())
    };
    let base64 = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| STANDARD.encode(bytes));
    json!({
        "feed": record.feed, "sinks": sinks(record),
        "topic": record.topic, "partition": record.partition, "offset": record.offset,
        "timestamp": record.timestamp_ms.and_then(time),
        "quarantined_at": time(record.kept_at_ms),
        "class": record.class, "reason": record.reason,
        "key": text(&record.key), "key_base64": base64(&record.key),
        "value": text(&record.value), "value_base64": base64(&record.value),
    })
}

fn text(record: &Kept) -> String {
    let bytes = |bytes: &Option<Vec<u8>>, most| match bytes {
        None => "null".to_owned(),
        Some(bytes) => shortened(bytes, most),
    };
    format!(
        "{}  {}  {}-{} offset {}  ({})\n  {}: {}\n  key {}  value {}",
        time(record.kept_at_ms).unwrap_or_default(),
        record.feed,
        record.topic,
        record.partition,
        record.offset,
        sinks(record).join(" + "),
        record.class,
        shortened(record.reason.as_bytes(), 200),
        bytes(&record.key, 40),
        bytes(&record.value, 120),
    )
}
