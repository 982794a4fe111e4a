//! The command line: one file per command. Each answers an [`Exit`].

mod audit;
mod config;
mod demo;
mod doctor;
mod export;
mod feeds;
mod generate;
mod health;
mod janitor;
mod load;
mod migrate;
mod permissions;
mod quarantine;
mod report;
mod resolve;
mod run;
mod server;
mod snapshot;
mod status;
mod token;
mod verify;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::{FeedFile, Node, load};
use crate::telemetry::logs::{self, LogFormat};
use crate::telemetry::print::{self, answer, tell};

/// How a command ended; the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Good = 0,
    Failed = 1,
    UsedWrongly = 2,
    Difference = 3,
}

/// Kafka topics into a data lake and a PostgreSQL warehouse, each record exactly once in each.
///
/// Exit codes: 0 good, 1 failed, 2 used wrongly (arguments or configuration), 3 a verification found
/// a difference.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, long_about, max_term_width = 100)]
pub struct Cli {
    /// How log lines on standard error look.
    #[arg(long, global = true, value_enum, default_value = "human")]
    log_format: LogFormat,
    /// Writes log lines into files of this folder too, one for each role and day.
    #[arg(long, global = true, value_name = "FOLDER", env = "TIDEGATE_LOG_FOLDER")]
    log_folder: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Run(run::Run),
    Export(export::Export),
    Generate(generate::Generate),
    Migrate(migrate::Migrate),
    Config(config::Config),
    Feeds(feeds::Feeds),
    Verify(verify::Verify),
    Quarantine(quarantine::Quarantine),
    Resolve(resolve::Resolve),
    Snapshot(snapshot::Snapshot),
    Load(load::Load),
    Janitor(janitor::Janitor),
    Permissions(permissions::Permissions),
    Token(token::Token),
    Audit(audit::Audit),
    Report(report::Report),
    Doctor(doctor::Doctor),
    Status(status::Status),
    Health(health::Health),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For a person.
    Text,
    /// One JSON document on standard output.
    Json,
}

/// The node file, which most commands need.
#[derive(Debug, clap::Args)]
pub struct NodeFile {
    /// The node file. Feed files are found through it.
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "tidegate.yaml",
        env = "TIDEGATE_CONFIG"
    )]
    config: PathBuf,
}

impl NodeFile {
    /// Reads and checks everything; faults are printed, all of them.
    pub fn load(&self) -> Result<(Node, Vec<FeedFile>), Exit> {
        load(&self.config).map_err(|faults| {
            tell!("{faults}");
            Exit::UsedWrongly
        })
    }

    pub fn path(&self) -> &Path {
        &self.config
    }
}

/// Parses the process's arguments and carries them out.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not faults.
            let exit = if error.use_stderr() { Exit::UsedWrongly } else { Exit::Good };
            drop(error.print());
            return exit;
        }
    };
    let level = match cli.command {
        Command::Run(_) => "warn,tidegate=info,deltalake_core=error",
        _ => "warn,deltalake_core=error",
    };
    let _kept = match logs::begin(cli.log_format, level, cli.log_folder.as_deref()) {
        Ok(kept) => kept,
        Err(error) => {
            let folder = cli.log_folder.unwrap_or_default();
            tell!(
                "--log-folder: {}: {error}; name a folder that can be written to",
                folder.display()
            );
            return Exit::UsedWrongly;
        }
    };
    let exit = match cli.command {
        Command::Run(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Migrate(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Feeds(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Quarantine(command) => command.run(),
        Command::Resolve(command) => command.run(),
        Command::Snapshot(command) => command.run(),
        Command::Load(command) => command.run(),
        Command::Janitor(command) => command.run(),
        Command::Permissions(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Audit(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Health(command) => command.run(),
    };
    if exit == Exit::Good && print::is_incomplete() { Exit::Failed } else { exit }
}

/// The name of whoever runs a command on this machine.
pub fn local_user() -> String {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
    let uid = || std::fs::metadata("/proc/self").ok().map(|it| it.uid().to_string());
    name.filter(|name| !name.is_empty()).or_else(uid).unwrap_or_default()
}

/// Puts a whole file in place in one step: nobody ever reads half of it.
pub fn put(path: &Path, text: &str) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.new"));
    let written = std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, path));
    if written.is_err() {
        drop(std::fs::remove_file(&aside));
    }
    written
}

/// Prints an error for a person and answers that the command failed.
pub fn failed(error: impl std::fmt::Display) -> Exit {
    tell!("error: {error}");
    Exit::Failed
}

/// Runs I/O to its end on a runtime of its own.
pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Exit> {
    Ok(runtime()?.block_on(work))
}

pub fn runtime() -> Result<tokio::runtime::Runtime, Exit> {
    drop(rustls::crypto::ring::default_provider().install_default());
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)
}

/// Prints a value as one JSON document.
pub fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => answer!("{text}"),
        Err(error) => tell!("error: {error}"),
    }
}
