//! What landed, checked twice: by `tidegate verify`, and by Python readers that know nothing of it.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tidegate::generate::{Expected, Topic};

use crate::node::tidegate;
use crate::servers::env;
use crate::world::World;

/// What a feed must have come to, where it differs from what the generator gave.
#[derive(Debug, Clone, Copy, Default)]
pub struct Refused {
    /// Records that the warehouse alone refused.
    pub records: u64,
    pub cents: u64,
}

impl World {
    /// Fails on anything lost, doubled, out of place or different.
    pub fn check(&self, expected: &Expected) {
        self.check_with(expected, &HashMap::new());
    }

    pub fn check_with(&self, expected: &Expected, refused: &HashMap<Topic, Refused>) {
        self.check_independently(expected, refused);
        self.verify();
    }

    fn verify(&self) {
        let mut command = tidegate();
        command.args(["verify", "--output", "json", "--config"]).arg(&self.config);
        let out = command.output().expect("the binary runs");
        let text = String::from_utf8_lossy(&out.stdout);
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!(
                "verify: {}: {error}: {text}{}",
                out.status,
                String::from_utf8_lossy(&out.stderr)
            )
        });
        assert_eq!(report["verdict"], "ok", "{report:#}");
        assert!(out.status.success(), "verify: {}", out.status);
    }

    fn check_independently(&self, expected: &Expected, refused: &HashMap<Topic, Refused>) {
        let ends = self.log_ends();
        let feeds = self.topics.iter().map(|(topic, name)| {
            let counts = expected.counts(*topic);
            let refused = refused.get(topic).copied().unwrap_or_default();
            let ends: Vec<i64> = (0..self.partitions)
                .map(|partition| ends[&(topic.name().to_owned(), partition)])
                .collect();
            let table = expected.table(*topic);
            let rows: Vec<Value> = table
                .iter()
                .map(|(key, total)| json!([key, total.cents, total.count]))
                .collect();
            json!({
                "feed": topic.name(), "topic": name, "kind": if topic.is_table() { "table" } else { "stream" },
                "ends": ends, "records": counts.records, "bad": counts.bad, "deletes": counts.deletes,
                "cents": counts.cents, "keys": keys(*topic), "final": rows,
                "format": self.format, "table": self.table_path(*topic),
                "refused": refused.records, "refused_cents": refused.cents,
            })
        });
        let storage = match self.is_on_s3() {
            false => json!({}),
            true => json!({
                "endpoint": env("TIDEGATE_TEST_S3_ENDPOINT"), "region": env("TIDEGATE_TEST_S3_REGION"),
                "access_key_id": env("TIDEGATE_TEST_S3_ACCESS_KEY"),
                "secret_access_key": env("TIDEGATE_TEST_S3_SECRET_KEY"), "allow_http": "true",
            }),
        };
        let asked = json!({
            "postgres": self.database.url(), "lake": self.lake_url, "storage": storage,
            "feeds": feeds.collect::<Vec<_>>(),
        });
        let report = python("check.py", &asked);
        println!("{}", report["summary"]);
        assert_eq!(report["faults"], json!([]), "{report:#}");
    }
}

fn keys(topic: Topic) -> &'static [&'static str] {
    match topic {
        Topic::UserTransactionSummary => &["user_id", "transaction_type"],
        Topic::PaymentMethodTotals => &["payment_method"],
        _ => &["transaction_id"],
    }
}

/// Asks a script beside this file.
pub fn python(script: &str, asked: &Value) -> Value {
    let path = format!("{}/tests/gate/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut child = Command::new(env("TIDEGATE_TEST_PYTHON"))
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(asked.to_string().as_bytes()).expect("it reads");
    drop(stdin);
    let out = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{script}: {}: {text}", out.status);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{script}: {error}: {text}"))
}
