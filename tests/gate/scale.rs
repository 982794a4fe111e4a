//! Proof 6: nodes come and go under load; partitions move, and each record still arrives once.

use std::time::{Duration, Instant};

use crate::node::Node;
use crate::progress::Watch;
use crate::servers::{env, wait_for};
use crate::world::{Lake, Setup, World};

const SOON: Duration = Duration::from_secs(45);

fn one_three_one(setup: Setup) {
    let name = setup.name;
    let world = World::new(setup);
    let load = world.load(6, 400_000, 4000);
    let _first = world.node("first");
    world.wait_progress(SOON);
    let watch = Watch::start(&world);
    let mut more: Vec<Node> = ["second", "third"]
        .map(|name| {
            let node = world.node(name);
            node.wait_for_log("consuming", SOON);
            world.wait_progress(SOON);
            node
        })
        .into();
    for node in &mut more {
        let (status, took) = node.terminate(SOON);
        assert!(status.success(), "{status}");
        println!("drained in {took:.1?}");
        world.wait_progress(SOON);
    }
    assert!(load.is_running(), "the load ended before the nodes did");
    let expected = load.stop();
    let stood = watch.finish();
    world.wait_caught_up(Duration::from_secs(60));
    world.check(&expected);
    let mut stood: Vec<_> = stood.into_iter().collect();
    stood.sort_by(|a, b| a.0.cmp(&b.0));
    for ((feed, partition), stood) in &stood {
        println!(
            "{name}: {feed}/{partition} stood still for at most {:?}, claimed anew {} times",
            stood.longest, stood.owners
        );
    }
    let moved = stood.iter().filter(|(_, stood)| stood.owners >= 2).count();
    assert!(moved > 0, "no partition moved away and back: nothing was proved");
    let longest = stood.iter().map(|(_, stood)| stood.longest).max().unwrap_or_default();
    assert!(longest < Duration::from_secs(15), "a partition stood still for {longest:?}");
    // Every node but the first is gone, and none was thrown out of the group.
    wait_for("the others to have ended", SOON, || {
        (!more.iter_mut().any(Node::is_running)).then_some(())
    });
    assert!(more.iter().all(|node| !node.log().contains("the session expired")));
}

/// One step of the following, under load, and how long each partition stood still in it.
fn step(world: &World, what: &str, action: impl FnOnce()) {
    let watch = Watch::start(world);
    let began = Instant::now();
    action();
    world.wait_progress(SOON);
    let took = began.elapsed();
    let stood = watch.finish();
    let mut told: Vec<String> = stood
        .iter()
        .map(|((feed, partition), stood)| {
            format!("{feed}/{partition} {:.1} s", stood.longest.as_secs_f64())
        })
        .collect();
    told.sort();
    let moved = stood.values().filter(|stood| stood.owners > 0).count();
    println!(
        "{what}: {took:.1?}, {moved} of {} changed hands; stood still for at most: {}",
        stood.len(),
        told.join(", ")
    );
    assert!(moved > 0, "no partition moved: nothing was proved");
    // Of a node that was killed nobody knows before its session ends, which is six seconds here.
    let longest = stood.values().map(|stood| stood.longest).max().unwrap_or_default();
    assert!(longest < Duration::from_secs(15), "a partition stood still for {longest:?}");
}

#[test]
fn one_four_two_four_nodes_a_rolling_restart_and_one_killed() {
    let world = World::new(Setup { name: "scale", protocol: "consumer", ..Setup::default() });
    let load = world.load(6, 10_000_000, 2000);
    let join = |name: &str| {
        let node = world.node(name);
        node.wait_for_log("consuming", SOON);
        node
    };
    let leave = |mut node: Node| {
        let (status, took) = node.terminate(SOON);
        assert!(status.success(), "{status}");
        assert!(!node.log().contains("the session expired"), "it was thrown out of the group");
        println!("drained in {took:.1?}");
    };
    let mut nodes = vec![join("first")];
    world.wait_progress(SOON);
    step(&world, "1 to 4 nodes", || nodes.extend(["second", "third", "fourth"].map(join)));
    step(&world, "4 to 2 nodes", || nodes.drain(..2).for_each(leave));
    step(&world, "2 to 4 nodes", || nodes.extend(["fifth", "sixth"].map(join)));
    step(&world, "a rolling restart", || {
        for name in ["seventh", "eighth", "ninth", "tenth"] {
            leave(nodes.remove(0));
            nodes.push(join(name));
        }
    });
    step(&world, "one killed", || nodes.remove(0).kill());
    assert!(load.is_running(), "the load ended before the nodes did");
    let expected = load.stop();
    world.wait_caught_up(Duration::from_secs(60));
    world.check(&expected);
    assert!(nodes.iter_mut().all(Node::is_running));
}

#[test]
fn one_three_one_nodes_by_the_classic_protocol() {
    let (name, protocol) = ("scale-classic", "classic");
    one_three_one(Setup { name, protocol, ..Setup::default() });
}

#[test]
fn one_three_one_nodes_with_plain_parquet() {
    one_three_one(Setup { name: "scale-pq", format: "parquet", ..Setup::default() });
}

#[test]
fn one_three_one_nodes_with_json_lines_on_s3() {
    let (name, lake) = ("scale-jl-s3", Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT")));
    one_three_one(Setup { name, lake, format: "jsonl", ..Setup::default() });
}
