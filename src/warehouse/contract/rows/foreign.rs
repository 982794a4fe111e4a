//! Tables that somebody else made, with other types than the feed's, and values that a feed never wrote.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};

use super::{keep, read, rows, whole};
use crate::config::{ColumnType, Feed, FeedKind, Schema};
use crate::record::Blame;
use crate::warehouse::contract::lab::*;

on_each_warehouse! {
    reads_columns_of_other_types
    tells_of_values_of_other_types
    tells_of_keys_that_are_null
}

fn feed() -> Feed {
    let columns = [
        ("id", ColumnType::Int),
        ("owner", ColumnType::String),
        ("large", ColumnType::Long),
        ("amount", ColumnType::Decimal { precision: 10, scale: 2 }),
        ("at", ColumnType::Timestamp),
        ("day", ColumnType::Date),
        ("ratio", ColumnType::Double),
        ("yes", ColumnType::Boolean),
        ("raw", ColumnType::Bytes),
        ("number", ColumnType::Number),
    ];
    let columns = columns.map(|(name, kind)| column(name, kind)).to_vec();
    Feed { schema: Schema::json(columns, 1), ..accounts(FeedKind::Table) }
}

fn sent(feed: &Feed) -> RecordBatch {
    let times = vec![Some(1_760_373_508_047_123), None, Some(-1)];
    let amounts = Decimal128Array::from(vec![Some(150), None, Some(-1)]);
    let raw: Vec<Option<&[u8]>> = vec![Some(b"\x01\xff"), None, Some(b"")];
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![1, 2, 3])),
        Arc::new(StringArray::from(vec![Some("ann"), None, Some("é")])),
        Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_991), None, Some(-7_000_000_000)])),
        Arc::new(amounts.with_precision_and_scale(10, 2).unwrap()),
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(Date32Array::from(vec![Some(20_000), None, Some(-1)])),
        Arc::new(Float64Array::from(vec![Some(0.25), None, Some(3.0)])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(BinaryArray::from(raw)),
        Arc::new(StringArray::from(vec![Some("-1.50"), None, Some("0")])),
    ];
    RecordBatch::try_new(feed.schema.arrow(), arrays).unwrap()
}

async fn reads_columns_of_other_types(lab: Lab) {
    let tables: &[&str] = match lab.is_postgres() {
        true => &[
            "id bigint PRIMARY KEY, owner short, large numeric, amount numeric, at timestamp, \
             day timestamp, ratio real, yes boolean, raw bytea, number numeric(9,2)",
            "id integer PRIMARY KEY, owner character(12), large text, amount varchar(40), at text, \
             day text, ratio text, yes text, raw text, number text",
            "id bigint PRIMARY KEY, owner text, large double precision, amount double precision, \
             at timestamptz(6), day timestamptz, ratio numeric, yes varchar, raw varchar, number text",
        ],
        false => &[
            "id INTEGER PRIMARY KEY, owner, large REAL, amount BLOB, at, day CLOB, ratio NUMERIC, \
             yes REAL, raw NUMERIC, number VARCHAR(9)",
            "id REAL PRIMARY KEY, owner BLOB, large NUMERIC, amount CHAR, at BLOB, day BLOB, \
             ratio INTEGER, yes NUMERIC, raw, number",
        ],
    };
    if lab.is_postgres() {
        lab.ask("CREATE DOMAIN short AS varchar(10) CHECK (value <> 'no')").await;
    }
    for table in tables {
        lab.ask(&format!("DROP TABLE IF EXISTS accounts; CREATE TABLE accounts ({table})")).await;
        let feed = feed();
        lab.warehouse.prepare(&feed).await.unwrap();
        let mut sent = sent(&feed);
        keep(&lab, &feed, sent.clone()).await;
        if table.contains("numeric(9,2)") {
            // It shows as many digits as it is declared to.
            let mut arrays = sent.columns().to_vec();
            arrays[9] = Arc::new(StringArray::from(vec![Some("-1.50"), None, Some("0.00")]));
            sent = RecordBatch::try_new(sent.schema(), arrays).unwrap();
        }
        assert_eq!(rows(&lab, &feed, whole(&feed)).await, sent, "{table}");
    }
}

