//! Proof 5: bad records are in quarantine with their reasons, and the good ones all there.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tidegate::generate::{Generator, Topic};

use crate::check::Refused;
use crate::servers::wait_for;
use crate::world::{Setup, World};

const SEED: u64 = 5;
const MESSAGES: u64 = 60_000;
const BAD: f64 = 0.01;

/// A table somebody made before, with a rule that no decoder knows: amounts end below 4999.99.
const TABLE: &str = "
    CREATE TABLE transaction_log (
        transaction_id text, timestamp timestamptz, user_id text, user_name text, product_id text,
        amount numeric(18,2) CONSTRAINT amount_is_small CHECK (amount < 4999.99),
        currency text, transaction_type text, status text, location_city text,
        location_country text, payment_method text, product_category text, quantity integer,
        shipping_street text, shipping_zip text, shipping_city text, shipping_country text,
        device_os text, device_browser text, device_ip_address text, customer_rating integer,
        discount_code text, tax_amount numeric(18,2),
        _topic text, _partition integer, _offset bigint, _timestamp timestamptz)";

#[test]
fn bad_records_are_in_quarantine_and_the_others_all_there() {
    let world = World::new(Setup { name: "bad", ..Setup::default() });
    world.database.execute(TABLE);
    let load = world.load_with(SEED, MESSAGES, 10_000, BAD);
    let node = world.node("node");
    let expected = load.finish();
    world.wait_caught_up(Duration::from_secs(60));
    let refused = refused_by_the_warehouse();
    assert!(refused.records > 0, "no record breaks the table's rule: nothing was proved");
    world.check_with(&expected, &HashMap::from([(Topic::TransactionLog, refused)]));
    world.check_classes(&expected_classes(&world), refused.records);
    assert!(!node.log().contains("parked"), "no partition was given up");
}

/// The records that break the table's rule, made again from the seed.
fn refused_by_the_warehouse() -> Refused {
    let mut refused = Refused::default();
    let records = Generator::new(SEED, MESSAGES, BAD).topics(&[Topic::TransactionLog]);
    for record in records.filter(|record| record.bad.is_none()) {
        let value: serde_json::Value =
            serde_json::from_slice(&record.value.unwrap_or_default()).expect("a good record");
        let cents = (value["AMOUNT"].as_f64().unwrap_or_default() * 100.0).round() as u64;
        if cents >= 499_999 {
            refused.records += 1;
            refused.cents += cents;
        }
    }
    refused
}

/// How many of each class the generator made.
fn expected_classes(world: &World) -> BTreeMap<(String, String), i64> {
    let topics: Vec<Topic> = world.topics.keys().copied().collect();
    let mut classes = BTreeMap::new();
    for record in Generator::new(SEED, MESSAGES, BAD).topics(&topics) {
        if let Some(class) = record.bad {
            *classes
                .entry((record.topic.name().to_owned(), class.name().to_owned()))
                .or_default() += 1;
        }
    }
    classes
}

impl World {
    /// Each bad record is found in the class it was made for, and only what one sink refused names a
    /// sink. (The lake's quarantine is counted by the independent check.)
    fn check_classes(&self, expected: &BTreeMap<(String, String), i64>, refused: u64) {
        let rows = self.database.query(
            "SELECT feed, class, coalesce(sink, ''), count(*), min(reason) \
             FROM tidegate.quarantine GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        );
        let mut classes = BTreeMap::new();
        for row in &rows {
            let (feed, class, sink): (String, String, String) =
                (row.get(0), row.get(1), row.get(2));
            let (count, reason): (i64, String) = (row.get(3), row.get(4));
            println!("{feed} {class} {sink}: {count}, such as: {reason}");
            if class == "sink_refused" {
                assert_eq!((sink.as_str(), count as u64), ("warehouse", refused));
                assert!(reason.contains("amount_is_small"), "{reason}");
            } else {
                assert_eq!(sink, "", "no sink could take a record that does not decode");
                classes.insert((feed, class), count);
            }
        }
        assert_eq!(&classes, expected);
    }
}

/// A share of rejects so large that the records are not to blame stops the partition instead.
#[test]
fn a_feed_that_rejects_nearly_everything_is_parked() {
    let topics = &[Topic::TransactionLog];
    let world = World::new(Setup { name: "parked", topics, partitions: 1, ..Setup::default() });
    let load = world.load_with(SEED, 5000, 100_000, 0.9);
    load.finish();
    let node = world.node("node");
    node.wait_for_log("partition parked", Duration::from_secs(30));
    wait_for("the reason in the log", Duration::from_secs(5), || {
        node.log().contains("quarantine.park_above").then_some(())
    });
    let kept: i64 = world.database.query("SELECT count(*) FROM tidegate.quarantine")[0].get(0);
    assert_eq!(kept, 0, "quarantine was not flooded");
}
