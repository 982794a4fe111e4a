//! Every metric of a node, with its name, labels, unit and meaning, in one place: `docs/metrics.md` is made of
//! this.
//!
//! Numbers are kept here and read by whoever asks: Prometheus by [`exposition`], a provider of OpenTelemetry's by
//! what [`register`] offers it. Labels are names of feeds, sinks and the like, and never partitions.

use std::fmt::Write;

use opentelemetry::global;

pub use super::series::{About, Family, Kind};
use super::series::{Counters, Gauges, Histograms};

/// Seconds that a commit or a chore may take.
const SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Records of a batch.
const RECORDS: &[f64] = &[1.0, 10.0, 100.0, 1e3, 5e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 1e6];

macro_rules! families {
    ($($kind:ident $id:ident [$($label:literal),*] = $name:literal, $unit:literal, $meaning:literal $(, $bounds:ident)?;)*) => {
        $(family!($kind $id [$($label),*] $name $unit $meaning $($bounds)?);)*
        /// Every family there is.
        pub static ALL: &[&dyn Family] = &[$(&$id),*];
    };
}

macro_rules! family {
    (counter $id:ident [$($label:literal),*] $name:literal $unit:literal $meaning:literal) => {
        pub static $id: Counters<{ <[&str]>::len(&[$($label),*]) }> =
            Counters::new(about!(Counter [$($label),*] $name $unit $meaning));
    };
    (gauge $id:ident [$($label:literal),*] $name:literal $unit:literal $meaning:literal) => {
        pub static $id: Gauges<{ <[&str]>::len(&[$($label),*]) }> =
            Gauges::new(about!(Gauge [$($label),*] $name $unit $meaning));
    };
    (histogram $id:ident [$($label:literal),*] $name:literal $unit:literal $meaning:literal $bounds:ident) => {
        pub static $id: Histograms<{ <[&str]>::len(&[$($label),*]) }> =
            Histograms::new(about!(Histogram [$($label),*] $name $unit $meaning), $bounds);
    };
}

macro_rules! about {
    ($kind:ident [$($label:literal),*] $name:literal $unit:literal $meaning:literal) => {
        About {
            name: $name,
            unit: $unit,
            meaning: $meaning,
            labels: &[$($label),*],
            kind: Kind::$kind,
        }
    };
}

