//! Records that come back from quarantine: each once in each sink, where it would have been.

use std::process::Stdio;

use rdkafka::producer::{BaseRecord, Producer};
use reqwest::Method;
use serde_json::{Value, json};

use crate::http::Caller;
use crate::lake;
use crate::node::{Node, tidegate};
use crate::servers::{env, wait_for};
use crate::snapshots;
use crate::source_gap::delete_records;
use crate::source_place::{Place, SOON, Sender};
use crate::world::{Lake, Setup};

/// Numbers up to 99; those above wait in quarantine until the check is taken away.
const CHECKED: &str = "columns: [{name: id, type: long, required: true, check: {max: 99}}]";

/// A command about the quarantine; its exit code and what it printed as JSON.
fn asked(place: &Place, arguments: &[&str]) -> (i32, Value) {
    let (code, printed) =
        place.command(&[&["quarantine"], arguments, &["--output", "json"]].concat());
    let value = serde_json::from_str(&printed);
    (code, value.unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed}")))
}

fn listed(place: &Place, arguments: &[&str]) -> Vec<Value> {
    let (code, value) = asked(place, &[&["list"], arguments].concat());
    assert_eq!(code, 0, "{value:#}");
    value.as_array().expect("a list").clone()
}

/// By sink: how many are rows, how many had a newer state, and the offsets of those that stay.
type Outcome = (String, usize, usize, Vec<i64>);

/// A replay's exit code, and what it came to.
fn replayed(place: &Place, arguments: &[&str]) -> (i32, Vec<Outcome>) {
    let (code, value) = asked(place, &[&["replay", "--feed"], arguments].concat());
    let one = |it: &Value| {
        let count = |name: &str| it[name].as_array().expect("a list").len();
        let left = it["left"].as_array().expect("a list").iter();
        let left = left.map(|it| it["offset"].as_i64().expect("an offset")).collect();
        let sink = it["sink"].as_str().expect("a name").to_owned();
        (sink, count("replayed"), count("superseded"), left)
    };
    (code, value.as_array().expect("a list").iter().map(one).collect())
}

pub fn raw(topic: &str, values: &[&str]) {
    let sender = Sender::new();
    for value in values {
        let record = BaseRecord::<(), str>::to(topic).partition(0).payload(value);
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("producing: {error}"));
    }
    sender.0.flush(SOON).expect("the broker takes the records");
}

fn wait_for_quarantined(place: &Place, count: i64) {
    wait_for("the rejects", SOON, || {
        let sql = "SELECT count(*) FROM tidegate.quarantine";
        (place.world.database.query(sql)[0].get::<_, i64>(0) == count).then_some(())
    });
}

#[test]
fn records_come_back_once() {
    comes_back(Place::new("back"), "delta");
}

#[test]
fn records_come_back_once_to_json_lines() {
    comes_back(Place::with_format("back-jsonl", "jsonl"), "jsonl");
}

#[test]
fn records_come_back_once_to_plain_parquet_on_s3() {
    let lake = Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT"));
    let setup = Setup { name: "back-s3", format: "parquet", lake, ..Setup::default() };
    comes_back(Place::with(setup), "parquet");
}

