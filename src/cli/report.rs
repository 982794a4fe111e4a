use std::path::{Path, PathBuf};

use super::{Exit, NodeFile, block_on, failed, permissions, put};
use crate::config::{FeedFile, Node};
use crate::report::{Asked, gather, page};
use crate::telemetry::print::{answer, tell};

/// Tell of the installation in one HTML file: feeds, sizes, rights, chores, quarantine, queries.
///
/// The file needs nothing beside itself and prints on A4. Nothing is changed, but the audit gets a row.
/// Queries run on the warehouse, where they can only read, for half a minute each. What is away is told in
/// its place.
///
/// Exit codes: 0 written, 1 failed, 2 used wrongly.
#[derive(Debug, clap::Args)]
pub struct Report {
    #[command(flatten)]
    file: NodeFile,
    /// Where the report goes; `-` for standard output.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Folder of queries, each a statement in a file `*.sql`. Default: `queries` beside the node file, if
    /// it is there.
    #[arg(long, value_name = "FOLDER")]
    queries: Option<PathBuf>,
    /// The report's title. Default: the name of the consumer group.
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
}

impl Report {
    pub fn run(self) -> Exit {
        let (node, files) = match self.file.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        if let Some(folder) = self.queries.as_ref().filter(|folder| !folder.is_dir()) {
            tell!("error: --queries {}: not a folder", folder.display());
            return Exit::UsedWrongly;
        }
        let html = match block_on(self.html(&node, files)) {
            Ok(Ok(html)) => html,
            Ok(Err(error)) => return failed(error),
            Err(exit) => return exit,
        };
        if self.out == Path::new("-") {
            answer!("{html}");
            return Exit::Good;
        }
        match put(&self.out, &html) {
            Ok(()) => {
                answer!("{}: written", self.out.display());
                Exit::Good
            }
            Err(error) => failed(format_args!("{}: {error}", self.out.display())),
        }
    }

    async fn html(&self, node: &Node, files: Vec<FeedFile>) -> Result<String, String> {
        let beside = self.file.path().with_file_name("queries");
        let queries = self.queries.clone().or_else(|| beside.is_dir().then_some(beside));
        let (title, out) = (self.title.clone(), self.out.display().to_string());
        let asked = Asked { title, out, queries };
        let report = gather(node, files, &permissions::hand(), asked).await?;
        Ok(page(&report))
    }
}
