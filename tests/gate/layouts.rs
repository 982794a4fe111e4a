//! Layouts of other systems, each found by the glob that its readers use; and the time that places go by.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use rdkafka::producer::{BaseRecord, Producer};
use serde_json::json;

use crate::servers::{env, wait_for};
use crate::source_place::{Place, Sender};
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

/// Of an event in 2001, told to Kafka in 2010.
fn send_late(topic: &str, ids: std::ops::Range<i64>) {
    send_of(topic, ids, |_| "2001-02-03T04:05:06Z".to_owned());
}

fn send_of(topic: &str, ids: std::ops::Range<i64>, at: impl Fn(i64) -> String) {
    let sender = Sender::new();
    for id in ids {
        let text = json!({"id": id, "M": {"AT": at(id)}}).to_string();
        let mut record: BaseRecord<'_, (), str> = BaseRecord::to(topic).partition(0).payload(&text);
        record.timestamp = Some(1_262_304_000_000);
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("producing: {error}"));
    }
    sender.0.flush(SOON).expect("the broker takes the records");
}

/// The days that a table's folder shows.
fn days(table: &Path) -> BTreeSet<String> {
    let below = |folder: &Path| {
        let found = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let found = found.filter(|it| it.file_name().to_string_lossy().contains('='));
        found.map(|it| it.path()).collect::<Vec<_>>()
    };
    let days = below(table).iter().flat_map(|year| below(year)).collect::<Vec<_>>();
    let days = days.iter().flat_map(|month| below(month)).collect::<Vec<_>>();
    let number = |day: &Path| {
        let parts = day.strip_prefix(table).expect("below it").components();
        let parts = parts.map(|part| part.as_os_str().to_string_lossy().into_owned());
        let parts: Vec<u32> =
            parts.filter_map(|part| part.split_once('=')?.1.parse().ok()).collect();
        format!("{:04}-{:02}-{:02}", parts[0], parts[1], parts[2])
    };
    days.iter().map(|day| number(day)).collect()
}

fn today() -> String {
    let now = UNIX_EPOCH.elapsed().expect("a clock").as_secs() as i64;
    let date = chrono::DateTime::from_timestamp(now, 0).expect("a date");
    date.format("%Y-%m-%d").to_string()
}

#[test]
fn the_time_that_places_go_by_is_chosen() {
    const COLUMNS: &str =
        "columns: [{name: id, type: long}, {name: at, path: M.AT, type: timestamp}]";
    let mut place = Place::new("lake-time");
    let topic = place.topic("events", 1, &[]);
    let feed = |name: &str, time: &str, lake: &str| {
        let lake = format!("lake: {{linger: 200ms{lake}}}");
        place.feed(name, &format!("topic: {topic}\nwarehouse: null\n{COLUMNS}\n{time}\n{lake}"));
    };
    feed("event", "time: at", "");
    feed("kafka", "time: at", ", time: kafka");
    feed("path", "", ", time: M.AT, format: jsonl");
    let formats = ["delta", "parquet", "jsonl"];
    for format in formats {
        feed(format, "time: at", &format!(", time: ingest, format: {format}"));
    }
    send_late(&topic, 0..50);
    let before = today();
    // What was staged and not committed is staged again, at another time.
    let mut broken = place.world.broken_node("broken", "lake_writer.staged=exit");
    wait_for("the node to end", SOON, || (!broken.is_running()).then_some(()));
    let caught_up = |end: i64| {
        for feed in ["event", "kafka", "path"].into_iter().chain(formats) {
            wait_for(&format!("{feed} to be caught up"), SOON, || {
                let found = crate::lake::progress(&place.lake_table(feed));
                (found.get(&0) == Some(&end)).then_some(())
            });
        }
    };
    let mut node = place.node();
    caught_up(50);
    let one = |day: &str| BTreeSet::from([day.to_owned()]);
    let (of_event, of_kafka) = (one("2001-02-03"), one("2010-01-01"));
    assert_eq!(days(&place.lake_table("event")), of_event);
    assert_eq!(days(&place.lake_table("path")), of_event);
    assert_eq!(days(&place.lake_table("kafka")), of_kafka);
    // The test may run past midnight; an orphan of the broken node is no row of the table.
    let now = BTreeSet::from([before, today()]);
    for format in formats {
        assert!(days(&place.lake_table(format)).is_subset(&now), "{format}");
    }
    place.verify();
    assert!(node.terminate(SOON).0.success());
    // Files go by what their feed went by when they were written, and stay right.
    feed("event", "time: at", ", time: ingest");
    feed("kafka", "time: at", "");
    for format in formats {
        feed(format, "time: at", &format!(", time: kafka, format: {format}"));
    }
    send_late(&topic, 50..60);
    let _node = place.node();
    caught_up(60);
    for format in formats {
        let found = days(&place.lake_table(format));
        assert!(found.is_superset(&of_kafka) && found.len() > 1, "{format}: {found:?}");
    }
    assert!(days(&place.lake_table("event")).len() > 1);
    place.verify();
}

