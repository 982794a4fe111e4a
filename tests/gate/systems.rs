//! The five systems of `examples/`: each folder as it stands, carried out with the commands of its
//! README, and judged by a Python reader that computes all it expects from the topics themselves.
//!
//! Of the files nothing is changed but where the servers and the API are, and what stands before the names
//! of the topics and of the group: the broker is everybody's.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::MutexGuard;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tidegate::generate;

use crate::check::python;
use crate::database::Database;
use crate::http::Caller;
use crate::kafka;
use crate::node::{Node, tidegate};
use crate::servers::{env, turn, wait_for};

const SOON: Duration = Duration::from_secs(90);
/// How long a change of a permission table may take to count.
const COUNTS: Duration = Duration::from_secs(2);
pub const PARTITIONS: i32 = 2;

pub struct System {
    name: &'static str,
    prefix: String,
    pub folder: PathBuf,
    pub database: Option<Database>,
    pub topics: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

impl System {
    /// A copy of `examples/NAME`. `database` is the PostgreSQL url in its node file, if it has one.
    pub fn new(name: &'static str, database: Option<&str>) -> Self {
        let turn = turn();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis();
        let prefix = format!("{name}-{}-", now % 1_000_000_000);
        println!("--- {prefix}");
        let folder = Path::new(&env("TIDEGATE_TEST_DIR")).join("gate").join(&prefix);
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        copy(&example, &folder);
        let of_url = database.map(|url| (url, Database::create(prefix.clone())));
        let mut places = vec![
            ("localhost:9092".to_owned(), kafka::address()),
            ("  group: ".to_owned(), format!("  group: {prefix}")),
        ];
        places.extend(of_url.iter().map(|(url, database)| ((*url).to_owned(), database.url())));
        // That for containers has its places inside.
        let is_node = |file: &PathBuf| {
            file.extension().is_some_and(|it| it == "yaml") && !file.ends_with("containers.yaml")
        };
        for node in entries(&folder).into_iter().filter(is_node) {
            let mut text = std::fs::read_to_string(&node).expect("the node file");
            for (from, to) in &places {
                assert_eq!(text.matches(from).count(), 1, "`{from}` in {}", node.display());
                text = text.replace(from, to);
            }
            // A port that is free.
            std::fs::write(&node, text.replace("127.0.0.1:8080", "127.0.0.1:0"))
                .expect("the node file");
        }
        let system = generate::System::from_name(name).expect("a system of the generator");
        let topics = system.topics().iter().map(|topic| format!("{prefix}{}", topic.name()));
        let topics: Vec<String> = topics.collect();
        let database = of_url.map(|(_, database)| database);
        let system = Self { name, prefix, folder, database, topics, _turn: turn };
        system.rename_topics(&system.folder.join("feeds"));
        system
    }

    /// Puts the prefix before the topic that each feed file names.
    fn rename_topics(&self, feeds: &Path) {
        for file in entries(feeds) {
            if file.is_dir() {
                self.rename_topics(&file);
                continue;
            }
            let text = std::fs::read_to_string(&file).expect("a feed file");
            let mut renamed = text.clone();
            for label in ["\ntopic: ", "\"ksqldb_source\": \""] {
                renamed = renamed.replace(label, &format!("{label}{}", self.prefix));
            }
            assert_ne!(renamed, text, "{}: no topic", file.display());
            std::fs::write(&file, renamed).expect("a feed file");
        }
    }

    pub fn command(&self) -> Command {
        let mut command = tidegate();
        command.current_dir(&self.folder).env("PGPASSWORD", "not asked for");
        command
    }

    /// Puts something else in the place of a part of the node file.
    pub fn edit_node(&self, from: &str, to: &str) {
        let node = self.folder.join("tidegate.yaml");
        let text = std::fs::read_to_string(&node).expect("the node file");
        assert_eq!(text.matches(from).count(), 1, "`{from}` in the node file");
        std::fs::write(&node, text.replace(from, to)).expect("the node file");
    }

