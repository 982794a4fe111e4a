//! A node: the release binary as a process, with its log in a file.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use crate::servers::wait_for;

pub struct Node {
    child: Child,
    log: PathBuf,
    /// Where this process's lines begin.
    from: usize,
}

/// The binary under proof: ours, or one that was broken to see a proof fail.
pub fn tidegate() -> Command {
    let own = env!("CARGO_BIN_EXE_tidegate").to_owned();
    Command::new(std::env::var("TIDEGATE_TEST_BINARY").unwrap_or(own))
}

impl Node {
    /// `fault` is a `TIDEGATE_FAULT`; empty for a node that is left whole.
    pub fn start(config: &Path, log: PathBuf, fault: &str) -> Self {
        Self::start_with(config, log, fault, &[])
    }

    pub fn start_with(config: &Path, log: PathBuf, fault: &str, arguments: &[&str]) -> Self {
        let mut command = tidegate();
        command.args(["run", "--config"]).arg(config).args(arguments);
        Self::of(command, log, fault)
    }

    /// A node by its whole command line.
    pub fn of(mut command: Command, log: PathBuf, fault: &str) -> Self {
        let lines = File::options().create(true).append(true).open(&log).expect("a log file");
        let from = lines.metadata().map_or(0, |file| file.len() as usize);
        command.stderr(lines).env("NO_COLOR", "1");
        command.env_remove("TIDEGATE_FAULT");
        if !fault.is_empty() {
            command.env("TIDEGATE_FAULT", fault);
        }
        let child = command.spawn().expect("the node starts");
        Self { child, log, from }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the child is ours and not yet waited for, so its number is still its own.
        let sent = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(sent, 0, "signal {signal} to {}", self.child.id());
    }

    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        let status = self.child.wait().expect("our own child");
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it had ended before: {}", self.tail());
    }

    /// As an orchestrator ends it. Answers how long the drain took.
    pub fn terminate(&mut self, within: Duration) -> (ExitStatus, Duration) {
        let since = std::time::Instant::now();
        self.signal(libc::SIGTERM);
        let status =
            wait_for("the node to drain", within, || self.child.try_wait().expect("our own child"));
        (status, since.elapsed())
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Stopped by a signal, its own or ours.
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        // The state follows the name, which is in brackets.
        stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    }

    /// What this process has logged.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.from..).unwrap_or_default()).into_owned()
    }

    /// What it has logged after `mark`, a length of its log.
    pub fn log_since(&self, mark: usize) -> String {
        self.log().get(mark..).unwrap_or_default().to_owned()
    }

    pub fn wait_for_log(&self, text: &str, deadline: Duration) {
        wait_for(&format!("`{text}` in {}", self.log.display()), deadline, || {
            self.log().contains(text).then_some(())
        });
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of {}\n{}", self.log.display(), self.tail());
        }
        // It may have ended, or be stopped; both are fine with SIGKILL.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
