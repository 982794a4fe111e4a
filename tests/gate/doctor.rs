//! What the doctor says of a place that is well, and of what is broken in it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::database::Database;
use crate::proxy::{Commit, Proxy};
use crate::source_place::{COLUMNS, Place};
use crate::world::Setup;

/// By what it is about: how it is, and what helps.
fn examined(place: &Place) -> (i32, BTreeMap<String, (String, String, String)>) {
    let (code, printed) = place.command(&["doctor", "--output", "json"]);
    // Behind it is what was said to people.
    let end = printed.find("\n]").map_or(printed.len(), |end| end + 2);
    let findings: Vec<Value> =
        serde_json::from_str(&printed[..end]).unwrap_or_else(|error| panic!("{error}: {printed}"));
    let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
    let one =
        |it: &Value| (text(it, "about"), (text(it, "state"), text(it, "says"), text(it, "remedy")));
    (code, findings.iter().map(one).collect())
}

#[test]
fn a_place_that_is_well_and_what_is_broken_in_it() {
    let proxy = Proxy::start(Database::address(), Commit::Postgres);
    let setup = Setup { name: "doctor", postgres: Some(proxy.address.clone()), ..Setup::default() };
    let mut place = Place::with(setup);
    let topic = place.topic("orders", 2, &[]);
    place.feed("orders", &format!("topic: {topic}\n{COLUMNS}"));
    let (code, found) = examined(&place);
    let bad: Vec<_> = found.iter().filter(|(_, (state, ..))| state == "bad").collect();
    assert_eq!((code, bad.len()), (0, 0), "{found:#?}");
    for about in [
        "broker",
        "consumer group",
        "feed orders",
        "lake",
        "lake's clock",
        "warehouse",
        "bookkeeping",
        "warehouse's clock",
        "warehouse's rights",
        "warehouse's connections",
        "volume",
        "lake's folder",
    ] {
        assert!(found.contains_key(about), "{about}: {found:#?}");
    }
    assert!(found["feed orders"].1.contains("offsets 0 to 0"), "{found:#?}");
    let (code, said) = place.command(&["doctor"]);
    assert!(code == 0 && said.contains("good      broker: "), "{said}");
    // The lake's folder is as it was.
    let probes = std::fs::read_dir(place.world.lake_root().join("_tidegate")).expect("the folder");
    let left: Vec<_> = probes.flatten().map(|it| it.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("probe")), "{left:?}");

    // Each by itself, and all at once.
    place.feed("sales", &format!("topic: no-such-topic\n{COLUMNS}"));
    place.world.database.query("DROP SCHEMA tidegate CASCADE");
    let lake = place.world.lake_root().to_path_buf();
    std::fs::rename(&lake, lake.with_extension("aside")).expect("renamed");
    std::fs::write(&lake, "not a folder").expect("written");
    let (code, found) = examined(&place);
    let helps = |about: &str| {
        let (state, says, remedy) = &found[about];
        assert_eq!(state, "bad", "{about}: {says}");
        remedy.clone()
    };
    assert_eq!(code, 1);
    assert!(helps("feed sales").contains("make the topic"));
    assert!(helps("bookkeeping").contains("tidegate migrate"));
    assert!(helps("lake").contains("lake.url"));
    assert_eq!(found["feed orders"].0, "good");
    assert_eq!(found["warehouse"].0, "good");
    proxy.cut();
    let (code, found) = examined(&place);
    assert_eq!((code, found["warehouse"].0.as_str()), (1, "bad"), "{found:#?}");
    assert_eq!(found["broker"].0, "good");
    // What lies in the way of others, for what comes after this test.
    std::fs::remove_file(&lake).expect("removed");
    std::fs::rename(lake.with_extension("aside"), &lake).expect("renamed");
    let (code, said) = place.command(&["doctor", "--config", "/nowhere.yaml"]);
    assert_eq!(code, 2, "{said}");
}

#[test]
fn a_broker_that_is_away_hides_nothing_else() {
    let mut place = Place::new("doctor-away");
    let topic = place.topic("orders", 1, &[]);
    place.feed("orders", &format!("topic: {topic}\n{COLUMNS}"));
    place.edit_node(|text| {
        let at = crate::kafka::address();
        text.replace(&format!("bootstrap: '{at}'"), "bootstrap: '127.0.0.1:1'")
    });
    let (code, found) = examined(&place);
    assert_eq!((code, found["broker"].0.as_str()), (1, "bad"), "{found:#?}");
    assert!(found["broker"].2.contains("kafka.bootstrap"), "{found:#?}");
    assert_eq!((found["lake"].0.as_str(), found["warehouse"].0.as_str()), ("good", "good"));
}
