use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Exit, NodeFile, Output, block_on, failed, print_json};
use crate::telemetry::print::answer;
use crate::verify::{self, Options, Verdict};

/// Compare the log, the lake and the warehouse, feed by feed.
///
/// Streams offset by offset, over what each sink claims: lost, doubled, out of place, quarantined.
/// Tables key by key: each row of the warehouse against the log's final record of its key; the
/// changelog in the lake offset by offset. Offsets that the log no longer holds are unchecked, not
/// lost; aborted and compacted records are not expected; recorded gaps are shown.
///
/// It reads the topics, the Delta log, the Parquet files and the database as any client would. Nodes
/// may run meanwhile: what they have not committed yet is behind, not lost.
///
/// Exit codes: 0 no difference, 3 a difference, 1 something could not be read, or `--wait` was in vain.
#[derive(Debug, clap::Args)]
pub struct Verify {
    #[command(flatten)]
    file: NodeFile,
    /// Only this feed.
    #[arg(long, value_name = "FEED")]
    feed: Option<String>,
    /// Wait at most so many seconds until the sinks have reached the log's end as it is now.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl Verify {
    pub fn run(self) -> Exit {
        let (node, feeds) = match self.file.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        let options = Options {
            feed: self.feed,
            wait: self.wait.map(Duration::from_secs),
            bar: progress_bar(),
        };
        let report = match block_on(verify::run(&node, &feeds, options)) {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => return failed(error),
            Err(exit) => return exit,
        };
        match self.output {
            Output::Text => answer!("{report}"),
            Output::Json => print_json(&report),
        }
        match report.verdict {
            // What was not there yet was not compared.
            Verdict::Ok if report.waited_in_vain => Exit::Failed,
            Verdict::Ok => Exit::Good,
            Verdict::Difference => Exit::Difference,
        }
    }
}

/// On standard error, and only where that is a terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::no_length();
    // The template is our own.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {human_pos}/{human_len}")
    {
        bar.set_style(style);
    }
    bar
}