fn comes_back(mut place: Place, format: &str) {
    let topic = place.topic("orders", 2, &[]);
    place.feed("orders", &format!("topic: {topic}\n{CHECKED}"));
    let sender = Sender::new();
    sender.send(&topic, 0, 90..110);
    sender.send(&topic, 1, 95..105);
    raw(&topic, &["{"]);
    let node = place.node();
    wait_for_quarantined(&place, 16);
    place.wait_for_watermarks("orders", &[21, 10]);
    let all = listed(&place, &[]);
    assert_eq!(all.len(), 16, "{all:#?}");
    assert!(
        all.iter().all(|it| it["state"] == "open" && it["sinks"] == json!(["lake", "warehouse"]))
    );
    // As the feed is, nothing changes.
    let stays = replayed(&place, &["orders", "--partition", "1"]);
    let five: Vec<i64> = (5..10).collect();
    assert_eq!(
        stays,
        (1, vec![("lake".to_owned(), 0, 0, five.clone()), ("warehouse".to_owned(), 0, 0, five)])
    );
    place.feed(
        "orders",
        &format!("topic: {topic}\ncolumns: [{{name: id, type: long, required: true}}]"),
    );
    node.wait_for_log("the feed file changed", SOON);
    // One is shown whole, and what would come of it; nothing comes of showing it.
    let offset = ["show", "--feed", "orders", "--partition", "0", "--offset", "12"];
    let (code, shown) = asked(&place, &offset);
    assert_eq!((code, &shown["records"][0]["class"]), (0, &json!("check_failed")), "{shown:#}");
    assert_eq!(shown["if_replayed"][0]["replayed"], json!([12]));
    let (code, dry) = replayed(&place, &["orders", "--dry-run", "--reason", "check_failed"]);
    assert_eq!((code, dry[0].1 + dry[1].1), (0, 15));
    assert_eq!(listed(&place, &[]).len(), 16);
    // Killed after the lake's commit, before that is written down.
    let mut killed = tidegate();
    killed.args(["quarantine", "replay", "--feed", "orders", "--partition", "0", "--sink", "lake"]);
    killed.arg("--config").arg(&place.world.config);
    killed.env("TIDEGATE_FAULT", "replay.before_settling=exit");
    assert_eq!(killed.output().expect("the binary runs").status.code(), Some(70));
    assert_eq!(listed(&place, &["--sink", "lake", "--partition", "0"]).len(), 11);
    // Two at once, beside a node that writes.
    let commands = [0, 1].map(|_| {
        let mut command = tidegate();
        command.args(["quarantine", "replay", "--feed", "orders", "--reason", "check_failed"]);
        command.arg("--config").arg(&place.world.config).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).spawn().expect("the binary runs")
    });
    sender.send(&topic, 0, 200..300);
    for command in commands {
        let out = command.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        assert_eq!(out.status.code(), Some(0), "{said}");
    }
    place.wait_for_watermarks("orders", &[121, 10]);
    let mut wanted: Vec<(i32, i64, i64)> = (0..20).map(|offset| (0, offset, 90 + offset)).collect();
    wanted.extend((0..100).map(|number| (0, 21 + number, 200 + number)));
    wanted.extend((0..10).map(|offset| (1, offset, 95 + offset)));
    assert_eq!(place.warehouse("orders"), wanted);
    if format == "delta" {
        assert_eq!(place.lake("orders"), wanted);
    }
    assert_eq!(listed(&place, &["--state", "replayed"]).len(), 15);
    let by = listed(&place, &["--state", "replayed", "--offsets", "12..13"]);
    assert!(by[0]["settled_by"].as_str().expect("a name").starts_with("local:"), "{by:#?}");
    // The one that is nothing stays out, for a reason that somebody gives.
    let discard = ["quarantine", "discard", "--feed", "orders", "--why", "cut short by the sender"];
    let (code, printed) = place.command(&discard);
    assert_eq!(code, 0, "{printed}");
    let left = listed(&place, &[]);
    assert!(left.is_empty(), "{left:#?}");
    let discarded = listed(&place, &["--state", "discarded"]);
    assert_eq!(discarded[0]["settled_why"], "cut short by the sender");
    let report = place.verify();
    println!("{report:#}");
    drop(node);
    // A node that starts anew finds nothing to do.
    let _node = place.node();
    sender.send(&topic, 1, 500..501);
    place.wait_for_watermarks("orders", &[121, 11]);
    assert_eq!(place.warehouse("orders").len(), 131);
    place.verify();
}

/// A value above 1000 waits in quarantine until the check is taken away.
fn totals(place: &Place, topic: &str, check: &str) {
    let text = format!(
        "feed: totals\ntype: table\ntopic: {topic}\n\
         key: {{format: string, columns: [{{name: id, type: string}}]}}\n\
         columns: [{{name: total, path: T, type: long{check}}}]\n\
         lake: {{linger: 100ms, storage: overwrite, snapshots: {{every: 300ms}}}}\n"
    );
    std::fs::write(place.folder().join("feeds/totals.yaml"), text).expect("a feed file");
}

