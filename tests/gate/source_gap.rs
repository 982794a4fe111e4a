//! Progress that no longer fits the log: records expired, topics made again, offsets that are gone.

use std::path::{Path, PathBuf};

use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka;
use crate::servers::wait_for;
use crate::source_place::{COLUMNS, Place, SOON, Sender};

/// As retention does: the log begins at `before` from now on.
pub fn delete_records(topic: &str, partition: i32, before: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("an offset");
    // The answer comes by the client's own thread: the client must outlive the question.
    let admin = kafka::admin();
    let deleted = admin.delete_records(&list, &AdminOptions::new());
    let deleted = futures::executor::block_on(deleted).expect("the broker answers");
    deleted.elements().iter().for_each(|element| element.error().expect("deleted"));
}

fn parked(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("partition parked")).collect()
}

#[test]
fn a_gap_parks_the_partition() {
    gap_parks(Place::new("gap-park"));
}

#[test]
fn a_gap_parks_a_partition_of_a_plain_table() {
    gap_parks(Place::with_format("gap-plain", "parquet"));
}

fn gap_parks(mut place: Place) {
    let (topic, beside) = (place.topic("t", 2, &[]), place.topic("beside", 1, &[]));
    place.plain_feed("orders", &topic);
    place.plain_feed("others", &beside);
    let sender = Sender::new();
    sender.send(&topic, 0, 0..10);
    sender.send(&topic, 1, 100..110);
    let mut node = place.node();
    place.wait_for_ids("orders", (0..10).chain(100..110));
    node.terminate(SOON);
    sender.send(&topic, 0, 10..30);
    delete_records(&topic, 0, 20);
    let node = place.node();
    node.wait_for_log("partition parked", SOON);
    let log = node.log();
    let reason = parked(&log)[0];
    println!("{reason}");
    for part in ["[10, 20)", "expired", "tidegate resolve --skip-gap", "on_gap: continue"] {
        assert!(reason.contains(part), "{reason} lacks {part}");
    }
    // Its neighbour and other feeds run on.
    sender.send(&topic, 1, 110..115);
    sender.send(&beside, 0, 0..5);
    place.wait_for_ids("others", 0..5);
    place.wait_for_ids("orders", (0..10).chain(100..115));
    place.wait_for_watermarks("orders", &[10, 15]);
    // Recorded as soon as it was found, and not again by whoever finds it next.
    gap_is_recorded(&place, false);
    drop(node);
    let node = place.node();
    node.wait_for_log("partition parked", SOON);
    gap_is_recorded(&place, false);
    // The command it names settles it; the node finds out by itself.
    let (code, said) = place.command(&["resolve", "--feed", "orders", "--skip-gap"]);
    println!("{said}");
    assert_eq!(code, 0, "{said}");
    place.wait_for_ids("orders", (0..10).chain(20..30).chain(100..115));
    gap_is_recorded(&place, true);
    // Nothing was the matter with them, so nothing was begun anew.
    let log = node.log();
    let troubled = |line: &&str| line.contains("partition failed") && !line.contains("-t-0 ");
    let troubled: Vec<&str> = log.lines().filter(troubled).collect();
    assert!(troubled.is_empty(), "the parked partition's neighbours were stopped: {troubled:#?}");
}

#[test]
fn a_gap_is_passed_where_the_feed_says_so() {
    let mut place = Place::new("gap-continue");
    let topic = place.topic("t", 1, &[]);
    place.feed("orders", &format!("topic: {topic}\non_gap: continue\n{COLUMNS}"));
    let sender = Sender::new();
    sender.send(&topic, 0, 0..10);
    let mut node = place.node();
    place.wait_for_ids("orders", 0..10);
    node.terminate(SOON);
    sender.send(&topic, 0, 10..30);
    delete_records(&topic, 0, 20);
    let node = place.node();
    place.wait_for_ids("orders", (0..10).chain(20..30));
    let log = node.log();
    assert!(parked(&log).is_empty(), "{log}");
    assert!(log.contains("[10, 20)"), "the gap is not named: {log}");
    gap_is_recorded(&place, true);
}

