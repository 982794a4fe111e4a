//! The alerts, by Prometheus itself: their rules with their tests, and each of them on a real node whose fault is
//! caused and healed.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::api::{Shop, until_read};
use crate::database::Database;
use crate::http::Caller;
use crate::node::Node;
use crate::proxy::{Commit, Lose, Proxy};
use crate::servers::wait_for;
use crate::source_place::{COLUMNS, Place, Sender};
use crate::vitals::{told_at, vitals};
use crate::world::Setup;

const SOON: Duration = Duration::from_secs(60);

/// What is proved on a real node, by the fault that is caused.
const OF_RECORDS: &[&str] = &["TidegatePartitionParked", "TidegateManyRejects", "TidegateDown"];
const OF_SINKS: &[&str] = &[
    "TidegateWritesFail",
    "TidegateLate",
    "TidegateSinkDetached",
    "TidegatePartitionFailing",
    "TidegateAuditRefused",
];
const OF_OWNERS: &[&str] = &["TidegateActorsDie", "TidegateFenced"];
const OF_CHORES: &[&str] = &["TidegateNoJanitor", "TidegateChoreFails", "TidegateChoreLate"];

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/prometheus")
}

fn promtool(arguments: &[&str]) -> String {
    let out = Command::new("promtool").args(arguments).current_dir(rules()).output();
    let out = out.expect("promtool: scripts/test installs it");
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success(), "{arguments:?}: {said}");
    said
}

/// Of the alerts in a file of rules.
fn names(rules: &str) -> Vec<&str> {
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    names
}

#[test]
fn each_alert_is_caused_and_healed_on_a_real_node() {
    let proved = [OF_RECORDS, OF_SINKS, OF_OWNERS, OF_CHORES].concat();
    let rules = std::fs::read_to_string(rules().join("tidegate.rules.yaml")).expect("the rules");
    assert_eq!(proved.iter().collect::<BTreeSet<_>>(), names(&rules).iter().collect());
}

#[test]
fn each_alert_fires_and_has_a_paragraph_in_the_runbook() {
    promtool(&["check", "rules", "tidegate.rules.yaml"]);
    promtool(&["test", "rules", "tidegate.tests.yaml"]);
    let text = |path: PathBuf| std::fs::read_to_string(path).expect("a file");
    let alerts = text(rules().join("tidegate.rules.yaml"));
    let tests = text(rules().join("tidegate.tests.yaml"));
    let runbook = text(rules().join("../../docs/runbook.md"));
    for name in names(&alerts) {
        assert!(runbook.contains(&format!("\n## {name}\n")), "{name} is not in the runbook");
        assert!(alerts.contains(&format!("runbook: docs/runbook.md#{}", name.to_lowercase())));
        let times = tests.matches(&format!("alertname: {name}")).count();
        assert!(times >= 2, "{name} is not tested to be quiet and to fire");
    }
    // What the rules speak of is there.
    let metrics = text(rules().join("../../docs/metrics.md"));
    let words = alerts.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    for metric in words.filter(|word| word.starts_with("tidegate_")) {
        assert!(metrics.contains(&format!("| `{metric}` |")), "no metric {metric}");
    }
}

/// The rules as they are, but that an alert waits for nothing, and windows and waits are of seconds. Each is
/// named here: a rule with another would never clear within a test.
fn hasty(rules: &str) -> String {
    const SHORTER: [(&str, &str); 8] = [
        ("[5m]", "[10s]"),
        ("[10m]", "[10s]"),
        ("[15m]", "[10s]"),
        ("[1h]", "[10s]"),
        ("[7h]", "[10s]"),
        ("[1d]", "[10s]"),
        ("_age_seconds) > 300\n", "_age_seconds) > 3\n"),
        ("_due_seconds) > 1800\n", "_due_seconds) > 5\n"),
    ];
    let lines = rules.lines().filter(|line| !line.trim_start().starts_with("for:"));
    let mut hasty: String = lines.map(|line| format!("{line}\n")).collect();
    for (long, short) in SHORTER {
        assert!(hasty.contains(long), "no rule has {long}");
        hasty = hasty.replace(long, short);
    }
    assert_eq!(hasty.matches('[').count(), hasty.matches("[10s]").count(), "{hasty}");
    hasty
}

fn free_address() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// A Prometheus of its own, which looks each second, and the alerts that it is to hear of.
struct Prometheus {
    child: Child,
    of: Caller,
    proves: &'static [&'static str],
    fired: BTreeSet<&'static str>,
    cleared: BTreeSet<&'static str>,
}