    /// Carries out one command of the README.
    pub fn say(&self, arguments: &[&str]) -> String {
        let out = self.command().args(arguments).output().expect("the binary runs");
        let (said, errors) =
            (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{arguments:?}: {}\n{said}{errors}", out.status);
        said.into_owned()
    }

    pub fn generate(&self, messages: &str, seed: &str) {
        let (broker, partitions) = (kafka::address(), PARTITIONS.to_string());
        let fixed = ["generate", "--bootstrap", &broker, "--prefix", &self.prefix];
        let those = ["--system", self.name, "-n", messages, "--seed", seed];
        let said = self.say(&[&fixed[..], &those, &["--partitions", &partitions]].concat());
        println!("{said}");
    }

    /// What the system's cleaner does, now: the sample's days are long over, and nothing else goes.
    fn clean_out(&self) {
        let retention = ["janitor", "run", "retention"];
        let ask = || self.say(&[&retention[..], &["--dry-run"]].concat());
        let said = ask();
        assert!(said.contains("would take out") && !said.contains(": failed:"), "{said}");
        println!("{}", self.say(&retention));
        assert_eq!(ask().trim(), "nothing to do");
        self.verify();
    }

    /// `mode` is `all`, `lake` or `warehouse`.
    pub fn node(&self, mode: &str) -> Node {
        let mut command = self.command();
        command.args(["run", "--mode", mode]);
        let own = format!("{mode}.yaml");
        if self.folder.join(&own).exists() {
            command.args(["--config", &own]);
        }
        Node::of(command, self.folder.join(format!("{mode}.log")), "")
    }

    /// Waits until the group has nothing left: what it tells Kafka is durable in every sink.
    pub fn wait_for_group(&self, group: &str, topics: &[String]) {
        let group = format!("{}{group}", self.prefix);
        let mut config = kafka::config();
        let consumer: BaseConsumer = config.set("group.id", &group).create().expect("a client");
        for topic in topics {
            let ends = kafka::ends(topic, PARTITIONS);
            let mut list = TopicPartitionList::new();
            list.add_partition_range(topic, 0, PARTITIONS - 1);
            wait_for(&format!("group {group} at {ends:?} of {topic}"), SOON, || {
                let committed = consumer.committed_offsets(list.clone(), SOON).ok()?;
                let reached = |(partition, end): (i32, &i64)| {
                    let of = committed.find_partition(topic, partition);
                    *end == 0 || of.is_some_and(|of| of.offset() == Offset::Offset(*end))
                };
                (0..).zip(&ends).all(reached).then_some(())
            });
        }
    }

    /// The lag of each partition, as Kafka's own tool tells it.
    fn lag(&self, group: &str) -> Vec<i64> {
        let group = format!("{}{group}", self.prefix);
        let tool = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        let mut command = Command::new("java");
        command.args(["-cp", &env("TIDEGATE_TEST_KAFKA_CP"), tool, "--describe"]);
        command.args(["--bootstrap-server", &kafka::address(), "--group", &group]);
        let out = command.output().expect("java runs");
        let said = String::from_utf8_lossy(&out.stdout);
        let mut rows = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let at = rows.find_map(|row| row.iter().position(|name| *name == "LAG"));
        let at = at.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&out.stderr)));
        let of = |row: Vec<&str>| row.get(at).map(|lag| lag.parse().expect("a number"));
        rows.filter_map(of).collect()
    }

    /// Runs a node until all is durable, then stops it.
    pub fn carry(&self, group: &str) {
        let mut node = self.node("all");
        self.wait_for_group(group, &self.topics);
        assert!(node.terminate(SOON).0.success(), "{}", node.log());
    }

    fn execute(&self, file: &str) {
        self.change(&std::fs::read_to_string(self.folder.join(file)).expect("statements"));
    }

    /// Statements on the warehouse's database, past any node.
    fn change(&self, sql: &str) {
        match &self.database {
            Some(database) => database.execute(sql),
            None => {
                let file = self.folder.join("data_warehouse.db");
                let database = rusqlite::Connection::open(file).expect("a database");
                database.busy_timeout(SOON).expect("a timeout");
                database.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
        }
    }

    /// Somebody at a node's API, which has heard of his token.
    fn caller(&self, node: &Node, name: &str) -> Caller {
        let token = self.say(&["token", "create", "--for", name]);
        let caller = Caller::new(node, Some(token.trim()));
        wait_for(&format!("the token of {name} to count"), SOON, || {
            (caller.get("/v1/feeds").status == StatusCode::OK).then_some(())
        });
        caller
    }

    /// Fails unless somebody may read these feeds, and no other.
    fn reads(&self, caller: &Caller, wanted: &[&str]) {
        for file in entries(&self.folder.join("feeds")) {
            let feed = file.file_stem().expect("a name").to_string_lossy().to_lowercase();
            let answer = caller.get(&format!("/v1/feeds/{feed}/rows?limit=3"));
            match wanted.contains(&feed.as_str()) {
                true => assert!(!answer.rows().is_empty(), "{feed}"),
                false => assert_eq!(answer.problem(), (404, "no-such-feed".to_owned()), "{feed}"),
            }
        }
        let listed = caller.get("/v1/feeds").json();
        assert_eq!(listed.as_array().map(Vec::len), Some(wanted.len()), "{listed}");
    }

    /// Changes the permission table; fails unless it counts within two seconds.
    fn permit(&self, caller: &Caller, sql: &str, feed: &str, status: StatusCode) {
        let since = Instant::now();
        self.change(sql);
        wait_for(&format!("`{sql}` to count"), COUNTS, || {
            let answer = caller.get(&format!("/v1/feeds/{feed}/rows?limit=1"));
            (answer.status == status).then_some(())
        });
        println!("{feed} is {status} {:?} after `{sql}`", since.elapsed());
    }

    fn check(&self) {
        self.judge();
        self.verify();
    }

    /// Compares all that landed with what the topics hold, and the queries' answers too.
    fn judge(&self) {
        self.judge_versions(&json!({}));
    }

    /// The same; of each snapshotted table `versions` says the newest.
    fn judge_versions(&self, versions: &Value) {
        let mut asked = json!({"versions": versions,
            "system": self.name, "kafka": kafka::address(), "prefix": self.prefix,
            "folder": self.folder, "pgbin": env("TIDEGATE_TEST_PGBIN"),
        });
        match &self.database {
            Some(database) => asked["postgres"] = json!(database.url()),
            None if self.name == "s1" => asked["sqlite"] = json!("data_warehouse.db"),
            None => {}
        }
        let report = python("systems.py", &asked);
        println!("{:#}", report["summary"]);
        assert_eq!(report["faults"], json!([]), "{report:#}");
    }

    pub fn verify(&self) {
        let verified: Value =
            serde_json::from_str(&self.say(&["verify", "--output", "json"])).expect("a report");
        assert_eq!(verified["verdict"], "ok", "{verified:#}");
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- left in {}", self.folder.display());
            return;
        }
        kafka::delete_topics(&self.topics);
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in entries(from) {
        let there = to.join(entry.file_name().expect("a name"));
        match entry.is_dir() {
            true => copy(&entry, &there),
            false => drop(std::fs::copy(&entry, &there).expect("a copy")),
        }
    }
}

