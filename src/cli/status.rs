use std::collections::HashMap;
use std::io::{IsTerminal, stdout};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};

use super::server::Server;
use super::{Exit, NodeFile, Output, block_on, failed, print_json};
use crate::beats::Beats;
use crate::config::{FeedFile, Node};
use crate::record::SinkKind;
use crate::source::Log;
use crate::status::{Cluster, FeedLine, Member, Problem, Wanted};
use crate::telemetry::print::{answer, tell};
use crate::verify::counted;
use crate::warehouse;

/// Tell of the whole cluster: its nodes, how far behind each feed is in each sink, and what is not well.
///
/// Every node writes what it sees of itself every 5 seconds where all can read it: into the database, or without
/// one into the lake. Exit codes: 0 all is well, 1 it could not be told, 3 something is not well.
#[derive(Debug, clap::Args)]
pub struct Status {
    #[command(flatten)]
    file: NodeFile,
    #[command(flatten)]
    server: Server,
    /// Tells again and again, until it is interrupted.
    #[arg(long)]
    watch: bool,
    /// Each partition by itself.
    #[arg(long)]
    partitions: bool,
    /// Only this feed.
    #[arg(long, value_name = "FEED")]
    feed: Option<String>,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

const AGAIN: Duration = Duration::from_secs(2);
/// What is in quarantine is counted that often: there may be much.
const COUNT_EVERY: Duration = Duration::from_secs(30);

/// What the warehouse's quarantine held when it was counted last, by feed.
#[derive(Default)]
struct Quarantine(Option<(Instant, HashMap<String, u64>)>);

impl Quarantine {
    /// None: it could not be counted.
    async fn of(&mut self, node: &Node) -> Option<HashMap<String, u64>> {
        if let Some((at, known)) = &self.0
            && at.elapsed() < COUNT_EVERY
        {
            return Some(known.clone());
        }
        let mut open: HashMap<String, u64> = HashMap::new();
        let counted = counted(node, SinkKind::Warehouse).await.ok()?;
        for of in counted.into_iter().filter(|of| of.state == "open") {
            *open.entry(of.feed).or_default() += of.records;
        }
        self.0 = Some((Instant::now(), open.clone()));
        Some(open)
    }
}

impl Status {
    pub fn run(self) -> Exit {
        let mut quarantine = Quarantine::default();
        loop {
            let cluster = match self.ask(&mut quarantine) {
                Ok(cluster) => cluster,
                // It may be told again when what was away is back.
                Err(exit) if !self.watch || exit == Exit::UsedWrongly => return exit,
                Err(_) => {
                    std::thread::sleep(AGAIN);
                    continue;
                }
            };
            let well = cluster.problems.is_empty();
            match self.output {
                Output::Json => print_json(&cluster),
                Output::Text => self.show(&cluster),
            }
            if !self.watch {
                return if well { Exit::Good } else { Exit::Difference };
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn ask(&self, quarantine: &mut Quarantine) -> Result<Cluster, Exit> {
        let cluster = match self.server.remote()? {
            Some(remote) => remote.get(&["v1", "cluster"], &[])?,
            None => {
                let (node, files) = self.file.load()?;
                match block_on(gather(&node, &files, quarantine))? {
                    Ok(cluster) => cluster,
                    Err(error) => return Err(failed(error)),
                }
            }
        };
        let Some(only) = &self.feed else { return Ok(cluster) };
        let cluster = cluster.only(|feed| feed == only, |_| true);
        // Of one that nobody has it is told that nobody has it.
        if cluster.feeds.is_empty() && cluster.problems.iter().all(|it| it.feed.is_none()) {
            tell!("--feed {only}: no such feed, or it has no topic yet");
            return Err(Exit::UsedWrongly);
        }
        Ok(cluster)
    }

    fn show(&self, cluster: &Cluster) {
        let now = Utc::now();
        if self.watch && stdout().is_terminal() {
            // The screen anew, from its top.
            answer!("\x1b[2J\x1b[H{}", now.to_rfc3339_opts(SecondsFormat::Secs, true));
        }
        if !cluster.members.is_empty() {
            let head = ["NODE", "GROUP", "VERSION", "UP", "HEARD", "PARTITIONS", "MEMORY", ""];
            table(&head, cluster.members.iter().map(member).collect());
        }
        if !cluster.feeds.is_empty() {
            answer!("");
            let head = [
                "FEED",
                "SINK",
                "PARTITIONS",
                "LAG",
                "OLDEST",
                "PER SECOND",
                "COMMITTED",
                "QUARANTINE",
            ];
            table(&head, cluster.feeds.iter().map(|line| feed(line, now)).collect());
        }
        if self.partitions {
            answer!("");
            let head =
                ["PARTITION", "FEED", "NODE", "STATE", "END", "SINK", "NEXT", "LAG", "OLDEST"];
            table(&head, partitions(cluster));
            if cluster.left_out > 0 {
                answer!("and {} more", cluster.left_out);
            }
        }
        if !cluster.problems.is_empty() {
            answer!("");
            for problem in &cluster.problems {
                answer!("! {}: {}", problem.about, problem.says);
            }
        }
    }
}

async fn gather(
    node: &Node,
    files: &[FeedFile],
    quarantine: &mut Quarantine,
) -> Result<Cluster, String> {
    if let Some(config) = &node.warehouse {
        let warehouse = warehouse::open(config).map_err(|error| error.to_string())?;
        warehouse.check_schema().await.map_err(|error| error.to_string())?;
    }
    let beats = Beats::open(node).map_err(|error| error.to_string())?;
    let beats =
        beats.ok_or("neither a `warehouse` nor a `lake`: nodes can tell nobody of themselves")?;
    let told = beats.all().await.map_err(|error| error.to_string())?;
    let kafka = node.kafka.clone();
    let asked = files.to_vec();
    let expected = tokio::task::spawn_blocking(move || expected(&kafka, &asked));
    let expected = expected.await.unwrap_or_else(|error| Err(error.to_string()));
    let mut cluster = Cluster::of(told, expected.as_deref().unwrap_or_default());
    // Without a broker it is not known which partitions there are; the nodes tell of theirs.
    if let Err(says) = expected {
        cluster.problems.push(Problem { about: "the broker".to_owned(), feed: None, says });
    }
    if cluster.members.is_empty() && files.iter().any(|file| file.enabled) {
        let says = "no node tells of itself".to_owned();
        cluster.problems.push(Problem { about: "the cluster".to_owned(), feed: None, says });
    }
    if node.warehouse.is_some() {
        let open = quarantine.of(node).await;
        let lines = cluster.feeds.iter_mut();
        for line in lines.filter(|line| line.sum.sink == SinkKind::Warehouse.name()) {
            line.quarantine =
                open.as_ref().map(|open| open.get(&line.sum.feed).copied().unwrap_or(0));
        }
    }
    Ok(cluster)
}

/// The partitions that the feeds' topics have.
fn expected(kafka: &crate::config::Kafka, files: &[FeedFile]) -> Result<Vec<Wanted>, String> {
    let log = Log::open(kafka)?;
    let topics = log.topics()?;
    let mut expected = Vec::new();
    for file in files.iter().filter(|file| file.enabled) {
        for topic in topics.iter().filter(|topic| file.matches(topic)) {
            let count = log.partitions(topic)?.unwrap_or(0);
            // One whose name would be none is told of by the nodes.
            let Ok(feed) = file.name_for(topic) else { continue };
            let lake = file.lake.is_some().then_some(SinkKind::Lake);
            let warehouse = file.warehouse.is_some().then_some(SinkKind::Warehouse);
            for sink in lake.into_iter().chain(warehouse) {
                let wanted = |partition| Wanted {
                    feed: feed.clone(),
                    topic: topic.clone(),
                    partition,
                    sink: sink.name().to_owned(),
                };
                expected.extend((0..count).map(wanted));
            }
        }
    }
    Ok(expected)
}

fn member(member: &Member) -> Vec<String> {
    let memory = match member.memory_limit {
        0 => String::new(),
        limit => format!("{}% of {} MiB", member.memory_used * 100 / limit, limit >> 20),
    };
    let said =
        [(member.silent, "SILENT"), (member.draining, "draining"), (member.janitor, "janitor")];
    let said: Vec<&str> = said.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
    vec![
        member.node.clone(),
        member.group.clone(),
        member.version.clone(),
        time(member.up_ms),
        format!("{} ago", time(member.age_ms)),
        member.partitions.to_string(),
        memory,
        said.join(", "),
    ]
}

fn feed(FeedLine { sum: line, quarantine }: &FeedLine, now: DateTime<Utc>) -> Vec<String> {
    let detached = match line.detached {
        0 => line.partitions.to_string(),
        count => format!("{}, {count} detached", line.partitions),
    };
    let committed = line.committed_ms.map(|at| now.timestamp_millis() - at);
    vec![
        line.feed.clone(),
        line.sink.clone(),
        detached,
        line.lag.to_string(),
        if line.age_ms > 0 { time(line.age_ms) } else { "-".to_owned() },
        format!("{:.0}", line.rate),
        committed.map_or("-".to_owned(), |age| format!("{} ago", time(age.max(0)))),
        quarantine.map_or("-".to_owned(), |records| records.to_string()),
    ]
}

fn partitions(cluster: &Cluster) -> Vec<Vec<String>> {
    let number = |it: Option<i64>| it.map_or("-".to_owned(), |it| it.to_string());
    let rows = cluster.partitions.iter().flat_map(|owned| {
        let told = &owned.told;
        told.sinks.iter().map(move |sink| {
            let state = match (told.state.as_str(), sink.attached) {
                ("running", false) => "detached".to_owned(),
                (state, _) => state.to_owned(),
            };
            vec![
                format!("{}-{}", told.topic, told.partition),
                told.feed.clone(),
                owned.node.clone(),
                state,
                told.end.to_string(),
                sink.sink.clone(),
                number(sink.next),
                number(sink.lag),
                if sink.age_ms > 0 { time(sink.age_ms) } else { "-".to_owned() },
            ]
        })
    });
    rows.collect()
}

/// In the unit that says most.
fn time(ms: i64) -> String {
    match ms / 1000 {
        seconds if seconds < 10 => format!("{:.1}s", ms as f64 / 1000.0),
        seconds if seconds < 120 => format!("{seconds}s"),
        seconds if seconds < 7200 => format!("{}m", seconds / 60),
        seconds if seconds < 172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// Columns as wide as what is in them.
fn table(head: &[&str], rows: Vec<Vec<String>>) {
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let width = |column: usize| {
        let all = rows.iter().chain([&head]);
        all.map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in [&head].into_iter().chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        answer!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_told_in_the_unit_that_says_most() {
        let told: Vec<String> =
            [950, 10_000, 130_000, 7_200_000, 200_000_000].map(time).into_iter().collect();
        assert_eq!(told, ["0.9s", "10s", "2m", "2h", "2d"]);
    }
}
