//! What people see in a real database, beside what the API would show them.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use futures::TryStreamExt;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::*;
use crate::config::{ColumnType, FeedFile, Rights};
use crate::governance::{Access, Counted, Days, Mask, RowId, Salt, Target};
use crate::grants::Grants;
use crate::reads::WarehouseReading;
use crate::warehouse::contract::lab::{Lab, connect};
use crate::warehouse::{open_rights, open_rows};

const FEED: &str = "{feed: sheet, type: table, topic: t, time: at, \
    key: {format: json, columns: [{name: id, path: ID, type: long}]}, rest: true, warehouse: {}, \
    columns: [{name: name, path: WHO.NAME, type: string}, {name: count, path: COUNT, type: int}, \
              {name: amount, path: AMOUNT, type: 'decimal(10,2)'}, {name: share, path: SHARE, type: double}, \
              {name: ok, path: OK, type: boolean}, {name: born, path: BORN, type: date}, \
              {name: at, path: AT, type: timestamp}, {name: doc, path: DOC, type: json}]}";

const ROWS: &str = r#"INSERT INTO sheet (id, name, count, amount, share, ok, born, at, doc, _rest) VALUES
    (1, 'Ada', 7, 1.50, 0.5, true, '2026-01-31', '2026-01-31 23:59:59.999999+00',
     '{"a": {"b": "secret", "c": [1, {"b": 2}]}, "when": "2026-03-04T05:06:07Z"}', '{"WHO.MAIL": "ada@example.org", "ITEMS[0].NOTE": "x"}'),
    (2, 'Straße', -7, -1.50, 'NaN', false, '2026-02-01', '2026-02-01 00:00:00+00',
     '[{"a": {"b": null}}, {"a": {"b": 12345.50}}]', '{"EXTRA": [1, 2, {"NOTE": "long enough"}]}'),
    (3, '', 0, 0.00, '-0', NULL, NULL, NULL, 'null', NULL),
    (4, NULL, NULL, NULL, NULL, NULL, '1969-12-31', '1969-12-31 12:00:00+00', NULL, '{}'),
    (5, 'O''Hara \ "x"', 2147483647, 99999999.99, 'Infinity', true, '2026-01-01', '2026-06-15 12:00:00+00',
     '{"a": {"b": true}, "when": "2026-13-45", "A": 1}', '{"WHO.MAIL": 5, "NOTE": "2026-05-06"}'),
    (6, 'ada', -2147483648, -99999999.99, '-Infinity', false, '9999-12-31', '2026-02-28 00:00:00+00',
     '"a text"', '{"ITEMS[12].NOTE": {"deep": "abcdefgh"}}'),
    (7, 'zoë', 1, 0.01, 1e-300, true, '2024-02-29', '2024-02-29 00:00:00.000001+00', '{"when": 20260101}', '{"a.b": "c"}'),
    (9007199254740993, 'Ada', 12345, 12.30, 12.5, true, '2026-01-31', '2026-01-31 00:00:00+00', '{}', '{"WHO.MAIL": null}')"#;

const PREDICATES: [&str; 24] = [
    "name = 'Ada'",
    "name > 'Straß'",
    "name <= 'ada'",
    "NOT name IN ('Ada', 'O''Hara \\ \"x\"')",
    "name <> ''",
    "count >= 1.5",
    "count BETWEEN -7 AND 7",
    "count IN (7, 2147483648, -2147483648)",
    "id > 9007199254740992",
    "amount = 1.5",
    "amount < 0.005",
    "amount IN (99999999.99, -1.5)",
    "share > 1",
    "share = 0",
    "NOT share <= 0.5",
    "ok",
    "NOT ok",
    "ok IS NULL OR ok",
    "born >= '2026-01-31'",
    "born = '2026-02-01' OR at < '2025-01-01'",
    "at >= '2026-01-31T23:59:59.999999Z'",
    "at IS NOT NULL AND NOT (name = 'ada' AND ok IS NULL)",
    "doc IS NULL",
    "at < '2026-02-01T01:00:00+01:00'",
];

const NAMES: [&str; 10] =
    ["id", "name", "count", "amount", "share", "ok", "born", "at", "doc", "_rest"];

/// Columns, and fields that no column has.
const PATHS: [&str; 16] = [
    "name",
    "count",
    "amount",
    "share",
    "ok",
    "day",
    "at",
    "doc",
    "DOC.a.b",
    "DOC.a",
    "DOC.when",
    "WHO",
    "WHO.MAIL",
    "ITEMS.NOTE",
    "EXTRA",
    "NOTE",
];

