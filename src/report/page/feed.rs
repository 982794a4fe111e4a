//! One feed's part of the page.

use maud::{Markup, html};

use super::super::facts::{ColumnFacts, FeedFacts, LakeFacts, MarkFacts, Side};
use super::{bytes, chart, count, told};
use crate::grants::instant;
use crate::warehouse::TableSize;

pub fn card(feed: &FeedFacts) -> Markup {
    html! {
        article.card id={ "feed-" (feed.name) } data-feed=(feed.name) data-topic=(feed.topic) {
            header {
                h3 { (feed.name) }
                span.tag { (feed.kind) }
                @if !feed.enabled { span.tag.bad { "paused" } }
                span.soft { "topic " code { (feed.topic) } }
            }
            @if let Some(description) = &feed.description { p { (description) } }
            dl {
                @for (name, setting) in &feed.settings { dt { (name) } dd { (setting) } }
            }
            (lake(&feed.lake))
            (warehouse(&feed.warehouse))
            h4 { "Columns" }
            (told(&feed.columns, |columns| columns_table(columns)))
            h4 { "Watermarks" }
            (told(&feed.marks, |marks| marks_table(marks)))
        }
    }
}

fn lake(side: &Side<LakeFacts>) -> Markup {
    let Side::At(place, found) = side else { return html! {} };
    html! {
        h4 { span.tag.lake { "lake" } " " code { (place) } }
        (told(found, |found| match found {
            None => html! { p.none { "No table yet." } },
            Some(facts) => lake_facts(facts),
        }))
    }
}

fn lake_facts(facts: &LakeFacts) -> Markup {
    let times: Vec<(&str, u64)> =
        facts.times.iter().map(|it| (it.time.as_str(), it.rows)).collect();
    let growth: Vec<(i64, u64)> = facts.growth.iter().map(|it| (it.at_ms, it.bytes)).collect();
    let rows = facts
        .rows
        .map_or_else(|| "rows unknown".to_owned(), |rows| format!("{} rows", count(rows)));
    html! {
        p data-lake-rows=[facts.rows] data-lake-files=(facts.files) data-lake-bytes=(facts.bytes) {
            (rows) " in " (count(facts.files)) " files of " (bytes(facts.bytes)) " together"
            @match facts.times.as_slice() {
                [] => {},
                [only] => { ", of " (only.time) },
                [first, .., last] => { ", of " (first.time) " to " (last.time) },
            }
            @if let Some(version) = facts.version { ", version " (version) }
            @if let Some(at) = facts.committed_ms { ", last commit " (instant(at)) }
            "."
        }
        div.charts {
            (chart::bars("Rows by time", &times, count))
            (chart::steps("Bytes, commit by commit", &growth, bytes))
        }
    }
}

fn warehouse(side: &Side<TableSize>) -> Markup {
    let Side::At(place, found) = side else { return html! {} };
    html! {
        h4 { span.tag.house { "warehouse" } " " code { (place) } }
        (told(found, |found| match found {
            None => html! { p.none { "No table yet." } },
            Some(size) => html! {
                p data-table=(place) data-warehouse-rows=(size.rows) {
                    @if size.guessed { "about " } (count(size.rows)) " rows"
                    @if let Some(size) = size.bytes { ", " (bytes(size)) }
                    @if let Some(at) = size.newest_ms { ", newest record " (instant(at)) }
                    "."
                }
            },
        }))
    }
}

fn columns_table(columns: &[ColumnFacts]) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr { th { "Column" } th { "Type" } th { "In the message" } th {} } }
                tbody {
                    @for column in columns {
                        tr {
                            td { code { (column.name) } }
                            td { (column.kind) }
                            td { code.soft { (column.path) } }
                            td.soft { (column.role) }
                        }
                    }
                }
            }
        }
    }
}

fn marks_table(marks: &[MarkFacts]) -> Markup {
    let shown = |mark: Option<i64>| mark.map(|mark| mark.to_string()).unwrap_or_default();
    html! {
        @if marks.is_empty() {
            p.none { "Nothing is durable yet." }
        } @else {
            div.scroll {
                table {
                    thead {
                        tr { th { "Topic" } th.number { "Partition" } th.number { "Lake" } th.number { "Warehouse" } }
                    }
                    tbody {
                        @for MarkFacts { topic, partition, marks } in marks {
                            tr data-partition=(partition) data-lake-mark=[marks.lake]
                                data-warehouse-mark=[marks.warehouse] {
                                td { (topic) }
                                td.number { (partition) }
                                td.number { (shown(marks.lake)) }
                                td.number { (shown(marks.warehouse)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
