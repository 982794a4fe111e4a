use std::time::Instant;

use super::{Exit, NodeFile, block_on, failed, permissions};
use crate::config::{Duration, Feed, FeedFile, Warehouse};
use crate::grants::Grants;
use crate::record::{Blame, SinkError};
use crate::telemetry::print::{answer, tell};
use crate::warehouse;

/// Bring the warehouse's bookkeeping schema to this release's version.
///
/// Idempotent, and safe from several places at once. Migrations only add, so nodes of the release
/// before keep running meanwhile.
#[derive(Debug, clap::Args)]
pub struct Migrate {
    #[command(flatten)]
    file: NodeFile,
    /// Print what creates the bookkeeping tables and those of the feeds, for a database where the
    /// node may not create them. Asks no database.
    #[arg(long)]
    print: bool,
    /// Only wait until the schema is what this release needs, for so long at most, and change nothing: for
    /// nodes that start while somebody else migrates.
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["print", "admin"])]
    wait: Option<Duration>,
    /// While waiting: ends well if the database does not answer at all for so long. A node starts without it,
    /// too, and carries records to the lake.
    #[arg(long, value_name = "DURATION", requires = "wait")]
    unless_away: Option<Duration>,
    /// Let this user grant and revoke, if nobody may yet: the first row of all.
    #[arg(long, value_name = "NAME", conflicts_with = "print")]
    admin: Option<String>,
}

impl Migrate {
    pub fn run(self) -> Exit {
        let (node, feeds) = match self.file.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        let Some(config) = node.warehouse else {
            if self.wait.is_some() {
                answer!("No `warehouse` is configured: there is nothing to wait for.");
                return Exit::Good;
            }
            tell!(
                "{}: no `warehouse` is configured: nothing to migrate",
                self.file.path().display()
            );
            return Exit::UsedWrongly;
        };
        if self.print {
            let (known, unknown) = known(&feeds);
            match warehouse::script(&config, &known) {
                Ok(script) => answer!("{}", script.trim_end()),
                Err(error) => {
                    tell!("error: {error}");
                    return Exit::UsedWrongly;
                }
            }
            for feed in unknown {
                answer!(
                    "-- feed {feed}: its topics or columns are found on the broker; name them in its file, and its table is printed"
                );
            }
            return Exit::Good;
        }
        if let Some(patience) = self.wait {
            return wait(&config, patience.get(), self.unless_away.map(|away| away.get()));
        }
        let migrated = block_on(async {
            let applied = warehouse::open(&config)?.migrate().await?;
            if let Some(name) = &self.admin {
                let name = name.strip_prefix("user:").unwrap_or(name);
                match Grants::of(&config)?.first_manager(&permissions::hand(), name).await? {
                    true => answer!("user:{name} may grant and revoke."),
                    false => answer!(
                        "Somebody may grant and revoke already: user:{name} was given nothing. \
                         `tidegate permissions list` says who."
                    ),
                }
            }
            Ok::<_, SinkError>(applied)
        });
        match migrated {
            Ok(Ok(applied)) if applied.is_empty() => {
                answer!("The schema is up to date.");
                Exit::Good
            }
            Ok(Ok(applied)) => {
                applied.iter().for_each(|name| answer!("applied {name}"));
                Exit::Good
            }
            Ok(Err(error)) => failed(error),
            Err(exit) => exit,
        }
    }
}

/// How often the schema is looked at.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Whether the database answers nothing for so long. Says so.
async fn is_away(config: &Warehouse, patience: std::time::Duration) -> bool {
    let until = Instant::now() + patience;
    // What cannot be opened is no matter of waiting.
    let Ok(warehouse) = warehouse::open(config) else { return false };
    loop {
        match warehouse.ping().await {
            Err(error) if error.blame == Blame::Passing && Instant::now() < until => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(error) if error.blame == Blame::Passing => {
                answer!("The database does not answer, and is not waited for: {error}");
                return true;
            }
            _ => return false,
        }
    }
}

fn wait(
    config: &Warehouse,
    patience: std::time::Duration,
    unless_away: Option<std::time::Duration>,
) -> Exit {
    let until = Instant::now() + patience;
    let looking = async {
        if let Some(patience) = unless_away
            && is_away(config, patience).await
        {
            return Ok(false);
        }
        let warehouse = warehouse::open(config)?;
        loop {
            match warehouse.check_schema().await {
                Ok(()) => return Ok(true),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    };
    match block_on(looking) {
        Ok(Ok(answers)) => {
            if answers {
                answer!("The schema is what this release needs.");
            }
            Exit::Good
        }
        Ok(Err(error)) => failed(format_args!("after {} s: {error}", patience.as_secs())),
        Err(exit) => exit,
    }
}

/// The feeds whose tables follow from their files alone, and the names of the others.
fn known(files: &[FeedFile]) -> (Vec<Feed>, Vec<&str>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for file in files.iter().filter(|file| file.warehouse.is_some()) {
        let topic = file.topic.as_ref().filter(|_| file.value_columns().is_some());
        match topic.map(|topic| file.resolve(topic, None)) {
            Some(Ok(feed)) => known.push(feed),
            _ => unknown.push(file.feed.as_str()),
        }
    }
    (known, unknown)
}
