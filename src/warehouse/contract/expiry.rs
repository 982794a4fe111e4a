//! Old rows of streams.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::Int64Array;

use super::lab::*;
use crate::config::{ColumnType, Feed, FeedKind};
use crate::record::{Claim, TopicId};
use crate::warehouse::{self, JanitorStore, Lease, OldRows};

on_each_warehouse! {
    rows_of_days_that_are_over_go_and_are_written_down
    what_is_read_again_is_no_longer_written_down
    a_day_is_told_by_the_feeds_own_time
    one_that_lost_the_lease_takes_nothing_out
    a_large_table_is_looked_through_piece_by_piece_beside_a_writer
    a_table_that_does_not_say_where_its_rows_come_from_is_refused
    a_table_of_somebodys_own_making_is_looked_through_too
    a_pass_that_a_clock_ahead_of_all_noted_counts_for_nothing
}

const DAY_MS: i64 = 86_400_000;

fn store(lab: &Lab) -> Arc<dyn JanitorStore> {
    warehouse::open_janitor(&lab.config).unwrap()
}

/// Rows of days before the one that is so many days after 1970-01-01.
fn before(feed: &Feed, day: i64) -> OldRows {
    let old = OldRows::of(feed, 7, (day + 7) * DAY_MS + DAY_MS / 2).unwrap();
    assert_eq!(old.before.to_string(), format!("1970-01-{:02}", day + 1));
    old
}

/// Writes records of these days.
async fn write(lab: &Lab, feed: &Feed, claim: Claim, start: i64, days: &[i64]) {
    let records: Vec<Record> = days.iter().map(|_| put("a", "ann", 1)).collect();
    let mut batch = batch(feed, 0, start, &records);
    batch.timestamps = Int64Array::from_iter_values(days.iter().map(|day| day * DAY_MS + 1));
    assert_eq!(lab.write(feed, &[part(claim, vec![batch])]).await, [DURABLE]);
}

async fn offsets(lab: &Lab) -> Vec<String> {
    lab.ask("SELECT _offset FROM accounts ORDER BY 1").await
}

async fn written(lab: &Lab) -> Vec<String> {
    lab.ask("SELECT topic, partition, from_offset, to_offset FROM tidegate.expired ORDER BY 3, 4")
        .await
}

async fn expire(store: &dyn JanitorStore, old: &OldRows) -> u64 {
    let (mut rows, mut from) = (0, Some(i64::MIN));
    while let Some(at) = from {
        let passed = store.expire_rows(old, at, None).await.unwrap();
        (rows, from) = (rows + passed.rows, passed.next);
    }
    store.finish_expiry(old, None).await.unwrap();
    rows
}

async fn rows_of_days_that_are_over_go_and_are_written_down(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    let store = store(&lab);
    assert_eq!(expire(&*store, &before(&feed, 0)).await, 0, "no table yet");
    lab.warehouse.prepare(&feed).await.unwrap();
    let claim = lab.claimed(&feed, 0).await;
    write(&lab, &feed, claim, 0, &[0, 1, 4, 2, 3, 5]).await;
    // Somebody else's row, which nothing could tell of.
    lab.ask("INSERT INTO accounts (id, _timestamp) VALUES ('x', '1969-01-01 00:00:00+00')").await;

    let old = before(&feed, 3);
    assert_eq!(store.old_rows(&old).await.unwrap(), 3);
    assert!(!store.is_expired(&old).await.unwrap());
    assert_eq!(expire(&*store, &old).await, 3);
    assert_eq!(offsets(&lab).await.len(), 4);
    assert_eq!(written(&lab).await, ["bank|0|0|1", "bank|0|3|3"]);
    assert!(
        store.is_expired(&old).await.unwrap() && store.is_expired(&before(&feed, 2)).await.unwrap()
    );
    assert!(!store.is_expired(&before(&feed, 4)).await.unwrap());
    // What comes late goes with the next day; spans that meet are one.
    write(&lab, &feed, claim, 6, &[0]).await;
    assert_eq!(expire(&*store, &before(&feed, 5)).await, 3);
    assert_eq!(written(&lab).await, ["bank|0|0|4", "bank|0|6|6"]);
    assert_eq!(expire(&*store, &before(&feed, 5)).await, 0);
    assert_eq!(lab.count("accounts").await, 2);
    assert!(OldRows::of(&accounts(FeedKind::Table), 1, 0).is_none());
}

