//! Keys whose last versions the database refuses: the one before takes their place, and none of it costs
//! another transaction.

use std::collections::BTreeMap;

use super::lab::*;
use super::{CHECKED, TABLE};
use crate::config::{Feed, FeedKind};
use crate::record::Verdict;

on_each_warehouse! {
    takes_the_good_one_below_many_refused
    keeps_the_row_of_a_key_with_none_to_take
    takes_a_tombstone_below_refused_ones
    settles_each_of_several_keys
    stops_at_too_many_refused_versions
    agrees_with_records_that_come_one_by_one
}

const QUARANTINED: &str = "SELECT partition, record_offset FROM tidegate.quarantine ORDER BY 1, 2";

fn refused(quarantined: u64) -> Verdict {
    Verdict::Durable { quarantined }
}

/// Accounts that may be refused to a high share.
async fn lenient(lab: &Lab) -> Feed {
    lab.ask(CHECKED).await;
    let mut feed = accounts(FeedKind::Table);
    feed.quarantine.park_min_records = 10_000;
    feed
}

async fn takes_the_good_one_below_many_refused(lab: Lab) {
    let feed = lenient(&lab).await;
    let claim = lab.claimed(&feed, 0).await;
    let mut records = vec![put("hot", "too old", 6), put("hot", "good", 7), put("cold", "x", 1)];
    records.extend((1..=300).map(|i| put("hot", "bad", -i)));
    let batches = vec![
        batch(&feed, 0, 0, &records[..2]),
        batch(&feed, 0, 2, &records[2..200]),
        batch(&feed, 0, 200, &records[200..]),
    ];
    assert_eq!(lab.write(&feed, &[part(claim, batches)]).await, [refused(300)]);
    assert_eq!(lab.ask(TABLE).await, ["cold|x|1", "hot|good|7"]);
    let expected: Vec<String> = (3..303).map(|offset| format!("0|{offset}")).collect();
    assert_eq!(lab.ask(QUARANTINED).await, expected);
    assert_eq!(lab.next_offset(0).await, 303);
}

async fn keeps_the_row_of_a_key_with_none_to_take(lab: Lab) {
    let feed = lenient(&lab).await;
    let claim = lab.claimed(&feed, 0).await;
    let before = batch(&feed, 0, 0, &[put("hot", "before", 5)]);
    assert_eq!(lab.write(&feed, &[part(claim, vec![before])]).await, [DURABLE]);
    let mut records: Vec<Record> = (1..=50).map(|i| put("hot", "bad", -i)).collect();
    records.insert(20, put("cold", "x", 1));
    let verdicts = lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 1, &records)])]).await;
    assert_eq!(verdicts, [refused(50)]);
    assert_eq!(lab.ask(TABLE).await, ["cold|x|1", "hot|before|5"]);
    // And where there was no row, there is none.
    let records: Vec<Record> = (1..=50).map(|i| put("new", "bad", -i)).collect();
    let verdicts = lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 52, &records)])]).await;
    assert_eq!(verdicts, [refused(50)]);
    assert_eq!(lab.ask(TABLE).await, ["cold|x|1", "hot|before|5"]);
    assert_eq!((lab.next_offset(0).await, lab.count("tidegate.quarantine").await), (102, 100));
}

async fn takes_a_tombstone_below_refused_ones(lab: Lab) {
    let feed = lenient(&lab).await;
    let claim = lab.claimed(&feed, 0).await;
    let before = batch(&feed, 0, 0, &[put("a", "before", 1), put("b", "before", 2)]);
    assert_eq!(lab.write(&feed, &[part(claim, vec![before])]).await, [DURABLE]);
    let records = [
        put("a", "old", 3),
        gone("a"),
        put("b", "bad", -1),
        put("a", "bad", -2),
        put("b", "bad", -3),
        gone("b"), // the last one: what is below it is never tried
        put("a", "bad", -4),
        gone("c"),
        put("c", "bad", -5),
    ];
    let verdicts = lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 2, &records)])]).await;
    assert_eq!(verdicts, [refused(3)]);
    assert_eq!(lab.ask(TABLE).await, [""; 0]);
    assert_eq!(lab.ask(QUARANTINED).await, ["0|5", "0|8", "0|10"]);
}

