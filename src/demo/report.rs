//! The report: what arrived where, for a person and for a script.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::holdings::{ByTopic, Holdings};
use super::promise::Promise;
use super::verdict::{Appended, Keyed};
use super::{Options, folder};
use crate::generate::Topic;

/// What was promised and what was found.
pub struct Sides {
    pub promised: Promise,
    pub lake: ByTopic,
    pub warehouse: ByTopic,
}

/// What the sinks take on disk.
pub struct Store {
    pub streams: Volume,
    pub tables: Volume,
    pub warehouse_bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Volume {
    pub files: u64,
    pub commits: u64,
    pub bytes: u64,
}

/// The numbers on top are those of the append feeds, so that in each sink `records_in` is `rows` and
/// `quarantined` together; those of the keyed feeds are in `tables`.
#[derive(Debug, Serialize)]
pub struct Report {
    pub verdict: &'static str,
    pub records_in: u64,
    pub bytes_in: u64,
    pub lake: Side<Appended>,
    pub warehouse: Side<Appended>,
    pub tables: Tables,
    pub quarantined: u64,
    /// By class, streams and tables.
    pub quarantine: BTreeMap<String, u64>,
    pub parquet_bytes: u64,
    pub files: u64,
    pub commits: u64,
    pub warehouse_bytes: u64,
    pub seconds: f64,
    /// Records of all feeds, each into two sinks.
    pub records_per_second: f64,
    pub messages: u64,
    pub seed: u64,
    pub bad_ratio: f64,
    pub dir: PathBuf,
}

/// One sink, together and by feed.
#[derive(Debug, Default, Serialize)]
pub struct Side<T> {
    #[serde(flatten)]
    pub all: T,
    pub feeds: BTreeMap<&'static str, T>,
}

/// The keyed feeds: their changes are appended to the lake and folded in the warehouse.
#[derive(Debug, Default, Serialize)]
pub struct Tables {
    pub records_in: u64,
    pub bytes_in: u64,
    pub keys: u64,
    pub upserts: u64,
    pub deletes: u64,
    pub quarantined: u64,
    pub parquet_bytes: u64,
    pub files: u64,
    pub commits: u64,
    pub lake: Side<Appended>,
    /// The final row of each key, folded from the lake's changes.
    pub folded: Side<Keyed>,
    pub warehouse: Side<Keyed>,
}

impl Report {
    pub fn new(options: &Options, took: Duration, sides: Sides, store: Store) -> Self {
        let Sides { promised, lake, warehouse } = &sides;
        let (mut in_lake, mut in_warehouse) = (Side::default(), Side::default());
        let mut tables = Tables {
            parquet_bytes: store.tables.bytes,
            files: store.tables.files,
            commits: store.tables.commits,
            ..Tables::default()
        };
        let (mut records_in, mut bytes_in) = (0, 0);
        let mut quarantine = BTreeMap::new();
        for topic in Topic::DEMO {
            let index = topic as usize;
            let (wanted, published) = (&promised.topics[index], promised.published[index]);
            for (class, count) in &warehouse[index].quarantined {
                *quarantine.entry(class.clone()).or_default() += count;
            }
            if topic.is_table() {
                tables.add(topic, wanted, published, &lake[index], &warehouse[index]);
                continue;
            }
            records_in += published.0;
            bytes_in += published.1;
            in_lake.add(topic, Appended::of(wanted, &lake[index]));
            in_warehouse.add(topic, Appended::of(wanted, &warehouse[index]));
        }
        let ok = in_lake.all.is_ok() && in_warehouse.all.is_ok() && tables.is_ok();
        let seconds = took.as_secs_f64();
        Self {
            verdict: if ok { "ok" } else { "difference" },
            records_in,
            bytes_in,
            quarantined: in_warehouse.all.quarantined,
            quarantine,
            lake: in_lake,
            warehouse: in_warehouse,
            parquet_bytes: store.streams.bytes,
            files: store.streams.files,
            commits: store.streams.commits,
            warehouse_bytes: store.warehouse_bytes,
            seconds,
            records_per_second: (records_in + tables.records_in) as f64 / seconds,
            tables,
            messages: options.messages,
            seed: options.seed,
            bad_ratio: options.bad,
            dir: options.folder.clone(),
        }
    }

