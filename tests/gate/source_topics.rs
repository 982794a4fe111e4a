//! Topics and partitions that come while a node runs, and topics by a pattern.

use rdkafka::admin::{AdminOptions, NewPartitions};

use crate::kafka;
use crate::source_place::{COLUMNS, Place, SOON, Sender};

fn grown(name: &'static str, protocol: &'static str) {
    let mut place = Place::with_protocol(name, protocol);
    let topic = place.topic("t", 1, &[]);
    // `latest` is for the topic as it was found; a partition that comes later is read whole.
    place.feed("orders", &format!("topic: {topic}\nstart: latest\n{COLUMNS}"));
    let sender = Sender::new();
    sender.send(&topic, 0, 0..5);
    let _node = place.node();
    place.wait_for_watermarks("orders", &[5]);
    let more = NewPartitions::new(&topic, 3);
    let made = kafka::admin();
    let made = futures::executor::block_on(made.create_partitions([&more], &AdminOptions::new()));
    made.expect("the broker answers").pop().expect("an answer").expect("two more partitions");
    kafka::ends(&topic, 3);
    // At once: before any node has heard of the partitions.
    let sender = Sender::new();
    sender.send(&topic, 1, 10..15);
    sender.send(&topic, 2, 20..25);
    place.wait_for_ids("orders", (10..15).chain(20..25));
    place.wait_for_watermarks("orders", &[5, 5, 5]);
    sender.send(&topic, 0, 5..10);
    place.wait_for_ids("orders", (5..15).chain(20..25));
    place.verify();
}

#[test]
fn a_partition_added_by_the_consumer_protocol() {
    grown("grown", "consumer");
}

#[test]
fn a_partition_added_by_the_classic_protocol() {
    grown("grown-classic", "classic");
}

fn pattern(name: &'static str, protocol: &'static str) {
    let mut place = Place::with_protocol(name, protocol);
    let (one, two) = (place.topic("in-one", 1, &[]), place.topic("in-two", 2, &[]));
    let other = place.topic("out-one", 1, &[]);
    place.feed("{topic}", &format!("topics: '^{}.*'\n{COLUMNS}", place.name("in-")));
    let sender = Sender::new();
    sender.send(&one, 0, 0..10);
    sender.send(&two, 0, 10..20);
    sender.send(&two, 1, 20..30);
    sender.send(&other, 0, 0..10);
    let mut node = place.node();
    let of = |topic: &str| (topic.to_owned(), topic.replace('-', "_"));
    let holds = |topic: &str, ids: std::ops::Range<i64>| {
        let (feed, table) = of(topic);
        place.wait_for_table(&feed, &table, ids);
    };
    holds(&one, 0..10);
    holds(&two, 10..30);
    // One that comes later makes a feed of its own, and is read from its start.
    let three = place.name("in-three");
    kafka::create_topic(&three, 1, &[]);
    sender.send(&three, 0, 30..40);
    holds(&three, 30..40);
    let feeds = "SELECT count(DISTINCT feed) FROM tidegate.progress";
    assert_eq!(place.world.database.query(feeds)[0].get::<_, i64>(0), 3, "one feed for each topic");
    place.verify();
    // All three are there after another start too.
    node.terminate(SOON);
    sender.send(&three, 0, 40..50);
    let _node = place.node();
    holds(&three, 30..50);
    holds(&one, 0..10);
    place.verify();
    kafka::delete_topics(&[three]);
}

#[test]
fn a_pattern_by_the_consumer_protocol() {
    pattern("pattern", "consumer");
}

#[test]
fn a_pattern_by_the_classic_protocol() {
    pattern("pattern-classic", "classic");
}
