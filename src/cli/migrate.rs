use super::{Exit, NodeFile, block_on, failed};
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
}

impl Migrate {
    pub fn run(self) -> Exit {
        let (node, _) = match self.file.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        let Some(config) = node.warehouse else {
            tell!(
                "{}: no `warehouse` is configured: nothing to migrate",
                self.file.path().display()
            );
            return Exit::UsedWrongly;
        };
        let migrated = block_on(async { warehouse::open(&config)?.migrate().await });
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