    pub fn is_ok(&self) -> bool {
        self.verdict == "ok"
    }
}

impl<T: AddAssign + Copy> Side<T> {
    fn add(&mut self, topic: Topic, compared: T) {
        self.all += compared;
        self.feeds.insert(topic.name(), compared);
    }
}

impl Tables {
    fn add(
        &mut self,
        topic: Topic,
        promised: &Holdings,
        published: (u64, u64),
        lake: &Holdings,
        warehouse: &Holdings,
    ) {
        self.records_in += published.0;
        self.bytes_in += published.1;
        self.lake.add(topic, Appended::of(promised, lake));
        self.folded.add(topic, Keyed::of(promised, lake));
        self.warehouse.add(topic, Keyed::of(promised, warehouse));
        self.keys = self.warehouse.all.keys;
        self.deletes += lake.deletes;
        self.upserts += lake.rows - lake.deletes;
        self.quarantined = self.warehouse.all.quarantined;
    }

    fn is_ok(&self) -> bool {
        self.lake.all.is_ok() && self.folded.all.is_ok() && self.warehouse.all.is_ok()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = self.records_in + self.tables.records_in;
        let bytes = self.bytes_in + self.tables.bytes_in;
        writeln!(
            f,
            "{} records ({} of JSON) from Kafka into both sinks in {:.1} s: {} records/s\n",
            HumanCount(records),
            HumanBytes(bytes),
            self.seconds,
            HumanCount(self.records_per_second as u64)
        )?;
        self.streams(f)?;
        self.keyed(f)?;
        let parquet = self.parquet_bytes + self.tables.parquet_bytes;
        writeln!(
            f,
            "Lake        {} of Parquet, {:.0} % of the JSON; {} files in {} commits",
            HumanBytes(parquet),
            100.0 * parquet as f64 / bytes.max(1) as f64,
            HumanCount(self.files + self.tables.files),
            HumanCount(self.commits + self.tables.commits)
        )?;
        writeln!(f, "Warehouse   {} of SQLite", HumanBytes(self.warehouse_bytes))?;
        let classes: Vec<String> = self
            .quarantine
            .iter()
            .map(|(class, count)| format!("{} {class}", HumanCount(*count)))
            .collect();
        let classes = if classes.is_empty() { "empty".to_owned() } else { classes.join(", ") };
        writeln!(f, "Quarantine  {classes}")?;
        match self.is_ok() {
            true => writeln!(
                f,
                "Verdict     ok: each record exactly once in each sink, compared with the records \
                 made again from seed {}",
                self.seed
            )?,
            false => writeln!(f, "Verdict     DIFFERENCE: {}", self.differences())?,
        }
        f.write_str(&next(&self.dir))
    }
}

impl Report {
    fn streams(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<32} {:>13} {:>13} {:>13}", "stream", "lake", "warehouse", "quarantined")?;
        for (feed, lake) in &self.lake.feeds {
            let rows = self.warehouse.feeds.get(feed).map_or(0, |side| side.rows);
            let numbers = [lake.rows, rows, lake.quarantined].map(|n| HumanCount(n).to_string());
            writeln!(f, "{feed:<32} {:>13} {:>13} {:>13}", numbers[0], numbers[1], numbers[2])?;
        }
        Ok(())
    }

    fn keyed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<32} {:>13} {:>13}", "table", "changes", "rows")?;
        for (feed, lake) in &self.tables.lake.feeds {
            let keys = self.tables.warehouse.feeds.get(feed).map_or(0, |side| side.keys);
            let numbers = [lake.rows, keys, lake.quarantined].map(|n| HumanCount(n).to_string());
            writeln!(f, "{feed:<32} {:>13} {:>13} {:>13}", numbers[0], numbers[1], numbers[2])?;
        }
        writeln!(f)
    }

    /// Every difference with its feed and sink.
    fn differences(&self) -> String {
        let mut found = String::new();
        let mut say = |feed: &str, sink: &str, what: &str, count: u64| {
            if count > 0 {
                let comma = if found.is_empty() { "" } else { "; " };
                // Writing to a string does not fail.
                let _ = write!(found, "{comma}{feed} in the {sink}: {count} {what}");
            }
        };
        let appended = [
            ("lake", &self.lake.feeds),
            ("warehouse", &self.warehouse.feeds),
            ("lake", &self.tables.lake.feeds),
        ];
        for (sink, feeds) in appended {
            for (feed, side) in feeds {
                say(feed, sink, "lost", side.lost);
                say(feed, sink, "doubled", side.doubled);
                say(feed, sink, "that nobody published", side.foreign);
                say(feed, sink, "of other content", side.altered);
                say(feed, sink, "quarantined amiss", side.misplaced);
            }
        }
        let keyed =
            [("lake", &self.tables.folded.feeds), ("warehouse", &self.tables.warehouse.feeds)];
        for (sink, feeds) in keyed {
            for (feed, side) in feeds {
                say(feed, sink, "keys missing", side.missing);
                say(feed, sink, "keys too many", side.foreign);
                say(feed, sink, "keys with another total", side.altered);
                if sink == "warehouse" {
                    say(feed, sink, "quarantined amiss", side.misplaced);
                }
            }
        }
        found
    }
}

