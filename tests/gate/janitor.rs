//! The tables are looked after while they are written to, by one node at a time, whatever becomes of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tidegate::generate::Topic;

use crate::lake;
use crate::node::Node;
use crate::servers::{env, wait_for};
use crate::source_place::{COLUMNS, Place, Sender};
use crate::world::{Lake, Setup, World};

const SOON: Duration = Duration::from_secs(60);
const DAY_MS: i64 = 86_400_000;
/// Chores that are always at it, and a lease that is over soon.
const BUSY: &str = "janitor: {retention: 1s, compaction: 1s, vacuum: 1s, grace: 1h, lease: 2s, \
                    least_files: 2, target_size: 4MiB}\n";
const BOTH: &[Topic] = &[Topic::TransactionLog, Topic::UserTransactionSummary];

fn busy(world: &World) {
    let text = std::fs::read_to_string(&world.config).expect("the node file");
    std::fs::write(&world.config, text + BUSY).expect("the node file");
}

/// Commits of a feed's table of this kind.
fn operations(table: &Path, wanted: &str) -> usize {
    let is = |line: &&(u64, Value)| line.1["commitInfo"]["operation"] == wanted;
    lake::lines(table).iter().filter(is).count()
}

fn wait_for_compaction(world: &World, more_than: usize) {
    let table = world.lake_table(Topic::TransactionLog);
    wait_for("small files to be joined", SOON, || {
        (operations(&table, "OPTIMIZE") > more_than).then_some(())
    });
}

fn compactions(world: &World) -> usize {
    operations(&world.lake_table(Topic::TransactionLog), "OPTIMIZE")
}

fn wait_for_janitor(node: &Node) {
    node.wait_for_log("this node is the janitor", SOON);
}

/// The janitor's node dies at a point of a chore; the other one takes its partitions and its lease.
fn killed_at(setup: Setup, fault: &str) {
    let world = World::new(Setup { topics: BOTH, ..setup });
    busy(&world);
    let load = world.load(7, 400_000, 4000);
    let mut first = world.broken_node("first", fault);
    wait_for_janitor(&first);
    let second = world.node("second");
    wait_for("the janitor's node to die of its chore", SOON, || {
        (!first.is_running()).then_some(())
    });
    wait_for_janitor(&second);
    let before = compactions(&world);
    wait_for_compaction(&world, before);
    assert!(load.is_running(), "the load ended before the other went on: nothing was proved");
    let expected = load.stop();
    world.wait_caught_up(SOON);
    world.check(&expected);
}

#[test]
fn killed_as_a_chore_begins() {
    killed_at(Setup { name: "janitor-run", ..Setup::default() }, "janitor.run=exit@3");
}

#[test]
fn killed_between_a_joined_file_and_its_commit() {
    killed_at(Setup { name: "janitor-joined", ..Setup::default() }, "janitor.compacted=exit@3");
}

#[test]
fn killed_between_a_joined_file_and_its_commit_on_s3() {
    let lake = Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT"));
    let setup = Setup { name: "janitor-s3", lake, ..Setup::default() };
    killed_at(setup, "janitor.compacted=exit@3");
}

/// It sleeps with a joined file in its hands, while the other joins the same files and goes on, and wakes.
#[test]
fn a_former_janitor_that_wakes_commits_nothing_that_is_overtaken() {
    let world = World::new(Setup { name: "janitor-zombie", topics: BOTH, ..Setup::default() });
    busy(&world);
    let load = world.load(8, 400_000, 4000);
    let first = world.broken_node("first", "janitor.compacted=stop@3");
    wait_for_janitor(&first);
    let second = world.node("second");
    wait_for("the janitor's node to freeze", SOON, || first.is_stopped().then_some(()));
    wait_for_janitor(&second);
    let before = compactions(&world);
    wait_for_compaction(&world, before + 2);
    let mark = first.log().len();
    first.signal(libc::SIGCONT);
    wait_for("it to see that it is the janitor no more", SOON, || {
        first.log_since(mark).contains("no longer the janitor").then_some(())
    });
    let before = compactions(&world);
    wait_for_compaction(&world, before);
    assert!(load.is_running(), "the load ended before it was awake: nothing was proved");
    let expected = load.stop();
    world.wait_caught_up(SOON);
    world.check(&expected);
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock");
    now.as_millis() as i64
}