pub const MY_DWH: &str = "postgres://postgres@localhost:5432/my_dwh";
const WAREHOUSE: &str = "postgres://postgres@localhost:5432/warehouse";
const DATA_WAREHOUSE: &str = "postgres://postgres@localhost:5432/data_warehouse";

#[test]
fn system_s0_lake_of_json_lines_and_a_warehouse() {
    let system = System::new("s0", Some(MY_DWH));
    system.say(&["config", "check"]);
    system.say(&["migrate"]);
    system.execute("permissions.sql");
    system.generate("6000", "1");
    system.carry("s0");
    system.check();
    // A second volume, of other transactions, goes on where the first ended.
    system.generate("2000", "2");
    system.carry("s0");
    system.check();
    obeys_dwh_datalake_permissions(&system);
    system.clean_out();
}

fn obeys_dwh_datalake_permissions(system: &System) {
    let mut node = system.node("all");
    let analyst = system.caller(&node, "analyst");
    system.reads(&analyst, &["transaction_stream_anonymized", "windowed_transaction_totals"]);
    let all = entries(&system.folder.join("feeds"));
    let all = all.iter().map(|file| file.file_stem().and_then(|it| it.to_str()).expect("a name"));
    system.reads(&system.caller(&node, "admin"), &all.collect::<Vec<_>>());
    // One whose row counts no more, one whose row has ended, one who has none.
    for nobody in ["support", "auditor", "mallory"] {
        system.reads(&system.caller(&node, nobody), &[]);
    }
    let (of, log) = ("WHERE user_name = 'support'", "transaction_log");
    let support = system.caller(&node, "support");
    let set = |what: &str| format!("UPDATE dwh_datalake_permissions SET {what} {of}");
    system.permit(&support, &set("is_active = true"), log, StatusCode::OK);
    system.reads(&support, &[log]);
    // What the table says and its mapping does not know of allows nothing.
    system.permit(&support, &set("permission = 'WRITE'"), log, StatusCode::NOT_FOUND);
    system.permit(&support, &set("permission = 'READ'"), log, StatusCode::OK);
    let delete = format!("DELETE FROM dwh_datalake_permissions {of}");
    system.permit(&support, &delete, log, StatusCode::NOT_FOUND);
    let listed = system.say(&["permissions", "list"]);
    let row = "datalake_permissions#2  user:analyst may read transaction_stream_anonymized";
    assert!(listed.contains(row), "{listed}");
    assert!(node.terminate(SOON).0.success(), "{}", node.log());
}

