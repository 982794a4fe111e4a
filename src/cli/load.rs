use clap::ValueEnum;

use super::{Exit, NodeFile, block_on, failed};
use crate::load::{Loaded, load};
use crate::telemetry::print::{answer, tell};
use crate::verify;

/// Bring the lake's rows of a feed into its warehouse, by their coordinates and under the same fence as
/// a node: each once, from where the warehouse stands to where the lake stands.
///
/// For a warehouse that lost records which the broker no longer holds, or that is filled from the lake
/// alone. It may be stopped and run again. A node may run meanwhile: if it writes the partition, the
/// rest is its own. Documents (`warehouse.shape: document`) are put together from the lake's columns.
///
/// Exit codes: 0 all is there, 1 failed or stopped before the lake's end.
#[derive(Debug, clap::Args)]
pub struct Load {
    #[command(flatten)]
    file: NodeFile,
    /// The feed, as `verify` names it.
    #[arg(long, value_name = "FEED")]
    feed: String,
    #[arg(long, value_enum, default_value = "lake")]
    from: Lake,
    #[arg(long, value_enum, default_value = "warehouse")]
    into: Warehouse,
    /// Load what is there, although the lake's log says, or can no longer deny, that rows were removed.
    #[arg(long)]
    allow_missing: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Lake {
    Lake,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Warehouse {
    Warehouse,
}

impl Load {
    pub fn run(self) -> Exit {
        let (node, files) = match self.file.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        let (Lake::Lake, Warehouse::Warehouse) = (self.from, self.into);
        let loaded = block_on(async {
            let mut all = Vec::new();
            for feed in &verify::feeds(&node, &files, Some(&self.feed)).await? {
                if feed.is_document() && !feed.schema.rest {
                    tell!(
                        "{}: fields that no column of the lake takes are in none of these documents \
                         (`rest: true` keeps them)",
                        feed.name
                    );
                }
                let loaded = load(&node, feed, self.allow_missing).await;
                all.extend(loaded.map_err(|error| format!("feed {}: {error}", feed.name))?);
            }
            Ok::<_, String>(all)
        });
        match loaded {
            Ok(Ok(loaded)) if loaded.is_empty() => {
                answer!("The lake knows no partition of the feed: there is nothing to load.");
                Exit::Good
            }
            Ok(Ok(loaded)) => {
                loaded.iter().for_each(tell_of);
                let whole = loaded.iter().all(|it| it.stopped.is_none());
                if whole { Exit::Good } else { Exit::Failed }
            }
            Ok(Err(error)) => failed(error),
            Err(exit) => exit,
        }
    }
}

fn tell_of(loaded: &Loaded) {
    let Loaded { source, range, rows, rejects, refused, stopped } = loaded;
    let quarantined = rejects + refused;
    answer!("{source}: {range}: {rows} rows, {quarantined} in quarantine");
    if let Some(why) = stopped {
        tell!("{source}: stopped at {}: {why}", range.end);
    }
}