fn target(masks: bool) -> impl Strategy<Value = Target> {
    let columns = prop_oneof![
        Just(None),
        subsequence(NAMES.to_vec(), 1..5)
            .prop_map(|names| Some(names.into_iter().map(str::to_owned).collect())),
    ];
    let mask = (select(PATHS.to_vec()), select(Mask::ALL.to_vec()));
    let masks = prop::collection::vec(mask, 0..if masks { 4 } else { 1 });
    let days = prop_oneof![
        3 => Just((None, None)),
        1 => (select(vec![None, Some("2026-01-31")]), select(vec![None, Some("2026-02-01")])),
    ];
    (columns, masks, prop::option::of(select(PREDICATES.to_vec())), days).prop_map(
        |(columns, masks, predicate, (from, to))| Target {
            columns,
            masks: masks.into_iter().map(|(path, mask)| (path.to_owned(), mask)).collect(),
            predicate: predicate.map(|text| text.parse().unwrap()),
            days: Days {
                from: from.map(|day| day.parse().unwrap()),
                to: to.map(|day| day.parse().unwrap()),
            },
        },
    )
}

fn access() -> impl Strategy<Value = Access> {
    let all = |targets: Vec<Target>, first: i64| {
        let one = |(index, target)| counted(first + index as i64, target);
        targets.into_iter().enumerate().map(one).collect()
    };
    let grants = prop::collection::vec(target(true), 1..4);
    let denials = prop::collection::vec(target(false), 0..3);
    (grants, denials).prop_map(move |(grants, denials)| Access {
        grants: all(grants, 1),
        denials: all(denials, 100),
    })
}

fn counted(row: i64, target: Target) -> Counted {
    Counted { row: RowId::Own(row), target, expires_at_ms: None }
}

/// A database with a table, somebody who reads in it, and who keeps his rights.
struct Place {
    lab: Lab,
    feed: Arc<Feed>,
    reader: Reader,
    readers: String,
    store: Arc<dyn RightsStore>,
    salt: Salt,
}

impl Place {
    async fn new() -> Self {
        let lab = Lab::postgres().await.migrated().await;
        let file: FeedFile = serde_saphyr::from_str(FEED).unwrap();
        let feed = Arc::new(file.resolve("t", None).unwrap());
        lab.warehouse.prepare(&feed).await.unwrap();
        lab.ask(ROWS).await;
        let unique = uuid::Uuid::new_v4().simple();
        let (readers, role) = (format!("readers_{unique}"), format!("Ada \"{unique}\""));
        lab.ask(&format!(
            "CREATE ROLE {readers}; CREATE ROLE {} LOGIN IN ROLE {readers}",
            ident(&role)
        ))
        .await;
        let rights = Rights { readers: readers.clone() };
        let store = open_rights(&lab.config, &rights).unwrap().unwrap();
        let salt = Grants::of(&lab.config).unwrap().rules().await.unwrap().salt;
        let reader = Reader { role, member_of: [].into() };
        Self { lab, feed, reader, readers, store, salt }
    }

    fn sight(&self, access: &Access) -> Option<Sight> {
        Sight::of_warehouse(&self.feed, access, &self.salt)
    }

    fn view(&self, access: &Access) -> Option<ReaderView> {
        let (role, feed) = (self.reader.role.clone(), self.feed.clone());
        let view = self.sight(access)?.view().clone();
        Some(ReaderView { role, feed, view, until_ms: None })
    }

    async fn reconcile(&self, views: &[ReaderView], dry_run: bool) -> Reconciled {
        let readers = std::slice::from_ref(&self.reader);
        let feeds = std::slice::from_ref(&self.feed);
        let done = self.store.reconcile(readers, feeds, views, dry_run).await.unwrap();
        done.expect("nobody else is at it")
    }

    /// Makes it so, which leaves nothing to do.
    async fn keep(&self, access: &Access) {
        let views: Vec<ReaderView> = self.view(access).into_iter().collect();
        let done = self.reconcile(&views, false).await;
        let failed = done.changes.iter().find(|change| change.failed.is_some());
        assert!(failed.is_none() && done.open.is_empty(), "{failed:#?} {:?}", done.open);
        let again = self.reconcile(&views, true).await;
        assert!(again.is_settled(), "{again:#?}");
    }

