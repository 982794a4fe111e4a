//! Layouts of other systems, each found by the glob that its readers use.

use std::process::Command;
use std::time::Duration;

use crate::servers::env;
use crate::world::{Layout, Setup, World};

const SOON: Duration = Duration::from_secs(60);

/// Fills a lake of this layout and reads it by `find`, below the table's folder.
fn layout(name: &'static str, format: &'static str, layout: Layout, find: &str) {
    let layout = Some(layout);
    let world = World::new(Setup { name, partitions: 3, format, layout, ..Setup::default() });
    let load = world.load(11, 3000, 100_000);
    let mut node = world.node("node");
    let expected = load.finish();
    world.wait_caught_up(SOON);
    assert!(node.terminate(SOON).0.success());
    world.check(&expected);
    for topic in world.topics.keys() {
        let upper = world.topics[topic].to_uppercase();
        let files = world.lake_table(*topic).join(find.replace("{TOPIC}", &upper));
        let reader = if format == "jsonl" { "read_json" } else { "read_parquet" };
        let asked = format!(
            "import duckdb; print(duckdb.sql(\"SELECT count(*) FROM {reader}('{}')\").fetchall()[0][0])",
            files.display()
        );
        let out = Command::new(env("TIDEGATE_TEST_PYTHON")).args(["-c", &asked]).output();
        let out = out.expect("Python starts");
        let found = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        assert_eq!(found, expected.counts(*topic).records.to_string(), "{}", files.display());
    }
}

#[test]
fn a_folder_for_each_date() {
    let of = Layout { template: "{feed}/date={date}/data", table: "{feed}" };
    layout("layout-s0", "jsonl", of, "date=????-??-??/*.jsonl");
}

#[test]
fn files_named_by_topic_and_date() {
    let of =
        Layout { template: "pipeline/{TOPIC}/{date}/{TOPIC}_{date}", table: "pipeline/{TOPIC}" };
    layout("layout-s1", "jsonl", of, "????-??-??/{TOPIC}_????-??-??*.jsonl");
}

#[test]
fn a_delta_table_by_date_and_hour() {
    let of = Layout { template: "lake/{feed}/dt={date}/hour={hour}/part", table: "lake/{feed}" };
    layout("layout-hour", "delta", of, "dt=*/hour=*/part_*.parquet");
}

#[test]
fn plain_parquet_by_month() {
    let of =
        Layout { template: "{feed}/y={year}/m={month}/p{partition}-{offset}", table: "{feed}" };
    layout("layout-month", "parquet", of, "y=*/m=*/p*-*.parquet");
}
