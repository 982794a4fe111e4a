//! Numbers with labels, and how Prometheus reads them.
//!
//! A family has one number for each set of its labels' values, and a bounded number of sets: those beyond are
//! counted together, under `_other` in the place of the first label. Adding to one takes a shared lock and an
//! addition.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

/// Sets of labels that a family tells apart.
const MOST: usize = 2000;
/// What the others are counted under.
const OTHER: &str = "_other";

/// What a family is, for people and for tools.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// In words with points between.
    pub name: &'static str,
    /// As UCUM writes it; what is counted in braces.
    pub unit: &'static str,
    pub meaning: &'static str,
    pub labels: &'static [&'static str],
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

impl About {
    /// The name that Prometheus knows it by.
    pub fn exposed(&self) -> String {
        let mut name = self.name.replace('.', "_");
        let unit = match self.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        if !name.ends_with(unit) {
            name.push_str(unit);
        }
        if self.kind == Kind::Counter {
            name.push_str("_total");
        }
        name
    }
}

type Key<const N: usize> = [Arc<str>; N];

/// The sets of labels of a family, each with what it counts in.
pub struct Series<const N: usize, T>(RwLock<BTreeMap<Key<N>, Arc<T>>>);

impl<const N: usize, T: Default> Series<N, T> {
    pub const fn new() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Key<N>, Arc<T>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Key<N>, Arc<T>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, labels: [&str; N]) -> Arc<T> {
        let key = labels.map(Arc::from);
        if let Some(found) = self.read().get(&key) {
            return found.clone();
        }
        let mut series = self.write();
        let key = match series.len() >= MOST && !series.contains_key(&key) {
            true => other(key),
            false => key,
        };
        series.entry(key).or_default().clone()
    }

    fn each(&self) -> Vec<(Key<N>, Arc<T>)> {
        self.read().iter().map(|(key, of)| (key.clone(), of.clone())).collect()
    }
}

fn other<const N: usize>(mut key: Key<N>) -> Key<N> {
    if let Some(first) = key.first_mut() {
        *first = OTHER.into();
    }
    key
}

/// A number that only grows, for each set of labels.
pub struct Counters<const N: usize> {
    pub about: About,
    series: Series<N, AtomicU64>,
}

impl<const N: usize> Counters<N> {
    pub const fn new(about: About) -> Self {
        Self { about, series: Series::new() }
    }

    /// Also none: what is there from the beginning can be seen to grow.
    pub fn add(&self, labels: [&str; N], more: u64) {
        self.series.of(labels).fetch_add(more, Ordering::Relaxed);
    }

    /// Of all labels together.
    #[cfg(test)]
    pub fn total(&self) -> u64 {
        self.series.each().iter().map(|(_, of)| of.load(Ordering::Relaxed)).sum()
    }
}

/// A number that is set, for each set of labels. A float, by its bits.
pub struct Gauges<const N: usize> {
    pub about: About,
    series: Series<N, AtomicU64>,
}

impl<const N: usize> Gauges<N> {
    pub const fn new(about: About) -> Self {
        Self { about, series: Series::new() }
    }

    pub fn set(&self, labels: [&str; N], value: f64) {
        self.series.of(labels).store(value.to_bits(), Ordering::Relaxed);
    }

    /// Whether it has a number for any set of labels.
    pub fn is_set(&self) -> bool {
        !self.series.read().is_empty()
    }

    /// These are all from now on, and no reader finds some of them only.
    pub fn replace<'l>(&self, all: impl IntoIterator<Item = ([&'l str; N], f64)>) {
        let fresh = Series::<N, AtomicU64>::new();
        for (labels, value) in all {
            fresh.of(labels).store(value.to_bits(), Ordering::Relaxed);
        }
        *self.series.write() = std::mem::take(&mut *fresh.write());
    }
}

/// How often a value was no more than each bound, for each set of labels.
pub struct Histograms<const N: usize> {
    pub about: About,
    bounds: &'static [f64],
    series: Series<N, Buckets>,
    /// What a provider of OpenTelemetry's counts in, if there is one.
    offered: OnceLock<Histogram<f64>>,
}

/// Room for the longest list of bounds, and for what is above.
#[derive(Default)]
struct Buckets {
    counts: [AtomicU64; 16],
    /// A float, by its bits.
    sum: AtomicU64,
}

