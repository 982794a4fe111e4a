//! The page: HTML made of facts alone. Whatever is put into it is escaped by the template.

mod chart;
mod feed;
mod parts;
mod pipeline;
mod queries;

use indicatif::{HumanBytes, HumanCount};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::facts::{FeedFacts, Report, Side, Told};
use crate::grants::instant;

const STYLE: &str = include_str!("style.css");
/// Even where something would get past the escaping, nothing runs and nothing is fetched.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The whole file.
pub fn page(report: &Report) -> String {
    let body = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content={ "Tidegate " (report.version) };
                title { (report.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(report))
                    section #pipeline { h2 { "Pipeline" } (pipeline::pipeline(report)) }
                    section #feeds .chapter { h2 { "Feeds" } (feeds(report)) }
                    section #governance .chapter { h2 { "Governance" } (parts::governance(report)) }
                    section #schedule { h2 { "Schedule" } (parts::schedule(report)) }
                    section #quarantine { h2 { "Quarantine" } (parts::quarantine(report)) }
                    section #queries .chapter { h2 { "Queries" } (queries::queries(report)) }
                    footer {
                        "Made by Tidegate " (report.version) " at " (instant(report.at_ms)) ". All times are UTC."
                    }
                }
            }
        }
    };
    body.into_string()
}

fn head(report: &Report) -> Markup {
    let sections = ["Pipeline", "Feeds", "Governance", "Schedule", "Quarantine", "Queries"];
    html! {
        header {
            h1 { (report.title) }
            p.soft { "As of " (instant(report.at_ms)) ", for " (report.by) }
            nav {
                ul {
                    @for name in sections { li { a href={ "#" (name.to_lowercase()) } { (name) } } }
                }
            }
        }
        (tiles(report))
    }
}

/// The installation in a few numbers. A sum of which a part is unknown says so.
fn tiles(report: &Report) -> Markup {
    let lake = |of: fn(&super::facts::LakeFacts) -> Option<u64>| {
        sum(report.feeds.iter().map(|feed| &feed.lake), of)
    };
    let rows = sum(report.feeds.iter().map(|feed| &feed.warehouse), |size| Some(size.rows));
    let open = report.quarantine.iter().map(|(_, counts)| {
        let counts = counts.as_ref().ok()?.iter();
        Some(counts.filter(|it| it.state == "open").map(|it| it.records).sum::<u64>())
    });
    let open = Sum::of(open);
    html! {
        div.tiles {
            div.tile { span.soft { "Feeds" } b data-feeds=(report.feeds.len()) { (report.feeds.len()) } }
            (tile("Rows in the lake", "lake-rows", lake(|it| it.rows), count))
            (tile("Bytes in the lake", "lake-bytes", lake(|it| Some(it.bytes)), bytes))
            (tile("Files in the lake", "lake-files", lake(|it| Some(it.files)), count))
            (tile("Rows in the warehouse", "warehouse-rows", rows, count))
            div.tile.bad[open.known > 0] {
                span.soft { "Open in quarantine" }
                b data-figure="quarantine-open" data-value=(open.known) { (open.shown(count)) }
            }
        }
    }
}

fn tile(label: &str, name: &str, sum: Sum, spelled: fn(u64) -> String) -> Markup {
    html! {
        div.tile {
            span.soft { (label) }
            b data-figure=(name) data-value=(sum.known) { (sum.shown(spelled)) }
        }
    }
}

/// A sum, and whether there is more that is not known.
#[derive(Default, Clone, Copy)]
struct Sum {
    known: u64,
    more: bool,
}

impl Sum {
    fn of(values: impl Iterator<Item = Option<u64>>) -> Self {
        values.fold(Self::default(), |sum, value| Self {
            known: sum.known + value.unwrap_or_default(),
            more: sum.more || value.is_none(),
        })
    }

    fn shown(self, spelled: fn(u64) -> String) -> String {
        format!("{}{}", spelled(self.known), if self.more { " +?" } else { "" })
    }
}

fn sum<'f, T: 'f>(sides: impl Iterator<Item = &'f Side<T>>, of: impl Fn(&T) -> Option<u64>) -> Sum {
    Sum::of(sides.map(|side| match side {
        Side::At(_, Ok(Some(found))) => of(found),
        Side::At(_, Err(_)) => None,
        Side::At(_, Ok(None)) | Side::Without => Some(0),
    }))
}

fn feeds(report: &Report) -> Markup {
    html! {
        @if report.feeds.is_empty() {
            p.none { "There is no feed." }
        } @else {
            (sizes(&report.feeds))
        }
        @for (name, why) in &report.waiting {
            p.fault { "No feed of " code { (name) } " yet: " (why) }
        }
        @for feed in &report.feeds { (feed::card(feed)) }
    }
}

/// Every feed in a line.
fn sizes(feeds: &[FeedFacts]) -> Markup {
    html! {
        div.card.scroll {
            table.sizes {
                thead {
                    tr {
                        th { "Feed" } th { "Type" } th.number { "Rows in the lake" } th.number { "Files" }
                        th.number { "Bytes" } th { "Last commit" } th.number { "Rows in the warehouse" }
                        th { "Newest record" }
                    }
                }
                tbody {
                    @for feed in feeds {
                        @let (lake, table) = (feed.lake.found(), feed.warehouse.found());
                        @let day = lake.and_then(|it| it.times.last()).map(|it| it.time.clone());
                        @let newest = table.and_then(|it| it.newest_ms).map(minute).or(day);
                        tr {
                            td { a href={ "#feed-" (feed.name) } { (feed.name) } }
                            td.short { (feed.kind) @if !feed.enabled { " " span.tag { "paused" } } }
                            td.number { (known(&feed.lake, lake.and_then(|it| it.rows).map(count))) }
                            td.number { (known(&feed.lake, lake.map(|it| count(it.files)))) }
                            td.number { (known(&feed.lake, lake.map(|it| bytes(it.bytes)))) }
                            td.short { (lake.and_then(|it| it.committed_ms).map(minute).unwrap_or_default()) }
                            td.number { (known(&feed.warehouse, table.map(|it| count(it.rows)))) }
                            td.short { (newest.unwrap_or_default()) }
                        }
                    }
                }
            }
        }
    }
}

/// A number; a question mark where there is one that is not known, and nothing where there is none.
fn known<T>(side: &Side<T>, number: Option<String>) -> String {
    let unknown = match side {
        Side::Without => "",
        Side::At(_, Ok(None)) => "0",
        Side::At(..) => "?",
    };
    number.unwrap_or_else(|| unknown.to_owned())
}

/// What is told, or why it is not.
fn told<T>(told: &Told<T>, show: impl FnOnce(&T) -> Markup) -> Markup {
    match told {
        Ok(it) => show(it),
        Err(why) => fault(why),
    }
}

fn fault(why: &str) -> Markup {
    html! { p.fault { (why) } }
}

fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

fn bytes(number: u64) -> String {
    HumanBytes(number).to_string()
}

/// A time in short, where there is little room.
fn minute(ms: i64) -> String {
    let time = instant(ms).replace('T', " ");
    time.chars().take("0000-00-00 00:00".len()).collect()
}
