//! Proof 3: a sink that is away, or slow, holds up nobody but itself; then it catches up.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use tidegate::generate::Topic;

use crate::database::Database;
use crate::kafka;
use crate::progress::Key;
use crate::proxy::{Commit, Proxy};
use crate::servers::{env, servers, wait_for};
use crate::world::{Lake, Setup, World};

const SOON: Duration = Duration::from_secs(60);
/// How long a sink is away: longer than a node waits for it (`detach_after`).
const AWAY: Duration = Duration::from_secs(8);
/// The lake commits every 400 ms here; the machine does more than this proof.
const LAKE_CADENCE: Duration = Duration::from_millis(3000);
const WAREHOUSE_CADENCE: Duration = Duration::from_millis(2000);
const RATE: u64 = 2000;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sink {
    Lake,
    Warehouse,
}

/// How old the oldest record is that a sink does not hold, looked at all the while.
struct Lag<'w> {
    world: &'w World,
    sink: Sink,
    consumer: BaseConsumer,
    /// The log's end at earlier moments, as far as the sink has not reached it.
    ends: VecDeque<(Instant, HashMap<Key, i64>)>,
    longest: Duration,
}

impl<'w> Lag<'w> {
    fn of(world: &'w World, sink: Sink) -> Self {
        let consumer = kafka::config().create().expect("a consumer");
        Self { world, sink, consumer, ends: VecDeque::new(), longest: Duration::ZERO }
    }

    fn look(&mut self) {
        self.ends.push_back((Instant::now(), self.log_ends()));
        let marks: HashMap<Key, i64> = match self.sink {
            Sink::Lake => self.world.lake_marks(),
            Sink::Warehouse => {
                let marks = self.world.warehouse_marks().into_iter();
                marks.map(|(key, mark)| (key, mark.next)).collect()
            }
        };
        let reached = |ends: &HashMap<Key, i64>| {
            ends.iter().all(|(key, end)| marks.get(key).copied().unwrap_or(0) >= *end)
        };
        while self.ends.front().is_some_and(|(_, ends)| reached(ends)) {
            self.ends.pop_front();
        }
        if let Some((since, _)) = self.ends.front() {
            self.longest = self.longest.max(since.elapsed());
        }
    }

    fn log_ends(&self) -> HashMap<Key, i64> {
        let mut ends = HashMap::new();
        for (topic, name) in &self.world.topics {
            for partition in 0..self.world.partitions {
                let asked = self.consumer.fetch_watermarks(name, partition, SOON);
                let (_, end) = asked.expect("the broker answers");
                ends.insert((topic.name().to_owned(), partition), end);
            }
        }
        ends
    }

