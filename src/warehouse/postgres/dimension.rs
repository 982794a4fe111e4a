//! Rows of dimensions, out of the same staged rows as the feed's own.

use super::stage::{OFFSET, PARTITION, TIMESTAMP, TOPIC, parsed_as};
use super::table::{ident, names};
use crate::config::{ColumnType, Feed};
use crate::warehouse::dimension::DimensionTable;

/// What decides which of two rows is the newer one, first things first.
const ORDER: [&str; 4] = [TIMESTAMP, TOPIC, PARTITION, OFFSET];

/// Upserts the dimension's rows out of `source`, a table expression with the feed's columns as they are
/// staged and all of a record's origin. One row a key, in the order of the keys: two that upsert the
/// same ones lock them in the same order.
pub(super) fn upsert(feed: &Feed, dimension: &DimensionTable, table: &str, source: &str) -> String {
    let schema = &dimension.feed.schema;
    let key: Vec<String> =
        schema.key().iter().map(|column| format!("s.{}", ident(&column.name))).collect();
    let own = schema.columns.iter().map(|column| {
        let cast = parsed_as(column.kind);
        format!("s.{}{cast}", ident(&column.name))
    });
    let time = time(feed);
    let of_origin = |name: &str| match name {
        TIMESTAMP => time.clone(),
        name => format!("s.{}", ident(name)),
    };
    let from: Vec<String> = own.chain(ORDER.map(of_origin)).collect();
    let into = schema.columns.iter().map(|column| ident(&column.name));
    let into: Vec<String> = into.chain(ORDER.map(ident)).collect();
    let present: Vec<String> = key.iter().map(|key| format!("{key} IS NOT NULL")).collect();
    let newest: Vec<String> =
        ORDER.iter().map(|name| format!("{} DESC", collated(name, &of_origin(name)))).collect();
    let changed: Vec<String> =
        into[schema.key_columns..].iter().map(|name| format!("{name} = EXCLUDED.{name}")).collect();
    // A row that was there before these columns is older than all.
    let least = ["'-infinity'", "''", "-1", "-1"];
    let ranked = |row: &str| -> String {
        let value = |(name, least): (&str, &str)| {
            collated(name, &format!("coalesce({row}.{}, {least})", ident(name)))
        };
        ORDER.into_iter().zip(least).map(value).collect::<Vec<_>>().join(", ")
    };
    let key = key.join(", ");
    format!(
        "INSERT INTO {table} AS d ({}) SELECT DISTINCT ON ({key}) {} FROM {source} AS s \
         WHERE {} ORDER BY {key}, {} \
         ON CONFLICT ({}) DO UPDATE SET {} WHERE ({}) < ({})",
        into.join(", "),
        from.join(", "),
        present.join(" AND "),
        newest.join(", "),
        names(schema.key()),
        changed.join(", "),
        ranked("d"),
        ranked("EXCLUDED"),
    )
}

/// Topics compare by their bytes, whatever the database's language.
fn collated(name: &str, value: &str) -> String {
    if name == TOPIC { format!("{value} COLLATE \"C\"") } else { value.to_owned() }
}

fn time(feed: &Feed) -> String {
    let declared = feed.schema.time.and_then(|index| feed.schema.columns.get(index));
    let own = declared.map(|column| match column.kind {
        ColumnType::Date => format!("s.{}::timestamp AT TIME ZONE 'UTC', ", ident(&column.name)),
        _ => format!("s.{}, ", ident(&column.name)),
    });
    let own = own.unwrap_or_default();
    format!("coalesce({own}s.{}, '-infinity'::timestamptz)", ident(TIMESTAMP))
}
