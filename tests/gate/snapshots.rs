//! Tables that show their state: versions in each other's place, read by those who know nothing of us.

use std::path::PathBuf;
use std::process::Command;

use rdkafka::producer::{BaseRecord, Producer};
use serde_json::{Value, json};

use crate::lake;
use crate::servers::{env, wait_for};
use crate::source_place::{Place, SOON, Sender};
use crate::world::{Lake, Setup};

/// A table of totals by text key, one file of it with all that differs.
pub fn feed(place: &Place, name: &str, topic: &str, lake: &str) {
    let text = format!(
        "feed: {name}\ntype: table\ntopic: {topic}\n\
         key: {{format: string, columns: [{{name: id, type: string}}]}}\n\
         columns: [{{name: total, path: T, type: long}}]\nlake: {{linger: 100ms, {lake}}}\n"
    );
    std::fs::write(place.folder().join(format!("feeds/{name}.yaml")), text).expect("a feed file");
}

/// Changes of keys, each in the partition that its number gives; none is a tombstone.
pub fn change(topic: &str, partitions: i32, changes: impl IntoIterator<Item = (i32, Option<i64>)>) {
    let sender = Sender::new();
    for (key, total) in changes {
        let (name, value) = (format!("k{key:05}"), total.map(|total| format!("{{\"T\":{total}}}")));
        let record = BaseRecord::to(topic).partition(key % partitions).key(&name);
        let record = match &value {
            Some(value) => record.payload(value),
            None => record,
        };
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("producing: {error}"));
    }
    sender.0.flush(SOON).expect("the broker takes the records");
}

pub fn table(place: &Place, feed: &str) -> PathBuf {
    place.world.lake_root().join("tables").join(feed)
}

/// The snapshots that were committed, oldest first.
pub fn versions(place: &Place, feed: &str) -> Vec<Value> {
    let lines = lake::lines(&table(place, feed)).into_iter();
    let said = lines.map(|(_, line)| line["commitInfo"]["tidegateSnapshot"].clone());
    said.filter(|said| !said.is_null()).collect()
}

/// Waits until the present snapshot stands for these offsets, and so does the warehouse.
pub fn wait_for_snapshot(place: &Place, feed: &str, ends: &[i64]) {
    wait_for(&format!("a snapshot of {feed} at {ends:?}"), SOON, || {
        let (warehouse, _) = place.watermarks(feed);
        let progress = lake::progress(&table(place, feed));
        let reached = |(at, end): (i32, &i64)| {
            progress.get(&at) == Some(end) && warehouse.get(&at) == Some(end)
        };
        (0..).zip(ends).all(reached).then_some(())
    });
}

pub fn read(place: &Place, feed: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/snapshots.py");
    let asked = json!({"table": table(place, feed), "key": "id"});
    let mut python = Command::new(env("TIDEGATE_TEST_PYTHON"));
    let out = python.arg(script).arg(asked.to_string()).output().expect("Python starts");
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "snapshots.py: {}: {errors}", out.status);
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// Both readers find exactly what the warehouse holds, and one version.
pub fn is_what_the_warehouse_holds(place: &Place, feed: &str) -> Vec<(String, i64)> {
    let rows = place.world.database.query(&format!("SELECT id, total FROM {feed} ORDER BY id"));
    let rows: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let found = read(place, feed);
    let latest = versions(place, feed).last().expect("a snapshot")["version"].clone();
    assert_eq!(found["versions"], json!([format!("v{latest}")]));
    assert_eq!(found["delta"], json!(rows), "by the log");
    assert_eq!(found["folder"], json!(rows), "by the folder");
    rows
}

#[test]
fn a_snapshot_replaces_the_one_before() {
    replaces(Place::new("snapshots"));
}

#[test]
fn a_snapshot_replaces_the_one_before_on_s3() {
    let lake = Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT"));
    replaces(Place::with(Setup { name: "snapshots-s3", lake, ..Setup::default() }));
}