    fn look_for(&mut self, time: Duration) {
        let since = Instant::now();
        while since.elapsed() < time {
            self.look();
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Until the other sink has all that the log holds now.
    fn look_until_caught_up(&mut self, other: Sink) -> Duration {
        let since = Instant::now();
        let mut behind = Lag::of(self.world, other);
        behind.look();
        let (_, goal) = behind.ends.pop_front().unwrap_or((since, HashMap::new()));
        loop {
            behind.ends = VecDeque::from([(since, goal.clone())]);
            behind.look();
            if behind.ends.front().is_none_or(|(at, _)| *at != since) {
                return since.elapsed();
            }
            assert!(since.elapsed() < SOON, "{other:?} did not catch up in {SOON:?}");
            self.look();
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn stayed_within(self, cadence: Duration, while_: &str) {
        println!("{:?}: at most {:.2?} behind while {while_}", self.sink, self.longest);
        assert!(
            self.longest < cadence,
            "{:?} was {:?} behind while {while_}; its cadence is {cadence:?}",
            self.sink,
            self.longest
        );
    }
}

/// Takes one sink away under load and brings it back; the other must not notice.
fn away(world: &World, gone: Sink, leave: impl FnOnce(), come_back: impl FnOnce()) {
    let (other, cadence) = match gone {
        Sink::Lake => (Sink::Warehouse, WAREHOUSE_CADENCE),
        Sink::Warehouse => (Sink::Lake, LAKE_CADENCE),
    };
    let load = world.load(3, 400_000, RATE);
    let mut node = world.node("node");
    world.wait_progress(SOON);
    leave();
    let mut lag = Lag::of(world, other);
    lag.look_for(AWAY);
    lag.stayed_within(cadence, &format!("{gone:?} was away"));
    come_back();
    let mut lag = Lag::of(world, other);
    let took = lag.look_until_caught_up(gone);
    println!("{gone:?} had caught up {took:.2?} after it came back");
    lag.stayed_within(cadence, &format!("{gone:?} caught up"));
    assert!(load.is_running(), "the load ended too early");
    let expected = load.stop();
    world.wait_caught_up(SOON);
    assert!(node.is_running(), "the node ended");
    let log = node.log();
    assert!(log.contains("catching up"), "nobody was detached: nothing was proved");
    assert!(!log.contains("partition parked"), "a partition was given up");
    world.check(&expected);
}

#[test]
fn postgresql_is_away() {
    let world = World::new(Setup { name: "pg-away", ..Setup::default() });
    away(&world, Sink::Warehouse, || servers("stop", "postgres"), || servers("start", "postgres"));
}

#[test]
fn the_lakes_folder_is_away() {
    folder_is_away(Setup { name: "lake-away", ..Setup::default() });
}

#[test]
fn a_plain_tables_folder_is_away() {
    folder_is_away(Setup { name: "plain-away", format: "parquet", ..Setup::default() });
}

fn folder_is_away(setup: Setup) {
    let world = World::new(setup);
    let lake = PathBuf::from(&world.lake_url);
    let aside = lake.with_extension("aside");
    // Root may write anywhere, so no permission stops it: a file in the folder's place does.
    let leave = || {
        std::fs::rename(&lake, &aside).expect("renamed");
        std::fs::write(&lake, "not a folder").expect("written");
    };
    let come_back = || {
        std::fs::remove_file(&lake).expect("removed");
        std::fs::rename(&aside, &lake).expect("renamed");
    };
    away(&world, Sink::Lake, leave, come_back);
}

#[test]
fn the_object_store_is_away() {
    let lake = Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT"));
    let world = World::new(Setup { name: "s3-away", lake, ..Setup::default() });
    away(&world, Sink::Lake, || servers("stop", "s3"), || servers("start", "s3"));
}

#[test]
fn the_object_store_of_a_plain_table_is_away() {
    let lake = Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT"));
    let setup = Setup { name: "s3-plain-away", lake, format: "jsonl", ..Setup::default() };
    let world = World::new(setup);
    away(&world, Sink::Lake, || servers("stop", "s3"), || servers("start", "s3"));
}

/// Each row takes 2 ms and more: a tenth of this proof's load gets through.
const SLOW: &str = "
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON transaction_log FOR EACH ROW EXECUTE FUNCTION slow()";

/// Slow, not dead: nothing fails, but its share of a small budget is soon full.
#[test]
fn a_slow_warehouse() {
    let topics = &[Topic::TransactionLog];
    let world = World::new(Setup { name: "slow", topics, partitions: 4, ..Setup::default() });
    let node = std::fs::read_to_string(&world.config).expect("the node file");
    let node = format!("{node}memory: {{budget: 32MiB}}\ndetach_after: 1s\n");
    std::fs::write(&world.config, node).expect("the node file");
    let feed = world.config.with_file_name("feeds").join("transaction_log.yaml");
    let text = std::fs::read_to_string(&feed).expect("the feed file");
    // The trigger is dropped when a transaction ends: it must not last for minutes.
    std::fs::write(&feed, text + "warehouse: {max_records: 1000}\n").expect("the feed file");
    let load = world.load(3, 400_000, 2 * RATE);
    let node = world.node("node");
    world.wait_progress(SOON);
    world.database.execute(SLOW);
    let mut full = Lag::of(&world, Sink::Lake);
    wait_for("the warehouse to be detached", SOON, || {
        full.look();
        let longest = full.longest;
        assert!(longest < AWAY, "the lake stands still beside a slow warehouse: {longest:?}");
        node.log().contains("holds most of the memory budget").then_some(())
    });
    // From here on the lake has the budget to itself.
    println!("Lake: at most {:.2?} behind before the warehouse was detached", full.longest);
    full.look_until_reached();
    let mut lag = Lag::of(&world, Sink::Lake);
    let before = world.warehouse_marks();
    lag.look_for(AWAY / 2);
    // Slow, not dead: it moves, when one of its transactions of seconds is through.
    wait_for("the slow warehouse to move", SOON, || {
        lag.look();
        let marks = world.warehouse_marks();
        marks.iter().any(|(key, mark)| mark.next > before[key].next).then_some(())
    });
    lag.stayed_within(LAKE_CADENCE, "the warehouse was slow");
    world.database.execute("DROP TRIGGER slow ON transaction_log");
    let mut lag = Lag::of(&world, Sink::Lake);
    let took = lag.look_until_caught_up(Sink::Warehouse);
    println!("the warehouse had caught up {took:.2?} after it was fast again");
    lag.stayed_within(LAKE_CADENCE, "the warehouse caught up");
    let expected = load.stop();
    world.wait_caught_up(SOON);
    world.check(&expected);
}

impl Lag<'_> {
    /// Until the sink has what the log held when this was called.
    fn look_until_reached(&mut self) {
        let since = Instant::now();
        wait_for(&format!("{:?} to be up to date", self.sink), SOON, || {
            self.look();
            let oldest = self.ends.front().map(|(at, _)| *at);
            oldest.is_none_or(|at| at > since).then_some(())
        });
    }
}

/// It carries records to the lake meanwhile, and writes to no schema but its own release's.
#[test]
fn a_node_that_began_without_a_database_joins_it_once_somebody_has_migrated() {
    let proxy = Proxy::start(Database::address(), Commit::Postgres);
    proxy.cut();
    let postgres = Some(proxy.address.clone());
    let world =
        World::new(Setup { name: "outage-new", postgres, migrated: false, ..Setup::default() });
    let load = world.load(12, 20_000, 4000);
    let node = world.node("first");
    node.wait_for_log("it will be caught up when it does", SOON);
    proxy.mend();
    node.wait_for_log("no Tidegate schema yet", SOON);
    wait_for("the lake to have records", SOON, || {
        world.lake_marks().values().any(|next| *next > 0).then_some(())
    });
    world.migrate();
    let expected = load.finish();
    world.wait_caught_up(SOON);
    world.check(&expected);
}
