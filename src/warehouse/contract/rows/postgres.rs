//! What a reader costs PostgreSQL, and what it may do there.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};

use super::{keep_accounts, numbered, of, reader, rows, texts};
use crate::config::FeedKind;
use crate::record::{Blame, Bound, Value};
use crate::warehouse::contract::lab::*;
use crate::warehouse::{self, Read, RowsRequest};

async fn lab() -> Lab {
    Lab::postgres().await.migrated().await
}

/// Sessions that wait between two batches.
const READING: &str = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' \
                       AND datname = current_database() AND backend_xid IS NULL";

/// Asks until the answer is such.
async fn until(lab: &Lab, question: &str, such: impl Fn(&str) -> bool) -> String {
    for _ in 0..200 {
        if let [answer] = &lab.ask(question).await[..]
            && such(answer)
        {
            return answer.clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within ten seconds: {question}");
}

/// The server itself counts the rows that it looked at: with what is fetched at once, and so what is held
/// here, a read of which one batch is taken costs no more than this batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_read_than_is_taken() {
    let lab = lab().await;
    let feed = accounts(FeedKind::Table);
    keep_accounts(&lab, &feed, &numbered(10)).await;
    lab.ask(
        "INSERT INTO accounts (id, owner, balance) SELECT 'm' || n, repeat('x', 500), n \
         FROM generate_series(1, 50000) n; ANALYZE accounts; SELECT pg_stat_force_next_flush(); \
         SELECT pg_stat_reset()",
    )
    .await;
    let asked = RowsRequest { batch_rows: 100, ..of(&["owner"]) };
    let mut batches = reader(&lab).rows(&feed, asked).await.unwrap();
    assert_eq!(batches.next().await.unwrap().unwrap().0.num_rows(), 100);
    drop(batches);
    let looked = "SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_user_tables \
                  WHERE relname = 'accounts'";
    // Told when the session has ended.
    let looked: i64 = until(&lab, looked, |looked| looked != "0").await.parse().unwrap();
    assert!((100..=1_000).contains(&looked), "{looked} rows for a batch of 100");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_for_too_long_loses_the_session() {
    let lab = lab().await;
    let feed = accounts(FeedKind::Table);
    keep_accounts(&lab, &feed, &numbered(100)).await;
    let mut config = lab.config.clone();
    config.url.push_str("?options=-c%20idle_in_transaction_session_timeout%3D200ms");
    let reader = warehouse::open_rows(&config).unwrap();
    let asked = RowsRequest { batch_rows: 5, ..of(&["id"]) };
    for _ in 0..2 {
        let mut slow = Vec::new();
        for _ in 0..4 {
            let mut batches = reader.rows(&feed, asked.clone()).await.unwrap();
            batches.next().await.unwrap().unwrap();
            slow.push(batches);
        }
        assert_eq!(until(&lab, READING, |open| open == "0").await, "0");
        for batches in slow {
            let error = batches.try_collect::<Vec<Read>>().await.unwrap_err();
            assert_eq!(error.blame, Blame::Passing, "{error}");
        }
    }
    let all: Vec<Read> = reader.rows(&feed, asked).await.unwrap().try_collect().await.unwrap();
    assert_eq!(all.len(), 20);
}

/// While rows are read, their session can write nothing, and it is none of the writers'.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_in_sessions_of_their_own() {
    let mut lab = lab().await;
    lab.config.connections = 1;
    let writer = lab.other_node();
    let feed = accounts(FeedKind::Table);
    keep_accounts(&lab, &feed, &numbered(100)).await;
    let reader = reader(&lab);
    let asked = RowsRequest { batch_rows: 5, ..of(&["id"]) };
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(reader.rows(&feed, asked.clone()).await.unwrap());
    }
    let claim = claim_on(&*writer, &feed, 0).await;
    let made = [part(claim, vec![batch(&feed, 0, 100, &[gone("k00000"), put("z", "x", 1)])])];
    let written = writer.write(&feed, &made);
    let written = tokio::time::timeout(Duration::from_secs(10), written).await.unwrap();
    assert_eq!(written.unwrap(), [DURABLE]);
    assert_eq!(lab.ask(READING).await, ["4"]);
    drop(open);
    assert_eq!(until(&lab, READING, |open| open == "0").await, "0");
}

/// Where letters are not in the order of their bytes, a bound that goes by bytes is not asked of the server,
/// and pages go by the server's order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_are_in_the_servers_order_and_within_arrows_bounds() {
    let lab = lab().await;
    lab.ask(
        "CREATE TABLE accounts (id text COLLATE \"und-x-icu\" PRIMARY KEY, owner text, balance bigint)",
    )
    .await;
    let feed = accounts(FeedKind::Table);
    let records = ["a", "B", "Z", "b", "ä", "z"].map(|id| put(id, "x", 1));
    keep_accounts(&lab, &feed, &records).await;
    let ordered = ["a", "ä", "b", "B", "z", "Z"].map(|id| Some(id.to_owned()));
    assert_eq!(texts(&rows(&lab, &feed, of(&["id"])).await, "id"), ordered);
    let asked = RowsRequest { batch_rows: 1, ..of(&[]) };
    let each: Vec<Read> =
        reader(&lab).rows(&feed, asked).await.unwrap().try_collect().await.unwrap();
    for (at, (_, after)) in each.into_iter().enumerate() {
        let asked = RowsRequest { after: Some(after), ..of(&["id"]) };
        assert_eq!(texts(&rows(&lab, &feed, asked).await, "id"), ordered[at + 1..]);
    }
    let (least, greatest) = (Some(Value::Text("Z".into())), Some(Value::Text("b".into())));
    let bounds = vec![Bound { column: "id".into(), least, greatest }];
    let found = texts(&rows(&lab, &feed, RowsRequest { bounds, ..of(&["id"]) }).await, "id");
    for within in ["Z", "a", "b"] {
        assert!(found.contains(&Some(within.to_owned())), "{within}: {found:?}");
    }
}
