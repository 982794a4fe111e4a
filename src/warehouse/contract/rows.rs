//! Rows read back: each type, the order, pages, one moment, and whose table is not as it should be.

mod foreign;
mod model;
mod postgres;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Int64Type, Schema};
use futures::{StreamExt, TryStreamExt};
use rand::{Rng, SeedableRng};

use self::model::{KEYS, bounds, kept, random_rows, wide};
use super::lab::*;
use super::nested::{nested_feed, write as write_nested};
use super::shapes::{documents, with_documents};
use crate::config::{ColumnType, Feed, FeedKind, NestedIn};
use crate::record::{Blame, Bound, SinkError, Value};
use crate::warehouse::{self, After, Read, RowReader, RowsRequest, shaped};

on_each_warehouse! {
    reads_every_type_back
    reads_in_the_order_of_the_key
    goes_on_behind_every_key
    agrees_with_filtering_in_arrow
    bounds_narrow_what_is_read
    a_read_is_of_one_moment
    dropped_reads_free_their_sessions
    reads_documents
    reads_nested_columns
    large_rows_make_small_batches
    says_what_cannot_be_read
}

fn reader(lab: &Lab) -> Arc<dyn RowReader> {
    warehouse::open_rows(&lab.config).unwrap()
}

/// All of these columns, in large batches.
fn of(columns: &[&str]) -> RowsRequest {
    RowsRequest {
        columns: columns.iter().map(|&name| name.to_owned()).collect(),
        bounds: Vec::new(),
        after: None,
        batch_rows: 10_000,
    }
}

/// All columns of the feed's table.
fn whole(feed: &Feed) -> RowsRequest {
    let shaped = shaped(feed);
    of(&shaped.schema.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>())
}

async fn read(lab: &Lab, feed: &Feed, request: RowsRequest) -> Result<Vec<Read>, SinkError> {
    reader(lab).rows(feed, request).await?.try_collect().await
}

/// All rows as one batch.
async fn rows(lab: &Lab, feed: &Feed, request: RowsRequest) -> RecordBatch {
    let shaped = shaped(feed);
    let field = |name: &String| shaped.schema.arrow().field_with_name(name).unwrap().clone();
    let schema = Arc::new(Schema::new(request.columns.iter().map(field).collect::<Vec<_>>()));
    let read = read(lab, feed, request).await.unwrap();
    concat_batches(&schema, read.iter().map(|(batch, _)| batch)).unwrap()
}

/// Writes rows behind those that were written before.
async fn keep(lab: &Lab, feed: &Feed, rows: RecordBatch) {
    let claim = lab.claimed(feed, 0).await;
    let start = lab.next_offset(0).await;
    let records = vec![put("", "", 0); rows.num_rows()];
    let made = batch(&accounts(FeedKind::Table), 0, start, &records);
    let made = crate::record::Batch { rows, ..made };
    assert_eq!(lab.write(feed, &[part(claim, vec![made])]).await, [DURABLE]);
}

async fn keep_accounts(lab: &Lab, feed: &Feed, records: &[Record]) {
    let claim = lab.claimed(feed, 0).await;
    let start = lab.next_offset(0).await;
    let made = batch(feed, 0, start, records);
    assert_eq!(lab.write(feed, &[part(claim, vec![made])]).await, [DURABLE]);
}

fn numbered(count: i64) -> Vec<Record> {
    (0..count).map(|number| put(&format!("k{number:05}"), "ann", number)).collect()
}

fn texts(rows: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let column = rows.column_by_name(column).unwrap().as_string::<i32>();
    column.iter().map(|text| text.map(str::to_owned)).collect()
}

fn numbers(rows: &RecordBatch, column: &str) -> Vec<i64> {
    rows.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().to_vec()
}

async fn reads_every_type_back(lab: Lab) {
    let feed = wide(&["id"]);
    let sent = random_rows(&feed, &mut rand::rngs::StdRng::seed_from_u64(1), 200);
    keep(&lab, &feed, sent.clone()).await;
    let nulls = |column: &Arc<dyn Array>| column.null_count();
    assert!(sent.columns()[1..].iter().map(nulls).all(|nulls| (1..200).contains(&nulls)));
    let mut asked = whole(&feed);
    assert_eq!(rows(&lab, &feed, asked.clone()).await, sent);
    // In another order, and without the key.
    asked.columns.reverse();
    asked.columns.pop();
    let columns: Vec<usize> = (1..sent.num_columns()).rev().collect();
    assert_eq!(rows(&lab, &feed, asked).await, sent.project(&columns).unwrap());
    let counted: usize =
        read(&lab, &feed, of(&[])).await.unwrap().iter().map(|it| it.0.num_rows()).sum();
    assert_eq!(counted, 200);
}

