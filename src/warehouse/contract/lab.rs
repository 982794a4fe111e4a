//! A warehouse of each kind to try the contract on, and batches to write into it.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::config::{
    self, Column, ColumnType, Feed, FeedKind, OnGap, Quarantine, Schema, Start, WarehouseOptions,
};
use crate::record::{
    Batch, Claim, Hold, OffsetRange, Reject, RejectClass, TopicId, TopicPartition, Verdict,
};
use crate::warehouse::{self, ClaimRequest, Part, Warehouse};

/// A database of its own, a warehouse on it, and a way past the warehouse to look at it.
pub struct Lab {
    pub warehouse: Arc<dyn Warehouse>,
    pub config: config::Warehouse,
    inside: Inside,
}

enum Inside {
    Postgres { server: String, database: String, client: Client },
    Sqlite { folder: tempfile::TempDir },
}

pub fn warehouse_config(url: String) -> config::Warehouse {
    config::Warehouse {
        url,
        only_bookkeeping: false,
        password: None,
        schema: "public".into(),
        tls: config::WarehouseTls::default(),
        connections: 4,
        lock_timeout: config::Duration::from_millis(500),
    }
}

/// A variable that says where the tests' servers are. Without it a test fails: one that is skipped in
/// silence proves nothing.
pub fn given(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: this test needs a PostgreSQL; scripts/test starts one and sets it"
        )
    })
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a PostgreSQL");
    tokio::spawn(connection);
    client
}

impl Lab {
    pub async fn postgres() -> Self {
        let server = given("TIDEGATE_TEST_POSTGRES");
        let database = format!("tidegate_test_{}", uuid::Uuid::new_v4().simple());
        let create = format!("CREATE DATABASE {database} ENCODING 'UTF8' TEMPLATE template0");
        connect(&server).await.batch_execute(&create).await.expect("the right to create databases");
        let mut url = url::Url::parse(&server).expect("a URL");
        url.set_path(&database);
        let client = connect(url.as_str()).await;
        // A user named like the bookkeeping's schema would look there first.
        client.batch_execute("SET search_path = public").await.unwrap();
        let config = warehouse_config(url.to_string());
        let warehouse = warehouse::open(&config).unwrap();
        Self { warehouse, config, inside: Inside::Postgres { server, database, client } }
    }

    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = warehouse_config(format!("sqlite:{}/w.db", folder.path().display()));
        let warehouse = warehouse::open(&config).unwrap();
        Self { warehouse, config, inside: Inside::Sqlite { folder } }
    }

    pub async fn migrated(self) -> Self {
        self.warehouse.migrate().await.unwrap();
        self
    }

    /// Another node on the same database.
    pub fn other_node(&self) -> Arc<dyn Warehouse> {
        warehouse::open(&self.config).unwrap()
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.inside, Inside::Postgres { .. })
    }

    /// The PostgreSQL database's name.
    pub fn database(&self) -> &str {
        match &self.inside {
            Inside::Postgres { database, .. } => database,
            Inside::Sqlite { .. } => panic!("no PostgreSQL here"),
        }
    }

    pub fn client(&self) -> &Client {
        match &self.inside {
            Inside::Postgres { client, .. } => client,
            Inside::Sqlite { .. } => panic!("no PostgreSQL here"),
        }
    }

    /// Runs SQL that both understand; `tidegate.x` becomes `tidegate_x` for SQLite. Every value comes
    /// as text, null as `-`, a row joined by `|`.
    pub async fn ask(&self, sql: &str) -> Vec<String> {
        match &self.inside {
            Inside::Postgres { client, .. } => {
                let messages = client.simple_query(sql).await.expect(sql);
                let rows = messages.iter().filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row),
                    _ => None,
                });
                let values = |row: &tokio_postgres::SimpleQueryRow| -> Vec<String> {
                    (0..row.len()).map(|i| row.get(i).unwrap_or("-").to_owned()).collect()
                };
                rows.map(|row| values(row).join("|")).collect()
            }
            Inside::Sqlite { folder } => {
                let sql = sql.replace("tidegate.", "tidegate_");
                let connection = rusqlite::Connection::open(folder.path().join("w.db")).unwrap();
                connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
                let Some((last, before)) = sql
                    .split(';')
                    .collect::<Vec<_>>()
                    .split_last()
                    .map(|(last, before)| ((*last).to_owned(), before.join(";")))
                else {
                    return vec![];
                };
                connection.execute_batch(&before).expect(&sql);
                let mut statement = connection.prepare(&last).expect(&sql);
                let count = statement.column_count();
                let row = |row: &rusqlite::Row<'_>| {
                    let value = |i| row.get::<_, rusqlite::types::Value>(i).map(spelled);
                    let values: Vec<String> = (0..count).map(value).collect::<Result<_, _>>()?;
                    Ok(values.join("|"))
                };
                statement.query_map([], row).unwrap().map(Result::unwrap).collect()
            }
        }
    }

    pub async fn count(&self, from: &str) -> usize {
        self.ask(&format!("SELECT count(*) FROM {from}")).await[0].parse().unwrap()
    }

    pub async fn next_offset(&self, partition: i32) -> i64 {
        let progress = self.warehouse.progress("accounts").await.unwrap();
        progress[&source(partition)].next_offset
    }

    /// Claims a partition, from 0 if it is new.
    pub async fn claimed(&self, feed: &Feed, partition: i32) -> Claim {
        claim_on(&*self.warehouse, feed, partition).await
    }

    pub async fn write(&self, feed: &Feed, parts: &[Part]) -> Vec<Verdict> {
        self.warehouse.write(feed, parts).await.unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let Inside::Postgres { server, database, .. } = &self.inside else { return };
        let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
        let server = server.clone();
        // On a runtime of its own: the test's may be gone, or be busy with this very drop.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async { connect(&server).await.batch_execute(&drop).await })
        });
        let _ = dropped.join();
    }
}

