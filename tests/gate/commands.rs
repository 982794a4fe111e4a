//! The commands as a script sees them: what they print, where, and how they end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::Value;

use crate::kafka;
use crate::node::tidegate;
use crate::servers::{env, servers, turn, wait_for};
use crate::source_place::{COLUMNS, Place, SOON, Sender};

pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

/// Runs a command to its end, which must come by itself.
fn ended(command: &mut Command) -> Ended {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    // Pipes hold little: read while it runs.
    let read = |from: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            drop(from.expect("a pipe").read_to_string(&mut text));
            text
        })
    };
    let out = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let err = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let since = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break status;
        }
        if since.elapsed() > SOON * 2 {
            drop(child.kill());
            panic!("{command:?} does not end: {}", err.join().unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = |thread: std::thread::JoinHandle<String>| thread.join().expect("read");
    Ended { code: status.code().expect("no signal"), out: text(out), err: text(err) }
}

fn say(arguments: &[&str]) -> Ended {
    ended(tidegate().args(arguments))
}

pub fn with_config(arguments: &[&str], config: &Path) -> Ended {
    ended(tidegate().args(arguments).arg("--config").arg(config))
}

/// A folder with these files; the node file is `tidegate.yaml`.
pub fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = Path::new(&env("TIDEGATE_TEST_DIR")).join("gate").join(name);
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(folder.join("feeds")).expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.join(name), text).expect("a file");
    }
    folder.join("tidegate.yaml")
}

