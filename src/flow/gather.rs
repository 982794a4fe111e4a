//! When a gathered batch is due: full, or old enough, or asked for.

use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub max_records: usize,
    pub max_bytes: usize,
    pub linger: Duration,
}

/// What waits to be sent, counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gathered {
    pub records: usize,
    pub bytes: usize,
    /// When the oldest of it came in.
    pub since: Option<Instant>,
    /// Someone waits for it: send now.
    pub urgent: bool,
}

impl Gathered {
    pub fn add(&mut self, records: usize, bytes: usize, now: Instant) {
        self.records += records;
        self.bytes += bytes;
        self.since.get_or_insert(now);
    }

    /// How long until it is due: zero is now, none is never (nothing waits).
    pub fn due_in(&self, bounds: &Bounds, now: Instant) -> Option<Duration> {
        let since = self.since?;
        let full = self.records >= bounds.max_records || self.bytes >= bounds.max_bytes;
        if full || self.urgent {
            return Some(Duration::ZERO);
        }
        Some((since + bounds.linger).saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { max_records: 10, max_bytes: 100, linger: Duration::from_millis(20) };

    #[test]
    fn due_when_full_old_or_urgent() {
        let start = Instant::now();
        let mut gathered = Gathered::default();
        assert_eq!(gathered.due_in(&BOUNDS, start), None);
        gathered.add(1, 10, start);
        assert_eq!(gathered.due_in(&BOUNDS, start), Some(BOUNDS.linger));
        let later = start + Duration::from_millis(15);
        gathered.add(1, 10, later);
        assert_eq!(gathered.due_in(&BOUNDS, later), Some(Duration::from_millis(5)));
        assert_eq!(gathered.due_in(&BOUNDS, start + BOUNDS.linger), Some(Duration::ZERO));
        gathered.add(8, 10, later);
        assert_eq!(gathered.due_in(&BOUNDS, later), Some(Duration::ZERO));
        let urgent = Gathered { urgent: true, since: Some(start), ..Gathered::default() };
        assert_eq!(urgent.due_in(&BOUNDS, start), Some(Duration::ZERO));
    }
}
