//! An actor that panics is built anew, and what it held comes again.

use std::time::Duration;

use crate::servers::wait_for;
use crate::world::{Setup, World};

/// `anew` is what the supervisor says when it builds the actor again.
fn panics(name: &'static str, fault: &str, anew: &str) {
    let world = World::new(Setup { name, partitions: 4, ..Setup::default() });
    let load = world.load(7, 400_000, 5000);
    let mut node = world.broken_node("node", fault);
    node.wait_for_log("a fault was asked for", Duration::from_secs(30));
    node.wait_for_log(anew, Duration::from_secs(30));
    // Every partition goes on, the one that was hit too.
    world.wait_progress(Duration::from_secs(30));
    let expected = load.stop();
    world.wait_caught_up(Duration::from_secs(60));
    world.check(&expected);
    let (status, took) = node.terminate(Duration::from_secs(40));
    assert!(status.success(), "{status}");
    println!("drained in {took:.1?}");
}

#[test]
fn a_partition_consumer_panics() {
    panics("panic-decode", "partition_consumer.decode=panic@5", "a partition consumer died");
}

#[test]
fn the_poll_thread_panics() {
    panics("panic-poll", "source.poll=panic@500", "the poll thread died");
}

#[test]
fn the_warehouse_writer_panics() {
    panics("panic-warehouse", "warehouse_writer.write=panic@2", "a writer died");
}

#[test]
fn the_lake_writer_panics() {
    panics("panic-lake", "lake_writer.stage=panic@2", "a writer died");
}

#[test]
fn the_lake_committer_panics() {
    panics("panic-commit", "lake_committer.commit=panic@2", "a writer died");
}

/// A death before the answer: the process itself ends inside a commit, at each sink.
#[test]
fn the_node_ends_inside_a_commit() {
    let world = World::new(Setup { name: "exit", partitions: 4, ..Setup::default() });
    let load = world.load(17, 400_000, 5000);
    for fault in ["warehouse.before_commit=exit@9", "lake.before_commit=exit@9"] {
        let mut node = world.broken_node("node", fault);
        wait_for("the node to end", Duration::from_secs(30), || (!node.is_running()).then_some(()));
    }
    let _node = world.node("node");
    let expected = load.stop();
    world.wait_caught_up(Duration::from_secs(60));
    world.check(&expected);
}
