//! Records get new fields, and both sinks new columns, while the nodes run.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer};
use serde_json::{Value, json};

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
    assert!(!late.log().contains("fields that no column takes"), "{}", late.log());
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
