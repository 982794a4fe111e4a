//! Keys and values in every format that the feed file names, in both sinks.

use rdkafka::producer::{BaseRecord, Producer};

use crate::servers::wait_for;
use crate::source_place::{Place, SOON, Sender};

/// 2025-10-13T16:30:54.624Z, and five minutes more.
const START: i64 = 1_760_373_054_624;
const END: i64 = START + 300_000;

type Record<'r> = (Vec<u8>, Option<&'r [u8]>);

fn send(topic: &str, records: &[Record<'_>]) {
    let sender = Sender::new();
    for (key, value) in records {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0).key(key);
        let record = match value {
            Some(value) => record.payload(value),
            None => record,
        };
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("producing: {error}"));
    }
    sender.0.flush(SOON).expect("the broker takes the records");
}

pub fn feed(place: &Place, name: &str, text: &str) {
    let path = place.folder().join(format!("feeds/{name}.yaml"));
    let text = format!("feed: {name}\n{text}\nlake: {{linger: 200ms}}\n");
    std::fs::write(path, text).expect("a feed file");
}

/// Waits until both sinks have passed all records, and compares the warehouse's rows as JSON.
fn landed(place: &Place, feed: &str, records: i64, expected: &[&str]) {
    place.wait_for_watermarks(feed, &[records]);
    let rows = format!(
        "SELECT to_jsonb(t) - '{{_topic,_partition,_offset,_timestamp}}'::text[] \
         FROM \"{feed}\" t ORDER BY 1"
    );
    let rows = place.world.database.query(&format!("SELECT j::text FROM ({rows}) AS s(j)"));
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(found, expected);
}

fn windowed(key: &str, bounds: &[i64]) -> Vec<u8> {
    let mut bytes = key.as_bytes().to_vec();
    bounds.iter().for_each(|bound| bytes.extend(bound.to_be_bytes()));
    bytes
}