/// What to try on what is left: no broker is needed for it.
fn next(dir: &Path) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "tidegate".to_owned());
    let (node, warehouse) = (folder::node(dir), folder::warehouse(dir));
    let files = folder::lake(dir).join("streams/transaction_log/*/*/*/*.parquet");
    format!(
        "\nIt is all in {dir}, the configuration too. To try next, without a broker:\n\
         \n  {program} quarantine list -c {node}\
         \n  sqlite3 -box {warehouse} \"select payment_method, total_amount, transaction_count \
         from payment_method_totals\"\
         \n  python3 -c \"import duckdb; print(duckdb.read_parquet('{files}')\
         .aggregate('status, count(*), sum(amount)'))\"   (pip install duckdb)\n",
        dir = dir.display(),
        node = node.display(),
        warehouse = warehouse.display(),
        files = files.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::promise;
    use super::*;
    use crate::generate::Generator;

    fn report(doctor: impl FnOnce(&mut Sides)) -> Report {
        let options = Options { folder: "demo".into(), messages: 500, seed: 3, bad: 0.05 };
        let promised = promise::of(Generator::new(3, 500, 0.05));
        let lake = promised.topics.clone();
        let mut warehouse = promised.topics.clone();
        for topic in Topic::DEMO.into_iter().filter(|topic| topic.is_table()) {
            let of = &mut warehouse[topic as usize];
            of.rows = of.keys.len() as u64;
        }
        let mut sides = Sides { promised, lake, warehouse };
        doctor(&mut sides);
        let store =
            Store { streams: Volume::default(), tables: Volume::default(), warehouse_bytes: 0 };
        Report::new(&options, Duration::from_secs(2), sides, store)
    }

    #[test]
    fn records_in_are_rows_and_quarantined() {
        let report = report(|_| {});
        assert!(report.is_ok(), "{report}");
        assert!(report.quarantined > 0);
        for side in [&report.lake, &report.warehouse] {
            assert_eq!(report.records_in, side.all.rows + report.quarantined);
        }
        let tables = &report.tables;
        assert_eq!(tables.records_in, tables.upserts + tables.deletes + tables.quarantined);
        let json = serde_json::to_value(&report).unwrap();
        for (path, is) in [
            ("/verdict", serde_json::json!("ok")),
            ("/lake/lost", 0.into()),
            ("/warehouse/doubled", 0.into()),
            ("/lake/feeds/transaction_log/lost", 0.into()),
        ] {
            assert_eq!(json.pointer(path), Some(&is), "{path}");
        }
    }

    /// Changes something, given a stream's and a table's index.
    type Doctor = fn(&mut Sides, usize, usize);

    #[test]
    fn a_difference_in_any_place_is_the_verdict() {
        let log = Topic::TransactionLog as usize;
        let table = Topic::UserTransactionSummary as usize;
        let doctors: [(&str, Doctor); 6] = [
            ("transaction_log in the lake: 1 doubled", |sides, log, _| sides.lake[log].rows += 1),
            ("transaction_log in the warehouse: 1 lost", |sides, log, _| {
                sides.warehouse[log].rows -= 1;
                sides.warehouse[log].distinct -= 1;
            }),
            ("transaction_log in the warehouse: 1 of other content", |sides, log, _| {
                sides.warehouse[log].cents += 1;
            }),
            ("user_transaction_summary in the warehouse: 1 keys missing", |sides, _, table| {
                drop(sides.warehouse[table].keys.pop_first());
            }),
            (
                "user_transaction_summary in the lake: 1 keys with another total",
                |sides, _, table| {
                    sides.lake[table].keys.values_mut().next().unwrap().count += 1;
                },
            ),
            ("transaction_log in the lake: 1 quarantined amiss", |sides, log, _| {
                *sides.lake[log].quarantined.values_mut().next().unwrap() -= 1;
            }),
        ];
        for (says, doctor) in doctors {
            let report = report(|sides| doctor(sides, log, table));
            assert_eq!(report.verdict, "difference", "{says}");
            assert!(report.to_string().contains(says), "{says}: {report}");
        }
    }
}
