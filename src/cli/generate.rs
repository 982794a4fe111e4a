use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount};
use serde_json::json;

use super::{Exit, Output, failed, print_json};
use crate::config::{self, Kafka, Protocol};
use crate::generate::{Generator, System, Topic};
use crate::publish::{Allowance, Gauge, Pace, Progress, Publisher, Speed, Tally};
use crate::telemetry::print::{answer, tell};

/// Publish made-up purchase transactions, and what is derived from them, to a broker.
///
/// Each transaction is one message in `transaction_log`. From it follow, each in a topic of its own:
///
///   transaction_flattened           the same without nesting
///   transaction_stream_anonymized   the user hashed, name and addresses dropped
///   transaction_stream_blacklisted  those from blacklisted cities
///   user_transaction_summary        a table: totals by user and type, with tombstones
///   payment_method_totals           a table: totals by payment method, with tombstones
///
/// With `--system` the topics are those that one of the systems in `examples/` reads.
///
/// The same seed gives the same records, byte for byte. Missing topics are created. The records are
/// acknowledged by all replicas, in order and without doubles (an idempotent producer).
///
/// Ctrl-C ends it after the records under way; a second one at once. Exit codes: 0 all records were
/// acknowledged, 1 no broker, or records lost, 2 used wrongly.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct Generate {
    /// Address of the broker, without TLS and without a password. Several are joined by commas.
    #[arg(long, short, value_name = "HOST:PORT", conflicts_with = "config")]
    bootstrap: Option<String>,
    /// A node file: its `kafka` section says how to reach the broker. Default: what
    /// TIDEGATE_CONFIG names, else tidegate.yaml.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How many transactions.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100_000)]
    messages: u64,
    /// Go on after that until stopped.
    #[arg(long)]
    follow: bool,
    /// Transactions a second. Default: as fast as the broker takes them.
    #[arg(long, value_name = "R", value_parser = rate, conflicts_with = "delay")]
    rate: Option<f64>,
    /// Time between two transactions, such as 10ms.
    #[arg(long, value_name = "TIME")]
    delay: Option<config::Duration>,
    /// Only these topics, joined by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = topic)]
    topics: Vec<Topic>,
    /// Only the topics of one of the systems in `examples/`: s0, s1, s2, s3 or s4.
    #[arg(long, value_name = "NAME", value_parser = system, conflicts_with = "topics")]
    system: Option<System>,
    /// What stands before the name of each topic, such as `test.`.
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Which records: another seed gives others.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Event times in the five days before today, instead of always the same five of January 2026: for
    /// feeds that keep only so many days.
    #[arg(long)]
    recent: bool,
    /// Share of bad records, 0 to 1: not JSON, wrong types, missing keys, broken UTF-8, numbers too
    /// big. They take the place of transactions; in the tables' topics they come on top.
    #[arg(long, value_name = "RATIO", default_value = "0", value_parser = ratio)]
    bad: f64,
    /// Partitions of a topic that is created.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// How the summary at the end is printed. The progress goes to standard error.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

const EXAMPLES: &str = "\
Examples:
  tidegate generate --bootstrap localhost:9092
  tidegate generate -c tidegate.yaml -n 1000000 --seed 7 --bad 0.01
  tidegate generate --bootstrap localhost:9092 --follow --rate 500 --topics transaction_log
  tidegate generate --bootstrap localhost:9092 --system s1 -n 10000 --delay 1ms";

impl Generate {
    pub fn run(self) -> Exit {
        let kafka = match self.kafka() {
            Ok(kafka) => kafka,
            Err(exit) => return exit,
        };
        let topics = match self.system {
            Some(system) => system.topics().to_vec(),
            None if self.topics.is_empty() => Topic::DEMO.to_vec(),
            None => self.topics.clone(),
        };
        let stop = stop_on_interrupt();
        let publisher = match Publisher::open(&kafka, &self.prefix) {
            Ok(publisher) => publisher,
            Err(error) => return failed(error),
        };
        let created = match publisher.create_missing(&topics, self.partitions) {
            Ok(created) => created,
            Err(error) => return failed(error),
        };
        let start = Instant::now();
        let tally = self.publish(&publisher, &topics, start, &stop);
        self.summarize(&tally, &topics, &created, start.elapsed());
        if tally.failed() > 0 { Exit::Failed } else { Exit::Good }
    }

    fn kafka(&self) -> Result<Kafka, Exit> {
        match &self.bootstrap {
            Some(bootstrap) => Ok(Kafka {
                bootstrap: bootstrap.clone(),
                group: String::new(),
                protocol: Protocol::Auto,
                tls: None,
                sasl: None,
                settings: Default::default(),
            }),
            None => {
                let named = || std::env::var_os("TIDEGATE_CONFIG").map(PathBuf::from);
                let file = self.config.clone().or_else(named);
                let file = file.unwrap_or_else(|| "tidegate.yaml".into());
                let node = config::load_node(&file).map_err(|faults| {
                    tell!("{faults}");
                    tell!("(`--bootstrap HOST:PORT` needs no node file)");
                    Exit::UsedWrongly
                })?;
                Ok(node.kafka)
            }
        }
    }