/// A ksqlDB table over a tumbling window: upserted by key and window, and deleted by both.
#[test]
fn a_windowed_table() {
    let mut place = Place::new("windowed");
    let topic = place.topic("spend", 1, &[]);
    feed(
        &place,
        "spend",
        &format!(
            "type: table\ntopic: {topic}\nkey: {{format: string, window: time, window_size: 5m, \
             columns: [{{name: transaction_type, type: string}}]}}\n\
             columns: [{{name: total, path: TOTAL, type: 'decimal(18,2)'}}]\ntime: window_start"
        ),
    );
    let key = |kind: &str, start: i64| windowed(kind, &[start]);
    send(
        &topic,
        &[
            (key("purchase", START), Some(br#"{"TOTAL":1.10}"#)),
            (key("purchase", END), Some(br#"{"TOTAL":2.20}"#)),
            (key("refund", START), Some(br#"{"TOTAL":3.30}"#)),
            (key("purchase", START), Some(br#"{"TOTAL":9.90}"#)),
            (key("refund", START), None),
            (b"short".to_vec(), Some(br#"{"TOTAL":1}"#)),
        ],
    );
    let _node = place.node();
    landed(
        &place,
        "spend",
        6,
        &[
            r#"{"total": 2.20, "window_end": "2025-10-13T16:40:54.624+00:00", "window_start": "2025-10-13T16:35:54.624+00:00", "transaction_type": "purchase"}"#,
            r#"{"total": 9.90, "window_end": "2025-10-13T16:35:54.624+00:00", "window_start": "2025-10-13T16:30:54.624+00:00", "transaction_type": "purchase"}"#,
        ],
    );
    let report = place.verify();
    assert!(report.to_string().contains("quarantined"), "{report:#}");
}

/// Session windows put their end before their start; bounds may be kept as numbers.
#[test]
fn a_table_of_sessions() {
    let mut place = Place::new("sessions");
    let topic = place.topic("sessions", 1, &[]);
    feed(
        &place,
        "sessions",
        &format!(
            "type: table\ntopic: {topic}\nkey: {{format: json, window: session, window_type: long, \
             columns: [{{name: user_id, path: USER, type: string}}]}}\n\
             columns: [{{name: n, path: N, type: long}}]"
        ),
    );
    let key = |user: &str| windowed(&format!(r#"{{"USER":"{user}"}}"#), &[END, START]);
    send(
        &topic,
        &[
            (key("a"), Some(br#"{"N":1}"#)),
            (key("b"), Some(br#"{"N":2}"#)),
            (key("a"), Some(br#"{"N":3}"#)),
            (key("b"), None),
        ],
    );
    let _node = place.node();
    let row =
        format!(r#"{{"n": 3, "user_id": "a", "window_end": {END}, "window_start": {START}}}"#);
    landed(&place, "sessions", 4, &[&row]);
    place.verify();
}

/// Binary keys of every width, as primary keys of their own type.
#[test]
fn tables_by_binary_keys() {
    let mut place = Place::new("binary-keys");
    let cases: [(&str, &str, [Vec<u8>; 2], &str); 3] = [
        ("int", "int", [7i32, -8].map(|key| key.to_be_bytes().to_vec()), "-8"),
        ("long", "long", [7i64, -8].map(|key| key.to_be_bytes().to_vec()), "-8"),
        ("double", "double", [0.5f64, -0.25].map(|key| key.to_be_bytes().to_vec()), "-0.25"),
    ];
    for (format, kind, keys, _) in &cases {
        let topic = place.topic(format, 1, &[]);
        let text = format!(
            "type: table\ntopic: {topic}\nkey: {{format: {format}, columns: [{{name: k, type: \
             {kind}}}]}}\ncolumns: [{{name: v, path: V, type: long}}]"
        );
        feed(&place, &format!("by_{format}"), &text);
        let [first, second] = keys;
        send(
            &topic,
            &[
                (first.clone(), Some(br#"{"V":1}"#)),
                (second.clone(), Some(br#"{"V":2}"#)),
                (second.clone(), Some(br#"{"V":3}"#)),
                (first.clone(), None),
            ],
        );
    }
    let _node = place.node();
    for (format, _, _, left) in &cases {
        let row = format!(r#"{{"k": {left}, "v": 3}}"#);
        landed(&place, &format!("by_{format}"), 4, &[&row]);
    }
    place.verify();
}

/// Connect's envelope, with what no column takes beside it; whole values as text and as bytes.
#[test]
fn values_of_every_format() {
    let mut place = Place::new("values");
    let topics = ["connect", "text", "raw"].map(|short| place.topic(short, 1, &[]));
    let [connect, text, raw] = &topics;
    let columns = "columns: [{name: at, path: AT, type: timestamp, epoch: seconds}, \
                   {name: photo, path: PHOTO, type: bytes}]";
    feed(
        &place,
        "enveloped",
        &format!("type: stream\ntopic: {connect}\nformat: connect\nrest: true\n{columns}"),
    );
    feed(&place, "text", &format!("type: stream\ntopic: {text}\nformat: string"));
    feed(&place, "raw", &format!("type: stream\ntopic: {raw}\nformat: bytes"));
    let enveloped = br#"{"schema":{"type":"struct"},"payload":{"AT":1760373054,"PHOTO":"AP8=","X":[1],"O":{"Y":1e400}}}"#;
    send(connect, &[(Vec::new(), Some(enveloped)), (Vec::new(), Some(br#"{"payload":{}}"#))]);
    send(text, &[(Vec::new(), Some("no JSON, é".as_bytes())), (Vec::new(), Some(b"\xff"))]);
    send(raw, &[(Vec::new(), Some(b"\x00\xff")), (Vec::new(), Some(b""))]);
    // What the payload holds is what columns are inferred from.
    let inferred = place.topic("inferred", 1, &[]);
    feed(&place, "inferred", &format!("type: stream\ntopic: {inferred}\nformat: connect"));
    let payload = br#"{"schema":{"type":"struct"},"payload":{"N":5,"O":{"P":"x"}}}"#;
    send(&inferred, &[(Vec::new(), Some(payload))]);
    let _node = place.node();
    landed(&place, "inferred", 1, &[r#"{"n": 5, "o_p": "x"}"#]);
    place.wait_for_watermarks("enveloped", &[2]);
    let found = place
        .world
        .database
        .query("SELECT photo, _rest->'X', at FROM enveloped WHERE at IS NOT NULL");
    assert_eq!(found[0].get::<_, Vec<u8>>(0), b"\x00\xff");
    let nulls = place.world.database.query("SELECT count(*) FROM enveloped WHERE _rest IS NULL");
    assert_eq!(nulls[0].get::<_, i64>(0), 1);
    landed(&place, "text", 2, &[r#"{"value": "no JSON, é"}"#]);
    landed(&place, "raw", 2, &[r#"{"value": "\\x"}"#, r#"{"value": "\\x00ff"}"#]);
    place.verify();
    wait_for("the bytes that are no text to be in quarantine", SOON, || {
        let sql =
            "SELECT count(*) FROM tidegate.quarantine WHERE feed = 'text' AND class = 'encoding'";
        (place.world.database.query(sql)[0].get::<_, i64>(0) == 1).then_some(())
    });
}

/// Values that are not what their columns' checks say: in quarantine beside their neighbours, or told of.
#[test]
fn values_that_fail_a_check() {
    let mut place = Place::new("value-checks");
    let topic = place.topic("t", 1, &[]);
    feed(
        &place,
        "checked",
        &format!(
            "type: stream\ntopic: {topic}\ncolumns:\n\
             - {{name: amount, type: 'decimal(9,2)', check: {{min: 0, max: 1000}}}}\n\
             - {{name: status, type: string, check: {{set: [open, paid], action: warn}}}}"
        ),
    );
    let records: [&[u8]; 5] = [
        br#"{"amount":1.5,"status":"open"}"#,
        br#"{"amount":-1,"status":"open"}"#,
        br#"{"amount":1000,"status":"lost"}"#,
        br#"{"amount":1000.01}"#,
        br#"{"status":"paid"}"#,
    ];
    send(&topic, &records.map(|value| (Vec::new(), Some(value))));
    let node = place.node();
    let rows = [
        r#"{"amount": null, "status": "paid"}"#,
        r#"{"amount": 1.50, "status": "open"}"#,
        r#"{"amount": 1000.00, "status": "lost"}"#,
    ];
    landed(&place, "checked", 5, &rows);
    let rejects = place.world.database.query(
        "SELECT record_offset, class FROM tidegate.quarantine WHERE feed = 'checked' ORDER BY 1",
    );
    let rejects: Vec<(i64, String)> = rejects.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rejects, [1, 3].map(|offset| (offset, "check_failed".to_owned())));
    node.wait_for_log("status: another value than one of", SOON);
    place.verify();
}
