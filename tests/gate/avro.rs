//! Avro keys and values against a real schema registry: schemas that change under way, ids that no
//! registry knows, and a registry that is away.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apache_avro::types::Value as Avro;
use apache_avro::{Decimal, Schema, to_avro_datum};
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::{Value, json};

use crate::documents::{lake_rows, quarantined, warehouse_rows};
use crate::formats::feed;
use crate::servers::{env, servers, wait_for};
use crate::source_place::{Place, SOON, Sender};

/// The real registry, with a door before it that can be shut.
struct Registry {
    address: String,
    path: String,
    door: Door,
}

impl Registry {
    /// Within a proof's turn: it is made when it is first started.
    fn start() -> Self {
        servers("start", "registry");
        let file = format!("{}/registry/url", env("TIDEGATE_TEST_DIR"));
        let url = std::fs::read_to_string(file).expect("the registry's address");
        let url = url.trim().strip_prefix("http://").expect("an address");
        let (address, path) = url.split_once('/').expect("a path");
        let (address, path) = (address.to_owned(), format!("/{path}"));
        Self { door: Door::before(address.clone()), address, path }
    }

    /// The line of a node file by which it is reached through the door.
    fn node_line(&self) -> String {
        format!("schema_registry: {{url: 'http://{}{}'}}\n", self.door.address, self.path)
    }

    /// Registers a schema as the next version of a subject; answers its id.
    fn register(&self, subject: &str, schema: &str, references: &Value) -> u32 {
        let body = json!({"schema": schema, "references": references}).to_string();
        let mut client = TcpStream::connect(&self.address).expect("the registry is there");
        let request = format!(
            "POST {}/subjects/{subject}/versions HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             content-type: application/vnd.schemaregistry.v1+json\r\ncontent-length: {}\r\n\r\n{body}",
            self.path,
            self.address,
            body.len(),
        );
        client.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
        body["id"].as_u64().unwrap_or_else(|| panic!("{answer}")) as u32
    }
}

/// Forwards connections; shut, it ends them at once, and those that are open.
struct Door {
    address: String,
    open: Arc<AtomicBool>,
    clients: Arc<Mutex<Vec<TcpStream>>>,
}