/// Records of 400 hours in every commit: a file for each hour and commit, never for each record; with
/// `late_linger` few commits, and only while they come late.
#[test]
fn late_records_gather_before_they_make_files() {
    const HOURS: i64 = 400;
    const ROUNDS: i64 = 5;
    const COLUMNS: &str = "columns: [{name: id, type: long}, {name: at, path: M.AT, type: timestamp}]\n\
                           time: at\nwarehouse: null";
    let mut place = Place::new("late");
    let [late, timely] = ["late", "timely"].map(|short| place.topic(short, 1, &[]));
    let feed = |name: &str, topic: &str, lake: &str| {
        let layout = "layout: 'streams/{feed}/dt={date}/hour={hour}/x'";
        let lake = format!("lake: {{linger: 200ms, {layout}{lake}}}");
        place.feed(name, &format!("topic: {topic}\n{COLUMNS}\n{lake}"));
    };
    feed("crumbs", &late, "");
    feed("gathered", &late, ", late_linger: 5m");
    feed("moment", &late, ", time: ingest");
    feed("timely", &timely, ", late_linger: 5m");
    let mut node = place.node();
    let there = |feed: &str, end: i64| {
        wait_for(&format!("{feed} to be at {end}"), SOON, || {
            let found = crate::lake::progress(&place.lake_table(feed));
            (found.get(&0) == Some(&end)).then_some(())
        });
    };
    let records = 5 * HOURS;
    for round in 0..ROUNDS {
        let ids = round * records..(round + 1) * records;
        send_of(&late, ids, |id| {
            let hour = chrono::DateTime::from_timestamp(1_700_000_000 + id % HOURS * 3600, 0);
            hour.expect("a time").to_rfc3339()
        });
        send_of(&timely, round * 10..(round + 1) * 10, |_| "2001-02-03T04:05:06Z".to_owned());
        there("crumbs", (round + 1) * records);
        there("timely", (round + 1) * 10);
    }
    assert_eq!(crate::lake::progress(&place.lake_table("gathered"))[&0], 0, "it gathers");
    assert!(node.terminate(SOON).0.success());
    there("gathered", ROUNDS * records);
    let files = |feed: &str| crate::lake::files(&place.lake_table(feed)).len() as i64;
    let (crumbs, gathered, moment) = (files("crumbs"), files("gathered"), files("moment"));
    println!(
        "{} records of {HOURS} hours: {crumbs} files, {gathered} gathered, {moment} by ingest",
        ROUNDS * records
    );
    assert!(crumbs >= ROUNDS * HOURS && crumbs < ROUNDS * records, "{crumbs}");
    assert_eq!(gathered, HOURS);
    assert!(moment < 100, "{moment}");
    place.verify();
}