async fn what_is_read_again_is_no_longer_written_down(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    lab.warehouse.prepare(&feed).await.unwrap();
    let claim = lab.claimed(&feed, 0).await;
    write(&lab, &feed, claim, 0, &[0; 6]).await;
    expire(&*store(&lab), &before(&feed, 3)).await;
    assert_eq!(written(&lab).await, ["bank|0|0|5"]);
    let reset = async |topic: TopicId, next: i64| {
        lab.warehouse.reset("accounts", &source(0), topic, next).await.unwrap();
        written(&lab).await
    };
    assert_eq!(reset(TopicId::UNKNOWN, 4).await, ["bank|0|0|3"]);
    let topic = TopicId::new(uuid::Uuid::from_u128(1));
    assert_eq!(reset(topic, 2).await, ["bank|0|0|1"], "it may be the same topic");
    let other = TopicId::new(uuid::Uuid::from_u128(2));
    assert_eq!(reset(other, 0).await, ["bank|0|0|1"], "those were of a former one");
    assert_eq!(reset(other, 0).await, [""; 0]);
}

async fn a_day_is_told_by_the_feeds_own_time(lab: Lab) {
    for (kind, table) in [(ColumnType::Timestamp, "by_time"), (ColumnType::Date, "by_day")] {
        let mut feed = accounts(FeedKind::Stream);
        feed.name = table.into();
        feed.schema.columns.push(column("at", kind));
        feed.schema.time = Some(3);
        lab.warehouse.prepare(&feed).await.unwrap();
        // The record is old, and what it tells of is not; or the other way round.
        lab.ask(&format!(
            "INSERT INTO {table} (id, at, _topic, _partition, _offset, _timestamp) VALUES \
             ('a', '1970-01-05', 'bank', 0, 0, '1970-01-01 00:00:00+00'), \
             ('b', '1970-01-02', 'bank', 0, 1, '1970-01-09 00:00:00+00'), \
             ('c', NULL, 'bank', 0, 2, '1970-01-02 00:00:00+00'), \
             ('d', NULL, 'bank', 0, 3, '1970-01-09 00:00:00+00')"
        ))
        .await;
        assert_eq!(store(&lab).old_rows(&before(&feed, 3)).await.unwrap(), 2);
        assert_eq!(expire(&*store(&lab), &before(&feed, 3)).await, 2);
        assert_eq!(lab.ask(&format!("SELECT id FROM {table} ORDER BY 1")).await, ["a", "d"]);
    }
}

async fn one_that_lost_the_lease_takes_nothing_out(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    lab.warehouse.prepare(&feed).await.unwrap();
    let claim = lab.claimed(&feed, 0).await;
    write(&lab, &feed, claim, 0, &[0, 1]).await;
    let (store, old) = (store(&lab), before(&feed, 3));
    assert_eq!(store.hold("janitor", "a", Duration::ZERO).await.unwrap(), Lease::Held { token: 1 });
    let long = Duration::from_secs(600);
    assert_eq!(store.hold("janitor", "b", long).await.unwrap(), Lease::Held { token: 2 });
    for former in [
        store.expire_rows(&old, i64::MIN, Some(("janitor", 1))).await.map(drop),
        store.finish_expiry(&old, Some(("janitor", 1))).await,
    ] {
        assert!(former.unwrap_err().message.contains("lease"));
    }
    assert_eq!(lab.count("accounts").await, 2);
    assert!(!store.is_expired(&old).await.unwrap());
    assert_eq!(store.expire_rows(&old, i64::MIN, Some(("janitor", 2))).await.unwrap().rows, 2);
}