impl Door {
    fn before(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port").to_string();
        let open = Arc::new(AtomicBool::new(true));
        let clients: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (is_open, known) = (open.clone(), clients.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !is_open.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                let both = [&client, &server].map(|of| of.try_clone().expect("a socket"));
                known.lock().expect("no panic").extend(both);
                for (mut from, mut to) in [
                    (client.try_clone().expect("a socket"), server.try_clone().expect("a socket")),
                    (server, client),
                ] {
                    std::thread::spawn(move || {
                        drop(std::io::copy(&mut from, &mut to));
                        drop(to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Self { address, open, clients }
    }

    fn shut(&self) {
        self.open.store(false, Ordering::SeqCst);
        for client in self.clients.lock().expect("no panic").drain(..) {
            drop(client.shutdown(Shutdown::Both));
        }
    }

    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

/// A schema with its id.
struct Writer {
    id: u32,
    schema: Schema,
}

impl Writer {
    fn new(registry: &Registry, subject: &str, schema: &str) -> Self {
        let id = registry.register(subject, schema, &json!([]));
        Self { id, schema: Schema::parse_str(schema).expect("a schema") }
    }

    fn frame(&self, value: Avro) -> Vec<u8> {
        framed(self.id, &to_avro_datum(&self.schema, value).expect("a value of the schema"))
    }
}

fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], datum].concat()
}

fn record(fields: &[(&str, Avro)]) -> Avro {
    Avro::Record(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn some(value: Avro) -> Avro {
    Avro::Union(1, Box::new(value))
}

fn none() -> Avro {
    Avro::Union(0, Box::new(Avro::Null))
}

/// So many hundredths.
fn hundredths(number: i16) -> Avro {
    Avro::Decimal(Decimal::from(number.to_be_bytes().to_vec()))
}

/// A key and a value.
type Sent = (Option<Vec<u8>>, Option<Vec<u8>>);

fn send(topic: &str, partition: i32, records: &[Sent]) {
    let sender = Sender::new();
    for (key, value) in records {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
        record.key = key.as_deref();
        record.payload = value.as_deref();
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("producing: {error}"));
    }
    sender.0.flush(SOON).expect("the broker takes the records");
}

fn columns(place: &Place, table: &str) -> BTreeMap<String, String> {
    let sql = format!(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
         WHERE attrelid = '\"{table}\"'::regclass AND attnum > 0 AND attname NOT LIKE '\\_%'"
    );
    place.world.database.query(&sql).iter().map(|row| (row.get(0), row.get(1))).collect()
}

const ORDER: &str = r#"{"type":"record","name":"order","namespace":"shop","fields":[
    {"name":"total","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"due","type":{"type":"int","logicalType":"date"}},
    {"name":"status","type":{"type":"enum","name":"status","symbols":["OPEN","PAID"]}},
    {"name":"place","type":["null",{"type":"record","name":"place","fields":[
        {"name":"city","type":"string"},{"name":"next","type":["null","place"]}]}]},
    {"name":"tags","type":{"type":"array","items":"string"}}@MORE@]}"#;

const DISCOUNT: &str = r#",{"name":"discount","default":null,
    "type":["null",{"type":"bytes","logicalType":"decimal","precision":5,"scale":2}]}"#;

/// 2025-10-13T16:38:28.047Z.
const AT: i64 = 1_760_373_508_047;

fn order(n: i16) -> Vec<(&'static str, Avro)> {
    let city = record(&[("city", Avro::String(format!("é {n}"))), ("next", none())]);
    vec![
        ("total", hundredths(n)),
        ("at", Avro::TimestampMillis(AT)),
        ("due", Avro::Date(20_374)),
        ("status", Avro::Enum(1, "PAID".to_owned())),
        ("place", if n % 2 == 0 { some(city) } else { none() }),
        ("tags", Avro::Array(vec![Avro::String("a".to_owned())])),
    ]
}

/// A table as ksqlDB writes it: columns inferred, a new field under way, and what cannot be read.
#[test]
fn avro_keys_and_values() {
    let mut place = Place::new("avro");
    let registry = Registry::start();
    place.edit_node(|text| text.to_owned() + &registry.node_line());
    let topic = place.topic("orders", 1, &[]);
    let key = Writer::new(&registry, &format!("{topic}-key"), "\"long\"");
    let value = format!("{topic}-value");
    let first = Writer::new(&registry, &value, &ORDER.replace("@MORE@", ""));
    feed(
        &place,
        "orders",
        &format!(
            "type: table\ntopic: {topic}\nformat: avro\n\
             key: {{format: avro, columns: [{{name: id, type: long}}]}}\ntime: at"
        ),
    );
    let row = |writer: &Writer, id: i64, fields: &[(&str, Avro)]| {
        (Some(key.frame(Avro::Long(id))), Some(writer.frame(record(fields))))
    };
    let mut records: Vec<_> = (0..50).map(|n| row(&first, i64::from(n), &order(n))).collect();
    records.push(row(&first, 0, &order(-123)));
    records.push((Some(key.frame(Avro::Long(1))), None));
    send(&topic, 0, &records);
    let (code, draft) = place.command(&["feeds", "infer", &topic, "--type", "table"]);
    assert_eq!(code, 0, "{draft}");
    for line in ["format: avro", "{name: key, type: long}", "{name: total, type: \"decimal(9,2)\"}"]
    {
        assert!(draft.contains(line), "{line} in\n{draft}");
    }
    let node = place.node();
    place.wait_for_watermarks("orders", &[52]);

    let second = Writer::new(&registry, &value, &ORDER.replace("@MORE@", DISCOUNT));
    assert!(second.id > first.id);
    let discounted = |n: i16| [order(n), vec![("discount", some(hundredths(5)))]].concat();
    let whole = second.frame(record(&discounted(7)));
    let in_key = |bytes: Vec<u8>| (Some(key.frame(Avro::Long(90))), Some(bytes));
    send(
        &topic,
        0,
        &[
            row(&second, 50, &discounted(50)),
            in_key(framed(4_000_000, &whole[5..])),
            in_key(whole[..whole.len() - 1].to_vec()),
            in_key(b"{\"total\":1}".to_vec()),
            (Some(b"key".to_vec()), Some(whole.clone())),
            row(&first, 2, &order(222)),
        ],
    );
    place.wait_for_watermarks("orders", &[58]);
    let found = columns(&place, "orders");
    let found: Vec<_> = found.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    let expected = [
        "at timestamp with time zone",
        "discount numeric(5,2)",
        "due date",
        "id bigint",
        "place_city text",
        "place_next jsonb",
        "status text",
        "tags jsonb",
        "total numeric(9,2)",
    ];
    assert_eq!(found, expected);
    let refused: Vec<i64> = quarantined(&place, "orders").into_keys().collect();
    assert_eq!(refused, [53, 54, 55, 56]);
    let reasons = place.world.database.query(
        "SELECT class, reason FROM tidegate.quarantine WHERE feed = 'orders' ORDER BY record_offset",
    );
    let reasons: Vec<(String, String)> =
        reasons.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(reasons[0].0, "no_schema");
    assert!(reasons[0].1.contains("schema 4000000"), "{reasons:?}");
    assert!(reasons[0].1.contains(&registry.door.address), "{reasons:?}");
    assert!(reasons[1].1.contains(&format!("schema {}", second.id)), "{reasons:?}");

    let rows = warehouse_rows(&place, "orders");
    assert_eq!(rows.len(), 50, "0 to 50 without 1");
    assert_eq!((&rows[&50]["total"], &rows[&50]["id"]), (&json!(-1.23), &json!(0)));
    assert_eq!(rows[&50]["at"], "2025-10-13T16:38:28.047+00:00");
    assert_eq!((&rows[&50]["due"], &rows[&50]["status"]), (&json!("2025-10-13"), &json!("PAID")));
    assert_eq!((&rows[&4]["place_city"], &rows[&3]["place_city"]), (&json!("é 4"), &Value::Null));
    assert_eq!((&rows[&4]["tags"], &rows[&4]["discount"]), (&json!(["a"]), &Value::Null));
    assert_eq!(rows[&52]["discount"], json!(0.05));
    assert_eq!(rows[&57]["total"], json!(2.22));
    // Every change is in the lake, the delete among them.
    let lake = lake_rows(&place, "orders", "delta", &[]);
    assert_eq!(lake.len(), 54);
    assert_eq!(lake[&52]["place_city"], "é 50");
    assert!(!node.log().contains("parked"));
    place.verify();
}

/// A key with a window behind it, a schema that refers to another, and documents.
#[test]
fn avro_windows_references_and_documents() {
    let mut place = Place::new("avro-windows");
    let registry = Registry::start();
    place.edit_node(|text| text.to_owned() + &registry.node_line());
    let topic = place.topic("spend", 1, &[]);
    let money = r#"{"type":"record","name":"money","namespace":"shop","fields":[
        {"name":"cents","type":"long"}]}"#;
    let spend = r#"{"type":"record","name":"spend","namespace":"shop","fields":[
        {"name":"total","type":"money"},{"name":"limit","type":["null","shop.money"]}]}"#;
    registry.register(&format!("{topic}-money"), money, &json!([]));
    let refers = json!([{"name": "shop.money", "subject": format!("{topic}-money"), "version": 1}]);
    let id = registry.register(&format!("{topic}-value"), spend, &refers);
    let key = Writer::new(&registry, &format!("{topic}-key"), "\"string\"");
    let columns = "key: {format: avro, window: time, window_size: 5m, columns: [{name: kind, type: string}]}\n\
         columns: [{name: cents, path: total.cents, type: long}]\nwarehouse: {shape: document}";
    feed(&place, "spend", &format!("type: table\ntopic: {topic}\nformat: avro\n{columns}"));
    let windowed = |kind: &str, start: i64| {
        Some([key.frame(Avro::String(kind.to_owned())), start.to_be_bytes().to_vec()].concat())
    };
    // Of a long, then of a union's branch.
    let spent = |cents: u8| Some(framed(id, &[2 * cents, 0]));
    send(
        &topic,
        0,
        &[
            (windowed("food", AT), spent(5)),
            (windowed("food", AT + 300_000), spent(6)),
            (windowed("food", AT), spent(7)),
            (windowed("rent", AT), spent(8)),
            (windowed("rent", AT), None),
        ],
    );
    let _node = place.node();
    place.wait_for_watermarks("spend", &[5]);
    let rows = warehouse_rows(&place, "spend");
    let data: Vec<_> = rows.iter().map(|(offset, row)| (*offset, row["data"].clone())).collect();
    let expected = [(1, 6), (2, 7)];
    let expected =
        expected.map(|(at, cents)| (at, json!({"total": {"cents": cents}, "limit": null})));
    assert_eq!(data, expected);
    assert_eq!(rows[&2]["window_start"], "2025-10-13T16:38:28.047+00:00");
    place.verify();
}