const BAD_NODE: &str = "kafka: {bootstrap: localhost, grup: x}
warehouse: {url: 'postgres://u@h/d', connections: 0}
lake: {url: lake}
memory: {budget: 1MiB}
drain_deadline: soon
";
const NODE_FAULTS: [(&str, &str); 5] = [
    ("tidegate.yaml", "kafka.bootstrap"),
    ("tidegate.yaml", "kafka.grup"),
    ("tidegate.yaml", "warehouse.connections"),
    ("tidegate.yaml", "memory.budget"),
    ("tidegate.yaml", "drain_deadline"),
];
const BAD_FEEDS: [(&str, &str); 3] = [
    ("feeds/a.yaml", "feed: orders\ntype: strem\ntopic: orders\ncolums: []\n"),
    ("feeds/b.yaml", "feed: Totals\ntype: table\ntopic: totals\ntime: nothing\n"),
    ("feeds/c.json", r#"{"feed": "cut", "#),
];
const FEED_FAULTS: [(&str, &str); 5] = [
    ("a.yaml", "type"),
    ("a.yaml", "colums"),
    ("b.yaml", "feed"),
    ("b.yaml", "key"),
    ("c.json", ""),
];

/// Fails unless `config check` names these (file, field), as text on standard error and as JSON.
fn names(config: &Path, faults: &[(&str, &str)]) {
    let text = with_config(&["config", "check"], config);
    assert_eq!(text.code, 2, "{}", text.err);
    assert!(text.out.is_empty(), "faults belong on standard error: {}", text.out);
    let json = with_config(&["config", "check", "--output", "json"], config);
    assert_eq!(json.code, 2);
    let named: BTreeSet<(String, String)> = json.json()["faults"]
        .as_array()
        .expect("faults")
        .iter()
        .map(|fault| {
            let file = Path::new(fault["file"].as_str().expect("a file")).file_name();
            let file = file.expect("a name").to_string_lossy().into_owned();
            (file, fault["field"].as_str().expect("a field").to_owned())
        })
        .collect();
    let missing: Vec<_> = faults
        .iter()
        .filter(|(file, field)| {
            !named.contains(&((*file).to_owned(), (*field).to_owned()))
                || !text.err.contains(&format!("{file}: {field}"))
        })
        .collect();
    assert!(missing.is_empty(), "not named: {missing:?}; named: {named:?}");
}

#[test]
fn every_fault_of_the_node_file() {
    let config = folder("faults-node", &[("tidegate.yaml", BAD_NODE)]);
    names(&config, &NODE_FAULTS);
    // What needs a good configuration says the same and ends the same way.
    for command in [&["run"][..], &["feeds", "check"], &["migrate"], &["verify"]] {
        let ended = with_config(command, &config);
        assert_eq!(ended.code, 2, "{command:?}: {}", ended.err);
        assert!(ended.err.contains("did you mean `group`?"), "{command:?}: {}", ended.err);
    }
}

#[test]
fn every_fault_of_the_feed_files() {
    let node = "kafka: {bootstrap: 'b:9092'}\nlake: {url: lake}\n";
    let [one, two, three] = BAD_FEEDS;
    let config = folder("faults-feeds", &[("tidegate.yaml", node), one, two, three]);
    names(&config, &FEED_FAULTS);
    let text = with_config(&["config", "check"], &config).err;
    for nearest in ["did you mean `stream`?", "did you mean `columns`?", "did you mean `totals`?"] {
        assert!(text.contains(nearest), "{nearest}: {text}");
    }
}

#[test]
fn every_fault_of_both_at_once() {
    let [one, two, three] = BAD_FEEDS;
    let config = folder("faults", &[("tidegate.yaml", BAD_NODE), one, two, three]);
    names(&config, &[&NODE_FAULTS[..], &FEED_FAULTS].concat());
}

#[test]
fn used_wrongly() {
    for arguments in [&["run", "--no-such"][..], &["nonsense"], &[], &["generate", "--bad", "2"]] {
        let ended = say(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {}{}", ended.out, ended.err);
    }
    for arguments in [&["--help"][..], &["demo", "--help"], &["--version"]] {
        let ended = say(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}");
        assert!(!ended.out.is_empty(), "{arguments:?} says nothing");
    }
    let ended = with_config(&["run"], Path::new("/nowhere/tidegate.yaml"));
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(ended.err.contains("/nowhere/tidegate.yaml"), "{}", ended.err);
}

#[test]
fn the_page_of_metrics_is_made_by_the_program() {
    let page = say(&["config", "metrics"]);
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let kept = std::fs::read_to_string(&kept).unwrap_or_default();
    assert!(page.out == kept, "`tidegate config metrics > docs/metrics.md`");
}

#[test]
fn the_schema_and_the_page_made_from_it() {
    let schema = say(&["config", "schema"]);
    assert_eq!(schema.code, 0);
    let schema = schema.json();
    assert!(schema["node"]["properties"]["kafka"].is_object(), "{schema:#}");
    assert!(schema["feed"]["properties"]["columns"].is_object(), "{schema:#}");
    let page = say(&["config", "schema", "--markdown"]);
    assert_eq!(page.code, 0);
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let kept = std::fs::read_to_string(&kept).unwrap_or_default();
    let differs = page.out.lines().zip(kept.lines()).find(|(page, kept)| page != kept);
    assert!(
        page.out == kept,
        "docs/configuration.md is not what the program says (first difference: {differs:?}): \
         `tidegate config schema --markdown > docs/configuration.md`"
    );
}

/// As `| head` leaves it, but before the first byte.
fn nobody_reads() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn nobody_reads_what_is_said() {
    let page = tidegate()
        .args(["config", "schema", "--markdown"])
        .stdout(nobody_reads())
        .stderr(Stdio::piped())
        .output()
        .expect("the binary runs");
    let err = String::from_utf8_lossy(&page.stderr);
    assert_eq!((page.status.code(), &*err), (Some(0), ""));
    // Faults are said on standard error; the exit code tells of them still.
    let config = folder("faults-unread", &[("tidegate.yaml", BAD_NODE)]);
    for command in ["config check", "run"] {
        let mut check = tidegate();
        check.args(command.split(' ')).arg("--config").arg(&config);
        let ended = check.stdout(nobody_reads()).stderr(nobody_reads()).status();
        assert_eq!(ended.expect("the binary runs").code(), Some(2), "{command}");
    }
}

#[test]
fn a_bucket_that_is_not_there_and_a_key_that_is_not_known() {
    let node = |bucket: &str, key: &str| {
        format!(
            "kafka: {{bootstrap: '{}'}}
lake:
  url: s3://{bucket}/x
  s3:
    endpoint: {}
    region: {}
    access_key: {{env: {key}}}
    secret_key: {{env: TIDEGATE_TEST_S3_SECRET_KEY}}
",
            kafka::address(),
            env("TIDEGATE_TEST_S3_ENDPOINT"),
            env("TIDEGATE_TEST_S3_REGION"),
        )
    };
    let bucket = env("TIDEGATE_TEST_S3_BUCKET");
    for (bucket, key, remedy) in [
        ("no-such-bucket", "TIDEGATE_TEST_S3_ACCESS_KEY", "create the bucket"),
        // Any variable that holds something else than the key; this server answers that with a 404.
        (&bucket, "TIDEGATE_TEST_S3_REGION", "`lake.s3`"),
    ] {
        let feed = "feed: one\ntype: stream\ntopic: first\n";
        let files = [("tidegate.yaml", &*node(bucket, key)), ("feeds/one.yaml", feed)];
        let config = folder("wrong-lake", &files);
        let ended = with_config(&["run"], &config);
        assert_eq!(ended.code, 1, "{}", ended.err);
        assert!(ended.err.contains(remedy) && !ended.err.contains("<Error>"), "{}", ended.err);
    }
}

#[test]
fn feeds_as_a_list() {
    let config = folder(
        "feeds-list",
        &[
            ("tidegate.yaml", "kafka: {bootstrap: 'b:9092'}\nlake: {url: lake}\n"),
            ("feeds/one.yaml", "feed: one\ntype: stream\ntopic: first\n"),
            (
                "feeds/two.json",
                r#"{"feed": "x_{topic}", "type": "stream", "topics": "^t.*", "enabled": false}"#,
            ),
        ],
    );
    let list = with_config(&["feeds", "list", "--output", "json"], &config);
    assert_eq!(list.code, 0, "{}", list.err);
    assert_eq!(
        list.json(),
        serde_json::json!([
            {"feed": "one", "type": "stream", "topics": "first", "sinks": ["lake"], "enabled": true},
            {"feed": "x_{topic}", "type": "stream", "topics": "^t.*", "sinks": ["lake"], "enabled": false},
        ])
    );
    let text = with_config(&["feeds", "list"], &config);
    assert!(text.out.contains("one") && text.out.contains("(disabled)"), "{}", text.out);
    assert_eq!(with_config(&["feeds", "check"], &config).code, 0);
    assert_eq!(with_config(&["config", "check"], &config).code, 0);
}

#[test]
fn a_database_is_migrated_once() {
    let mut place = Place::new("migrate");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("orders", &topic);
    place.world.database.execute("DROP SCHEMA tidegate CASCADE");
    let config = &place.world.config;
    let refused = with_config(&["run"], config);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("tidegate migrate"), "no remedy: {}", refused.err);
    println!("{}", refused.err.lines().last().unwrap_or_default());
    // Whoever waits changes nothing.
    let waited = with_config(&["migrate", "--wait", "1s"], config);
    assert_eq!((waited.code, waited.err.contains("tidegate migrate")), (1, true), "{}", waited.err);
    // From several places at once: one does it, the others find it done; and who waits sees it.
    let both: Vec<Ended> = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| with_config(&["migrate", "--wait", "1m"], config));
        let migrate = || with_config(&["migrate"], config);
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(migrate)).collect();
        assert_eq!(waiting.join().expect("it ended").code, 0);
        threads.into_iter().map(|thread| thread.join().expect("it ended")).collect()
    });
    assert!(both.iter().all(|ended| ended.code == 0), "{}", both[0].err);
    let applied = both.iter().filter(|ended| ended.out.contains("applied 0001")).count();
    assert_eq!(applied, 1, "a migration ran {applied} times");
    let again = with_config(&["migrate"], config);
    assert_eq!((again.code, again.out.contains("up to date")), (0, true), "{}", again.out);
    // And now it runs.
    Sender::new().send(&topic, 0, 0..3);
    let _node = place.node();
    place.wait_for_ids("orders", 0..3);
}

