use clap::Subcommand;

use super::{Exit, NodeFile, Output, print_json};
use crate::config::{load, reference_markdown, schema_json};
use crate::telemetry::metrics;
use crate::telemetry::print::{answer, tell};

/// Check the configuration, or print what may stand in it.
#[derive(Debug, clap::Args)]
pub struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the node file and every feed file; name every fault at once.
    Check {
        #[command(flatten)]
        file: NodeFile,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Print every metric of a node: as a page in Markdown.
    Metrics,
    /// Print the JSON schema of the node file and of feed files.
    Schema {
        /// Print the reference page instead, as Markdown.
        #[arg(long)]
        markdown: bool,
    },
}

impl Config {
    pub fn run(self) -> Exit {
        match self.command {
            Command::Metrics => answer!("{}", metrics::reference_markdown().trim_end()),
            Command::Schema { markdown: true } => answer!("{}", reference_markdown().trim_end()),
            Command::Schema { markdown: false } => print_json(&schema_json()),
            Command::Check { file, output } => return check(&file, output),
        }
        Exit::Good
    }
}

fn check(file: &NodeFile, output: Output) -> Exit {
    match (load(file.path()), output) {
        (Ok((_, feeds)), Output::Text) => {
            answer!("{}: good, {} feed files", file.path().display(), feeds.len());
            Exit::Good
        }
        (Ok((_, feeds)), Output::Json) => {
            print_json(&serde_json::json!({"faults": [], "feeds": feeds.len()}));
            Exit::Good
        }
        (Err(faults), Output::Text) => {
            tell!("{faults}");
            Exit::UsedWrongly
        }
        (Err(faults), Output::Json) => {
            print_json(&serde_json::json!({"faults": faults}));
            Exit::UsedWrongly
        }
    }
}