/// While the registry is away, partitions wait that need it, and no others; and no record is passed
/// over, doubled or put into quarantine for it.
#[test]
fn avro_waits_for_its_registry() {
    const NUMBER: &str =
        r#"{"type":"record","name":"n","fields":[{"name":"id","type":"long"}@MORE@]}"#;
    let mut place = Place::new("avro-away");
    let registry = Registry::start();
    place.edit_node(|text| text.to_owned() + &registry.node_line());
    let topic = place.topic("numbers", 2, &[]);
    let beside = place.topic("beside", 1, &[]);
    let value = format!("{topic}-value");
    let first = Writer::new(&registry, &value, &NUMBER.replace("@MORE@", ""));
    feed(
        &place,
        "numbers",
        &format!("type: stream\ntopic: {topic}\nformat: avro\ncolumns: [{{name: id, type: long}}]"),
    );
    place.plain_feed("beside", &beside);
    let number =
        |writer: &Writer, id: i64| (None, Some(writer.frame(record(&[("id", Avro::Long(id))]))));
    let numbers =
        |ids: std::ops::Range<i64>| -> Vec<_> { ids.map(|id| number(&first, id)).collect() };
    let sender = Sender::new();

    registry.door.shut();
    for partition in 0..2 {
        send(&topic, partition, &numbers(0..100));
    }
    sender.send(&beside, 0, 0..100);
    let mut node = place.node();
    place.wait_for_ids("beside", 0..100);
    node.wait_for_log("the schema registry cannot be asked", SOON);
    assert!(place.warehouse("numbers").is_empty());
    registry.door.open();
    place.wait_for_watermarks("numbers", &[100, 100]);
    node.wait_for_log("answers again", SOON);

    // Under a known schema records pass; behind one that is not known they wait, in one partition.
    let second = Writer::new(
        &registry,
        &value,
        &NUMBER.replace("@MORE@", r#",{"name":"note","type":"string","default":""}"#),
    );
    registry.door.shut();
    let noted = |id: i64| {
        let fields = [("id", Avro::Long(id)), ("note", Avro::String("x".to_owned()))];
        (None, Some(second.frame(record(&fields))))
    };
    send(&topic, 0, &[numbers(100..150), vec![noted(150)], numbers(151..200)].concat());
    send(&topic, 1, &numbers(100..200));
    sender.send(&beside, 0, 100..200);
    let marks = |place: &Place| place.watermarks("numbers").0;
    wait_for("the other partition to go on", SOON, || (marks(&place)[&1] == 200).then_some(()));
    place.wait_for_ids("beside", 0..200);
    assert!(marks(&place)[&0] <= 150);

    // A node that waits is drained at once, and its successor waits for as long.
    let (status, took) = node.terminate(SOON);
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    let node = place.world.node("successor");
    node.wait_for_log("the schema registry cannot be asked", SOON);
    assert!(marks(&place)[&0] <= 150);
    registry.door.open();
    place.wait_for_watermarks("numbers", &[200, 200]);
    let rows = place.warehouse("numbers");
    let expected: Vec<_> =
        (0..2).flat_map(|partition| (0..200).map(move |id| (partition, id, id))).collect();
    assert_eq!(rows, expected);
    assert_eq!(place.lake("numbers"), expected);
    assert!(quarantined(&place, "numbers").is_empty());
    assert!(!node.log().contains("parked"));
    place.verify();
}

/// A producer that was faster than its registry: its records come back once the schema is there.
#[test]
fn records_come_back_when_their_schema_is_there() {
    let mut place = Place::new("avro-back");
    let registry = Registry::start();
    place.edit_node(|text| text.to_owned() + &registry.node_line());
    let topic = place.topic("orders", 1, &[]);
    let number = |n: i64| record(&[("id", Avro::Long(n))]);
    let schema = |name: &str| {
        let name = format!("{name}_{}", topic.replace('-', "_"));
        format!(r#"{{"type":"record","name":"{name}","fields":[{{"name":"id","type":"long"}}]}}"#)
    };
    let known = Writer::new(&registry, &format!("{topic}-known"), &schema("known"));
    let late = Schema::parse_str(&schema("late")).expect("a schema");
    let late = |n| framed(known.id + 1, &to_avro_datum(&late, number(n)).expect("a value"));
    let columns = "columns: [{name: id, type: long, required: true}]";
    feed(&place, "orders", &format!("type: stream\ntopic: {topic}\nformat: avro\n{columns}"));
    let records = [known.frame(number(1)), late(2), known.frame(number(3)), late(4)];
    send(&topic, 0, &records.map(|value| (None, Some(value))));
    let _node = place.node();
    place.wait_for_ids("orders", [1, 3]);
    place.wait_for_watermarks("orders", &[4]);
    let replay = ["quarantine", "replay", "--feed", "orders", "--reason", "no_schema"];
    let (code, said) = place.command(&replay);
    assert_eq!(code, 1, "nothing is there to read them with: {said}");
    let subject = format!("{topic}-late");
    assert_eq!(registry.register(&subject, &schema("late"), &json!([])), known.id + 1);
    let (code, said) = place.command(&replay);
    assert_eq!(code, 0, "{said}");
    place.wait_for_ids("orders", 1..5);
    place.verify();
}
