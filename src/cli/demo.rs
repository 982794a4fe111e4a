use std::path::PathBuf;

use super::generate::{ratio, stop_on_interrupt};
use super::{Exit, Output, failed, print_json};
use crate::demo::{self, DemoError, Options};
use crate::telemetry::print::{answer, tell};

/// See it all at work in one process: nothing to install, nothing to configure.
///
/// Starts a broker of its own, publishes purchase transactions and the streams and keyed tables
/// derived from them, a few bad ones among them, and runs a real node that carries them into a Delta
/// lake on disk and a SQLite warehouse. Then it stops the node and compares both with the records,
/// made again from the seed: lost, doubled, other content, the final row of each key, quarantine.
///
/// It leaves a folder with the node file, the feed files, the lake and the warehouse. A folder that an
/// earlier demo left is replaced; any other that is not empty is refused.
///
/// Exit codes: 0 everything is there exactly once, 1 failed or stopped, 2 used wrongly, 3 a difference.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Demo {
    /// How many transactions. About five records follow from each.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// The folder to leave everything in.
    #[arg(long, value_name = "FOLDER", default_value = "tidegate-demo")]
    dir: PathBuf,
    /// Which records: another seed gives others.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Share of bad records, 0 to 1.
    #[arg(long, value_name = "RATIO", default_value = "0.005", value_parser = ratio)]
    bad: f64,
    /// How the report is printed. The progress goes to standard error.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl Demo {
    pub fn run(self) -> Exit {
        let stop = stop_on_interrupt();
        let options =
            Options { folder: self.dir, messages: self.messages, seed: self.seed, bad: self.bad };
        let report = match demo::run(&options, &stop) {
            Ok(report) => report,
            Err(DemoError::Refused(reason)) => {
                tell!("error: {reason}");
                return Exit::UsedWrongly;
            }
            Err(error) => return failed(error),
        };
        match self.output {
            Output::Json => print_json(&report),
            Output::Text => answer!("{}", report.to_string().trim_end()),
        }
        if report.is_ok() { Exit::Good } else { Exit::Difference }
    }
}
