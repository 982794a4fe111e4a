use clap::Subcommand;
use serde_json::{Value, json};

use super::{Exit, NodeFile, Output, block_on, failed, local_user, permissions, print_json};
use crate::config::Node;
use crate::governance::AuditRow;
use crate::record::{OffsetRange, RejectClass, SinkKind};
use crate::replay::{Hand, Outcome, discard, replay};
use crate::telemetry::print::answer;
use crate::verify::{Chosen, Kept, QuarantinedRecord, WantedState, quarantined, shortened, time};

/// Look at the records that became no row, and settle them.
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
        #[command(flatten)]
        which: Which,
        /// At most so many.
        #[arg(long, value_name = "N", default_value = "50")]
        limit: usize,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Show one record whole, and what would come of it if it were replayed now.
    ///
    /// Exit codes: 0 shown, 1 failed or there is no such record.
    Show {
        #[command(flatten)]
        file: NodeFile,
        #[arg(long, value_name = "FEED")]
        feed: String,
        #[arg(long, value_name = "N")]
        partition: i32,
        #[arg(long, value_name = "N")]
        offset: i64,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Decode records again with the feed as it is now, and bring those that are rows by now into the
    /// sinks that lack them, each once and with its own coordinates.
    ///
    /// In a warehouse's table a record whose key was written or deleted since becomes no row; it is
    /// settled as superseded. Nodes may run meanwhile, and the command may be stopped and run again.
    ///
    /// Exit codes: 0 all chosen records are settled (or would be), 1 failed, or some stay.
    Replay {
        #[command(flatten)]
        file: NodeFile,
        #[arg(long, value_name = "FEED")]
        feed: String,
        #[command(flatten)]
        which: Which,
        /// Only say what would come of it.
        #[arg(long)]
        dry_run: bool,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Settle records as what is to stay out. They are kept, and may be replayed all the same later
    /// (`replay --state discarded`).
    Discard {
        #[command(flatten)]
        file: NodeFile,
        #[arg(long, value_name = "FEED")]
        feed: String,
        #[command(flatten)]
        which: Which,
        /// The reason, which is kept with them.
        #[arg(long, value_name = "TEXT")]
        why: String,
        /// Only say how many.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which of a feed's records are meant.
#[derive(Debug, clap::Args)]
struct Which {
    /// Only what this sink keeps.
    #[arg(long, value_enum)]
    sink: Option<SinkKind>,
    /// Only what was rejected for this class of reasons, as `list` names it: wrong_type, for example.
    #[arg(long, value_name = "CLASS")]
    reason: Option<RejectClass>,
    /// Only this partition.
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Only these offsets, the last one not among them; either may be left out.
    #[arg(long, value_name = "FROM..TO", value_parser = offsets)]
    offsets: Option<OffsetRange>,
    /// What was made of them.
    #[arg(long, value_enum, default_value = "open")]
    state: WantedState,
}

fn offsets(text: &str) -> Result<OffsetRange, String> {
    let wrong = || "two offsets as in 100..200, 100.. or ..200".to_owned();
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let end = |text: &str, none: i64| match text {
        "" => Ok(none),
        text => text.parse().map_err(|_| wrong()),
    };
    let range = OffsetRange { start: end(from, i64::MIN)?, end: end(to, i64::MAX)? };
    if range.start < range.end { Ok(range) } else { Err(wrong()) }
}

impl Which {
    fn chosen(&self, feed: Option<String>) -> Chosen {
        Chosen {
            feed,
            sink: self.sink,
            class: self.reason,
            partition: self.partition,
            offsets: self.offsets.unwrap_or(ALL),
            state: self.state.of_each(),
        }
    }
}

/// So many records are taken up by one command, the newest; whoever has more says which.
const MOST: usize = 100_000;
const ALL: OffsetRange = OffsetRange { start: i64::MIN, end: i64::MAX };

impl Quarantine {
    pub fn run(self) -> Exit {
        match self.command {
            Command::List { file, feed, which, limit, output } => {
                list(&file, &which.chosen(feed), limit, output)
            }
            Command::Show { file, feed, partition, offset, output } => {
                show(&file, feed, partition, offset, output)
            }
            Command::Replay { file, feed, which, dry_run, output } => {
                replayed(&file, &which.chosen(Some(feed)), dry_run, output)
            }
            Command::Discard { file, feed, which, why, dry_run } => {
                discarded(&file, &which.chosen(Some(feed)), &why, dry_run)
            }
        }
    }
}

/// The work's answer, or the exit that its error makes.
fn answered<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, Exit> {
    block_on(work)?.map_err(failed)
}

fn list(file: &NodeFile, chosen: &Chosen, limit: usize, output: Output) -> Exit {
    let node = match file.load() {
        Ok((node, _)) => node,
        Err(exit) => return exit,
    };
    let kept = match answered(quarantined(&node, chosen, limit)) {
        Ok(kept) => kept,
        Err(exit) => return exit,
    };
    match output {
        Output::Json => print_json(&kept.iter().map(QuarantinedRecord::from).collect::<Vec<_>>()),
        Output::Text if kept.is_empty() => answer!("No record is in quarantine."),
        Output::Text => kept.iter().for_each(|record| answer!("{}", text(record))),
    }
    Exit::Good
}

fn show(file: &NodeFile, feed: String, partition: i32, offset: i64, output: Output) -> Exit {
    let (node, files) = match file.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let offsets = OffsetRange { start: offset, end: offset.saturating_add(1) };
    let (sink, class, partition, state) = (None, None, Some(partition), None);
    let chosen = Chosen { feed: Some(feed), sink, class, partition, offsets, state };
    let hand = Hand { by: by(), dry_run: true, most: MOST };
    let shown = answered(async {
        let kept = quarantined(&node, &chosen, usize::MAX).await?;
        // Its feed file may be gone; then that is what there is to say.
        Ok((kept, replay(&node, &files, &chosen, &hand).await))
    });
    let (kept, outcomes) = match shown {
        Ok(shown) => shown,
        Err(exit) => return exit,
    };
    if kept.is_empty() {
        return failed("no such record is in quarantine");
    }
    match output {
        Output::Json => {
            let records: Vec<_> = kept.iter().map(QuarantinedRecord::from).collect();
            let now = match &outcomes {
                Ok(outcomes) => outcomes.iter().map(outcome_json).collect(),
                Err(error) => json!({ "error": error.to_string() }),
            };
            print_json(&json!({ "records": records, "if_replayed": now }));
        }
        Output::Text => {
            for record in &kept {
                answer!("{}", whole(record));
            }
            match &outcomes {
                Ok(outcomes) => outcomes.iter().for_each(|it| tell_outcome(it, true)),
                Err(error) => answer!("It cannot be replayed: {error}"),
            }
        }
    }
    Exit::Good
}

fn replayed(file: &NodeFile, chosen: &Chosen, dry_run: bool, output: Output) -> Exit {
    let (node, files) = match file.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let hand = Hand { by: by(), dry_run, most: MOST };
    let work = async {
        if !dry_run {
            record(&node, "replay", chosen, "from the terminal").await?;
        }
        replay(&node, &files, chosen, &hand).await.map_err(|error| error.to_string())
    };
    let outcomes = match answered(work) {
        Ok(outcomes) => outcomes,
        Err(exit) => return exit,
    };
    match output {
        Output::Json => print_json(&outcomes.iter().map(outcome_json).collect::<Vec<_>>()),
        Output::Text if outcomes.is_empty() => answer!("No such record is in quarantine."),
        Output::Text => outcomes.iter().for_each(|it| tell_outcome(it, dry_run)),
    }
    let all = outcomes.iter().all(|it| it.left.is_empty());
    if all { Exit::Good } else { Exit::Failed }
}

fn discarded(file: &NodeFile, chosen: &Chosen, why: &str, dry_run: bool) -> Exit {
    let node = match file.load() {
        Ok((node, _)) => node,
        Err(exit) => return exit,
    };
    let hand = Hand { by: by(), dry_run, most: MOST };
    let work = async {
        if !dry_run {
            record(&node, "discard", chosen, why).await?;
        }
        discard(&node, chosen, why, &hand).await.map_err(|error| error.to_string())
    };
    let all = match answered(work) {
        Ok(all) => all,
        Err(exit) => return exit,
    };
    if all.is_empty() {
        answer!("No such record is in quarantine.");
    }
    let done = if dry_run { "would be discarded" } else { "discarded" };
    all.iter().for_each(|(sink, source, count)| answer!("{source}, {sink}: {count} {done}"));
    Exit::Good
}

/// Who runs this command, as what is settled says it.
fn by() -> String {
    format!("local:{}", local_user())
}

/// Writes down what somebody is about to do. Without a database there is no audit.
async fn record(node: &Node, action: &str, chosen: &Chosen, why: &str) -> Result<(), String> {
    if node.warehouse.is_none() {
        return Ok(());
    }
    let grants = permissions::grants(node).await.map_err(|error| error.to_string())?;
    let hand = permissions::hand();
    let audit = hand.audit(action, chosen.feed.as_deref(), true, why.to_owned());
    let recorded = grants.record(&[AuditRow { rows: Some(chosen.to_string()), ..audit }]).await;
    recorded.map_err(|error| format!("the audit: {error}"))
}

fn outcome_json(outcome: &Outcome) -> Value {
    let left: Vec<Value> = outcome
        .left
        .iter()
        .map(|(offset, reason)| json!({ "offset": offset, "reason": reason }))
        .collect();
    json!({
        "sink": outcome.sink.name(),
        "topic": outcome.source.topic, "partition": outcome.source.partition,
        "replayed": outcome.replayed, "superseded": outcome.superseded, "left": left,
    })
}

/// How many reasons are told of a partition's records that stay.
const REASONS: usize = 5;

fn tell_outcome(outcome: &Outcome, dry_run: bool) {
    let Outcome { sink, source, replayed, superseded, left } = outcome;
    let would = if dry_run { "would be " } else { "" };
    answer!(
        "{source}, {sink}: {} {would}replayed, {} {would}superseded, {} stay in quarantine",
        replayed.len(),
        superseded.len(),
        left.len()
    );
    for (offset, reason) in left.iter().take(REASONS) {
        answer!("  offset {offset}: {}", shortened(reason.as_bytes(), 300));
    }
    if left.len() > REASONS {
        answer!("  and {} more", left.len() - REASONS);
    }
}

fn sinks(record: &Kept) -> Vec<&'static str> {
    record.sinks.iter().map(|sink| sink.name()).collect()
}

fn state(record: &Kept) -> &'static str {
    record.settled.as_ref().map_or("open", |fate| fate.settled.name())
}

/// When it was put there, and which record it is.
fn heading(record: &Kept) -> String {
    format!(
        "{}  {}  {}-{} offset {}  ({})",
        time(record.kept_at_ms).unwrap_or_default(),
        record.feed,
        record.topic,
        record.partition,
        record.offset,
        sinks(record).join(" + "),
    )
}

/// A key or a value, at most so much of it.
fn bytes(bytes: Option<&[u8]>, most: usize) -> String {
    bytes.map_or("null".to_owned(), |bytes| shortened(bytes, most))
}

/// The record with all that is kept of it.
fn whole(record: &Kept) -> String {
    let of = if record.is_row { " (the refused row as JSON)" } else { "" };
    let settled = record.settled.as_ref().map_or_else(String::new, |fate| {
        let why = fate.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let at = time(fate.at_ms).unwrap_or_default();
        format!("\n  {} by {} at {at}{why}", fate.settled.name(), fate.by)
    });
    format!(
        "{}\n  {}: {}\n  headers {}\n  key{of} {}\n  value{of} {}{settled}",
        heading(record),
        record.class,
        record.reason,
        record.headers,
        bytes(record.key.as_deref(), usize::MAX),
        bytes(record.value.as_deref(), usize::MAX),
    )
}

fn text(record: &Kept) -> String {
    let settled = match &record.settled {
        Some(_) => format!("  {}", state(record)),
        None => String::new(),
    };
    format!(
        "{}{settled}\n  {}: {}\n  key {}  value {}",
        heading(record),
        record.class,
        shortened(record.reason.as_bytes(), 200),
        bytes(record.key.as_deref(), 40),
        bytes(record.value.as_deref(), 120),
    )
}