families! {
    counter RECORDS_READ ["feed"] = "tidegate.read.records", "{record}", "Records decoded from Kafka, once per stream that read them";
    counter BYTES_READ ["feed"] = "tidegate.read.bytes", "By", "Key, value and header bytes of those records";
    counter RECORDS_REJECTED ["feed", "class"] = "tidegate.read.rejected", "{record}", "Records that could not be decoded, by the class of their reasons";
    counter RECORDS_WARNED ["feed"] = "tidegate.read.warned", "{record}", "Records taken although a column's check failed, once for each check";
    counter REGISTRY_WAITS ["feed"] = "tidegate.registry.waits", "{attempt}", "Times a partition could not ask for the schemas of its records, and waited";
    counter SINK_RECORDS ["feed", "sink"] = "tidegate.sink.records", "{record}", "Records durable in a sink, rejects included";
    counter SINK_REFUSED ["feed", "sink"] = "tidegate.sink.refused", "{record}", "Records that a sink alone refused";
    counter SINK_COMMITS ["feed", "sink"] = "tidegate.sink.commits", "{commit}", "Commits to a lake table, or transactions of the warehouse";
    histogram SINK_COMMIT_SECONDS ["feed", "sink"] = "tidegate.sink.commit.duration", "s", "How long a commit took, with what was tried in vain", SECONDS;
    histogram SINK_BATCH ["feed", "sink"] = "tidegate.sink.commit.records", "{record}", "Records of a commit", RECORDS;
    counter SINK_RETRIES ["feed", "sink"] = "tidegate.sink.retries", "{attempt}", "Writes tried again after a passing error";
    counter FENCED ["feed", "sink"] = "tidegate.sink.fenced", "{batch}", "Batches that a sink refused because another owner or offset stood there";
    counter LAKE_FILES ["feed"] = "tidegate.lake.files", "{file}", "Files committed to lake tables";
    counter LAKE_BYTES ["feed"] = "tidegate.lake.bytes", "By", "Bytes of those files";
    counter LANES_DETACHED ["feed", "sink"] = "tidegate.lanes.detached", "{lane}", "Times a sink was detached from a partition";
    counter LANES_JOINED ["feed", "sink"] = "tidegate.lanes.joined", "{lane}", "Times a detached sink caught up and joined again";
    counter PARTITIONS_PARKED ["feed"] = "tidegate.partitions.parked", "{partition}", "Times a partition was parked";
    counter ACTOR_RESTARTS ["actor"] = "tidegate.actor.restarts", "{actor}", "Actors found dead and built anew";
    counter DECISIONS ["action", "decision"] = "tidegate.decisions", "{decision}", "What permission rows decided for callers of the API";
    counter AUDIT_ROWS [] = "tidegate.audit.rows", "{row}", "Rows of the audit put on the volume, on their way to the database";
    counter AUDIT_REFUSED [] = "tidegate.audit.refused", "{row}", "Rows of the audit that found no room there, with what they were about";
    counter CHORES_RUN ["chore"] = "tidegate.chores.run", "{run}", "Chores of the janitor that were done here";
    counter CHORES_FAILED ["chore"] = "tidegate.chores.failed", "{run}", "Of these, those that failed for some table";
    histogram CHORE_SECONDS ["chore"] = "tidegate.chores.duration", "s", "How long a chore took", SECONDS;
    gauge CHORE_LAST ["chore"] = "tidegate.chores.last", "s", "When a chore was done last, by whichever node: seconds since 1970, told by the janitor's node alone";
    gauge CHORE_DUE ["chore"] = "tidegate.chores.due", "s", "When a chore is due next: seconds since 1970, told by the janitor's node alone";
    gauge JANITOR [] = "tidegate.janitor.active", "{node}", "One on the node that is the janitor, else nothing";
    counter ROWS_EXPIRED ["sink"] = "tidegate.retention.rows", "{row}", "Rows that retention took out";
    counter FILES_COMPACTED [] = "tidegate.compaction.files", "{file}", "Small files that were joined";
    counter LOG_FILES_TAKEN_OUT [] = "tidegate.log.files", "{file}", "Old entries and checkpoints taken out of Delta logs";
    counter FILES_SWEPT [] = "tidegate.vacuum.files", "{file}", "Files deleted that nothing referred to";
    gauge LAG_RECORDS ["feed", "sink"] = "tidegate.lag.records", "{record}", "Offsets of this node's partitions that are not durable in a sink";
    gauge LAG_AGE ["feed", "sink"] = "tidegate.lag.age", "s", "Age of the oldest record of them, as far as it was read; at least so long they have waited";
    gauge LANES_BEHIND ["feed", "sink"] = "tidegate.lanes.behind", "{lane}", "Partitions of this node from which a sink is detached now";
    gauge PARTITIONS_OWNED ["feed", "state"] = "tidegate.partitions.owned", "{partition}", "Partitions of this node: running, claiming, waiting for a first record, failing or parked";
    gauge MEMORY_USED [] = "tidegate.memory.used", "By", "What is charged to the memory budget";
    gauge MEMORY_LIMIT [] = "tidegate.memory.limit", "By", "The memory budget, less what librdkafka's queue and encoders are given";
    gauge DELIVERIES_WAITING ["feed", "sink"] = "tidegate.deliveries.waiting", "{batch}", "Batches handed to a sink's writer and not answered";
    gauge KAFKA_QUEUE_BYTES ["stream"] = "tidegate.kafka.queue", "By", "Bytes in librdkafka's queue";
    gauge KAFKA_RECEIVED_BYTES ["stream"] = "tidegate.kafka.received", "By", "Bytes that librdkafka has received since its consumer began";
    gauge KAFKA_REQUESTS ["stream"] = "tidegate.kafka.requests", "{request}", "Requests that librdkafka has sent since its consumer began";
    gauge KAFKA_REBALANCES ["stream"] = "tidegate.kafka.rebalances", "{rebalance}", "Rebalances of the group since this consumer began";
    counter CONSUMED_MESSAGES ["messaging.destination.name", "messaging.system", "messaging.operation.name"] = "messaging.client.consumed.messages", "{message}", "Messages that were decoded, by topic, by OpenTelemetry's conventions";
    histogram PROCESS_SECONDS ["messaging.destination.name", "messaging.system", "messaging.operation.name"] = "messaging.process.duration", "s", "How long a batch took to be decoded, by OpenTelemetry's conventions", SECONDS;
    histogram DB_OPERATION_SECONDS ["db.system.name", "db.operation.name"] = "db.client.operation.duration", "s", "How long a statement of a transaction took, by OpenTelemetry's conventions", SECONDS;
    gauge BUILD ["version"] = "tidegate.build", "{release}", "One, of the release that runs";
}

