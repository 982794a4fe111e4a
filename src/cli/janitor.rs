use std::collections::BTreeMap;

use clap::Subcommand;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::server::Server;
use super::{Exit, NodeFile, Output, block_on, failed, permissions, print_json};
use crate::actors::janitor::{Chore, Report, Work};
use crate::catalog::Known;
use crate::config::{Duration, FeedFile, Node};
use crate::lake::LakeStore;
use crate::lake::upkeep::Mode;
use crate::record::SinkError;
use crate::telemetry::print::{answer, tell};
use crate::warehouse;

/// Look after the tables by hand.
///
/// Every node does so by itself, one of the cluster at a time; this runs beside it, and takes nothing away
/// that the other has taken already.
#[derive(Debug, clap::Args)]
pub struct Janitor {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run chores now, or say what they would do.
    Run(Run),
    /// Ask the cluster's janitor for a chore now, whatever its schedule. It begins within seconds, after what it
    /// does now; `GET /v1/janitor` has what came of it.
    Signal(Signal),
}

#[derive(Debug, clap::Args)]
struct Signal {
    #[command(flatten)]
    file: NodeFile,
    #[command(flatten)]
    server: Server,
    #[arg(value_enum)]
    chore: Chore,
}

impl Signal {
    fn run(self) -> Result<Exit, Exit> {
        let chore = self.chore.name();
        match self.server.remote()? {
            Some(remote) => drop(remote.post(&["v1", "janitor", chore], &json!({}))?),
            None => {
                let (node, _) = self.file.load()?;
                block_on(self.ask(&node))?.map_err(failed)?;
            }
        }
        answer!("{chore} is asked for.");
        Ok(Exit::Good)
    }

    async fn ask(&self, node: &Node) -> Result<(), SinkError> {
        let Some(config) = &node.warehouse else {
            return Err(SinkError::lasting(
                "what is asked for is kept in the warehouse's database, and the node file has no \
                 `warehouse`; `janitor run` does it here",
            ));
        };
        let hand = permissions::hand();
        let chore = self.chore.name();
        let row = hand.audit("janitor", None, true, format!("asked for {chore}"));
        permissions::grants(node).await?.record(&[row]).await?;
        warehouse::open_janitor(config)?.signal(chore, &hand.by.name).await
    }
}

#[derive(Debug, clap::Args)]
struct Run {
    #[command(flatten)]
    file: NodeFile,
    /// Only this chore. Default: all, one after the other.
    #[arg(value_enum)]
    chore: Option<Chore>,
    /// Only this feed, as `verify` names it.
    #[arg(long, value_name = "FEED")]
    feed: Option<String>,
    /// Again and again, so long after each end, until interrupted.
    #[arg(long, value_name = "DURATION")]
    every: Option<Duration>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// How it is said what was done.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl Janitor {
    pub fn run(self) -> Exit {
        let run = match self.action {
            Action::Run(run) => run,
            Action::Signal(signal) => return signal.run().unwrap_or_else(|exit| exit),
        };
        let (node, files) = match run.file.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        match block_on(run.go(node, files)) {
            Ok(Ok(exit)) => exit,
            Ok(Err(error)) => failed(error),
            Err(exit) => exit,
        }
    }
}

impl Run {
    async fn go(&self, node: Node, files: Vec<FeedFile>) -> Result<Exit, String> {
        let work = open(node, files).await?;
        if let Some(feed) = &self.feed
            && !work.known.all().await.iter().any(|known| known.name == *feed)
        {
            tell!("error: there is no feed {feed}");
            return Ok(Exit::UsedWrongly);
        }
        let chores = match self.chore {
            Some(chore) => vec![chore],
            None => Chore::ALL.to_vec(),
        };
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Do };
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        loop {
            let mut reports = BTreeMap::new();
            let pass = async {
                for chore in &chores {
                    reports
                        .insert(chore.name(), work.run(*chore, self.feed.as_deref(), mode).await);
                }
            };
            // A chore may be cut off anywhere.
            tokio::select! {
                () = pass => {}
                _ = interrupt.recv() => return Ok(Exit::Good),
                _ = terminate.recv() => return Ok(Exit::Good),
            }
            self.print(&reports, mode);
            let Some(every) = self.every else {
                let bad = reports.values().any(Report::failed);
                return Ok(if bad { Exit::Failed } else { Exit::Good });
            };
            tokio::select! {
                () = tokio::time::sleep(every.get()) => {}
                _ = interrupt.recv() => return Ok(Exit::Good),
                _ = terminate.recv() => return Ok(Exit::Good),
            }
        }
    }

    fn print(&self, reports: &BTreeMap<&str, Report>, mode: Mode) {
        if self.output == Output::Json {
            print_json(reports);
            return;
        }
        let mut said = false;
        for (chore, report) in reports {
            for (feed, done) in &report.feeds {
                answer!("{chore}  {feed}: {}", done.in_words(mode));
                said = true;
            }
            for (feed, done) in &report.warehouse {
                answer!("{chore}  {feed}, warehouse: {}", done.in_words(mode));
                said = true;
            }
            for (feed, done) in &report.quarantines {
                answer!("{chore}  {feed}, quarantine: {}", done.in_words(mode));
                said = true;
            }
            if let Some(rows) = report.audit_rows.filter(|rows| *rows > 0) {
                answer!("{chore}  {rows} rows taken out");
                said = true;
            }
            if let Some(error) = &report.error {
                tell!("error: {chore}: {error}");
                said = true;
            }
        }
        if !said {
            answer!("nothing to do");
        }
    }
}

async fn open(node: Node, files: Vec<FeedFile>) -> Result<Work, String> {
    let said = |error: crate::record::SinkError| error.to_string();
    let lake = node.lake.as_ref().map(LakeStore::open).transpose().map_err(said)?;
    let (mut database, mut store, mut ad_hoc) = (None, None, None);
    if let Some(config) = &node.warehouse {
        let opened = warehouse::open(config).map_err(said)?;
        let bookkeeping = opened.check_schema().await;
        if files.iter().any(|file| file.warehouse.is_some()) {
            bookkeeping.clone().map_err(said)?;
        }
        if bookkeeping.is_ok()
            && let Some(lake) = &lake
            && let Some(owner) = lake.known_installation().await.map_err(said)?
        {
            let found = opened.installation(owner, false).await.map_err(said)?;
            if found != owner {
                return Err(format!(
                    "the lake belongs to installation {owner}, the warehouse to {found}: point the \
                     node file at sinks that belong together"
                ));
            }
        }
        if bookkeeping.is_ok() {
            store = Some(warehouse::open_janitor(config).map_err(said)?);
            ad_hoc = Some(warehouse::open_ad_hoc(config).map_err(said)?);
        }
        database = Some(opened);
    }
    let known = Known::open(&node, files, lake.clone(), database)?;
    Ok(Work { config: node.janitor, known, lake, store, ad_hoc, retires_rows: true, token: None })
}
