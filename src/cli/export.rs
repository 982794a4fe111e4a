use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ArgGroup;
use serde::Serialize;

use super::{Exit, NodeFile, Output, failed, permissions, print_json, runtime};
use crate::app::{App, Options, Running};
use crate::config::{self, Feed, FeedFile, FeedKind, Node, Storage};
use crate::lake::{LakeStore, Metadata, Snapshots, TableReader, Taken, Totals, fold_limit};
use crate::telemetry::print::{answer, tell};
use crate::verify::{self, Behind, Ends};

/// Carry what is in the log now into both sinks, take the snapshots, and end.
///
/// Where the topics end is asked once, at the start. Then a node joins the group as `run` does, so
/// nodes may run beside it and share the work; it leaves when both sinks have passed those ends. Feeds
/// of the same topics are carried along. Snapshots of tables are taken then, whatever their clock says.
/// For cron: a second run finds nothing to do.
///
/// Exit codes: 0 everything up to the ends is in both sinks, 1 it is not, 2 used wrongly.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").required(true).multiple(true)))]
pub struct Export {
    #[command(flatten)]
    file: NodeFile,
    /// Every feed that is not paused.
    #[arg(long, group = "what", conflicts_with_all = ["stream", "table"])]
    all: bool,
    /// This feed, a stream; may be given several times.
    #[arg(long, value_name = "FEED", group = "what")]
    stream: Vec<String>,
    /// This feed, a table; may be given several times.
    #[arg(long, value_name = "FEED", group = "what")]
    table: Vec<String>,
    /// Give up after this long.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    timeout: config::Duration,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

/// How often it is asked how far the sinks are.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Nodes that take snapshots of one table at the same time do not go on doing so.
const SNAPSHOT_ATTEMPTS: u32 = 5;

/// What was done for one feed, by whichever node.
#[derive(Debug, Serialize)]
struct Exported {
    feed: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lake: Option<InLake>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<InSnapshot>,
    /// Offsets that the warehouse has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    warehouse_offsets: Option<i64>,
}

#[derive(Debug, Serialize)]
struct InLake {
    records: u64,
    files: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

#[derive(Debug, Serialize)]
struct InSnapshot {
    version: u64,
    /// It was not there before.
    new: bool,
    rows: u64,
    files: usize,
    bytes: u64,
}

impl Export {
    pub fn run(self) -> Exit {
        let (node, files) = match self.file.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(exit) => return exit,
        };
        let all = files.clone();
        let files: Vec<FeedFile> = match self.enabled(files) {
            Ok(files) => files,
            Err(reason) => {
                tell!("error: {reason}");
                return Exit::UsedWrongly;
            }
        };
        let feeds = match runtime.block_on(verify::feeds(&node, &files, None)) {
            Ok(feeds) => feeds,
            Err(error) => return failed(error),
        };
        let chosen = match self.chosen(&feeds, &files) {
            Ok(chosen) => chosen,
            Err(reason) => {
                tell!("error: {reason}");
                return Exit::UsedWrongly;
            }
        };
        let carried = carried(&files, &chosen);
        let (exported, mut complete) = match self.carry(&runtime, node.clone(), carried, chosen) {
            Ok(done) => done,
            Err(error) => return failed(error),
        };
        match self.output {
            Output::Json => print_json(&exported),
            Output::Text => exported.iter().for_each(|of| answer!("{of}")),
        }
        // What is new is closed until somebody opens it.
        if node.governance.files.enforce
            && let Err(error) = runtime.block_on(permissions::files::settle(&node, all))
        {
            tell!("error: the lake's modes do not follow the permission rows: {error}");
            complete = false;
        }
        if complete { Exit::Good } else { Exit::Failed }
    }

    /// The feed files that are not paused; one that is named must not be.
    fn enabled(&self, files: Vec<FeedFile>) -> Result<Vec<FeedFile>, String> {
        let named: Vec<&String> = self.stream.iter().chain(&self.table).collect();
        let paused = files.iter().find(|file| !file.enabled && named.contains(&&file.feed));
        match paused {
            Some(file) => Err(format!("feed {} is paused (`enabled: false`)", file.feed)),
            None => Ok(files.into_iter().filter(|file| file.enabled).collect()),
        }
    }

