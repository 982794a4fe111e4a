//! What a node's log may tell, and what it must not.

use std::collections::BTreeMap;

use rdkafka::producer::{BaseRecord, Producer};

use crate::database::Database;
use crate::http::Caller;
use crate::node::{Node, tidegate};
use crate::proxy::{Commit, Proxy};
use crate::source_place::{Place, SOON, Sender};
use crate::world::Setup;

/// In keys, values, headers and requests.
const SECRET: &str = "rosebud";

#[test]
fn a_log_tells_of_faults_and_not_of_what_is_in_records_nor_of_secrets() {
    let proxy = Proxy::start(Database::address(), Commit::Postgres);
    let setup = Setup { name: "logs", postgres: Some(proxy.address.clone()), ..Setup::default() };
    let mut place = Place::with(setup);
    let password = place.folder().join("password");
    std::fs::write(&password, "hunter22").expect("a file");
    place.edit_node(|text| {
        let text = text.replace(
            "lock_timeout",
            &format!("password: {{file: '{}'}}, lock_timeout", password.display()),
        );
        format!("{text}api: {{listen: '127.0.0.1:0'}}\n")
    });
    let topic = place.topic("orders", 2, &[]);
    // Some are refused by the decoder, some let through by a check, some refused by the database alone.
    let columns = "columns: [{name: id, type: long, required: true}, \
                   {name: note, type: string, check: {pattern: a, action: warn}}, {name: code, type: string}]";
    place.feed("orders", &format!("topic: {topic}\n{columns}\nquarantine: {{park_above: 1.0}}"));
    let logs = place.folder().join("logs");
    let mut command = tidegate();
    command.arg("--log-folder").arg(&logs).args(["run", "--config"]).arg(&place.world.config);
    command.env("TIDEGATE_LOG", "debug,tidegate=trace");
    let mut node = Node::of(command, place.world.log("traced"), "");
    let sender = Sender::new();
    let send = |value: &str| {
        let record = BaseRecord::to(&topic).partition(0).key(SECRET).payload(value);
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("{error}"));
        sender.0.flush(SOON).expect("the broker takes the record");
    };
    send(r#"{"id":0,"note":"a"}"#);
    place.wait_for_watermarks("orders", &[1, 0]);
    place.world.database.query("ALTER TABLE orders ADD CHECK (length(code) < 5)");
    for id in 0..20 {
        send(&format!(r#"{{"id":{id},"note":"{SECRET}","code":"ok"}}"#));
        send(&format!(r#"{{"id":"{SECRET}","note":"a"}}"#));
        send(&format!(r#"{{"id":{id},"note":{{"{SECRET}":"#));
        send(&format!(r#"{{"id":{id},"note":"a","code":"{SECRET}"}}"#));
    }
    place.wait_for_watermarks("orders", &[81, 0]);
    proxy.cut();
    send(&format!(r#"{{"id":99,"note":"{SECRET}","code":"ok"}}"#));
    node.wait_for_log("lane lost", SOON);
    proxy.mend();
    place.wait_for_watermarks("orders", &[82, 0]);
    let base = crate::http::base(&node);
    let asked = Caller { base, token: Some(format!("tg_{SECRET}.{SECRET}")) };
    let path = format!("/v1/feeds/{SECRET}/rows?where=note%20%3D%20%27{SECRET}%27");
    assert_eq!(asked.get(&path).status, 401);
    assert!(node.terminate(SOON).0.success());
    let mut all = BTreeMap::from([("stderr".to_owned(), node.log())]);
    for file in std::fs::read_dir(&logs).expect("the folder").flatten() {
        let text = std::fs::read_to_string(file.path()).expect("a log");
        all.insert(file.file_name().to_string_lossy().into_owned(), text);
    }
    let of_role = |role: &str| {
        let prefix = format!("tidegate-{role}");
        all.iter()
            .find(|(name, _)| name.starts_with(&prefix))
            .unwrap_or_else(|| panic!("no {role}"))
            .1
    };
    assert!(of_role("consumer.").contains("lane lost") && of_role("node.").contains("drained"));
    assert!(!of_role("consumer.").contains("this node is the janitor"));
    assert!(of_role("janitor.").contains("this node is the janitor"));
    for (name, text) in &all {
        for secret in [SECRET, "hunter22"] {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{name}");
        }
    }
}