#[test]
fn an_older_record_overwrites_and_revives_nothing() {
    let mut place = Place::new("back-table");
    let topic = place.topic("totals", 1, &[]);
    totals(&place, &topic, ", check: {max: 1000}");
    let old = [
        // Alone; after an older state; before a newer one; before a tombstone; deleted, and come again.
        (0, Some(5000)),
        (1, Some(1)),
        (1, Some(5001)),
        (2, Some(5002)),
        (2, Some(2)),
        (3, Some(3)),
        (3, Some(5003)),
        (3, None),
        (4, None),
        (4, Some(5004)),
        // Two in quarantine, of which the last counts.
        (5, Some(5005)),
        (5, Some(6005)),
    ];
    snapshots::change(&topic, 1, old);
    let node = place.node();
    wait_for_quarantined(&place, 7);
    snapshots::wait_for_snapshot(&place, "totals", &[12]);
    totals(&place, &topic, "");
    node.wait_for_log("the feed file changed", SOON);
    // The node goes on meanwhile, past what was searched.
    let more = {
        let topic = topic.clone();
        std::thread::spawn(move || {
            for hundred in 0..30 {
                let totals = hundred * 100..(hundred + 1) * 100;
                snapshots::change(&topic, 1, totals.map(|total| (9, Some(total))));
            }
        })
    };
    let (code, outcome) = replayed(&place, &["totals"]);
    assert_eq!(code, 0, "{outcome:?}");
    more.join().expect("the sender ends");
    snapshots::wait_for_snapshot(&place, "totals", &[3012]);
    // The changelog takes all of them; the table those that are the last of their keys.
    let wanted = [("lake".to_owned(), 7, 0, vec![]), ("warehouse".to_owned(), 5, 2, vec![])];
    assert_eq!(outcome, wanted);
    let state = [
        ("k00000", 5000),
        ("k00001", 5001),
        ("k00002", 2),
        ("k00004", 5004),
        ("k00005", 6005),
        ("k00009", 2999),
    ];
    let state = state.map(|(key, total)| (key.to_owned(), total));
    let rows = || -> Vec<(String, i64)> {
        let rows = place.world.database.query("SELECT id, total FROM totals ORDER BY id");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    assert_eq!(rows(), state);
    let shown = |count: usize| {
        wait_for("a snapshot of what came back", SOON, || {
            let versions = snapshots::versions(&place, "totals");
            (versions.last()?["rows"].as_u64()? == count as u64).then_some(())
        });
    };
    shown(6);
    assert_eq!(snapshots::is_what_the_warehouse_holds(&place, "totals"), state);
    place.verify();
    // What is superseded stays so; its fate and the reason are kept.
    let superseded = listed(&place, &["--state", "superseded"]);
    assert_eq!(superseded.len(), 2, "{superseded:#?}");
    assert_eq!(superseded[0]["sinks"], json!(["warehouse"]));
    snapshots::change(&topic, 1, [(6, Some(6)), (0, None)]);
    snapshots::wait_for_snapshot(&place, "totals", &[3014]);
    assert_eq!(snapshots::is_what_the_warehouse_holds(&place, "totals").len(), 6);
    place.verify();
    drop(node);
}

/// Where the log has let a record go, nobody can tell whether its key was deleted since.
#[test]
fn what_the_log_cannot_tell_stays() {
    let mut place = Place::new("back-expired");
    let topic = place.topic("totals", 1, &[]);
    totals(&place, &topic, ", check: {max: 1000}");
    snapshots::change(&topic, 1, [(0, Some(5000)), (0, None), (1, Some(1))]);
    let node = place.node();
    wait_for_quarantined(&place, 1);
    snapshots::wait_for_snapshot(&place, "totals", &[3]);
    drop(node);
    delete_records(&topic, 0, 2);
    totals(&place, &topic, "");
    let (code, outcome) = replayed(&place, &["totals"]);
    assert_eq!(code, 1);
    assert_eq!(outcome[1], ("warehouse".to_owned(), 0, 0, vec![0]), "{outcome:?}");
    let rows = place.world.database.query("SELECT id FROM totals");
    assert_eq!(rows.len(), 1);
}

/// A newer record that the feed as it is now would reject is newer all the same; and what comes by again
/// after progress was set back is not replayed a second time.
#[test]
fn what_was_taken_once_counts_as_it_was() {
    let mut place = Place::new("back-narrowed");
    let topic = place.topic("totals", 1, &[]);
    totals(&place, &topic, ", check: {max: 1000}");
    snapshots::change(&topic, 1, [(0, Some(5000)), (0, Some(7)), (1, Some(6000))]);
    let node = place.node();
    wait_for_quarantined(&place, 2);
    snapshots::wait_for_snapshot(&place, "totals", &[3]);
    drop(node);
    totals(&place, &topic, ", check: {min: 1001}");
    let (code, outcome) = replayed(&place, &["totals", "--sink", "warehouse"]);
    assert_eq!((code, outcome), (0, vec![("warehouse".to_owned(), 1, 1, vec![])]));
    let rows = place.world.database.query("SELECT id, total FROM totals ORDER BY id");
    let rows: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [("k00000".to_owned(), 7), ("k00001".to_owned(), 6000)]);
    let back = ["resolve", "--feed", "totals", "--partition", "0", "--to-offset", "0"];
    let (code, said) = place.command(&[&back[..], &["--sink", "lake"]].concat());
    assert_eq!(code, 0, "{said}");
    totals(&place, &topic, "");
    let _node = place.node();
    snapshots::change(&topic, 1, [(2, Some(8000))]);
    snapshots::wait_for_snapshot(&place, "totals", &[4]);
    let (code, outcome) = replayed(&place, &["totals", "--sink", "lake"]);
    assert_eq!((code, outcome), (0, vec![("lake".to_owned(), 2, 0, vec![])]), "they are there");
    let changes = place.world.lake_root().join("tables/totals/_changes");
    let lines = lake::lines(&changes).into_iter();
    let rows = lines.filter_map(|(_, line)| line["commitInfo"]["tidegateRows"].as_i64());
    assert_eq!(rows.sum::<i64>(), 5, "one before, and four since");
}

