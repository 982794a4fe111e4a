//! What every warehouse has to do, tried on each.

pub mod lab;
mod postgres;
mod speed;

use std::collections::BTreeMap;

use self::lab::*;
use super::Part;
use crate::config::{ColumnType, FeedKind};
use crate::record::{Blame, GapReason, OffsetRange, TopicId, Verdict};

macro_rules! on_each_warehouse {
    ($($case:ident)*) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::Lab::postgres().await.migrated().await).await
            })*
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::Lab::sqlite().await.migrated().await).await
            })*
        }
    };
}

// Behind the macro, which it uses.
mod ad_hoc;
mod expiry;
mod governance;
mod janitor;
mod nested;
mod replays;
mod rows;
mod shapes;
mod sources;
mod versions;

on_each_warehouse! {
    claim_finds_nothing_or_starts
    claim_keeps_offset_and_topic_id
    refuses_another_claim
    refuses_another_offset
    refuses_what_was_never_claimed
    tells_a_lost_answer_by_the_fence
    leaves_out_the_one_part_that_is_fenced
    moves_on_without_rows
    upserts_deletes_and_reduces
    takes_the_last_of_a_key_over_all_parts
    appends_a_stream
    keeps_rejects_in_the_same_transaction
    puts_one_refused_row_of_many_into_quarantine
    applies_the_row_before_a_refused_one
    stops_at_too_many_rejects
    stops_at_too_many_refused_rows
    records_a_gap_under_the_fence
    keeps_an_open_gap_once
    keeps_where_a_partition_began
    reset_refuses_present_owners
    keeps_the_first_columns
    migrates_once_from_many_nodes
    judges_the_schema
    knows_its_installation
    refuses_a_table_that_does_not_fit
    adds_columns_to_its_own_table
    widens_a_column_of_its_own_table
    writes_an_existing_table
    holds_names_of_any_kind
    agrees_with_a_model
}

const TABLE: &str = "SELECT id, owner, balance FROM accounts ORDER BY id";

async fn claim_finds_nothing_or_starts(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let requests = [request(0, None), request(1, Some(7)), request(2, Some(0))];
    let found = lab.warehouse.claim(&feed, &requests).await.unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[&source(1)].next_offset, 7);
    let recorded = lab.warehouse.progress("accounts").await.unwrap();
    assert_eq!(recorded.len(), 2, "nothing is written for a partition without a start");
    assert!(lab.warehouse.progress("others").await.unwrap().is_empty());
    assert!(lab.warehouse.claim(&feed, &[]).await.unwrap().is_empty());
}

async fn claim_keeps_offset_and_topic_id(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    lab.warehouse.claim(&feed, &[request(0, Some(7))]).await.unwrap();
    let [first, second] = [(); 2].map(|()| TopicId::new(uuid::Uuid::new_v4()));
    for (start, asked, expected) in [
        (Some(99), first, first), // unknown until now
        (None, second, first),    // what is recorded wins, the caller compares
        (Some(1), TopicId::UNKNOWN, first),
    ] {
        let mut request = request(0, start);
        request.topic_id = asked;
        let found = lab.warehouse.claim(&feed, &[request]).await.unwrap()[&source(0)];
        assert_eq!(found.next_offset, 7);
        assert_eq!(found.topic_id.get(), expected.get());
    }
}

async fn refuses_another_claim(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let zombie = lab.claimed(&feed, 0).await;
    let owner = claim_on(&*lab.other_node(), &feed, 0).await;
    let records = [put("a", "ann", 1)];
    let late = part(zombie, vec![with_rejects(batch(&feed, 0, 0, &records), 1)]);
    assert_eq!(lab.write(&feed, &[late]).await, [Verdict::Fenced { found: Some(0) }]);
    assert_eq!(lab.count("accounts").await, 0);
    assert_eq!(lab.count("tidegate.quarantine").await, 0);
    let right = part(owner, vec![batch(&feed, 0, 0, &records)]);
    assert_eq!(lab.write(&feed, &[right]).await, [DURABLE]);
}

async fn refuses_another_offset(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    for start in [1, 100] {
        let ahead = part(claim, vec![batch(&feed, 0, start, &[put("a", "ann", 1)])]);
        assert_eq!(lab.write(&feed, &[ahead]).await, [Verdict::Fenced { found: Some(0) }]);
    }
    assert_eq!(lab.count("accounts").await, 0);
}

