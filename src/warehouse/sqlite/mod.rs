//! The SQLite adapter: the embedded default, for one node.
//!
//! One connection, used on threads that may block. A writing transaction begins as IMMEDIATE, so it
//! is alone from its first statement to its last: what the fence reads holds until COMMIT.

mod ad_hoc;
mod dimension;
mod expiry;
mod gaps;
mod governance;
mod janitor;
mod migrate;
mod progress;
mod reject;
mod replay;
mod rows;
mod snapshot;
mod sources;
mod table;
mod write;

pub(super) use self::ad_hoc::SqliteAdHoc;
pub(super) use self::governance::SqliteGovernance;
pub(super) use self::janitor::SqliteJanitor;
pub use self::migrate::bookkeeping;
pub(super) use self::rows::SqliteRows;
pub use self::table::create_table;

use std::collections::{BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tracing::warn;
use uuid::Uuid;

use self::table::Target;
use super::{
    ClaimRequest, KeptSnapshot, Part, Replay, Replayed, Settlement, Snapshot, Warehouse, shape,
};
use crate::config::{Column, ColumnType, Feed};
use crate::record::{
    Blame, Claim, GapReason, OffsetRange, Progress, SinkError, TopicId, TopicPartition, Verdict,
};

pub(super) struct Sqlite {
    file: Arc<Mutex<File>>,
}

/// The database file, opened when it is first needed.
struct File {
    path: PathBuf,
    connection: Option<Connection>,
    /// The feeds' tables as they were when last looked at.
    targets: HashMap<Arc<str>, Arc<Target>>,
}

/// How long to wait for another process that holds the file.
const BUSY: Duration = Duration::from_secs(5);

impl Sqlite {
    pub fn open(path: &Path) -> Result<Self, SinkError> {
        if path.as_os_str().is_empty() {
            return Err(SinkError::lasting("warehouse.url: sqlite: needs the name of a file"));
        }
        let file = File { path: path.to_owned(), connection: None, targets: HashMap::new() };
        Ok(Self { file: Arc::new(Mutex::new(file)) })
    }

    /// Runs `work` on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        doing: String,
        work: impl FnOnce(&mut File) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let file = self.file.clone();
        let task = tokio::task::spawn_blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut file)
        });
        match task.await {
            Ok(done) => done.map_err(|error| error.context(doing)),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(SinkError::passing("the node is going down")),
            },
        }
    }
}

impl Sqlite {
    /// Runs statements of one transaction.
    async fn transact<T: Send + 'static>(
        &self,
        doing: &str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SinkError> {
        let work = |file: &mut File| file.transaction(|it| work(it).map_err(judged));
        self.run(doing.to_owned(), work).await
    }
}

impl File {
    fn connection(&mut self) -> Result<&mut Connection, SinkError> {
        if self.connection.is_none() {
            self.connection = Some(connect(&self.path).map_err(judged)?);
        }
        match &mut self.connection {
            Some(connection) => Ok(connection),
            None => unreachable!("just opened"),
        }
    }

    /// Runs `work` in a transaction that is rolled back unless it ends well.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        let transaction = self.begin()?;
        let done = work(&transaction)?;
        transaction.commit().map_err(judged)?;
        Ok(done)
    }

    /// Rolled back when it is dropped before its COMMIT.
    fn begin(&mut self) -> Result<Transaction<'_>, SinkError> {
        let connection = self.connection()?;
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(judged)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    make_private(path);
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    log_ahead(&connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Makes the file for its owner alone, if it is not there: it holds rows, and who may see them. SQLite gives
/// its log beside it the same mode. One that is there keeps its own, which is told once.
fn make_private(path: &Path) {
    static TOLD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    // What else keeps it from being made SQLite says itself.
    if made.is_ok() {
        return;
    }
    let mode = std::fs::metadata(path).map_or(0, |stat| stat.mode() & 0o777);
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if mode & 0o077 != 0 && told.insert(path.to_owned()) {
        let (file, mode) = (path.display(), format!("{mode:03o}"));
        warn!(target: "tidegate::warehouse", %file, mode, "the database file is not its owner's alone, and the permission rows do not hold for those who open it: `chmod 600` it, and its -wal and -shm");
    }
}

/// SQLite does not wait itself where two turn a new file over at once: each could wait for the other.
fn log_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let asked = Instant::now();
    loop {
        // The answer is the mode; what matters is that it is asked for.
        let turned = connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()));
        match turned.as_ref().err().and_then(rusqlite::Error::sqlite_error_code) {
            Some(ErrorCode::DatabaseBusy) if asked.elapsed() < BUSY => {
                std::thread::sleep(Duration::from_millis(5));
            }
            _ => return turned,
        }
    }
}

