//! What goes in comes out of both sinks with the same meaning, or is in quarantine: documents of every
//! shape, and values at the edge of their types.

use std::collections::BTreeMap;
use std::process::Command;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::{Map, Value, json};

use crate::servers::env;
use crate::source_place::{Place, SOON, Sender};

/// By offset.
pub type Rows = BTreeMap<i64, Value>;

fn send(topic: &str, values: &[String]) {
    let sender = Sender::new();
    for value in values {
        let record: BaseRecord<'_, (), str> = BaseRecord::to(topic).partition(0).payload(value);
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("producing: {error}"));
    }
    sender.0.flush(SOON).expect("the broker takes the records");
}

pub fn lake_rows(place: &Place, feed: &str, format: &str, json: &[&str]) -> Rows {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/documents.py");
    let asked = json!({"table": place.lake_table(feed), "format": format, "json": json});
    let mut python = Command::new(env("TIDEGATE_TEST_PYTHON"));
    let out = python.arg(script).arg(asked.to_string()).output().expect("Python starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let rows: Map<String, Value> = serde_json::from_slice(&out.stdout).expect("JSON");
    rows.into_iter().map(|(offset, row)| (offset.parse().expect("an offset"), row)).collect()
}

pub fn warehouse_rows(place: &Place, feed: &str) -> Rows {
    let rows = format!("SELECT _offset, to_jsonb(t)::text FROM \"{feed}\" t");
    let rows = place.world.database.query(&rows);
    let row =
        |row: &tokio_postgres::Row| (row.get(0), serde_json::from_str(row.get(1)).expect("JSON"));
    rows.iter().map(row).collect()
}

/// The offsets in the warehouse's quarantine, which has what either sink refuses, with the sink that
/// refused it alone.
pub fn quarantined(place: &Place, feed: &str) -> BTreeMap<i64, Option<String>> {
    let sql = format!("SELECT record_offset, sink FROM tidegate.quarantine WHERE feed = '{feed}'");
    place.world.database.query(&sql).iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Whether two values mean the same: a field that is null is as good as none.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let mut names = a.keys().chain(b.keys());
            let of = |map: &Map<String, Value>, name| map.get(name).cloned().unwrap_or(Value::Null);
            names.all(|name| same(&of(a, name), &of(b, name)))
        }
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// Any JSON value, to some depth.
fn any_json(random: &mut StdRng, depth: usize) -> Value {
    match random.random_range(0..if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => random.random::<bool>().into(),
        2 => random.random::<i64>().into(),
        3 => (f64::from(random.random::<i32>()) / 64.0).into(),
        4 => (0..random.random_range(0..6))
            .map(|_| random.random::<char>())
            .collect::<String>()
            .into(),
        5 => ["", "é", "\u{0}", "\"\\\n", "2025-10-13T16:38:28Z", "null"]
            [random.random_range(0..6)]
        .into(),
        6 => (0..random.random_range(0..4)).map(|_| any_json(random, depth - 1)).collect(),
        _ => {
            let names = ["a", "B", "é", "", "a b", "\u{0}x"];
            let member = |random: &mut StdRng| {
                let name = names[random.random_range(0..names.len())];
                (name.to_owned(), any_json(random, depth - 1))
            };
            Value::Object((0..random.random_range(0..4)).map(|_| member(random)).collect())
        }
    }
}

/// A record whose nested fields keep to types, more or less.
fn record(random: &mut StdRng, id: i64) -> Value {
    let mut one = |share: f64, good: Value, other: Value| {
        if random.random_bool(share) { good } else { other }
    };
    let order = json!({
        "id": one(0.95, id.into(), Value::Null),
        "total": one(0.9, 0.5.into(), 7.into()),
        "lines": one(0.9, json!([{"sku": "x", "n": id}, {"sku": null}]), json!([])),
    });
    let order = one(0.9, order, Value::Null);
    let tags = one(0.97, json!(["a", null]), json!([1]));
    json!({"id": id, "order": order, "tags": tags, "doc": any_json(random, 3)})
}

#[test]
fn any_document_comes_out_as_it_went_in() {
    let mut place = Place::new("documents");
    let mut random = StdRng::seed_from_u64(20_251_013);
    let records: Vec<Value> = (0..600).map(|id| record(&mut random, id)).collect();
    let texts: Vec<String> = records.iter().map(Value::to_string).collect();
    let columns = "columns: [{name: id, type: long}, {name: order, type: \
                   'struct<id:long,total:double,lines:array<struct<sku:string,n:long>>>'}, \
                   {name: tags, type: array<string>}, {name: doc, type: json}]";
    let formats = ["delta", "parquet", "jsonl"];
    for format in formats {
        let topic = place.topic(format, 1, &[]);
        send(&topic, &texts);
        let lake = format!("lake: {{linger: 200ms, format: {format}}}");
        place.feed(format, &format!("topic: {topic}\n{columns}\n{lake}"));
    }
    let topic = place.topic("inferred", 1, &[]);
    send(&topic, &texts);
    place.feed(
        "inferred",
        &format!("topic: {topic}\nnested: keep\nquarantine: {{park_above: 0.9}}"),
    );
    let mut node = place.node();
    for feed in [&formats[..], &["inferred"]].concat() {
        place.wait_for_watermarks(feed, &[600]);
    }
    assert!(node.terminate(SOON).0.success());
    place.verify();
    for feed in [&formats[..], &["inferred"]].concat() {
        let format = if feed == "inferred" { "delta" } else { feed };
        let json: &[&str] = if feed == "inferred" { &[] } else { &["doc"] };
        let (lake, warehouse) =
            (lake_rows(&place, feed, format, json), warehouse_rows(&place, feed));
        let quarantined = quarantined(&place, feed);
        let mut taken = 0;
        for (offset, record) in (0..).zip(&records) {
            let refused = quarantined.get(&offset);
            // Decoded by none; or refused by the warehouse alone, and in the lake.
            let in_lake = !matches!(refused, Some(None));
            assert_eq!(lake.contains_key(&offset), in_lake, "{feed} {offset}: {record}");
            assert_eq!(warehouse.contains_key(&offset), refused.is_none(), "{feed} {offset}");
            // What inference has no one type for is JSON as text in the lake.
            let columns = ["id", "order", "tags", "doc"];
            let columns = if feed == "inferred" { &columns[..2] } else { &columns[..] };
            for (sink, row) in [("lake", lake.get(&offset)), ("warehouse", warehouse.get(&offset))]
            {
                let Some(row) = row else { continue };
                taken += 1;
                for column in columns {
                    let (sent, found) = (&record[column], &row[column]);
                    assert!(
                        same(sent, found),
                        "{feed} {sink} {offset} {column}: {sent} is {found}"
                    );
                }
            }
        }
        // Only what does not fit is refused: tags of another type, and what holds a NUL.
        assert!(taken > 900 && quarantined.len() > 10, "{feed}: {taken} {}", quarantined.len());
    }
}

/// Values at the edge of their types, as both sinks hold them.
#[test]
fn the_edges_of_types() {
    let mut place = Place::new("edges");
    let topic = place.topic("edges", 1, &[]);
    let long = "é".repeat(400_000);
    let good = [
        format!(r#"{{"d":99999999999999999999999999999999999999,"m":"0.10","n":1e400,"f":-0.0,"s":"{long}"}}"#),
        r#"{"d":-99999999999999999999999999999999999999,"m":-1.005e1,"n":-0.1234567890123456789012345678901234567890,"f":1e308,"t":"9999-12-31T23:59:59.999999Z"}"#.to_owned(),
        r#"{"t":"0001-01-01T00:00:00Z","f":5e-324,"n":0,"s":""}"#.to_owned(),
    ];
    let bad = [
        (r#"{"d":100000000000000000000000000000000000000}"#, "out_of_range"),
        (r#"{"m":0.001}"#, "out_of_range"),
        (r#"{"f":1e309}"#, "out_of_range"),
        (r#"{"f":NaN}"#, "malformed"),
        (r#"{"t":"infinity"}"#, "wrong_type"),
        (r#"{"t":"10000-01-01T00:00:00Z"}"#, "wrong_type"),
        (r#"{"t":"2025-02-30T00:00:00Z"}"#, "out_of_range"),
        (r#"{"n":1,"n":1}"#, "duplicate_field"),
    ];
    let nul = r#"{"s":"a\u0000b"}"#;
    let texts: Vec<String> =
        good.iter().cloned().chain(bad.map(|(text, _)| text.to_owned())).collect();
    send(&topic, &[texts, vec![nul.to_owned()]].concat());
    place.feed(
        "edges",
        &format!(
            "topic: {topic}\ncolumns: [{{name: d, type: 'decimal(38,0)'}}, {{name: m, type: \
             'decimal(10,2)'}}, {{name: n, type: number}}, {{name: f, type: double}}, \
             {{name: t, type: timestamp}}, {{name: s, type: string}}]"
        ),
    );
    let mut node = place.node();
    place.wait_for_watermarks("edges", &[12]);
    assert!(node.terminate(SOON).0.success());
    place.verify();

    let lake = lake_rows(&place, "edges", "delta", &[]);
    assert_eq!(lake.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 11]);
    let nines = "9".repeat(38);
    assert_eq!((&lake[&0]["d"], &lake[&1]["d"]), (&json!(nines), &json!(format!("-{nines}"))));
    assert_eq!((&lake[&0]["m"], &lake[&1]["m"]), (&json!("0.10"), &json!("-10.05")));
    assert_eq!((&lake[&0]["n"], &lake[&0]["s"]), (&json!("1e400"), &json!(long)));
    assert_eq!(lake[&1]["n"], "-0.1234567890123456789012345678901234567890");
    assert!(lake[&0]["f"].as_f64().is_some_and(|zero| zero == 0.0 && zero.is_sign_negative()));
    assert_eq!(lake[&2]["f"].as_f64(), Some(5e-324));
    assert_eq!(lake[&1]["t"], "9999-12-31T23:59:59.999999+00:00");
    assert_eq!(lake[&11]["s"], "a\u{0}b");

    let sql = "SELECT _offset, d::text, m::text, n = 1e400, n::text, f::text, t::text, length(s) \
               FROM edges ORDER BY _offset";
    let rows = place.world.database.query(sql);
    let text = |row: usize, column: usize| rows[row].get::<_, Option<String>>(column);
    assert_eq!(rows.len(), 3, "PostgreSQL holds no NUL");
    assert_eq!((text(0, 1), text(1, 1)), (Some(nines.clone()), Some(format!("-{nines}"))));
    assert_eq!((text(0, 2).as_deref(), text(1, 2).as_deref()), (Some("0.10"), Some("-10.05")));
    assert_eq!(rows[0].get::<_, Option<bool>>(3), Some(true));
    assert_eq!(text(1, 4).as_deref(), Some("-0.1234567890123456789012345678901234567890"));
    assert_eq!((text(0, 5).as_deref(), text(2, 5).as_deref()), (Some("-0"), Some("5e-324")));
    assert_eq!(text(2, 6).as_deref(), Some("0001-01-01 00:00:00+00"));
    assert_eq!(rows[0].get::<_, Option<i32>>(7), Some(400_000));
    let quarantined = quarantined(&place, "edges");
    let sql = "SELECT record_offset, class FROM tidegate.quarantine WHERE feed = 'edges' AND sink IS NULL \
               ORDER BY 1";
    let classes: Vec<String> =
        place.world.database.query(sql).iter().map(|row| row.get(1)).collect();
    assert_eq!(classes, bad.map(|(_, class)| class));
    assert_eq!(quarantined[&11].as_deref(), Some("warehouse"));
}
