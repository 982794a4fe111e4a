//! What landed, read back by those who will read it: no client of ours is among them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::generate::Topic;

use crate::servers::env;
use crate::source_place::{Place, Sender};
use crate::world::{Setup, World};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn python_readers_agree() {
    let topics = &[Topic::TransactionLog, Topic::UserTransactionSummary];
    let world = World::new(Setup { name: "readers", topics, partitions: 3, ..Setup::default() });
    let load = world.load(5, 6000, 100_000);
    let mut node = world.node("node");
    let expected = load.finish();
    world.wait_caught_up(SOON);
    // A folder that nobody writes to holds no file that is not committed.
    let (status, _) = node.terminate(SOON);
    assert!(status.success(), "{status}");
    let stream = readers(&world.lake_table(Topic::TransactionLog), "amount");
    let counts = expected.counts(Topic::TransactionLog);
    for (reader, found) in stream.as_object().expect("readers") {
        assert_eq!(found["rows"], counts.rows(), "{reader}: {found}");
        assert_eq!(found["cents"], counts.cents, "{reader}: {found}");
        assert_eq!(found["offsets"], counts.rows(), "{reader}: {found}");
    }
    agree(&stream);
    // The changelog of a table is read the same way.
    agree(&readers(&world.lake_table(Topic::UserTransactionSummary), "total_amount"));
}

/// A reader that wants one month finds that month and nothing else.
#[test]
fn months_are_told_apart() {
    let mut place = Place::new("months");
    let topic = place.topic("t", 2, &[]);
    place.plain_feed("orders", &topic);
    let sender = Sender::new();
    // The last moment of 2025, the first of 2026, and a day in February.
    let new_year = 1_767_225_600_000;
    sender.send_at(&topic, 0, 0..10, Some(new_year - 1));
    sender.send_at(&topic, 1, 10..30, Some(new_year));
    sender.send_at(&topic, 0, 30..60, Some(new_year + 40 * 86_400_000));
    let mut node = place.node();
    place.wait_for_ids("orders", 0..60);
    assert!(node.terminate(SOON).0.success());
    let found = readers(&place.lake_table("orders"), "id");
    agree(&found);
    let months = json!({"2025-12": 10, "2026-01": 20, "2026-02": 30});
    assert_eq!(found["pandas"]["months"], months);
    assert_eq!(found["pandas"]["cents"], 59 * 60 / 2 * 100);
}

/// Every reader gives the same counts, sums and months.
fn agree(found: &Value) {
    let found = found.as_object().expect("readers");
    assert_eq!(found.len(), 5, "{found:?}");
    let first = &found["deltalake"];
    println!("{first}");
    for (reader, found) in found {
        assert_eq!(found, first, "{reader} reads something else");
    }
}

fn readers(table: &Path, amount: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate/readers.py");
    let asked = json!({"table": table, "amount": amount});
    let mut python = Command::new(env("TIDEGATE_TEST_PYTHON"));
    let out = python.arg(script).arg(asked.to_string()).output().expect("Python starts");
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "readers.py: {}: {errors}", out.status);
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}
