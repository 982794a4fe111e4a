use super::{Exit, NodeFile, failed};
use crate::app::{App, Options};
use crate::config::Mode;

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
    /// Which sinks this node serves. A partial node has a consumer group of its own, `<group>-lake` or
    /// `<group>-warehouse`; whole and partial nodes of one cluster do not run side by side.
    #[arg(long, value_enum, default_value = "all")]
    mode: Mode,
}

impl Run {
    pub fn run(self) -> Exit {
        let (node, feeds) = match self.file.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        let options = Options { adopt: self.adopt, mode: self.mode };
        match App::build(node, feeds, options).and_then(App::check_beside) {
            Ok(app) => match app.run() {
                0 => Exit::Good,
                _ => Exit::Failed,
            },
            Err(error) => failed(error),
        }
    }
}