#[test]
fn a_lake_of_another_installation() {
    let mut place = Place::new("adopt");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("orders", &topic);
    let sender = Sender::new();
    sender.send(&topic, 0, 0..3);
    let mut node = place.node();
    place.wait_for_ids("orders", 0..3);
    assert!(node.terminate(SOON).0.success());
    // As a database that was made anew would be.
    place.world.database.execute("UPDATE tidegate.installation SET id = gen_random_uuid()");
    let refused = with_config(&["run"], &place.world.config);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("--adopt"), "{}", refused.err);
    println!("{}", refused.err.lines().last().unwrap_or_default());
    let id = "SELECT id::text FROM tidegate.installation";
    let id: String = place.world.database.query(id)[0].get(0);
    let marker = place.folder().join("lake/_tidegate/installation.json");
    let owner = || std::fs::read_to_string(&marker).unwrap_or_default();
    assert!(!owner().contains(&id), "it was taken without being asked");
    let mut adopting = tidegate();
    let adopting = adopting.args(["run", "--adopt", "--config"]).arg(&place.world.config);
    let mut child = adopting.stderr(Stdio::null()).spawn().expect("the binary runs");
    wait_for("the lake to be adopted", SOON, || owner().contains(&id).then_some(()));
    drop(child.kill());
    drop(child.wait());
    // From now on they belong together.
    sender.send(&topic, 0, 3..6);
    let _node = place.node();
    place.wait_for_ids("orders", 0..6);
}