async fn tells_of_values_of_other_types(lab: Lab) {
    let wrong: &[(&str, &str, &str)] = match lab.is_postgres() {
        true => &[
            ("id", "bigint", "3000000000"),
            ("large", "text", "'hush'"),
            ("large", "numeric", "1.5"),
            ("large", "numeric", "'NaN'"),
            ("large", "numeric", "9223372036854775808"),
            ("amount", "numeric", "1.005"),
            ("amount", "numeric", "123456789"),
            ("amount", "numeric", "'NaN'"),
            ("amount", "double precision", "'-Infinity'"),
            ("at", "timestamptz", "'infinity'"),
            ("at", "timestamptz", "'-infinity'"),
            ("at", "timestamptz", "'294276-12-31 23:59:59Z'"),
            ("at", "text", "'hush'"),
            ("day", "date", "'infinity'"),
            ("day", "date", "'-infinity'"),
            ("ratio", "text", "'hush'"),
            ("yes", "text", "'hush'"),
            ("raw", "text", "'\\hush'"),
            ("number", "numeric", "'NaN'"),
        ],
        false => &[
            ("id", "INTEGER", "3000000000"),
            ("owner", "BLOB", "1"),
            ("owner", "TEXT", "x'ff'"),
            ("large", "INTEGER", "'hush'"),
            ("large", "REAL", "1.5"),
            ("large", "REAL", "1e300"),
            ("amount", "BLOB", "1.5"),
            ("amount", "TEXT", "'1.5'"),
            ("amount", "TEXT", "'123456789.00'"),
            ("at", "TEXT", "'2026-01-31 00:00:00'"),
            ("day", "TEXT", "'hush'"),
            ("ratio", "REAL", "'hush'"),
            ("ratio", "NUMERIC", "9007199254740993"),
            ("yes", "INTEGER", "2"),
            ("raw", "BLOB", "'hush'"),
            ("number", "TEXT", "'NaN'"),
        ],
    };
    let feed = feed();
    for (name, kind, value) in wrong {
        lab.ask("DROP TABLE IF EXISTS accounts").await;
        let node = lab.other_node();
        if *name != "id" && lab.is_postgres() {
            node.prepare(&feed).await.unwrap();
            let change =
                format!("ALTER TABLE accounts DROP {name}; ALTER TABLE accounts ADD {name} {kind}");
            lab.ask(&change).await;
        } else {
            let kinds = feed.schema.columns.iter().map(|column| match column.name == *name {
                true => format!("{name} {kind}"),
                false => format!("{} {}", column.name, if lab.is_postgres() { "text" } else { "" }),
            });
            let columns = kinds.collect::<Vec<_>>().join(", ");
            lab.ask(&format!("CREATE TABLE accounts ({columns})")).await;
        }
        let id = if *name == "id" { "" } else { "id, " };
        let one = if *name == "id" { "" } else { "1, " };
        lab.ask(&format!("INSERT INTO accounts ({id}{name}) VALUES ({one}{value})")).await;
        let error = read(&lab, &feed, whole(&feed)).await.unwrap_err();
        assert_eq!(error.blame, Blame::Lasting, "{error}");
        let told = error.message.contains("accounts") && error.message.contains(name);
        assert!(told && !error.message.contains("hush"), "{name} {kind} {value}: {error}");
    }
}

async fn tells_of_keys_that_are_null(lab: Lab) {
    lab.ask("CREATE TABLE accounts (id text UNIQUE, owner text, balance bigint)").await;
    lab.ask("INSERT INTO accounts (owner) VALUES ('x')").await;
    let feed = accounts(FeedKind::Table);
    let error = read(&lab, &feed, whole(&feed)).await.unwrap_err();
    assert!(error.message.contains("column id of the key is null"), "{error}");
}