async fn refuses_what_was_never_claimed(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let claim = crate::record::Claim::random();
    let unknown = part(claim, vec![batch(&feed, 5, 0, &[put("a", "ann", 1)])]);
    assert_eq!(lab.write(&feed, &[unknown]).await, [Verdict::Fenced { found: None }]);
}

async fn tells_a_lost_answer_by_the_fence(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    let claim = lab.claimed(&feed, 0).await;
    let sent = part(claim, vec![batch(&feed, 0, 0, &[put("a", "ann", 1), put("b", "bob", 2)])]);
    assert_eq!(lab.write(&feed, std::slice::from_ref(&sent)).await, [DURABLE]);
    // The answer is lost, so the same is sent again.
    assert_eq!(lab.write(&feed, &[sent]).await, [Verdict::Fenced { found: Some(2) }]);
    assert_eq!(lab.count("accounts").await, 2);
}

async fn leaves_out_the_one_part_that_is_fenced(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let mut parts = Vec::new();
    for partition in 0..4 {
        let claim = lab.claimed(&feed, partition).await;
        let own = format!("p{partition}");
        let records = [put(&own, "own", 1), put("shared", &own, partition.into())];
        parts.push(part(claim, vec![batch(&feed, partition, 0, &records)]));
    }
    // The last of `shared` is in partition 3; without it, that of 2 counts.
    lab.claimed(&feed, 3).await;
    let verdicts = lab.write(&feed, &parts).await;
    assert_eq!(verdicts, [DURABLE, DURABLE, DURABLE, Verdict::Fenced { found: Some(0) }]);
    assert_eq!(lab.ask(TABLE).await, ["p0|own|1", "p1|own|1", "p2|own|1", "shared|p2|2"]);
    assert_eq!((lab.next_offset(2).await, lab.next_offset(3).await), (2, 0));
}

async fn moves_on_without_rows(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let mut hole = batch(&feed, 0, 0, &[]);
    hole.range = OffsetRange::new(0, 50); // transaction markers, a compacted range
    assert_eq!(lab.write(&feed, &[part(claim, vec![hole])]).await, [DURABLE]);
    assert_eq!(lab.next_offset(0).await, 50);
    let nothing = Part { batches: vec![], ..part(claim, vec![batch(&feed, 0, 0, &[])]) };
    assert_eq!(lab.write(&feed, &[nothing]).await, [DURABLE]);
    assert_eq!(lab.write(&feed, &[]).await, []);
    let rejects = with_rejects(batch(&feed, 0, 50, &[]), 2);
    assert_eq!(lab.write(&feed, &[part(claim, vec![rejects])]).await, [DURABLE]);
    assert_eq!((lab.next_offset(0).await, lab.count("tidegate.quarantine").await), (52, 2));
}

async fn upserts_deletes_and_reduces(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let first = batch(&feed, 0, 0, &[put("a", "ann", 1), put("b", "bob", 2), put("c", "cy", 3)]);
    lab.write(&feed, &[part(claim, vec![first])]).await;
    let second =
        batch(&feed, 0, 3, &[put("a", "ann", 10), gone("b"), put("d", "dan", 1), gone("d")]);
    let third =
        batch(&feed, 0, 7, &[put("a", "ann", 11), gone("c"), put("c", "cy", 33), gone("x")]);
    let verdicts = lab.write(&feed, &[part(claim, vec![second, third])]).await;
    assert_eq!(verdicts, [DURABLE]);
    assert_eq!(lab.ask(TABLE).await, ["a|ann|11", "c|cy|33"]);
    let origin = "SELECT id, _topic, _partition, _offset FROM accounts ORDER BY id";
    assert_eq!(lab.ask(origin).await, ["a|bank|0|7", "c|bank|0|9"]);
    let time = lab.ask("SELECT _timestamp FROM accounts WHERE id = 'a'").await;
    assert!(time[0].starts_with("1970-01-01") && time[0].contains("00:00:01.007"), "{time:?}");
}

