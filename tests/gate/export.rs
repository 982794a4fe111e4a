//! `export`: to the log's end as it was at the start, beside whoever else is at work, and then the end.

use serde_json::{Value, json};

use crate::node::tidegate;
use crate::snapshots;
use crate::source_gap::recreate;
use crate::source_place::{Place, Sender};

/// Runs it to its end, which must come by itself. Answers its exit code and what it printed.
fn export(place: &Place, arguments: &[&str]) -> (i32, Value, String) {
    let mut command = tidegate();
    command.args(["export", "--output", "json"]).args(arguments);
    let out = command.arg("--config").arg(&place.world.config).output().expect("the binary runs");
    let printed = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code().expect("it ended by itself"), printed, errors)
}

fn good(place: &Place, arguments: &[&str]) -> Value {
    let (code, printed, errors) = export(place, arguments);
    assert_eq!(code, 0, "{printed:#}\n{errors}");
    printed
}

#[test]
fn export_carries_what_is_there_and_ends() {
    let mut place = Place::new("export");
    let orders = place.topic("orders", 3, &[]);
    let totals = place.topic("totals", 2, &[]);
    let other = place.topic("other", 1, &[]);
    place.plain_feed("orders", &orders);
    place.plain_feed("other", &other);
    snapshots::feed(&place, "totals", &totals, "storage: overwrite");
    let sender = Sender::new();
    for partition in 0..3 {
        let from = i64::from(partition) * 100;
        sender.send(&orders, partition, from..from + 100);
    }
    sender.send(&other, 0, 0..10);
    snapshots::change(&totals, 2, (0..200).map(|key| (key, Some(key.into()))));
    // One alone, then the rest, then nothing any more.
    let done = good(&place, &["--table", "totals"]);
    assert_eq!(done[0]["feed"], "totals");
    assert_eq!(done[0]["lake"]["records"], 200, "{done:#}");
    assert_eq!(done[0]["snapshot"]["version"], 1);
    assert_eq!(
        (&done[0]["snapshot"]["rows"], &done[0]["snapshot"]["new"]),
        (&json!(200), &json!(true))
    );
    assert_eq!(snapshots::is_what_the_warehouse_holds(&place, "totals").len(), 200);
    assert!(place.warehouse("orders").is_empty(), "nobody asked for it");
    let done = good(&place, &["--all"]);
    let of = |done: &Value, feed: &str| {
        let found = done.as_array().expect("a list").iter().find(|it| it["feed"] == feed);
        found.unwrap_or_else(|| panic!("{feed} in {done:#}")).clone()
    };
    assert_eq!(of(&done, "orders")["lake"]["records"], 300);
    assert_eq!(of(&done, "orders")["warehouse_offsets"], 300);
    assert_eq!(of(&done, "other")["lake"]["records"], 10);
    assert_eq!(of(&done, "totals")["snapshot"]["new"], false);
    place.wait_for_ids("orders", 0..300);
    let again = good(&place, &["--all"]);
    for feed in ["orders", "other", "totals"] {
        assert_eq!(of(&again, feed)["lake"]["records"], 0, "{again:#}");
        assert_eq!(of(&again, feed)["lake"]["version"], of(&done, feed)["lake"]["version"]);
    }
    place.verify();
    // Beside a running node, which may do all the work; the snapshot is taken all the same.
    let _node = place.node();
    snapshots::change(&totals, 2, [(3, None)]);
    sender.send(&orders, 1, 300..400);
    let done = good(&place, &["--table", "totals", "--stream", "orders"]);
    assert_eq!(of(&done, "totals")["snapshot"]["rows"], 199, "{done:#}");
    assert_eq!(snapshots::is_what_the_warehouse_holds(&place, "totals").len(), 199);
    place.wait_for_ids("orders", 0..400);
}

#[test]
fn export_says_what_it_could_not_do() {
    let mut place = Place::new("export-not");
    let orders = place.topic("orders", 1, &[]);
    let totals = place.topic("totals", 1, &[]);
    place.plain_feed("orders", &orders);
    snapshots::feed(&place, "totals", &totals, "storage: overwrite");
    for (arguments, said) in [
        (&["--stream", "order"][..], "did you mean orders?"),
        (&["--stream", "totals"], "say --table totals"),
        (&[], "--all"),
    ] {
        let (code, _, errors) = export(&place, arguments);
        assert_eq!(code, 2, "{errors}");
        assert!(errors.contains(said), "{errors}");
    }
    let sender = Sender::new();
    sender.send(&orders, 0, 0..20);
    good(&place, &["--all"]);
    // The topic is made again: where to go on is not for a cron job to say.
    recreate(&orders, 1);
    sender.send(&orders, 0, 0..5);
    snapshots::change(&totals, 1, [(1, Some(1))]);
    let (code, printed, errors) = export(&place, &["--all"]);
    assert_eq!(code, 1, "{printed:#}\n{errors}");
    assert!(errors.contains("feed orders, partition 0 is parked"), "{errors}");
    // The other feed is done all the same.
    let done = printed.as_array().expect("a list");
    let of_totals = done.iter().find(|it| it["feed"] == "totals").expect("both are told of");
    assert_eq!(of_totals["snapshot"]["rows"], 1, "{printed:#}");
    assert_eq!(place.lake("orders").len(), 20);
    // One that cannot come to an end is given up: somebody holds its table.
    place.world.database.execute("BEGIN; LOCK TABLE totals IN SHARE MODE");
    snapshots::change(&totals, 1, [(1, Some(2))]);
    let (code, _, errors) = export(&place, &["--table", "totals", "--timeout", "2s"]);
    place.world.database.execute("ROLLBACK");
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("not done in 2s") && errors.contains("feed totals"), "{errors}");
}
