//! The alerts, by Prometheus itself: their rules with their tests, and some of them on a real node whose fault is
//! caused and healed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::http::Caller;
use crate::servers::wait_for;
use crate::source_place::{COLUMNS, Place, Sender};
use crate::vitals::{told_at, vitals};

const SOON: Duration = Duration::from_secs(60);

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

#[test]
fn each_alert_fires_and_has_a_paragraph_in_the_runbook() {
    promtool(&["check", "rules", "tidegate.rules.yaml"]);
    promtool(&["test", "rules", "tidegate.tests.yaml"]);
    let text = |path: PathBuf| std::fs::read_to_string(path).expect("a file");
    let alerts = text(rules().join("tidegate.rules.yaml"));
    let tests = text(rules().join("tidegate.tests.yaml"));
    let runbook = text(rules().join("../../docs/runbook.md"));
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
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

/// A Prometheus of its own, which looks each second and waits for nothing.
struct Prometheus {
    child: Child,
    of: Caller,
}

impl Prometheus {
    fn watch(folder: &Path, nodes: &[String]) -> Self {
        let text = std::fs::read_to_string(rules().join("tidegate.rules.yaml")).expect("the rules");
        let hasty: Vec<&str> =
            text.lines().filter(|line| !line.trim_start().starts_with("for:")).collect();
        std::fs::write(folder.join("rules.yaml"), hasty.join("\n")).expect("the rules");
        let config = serde_json::json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "tidegate", "static_configs": [{"targets": nodes}]}],
        });
        let path = folder.join("prometheus.yaml");
        std::fs::write(&path, config.to_string()).expect("the configuration");
        promtool(&["check", "config", path.to_str().expect("a path")]);
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = port.local_addr().expect("an address");
        drop(port);
        let log = std::fs::File::create(folder.join("prometheus.log")).expect("a log");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", path.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        command.arg(format!("--web.listen-address={at}"));
        command.stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("prometheus: scripts/test installs it");
        let of = Caller { base: format!("http://{at}"), token: None };
        wait_for("Prometheus", SOON, || std::net::TcpStream::connect(at).ok());
        wait_for("Prometheus to be ready", SOON, || {
            of.get("/-/ready").status.is_success().then_some(())
        });
        Self { child, of }
    }

    fn asked(&self, query: &str) -> Vec<Value> {
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.of.get(&format!("/api/v1/query?query={query}")).json();
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer:#}")).clone()
    }

    /// Names of the alerts that fire.
    fn firing(&self) -> Vec<String> {
        let alerts = self.asked("ALERTS{alertstate=\"firing\"}");
        let name = |it: &Value| it["metric"]["alertname"].as_str().unwrap_or_default().to_owned();
        let mut names: Vec<String> = alerts.iter().map(name).collect();
        names.sort();
        names.dedup();
        names
    }

    fn wait_for_alert(&self, name: &str, fires: bool) {
        wait_for(&format!("{name}: {fires}"), SOON, || {
            (self.firing().iter().any(|it| it == name) == fires).then_some(())
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_hears_of_a_parked_partition_of_rejects_and_of_a_node_that_is_gone() {
    let mut place = Place::new("alerts");
    told_at(&place, "127.0.0.1:0");
    let topic = place.topic("orders", 1, &[]);
    let feed = |park_above: &str| {
        format!(
            "topic: {topic}\n{COLUMNS}\nquarantine: {{park_above: {park_above}, park_min_records: 5}}"
        )
    };
    place.feed("orders", &feed("0.5"));
    let mut node = place.node();
    let of = vitals(&node);
    let at = of.base.trim_start_matches("http://").to_owned();
    let folder = place.folder();
    let prometheus = Prometheus::watch(&folder, &[at]);
    wait_for("a scrape", SOON, || (!prometheus.asked("tidegate_build").is_empty()).then_some(()));
    let quiet = |name: &str| !prometheus.firing().iter().any(|it| it == name);
    wait_for("this node to be the janitor", SOON, || quiet("TidegateNoJanitor").then_some(()));
    let sender = Sender::new();
    sender.send(&topic, 0, 0..100);
    place.wait_for_watermarks("orders", &[100]);
    assert_eq!(prometheus.firing(), [""; 0]);
    // So many are rejected that the feed must be wrong.
    crate::quarantine::raw(&topic, &["{"; 20]);
    prometheus.wait_for_alert("TidegatePartitionParked", true);
    place.feed("orders", &feed("1.0"));
    prometheus.wait_for_alert("TidegatePartitionParked", false);
    place.wait_for_watermarks("orders", &[120]);
    // They are in quarantine now; one in a hundred would be told of.
    for _ in 0..3 {
        crate::quarantine::raw(&topic, &["{"; 5]);
    }
    prometheus.wait_for_alert("TidegateManyRejects", true);
    node.kill();
    prometheus.wait_for_alert("TidegateDown", true);
}
