//! How often a fault that repeats is said.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Lines of one fault within a window.
pub const BURST: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// Faults told apart at one time.
const MOST: usize = 4096;

/// What may differ each time that one fault is said. All else makes another fault of it: of two feeds it is two, and
/// what is said once, as with an id, is said.
const VARIES: [&str; 14] = [
    "message", "error", "loss", "reason", "attempt", "records", "rows", "range", "offset",
    "version", "found", "ms", "count", "age_ms",
];

/// Whether a line is written.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// It was said often enough.
    Nothing,
    /// With so many like it that were not.
    After(u64),
}

/// Counts warnings and errors by where in the program they are said, and what about.
#[derive(Default)]
pub struct Limit(Mutex<HashMap<u64, Window>>);

struct Window {
    since: Instant,
    said: u32,
    left_out: u64,
}

impl Limit {
    pub fn say(&self, event: &Event<'_>, now: Instant) -> Said {
        if *event.metadata().level() > Level::WARN {
            return Said::After(0);
        }
        let mut about = About(DefaultHasher::new());
        event.metadata().callsite().hash(&mut about.0);
        event.record(&mut about);
        self.count(about.0.finish(), now)
    }

    fn count(&self, fault: u64, now: Instant) -> Said {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |window: &Window| now.duration_since(window.since) >= WINDOW;
        if windows.len() >= MOST && !windows.contains_key(&fault) {
            windows.retain(|_, window| !is_over(window));
            // Rather too many lines than too much memory.
            if windows.len() >= MOST {
                windows.clear();
            }
        }
        let window = windows.entry(fault).or_insert(Window { since: now, said: 0, left_out: 0 });
        if is_over(window) {
            (window.since, window.said) = (now, 0);
        }
        if window.said >= BURST {
            window.left_out += 1;
            return Said::Nothing;
        }
        window.said += 1;
        Said::After(std::mem::take(&mut window.left_out))
    }
}

struct About(DefaultHasher);

impl Visit for About {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !VARIES.contains(&field.name()) {
            let mut text = String::new();
            // To a text nothing fails to be written.
            let _ = write!(text, "{value:?}");
            (field.name(), text).hash(&mut self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_told_with_the_next_line() {
        let (limit, begin) = (Limit::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        for _ in 0..BURST {
            assert_eq!(limit.count(1, at(0)), Said::After(0));
        }
        for second in 0..40 {
            assert_eq!(limit.count(1, at(second)), Said::Nothing);
        }
        assert_eq!(limit.count(2, at(40)), Said::After(0), "another fault");
        assert_eq!(limit.count(1, at(60)), Said::After(40));
        assert_eq!(limit.count(1, at(61)), Said::After(0));
    }

    #[test]
    fn so_many_faults_are_told_apart_and_no_more() {
        let (limit, now) = (Limit::default(), Instant::now());
        for fault in 0..3 * MOST as u64 {
            assert_eq!(limit.count(fault, now), Said::After(0));
            assert!(limit.0.lock().unwrap().len() <= MOST);
        }
    }
}