async fn reads_in_the_order_of_the_key(lab: Lab) {
    for key in [&KEYS[..], &["amount", "name"], &["at"], &["raw", "day"], &["yes", "small"]] {
        lab.ask("DROP TABLE IF EXISTS accounts").await;
        let feed = wide(key);
        let sent = random_rows(&feed, &mut rand::rngs::StdRng::seed_from_u64(2), 300);
        keep(&lab, &feed, sent).await;
        let order = format!("SELECT id FROM accounts ORDER BY {}", key.join(", "));
        let order: Vec<i64> =
            lab.ask(&order).await.iter().map(|number| number.parse().unwrap()).collect();
        assert!(order.len() > 2, "{key:?}");
        assert_eq!(numbers(&rows(&lab, &feed, of(&["id"])).await, "id"), order, "{key:?}");
    }
}

/// As it comes back from somebody who keeps it as text.
fn kept_by_a_caller(after: &After) -> After {
    serde_json::from_str(&serde_json::to_string(after).unwrap()).unwrap()
}

async fn goes_on_behind_every_key(lab: Lab) {
    for key in [&KEYS[..], &["raw", "amount"], &["day", "yes", "at"], &["small"], &["name"]] {
        lab.ask("DROP TABLE IF EXISTS accounts").await;
        let feed = wide(key);
        let sent = random_rows(&feed, &mut rand::rngs::StdRng::seed_from_u64(3), 60);
        keep(&lab, &feed, sent).await;
        let all = numbers(&rows(&lab, &feed, of(&["id"])).await, "id");
        let mut asked = RowsRequest { batch_rows: 1, ..of(&["id"]) };
        let each = read(&lab, &feed, asked.clone()).await.unwrap();
        assert_eq!(each.len(), all.len());
        for (at, (_, after)) in each.iter().enumerate() {
            assert_eq!(kept_by_a_caller(after), *after);
            asked = RowsRequest { after: Some(kept_by_a_caller(after)), ..of(&["id"]) };
            let rest = rows(&lab, &feed, asked).await;
            assert_eq!(numbers(&rest, "id"), all[at + 1..], "{key:?} {after:?}");
        }
    }
}

/// Random bounds and batch sizes, and reads that are gone on with from a random batch: together the rows
/// that Arrow finds among all.
async fn agrees_with_filtering_in_arrow(lab: Lab) {
    let feed = wide(&KEYS);
    let mut random = rand::rngs::StdRng::seed_from_u64(4);
    let sent = random_rows(&feed, &mut random, 400);
    keep(&lab, &feed, sent).await;
    let all = rows(&lab, &feed, whole(&feed)).await;
    let reader = reader(&lab);
    for round in 0..250 {
        let bounds = bounds(&feed, &mut random);
        let expected = filter_record_batch(&all, &kept(&all, &bounds)).unwrap();
        let mut asked = RowsRequest { bounds: bounds.clone(), ..whole(&feed) };
        let mut pages = Vec::new();
        let mut ended = false;
        while !ended {
            asked.batch_rows = random.random_range(1..150);
            let mut batches = reader.rows(&feed, asked.clone()).await.unwrap();
            let some = random.random_range(1..4);
            for _ in 0..some {
                let Some(read) = batches.next().await else {
                    ended = true;
                    break;
                };
                let (batch, after) = read.unwrap();
                assert!((1..=asked.batch_rows).contains(&batch.num_rows()));
                asked.after = Some(after);
                pages.push(batch);
            }
        }
        let read = concat_batches(&all.schema(), &pages).unwrap();
        let read = filter_record_batch(&read, &kept(&read, &bounds)).unwrap();
        assert_eq!(read, expected, "round {round}: {bounds:?}");
    }
}