/// Each sink keeps once that offsets 10 to 19 are missing, and `verify` shows it.
fn gap_is_recorded(place: &Place, settled: bool) {
    let gaps = "SELECT feed, partition, from_offset, to_offset, settled_at IS NOT NULL, reason \
                FROM tidegate.gaps";
    let gaps = place.world.database.query(gaps);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let gap: (String, i32, i64, i64, bool) =
        (gaps[0].get(0), gaps[0].get(1), gaps[0].get(2), gaps[0].get(3), gaps[0].get(4));
    assert_eq!(gap, ("orders".to_owned(), 0, 10, 20, settled));
    let said = said_by_lake(place, false);
    // Where the feed says to go on, it was never open.
    assert!(said == 1 || (said == 0 && settled), "said {said} times in the lake's log");
    assert_eq!(said_by_lake(place, true), usize::from(settled));
    let report = place.verify();
    let feeds = report["feeds"].as_array().expect("feeds");
    let feed = feeds.iter().find(|feed| feed["feed"] == "orders").expect("the feed");
    for sink in ["lake", "warehouse"] {
        let shown = &feed[sink]["gaps"];
        assert_eq!(shown.as_array().map(Vec::len), Some(1), "{sink}: {feed:#}");
        assert_eq!((&shown[0]["from"], &shown[0]["to"]), (&10.into(), &20.into()), "{sink}");
        assert_eq!(shown[0]["settled"], settled, "{sink}");
    }
    let (_, text) = place.command(&["verify", "--feed", "orders"]);
    let word = if settled { ": gap: " } else { ": open gap: " };
    assert_eq!(text.matches(word).count(), 2, "{text}");
}