/// Something that is there as long as the node is.
fn say_build() {
    BUILD.set([env!("CARGO_PKG_VERSION")], 1.0);
}

/// All numbers as Prometheus reads them (text format 0.0.4).
pub fn exposition() -> String {
    say_build();
    let mut text = String::new();
    ALL.iter().for_each(|family| family.expose(&mut text));
    text
}

/// Offers every family to the global OpenTelemetry meter provider. `observe` sets the gauges anew: it is called
/// before each of them is read, and so does something once in a while only.
pub fn register(observe: impl Fn() + Send + Sync + 'static) {
    say_build();
    let meter = global::meter("tidegate");
    // What is registered first is read first.
    let _ = meter
        .u64_observable_counter("tidegate.readings")
        .with_description("How often the numbers were read")
        .with_callback(move |_| observe())
        .build();
    ALL.iter().for_each(|family| family.offer(&meter));
}

/// The page about all of them.
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "# Metrics\n\nWith `telemetry: {listen: '127.0.0.1:9464'}` in its file a node answers `GET /metrics` in \
         Prometheus's text format.\nCounters begin with 0 when a node starts. Labels are of few values: no metric \
         has a label for a partition, and of more\nthan 2,000 sets of labels the rest is counted together under \
         `_other`.\n\nThis page is made by the program: `tidegate config metrics`.\n\n\
         | name | labels | type | unit | meaning |\n|---|---|---|---|---|\n",
    );
    for family in ALL {
        let about = family.about();
        let labels: Vec<String> =
            about.labels.iter().map(|label| format!("`{}`", label.replace('.', "_"))).collect();
        // To a text nothing fails to be written.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            about.exposed(),
            labels.join(", "),
            about.kind.name(),
            match about.unit {
                "By" => "bytes",
                "s" => "seconds",
                "1" => "",
                unit => unit.trim_matches(['{', '}']),
            },
            about.meaning
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_explained() {
        let mut names: Vec<String> = ALL.iter().map(|family| family.about().exposed()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for family in ALL {
            let about = family.about();
            let ours = about.name.starts_with("tidegate.");
            // Those of OpenTelemetry's conventions say so.
            assert!(
                ours != about.meaning.contains("OpenTelemetry's conventions"),
                "{}",
                about.name
            );
            assert!(!about.meaning.ends_with('.'), "{}", about.name);
            assert!(about.labels.iter().all(|label| *label != "partition"), "{}", about.name);
        }
    }

    #[test]
    fn what_is_not_ours_is_as_the_conventions_have_it() {
        use opentelemetry_semantic_conventions::{attribute, metric};
        let published = [
            (metric::MESSAGING_CLIENT_CONSUMED_MESSAGES, "{message}", Kind::Counter),
            (metric::MESSAGING_PROCESS_DURATION, "s", Kind::Histogram),
            (metric::DB_CLIENT_OPERATION_DURATION, "s", Kind::Histogram),
        ];
        let labels = [
            attribute::MESSAGING_SYSTEM,
            attribute::MESSAGING_OPERATION_NAME,
            attribute::MESSAGING_DESTINATION_NAME,
            attribute::DB_SYSTEM_NAME,
            attribute::DB_OPERATION_NAME,
        ];
        let others = ALL.iter().map(|family| family.about());
        let others: Vec<_> = others.filter(|about| !about.name.starts_with("tidegate.")).collect();
        assert_eq!(others.len(), published.len());
        for about in others {
            assert!(published.contains(&(about.name, about.unit, about.kind)), "{about:?}");
            assert!(about.labels.iter().all(|label| labels.contains(label)), "{about:?}");
        }
    }

    #[test]
    fn each_family_is_in_what_prometheus_reads() {
        let text = exposition();
        for family in ALL {
            let about = family.about();
            let head = format!("# TYPE {} {}\n", about.exposed(), about.kind.name());
            assert!(text.contains(&head), "{head}");
        }
        assert!(text.contains("tidegate_build{version=\""));
    }
}