    fn chosen(&self, feeds: &[Feed], files: &[FeedFile]) -> Result<Vec<Feed>, String> {
        if self.all {
            return Ok(feeds.to_vec());
        }
        let wanted = |kind| match kind {
            FeedKind::Stream => (&self.stream, "stream", "--table"),
            FeedKind::Table => (&self.table, "table", "--stream"),
        };
        let mut chosen = Vec::new();
        for kind in [FeedKind::Stream, FeedKind::Table] {
            let (names, called, other) = wanted(kind);
            for name in names {
                let of_file = |feed: &Feed| {
                    let file = files.iter().find(|file| file.feed == *name);
                    file.is_some_and(|file| file.matches(&feed.topic))
                };
                let of_name = |feed: &&Feed| *feed.name == **name || of_file(feed);
                let found: Vec<&Feed> = feeds.iter().filter(of_name).collect();
                if found.is_empty() {
                    let names = feeds.iter().map(|feed| &*feed.name);
                    let meant = config::nearest(name, names);
                    let meant = meant.map(|it| format!(", did you mean {it}?")).unwrap_or_default();
                    return Err(format!("there is no feed {name}{meant}"));
                }
                if found.iter().any(|feed| feed.kind != kind) {
                    return Err(format!("feed {name} is no {called}: say {other} {name}"));
                }
                chosen.extend(found.into_iter().cloned());
            }
        }
        chosen.sort_by(|a, b| a.name.cmp(&b.name));
        chosen.dedup_by(|a, b| a.name == b.name);
        Ok(chosen)
    }

    /// Answers what was done, and whether that is all there was to do.
    fn carry(
        &self,
        runtime: &tokio::runtime::Runtime,
        node: Node,
        files: Vec<FeedFile>,
        chosen: Vec<Feed>,
    ) -> Result<(Vec<Exported>, bool), String> {
        let lake = node.lake.as_ref().filter(|_| chosen.iter().any(|feed| feed.lake.is_some()));
        let lake = lake.map(LakeStore::open).transpose().map_err(|error| error.to_string())?;
        let mut ends = runtime.block_on(Ends::seen(&node, &files, &chosen))?;
        let before = runtime.block_on(holdings(lake.as_ref(), &ends, &chosen))?;
        let mut behind = runtime.block_on(ends.behind())?;
        if !behind.is_empty() {
            let app = App::build(beside(node.clone()), files.clone(), Options::default());
            let running = app.map_err(|error| error.to_string())?.start();
            let waited = self.wait(runtime, &mut ends, &running, &chosen);
            let code = running.stop();
            behind = waited?;
            if code != 0 {
                return Err(format!("the node ended with code {code}; its log says why"));
            }
        }
        // Columns that were inferred are known by now.
        let names: HashSet<&Arc<str>> = chosen.iter().map(|feed| &feed.name).collect();
        let feeds = runtime.block_on(verify::feeds(&node, &files, None))?;
        let feeds: Vec<Arc<Feed>> =
            feeds.into_iter().filter(|feed| names.contains(&feed.name)).map(Arc::new).collect();
        let limit = fold_limit(node.memory.budget.bytes());
        let mut exported = Vec::new();
        let mut complete = behind.is_empty();
        for feed in &feeds {
            let whole = behind.iter().all(|behind| behind.feed != feed.name);
            let before = before.get(&feed.name).copied().unwrap_or_default();
            let done = runtime.block_on(async {
                let snapshot = match &lake {
                    Some(lake) if whole => snapshot(lake, feed, &ends, limit).await?,
                    _ => None,
                };
                if let Some(lake) = &lake {
                    write_metadata(lake, feed).await?;
                }
                after(lake.as_ref(), &ends, feed, before, snapshot).await
            });
            match done {
                Ok(done) => exported.push(done),
                Err(error) => {
                    tell!("error: feed {}: {error}", feed.name);
                    complete = false;
                }
            }
        }
        Ok((exported, complete))
    }

    /// Until both sinks have passed the ends. Answers who has not, and says why.
    fn wait(
        &self,
        runtime: &tokio::runtime::Runtime,
        ends: &mut Ends,
        running: &Running,
        chosen: &[Feed],
    ) -> Result<Vec<Behind>, String> {
        let deadline = Instant::now() + self.timeout.get();
        loop {
            let asked = runtime.block_on(ends.behind());
            if let Ok(behind) = &asked
                && behind.is_empty()
            {
                return Ok(Vec::new());
            }
            if running.is_over() {
                return Err("the node ended by itself; its log says why".to_owned());
            }
            let parked = parked(running, chosen);
            if let Ok(behind) = &asked {
                let reason =
                    |behind: &Behind| parked.get(&(behind.feed.clone(), behind.source.partition));
                if behind.iter().all(|behind| reason(behind).is_some()) {
                    for ((feed, partition), reason) in &parked {
                        tell!("error: feed {feed}, partition {partition} is {reason}");
                    }
                    return asked;
                }
            }
            if Instant::now() >= deadline {
                tell!("error: not done in {}; what is left:", self.timeout);
                let behind = asked?;
                for it in &behind {
                    let at =
                        it.at.map_or("has not begun".to_owned(), |at| format!("stands at {at}"));
                    tell!(
                        "  feed {}: {} of the {} {at}, of {}",
                        it.feed,
                        it.source,
                        it.sink,
                        it.end
                    );
                }
                return Ok(behind);
            }
            std::thread::sleep(ASK_EVERY);
        }
    }
}

/// The node as it may run beside another of the same file: one address and one volume serve one of them.
fn beside(mut node: Node) -> Node {
    node.api = None;
    node.governance.files.enforce = false;
    node.governance.postgres = None;
    node
}

/// The files whose feeds read a topic of the chosen ones: the node is given its partitions, so it must
/// serve them all.
fn carried(files: &[FeedFile], chosen: &[Feed]) -> Vec<FeedFile> {
    let reads = |file: &&FeedFile| chosen.iter().any(|feed| file.matches(&feed.topic));
    files.iter().filter(reads).cloned().collect()
}

fn parked(running: &Running, chosen: &[Feed]) -> HashMap<(Arc<str>, i32), String> {
    let status = running.status().unwrap_or_default().into_iter();
    let of_chosen = status.filter(|of| chosen.iter().any(|feed| feed.name == of.feed));
    let parked = of_chosen.filter(|of| of.state.starts_with("parked"));
    parked.map(|of| ((of.feed, of.partition), of.state)).collect()
}

/// What the sinks had before.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    lake: Totals,
    warehouse: i64,
}

