//! The way to the broker, where reading begins, and who reads what.

use crate::servers::{env, servers, wait_for};
use crate::source_place::{COLUMNS, Place, SOON, Sender};

fn secure(place: &Place, password: &str) {
    let kafka = format!(
        "kafka:\n  bootstrap: '{}'\n  group: '{}'\n  tls: {{ca: '{}'}}\n  sasl: \
         {{mechanism: SCRAM-SHA-512, username: {}, password: {password}}}\n",
        env("TIDEGATE_TEST_KAFKA_TLS"),
        place.world.database.name,
        env("TIDEGATE_TEST_CA"),
        env("TIDEGATE_TEST_KAFKA_USER"),
    );
    place.edit_node(|text| {
        let (_, rest) = text.split_once('\n').expect("the first line is Kafka's");
        kafka + rest
    });
}

#[test]
fn scram_over_tls() {
    let mut place = Place::new("scram");
    let topic = place.topic("t", 2, &[]);
    place.plain_feed("orders", &topic);
    secure(&place, "{env: TIDEGATE_TEST_KAFKA_PASSWORD}");
    Sender::new().send(&topic, 0, 0..10);
    let node = place.node();
    place.wait_for_ids("orders", 0..10);
    // Claims, log bounds and commits go the same way as the records.
    place.wait_for_watermarks("orders", &[10, 0]);
    place.verify();
    assert!(!node.log().contains(&env("TIDEGATE_TEST_KAFKA_PASSWORD")), "a password in the log");
}

/// A name that no topic has, and the topic that was meant; the feed begins when its topic is there.
#[test]
fn a_topic_that_is_not_there_is_said() {
    let mut place = Place::new("no-topic");
    let other = place.topic("orders", 1, &[]);
    let missing = place.name("order");
    place.plain_feed("orders", &missing);
    let node = place.node();
    let said = wait_for("the node to say that there is no such topic", SOON, || {
        let log = node.log();
        let told = |line: &&str| line.contains("no such topic") && line.contains(&missing);
        log.lines().find(told).map(str::to_owned)
    });
    assert!(said.contains(&other), "{said} does not name {other}");
    place.topic("order", 1, &[]);
    Sender::new().send(&missing, 0, 0..3);
    place.wait_for_ids("orders", 0..3);
}

#[test]
fn a_wrong_password_is_said() {
    let mut place = Place::new("wrong-password");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("orders", &topic);
    let wrong = place.folder().join("password");
    std::fs::write(&wrong, "not-this-one\n").expect("a file");
    secure(&place, &format!("{{file: '{}'}}", wrong.display()));
    let mut node = place.node();
    // It may end with an error or go on trying; not go on without a word.
    let said = wait_for("the node to say that it was refused", SOON, || {
        let log = node.log();
        let told =
            |line: &&str| line.contains("ERROR") && line.contains("refuses the node's credentials");
        log.lines().find(told).map(str::to_owned)
    });
    println!("{said}");
    for part in ["kafka.sasl.password", "uthentication failed", "tidegate::source"] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    assert!(!node.log().contains("not-this-one"), "the password is in the log");
    std::thread::sleep(std::time::Duration::from_secs(3));
    let lines = node.log().lines().count();
    assert!(lines < 20, "{lines} lines within seconds: one cannot find anything in such a log");
    assert!(!node.log().contains("librdkafka: "), "said twice: {}", node.log());
    // The world may heal: the node goes on trying.
    assert!(node.is_running(), "{}", node.log());
    drop(node);
    // A command gives up, and says why.
    let (code, said) = place.command(&["verify"]);
    println!("{said}");
    assert_ne!(code, 0);
    assert!(said.contains("uthentication failed"), "{said}");
}

