//! Nested columns in both databases, as JSON and as columns.

use serde_json::json;

use super::lab::*;
use crate::config::{
    Column, ColumnType, Feed, FeedKind, KeyFormat, NestedIn, Schema, WarehouseOptions,
};
use crate::decode::Decoder;
use crate::record::{Batch, RawBatch, Verdict};

on_each_warehouse! {
    takes_structs_as_json
    takes_structs_as_columns
}

pub(super) fn nested_feed(nested: NestedIn) -> Feed {
    let kind = |text: &str| text.parse::<ColumnType>().unwrap();
    let columns = vec![
        Column::new("id", ColumnType::String),
        Column::new("place", kind("struct<city:string,at:struct<lat:number,lon:double>>")),
        Column::new("tags", kind("array<string>")),
        Column::new("n", ColumnType::Number),
    ];
    let schema = Schema { key_format: KeyFormat::String, ..Schema::json(columns, 1) };
    let warehouse = Some(WarehouseOptions { nested, ..WarehouseOptions::default() });
    Feed { schema, warehouse, ..accounts(FeedKind::Table) }
}

fn records(feed: &Feed) -> Batch {
    let mut raw = RawBatch::new(source(0), 0);
    let values = [
        ("a", Some(json!({"place": {"city": "Perth", "at": {"lat": -31, "lon": 115.5}}, "tags": ["x", null]}).to_string())),
        ("b", Some(r#"{"place": null, "tags": [], "n": 12345678901234567890.10}"#.to_owned())),
        ("c", Some(r#"{"place": {"at": null}}"#.to_owned())),
        ("d", Some(r#"{"place": {"city": "gone"}}"#.to_owned())),
        ("d", None),
        // PostgreSQL holds no NUL, within a document neither.
        ("e", Some(r#"{"tags": ["\u0000"]}"#.to_owned())),
    ];
    for (offset, (key, value)) in (0..).zip(&values) {
        let value = value.as_ref().map(|value| value.as_bytes());
        raw.push(offset, 1, Some(key.as_bytes()), value, []);
    }
    raw.range.end = values.len() as i64;
    Decoder::new(&feed.schema, true, false, false).decode(&raw, 0)
}

pub(super) async fn write(lab: &Lab, feed: &Feed) {
    let claim = lab.claimed(feed, 0).await;
    let batch = records(feed);
    assert_eq!(batch.rejects.len(), 0);
    let quarantined = u64::from(lab.is_postgres());
    let verdicts = lab.write(feed, &[part(claim, vec![batch])]).await;
    assert_eq!(verdicts, [Verdict::Durable { quarantined }]);
    assert_eq!(lab.next_offset(0).await, 6);
}

async fn takes_structs_as_json(lab: Lab) {
    let feed = nested_feed(NestedIn::Json);
    write(&lab, &feed).await;
    let city = match lab.is_postgres() {
        true => "place->'at'->>'lat', place->>'city'",
        false => "json_extract(place, '$.at.lat'), json_extract(place, '$.city')",
    };
    let rows =
        lab.ask(&format!("SELECT id, {city} FROM accounts WHERE id < 'd' ORDER BY id")).await;
    assert_eq!(rows, ["a|-31|Perth", "b|-|-", "c|-|-"]);
    let rows = lab.ask("SELECT id, tags, n FROM accounts WHERE id < 'd' ORDER BY id").await;
    let tags = if lab.is_postgres() { r#"["x", null]"# } else { r#"["x",null]"# };
    assert_eq!(rows, [&*format!("a|{tags}|-"), "b|[]|12345678901234567890.10", "c|-|-"]);
}

async fn takes_structs_as_columns(lab: Lab) {
    let feed = nested_feed(NestedIn::Columns);
    write(&lab, &feed).await;
    let columns = "id, place_city, place_at_lat, place_at_lon, n";
    let rows = lab.ask(&format!("SELECT {columns} FROM accounts WHERE id < 'd' ORDER BY id")).await;
    let expected = ["a|Perth|-31|115.5|-", "b|-|-|-|12345678901234567890.10", "c|-|-|-|-"];
    assert_eq!(rows, expected);
}