async fn takes_the_last_of_a_key_over_all_parts(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let mut parts = Vec::new();
    for partition in [1, 0, 2] {
        let claim = lab.claimed(&feed, partition).await;
        let records = [put("k", "x", partition.into()), put("k", "y", partition.into())];
        parts.push(part(claim, vec![batch(&feed, partition, 0, &records)]));
    }
    assert_eq!(lab.write(&feed, &parts).await, vec![DURABLE; 3]);
    assert_eq!(lab.ask(TABLE).await, ["k|y|2"]);
}

async fn appends_a_stream(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    let claim = lab.claimed(&feed, 3).await;
    let mut rows =
        batch(&feed, 3, 0, &[put("a", "ann", 1), put("a", "ann", 2), put("ü", "é\n|", -1)]);
    rows.timestamps = vec![Some(1), None, Some(i64::MAX)].into();
    assert_eq!(lab.write(&feed, &[part(claim, vec![rows])]).await, [DURABLE]);
    let all = "SELECT id, balance, _topic, _partition, _offset, _timestamp IS NULL \
               FROM accounts ORDER BY _offset";
    let truth = if lab.is_postgres() { ["f", "t"] } else { ["0", "1"] };
    let [no, yes] = truth;
    assert_eq!(
        lab.ask(all).await,
        [
            format!("a|1|bank|3|0|{no}"),
            format!("a|2|bank|3|1|{yes}"),
            format!("ü|-1|bank|3|2|{yes}")
        ]
    );
}

async fn keeps_rejects_in_the_same_transaction(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let rows = with_rejects(batch(&feed, 0, 0, &[put("a", "ann", 1)]), 2);
    assert_eq!(lab.write(&feed, &[part(claim, vec![rows])]).await, [DURABLE]);
    let kept = "SELECT record_offset, class, sink, headers FROM tidegate.quarantine ORDER BY 1";
    let headers = if lab.is_postgres() {
        r#"[["h�", "Zm9v"], ["n", null]]"#
    } else {
        r#"[["h\u0000","Zm9v"],["n",null]]"#
    };
    assert_eq!(
        lab.ask(kept).await,
        [format!("1|malformed|-|{headers}"), format!("2|malformed|-|{headers}")]
    );
    let bytes = if lab.is_postgres() { "encode(value, 'hex')" } else { "lower(hex(value))" };
    let bytes = format!("SELECT {bytes} FROM tidegate.quarantine");
    assert_eq!(lab.ask(&bytes).await, ["00ff78", "00ff78"], "the record's bytes are kept exactly");
}

/// A table with a constraint, made by somebody else.
const CHECKED: &str = "CREATE TABLE accounts (id text PRIMARY KEY, owner text, \
                       balance bigint CHECK (balance >= 0))";

async fn puts_one_refused_row_of_many_into_quarantine(lab: Lab) {
    lab.ask(CHECKED).await;
    let feed = accounts(FeedKind::Table);
    let [one, two] = [lab.claimed(&feed, 0).await, lab.claimed(&feed, 1).await];
    let mut records: Vec<Record> = (0..1_000).map(|i| put(&format!("k{i:04}"), "x", i)).collect();
    records[499].2 = -1;
    records[700] = gone("k0000");
    let parts = [
        part(one, vec![batch(&feed, 0, 0, &records[..300]), batch(&feed, 0, 300, &records[300..])]),
        part(two, vec![batch(&feed, 1, 0, &[put("z", "other", 1)])]),
    ];
    let verdicts = lab.write(&feed, &parts).await;
    assert_eq!(verdicts, [Verdict::Durable { quarantined: 1 }, DURABLE]);
    assert_eq!(lab.count("accounts").await, 1_000 - 3 + 1);
    let kept = "SELECT record_offset, class, sink, key, value, reason FROM tidegate.quarantine";
    let kept = if lab.is_postgres() {
        kept.replace("key, value", "encode(key, 'escape'), encode(value, 'escape')")
    } else {
        kept.to_owned()
    };
    let kept = lab.ask(&kept).await;
    assert_eq!(kept.len(), 1);
    let expected =
        r#"499|sink_refused|warehouse|{"id":"k0499"}|{"id":"k0499","owner":"x","balance":-1}|"#;
    assert!(kept[0].starts_with(expected), "{kept:?}");
    assert!(kept[0].contains("balance") && kept[0].contains("the row as JSON"), "{kept:?}");
    assert_eq!((lab.next_offset(0).await, lab.next_offset(1).await), (1_000, 1));
}