/// How often the lake says that there is a gap, settled or open.
fn said_by_lake(place: &Place, settled: bool) -> usize {
    let table = place.lake_table("orders");
    let (folder, text) = match (table.join("_delta_log"), settled) {
        (log, true) if log.is_dir() => (log, r#""settled":true"#),
        (log, false) if log.is_dir() => (log, r#""settled":false"#),
        (_, true) => (chain(&table), r#""kind":"gap""#),
        (_, false) => {
            let names = std::fs::read_dir(chain(&table)).expect("a chain").flatten();
            let gap = |name: &str| name.ends_with(".gap.json");
            return names.filter(|entry| gap(&entry.file_name().to_string_lossy())).count();
        }
    };
    let entries = std::fs::read_dir(folder).expect("a log").map(|entry| entry.expect("one").path());
    let texts = entries.filter_map(|entry| std::fs::read_to_string(entry).ok());
    texts.filter(|entry| entry.contains(text)).count()
}

/// The chain of partition 0.
fn chain(table: &Path) -> PathBuf {
    let chains = std::fs::read_dir(table.join("_commits")).expect("commits").flatten();
    let mut chains = chains.map(|entry| entry.path());
    chains.find(|path| path.to_string_lossy().ends_with("-0")).expect("a chain")
}

/// The log's start moves while a node runs: over what it has read, nothing happens; a feed that is
/// new begins there.
#[test]
fn expiry_of_what_was_read_is_no_gap() {
    let mut place = Place::new("expiry");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("orders", &topic);
    let sender = Sender::new();
    sender.send(&topic, 0, 0..10);
    let mut node = place.node();
    place.wait_for_ids("orders", 0..10);
    delete_records(&topic, 0, 7);
    sender.send(&topic, 0, 10..15);
    place.wait_for_ids("orders", 0..15);
    // To the very end: the log is empty, and progress stands where it begins.
    delete_records(&topic, 0, 15);
    assert!(parked(&node.log()).is_empty());
    node.terminate(SOON);
    place.plain_feed("late", &topic);
    let node = place.node();
    place.wait_for_watermarks("late", &[15]);
    sender.send(&topic, 0, 15..20);
    place.wait_for_ids("late", 15..20);
    place.wait_for_ids("orders", 0..20);
    assert!(parked(&node.log()).is_empty());
    place.verify();
}

/// Records expire under a running node, before it has come to them.
#[test]
fn a_gap_under_a_running_node() {
    let mut place = Place::new("gap-running");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("orders", &topic);
    let sender = Sender::new();
    sender.send(&topic, 0, 0..10);
    let node = place.node();
    place.wait_for_ids("orders", 0..10);
    // Frozen, but not for so long that the group gives its partitions away.
    node.signal(libc::SIGSTOP);
    sender.send(&topic, 0, 10..20);
    delete_records(&topic, 0, 20);
    node.signal(libc::SIGCONT);
    sender.send(&topic, 0, 20..25);
    // A fetch under way may have brought some of them; all or nothing, but never silence.
    wait_for("the records, or the reason why not", SOON, || {
        let read = place.warehouse("orders").len() == 25;
        (read || node.log().contains("[10, 20)")).then_some(())
    });
    place.verify();
}

/// The broker does not say which partition it has no records of: the others go on all the same.
#[test]
fn a_gap_under_a_running_node_stops_nobody_else() {
    let mut place = Place::new("gap-alone");
    let (topic, beside) = (place.topic("t", 3, &[]), place.topic("beside", 1, &[]));
    place.plain_feed("orders", &topic);
    place.plain_feed("others", &beside);
    let sender = Sender::new();
    sender.send(&topic, 0, 0..10);
    sender.send(&topic, 1, 100..110);
    sender.send(&beside, 0, 0..5);
    let node = place.node();
    place.wait_for_ids("orders", (0..10).chain(100..110));
    place.wait_for_ids("others", 0..5);
    node.signal(libc::SIGSTOP);
    // The fetch under way comes back empty, so the next one asks for what is gone.
    std::thread::sleep(std::time::Duration::from_secs(1));
    sender.send(&topic, 0, 10..20);
    delete_records(&topic, 0, 20);
    node.signal(libc::SIGCONT);
    node.wait_for_log("partition parked", SOON);
    let log = node.log();
    assert!(parked(&log)[0].contains("[10, 20)"), "{log}");
    sender.send(&topic, 1, 110..115);
    sender.send(&topic, 2, 200..205);
    sender.send(&beside, 0, 5..10);
    place.wait_for_ids("orders", (0..10).chain(100..115).chain(200..205));
    place.wait_for_ids("others", 0..10);
    let log = node.log();
    let failed = |line: &&str| line.contains("partition failed");
    let failed: Vec<&str> = log.lines().filter(failed).collect();
    assert!(failed.iter().all(|line| line.contains("-t-0 ")), "others were stopped: {failed:#?}");
    assert!(!failed.is_empty(), "nobody saw the gap: nothing was proved: {log}");
}

pub fn recreate(topic: &str, partitions: i32) {
    kafka::delete_topics(&[topic.to_owned()]);
    // The name is free again a moment later.
    wait_for("the topic to be made again", SOON, || {
        let new = rdkafka::admin::NewTopic::new(
            topic,
            partitions,
            rdkafka::admin::TopicReplication::Fixed(1),
        );
        let made = kafka::admin();
        let made = futures::executor::block_on(made.create_topics([&new], &AdminOptions::new()));
        made.expect("the broker answers").pop()?.ok()
    });
    kafka::ends(topic, partitions);
}

/// `records` in the new topic: fewer than were read of the old one, or more.
fn made_again(name: &'static str, running: bool, records: i64) {
    made_again_in(Place::new(name), running, records);
}

fn made_again_in(mut place: Place, running: bool, records: i64) {
    let (topic, beside) = (place.topic("t", 1, &[]), place.topic("beside", 1, &[]));
    place.plain_feed("orders", &topic);
    place.plain_feed("others", &beside);
    let sender = Sender::new();
    sender.send(&topic, 0, 0..20);
    let mut node = place.node();
    place.wait_for_ids("orders", 0..20);
    if !running {
        node.terminate(SOON);
    }
    recreate(&topic, 1);
    // The former producer knows the topic by its old id.
    let sender = Sender::new();
    sender.send(&topic, 0, 1000..1000 + records);
    if !running {
        node = place.node();
    }
    node.wait_for_log("partition parked", SOON);
    let log = node.log();
    let reason = parked(&log)[0];
    println!("{reason}");
    assert!(reason.contains("created again"), "{reason}");
    assert!(reason.contains("tidegate resolve --restart"), "{reason}");
    sender.send(&beside, 0, 0..5);
    place.wait_for_ids("others", 0..5);
    place.wait_for_ids("orders", 0..20);
    let (code, said) = place.command(&["resolve", "--feed", "orders", "--restart"]);
    println!("{said}");
    assert_eq!(code, 0, "{said}");
    place.wait_for_ids("orders", (0..20).chain(1000..1000 + records));
    place.wait_for_watermarks("orders", &[records]);
    // The former topic's rows are known for what they are: nothing is doubled or out of place.
    let report = place.verify();
    let feeds = report["feeds"].as_array().expect("feeds");
    let feed = feeds.iter().find(|feed| feed["feed"] == "orders").expect("the feed");
    for sink in ["lake", "warehouse"] {
        let (found, rows) = (&feed[sink]["former"], &feed[sink]["rows"]);
        assert_eq!((found, rows), (&20.into(), &records.into()), "{sink}: {feed:#}");
        assert_eq!(feed[sink]["unchecked"], 0, "{sink}: {feed:#}");
    }
    // A row too many is one all the same.
    place
        .world
        .database
        .execute("INSERT INTO orders SELECT * FROM orders WHERE _offset = 3 LIMIT 1");
    let (code, said) = place.command(&["verify"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("doubled: partition 0, offset 3"), "{said}");
}

#[test]
fn a_topic_made_again_while_no_node_runs() {
    made_again("remade", false, 5);
}

#[test]
fn a_topic_made_again_and_longer_by_now() {
    made_again("remade-longer", false, 50);
}

#[test]
fn a_topic_made_again_under_a_running_node() {
    made_again("remade-running", true, 50);
}

#[test]
fn a_topic_made_again_under_a_plain_table() {
    made_again_in(Place::with_format("remade-plain", "parquet"), false, 50);
}

/// A table keeps the former topic's rows until the new one brings their keys: nobody can say more of
/// them, and nothing is wrong with them.
#[test]
fn a_tables_topic_made_again() {
    let mut place = Place::new("remade-table");
    let topic = place.topic("t", 1, &[]);
    let feed = format!(
        "feed: totals\ntype: table\ntopic: {topic}\nlake: {{linger: 200ms}}\n\
         key: {{format: string, columns: [{{name: k, type: string}}]}}\n{COLUMNS}\n"
    );
    std::fs::write(place.folder().join("feeds/totals.yaml"), feed).expect("a feed file");
    // Ten keys, each twice.
    Sender::new().send(&topic, 0, 0..20);
    let node = place.node();
    place.wait_for_watermarks("totals", &[20]);
    recreate(&topic, 1);
    Sender::new().send(&topic, 0, 1000..1005);
    node.wait_for_log("partition parked", SOON);
    let (code, said) = place.command(&["resolve", "--feed", "totals", "--restart"]);
    assert_eq!(code, 0, "{said}");
    place.wait_for_watermarks("totals", &[5]);
    let report = place.verify();
    let sink = &report["feeds"][0]["warehouse"];
    assert_eq!((&sink["keys"], &sink["unchecked_keys"]), (&10.into(), &5.into()), "{sink:#}");
    assert_eq!(report["feeds"][0]["lake"]["former"], 20, "{report:#}");
    // A row of an offset that neither topic had.
    place.world.database.execute("INSERT INTO totals VALUES ('never', 1, '', 0, 21)");
    place
        .world
        .database
        .execute(&format!("UPDATE totals SET _topic = '{topic}' WHERE k = 'never'"));
    let (code, said) = place.command(&["verify"]);
    assert_eq!(code, 3, "{said}");
}
