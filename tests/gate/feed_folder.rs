//! The feed folder changes while nodes run: feeds come, pause, change and go, and no other is disturbed.

use std::path::Path;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::node::Node;
use crate::source_place::{COLUMNS, Place, SOON, Sender};
use crate::world::{Setup, World};
use crate::{kafka, servers};

fn feed(name: &str, topic: &str, more: &str) -> String {
    let lake = "lake: {linger: 200ms}";
    format!("feed: {name}\ntype: stream\ntopic: {topic}\n{COLUMNS}\n{lake}\n{more}")
}

fn write(place: &Place, path: &str, text: &str) {
    let path = place.folder().join("feeds").join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("a feed file");
}

/// What the node has said since `mark`.
fn wait_for_log(node: &Node, mark: usize, text: &str) {
    servers::wait_for(&format!("`{text}` in the log"), SOON, || {
        node.log_since(mark).contains(text).then_some(())
    });
}

/// What the group has committed for a topic's first partition.
fn committed(group: &str, topic: &str) -> Option<i64> {
    let client: BaseConsumer = kafka::config().set("group.id", group).create().expect("a client");
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let answer = client.committed_offsets(list, Duration::from_secs(10)).expect("an answer");
    match answer.elements().first().map(|element| element.offset()) {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    }
}

fn come_and_go(name: &'static str, protocol: &'static str) {
    let mut place = Place::with_protocol(name, protocol);
    let (a, b) = (place.topic("a", 2, &[]), place.topic("b", 1, &[]));
    let sender = Sender::new();
    sender.send(&a, 0, 0..10);
    sender.send(&b, 0, 0..10);
    // A node may begin with nothing to do.
    let node = place.node();
    node.wait_for_log("joining the group", SOON);
    write(&place, "active/one.yaml", &feed("one", &a, ""));
    place.wait_for_ids("one", 0..10);

    // Another topic, and another feed of one that is read already, from its beginning.
    write(&place, "active/two.yaml", &feed("two", &b, ""));
    write(&place, "active/three.yaml", &feed("three", &a, ""));
    place.wait_for_ids("two", 0..10);
    place.wait_for_ids("three", 0..10);

    // One with a fault is refused by itself.
    let mark = node.log().len();
    write(&place, "active/bad.yaml", "feed: bad\ntype: strem\n");
    write(&place, "active/same.yaml", &feed("one", &b, ""));
    wait_for_log(&node, mark, "did you mean `stream`?");
    wait_for_log(&node, mark, "a name that no other feed has");
    let checked = place.command(&["feeds", "check"]);
    assert!(checked.0 == 2 && checked.1.contains("bad.yaml"), "{checked:?}");
    sender.send(&a, 1, 10..20);
    place.wait_for_ids("one", 0..20);
    place.wait_for_ids("three", 0..20);
    for name in ["bad", "same"] {
        std::fs::remove_file(place.folder().join(format!("feeds/active/{name}.yaml"))).expect("it");
    }
    wait_for_log(&node, mark, "no fault any more");

    // A paused feed stands still, the other of its topic does not.
    let mark = node.log().len();
    write(&place, "active/three.yaml", &feed("three", &a, "enabled: false\n"));
    wait_for_log(&node, mark, "the feed is drained");
    sender.send(&a, 0, 20..30);
    place.wait_for_ids("one", 0..30);
    assert_eq!(place.warehouse("three").len(), 20);
    let consuming = node.log_since(mark).matches("consuming").count();
    assert_eq!(consuming, 0, "another feed was disturbed");

    // Changed settings are those of the next record.
    let mark = node.log().len();
    let keyed = "warehouse: {linger: 1ms}\n";
    write(&place, "active/one.yaml", &feed("one", &a, keyed));
    write(&place, "active/three.yaml", &feed("three", &a, ""));
    wait_for_log(&node, mark, "drained, to begin anew");
    place.wait_for_ids("three", 0..30);
    sender.send(&a, 1, 30..40);
    place.wait_for_ids("one", 0..40);
    place.wait_for_ids("three", 0..40);

    // Archived: drained, its offsets committed, its topic given back.
    let mark = node.log().len();
    let feeds = place.folder().join("feeds");
    std::fs::create_dir(feeds.join("archived")).expect("a folder");
    let (active, archived) = (feeds.join("active/two.yaml"), feeds.join("archived/two.yaml"));
    std::fs::rename(&active, &archived).expect("moved");
    wait_for_log(&node, mark, "the feed is drained");
    wait_for_log(&node, mark, "revoked: draining");
    let group = place.world.database.name.clone();
    wait_for_commit(&group, &b, 10);
    sender.send(&b, 0, 10..20);
    sender.send(&a, 0, 40..50);
    place.wait_for_ids("one", 0..50);
    assert_eq!(place.warehouse("two").len(), 10);
    std::fs::rename(&archived, &active).expect("moved back");
    place.wait_for_ids("two", 0..20);
    place.verify();
    assert!(!node.log().contains("parked"), "no partition was given up");
}

fn wait_for_commit(group: &str, topic: &str, offset: i64) {
    servers::wait_for("the committed offset", SOON, || {
        (committed(group, topic) == Some(offset)).then_some(())
    });
}

#[test]
fn feeds_come_and_go_by_the_consumer_protocol() {
    come_and_go("folder", "consumer");
}

#[test]
fn feeds_come_and_go_by_the_classic_protocol() {
    come_and_go("folder-classic", "classic");
}

