//! A place for one question about the source: topics of numbered records, and feeds by hand.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use crate::node::{Node, tidegate};
use crate::world::{Setup, World};
use crate::{kafka, lake};

/// What a test waits for takes a second or two; a loaded machine may need more.
pub const SOON: Duration = Duration::from_secs(30);

/// The columns of a numbered record.
pub const COLUMNS: &str = "columns: [{name: id, type: long, required: true}]";

pub struct Place {
    pub world: World,
    topics: Vec<String>,
}

/// A row as both sinks hold it: partition, offset, id.
pub type Row = (i32, i64, i64);

impl Place {
    pub fn new(name: &'static str) -> Self {
        Self::with_protocol(name, "auto")
    }

    pub fn with_protocol(name: &'static str, protocol: &'static str) -> Self {
        Self::with(Setup { name, protocol, ..Setup::default() })
    }

    /// One whose feeds have this format in the lake.
    pub fn with_format(name: &'static str, format: &'static str) -> Self {
        Self::with(Setup { name, format, ..Setup::default() })
    }

    pub fn with(setup: Setup) -> Self {
        let world = World::new(Setup { topics: &[], ..setup });
        let place = Self { world, topics: Vec::new() };
        // What was parked is looked at again, and new topics are found, while the test waits.
        let refresh = "settings: {topic.metadata.refresh.interval.ms: 2000}, protocol";
        place.edit_node(|text| text.replace("protocol", refresh) + "park_retry: 1s\n");
        place
    }

    pub fn edit_node(&self, edit: impl FnOnce(&str) -> String) {
        let text = std::fs::read_to_string(&self.world.config).expect("the node file");
        std::fs::write(&self.world.config, edit(&text)).expect("the node file");
    }

    /// A topic's name, unlike any other test's.
    pub fn name(&self, short: &str) -> String {
        format!("{}-{short}", self.world.database.name)
    }

    pub fn topic(&mut self, short: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
        let name = self.name(short);
        kafka::create_topic(&name, partitions, settings);
        self.topics.push(name.clone());
        name
    }

    /// A feed file; `lines` say all but the name, the type and the lake's cadence.
    pub fn feed(&self, name: &str, lines: &str) {
        let text = format!("feed: '{name}'\ntype: stream\n{lines}\n");
        let lake = format!("lake: {{linger: 200ms, format: {}}}\n", self.world.format);
        let lake = if lines.contains("lake:") { "" } else { &lake };
        let file = name.replace(['{', '}'], "");
        let path = self.folder().join(format!("feeds/{file}.yaml"));
        std::fs::write(path, text + lake).expect("a feed file");
    }

    /// A feed of numbered records with nothing special about it.
    pub fn plain_feed(&self, name: &str, topic: &str) {
        self.feed(name, &format!("topic: {topic}\n{COLUMNS}"));
    }

    pub fn folder(&self) -> PathBuf {
        self.world.config.parent().expect("a folder").to_owned()
    }

    pub fn node(&self) -> Node {
        self.world.node("node")
    }