fn replaces(mut place: Place) {
    let topic = place.topic("totals", 2, &[]);
    feed(&place, "totals", &topic, "storage: overwrite, snapshots: {every: 500ms, keep: 2}");
    change(&topic, 2, (0..1000).map(|key| (key, Some(key.into()))));
    let mut node = place.node();
    wait_for_snapshot(&place, "totals", &[500, 500]);
    assert_eq!(is_what_the_warehouse_holds(&place, "totals").len(), 1000);
    let before = versions(&place, "totals").len();
    // Half of them go, some change several times, and some go and come again.
    change(&topic, 2, (0..500).map(|key| (key, None)));
    change(&topic, 2, (400..600).flat_map(|key| [(key, Some(1)), (key, Some(-i64::from(key)))]));
    wait_for_snapshot(&place, "totals", &[950, 950]);
    let rows = is_what_the_warehouse_holds(&place, "totals");
    assert_eq!(rows[0], ("k00400".to_owned(), -400));
    let versions = versions(&place, "totals");
    assert!(versions.len() > before, "{versions:?}");
    let numbers: Vec<u64> = versions.iter().map(|it| it["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=versions.len() as u64).collect::<Vec<_>>());
    place.verify();
    assert!(node.terminate(SOON).0.success());
    // With nothing new there is no new version, by hand either.
    let (code, printed) = place.command(&["export", "--table", "totals"]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(self::versions(&place, "totals"), versions, "{printed}");
}

/// What a node leaves that dies with a version staged is seen by nobody, and goes when its turn comes.
#[test]
fn killed_between_staging_and_commit() {
    let mut place = Place::new("snapshot-killed");
    let topic = place.topic("totals", 1, &[]);
    feed(&place, "totals", &topic, "storage: overwrite, snapshots: {every: 200ms, keep: 1}");
    change(&topic, 1, (0..50).map(|key| (key, Some(key.into()))));
    let mut victim = place.world.broken_node("victim", "lake.before_snapshot_commit=exit");
    wait_for("the node to die", SOON, || (!victim.is_running()).then_some(()));
    assert_eq!(versions(&place, "totals"), Vec::<Value>::new());
    let staged = table(&place, "totals").join("version=v1");
    assert_eq!(std::fs::read_dir(&staged).expect("it was staged").count(), 1);
    assert_eq!(read(&place, "totals")["delta"], json!([]), "nobody sees it");
    let _node = place.node();
    wait_for_snapshot(&place, "totals", &[50]);
    assert_eq!(is_what_the_warehouse_holds(&place, "totals").len(), 50);
    let first = versions(&place, "totals")[0]["version"].clone();
    assert!(first.as_u64() > Some(1), "its number and its folder are nobody else's: {first}");
    change(&topic, 1, [(7, None)]);
    wait_for_snapshot(&place, "totals", &[51]);
    wait_for("what it left to go", SOON, || (!staged.exists()).then_some(()));
    let replaced = table(&place, "totals").join(format!("version=v{first}"));
    wait_for("the former version to go", SOON, || (!replaced.exists()).then_some(()));
    assert_eq!(is_what_the_warehouse_holds(&place, "totals").len(), 49);
    place.verify();
}

/// One is held just before its commit; another takes the table meanwhile; then the first goes on.
#[test]
fn two_nodes_at_once() {
    let mut place = Place::new("snapshot-two");
    let topic = place.topic("totals", 1, &[]);
    feed(&place, "totals", &topic, "storage: overwrite, snapshots: {every: 200ms, keep: 5}");
    change(&topic, 1, (0..50).map(|key| (key, Some(key.into()))));
    let paused = place.world.broken_node("paused", "lake.before_snapshot_commit=stop");
    wait_for("it to be stopped", SOON, || paused.is_stopped().then_some(()));
    assert_eq!(versions(&place, "totals"), Vec::<Value>::new());
    change(&topic, 1, (0..10).map(|key| (key, None)));
    let other = place.world.node("other");
    wait_for_snapshot(&place, "totals", &[60]);
    assert_eq!(is_what_the_warehouse_holds(&place, "totals").len(), 40);
    let taken = versions(&place, "totals");
    paused.signal(libc::SIGCONT);
    // Its own version would bring the ten back.
    let left = table(&place, "totals").join("version=v1");
    wait_for("the first to see that it lost", SOON, || (!left.exists()).then_some(()));
    assert_eq!(versions(&place, "totals"), taken);
    assert_eq!(is_what_the_warehouse_holds(&place, "totals").len(), 40);
    change(&topic, 1, [(20, None)]);
    wait_for_snapshot(&place, "totals", &[61]);
    assert_eq!(is_what_the_warehouse_holds(&place, "totals").len(), 39);
    drop((paused, other));
}

#[test]
fn reference_data_is_written_once() {
    let mut place = Place::new("snapshot-once");
    let topic = place.topic("codes", 2, &[]);
    feed(&place, "codes", &topic, "storage: ignore, snapshots: {every: 200ms}");
    change(&topic, 2, (0..300).map(|key| (key, Some(key.into()))));
    let _node = place.node();
    wait_for_snapshot(&place, "codes", &[150, 150]);
    assert_eq!(is_what_the_warehouse_holds(&place, "codes").len(), 300);
    let before = read(&place, "codes");
    change(&topic, 2, (0..100).map(|key| (key, None)));
    // They are carried all the same, and nothing waits for them.
    wait_for("the changes to be in the lake", SOON, || {
        let progress = lake::progress(&table(&place, "codes").join("_changes"));
        ([0, 1].iter().all(|at| progress.get(at) == Some(&200))).then_some(())
    });
    let (code, printed) = place.command(&["export", "--table", "codes"]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(read(&place, "codes"), before);
    assert_eq!(versions(&place, "codes").len(), 1);
    place.verify();
}
