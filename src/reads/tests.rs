//! What is seen of both sinks, what is refused, and that cursors tell nothing.

use std::time::Duration;

use super::*;
use crate::config::{Feed, FeedFile};
use crate::governance::{
    Access, Action, Decision, Effect, Mask, Principal, Row, RowId, Salt, Target, decide,
};
use crate::lake::scan::Position;

const FEED: &str = "{feed: sales, type: table, topic: t, time: at, \
    key: {format: json, columns: [{name: id, path: ID, type: long}]}, \
    columns: [{name: email, path: WHO.EMAIL, type: string}, {name: at, path: AT, type: timestamp}, \
              {name: place, path: PLACE, type: 'struct<city:string,zip:string>'}], \
    rest: true, lake: {keep_key: true, keep_headers: true}, warehouse: {nested: columns}}";

fn feed(text: &str) -> Feed {
    let file: FeedFile = serde_saphyr::from_str(text).unwrap();
    file.resolve("t", None).unwrap()
}

fn allows(target: Target) -> Access {
    let row = Row {
        id: RowId::Own(1),
        grantee: "user:ada".parse().unwrap(),
        feed: "*".parse().unwrap(),
        action: Action::Read,
        effect: Effect::Allow,
        target,
        expires_at_ms: None,
        granted_by: String::new(),
        reason: String::new(),
    };
    match decide([&row], &Principal::user("ada"), Action::Read, "sales", 0) {
        Decision::Allowed(access) => access,
        denied => panic!("{denied:?}"),
    }
}

fn masks(of: &[(&str, Mask)]) -> Target {
    let masks = of.iter().map(|(name, mask)| ((*name).to_owned(), *mask)).collect();
    Target { masks, ..Target::default() }
}

fn lake(feed: &Feed, target: Target) -> Sight {
    let sight = Sight::of_lake(feed, &allows(target), &Salt::new(b"salt")).unwrap();
    sight.expect("something is seen")
}

fn warehouse(feed: &Feed, target: Target) -> Sight {
    Sight::of_warehouse(feed, &allows(target), &Salt::new(b"salt")).expect("something is seen")
}

fn shown(sight: &Sight) -> Vec<String> {
    let one = |(column, kind, masks): (&crate::governance::SinkColumn, _, Vec<String>)| {
        let masks = if masks.is_empty() { String::new() } else { format!(" {}", masks.join(",")) };
        format!("{} {kind}{masks}", column.name)
    };
    sight.columns().map(one).collect()
}

#[test]
fn a_mask_reaches_every_column_that_tells_of_its_field() {
    let feed = feed(FEED);
    let found = shown(&lake(&feed, masks(&[("at", Mask::Null)])));
    // The folders go by it.
    let hidden: Vec<&str> =
        found.iter().filter(|it| it.ends_with(" null")).map(String::as_str).collect();
    assert_eq!(
        hidden,
        [
            "at timestamp null",
            "_rest json AT: null",
            "_headers json null",
            "year int null",
            "month int null",
            "day int null"
        ]
    );
    // By the name of a field, in either sink.
    let city = [("PLACE.city", Mask::Hash)];
    let found = shown(&lake(&feed, masks(&city)));
    assert!(found.contains(&"place string city: hash".to_owned()), "{found:?}");
    let found = shown(&warehouse(&feed, masks(&city)));
    assert!(found.contains(&"place_city string hash".to_owned()), "{found:?}");
    assert!(found.contains(&"place_zip string".to_owned()), "{found:?}");
    // What is left over may hold it, too.
    let found = shown(&warehouse(&feed, masks(&[("WHO", Mask::Null)])));
    assert!(found.contains(&"email string null".to_owned()), "{found:?}");
    assert!(found.contains(&"_rest json WHO: null".to_owned()), "{found:?}");
}

