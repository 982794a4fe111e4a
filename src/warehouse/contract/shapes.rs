//! Documents, dimensions and snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::StringArray;

use super::CHECKED;
use super::lab::*;
use crate::config::{Dimension, Feed, FeedKind, Shape};
use crate::record::{Batch, Blame, Verdict};

on_each_warehouse! {
    keeps_documents_beside_their_keys
    keeps_documents_of_a_stream
    refuses_columns_where_documents_are_kept
    keeps_the_newest_of_a_dimension
    fills_a_dimension_that_two_feeds_share
    leaves_out_what_has_no_key
    fills_nothing_for_refused_rows
    refers_by_a_foreign_key
    two_nodes_fill_one_dimension_at_once
    a_dimension_agrees_with_records_that_come_one_by_one
    takes_snapshots_and_keeps_some
    one_of_many_takes_a_snapshot
    a_snapshot_stands_for_its_offsets
    a_snapshot_follows_the_columns
}

pub(super) fn documents(kind: FeedKind) -> Feed {
    let mut feed = accounts(kind);
    feed.warehouse.as_mut().unwrap().shape = Shape::Document;
    feed
}

pub(super) fn with_documents(batch: Batch, documents: &[Option<&str>]) -> Batch {
    Batch { documents: Some(StringArray::from(documents.to_vec())), ..batch }
}

