//! A warehouse filled from the lake: each record once, whatever happens on the way.

use rdkafka::producer::{BaseRecord, Producer};

use crate::node::tidegate;
use crate::source_gap::delete_records;
use crate::source_place::{Place, SOON, Sender};

/// Streams of several partitions in each format, rebuilt after the broker has let their records go.
#[test]
fn a_lost_warehouse_is_filled_from_each_kind_of_lake() {
    for format in ["delta", "parquet", "jsonl"] {
        let mut place = Place::with_format("load", format);
        let topic = place.topic("t", 2, &[]);
        let lines = "columns: [{name: id, type: long}, {name: note, type: string}, \
                     {name: half, type: 'decimal(9,1)'}]\nwarehouse: {max_records: 7}";
        place.feed("orders", &format!("topic: {topic}\n{lines}"));
        let sender = Sender::new();
        sender.send(&topic, 0, 0..40);
        let mut node = place.node();
        place.wait_for_watermarks("orders", &[40, 0]);
        // More than one commit, and records that are none.
        sender.send(&topic, 0, 40..60);
        sender.send(&topic, 1, 100..125);
        let bad: BaseRecord<'_, str, str> = BaseRecord::to(&topic).partition(1).payload("no JSON");
        sender.0.send(bad).unwrap_or_else(|(error, _)| panic!("producing: {error}"));
        sender.send(&topic, 1, 125..150);
        place.wait_for_watermarks("orders", &[60, 51]);
        node.terminate(SOON);
        let rows = "SELECT (_topic, _partition, _offset, _timestamp, id, note, half)::text \
                    FROM orders ORDER BY 1";
        let quarantined = "SELECT (partition, record_offset, value, class, reason)::text \
                           FROM tidegate.quarantine";
        let asked = |sql: &str| -> Vec<String> {
            place.world.database.query(sql).iter().map(|row| row.get(0)).collect()
        };
        let (before, rejects) = (asked(rows), asked(quarantined));
        assert_eq!((before.len(), rejects.len()), (110, 1));
        place.world.database.execute(
            "DROP TABLE orders; DELETE FROM tidegate.progress; DELETE FROM tidegate.quarantine; \
             DELETE FROM tidegate.installation",
        );
        delete_records(&topic, 0, 60);
        delete_records(&topic, 1, 51);
        // It dies on the way, before a commit and inside COPY, and goes on where it was.
        for fault in ["warehouse.before_commit=exit@3", "warehouse.in_copy=exit@2"] {
            let mut command = tidegate();
            command.args(["load", "--feed", "orders", "--config"]).arg(&place.world.config);
            let out = command.env("TIDEGATE_FAULT", fault).output().expect("the binary runs");
            assert_eq!(out.status.code(), Some(70), "{}", String::from_utf8_lossy(&out.stderr));
        }
        let arguments = ["load", "--feed", "orders", "--from", "lake", "--into", "warehouse"];
        let (code, said) = place.command(&arguments);
        assert_eq!(code, 0, "{said}");
        assert_eq!(
            (asked(rows), asked(quarantined)),
            (before.clone(), rejects.clone()),
            "{format}"
        );
        let (code, said) = place.command(&arguments);
        assert!(code == 0 && said.contains(": 0 rows, 0 in quarantine"), "{said}");
        assert_eq!((asked(rows), asked(quarantined)), (before, rejects), "{format}: once");
        // A node goes on where the lake ended.
        sender.send(&topic, 0, 60..65);
        let _node = place.node();
        place.wait_for_watermarks("orders", &[65, 51]);
        place.verify();
    }
}