impl<const N: usize> Histograms<N> {
    pub const fn new(about: About, bounds: &'static [f64]) -> Self {
        assert!(bounds.len() < 16);
        Self { about, bounds, series: Series::new(), offered: OnceLock::new() }
    }

    pub fn record(&self, labels: [&str; N], value: f64) {
        let of = self.series.of(labels);
        let at = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        of.counts[at].fetch_add(1, Ordering::Relaxed);
        let add = |sum: u64| Some((f64::from_bits(sum) + value).to_bits());
        let _ = of.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        if let Some(offered) = self.offered.get() {
            offered.record(value, &attributes(&self.about, &labels));
        }
    }
}

/// A family as others read it.
pub trait Family: Sync {
    fn about(&self) -> &About;

    /// Calls with each set of labels and its number; of a histogram, how many there were.
    fn each(&self, take: &mut dyn FnMut(&[&str], f64));

    /// As Prometheus's text format writes it.
    fn expose(&self, text: &mut String) {
        let about = self.about();
        let name = head(about, text);
        self.each(&mut |labels, value| line(text, &name, &labelled(about, labels, None), value));
    }

    /// To a provider of OpenTelemetry's, which reads it from then on.
    fn offer(&'static self, meter: &Meter) {
        let About { name, unit, meaning, kind, .. } = *self.about();
        // Kept by the provider.
        match kind {
            Kind::Counter => drop(
                meter
                    .u64_observable_counter(name)
                    .with_unit(unit)
                    .with_description(meaning)
                    .with_callback(move |observer| {
                        self.each(&mut |labels, value| {
                            observer.observe(value as u64, &attributes(self.about(), labels));
                        });
                    })
                    .build(),
            ),
            Kind::Gauge | Kind::Histogram => drop(
                meter
                    .f64_observable_gauge(name)
                    .with_unit(unit)
                    .with_description(meaning)
                    .with_callback(move |observer| {
                        self.each(&mut |labels, value| {
                            observer.observe(value, &attributes(self.about(), labels));
                        });
                    })
                    .build(),
            ),
        }
    }
}

impl<const N: usize> Family for Counters<N> {
    fn about(&self) -> &About {
        &self.about
    }

    fn each(&self, take: &mut dyn FnMut(&[&str], f64)) {
        for (key, of) in self.series.each() {
            take(&texts(&key), of.load(Ordering::Relaxed) as f64);
        }
    }
}

impl<const N: usize> Family for Gauges<N> {
    fn about(&self) -> &About {
        &self.about
    }

    fn each(&self, take: &mut dyn FnMut(&[&str], f64)) {
        for (key, of) in self.series.each() {
            take(&texts(&key), f64::from_bits(of.load(Ordering::Relaxed)));
        }
    }
}

impl<const N: usize> Family for Histograms<N> {
    fn about(&self) -> &About {
        &self.about
    }

    fn each(&self, take: &mut dyn FnMut(&[&str], f64)) {
        for (key, of) in self.series.each() {
            let count: u64 = of.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
            take(&texts(&key), count as f64);
        }
    }

    fn expose(&self, text: &mut String) {
        let name = head(&self.about, text);
        for (key, of) in self.series.each() {
            let mut below = 0;
            let bounds = self.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(&of.counts) {
                below += count.load(Ordering::Relaxed);
                let labels = labelled(&self.about, &texts(&key), Some(&bound));
                line(text, &format!("{name}_bucket"), &labels, below);
            }
            let labels = labelled(&self.about, &texts(&key), None);
            let sum = f64::from_bits(of.sum.load(Ordering::Relaxed));
            line(text, &format!("{name}_sum"), &labels, sum);
            line(text, &format!("{name}_count"), &labels, below);
        }
    }

    fn offer(&'static self, meter: &Meter) {
        let About { name, unit, meaning, .. } = self.about;
        let _ = self.offered.get_or_init(|| {
            meter
                .f64_histogram(name)
                .with_unit(unit)
                .with_description(meaning)
                .with_boundaries(self.bounds.to_vec())
                .build()
        });
    }
}

fn texts<const N: usize>(key: &Key<N>) -> [&str; N] {
    key.each_ref().map(|label| &**label)
}

fn attributes(about: &About, labels: &[&str]) -> Vec<KeyValue> {
    let pairs = about.labels.iter().zip(labels);
    pairs.map(|(name, value)| KeyValue::new(*name, (*value).to_owned())).collect()
}