/// An error of SQLite, judged and put into words.
fn judged(error: rusqlite::Error) -> SinkError {
    let blame = match error.sqlite_error_code() {
        Some(code) => blame(code),
        None => Blame::Lasting, // our own statement does not fit what it is given
    };
    SinkError::new(blame, error)
}

fn blame(code: ErrorCode) -> Blame {
    match code {
        ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch => {
            Blame::Record
        }
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::SystemIoFailure
        | ErrorCode::DiskFull
        | ErrorCode::OutOfMemory
        | ErrorCode::OperationInterrupted
        | ErrorCode::OperationAborted
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::SchemaChanged
        | ErrorCode::CannotOpen => Blame::Passing,
        _ => Blame::Lasting,
    }
}

#[async_trait]
impl Warehouse for Sqlite {
    async fn migrate(&self) -> Result<Vec<String>, SinkError> {
        self.run("migrating the warehouse".to_owned(), migrate::migrate).await
    }

    async fn check_schema(&self) -> Result<(), SinkError> {
        self.run("checking the warehouse's schema".to_owned(), migrate::judge).await
    }

    async fn installation(&self, mine: Uuid, adopt: bool) -> Result<Uuid, SinkError> {
        let doing = "reading the warehouse's installation id".to_owned();
        self.run(doing, move |file| migrate::installation(file, mine, adopt)).await
    }

    async fn prepare(&self, feed: &Feed) -> Result<(), SinkError> {
        let (doing, feed) = (format!("feed {}", feed.name), shape::shaped(feed).into_owned());
        self.run(doing, move |file| file.look_at_table(&feed).map(drop)).await
    }

    async fn widen(&self, feed: &Feed, former: &Column) -> Result<bool, SinkError> {
        // A column takes any integer; of numbers as text, and of times as text, those from before would be
        // spelled otherwise.
        let is_text = |column: &Column| column.kind != ColumnType::Long;
        let wide = feed.schema.value().iter().find(|it| it.path() == former.path());
        Ok(feed.is_document() || !wide.is_some_and(is_text))
    }

