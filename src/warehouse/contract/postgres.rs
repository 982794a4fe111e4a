//! What only PostgreSQL has: types, poison that only it refuses, locks held by others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use tokio_postgres::NoTls;

use super::lab::*;
use crate::config::{self, ColumnType, Feed, FeedKind};
use crate::record::{Batch, Blame, OffsetRange, Verdict};
use crate::warehouse;

async fn lab() -> Lab {
    Lab::postgres().await.migrated().await
}

/// A session of a node that lost its way: it locks the progress of partition 0 and stands still.
async fn zombie(lab: &Lab, application: &str) -> tokio_postgres::Client {
    let mut config: tokio_postgres::Config = lab.config.url.parse().unwrap();
    config.application_name(application);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = "BEGIN; SELECT FROM tidegate.progress WHERE partition = 0 FOR UPDATE";
    client.batch_execute(lock).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_inside_copy_does_not_hold_a_claim_up() {
    let lab = lab().await;
    let feed = accounts(FeedKind::Table);
    let late = lab.claimed(&feed, 0).await;
    let zombie = zombie(&lab, "tidegate").await;
    zombie.batch_execute("CREATE TEMP TABLE stage (a int)").await.unwrap();
    let _silent: tokio_postgres::CopyInSink<bytes::Bytes> =
        zombie.copy_in("COPY stage FROM STDIN (FORMAT binary)").await.unwrap();
    let began = Instant::now();
    let owner = lab.claimed(&feed, 0).await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1_500), "the lock timeout is 500 ms, it took {took:?}");
    let rows = || vec![batch(&feed, 0, 0, &[put("a", "ann", 1)])];
    let verdicts = lab.write(&feed, &[part(late, rows())]).await;
    assert_eq!(verdicts, [Verdict::Fenced { found: Some(0) }]);
    assert_eq!(lab.write(&feed, &[part(owner, rows())]).await, [DURABLE]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_ends_nobody_elses_session() {
    let lab = lab().await;
    let feed = accounts(FeedKind::Table);
    lab.claimed(&feed, 0).await;
    let person = zombie(&lab, "psql").await;
    let refused = lab.warehouse.claim(&feed, &[request(0, None)]).await.unwrap_err();
    assert_eq!(refused.blame, Blame::Passing, "{refused}");
    person.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(lab.warehouse.claim(&feed, &[request(0, None)]).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_ends_only_who_holds_its_rows() {
    let lab = lab().await;
    let (feed, mut other) = (accounts(FeedKind::Table), accounts(FeedKind::Table));
    other.name = "others".into();
    lab.claimed(&feed, 0).await;
    claim_on(&*lab.warehouse, &other, 1).await;
    // A session of the same pool, at work in another feed and on a row beside.
    let (beside, connection) = {
        let mut config: tokio_postgres::Config = lab.config.url.parse().unwrap();
        config.application_name("tidegate").connect(NoTls).await.unwrap()
    };
    tokio::spawn(connection);
    let busy = "BEGIN; UPDATE tidegate.progress SET updated_at = now() WHERE feed = 'others'";
    beside.batch_execute(busy).await.unwrap();
    let holder = zombie(&lab, "tidegate").await;
    lab.claimed(&feed, 0).await;
    assert!(holder.batch_execute("COMMIT").await.is_err(), "the one that held the row");
    beside.batch_execute("COMMIT").await.expect("the other goes on");
}

/// A feed with a column of every type beside its id.
fn every_type() -> Feed {
    let mut feed = accounts(FeedKind::Table);
    feed.name = "every".into();
    feed.schema.columns.truncate(1);
    feed.schema.columns.extend([
        column("i", ColumnType::Int),
        column("l", ColumnType::Long),
        column("d", ColumnType::Double),
        column("b", ColumnType::Boolean),
        column("n", ColumnType::Decimal { precision: 38, scale: 10 }),
        column("m", ColumnType::Decimal { precision: 9, scale: 2 }),
        column("w", ColumnType::Decimal { precision: 38, scale: 0 }),
        column("t", ColumnType::Timestamp),
        column("day", ColumnType::Date),
        column("j", ColumnType::Json),
    ]);
    feed
}

const MAX_38: i128 = 10i128.pow(38) - 1;

fn extremes(feed: &Feed) -> Batch {
    let decimals = |precision, scale, values: [i128; 4]| -> ArrayRef {
        let values = values.map(Some).into_iter().chain([None]);
        let array = Decimal128Array::from_iter(values);
        Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
    };
    let rows: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["1", "2", "3", "4", "5"])),
        Arc::new(Int32Array::from(vec![Some(0), Some(i32::MIN), Some(i32::MAX), Some(-1), None])),
        Arc::new(Int64Array::from(vec![Some(0), Some(i64::MIN), Some(i64::MAX), Some(-1), None])),
        Arc::new(Float64Array::from(vec![
            Some(-0.0),
            Some(f64::NAN),
            Some(f64::INFINITY),
            Some(0.1),
            None,
        ])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), Some(true), Some(false), None])),
        decimals(38, 10, [0, MAX_38, -MAX_38, 1]),
        decimals(9, 2, [-1, 100_000_000, 999_999_999, 1_234_500]),
        decimals(38, 0, [10_000, MAX_38, -MAX_38, 120_000_000]),
        Arc::new(
            TimestampMicrosecondArray::from(vec![
                Some(0),
                Some(-1),
                Some(253_402_300_799_999_999),
                Some(-210_866_803_200_000_000),
                None,
            ])
            .with_timezone("UTC"),
        ),
        Arc::new(Date32Array::from(vec![
            Some(0),
            Some(-719_162),
            Some(2_145_042_905),
            Some(-2_440_588),
            None,
        ])),
        Arc::new(StringArray::from(vec![
            Some(r#"{"b": 1.50, "a": "\\u0000"}"#),
            Some("null"),
            Some(r#""ü\u00e9""#),
            Some("[1,  2]"),
            None,
        ])),
    ];
    Batch {
        range: OffsetRange::new(0, 5),
        rows: RecordBatch::try_new(feed.schema.arrow(), rows).unwrap(),
        ..batch(&accounts(FeedKind::Table), 0, 0, &vec![put("", "", 0); 5])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_comes_out_as_it_went_in() {
    let lab = lab().await;
    let feed = every_type();
    let claim = lab.claimed(&feed, 0).await;
    let verdicts = lab.write(&feed, &[part(claim, vec![extremes(&feed)])]).await;
    assert_eq!(verdicts, [DURABLE]);
    extremes_are_there(&lab).await;
    assert_eq!(lab.count("tidegate.quarantine").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_comes_out_of_a_version_below_refused_ones() {
    let lab = lab().await;
    let feed = every_type();
    lab.warehouse.prepare(&feed).await.unwrap();
    lab.ask("ALTER TABLE every ADD CHECK (l <> 77)").await;
    let claim = lab.claimed(&feed, 0).await;
    let mut refused = extremes(&feed);
    let mut columns = refused.rows.columns().to_vec();
    columns[2] = Arc::new(Int64Array::from(vec![77; 5]));
    refused.rows = RecordBatch::try_new(feed.schema.arrow(), columns).unwrap();
    refused.range = OffsetRange::new(5, 10);
    refused.offsets = Int64Array::from_iter_values(5..10);
    let sent = part(claim, vec![extremes(&feed), refused]);
    assert_eq!(lab.write(&feed, &[sent]).await, [Verdict::Durable { quarantined: 5 }]);
    extremes_are_there(&lab).await;
}

async fn extremes_are_there(lab: &Lab) {
    lab.client().batch_execute("SET timezone = 'UTC'").await.unwrap();
    let rows = lab.ask("SELECT i, l, d, b, n, m, w, t, day, j FROM every ORDER BY id").await;
    let nines = "9".repeat(28);
    let max = "9".repeat(38);
    let expected = [
        r#"0|0|-0|t|0.0000000000|-0.01|10000|1970-01-01 00:00:00+00|1970-01-01|{"a": "\\u0000", "b": 1.50}"#
            .to_owned(),
        format!(
            "-2147483648|-9223372036854775808|NaN|f|{nines}.9999999999|1000000.00|{max}|\
             1969-12-31 23:59:59.999999+00|0001-01-01|null"
        ),
        format!(
            "2147483647|9223372036854775807|Infinity|t|-{nines}.9999999999|9999999.99|-{max}|\
             9999-12-31 23:59:59.999999+00|5874897-12-31|\"üé\""
        ),
        "-1|-1|0.1|f|0.0000000001|12345.00|120000000|4714-11-24 00:00:00+00 BC|4714-11-24 BC|[1, 2]"
            .to_owned(),
        "-|-|-|-|-|-|-|-|-|-".to_owned(),
    ];
    assert_eq!(rows, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_beyond_postgresql_are_refused_one_by_one() {
    let lab = lab().await;
    let mut feed = every_type();
    feed.quarantine.park_min_records = 100;
    let claim = lab.claimed(&feed, 0).await;
    let mut rows = extremes(&feed);
    let mut columns = rows.rows.columns().to_vec();
    columns[0] = Arc::new(StringArray::from(vec!["a\0b", "2", "3", "4", "5"]));
    columns[8] =
        Arc::new(TimestampMicrosecondArray::from(vec![0, i64::MIN, 0, 0, 0]).with_timezone("UTC"));
    columns[9] = Arc::new(Date32Array::from(vec![0, 0, i32::MAX, 0, 0]));
    columns[10] = Arc::new(StringArray::from(vec!["1", "1", "1", r#"["\\\u0000"]"#, "1"]));
    rows.rows = RecordBatch::try_new(feed.schema.arrow(), columns).unwrap();
    let verdicts = lab.write(&feed, &[part(claim, vec![rows])]).await;
    assert_eq!(verdicts, [Verdict::Durable { quarantined: 4 }]);
    assert_eq!(lab.ask("SELECT id FROM every").await, ["5"]);
    let kept = lab
        .ask("SELECT class, split_part(reason, ':', 1) FROM tidegate.quarantine ORDER BY record_offset")
        .await;
    assert_eq!(kept, ["out_of_range|id", "out_of_range|t", "out_of_range|day", "out_of_range|j"]);
}

/// Accounts whose owner is a JSON document.
fn documents() -> Feed {
    let mut feed = accounts(FeedKind::Stream);
    feed.schema.columns[1].kind = ColumnType::Json;
    feed.quarantine.park_min_records = 1_000;
    feed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_only_the_server_refuses_is_found() {
    let lab = lab().await;
    let feed = documents();
    let claim = lab.claimed(&feed, 0).await;
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let poison = [r#""\ud800""#, "1e400000", "{", &deep];
    let mut records: Vec<Record> = (0..100).map(|i| put("k", "{\"a\": [1]}", i)).collect();
    for (index, document) in poison.iter().enumerate() {
        records[index * 30 + 3].1 = Some((*document).to_owned());
    }
    let verdicts = lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 0, &records)])]).await;
    assert_eq!(verdicts, [Verdict::Durable { quarantined: 4 }]);
    assert_eq!(lab.count("accounts").await, 96);
    let kept = "SELECT record_offset FROM tidegate.quarantine ORDER BY 1";
    assert_eq!(lab.ask(kept).await, ["3", "33", "63", "93"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triggers_lengths_and_references_refuse_rows() {
    let lab = lab().await;
    lab.client()
        .batch_execute(
            "CREATE TABLE accounts (id text PRIMARY KEY, owner varchar(5), balance bigint);
             CREATE TABLE held (id text REFERENCES accounts DEFERRABLE INITIALLY DEFERRED);
             CREATE FUNCTION check_balance() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF NEW.balance = 13 THEN RAISE 'unlucky'; END IF; RETURN NEW; END $$;
             CREATE TRIGGER lucky BEFORE INSERT OR UPDATE ON accounts
             FOR EACH ROW EXECUTE FUNCTION check_balance();",
        )
        .await
        .unwrap();
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let first = [put("a", "ann", 1), put("b", "much too long", 2), put("c", "cy", 13)];
    let verdicts = lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 0, &first)])]).await;
    assert_eq!(verdicts, [Verdict::Durable { quarantined: 2 }]);
    lab.ask("INSERT INTO held VALUES ('a')").await;
    let second = [put("d", "dan", 4), gone("a"), gone("x")];
    let verdicts = lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 3, &second)])]).await;
    assert_eq!(verdicts, [Verdict::Durable { quarantined: 1 }], "held by a deferred reference");
    assert_eq!(lab.ask("SELECT id FROM accounts ORDER BY id").await, ["a", "d"]);
    let kept = "SELECT record_offset, class, value IS NULL FROM tidegate.quarantine ORDER BY 1";
    assert_eq!(lab.ask(kept).await, ["1|out_of_range|f", "2|sink_refused|f", "4|sink_refused|t"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_the_same_keys_all_get_through() {
    let lab = lab().await;
    let feed = accounts(FeedKind::Table);
    lab.warehouse.prepare(&feed).await.unwrap();
    let writers = (0..2).map(|partition| {
        let (warehouse, feed) = (lab.other_node(), feed.clone());
        tokio::spawn(async move {
            let claim = claim_on(&*warehouse, &feed, partition).await;
            for round in 0..6i64 {
                let key = |i: i64| format!("k{}", (i * 7 + i64::from(partition) * 13) % 200);
                let records: Vec<Record> = (0..200)
                    .map(
                        |i| if (i + round) % 5 == 0 { gone(&key(i)) } else { put(&key(i), "x", i) },
                    )
                    .collect();
                let rows = batch(&feed, partition, round * 200, &records);
                assert_eq!(
                    warehouse.write(&feed, &[part(claim, vec![rows])]).await.unwrap(),
                    [DURABLE]
                );
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let ends = lab.ask("SELECT DISTINCT next_offset FROM tidegate.progress").await;
    assert_eq!(ends, ["1200"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_given_up_leaves_nothing_behind() {
    let lab = lab().await;
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let rows = || part(claim, vec![batch(&feed, 0, 0, &[put("a", "ann", 1)])]);
    let locker = zombie(&lab, "psql").await;
    let sent = [rows()];
    let given_up =
        tokio::time::timeout(Duration::from_millis(300), lab.warehouse.write(&feed, &sent));
    assert!(given_up.await.is_err(), "the row is locked");
    locker.batch_execute("ROLLBACK").await.unwrap();
    let answer = lab.write(&feed, &[rows()]).await;
    assert!(matches!(answer[..], [DURABLE]), "{answer:?}");
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidegate' \
                AND datname = current_database() AND state LIKE 'idle in transaction%'";
    assert_eq!(lab.ask(open).await, ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_pass() {
    let lab = lab().await;
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 0, &[put("a", "ann", 1)])])]).await;
    let end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'tidegate' AND datname = current_database()";
    lab.ask(end_all).await;
    let next = part(claim, vec![batch(&feed, 0, 1, &[put("b", "bob", 1)])]);
    let verdicts = match lab.warehouse.write(&feed, std::slice::from_ref(&next)).await {
        Ok(verdicts) => verdicts,
        Err(error) => {
            assert_eq!(error.blame, Blame::Passing, "{error}");
            lab.write(&feed, &[next]).await
        }
    };
    assert_eq!(verdicts, [DURABLE]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_what_is_wrong_with_the_address() {
    let away = warehouse::open(&warehouse_config("postgres://x@127.0.0.1:1/x".into())).unwrap();
    let error = away.ping().await.unwrap_err();
    assert_eq!(error.blame, Blame::Passing);
    assert!(error.message.contains("refused"), "{error}");
    let Err(error) = warehouse::open(&warehouse_config("postgres://x:secret@h:port/x".into()))
    else {
        panic!("a port is a number")
    };
    assert_eq!(error.blame, Blame::Lasting);
    assert!(!error.message.contains("secret"), "{error}");
    let mut config = warehouse_config("postgres://x@127.0.0.1/x".into());
    config.tls.mode = config::TlsMode::VerifyFull;
    assert!(warehouse::open(&config).err().unwrap().message.contains("ca"));
    config.tls = config::WarehouseTls::default();
    config.password = Some(config::Secret::Env("TIDEGATE_TEST_NO_SUCH_VARIABLE".into()));
    assert!(warehouse::open(&config).err().unwrap().message.contains("is not set"));
    let mut lost = lab().await.config.clone();
    lost.url.push_str("_gone");
    let error = warehouse::open(&lost).unwrap().ping().await.unwrap_err();
    assert_eq!(error.blame, Blame::Lasting, "no such database: {error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mended_table_is_looked_at_anew() {
    let lab = lab().await;
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let rows = |start| part(claim, vec![batch(&feed, 0, start, &[put("a", "ann", 1)])]);
    assert_eq!(lab.write(&feed, &[rows(0)]).await, [DURABLE]);
    lab.ask("ALTER TABLE accounts ALTER balance TYPE date USING NULL").await;
    let error = lab.warehouse.write(&feed, &[rows(1)]).await.unwrap_err();
    assert_eq!(error.blame, Blame::Lasting);
    let error = lab.warehouse.write(&feed, &[rows(1)]).await.unwrap_err();
    assert!(error.message.contains("ALTER COLUMN \"balance\" TYPE bigint"), "{error}");
    lab.ask("ALTER TABLE accounts ALTER balance TYPE bigint USING NULL").await;
    assert_eq!(lab.write(&feed, &[rows(1)]).await, [DURABLE]);
    lab.ask("DROP TABLE accounts").await;
    assert_eq!(lab.warehouse.write(&feed, &[rows(2)]).await.unwrap_err().blame, Blame::Lasting);
    assert_eq!(lab.write(&feed, &[rows(2)]).await, [DURABLE], "made anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_json_could_spell_twice_is_refused() {
    let lab = lab().await;
    let mut feed = accounts(FeedKind::Table);
    feed.schema.columns[0].kind = ColumnType::Json;
    let error = lab.warehouse.prepare(&feed).await.unwrap_err();
    assert_eq!(error.blame, Blame::Lasting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypts_and_checks_the_certificate() {
    let url = given("TIDEGATE_TEST_POSTGRES_TLS");
    given("TIDEGATE_TEST_POSTGRES_TLS_PASSWORD");
    let secret = config::Secret::Env("TIDEGATE_TEST_POSTGRES_TLS_PASSWORD".into());
    let config = |host: &str, ca: &str| {
        let mut config = warehouse_config(url.replace("@localhost:", &format!("@{host}:")));
        config.password = Some(secret.clone());
        config.tls.mode = config::TlsMode::VerifyFull;
        config.tls.ca = Some(given(ca).into());
        config
    };
    let right = config("localhost", "TIDEGATE_TEST_CA");
    warehouse::open(&right).unwrap().ping().await.unwrap();
    let other_ca = config("localhost", "TIDEGATE_TEST_OTHER_CA");
    let error = warehouse::open(&other_ca).unwrap().ping().await.unwrap_err();
    assert!(error.message.contains("certificate"), "{error}");
    let no_password = config::Warehouse { password: None, ..right };
    let error = warehouse::open(&no_password).unwrap().ping().await.unwrap_err();
    assert_eq!(error.blame, Blame::Lasting, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_named_like_the_bookkeeping_has_a_table_of_its_own() {
    let lab = lab().await;
    let user = lab.ask("SELECT current_user").await;
    assert_eq!(user, ["tidegate"], "a search path that begins with the bookkeeping's schema");
    for schema in ["public", "Ana_lytics"] {
        let mut config = lab.config.clone();
        config.schema = schema.into();
        let warehouse = warehouse::open(&config).unwrap();
        let mut feed = accounts(FeedKind::Stream);
        feed.name = "gaps".into();
        warehouse.prepare(&feed).await.unwrap();
        let claim = claim_on(&*warehouse, &feed, 0).await;
        let next = warehouse.progress("gaps").await.unwrap()[&source(0)].next_offset;
        let rows = batch(&feed, 0, next, &[put("a", "ann", 1)]);
        let verdicts = warehouse.write(&feed, &[part(claim, vec![rows])]).await.unwrap();
        assert_eq!(verdicts, [DURABLE]);
        assert_eq!(lab.ask(&format!("SELECT id FROM \"{schema}\".gaps")).await, ["a"]);
    }
    let beside = "SELECT tablename FROM pg_tables WHERE schemaname = 'tidegate' \
                  AND tablename NOT IN ('audit', 'chores', 'columns', 'expired', 'expiry', 'former', 'gaps', \
                                        'installation', 'leases', 'migrations', 'nodes', 'permissions', 'progress', 'quarantine', \
                                        'salt', 'signals', 'snapshots', 'tokens')";
    assert_eq!(lab.ask(beside).await, [""; 0]);
    // A table's schema of its own wins.
    let mut feed = accounts(FeedKind::Table);
    feed.warehouse.as_mut().unwrap().table = Some("elsewhere.accounts".into());
    lab.warehouse.prepare(&feed).await.unwrap();
    assert_eq!(lab.count("elsewhere.accounts").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_of_every_kind_get_wider() {
    let lab = lab().await;
    let mut feed = accounts(FeedKind::Stream);
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    let kinds = [
        ("i", ColumnType::Int, ColumnType::Long),
        ("f", ColumnType::Int, ColumnType::WIDE),
        ("l", ColumnType::Long, ColumnType::WIDE),
        ("n", decimal(9, 2), decimal(38, 2)),
        ("day", ColumnType::Date, ColumnType::Timestamp),
    ];
    feed.schema.columns = kinds.iter().map(|(name, kind, _)| column(name, *kind)).collect();
    feed.schema.key_columns = 0;
    lab.warehouse.prepare(&feed).await.unwrap();
    lab.ask("INSERT INTO accounts VALUES (1, 2, 3, 4.56, '2025-10-13'); SELECT 1").await;
    for (index, (name, former, wide)) in kinds.into_iter().enumerate() {
        feed.schema.columns[index].kind = wide;
        assert!(lab.warehouse.widen(&feed, &column(name, former)).await.unwrap(), "{name}");
    }
    let types = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
                 WHERE attrelid = 'accounts'::regclass AND attnum BETWEEN 1 AND 5 ORDER BY attnum";
    assert_eq!(
        lab.ask(types).await,
        ["bigint", "numeric(38,18)", "numeric(38,18)", "numeric(38,2)", "timestamp with time zone"]
    );
    lab.ask("SET timezone = 'UTC'").await;
    assert_eq!(
        lab.ask("SELECT i, trim_scale(f), trim_scale(l), n, day FROM accounts").await,
        ["1|2|3|4.56|2025-10-13 00:00:00+00"]
    );
    // What another node made wider still holds it, too.
    feed.schema.columns[1].kind = ColumnType::Long;
    assert!(lab.warehouse.widen(&feed, &column("f", ColumnType::Int)).await.unwrap());
    // Something is made of it, or it is what it was not: it stays, and so do the records that need it.
    let cannot = async |name: &str, sql: &str| {
        lab.ask(&format!("{sql}; SELECT 1")).await;
        let mut feed = feed.clone();
        feed.schema.columns = vec![column(name, ColumnType::WIDE)];
        assert!(
            !lab.warehouse.widen(&feed, &column(name, ColumnType::Long)).await.unwrap(),
            "{sql}"
        );
    };
    cannot("i", "CREATE VIEW v AS SELECT i FROM accounts").await;
    cannot("c", "ALTER TABLE accounts ADD COLUMN c bigint CHECK (c::text ~ '^[0-9]+$') DEFAULT 1")
        .await;
    cannot("d", "ALTER TABLE accounts ADD COLUMN d bigint GENERATED BY DEFAULT AS IDENTITY").await;
    cannot("e", "ALTER TABLE accounts ADD COLUMN e double precision").await;
    cannot("z", "ALTER TABLE accounts ADD COLUMN z numeric(38,0)").await;
    cannot("z", "ALTER TABLE accounts DROP COLUMN _offset").await;
}

/// What PostgreSQL would round or cut off without a word is no place for a value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_would_change_values_is_refused() {
    let lab = lab().await;
    lab.ask("CREATE DOMAIN rounding AS numeric(10,1); SELECT 1").await;
    for (kind, there, fits) in [
        ("double", "bigint", false),
        ("double", "numeric", true),
        ("long", "integer", true), // what is too large fails, and says so
        ("decimal(9,2)", "integer", false),
        ("decimal(9,2)", "numeric(20,1)", false),
        ("decimal(9,2)", "numeric(8,2)", true),
        ("decimal(9,2)", "numeric(9,-2)", false),
        ("decimal(9,2)", "rounding", false),
        ("decimal(9,0)", "bigint", true),
        ("number", "bigint", false),
        ("timestamp", "date", false),
        ("timestamp", "time(3)", false),
        ("timestamp", "timestamp", true),
        ("date", "timestamp with time zone", true),
    ] {
        let mut feed = accounts(FeedKind::Stream);
        feed.schema.columns = vec![column("v", kind.parse().unwrap())];
        feed.schema.key_columns = 0;
        lab.ask(&format!("DROP TABLE IF EXISTS accounts; CREATE TABLE accounts (v {there})")).await;
        let prepared = lab.warehouse.prepare(&feed).await;
        assert_eq!(prepared.is_ok(), fits, "{kind} into {there}: {prepared:?}");
    }
}
