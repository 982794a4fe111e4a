//! Points where a test can break this very binary: a panic, a stop, an exit, at the n-th passing.
//!
//! `TIDEGATE_FAULT=POINT=ACTION[@N][,…]`, with ACTION one of `panic`, `stop` (SIGSTOP to the whole
//! process), `hang` (this thread, for good) and `exit`. Without the variable a point costs one comparison.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Fault {
    point: String,
    action: String,
    at: u64,
    passed: AtomicU64,
}

static FAULTS: OnceLock<Vec<Fault>> = OnceLock::new();

fn faults() -> &'static [Fault] {
    FAULTS.get_or_init(|| {
        std::env::var("TIDEGATE_FAULT").map(|text| parse(&text)).unwrap_or_default()
    })
}

fn parse(text: &str) -> Vec<Fault> {
    text.split(',')
        .filter_map(|fault| {
            let (point, action) = fault.split_once('=')?;
            let (action, at) = action.split_once('@').unwrap_or((action, "1"));
            let (point, action) = (point.to_owned(), action.to_owned());
            Some(Fault { point, action, at: at.parse().ok()?, passed: AtomicU64::new(0) })
        })
        .collect()
}

/// Passes a named point.
pub fn point(name: &str) {
    for fault in faults().iter().filter(|fault| fault.point == name) {
        if fault.passed.fetch_add(1, Ordering::Relaxed) + 1 != fault.at {
            continue;
        }
        tracing::warn!(target: "tidegate::fault", point = name, action = fault.action, "breaking on purpose");
        match fault.action.as_str() {
            "panic" => panic!("a fault was asked for at {name}"),
            // SAFETY: raising a signal on oneself has no memory effects.
            "stop" => {
                // To this thread, so that it is stopped before it goes a step further.
                let _ = unsafe { libc::raise(libc::SIGSTOP) };
            }
            "hang" => loop {
                std::thread::park();
            },
            "exit" => std::process::exit(70),
            other => tracing::warn!(target: "tidegate::fault", action = other, "unknown action"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_points_actions_and_counts() {
        let faults = parse("a.b=panic@3,c=stop,nonsense");
        let read: Vec<_> =
            faults.iter().map(|fault| (&*fault.point, &*fault.action, fault.at)).collect();
        assert_eq!(read, [("a.b", "panic", 3), ("c", "stop", 1)]);
    }
}
