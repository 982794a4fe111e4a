//! `tidegate report`: one page that tells what there is, counted by others, and shows nothing of what is
//! written in it as anything but text.

use std::path::Path;

use serde_json::{Value, json};

use crate::check::python;
use crate::commands::{folder, with_config};
use crate::kafka;
use crate::source_place::{Place, SOON, Sender};
use crate::systems::{MY_DWH, PARTITIONS, System};

const EVIL: &str = "<script>alert(1)</script>";

/// Writes the report of a system whose owner wrote strange things, and has it judged.
fn judged(system: &System, lake: &str, queries: &[&str]) -> Value {
    let in_folder = |path: &str| system.folder.join(path);
    let write = |path: &str, text: &str| std::fs::write(in_folder(path), text).expect("a file");
    write("queries/evil.sql", &format!("SELECT '{EVIL}' AS \"{EVIL}\", NULL AS n"));
    write(
        "queries/many.sql",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i FROM n",
    );
    write("queries/nothing.sql", "SELECT * FROM no_such_table");
    write("queries/writing.sql", "CREATE TABLE written (id int)");
    write("queries/by_hand.py", "print('not run')");
    let reason = ["--reason", EVIL];
    let grant =
        ["permissions", "grant", "--to", "group:analysts", "--feed", "*", "--mask", "user_id=hash"];
    system.say(&[&grant[..], &reason].concat());
    let page = in_folder("run.html");
    let said = system.say(&["report", "--out", "run.html", "--title", EVIL]);
    assert!(said.contains("run.html: written"), "{said}");
    assert!(!in_folder(".run.html.new").exists());
    let ends =
        system.topics.iter().map(|topic| (topic.clone(), json!(kafka::ends(topic, PARTITIONS))));
    let mut asked = json!({
        "page": page, "lake": in_folder(lake), "folder": system.folder, "queries": queries,
        "ends": ends.collect::<serde_json::Map<_, _>>(),
    });
    match &system.database {
        Some(database) => asked["postgres"] = json!(database.url()),
        None => asked["sqlite"] = json!(in_folder("data_warehouse.db")),
    }
    let report = python("report.py", &asked);
    println!("{:#}", report["summary"]);
    assert_eq!(report["faults"], json!([]), "{:#}", report["faults"]);
    report
}

