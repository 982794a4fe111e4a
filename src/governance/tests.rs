mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::util::display::array_value_to_string;

use super::*;
use crate::config::ColumnType;

fn row(id: i64, text: &str) -> Row {
    let mut row = Row {
        id: RowId::Own(id),
        grantee: Grantee::Everybody,
        feed: "*".parse().unwrap(),
        action: Action::Read,
        effect: Effect::Allow,
        target: Target::default(),
        expires_at_ms: None,
        granted_by: "user:root".to_owned(),
        reason: "a test".to_owned(),
    };
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once(' ').unwrap_or((part, ""));
        match name {
            "deny" => row.effect = Effect::Deny,
            "to" => row.grantee = value.parse().unwrap(),
            "on" => row.feed = value.parse().unwrap(),
            "may" => row.action = value.parse().unwrap(),
            "until" => row.expires_at_ms = Some(value.parse().unwrap()),
            "columns" => {
                row.target.columns = Some(value.split(' ').map(str::to_owned).collect());
            }
            "mask" => {
                let (column, mask) = value.split_once(' ').unwrap();
                row.target.masks.insert(column.to_owned(), mask.parse().unwrap());
            }
            "where" => row.target.predicate = Some(value.parse().unwrap()),
            "from" => row.target.days.from = Some(value.parse().unwrap()),
            "upto" => row.target.days.to = Some(value.parse().unwrap()),
            _ => panic!("{part}"),
        }
    }
    assert_eq!(row.fault(), None, "{text}");
    row
}

fn ada() -> Principal {
    let groups = BTreeSet::from(["finance".to_owned()]);
    Principal { roles: BTreeSet::from(["analyst".to_owned()]), groups, ..Principal::user("ada") }
}

/// Which row decides: `+` for allowed, `-` and the row that denies, `0` where none allows.
fn decided(rows: &[&str], action: Action, feed: &str) -> String {
    let rows: Vec<Row> = (1..).zip(rows).map(|(id, text)| row(id, text)).collect();
    match decide(&rows, &ada(), action, feed, 1_000) {
        Decision::Allowed(access) => {
            let ids: Vec<String> = access.rows().map(|id| id.to_string()).collect();
            format!("+{}", ids.join(","))
        }
        Decision::Denied(by) => format!("-{}", by.map_or("0".to_owned(), |id| id.to_string())),
    }
}

#[test]
fn rows_decide() {
    use Action::{Manage, Quarantine, Read, Replay, Write};
    let table: &[(&[&str], Action, &str, &str)] = &[
        (&[], Read, "sales", "-0"),
        (&[""], Read, "sales", "+1"),
        (&[""], Write, "sales", "-0"),
        (&["may manage"], Read, "sales", "-0"),
        (&["may quarantine"], Quarantine, "sales", "+1"),
        (&[""], Quarantine, "sales", "-0"),
        (&["may replay; on sales"], Replay, "sales", "+1"),
        (&["on sales"], Read, "sales_eu", "-0"),
        (&["on sales*"], Read, "sales_eu", "+1"),
        (&["on *_eu"], Read, "sales_eu", "+1"),
        (&["on s*s*eu"], Read, "sales_eu", "+1"),
        (&["on sales*u*u"], Read, "sales_eu", "-0"),
        (&["to user:ada"], Read, "f", "+1"),
        (&["to user:bob"], Read, "f", "-0"),
        (&["to role:ada"], Read, "f", "-0"),
        (&["to role:analyst"], Read, "f", "+1"),
        (&["to group:finance"], Read, "f", "+1"),
        (&["to group:analyst"], Read, "f", "-0"),
        (&["until 1000"], Read, "f", "-0"),
        (&["until 1001"], Read, "f", "+1"),
        (&["", "deny; to user:ada"], Read, "f", "-2"),
        (&["deny; to group:finance", "to user:ada"], Read, "f", "-1"),
        (&["", "deny; to user:bob"], Read, "f", "+1"),
        (&["", "deny; until 1000"], Read, "f", "+1"),
        (&["", "deny; may write"], Read, "f", "+1"),
        (&["", "deny; on g"], Read, "f", "+1"),
        (&["", "deny; columns a"], Read, "f", "+1,2"),
        (&["deny; columns a"], Read, "f", "-0"),
        (&["may manage", "may manage; deny; on f"], Manage, "f", "-2"),
    ];
    for (rows, action, feed, expected) in table {
        assert_eq!(decided(rows, *action, feed), *expected, "{rows:?} {action} {feed}");
    }
    // Whoever is at the machine is no user of the rows.
    let rows = [row(1, "to user:ada")];
    let local = decide(&rows, &Principal::local("ada"), Action::Read, "f", 0);
    assert_eq!(local, Decision::Denied(None));
}