/// The check waits for a warehouse that is away when the node starts; it is not left out.
#[test]
fn a_lake_of_another_installation_and_a_warehouse_that_is_away() {
    let mut place = Place::new("adopt-later");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("orders", &topic);
    let sender = Sender::new();
    sender.send(&topic, 0, 0..3);
    let mut node = place.node();
    place.wait_for_ids("orders", 0..3);
    assert!(node.terminate(SOON).0.success());
    place.world.database.execute("UPDATE tidegate.installation SET id = gen_random_uuid()");
    sender.send(&topic, 0, 3..6);
    servers("stop", "postgres");
    let mut node = place.node();
    node.wait_for_log("the sink does not answer", SOON);
    servers("start", "postgres");
    node.wait_for_log("they would mix two histories", SOON);
    assert_eq!(place.warehouse("orders").len(), 3, "the wrong warehouse was written to");
    assert!(node.is_running());
}

#[test]
fn verify_finds_what_is_wrong() {
    let mut place = Place::new("verify");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("orders", &topic);
    Sender::new().send(&topic, 0, 0..10);
    let mut node = place.node();
    place.wait_for_ids("orders", 0..10);
    node.terminate(SOON);
    place.verify();
    place.world.database.execute(
        "DELETE FROM orders WHERE id IN (3, 4);
         INSERT INTO orders SELECT * FROM orders WHERE id = 7",
    );
    let found = with_config(&["verify", "--output", "json"], &place.world.config);
    assert_eq!(found.code, 3, "{}", found.err);
    let report = found.json();
    assert_eq!(report["verdict"], "difference");
    let feed = &report["feeds"][0];
    assert_eq!((&feed["warehouse"]["lost"], &feed["warehouse"]["doubled"]), (&2.into(), &1.into()));
    assert_eq!((&feed["lake"]["lost"], &feed["lake"]["doubled"]), (&0.into(), &0.into()));
    let text = with_config(&["verify"], &place.world.config);
    assert_eq!(text.code, 3);
    println!("{}", text.out);
    // A file of the lake is gone.
    place.world.database.execute("TRUNCATE orders; DELETE FROM tidegate.progress");
    let file = crate::lake::files(&place.lake_table("orders")).pop().expect("a file");
    std::fs::remove_file(file).expect("removed");
    assert_eq!(with_config(&["verify"], &place.world.config).code, 3);
}