    async fn claim(
        &self,
        feed: &Feed,
        requests: &[ClaimRequest],
    ) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        let doing = format!("claiming partitions of {}", feed.name);
        let (feed, requests) = (feed.name.clone(), requests.to_vec());
        self.run(doing, move |file| progress::claim(file, &feed, &requests)).await
    }

    async fn progress(&self, feed: &str) -> Result<HashMap<TopicPartition, Progress>, SinkError> {
        let (doing, feed) = (format!("reading the progress of {feed}"), feed.to_owned());
        self.run(doing, move |file| progress::read(file, &feed)).await
    }

    async fn write(&self, feed: &Feed, parts: &[Part]) -> Result<Vec<Verdict>, SinkError> {
        let doing = format!("writing feed {}", feed.name);
        let parts = shape::shaped_parts(feed, parts).await?.into_owned();
        let feed = shape::shaped(feed).into_owned();
        self.run(doing, move |file| write::write(file, &feed, &parts)).await
    }

    async fn replay(&self, feed: &Feed, replay: &Replay) -> Result<Replayed, SinkError> {
        let doing = format!("replaying feed {}", feed.name);
        let (feed, part) = shape::shaped_replay(feed, replay).await?;
        let replay = replay.clone();
        self.run(doing, move |file| replay::replay(file, &feed, part, &replay)).await
    }

    async fn settle(&self, feed: &str, settlement: &Settlement) -> Result<u64, SinkError> {
        let doing = format!("settling records of {feed}");
        let (feed, settlement) = (feed.to_owned(), settlement.clone());
        self.run(doing, move |file| replay::settle_records(file, &feed, &settlement)).await
    }

    async fn open_gap(
        &self,
        feed: &Feed,
        source: &TopicPartition,
        claim: Claim,
        gap: OffsetRange,
    ) -> Result<(), SinkError> {
        let doing = format!("recording an open gap of {source}");
        let (feed, source) = (feed.name.clone(), source.clone());
        self.run(doing, move |file| gaps::open(file, &feed, &source, claim, gap)).await
    }

    async fn record_gap(
        &self,
        feed: &Feed,
        source: &TopicPartition,
        claim: Claim,
        gap: OffsetRange,
        reason: GapReason,
    ) -> Result<Verdict, SinkError> {
        let doing = format!("recording a gap of {source}");
        let (feed, source) = (feed.name.clone(), source.clone());
        self.run(doing, move |file| gaps::skip(file, &feed, &source, claim, gap, reason)).await
    }

    async fn reset(
        &self,
        feed: &str,
        source: &TopicPartition,
        topic_id: TopicId,
        next_offset: i64,
    ) -> Result<(), SinkError> {
        let doing = format!("resetting {source} of {feed}");
        let (feed, source) = (feed.to_owned(), source.clone());
        let set = move |file: &mut File| progress::set(file, &feed, &source, topic_id, next_offset);
        self.run(doing, set).await
    }

    async fn snapshot(
        &self,
        feed: &Feed,
        after: Option<Duration>,
        keep: u32,
    ) -> Result<Option<Snapshot>, SinkError> {
        let doing = format!("taking a snapshot of {}", feed.name);
        let feed = shape::shaped(feed).into_owned();
        self.run(doing, move |file| snapshot::take(file, &feed, after, keep)).await
    }

    async fn snapshots(&self, feed: &str) -> Result<Vec<KeptSnapshot>, SinkError> {
        let (doing, feed) = (format!("reading the snapshots of {feed}"), feed.to_owned());
        self.run(doing, move |file| snapshot::kept(file, &feed)).await
    }

    async fn keep_columns(&self, feed: &str, columns: &str) -> Result<String, SinkError> {
        let doing = format!("keeping the columns of {feed}");
        let (feed, columns) = (feed.to_owned(), columns.to_owned());
        self.run(doing, move |file| progress::keep_columns(file, &feed, &columns)).await
    }

    async fn kept_columns(&self, feed: &str) -> Result<Option<String>, SinkError> {
        let (doing, feed) = (format!("reading the columns of {feed}"), feed.to_owned());
        self.run(doing, move |file| progress::kept_columns(file, &feed)).await
    }

    async fn change_columns(&self, feed: &str, from: &str, to: &str) -> Result<String, SinkError> {
        let doing = format!("keeping the columns of {feed}");
        let (feed, from, to) = (feed.to_owned(), from.to_owned(), to.to_owned());
        self.run(doing, move |file| progress::change_columns(file, &feed, &from, &to)).await
    }

    async fn ping(&self) -> Result<(), SinkError> {
        let ask = |file: &mut File| {
            file.connection()?.query_row("SELECT 1", [], |_| Ok(())).map_err(judged)
        };
        self.run("asking the warehouse".to_owned(), ask).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_and_its_log_are_their_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.db");
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().mode() & 0o777;
        let connection = connect(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1)").unwrap();
        for name in ["w.db", "w.db-wal", "w.db-shm"] {
            assert_eq!(mode(folder.path().join(name)), 0o600, "{name}");
        }
        // One that was there is not ours to narrow.
        let wide = folder.path().join("wide.db");
        std::fs::write(&wide, "").unwrap();
        std::fs::set_permissions(&wide, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .unwrap();
        connect(&wide).unwrap();
        assert_eq!(mode(wide), 0o644);
    }

    #[test]
    fn many_open_a_new_file_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = folder.path().join(format!("{round}.db"));
            let start = std::sync::Barrier::new(8);
            std::thread::scope(|scope| {
                let open = || {
                    start.wait();
                    connect(&path).map(drop)
                };
                let opened: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
                for opened in opened {
                    opened.join().unwrap().unwrap();
                }
            });
        }
    }
}