#[test]
fn rows_that_make_no_sense_say_so() {
    let fault = |change: &dyn Fn(&mut Row)| {
        let mut row = row(1, "");
        change(&mut row);
        row.fault().unwrap_or_default()
    };
    let named = |name: &str| BTreeSet::from([name.to_owned()]);
    let masked = |name: &str| BTreeMap::from([(name.to_owned(), Mask::Hash)]);
    assert_eq!(fault(&|_| {}), "");
    let narrow = fault(&|row| {
        row.action = Action::Write;
        row.target.columns = Some(named("a"));
    });
    assert!(narrow.contains("for `read`"), "{narrow}");
    let deny = fault(&|row| {
        row.effect = Effect::Deny;
        row.target.masks = masked("b");
    });
    assert!(deny.contains("no masks"), "{deny}");
    let days = fault(&|row| {
        row.target.days.from = "2026-01-02".parse().ok();
        row.target.days.to = "2026-01-01".parse().ok();
    });
    assert!(days.contains("are none"), "{days}");
    assert!(fault(&|row| row.target.columns = Some(BTreeSet::new())).contains("empty list"));
}

#[test]
fn names_are_read_and_refused() {
    for good in ["user:ada", "role:a b", "group:é", "*", "user:a:b"] {
        assert_eq!(good.parse::<Grantee>().unwrap().to_string(), good);
    }
    for bad in ["", "ada", "user:", "user: a", "team:x", "user:a\n", "**"] {
        assert!(bad.parse::<Grantee>().is_err(), "{bad}");
    }
    for bad in ["", "A", "a.b", "a b", "../x"] {
        assert!(bad.parse::<Pattern>().is_err(), "{bad}");
    }
}

#[test]
fn predicates_are_a_small_part_of_sql() {
    for (text, meant) in [
        ("a = 1", "\"a\" = 1"),
        ("1 < a", "\"a\" > 1"),
        ("a <> 'it''s'", "\"a\" <> 'it''s'"),
        ("a = -1.50", "\"a\" = -1.50"),
        ("\"A b\" IS NOT NULL", "NOT (\"A b\" IS NULL)"),
        ("a IN ('x', 'y') OR NOT b", "\"a\" IN ('x', 'y') OR NOT (\"b\" = true)"),
        ("a BETWEEN 1 AND 2 AND c = false", "\"a\" >= 1 AND \"a\" <= 2 AND \"c\" = false"),
    ] {
        let parsed: Predicate = text.parse().unwrap();
        assert_eq!(parsed.to_string(), meant);
        assert_eq!(meant.parse::<Predicate>().unwrap(), parsed, "{meant}");
    }
    let deep = format!("{}a = 1{}", "(".repeat(10_000), ")".repeat(10_000));
    for bad in [
        "",
        "a",
        "a = b",
        "1 = 1",
        "a = 1; DROP TABLE x",
        "a = 1 --",
        "a LIKE 'x%'",
        "a = (SELECT 1)",
        "a IN (SELECT b FROM c)",
        "f(a) = 1",
        "a = 1 + 1",
        "a = $1",
        "a = NULL",
        "a::text = 'x'",
        "x.a = 1",
        "a = 'open",
        "current_user = 'ada'",
        &deep,
    ] {
        let parsed = bad.parse::<Predicate>();
        // A name alone is a boolean column.
        assert!(
            parsed.is_err() || ["a", "a = 1 --", "current_user = 'ada'"].contains(&bad),
            "{bad}: {parsed:?}"
        );
    }
}

const AT: i64 = 1_760_313_600_000_000; // 2025-10-13