/// Says what comes, and answers its name.
fn head(about: &About, text: &mut String) -> String {
    let name = about.exposed();
    // To a text nothing fails to be written.
    let _ = writeln!(text, "# HELP {name} {}.", about.meaning.replace('\\', "\\\\"));
    let _ = writeln!(text, "# TYPE {name} {}", about.kind.name());
    name
}

fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{name}{labels} {value}");
}

fn labelled(about: &About, labels: &[&str], bound: Option<&str>) -> String {
    let own = about.labels.iter().zip(labels);
    let all: Vec<String> = own
        .map(|(name, value)| (*name, *value))
        .chain(bound.map(|bound| ("le", bound)))
        .map(|(name, value)| format!("{}=\"{}\"", name.replace('.', "_"), escaped(value)))
        .collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: About = About {
        name: "tidegate.test.records",
        unit: "{record}",
        meaning: "Records of a test",
        labels: &["feed", "sink"],
        kind: Kind::Counter,
    };

    fn text(family: &dyn Family) -> String {
        let mut text = String::new();
        family.expose(&mut text);
        text
    }

    #[test]
    fn counters_are_exposed_with_their_labels() {
        let counters: Counters<2> = Counters::new(COUNTED);
        counters.add(["a", "lake"], 2);
        counters.add(["a", "lake"], 3);
        counters.add(["b\"\\\n", "warehouse"], 1);
        counters.add(["b\"\\\n", "lake"], 0);
        assert_eq!(
            text(&counters),
            "# HELP tidegate_test_records_total Records of a test.\n\
             # TYPE tidegate_test_records_total counter\n\
             tidegate_test_records_total{feed=\"a\",sink=\"lake\"} 5\n\
             tidegate_test_records_total{feed=\"b\\\"\\\\\\n\",sink=\"lake\"} 0\n\
             tidegate_test_records_total{feed=\"b\\\"\\\\\\n\",sink=\"warehouse\"} 1\n"
        );
        assert_eq!(counters.total(), 6);
    }

    #[test]
    fn beyond_so_many_sets_of_labels_the_rest_is_counted_together() {
        let counters: Counters<2> = Counters::new(COUNTED);
        for feed in 0..MOST + 500 {
            counters.add([&format!("f{feed}"), "lake"], 1);
        }
        counters.add(["f0", "lake"], 1);
        counters.add(["new", "warehouse"], 1);
        let text = text(&counters);
        assert!(text.contains("{feed=\"f0\",sink=\"lake\"} 2\n"));
        assert!(text.contains("{feed=\"_other\",sink=\"lake\"} 500\n"));
        assert!(text.contains("{feed=\"_other\",sink=\"warehouse\"} 1\n"));
        assert_eq!(counters.total() as usize, MOST + 502);
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        const SECONDS: About =
            About { name: "tidegate.test.duration", unit: "s", kind: Kind::Histogram, ..COUNTED };
        let about = About { labels: &[], ..SECONDS };
        let times: Histograms<0> = Histograms::new(about, &[0.5, 1.0]);
        for value in [0.5, 0.7, 3.0] {
            times.record([], value);
        }
        let text = text(&times);
        let wanted = "tidegate_test_duration_seconds_bucket{le=\"0.5\"} 1\n\
                      tidegate_test_duration_seconds_bucket{le=\"1\"} 2\n\
                      tidegate_test_duration_seconds_bucket{le=\"+Inf\"} 3\n\
                      tidegate_test_duration_seconds_sum 4.2\n\
                      tidegate_test_duration_seconds_count 3\n";
        assert!(text.ends_with(wanted), "{text}");
    }

    #[test]
    fn a_gauge_is_what_it_was_set_to_last() {
        let about = About { unit: "By", kind: Kind::Gauge, labels: &["feed"], ..COUNTED };
        let gauges: Gauges<1> = Gauges::new(about);
        gauges.set(["a"], 1.5);
        gauges.set(["a"], -2.0);
        assert!(text(&gauges).ends_with("tidegate_test_records_bytes{feed=\"a\"} -2\n"));
        gauges.replace([(["b"], 1.0)]);
        assert!(text(&gauges).ends_with("{feed=\"b\"} 1\n") && !text(&gauges).contains("\"a\""));
        gauges.replace([]);
        assert!(!text(&gauges).contains("feed"));
    }
}
