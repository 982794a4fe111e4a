//! What a node tells those who watch it: probes and numbers.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use crate::database::Database;
use crate::http::Caller;
use crate::node::{Node, tidegate};
use crate::proxy::{Commit, Proxy};
use crate::servers::wait_for;
use crate::source_place::{COLUMNS, Place, Sender};
use crate::world::Setup;

const SOON: Duration = Duration::from_secs(60);

/// Where a node's probes answer, as its log says.
pub fn vitals(node: &Node) -> Caller {
    let base = wait_for("the probes to answer", SOON, || {
        let log = node.log();
        let line = log.lines().find(|line| line.contains("probes and metrics are answered"))?;
        let at = line.split("at=").nth(1)?.trim_matches('"');
        Some(format!("http://{}", at.split(['"', ' ']).next()?))
    });
    Caller { base, token: None }
}

fn probe(of: &Caller, path: &str) -> (StatusCode, Value) {
    let answer = of.get(path);
    (answer.status, answer.json())
}

/// All samples, by name and labels as they are written.
fn numbers(of: &Caller) -> HashMap<String, f64> {
    let answer = of.get("/metrics");
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.headers["content-type"].starts_with("text/plain; version=0.0.4"));
    let text = answer.text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    samples.map(sample).collect()
}

/// Nodes answer probes there.
pub fn told_at(place: &Place, listen: &str) {
    place.edit_node(|text| format!("{text}telemetry: {{listen: '{listen}'}}\n"));
}

#[test]
fn the_numbers_are_those_of_the_records() {
    let mut place = Place::new("vitals");
    told_at(&place, "127.0.0.1:0");
    let topic = place.topic("orders", 2, &[]);
    place.feed("orders", &format!("topic: {topic}\n{COLUMNS}"));
    let sender = Sender::new();
    sender.send(&topic, 0, 0..40);
    sender.send(&topic, 1, 0..20);
    let mut node = place.node();
    let of = vitals(&node);
    for path in ["/startupz", "/readyz"] {
        wait_for(path, SOON, || (probe(&of, path).0 == StatusCode::OK).then_some(()));
    }
    assert_eq!(probe(&of, "/livez"), (StatusCode::OK, serde_json::json!({"ok": true})));
    place.wait_for_watermarks("orders", &[40, 20]);
    let told = wait_for("nothing to lag", SOON, || {
        let told = numbers(&of);
        let lag =
            |sink: &str| told[&format!("tidegate_lag_records{{feed=\"orders\",sink=\"{sink}\"}}")];
        (lag("lake") + lag("warehouse") == 0.0).then_some(told)
    });
    assert_eq!(told["tidegate_read_records_total{feed=\"orders\"}"], 60.0);
    for sink in ["lake", "warehouse"] {
        let of = |name: &str| told[&format!("tidegate_{name}{{feed=\"orders\",sink=\"{sink}\"}}")];
        assert_eq!(of("sink_records_total"), 60.0);
        assert_eq!((of("lag_age_seconds"), of("lanes_behind")), (0.0, 0.0));
        let commits = of("sink_commits_total");
        assert!(commits >= 1.0 && of("sink_commit_duration_seconds_count") >= commits);
        assert_eq!(of("sink_commit_records_sum"), 60.0);
    }
    assert_eq!(told["tidegate_partitions_owned{feed=\"orders\",state=\"running\"}"], 2.0);
    assert!(told["tidegate_memory_limit_bytes"] > 1e6);
    // Another of the group that is given nothing is ready, too.
    let mut more = Vec::new();
    for name in ["second", "third"] {
        let node = place.world.node(name);
        let of = vitals(&node);
        wait_for("one more node to be ready", SOON, || {
            (probe(&of, "/readyz").0 == StatusCode::OK).then_some(())
        });
        more.push(node);
    }
    // It says so while it drains, or is gone.
    assert_eq!(of.get("/v1/feeds").status, StatusCode::NOT_FOUND);
    for node in &mut more {
        assert!(node.terminate(SOON).0.success());
    }
    assert!(node.terminate(SOON).0.success());
}

