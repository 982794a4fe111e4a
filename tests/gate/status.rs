//! What `tidegate status` tells of a cluster, from wherever it is asked.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer};
use reqwest::StatusCode;
use serde_json::Value;

use crate::api::{Shop, until_read};
use crate::database::Database;
use crate::http::Caller;
use crate::node::tidegate;
use crate::proxy::{Commit, Proxy};
use crate::servers::wait_for;
use crate::source_place::{COLUMNS, Place, SOON, Sender};
use crate::world::Setup;

/// Longer than a node may be silent.
const SILENT: Duration = Duration::from_secs(60);

fn told(place: &Place) -> (i32, Value) {
    let (code, printed) = place.command(&["status", "--output", "json"]);
    let end = printed.find("\n}").map_or(printed.len(), |end| end + 2);
    let told = serde_json::from_str(&printed[..end]);
    (code, told.unwrap_or_else(|error| panic!("{error}: {printed}")))
}

/// Waits until it tells what is wanted.
fn until(place: &Place, what: &str, within: Duration, is: impl Fn(i32, &Value) -> bool) -> Value {
    wait_for(what, within, || {
        let (code, told) = told(place);
        is(code, &told).then_some(told)
    })
}

fn array<'v>(of: &'v Value, name: &str) -> &'v Vec<Value> {
    of[name].as_array().unwrap_or_else(|| panic!("no {name}: {of}"))
}

/// A feed's line of a sink.
fn line<'v>(told: &'v Value, feed: &str, sink: &str) -> &'v Value {
    let found = array(told, "feeds").iter().find(|it| it["feed"] == feed && it["sink"] == sink);
    found.unwrap_or(&Value::Null)
}

fn problems(told: &Value) -> Vec<String> {
    let problems = array(told, "problems").iter();
    problems.map(|it| format!("{}: {}", it["about"], it["says"]).replace('"', "")).collect()
}

