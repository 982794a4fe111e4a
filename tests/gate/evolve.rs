//! Records get new fields, and both sinks new columns, while the nodes run.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::{Value, json};

use crate::check::python;
use crate::documents::{lake_rows, quarantined, warehouse_rows};
use crate::servers::wait_for;
use crate::source_place::{Place, SOON, Sender};

fn send(topic: &str, partition: i32, records: impl IntoIterator<Item = Value>) {
    let sender = Sender::new();
    for record in records {
        let text = record.to_string();
        let record: BaseRecord<'_, (), str> =
            BaseRecord::to(topic).partition(partition).payload(&text);
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("producing: {error}"));
    }
    sender.0.flush(SOON).expect("the broker takes the records");
}

fn columns(place: &Place, table: &str) -> BTreeMap<String, String> {
    let sql = format!(
        "SELECT column_name::text, data_type::text FROM information_schema.columns \
         WHERE table_name = '{table}' AND column_name NOT LIKE '\\_%'"
    );
    place.world.database.query(&sql).iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn new_fields_become_columns_in_every_format() {
    let mut place = Place::new("evolve");
    let formats = ["delta", "parquet", "jsonl"];
    let topics = formats.map(|format| place.topic(format, 1, &[]));
    for (format, topic) in formats.iter().zip(&topics) {
        place.feed(
            format,
            &format!("topic: {topic}\nrest: true\nlake: {{linger: 200ms, format: {format}}}"),
        );
        send(topic, 0, (0..50).map(|id| json!({"id": id, "at": {"city": "Perth"}})));
    }
    let node = place.node();
    for format in formats {
        place.wait_for_watermarks(format, &[50]);
    }
    let second = (50..100).map(|id| {
        json!({"id": id, "at": {"city": "Perth", "zip": format!("{id}")}, "total": 0.5,
               "null": null, "a.b": id, "ID": true})
    });
    let second: Vec<Value> = second.collect();
    for topic in &topics {
        send(topic, 0, second.clone());
        // A type that its column does not hold concerns its own records alone.
        send(
            topic,
            0,
            [json!({"id": "x"}), json!({"id": 101, "total": "none"}), json!({"id": 102})],
        );
    }
    for format in formats {
        place.wait_for_watermarks(format, &[103]);
        let found = columns(&place, format);
        let found: Vec<_> = found.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        let expected =
            ["at_city text", "at_zip text", "id bigint", "id_2 boolean", "total double precision"];
        assert_eq!(found, expected, "{format}");
        let refused = quarantined(&place, format);
        assert_eq!(refused.keys().copied().collect::<Vec<_>>(), [100, 101], "{format}");
        let warehouse = warehouse_rows(&place, format);
        // A plain folder is read file by file: nobody gave its files one schema.
        let lake = lake_rows(&place, format, format, &["_rest"]);
        for rows in [&warehouse, &lake] {
            assert_eq!(rows.len(), 101, "{format}");
            let absent = |row: &Value, name: &str| row.get(name).is_none_or(Value::is_null);
            assert!(absent(&rows[&0], "total") && absent(&rows[&0], "at_zip"), "{format}");
            assert_eq!(rows[&50]["at_zip"], "50");
            assert_eq!(rows[&99]["total"], 0.5);
            assert_eq!(
                (&rows[&99]["id_2"], &rows[&99]["_rest"]),
                (&json!(true), &json!({"a.b": 99, "null": null}))
            );
            assert_eq!(rows[&102]["id"], 102);
        }
        let files = crate::lake::files(&place.lake_table(format)).len();
        assert!(files < 20, "{files} files of {format} for 103 records");
    }
    place.verify();
    assert!(!node.log().contains("parked"));
    // Whoever comes later knows the columns from the beginning.
    drop(node);
    let late = place.node();
    send(&topics[0], 0, [json!({"id": 103, "total": 1.5})]);
    place.wait_for_watermarks("delta", &[104]);
    assert_eq!(warehouse_rows(&place, "delta")[&103]["total"], 1.5);
    assert!(!late.log().contains("what no column takes"), "{}", late.log());
}

/// Two nodes find different fields, and the same, at once; one of them dies on the way.
#[test]
fn nodes_evolve_one_feed_at_once() {
    let mut place = Place::new("evolve-two");
    let topic = place.topic("events", 8, &[]);
    place.feed("events", &format!("topic: {topic}"));
    for partition in 0..8 {
        send(&topic, partition, (0..20).map(|id| json!({"id": id})));
    }
    let broken = place.world.broken_node("broken", "catalog.extended=exit");
    broken.wait_for_log("assigned: claiming", SOON);
    let steady = place.world.node("steady");
    place.wait_for_watermarks("events", &[20; 8]);
    for round in 0..3 {
        for partition in 0..8 {
            let record = |id: i64| {
                let mut record = json!({"id": id, format!("all_{round}"): id});
                record[format!("p{partition}_{round}")] = json!(partition);
                record
            };
            send(&topic, partition, (0..20).map(|n| record(20 + round * 20 + n)));
        }
        place.wait_for_watermarks("events", &[40 + round * 20; 8]);
    }
    let found = columns(&place, "events");
    // The id, and in each round one of all partitions and one of each.
    assert_eq!(found.len(), 1 + 3 * 9, "{found:?}");
    let sql = "SELECT count(*), count(*) FILTER (WHERE p3_1 = 3), count(*) FILTER (WHERE all_2 = id), \
               count(DISTINCT (_partition, _offset)) FROM events";
    let row = &place.world.database.query(sql)[0];
    let counts: Vec<i64> = (0..4).map(|column| row.get(column)).collect();
    assert_eq!(counts, [640, 20, 160, 640]);
    wait_for("the broken node to end", Duration::from_secs(5), || {
        broken.log().contains("breaking on purpose").then_some(())
    });
    assert!(!steady.log().contains("parked"), "{}", steady.log());
    place.verify();
}

/// Fields that can have no column stop nothing: too many of them, names that a layout or a flattened
/// struct has for itself, and names that a declared column took since.
#[test]
fn fields_that_can_have_no_column_stop_nothing() {
    let mut place = Place::new("evolve-not");
    let feeds = ["many", "dated", "flat"];
    let topics = feeds.map(|feed| place.topic(feed, 1, &[]));
    let [many, dated, flat] = &topics;
    place.feed("many", &format!("topic: {many}\nrest: true"));
    let layout = "streams/{feed}/dt={date}/x";
    place.feed(
        "dated",
        &format!("topic: {dated}\nrest: true\nlake: {{linger: 200ms, layout: '{layout}'}}"),
    );
    let nested = "nested: keep\nwarehouse: {nested: columns}";
    place.feed("flat", &format!("topic: {flat}\nrest: true\n{nested}"));
    topics.iter().for_each(|topic| send(topic, 0, [json!({"id": 0, "q_c": 1})]));
    let node = place.node();
    for feed in feeds {
        place.wait_for_watermarks(feed, &[1]);
    }
    let mut wide = json!({"id": 1, "zz": {"p": 1}});
    for n in 0..250 {
        wide[format!("k{n:03}")] = json!(n);
    }
    send(many, 0, [wide, json!({"id": 2, "zz": {"p": 2}, "q_c": 2})]);
    send(dated, 0, [json!({"id": 1, "dt": "x", "year": 5}), json!({"id": 2, "dt": "y"})]);
    send(flat, 0, [json!({"id": 1, "q": {"c": 2}}), json!({"id": 2, "q": {"c": 3}})]);
    for feed in feeds {
        place.wait_for_watermarks(feed, &[3]);
    }
    assert_eq!(columns(&place, "many").len(), 2 + 200);
    let rows = warehouse_rows(&place, "many");
    assert_eq!((&rows[&1]["k000"], &rows[&1]["_rest"]["k249"]), (&json!(0), &json!(249)));
    assert_eq!(
        rows[&2]["_rest"]["zz.p"].as_i64().or(rows[&2]["_rest"]["zz"]["p"].as_i64()),
        Some(2)
    );
    let rows = warehouse_rows(&place, "dated");
    assert_eq!((&rows[&1]["_rest"]["dt"], &rows[&1]["year_2"]), (&json!("x"), &json!(5)));
    let rows = warehouse_rows(&place, "flat");
    assert_eq!(rows[&2]["_rest"]["q"], json!({"c": 3}));
    place.verify();
    assert!(!node.log().contains("parked"), "{}", node.log());
}

/// Values that a column's type does not hold get it a wider one, where what is there can have it; where it
/// cannot, they alone are in quarantine. Two nodes find them at once.
#[test]
fn values_of_a_wider_type_widen_their_column() {
    let mut place = Place::new("evolve-wider");
    let lakes = [("none", "lake: null"), ("jsonl", ""), ("delta", ""), ("parquet", "")];
    let mut topics = Vec::new();
    for (feed, lake) in lakes {
        let topic = place.topic(feed, 4, &[]);
        let own = format!("lake: {{linger: 200ms, format: {feed}}}");
        let lake = if lake.is_empty() { &own } else { lake };
        place.feed(feed, &format!("topic: {topic}\n{lake}"));
        for partition in 0..4 {
            let record = |n| json!({"n": n, "big": n, "tiny": n, "same": n});
            send(&topic, partition, (0..10).map(record));
        }
        topics.push(topic);
    }
    let wait = |place: &Place, feed: &str, ends: &[i64]| match feed {
        "none" => {
            let wanted: BTreeMap<i32, i64> = (0..).zip(ends.iter().copied()).collect();
            let arrived = || (place.watermarks(feed).0 == wanted).then_some(());
            wait_for("the warehouse's watermarks", SOON, arrived);
        }
        _ => place.wait_for_watermarks(feed, ends),
    };
    let nodes = [place.world.node("one"), place.world.node("two")];
    for (feed, _) in lakes {
        wait(&place, feed, &[10; 4]);
    }
    // One node meets some of them first, and the other the same ones later.
    for partitions in [0..2, 2..4] {
        for topic in &topics {
            for partition in partitions.clone() {
                send(
                    topic,
                    partition,
                    [
                        json!({"n": 0.5, "same": 1}),
                        json!({"n": 1e3}),
                        json!({"big": 9_223_372_036_854_775_808_u64}),
                        json!({"tiny": 1e-30}),
                        json!({"same": "text"}),
                        json!({"n": 7, "big": i64::MAX, "tiny": 7, "same": 7}),
                    ],
                );
            }
        }
        for (feed, _) in lakes {
            let ends = [16, 16, if partitions.end == 4 { 16 } else { 10 }];
            wait(&place, feed, &[ends[0], ends[1], ends[2], ends[2]]);
        }
    }
    for (feed, _) in lakes {
        wait(&place, feed, &[16; 4]);
        let widens = ["none", "jsonl"].contains(&feed);
        let wide = if widens { "numeric" } else { "bigint" };
        let found = columns(&place, feed);
        let found: Vec<_> = found.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        let expected = [
            format!("big {wide}"),
            format!("n {wide}"),
            "same bigint".to_owned(),
            "tiny bigint".to_owned(),
        ];
        assert_eq!(found, expected, "{feed}");
        let sql = format!(
            "SELECT count(*), trim_scale(sum(n))::text, trim_scale(sum(big))::text FROM {feed}"
        );
        let row = &place.world.database.query(&sql)[0];
        let found: (i64, String, String) = (row.get(0), row.get(1), row.get(2));
        let max = i128::from(i64::MAX);
        let expected = match widens {
            true => (4 * 14, 4 * 52 + 4002, 4 * (45 + max + max + 1)),
            false => (4 * 11, 4 * 52, 4 * (45 + max)),
        };
        assert_eq!(found, (expected.0, expected.1.to_string(), expected.2.to_string()), "{feed}");
        let sql = format!("SELECT count(*) FROM tidegate.quarantine WHERE feed = '{feed}'");
        let refused: i64 = place.world.database.query(&sql)[0].get(0);
        assert_eq!(refused, 4 * if widens { 2 } else { 5 }, "{feed}");
    }
    place.verify();
    for node in &nodes {
        assert!(!node.log().contains("parked"), "{}", node.log());
    }
    // Whoever comes later knows the types from the beginning, and the lake's rows can be read by them.
    drop(nodes);
    let late = place.node();
    send(&topics[1], 0, [json!({"n": 2.5})]);
    place.wait_for_watermarks("jsonl", &[17, 16, 16, 16]);
    assert!(!late.log().contains("what no column takes"), "{}", late.log());
    place.verify();
}

const FORMATS: [&str; 3] = ["delta", "parquet", "jsonl"];
const PARTITIONS: i32 = 4;
/// Records of each partition and round, and rounds; each round has a field that was never seen.
const RECORDS: usize = 400;
const ROUNDS: usize = 6;

/// A round of events, and of changes to fifty rows of each partition, some of them deleted.
fn send_round(events: &str, rows: &str, round: usize, last: &mut BTreeMap<String, i64>) {
    let sender = Sender::new();
    let produce = |topic: &str, partition, key: Option<&str>, value: Option<&str>| {
        let mut record = BaseRecord::<str, str>::to(topic).partition(partition);
        (record.key, record.payload) = (key, value);
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("producing: {error}"));
    };
    for partition in 0..PARTITIONS {
        for n in 0..RECORDS {
            let number = (round * RECORDS + n) as i64;
            let value = json!({"number": number, format!("r{round}"): n}).to_string();
            produce(events, partition, None, Some(&value));
            let key = format!("p{partition}-{}", n % 50);
            let kept = n % 17 != 0;
            produce(rows, partition, Some(&key), kept.then_some(&*value));
            match kept {
                true => drop(last.insert(key, number)),
                false => drop(last.remove(&key)),
            }
        }
    }
    sender.0.flush(SOON).expect("the broker takes the records");
}