async fn bounds_narrow_what_is_read(lab: Lab) {
    let feed = wide(&["id"]);
    let sent = random_rows(&feed, &mut rand::rngs::StdRng::seed_from_u64(5), 200);
    keep(&lab, &feed, sent.clone()).await;
    let mut narrowed = 0;
    for column in &feed.schema.columns {
        let random = &mut rand::rngs::StdRng::seed_from_u64(6);
        let Some(value) = model::value(column.kind, random) else { continue };
        let (least, greatest) = (Some(value.clone()), Some(value));
        let bound = Bound { column: column.name.clone(), least, greatest };
        let expected = filter_record_batch(&sent, &kept(&sent, std::slice::from_ref(&bound)));
        let asked = RowsRequest { bounds: vec![bound], ..whole(&feed) };
        assert_eq!(rows(&lab, &feed, asked).await, expected.unwrap(), "{}", column.name);
        narrowed += 1;
    }
    assert_eq!(narrowed, 11);
    let long = |least, greatest| Bound {
        column: "id".into(),
        least: Some(Value::Long(least)),
        greatest: Some(Value::Long(greatest)),
    };
    let asked = RowsRequest { bounds: vec![long(7, 50), long(3, 9)], ..of(&["id"]) };
    assert_eq!(numbers(&rows(&lab, &feed, asked).await, "id"), [7, 8, 9]);
    // What says nothing about the table's columns is not looked at.
    let other = Bound { column: "it's \"none".into(), least: None, greatest: None };
    let unlike =
        Bound { column: "id".into(), least: Some(Value::Text("x".into())), greatest: None };
    let asked = RowsRequest { bounds: vec![other, unlike], ..of(&["id"]) };
    assert_eq!(rows(&lab, &feed, asked).await.num_rows(), 200);
}

async fn a_read_is_of_one_moment(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    keep_accounts(&lab, &feed, &numbered(100)).await;
    let reader = reader(&lab);
    let asked = RowsRequest { batch_rows: 10, ..of(&["id", "balance"]) };
    let mut begun = reader.rows(&feed, asked.clone()).await.unwrap();
    let (first, _) = begun.next().await.unwrap().unwrap();
    assert_eq!(first.num_rows(), 10);
    let untouched = reader.rows(&feed, asked.clone()).await.unwrap();
    // Nobody who writes waits for those who read.
    let changes = [put("k00050", "bob", -1), gone("k00060"), put("k00000a", "new", 5)];
    let written = keep_accounts(&lab, &feed, &changes);
    tokio::time::timeout(Duration::from_secs(10), written).await.expect("a writer that waits");
    let rest: Vec<Read> = begun.try_collect().await.unwrap();
    let late: Vec<Read> = untouched.try_collect().await.unwrap();
    for (read, from) in [(rest, 10), (late, 0)] {
        let balances = read.iter().flat_map(|(batch, _)| numbers(batch, "balance"));
        assert_eq!(balances.collect::<Vec<_>>(), (from..100).collect::<Vec<_>>());
    }
    let now = rows(&lab, &feed, asked).await;
    assert_eq!(now.num_rows(), 100);
    assert!(numbers(&now, "balance").contains(&-1));
}

async fn dropped_reads_free_their_sessions(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    keep_accounts(&lab, &feed, &numbered(500)).await;
    let reader = reader(&lab);
    let asked = RowsRequest { batch_rows: 5, ..of(&["id"]) };
    let many = async {
        for taken in (0..3).cycle().take(30) {
            let mut batches = reader.rows(&feed, asked.clone()).await.unwrap();
            for _ in 0..taken {
                batches.next().await.unwrap().unwrap();
            }
        }
        // Nor does one that was read to its end keep anything.
        for _ in 0..10 {
            let all: Vec<Read> =
                reader.rows(&feed, asked.clone()).await.unwrap().try_collect().await.unwrap();
            assert_eq!(all.len(), 100);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), many).await.expect("a session for each");
}

