//! The metrics registry: every counter of the node, with its name, unit and meaning, in one place.
//!
//! Counting is one atomic addition. [`register`] lets OpenTelemetry observe the counters; without a
//! provider that costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::global;

/// A number that only grows.
pub struct Counter {
    pub name: &'static str,
    pub unit: &'static str,
    pub meaning: &'static str,
    value: AtomicU64,
}

impl Counter {
    const fn new(name: &'static str, unit: &'static str, meaning: &'static str) -> Self {
        Self { name, unit, meaning, value: AtomicU64::new(0) }
    }

    pub fn add(&self, more: u64) {
        self.value.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($id:ident = $name:literal, $unit:literal, $meaning:literal;)*) => {
        $(pub static $id: Counter = Counter::new($name, $unit, $meaning);)*
        /// Every counter there is.
        pub static ALL: &[&Counter] = &[$(&$id),*];
    };
}

counters! {
    RECORDS_READ = "tidegate.records.read", "{record}", "Records decoded from Kafka, once per stream that read them";
    BYTES_READ = "tidegate.bytes.read", "By", "Key, value and header bytes of those records";
    RECORDS_REJECTED = "tidegate.records.rejected", "{record}", "Records that could not be decoded";
    RECORDS_WARNED = "tidegate.records.warned", "{record}", "Records taken although a column's check failed, once for each check";
    WAREHOUSE_REFUSED = "tidegate.warehouse.refused", "{record}", "Records the warehouse alone refused";
    LAKE_RECORDS = "tidegate.lake.records", "{record}", "Records durable in the lake, rejects included";
    LAKE_COMMITS = "tidegate.lake.commits", "{commit}", "Commits to lake tables";
    LAKE_FILES = "tidegate.lake.files", "{file}", "Files committed to lake tables";
    LAKE_BYTES = "tidegate.lake.bytes", "By", "Bytes of those files";
    WAREHOUSE_RECORDS = "tidegate.warehouse.records", "{record}", "Records durable in the warehouse, rejects included";
    WAREHOUSE_COMMITS = "tidegate.warehouse.commits", "{commit}", "Transactions committed in the warehouse";
    FENCED = "tidegate.fenced", "{batch}", "Batches a sink refused because another owner or offset stood there";
    SINK_RETRIES = "tidegate.sink.retries", "{attempt}", "Writes tried again after a passing error";
    LANES_DETACHED = "tidegate.lanes.detached", "{lane}", "Times a sink was detached from a partition";
    LANES_JOINED = "tidegate.lanes.joined", "{lane}", "Times a detached sink caught up and joined again";
    PARTITIONS_PARKED = "tidegate.partitions.parked", "{partition}", "Times a partition was parked";
    REGISTRY_WAITS = "tidegate.registry.waits", "{attempt}", "Times a partition could not ask for the schemas of its records, and waited";
    AUDIT_ROWS = "tidegate.audit.rows", "{row}", "Rows of the audit put on the volume, on their way to the database";
    AUDIT_REFUSED = "tidegate.audit.refused", "{row}", "Rows of the audit that found no room there, with what they were about";
    CHORES_RUN = "tidegate.chores.run", "{run}", "Chores of the janitor that were done";
    CHORES_FAILED = "tidegate.chores.failed", "{run}", "Of these, those that failed for some table";
    ROWS_EXPIRED = "tidegate.retention.rows", "{row}", "Rows that retention took out of the lake";
    WAREHOUSE_ROWS_EXPIRED = "tidegate.retention.warehouse.rows", "{row}", "Old rows taken out of the warehouse's tables";
    FILES_COMPACTED = "tidegate.compaction.files", "{file}", "Small files that were joined";
    LOG_FILES_TAKEN_OUT = "tidegate.log.files", "{file}", "Old entries and checkpoints taken out of Delta logs";
    FILES_SWEPT = "tidegate.vacuum.files", "{file}", "Files deleted that nothing referred to";
    ACTOR_RESTARTS = "tidegate.actor.restarts", "{actor}", "Actors found dead and built anew";
}

/// Offers every counter to the global OpenTelemetry meter provider.
pub fn register() {
    let meter = global::meter("tidegate");
    for counter in ALL {
        let counter: &'static Counter = counter;
        meter
            .u64_observable_counter(counter.name)
            .with_unit(counter.unit)
            .with_description(counter.meaning)
            .with_callback(move |observer| observer.observe(counter.get(), &[]))
            .build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_explained() {
        let mut names: Vec<_> = ALL.iter().map(|counter| counter.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|counter| counter.name.starts_with("tidegate.")));
        assert!(ALL.iter().all(|counter| !counter.meaning.is_empty()));
    }
}