/// New fields appear, of a stream and of a keyed feed, in every format, while nodes are killed.
#[test]
fn nodes_die_while_feeds_evolve() {
    let mut place = Place::new("evolve-killed");
    let [events, rows] = ["events", "rows"].map(|short| place.topic(short, PARTITIONS, &[]));
    let mut feeds = Vec::new();
    for format in FORMATS {
        let lake = format!("lake: {{linger: 200ms, format: {format}}}");
        place.feed(&format!("events_{format}"), &format!("topic: {events}\n{lake}"));
        let key = "key: {format: string, columns: [{name: id, type: string}]}";
        let text = format!("feed: rows_{format}\ntype: table\ntopic: {rows}\n{key}\n{lake}\n");
        let file = place.folder().join(format!("feeds/rows_{format}.yaml"));
        std::fs::write(file, text).expect("a feed file");
        feeds.extend([format!("events_{format}"), format!("rows_{format}")]);
    }
    let mut last = BTreeMap::new();
    send_round(&events, &rows, 0, &mut last);
    let steady = place.world.node("steady");
    let mut random = rand::rng();
    for round in 1..ROUNDS {
        let mut victim = place.world.node("victim");
        victim.wait_for_log("assigned: claiming", SOON);
        send_round(&events, &rows, round, &mut last);
        // Not for anything to happen: the moment must be a random one.
        let lived = Duration::from_millis(random.random_range(0..1500));
        std::thread::sleep(lived);
        victim.kill();
        println!("round {round}: ended {lived:?} after its records");
    }
    let end = (ROUNDS * RECORDS) as i64;
    for feed in &feeds {
        place.wait_for_watermarks(feed, &[end; PARTITIONS as usize]);
    }
    let total = end * i64::from(PARTITIONS);
    let of_round = total / ROUNDS as i64;
    let fields: Vec<String> = (0..ROUNDS).map(|round| format!("r{round}")).collect();
    let counts: String = fields.iter().map(|field| format!(", count({field})")).collect();
    for format in FORMATS {
        let sql = format!(
            "SELECT count(*), count(DISTINCT (_partition, _offset)){counts} FROM events_{format}"
        );
        let row = &place.world.database.query(&sql)[0];
        let found: Vec<i64> = (0..2 + ROUNDS).map(|column| row.get(column)).collect();
        let expected = [vec![total; 2], vec![of_round; ROUNDS]].concat();
        assert_eq!(found, expected, "{format}");
        let kept = place.world.database.query(&format!("SELECT id, number FROM rows_{format}"));
        let kept: BTreeMap<String, i64> = kept.iter().map(|row| (row.get(0), row.get(1))).collect();
        assert_eq!(kept, last, "{format}");
        for (feed, kind) in [("events", "stream"), ("rows", "table")] {
            let table = place.lake_table(&format!("{feed}_{format}"));
            let asked = json!({"table": table, "format": format, "kind": kind, "fields": fields});
            let found = python("evolved.py", &asked);
            assert_eq!(
                (&found["rows"], &found["distinct"]),
                (&json!(total), &json!(total)),
                "{found}"
            );
            if kind == "stream" {
                assert_eq!(found["fields"], json!(vec![of_round; ROUNDS]), "{format}");
            } else {
                assert_eq!(found["last"], json!(last), "{format}");
            }
        }
    }
    place.verify();
    assert!(!steady.log().contains("parked"), "{}", steady.log());
}
