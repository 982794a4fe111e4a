//! Whether a node lives and whether it is ready: told by those who know, judged here without asking anybody, so
//! that the answer comes however stuck the rest is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use serde::Serialize;

use super::metrics;
use crate::flow::budget::Budget;

/// Whoever has not beaten for so long is stuck: nothing it does takes that long.
const STUCK_MS: i64 = 60_000;

/// Who beats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heart {
    /// Of all actors, whom it watches in turn.
    Supervisor,
    /// Where all I/O runs.
    Io,
}

#[derive(Debug, Default)]
pub struct Pulse {
    /// Milliseconds since the epoch; 0: not yet.
    supervisor: AtomicI64,
    io: AtomicI64,
    /// Of threads that come and go, for as long as they are.
    threads: Mutex<Vec<Weak<Thread>>>,
    /// The group gave this node what it is to have, be it nothing.
    joined: AtomicBool,
    draining: AtomicBool,
    standing: RwLock<Standing>,
    budget: RwLock<Option<Budget>>,
}

/// A thread that is watched until it lets go of this.
#[derive(Debug)]
pub struct Thread {
    name: String,
    last: AtomicI64,
}

impl Thread {
    pub fn beat(&self, now_ms: i64) {
        self.last.store(now_ms, Ordering::Relaxed);
    }
}

/// The node's partitions, as the supervisor sees them.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// By feed and state, how many.
    pub counts: BTreeMap<(Arc<str>, &'static str), usize>,
    /// Those that are not claimed yet, and were not refused either.
    pub claiming: Vec<String>,
}

/// An answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    pub ok: bool,
    /// What keeps it from being so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

impl Answer {
    fn of(reasons: Vec<String>) -> Self {
        Self { ok: reasons.is_empty(), reasons }
    }
}

impl Pulse {
    pub fn beat(&self, heart: Heart, now_ms: i64) {
        self.last(heart).store(now_ms, Ordering::Relaxed);
    }

    /// Watches a thread from now on.
    pub fn watch(&self, name: &str, now_ms: i64) -> Arc<Thread> {
        let thread = Arc::new(Thread { name: name.to_owned(), last: AtomicI64::new(now_ms) });
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| thread.strong_count() > 0);
        threads.push(Arc::downgrade(&thread));
        thread
    }

    fn last(&self, heart: Heart) -> &AtomicI64 {
        match heart {
            Heart::Supervisor => &self.supervisor,
            Heart::Io => &self.io,
        }
    }

    pub fn joined(&self) {
        self.joined.store(true, Ordering::Relaxed);
    }

    /// It was, and has to join again.
    pub fn left(&self) {
        self.joined.store(false, Ordering::Relaxed);
    }

    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn stands(&self, standing: Standing) {
        *self.standing.write().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    pub fn budget(&self, budget: Budget) {
        *self.budget.write().unwrap_or_else(PoisonError::into_inner) = Some(budget);
    }

    /// Bytes of the memory budget: those that are taken, and all.
    pub fn memory(&self) -> (u64, u64) {
        let budget = self.budget.read().unwrap_or_else(PoisonError::into_inner);
        budget.as_ref().map_or((0, 0), |budget| (budget.used() as u64, budget.limit() as u64))
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether the node has begun.
    pub fn started(&self) -> Answer {
        match self.supervisor.load(Ordering::Relaxed) {
            0 => Answer::of(vec!["the supervisor has not begun".to_owned()]),
            _ => Answer::of(Vec::new()),
        }
    }

    /// Whether its actors and its I/O still move. One that has not begun yet is not stuck.
    pub fn lives(&self, now_ms: i64) -> Answer {
        let stuck = |last: i64, what: &str| {
            let ago = now_ms - last;
            (last > 0 && ago > STUCK_MS)
                .then(|| format!("{what} has stood still for {} s", ago / 1000))
        };
        let hearts = [(Heart::Supervisor, "the supervisor"), (Heart::Io, "the I/O runtime")];
        let hearts =
            hearts.map(|(heart, what)| stuck(self.last(heart).load(Ordering::Relaxed), what));
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = threads.iter().filter_map(Weak::upgrade);
        let threads = threads
            .map(|it| stuck(it.last.load(Ordering::Relaxed), &format!("the thread {}", it.name)));
        Answer::of(hearts.into_iter().chain(threads).flatten().collect())
    }

    /// Whether it has joined the group and each of its partitions is claimed, or known to be refused: a sink that
    /// is away makes no node unready, since no restart brings it back.
    pub fn ready(&self) -> Answer {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            reasons.push("the node is draining".to_owned());
        }
        if !self.joined.load(Ordering::Relaxed) {
            reasons.push("the node has not joined the consumer group".to_owned());
        }
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        let more = standing.claiming.len().saturating_sub(5);
        reasons.extend(standing.claiming.iter().take(5).map(|it| format!("{it} is being claimed")));
        if more > 0 {
            reasons.push(format!("and {more} more"));
        }
        Answer::of(reasons)
    }

    /// Sets the gauges of what it knows.
    pub fn observe(&self) {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner).clone();
        let counts = standing.counts.iter();
        let counts = counts.map(|((feed, state), count)| ([&**feed, *state], *count as f64));
        metrics::PARTITIONS_OWNED.replace(counts);
        let (used, limit) = self.memory();
        metrics::MEMORY_USED.set([], used as f64);
        metrics::MEMORY_LIMIT.set([], limit as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_lives_while_all_of_it_moves() {
        let pulse = Pulse::default();
        assert!(!pulse.started().ok && pulse.lives(1_000_000).ok);
        pulse.beat(Heart::Supervisor, 1_000);
        pulse.beat(Heart::Io, 50_000);
        assert!(pulse.started().ok && pulse.lives(61_000).ok);
        let stuck = pulse.lives(70_000);
        assert_eq!(stuck.reasons, ["the supervisor has stood still for 69 s"]);
        assert_eq!(pulse.lives(200_000).reasons.len(), 2);
        // A thread counts for as long as it is.
        let thread = pulse.watch("tidegate-poll", 100_000);
        let said = pulse.lives(200_000).reasons;
        assert_eq!(said[2], "the thread tidegate-poll has stood still for 100 s");
        thread.beat(190_000);
        assert_eq!(pulse.lives(200_000).reasons.len(), 2);
        drop(thread);
        assert_eq!(pulse.lives(900_000).reasons.len(), 2);
    }

    #[test]
    fn a_node_is_ready_once_it_knows_what_it_has() {
        let pulse = Pulse::default();
        assert!(pulse.ready().reasons[0].contains("not joined"));
        pulse.joined();
        assert!(pulse.ready().ok, "it may have nothing");
        let claiming = (0..7).map(|partition| format!("orders of t-{partition}")).collect();
        pulse.stands(Standing { claiming, ..Standing::default() });
        let reasons = pulse.ready().reasons;
        assert_eq!((reasons.len(), reasons[5].as_str()), (6, "and 2 more"));
        pulse.stands(Standing::default());
        pulse.draining();
        assert_eq!(pulse.ready().reasons, ["the node is draining"]);
    }
}
