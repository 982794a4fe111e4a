use super::{Exit, NodeFile, failed};
use crate::app::{App, Permissions};

/// Run a node: join the consumer group and carry records to the lake and the warehouse.
///
/// The whole configuration is checked before anything starts. SIGTERM or SIGINT drains: reading
/// stops, what is in flight is committed within the drain deadline, the group is left. A second
/// signal stops at once; nothing is lost, since progress lives in the sinks.
#[derive(Debug, clap::Args)]
pub struct Run {
    #[command(flatten)]
    file: NodeFile,
    /// Take over a lake that belongs to another installation than the warehouse.
    #[arg(long)]
    adopt: bool,
}

impl Run {
    pub fn run(self) -> Exit {
        let (node, feeds) = match self.file.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        match App::build(node, feeds, Permissions { adopt: self.adopt }) {
            Ok(app) => match app.run() {
                0 => Exit::Good,
                _ => Exit::Failed,
            },
            Err(error) => failed(error),
        }
    }
}
