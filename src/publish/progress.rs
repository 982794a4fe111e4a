use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::telemetry::print::tell;

/// How far one thing has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gauge {
    pub done: u64,
    /// None where there is no end.
    pub of: Option<u64>,
    pub note: String,
}

impl Gauge {
    pub fn new(done: u64, of: Option<u64>) -> Self {
        // An estimated end may turn out to be too near.
        Self { done, of: of.map(|of| of.max(done)), note: String::new() }
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn line(&self, label: &str) -> String {
        let of = self.of.map_or_else(String::new, |of| format!(" of {}", HumanCount(of)));
        let note = if self.note.is_empty() { "" } else { ", " };
        format!("{label} {}{of}{note}{}", HumanCount(self.done), self.note)
    }
}

/// The display of long work on standard error: bars where a terminal is there, else a plain line now
/// and then.
pub struct Progress {
    labels: Vec<&'static str>,
    bars: Option<Vec<ProgressBar>>,
    shown: Instant,
}

const WITH_END: &str = "{prefix:>10} {wide_bar:.cyan/dim} {human_pos:>11} / {human_len:11} {msg}";
const WITHOUT_END: &str = "{prefix:>10} {spinner} {human_pos:>11} {msg}";
const BETWEEN_BARS: Duration = Duration::from_millis(100);
const BETWEEN_LINES: Duration = Duration::from_secs(5);

impl Progress {
    pub fn new(labels: &[&'static str]) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let bar = |label: &&'static str| {
                all.add(ProgressBar::new(0).with_style(style(true)).with_prefix(*label))
            };
            labels.iter().map(bar).collect()
        });
        Self { labels: labels.to_vec(), bars, shown: Instant::now() }
    }

    /// Whether the display is old enough to be worth a new look.
    pub fn is_due(&self) -> bool {
        let between = if self.bars.is_some() { BETWEEN_BARS } else { BETWEEN_LINES };
        self.shown.elapsed() >= between
    }

    /// Shows one gauge for each label.
    pub fn show(&mut self, gauges: &[Gauge]) {
        self.shown = Instant::now();
        let Some(bars) = &self.bars else {
            tell!("{}", plain(&self.labels, gauges));
            return;
        };
        for (bar, gauge) in bars.iter().zip(gauges) {
            match gauge.of {
                Some(of) => bar.set_length(of),
                None => bar.set_style(style(false)),
            }
            bar.set_position(gauge.done);
            bar.set_message(gauge.note.clone());
        }
    }

    /// Takes the bars away: what follows is said in words.
    pub fn clear(self) {
        self.bars.into_iter().flatten().for_each(|bar| bar.finish_and_clear());
    }
}

fn plain(labels: &[&str], gauges: &[Gauge]) -> String {
    let parts = labels.iter().zip(gauges).map(|(label, gauge)| gauge.line(label));
    parts.collect::<Vec<_>>().join("; ")
}

fn style(ends: bool) -> ProgressStyle {
    // The templates are right: a test says so.
    ProgressStyle::with_template(if ends { WITH_END } else { WITHOUT_END })
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_right() {
        for template in [WITH_END, WITHOUT_END] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn plain_lines_say_the_same() {
        let gauges = [
            Gauge::new(1200, Some(5000)).note("300/s"),
            Gauge::new(7, None),
            Gauge::new(9, Some(8)),
        ];
        assert_eq!(
            plain(&["published", "lake", "warehouse"], &gauges),
            "published 1,200 of 5,000, 300/s; lake 7; warehouse 9 of 9"
        );
    }
}
