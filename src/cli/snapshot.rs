use super::{Exit, NodeFile, block_on, failed};
use crate::config::{FeedKind, Node, Snapshots};
use crate::telemetry::print::answer;
use crate::{verify, warehouse};

/// Take a version of a feed's table in the warehouse now, whether one is due or not.
///
/// Nodes may run meanwhile. What is kept and for how long is the feed's `warehouse.snapshots`.
#[derive(Debug, clap::Args)]
pub struct Snapshot {
    #[command(flatten)]
    file: NodeFile,
    /// The feed, as `verify` names it.
    #[arg(long, value_name = "FEED")]
    feed: String,
}

impl Snapshot {
    pub fn run(self) -> Exit {
        let (node, files) = match self.file.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        match block_on(async { self.take(&node, &files).await }) {
            Ok(Ok(())) => Exit::Good,
            Ok(Err(error)) => failed(error),
            Err(exit) => exit,
        }
    }

    async fn take(&self, node: &Node, files: &[crate::config::FeedFile]) -> Result<(), String> {
        let config = node.warehouse.as_ref().ok_or("the node file has no `warehouse`")?;
        let warehouse = warehouse::open(config).map_err(|error| error.to_string())?;
        warehouse.check_schema().await.map_err(|error| error.to_string())?;
        for feed in &verify::feeds(node, files, Some(&self.feed)).await? {
            let Some(options) = feed.warehouse.as_ref().filter(|_| feed.kind == FeedKind::Table)
            else {
                return Err(format!("feed {} has no table in the warehouse", feed.name));
            };
            let keep = options.snapshots.clone().unwrap_or(Snapshots::default()).keep;
            let taken = warehouse.snapshot(feed, None, keep).await;
            match taken.map_err(|error| error.to_string())? {
                Some(taken) => {
                    answer!("{}: version {}, {} rows", feed.name, taken.version, taken.rows);
                }
                None => return Err(format!("{}: a version is being taken already", feed.name)),
            }
        }
        Ok(())
    }
}
