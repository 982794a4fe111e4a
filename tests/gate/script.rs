//! `tidegate migrate --print`: a database where the node may create nothing.

use crate::source_place::{Place, Sender};

#[test]
fn a_node_that_may_not_create_uses_what_was_created_for_it() {
    let mut place = Place::new("script");
    let topic = place.topic("t", 1, &[]);
    place.plain_feed("orders", &topic);
    place.feed("inferred", &format!("topic: {topic}\nlake: null"));
    let database = &place.world.database;
    database.execute("DROP SCHEMA tidegate CASCADE");
    let (code, script) = place.command(&["migrate", "--print"]);
    assert_eq!(code, 0, "{script}");
    assert!(script.contains("-- feed inferred: its topics or columns are found"), "{script}");
    std::fs::remove_file(place.folder().join("feeds/inferred.yaml")).expect("it");
    database.execute(&script);
    let role = format!("{}_writer", database.name.replace('-', "_"));
    database.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA tidegate TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA tidegate, public TO {role};
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA tidegate TO {role}"
    ));
    place.edit_node(|text| text.replace("postgres://tidegate@", &format!("postgres://{role}@")));
    Sender::new().send(&topic, 0, 0..10);
    let node = place.node();
    place.wait_for_ids("orders", 0..10);
    place.verify();
    drop(node);
    database.execute(&format!("DROP OWNED BY {role}"));
    database.administer(&[&format!("DROP ROLE {role}")]);
}