/// Four records: ids 1 to 4, of which the second has nulls.
fn batch() -> RecordBatch {
    let day = 86_400_000_000;
    let text = |values: [Option<&str>; 4]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let time = |values: Vec<Option<i64>>| {
        Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) as ArrayRef
    };
    let amount = Decimal128Array::from(vec![Some(12_345), None, Some(-50), Some(99_999)]);
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef, true),
        ("city", text([Some("Perth"), None, Some("Rome"), Some("Perth")]), true),
        ("amount", Arc::new(amount.with_precision_and_scale(9, 2).unwrap()) as ArrayRef, true),
        (
            "rate",
            Arc::new(Float64Array::from(vec![Some(0.5), None, Some(-0.0), Some(f64::NAN)]))
                as ArrayRef,
            true,
        ),
        ("at", time(vec![Some(AT), None, Some(AT + day), Some(AT + 40 * day + 5)]), true),
        (
            "device",
            text([
                Some(r#"{"ip":"4.217.181.91","os":"x","n":[{"ip":1}]}"#),
                None,
                Some("[]"),
                Some("{}"),
            ]),
            true,
        ),
        (
            "_rest",
            text([
                Some(r#"{"who.name":"Ann","who.tags[0].x":1.50,"free":null}"#),
                None,
                None,
                None,
            ]),
            true,
        ),
        ("_key", text([Some("k1"), Some("k2"), None, None]), true),
        ("_timestamp", time(vec![Some(AT), Some(AT), None, None]), true),
    ])
    .unwrap()
}

fn columns() -> Vec<SinkColumn> {
    let one = |name: &str, path: &str, kind: &str, part| SinkColumn {
        name: name.to_owned(),
        path: path.to_owned(),
        kind: kind.parse().unwrap(),
        part,
    };
    vec![
        one("id", "ID", "long", Part::Key),
        one("city", "LOCATION.CITY", "string", Part::Value),
        one("amount", "AMOUNT", "decimal(9,2)", Part::Value),
        one("rate", "RATE", "double", Part::Value),
        one("at", "AT", "timestamp", Part::Value),
        one("device", "DEVICE", "json", Part::Value),
        one("_rest", "_rest", "json", Part::Rest),
        one("_key", "_key", "string", Part::RawKey),
        one("_timestamp", "_timestamp", "timestamp", Part::Coordinate),
    ]
}

/// `email` is a column of the other sink alone.
fn paths() -> Paths {
    let own = columns().into_iter().filter(|it| matches!(it.part, Part::Key | Part::Value));
    let own = own.map(|it| (it.name, it.path));
    own.chain([("email".to_owned(), "who.email".to_owned())]).collect()
}

fn view(rows: &[&str]) -> Option<View> {
    view_with(rows, &paths())
}

fn view_with(rows: &[&str], paths: &Paths) -> Option<View> {
    let rows: Vec<Row> = (1..).zip(rows).map(|(id, text)| row(id, text)).collect();
    let Decision::Allowed(access) = decide(&rows, &ada(), Action::Read, "f", 0) else {
        return None;
    };
    let time = TimeColumns { event: Some("at".to_owned()), kafka: Some("_timestamp".to_owned()) };
    View::of(&access, &columns(), paths, &time)
}

fn salt() -> Salt {
    Salt::new(b"salt")
}

/// What is seen: a line for each record, `·` for null; the coordinates left out.
fn seen(rows: &[&str]) -> Vec<String> {
    let Some(view) = view(rows) else { return vec!["nothing".to_owned()] };
    let seen = view.see(&batch(), &salt()).unwrap();
    let names: Vec<String> = seen.schema().fields().iter().map(|it| it.name().clone()).collect();
    let line = |row: usize| {
        let values = seen.columns().iter().zip(&names).filter(|(_, name)| *name != "_timestamp");
        let value = |(values, name): (&ArrayRef, &String)| match values.is_null(row) {
            true => format!("{name} ·"),
            false => format!("{name} {}", array_value_to_string(values, row).unwrap()),
        };
        values.map(value).collect::<Vec<_>>().join(", ")
    };
    (0..seen.num_rows()).map(line).collect()
}

