//! Proof 4: the broker goes away under load and comes back.

use std::time::Duration;

use crate::servers::servers;
use crate::world::{Setup, World};

#[test]
fn the_broker_is_restarted_under_load() {
    let world = World::new(Setup { name: "broker", ..Setup::default() });
    let load = world.load(4, 600_000, 4000);
    let nodes = [world.node("first"), world.node("second")];
    for restart in 1..=2 {
        world.wait_progress(Duration::from_secs(45));
        let sent = load.sent();
        servers("stop", "kafka");
        servers("start", "kafka");
        assert!(load.is_running(), "the load ended before restart {restart}");
        println!("restart {restart} after {sent} transactions");
    }
    world.wait_progress(Duration::from_secs(60));
    let expected = load.stop();
    world.wait_caught_up(Duration::from_secs(60));
    world.check(&expected);
    assert!(nodes.iter().all(|node| !node.log().contains("parked")), "no partition was given up");
}