/// Kubernetes puts a new version of a mounted ConfigMap in place by a link.
#[test]
fn a_config_map_is_swapped() {
    let mut place = Place::new("config-map");
    let (a, b) = (place.topic("a", 1, &[]), place.topic("b", 1, &[]));
    let sender = Sender::new();
    sender.send(&a, 0, 0..5);
    sender.send(&b, 0, 0..5);
    let feeds = place.folder().join("feeds");
    let swap = |version: u32, files: &[(&str, String)]| {
        let name = format!("..version_{version}");
        std::fs::create_dir(feeds.join(&name)).expect("a folder");
        for (file, text) in files {
            std::fs::write(feeds.join(&name).join(file), text).expect("a file");
        }
        link(Path::new(&name), &feeds.join("..data_tmp"));
        std::fs::rename(feeds.join("..data_tmp"), feeds.join("..data")).expect("swapped");
        for file in ["one.yaml", "two.yaml"] {
            let (is, is_linked) =
                (files.iter().any(|it| it.0 == file), feeds.join(file).is_symlink());
            match (is, is_linked) {
                (true, false) => link(&Path::new("..data").join(file), &feeds.join(file)),
                (false, true) => std::fs::remove_file(feeds.join(file)).expect("a stale link"),
                _ => {}
            }
        }
    };
    swap(1, &[("one.yaml", feed("one", &a, ""))]);
    let node = place.node();
    place.wait_for_ids("one", 0..5);
    swap(2, &[("one.yaml", feed("one", &a, "")), ("two.yaml", feed("two", &b, ""))]);
    place.wait_for_ids("two", 0..5);
    let mark = node.log().len();
    swap(3, &[("two.yaml", feed("two", &b, "start: latest\n"))]);
    wait_for_log(&node, mark, "drained and ended");
    wait_for_log(&node, mark, "drained, to begin anew");
    sender.send(&b, 0, 5..10);
    // Its progress goes before its start.
    place.wait_for_ids("two", 0..10);
    place.verify();
}

fn link(to: &Path, at: &Path) {
    std::os::unix::fs::symlink(to, at).expect("a link");
}

/// Two nodes, which see each change at moments of their own, under load.
#[test]
fn feeds_change_under_load_on_two_nodes() {
    let world = World::new(Setup { name: "folder-load", ..Setup::default() });
    let load = world.load(11, 400_000, 3000);
    let nodes = [world.node("first"), world.node("second")];
    world.wait_progress(SOON);
    let feeds = world.config.parent().expect("a folder").join("feeds");
    let files: Vec<_> = std::fs::read_dir(&feeds).expect("feeds").flatten().collect();
    let texts: Vec<(std::path::PathBuf, String)> = files
        .iter()
        .map(|file| (file.path(), std::fs::read_to_string(file.path()).expect("a feed file")))
        .collect();
    assert_eq!(texts.len(), 2);
    for round in 0..3 {
        let (path, text) = &texts[round % 2];
        // Paused; with other settings; and as it was.
        for (change, more) in [
            format!("{text}enabled: false\n"),
            format!("{text}warehouse: {{linger: {}ms}}\n", round + 1),
            text.clone(),
        ]
        .iter()
        .enumerate()
        {
            let marks = [nodes[0].log().len(), nodes[1].log().len()];
            std::fs::write(path, more).expect("a feed file");
            // Each node has seen it, whichever of them reads the feed.
            let said = if change == 1 { "a feed was added" } else { "the feed file changed" };
            for (node, mark) in nodes.iter().zip(marks) {
                wait_for_log(node, mark, said);
            }
        }
        world.wait_progress(SOON);
    }
    assert!(load.is_running(), "the load ended before the changes did");
    let expected = load.stop();
    world.wait_caught_up(SOON);
    world.check(&expected);
    assert!(nodes.iter().all(|node| !node.log().contains("parked")), "a partition was given up");
}

/// A declaration as export scripts over ksqlDB keep it, and the topic as ksqlDB spells it.
#[test]
fn a_declaration_runs_as_it_stands() {
    let mut place = Place::with_format("declared", "parquet");
    let short = place.name("flat");
    kafka::create_topic(&short.to_uppercase(), 1, &[]);
    let sender = Sender::new();
    sender.send(&short.to_uppercase(), 0, 0..10);
    let text = format!(
        r#"{{"feed_name": "flat", "feed_type": "stream", "ksqldb_source": "{short}",
            "description": "as it stands", "storage_mode": "append", "format": "parquet",
            "partitioning": {{"type": "date", "columns": ["year", "month", "day"]}},
            "retention_days": 365, "enabled": true, "created_at": "2025-01-15T10:00:00",
            "lake": {{"linger": "200ms"}},
            "columns": [{{"name": "id", "type": "long"}}]}}"#
    );
    write(&place, "active/flat.json", &text);
    let mut node = place.node();
    place.wait_for_ids("flat", 0..10);
    let year = std::fs::read_dir(place.lake_table("flat")).expect("the table").flatten();
    let names: Vec<String> = year.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|name| name.starts_with("year=")), "{names:?}");
    place.verify();
    // With both spellings there nobody knows which is meant.
    node.terminate(SOON);
    place.topic("flat", 1, &[]);
    let node = place.node();
    node.wait_for_log("does not say which is meant", SOON);
    kafka::delete_topics(&[short.to_uppercase()]);
}