async fn keeps_documents_beside_their_keys(lab: Lab) {
    let feed = documents(FeedKind::Table);
    lab.warehouse.prepare(&feed).await.unwrap();
    let claim = lab.claimed(&feed, 0).await;
    let records = [put("a", "x", 1), put("b", "x", 1), put("a", "x", 2), gone("b")];
    let texts = [Some(r#"{"N": 1}"#), Some("{}"), Some(r#"{"N":2.50,"O":{"P":"é"}}"#), None];
    let rows = with_documents(batch(&feed, 0, 0, &records), &texts);
    assert_eq!(lab.write(&feed, &[part(claim, vec![rows])]).await, [DURABLE]);
    let asked = "SELECT id, data ->> 'N', data -> 'O' ->> 'P', _offset FROM accounts";
    let n = if lab.is_postgres() { "2.50" } else { "2.5" };
    assert_eq!(lab.ask(asked).await, [format!("a|{n}|é|2")]);
    // jsonb has no NUL; SQLite keeps the text.
    let rows = batch(&feed, 0, 4, &[put("c", "x", 1), put("d", "x", 1)]);
    let rows = with_documents(rows, &[Some(r#"{"N":"\u0000"}"#), Some("{}")]);
    let quarantined = u64::from(lab.is_postgres());
    let verdicts = lab.write(&feed, &[part(claim, vec![rows])]).await;
    assert_eq!(verdicts, [Verdict::Durable { quarantined }]);
    assert_eq!(lab.count("tidegate.quarantine").await as u64, quarantined);
    assert_eq!(lab.count("accounts").await as u64, 3 - quarantined);
}

async fn keeps_documents_of_a_stream(lab: Lab) {
    let mut feed = documents(FeedKind::Stream);
    feed.schema = crate::config::Schema::json(feed.schema.columns, 0);
    let claim = lab.claimed(&feed, 0).await;
    let rows = batch(&feed, 0, 0, &[put("a", "x", 1), put("a", "x", 1)]);
    let rows = with_documents(rows, &[Some(r#"{"a":[1]}"#), Some(r#"{"a":[2]}"#)]);
    assert_eq!(lab.write(&feed, &[part(claim, vec![rows])]).await, [DURABLE]);
    let asked = "SELECT _partition, _offset, data -> 'a' ->> 0 FROM accounts ORDER BY _offset";
    assert_eq!(lab.ask(asked).await, ["0|0|1", "0|1|2"]);
}

async fn refuses_columns_where_documents_are_kept(lab: Lab) {
    let feed = documents(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let rows = batch(&feed, 0, 0, &[put("a", "x", 1)]);
    let error = lab.warehouse.write(&feed, &[part(claim, vec![rows])]).await.unwrap_err();
    assert!(error.blame == Blame::Lasting && error.message.contains("no documents"), "{error}");
    lab.warehouse.prepare(&accounts(FeedKind::Table)).await.unwrap();
    let error = lab.warehouse.prepare(&feed).await.unwrap_err();
    assert!(error.message.contains("column \"data\""), "{error}");
}

/// Accounts with their owners beside them, each with the balance seen last.
fn owned(kind: FeedKind, foreign_key: bool) -> Feed {
    let mut feed = accounts(kind);
    feed.quarantine.park_min_records = 10_000;
    feed.warehouse.as_mut().unwrap().dimensions = vec![Dimension {
        table: "owners".into(),
        key: vec!["owner".into()],
        columns: vec!["balance".into()],
        foreign_key,
    }];
    feed
}

const OWNERS: &str = "SELECT owner, balance FROM owners ORDER BY owner";

async fn keeps_the_newest_of_a_dimension(lab: Lab) {
    let feed = owned(FeedKind::Table, false);
    let [one, two] = [lab.claimed(&feed, 0).await, lab.claimed(&feed, 1).await];
    // Their times are 1000 and the offset.
    let records = [put("a", "ann", 1), put("b", "bob", 2), put("c", "ann", 3)];
    let first = part(one, vec![batch(&feed, 0, 0, &records)]);
    assert_eq!(lab.write(&feed, &[first]).await, [DURABLE]);
    assert_eq!(lab.ask(OWNERS).await, ["ann|3", "bob|2"]);
    // Older than ann's; as old as bob's, from a later partition; and a new one.
    let records = [put("d", "ann", 9), put("e", "bob", 8), put("f", "cid", 7)];
    let second = part(two, vec![batch(&feed, 1, 0, &records)]);
    assert_eq!(lab.write(&feed, &[second]).await, [DURABLE]);
    assert_eq!(lab.ask(OWNERS).await, ["ann|3", "bob|8", "cid|7"]);
    // A delete takes nothing away.
    let records = [gone("a"), gone("c"), put("b", "dan", 1)];
    let third = part(one, vec![batch(&feed, 0, 3, &records)]);
    assert_eq!(lab.write(&feed, &[third]).await, [DURABLE]);
    assert_eq!(lab.ask(OWNERS).await, ["ann|3", "bob|8", "cid|7", "dan|1"]);
    assert_eq!(lab.count("accounts").await, 4);
}

async fn fills_a_dimension_that_two_feeds_share(lab: Lab) {
    let one = owned(FeedKind::Table, true);
    let mut two = owned(FeedKind::Stream, false);
    two.name = "visits".into();
    let claims = [lab.claimed(&one, 0).await, lab.claimed(&two, 0).await];
    let rows = batch(&one, 0, 0, &[put("a", "ann", 1)]);
    assert_eq!(lab.write(&one, &[part(claims[0], vec![rows])]).await, [DURABLE]);
    let rows = batch(&two, 0, 0, &[put("a", "x", 5), put("v", "ann", 2)]);
    assert_eq!(lab.write(&two, &[part(claims[1], vec![rows])]).await, [DURABLE]);
    assert_eq!(lab.ask(OWNERS).await, ["ann|2", "x|5"]);
}

async fn leaves_out_what_has_no_key(lab: Lab) {
    let feed = owned(FeedKind::Stream, true);
    let claim = lab.claimed(&feed, 0).await;
    let rows = batch(&feed, 0, 0, &[gone("a"), put("b", "bob", 1), gone("c")]);
    assert_eq!(lab.write(&feed, &[part(claim, vec![rows])]).await, [DURABLE]);
    assert_eq!(lab.ask(OWNERS).await, ["bob|1"]);
    assert_eq!(lab.count("accounts").await, 3);
}

async fn fills_nothing_for_refused_rows(lab: Lab) {
    lab.ask(CHECKED).await;
    let feed = owned(FeedKind::Table, false);
    let claim = lab.claimed(&feed, 0).await;
    let records = [
        put("a", "ann", 1),
        put("hot", "good", 2),
        put("hot", "ghost", -1),
        put("b", "bob", 3),
        put("c", "spook", -1),
    ];
    let verdicts = lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 0, &records)])]).await;
    assert_eq!(verdicts, [Verdict::Durable { quarantined: 2 }]);
    assert_eq!(lab.ask(OWNERS).await, ["ann|1", "bob|3", "good|2"]);
}

async fn refers_by_a_foreign_key(lab: Lab) {
    let feed = owned(FeedKind::Table, true);
    let claim = lab.claimed(&feed, 0).await;
    let rows = batch(&feed, 0, 0, &[put("a", "ann", 1), put("b", "bob", 1)]);
    assert_eq!(lab.write(&feed, &[part(claim, vec![rows])]).await, [DURABLE]);
    let find = match lab.is_postgres() {
        true => "SELECT confrelid::regclass FROM pg_constraint WHERE contype = 'f'",
        false => "SELECT \"table\" FROM pragma_foreign_key_list('accounts')",
    };
    assert_eq!(lab.ask(find).await, ["owners"]);
    lab.ask("DROP TABLE accounts; CREATE TABLE accounts (id text PRIMARY KEY, owner text, balance bigint)")
        .await;
    let error = lab.other_node().prepare(&feed).await.unwrap_err();
    assert!(error.message.contains("no foreign key"), "{error}");
    lab.ask("DROP TABLE owners; CREATE TABLE owners (owner text PRIMARY KEY, balance bigint)")
        .await;
    let error = lab.other_node().prepare(&feed).await.unwrap_err();
    assert!(error.message.contains("an older record could not be told"), "{error}");
}

/// What a dimension must hold, by the rule: time, then partition and offset.
#[derive(Default)]
struct Newest(BTreeMap<String, ((i64, i32, i64), i64)>);

impl Newest {
    fn take(&mut self, partition: i32, offset: i64, owner: &str, balance: i64) {
        let rank = (1_000 + offset, partition, offset);
        let known = self.0.entry(owner.to_owned()).or_insert((rank, balance));
        if known.0 <= rank {
            *known = (rank, balance);
        }
    }

    fn rows(&self) -> Vec<String> {
        self.0.iter().map(|(owner, (_, balance))| format!("{owner}|{balance}")).collect()
    }
}

async fn two_nodes_fill_one_dimension_at_once(lab: Lab) {
    let feed = owned(FeedKind::Table, true);
    lab.warehouse.prepare(&feed).await.unwrap();
    let mut newest = Newest::default();
    let mut work = Vec::new();
    for partition in 0..2 {
        let claim = lab.claimed(&feed, partition).await;
        let mut batches = Vec::new();
        for round in 0..25 {
            let record = |i: i64| {
                // Against the other's order.
                let owner = if partition == 0 { i } else { 39 - i };
                put(&format!("{partition}-{round}-{i}"), &format!("o{owner:02}"), round * 100 + i)
            };
            let records: Vec<Record> = (0..40).map(record).collect();
            for (i, Record(_, owner, balance)) in records.iter().enumerate() {
                let offset = round * 40 + i as i64;
                newest.take(partition, offset, owner.as_deref().unwrap(), *balance);
            }
            batches.push(batch(&feed, partition, round * 40, &records));
        }
        work.push((lab.other_node(), claim, batches));
    }
    let feed = Arc::new(feed);
    let tasks = work.into_iter().map(|(node, claim, batches)| {
        let feed = feed.clone();
        tokio::spawn(async move {
            for batch in batches {
                let part = part(claim, vec![batch]);
                let verdicts = loop {
                    // SQLite makes the second one wait, and may say that it is busy.
                    match node.write(&feed, std::slice::from_ref(&part)).await {
                        Err(error) if error.blame == Blame::Passing => {}
                        written => break written.unwrap(),
                    }
                };
                assert_eq!(verdicts, [DURABLE]);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(lab.ask(OWNERS).await, newest.rows());
    assert_eq!(lab.count("accounts").await, 2 * 25 * 40);
}

async fn a_dimension_agrees_with_records_that_come_one_by_one(lab: Lab) {
    use rand::{Rng, SeedableRng};
    // A stream: each of its records is a row.
    let feed = owned(FeedKind::Stream, true);
    let mut random = rand::rngs::StdRng::seed_from_u64(11);
    let mut newest = Newest::default();
    let mut owners = Vec::new();
    for partition in 0..3 {
        owners.push((lab.claimed(&feed, partition).await, 0i64));
    }
    for _ in 0..30 {
        let mut parts = Vec::new();
        for (partition, (claim, offset)) in owners.iter_mut().enumerate() {
            let count = random.random_range(0..20);
            let records: Vec<Record> = (0..count)
                .map(|i| match random.random_bool(0.1) {
                    true => gone("k"),
                    false => {
                        let owner = format!("o{:02}", random.random_range(0..12));
                        let balance = random.random_range(0..1000);
                        newest.take(partition as i32, *offset + i, &owner, balance);
                        put("k", &owner, balance)
                    }
                })
                .collect();
            parts.push(part(*claim, vec![batch(&feed, partition as i32, *offset, &records)]));
            *offset += count;
        }
        assert_eq!(lab.write(&feed, &parts).await, [DURABLE; 3]);
    }
    assert_eq!(lab.ask(OWNERS).await, newest.rows());
}

const VERSIONS: &str = "SELECT version, rows FROM tidegate.snapshots ORDER BY 1";

async fn takes_snapshots_and_keeps_some(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    // Of a table that is empty, too.
    let taken = lab.warehouse.snapshot(&feed, None, 2).await.unwrap().unwrap();
    assert_eq!((taken.version, taken.rows), (1, 0));
    for offset in 0..3 {
        let row = put(&format!("k{offset}"), "x", offset);
        let rows = batch(&feed, 0, offset, &[row]);
        assert_eq!(lab.write(&feed, &[part(claim, vec![rows])]).await, [DURABLE]);
        let taken = lab.warehouse.snapshot(&feed, None, 2).await.unwrap().unwrap();
        assert_eq!((taken.version, taken.rows), (offset + 2, offset as u64 + 1));
    }
    assert_eq!(lab.ask(VERSIONS).await, ["3|2", "4|3"]);
    let listed = lab.warehouse.snapshots("accounts").await.unwrap();
    let told: Vec<_> = listed.iter().map(|it| (it.version, it.rows)).collect();
    assert_eq!(told, [(4, 3), (3, 2)]);
    let age = chrono::Utc::now().timestamp_millis() - listed[0].taken_ms;
    assert!(listed[1].taken_ms <= listed[0].taken_ms && (0..60_000).contains(&age), "{listed:?}");
    assert_eq!(lab.warehouse.snapshots("another").await.unwrap(), []);
    let kept = "SELECT _version, id, balance FROM accounts_snapshots ORDER BY 1, 2";
    assert_eq!(lab.ask(kept).await, ["3|k0|0", "3|k1|1", "4|k0|0", "4|k1|1", "4|k2|2"]);
    let newest = "SELECT id FROM accounts_snapshot ORDER BY 1";
    assert_eq!(lab.ask(newest).await, ["k0", "k1", "k2"]);
    // An empty one is the newest, too.
    let rows = batch(&feed, 0, 3, &[gone("k0"), gone("k1"), gone("k2")]);
    assert_eq!(lab.write(&feed, &[part(claim, vec![rows])]).await, [DURABLE]);
    lab.warehouse.snapshot(&feed, None, 2).await.unwrap().unwrap();
    assert!(lab.ask(newest).await.is_empty());
}

async fn one_of_many_takes_a_snapshot(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    lab.warehouse.prepare(&feed).await.unwrap();
    let nodes: Vec<_> = (0..4).map(|_| lab.other_node()).collect();
    let day = Some(Duration::from_secs(86_400));
    let asked = nodes.iter().map(|node| node.snapshot(&feed, day, 3));
    let taken = futures::future::join_all(asked).await;
    let taken: Vec<_> = taken.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(taken.len(), 1);
    assert_eq!(lab.warehouse.snapshot(&feed, day, 3).await.unwrap(), None, "not due");
    let due = lab.warehouse.snapshot(&feed, Some(Duration::ZERO), 3).await.unwrap();
    assert_eq!(due.map(|taken| taken.version), Some(2));
}

/// While a writer is at work: each version holds exactly the rows below its offset.
async fn a_snapshot_stands_for_its_offsets(lab: Lab) {
    let feed = Arc::new(accounts(FeedKind::Table));
    let claim = lab.claimed(&feed, 0).await;
    lab.warehouse.prepare(&feed).await.unwrap();
    let (node, of) = (lab.other_node(), feed.clone());
    // One write at least between two snapshots: SQLite's lock is not fair, and a loop would keep it.
    let (tell, mut written) = tokio::sync::mpsc::channel(1);
    let writing = tokio::spawn(async move {
        for round in 0..40 {
            let records: Vec<Record> =
                (0..10).map(|i| put(&format!("{round}-{i}"), "x", round)).collect();
            let part = part(claim, vec![batch(&of, 0, round * 10, &records)]);
            assert_eq!(node.write(&of, &[part]).await.unwrap(), [DURABLE]);
            let _ = tell.try_send(());
        }
    });
    let mut taken = 0;
    while written.recv().await.is_some() {
        taken += i32::from(lab.warehouse.snapshot(&feed, None, u32::MAX).await.unwrap().is_some());
    }
    writing.await.unwrap();
    let next = match lab.is_postgres() {
        true => "(offsets -> 0 ->> 'next_offset')::bigint",
        false => "json_extract(offsets, '$[0].next_offset')",
    };
    let asked = format!("SELECT count(*) FROM tidegate.snapshots WHERE rows <> {next}");
    assert_eq!(lab.ask(&asked).await, ["0"]);
    let beyond = "SELECT count(*) FROM accounts_snapshots k JOIN tidegate.snapshots s \
                  ON s.version = k._version WHERE k._offset >= s.rows";
    assert_eq!(lab.ask(beyond).await, ["0"]);
    assert_eq!(lab.count("tidegate.snapshots").await as i32, taken);
}

async fn a_snapshot_follows_the_columns(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let rows = batch(&feed, 0, 0, &[put("a", "ann", 1)]);
    assert_eq!(lab.write(&feed, &[part(claim, vec![rows])]).await, [DURABLE]);
    lab.warehouse.snapshot(&feed, None, 9).await.unwrap().unwrap();
    lab.ask("ALTER TABLE accounts ADD COLUMN note text DEFAULT 'n'").await;
    if lab.is_postgres() {
        lab.ask("ALTER TABLE accounts ALTER COLUMN balance TYPE numeric").await;
    }
    lab.warehouse.snapshot(&feed, None, 9).await.unwrap().unwrap();
    let kept = "SELECT _version, id, balance, note FROM accounts_snapshots ORDER BY 1";
    assert_eq!(lab.ask(kept).await, ["1|a|1|-", "2|a|1|n"]);
    assert_eq!(lab.ask("SELECT note FROM accounts_snapshot").await, ["n"]);
}
