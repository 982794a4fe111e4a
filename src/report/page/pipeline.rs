//! The way of the records as configured: topic, feed, and what it fills in either sink.

use maud::{Markup, html};

use super::super::facts::{FeedFacts, Places, Report, Side};

/// Feeds of one drawing: as many as a page of A4 has room for.
const FEEDS: usize = 14;
const WIDTH: u32 = 960;
/// Left edges and widths of the three columns.
const COLUMNS: [(u32, u32); 3] = [(0, 250), (325, 250), (650, 310)];
const BOX: u32 = 34;
const BETWEEN: u32 = 8;
/// Characters that the boxes have room for.
const WORDS: [usize; 3] = [31, 31, 37];

pub fn pipeline(report: &Report) -> Markup {
    let all: Vec<&FeedFacts> = report.feeds.iter().collect();
    html! {
        (places(&report.places))
        @for feeds in all.chunks(FEEDS) { figure { (drawing(feeds)) } }
    }
}

fn places(places: &Places) -> Markup {
    let rows = [
        ("Kafka", Some(&places.kafka)),
        ("Consumer group", Some(&places.group)),
        ("Schema registry", places.registry.as_ref()),
        ("Lake", places.lake.as_ref()),
        ("Warehouse", places.warehouse.as_ref()),
        ("API", places.api.as_ref()),
    ];
    html! {
        dl {
            @for (name, place) in rows {
                @if let Some(place) = place { dt { (name) } dd { code { (place) } } }
            }
        }
    }
}

fn drawing(feeds: &[&FeedFacts]) -> Markup {
    let mut top = 22;
    let mut rows = Vec::new();
    for feed in feeds {
        let sinks = sinks(feed);
        let high = sinks.len().max(1) as u32 * (BOX + BETWEEN);
        rows.push((feed, sinks, top, high));
        top += high + BETWEEN;
    }
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {top}")) role="img" aria-label="The pipeline" {
            @for ((left, _), name) in COLUMNS.into_iter().zip(["Topic", "Feed", "Lake and warehouse"]) {
                text.soft x=(left) y="13" font-size="13" { (name) }
            }
            @for (feed, sinks, top, high) in &rows {
                @let middle = top + (high - BETWEEN) / 2;
                (wire(0, middle, middle))
                (boxed(0, middle, "", &feed.topic))
                (boxed(1, middle, "", &format!("{} ({})", feed.name, feed.kind)))
                @for (index, (class, name)) in sinks.iter().enumerate() {
                    @let there = top + index as u32 * (BOX + BETWEEN) + BOX / 2;
                    (wire(1, middle, there))
                    (boxed(2, there, class, &format!("{}: {name}", said(class))))
                }
            }
        }
    }
}

fn sinks(feed: &FeedFacts) -> Vec<(&'static str, &str)> {
    let lake = match &feed.lake {
        Side::At(place, _) => Some(("lake", place.as_str())),
        Side::Without => None,
    };
    let house = match &feed.warehouse {
        Side::At(place, _) => Some(("house", place.as_str())),
        Side::Without => None,
    };
    lake.into_iter().chain(house).collect()
}

/// What a class of boxes is called.
fn said(class: &str) -> &'static str {
    if class == "lake" { "lake" } else { "warehouse" }
}

fn boxed(column: usize, middle: u32, class: &str, name: &str) -> Markup {
    let (left, width) = COLUMNS[column];
    html! {
        rect class={ "box " (class) } x=(left + 1) y=(middle - BOX / 2) width=(width - 2) height=(BOX) rx="7" {
            title { (name) }
        }
        text x=(left + 12) y=(middle + 5) font-size="13" { (cut(name, WORDS[column])) }
    }
}

/// From the right edge of a column to the left edge of the next.
fn wire(column: usize, from: u32, to: u32) -> Markup {
    let (left, width) = COLUMNS[column];
    let (start, end) = (left + width, COLUMNS[column + 1].0);
    let half = start.midpoint(end);
    html! {
        path.wire d=(format!("M{start} {from}C{half} {from} {half} {to} {end} {to}")) {}
    }
}

/// The beginning and the end of what is too long: both tell names apart.
fn cut(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let (start, end) = (most.div_ceil(2), most / 2 - 1);
    let start: String = text.chars().take(start).collect();
    let end: String = text.chars().skip(length - end).collect();
    format!("{start}…{end}")
}