    /// The database as the reader has it, and nobody else.
    async fn as_reader(&self) -> Client {
        let client = connect(&self.lab.config.url).await;
        let become_him = format!("SET SESSION AUTHORIZATION {}", ident(&self.reader.role));
        client.batch_execute(&become_him).await.unwrap();
        client
    }

    fn of_reader(&self, name: &str) -> String {
        format!("{}.{name}", ident(&self.reader.role))
    }
}

fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn all() -> Access {
    granted(Target::default())
}

fn granted(target: Target) -> Access {
    Access { grants: vec![counted(1, target)], denials: Vec::new() }
}

fn only(predicate: &str) -> Target {
    Target { predicate: Some(predicate.parse().unwrap()), ..Target::default() }
}

fn masked(masks: &[(&str, Mask)]) -> Target {
    let masks = masks.iter().map(|(path, mask)| ((*path).to_owned(), *mask)).collect();
    Target { masks, ..Target::default() }
}

/// A value by what it means, and not by how it is spelled.
#[derive(Debug, Clone, PartialEq)]
enum Meant {
    Text(String),
    Number(u64),
    Document(Value),
}

impl Meant {
    fn of(kind: ColumnType, text: &str) -> Self {
        match kind {
            ColumnType::Double => {
                let number: f64 = text.parse().unwrap();
                Self::Number(if number.is_nan() { 0 } else { number.to_bits() })
            }
            ColumnType::Json => Self::Document(serde_json::from_str(text).unwrap()),
            _ => Self::Text(text.to_owned()),
        }
    }
}

type Seen = Vec<BTreeMap<String, Option<Meant>>>;

/// What the API shows.
async fn through_the_api(place: &Place, sight: &Sight) -> Seen {
    let reading = WarehouseReading {
        reader: open_rows(&place.lab.config).unwrap(),
        feed: place.feed.clone(),
        sight: sight.clone(),
        filter: None,
    };
    let batches = reading.rows(None, 100).await.unwrap();
    let batches: Vec<RecordBatch> = batches.map_ok(|seen| seen.rows).try_collect().await.unwrap();
    let kinds: Vec<ColumnType> = sight.kinds();
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let value = |index: usize, values: &dyn Array| {
                let text = match kinds[index] {
                    _ if values.is_null(row) => return None,
                    ColumnType::Timestamp => {
                        values.as_primitive::<TimestampMicrosecondType>().value(row).to_string()
                    }
                    ColumnType::Double => {
                        values.as_primitive::<Float64Type>().value(row).to_string()
                    }
                    _ => {
                        let texts = arrow::compute::cast(values, &arrow::datatypes::DataType::Utf8);
                        texts.unwrap().as_string::<i32>().value(row).to_owned()
                    }
                };
                Some(Meant::of(kinds[index], &text))
            };
            let columns = batch.columns().iter().enumerate();
            let columns = columns.map(|(index, values)| (index, value(index, values)));
            let name = |index: usize| batch.schema().field(index).name().clone();
            rows.push(columns.map(|(index, value)| (name(index), value)).collect());
        }
    }
    rows
}

/// What he sees in the database, who sees all columns that there are.
async fn through_sql(place: &Place, sight: &Sight) -> Seen {
    let client = place.as_reader().await;
    let view = place.of_reader("sheet");
    let there = client.prepare(&format!("SELECT * FROM {view}")).await.unwrap();
    let there: Vec<&str> = there.columns().iter().map(|column| column.name()).collect();
    let columns: Vec<(String, ColumnType)> =
        sight.columns().map(|(column, kind, _)| (column.name.clone(), kind)).collect();
    assert_eq!(there, columns.iter().map(|(name, _)| name).collect::<Vec<_>>());
    let spelled = columns.iter().map(|(name, kind)| match kind {
        ColumnType::Timestamp => format!("(extract(epoch FROM {name}) * 1000000)::bigint::text"),
        _ => format!("{}::text", ident(name)),
    });
    let spelled = spelled.collect::<Vec<_>>().join(", ");
    let found = client.query(&format!("SELECT {spelled} FROM {view}"), &[]).await.unwrap();
    let row = |row: &tokio_postgres::Row| {
        let value = |(index, (name, kind)): (usize, &(String, ColumnType))| {
            let text = row.get::<_, Option<&str>>(index);
            (name.clone(), text.map(|text| Meant::of(*kind, text)))
        };
        columns.iter().enumerate().map(value).collect()
    };
    found.iter().map(row).collect()
}