/// A feed that keeps seven days, and records of ten days ago and of now.
fn aged(place: &mut Place, format: &str, layout: &str) -> String {
    let topic = place.topic("orders", 2, &[]);
    let layout = if layout.is_empty() { String::new() } else { format!(", layout: '{layout}'") };
    place.feed(
        "orders",
        &format!(
            "topic: {topic}\n{COLUMNS}\nretention_days: 7\nlake: {{linger: 100ms, format: {format}{layout}}}"
        ),
    );
    topic
}

fn lake_report(place: &Place) -> Value {
    place.verify()["feeds"][0]["lake"].clone()
}

/// Rows whose time is over go, files with them where a plain table's grace time is over, and `verify` knows
/// them from lost ones; a node that dies in between leaves it to the next.
fn keeps_seven_days(name: &'static str, format: &'static str, layout: &'static str, fault: &str) {
    let mut place = Place::with_format(name, format);
    place.edit_node(|text| format!("{text}{BUSY}"));
    let topic = aged(&mut place, format, layout);
    let sender = Sender::new();
    for partition in 0..2 {
        sender.send_at(&topic, partition, 0..40, Some(now_ms() - 10 * DAY_MS));
        sender.send_at(&topic, partition, 40..60, Some(now_ms()));
    }
    let mut first = place.world.broken_node("first", fault);
    if !fault.is_empty() {
        wait_for("the node to die of its chore", SOON, || (!first.is_running()).then_some(()));
        first = place.world.node("second");
    }
    wait_for_janitor(&first);
    wait_for("the old rows to go", SOON, || {
        let report = lake_report(&place);
        (report["retired"] == 80 && report["rows"] == 40).then_some(())
    });
    // More of both: the pass after takes what came late.
    for partition in 0..2 {
        sender.send_at(&topic, partition, 60..70, Some(now_ms() - 9 * DAY_MS));
        sender.send_at(&topic, partition, 70..80, Some(now_ms()));
    }
    wait_for("what came late to go too", SOON, || {
        let report = lake_report(&place);
        (report["retired"] == 100 && report["rows"] == 60).then_some(())
    });
    let report = lake_report(&place);
    assert_eq!((&report["lost"], &report["doubled"]), (&0.into(), &0.into()), "{report:#}");
    let (code, said) = place.command(&["load", "--feed", "orders"]);
    assert!(code == 1 && said.contains("retention took"), "{said}");
    let (code, said) = place.command(&["janitor", "run", "retention", "--dry-run"]);
    assert!(code == 0 && said.contains("nothing to do"), "{said}");
    assert!(first.terminate(SOON).0.success());
}

#[test]
fn a_delta_table_keeps_seven_days() {
    keeps_seven_days("retention", "delta", "", "");
}

#[test]
fn a_folder_of_json_lines_keeps_seven_days() {
    keeps_seven_days(
        "retention-jsonl",
        "jsonl",
        "{TOPIC}/{date}/{TOPIC}_{date}",
        "janitor.retired=exit",
    );
}

#[test]
fn a_folder_of_parquet_by_date_keeps_seven_days() {
    keeps_seven_days("retention-pq", "parquet", "data_lake/{feed}/date={date}/part", "");
}