    fn publish(
        &self,
        publisher: &Publisher,
        topics: &[Topic],
        start: Instant,
        stop: &AtomicBool,
    ) -> Tally {
        // The log is what is counted, wanted or not.
        let made = [topics, &[Topic::TransactionLog]].concat();
        let mut generator = Generator::new(self.seed, self.messages, self.bad).topics(&made);
        if self.recent {
            generator = generator.until(chrono::Utc::now().date_naive());
        }
        let generator = if self.follow { generator.endless() } else { generator };
        let pace = Pace::new(self.speed());
        let end = (!self.follow).then_some(self.messages);
        let mut progress = Progress::new(&["messages"]);
        let tally = publisher.publish(generator, topics, |tally| {
            if progress.is_due() {
                let rate = tally.taken() as f64 / start.elapsed().as_secs_f64();
                let note = format!("{} records/s", HumanCount(rate as u64));
                progress.show(&[Gauge::new(tally.messages, end).note(note)]);
            }
            match stop.load(Ordering::Relaxed) {
                true => Allowance::Stop,
                false => pace.allow(tally.messages, start.elapsed()),
            }
        });
        progress.clear();
        tally
    }

    /// A topic's name on the broker.
    fn name(&self, topic: Topic) -> String {
        format!("{}{}", self.prefix, topic.name())
    }

    fn speed(&self) -> Speed {
        match (self.rate, self.delay) {
            (Some(rate), _) => Speed::Rate(rate),
            (None, Some(delay)) if !delay.is_zero() => Speed::Rate(1.0 / delay.get().as_secs_f64()),
            _ => Speed::Unbounded,
        }
    }

    fn summarize(&self, tally: &Tally, topics: &[Topic], created: &[Topic], took: Duration) {
        let seconds = took.as_secs_f64();
        let rate = tally.taken() as f64 / seconds;
        match self.output {
            Output::Json => print_json(&json!({
                "messages": tally.messages,
                "records": tally.taken(),
                "bytes": tally.taken_bytes(),
                "failed": tally.failed(),
                "failures": tally.failures,
                "seconds": seconds,
                "records_per_second": rate,
                "seed": self.seed,
                "bad_ratio": self.bad,
                "created": created.iter().map(|topic| self.name(*topic)).collect::<Vec<_>>(),
                "topics": topics
                    .iter()
                    .map(|topic| (self.name(*topic), of_topic(tally, *topic)))
                    .collect::<std::collections::BTreeMap<_, _>>(),
            })),
            Output::Text => {
                let (records, bytes) = (HumanCount(tally.taken()), HumanBytes(tally.taken_bytes()));
                answer!(
                    "{} messages: {records} records ({bytes}) in {seconds:.1} s, {} records/s.",
                    HumanCount(tally.messages),
                    HumanCount(rate as u64)
                );
                for topic in topics {
                    let of = tally.topic(*topic);
                    let new = if created.contains(topic) { "  (created)" } else { "" };
                    answer!(
                        "  {:<32} {:>12}{new}",
                        self.name(*topic),
                        HumanCount(of.taken).to_string()
                    );
                }
            }
        }
        for (reason, count) in &tally.failures {
            tell!("error: {} records were not taken: {reason}", HumanCount(*count));
        }
    }
}

fn of_topic(tally: &Tally, topic: Topic) -> serde_json::Value {
    let of = tally.topic(topic);
    json!({
        "records": of.taken,
        "bytes": of.taken_bytes,
        "bad": of.bad,
        "tombstones": of.tombstones,
        "ends": of.partitions.iter().map(|partition| partition.end).collect::<Vec<_>>(),
    })
}

/// Says when SIGINT or SIGTERM came; the second ends the process at once.
pub(super) fn stop_on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let heard = stop.clone();
    let listen = async move {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
        let (Ok(mut interrupt), Ok(mut terminate)) = kinds else { return };
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        heard.store(true, Ordering::Relaxed);
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        std::process::exit(130);
    };
    // Without the thread the signals do what they always do: end the process.
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        std::thread::spawn(move || runtime.block_on(listen));
    }
    stop
}

fn topic(name: &str) -> Result<Topic, String> {
    Topic::from_name(name.trim()).ok_or_else(|| {
        let names = Topic::ALL.map(Topic::name).join(", ");
        format!("the generator has no such topic; it has {names}")
    })
}

fn system(name: &str) -> Result<System, String> {
    System::from_name(name.trim()).ok_or_else(|| {
        let names = System::ALL.map(System::name).join(", ");
        format!("there is no such system; there are {names}")
    })
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| "a rate is a number above 0".to_owned())
}

pub(super) fn ratio(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| "a ratio is a number from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(ratio("0.5"), Ok(0.5));
        assert!(["-0.1", "1.1", "NaN", "x"].iter().all(|text| ratio(text).is_err()));
        assert_eq!(rate("0.5"), Ok(0.5));
        assert!(["0", "-1", "inf", "x"].iter().all(|text| rate(text).is_err()));
        assert_eq!(topic("transaction_log"), Ok(Topic::TransactionLog));
        assert!(topic("transactions").unwrap_err().contains("payment_method_totals"));
    }
}