async fn applies_the_row_before_a_refused_one(lab: Lab) {
    lab.ask(CHECKED).await;
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let records = [
        put("a", "ann", 1),
        put("a", "ann", 2),
        put("a", "ann", -1),
        put("a", "ann", -2),
        put("b", "", 0),
    ];
    let verdicts = lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 0, &records)])]).await;
    assert_eq!(verdicts, [Verdict::Durable { quarantined: 2 }]);
    // As if each record had come alone, wherever batches were cut.
    assert_eq!(lab.ask(TABLE).await, ["a|ann|2", "b||0"]);
    assert_eq!(
        lab.ask("SELECT record_offset FROM tidegate.quarantine ORDER BY 1").await,
        ["2", "3"]
    );
}

async fn stops_at_too_many_rejects(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let [one, two] = [lab.claimed(&feed, 0).await, lab.claimed(&feed, 1).await];
    let rows = |partition, rejects| {
        with_rejects(batch(&feed, partition, 0, &[put(&format!("p{partition}"), "x", 1)]), rejects)
    };
    // Nine of ten, and two of three, which are too few to be judged.
    let verdicts =
        lab.write(&feed, &[part(one, vec![rows(0, 9)]), part(two, vec![rows(1, 2)])]).await;
    let Verdict::TooManyRejects { rejected: 9, rows: 10, reason } = &verdicts[0] else {
        panic!("{verdicts:?}");
    };
    assert!(reason.contains("not JSON"));
    assert_eq!(verdicts[1], DURABLE);
    assert_eq!(lab.ask(TABLE).await, ["p1|x|1"]);
    assert_eq!(lab.count("tidegate.quarantine").await, 2);
    assert_eq!(lab.next_offset(0).await, 0);
}

async fn stops_at_too_many_refused_rows(lab: Lab) {
    lab.ask(CHECKED).await;
    let feed = accounts(FeedKind::Table);
    let [one, two] = [lab.claimed(&feed, 0).await, lab.claimed(&feed, 1).await];
    let bad: Vec<Record> = (0..100).map(|i| put(&format!("k{i}"), "x", -1)).collect();
    let parts = [
        part(one, vec![batch(&feed, 0, 0, &bad)]),
        part(two, vec![batch(&feed, 1, 0, &[put("good", "x", 1), put("bad", "x", -1)])]),
    ];
    let verdicts = lab.write(&feed, &parts).await;
    let Verdict::TooManyRejects { rejected: 51, rows: 100, reason } = &verdicts[0] else {
        panic!("{verdicts:?}");
    };
    assert!(reason.contains("constraint"), "{reason}");
    assert_eq!(verdicts[1], Verdict::Durable { quarantined: 1 });
    assert_eq!(lab.ask(TABLE).await, ["good|x|1"]);
    assert_eq!(lab.count("tidegate.quarantine").await, 1);
}

async fn records_a_gap_under_the_fence(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let gap = OffsetRange::new(0, 40);
    let record = |claim, gap, reason| {
        let (warehouse, feed) = (lab.warehouse.clone(), feed.clone());
        async move { warehouse.record_gap(&feed, &source(0), claim, gap, reason).await.unwrap() }
    };
    let (expired, by_hand) = (GapReason::Expired, GapReason::SkippedTo);
    assert_eq!(record(claim, gap, expired).await, DURABLE);
    assert_eq!(record(claim, gap, expired).await, Verdict::Fenced { found: Some(40) });
    let next = OffsetRange::new(40, 50);
    let other = crate::record::Claim::random();
    assert_eq!(record(other, next, expired).await, Verdict::Fenced { found: Some(40) });
    assert_eq!(record(claim, next, by_hand).await, DURABLE);
    assert_eq!(
        gaps(&lab).await,
        [format!("bank|0|0|40|{expired}|settled"), format!("bank|0|40|50|{by_hand}|settled")]
    );
    assert_eq!(lab.next_offset(0).await, 50);
}