/// By hand: said before it is done, as text and as JSON; and files of a plain table are deleted when their
/// grace time is over, and not before.
#[test]
fn by_hand_it_says_what_it_does() {
    let mut place = Place::with_format("janitor-hand", "jsonl");
    place.edit_node(|text| format!("{text}janitor: {{enabled: false}}\n"));
    let topic = aged(&mut place, "jsonl", "");
    let sender = Sender::new();
    sender.send_at(&topic, 0, 0..30, Some(now_ms() - 10 * DAY_MS));
    sender.send_at(&topic, 1, 0..30, Some(now_ms()));
    let mut node = place.node();
    wait_for("all rows to land", SOON, || (lake_report(&place)["rows"] == 60).then_some(()));
    let (code, said) = place.command(&["janitor", "run", "retention", "--dry-run"]);
    assert!(code == 0 && said.contains("would take out 30 rows"), "{said}");
    assert_eq!(lake_report(&place)["retired"], 0);
    let (code, said) = place.command(&["janitor", "run", "retention", "--output", "json"]);
    let report: Value = serde_json::from_str(&said).expect("one document");
    assert_eq!(report["retention"]["feeds"]["orders"]["expired"]["rows"], 30, "{report:#}");
    assert_eq!(code, 0);
    assert_eq!(lake_report(&place)["retired"], 30);
    let files = || json_lines(&place.lake_table("orders"));
    let all = files().len();
    let (_, said) = place.command(&["janitor", "run"]);
    let done = said.lines().filter(|line| !line.starts_with("statistics"));
    assert!(done.count() == 0 && files().len() == all, "{said}");
    // As if they had been retired a day earlier.
    let document = place.lake_table("orders").join("_retired/00000000.json");
    let text = std::fs::read_to_string(&document).expect("what is retired");
    let mut retired: Value = serde_json::from_str(&text).expect("JSON");
    retired["atMs"] = (now_ms() - 2 * DAY_MS).into();
    std::fs::write(&document, retired.to_string()).expect("what is retired");
    age(&document);
    let (code, said) = place.command(&["janitor", "run", "retention"]);
    assert!(code == 0 && said.contains("deleted"), "{said}");
    assert!(files().len() < all, "their files are gone");
    let report = lake_report(&place);
    assert_eq!((&report["rows"], &report["retired"]), (&30.into(), &30.into()));
    let (code, said) = place.command(&["janitor", "run", "--feed", "ordres"]);
    assert!(code == 2 && said.contains("no feed ordres"), "{said}");
    assert!(node.terminate(SOON).0.success());
}

fn json_lines(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(json_lines(&path)),
            false if path.extension().is_some_and(|it| it == "jsonl") => found.push(path),
            false => {}
        }
    }
    found
}