fn sorted(mut rows: Seen) -> Seen {
    rows.sort_by_key(|row| format!("{row:?}"));
    rows
}

#[test]
fn what_sql_shows_is_what_the_api_shows() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let place = runtime.block_on(Place::new());
    let mut runner =
        TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
    let compared = runner.run(&access(), |access| {
        runtime.block_on(async {
            place.keep(&access).await;
            let Some(sight) = place.sight(&access) else { return };
            let (api, sql) =
                tokio::join!(through_the_api(&place, &sight), through_sql(&place, &sight));
            assert_eq!(sorted(sql), sorted(api));
        });
        Ok(())
    });
    compared.unwrap();
}

async fn denied(client: &Client, sql: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_the_view_is_open() {
    let place = Place::new().await;
    let masks = masked(&[("name", Mask::Hash), ("DOC.a.b", Mask::Hash)]);
    place.keep(&granted(Target { predicate: only("ok").predicate, ..masks })).await;
    let (reader, view) = (place.as_reader().await, place.of_reader("sheet"));
    for sql in [
        "SELECT count(*) FROM public.sheet",
        "DELETE FROM public.sheet",
        "SELECT salt FROM tidegate.salt",
        "SELECT count(*) FROM tidegate.quarantine",
        "SELECT count(*) FROM tidegate.permissions",
        "SELECT tidegate.masked_value('\"Ada\"', 'hash', '')",
        "SELECT tidegate.view_definition('sheet')",
        &format!("CREATE TABLE {} (a int)", place.of_reader("own")),
    ] {
        denied(&reader, sql).await;
    }
    // Hashes are had of rows that the view shows, and of no others, nor of values.
    let of = "SELECT id, ctid::text, tableoid::text FROM sheet WHERE name IS NOT NULL ORDER BY id";
    for row in place.lab.client().query(of, &[]).await.unwrap() {
        let (id, at): (i64, (&str, &str)) = (row.get(0), (row.get(1), row.get(2)));
        let asked = format!("SELECT {view}('{}'::tid, '{}'::oid, 1) IS NOT NULL", at.0, at.1);
        let told: bool = reader.query_one(&asked, &[]).await.unwrap().get(0);
        assert_eq!(told, [1, 5, 7, 9_007_199_254_740_993].contains(&id), "{id}");
    }
    // A function that tells what it is given is given no row that is not shown.
    reader
        .batch_execute(
            "CREATE FUNCTION pg_temp.told(bigint) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS \
             $$ BEGIN IF $1 = 2 THEN RAISE 'row 2 is told'; END IF; RETURN true; END $$",
        )
        .await
        .unwrap();
    let asked = format!("SELECT count(*) FROM {view} WHERE pg_temp.told(id)");
    assert_eq!(reader.query_one(&asked, &[]).await.unwrap().get::<_, i64>(0), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changes_by_hand_is_changed_back() {
    let place = Place::new().await;
    let access =
        granted(Target { predicate: only("ok").predicate, ..masked(&[("name", Mask::Hash)]) });
    let views: Vec<ReaderView> = place.view(&access).into_iter().collect();
    place.keep(&access).await;
    let (view, role, readers) =
        (place.of_reader("sheet"), ident(&place.reader.role), &place.readers);
    let before = sorted(through_sql(&place, &place.sight(&access).unwrap()).await);
    for drift in [
        "GRANT SELECT ON sheet TO PUBLIC".to_owned(),
        format!("GRANT SELECT (name) ON sheet TO {role}"),
        format!("GRANT INSERT ON sheet TO {readers}"),
        format!("GRANT SELECT ON tidegate.salt TO {role}"),
        format!("GRANT SELECT ON {view} TO PUBLIC"),
        format!("REVOKE SELECT ON {view} FROM {role}"),
        format!("GRANT EXECUTE ON FUNCTION {view}(tid, oid, integer) TO PUBLIC"),
        format!("GRANT CREATE ON SCHEMA {role} TO {role}"),
        format!("ALTER VIEW {view} RESET (security_barrier)"),
        format!("DROP VIEW {view}"),
        format!("CREATE OR REPLACE VIEW {view} WITH (security_barrier) AS SELECT id, name, count, amount, share, ok, born, at, doc, _rest FROM sheet"),
        format!("ALTER FUNCTION {view}(tid, oid, integer) RESET ALL"),
        format!(
            "CREATE OR REPLACE FUNCTION {view}(tid, oid, integer) RETURNS text LANGUAGE sql STABLE SECURITY \
             DEFINER AS 'SELECT name FROM public.sheet WHERE ctid = $1'"
        ),
        "CREATE TABLE sheet_snapshots AS SELECT * FROM sheet; GRANT SELECT ON sheet_snapshots TO PUBLIC".to_owned(),
    ] {
        place.lab.client().batch_execute(&drift).await.expect(&drift);
        let found = place.reconcile(&views, true).await;
        assert_eq!((found.changes.len(), found.open.len()), (1, 0), "{drift}: {found:#?}");
        let still = place.reconcile(&views, true).await;
        assert_eq!(still, found, "a dry run changes nothing");
        place.keep(&access).await;
        assert_eq!(sorted(through_sql(&place, &place.sight(&access).unwrap()).await), before, "{drift}");
    }
    // Once more nothing is granted.
    place.reconcile(&[], false).await;
    denied(&place.as_reader().await, "SELECT FROM public.sheet").await;
    let left = format!("SELECT to_regclass('{view}')::text");
    assert_eq!(place.lab.ask(&left).await, ["-"]);
    assert!(place.reconcile(&[], true).await.is_settled());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_mended_is_told_with_the_remedy() {
    let place = Place::new().await;
    let (role, readers) = (ident(&place.reader.role), &place.readers);
    let views: Vec<ReaderView> = place.view(&all()).into_iter().collect();
    let client = place.lab.client();
    client.batch_execute(&format!("CREATE SCHEMA {role}")).await.unwrap();
    let found = place.reconcile(&views, false).await;
    assert!(found.changes.is_empty() && found.open[0].contains("COMMENT ON SCHEMA"), "{found:#?}");
    client.batch_execute(&format!("DROP SCHEMA {role}")).await.unwrap();
    place.keep(&all()).await;
    let view = place.of_reader("sheet");
    client.batch_execute(&format!("COMMENT ON VIEW {view} IS 'mine'")).await.unwrap();
    let found = place.reconcile(&views, false).await;
    assert!(found.open[0].contains("is not ours: drop or rename it"), "{found:#?}");
    client.batch_execute(&format!("DROP VIEW {view}")).await.unwrap();
    client.batch_execute(&format!("GRANT pg_read_all_data TO {role}")).await.unwrap();
    let found = place.reconcile(&views, false).await;
    assert!(found.open.iter().any(|it| it.contains("by a right to all tables")), "{found:#?}");
    client.batch_execute(&format!("REVOKE pg_read_all_data FROM {role}")).await.unwrap();
    let middle = format!("middle_{}", place.readers);
    client
        .batch_execute(&format!(
            "CREATE ROLE {middle}; GRANT SELECT ON sheet TO {middle} WITH GRANT OPTION; \
             SET ROLE {middle}; GRANT SELECT ON sheet TO {role}; RESET ROLE"
        ))
        .await
        .unwrap();
    let found = place.reconcile(&views, false).await;
    assert!(found.open[0].contains("REVOKE GRANT OPTION FOR ALL PRIVILEGES"), "{found:#?}");
    let revoke = format!("REVOKE ALL ON sheet FROM {middle} CASCADE; DROP ROLE {middle}");
    client.batch_execute(&revoke).await.unwrap();
    place.keep(&all()).await;

    // Who is a reader is asked of the database.
    let other = format!("super_{}", place.readers);
    let analysts = format!("analysts_{}", place.readers);
    client
        .batch_execute(&format!(
            "CREATE ROLE {other} LOGIN SUPERUSER IN ROLE {readers}; CREATE ROLE {analysts}; \
             GRANT {analysts} TO {role}"
        ))
        .await
        .unwrap();
    let found = place.store.readers().await.unwrap();
    client.batch_execute(&format!("DROP ROLE {other}")).await.unwrap();
    let reader = Reader { member_of: [analysts].into(), ..place.reader.clone() };
    assert_eq!(found.readers, [reader]);
    assert_eq!(found.open, [format!("{other} is a superuser, whom no permission row holds")]);
    let nobody = Rights { readers: "nobody of that name".to_owned() };
    let none = open_rights(&place.lab.config, &nobody).unwrap().unwrap().readers().await.unwrap();
    assert!(none.readers.is_empty() && none.open[0].contains("CREATE ROLE"), "{none:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_on_cannot_keep_a_view_open() {
    let place = Place::new().await;
    place.keep(&granted(masked(&[("name", Mask::Hash)]))).await;
    let (reader, view) = (place.as_reader().await, place.of_reader("sheet"));
    let count = format!("SELECT count(*) FROM {view}");
    let beside = format!("SELECT {view}('(0,1)', 'public.sheet'::regclass, 1)");
    // What anybody may lock is in nobody's way.
    reader.batch_execute("SELECT pg_advisory_lock(1953064037, 5)").await.unwrap();
    reader.batch_execute("BEGIN").await.unwrap();
    assert!(reader.query_one(&beside, &[]).await.is_ok());
    assert_eq!(reader.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 8);
    let done = place.reconcile(&[], false).await;
    assert!(done.changes[0].failed.is_some(), "{done:#?}");
    denied(&reader, &count).await;
    reader.batch_execute("ROLLBACK").await.unwrap();
    denied(&place.as_reader().await, &beside).await;
    let done = place.reconcile(&[], false).await;
    assert!(done.changes[0].failed.is_none(), "{done:#?}");

    // A view ends by itself, whether or not there is a node.
    let mut ending = place.view(&all()).unwrap();
    for (until_ms, rows) in [(i64::from(u32::MAX) * 1000, 8), (1_767_225_600_000, 0)] {
        ending.until_ms = Some(until_ms);
        place.reconcile(std::slice::from_ref(&ending), false).await;
        assert_eq!(reader.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), rows);
    }

    // A table that goes takes the view with it, and not the function beside.
    place.keep(&granted(masked(&[("name", Mask::Hash)]))).await;
    place.lab.client().batch_execute("DROP TABLE sheet CASCADE").await.unwrap();
    place.reconcile(&[], false).await;
    let left = format!("SELECT to_regprocedure('{view}(tid, oid, integer)')::text");
    assert_eq!(place.lab.ask(&left).await, ["-"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_setting_moves_rows_and_no_error_tells_of_them() {
    let place = Place::new().await;
    let client = place.lab.client();
    client.batch_execute("ALTER TABLE sheet ALTER COLUMN at TYPE timestamp").await.unwrap();
    let from = "2026-01-31".parse().unwrap();
    let days = Days { from: Some(from), to: Some(from) };
    place.keep(&granted(Target { days, ..Target::default() })).await;
    let (reader, view) = (place.as_reader().await, place.of_reader("sheet"));
    for zone in ["UTC", "A+167", "A-167"] {
        reader.batch_execute(&format!("SET timezone = '{zone}'")).await.unwrap();
        let ids = format!("SELECT array_agg(id ORDER BY id) FROM {view}");
        let ids: Vec<i64> = reader.query_one(&ids, &[]).await.unwrap().get(0);
        assert_eq!(ids, [1, 9_007_199_254_740_993], "{zone}");
    }
    let text = "ALTER TABLE sheet ALTER COLUMN count TYPE text";
    client.batch_execute(&format!("DROP VIEW {view}; {text}")).await.unwrap();
    let views: Vec<ReaderView> = place.view(&granted(only("count < 10"))).into_iter().collect();
    let found = place.reconcile(&views, false).await;
    assert!(found.open[0].contains("would tell of itself"), "{found:#?}");
    assert_eq!(place.lab.ask(&format!("SELECT to_regclass('{view}')::text")).await, ["-"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_are_in_no_writers_way() {
    let place = Place::new().await;
    place.keep(&all()).await;
    // A view upon hers keeps hers from being dropped.
    let reader = place.as_reader().await;
    let upon = format!("CREATE TEMP VIEW upon AS SELECT * FROM {}", place.of_reader("sheet"));
    reader.batch_execute(&upon).await.unwrap();
    let mut wide = place.feed.as_ref().clone();
    let at = wide.schema.columns.iter().position(|column| column.name == "count").unwrap();
    let former = wide.schema.columns[at].clone();
    wide.schema.columns[at].kind = ColumnType::Long;
    assert!(place.lab.warehouse.widen(&wide, &former).await.unwrap());
    reader.batch_execute("DROP VIEW upon").await.unwrap();
    let place = Place { feed: Arc::new(wide), ..place };
    place.keep(&all()).await;
    let count = format!("SELECT pg_typeof(count)::text FROM {} LIMIT 1", place.of_reader("sheet"));
    let kind: String = place.as_reader().await.query_one(&count, &[]).await.unwrap().get(0);
    assert_eq!(kind, "bigint");
}