/// A table somebody made before, whose rule is loosened later.
#[test]
fn a_row_that_the_warehouse_refused_comes_back() {
    let mut place = Place::new("back-refused");
    let topic = place.topic("orders", 1, &[]);
    place.world.database.execute(
        "CREATE TABLE orders (id bigint CONSTRAINT small CHECK (id < 100), at timestamptz, \
         _topic text, _partition integer, _offset bigint, _timestamp timestamptz)",
    );
    place.feed(
        "orders",
        &format!(
            "topic: {topic}\ncolumns: [{{name: id, type: long}}, {{name: at, type: timestamp}}]"
        ),
    );
    raw(
        &topic,
        &[r#"{"id":1}"#, r#"{"id":150,"at":"2025-10-13T16:38:28.047846Z"}"#, r#"{"id":2}"#],
    );
    let _node = place.node();
    wait_for_quarantined(&place, 1);
    place.wait_for_watermarks("orders", &[3]);
    let (code, outcome) = replayed(&place, &["orders"]);
    assert_eq!((code, &outcome[0].3), (1, &vec![1]), "{outcome:?}");
    place.world.database.execute("ALTER TABLE orders DROP CONSTRAINT small");
    let (code, outcome) = replayed(&place, &["orders"]);
    assert_eq!((code, outcome.len(), outcome[0].1), (0, 1, 1), "{outcome:?}");
    assert_eq!(place.warehouse("orders"), [(0, 0, 1), (0, 1, 150), (0, 2, 2)]);
    let at = "SELECT count(*) FROM orders WHERE at = '2025-10-13T16:38:28.047846Z' AND _timestamp IS NOT NULL";
    assert_eq!(place.world.database.query(at)[0].get::<_, i64>(0), 1);
    place.verify();
}

/// What a command prints that does what it should.
fn done(place: &Place, arguments: &[&str]) -> String {
    let (code, printed) = place.command(arguments);
    assert_eq!(code, 0, "{arguments:?}: {printed}");
    printed
}

/// Lets ada do something with the orders.
fn grant(place: &Place, action: &str) {
    let row = ["permissions", "grant", "--to", "user:ada", "--feed", "orders", "--reason", "x"];
    done(place, &[&row[..], &["--action", action]].concat());
}

/// Ada, who may read the orders.
fn reader(place: &Place, node: &Node) -> Caller {
    grant(place, "read");
    let printed = done(place, &["token", "create", "--for", "ada"]);
    let token = printed.split_whitespace().find(|word| word.starts_with("tg_")).expect("a token");
    Caller::new(node, Some(token))
}

#[test]
fn the_quarantine_is_read_with_a_right_of_its_own() {
    let mut place = Place::new("quarantine-api");
    place.edit_node(|text| format!("{text}api: {{listen: '127.0.0.1:0'}}\n"));
    let topic = place.topic("orders", 1, &[]);
    place.feed("orders", &format!("topic: {topic}\ncolumns: [{{name: id, type: long}}]"));
    raw(&topic, &[r#"{"id":1}"#, "a secret", r#"{"id":"x"}"#]);
    let node = place.node();
    wait_for_quarantined(&place, 2);
    place.wait_for_watermarks("orders", &[3]);
    let ada = reader(&place, &node);
    let path = "/v1/feeds/orders/quarantine";
    let answers = |path: &str, status: u16| {
        wait_for(path, SOON, || (ada.get(path).status.as_u16() == status).then_some(()));
    };
    answers("/v1/feeds/orders", 200);
    assert_eq!(ada.get(path).problem().0, 404, "who reads rows reads no raw bytes");
    grant(&place, "quarantine");
    answers(path, 200);
    let found = |query: &str| -> Vec<(i64, String, String)> {
        let answer = ada.get(&format!("{path}{query}")).json();
        let records = answer.as_array().unwrap_or_else(|| panic!("{query}: {answer}")).clone();
        let record = |it: &Value| {
            let text = |name: &str| it[name].as_str().unwrap_or_default().to_owned();
            (it["offset"].as_i64().expect("an offset"), text("class"), text("value"))
        };
        records.iter().map(record).collect()
    };
    // Another way to write a name is no other feed.
    for odd in ["orders%2F", "%2Forders", "x%2F..%2Forders", "ORDERS"] {
        assert_eq!(ada.get(&format!("/v1/feeds/{odd}/quarantine")).problem().0, 404, "{odd}");
    }
    let secret = (1, "malformed".to_owned(), "a secret".to_owned());
    let wrong = (2, "wrong_type".to_owned(), r#"{"id":"x"}"#.to_owned());
    assert_eq!(found("?sink=warehouse"), [wrong.clone(), secret.clone()]);
    assert_eq!(found("?class=malformed&sink=lake"), std::slice::from_ref(&secret));
    assert_eq!(found("?from=2&before=3&partition=0&sink=lake"), [wrong]);
    assert_eq!(found("?before=2&limit=1"), [secret]);
    assert_eq!(found("?state=discarded"), []);
    for wrong in ["?limit=0", "?limit=101", "?class=odd", "?state=odd", "?sink=kafka", "?x=1"] {
        assert_eq!(ada.get(&format!("{path}{wrong}")).problem().0, 400, "{wrong}");
    }
    // The rows of the audit are on the volume, and on their way.
    wait_for("the audit", SOON, || {
        let (code, audit) = place.command(&["audit", "--action", "quarantine", "--output", "json"]);
        assert_eq!(code, 0, "{audit}");
        let audit: Vec<Value> = serde_json::from_str(&audit).expect("JSON");
        let allowed = audit.iter().filter(|row| row["allowed"] == true).count();
        (allowed >= 5 && allowed < audit.len()).then_some(())
    });
}

/// Whoever may replay makes rows of records, or settles them as what stays out, without seeing them.
#[test]
fn records_come_back_over_the_api() {
    let mut place = Place::new("back-api");
    place.edit_node(|text| format!("{text}api: {{listen: '127.0.0.1:0'}}\n"));
    let topic = place.topic("orders", 1, &[]);
    place.feed("orders", &format!("topic: {topic}\n{CHECKED}"));
    Sender::new().send(&topic, 0, 97..103);
    raw(&topic, &["a secret"]);
    let node = place.node();
    wait_for_quarantined(&place, 4);
    place.wait_for_watermarks("orders", &[7]);
    let ada = reader(&place, &node);
    let post = |what: &str, body: &Value| {
        ada.ask(Method::POST, &format!("/v1/feeds/orders/quarantine/{what}"), &[], Some(body))
    };
    wait_for("her token", SOON, || {
        (ada.get("/v1/feeds/orders").status.as_u16() == 200).then_some(())
    });
    assert_eq!(post("replay", &json!({"which": {}})).problem().0, 404, "who reads changes nothing");
    grant(&place, "replay");
    wait_for("her right", SOON, || {
        (post("replay", &json!({"which": {}, "dry_run": true})).status.as_u16() == 200)
            .then_some(())
    });
    // As the feed is, all of them stay; why is not for her to know.
    let outcomes = post("replay", &json!({"which": {"sink": "lake"}})).json();
    let left = outcomes[0]["left"].as_array().expect("a list");
    assert_eq!(left.len(), 4, "{outcomes:#}");
    assert!(left.iter().all(|it| it["reason"].is_null()), "{outcomes:#}");
    for wrong in [json!({"which": {"class": "odd"}}), json!({"witch": {}}), json!({}), json!([])] {
        assert_eq!(post("replay", &wrong).problem().0, 400, "{wrong}");
    }
    for wrong in [json!({"which": {}}), json!({"which": {}, "why": " "}), json!({"why": "x"})] {
        assert_eq!(post("discard", &wrong).problem().0, 400, "{wrong}");
    }
    place.feed(
        "orders",
        &format!("topic: {topic}\ncolumns: [{{name: id, type: long, required: true}}]"),
    );
    node.wait_for_log("the feed file changed", SOON);
    let counts = |outcomes: &Value| -> Vec<(String, usize, usize)> {
        let count = |it: &Value, name: &str| it[name].as_array().expect("a list").len();
        let one = |it: &Value| {
            let sink = it["sink"].as_str().expect("a name").to_owned();
            (sink, count(it, "replayed"), count(it, "left"))
        };
        outcomes.as_array().expect("a list").iter().map(one).collect()
    };
    let both = |replayed, left| {
        vec![("lake".to_owned(), replayed, left), ("warehouse".to_owned(), replayed, left)]
    };
    // Twice at once, and once more.
    let body = json!({"which": {"class": "check_failed"}});
    let twice = std::thread::scope(|scope| {
        let asking = [0, 1].map(|_| scope.spawn(|| post("replay", &body)));
        asking.map(|it| it.join().expect("an answer"))
    });
    assert!(twice.iter().all(|answer| answer.status.as_u16() == 200), "{:?}", twice[0].text());
    assert_eq!(post("replay", &body).json(), json!([]));
    assert_eq!(counts(&post("replay", &json!({"which": {}, "dry_run": true})).json()), both(0, 1));
    let discarded = post("discard", &json!({"which": {}, "why": "it is no order"})).json();
    assert!(
        discarded.as_array().expect("a list").iter().all(|it| it["records"] == 1),
        "{discarded:#}"
    );
    let settled = listed(&place, &["--state", "discarded"]);
    assert_eq!((settled.len(), &settled[0]["settled_by"]), (1, &json!("user:ada")), "{settled:#?}");
    place.wait_for_ids("orders", 97..103);
    place.verify();
    wait_for("the audit", SOON, || {
        let audit = done(&place, &["audit", "--output", "json"]);
        let audit: Vec<Value> = serde_json::from_str(&audit).expect("JSON");
        let of = |action: &str| {
            let of = |row: &&Value| row["action"] == action && row["allowed"] == true;
            audit.iter().filter(of).count()
        };
        (of("replay") >= 6 && of("discard") == 1).then_some(())
    });
}
