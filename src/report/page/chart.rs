//! Charts as SVG: of nothing, of one value and of many.

use maud::{Markup, html};

use super::{instant, minute};

const WIDTH: f64 = 480.0;
const TOP: f64 = 22.0;
const BASE: f64 = 122.0;
/// No bar is wider.
const WIDEST: f64 = 48.0;

/// Values by their labels, side by side.
pub fn bars(about: &str, values: &[(&str, u64)], spelled: fn(u64) -> String) -> Markup {
    let most = values.iter().map(|(_, value)| *value).max().unwrap_or_default();
    let step = WIDTH / values.len().max(1) as f64;
    let wide = (step * 0.78).min(WIDEST);
    let chart = html! {
        @for (index, (label, value)) in values.iter().enumerate() {
            @let high = share(*value, most) * (BASE - TOP);
            @let left = step * (index as f64 + 0.5) - wide / 2.0;
            rect.lake.bar x=(place(left)) y=(place(BASE - high)) width=(place(wide)) height=(place(high)) {
                title { (label) ": " (spelled(*value)) }
            }
        }
        (under(values.first().map(|it| it.0), values.last().map(|it| it.0).filter(|_| values.len() > 1)))
    };
    figure(about, most, values.is_empty(), spelled, chart)
}

/// What there was after each moment, in steps: (milliseconds since the epoch, value).
pub fn steps(about: &str, points: &[(i64, u64)], spelled: fn(u64) -> String) -> Markup {
    let most = points.iter().map(|(_, value)| *value).max().unwrap_or_default();
    let (first, last) = (points.first().map(|it| it.0), points.last().map(|it| it.0));
    let span = last.zip(first).map_or(0, |(last, first)| last - first);
    let at = |ms: i64| match span {
        0 => WIDTH / 2.0,
        span => (ms - first.unwrap_or(ms)) as f64 / span as f64 * (WIDTH - 10.0) + 4.0,
    };
    let high = |value: u64| BASE - share(value, most) * (BASE - TOP);
    let mut line = String::new();
    for (index, (ms, value)) in points.iter().enumerate() {
        let (x, y) = (place(at(*ms)), place(high(*value)));
        line += &if index == 0 { format!("M{x} {y}") } else { format!("H{x}V{y}") };
    }
    let (from, to) = (first.map(minute), last.filter(|_| span > 0).map(minute));
    let chart = html! {
        @if let (Some(first), Some(last)) = (first, last) {
            path.lake.under d=(format!("{line}V{BASE}H{}Z", place(at(first)))) {}
            path.line.lake d=(line) {}
            circle.lake cx=(place(at(last))) cy=(place(high(most))) r="3.5" {
                title { (instant(last)) ": " (spelled(most)) }
            }
        }
        (under(from.as_deref(), to.as_deref()))
    };
    figure(about, most, points.is_empty(), spelled, chart)
}

fn figure(
    about: &str,
    most: u64,
    empty: bool,
    spelled: fn(u64) -> String,
    chart: Markup,
) -> Markup {
    html! {
        figure {
            figcaption { (about) }
            @if empty {
                p.none { "Nothing yet." }
            } @else {
                svg viewBox="0 0 480 142" role="img" aria-label=(about) {
                    path.axis d=(format!("M0 {TOP}H{WIDTH}M0 {}H{WIDTH}M0 {BASE}H{WIDTH}", TOP.midpoint(BASE))) {}
                    text.soft x="0" y="15" font-size="11" { (spelled(most)) }
                    (chart)
                }
            }
        }
    }
}

/// The words at both ends of the axis.
fn under(from: Option<&str>, to: Option<&str>) -> Markup {
    html! {
        @match (from, to) {
            (Some(only), None) => { text.soft x="240" y="137" font-size="11" text-anchor="middle" { (only) } },
            (from, to) => {
                text.soft x="0" y="137" font-size="11" { (from.unwrap_or_default()) }
                text.soft x="480" y="137" font-size="11" text-anchor="end" { (to.unwrap_or_default()) }
            },
        }
    }
}

fn share(value: u64, most: u64) -> f64 {
    value as f64 / most.max(1) as f64
}

fn place(value: f64) -> String {
    format!("{value:.1}")
}
