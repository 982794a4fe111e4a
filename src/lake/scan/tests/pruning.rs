//! What is left out, and that nothing of it was wanted.

use arrow::array::{BooleanArray, Scalar};
use arrow::compute::kernels::cmp::{gt_eq, lt_eq};
use arrow::compute::{and, is_not_null};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::*;
use super::bench::{Bench, FORMATS, all, collect, given};
use super::foreign::add_file;
use crate::record::{Bound, Value};

fn between(column: &str, least: Value, greatest: Value) -> Vec<Bound> {
    vec![Bound { column: column.into(), least: Some(least), greatest: Some(greatest) }]
}

fn only(columns: &[&str], bounds: Vec<Bound>) -> Request {
    let columns = columns.iter().map(|name| (*name).to_owned()).collect();
    Request { columns, bounds, ..Request::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_matter_are_not_fetched() {
    for format in FORMATS {
        let mut bench = Bench::new(format).await;
        for _ in 0..4 {
            // Two days each.
            bench.commit(0, 8, &[]).await;
        }
        let (scan, counts) = bench.counted().await;
        assert_eq!(scan.files().len(), 8);
        let fetches = async |bounds: Vec<Bound>| {
            counts.take();
            let rows = collect(&given(&scan, only(&["_offset"], bounds)).await);
            (rows, counts.take().0)
        };
        assert_eq!(fetches(Vec::new()).await.1, 8, "{format:?}: one get for each small file");
        let day = between("day", Value::Long(3), Value::Long(3));
        let of_day = ["8", "9", "10", "11"].map(str::to_owned).to_vec();
        assert_eq!(fetches(day).await, (of_day.clone(), 1));
        assert_eq!(fetches(between("year", Value::Long(1971), Value::Long(1980))).await.1, 0);
        // Delta's statistics tell offsets.
        let offsets = between("_offset", Value::Long(8), Value::Long(11));
        let (rows, gets) = fetches(offsets).await;
        if format == LakeFormat::Delta {
            assert_eq!((&rows, gets), (&of_day, 1));
        }
        assert!(of_day.iter().all(|offset| rows.contains(offset)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_large_file_only_what_matters_is_fetched() {
    let bench = Bench::new(LakeFormat::Delta).await;
    let offsets: Vec<i64> = (0..40_000).collect();
    add_file(&bench, &offsets, 5000, None).await;
    let (scan, counts) = bench.counted().await;
    let size = scan.files()[0].size;
    assert!(size > 4 * (64 << 10), "{size}");
    let fetched = async |request: Request| {
        counts.take();
        let rows = collect(&given(&scan, request).await).len();
        let (gets, bytes) = counts.take();
        // Beside the footer.
        (rows, gets - 1, bytes.saturating_sub(64 << 10))
    };
    let (rows, gets, whole) = fetched(all(&scan)).await;
    assert_eq!((rows, gets), (40_000, 8), "a get for each row group");
    let (rows, _, ids) = fetched(only(&["id"], Vec::new())).await;
    assert_eq!(rows, 40_000);
    assert!(ids * 4 < whole, "{ids} of {whole}: one column of seven");
    let two = between("id", Value::Long(100_000), Value::Long(199_990));
    let (rows, gets, some) = fetched(only(&["id"], two)).await;
    assert_eq!((rows, gets), (10_000, 2));
    assert!(some * 3 < ids, "{some} of {ids}: two row groups of eight");
    for (column, least, greatest) in [
        ("at", Value::Timestamp(10_000 * 1_234_567), Value::Timestamp(14_000 * 1_234_567)),
        ("price", Value::Decimal { unscaled: 250_000, scale: 2 }, Value::Long(3_700)),
        ("share", Value::Double(3332.0), Value::Double(4600.0)),
    ] {
        let (rows, gets, _) = fetched(only(&["id"], between(column, least, greatest))).await;
        assert_eq!((rows, gets), (5000, 1), "{column}");
    }
    let none = between("name", Value::Text("o".into()), Value::Text("p".into()));
    assert_eq!(fetched(only(&["id"], none)).await, (0, 0, 0));
    // From the middle on, what lies before is not fetched.
    let from = Position { file: 0, row: 34_999 };
    let (rows, gets, _) = fetched(Request { from, ..only(&["id"], Vec::new()) }).await;
    assert_eq!((rows, gets), (5001, 2));
}

/// A value of a column's type near those that occur.
fn value(column: &str) -> BoxedStrategy<Value> {
    let rows = -10_i64..130;
    match column {
        "id" => (-50_i64..1300).prop_map(Value::Long).boxed(),
        "name" => (0_i64..1000, 0_usize..6)
            .prop_map(|(n, cut)| Value::Text(format!("n{n:04}")[..cut].to_owned()))
            .boxed(),
        "at" => (rows, prop_oneof![3 => Just(0), 1 => -1500_i64..1500])
            .prop_map(|(at, off)| Value::Timestamp(at * 1_234_567 - 5_000_000 + off))
            .boxed(),
        "price" => (rows, 0_u32..4)
            .prop_map(|(at, scale)| {
                let unscaled = i128::from(at * 25 - 100) * 10_i128.pow(scale) / 100;
                Value::Decimal { unscaled, scale: scale as u8 }
            })
            .boxed(),
        "share" => rows.prop_map(|at| Value::Double(at as f64 / 3.0 - 2.0)).boxed(),
        "on" => (-15_i32..45).prop_map(Value::Date).boxed(),
        "flag" => any::<bool>().prop_map(Value::Bool).boxed(),
        "day" => (0_i64..33).prop_map(Value::Long).boxed(),
        "month" => (0_i64..4).prop_map(Value::Long).boxed(),
        "_topic" => prop_oneof![Just("s"), Just("t"), Just("u")]
            .prop_map(|text| Value::Text(text.to_owned()))
            .boxed(),
        _ => rows.prop_map(Value::Long).boxed(),
    }
}

const BOUNDED: [&str; 11] =
    ["id", "name", "at", "price", "share", "on", "flag", "day", "month", "_topic", "_offset"];

fn bound() -> impl Strategy<Value = Bound> {
    proptest::sample::select(&BOUNDED[..]).prop_flat_map(|column| {
        let end = move || proptest::option::weighted(0.8, value(column));
        (end(), end()).prop_map(move |(least, greatest)| Bound {
            column: column.to_owned(),
            least,
            greatest,
        })
    })
}

/// The one value in an array of the column's type; rounded outwards where it has no such digits.
fn scalar(value: &Value, kind: &arrow::datatypes::DataType) -> Scalar<arrow::array::ArrayRef> {
    use arrow::array::*;
    use arrow::datatypes::DataType;
    let array: ArrayRef = match value {
        Value::Long(value) => Arc::new(Int64Array::from(vec![*value])),
        Value::Double(value) => Arc::new(Float64Array::from(vec![*value])),
        Value::Decimal { unscaled, scale } => {
            let values = Decimal128Array::from(vec![*unscaled]);
            Arc::new(values.with_precision_and_scale(38, *scale as i8).unwrap())
        }
        Value::Text(value) => Arc::new(StringArray::from(vec![value.as_str()])),
        Value::Timestamp(value) => {
            Arc::new(TimestampMicrosecondArray::from(vec![*value]).with_timezone("UTC"))
        }
        Value::Date(value) => Arc::new(Date32Array::from(vec![*value])),
        Value::Bool(value) => Arc::new(BooleanArray::from(vec![*value])),
    };
    let kind = match kind {
        DataType::Decimal128(..) => array.data_type(),
        kind => kind,
    };
    Scalar::new(arrow::compute::cast(&array, kind).unwrap())
}

/// The rows within all bounds, by Arrow's own comparing.
fn within(bounds: &[Bound]) -> Keep {
    let bounds = bounds.to_vec();
    Arc::new(move |rows: &RecordBatch| {
        let mut wanted = BooleanArray::from(vec![true; rows.num_rows()]);
        for bound in &bounds {
            let values = rows.column_by_name(&bound.column).ok_or("no such column")?;
            let narrow = |wanted: BooleanArray, end: &Option<Value>, least: bool| {
                let Some(end) = end else { return Ok(wanted) };
                let end = scalar(end, values.data_type());
                // Decimals of one scale compare.
                let values = match arrow::array::Datum::get(&end).0.data_type() {
                    arrow::datatypes::DataType::Decimal128(_, scale) => {
                        let wide = (*scale).max(2);
                        let kind = arrow::datatypes::DataType::Decimal128(38, wide);
                        let end = arrow::array::Datum::get(&end).0;
                        let end = Scalar::new(arrow::compute::cast(end, &kind)?);
                        let values = arrow::compute::cast(values, &kind)?;
                        let inside =
                            if least { gt_eq(&values, &end) } else { lt_eq(&values, &end) };
                        return and(&wanted, &inside?);
                    }
                    _ => values,
                };
                let inside = if least { gt_eq(values, &end) } else { lt_eq(values, &end) };
                and(&wanted, &inside?)
            };
            let failed = |error: arrow::error::ArrowError| error.to_string();
            wanted = and(&wanted, &is_not_null(values).map_err(failed)?).map_err(failed)?;
            wanted = narrow(wanted, &bound.least, true).map_err(failed)?;
            wanted = narrow(wanted, &bound.greatest, false).map_err(failed)?;
        }
        Ok(wanted)
    })
}

#[test]
fn no_bound_ever_loses_a_row() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for format in FORMATS {
        let bench = runtime.block_on(async {
            let mut bench = Bench::new(format).await;
            for (partition, count) in [(0, 50), (1, 30), (0, 60)] {
                bench.commit(partition, count, &[7, 90]).await;
            }
            if format == LakeFormat::Delta {
                // Files that others put there: of many row groups, with all statistics or none.
                let offsets: Vec<i64> = (0..120).collect();
                add_file(&bench, &offsets, 10, None).await;
                for offsets in offsets.chunks(3) {
                    add_file(&bench, offsets, 2, Some(())).await;
                }
            }
            bench
        });
        let (scan, counts) = runtime.block_on(bench.counted());
        let everything = runtime.block_on(given(&scan, all(&scan)));
        counts.take();
        let most = std::cell::Cell::new((u64::MAX, 0));
        let mut runner =
            TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
        let bounds = proptest::collection::vec(bound(), 1..3);
        let outcome = runner.run(&(bounds, 1_usize..20), |(bounds, batch_rows)| {
            let keep = within(&bounds);
            let expected = everything.iter().map(|(batch, _)| {
                arrow::compute::filter_record_batch(batch, &keep(batch).unwrap()).unwrap()
            });
            let expected: Vec<String> = expected.flat_map(|it| super::bench::text(&it)).collect();
            let request =
                Request { bounds: bounds.clone(), keep: Some(keep), batch_rows, ..all(&scan) };
            let found = collect(&runtime.block_on(given(&scan, request)));
            let (gets, _) = counts.take();
            let (least, greatest) = most.get();
            most.set((least.min(gets), greatest.max(gets)));
            prop_assert_eq!(found, expected);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{format:?}: {error}"));
        let (least, greatest) = most.get();
        assert!(least * 2 < greatest, "{format:?}: {least} of {greatest}: some left something out");
    }
}
