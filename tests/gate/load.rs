//! Load: the generator's records, published by a thread at a steady rate while things go wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate::generate::{Expected, Generator, Topic};

use crate::kafka::Publisher;

/// What is to be published. `transaction_log` is always among the topics: it counts.
#[derive(Clone)]
pub struct Plan {
    pub seed: u64,
    /// Transactions, at most.
    pub messages: u64,
    /// Share of bad ones.
    pub bad: f64,
    /// Transactions a second.
    pub rate: u64,
    pub topics: Vec<Topic>,
}

impl Plan {
    fn generator(&self, messages: u64) -> Generator {
        Generator::new(self.seed, messages, self.bad).topics(&self.topics)
    }
}

pub struct Load {
    plan: Plan,
    /// What it is to do: one of the following.
    wish: Arc<AtomicU8>,
    sent: Arc<AtomicU64>,
    /// How many transactions the broker has, at each pause.
    quiet: Receiver<u64>,
    go_on: Sender<()>,
    thread: JoinHandle<Expected>,
}

const PUBLISH: u8 = 0;
const PAUSE: u8 = 1;
const STOP: u8 = 2;

impl Load {
    /// `names` gives each topic its name on the broker.
    pub fn start(plan: Plan, names: HashMap<Topic, String>) -> Self {
        assert!(plan.topics.contains(&Topic::TransactionLog), "a load counts by transaction_log");
        let (wish, sent) = (Arc::new(AtomicU8::new(PUBLISH)), Arc::new(AtomicU64::new(0)));
        let (pausing, quiet) = channel();
        let (go_on, going_on) = channel();
        let (wished, counter, all) = (wish.clone(), sent.clone(), plan.clone());
        let thread = std::thread::spawn(move || {
            let publisher = Publisher::new();
            let (mut began, mut before) = (Instant::now(), 0);
            let mut transactions = 0;
            for record in plan.generator(plan.messages) {
                // A transaction begins with its own record; a load ends between two of them.
                if record.topic == Topic::TransactionLog {
                    if wished.load(Ordering::Relaxed) == PAUSE {
                        publisher.flush();
                        // Whoever paused it and is gone wants no more.
                        if pausing.send(transactions).is_err() || going_on.recv().is_err() {
                            break;
                        }
                        (began, before) = (Instant::now(), transactions);
                    }
                    if wished.load(Ordering::Relaxed) == STOP {
                        break;
                    }
                    transactions += 1;
                    counter.store(transactions, Ordering::Relaxed);
                    keep_pace(began, transactions - before, plan.rate);
                }
                let topic = &names[&record.topic];
                publisher.send(topic, record.key.as_deref(), record.value.as_deref());
            }
            publisher.flush();
            Expected::of(plan.generator(transactions))
        });
        Self { plan: all, wish, sent, quiet, go_on, thread }
    }

    /// Halts it between two transactions. Answers what the sinks must come to hold.
    pub fn pause(&self) -> Expected {
        self.wish.store(PAUSE, Ordering::Relaxed);
        let sent = self.quiet.recv().expect("the load goes on until it is stopped");
        Expected::of(self.plan.generator(sent))
    }

    /// After a pause.
    pub fn go_on(&self) {
        self.wish.store(PUBLISH, Ordering::Relaxed);
        self.go_on.send(()).expect("the load goes on until it is stopped");
    }

    /// Transactions published so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Ends it now. Answers what the sinks must come to hold.
    pub fn stop(self) -> Expected {
        self.wish.store(STOP, Ordering::Relaxed);
        self.finish()
    }

    /// Waits for its own end.
    pub fn finish(self) -> Expected {
        self.thread.join().expect("the load was published")
    }
}

fn keep_pace(began: Instant, sent: u64, rate: u64) {
    // Looking at the clock for each would cost more than publishing.
    if sent.is_multiple_of(64) {
        let due = began + Duration::from_secs_f64(sent as f64 / rate as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