async fn a_large_table_is_looked_through_piece_by_piece_beside_a_writer(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    lab.warehouse.prepare(&feed).await.unwrap();
    let claim = lab.claimed(&feed, 0).await;
    // Old and young in turn, in more pages and rows than one transaction takes.
    let days: Vec<i64> = (0..60_000).map(|at| if at % 100 < 90 { 0 } else { 9 }).collect();
    let wide: String = "w".repeat(200);
    let records: Vec<Record> = days.iter().map(|_| put("a", &wide, 1)).collect();
    let mut large = batch(&feed, 0, 0, &records);
    large.timestamps = Int64Array::from_iter_values(days.iter().map(|day| day * DAY_MS));
    assert_eq!(lab.write(&feed, &[part(claim, vec![large])]).await, [DURABLE]);
    let (store, old) = (store(&lab), before(&feed, 3));
    let (mut rows, mut from, mut passes) = (0, Some(i64::MIN), 0);
    while let Some(at) = from {
        let passed = store.expire_rows(&old, at, None).await.unwrap();
        (rows, from, passes) = (rows + passed.rows, passed.next, passes + 1);
        // Rows may take the room of those that went.
        write(&lab, &feed, claim, 60_000 + passes - 1, &[9]).await;
    }
    store.finish_expiry(&old, None).await.unwrap();
    assert!(passes > 1);
    assert_eq!(rows, 54_000);
    assert_eq!(lab.count("accounts").await as i64, 6_000 + passes);
    // Each offset is a row, or written down as one.
    let mut all: BTreeSet<i64> = offsets(&lab).await.iter().map(|it| it.parse().unwrap()).collect();
    let spans = lab.ask("SELECT from_offset, to_offset FROM tidegate.expired").await;
    assert_eq!(spans.len(), 600);
    for span in spans {
        let (first, last) = span.split_once('|').unwrap();
        for offset in first.parse::<i64>().unwrap()..=last.parse().unwrap() {
            assert!(all.insert(offset), "{offset} twice");
        }
    }
    assert!(all.iter().copied().eq(0..60_000 + passes));
}

async fn a_table_that_does_not_say_where_its_rows_come_from_is_refused(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    lab.ask("CREATE TABLE accounts (id text, owner text, balance bigint, _timestamp text)").await;
    let store = store(&lab);
    for error in [
        store.old_rows(&before(&feed, 3)).await.map(drop).unwrap_err(),
        store.expire_rows(&before(&feed, 3), i64::MIN, None).await.map(drop).unwrap_err(),
    ] {
        assert!(
            error.message.contains("_topic") && error.message.contains("retention_days"),
            "{error}"
        );
    }
}

async fn a_table_of_somebodys_own_making_is_looked_through_too(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    let (key, other) = match lab.is_postgres() {
        true => ("bigint", "numeric"),
        // The number of a row is the key's value.
        false => ("INTEGER PRIMARY KEY", "INTEGER"),
    };
    let time = if lab.is_postgres() { "timestamptz" } else { "text" };
    lab.ask(&format!(
        "CREATE TABLE accounts (number {key}, id text, owner text, balance bigint, _topic text, \
                                _partition bigint, _offset {other}, _timestamp {time})"
    ))
    .await;
    lab.ask(
        "INSERT INTO accounts (number, id, _topic, _partition, _offset, _timestamp) VALUES \
         (-5, 'a', 'bank', 0, 0, '1970-01-01 00:00:00+00'), \
         (7, 'b', 'bank', 0, 1, '1970-01-09 00:00:00+00'), \
         (9000000000000000000, 'c', 'bank', 0, 2, '1970-01-02 00:00:00+00')",
    )
    .await;
    assert_eq!(expire(&*store(&lab), &before(&feed, 3)).await, 2);
    assert_eq!(offsets(&lab).await, ["1"]);
    assert_eq!(written(&lab).await, ["bank|0|0|0", "bank|0|2|2"]);
}

async fn a_pass_that_a_clock_ahead_of_all_noted_counts_for_nothing(lab: Lab) {
    let feed = accounts(FeedKind::Stream);
    lab.warehouse.prepare(&feed).await.unwrap();
    let (store, old) = (store(&lab), before(&feed, 3));
    let ahead =
        OldRows { before: chrono::NaiveDate::from_ymd_opt(2999, 1, 1).unwrap(), ..old.clone() };
    store.finish_expiry(&ahead, None).await.unwrap();
    assert!(!store.is_expired(&old).await.unwrap());
    store.finish_expiry(&old, None).await.unwrap();
    assert!(store.is_expired(&old).await.unwrap());
    let now = chrono::Utc::now().timestamp_millis();
    assert!((store.now_ms().await.unwrap() - now).abs() < 60_000);
}