async fn settles_each_of_several_keys(lab: Lab) {
    let feed = lenient(&lab).await;
    let [one, two] = [lab.claimed(&feed, 0).await, lab.claimed(&feed, 1).await];
    let first = [
        put("a", "good", 1),
        put("b", "good", 2),
        put("shared", "first", 3),
        put("a", "bad", -1),
        put("c", "bad", -1),
        put("b", "bad", -1),
        put("d", "good", 4),
        put("a", "bad", -1),
        put("c", "bad", -1),
    ];
    let second = [put("shared", "bad", -1), put("e", "good", 5), put("shared", "bad", -1)];
    let parts = [
        part(one, vec![batch(&feed, 0, 0, &first[..4]), batch(&feed, 0, 4, &first[4..])]),
        part(two, vec![batch(&feed, 1, 0, &second)]),
    ];
    assert_eq!(lab.write(&feed, &parts).await, [refused(5), refused(2)]);
    let expected = ["a|good|1", "b|good|2", "d|good|4", "e|good|5", "shared|first|3"];
    assert_eq!(lab.ask(TABLE).await, expected);
    let expected = ["0|3", "0|4", "0|5", "0|7", "0|8", "1|0", "1|2"];
    assert_eq!(lab.ask(QUARANTINED).await, expected);
    assert_eq!((lab.next_offset(0).await, lab.next_offset(1).await), (9, 3));
}

async fn stops_at_too_many_refused_versions(lab: Lab) {
    lab.ask(CHECKED).await;
    let feed = accounts(FeedKind::Table);
    let [one, two] = [lab.claimed(&feed, 0).await, lab.claimed(&feed, 1).await];
    let mut records = vec![put("hot", "good", 1)];
    records.extend((1..100).map(|i| put("hot", "bad", -i)));
    let parts = [
        part(one, vec![batch(&feed, 0, 0, &records)]),
        part(two, vec![batch(&feed, 1, 0, &[put("hot", "other", 1), put("b", "x", 2)])]),
    ];
    // The last of the key is in the other part, so nothing of the first is tried.
    assert_eq!(lab.write(&feed, &parts).await, [DURABLE, DURABLE]);
    let mut parts = [
        part(two, vec![batch(&feed, 1, 2, &[put("warm", "good", 3), put("warm", "bad", -1)])]),
        part(one, vec![batch(&feed, 0, 100, &records)]),
    ];
    let verdicts = lab.write(&feed, &parts).await;
    assert_eq!(verdicts[0], refused(1));
    let Verdict::TooManyRejects { rejected: 51, rows: 100, reason } = &verdicts[1] else {
        panic!("{verdicts:?}");
    };
    assert!(reason.contains("constraint"), "{reason}");
    assert_eq!(lab.ask(TABLE).await, ["b|x|2", "hot|other|1", "warm|good|3"]);
    assert_eq!(lab.ask(QUARANTINED).await, ["1|3"]);
    assert_eq!((lab.next_offset(0).await, lab.next_offset(1).await), (100, 4));
    parts[1].batches = vec![batch(&feed, 0, 100, &records[..1]).into()];
    assert_eq!(lab.write(&feed, &parts[1..]).await, [DURABLE], "parked, it goes on where it stood");
}

/// Random records, of which the table refuses many.
async fn agrees_with_records_that_come_one_by_one(lab: Lab) {
    use rand::{Rng, SeedableRng};
    let feed = lenient(&lab).await;
    let mut random = rand::rngs::StdRng::seed_from_u64(11);
    let claims = [lab.claimed(&feed, 0).await, lab.claimed(&feed, 1).await];
    let mut offsets = [0, 0];
    let mut model = BTreeMap::new();
    for round in 0..30 {
        let (mut parts, mut expected) = (Vec::new(), Vec::new());
        for (partition, claim) in claims.iter().enumerate() {
            let mut bad = 0;
            let mut batches = Vec::new();
            for _ in 0..random.random_range(1..4) {
                let record = |_| {
                    let key = format!("k{}", random.random_range(0..6));
                    match random.random_bool(0.15) {
                        true => gone(&key),
                        false => put(&key, "o", random.random_range(-80..20)),
                    }
                };
                let records: Vec<Record> = (0..20).map(record).collect();
                batches.push(batch(&feed, partition as i32, offsets[partition], &records));
                offsets[partition] += 20;
                for Record(key, owner, balance) in records {
                    match owner {
                        None => drop(model.remove(&key)),
                        Some(_) if balance >= 0 => drop(model.insert(key, balance)),
                        Some(_) => bad += 1,
                    }
                }
            }
            parts.push(part(*claim, batches));
            expected.push(bad);
        }
        // Versions below one that is taken are never tried, so there may be fewer refused.
        for (verdict, bad) in lab.write(&feed, &parts).await.iter().zip(expected) {
            let Verdict::Durable { quarantined } = verdict else { panic!("{verdict:?}") };
            assert!(*quarantined <= bad, "round {round}: {quarantined} of {bad}");
        }
        let rows: Vec<String> =
            model.iter().map(|(id, balance)| format!("{id}|o|{balance}")).collect();
        assert_eq!(lab.ask(TABLE).await, rows, "round {round}");
    }
}