#[test]
fn system_s3_parquet_lake_and_tables_that_were_there() {
    let system = System::new("s3", Some(WAREHOUSE));
    system.execute("tables.sql");
    let database = system.database.as_ref().expect("a database");
    database.execute(
        "INSERT INTO reporting.customer_totals (customer, kind, spent, purchases, discount)
         VALUES ('USER-BEFORE', 'purchase', 5, 1, 2.5)",
    );
    system.say(&["config", "check"]);
    system.say(&["migrate"]);
    system.generate("6000", "3");
    let mut nodes = ["lake", "warehouse"].map(|mode| system.node(mode));
    let tables = ["user_transaction_summary", "payment_method_totals"];
    let is_table = |topic: &&String| tables.iter().any(|table| topic.ends_with(table));
    let (tables, streams): (Vec<String>, Vec<String>) =
        system.topics.iter().cloned().partition(|topic| is_table(&topic));
    system.wait_for_group("s3-lake", &streams);
    system.wait_for_group("s3-warehouse", &tables);
    obeys_user_permissions(&system, &nodes[0]);
    for node in &mut nodes {
        assert!(node.terminate(SOON).0.success(), "{}", node.log());
    }
    system.judge();
    // Rightly it is called a row of no record.
    database.execute("DELETE FROM reporting.customer_totals WHERE customer = 'USER-BEFORE'");
    system.verify();
    system.clean_out();
}

fn obeys_user_permissions(system: &System, node: &Node) {
    let (customers, methods) = ("user_transaction_summary", "payment_method_totals");
    system.reads(&system.caller(node, "manager"), &[customers, methods]);
    let analyst = system.caller(node, "analyst");
    system.reads(&analyst, &["transaction_stream_anonymized", methods]);
    // A row that denies beats the one for everybody; the other shows some columns.
    let clerk = system.caller(node, "clerk");
    system.reads(&clerk, &[customers]);
    let rows = clerk.get(&format!("/v1/feeds/{customers}/rows?limit=3")).rows();
    let shown: Vec<_> = rows[0].as_object().expect("an object").keys().collect();
    assert_eq!(shown, ["kind", "purchases", "spent"]);
    let mallory = system.caller(node, "mallory");
    system.reads(&mallory, &[methods]);
    let insert = |name: &str, access: &str| {
        let row = format!("(9, '{name}', 'RAW', '{access}', NULL)");
        format!("INSERT INTO reporting.user_permissions VALUES {row}")
    };
    let raw = "transaction_flattened";
    system.permit(&mallory, &insert("mallory", "SELECT"), raw, StatusCode::OK);
    let set = |what: &str| format!("UPDATE reporting.user_permissions SET {what} WHERE id = 9");
    system.permit(&mallory, &set("access = 'NONE'"), raw, StatusCode::NOT_FOUND);
    system.permit(&mallory, &set("access = 'SELECT'"), raw, StatusCode::OK);
    // A table that may deny and cannot be read denies.
    let rename = "ALTER TABLE reporting.user_permissions RENAME";
    system.permit(&clerk, &format!("{rename} TO away"), customers, StatusCode::NOT_FOUND);
    node.wait_for_log("the table user_permissions cannot be read", SOON);
    let back = "ALTER TABLE reporting.away RENAME TO user_permissions";
    system.permit(&clerk, back, customers, StatusCode::OK);
}

