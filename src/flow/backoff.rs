//! How long to wait before trying again: doubling, bounded, spread by jitter.

use std::time::Duration;

#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    pub first: Duration,
    pub most: Duration,
}

impl Backoff {
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most }
    }

    /// The wait before attempt `attempt` (0 is the first retry). `spread` in 0..1 picks a point in
    /// the upper half of the interval, so that nodes that failed together do not return together.
    pub fn wait(&self, attempt: u32, spread: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << attempt.min(20));
        let ceiling = doubled.min(self.most);
        ceiling.mul_f64(0.5 + spread.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_most_and_stays_in_the_upper_half() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        assert_eq!(backoff.wait(0, 1.0), Duration::from_millis(100));
        assert_eq!(backoff.wait(2, 1.0), Duration::from_millis(400));
        assert_eq!(backoff.wait(2, 0.0), Duration::from_millis(200));
        assert_eq!(backoff.wait(40, 1.0), Duration::from_secs(5));
    }
}
