use super::{Exit, NodeFile, Output, block_on, print_json};
use crate::doctor::{State, examine};
use crate::telemetry::print::answer;

/// Look at all that a node needs: broker, topics, rights, registry, lake, warehouse, clocks, disk.
///
/// Each thing is looked at by itself, and said with what helps. What shows that one may write is deleted again; the
/// folders it needed and the lake's clock stay. Exit codes: 0 nothing is bad, 1 something is.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    #[command(flatten)]
    file: NodeFile,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl Doctor {
    pub fn run(self) -> Exit {
        let (node, files) = match self.file.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        let now_ms = || chrono::Utc::now().timestamp_millis();
        let findings = match block_on(examine(&node, &files, now_ms)) {
            Ok(findings) => findings,
            Err(exit) => return exit,
        };
        match self.output {
            Output::Json => print_json(&findings),
            Output::Text => {
                for found in &findings {
                    let state = match found.state {
                        State::Good => "good",
                        State::Doubtful => "doubtful",
                        State::Bad => "BAD",
                    };
                    answer!("{state:<9} {}: {}", found.about, found.says);
                    if let Some(remedy) = &found.remedy {
                        answer!("          {remedy}");
                    }
                }
            }
        }
        let worst = findings.iter().map(|found| found.state).max();
        if worst == Some(State::Bad) { Exit::Failed } else { Exit::Good }
    }
}
