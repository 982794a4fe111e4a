//! A drain that cannot end: a sink holds on to what is in flight. It is cut short, and nothing is lost.

use std::time::{Duration, Instant};

use crate::load::Load;
use crate::node::Node;
use crate::servers::wait_for;
use crate::world::{Setup, World};

const SOON: Duration = Duration::from_secs(45);
/// `drain_deadline`, unless the node file says otherwise.
const DEADLINE: Duration = Duration::from_secs(25);

const WAITING: &str = "SELECT 1 FROM pg_locks WHERE NOT granted";

/// A node whose rows wait for a lock that somebody else holds.
fn stalled(world: &World) -> (Node, Load) {
    let load = world.load(9, 400_000, 2000);
    let node = world.node("first");
    world.wait_progress(SOON);
    world.database.execute("BEGIN; LOCK TABLE transaction_log IN ACCESS EXCLUSIVE MODE");
    wait_for("a transaction in flight", SOON, || {
        (!world.database.query(WAITING).is_empty()).then_some(())
    });
    (node, load)
}

/// What was in flight is read again by the next one.
fn goes_on(world: &World, load: Load) {
    world.database.execute("ROLLBACK");
    let _next = world.node("next");
    world.wait_progress(SOON);
    let expected = load.stop();
    world.wait_caught_up(SOON);
    world.check(&expected);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let world = World::new(Setup { name: "drain-second", ..Setup::default() });
    let (mut node, load) = stalled(&world);
    let began = Instant::now();
    node.signal(libc::SIGTERM);
    node.wait_for_log("stopping: draining", SOON);
    assert!(node.is_running(), "it drained what nobody takes");
    let (_, took) = node.terminate(SOON);
    println!("ended {took:.1?} after the second signal");
    assert!(began.elapsed() < DEADLINE, "it waited for its deadline");
    assert!(node.log().contains("stopped at once"), "{}", node.log());
    goes_on(&world, load);
}

#[test]
fn the_deadline_ends_it() {
    let world = World::new(Setup { name: "drain-deadline", ..Setup::default() });
    let file = std::fs::read_to_string(&world.config).expect("the node file");
    std::fs::write(&world.config, format!("{file}drain_deadline: 2s\n")).expect("it is ours");
    let (mut node, load) = stalled(&world);
    let (status, took) = node.terminate(SOON);
    println!("ended after {took:.1?} of a deadline of 2 s: {status}");
    assert!(took >= Duration::from_secs(2), "it had nothing to wait for");
    assert!(took < DEADLINE, "its own deadline did not count");
    assert!(status.success(), "{status}");
    assert!(node.log().contains("the drain deadline passed"), "{}", node.log());
    goes_on(&world, load);
}