/// Counts the rows that are tried and the transactions that try them. What a sequence counts is not
/// rolled back.
const COUNTED: &str = "
    CREATE SEQUENCE tried;
    CREATE SEQUENCE transactions;
    CREATE SEQUENCE latest;
    CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (SELECT last_value FROM public.latest) <> txid_current() THEN
            PERFORM setval('public.latest', txid_current()), nextval('public.transactions');
        END IF;
        PERFORM nextval('public.tried');
        RETURN NEW;
    END $$;
    CREATE TRIGGER counted BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION count_it();";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_versions_cost_postgresql_no_other_transaction() {
    const HOT: i64 = 400;
    const COLD: i64 = 500;
    let lab = Lab::postgres().await.migrated().await;
    let feed = lenient(&lab).await;
    lab.client().batch_execute(COUNTED).await.unwrap();
    let claim = lab.claimed(&feed, 0).await;
    let mut records = vec![put("hot", "good", 1), put("warm", "good", 1)];
    records.extend((0..COLD).map(|i| put(&format!("k{i:03}"), "x", i)));
    records.extend((1..=HOT).map(|i| put(if i % 4 == 0 { "warm" } else { "hot" }, "bad", -i)));
    let verdicts = lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 0, &records)])]).await;
    assert_eq!(verdicts, [refused(HOT as u64)]);
    assert_eq!(lab.count("accounts").await, COLD as usize + 2);
    assert_eq!(lab.ask("SELECT last_value FROM transactions").await, ["1"]);
    let tried: i64 = lab.ask("SELECT last_value FROM tried").await[0].parse().unwrap();
    // Bisection tries a row again at most once a level, for each of the two keys; a version, once.
    let levels = 64 - COLD.leading_zeros() as i64 + 1;
    assert!(tried <= COLD * 2 * levels + HOT + 2, "{tried} rows tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_below_keeps_where_it_came_from() {
    for drop_columns in ["_note", "_topic", "_partition", "_offset, DROP COLUMN _timestamp"] {
        let lab = Lab::postgres().await.migrated().await;
        let feed = accounts(FeedKind::Table);
        lab.warehouse.prepare(&feed).await.unwrap();
        let alter = format!(
            "ALTER TABLE accounts ADD CHECK (balance >= 0), ADD COLUMN _note text; \
             ALTER TABLE accounts DROP COLUMN {drop_columns}"
        );
        lab.ask(&alter).await;
        let warehouse = lab.other_node();
        let claim = claim_on(&*warehouse, &feed, 0).await;
        let records = [put("b", "x", 1), put("a", "good", 1), put("a", "bad", -1)];
        let sent = part(claim, vec![batch(&feed, 0, 0, &records)]);
        assert_eq!(warehouse.write(&feed, &[sent]).await.unwrap(), [refused(1)]);
        lab.ask("SET timezone = 'UTC'").await;
        let row = lab.ask("SELECT to_jsonb(a) FROM accounts a WHERE id = 'a'").await;
        let expected = [
            r#""_topic": "bank""#,
            r#""_offset": 1"#,
            r#""_partition": 0"#,
            r#""_timestamp": "1970-01-01T00:00:01.001+00:00""#,
        ];
        let expected = expected.iter().filter(|field| {
            let name = field.split('"').nth(1).unwrap();
            !drop_columns.split([' ', ',']).any(|dropped| dropped == name)
        });
        for field in expected {
            assert!(row[0].contains(field), "{drop_columns}: {field} in {row:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_tombstone_gives_way_to_the_version_below() {
    let lab = Lab::postgres().await.migrated().await;
    let feed = lenient(&lab).await;
    lab.ask("CREATE TABLE held (id text REFERENCES accounts DEFERRABLE INITIALLY DEFERRED)").await;
    let claim = lab.claimed(&feed, 0).await;
    let first = batch(&feed, 0, 0, &[put("a", "before", 1), put("b", "before", 1)]);
    assert_eq!(lab.write(&feed, &[part(claim, vec![first])]).await, [DURABLE]);
    lab.ask("INSERT INTO held VALUES ('a'), ('b')").await;
    let records =
        [put("a", "after", 2), gone("a"), gone("b"), put("b", "bad", -1), gone("a"), gone("b")];
    let verdicts = lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 2, &records)])]).await;
    assert_eq!(verdicts, [refused(5)]);
    assert_eq!(lab.ask(TABLE).await, ["a|after|2", "b|before|1"]);
    let kept = "SELECT record_offset, value IS NULL FROM tidegate.quarantine ORDER BY 1";
    assert_eq!(lab.ask(kept).await, ["3|t", "4|t", "5|f", "6|t", "7|t"]);
}

/// What our own checks find is no version to try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skips_versions_that_are_refused_beforehand() {
    let lab = Lab::postgres().await.migrated().await;
    let feed = lenient(&lab).await;
    let claim = lab.claimed(&feed, 0).await;
    let records = [put("a", "good", 1), put("a", "n\0l", 2), put("a", "bad", -1)];
    let verdicts = lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 0, &records)])]).await;
    assert_eq!(verdicts, [refused(2)]);
    assert_eq!(lab.ask(TABLE).await, ["a|good|1"]);
}
