//! The node's byte budget: everything between the Kafka client and the sinks is charged to it.
//!
//! A charge never fails, since what has been read must be kept; readers ask for room before they
//! read more. A share is a smaller budget inside a larger one: a charge to it counts in both.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
    parent: Option<Budget>,
    lock: Mutex<()>,
    freed: Condvar,
}

impl Budget {
    pub fn new(limit: usize) -> Self {
        Self::build(limit, None)
    }

    /// A budget of `limit` bytes inside this one.
    pub fn share(&self, limit: usize) -> Self {
        Self::build(limit, Some(self.clone()))
    }

    fn build(limit: usize, parent: Option<Budget>) -> Self {
        Self(Arc::new(Inner {
            limit,
            used: AtomicUsize::new(0),
            parent,
            lock: Mutex::new(()),
            freed: Condvar::new(),
        }))
    }

    pub fn limit(&self) -> usize {
        self.0.limit
    }

    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Charges `bytes` until the answer is dropped.
    pub fn charge(&self, bytes: usize) -> Charge {
        self.add(bytes);
        Charge { budget: self.clone(), bytes }
    }

    fn add(&self, bytes: usize) {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.0.parent {
            parent.add(bytes);
        }
    }

    fn release(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.0.parent {
            parent.release(bytes);
        }
        // Taken so that a waiter between its check and its wait is not missed.
        drop(self.0.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.freed.notify_all();
    }

    /// Whether `more` bytes fit, here and in the budget around it.
    pub fn has_room(&self, more: usize) -> bool {
        self.used() + more <= self.0.limit
            && self.0.parent.as_ref().is_none_or(|parent| parent.has_room(more))
    }

    /// Waits until `more` bytes fit, at most `timeout`. Answers whether they do. Other charges may
    /// take the room meanwhile: it is a gate for one reader, not a reservation.
    pub fn wait_for_room(&self, more: usize, timeout: Duration) -> bool {
        let guard = self.0.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.freed.wait_timeout_while(guard, timeout, |()| !self.has_room(more));
        drop(waited);
        self.has_room(more)
    }

    /// Whether more than three quarters are used: time to let go of what merely waits.
    pub fn is_tight(&self) -> bool {
        self.used() > self.0.limit / 4 * 3
    }
}

/// Bytes charged to a [`Budget`]; dropped, they are free again.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_in_both() {
        let node = Budget::new(100);
        let share = node.share(30);
        let charge = share.charge(25);
        assert_eq!((node.used(), share.used()), (25, 25));
        assert!(share.has_room(5) && !share.has_room(6));
        let _most = node.charge(74);
        assert!(!share.has_room(5), "the budget around it is full");
        drop(charge);
        assert_eq!((node.used(), share.used()), (74, 0));
    }

    #[test]
    fn a_waiter_wakes_when_room_is_made() {
        let budget = Budget::new(10);
        let charge = budget.charge(10);
        assert!(!budget.wait_for_room(1, Duration::from_millis(1)));
        let waiter = {
            let budget = budget.clone();
            std::thread::spawn(move || budget.wait_for_room(10, Duration::from_secs(60)))
        };
        drop(charge);
        assert!(waiter.join().unwrap());
    }
}