/// What only somebody who looks into the folder could see: a file twice, and one that is gone.
#[test]
fn verify_finds_what_is_wrong_in_a_plain_folder() {
    let mut place = Place::with_format("verify-plain", "parquet");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("orders", &topic);
    Sender::new().send(&topic, 0, 0..10);
    let mut node = place.node();
    place.wait_for_ids("orders", 0..10);
    node.terminate(SOON);
    place.verify();
    let file = crate::lake::files(&place.lake_table("orders")).pop().expect("a file");
    let twice = file.with_file_name("twice.parquet");
    std::fs::copy(&file, &twice).expect("copied");
    let text = with_config(&["verify"], &place.world.config);
    assert_eq!(text.code, 3, "{}", text.out);
    assert!(text.out.contains("no commit names it"), "{}", text.out);
    std::fs::remove_file(twice).expect("removed");
    place.verify();
    std::fs::remove_file(file).expect("removed");
    let text = with_config(&["verify"], &place.world.config);
    assert_eq!(text.code, 3, "{}", text.out);
    assert!(text.out.contains("there is no such file"), "{}", text.out);
}

/// The first records of all, behind where the feed began: no row before them tells.
#[test]
fn verify_finds_what_is_missing_at_the_very_start() {
    let mut place = Place::new("verify-start");
    let topic = place.topic("t", 1, &[]);
    place.feed("orders", &format!("topic: {topic}\nstart: latest\n{COLUMNS}"));
    let sender = Sender::new();
    sender.send(&topic, 0, 0..5);
    let mut node = place.node();
    place.wait_for_watermarks("orders", &[5]);
    sender.send(&topic, 0, 5..10);
    place.wait_for_ids("orders", 5..10);
    node.terminate(SOON);
    let report = place.verify();
    for sink in ["lake", "warehouse"] {
        assert_eq!(report["feeds"][0][sink]["partitions"][0]["start"], 5, "{sink}: {report:#}");
    }
    place.world.database.execute("DELETE FROM orders WHERE id IN (5, 6)");
    let found = with_config(&["verify", "--output", "json"], &place.world.config);
    assert_eq!(found.code, 3, "{}", found.err);
    let sink = &found.json()["feeds"][0]["warehouse"];
    assert_eq!((&sink["lost"], &sink["examples"][0]["offset"]), (&2.into(), &5.into()));
}