/// A crashed writer's file and those that compaction replaced go in two steps; the node dies between them.
#[test]
fn what_nothing_refers_to_is_swept_and_somebodys_own_never() {
    let mut place = Place::new("janitor-vacuum");
    place.edit_node(|text| format!("{text}{BUSY}"));
    let topic = place.topic("orders", 1, &[]);
    place.plain_feed("orders", &topic);
    let sender = Sender::new();
    let mut first = place.world.broken_node("first", "janitor.marked=exit");
    let table = place.lake_table("orders");
    let mut sent = 0;
    wait_for("small files to be joined", SOON, || {
        sender.send_at(&topic, 0, sent..sent + 10, Some(now_ms()));
        sent += 10;
        (operations(&table, "OPTIMIZE") > 0).then_some(())
    });
    place.wait_for_ids("orders", 0..sent);
    wait_for("all of them to be joined", SOON, || {
        let (_, said) = place.command(&["janitor", "run", "compaction", "--dry-run"]);
        said.contains("nothing to do").then_some(())
    });
    let orphan = table.join(format!("data_20200101_{:032x}.parquet", 9));
    let foreign = table.join("mine.parquet");
    for path in [&orphan, &foreign] {
        std::fs::write(path, "x").expect("a file");
        age(path);
    }
    let marks = place.world.lake_root().join("_tidegate/vacuum/orders");
    let marked = wait_for("the orphan to be marked", SOON, || {
        let marked = newest(&marks)?;
        let text = std::fs::read_to_string(&marked).ok()?;
        text.contains("data_20200101_").then_some(marked)
    });
    assert!(orphan.exists(), "marked, and not deleted");
    // As if all of it had been marked two days ago.
    let text = std::fs::read_to_string(&marked).expect("the marks");
    let mut old: serde_json::Map<String, Value> = serde_json::from_str(&text).expect("JSON");
    for (path, since) in &mut old {
        *since = (now_ms() - 2 * DAY_MS).into();
        age(&table.join(path));
    }
    let count = old.len();
    assert!(count > 2, "the joined files are marked too: {text}");
    std::fs::write(&marked, Value::Object(old).to_string()).expect("the marks");
    wait_for("the node to die before it sweeps", SOON, || (!first.is_running()).then_some(()));
    assert!(orphan.exists());
    let mut second = place.world.node("second");
    wait_for("the orphan to be swept", SOON, || (!orphan.exists()).then_some(()));
    assert!(foreign.exists(), "somebody's own");
    place.wait_for_ids("orders", 0..sent);
    place.verify();
    let (_, said) = place.command(&["janitor", "run", "vacuum", "--dry-run"]);
    assert!(said.contains("1 that are not ours are left alone: mine.parquet"), "{said}");
    assert!(second.terminate(SOON).0.success());
}

/// Two days old.
fn age(path: &Path) {
    let then = SystemTime::now() - Duration::from_secs(2 * 86_400);
    let file = std::fs::File::options().append(true).open(path).expect("the file");
    file.set_modified(then).expect("its time");
}

/// Of the numbered documents in a folder the last.
fn newest(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.flatten().map(|entry| entry.path()).max()
}

/// Old rows of the warehouse go once their day is over, and `verify` knows them from lost ones; a node that dies
/// in between leaves it to the next.
#[test]
fn a_streams_table_in_the_warehouse_keeps_seven_days() {
    let mut place = Place::new("retention-rows");
    place.edit_node(|text| format!("{text}{BUSY}"));
    let topic = place.topic("orders", 2, &[]);
    let lines = format!(
        "topic: {topic}\n{COLUMNS}\nlake: {{linger: 100ms}}\nwarehouse: {{retention_days: 7}}"
    );
    let sender = Sender::new();
    for partition in 0..2 {
        sender.send_at(&topic, partition, 0..40, Some(now_ms() - 10 * DAY_MS));
        sender.send_at(&topic, partition, 40..60, Some(now_ms()));
    }
    // All of them are there before it is looked for old ones: that is done once a day.
    place.feed("orders", &lines.replace("retention_days: 7", "retention_days: 70"));
    let mut before = place.node();
    let report = || place.verify()["feeds"][0]["warehouse"].clone();
    wait_for("all rows to land", SOON, || (report()["rows"] == 120).then_some(()));
    assert!(before.terminate(SOON).0.success());
    place.feed("orders", &lines);
    let (code, said) = place.command(&["janitor", "run", "retention", "--dry-run"]);
    assert!(code == 0 && said.contains("orders, warehouse: would take out 80 rows"), "{said}");
    let mut first = place.world.broken_node("first", "janitor.expired=exit");
    wait_for("the node to die of its chore", SOON, || (!first.is_running()).then_some(()));
    let mut second = place.world.node("second");
    wait_for_janitor(&second);
    let noted = "SELECT count(*) FROM tidegate.expiry WHERE before > now() - interval '8 days'";
    wait_for("the pass to come to its end", SOON, || {
        (place.world.database.query(noted)[0].get::<_, i64>(0) == 1).then_some(())
    });
    let told = report();
    assert_eq!((&told["rows"], &told["retired"]), (&40.into(), &80.into()), "{told:#}");
    assert_eq!((&told["lost"], &told["doubled"]), (&0.into(), &0.into()), "{told:#}");
    let (code, said) = place.command(&["janitor", "run", "retention", "--dry-run"]);
    assert!(code == 0 && said.contains("nothing to do"), "{said}");
    let (code, said) = place.command(&["janitor", "run", "statistics", "--output", "json"]);
    let counted: Value = serde_json::from_str(&said).expect("one document");
    let counted = &counted["statistics"];
    assert_eq!(code, 0);
    assert_eq!(counted["warehouse"]["orders"]["measured"]["rows"], 40, "{counted:#}");
    let lake = &counted["feeds"]["orders"]["measured"];
    assert_eq!(lake["rows"], 120, "{counted:#}");
    let age = lake["age_ms"].as_i64().expect("an age");
    assert!((0..120_000).contains(&age), "the newest record is of this run: {counted:#}");
    assert!(second.terminate(SOON).0.success());
}

