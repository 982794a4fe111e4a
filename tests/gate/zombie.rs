//! Proof 2: a node frozen past its session is a zombie when it wakes: refused in both sinks, and no
//! burden to the node that took over.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tidegate::generate::Topic;

use crate::node::Node;
use crate::progress::Key;
use crate::servers::{env, wait_for};
use crate::world::{LOCK_TIMEOUT, Lake, Setup, World};

const SOON: Duration = Duration::from_secs(45);
/// What a take-over may take beside waiting for one lock: asking the log, claiming, reading, writing.
const MARGIN: Duration = Duration::from_secs(4);
const BOTH: &[Topic] = &[Topic::TransactionLog, Topic::UserTransactionSummary];

/// `fault` says where the zombie freezes, and so what it does first when it wakes; empty where the
/// signal comes from outside. `bound` is how long the new owner may be held up.
fn zombie(name: &'static str, topics: &'static [Topic], fault: &str, bound: Duration) {
    zombie_of(Setup { name, topics, ..Setup::default() }, fault, bound);
}

fn zombie_of(setup: Setup, fault: &str, bound: Duration) {
    let world = World::new(setup);
    let load = world.load(2, 400_000, 4000);
    let first = world.broken_node("first", fault);
    let second;
    if !fault.is_empty() {
        wait_for("the node to freeze", SOON, || first.is_stopped().then_some(()));
        second = world.node("second");
    } else {
        second = world.node("second");
        for node in [&first, &second] {
            node.wait_for_log("consuming", SOON);
        }
        world.wait_progress(SOON);
        first.signal(libc::SIGSTOP);
        wait_for("the node to freeze", SOON, || first.is_stopped().then_some(()));
    }
    take_over(&world, &second, bound);
    let mark = first.log().len();
    first.signal(libc::SIGCONT);
    let refused = wait_for("the zombie to be refused", SOON, || refusal(&first.log_since(mark)));
    println!("the zombie was refused: {refused}");
    // It comes back as a member like any other.
    first_is_back(&world, &first, mark);
    assert!(load.is_running(), "the load ended before the zombie was back");
    let expected = load.stop();
    world.wait_caught_up(Duration::from_secs(60));
    world.check(&expected);
}

/// Waits until every partition of the frozen node has the new owner's commit; fails if that was held
/// up.
fn take_over(world: &World, second: &Node, bound: Duration) {
    // The server may still be at work on what the frozen node had sent.
    std::thread::sleep(Duration::from_millis(500));
    let before = world.warehouse_marks();
    let mark = second.log().len();
    wait_for("the other node to be given the partitions", SOON, || {
        let log = second.log_since(mark);
        let given = |line: &str| line.contains("assigned: claiming") && !line.ends_with("count=0");
        log.lines().any(given).then_some(())
    });
    let given = Instant::now();
    // Under load, what has not moved for the length of a session was the frozen node's.
    let now = world.warehouse_marks();
    let frozen: Vec<&Key> =
        before.keys().filter(|key| now[*key].next == before[*key].next).collect();
    assert!(!frozen.is_empty(), "the frozen node owned nothing: nothing was proved");
    let mut claimed: HashMap<&Key, i64> = HashMap::new();
    let mut committed: HashMap<&Key, Duration> = HashMap::new();
    wait_for("every partition to have the new owner's commit", SOON, || {
        let now = world.warehouse_marks();
        for key in frozen.iter().copied().filter(|key| now[*key].claim != before[*key].claim) {
            let at_claim = *claimed.entry(key).or_insert(now[key].next);
            if now[key].next > at_claim {
                committed.entry(key).or_insert_with(|| given.elapsed());
            }
        }
        (committed.len() == frozen.len()).then_some(())
    });
    let longest = committed.values().max().copied().unwrap_or_default();
    println!(
        "{} partitions taken over; the last of their first commits came after {longest:.2?}",
        frozen.len()
    );
    assert!(longest < bound, "the new owner was held up for {longest:?}, more than {bound:?}");
    world.wait_progress(SOON);
}

fn refusal(log: &str) -> Option<String> {
    let told = |line: &&str| {
        ["fenced", "lane lost", "lost: the session expired", "write given up", "write failed"]
            .iter()
            .any(|told| line.contains(told))
    };
    log.lines().find(told).map(str::to_owned)
}

fn first_is_back(world: &World, first: &Node, mark: usize) {
    wait_for("the woken node to be given partitions again", SOON, || {
        let log = first.log_since(mark);
        let lost = log.find("lost")?;
        log[lost..].contains("consuming").then_some(())
    });
    world.wait_progress(SOON);
}

#[test]
fn frozen_under_load() {
    zombie("zombie", BOTH, "", LOCK_TIMEOUT + MARGIN);
}

/// COPY goes into a table of the session's own: no claim waits for it. One feed alone, since the
/// other's transaction may stand anywhere when the process freezes.
#[test]
fn frozen_inside_copy() {
    zombie("zombie-copy", &BOTH[..1], "warehouse.in_copy=stop@20", MARGIN);
}

/// Holds the progress rows: the claim waits its time, then ends the zombie's session.
#[test]
fn frozen_before_commit() {
    zombie("zombie-commit", BOTH, "warehouse.before_commit=stop@20", LOCK_TIMEOUT + MARGIN);
}

#[test]
fn frozen_between_a_staged_file_and_its_commit() {
    zombie("zombie-staged", BOTH, "lake_writer.staged=stop@5", LOCK_TIMEOUT + MARGIN);
}

#[test]
fn frozen_before_the_lakes_commit() {
    zombie("zombie-lake", BOTH, "lake.before_commit=stop@5", LOCK_TIMEOUT + MARGIN);
}

fn plain_zombie(name: &'static str, format: &'static str, fault: &str) {
    zombie_of(Setup { name, format, ..Setup::default() }, fault, LOCK_TIMEOUT + MARGIN);
}

#[test]
fn frozen_before_a_plain_tables_commit() {
    plain_zombie("zombie-pq", "parquet", "lake.before_commit=stop@30");
}

#[test]
fn frozen_before_a_commit_of_json_lines() {
    plain_zombie("zombie-jsonl", "jsonl", "lake.before_commit=stop@30");
}

/// Its rows are committed; the new owner puts them where readers look.
#[test]
fn frozen_before_committed_files_are_published() {
    plain_zombie("zombie-publish", "parquet", "lake.before_publish=stop@40");
}

/// On S3 files are published by a copy and a delete: the zombie, when it wakes, does so once more.
#[test]
fn frozen_before_committed_changes_are_published_on_s3() {
    let (name, lake) = ("zombie-jl-s3", Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT")));
    let setup = Setup { name, lake, format: "jsonl", ..Setup::default() };
    zombie_of(setup, "lake.before_publish=stop@40", LOCK_TIMEOUT + MARGIN);
}