async fn reads_documents(lab: Lab) {
    let feed = documents(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let records = [put("a", "x", 1), put("b", "x", 2)];
    let sent = [r#"{"N": 2.50}"#, r#"{"O": ["é", null]}"#];
    let made = with_documents(batch(&feed, 0, 0, &records), &sent.map(Some));
    assert_eq!(lab.write(&feed, &[part(claim, vec![made])]).await, [DURABLE]);
    let read = rows(&lab, &feed, of(&["data", "id"])).await;
    assert_eq!(texts(&read, "data"), sent.map(|text| Some(text.to_owned())));
    assert_eq!(texts(&read, "id"), ["a", "b"].map(|text| Some(text.to_owned())));
    let error = self::read(&lab, &feed, of(&["owner"])).await.unwrap_err();
    assert!(error.message.contains("no column owner"), "{error}");
}

async fn reads_nested_columns(lab: Lab) {
    let text = |texts: [Option<&str>; 3]| texts.map(|text| text.map(str::to_owned));
    let feed = nested_feed(NestedIn::Json);
    write_nested(&lab, &feed).await;
    let within = Bound {
        column: "id".into(),
        least: Some(Value::Text("b".into())),
        greatest: Some(Value::Text("b".into())),
    };
    let asked = RowsRequest { bounds: vec![within], ..whole(&feed) };
    let read = rows(&lab, &feed, asked).await;
    assert_eq!(texts(&read, "n"), [Some("12345678901234567890.10".to_owned())]);
    let read = rows(&lab, &feed, whole(&feed)).await.slice(0, 3);
    let spaced = if lab.is_postgres() { r#"["x", null]"# } else { r#"["x",null]"# };
    assert_eq!(texts(&read, "tags"), text([Some(spaced), Some("[]"), None]));
    let places: Vec<Option<serde_json::Value>> = texts(&read, "place")
        .into_iter()
        .map(|place| place.map(|place| serde_json::from_str(&place).unwrap()))
        .collect();
    assert_eq!(places[0].as_ref().unwrap()["at"]["lon"], 115.5);
    assert_eq!(places[1], None);

    lab.ask("DROP TABLE accounts").await;
    lab.ask("DELETE FROM tidegate.progress").await;
    let feed = nested_feed(NestedIn::Columns);
    write_nested(&lab, &feed).await;
    let read = rows(&lab, &feed, whole(&feed)).await.slice(0, 3);
    assert_eq!(texts(&read, "place_city"), text([Some("Perth"), None, None]));
    assert_eq!(texts(&read, "place_at_lat"), text([Some("-31"), None, None]));
    assert_eq!(read.column_by_name("place_at_lon").unwrap().null_count(), 2);
}

async fn large_rows_make_small_batches(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let large = "x".repeat(3 << 20);
    let records: Vec<Record> = (0..8).map(|number| put(&number.to_string(), &large, 1)).collect();
    keep_accounts(&lab, &feed, &records).await;
    let read = read(&lab, &feed, of(&["owner"])).await.unwrap();
    let counts: Vec<usize> = read.iter().map(|(batch, _)| batch.num_rows()).collect();
    assert_eq!(counts, [3, 3, 2]);
}

async fn says_what_cannot_be_read(lab: Lab) {
    let feed = accounts(FeedKind::Table);
    let fails = async |feed: &Feed, request: RowsRequest, words: &str| {
        let error = read(&lab, feed, request).await.unwrap_err();
        assert_eq!(error.blame, Blame::Lasting, "{error}");
        assert!(error.message.contains(words), "{words}: {error}");
    };
    fails(&feed, of(&["id"]), "a node makes it when it first writes to it").await;
    let absent = read(&lab, &feed, of(&["id"])).await.unwrap_err();
    assert_eq!(absent.lack, Some(crate::record::Lack::Absent));
    let mut elsewhere = feed.clone();
    elsewhere.warehouse.as_mut().unwrap().table = Some("nowhere.accounts".into());
    fails(&elsewhere, of(&["id"]), "a node makes it when it first writes to it").await;
    lab.warehouse.prepare(&feed).await.unwrap();
    assert!(read(&lab, &feed, whole(&feed)).await.unwrap().is_empty());
    fails(&accounts(FeedKind::Stream), of(&["id"]), "it is a stream").await;
    fails(&Feed { warehouse: None, ..feed.clone() }, of(&["id"]), "no warehouse side").await;
    let mut keyless = feed.clone();
    keyless.schema.key_columns = 0;
    fails(&keyless, of(&["id"]), "it has no key").await;
    fails(&feed, of(&["id", "x\"; DROP TABLE accounts"]), "no column x").await;
    // A column that the feed has got, and its table not yet.
    let mut grown = feed.clone();
    grown.schema.columns.push(column("more", ColumnType::Long));
    fails(&grown, of(&["more"]), "more").await;

    let [wide, narrow] = [wide(&KEYS), wide(&["small"])];
    lab.ask("DROP TABLE accounts").await;
    keep(&lab, &wide, random_rows(&wide, &mut rand::rngs::StdRng::seed_from_u64(7), 5)).await;
    let (_, after) = read(&lab, &wide, of(&["id"])).await.unwrap().pop().unwrap();
    let behind = |after: &After| RowsRequest { after: Some(after.clone()), ..of(&[]) };
    fails(&feed, behind(&after), "not one of its keys").await;
    fails(&narrow, behind(&after), "not one of its keys").await;
    let long: After = serde_json::from_str(r#"[{"Long": 2147483648}]"#).unwrap();
    fails(&narrow, behind(&long), "not one of its keys").await;
}