/// What is wrong with the way to the broker, and the field that mends it.
#[test]
fn each_wrong_way_to_the_broker_is_said() {
    let place = Place::new("wrong-way");
    place.plain_feed("orders", "nothing");
    let (plain, tls) = (env("TIDEGATE_TEST_KAFKA"), env("TIDEGATE_TEST_KAFKA_TLS"));
    let (ca, other) = (env("TIDEGATE_TEST_CA"), env("TIDEGATE_TEST_OTHER_CA"));
    let sasl = "sasl: {mechanism: SCRAM-SHA-512, username: u, password: {file: node.yaml}}";
    let stranger = tls.replace("localhost", "127.0.0.1");
    let cases = [
        (format!("bootstrap: '{tls}', tls: {{ca: '{other}'}}, {sasl}"), "not trusted"),
        (format!("bootstrap: '{stranger}', tls: {{ca: '{ca}'}}, {sasl}"), "not trusted"),
        (format!("bootstrap: '{plain}', tls: {{ca: '{ca}'}}"), "speaks no TLS"),
        (format!("bootstrap: '{tls}'"), "seems to want TLS"),
        (format!("bootstrap: '{tls}', tls: {{ca: '{ca}'}}"), "seems to want the node to sign in"),
        (
            format!(
                "bootstrap: '{tls}', tls: {{ca: '{ca}'}}, {}",
                sasl.replace("SCRAM-SHA-512", "PLAIN")
            ),
            "does not know the way the node signs in",
        ),
        ("bootstrap: 'nowhere.invalid:9092'".to_owned(), "name is not found"),
        ("bootstrap: '127.0.0.1:1'".to_owned(), "no broker answers"),
    ];
    for (kafka, wrong) in cases {
        place.edit_node(|text| {
            let (_, rest) = text.split_once('\n').expect("the first line is Kafka's");
            format!("kafka: {{{kafka}, group: nobody}}\n{rest}")
        });
        let mut node = place.node();
        let told = |line: &&str| line.contains(wrong) && line.contains("kafka.");
        let said = wait_for(&format!("`{wrong}` for {kafka}"), SOON, || {
            node.log().lines().find(told).map(str::to_owned)
        });
        println!("{said}");
        assert!(node.is_running(), "{}", node.log());
    }
}

#[test]
fn a_broker_without_the_consumer_protocol() {
    crate::kafka::turn_to_classic();
    let mut place = Place::new("old-broker");
    let topic = place.topic("t", 4, &[]);
    place.plain_feed("orders", &topic);
    let sender = Sender::new();
    sender.send(&topic, 0, 0..10);
    let mut node = place.node();
    node.wait_for_log("lacks the consumer protocol", SOON);
    node.wait_for_log("classic (cooperative-sticky)", SOON);
    place.wait_for_ids("orders", 0..10);
    // A second one finds the same by itself, and they share the partitions.
    let second = place.world.node("second");
    second.wait_for_log("assigned: claiming", SOON);
    node.wait_for_log("revoked: draining", SOON);
    for partition in 0..4 {
        let from = 100 * i64::from(partition + 1);
        sender.send(&topic, partition, from..from + 10);
    }
    let all = (0..10).chain((1..5).flat_map(|of| 100 * of..100 * of + 10));
    place.wait_for_ids("orders", all);
    assert!(node.is_running());
    drop(second);
    node.terminate(SOON);
    place.verify();
    // Where it is asked for expressly, nothing else will do.
    place.edit_node(|text| text.replace("protocol: auto", "protocol: consumer"));
    let mut node = place.node();
    node.wait_for_log("the consumer cannot go on", SOON);
    assert!(node.log().contains("`auto` or `classic`"), "{}", node.log());
    wait_for("the node to end", SOON, || (!node.is_running()).then_some(()));
    drop(place);
    servers("stop", "classic");
}