#[test]
fn only_columns_that_are_named_are_shown() {
    let feed = feed(FEED);
    let columns = Some(["id".to_owned(), "place_zip".to_owned()].into());
    let only = Target { columns, ..Target::default() };
    assert_eq!(shown(&warehouse(&feed, only.clone())), ["id long", "place_zip string"]);
    let found = shown(&lake(&feed, only));
    assert!(found.contains(&"id long".to_owned()) && found.contains(&"_offset long".to_owned()));
    for hidden in ["email", "at", "year", "_rest", "_key", "_headers"] {
        assert!(!found.iter().any(|it| it.starts_with(&format!("{hidden} "))), "{found:?}");
    }
}

#[test]
fn what_is_not_seen_as_it_stands_is_not_asked_about() {
    let feed = feed(FEED);
    let target = Target {
        columns: Some(["id", "email", "at"].map(str::to_owned).into()),
        ..masks(&[("email", Mask::Hash)])
    };
    let sight = lake(&feed, target);
    let ask = |columns: Option<&str>, filter: Option<&str>| {
        let columns = columns.map(|it| it.split(',').map(str::to_owned).collect());
        let filter = filter.map(|text| text.parse().unwrap());
        Question { columns, filter }.of(&sight).map(|sight| shown(&sight))
    };
    let narrow = ask(Some("email,id"), Some("id > 5 AND at >= '2026-01-01'")).unwrap();
    assert_eq!(narrow, ["email string hash", "id long"]);
    let none = |name: &str| Err(Refusal::NoColumn(name.to_owned()));
    assert_eq!(ask(Some("place"), None), none("place"), "hidden, as if it were not there");
    assert_eq!(ask(Some("nowhere"), None), none("nowhere"));
    assert_eq!(ask(None, Some("place IS NULL")), none("place"));
    assert_eq!(ask(None, Some("email = 'x'")), Err(Refusal::Masked("email".to_owned())));
    assert_eq!(ask(None, Some("email IS NULL")), Err(Refusal::Masked("email".to_owned())));
    assert_eq!(ask(Some("id,id"), None), Err(Refusal::Twice("id".to_owned())));
    assert!(matches!(ask(None, Some("id = 'x'")), Err(Refusal::Misfit(_))));
}

#[test]
fn a_cursor_is_for_one_and_for_a_while() {
    let cursor = Cursor {
        principal: "user:ada".to_owned(),
        feed: "sales".to_owned(),
        asked: vec![1, 2],
        place: Place::Lake {
            pin: serde_json::from_str("{\"v\":[7,5]}").unwrap(),
            from: Position { file: 3, row: 4 },
            given: 5,
        },
        made_ms: 1000,
    };
    let seal = Seal::of(&Salt::new(b"salt")).unwrap();
    let text = seal.close(&cursor).unwrap();
    let hour = Duration::from_secs(3600);
    let open = |text: &str, who: &str, now| seal.open(text, who, now, hour);
    assert_eq!(open(&text, "user:ada", 2000).as_ref(), Some(&cursor));
    assert_eq!(open(&text, "user:ada", 1000 + 3_600_000).as_ref(), Some(&cursor));
    assert_eq!(open(&text, "user:ada", 1001 + 3_600_000), None, "too old");
    assert_eq!(open(&text, "user:ada", 999), None, "of the future");
    assert_eq!(open(&text, "user:bob", 2000), None);
    assert_ne!(seal.close(&cursor), Some(text.clone()), "no two are alike");
    let other = Seal::of(&Salt::new(b"pepper")).unwrap();
    assert_eq!(other.open(&text, "user:ada", 2000, hour), None);
    for at in 0..text.len() {
        let mut forged = text.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(open(&String::from_utf8(forged).unwrap(), "user:ada", 2000), None, "at {at}");
    }
    for text in ["", "x", "AAAAAAAAAAAAAAAA", "%", &text[..20]] {
        assert_eq!(open(text, "user:ada", 2000), None);
    }
}