impl Prometheus {
    /// Begins when nothing is amiss.
    fn watch(folder: &Path, node: &Node, proves: &'static [&'static str]) -> Self {
        let text = std::fs::read_to_string(rules().join("tidegate.rules.yaml")).expect("the rules");
        std::fs::write(folder.join("rules.yaml"), hasty(&text)).expect("the rules");
        let node = vitals(node).base.trim_start_matches("http://").to_owned();
        let config = serde_json::json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "tidegate", "static_configs": [{"targets": [node]}]}],
        });
        let path = folder.join("prometheus.yaml");
        std::fs::write(&path, config.to_string()).expect("the configuration");
        promtool(&["check", "config", path.to_str().expect("a path")]);
        let at = free_address();
        let log = std::fs::File::create(folder.join("prometheus.log")).expect("a log");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", path.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        command.arg(format!("--web.listen-address={at}"));
        command.stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("prometheus: scripts/test installs it");
        let of = Caller { base: format!("http://{at}"), token: None };
        let (fired, cleared) = (BTreeSet::new(), BTreeSet::new());
        let prometheus = Self { child, of, proves, fired, cleared };
        wait_for("Prometheus", SOON, || TcpStream::connect(at).ok());
        wait_for("Prometheus to be ready", SOON, || {
            prometheus.of.get("/-/ready").status.is_success().then_some(())
        });
        wait_for("a scrape", SOON, || {
            (!prometheus.asked("tidegate_build").is_empty()).then_some(())
        });
        prometheus.is_quiet();
        prometheus
    }

    fn asked(&self, query: &str) -> Vec<Value> {
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.of.get(&format!("/api/v1/query?query={query}")).json();
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer:#}")).clone()
    }

    /// Names of the alerts that fire.
    fn firing(&self) -> BTreeSet<String> {
        let alerts = self.asked("ALERTS{alertstate=\"firing\"}");
        let name = |it: &Value| it["metric"]["alertname"].as_str().unwrap_or_default().to_owned();
        alerts.iter().map(name).collect()
    }

    /// When all rules were looked at last; none could not be.
    fn evaluated(&self) -> Value {
        let answer = self.of.get("/api/v1/rules").json();
        let group = &answer["data"]["groups"][0];
        let rules = group["rules"].as_array().expect("rules");
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{answer:#}");
        group["lastEvaluation"].clone()
    }

    /// Nothing fires, by an evaluation that was begun after this.
    fn is_quiet(&self) {
        for _ in 0..2 {
            let before = self.evaluated();
            wait_for("an evaluation", SOON, || (self.evaluated() != before).then_some(()));
        }
        let since = Instant::now();
        loop {
            let firing = self.firing();
            if firing.is_empty() {
                return;
            }
            assert!(since.elapsed() < SOON, "{firing:?} still fire");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn fires(&mut self, name: &'static str) {
        self.fires_under(name, || ());
    }

    /// By a fault that is caused again and again.
    fn fires_under(&mut self, name: &'static str, mut fault: impl FnMut()) {
        let since = Instant::now();
        wait_for(&format!("{name} to fire"), SOON, || {
            fault();
            self.firing().contains(name).then_some(())
        });
        println!("{name} fired after {:.1?}", since.elapsed());
        self.fired.insert(name);
    }

    fn clears(&mut self, name: &'static str) {
        assert!(self.fired.contains(name), "{name} never fired");
        let since = Instant::now();
        wait_for(&format!("{name} to clear"), SOON, || {
            (!self.firing().contains(name)).then_some(())
        });
        println!("{name} cleared after {:.1?}", since.elapsed());
        self.cleared.insert(name);
    }

    /// All of what it was to hear of came and went.
    fn end(self) {
        self.is_quiet();
        assert_eq!(self.cleared, self.proves.iter().copied().collect());
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_hears_of_a_parked_partition_of_rejects_and_of_a_node_that_is_gone() {
    let mut place = Place::new("alerts");
    // It comes back where Prometheus looks for it.
    told_at(&place, &free_address().to_string());
    let topic = place.topic("orders", 1, &[]);
    let feed = |park_above: &str| {
        format!(
            "topic: {topic}\n{COLUMNS}\nquarantine: {{park_above: {park_above}, park_min_records: 5}}"
        )
    };
    place.feed("orders", &feed("0.5"));
    let mut node = place.node();
    let sender = Sender::new();
    sender.send(&topic, 0, 0..100);
    place.wait_for_watermarks("orders", &[100]);
    let mut prometheus = Prometheus::watch(&place.folder(), &node, OF_RECORDS);
    // So many are rejected that the feed must be wrong.
    crate::quarantine::raw(&topic, &["{"; 20]);
    prometheus.fires("TidegatePartitionParked");
    place.feed("orders", &feed("1.0"));
    prometheus.clears("TidegatePartitionParked");
    place.wait_for_watermarks("orders", &[120]);
    // They are in quarantine now; one in a hundred would be told of. The first of a class only make its counter.
    let mut sent = 120;
    prometheus.fires_under("TidegateManyRejects", || {
        crate::quarantine::raw(&topic, &["{"; 5]);
        sent += 5;
        place.wait_for_watermarks("orders", &[sent]);
    });
    sender.send(&topic, 0, 100..200);
    prometheus.clears("TidegateManyRejects");
    prometheus.is_quiet();
    node.kill();
    prometheus.fires("TidegateDown");
    let _node = place.node();
    prometheus.clears("TidegateDown");
    place.wait_for_watermarks("orders", &[sent + 100]);
    prometheus.end();
}

#[test]
fn prometheus_hears_of_sinks_that_fail_and_of_one_that_is_away() {
    let proxy = Proxy::start(Database::address(), Commit::Postgres);
    let setup =
        Setup { name: "alerts-sinks", postgres: Some(proxy.address.clone()), ..Setup::default() };
    let shop = Shop::new(setup, "governance: {spool: 1MiB}\n");
    told_at(&shop.place, "127.0.0.1:0");
    let node = shop.place.node();
    let mut sent = 10;
    shop.send(0..sent);
    shop.wait_for(sent);
    // The audit has the condition whole.
    shop.grant("user:ada", "events", &["--where", &format!("city <> '{}'", "x".repeat(9000))]);
    let ada = Caller::new(&node, Some(&shop.token("ada", &[])));
    until_read(&ada, "events");
    let mut prometheus = Prometheus::watch(&shop.place.folder(), &node, OF_SINKS);
    // Each gets through when it is tried again.
    prometheus.fires_under("TidegateWritesFail", || {
        proxy.arm(Lose::Request);
        shop.send(sent..sent + 2);
        sent += 2;
        shop.wait_for(sent);
    });
    prometheus.clears("TidegateWritesFail");
    prometheus.is_quiet();
    proxy.cut();
    shop.send(sent..sent + 10);
    sent += 10;
    // Its columns are kept in the database alone.
    let topic = shop.place.name("events");
    shop.place.feed("inferred", &format!("topic: {topic}\nlake: null"));
    prometheus.fires("TidegateLate");
    prometheus.fires("TidegateSinkDetached");
    prometheus.fires("TidegatePartitionFailing");
    // One is enough.
    wait_for("the audit to be full", SOON, || {
        (!ada.get("/v1/feeds/events/rows").status.is_success()).then_some(())
    });
    prometheus.fires("TidegateAuditRefused");
    let firing = prometheus.firing();
    for name in &OF_SINKS[1..] {
        assert!(firing.contains(*name), "{name} cleared while the sink was away: {firing:?}");
    }
    proxy.mend();
    for name in &OF_SINKS[1..] {
        prometheus.clears(name);
    }
    shop.wait_for(sent);
    prometheus.end();
}

#[test]
fn prometheus_hears_of_actors_that_die_and_of_another_owner() {
    let mut place = Place::new("alerts-owners");
    told_at(&place, "127.0.0.1:0");
    let topic = place.topic("orders", 12, &[]);
    place.plain_feed("orders", &topic);
    let node = place.world.broken_node("node", &["partition_consumer.decode=panic"; 8].join(","));
    let mut prometheus = Prometheus::watch(&place.folder(), &node, OF_OWNERS);
    let sender = Sender::new();
    let mut sent = 0;
    let mut send = || {
        (0..12).for_each(|partition| sender.send(&topic, partition, sent..sent + 1));
        sent += 1;
        sent
    };
    send();
    prometheus.fires("TidegateActorsDie");
    prometheus.clears("TidegateActorsDie");
    prometheus.is_quiet();
    prometheus.fires_under("TidegateFenced", || {
        // As another installation would.
        let claim = "UPDATE tidegate.progress SET claim = gen_random_uuid()";
        place.world.database.execute(claim);
        place.wait_for_watermarks("orders", &[send(); 12]);
    });
    prometheus.clears("TidegateFenced");
    prometheus.end();
    place.verify();
}

#[test]
fn prometheus_hears_of_a_janitor_that_is_nobody_that_fails_and_that_is_held_up() {
    let mut place = Place::new("alerts-chores");
    told_at(&place, "127.0.0.1:0");
    place.edit_node(|text| format!("{text}janitor: {{compaction: 1s, audit: 1s, lease: 2s}}\n"));
    for feed in ["orders", "returns"] {
        let topic = place.topic(feed, 1, &[]);
        place.plain_feed(feed, &topic);
        Sender::new().send(&topic, 0, 0..10);
    }
    let node = place.node();
    for feed in ["orders", "returns"] {
        place.wait_for_watermarks(feed, &[10]);
    }
    let mut prometheus = Prometheus::watch(&place.folder(), &node, OF_CHORES);
    let database = &place.world.database;
    database.execute(
        "UPDATE tidegate.leases SET holder = 'another', expires_at = now() + interval '1 day'",
    );
    prometheus.fires("TidegateNoJanitor");
    database.execute("UPDATE tidegate.leases SET expires_at = now()");
    prometheus.clears("TidegateNoJanitor");
    // One table of two cannot be read.
    let log = place.lake_table("orders").join("_delta_log");
    let entry = log.join(format!("{:020}.json", 0));
    let text = std::fs::read(&entry).expect("the first entry");
    prometheus.is_quiet();
    std::fs::write(&entry, "{").expect("the first entry");
    prometheus.fires("TidegateChoreFails");
    std::fs::write(&entry, text).expect("the first entry");
    prometheus.clears("TidegateChoreFails");
    // Somebody holds what a chore needs.
    prometheus.is_quiet();
    database.execute("BEGIN; LOCK TABLE tidegate.audit");
    prometheus.fires("TidegateChoreLate");
    database.execute("ROLLBACK");
    prometheus.clears("TidegateChoreLate");
    prometheus.end();
}