/// A keyed feed's changelog makes its table again, deletes included, as documents too.
#[test]
fn a_table_is_made_again_from_its_changelog() {
    let mut place = Place::new("load-table");
    let topic = place.topic("t", 1, &[]);
    let text = |name: &str, options: &str| {
        format!(
            "feed: {name}\ntype: table\ntopic: {topic}\nrest: true\nlake: {{linger: 200ms}}\n\
             warehouse: {{{options}}}\n\
             key: {{format: string, columns: [{{name: k, type: string}}]}}\n\
             columns: [{{name: v, path: V.W, type: long}}]\n"
        )
    };
    for (name, options) in [("plain", ""), ("whole", "shape: document")] {
        let path = place.folder().join(format!("feeds/{name}.yaml"));
        std::fs::write(path, text(name, options)).expect("a feed file");
    }
    let sender = Sender::new();
    let send = |key: &str, value: Option<&str>| {
        let mut record = BaseRecord::<str, str>::to(&topic).partition(0).key(key);
        record.payload = value;
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("producing: {error}"));
    };
    send("a", Some(r#"{"V":{"W":1,"X":1.50},"Y":[true]}"#));
    send("b", Some(r#"{"V":{"W":2}}"#));
    send("a", Some(r#"{"V":{"W":3,"X":2.50},"Y":[false,null]}"#));
    send("b", None);
    sender.0.flush(SOON).expect("the broker takes the records");
    let mut node = place.node();
    place.wait_for_watermarks("plain", &[4]);
    place.wait_for_watermarks("whole", &[4]);
    node.terminate(SOON);
    let asked = |sql: &str| -> Vec<String> {
        place.world.database.query(sql).iter().map(|row| row.get(0)).collect()
    };
    let rows = "SELECT p::text FROM plain p ORDER BY 1";
    let documents = "SELECT w::text FROM whole w ORDER BY 1";
    let before = (asked(rows), asked(documents));
    assert_eq!((before.0.len(), before.1.len()), (1, 1));
    place.world.database.execute("DROP TABLE plain, whole; DELETE FROM tidegate.progress");
    for feed in ["plain", "whole"] {
        let (code, said) = place.command(&["load", "--feed", feed]);
        assert!(code == 0 && said.contains(": 4 rows"), "{said}");
    }
    assert_eq!((asked(rows), asked(documents)), before);
    place.verify();
}

/// A lake and a warehouse of two installations are not mixed.
#[test]
fn a_strangers_lake_is_not_loaded() {
    let mut place = Place::new("load-stranger");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("orders", &topic);
    Sender::new().send(&topic, 0, 0..5);
    let mut node = place.node();
    place.wait_for_ids("orders", 0..5);
    node.terminate(SOON);
    place.world.database.execute(
        "DROP TABLE orders; DELETE FROM tidegate.progress; \
         UPDATE tidegate.installation SET id = gen_random_uuid()",
    );
    let (code, said) = place.command(&["load", "--feed", "orders"]);
    assert!(code == 1 && said.contains("two histories"), "{said}");
    assert!(place.warehouse("orders").is_empty());
}

/// Rows that somebody took out of the lake are not passed over in silence.
#[test]
fn what_the_lake_lost_is_said() {
    let mut place = Place::with_format("load-lost", "jsonl");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("orders", &topic);
    Sender::new().send(&topic, 0, 0..10);
    let mut node = place.node();
    place.wait_for_watermarks("orders", &[10]);
    node.terminate(SOON);
    place.world.database.execute("TRUNCATE orders; DELETE FROM tidegate.progress");
    let mut files = Vec::new();
    let mut folders = vec![place.lake_table("orders")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let hidden = entry.file_name().to_string_lossy().starts_with('_');
            match entry.path().is_dir() {
                true if !hidden => folders.push(entry.path()),
                true => {}
                false => files.push(entry.path()),
            }
        }
    }
    files.iter().for_each(|file| std::fs::remove_file(file).expect("a file"));
    let (code, said) = place.command(&["load", "--feed", "orders"]);
    assert!(code == 1 && said.contains("--allow-missing"), "{said}");
    assert!(place.world.database.query("SELECT 1 FROM tidegate.progress").is_empty(), "untouched");
    let (code, said) = place.command(&["load", "--feed", "orders", "--allow-missing"]);
    assert!(code == 0 && said.contains(": 0 rows"), "{said}");
}

/// The warehouse waits before a gap, its node claiming again and again, and is filled all the same.
#[test]
fn a_node_that_waits_before_a_gap_goes_on_after_the_load() {
    let mut place = Place::new("load-parked");
    let topic = place.topic("t", 1, &[]);
    place.feed(
        "orders",
        &format!("topic: {topic}\n{}\nwarehouse: {{max_records: 3}}", crate::source_place::COLUMNS),
    );
    let sender = Sender::new();
    sender.send(&topic, 0, 0..50);
    let mut node = place.node();
    place.wait_for_ids("orders", 0..50);
    node.terminate(SOON);
    // As a restored backup: ten are left, and the broker has none of the rest.
    place.world.database.execute(
        "DELETE FROM orders WHERE _offset >= 10; UPDATE tidegate.progress SET next_offset = 10",
    );
    delete_records(&topic, 0, 50);
    let node = place.node();
    node.wait_for_log("partition parked", SOON);
    let (code, said) = place.command(&["load", "--feed", "orders"]);
    assert_eq!(code, 0, "{said}");
    sender.send(&topic, 0, 50..60);
    place.wait_for_ids("orders", 0..60);
    place.verify();
}

/// A lake of JSON lines fills an SQLite file with documents, to be asked as `sqlite3` asks.
#[test]
fn documents_in_sqlite_come_from_lines() {
    let mut place = Place::with_format("load-sqlite", "jsonl");
    let topic = place.topic("t", 1, &[]);
    let lake =
        "lake: {linger: 200ms, format: jsonl, layout: 'pipeline/{TOPIC}/{date}/{TOPIC}_{date}'}";
    place.feed(
        "usd",
        &format!(
            "topic: {topic}\nrest: true\n{lake}\nwarehouse: {{table: TRANSACTIONS_USD, shape: document}}"
        ),
    );
    let sender = Sender::new();
    for (kind, amount) in [("payment", "339.47"), ("refund", "2.5"), ("payment", "0.53")] {
        let value = format!(
            r#"{{"USER_ID_HASHED":"h","TRANSACTION_TYPE":"{kind}","AMOUNT_USD":{amount},"A":[1]}}"#
        );
        let record: BaseRecord<'_, str, str> = BaseRecord::to(&topic).partition(0).payload(&value);
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("producing: {error}"));
    }
    sender.0.flush(SOON).expect("the broker takes the records");
    let mut node = place.node();
    let report = || place.command(&["verify", "--wait", "30"]);
    let (code, said) = report();
    assert_eq!(code, 0, "{said}");
    node.terminate(SOON);
    let text = std::fs::read_to_string(&place.world.config).expect("the node file");
    let warehouse = text.lines().find(|line| line.starts_with("warehouse:")).expect("a warehouse");
    let beside = place.folder().join("sqlite.yaml");
    let file = place.folder().join("data_warehouse.db");
    let own = format!("warehouse: {{url: 'sqlite:{}'}}", file.display());
    std::fs::write(&beside, text.replace(warehouse, &own)).expect("a node file");
    for arguments in [&["migrate"][..], &["load", "--feed", "usd"], &["load", "--feed", "usd"]] {
        let mut command = tidegate();
        let out = command.args(arguments).arg("--config").arg(&beside).output();
        let out = out.expect("the binary runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let database = rusqlite::Connection::open(file).expect("the database");
    let mut totals = database
        .prepare(
            "SELECT json_extract(data, '$.TRANSACTION_TYPE'), \
             round(sum(json_extract(data, '$.AMOUNT_USD')), 2), \
             max(json_extract(data, '$.A[0]')) FROM TRANSACTIONS_USD GROUP BY 1 ORDER BY 1",
        )
        .expect("a query");
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let totals: Vec<(String, f64, i64)> =
        totals.query_map([], row).expect("rows").map(|row| row.expect("a row")).collect();
    assert_eq!(totals, [("payment".to_owned(), 340.0, 1), ("refund".to_owned(), 2.5, 1)]);
}
