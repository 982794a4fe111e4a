//! The API: what each principal sees is what the permission rows show, whichever way it is asked.

use std::collections::BTreeMap;
use std::process::Command;

use arrow::array::RecordBatch;
use rdkafka::producer::{BaseRecord, Producer};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::database::Database;
use crate::http::Caller;
use crate::proxy::{Commit, Proxy};
use crate::rights::{Readers, sql_rows, until_settled};
use crate::servers::{env, wait_for};
use crate::source_place::{Place, SOON, Sender};
use crate::world::Setup;

const CITIES: [&str; 4] = ["Bern", "Basel", "Chur", "Thun"];
const DAY_MS: i64 = 86_400_000;
/// 2026-01-01.
const FIRST_DAY_MS: i64 = 1_767_225_600_000;
const RECORDS: i64 = 200;

/// A record as it is sent, by its number.
fn record(id: i64) -> Value {
    json!({
        "id": id,
        "email": format!("u{id}@example.org"),
        "city": CITIES[(id % 4) as usize],
        "amount": id % 7,
        "at": FIRST_DAY_MS + (id % 5) * DAY_MS,
        "left": {"phone": format!("079{id:04}"), "note": id % 3},
    })
}

fn day(id: i64) -> String {
    format!("2026-01-{:02}", 1 + id % 5)
}

const COLUMNS: &str = "columns: [{name: id, type: long}, {name: email, type: string}, \
    {name: city, type: string}, {name: amount, type: long}, {name: at, type: timestamp}]";

/// A stream in the lake and a table in both sinks, of the same records.
pub struct Shop {
    pub place: Place,
    events: String,
    accounts: String,
}

impl Shop {
    pub fn new(setup: Setup, node: &str) -> Self {
        let mut place = Place::with(setup);
        place.edit_node(|text| format!("{text}api: {{listen: '127.0.0.1:0'}}\n{node}"));
        let events = place.topic("events", 2, &[]);
        let accounts = place.topic("accounts", 2, &[]);
        let lake = "lake: {linger: 200ms}";
        let stream = format!("topic: {events}\ntime: at\nrest: true\n{COLUMNS}\n{lake}");
        place.feed("events", &stream);
        let value = COLUMNS.replace("{name: id, type: long}, ", "");
        let table = format!(
            "feed: accounts\ntype: table\ntopic: {accounts}\ntime: at\nrest: true\n\
             key: {{format: json, columns: [{{name: id, type: long}}]}}\n{value}\n{lake}\n"
        );
        let file = place.folder().join("feeds/accounts.yaml");
        std::fs::write(file, table).expect("a feed file");
        Self { place, events, accounts }
    }

    pub fn send(&self, ids: std::ops::Range<i64>) {
        let sender = Sender::new();
        for id in ids {
            let (key, value) = (json!({"id": id}).to_string(), record(id).to_string());
            for topic in [&self.events, &self.accounts] {
                let record =
                    BaseRecord::to(topic).partition((id % 2) as i32).key(&key).payload(&value);
                sender.0.send(record).unwrap_or_else(|(error, _)| panic!("{error}"));
            }
        }
        sender.0.flush(SOON).expect("the broker takes the records");
    }

    /// Waits until both sinks have so many records of each feed.
    pub fn wait_for(&self, records: i64) {
        for feed in ["events", "accounts"] {
            self.place.wait_for_watermarks(feed, &[(records + 1) / 2, records / 2]);
        }
    }

    pub fn command(&self, arguments: &[&str]) -> String {
        let (code, printed) = self.place.command(arguments);
        assert_eq!(code, 0, "{arguments:?}: {printed}");
        printed
    }

    pub fn grant(&self, to: &str, feed: &str, rest: &[&str]) -> String {
        let row = ["permissions", "grant", "--reason", "a test", "--to", to, "--feed", feed];
        let printed = self.command(&[&row, rest].concat());
        printed.split([' ', ':']).nth(1).expect("a number").to_owned()
    }

