//! Where the real servers are, and how one of them is stopped and started.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A variable that `scripts/servers up` wrote. Without it a proof fails: it is never passed over.
pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set. scripts/test sets it; by hand: `scripts/servers up DIR`, then \
             `set -a; . DIR/env; set +a`"
        )
    })
}

/// Two cores carry one proof at a time: the others wait here.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `action` is `stop` or `start`, `server` is `kafka`, `classic`, `registry`, `oidc`, `postgres` or `s3`.
pub fn servers(action: &str, server: &str) {
    let status = Command::new(env("TIDEGATE_TEST_SERVERS"))
        .args([action, server, &env("TIDEGATE_TEST_DIR")])
        .status()
        .expect("scripts/servers runs");
    assert!(status.success(), "scripts/servers {action} {server}: {status}");
}

/// Asks until there is an answer; fails with `what` when the deadline passes.
pub fn wait_for<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < deadline, "gave up after {deadline:?} waiting for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
