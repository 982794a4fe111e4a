//! How far each sink has come, and how long a partition stood still.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate::generate::Topic;
use tokio_postgres::NoTls;

use crate::servers::wait_for;
use crate::world::World;
use crate::{kafka, lake};

/// A feed's partition.
pub type Key = (String, i32);

/// A partition as the warehouse has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    pub claim: String,
    pub next: i64,
}

impl World {
    pub fn warehouse_marks(&self) -> HashMap<Key, Mark> {
        let rows = self.database.query(MARKS);
        rows.iter().map(mark).collect()
    }

    pub fn lake_marks(&self) -> HashMap<Key, i64> {
        let of_topic = |topic: &Topic| {
            let name = topic.name().to_owned();
            let progress = lake::progress(&self.lake_table(*topic));
            progress.into_iter().map(move |(partition, next)| ((name.clone(), partition), next))
        };
        self.topics.keys().flat_map(of_topic).collect()
    }

    pub fn log_ends(&self) -> HashMap<Key, i64> {
        let of_topic = |(topic, name): (&Topic, &String)| {
            let ends = kafka::ends(name, self.partitions).into_iter();
            let feed = topic.name().to_owned();
            (0..).zip(ends).map(move |(partition, end)| ((feed.clone(), partition), end))
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    /// Waits until both sinks claim everything that the log holds now.
    pub fn wait_caught_up(&self, deadline: Duration) {
        let ends = self.log_ends();
        let since = Instant::now();
        let mut behind = Vec::new();
        while since.elapsed() < deadline {
            behind = self.behind(&ends);
            if behind.is_empty() {
                println!("caught up after {:.1} s", since.elapsed().as_secs_f64());
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("not caught up after {deadline:?}: {}", behind.join(", "));
    }

    fn behind(&self, ends: &HashMap<Key, i64>) -> Vec<String> {
        let (warehouse, lake) = (self.warehouse_marks(), self.lake_marks());
        let mut behind = Vec::new();
        for (key, end) in ends {
            let marks = [
                ("warehouse", warehouse.get(key).map(|mark| mark.next)),
                ("lake", lake.get(key).copied()),
            ];
            for (sink, next) in marks {
                if next.is_none_or(|next| next < *end) {
                    behind.push(format!("{sink} {}/{} at {next:?} of {end}", key.0, key.1));
                }
            }
        }
        behind.sort();
        behind
    }

    /// Waits until every partition has moved in both sinks since now.
    pub fn wait_progress(&self, deadline: Duration) {
        let (warehouse, lake) = (self.warehouse_marks(), self.lake_marks());
        wait_for("every partition to move in both sinks", deadline, || {
            let (warehouse_now, lake_now) = (self.warehouse_marks(), self.lake_marks());
            let moved = self.log_ends().into_keys().all(|key| {
                let before = warehouse.get(&key).map_or(0, |mark| mark.next);
                warehouse_now.get(&key).is_some_and(|mark| mark.next > before)
                    && lake_now.get(&key) > lake.get(&key)
            });
            moved.then_some(())
        });
    }
}

const MARKS: &str = "SELECT feed, partition, claim::text, next_offset FROM tidegate.progress";

fn mark(row: &tokio_postgres::Row) -> (Key, Mark) {
    ((row.get(0), row.get(1)), Mark { claim: row.get(2), next: row.get(3) })
}

/// Notes, in the background, when each partition moves in the warehouse.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<HashMap<Key, Stood>>,
}

/// The longest time without a commit, and how often the owner changed.
#[derive(Debug, Clone, Default)]
pub struct Stood {
    pub longest: Duration,
    pub owners: usize,
}

impl Watch {
    pub fn start(world: &World) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, url) = (stop.clone(), world.database.url());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(watch(&url, &stopped))
        });
        Self { stop, thread }
    }

    pub fn finish(self) -> HashMap<Key, Stood> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch went on to its end")
    }
}

async fn watch(url: &str, stop: &AtomicBool) -> HashMap<Key, Stood> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL");
    tokio::spawn(async move { drop(connection.await) });
    let mut last: HashMap<Key, (Mark, Instant)> = HashMap::new();
    let mut stood: HashMap<Key, Stood> = HashMap::new();
    while !stop.load(Ordering::Relaxed) {
        let rows = client.query(MARKS, &[]).await.expect("the progress table");
        let now = Instant::now();
        for (key, mark) in rows.iter().map(mark) {
            let stood = stood.entry(key.clone()).or_default();
            let (before, since) = last.entry(key).or_insert_with(|| (mark.clone(), now));
            stood.longest = stood.longest.max(now - *since);
            stood.owners += usize::from(before.claim != mark.claim);
            if before.next != mark.next {
                *since = now;
            }
            *before = mark;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    stood
}
