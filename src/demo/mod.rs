//! The demo: a whole installation in one process, from the broker to the report.
//!
//! An in-process broker, the generator, a real node on the folder's own configuration, a local lake
//! and a SQLite warehouse. When everything is durable the node is drained, and what the sinks hold is
//! compared with the records, made again from the seed. The sinks are read as any client would read
//! them: the Delta logs and Parquet files from disk, the warehouse by SQL.

mod broker;
mod course;
mod folder;
mod holdings;
mod lake;
mod lead;
mod promise;
mod report;
mod verdict;
mod warehouse;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use self::broker::MockBroker;
use self::course::{Course, End};
use self::lake::Lake;
use self::report::Sides;
use self::warehouse::Warehouse;
use crate::app::{App, Running};
use crate::config::{self, Faults};
use crate::generate::Generator;
use crate::publish::{PublishError, Publisher};
use crate::record::SinkError;
use crate::telemetry::print::tell;

pub use report::Report;

/// What to show.
#[derive(Debug, Clone)]
pub struct Options {
    pub folder: PathBuf,
    /// Records of `transaction_log`.
    pub messages: u64,
    pub seed: u64,
    /// Share of bad records.
    pub bad: f64,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The folder is somebody's: nothing was touched.
    #[error("{0}")]
    Refused(String),
    #[error("stopped: what {} holds is incomplete", .0.display())]
    Stopped(PathBuf),
    #[error("{0}")]
    Failed(String),
}

impl DemoError {
    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<PublishError> for DemoError {
    fn from(error: PublishError) -> Self {
        Self::failed(error)
    }
}

impl From<Faults> for DemoError {
    fn from(faults: Faults) -> Self {
        Self::failed(faults)
    }
}

impl From<SinkError> for DemoError {
    fn from(error: SinkError) -> Self {
        Self::failed(error)
    }
}

/// Runs the whole demo until its report, or until `stop`.
pub fn run(options: &Options, stop: &AtomicBool) -> Result<Report, DemoError> {
    folder::clear(&options.folder)?;
    let broker = MockBroker::start().map_err(DemoError::failed)?;
    let file = folder::furnish(&options.folder, &broker.address(), options)?;
    let (node, feeds) = config::load(&file)?;
    let publisher = Publisher::open(&node.kafka, "")?;
    let running = App::build(node, feeds, crate::app::Options::default())?.start();
    let ended = carry(options, &publisher, &running, stop);
    let code = running.stop();
    drop((publisher, broker));
    let seconds = ended?;
    if code != 0 {
        return Err(DemoError::failed(format!("the node ended with code {code}")));
    }
    tell!("The node is stopped. Comparing both sinks with the records, made again from the seed.");
    check(options, seconds)
}

/// Publishes everything and waits until it is durable in both sinks. Answers how long that took.
fn carry(
    options: &Options,
    publisher: &Publisher,
    running: &Running,
    stop: &AtomicBool,
) -> Result<Duration, DemoError> {
    let mut course = Course::open(options, stop)?;
    let generator = Generator::new(options.seed, options.messages, options.bad);
    let tally =
        publisher.publish(generator, &crate::generate::Topic::DEMO, |tally| course.allow(tally));
    let (seconds, end) = course.finish(&tally);
    match end {
        End::Durable => Ok(seconds),
        End::Stopped => Err(DemoError::Stopped(options.folder.clone())),
        End::Failed(reason) => Err(DemoError::Failed(reason)),
        End::Still => {
            tell!("The node carries no more; the partitions as it sees them:");
            for of in running.status().unwrap_or_default() {
                tell!("  {} {}-{}: {}", of.feed, of.topic, of.partition, of.state);
            }
            Ok(seconds)
        }
    }
}

/// Compares the sinks with the records made again from the seed.
fn check(options: &Options, took: Duration) -> Result<Report, DemoError> {
    let generator = Generator::new(options.seed, options.messages, options.bad);
    let (promised, found) = std::thread::scope(|scope| {
        let promise = scope.spawn(move || promise::of(generator));
        let found = read_sinks(options);
        (promise.join(), found)
    });
    let promised =
        promised.map_err(|_| DemoError::failed("the records could not be made again"))?;
    let (lake, warehouse, store) = found?;
    Ok(Report::new(options, took, Sides { promised, lake, warehouse }, store))
}

type Found = (holdings::ByTopic, holdings::ByTopic, report::Store);

fn read_sinks(options: &Options) -> Result<Found, DemoError> {
    let mut lake = Lake::open(&folder::lake(&options.folder));
    let warehouse = Warehouse::open(&folder::warehouse(&options.folder))?;
    lake.refresh()?;
    let in_lake = lake.holdings()?;
    let in_warehouse = warehouse.holdings()?;
    let size = std::fs::metadata(folder::warehouse(&options.folder)).map_or(0, |file| file.len());
    let store = report::Store {
        streams: lake.volume(|topic| !topic.is_table()),
        tables: lake.volume(|topic| topic.is_table()),
        warehouse_bytes: size,
    };
    Ok((in_lake, in_warehouse, store))
}
