//! Measures writing, by hand: `cargo test --release --lib warehouse::contract::speed -- --ignored
//! --nocapture --test-threads 1`. A million small keyed records in writes of 100,000.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use rand::{Rng, SeedableRng};

use super::lab::*;
use crate::config::{ColumnType, Feed, FeedKind};
use crate::record::{Batch, OffsetRange};

const RECORDS: i64 = 1_000_000;
const WRITE: i64 = 100_000;
const BATCH: i64 = 10_000;

fn totals(kind: FeedKind) -> Feed {
    let mut feed = accounts(kind);
    feed.schema.key_columns = 2;
    feed.schema.columns = vec![
        column("user_id", ColumnType::String),
        column("transaction_type", ColumnType::String),
        column("total_amount", ColumnType::Double),
        column("transaction_count", ColumnType::Long),
    ];
    feed
}

/// A changelog over so many keys, with 2 % tombstones.
fn changes(feed: &Feed, keys: u32, start: i64, random: &mut impl Rng) -> Batch {
    const TYPES: [&str; 4] = ["purchase", "refund", "payment", "withdrawal"];
    let picked: Vec<u32> = (0..BATCH).map(|_| random.random_range(0..keys)).collect();
    let dead: Vec<bool> = (0..BATCH).map(|_| random.random_bool(0.02)).collect();
    let alive = |index: usize| !dead[index];
    let rows: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(picked.iter().map(|k| format!("USER-{}", k / 4)))),
        Arc::new(StringArray::from_iter_values(picked.iter().map(|k| TYPES[*k as usize % 4]))),
        Arc::new(Float64Array::from_iter((0..picked.len()).map(|i| alive(i).then_some(12.5)))),
        Arc::new(Int64Array::from_iter((0..picked.len()).map(|i| alive(i).then_some(i as i64)))),
    ];
    Batch {
        range: OffsetRange::new(start, start + BATCH),
        rows: RecordBatch::try_new(feed.schema.arrow(), rows).unwrap(),
        offsets: Int64Array::from_iter_values(start..start + BATCH),
        timestamps: Int64Array::from_iter_values(
            (start..start + BATCH).map(|o| 1_700_000_000_000 + o),
        ),
        deletes: (feed.kind == FeedKind::Table).then(|| BooleanArray::from(dead.clone())),
        ..batch(&accounts(feed.kind), 0, 0, &[])
    }
}

/// CPU seconds of a process, or of this one.
fn cpu(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> =
        after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    fields.iter().sum::<f64>() / 100.0
}

async fn measure(lab: Lab, kind: FeedKind, keys: u32, name: &str) {
    let feed = totals(kind);
    let claim = lab.claimed(&feed, 0).await;
    lab.warehouse.prepare(&feed).await.unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(42);
    let writes: Vec<_> = (0..RECORDS / WRITE)
        .map(|write| {
            let starts = (0..WRITE / BATCH).map(|batch| write * WRITE + batch * BATCH);
            part(claim, starts.map(|start| changes(&feed, keys, start, &mut random)).collect())
        })
        .collect();
    let servers = match lab.is_postgres() {
        true => {
            lab.ask(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                 AND application_name = 'tidegate'",
            )
            .await
        }
        false => vec![],
    };
    let server_cpu = || servers.iter().map(|pid| cpu(pid)).sum::<f64>();
    let (began, node, server) = (Instant::now(), cpu("self"), server_cpu());
    for write in &writes {
        assert_eq!(lab.write(&feed, std::slice::from_ref(write)).await, [DURABLE]);
    }
    let (wall, node) = (began.elapsed().as_secs_f64(), cpu("self") - node);
    println!(
        "{name}: {:.0} records/s, wall {wall:.2} s, node CPU {node:.2} s, server CPU {:.2} s, {} rows",
        RECORDS as f64 / wall,
        server_cpu() - server,
        lab.count("accounts").await,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn postgres() {
    for (kind, keys, name) in [
        (FeedKind::Table, 40_000, "table, 40,000 keys"),
        (FeedKind::Table, 100_000_000, "table, all keys new"),
        (FeedKind::Stream, 40_000, "stream"),
    ] {
        measure(Lab::postgres().await.migrated().await, kind, keys, &format!("postgres, {name}"))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn sqlite() {
    for (kind, keys, name) in [
        (FeedKind::Table, 40_000, "table, 40,000 keys"),
        (FeedKind::Table, 100_000_000, "table, all keys new"),
        (FeedKind::Stream, 40_000, "stream"),
    ] {
        measure(Lab::sqlite().await.migrated().await, kind, keys, &format!("sqlite, {name}")).await;
    }
}
