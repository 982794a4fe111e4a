//! Nodes that serve one sink each, in groups of their own.

use std::process::Command;
use std::time::Duration;

use crate::kafka;
use crate::node::Node;
use crate::servers::{env, wait_for};
use crate::source_place::SOON;
use crate::world::{Setup, World};

fn node(world: &World, mode: &str) -> Node {
    Node::start_with(&world.config, world.log(mode), "", &["--mode", mode])
}

/// Lag of each partition of the group, as Kafka's own tool tells it; none while a partition has no
/// committed offset yet.
fn lags(group: &str) -> Option<Vec<i64>> {
    let out = Command::new("java")
        .args(["-cp", &env("TIDEGATE_TEST_KAFKA_CP")])
        .arg("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand")
        .args(["--bootstrap-server", &kafka::address(), "--describe", "--group", group])
        .output()
        .expect("java runs");
    let text = String::from_utf8_lossy(&out.stdout);
    let mut lines = text.lines().filter(|line| line.contains(' '));
    let header = lines.find(|line| line.contains("LAG"))?;
    let column = header.split_whitespace().position(|name| name == "LAG")?;
    lines.map(|line| line.split_whitespace().nth(column)?.parse().ok()).collect()
}

#[test]
fn a_node_for_each_sink() {
    let world = World::new(Setup { name: "modes", partitions: 2, ..Setup::default() });
    let group = world.database.name.clone();
    let load = world.load(12, 400_000, 3000);
    let mut lake = node(&world, "lake");
    let warehouse = node(&world, "warehouse");
    world.wait_progress(SOON);
    // One of them goes and comes; the other does not notice.
    lake.kill();
    let before = world.warehouse_marks();
    wait_for("the warehouse to move on alone", SOON, || {
        let now = world.warehouse_marks();
        now.iter().all(|(key, mark)| mark.next > before[key].next).then_some(())
    });
    let lake = node(&world, "lake");
    world.wait_progress(Duration::from_secs(60));
    let expected = load.stop();
    world.wait_caught_up(SOON);
    for mode in ["lake", "warehouse"] {
        let group = format!("{group}-{mode}");
        wait_for(&format!("no lag in {group}"), Duration::from_secs(60), || {
            let lags = lags(&group)?;
            (lags.len() == 4 && lags.iter().all(|lag| *lag == 0)).then_some(())
        });
    }
    world.check(&expected);
    // Each has but its own sink.
    assert!(!warehouse.log().contains("lake"), "{}", warehouse.log());
    assert!(!lake.log().contains("sink=warehouse"), "{}", lake.log());

    // A whole node would take partitions from both.
    let refused = tidegate_run(&world, &[]);
    assert_eq!(refused.0, 1, "{}", refused.1);
    assert!(refused.1.contains("a node of mode `lake` is in group"), "{}", refused.1);
    drop((lake, warehouse));
}

#[test]
fn two_modes_in_one_group_are_refused() {
    let world = World::new(Setup { name: "modes-mixed", partitions: 1, ..Setup::default() });
    let whole = node(&world, "all");
    whole.wait_for_log("assigned", SOON);
    for mode in ["lake", "warehouse"] {
        let refused = tidegate_run(&world, &["--mode", mode]);
        assert_eq!(refused.0, 1, "{}", refused.1);
        assert!(refused.1.contains("a node of mode `all` is in group"), "{}", refused.1);
    }
    // Its like is welcome.
    let second = Node::start(&world.config, world.log("second"), "");
    second.wait_for_log("joining the group", SOON);
    drop((whole, second));
    // The group's name given by hand.
    let other = world.config.with_file_name("other.yaml");
    let text = std::fs::read_to_string(&world.config).expect("the node file");
    let name = &world.database.name;
    let renamed = text.replace(&format!("group: {name}"), &format!("group: {name}-x-lake"));
    std::fs::write(&other, renamed).expect("a node file");
    let mine = world.config.with_file_name("mine.yaml");
    let renamed = text.replace(&format!("group: {name}"), &format!("group: {name}-x"));
    std::fs::write(&mine, renamed).expect("a node file");
    let whole = Node::start(&other, world.log("other"), "");
    whole.wait_for_log("assigned", SOON);
    let refused = run(&mine, &["--mode", "lake"]);
    assert_eq!(refused.0, 1, "{}", refused.1);
    assert!(refused.1.contains(&format!("is in group `{name}-x-lake`")), "{}", refused.1);
    drop(whole);
}

fn tidegate_run(world: &World, more: &[&str]) -> (i32, String) {
    run(&world.config, more)
}

fn run(config: &std::path::Path, more: &[&str]) -> (i32, String) {
    let mut command = crate::node::tidegate();
    let out = command.args(["run", "--config"]).arg(config).args(more).output().expect("it runs");
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().expect("it ended by itself"), String::from_utf8_lossy(&text).into_owned())
}