async fn holdings(
    lake: Option<&LakeStore>,
    ends: &Ends,
    feeds: &[Feed],
) -> Result<HashMap<Arc<str>, Held>, String> {
    let mut held = HashMap::new();
    for feed in feeds {
        let (totals, _) = in_lake(lake, feed).await?.unwrap_or_default();
        let warehouse = ends.in_warehouse(feed).await?.unwrap_or(0);
        held.insert(feed.name.clone(), Held { lake: totals, warehouse });
    }
    Ok(held)
}

/// All that the table of the feed's records holds, and its version.
async fn in_lake(
    lake: Option<&LakeStore>,
    feed: &Feed,
) -> Result<Option<(Totals, Option<u64>)>, String> {
    let (Some(lake), Some(_)) = (lake, &feed.lake) else { return Ok(None) };
    let reader = TableReader::of_records(lake, feed);
    let read = match reader {
        Ok(mut reader) => reader.read().await,
        Err(error) => Err(error),
    };
    let overview = read.map_err(|error| format!("lake: {error}"))?.unwrap_or_default();
    Ok(Some((overview.total(), overview.version)))
}

async fn snapshot(
    lake: &LakeStore,
    feed: &Arc<Feed>,
    ends: &Ends,
    limit: usize,
) -> Result<Option<InSnapshot>, String> {
    let named = |error| format!("snapshot: {error}");
    let Some(snapshots) = Snapshots::of(lake, feed, limit).map_err(named)? else { return Ok(None) };
    let ends = ends.of(&feed.name);
    let once = feed.lake.as_ref().is_some_and(|options| options.storage == Storage::Ignore);
    for _ in 0..SNAPSHOT_ATTEMPTS {
        let taken = snapshots.take(once.then_some(&ends)).await.map_err(named)?;
        let (new, snapshot) = match taken {
            Taken::New(snapshot) => (true, snapshot),
            Taken::Unchanged(snapshot) => (false, snapshot),
            Taken::TooEarly => return Ok(None),
            Taken::Another => continue,
        };
        return Ok(Some(InSnapshot {
            version: snapshot.version,
            new,
            rows: snapshot.rows,
            files: snapshot.files.len(),
            bytes: snapshot.bytes,
        }));
    }
    Err("snapshot: other nodes take them all the time".to_owned())
}

/// The node that wrote last may have died before it told of it.
async fn write_metadata(lake: &LakeStore, feed: &Arc<Feed>) -> Result<(), String> {
    let written = match Metadata::of(lake, feed) {
        Ok(Some(mut metadata)) => metadata.write().await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    written.map_err(|error| format!("_metadata.json: {error}"))
}

async fn after(
    lake: Option<&LakeStore>,
    ends: &Ends,
    feed: &Feed,
    before: Held,
    snapshot: Option<InSnapshot>,
) -> Result<Exported, String> {
    let lake = in_lake(lake, feed).await?.map(|(totals, version)| InLake {
        records: totals.rows.saturating_sub(before.lake.rows),
        files: totals.files.saturating_sub(before.lake.files),
        bytes: totals.bytes.saturating_sub(before.lake.bytes),
        version,
    });
    let warehouse = ends.in_warehouse(feed).await?;
    Ok(Exported {
        feed: feed.name.to_string(),
        lake,
        snapshot,
        warehouse_offsets: warehouse.map(|now| now - before.warehouse),
    })
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.feed)?;
        let mut said = Vec::new();
        if let Some(lake) = &self.lake {
            let version =
                lake.version.map(|it| format!(", table version {it}")).unwrap_or_default();
            said.push(format!(
                " lake {} records in {} files, {} bytes{version}",
                lake.records, lake.files, lake.bytes
            ));
        }
        if let Some(of) = &self.snapshot {
            let new = if of.new { "new" } else { "unchanged" };
            said.push(format!(
                " snapshot v{} ({new}) {} rows in {} files, {} bytes",
                of.version, of.rows, of.files, of.bytes
            ));
        }
        if let Some(offsets) = self.warehouse_offsets {
            said.push(format!(" warehouse {offsets} offsets"));
        }
        f.write_str(&said.join(";"))
    }
}