#[test]
fn a_log_is_cut_and_tells_as_much_as_before() {
    cut_log(Place::new("janitor-log"));
}

#[test]
fn a_log_on_s3_is_cut_and_tells_as_much_as_before() {
    let lake = Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT"));
    cut_log(Place::with(Setup { name: "janitor-log-s3", lake, ..Setup::default() }));
}

/// The old entries of a log go, while the table is written to; `verify` still knows what they told.
fn cut_log(mut place: Place) {
    place.edit_node(|text| {
        format!("{text}janitor: {{retention: 1s, checkpoints: 1s, lease: 2s, log_retention: 2d}}\n")
    });
    let topic = aged(&mut place, "delta", "");
    let sender = Sender::new();
    sender.send_at(&topic, 0, 0..40, Some(now_ms() - 10 * DAY_MS));
    let mut first = place.world.broken_node("first", "janitor.cut=exit");
    let log = place.lake_table("orders").join("_delta_log");
    let entries = || {
        let names = std::fs::read_dir(&log).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    };
    let mut sent = 0;
    wait_for("a checkpoint", SOON * 2, || {
        sender.send_at(&topic, 1, sent..sent + 5, Some(now_ms()));
        sent += 5;
        entries().iter().any(|name| name.contains(".checkpoint.")).then_some(())
    });
    wait_for("the old rows to go", SOON, || (lake_report(&place)["retired"] == 40).then_some(()));
    place.wait_for_watermarks("orders", &[40, sent]);
    // As if all of it had been written forty days ago.
    for name in entries() {
        let then = SystemTime::now() - Duration::from_secs(40 * 86_400);
        let file = std::fs::File::open(log.join(name)).expect("an entry");
        file.set_modified(then).expect("its time");
    }
    wait_for("the node to die while it cuts", SOON, || (!first.is_running()).then_some(()));
    let mut second = place.world.node("second");
    let first_entry = format!("{:020}", 100);
    wait_for("the log to begin with its checkpoint", SOON, || {
        let names = entries();
        let entry = names.iter().find(|name| !name.starts_with('_'))?;
        entry.starts_with(&first_entry).then_some(())
    });
    sender.send_at(&topic, 1, sent..sent + 5, Some(now_ms()));
    // By its own reading, which knows what the entries told.
    wait_for("more rows to land", SOON, || (lake_report(&place)["rows"] == sent + 5).then_some(()));
    let report = lake_report(&place);
    assert_eq!(report["retired"], 40, "{report:#}");
    assert_eq!((&report["lost"], &report["doubled"]), (&0.into(), &0.into()), "{report:#}");
    assert!(second.terminate(SOON).0.success());
    // Another that knows nothing of it reads on.
    let mut third = place.world.node("third");
    sender.send_at(&topic, 0, 40..45, Some(now_ms()));
    wait_for("its rows to land", SOON, || (lake_report(&place)["rows"] == sent + 10).then_some(()));
    assert!(third.terminate(SOON).0.success());
}