    pub fn token(&self, of: &str, rest: &[&str]) -> String {
        let printed = self.command(&[&["token", "create", "--for", of], rest].concat());
        let token = printed.split_whitespace().find(|word| word.starts_with("tg_"));
        token.unwrap_or_else(|| panic!("a token: {printed}")).to_owned()
    }

    pub fn audit(&self, rest: &[&str]) -> Vec<Value> {
        let printed = self.command(&[&["audit", "--output", "json"], rest].concat());
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    fn hash(&self, text: &str) -> String {
        let salt = self.place.world.database.query("SELECT salt FROM tidegate.salt");
        let salt: Vec<u8> = salt[0].get(0);
        let digest = Sha256::new().chain_update(salt).chain_update(text).finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Waits until the node decides by rows that let somebody read.
pub fn until_read(caller: &Caller, feed: &str) {
    wait_for(&format!("{feed} to be read"), SOON, || {
        (caller.get(&format!("/v1/feeds/{feed}")).status == StatusCode::OK).then_some(())
    });
}

/// The values of these columns, by the record's number.
fn by_id(rows: &[Value], columns: &[&str]) -> BTreeMap<i64, Map<String, Value>> {
    let one = |row: &Value| {
        let row = row.as_object().expect("an object");
        let of = |name: &&str| ((*name).to_owned(), row.get(*name).cloned().unwrap_or(Value::Null));
        let id = row["id"].as_i64().unwrap_or_else(|| panic!("an id: {row:?}"));
        (id, columns.iter().map(of).collect())
    };
    let found: BTreeMap<_, _> = rows.iter().map(one).collect();
    assert_eq!(found.len(), rows.len(), "each once");
    found
}

/// Who sees what: the row's arguments, and of each record what is expected of its columns.
type Case<'s> = (&'s str, Vec<Vec<&'s str>>, Box<dyn Fn(i64) -> Option<Value> + 's>);

#[test]
fn everybody_sees_what_the_rows_show_in_either_sink() {
    let shop = Shop::new(Setup { name: "api-rows", ..Setup::default() }, "");
    let readers = Readers::new(&shop);
    let node = shop.place.node();
    shop.send(0..RECORDS);
    shop.wait_for(RECORDS);
    let plain = |id: i64| {
        let sent = record(id);
        json!({"email": sent["email"], "city": sent["city"], "amount": sent["amount"],
               "phone": sent["left"]["phone"]})
    };
    let with = |id: i64, name: &str, value: Value| {
        let mut row = plain(id);
        row[name] = value;
        row
    };
    let city = |id: i64| CITIES[(id % 4) as usize];
    let cases: Vec<Case<'_>> = vec![
        ("all", vec![vec![]], Box::new(|id| Some(plain(id)))),
        (
            "bern",
            vec![vec!["--where", "city = 'Bern'"]],
            Box::new(|id| (city(id) == "Bern").then(|| plain(id))),
        ),
        (
            "hashed",
            vec![vec!["--mask", "email=hash", "--mask", "left.phone=null"]],
            Box::new(|id| {
                let hashed = with(id, "email", json!(shop.hash(&format!("u{id}@example.org"))));
                let mut hashed = hashed;
                hashed["phone"] = Value::Null;
                Some(hashed)
            }),
        ),
        (
            "both",
            // All of Bern, and elsewhere without the address.
            vec![vec!["--where", "city = 'Bern'"], vec!["--mask", "email=null"]],
            Box::new(|id| match city(id) {
                "Bern" => Some(plain(id)),
                _ => Some(with(id, "email", Value::Null)),
            }),
        ),
        (
            "days",
            vec![vec!["--from", "2026-01-02", "--to-day", "2026-01-03"]],
            Box::new(|id| {
                ["2026-01-02", "2026-01-03"].contains(&day(id).as_str()).then(|| plain(id))
            }),
        ),
        (
            "but",
            vec![vec![], vec!["--deny", "--where", "amount > 3"]],
            Box::new(|id| (id % 7 <= 3).then(|| plain(id))),
        ),
        (
            "less",
            vec![
                vec!["--columns", "id,city"],
                vec!["--deny", "--columns", "city", "--where", "id < 50"],
            ],
            Box::new(|id| {
                let city = if id < 50 { Value::Null } else { json!(city(id)) };
                Some(json!({"email": null, "city": city, "amount": null, "phone": null}))
            }),
        ),
    ];
    let nobody = Caller::new(&node, None);
    for (name, grants, expected) in &cases {
        let name = readers.person(&shop, name);
        for grant in grants {
            shop.grant(&format!("user:{name}"), "*", grant);
        }
        let caller = nobody.with(&shop.token(&name, &[]));
        until_read(&caller, "events");
        until_settled(&shop);
        let wanted: BTreeMap<i64, Value> =
            (0..RECORDS).filter_map(|id| Some((id, expected(id)?))).collect();
        for (feed, source) in [
            ("events", "lake"),
            ("accounts", "lake"),
            ("accounts", "warehouse"),
            ("accounts", "sql"),
        ] {
            let path = format!("/v1/feeds/{feed}/rows?source={source}");
            let rows = match source {
                "sql" => sql_rows(&shop, &name, feed),
                _ => caller.get(&path).rows(),
            };
            let columns = ["email", "city", "amount", "_rest"];
            let mut found = by_id(&rows, &columns);
            for row in found.values_mut() {
                let rest = row.remove("_rest").unwrap_or_default();
                // The lake has what is left over as text.
                let rest = match rest.as_str() {
                    Some(text) => serde_json::from_str(text).expect("JSON"),
                    None => rest,
                };
                let phone = rest["left"]["phone"].clone();
                row.insert(
                    "phone".to_owned(),
                    if phone.is_null() { rest["left.phone"].clone() } else { phone },
                );
            }
            let found: BTreeMap<i64, Value> =
                found.into_iter().map(|(id, row)| (id, Value::Object(row))).collect();
            assert_eq!(found, wanted, "{name}, {feed} in the {source}");
            if source == "sql" {
                continue;
            }

            // Every other way to ask is the same answer.
            let half = caller.get(&format!("{path}&where=id%20%3C%20100")).rows();
            let below: Vec<i64> = wanted.keys().copied().filter(|id| *id < 100).collect();
            assert_eq!(by_id(&half, &["id"]).into_keys().collect::<Vec<_>>(), below, "{name}");
            assert_eq!(paged(&caller, &path, 7), rows, "{name}: pages");
            for format in [
                "text/csv",
                "application/vnd.apache.parquet",
                "application/vnd.apache.arrow.stream",
            ] {
                let answer = caller.get_as(&path, format);
                assert_eq!(
                    (answer.status, answer.headers["content-type"].as_str()),
                    (StatusCode::OK, format)
                );
                assert_eq!(count(format, answer.body), rows.len(), "{name}: {format}");
            }
        }
    }
}

fn paged(caller: &Caller, path: &str, limit: usize) -> Vec<Value> {
    let mut next = Some(format!("{path}&limit={limit}"));
    let mut rows = Vec::new();
    while let Some(path) = next {
        let answer = caller.get(&path);
        let page = answer.rows();
        next = answer.next();
        // Of rows that are not seen no page tells, by being short.
        assert!(page.len() == limit || (page.len() < limit && next.is_none()), "{path}");
        rows.extend(page);
    }
    rows
}

/// The rows in a body, by a reader of the format.
fn count(format: &str, body: Vec<u8>) -> usize {
    let sum = |batches: Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum();
    match format {
        "text/csv" => String::from_utf8(body).expect("text").lines().count() - 1,
        "application/vnd.apache.parquet" => {
            let file = bytes::Bytes::from(body);
            let reader =
                parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)
                    .and_then(|builder| builder.build())
                    .expect("a Parquet file");
            sum(reader.collect::<Result<_, _>>().expect("rows"))
        }
        _ => {
            let reader = arrow::ipc::reader::StreamReader::try_new(body.as_slice(), None);
            let batches: Vec<_> =
                reader.expect("a stream").collect::<Result<_, _>>().expect("rows");
            assert!(batches.len() <= 1, "where batches end tells of what is hidden");
            sum(batches)
        }
    }
}