#[test]
fn system_s1_lake_of_json_lines_and_sqlite() {
    let system = System::new("s1", None);
    system.say(&["config", "check"]);
    system.say(&["migrate"]);
    system.execute("permissions.sql");
    system.generate("6000", "4");
    system.carry("s1");
    system.check();
    obeys_permissions(&system);
    // The write-up's own way: a database made from the lake's files alone.
    std::fs::remove_file(system.folder.join("data_warehouse.db")).expect("the database");
    system.say(&["migrate"]);
    for file in entries(&system.folder.join("feeds")) {
        let feed = std::fs::read_to_string(&file).expect("a feed file");
        if feed.contains("shape: document") {
            let name = file.file_stem().expect("a name").to_string_lossy().to_lowercase();
            println!("{}", system.say(&["load", "--feed", &name, "--from", "lake"]));
        }
    }
    system.check();
    system.clean_out();
}

fn obeys_permissions(system: &System) {
    let mut node = system.node("all");
    let totals = "user_spending_by_type";
    let (usd, secure) = ("transactions_usd", "transactions_secure");
    let ada = system.caller(&node, "ada");
    system.reads(&ada, &[usd, secure, totals]);
    system.reads(&system.caller(&node, "bob"), &[totals, "spend_last_five_min_by_type"]);
    let eve = system.caller(&node, "eve");
    system.reads(&eve, &[]);
    let set = |what: &str, name: &str| {
        format!("UPDATE permissions SET {what} WHERE user_name = '{name}'")
    };
    system.permit(&eve, &set("can_read = 1", "eve"), usd, StatusCode::OK);
    system.reads(&eve, &[usd, secure, totals]);
    system.permit(&ada, &set("role = 'viewer'", "ada"), usd, StatusCode::NOT_FOUND);
    system.reads(&ada, &[totals, "spend_last_five_min_by_type"]);
    system.permit(&ada, "DROP TABLE permissions", totals, StatusCode::NOT_FOUND);
    assert!(node.terminate(SOON).0.success(), "{}", node.log());
}

#[test]
fn system_s2_lake_facts_and_dimensions() {
    let system = System::new("s2", Some(DATA_WAREHOUSE));
    system.say(&["config", "check"]);
    system.say(&["migrate"]);
    let mut before = 0;
    for (messages, seed) in [("12000", "5"), ("1000", "8")] {
        system.generate(messages, seed);
        system.carry("data_lake_consumers");
        // Beside those by the clock; the former ones stay.
        system.say(&["snapshot", "--feed", "payment_method_totals"]);
        let kept = "SELECT count(DISTINCT _version) FROM fact_payment_method_totals_snapshots";
        let database = system.database.as_ref().expect("a database");
        let kept = database.query(kept)[0].get::<_, i64>(0);
        assert!(kept > before, "{kept} versions after {before}");
        before = kept;
        system.check();
    }
    // Kafka's own tool finds nothing left to read.
    assert_eq!(system.lag("data_lake_consumers"), vec![0; system.topics.len() * 2]);
}

#[test]
fn system_s4_a_lake_with_snapshots() {
    let system = System::new("s4", None);
    system.say(&["config", "check"]);
    system.say(&["migrate"]);
    system.generate("6000", "6");
    println!("{}", system.say(&["export", "--all"]));
    let tables = [
        "user_transaction_summary",
        "user_transaction_summary_eur",
        "payment_method_totals",
        "product_purchase_counts",
        "currencies",
    ];
    let mut versions: Value = tables.iter().map(|table| (table.to_string(), json!(1))).collect();
    system.judge_versions(&versions);
    // More of everything, the reference data again among it, which is written once.
    system.generate("2000", "7");
    println!("{}", system.say(&["export", "--table", "payment_method_totals"]));
    println!("{}", system.say(&["export", "--stream", "transaction_flattened"]));
    println!("{}", system.say(&["export", "--all"]));
    for table in &tables[..4] {
        versions[table] = json!(2);
    }
    system.judge_versions(&versions);
    // Nothing new, so nothing to do.
    system.say(&["export", "--all"]);
    system.judge_versions(&versions);
    system.verify();
}