#[test]
fn a_small_demo() {
    let _turn = turn();
    let home = folder("demo", &[]).with_file_name("home");
    std::fs::create_dir_all(&home).expect("a folder");
    let demo = |more: &[&str]| {
        let mut command = tidegate();
        command.args(["demo", "--messages", "3000", "--output", "json"]).args(more);
        ended(command.current_dir(&home))
    };
    let first = demo(&[]);
    assert_eq!(first.code, 0, "{}", first.err);
    let report = first.json();
    is_whole(&report);
    assert!(home.join("tidegate-demo/lake/streams/transaction_log/_delta_log").is_dir());
    // Its own folder is replaced; another seed gives other records.
    let again = demo(&["--seed", "2"]);
    assert_eq!(again.code, 0, "{}", again.err);
    is_whole(&again.json());
    assert_ne!(again.json()["bytes_in"], report["bytes_in"]);
    // Anybody else's is not touched.
    let foreign = home.join("foreign");
    std::fs::create_dir(&foreign).expect("a folder");
    std::fs::write(foreign.join("thesis.txt"), "precious").expect("a file");
    let refused = demo(&["--dir", "foreign"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("foreign"), "{}", refused.err);
    assert_eq!(std::fs::read_dir(&foreign).expect("a folder").count(), 1);
    assert_eq!(std::fs::read_to_string(foreign.join("thesis.txt")).expect("a file"), "precious");
}

/// The fields a script may count on, and that they agree with one another.
fn is_whole(report: &Value) {
    let number = |value: &Value, name: &str| {
        value[name].as_u64().unwrap_or_else(|| panic!("{name} in {report:#}"))
    };
    assert_eq!(report["verdict"], "ok", "{report:#}");
    let records = number(report, "records_in");
    assert!(records >= 3000 && number(report, "bytes_in") > records * 100, "{report:#}");
    for sink in ["lake", "warehouse"] {
        let side = &report[sink];
        assert_eq!((number(side, "lost"), number(side, "doubled")), (0, 0), "{sink}: {report:#}");
        assert_eq!(number(side, "rows") + number(report, "quarantined"), records, "{sink}");
    }
    let tables = &report["tables"];
    assert!(number(tables, "keys") > 0 && number(tables, "upserts") > 0, "{report:#}");
    assert!(number(tables, "deletes") > 0, "{report:#}");
    assert!(number(report, "quarantined") > 0, "no bad record was seen: {report:#}");
    assert!(number(report, "parquet_bytes") > 0, "{report:#}");
    assert!(report["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report:#}");
}

/// A record's partition, key and value, in the order of the log.
type Published = (i32, Option<Vec<u8>>, Option<Vec<u8>>);

fn published(topic: &str, partitions: i32) -> Vec<Published> {
    let mut config = kafka::config();
    config.set("group.id", "nobody").set("enable.partition.eof", "true");
    let (mut records, mut keyless) = (Vec::new(), Vec::new());
    for partition in 0..partitions {
        // A second assignment could still bring the end of the first.
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
        consumer.assign(&list).expect("assigned");
        while let Some(Ok(record)) = consumer.poll(SOON) {
            let bytes = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            match bytes(record.key()) {
                // Only a key says which partition; a bad record may lack one.
                None => keyless.push((-1, None, bytes(record.payload()))),
                key => records.push((partition, key, bytes(record.payload()))),
            }
        }
    }
    keyless.sort();
    records.extend(keyless);
    records
}

#[test]
fn one_seed_gives_the_same_records() {
    let _turn = turn();
    let topics = ["transaction_log", "user_transaction_summary"];
    let generate = |seed: &str| {
        let broker = env("TIDEGATE_TEST_KAFKA");
        let ended = say(&[
            "generate",
            "--bootstrap",
            &broker,
            "--messages",
            "3000",
            "--seed",
            seed,
            "--bad",
            "0.01",
            "--partitions",
            "2",
            "--topics",
            &topics.join(","),
            "--output",
            "json",
        ]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        let report = ended.json();
        let records = topics.map(|topic| published(topic, 2));
        assert_eq!(records[0].len(), 3000);
        assert!(records[1].iter().any(|(_, _, value)| value.is_none()), "no tombstone");
        let counted = report["topics"]["user_transaction_summary"]["records"].as_u64();
        assert_eq!(counted, Some(records[1].len() as u64), "{report:#}");
        forget(&topics);
        records
    };
    forget(&topics);
    let (once, twice, other) = (generate("9"), generate("9"), generate("10"));
    assert!(once == twice, "one seed gave two different logs");
    assert!(once != other, "two seeds gave the same log");
}

/// The generator's topics have one name for everybody.
fn forget(topics: &[&str]) {
    let names: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
    kafka::delete_topics(&names);
    let consumer: BaseConsumer = kafka::config().create().expect("a consumer");
    wait_for("the topics to be gone", SOON, || {
        let metadata = consumer.fetch_metadata(None, SOON).ok()?;
        let left = metadata.topics().iter().any(|left| topics.contains(&left.name()));
        (!left).then_some(())
    });
}