#[test]
fn what_is_seen_is_what_some_row_shows() {
    let ids = |rows: &[&str]| -> String {
        let Some(view) = view(rows) else { return "nothing".to_owned() };
        let seen = view.see(&batch(), &salt()).unwrap();
        let ids = seen.column_by_name("id").unwrap().clone();
        (0..ids.len()).map(|row| array_value_to_string(&ids, row).unwrap()).collect()
    };
    for (rows, expected) in [
        (&[""][..], "1234"),
        (&["where city = 'Perth'"], "14"),
        (&["where city <> 'Perth'"], "3"),
        (&["where NOT city = 'Perth'"], "3"),
        (&["where city IS NULL"], "2"),
        (&["where city IN ('Rome', 'Oslo') OR amount > 100"], "134"),
        (&["where amount = 123.450"], "1"),
        (&["where amount < 0"], "3"),
        (&["where id > 2.5"], "34"),
        (&["where id = 99999999999999999999"], ""),
        (&["where rate = 0"], "3"),
        (&["where rate > 0"], "14"), // as in SQL, a NaN is above all
        (&["where at >= '2025-10-14'"], "34"),
        (&["where at = '2025-10-13T02:00:00+02:00'"], "1"),
        (&["from 2025-10-14"], "34"),
        (&["upto 2025-10-13"], "12"),
        (&["from 2025-10-14; upto 2025-10-14"], "3"),
        (&["where id = 1", "where id = 4"], "14"),
        (&["", "deny; where city = 'Perth'"], "3"),
        (&["", "deny; where city = 'Rome'"], "14"), // not known of the second
        (&["", "deny; upto 2025-10-13"], "34"),
        (&["where nothing = 1"], "nothing"),
        (&["", "where nothing = 1"], "1234"),
        (&["", "deny; where nothing = 1"], "nothing"),
        (&["where city = 1"], "nothing"),
        (&["where device = 'x'"], "nothing"),
        (&["where amount = 0.001"], "nothing"),
        (&["columns nothing"], "nothing"),
    ] {
        assert_eq!(ids(rows), expected, "{rows:?}");
    }
}

#[test]
fn columns_are_narrowed_and_masked() {
    let table: &[(&[&str], &[&str])] = &[
        (&["columns id city; where id < 3"], &["id 1, city Perth", "id 2, city ·"]),
        (&["columns id _key; where id = 1"], &["id 1, _key k1"]),
        // The key's bytes hold what of the key is not shown.
        (&["columns city _key; where id = 1"], &["city Perth"]),
        (
            &["columns id city; mask city last4; where id IN (1, 2, 3)"],
            &["id 1, city ****erth", "id 2, city ·", "id 3, city ****"],
        ),
        (&["columns amount; mask amount last4; where id = 4"], &["amount ****9.99"]),
        (
            &["columns at; mask at month; where id > 2"],
            &["at 2025-10-01T00:00:00Z", "at 2025-11-01T00:00:00Z"],
        ),
        (&["columns at; mask at year; where id = 3"], &["at 2025-01-01T00:00:00Z"]),
        // A mask that says nothing of a type hides it.
        (&["columns rate; mask rate hash; where id = 1"], &["rate ·"]),
        (&["columns id city; mask city null; where id = 1"], &["id 1, city ·"]),
        // Record by record the most telling row.
        (
            &[
                "columns id city; mask city null",
                "columns city; mask city last4; where id < 4",
                "columns city; where id = 1",
            ],
            &["id 1, city Perth", "id 2, city ·", "id 3, city ****", "id 4, city ·"],
        ),
        (
            &["columns id; where id < 3", "columns city; where id > 1 AND id < 4"],
            &["id 1, city ·", "id 2, city ·", "id ·, city Rome"],
        ),
        (&["columns id city; where id < 3", "deny; columns city"], &["id 1", "id 2"]),
        (
            &["columns id city", "deny; columns city; where amount < 200"],
            &["id 1, city ·", "id 2, city ·", "id 3, city ·", "id 4, city Perth"],
        ),
    ];
    for (rows, expected) in table {
        assert_eq!(seen(rows), *expected, "{rows:?}");
    }
}

