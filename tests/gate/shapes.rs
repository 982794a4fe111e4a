//! Documents, dimensions and snapshots, as a node fills them and any client finds them.

use rdkafka::producer::{BaseRecord, Producer};

use crate::servers::wait_for;
use crate::source_place::{Place, SOON, Sender};

fn send(topic: &str, records: &[(&str, Option<&str>)]) {
    let sender = Sender::new();
    for (number, (key, value)) in records.iter().enumerate() {
        let mut record = BaseRecord::<str, str>::to(topic).partition(0).key(*key);
        record.payload = *value;
        record.timestamp = Some(1_760_000_000_000 + number as i64);
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("producing: {error}"));
    }
    sender.0.flush(SOON).expect("the broker takes the records");
}

fn feed(place: &Place, name: &str, text: &str) {
    let path = place.folder().join(format!("feeds/{name}.yaml"));
    std::fs::write(path, format!("feed: {name}\n{text}\n")).expect("a feed file");
}

fn asked(place: &Place, sql: &str) -> Vec<String> {
    place.world.database.query(sql).iter().map(|row| row.get(0)).collect()
}

#[test]
fn documents_in_tables_with_upper_case_names() {
    let mut place = Place::new("documents");
    let topics = ["stream", "table"].map(|short| place.topic(short, 1, &[]));
    let lake = "lake: {linger: 200ms}";
    feed(
        &place,
        "transactions_usd",
        &format!(
            "type: stream\ntopic: {}\n{lake}\nwarehouse: {{table: TRANSACTIONS_USD, shape: document}}",
            topics[0]
        ),
    );
    feed(
        &place,
        "spending",
        &format!(
            "type: table\ntopic: {}\n{lake}\ncase: keep\nwarehouse: {{table: Spending, shape: document}}\n\
             key: {{format: string, columns: [{{name: user_id, type: string}}]}}\n\
             columns: [{{name: total, path: TOTAL, type: 'decimal(18,2)'}}]",
            topics[1]
        ),
    );
    send(
        &topics[0],
        &[
            ("a", Some(r#"{"TRANSACTION_TYPE":"payment","AMOUNT_USD":339.47,"X":{"Y":[1,2]}}"#)),
            ("b", Some(r#"{"TRANSACTION_TYPE":"payment","AMOUNT_USD":0.53}"#)),
            ("c", Some(r#"{"TRANSACTION_TYPE":"refund","AMOUNT_USD":1e1}"#)),
            ("d", Some("no JSON")),
        ],
    );
    send(
        &topics[1],
        &[
            ("u1", Some(r#"{"TOTAL":1,"EXTRA":"kept"}"#)),
            ("u2", Some(r#"{"TOTAL":2}"#)),
            ("u1", Some(r#"{"TOTAL":3.50,"EXTRA":"kept"}"#)),
            ("u2", None),
        ],
    );
    let _node = place.node();
    place.wait_for_watermarks("transactions_usd", &[4]);
    place.wait_for_watermarks("spending", &[4]);
    let totals = "SELECT concat(data->>'TRANSACTION_TYPE', ' ', sum((data->>'AMOUNT_USD')::numeric)) \
                  FROM TRANSACTIONS_USD GROUP BY data->>'TRANSACTION_TYPE' ORDER BY 1";
    assert_eq!(asked(&place, totals), ["payment 340.00", "refund 10"]);
    let kept =
        r#"SELECT concat(user_id, ' ', data->>'TOTAL', ' ', data->>'EXTRA') FROM "Spending""#;
    assert_eq!(asked(&place, kept), ["u1 3.50 kept"]);
    place.verify();
}

#[test]
fn facts_with_dimensions_and_snapshots() {
    let mut place = Place::new("facts");
    let topic = place.topic("summary", 1, &[]);
    feed(
        &place,
        "summary",
        &format!(
            "type: table\ntopic: {topic}\nlake: null\n\
             key: {{format: json, columns: [{{name: user_id, path: USER_ID, type: string}}, \
             {{name: transaction_type, path: TYPE, type: string}}]}}\n\
             columns: [{{name: user_name, path: NAME, type: string}}, {{name: total, path: TOTAL, type: long}}]\n\
             warehouse:\n  table: fact_summary\n  snapshots: {{every: 1s, keep: 2}}\n  \
             dimensions: [{{table: users, key: [user_id], columns: [user_name], foreign_key: true}}]"
        ),
    );
    let key = |user: &str, kind: &str| format!(r#"{{"USER_ID":"{user}","TYPE":"{kind}"}}"#);
    let [one, two, three] = [key("u1", "buy"), key("u1", "pay"), key("u2", "buy")];
    send(
        &topic,
        &[
            (&one, Some(r#"{"NAME":"Ann","TOTAL":1}"#)),
            (&two, Some(r#"{"NAME":"Anna","TOTAL":2}"#)),
            (&three, Some(r#"{"NAME":"Bob","TOTAL":3}"#)),
            (&three, None),
        ],
    );
    let mut node = place.node();
    wait_for("a second snapshot with the facts", SOON, || {
        let found = asked(&place, "SELECT to_regclass('tidegate.snapshots')::text");
        let taken = "SELECT version::text FROM tidegate.snapshots WHERE rows = 2 AND version > 2";
        (!found.is_empty() && !asked(&place, taken).is_empty()).then_some(())
    });
    let facts =
        "SELECT concat(user_id, ' ', transaction_type, ' ', total) FROM fact_summary ORDER BY 1";
    let expected = ["u1 buy 1", "u1 pay 2"];
    assert_eq!(asked(&place, facts), expected);
    let users = "SELECT concat(user_id, ' ', user_name) FROM users ORDER BY 1";
    assert_eq!(asked(&place, users), ["u1 Anna"], "what a delete followed at once was never a row");
    assert_eq!(asked(&place, &facts.replace("fact_summary", "fact_summary_snapshot")), expected);
    node.terminate(SOON);
    let (code, said) = place.command(&["snapshot", "--feed", "summary"]);
    assert!(code == 0 && said.contains("2 rows"), "{said}");
    let kept = "SELECT count(DISTINCT _version)::text FROM fact_summary_snapshots";
    assert_eq!(asked(&place, kept), ["2"]);
    let offsets = "SELECT DISTINCT offsets->0->>'next_offset' FROM tidegate.snapshots";
    assert_eq!(asked(&place, offsets), ["4"]);
    place.verify();
}
