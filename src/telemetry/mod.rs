//! What is seen from outside: spans, metrics, and the points where tests break things on purpose.

pub mod fault;
pub mod metrics;
pub mod places;
pub mod print;
pub mod pulse;
mod series;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For a person at a terminal.
    Human,
    /// One JSON object a line.
    Json,
}

/// Sends log lines to standard error. `TIDEGATE_LOG` chooses levels, as in `tidegate=debug`.
pub fn log_to_stderr(format: LogFormat, default: &str) {
    let filter =
        EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say so on standard error, and panic where that is what failed.
        .log_internal_errors(false);
    // A second call (a test, a demo inside a node) leaves the first in place.
    drop(match format {
        LogFormat::Human => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    });
}