#[test]
fn fields_inside_documents_are_masked() {
    let one = |rows: &[&str]| seen(rows).remove(0);
    let shown = one(&["columns device; mask DEVICE.ip hash; where id = 1"]);
    assert!(shown.contains(r#""os":"x","n":[{"ip":1}]"#) && !shown.contains("4.217"), "{shown}");
    let shown = one(&["columns device; mask DEVICE.n.ip null; where id = 1"]);
    assert_eq!(shown, r#"device {"ip":"4.217.181.91","os":"x","n":[{"ip":null}]}"#);
    let shown = one(&["columns _rest; mask who.name last4; mask who.tags null; where id = 1"]);
    assert_eq!(shown, r#"_rest {"who.name":"****","who.tags[0].x":null,"free":null}"#);
    let shown = one(&["columns _rest; mask who null; where id = 1"]);
    assert_eq!(shown, r#"_rest {"who.name":null,"who.tags[0].x":null,"free":null}"#);
    // A column by its path, and by the object around it.
    for path in ["LOCATION.CITY", "LOCATION"] {
        assert_eq!(one(&[&format!("columns city; mask {path} null; where id = 1")]), "city ·");
    }
    // What is denied is not in the documents either.
    let shown = one(&["columns device; where id = 1", "deny; columns DEVICE.ip device"]);
    assert_eq!(shown, "nothing");
    let shown = one(&["columns device; where id = 1", "deny; columns DEVICE.ip"]);
    assert_eq!(shown, r#"device {"ip":null,"os":"x","n":[{"ip":1}]}"#);
}

#[test]
fn hashes_are_of_the_salt_and_the_text() {
    use sha2::{Digest, Sha256};
    let hash = |text: &str| -> String {
        Sha256::digest(format!("salt{text}")).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let shown = |rows: &[&str]| seen(rows).remove(0);
    assert_eq!(
        shown(&["columns city; mask city hash; where id = 1"]),
        format!("city {}", hash("Perth"))
    );
    assert_eq!(shown(&["columns id; mask id hash; where id = 3"]), format!("id {}", hash("3")));
    assert_eq!(
        shown(&["columns amount; mask amount hash; where id = 3"]),
        format!("amount {}", hash("-0.50"))
    );
    let device = shown(&["columns device; mask DEVICE.ip hash; where id = 1"]);
    assert!(device.contains(&hash("4.217.181.91")), "{device}");
    assert_eq!(format!("{:?}", salt()), "***");
}

#[test]
fn only_what_is_shown_as_it_is_may_be_compared_with() {
    let plain = |rows: &[&str], name: &str| view(rows).unwrap().plain(name).is_some();
    assert!(plain(&[""], "city"));
    assert!(!plain(&["mask city hash"], "city") && plain(&["mask city hash"], "id"));
    assert!(!plain(&["columns id"], "city"));
    assert!(!plain(&["", "columns id; where id = 1"], "city"), "in some records only");
    assert!(!plain(&["", "deny; columns city; where id = 1"], "city"));
    assert!(!plain(&["mask DEVICE.ip null"], "device"));
    assert!(!plain(&[""], "nothing"));
}

#[test]
fn a_view_says_what_it_reads_and_what_was_unfit() {
    let view =
        view(&["columns id; where city = 'x'", "upto 2025-01-01; where nothing = 1"]).unwrap();
    assert_eq!(view.judged_by(), BTreeSet::from(["city"]));
    assert_eq!(view.unfit.len(), 1);
    assert!(view.unfit[0].1.contains("nothing"), "{:?}", view.unfit);
    let names: Vec<String> = view.schema().fields().iter().map(|it| it.name().clone()).collect();
    assert_eq!(names, ["id", "_timestamp"]);
    assert!(
        view.see(&batch(), &salt())
            .unwrap()
            .column(0)
            .as_primitive_opt::<arrow::datatypes::Int64Type>()
            .is_some()
    );
}

#[test]
fn masks_fit_types() {
    assert!(Mask::Null.fits(ColumnType::Json) && !Mask::Hash.fits(ColumnType::Double));
    assert!(Mask::Month.fits(ColumnType::Date) && !Mask::Month.fits(ColumnType::String));
}

/// A mask or a denial that hides nothing would look like one that does.
#[test]
fn what_hides_nothing_is_not_taken_for_what_hides() {
    for rows in [
        &["mask City hash"][..],
        &["mask LOCATION.city hash"],
        &["mask _timestamp null"],
        &["", "deny; columns CITY"],
    ] {
        assert_eq!(view(rows), None, "{rows:?}");
    }
    let without_time = view(&["", "deny; columns _timestamp"]).unwrap();
    assert!(without_time.columns.iter().all(|it| it.column.name != "_timestamp"));
    // The key's bytes are hidden with what of the key is, whatever it is called.
    for hidden in ["mask ID hash", "mask id null"] {
        assert!(!seen(&[&format!("{hidden}; where id = 1")])[0].contains("_key"), "{hidden}");
    }
    assert!(!seen(&["where id = 1", "deny; columns ID"])[0].contains("_key"));
    assert!(seen(&["mask city null; where id = 1"])[0].contains("_key k1"));
    // A text may hold a document that nobody looks into.
    assert!(seen(&["mask LOCATION.CITY.part null; where id = 1"])[0].contains("city ·"));
    // A grant of nothing tells not even of records.
    let view = view(&["columns id; where id = 1", "columns nothing"]).unwrap();
    assert_eq!((view.grants.len(), view.unfit.len()), (1, 1));
}

#[test]
fn a_column_of_the_other_sink_is_hidden_where_its_field_is() {
    let mut paths = paths();
    paths.insert("who".to_owned(), "who.name".to_owned());
    let rest = |rows: &[&str]| {
        let seen = view_with(rows, &paths).unwrap().see(&batch(), &salt()).unwrap();
        array_value_to_string(seen.column_by_name("_rest").unwrap(), 0).unwrap()
    };
    let hidden = r#"{"who.name":null,"who.tags[0].x":1.50,"free":null}"#;
    assert_eq!(rest(&["mask who null; where id = 1"]), hidden);
    assert_eq!(rest(&["where id = 1", "deny; columns who"]), hidden);
    // What a grant of some columns does not show, the rest does not show either.
    assert_eq!(rest(&["columns id _rest; where id = 1"]), hidden);
    assert_eq!(rest(&["columns id who _rest; where id = 1"]).matches("Ann").count(), 1);
}

#[test]
fn names_with_brackets_are_names() {
    let masks = |path: &str| {
        let texts = StringArray::from(vec![r#"{"price[usd]":7,"a[0].b":8,"open[":9}"#]);
        let batch = RecordBatch::try_from_iter([("_rest", Arc::new(texts) as ArrayRef)]).unwrap();
        let rest = columns().into_iter().filter(|it| it.part == Part::Rest).collect::<Vec<_>>();
        let rows = [row(1, &format!("mask {path} null"))];
        let Decision::Allowed(access) = decide(&rows, &ada(), Action::Read, "f", 0) else {
            panic!()
        };
        let view = View::of(&access, &rest, &Paths::new(), &TimeColumns::default()).unwrap();
        let seen = view.see(&batch, &salt()).unwrap();
        array_value_to_string(seen.column(0), 0).unwrap()
    };
    assert_eq!(masks("price[usd]"), r#"{"price[usd]":null,"a[0].b":8,"open[":9}"#);
    assert_eq!(masks("a.b"), r#"{"price[usd]":7,"a[0].b":null,"open[":9}"#);
    assert_eq!(masks("open["), r#"{"price[usd]":7,"a[0].b":8,"open[":null}"#);
}

/// What is granted is kept as it prints, and read again from there.
#[test]
fn long_predicates_are_read_again_as_they_were_kept() {
    let terms = |count: usize, with: &str| -> String {
        (0..count).map(|n| format!("a = {n}")).collect::<Vec<_>>().join(with)
    };
    for text in [terms(500, " OR "), terms(500, " AND "), format!("NOT ({})", terms(60, " OR "))] {
        let predicate: Predicate = text.parse().unwrap();
        assert_eq!(predicate.to_string().parse(), Ok(predicate));
    }
    let long =
        format!("a IN ({})", (0..999).map(|n| format!("'{n:06}'")).collect::<Vec<_>>().join(","));
    match long.parse::<Predicate>() {
        Ok(predicate) => assert!(predicate.to_string().parse::<Predicate>().is_ok()),
        Err(error) => assert!(error.contains("to be kept"), "{error}"),
    }
    let negative = Float64Array::from(vec![-f64::NAN, 1.0]);
    let batch = RecordBatch::try_from_iter([("a", Arc::new(negative) as ArrayRef)]).unwrap();
    let below: Predicate = "a < 3".parse().unwrap();
    assert!(!below.holds(&batch).unwrap().value(0) && below.holds(&batch).unwrap().value(1));
}
