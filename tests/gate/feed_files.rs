//! `tidegate feeds …`: files written, moved and switched, as a person or a script does it.

use std::path::Path;

use crate::commands::{Ended, folder, with_config};
use crate::source_place::{Place, Sender};

const NODE: &str = "kafka: {bootstrap: 'b:9092'}\nlake: {url: lake}\n";

fn feeds(config: &Path, arguments: &str) -> Ended {
    with_config(&[&["feeds"], &*arguments.split(' ').collect::<Vec<_>>()].concat(), config)
}

/// Fails unless it ends with this code and says this, on whichever stream.
fn says(config: &Path, arguments: &str, code: i32, said: &str) {
    let ended = feeds(config, arguments);
    let text = ended.out + &ended.err;
    assert!(ended.code == code && text.contains(said), "{arguments}: {}: {text}", ended.code);
}

#[test]
fn a_feed_from_its_first_line_to_the_archive() {
    let config = folder("feed-files", &[("tidegate.yaml", NODE)]);
    let path = |name: &str| config.with_file_name("feeds").join(name);
    says(&config, "add --name orders --type stream --source ORDERS", 0, "orders.yaml: written");
    let text = std::fs::read_to_string(path("orders.yaml")).expect("the file");
    assert_eq!(text, "feed: orders\ntype: stream\ntopic: ORDERS\n");
    says(&config, "add --name orders --type stream", 2, "is there already");
    says(&config, "add --name Orders --type stream", 2, "did you mean `orders`?");
    says(&config, "add --name totals --type table", 2, "- {name: id, type: string}");
    let keyed = "add --name totals --type table --key-format json --key id:string:USER.ID \
                 --key on_day:date --column total:decimal(18,2):TOTAL --disabled";
    says(&config, keyed, 0, "totals.yaml: written");
    let text = std::fs::read_to_string(path("totals.yaml")).expect("the file");
    assert!(text.contains("{name: total, path: TOTAL, type: \"decimal(18,2)\"}"), "{text}");
    says(&config, "list", 0, "(disabled)");
    says(&config, "check", 0, "2 feed files: good");

    // What stands there is kept, and a fault of another file is no hindrance.
    std::fs::write(path("orders.yaml"), "# mine\nfeed: orders\ntype: stream\ntopic: ORDERS")
        .expect("it");
    std::fs::write(path("bad.yaml"), "feed: bad\n").expect("a file");
    says(&config, "disable orders", 0, "orders.yaml: disabled");
    says(&config, "disable orders", 0, "disabled already");
    says(
        &config,
        "show orders",
        0,
        "# mine\nfeed: orders\ntype: stream\ntopic: ORDERS\nenabled: false",
    );
    says(&config, "enable orders", 0, "orders.yaml: enabled");
    says(&config, "enable nothing", 2, "there are: orders, totals");

    says(&config, "archive orders", 0, "feeds/archived/orders.yaml");
    says(&config, "archive bad", 0, "feeds/archived/bad.yaml");
    says(&config, "check", 0, "1 feed files: good");
    says(&config, "add --name orders --type stream", 2, "tidegate feeds restore orders");
    says(&config, "restore bad", 2, "bad.yaml: type");
    // A folder for those that are active takes what comes from then on.
    std::fs::create_dir(path("active")).expect("a folder");
    says(&config, "restore orders", 0, "feeds/active/orders.yaml");
    says(&config, "add --name more --type stream", 0, "feeds/active/more.yaml: written");
    let shown = feeds(&config, "show more --output json").json();
    assert_eq!(shown["feed"]["start"], "earliest", "{shown:#}");
    says(&config, "check", 0, "3 feed files: good");
}

#[test]
fn a_read_only_folder_gets_its_file_printed() {
    // Nobody can write there, whoever they are.
    let node = format!("{NODE}feeds: /sys/kernel\n");
    let config = folder("feed-files-read-only", &[("tidegate.yaml", &node)]);
    let ended = feeds(&config, "add --name orders --type stream");
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert_eq!(ended.out, "feed: orders\ntype: stream\ntopic: orders\n");
    assert!(ended.err.contains("put the text above there"), "{}", ended.err);
}

#[test]
fn a_feed_file_from_what_a_topic_holds() {
    let mut place = Place::new("feed-files-infer");
    let topic = place.topic("t", 2, &[]);
    let sender = Sender::new();
    sender.send(&topic, 0, 0..10);
    sender.send(&topic, 1, 10..20);
    let config = place.world.config.clone();
    let stream = feeds(&config, &format!("infer {topic} --name t"));
    assert_eq!(stream.code, 0, "{}", stream.err);
    let columns = "columns:\n  - {name: id, type: long}\n  - {name: note, type: string}\n  \
                   - {name: half, type: double}\n";
    assert!(stream.out.starts_with("# from 20 records"), "{}", stream.out);
    assert!(stream.out.ends_with(columns), "{}", stream.out);
    let table = feeds(&config, &format!("infer {topic} --type table"));
    let key = "key:\n  format: string\n  columns:\n    - {name: key, type: string}\n";
    assert!(table.code == 0 && table.out.contains(key), "{}{}", table.out, table.err);
    // It runs as it is printed.
    std::fs::write(place.folder().join("feeds/t.yaml"), &stream.out).expect("a feed file");
    let _node = place.node();
    place.wait_for_watermarks("t", &[10, 10]);
    place.verify();
    let absent = feeds(&config, &format!("infer {topic}-x"));
    assert!(absent.code == 1 && absent.err.contains("does not exist"), "{}", absent.err);
}
