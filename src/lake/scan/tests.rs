//! Scans of real tables on a local folder, and what they fetch of it.

pub mod bench;
mod foreign;
mod pruning;
mod states;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};

use self::bench::{Bench, FORMATS, all, collect, feed, given, text};
use super::*;
use crate::config::{Column, ColumnType};
use crate::record::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_is_what_was_committed() {
    for format in FORMATS {
        let mut bench = Bench::new(format).await;
        let mut expected = bench.commit(0, 40, &[3, 4]).await;
        expected.extend(bench.commit(1, 25, &[]).await);
        expected.extend(bench.commit(0, 10, &[]).await);
        let scan = bench.scan(At::Latest).await.unwrap();
        assert!(scan.files().len() > 3, "one for each day and commit");
        assert_eq!(scan.files().iter().filter_map(|file| file.rows).sum::<u64>(), 73);
        assert_eq!(scan.version(), (format == LakeFormat::Delta).then_some(5));
        let batches = given(&scan, all(&scan)).await;
        for (batch, _) in &batches {
            assert_eq!(batch.schema(), scan.schema(), "{format:?}");
        }
        let mut found = collect(&batches);
        assert!(!found.is_sorted(), "in the order of the commits");
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{format:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_come_as_they_are_asked_for() {
    for format in FORMATS {
        let mut bench = Bench::new(format).await;
        bench.commit(0, 9, &[]).await;
        let scan = bench.scan(At::Latest).await.unwrap();
        let columns = ["day", "_topic", "id", "month"].map(String::from).to_vec();
        let request = Request { columns: columns.clone(), ..Request::default() };
        let (batch, _) = given(&scan, request).await.remove(0);
        let named = |field: &Arc<arrow::datatypes::Field>| field.name().clone();
        assert_eq!(batch.schema().fields().iter().map(named).collect::<Vec<_>>(), columns);
        let kinds =
            batch.schema().fields().iter().map(|it| it.data_type().clone()).collect::<Vec<_>>();
        assert_eq!(kinds, [DataType::Int32, DataType::Utf8, DataType::Int64, DataType::Int32]);
        assert_eq!(text(&batch)[0], "1|t|0|1");
        // Rows without columns are counted.
        let rows = given(&scan, Request::default()).await;
        assert_eq!(rows.iter().map(|(batch, _)| batch.num_rows()).sum::<usize>(), 9);
        assert!(rows.iter().all(|(batch, _)| batch.num_columns() == 0));
        // `keep` sees what it reads, and the caller does not.
        let keep: Keep = Arc::new(|rows: &RecordBatch| {
            let ids = rows.column_by_name("id").ok_or("no id")?.as_primitive::<Int64Type>();
            Ok(ids.iter().map(|id| id.map(|id| id == 30)).collect())
        });
        let columns = vec!["name".to_owned()];
        let keep_columns = vec!["id".to_owned()];
        let request = Request { columns, keep: Some(keep), keep_columns, ..Request::default() };
        assert_eq!(collect(&given(&scan, request).await), ["n0021"]);
        for columns in [vec!["none".to_owned()], vec!["id".to_owned(), "id".to_owned()]] {
            let request = Request { columns, ..Request::default() };
            let error = futures::TryStreamExt::try_collect::<Vec<_>>(scan.batches(request)).await;
            assert!(error.is_err());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_position_leads_to_the_rest() {
    for format in FORMATS {
        let mut bench = Bench::new(format).await;
        bench.commit(0, 30, &[5]).await;
        bench.commit(1, 12, &[]).await;
        let scan = bench.scan(At::Latest).await.unwrap();
        let keep: Keep = Arc::new(|rows: &RecordBatch| {
            let ids = rows.column_by_name("id").ok_or("no id")?.as_primitive::<Int64Type>();
            Ok(ids.iter().map(|id| id.map(|id| id % 3 != 0)).collect())
        });
        for (keep, batch_rows) in [(None, 1), (Some(keep), 3)] {
            let request = Request { batch_rows, keep, ..all(&scan) };
            let batches = given(&scan, request.clone()).await;
            assert!(batches.len() > 12, "{}", batches.len());
            for at in 0..batches.len() {
                let from = batches[at].1;
                // As a cursor carries it.
                let said = serde_json::to_string(&(scan.pin(), from)).unwrap();
                let (pin, from) = serde_json::from_str(&said).unwrap();
                let again = bench.scan(At::Pinned(pin)).await.unwrap();
                let rest = given(&again, Request { from, ..request.clone() }).await;
                assert_eq!(collect(&rest), collect(&batches[at + 1..]), "{format:?} {from:?}");
            }
            let mut positions = batches.iter().map(|(_, position)| *position);
            assert!(positions.clone().is_sorted_by(|one, next| one < next));
            assert_eq!(positions.next_back().unwrap().file, scan.files().len() as u64);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_came_later_is_null_before() {
    for format in FORMATS {
        let mut bench = Bench::new(format).await;
        bench.commit(0, 5, &[]).await;
        let mut wider = (*feed(format)).clone();
        wider.schema.columns.push(Column::new("more", ColumnType::Long));
        bench.widen(Arc::new(wider)).await;
        bench.commit(0, 5, &[]).await;
        let scan = bench.scan(At::Latest).await.unwrap();
        let request = Request { columns: vec!["more".into(), "_offset".into()], ..all(&scan) };
        let mut found = collect(&given(&scan, request.clone()).await);
        found.sort();
        let expected = ["5|5", "6|6", "7|7", "8|8", "9|9", "|0", "|1", "|2", "|3", "|4"];
        assert_eq!(found, expected, "{format:?}");
        // A bound on it leaves out no file that has it.
        let bounds =
            vec![Bound { column: "more".into(), least: Some(Value::Long(9)), greatest: None }];
        let found = collect(&given(&scan, Request { bounds, ..request }).await);
        assert!(found.contains(&"9|9".to_owned()), "{found:?}");
    }
}