async fn gaps(lab: &Lab) -> Vec<String> {
    lab.ask(
        "SELECT topic, partition, from_offset, to_offset, reason, \
         CASE WHEN settled_at IS NULL THEN 'open' ELSE 'settled' END \
         FROM tidegate.gaps ORDER BY from_offset, to_offset",
    )
    .await
}

async fn keeps_an_open_gap_once(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    let expired = GapReason::Expired;
    let claim = lab.claimed(&feed, 0).await;
    let open = |claim, end| {
        let (warehouse, feed) = (lab.warehouse.clone(), feed.clone());
        let gap = OffsetRange::new(0, end);
        async move { warehouse.open_gap(&feed, &source(0), claim, gap).await.unwrap() }
    };
    open(claim, 10).await;
    open(claim, 10).await;
    assert_eq!(gaps(&lab).await, [format!("bank|0|0|10|{expired}|open")]);
    // Found anew by the next owner, when the log has lost more; the one before has no say.
    let owner = lab.claimed(&feed, 0).await;
    open(owner, 15).await;
    open(claim, 20).await;
    assert_eq!(gaps(&lab).await, [format!("bank|0|0|15|{expired}|open")]);
    assert_eq!(lab.next_offset(0).await, 0, "nothing is moved");
    let (at, gap, why) = (source(0), OffsetRange::new(0, 20), GapReason::SkippedGap);
    let settled = lab.warehouse.record_gap(&feed, &at, owner, gap, why).await.unwrap();
    assert_eq!(settled, DURABLE);
    assert_eq!(gaps(&lab).await, [format!("bank|0|0|20|{why}|settled")]);
    // Another one later is another row.
    let gap = OffsetRange::new(20, 30);
    lab.warehouse.open_gap(&feed, &at, owner, gap).await.unwrap();
    assert_eq!(gaps(&lab).await[1..], [format!("bank|0|20|30|{expired}|open")]);
    lab.warehouse.reset("accounts", &at, TopicId::UNKNOWN, 30).await.unwrap();
    assert_eq!(gaps(&lab).await[1..], [format!("bank|0|20|30|{expired}|settled")]);
}

async fn keeps_where_a_partition_began(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    let [first, second] = [(); 2].map(|()| TopicId::new(uuid::Uuid::new_v4()));
    let standing = "SELECT start_offset, next_offset FROM tidegate.progress";
    let mut asked = request(0, Some(7));
    asked.topic_id = first;
    lab.warehouse.claim(&feed, std::slice::from_ref(&asked)).await.unwrap();
    let mut sent = part(asked.claim, vec![batch(&feed, 0, 7, &[put("a", "ann", 1)])]);
    sent.topic_id = first;
    assert_eq!(lab.write(&feed, &[sent]).await, [DURABLE]);
    for start in [None, Some(3)] {
        lab.warehouse.claim(&feed, &[request(0, start)]).await.unwrap();
        assert_eq!(lab.ask(standing).await, ["7|8"]);
    }
    // In the same topic its rows stay claimed.
    for (next, expected) in [(20, "7|20"), (5, "5|5"), (9, "5|9")] {
        lab.warehouse.reset("accounts", &source(0), first, next).await.unwrap();
        assert_eq!(lab.ask(standing).await, [expected]);
    }
    assert_eq!(lab.count("tidegate.former").await, 0);
    // In another one it begins anew, and what was taken of the first is kept.
    lab.warehouse.reset("accounts", &source(0), second, 2).await.unwrap();
    assert_eq!(lab.ask(standing).await, ["2|2"]);
    let former = "SELECT feed, topic, partition, topic_id, start_offset, end_offset \
                  FROM tidegate.former";
    assert_eq!(lab.ask(former).await, [format!("accounts|bank|0|{first}|5|9")]);
    // Nothing was taken of the second.
    lab.warehouse.reset("accounts", &source(0), first, 0).await.unwrap();
    assert_eq!(lab.count("tidegate.former").await, 1);
}

