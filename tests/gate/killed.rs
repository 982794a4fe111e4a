//! Proof 1: a node that dies loses nothing and doubles nothing.

use std::time::Duration;

use rand::Rng;
use tidegate::generate::Topic;

use crate::servers::{env, wait_for};
use crate::world::{Lake, Setup, World};

fn sigkill_five_times(setup: Setup) {
    let world = World::new(setup);
    let load = world.load(1, 1_000_000, 5000);
    let steady = world.node("steady");
    let mut random = rand::rng();
    for life in 1..=5 {
        let mut victim = world.node("victim");
        victim.wait_for_log("assigned: claiming", Duration::from_secs(30));
        // Not for anything to happen: the moment must be a random one.
        let lived = Duration::from_millis(random.random_range(0..3000));
        std::thread::sleep(lived);
        assert!(load.is_running(), "the load ended before life {life}: nothing was proved");
        victim.kill();
        println!("life {life} ended {lived:?} after its assignment, {} sent", load.sent());
    }
    let _victim = world.node("victim");
    // Each transaction also changes a row of each table, now and then by a tombstone: 300,000 records with
    // one table, 450,000 with two.
    wait_for("the load to be whole", Duration::from_secs(120), || {
        (load.sent() >= 150_000).then_some(())
    });
    let expected = load.stop();
    world.wait_caught_up(Duration::from_secs(60));
    world.check(&expected);
    assert!(!steady.log().contains("parked"), "no partition was given up");
}

#[test]
fn sigkill_five_times_under_load() {
    sigkill_five_times(Setup { name: "killed", ..Setup::default() });
}

#[test]
fn sigkill_with_plain_parquet() {
    sigkill_five_times(Setup { name: "killed-pq", format: "parquet", ..Setup::default() });
}

#[test]
fn sigkill_with_json_lines() {
    sigkill_five_times(Setup { name: "killed-jsonl", format: "jsonl", ..Setup::default() });
}

#[test]
fn sigkill_with_plain_parquet_on_s3() {
    let (name, lake) = ("killed-pq-s3", Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT")));
    sigkill_five_times(Setup { name, lake, format: "parquet", ..Setup::default() });
}

#[test]
fn sigkill_with_json_lines_on_s3() {
    let (name, lake) = ("killed-jl-s3", Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT")));
    sigkill_five_times(Setup { name, lake, format: "jsonl", ..Setup::default() });
}

/// Beside the stream a changelog of many keys, and one of five, each of which is in every commit.
const TABLES: &[Topic] =
    &[Topic::TransactionLog, Topic::UserTransactionSummary, Topic::PaymentMethodTotals];

#[test]
fn sigkill_with_changelogs_in_plain_parquet() {
    let (name, topics) = ("killed-keyed-pq", TABLES);
    sigkill_five_times(Setup { name, topics, format: "parquet", ..Setup::default() });
}

#[test]
fn sigkill_with_changelogs_in_json_lines_on_s3() {
    let (name, lake) = ("killed-keyed-jl", Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT")));
    sigkill_five_times(Setup { name, topics: TABLES, lake, format: "jsonl", ..Setup::default() });
}