fn spelled(value: rusqlite::types::Value) -> String {
    use rusqlite::types::Value;
    match value {
        Value::Null => "-".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text,
        Value::Blob(bytes) => String::from_utf8(bytes).unwrap(),
    }
}

pub async fn claim_on(warehouse: &dyn Warehouse, feed: &Feed, partition: i32) -> Claim {
    let request = request(partition, Some(0));
    warehouse.claim(feed, std::slice::from_ref(&request)).await.unwrap();
    request.claim
}

pub fn request(partition: i32, start: Option<i64>) -> ClaimRequest {
    ClaimRequest {
        source: source(partition),
        topic_id: TopicId::UNKNOWN,
        claim: Claim::random(),
        start,
    }
}

pub fn source(partition: i32) -> TopicPartition {
    TopicPartition::new("bank", partition)
}

pub fn column(name: &str, kind: ColumnType) -> Column {
    Column::new(name, kind)
}

/// A feed of accounts: id, then owner and balance.
pub fn accounts(kind: FeedKind) -> Feed {
    let columns = vec![
        column("id", ColumnType::String),
        column("owner", ColumnType::String),
        column("balance", ColumnType::Long),
    ];
    Feed {
        name: "accounts".into(),
        kind,
        topic: "bank".into(),
        start: Start::Earliest,
        on_gap: OnGap::Park,
        schema: Schema::json(columns, 1),
        lake: None,
        warehouse: Some(WarehouseOptions::default()),
        quarantine: Quarantine { park_above: 0.5, park_min_records: 10 },
    }
}

/// An account as a record: no owner means a tombstone.
#[derive(Clone)]
pub struct Record(pub String, pub Option<String>, pub i64);

pub fn put(id: &str, owner: &str, balance: i64) -> Record {
    Record(id.into(), Some(owner.into()), balance)
}

pub fn gone(id: &str) -> Record {
    Record(id.into(), None, 0)
}

/// A batch of consecutive records.
pub fn batch(feed: &Feed, partition: i32, start: i64, records: &[Record]) -> Batch {
    let end = start + records.len() as i64;
    let rows: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(records.iter().map(|record| &record.0))),
        Arc::new(StringArray::from_iter(records.iter().map(|record| record.1.as_ref()))),
        Arc::new(Int64Array::from_iter(
            records.iter().map(|record| record.1.as_ref().map(|_| record.2)),
        )),
    ];
    let deletes = records.iter().map(|record| record.1.is_none()).collect::<Vec<_>>();
    Batch {
        source: source(partition),
        range: OffsetRange::new(start, end),
        rows: RecordBatch::try_new(feed.schema.arrow(), rows).unwrap(),
        offsets: Int64Array::from_iter_values(start..end),
        timestamps: Int64Array::from_iter_values((start..end).map(|offset| 1_000 + offset)),
        deletes: (feed.kind == FeedKind::Table).then(|| BooleanArray::from(deletes)),
        keys: None,
        headers: None,
        documents: None,
        rejects: [].into(),
        payload_bytes: 0,
        hold: Hold::default(),
    }
}

/// Puts `count` rejects behind the batch's rows.
pub fn with_rejects(mut batch: Batch, count: usize) -> Batch {
    let first = batch.range.end;
    let reject = |offset| Reject {
        offset,
        timestamp_ms: 5,
        key: Some(b"k\0".to_vec()),
        value: Some(vec![0, 255, b'x']),
        headers: vec![("h\0".into(), Some(b"foo".to_vec())), ("n".into(), None)],
        class: RejectClass::Malformed,
        reason: "not JSON\0".into(),
    };
    batch.rejects = (first..first + count as i64).map(reject).collect();
    batch.range.end += count as i64;
    batch
}

pub fn part(claim: Claim, batches: Vec<Batch>) -> Part {
    Part {
        source: batches[0].source.clone(),
        topic_id: TopicId::UNKNOWN,
        claim,
        batches: batches.into_iter().map(Arc::new).collect(),
    }
}

pub const DURABLE: Verdict = Verdict::Durable { quarantined: 0 };