#[test]
fn the_whole_cluster_is_told_of_and_what_is_not_well_in_it() {
    let proxy = Proxy::start(Database::address(), Commit::Postgres);
    let setup = Setup { name: "status", postgres: Some(proxy.address.clone()), ..Setup::default() };
    let mut place = Place::with(setup);
    let topic = place.topic("orders", 4, &[]);
    place.feed("orders", &format!("topic: {topic}\n{COLUMNS}"));
    let said = problems(&told(&place).1);
    assert_eq!(said.len(), 5, "nobody has the partitions: {said:?}");
    let sender = Sender::new();
    (0..4).for_each(|partition| sender.send(&topic, partition, 0..10));
    let mut first = place.world.node("first");
    let mut second = place.world.node("second");
    place.wait_for_watermarks("orders", &[10, 10, 10, 10]);
    let told_of = until(&place, "two nodes and no lag", SOON, |code, told| {
        let even = |sink| line(told, "orders", sink)["lag"] == 0;
        let all = line(told, "orders", "lake")["partitions"] == 4;
        code == 0 && array(told, "members").len() == 2 && all && even("lake") && even("warehouse")
    });
    let lake = line(&told_of, "orders", "lake");
    assert!(lake["committed_ms"].as_i64().is_some_and(|at| at > 1_700_000_000_000), "{lake}");
    assert_eq!(line(&told_of, "orders", "warehouse")["quarantine"], 0);
    let janitors = array(&told_of, "members").iter().filter(|it| it["janitor"] == true);
    assert_eq!(janitors.count(), 1);
    let partitions = array(&told_of, "partitions");
    assert_eq!(partitions.len(), 4);
    for of in partitions {
        assert_eq!((&of["end"], &of["state"]), (&10.into(), &"running".into()), "{of}");
        assert!(array(of, "sinks").iter().all(|sink| sink["next"] == 10), "{of}");
    }
    // One feed stands still, with its reason, which tells nothing of its records.
    let bad = place.topic("bad", 1, &[]);
    let park = "quarantine: {park_above: 0.5, park_min_records: 1}";
    place.feed("bad", &format!("topic: {bad}\n{COLUMNS}\n{park}"));
    let record = BaseRecord::to(&bad).partition(0).key("k").payload(r#"{"id":"rosebud"}"#);
    sender.0.send(record).unwrap_or_else(|(error, _)| panic!("{error}"));
    sender.0.flush(SOON).expect("the broker takes the record");
    let about = format!("{bad}-0 of bad: parked on ");
    let told_of = until(&place, "a parked partition", SOON, |code, told| {
        code == 3 && problems(told).iter().any(|it| it.starts_with(&about))
    });
    let text = told_of.to_string();
    assert!(
        text.contains("id: another value than an integer of 64 bits") && !text.contains("rosebud"),
        "{text}"
    );
    let logs = [first.log(), second.log()].concat();
    assert!(logs.contains("partition parked") && !logs.contains("rosebud"), "{logs}");
    let (code, said) = place.command(&["status", "--partitions"]);
    assert!(code == 3 && said.contains("NODE") && said.contains(&format!("! {about}")), "{said}");
    let (code, said) = place.command(&["status", "--feed", "orders"]);
    assert!(code == 0 && !said.contains("bad"), "{said}");
    let (code, said) = place.command(&["status", "--feed", "ordres"]);
    assert!(code == 2 && said.contains("no such feed"), "{code}: {said}");
    // It is told again and again.
    let mut watching = tidegate();
    watching.args(["status", "--watch", "--feed", "orders", "--output", "json", "--config"]);
    let mut watching =
        watching.arg(&place.world.config).stdout(Stdio::piped()).spawn().expect("it");
    let lines = BufReader::new(watching.stdout.take().expect("a pipe")).lines();
    let begun = lines.map_while(Result::ok).filter(|line| line == "{").take(2).count();
    assert_eq!(begun, 2);
    drop(watching.kill());
    drop(watching.wait());
    std::fs::remove_file(place.folder().join("feeds/bad.yaml")).expect("the feed file");
    until(&place, "all to be well again", SOON, |code, _| code == 0);
    // One that ends is gone at once; one that is killed is silent for a while, and others have what it had.
    assert!(second.terminate(SOON).0.success());
    until(&place, "one node with all partitions", SOON, |code, told| {
        code == 0
            && array(told, "members").len() == 1
            && line(told, "orders", "lake")["partitions"] == 4
    });
    first.kill();
    let told_of = until(&place, "a silent node", SILENT, |code, told| {
        code == 3 && array(told, "members")[0]["silent"] == true
    });
    let said = problems(&told_of);
    assert!(said[0].contains("has not been heard of"), "{said:?}");
    assert_eq!(said.iter().filter(|it| it.contains("no node has it")).count(), 4, "{said:?}");
    // A warehouse that is away is said, and nothing is made up.
    proxy.cut();
    let (code, said) = place.command(&["status"]);
    assert!(code == 1 && said.contains("error"), "{code}: {said}");
    proxy.mend();
}

#[test]
fn a_cluster_without_a_database_tells_of_itself_in_the_lake() {
    let mut place = Place::new("status-lake");
    place.edit_node(|text| {
        let lines = text.lines().filter(|line| !line.starts_with("warehouse:"));
        lines.map(|line| format!("{line}\n")).collect()
    });
    let topic = place.topic("orders", 2, &[]);
    place.feed("orders", &format!("topic: {topic}\n{COLUMNS}"));
    Sender::new().send(&topic, 0, 0..10);
    let mut node = place.node();
    until(&place, "the lake to be even", SOON, |code, told| {
        code == 0
            && line(told, "orders", "lake")["partitions"] == 2
            && line(told, "orders", "lake")["lag"] == 0
            && array(told, "partitions")[0]["end"] == 10
    });
    assert!(node.terminate(SOON).0.success());
    assert_eq!(array(&told(&place).1, "members").len(), 0);
}

#[test]
fn over_the_api_one_is_told_of_what_one_may_read() {
    let shop = Shop::new(Setup { name: "status-api", ..Setup::default() }, "");
    shop.send(0..10);
    shop.grant("user:ada", "events", &["--action", "read"]);
    let token = shop.token("user:ada", &[]);
    let mut node = shop.place.node();
    let ada = Caller::new(&node, Some(&token));
    until_read(&ada, "events");
    shop.wait_for(10);
    let told = wait_for("the node to tell of itself", SOON, || {
        let answer = ada.get("/v1/cluster");
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let told = answer.json();
        (line(&told, "events", "lake")["lag"] == 0 && array(&told, "partitions").len() == 2)
            .then_some(told)
    });
    assert!(!told.to_string().contains("accounts"), "{told}");
    // Nor of how much there is of what he may not see all of.
    shop.grant("user:bob", "events", &["--action", "read", "--mask", "email=hash"]);
    let bob = ada.with(&shop.token("user:bob", &[]));
    until_read(&bob, "events");
    let told = bob.get("/v1/cluster").json();
    assert!(array(&told, "members").len() == 1 && !told.to_string().contains("events"), "{told}");
    let nobody = Caller { token: None, ..ada.clone() };
    assert_eq!(nobody.get("/v1/cluster").status, StatusCode::UNAUTHORIZED);
    let file = shop.place.folder().join("token");
    std::fs::write(&file, &token).expect("a file");
    let (server, file) = (ada.base.clone(), file.display().to_string());
    let asked = ["status", "--server", &server, "--token-file", &file];
    let (code, said) = shop.place.command(&asked);
    assert!(code == 0 && said.contains("events") && !said.contains("accounts"), "{code}: {said}");
    assert!(node.terminate(SOON).0.success());
}