/// What every such report says, whichever database it is.
fn says_what_was_written(system: &System, report: &Value) {
    let text = report["text"].as_str().expect("a text");
    for said in [
        "group:analysts may read *, user_id as hash",
        "by_hand.py",
        "The first 50 rows; there are more.",
        "no_such_table",
        "alert(1)",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert_eq!(report["queries"]["evil.sql"]["rows"], json!([[EVIL, "null"]]));
    assert_eq!(report["queries"]["many.sql"]["rows"].as_array().map(Vec::len), Some(50));
    for file in ["nothing.sql", "writing.sql"] {
        let query = &report["queries"][file];
        assert!(query["fault"].is_string() && query["rows"] == json!([]), "{file}: {query}");
    }
    // To standard output it is the page alone.
    let page = system.say(&["report", "--out", "-"]);
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"), "{page}");
    let audit: Value =
        serde_json::from_str(&system.say(&["audit", "--action", "report", "--output", "json"]))
            .expect("rows");
    let audit = audit.as_array().expect("rows");
    assert_eq!(audit.len(), 2, "{audit:?}");
    assert_eq!(audit[1]["why"], "a report of everything, to run.html");
    assert!(audit[1]["principal"].as_str().is_some_and(|it| it.starts_with("local:")), "{audit:?}");
}

/// A description that a feed's owner wrote.
fn describe(system: &System, file: &str) {
    let path = system.folder.join("feeds").join(file);
    let text = std::fs::read_to_string(&path).expect("a feed file");
    let lines = text.lines().filter(|line| !line.starts_with("description:"));
    let text = lines.collect::<Vec<_>>().join("\n") + &format!("\ndescription: '{EVIL}'\n");
    std::fs::write(&path, text).expect("a feed file");
}

#[test]
fn a_report_tells_what_a_lake_of_json_lines_and_sqlite_hold() {
    let system = System::new("s1", None);
    describe(&system, "TRANSACTIONS_USD.yaml");
    system.say(&["migrate"]);
    system.generate("400", "11");
    system.carry("s1");
    let report = judged(&system, "pipeline", &["spent_by_type.sql", "top_users.sql", "evil.sql"]);
    says_what_was_written(&system, &report);
    let tables = system.say(&["report", "--out", "-"]);
    assert!(tables.contains("7 days"), "what the feeds keep");
}

#[test]
fn a_report_tells_what_a_lake_of_json_lines_and_postgresql_hold() {
    let system = System::new("s0", Some(MY_DWH));
    describe(&system, "transaction_log.yaml");
    system.say(&["migrate"]);
    system.generate("400", "12");
    system.carry("s0");
    let report = judged(&system, "data_lake", &["by_day.sql", "top_users.sql", "evil.sql"]);
    says_what_was_written(&system, &report);
    let page = std::fs::read_to_string(system.folder.join("run.html")).expect("the report");
    let address = system.database.as_ref().expect("a database").url();
    let (user, _) = address.split_once('@').expect("a user");
    assert!(!page.contains(user), "the address with its user");
}

/// The rows about quarantine: the sink, and what people read in the row.
fn quarantined(page: &str) -> Vec<(String, String)> {
    let rows = page.split("<tr data-quarantined=").skip(1);
    let row = |row: &str| {
        let row = row.split("</tr>").next().expect("a row");
        let (_, sink) = row.split_once("data-sink=\"").expect("a sink");
        let cells = row.split("<td").skip(1).filter_map(|it| it.split_once('>'));
        let cells: Vec<&str> = cells.filter_map(|(_, it)| it.split("</td>").next()).collect();
        (sink.split('"').next().expect("a sink").to_owned(), cells[..4].join(" "))
    };
    rows.map(row).collect()
}

#[test]
fn records_in_quarantine_are_counted_by_reason_and_state() {
    let mut place = Place::new("report-quarantine");
    let topic = place.topic("t", 1, &[]);
    let checked = "columns: [{name: id, type: long, required: true, check: {max: 99}}]";
    place.feed("numbers", &format!("topic: {topic}\n{checked}"));
    Sender::new().send(&topic, 0, 0..3);
    Sender::new().send(&topic, 0, 100..105);
    let mut node = place.node();
    place.wait_for_ids("numbers", 0..3);
    place.wait_for_watermarks("numbers", &[8]);
    assert!(node.terminate(SOON).0.success(), "{}", node.log());
    let discard = [
        "quarantine",
        "discard",
        "--feed",
        "numbers",
        "--offsets",
        "3..5",
        "--why",
        "they are over",
    ];
    let (code, said) = place.command(&discard);
    assert_eq!(code, 0, "{said}");
    let (code, page) = place.command(&["report", "--out", "-"]);
    assert_eq!(code, 0, "{page}");
    let row = |sink: &str, said: &str| (sink.to_owned(), format!("numbers check_failed {said}"));
    assert_eq!(
        quarantined(&page),
        [
            row("lake", "discarded 2"),
            row("lake", "open 3"),
            row("warehouse", "discarded 2"),
            row("warehouse", "open 3"),
        ]
    );
    assert!(page.contains("data-figure=\"quarantine-open\" data-value=\"6\""), "each sink's own");
    for said in ["data-chore=\"retention\"", "data-lake-rows=\"3\"", "data-warehouse-rows=\"3\""] {
        assert!(page.contains(said), "{said}: {page}");
    }
    // Of both sinks' sides it is told how new they are.
    assert_eq!(page.matches(", newest record 20").count(), 1);
    assert!(page.contains(" together, of 20"), "{page}");
}

const AWAY: &str = "kafka: {bootstrap: 'localhost:1'}
lake: {url: lake}
warehouse: {url: 'postgres://ada@localhost:1/w'}
";
const FEED: &str = "feed: orders\ntype: stream\ntopic: orders\ncolumns: [{name: id, type: long}]\n";

#[test]
fn what_is_away_is_told_in_its_place() {
    let files = [("tidegate.yaml", AWAY), ("feeds/orders.yaml", FEED)];
    let config = folder("report-away", &files);
    let queries = config.with_file_name("queries");
    std::fs::create_dir_all(&queries).expect("a folder");
    std::fs::write(queries.join("a.sql"), "SELECT 1").expect("a query");
    let out = config.with_file_name("away.html");
    let ended = with_config(&["report", "--out", &out.display().to_string()], &config);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let page = std::fs::read_to_string(&out).expect("the report");
    // Rights, chores' runs, quarantine, the feed's table and the query; each says it by itself.
    let faults = page.matches("<p class=\"fault\">").count();
    assert_eq!(faults, 5, "{page}");
    for said in ["postgres://localhost:1/w", "No table yet.", "orders", "SELECT 1"] {
        assert!(page.contains(said), "{said}");
    }
    let none = with_config(&["report", "--out", "-", "--queries", "no-such-folder"], &config);
    assert_eq!((none.code, none.out.as_str()), (2, ""), "{}", none.err);
    let nowhere = Path::new("/proc/no-such-folder/a.html").display().to_string();
    assert_eq!(with_config(&["report", "--out", &nowhere], &config).code, 1);
}

#[test]
fn a_database_without_bookkeeping_is_asked_all_the_same() {
    let node =
        "kafka: {bootstrap: 'localhost:1'}\nlake: {url: lake}\nwarehouse: {url: 'sqlite:w.db'}\n";
    let config = folder("report-plain", &[("tidegate.yaml", node), ("feeds/orders.yaml", FEED)]);
    let report = || with_config(&["report", "--out", "-"], &config);
    let before = report();
    assert!(before.code == 0 && before.out.contains("there is no file"), "{}", before.err);
    assert!(!config.with_file_name("w.db").exists(), "it is not made");
    let queries = config.with_file_name("queries");
    std::fs::create_dir_all(&queries).expect("a folder");
    std::fs::write(queries.join("a.sql"), "SELECT 40 + 2 AS answer").expect("a query");
    std::fs::write(config.with_file_name("w.db"), "").expect("a database of nothing");
    let after = report();
    assert_eq!(after.code, 0, "{}", after.err);
    for said in ["run `tidegate migrate`", "<td class=\"number\">42</td>"] {
        assert!(after.out.contains(said), "{said}: {}", after.out);
    }
}