#[test]
fn a_sink_that_is_away_shows_as_lag_and_makes_no_node_unready() {
    let proxy = Proxy::start(Database::address(), Commit::Postgres);
    let setup =
        Setup { name: "vitals-away", postgres: Some(proxy.address.clone()), ..Setup::default() };
    let mut place = Place::with(setup);
    told_at(&place, "127.0.0.1:0");
    let topic = place.topic("orders", 1, &[]);
    place.feed("orders", &format!("topic: {topic}\n{COLUMNS}\nlake: {{linger: 100ms}}"));
    let sender = Sender::new();
    sender.send(&topic, 0, 0..10);
    let mut node = place.node();
    let of = vitals(&node);
    place.wait_for_watermarks("orders", &[10]);
    proxy.cut();
    sender.send(&topic, 0, 10..30);
    let at = |told: &HashMap<String, f64>, name: &str, sink: &str| {
        told[&format!("tidegate_{name}{{feed=\"orders\",sink=\"{sink}\"}}")]
    };
    let told = wait_for("the warehouse to lag and the lake not", SOON, || {
        let told = numbers(&of);
        let behind = at(&told, "lanes_behind", "warehouse") == 1.0
            && at(&told, "lag_records", "warehouse") == 20.0
            && at(&told, "lag_age_seconds", "warehouse") >= 3.0;
        (behind && at(&told, "lag_records", "lake") == 0.0).then_some(told)
    });
    assert!(at(&told, "lanes_detached_total", "warehouse") >= 1.0);
    assert_eq!(at(&told, "lag_age_seconds", "lake"), 0.0);
    assert_eq!(probe(&of, "/readyz").0, StatusCode::OK);
    assert_eq!(probe(&of, "/livez").0, StatusCode::OK);
    proxy.mend();
    wait_for("the warehouse to catch up", SOON, || {
        let told = numbers(&of);
        let level = at(&told, "lanes_behind", "warehouse") == 0.0
            && at(&told, "lag_records", "warehouse") == 0.0
            && at(&told, "lag_age_seconds", "warehouse") == 0.0
            && at(&told, "deliveries_waiting", "warehouse") == 0.0;
        level.then_some(())
    });
    assert!(node.terminate(SOON).0.success());
    place.verify();
}

#[test]
fn those_who_look_after_a_node_hear_that_it_is_ready_lives_and_stops() {
    let mut place = Place::new("vitals-service");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = port.local_addr().expect("an address");
    drop(port);
    told_at(&place, &at.to_string());
    let topic = place.topic("orders", 1, &[]);
    place.feed("orders", &format!("topic: {topic}\n{COLUMNS}"));
    let (code, said) = place.command(&["health"]);
    assert_eq!(code, 1, "nobody answers yet: {said}");
    // As systemd does with `Type=notify`.
    let socket = place.folder().join("notify");
    let told = std::os::unix::net::UnixDatagram::bind(&socket).expect("a socket");
    told.set_read_timeout(Some(SOON)).expect("a socket");
    let hear = || {
        let mut said = [0; 200];
        let length = told.recv(&mut said).expect("a word of the node");
        String::from_utf8_lossy(&said[..length]).trim().to_owned()
    };
    let mut command = tidegate();
    command.args(["run", "--config"]).arg(&place.world.config);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "400000");
    let mut node = Node::of(command, place.world.log("notifying"), "");
    assert_eq!(hear(), "READY=1");
    let (code, said) = place.command(&["health"]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = place.command(&["health", &format!("http://{at}/readyz")]);
    assert_eq!(code, 0, "{said}");
    assert_eq!((hear(), hear()), ("WATCHDOG=1".to_owned(), "WATCHDOG=1".to_owned()));
    assert!(node.terminate(SOON).0.success());
    while hear() != "STOPPING=1" {}
}

/// Nothing says which columns it has, and nobody is to be woken for that.
#[test]
fn a_feed_whose_topic_is_empty_waits_and_fails_nothing() {
    let mut place = Place::new("vitals-empty");
    told_at(&place, "127.0.0.1:0");
    let topic = place.topic("orders", 2, &[]);
    place.feed("orders", &format!("topic: {topic}\n"));
    let node = place.node();
    let of = vitals(&node);
    let owned = |state: &str| {
        let name = format!("tidegate_partitions_owned{{feed=\"orders\",state=\"{state}\"}}");
        numbers(&of).get(&name).copied().unwrap_or_default()
    };
    wait_for("both partitions to wait", SOON, || (owned("waiting") == 2.0).then_some(()));
    wait_for("readiness", SOON, || (probe(&of, "/readyz").0 == StatusCode::OK).then_some(()));
    assert_eq!(owned("failing"), 0.0);
    Sender::new().send(&topic, 0, 0..10);
    place.wait_for_watermarks("orders", &[10, 0]);
    wait_for("both to run", SOON, || (owned("running") == 2.0).then_some(()));
    assert_eq!((owned("waiting"), owned("failing")), (0.0, 0.0));
}
