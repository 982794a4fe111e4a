use std::time::Duration;

/// How far the publisher may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// So many transactions, each with what is derived from it; then it asks again.
    Go(u64),
    /// Nothing yet: ask again after this time. Acknowledgements are taken up meanwhile.
    Wait(Duration),
    /// No more at all.
    Stop,
}

/// How fast transactions follow one another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// As fast as the broker takes them.
    Unbounded,
    /// So many a second.
    Rate(f64),
}

/// Keeps to a speed. Pure: the time is given.
#[derive(Debug, Clone, Copy)]
pub struct Pace(Speed);

/// Batches are small enough that a stop is heard soon.
const BATCH: u64 = 200;
/// The longest sleep, for the same reason.
const NAP: Duration = Duration::from_millis(100);

impl Pace {
    pub fn new(speed: Speed) -> Self {
        Self(speed)
    }

    /// What is due `elapsed` after the start, when `sent` transactions have gone out. A publisher
    /// that fell behind catches up: the rate holds over the whole run.
    pub fn allow(&self, sent: u64, elapsed: Duration) -> Allowance {
        let Speed::Rate(rate) = self.0 else { return Allowance::Go(BATCH) };
        // The first is due at once.
        let due = (elapsed.as_secs_f64() * rate) as u64 + 1;
        if due > sent {
            return Allowance::Go((due - sent).min(BATCH));
        }
        let next = Duration::try_from_secs_f64(sent as f64 / rate).unwrap_or(Duration::MAX);
        Allowance::Wait(next.saturating_sub(elapsed).clamp(Duration::from_millis(1), NAP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn unbounded_never_waits() {
        assert_eq!(Pace::new(Speed::Unbounded).allow(u64::MAX, SECOND), Allowance::Go(BATCH));
    }

    #[test]
    fn a_rate_is_kept_over_the_whole_run() {
        let pace = Pace::new(Speed::Rate(100.0));
        assert_eq!(pace.allow(0, Duration::ZERO), Allowance::Go(1));
        assert_eq!(pace.allow(1, Duration::ZERO), Allowance::Wait(Duration::from_millis(10)));
        assert_eq!(pace.allow(50, SECOND), Allowance::Go(51));
        assert_eq!(pace.allow(101, SECOND), Allowance::Wait(Duration::from_millis(10)));
        assert_eq!(pace.allow(0, 60 * SECOND), Allowance::Go(BATCH));
    }

    #[test]
    fn a_slow_rate_still_wakes_up() {
        let pace = Pace::new(Speed::Rate(0.001));
        assert_eq!(pace.allow(0, Duration::ZERO), Allowance::Go(1));
        assert_eq!(pace.allow(1, SECOND), Allowance::Wait(NAP));
        assert_eq!(pace.allow(1, 1001 * SECOND), Allowance::Go(1));
    }

    #[test]
    fn steps_of_the_clock_add_up_to_the_rate() {
        let pace = Pace::new(Speed::Rate(1234.5));
        let (mut sent, mut elapsed) = (0, Duration::ZERO);
        while elapsed < 10 * SECOND {
            match pace.allow(sent, elapsed) {
                Allowance::Go(more) => sent += more,
                Allowance::Wait(time) => elapsed += time,
                Allowance::Stop => unreachable!(),
            }
        }
        // 12,345, less what the last step of a millisecond leaves out.
        assert!((12_343..12_347).contains(&sent), "{sent}");
    }
}