#[test]
fn pages_are_of_one_state_and_of_one_reader() {
    let shop = Shop::new(Setup { name: "api-pages", ..Setup::default() }, "");
    let node = shop.place.node();
    shop.send(0..100);
    shop.wait_for(100);
    for who in ["ada", "bob"] {
        shop.grant(&format!("user:{who}"), "*", &[]);
    }
    let ada = Caller::new(&node, Some(&shop.token("ada", &[])));
    let bob = ada.with(&shop.token("bob", &[]));
    until_read(&ada, "events");
    until_read(&bob, "events");
    let first = ada.get("/v1/feeds/events/rows?columns=id&limit=30");
    let mut ids = by_id(&first.rows(), &[]).into_keys().collect::<Vec<_>>();
    let version = first.headers["tidegate-version"].clone();
    let mut next = first.next();
    let second = next.clone().expect("a next page");
    // What lands meanwhile is of another state.
    shop.send(100..120);
    shop.wait_for(120);
    while let Some(path) = next {
        let page = ada.get(&path);
        assert_eq!(page.headers["tidegate-version"], version);
        ids.extend(by_id(&page.rows(), &[]).into_keys());
        next = page.next();
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
    assert_eq!(ada.get("/v1/feeds/events/rows?columns=id").rows().len(), 120);
    let then = ada.get(&format!("/v1/feeds/events/rows?columns=id&version={version}"));
    assert_eq!(then.rows().len(), 100, "time travel");
    assert_eq!(ada.get("/v1/feeds/events/rows?version=999").problem().0, 404);

    // Another's, another question's, and a forged one.
    let (path, cursor) = second.split_once("cursor=").expect("a cursor");
    let forged = format!("{path}cursor=A{}", &cursor[1..]);
    for (caller, path) in [
        (&bob, second.clone()),
        (&ada, second.replace("columns=id", "columns=email")),
        (&ada, second.replace("columns=id", "columns=id&where=id%3E3")),
        (&ada, second.replace("events", "accounts")),
        (&ada, forged),
    ] {
        let denials = || shop.audit(&["--denied"]).len();
        let before = denials();
        assert_eq!(caller.get(&path).problem(), (400, "bad-request".to_owned()), "{path}");
        wait_for("the denial in the audit", SOON, || (denials() > before).then_some(()));
    }
    // Rights that have changed since end a cursor, too.
    shop.grant("user:ada", "events", &["--deny", "--columns", "email"]);
    wait_for("the denial to count", SOON, || {
        let columns = ada.get("/v1/feeds/events").json()["lake"]["columns"].clone();
        let names = columns.as_array().expect("columns").iter().map(|it| it["name"].clone());
        (!names.collect::<Vec<_>>().contains(&json!("email"))).then_some(())
    });
    assert_eq!(ada.get(&second).problem().0, 400);
}

#[test]
fn what_is_denied_and_what_is_not_there_look_alike() {
    let shop = Shop::new(Setup { name: "api-denied", ..Setup::default() }, "");
    let node = shop.place.node();
    shop.send(0..10);
    shop.wait_for(10);
    shop.grant("user:ada", "events", &["--columns", "id,city", "--mask", "city=hash"]);
    shop.grant("user:wide", "*", &[]);
    let ada = Caller::new(&node, Some(&shop.token("ada", &[])));
    let wide = ada.with(&shop.token("wide", &[]));
    until_read(&ada, "events");
    until_read(&wide, "events");

    let like = |caller: &Caller, feed: &str, path: &str| {
        let answer = caller.get(&format!("/v1/feeds/{feed}{path}"));
        assert_eq!(answer.problem(), (404, "no-such-feed".to_owned()), "{feed}{path}");
        let mut headers = answer.headers.clone();
        headers.remove("date");
        headers.remove("content-length");
        (answer.text().replace(feed, "FEED"), headers)
    };
    for path in ["", "/rows", "/partitions", "/watermarks", "/rows?source=warehouse&limit=3"] {
        let denied = like(&ada, "accounts", path);
        assert_eq!(denied, like(&ada, "nowhere", path), "{path}");
        assert_eq!(denied, like(&wide, "nowhere", path), "{path}");
    }
    for feed in
        ["..%2F..%2Fetc%2Fpasswd", "%2e%2e", "events%00", "EVENTS", "events%20", "%27%20OR%20%271"]
    {
        let answer = wide.get(&format!("/v1/feeds/{feed}/rows"));
        assert_eq!(answer.problem().0, 404, "{feed}: {}", answer.text());
    }
    let named: Vec<String> = ada
        .get("/v1/feeds")
        .json()
        .as_array()
        .expect("feeds")
        .iter()
        .map(|feed| feed["name"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(named, ["events"]);

    // No way to ask leads to what is hidden.
    for query in [
        "columns=email",
        "where=email%20%3D%20%27u1%40example.org%27",
        "where=city%20%3D%20%27Bern%27",
        "where=city%20IS%20NULL",
        "where=amount%3E1",
        "columns=id,_rest",
        "where=id%20%3D%201%3B%20DROP%20TABLE%20events",
        "where=id%20IN%20(SELECT%201)",
        "where=pg_sleep(10)%20%3D%201",
        "columns=id%22%20FROM%20x%20--",
        "source=warehouse",
        "limit=0",
        "limit=10001",
        "version=1&as_of=2026-01-01T00:00:00Z",
        "as_of=yesterday",
        "cursor=x&limit=1",
        "order=email",
    ] {
        let answer = ada.get(&format!("/v1/feeds/events/rows?{query}"));
        assert_eq!(answer.problem(), (400, "bad-request".to_owned()), "{query}");
        let told = answer.text();
        for secret in ["example.org", "Bern", "SELECT", "tidegate.", "/streams/"] {
            let asked = urlencoded(query).contains(secret);
            assert!(asked || !told.contains(secret), "{query}: {told}");
        }
    }
    // The folders' dates are of a column that she does not see.
    let places = ada.get("/v1/feeds/events/partitions").json()["partitions"].clone();
    let places = places.as_array().expect("partitions").clone();
    assert_eq!(
        (places.len(), &places[0]["values"], &places[0]["rows"]),
        (1, &json!({}), &json!(10))
    );
    let wide_places = wide.get("/v1/feeds/events/partitions").json()["partitions"].clone();
    assert_eq!(wide_places.as_array().map(Vec::len), Some(5));
    shop.grant("user:few", "events", &["--where", "id < 3"]);
    let few = ada.with(&shop.token("few", &[]));
    until_read(&few, "events");
    for sizes in ["partitions", "watermarks"] {
        assert_eq!(few.get(&format!("/v1/feeds/events/{sizes}")).problem().0, 403, "{sizes}");
        assert_eq!(
            wide.get(&format!("/v1/feeds/events/{sizes}")).status,
            StatusCode::OK,
            "{sizes}"
        );
    }
    for caller in [&few, &wide] {
        let rows = caller.get("/v1/permissions").json();
        let denials =
            rows.as_array().expect("rows").iter().filter(|it| it["row"]["effect"] == "deny");
        assert_eq!(denials.count(), 0, "denials tell of what is not to be known");
    }
    let nul = wide.get("/v1/audit?feed=%00").problem();
    assert_eq!(nul, (400, "bad-request".to_owned()));

    // Nobody.
    for token in [None, Some("tg_AAAAAAAAAAAA.BBBB"), Some("x"), Some("")] {
        let caller = Caller { token: token.map(str::to_owned), ..ada.clone() };
        for path in ["/v1/feeds", "/v1/feeds/events/rows", "/v1/audit", "/v1/status"] {
            let answer = caller.get(path);
            assert_eq!(answer.problem(), (401, "unauthorized".to_owned()), "{path}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    let expired = shop.token("ada", &["--expires", "1s"]);
    wait_for("the token to expire", SOON, || {
        (ada.with(&expired).get("/v1/status").status == StatusCode::UNAUTHORIZED).then_some(())
    });
    // All of it is in the audit.
    wait_for("the denials in the audit", SOON, || {
        let denied = shop.audit(&["--denied"]);
        let has = |who: &str, action: &str, feed: &Value| {
            denied.iter().any(|row| {
                row["principal"] == who && row["action"] == action && row["feed"] == *feed
            })
        };
        (has("user:ada", "read", &json!("accounts"))
            && has("user:ada", "read", &json!("nowhere"))
            && has("user:wide", "read", &json!("nowhere"))
            && has("nobody", "sign-in", &Value::Null))
        .then_some(())
    });
    let reads = shop.audit(&["--principal", "user:ada", "--action", "read"]);
    assert!(!reads.is_empty());
}

fn urlencoded(text: &str) -> String {
    let pairs = url::form_urlencoded::parse(text.as_bytes());
    pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

#[test]
fn a_grant_counts_on_every_node_without_a_restart() {
    let shop = Shop::new(Setup { name: "api-grants", ..Setup::default() }, "");
    shop.command(&["migrate", "--admin", "root"]);
    let first = shop.place.node();
    crate::http::base(&first);
    // Another volume, as every node has.
    shop.place.edit_node(|text| format!("{text}volume: other\n"));
    let second = shop.place.world.node("second");
    shop.send(0..10);
    shop.wait_for(10);
    let root = Caller::new(&first, Some(&shop.token("root", &[])));
    let ada = root.with(&shop.token("ada", &[]));
    let there = Caller { base: crate::http::base(&second), ..ada.clone() };
    let known = |caller: &Caller| caller.get("/v1/status").status == StatusCode::OK;
    wait_for("the tokens", SOON, || (known(&root) && known(&ada) && known(&there)).then_some(()));
    // A page: rows that are streamed end in the middle when the grant does.
    let seen =
        |caller: &Caller| caller.get("/v1/feeds/events/rows?limit=5").status == StatusCode::OK;
    for round in 0..3 {
        assert!(!seen(&ada) && !seen(&there), "{round}");
        let row = json!({"principal": "user:ada", "feed": "events", "action": "read", "reason": "a test"});
        let granted = root.ask(Method::POST, "/v1/permissions", &[], Some(&row));
        assert_eq!(granted.status, StatusCode::CREATED, "{}", granted.text());
        let since = std::time::Instant::now();
        wait_for("the grant on both nodes", SOON, || (seen(&ada) && seen(&there)).then_some(()));
        let id = granted.json()["id"].as_i64().expect("a number");
        let path = format!("/v1/permissions/{id}?reason=over");
        assert_eq!(ada.ask(Method::DELETE, &path, &[], None).problem().0, 403);
        assert_eq!(root.ask(Method::DELETE, &path, &[], None).status, StatusCode::NO_CONTENT);
        wait_for("its end on both nodes", SOON, || (!seen(&ada) && !seen(&there)).then_some(()));
        println!("{round}: granted and taken back on two nodes in {:?}", since.elapsed());
    }
    // Who manages one feed grants that, and no pattern that holds others.
    shop.grant("user:half", "events", &["--action", "manage"]);
    let half = root.with(&shop.token("half", &[]));
    let grant = |feed: &str| {
        let row =
            json!({"principal": "user:x", "feed": feed, "action": "read", "reason": "a test"});
        half.ask(Method::POST, "/v1/permissions", &[], Some(&row)).status
    };
    wait_for("the manager", SOON, || (grant("events") == StatusCode::CREATED).then_some(()));
    assert_eq!((grant("*"), grant("accounts")), (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN));
    let who = |caller: &Caller| {
        let rows = caller.get("/v1/audit?action=grant&limit=50").json();
        let rows = rows.as_array().expect("rows").clone();
        rows.iter()
            .map(|row| row["principal"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    assert!(who(&root).contains(&"user:half".to_owned()));
    assert!(who(&half).iter().all(|by| by == "user:half"));
    assert_eq!(half.get("/v1/audit?principal=user:root").problem().0, 403);
    // What the janitor does is for those who may manage everything.
    let chores = root.get("/v1/janitor").json();
    let chores = chores.as_array().expect("the chores").clone();
    let named: Vec<&Value> = chores.iter().map(|chore| &chore["chore"]).collect();
    assert_eq!(named, ["retention", "compaction", "checkpoints", "vacuum", "statistics", "audit"]);
    assert_eq!((&chores[3]["schedule"], &chores[3]["last_run"]), (&json!("1h"), &Value::Null));
    assert_eq!(half.get("/v1/janitor").problem().0, 403);
    // A chore that is asked for is done, hours before it is due.
    let signal = |caller: &Caller, chore: &str| {
        caller.ask(Method::POST, &format!("/v1/janitor/{chore}"), &[], None).status.as_u16()
    };
    assert_eq!((signal(&half, "vacuum"), signal(&root, "odd")), (403, 404));
    let vacuumed = || {
        let chores = root.get("/v1/janitor").json();
        let run = chores[3]["last_run"].clone();
        (!run.is_null()).then_some(run)
    };
    assert_eq!((vacuumed(), signal(&root, "vacuum")), (None, 202));
    let first = wait_for("the vacuum", SOON, vacuumed);
    shop.command(&["janitor", "signal", "vacuum"]);
    wait_for("another", SOON, || vacuumed().filter(|run| *run != first));
    let asked = root.get("/v1/audit?action=janitor").json();
    let by = |row: &Value| row["principal"].as_str().is_some_and(|by| by == "user:root");
    assert!(asked.as_array().is_some_and(|rows| rows.len() >= 3 && rows.iter().any(by)), "{asked}");
}

#[test]
fn while_the_database_is_away_reads_go_on_by_the_last_rows() {
    let proxy = Proxy::start(Database::address(), Commit::Postgres);
    let setup =
        Setup { name: "api-away", postgres: Some(proxy.address.clone()), ..Setup::default() };
    let shop = Shop::new(setup, "governance: {stale_after: 12s}\n");
    let mut node = shop.place.node();
    shop.send(0..10);
    shop.wait_for(10);
    shop.grant("user:ada", "events", &[]);
    let ada = Caller::new(&node, Some(&shop.token("ada", &[])));
    until_read(&ada, "events");
    let read = |caller: &Caller| caller.get("/v1/feeds/events/rows").status;
    assert_eq!(read(&ada), StatusCode::OK);
    let audited = || shop.audit(&["--principal", "user:ada", "--action", "read"]).len();
    wait_for("the first read in the audit", SOON, || (audited() > 0).then_some(()));
    proxy.cut();
    for _ in 0..3 {
        assert_eq!(read(&ada), StatusCode::OK, "by the last rows");
    }
    // Killed and started again, it remembers, and has lost nothing of the audit.
    node.kill();
    let node = shop.place.node();
    let ada = Caller::new(&node, ada.token.as_deref());
    assert_eq!(read(&ada), StatusCode::OK, "by the rows on its volume");
    wait_for("the rows to be too old", SOON, || {
        (read(&ada) == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    });
    proxy.mend();
    wait_for("the rows to be read again", SOON, || (read(&ada) == StatusCode::OK).then_some(()));
    wait_for("the audit of all that was read", SOON, || (audited() >= 6).then_some(()));
}

/// The blocks of a language in a document.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let blocks = document.split(&opening).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_documents_clients_read_what_they_say() {
    let shop = Shop::new(Setup { name: "api-clients", ..Setup::default() }, "");
    let node = shop.place.node();
    shop.send(0..40);
    shop.wait_for(40);
    shop.grant("group:analysts", "*", &["--mask", "email=hash"]);
    let ada = Caller::new(&node, Some(&shop.token("ada", &["--group", "analysts"])));
    until_read(&ada, "events");
    until_read(&ada, "accounts");
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md"));
    let document = document.expect("the document");
    let run = |mut command: Command| {
        command.env("URL", &ada.base).env("TOKEN", ada.token.as_deref().unwrap_or_default());
        let out = command.output().expect("it starts");
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{command:?}: {}: {errors}", out.status);
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let [shell, python] = ["sh", "python"].map(|language| {
        let blocks = blocks(&document, language);
        assert_eq!(blocks.len(), 1, "{language}");
        blocks[0].clone()
    });
    let mut sh = Command::new("bash");
    sh.args(["-euc", &shell]);
    let printed = run(sh);
    let (_feeds, rows) = printed.split_once(']').expect("a list of feeds");
    let found: Vec<Value> =
        rows.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let wanted = (0..40).filter(|id| id % 4 == 0 && id % 7 >= 2);
    assert_eq!(
        by_id(&found, &["city"]).into_keys().collect::<Vec<_>>(),
        wanted.collect::<Vec<_>>()
    );
    let mut py = Command::new(env("TIDEGATE_TEST_PYTHON"));
    py.args(["-c", &python]);
    let printed = run(py);
    for (at, city) in CITIES.iter().enumerate() {
        let sum: i64 = (0..40).filter(|id| id % 4 == at as i64).map(|id| id % 7).sum();
        let told = |line: &&str| line.contains(city) && line.contains(&sum.to_string());
        assert_eq!(printed.lines().filter(told).count(), 2, "{city} {sum} in both:\n{printed}");
    }
}

#[test]
fn a_governor_that_panics_is_built_anew() {
    let shop = Shop::new(Setup { name: "api-panic", ..Setup::default() }, "");
    // Known before the node is, so that nothing but reads is recorded.
    shop.grant("user:ada", "*", &[]);
    let token = shop.token("ada", &[]);
    let node = shop.place.world.broken_node("node", "governor.look=panic@4,governor.keep=panic@3");
    shop.send(0..10);
    shop.wait_for(10);
    let ada = Caller::new(&node, Some(&token));
    until_read(&ada, "events");
    let read = || ada.get("/v1/feeds/events/rows?limit=5").status;
    // A read that meets a death waits for the next life, and is recorded there.
    for _ in 0..5 {
        assert_eq!(read(), StatusCode::OK);
    }
    let died = "the governor died and is built anew";
    wait_for("both deaths", SOON, || (node.log().matches(died).count() == 2).then_some(()));
    wait_for("all reads in the audit", SOON, || {
        let reads = shop.audit(&["--principal", "user:ada", "--action", "read"]);
        // The first looked at what there is.
        (reads.iter().filter(|row| row["allowed"] == true).count() == 6).then_some(())
    });
    // It hears of changes as the one before did.
    shop.grant("user:ada", "*", &["--deny"]);
    wait_for("a change", SOON, || (read() == StatusCode::NOT_FOUND).then_some(()));
}

/// Whatever is asked, there is no answer but those that the document promises.
#[test]
fn the_document_promises_what_is_answered() {
    let limits = "limits: {requests_per_second: 100000, burst: 100000}";
    let shop = Shop::new(Setup { name: "api-fuzz", ..Setup::default() }, "");
    shop.place.edit_node(|text| text.replace("'127.0.0.1:0'", &format!("'127.0.0.1:0', {limits}")));
    let mut node = shop.place.node();
    shop.send(0..50);
    shop.wait_for(50);
    shop.command(&["migrate", "--admin", "root"]);
    shop.grant("user:root", "*", &[]);
    let root = Caller::new(&node, Some(&shop.token("root", &[])));
    until_read(&root, "events");
    let fuzz = |rest: &[&str]| {
        let tool =
            std::path::Path::new(&env("TIDEGATE_TEST_PYTHON")).with_file_name("schemathesis");
        let mut command = Command::new(tool);
        command.current_dir(shop.place.folder()).arg("run");
        command.arg(format!("{}/openapi.json", root.base));
        let sign = format!("Authorization: Bearer {}", root.token.as_deref().unwrap_or_default());
        command.args(["-H", &sign, "--seed", "1", "--phases", "examples,coverage,fuzzing"]);
        let checks = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,unsupported_method,negative_data_rejection,\
                      ignored_auth";
        command.args(["--checks", checks, "--no-color"]).args(rest);
        let out = command.output().expect("schemathesis starts");
        let told = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{told}\n{}", String::from_utf8_lossy(&out.stderr));
        println!("{}", told.lines().rev().take(25).collect::<Vec<_>>().join("\n"));
    };
    // Not what takes the caller's own rows away, before the rest was asked.
    fuzz(&["-n", "20", "--max-time", "40", "--exclude-method", "DELETE"]);
    fuzz(&["-n", "20", "--max-time", "10", "--include-method", "DELETE"]);
    assert!(node.terminate(SOON).0.success());
}