    pub fn warehouse(&self, table: &str) -> Vec<Row> {
        let there = format!("SELECT to_regclass('\"{table}\"') IS NOT NULL");
        if !self.world.database.query(&there)[0].get::<_, bool>(0) {
            return Vec::new();
        }
        let rows = format!("SELECT _partition, _offset, id FROM \"{table}\" ORDER BY 1, 2");
        let rows = self.world.database.query(&rows);
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    pub fn lake_table(&self, feed: &str) -> PathBuf {
        self.world.lake_root().join("streams").join(feed)
    }

    pub fn lake(&self, feed: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for file in lake::files(&self.lake_table(feed)) {
            let file =
                std::fs::File::open(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
            for batch in reader.build().expect("a reader") {
                let batch = batch.expect("a batch");
                let column = |name| batch.column_by_name(name).expect("the column");
                let partitions = column("_partition").as_primitive::<Int32Type>().values().iter();
                let offsets = column("_offset").as_primitive::<Int64Type>().values().iter();
                let ids = column("id").as_primitive::<Int64Type>().values().iter();
                let of_batch = partitions.zip(offsets).zip(ids);
                rows.extend(of_batch.map(|((partition, offset), id)| (*partition, *offset, *id)));
            }
        }
        rows.sort_unstable();
        rows
    }

    /// Waits until both sinks hold exactly these records, each once.
    pub fn wait_for_ids(&self, feed: &str, ids: impl IntoIterator<Item = i64>) {
        self.wait_for_table(feed, feed, ids);
    }

    pub fn wait_for_table(&self, feed: &str, table: &str, ids: impl IntoIterator<Item = i64>) {
        let mut wanted: Vec<i64> = ids.into_iter().collect();
        wanted.sort_unstable();
        let ids = |rows: Vec<Row>| {
            let mut ids: Vec<i64> = rows.into_iter().map(|(_, _, id)| id).collect();
            ids.sort_unstable();
            ids
        };
        let since = Instant::now();
        loop {
            let (warehouse, lake) = (ids(self.warehouse(table)), ids(self.lake(feed)));
            if warehouse == wanted && lake == wanted {
                return;
            }
            assert!(
                since.elapsed() < SOON,
                "{feed}: {wanted:?} wanted, warehouse {warehouse:?}, lake {lake:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How far each partition of a feed has come: in the warehouse, in the lake.
    pub fn watermarks(&self, feed: &str) -> (BTreeMap<i32, i64>, BTreeMap<i32, i64>) {
        let warehouse = self.world.warehouse_marks().into_iter();
        let warehouse = warehouse.filter(|((of, _), _)| of == feed);
        let warehouse = warehouse.map(|((_, partition), mark)| (partition, mark.next)).collect();
        (warehouse, lake::progress(&self.lake_table(feed)).into_iter().collect())
    }

    /// Waits until both sinks stand at these offsets, one for each partition.
    pub fn wait_for_watermarks(&self, feed: &str, ends: &[i64]) {
        let wanted: BTreeMap<i32, i64> = (0..).zip(ends.iter().copied()).collect();
        let since = Instant::now();
        loop {
            let found = self.watermarks(feed);
            if found.0 == wanted && found.1 == wanted {
                return;
            }
            assert!(since.elapsed() < SOON, "{feed}: {wanted:?} wanted, {found:?} found");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A command that takes the node file; its exit code and what it printed, errors last.
    pub fn command(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = tidegate();
        let out = command.args(arguments).arg("--config").arg(&self.world.config).output();
        let out = out.expect("the binary runs");
        let printed = [out.stdout, out.stderr].concat();
        let code = out.status.code().expect("it ended by itself");
        (code, String::from_utf8_lossy(&printed).into_owned())
    }

    /// `tidegate verify`, which must find no difference.
    pub fn verify(&self) -> Value {
        let mut command = tidegate();
        command.args(["verify", "--output", "json", "--config"]).arg(&self.world.config);
        let out = command.output().expect("the binary runs");
        let report: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|error| {
            panic!("verify: {}: {error}: {}", out.status, String::from_utf8_lossy(&out.stderr))
        });
        assert_eq!(report["verdict"], "ok", "{report:#}");
        report
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            kafka::delete_topics(&self.topics);
        }
    }
}

/// A producer of numbered records, each to a partition of one's choice.
pub struct Sender(pub BaseProducer);

impl Sender {
    pub fn new() -> Self {
        Self::with(&[])
    }

    pub fn with(settings: &[(&str, &str)]) -> Self {
        let mut config = kafka::config();
        config.set("linger.ms", "0");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        Self(config.create().expect("a producer"))
    }

    /// Sends, and waits until the broker has them.
    pub fn send(&self, topic: &str, partition: i32, ids: Range<i64>) {
        self.send_at(topic, partition, ids, None);
    }

    /// With a timestamp of its own, in milliseconds since the epoch.
    pub fn send_at(&self, topic: &str, partition: i32, ids: Range<i64>, at: Option<i64>) {
        for id in ids {
            let value = format!(r#"{{"id":{id},"note":"record {id}","half":{}.5}}"#, id % 7);
            let key = format!("key {}", id % 10);
            let mut record = BaseRecord::to(topic).partition(partition).key(&key).payload(&value);
            record.timestamp = at;
            self.0
                .send(record)
                .unwrap_or_else(|(error, _)| panic!("producing to {topic}: {error}"));
        }
        self.0.flush(SOON).expect("the broker takes the records");
    }
}
