//! The Grafana dashboard, before those who will read it: Prometheus its queries, Grafana's own types the rest.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::servers::env;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn dashboard() -> String {
    let path = Path::new(ROOT).join("dist/grafana/tidegate.json");
    std::fs::read_to_string(path).expect("the dashboard")
}

/// Whether it passes, and what is said of it.
fn verdict(out: &Output) -> (bool, String) {
    let said = String::from_utf8_lossy(&[&*out.stdout, &*out.stderr].concat()).into_owned();
    (out.status.success(), said)
}

/// Its metrics, labels, queries and thresholds.
fn by_prometheus(text: &str) -> (bool, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("room");
    let mut python = Command::new(env("TIDEGATE_TEST_PYTHON"));
    python.arg(format!("{ROOT}/tests/gate/dashboard.py")).arg(ROOT).arg(file.path());
    verdict(&python.output().expect("Python starts"))
}

/// Its fields.
fn by_grafana(text: &str) -> (bool, String) {
    let mut child = Command::new(env("TIDEGATE_TEST_DASHBOARD"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`scripts/servers tools dashboard` builds it");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    verdict(&child.wait_with_output().expect("it ends"))
}

#[test]
fn the_dashboard_shows_what_there_is_and_grafana_knows_its_fields() {
    let text = dashboard();
    for judge in [by_prometheus, by_grafana] {
        let (passes, said) = judge(&text);
        assert!(passes, "{said}");
        println!("{said}");
    }
}

#[test]
fn a_fault_in_the_dashboard_is_found() {
    let text = dashboard();
    let found = |judge: fn(&str) -> (bool, String), from: &str, to: &str, why: &str| {
        let broken = text.replace(from, to);
        assert_ne!(broken, text, "{from} is not in the dashboard");
        let (passes, said) = judge(&broken);
        assert!(!passes && said.contains(why), "{to}: {said}");
    };
    for (from, to, why) in [
        ("tidegate_lag_age_seconds{", "tidegate_lag_age{", "no metric tidegate_lag_age\n"),
        ("by (feed, sink)", "by (feed, topic)", "tidegate_lag_age_seconds has no label topic"),
        ("=~\\\"$feed\\\"", "=~\\\"$fed\\\"", "no variable fed"),
        ("topk(20, ", "topk(20 ", "parse error"),
        ("state!=\\\"running\\\"", "state=\\\"praked\\\"", "got: nil"),
        (
            "rate(tidegate_audit_rows",
            "deriv(tidegate_audit_rows",
            "deriv of tidegate_audit_rows_total",
        ),
        ("\"value\": 300\n", "\"value\": 600\n", "the bound of the alert TidegateLate"),
    ] {
        found(by_prometheus, from, to, why);
    }
    for (from, to, why) in [
        ("\"legendFormat\"", "\"legendFromat\"", "unexpected field 'legendFromat'"),
        ("\"lineWidth\"", "\"lineWdith\"", "unexpected field 'lineWdith'"),
        ("\"custom.cellOptions\"", "\"custom.cellOption\"", "unexpected field 'cellOption'"),
        ("\"type\": \"stat\"", "\"type\": \"stats\"", "stats is no known kind"),
    ] {
        found(by_grafana, from, to, why);
    }
}