#[test]
fn latest_and_a_timestamp() {
    let mut place = Place::new("start");
    let topic = place.topic("t", 2, &[]);
    let sender = Sender::new();
    // 2026-01-01T00:00:00Z and an hour later.
    let new_year = 1_767_225_600_000;
    for (first, at) in [(0, new_year), (10, new_year + 3_600_000)] {
        sender.send_at(&topic, 0, first..first + 5, Some(at));
        sender.send_at(&topic, 1, first + 5..first + 10, Some(at));
    }
    let start = |start: &str| format!("topic: {topic}\nstart: {start}\n{COLUMNS}");
    place.feed("since", &start("2026-01-01T00:30:00Z"));
    place.feed("newest", &start("latest"));
    place.feed("later", &start("2026-01-01T01:30:00Z"));
    place.feed("all", &start("earliest"));
    let mut node = place.node();
    place.wait_for_ids("since", 10..20);
    place.wait_for_ids("all", 0..20);
    // Resolved and committed before any record comes.
    place.wait_for_watermarks("newest", &[10, 10]);
    place.wait_for_watermarks("later", &[10, 10]);
    node.terminate(SOON);
    // Resolved once: what came while nobody ran is not passed over by another `latest`.
    sender.send_at(&topic, 0, 20..25, Some(new_year));
    let _node = place.node();
    place.wait_for_ids("newest", 20..25);
    place.wait_for_ids("later", 20..25);
    place.wait_for_ids("since", 10..25);
    place.wait_for_ids("all", 0..25);
    place.verify();
}

#[test]
fn two_feeds_of_one_topic() {
    let mut place = Place::new("two-feeds");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("narrow", &topic);
    place.feed(
        "wide",
        &format!(
            "topic: {topic}\ncolumns:\n  - {{name: id, type: long}}\n  \
             - {{name: remark, path: note, type: string}}\nwarehouse: {{table: wide_rows}}"
        ),
    );
    let sender = Sender::new();
    sender.send(&topic, 0, 0..10);
    let mut node = place.node();
    place.wait_for_ids("narrow", 0..10);
    place.wait_for_watermarks("wide", &[10]);
    let remarks = "SELECT count(*) FROM wide_rows WHERE remark = 'record ' || id";
    assert_eq!(place.world.database.query(remarks)[0].get::<_, i64>(0), 10);
    assert_eq!(place.lake("wide").len(), 10);
    node.terminate(SOON);
    // One that comes later has progress of its own: it begins at the start, the others go on.
    place.plain_feed("third", &topic);
    sender.send(&topic, 0, 10..20);
    let _node = place.node();
    place.wait_for_ids("third", 0..20);
    place.wait_for_ids("narrow", 0..20);
    place.wait_for_watermarks("wide", &[20]);
    assert_eq!(place.world.database.query(remarks)[0].get::<_, i64>(0), 20);
    place.verify();
}

#[test]
fn columns_inferred_once() {
    let mut place = Place::new("inferred");
    let topic = place.topic("t", 2, &[]);
    place.feed("orders", &format!("topic: {topic}"));
    let sender = Sender::new();
    let mut node = place.node();
    // Nothing to infer from: it says so and waits.
    node.wait_for_log("infer columns from", SOON);
    sender.send(&topic, 0, 0..10);
    place.wait_for_ids("orders", 0..10);
    let columns = "SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position)
        FROM information_schema.columns WHERE table_name = 'orders' AND left(column_name, 1) <> '_'";
    let inferred: String = place.world.database.query(columns)[0].get(0);
    println!("{inferred}");
    for column in ["id bigint", "note text", "half "] {
        assert!(inferred.contains(column), "{inferred} lacks {column}");
    }
    node.terminate(SOON);
    // Another start keeps them, whatever the first records are by then.
    kafka_forgets(&topic);
    let odd = rdkafka::producer::BaseRecord::to(&topic)
        .partition(0)
        .key("odd")
        .payload(r#"{"id":"eleven","other":true}"#);
    sender.0.send(odd).expect("sent");
    sender.send(&topic, 1, 10..15);
    let node = place.node();
    place.wait_for_ids("orders", 0..15);
    assert_eq!(place.world.database.query(columns)[0].get::<_, String>(0), inferred);
    assert!(!node.log().contains("columns inferred"), "they were inferred again");
    place.wait_for_watermarks("orders", &[11, 5]);
    let bad = "SELECT count(*) FROM tidegate.quarantine WHERE record_offset = 10 AND partition = 0";
    assert_eq!(place.world.database.query(bad)[0].get::<_, i64>(0), 1, "no number: quarantined");
    place.verify();
}

/// The records that the columns were inferred from are gone.
fn kafka_forgets(topic: &str) {
    crate::source_gap::delete_records(topic, 0, 10);
}