async fn reset_refuses_present_owners(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let id = TopicId::new(uuid::Uuid::new_v4());
    // To the very offset the owner goes on from: it is refused all the same.
    lab.warehouse.reset("accounts", &source(0), id, 0).await.unwrap();
    let sent = part(claim, vec![batch(&feed, 0, 0, &[put("a", "ann", 1)])]);
    assert_eq!(lab.write(&feed, &[sent]).await, [Verdict::Fenced { found: Some(0) }]);
    lab.warehouse.reset("accounts", &source(9), TopicId::UNKNOWN, 5).await.unwrap();
    let progress = lab.warehouse.progress("accounts").await.unwrap();
    assert_eq!(progress[&source(0)].topic_id.get(), id.get());
    assert_eq!(progress[&source(9)].next_offset, 5);
}

async fn keeps_the_first_columns(lab: Lab) {
    assert_eq!(lab.warehouse.kept_columns("f").await.unwrap(), None);
    let texts = [r#"[{"type": "int","name":"a"}]"#, r#"[{"name":"b"}]"#];
    let other = lab.other_node();
    let (one, two) =
        tokio::join!(lab.warehouse.keep_columns("f", texts[0]), other.keep_columns("f", texts[1]));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one, two);
    assert!(texts.contains(&one.as_str()), "to the letter: {one}");
    assert_eq!(lab.warehouse.kept_columns("f").await.unwrap(), Some(one.clone()));
    // Two nodes change them: one wins, and the other hears of it.
    let texts = [r#"{"columns":[] }"#, r#"{"columns":[1]}"#];
    let change = |on: usize| {
        let node = if on == 0 { &lab.warehouse } else { &other };
        node.change_columns("f", &one, texts[on])
    };
    let (first, second) = tokio::join!(change(0), change(1));
    let kept = first.unwrap();
    assert_eq!(kept, second.unwrap());
    assert!(texts.contains(&kept.as_str()), "to the letter: {kept}");
    assert_eq!(lab.warehouse.change_columns("f", "[]", "[2]").await.unwrap(), kept);
}

/// A table of its own grows with the feed, while a node that does not know goes on; one that somebody
/// else made is left alone.
async fn adds_columns_to_its_own_table(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    lab.warehouse.prepare(&feed).await.unwrap();
    let former = claim_on(&*lab.warehouse, &feed, 1).await;
    let mut wider = feed.clone();
    wider.schema.columns.push(column("Note", ColumnType::Json));
    let node = lab.other_node();
    let (one, two) = tokio::join!(node.prepare(&wider), lab.warehouse.prepare(&wider));
    one.unwrap();
    two.unwrap();
    let mut rows = batch(&feed, 0, 0, &[put("a", "ann", 1)]);
    let note = std::sync::Arc::new(arrow::array::StringArray::from(vec!["{\"n\":1}"]));
    let columns = [rows.rows.columns(), &[note]].concat();
    rows.rows = arrow::array::RecordBatch::try_new(wider.schema.arrow(), columns).unwrap();
    let claim = claim_on(&*node, &wider, 0).await;
    assert_eq!(node.write(&wider, &[part(claim, vec![rows])]).await.unwrap(), [DURABLE]);
    let narrow = part(former, vec![batch(&feed, 1, 0, &[put("b", "bob", 2)])]);
    assert_eq!(lab.write(&feed, &[narrow]).await, [DURABLE]);
    let rows = lab.ask("SELECT id, \"Note\" IS NULL FROM accounts ORDER BY id").await;
    let expected = if lab.is_postgres() { ["a|f", "b|t"] } else { ["a|0", "b|1"] };
    assert_eq!(rows, expected);

    lab.ask("CREATE TABLE others (id TEXT, owner TEXT, balance BIGINT); SELECT 1").await;
    let mut others = wider.clone();
    others.name = "others".into();
    let error = lab.warehouse.prepare(&others).await.unwrap_err();
    assert!(error.message.contains("Note") && error.message.contains("ADD COLUMN"), "{error}");
}

async fn widens_a_column_of_its_own_table(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    lab.warehouse.prepare(&feed).await.unwrap();
    let [former, owner] = [lab.other_node(), lab.other_node()];
    let claims = [claim_on(&*former, &feed, 0).await, claim_on(&*owner, &feed, 1).await];
    let large = [put("a", "ann", 1), put("b", "bob", i64::MAX)];
    let written = part(claims[0], vec![batch(&feed, 0, 0, &large)]);
    assert_eq!(former.write(&feed, &[written]).await.unwrap(), [DURABLE]);
    let mut wide = feed.clone();
    let wider = column("balance", ColumnType::WIDE);
    let narrow = std::mem::replace(&mut wide.schema.columns[2], wider);
    // What SQLite has of decimals is text.
    assert_eq!(owner.widen(&wide, &narrow).await.unwrap(), lab.is_postgres());
    if !lab.is_postgres() {
        return;
    }
    assert!(lab.warehouse.widen(&wide, &narrow).await.unwrap(), "done already");
    let mut rows = batch(&feed, 1, 0, &[put("c", "cy", 0)]);
    let mut columns = rows.rows.columns().to_vec();
    let half = arrow::array::Decimal128Array::from(vec![5 * 10_i128.pow(17)]);
    columns[2] = std::sync::Arc::new(half.with_precision_and_scale(38, 18).unwrap());
    rows.rows = arrow::array::RecordBatch::try_new(wide.schema.arrow(), columns).unwrap();
    assert_eq!(owner.write(&wide, &[part(claims[1], vec![rows])]).await.unwrap(), [DURABLE]);
    // A node that has not heard of it goes on as it was.
    let narrow = part(claims[0], vec![batch(&feed, 0, 2, &[put("a", "ann", 3)])]);
    assert_eq!(former.write(&feed, &[narrow]).await.unwrap(), [DURABLE]);
    let rows = "SELECT id, trim_scale(balance) FROM accounts ORDER BY id";
    assert_eq!(lab.ask(rows).await, ["a|3", "b|9223372036854775807", "c|0.5"]);
}

async fn migrates_once_from_many_nodes(lab: Lab) {
    let fresh = if lab.is_postgres() { Lab::postgres().await } else { Lab::sqlite().await };
    let nodes: Vec<_> = (0..4).map(|_| fresh.other_node()).collect();
    let applied = futures::future::join_all(nodes.iter().map(|node| node.migrate())).await;
    let applied: Vec<String> = applied.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(
        applied,
        [
            "0001_bookkeeping",
            "0002_snapshots",
            "0003_settled",
            "0004_governance",
            "0005_janitor",
            "0006_rights",
            "0007_signals",
            "0008_expired",
            "0009_nodes"
        ]
    );
    assert!(fresh.warehouse.check_schema().await.is_ok());
    assert!(fresh.warehouse.migrate().await.unwrap().is_empty());
}

async fn judges_the_schema(lab: Lab) {
    let fresh = if lab.is_postgres() { Lab::postgres().await } else { Lab::sqlite().await };
    let error = fresh.warehouse.check_schema().await.unwrap_err();
    assert_eq!(error.blame, Blame::Lasting);
    assert!(error.message.contains("tidegate migrate"), "{error}");
    let newer = |version: &str, breaking| {
        format!(
            "INSERT INTO tidegate.migrations (version, name, breaking) \
             VALUES ({version}, 'future', {breaking})"
        )
    };
    let next = lab.ask("SELECT max(version) + 1 FROM tidegate.migrations").await.remove(0);
    lab.ask(&newer(next.as_str(), "false")).await;
    assert!(lab.warehouse.check_schema().await.is_ok());
    let breaking = "UPDATE tidegate.migrations SET breaking = true WHERE name = 'future'";
    lab.ask(breaking).await;
    let error = lab.warehouse.check_schema().await.unwrap_err();
    assert!(error.message.contains("newer release"), "{error}");
}

async fn knows_its_installation(lab: Lab) {
    let [mine, other] = [(); 2].map(|()| uuid::Uuid::new_v4());
    assert_eq!(lab.warehouse.installation(mine, false).await.unwrap(), mine);
    assert_eq!(lab.warehouse.installation(other, false).await.unwrap(), mine);
    assert_eq!(lab.warehouse.installation(other, true).await.unwrap(), other);
    assert_eq!(lab.warehouse.installation(mine, false).await.unwrap(), other);
}

async fn refuses_a_table_that_does_not_fit(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    for (table, expected) in [
        ("id text PRIMARY KEY, owner text", "column \"balance\""),
        ("id text, owner text, balance bigint", "no unique index on exactly the key (\"id\")"),
        ("id text, owner text, balance bigint, UNIQUE (id, owner)", "no unique index"),
        ("id bigint PRIMARY KEY, owner text, balance bigint", "column \"id\" is "),
        ("id text PRIMARY KEY, owner text, balance bigint, more text NOT NULL", "column \"more\""),
    ] {
        lab.ask(&format!("DROP TABLE IF EXISTS accounts; CREATE TABLE accounts ({table})")).await;
        let error = lab.warehouse.prepare(&feed).await.unwrap_err();
        assert_eq!(error.blame, Blame::Lasting, "{error}");
        assert!(error.message.contains(expected), "{table}: {error}");
    }
}

async fn writes_an_existing_table(lab: Lab) {
    lab.ask(
        "CREATE TABLE accounts (balance bigint, note text DEFAULT 'n', id text NOT NULL, \
         owner varchar(3), UNIQUE (id))",
    )
    .await;
    let feed = accounts(FeedKind::Table);
    lab.warehouse.prepare(&feed).await.unwrap();
    let claim = lab.claimed(&feed, 0).await;
    let records = [put("a", "ann", 1), put("b", "bob", 2), gone("b")];
    let verdicts = lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 0, &records)])]).await;
    assert_eq!(verdicts, [DURABLE]);
    assert_eq!(lab.ask("SELECT id, owner, balance, note FROM accounts").await, ["a|ann|1|n"]);
}

async fn holds_names_of_any_kind(lab: Lab) {
    let mut feed = accounts(FeedKind::Table);
    for (index, name) in ["ORDER", "sélect", "Mixed"].into_iter().enumerate() {
        feed.schema.columns[index].name = name.into();
    }
    feed.name = "we-ird".into();
    feed.warehouse.as_mut().unwrap().table = Some("Odd.ta\"ble".into());
    lab.warehouse.prepare(&feed).await.unwrap();
    let claim = lab.claimed(&feed, 0).await;
    let rows = batch(&feed, 0, 0, &[put("a", "ann", 1), put("b", "bob", 1), gone("b")]);
    assert_eq!(lab.write(&feed, &[part(claim, vec![rows])]).await, [DURABLE]);
    let table = if lab.is_postgres() { r#""Odd"."ta""ble""# } else { r#""Odd.ta""ble""# };
    let all = format!(r#"SELECT "ORDER", "sélect", "Mixed" FROM {table}"#);
    assert_eq!(lab.ask(&all).await, ["a|ann|1"]);
}

/// Many random writes over several partitions, some sent twice, some by owners that were replaced.
async fn agrees_with_a_model(lab: Lab) {
    use rand::{Rng, SeedableRng};
    let feed = accounts(FeedKind::Table);
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let mut model: BTreeMap<String, (String, i64)> = BTreeMap::new();
    let mut owners = Vec::new();
    for partition in 0..3 {
        owners.push((lab.claimed(&feed, partition).await, 0i64));
    }
    for round in 0..60 {
        let mut parts = Vec::new();
        let mut expected = Vec::new();
        for (partition, owner) in owners.iter_mut().enumerate() {
            let count = random.random_range(0..20);
            let record = |_| {
                // A key lives in one partition, as producers see to.
                let key = format!("{partition}-{}", random.random_range(0..15));
                match random.random_bool(0.3) {
                    true => gone(&key),
                    false => put(&key, "o", random.random_range(0..1000)),
                }
            };
            let records: Vec<Record> = (0..count).map(record).collect();
            let stale = random.random_bool(0.2);
            let claim = if stale { crate::record::Claim::random() } else { owner.0 };
            let made = batch(&feed, partition as i32, owner.1, &records);
            parts.push(part(claim, vec![made]));
            if stale {
                expected.push(Verdict::Fenced { found: Some(owner.1) });
                continue;
            }
            expected.push(DURABLE);
            owner.1 += count;
            for Record(key, value, balance) in records {
                match value {
                    Some(value) => model.insert(key, (value, balance)),
                    None => model.remove(&key),
                };
            }
        }
        assert_eq!(lab.write(&feed, &parts).await, expected, "round {round}");
    }
    let mut model: Vec<String> =
        model.into_iter().map(|(id, (owner, balance))| format!("{id}|{owner}|{balance}")).collect();
    model.sort();
    let mut table = lab.ask(TABLE).await;
    table.sort();
    assert_eq!(table, model);
}
