//! Statements that somebody wrote, and the sizes of tables.

use std::sync::Arc;

use super::lab::*;
use crate::config::FeedKind;
use crate::warehouse::{self, AdHoc, Answer};

on_each_warehouse! {
    answers_with_as_many_rows_as_asked_for
    changes_nothing_whatever_is_asked
    measures_a_feeds_table
}

fn ad_hoc(lab: &Lab) -> Arc<dyn AdHoc> {
    warehouse::open_ad_hoc(&lab.config).unwrap()
}

/// Ten rows of a table `accounts`.
async fn filled(lab: &Lab) -> crate::config::Feed {
    let feed = accounts(FeedKind::Table);
    let claim = lab.claimed(&feed, 0).await;
    let records: Vec<Record> = (0..10).map(|it| put(&it.to_string(), "x", it)).collect();
    lab.write(&feed, &[part(claim, vec![batch(&feed, 0, 0, &records)])]).await;
    feed
}

async fn answers_with_as_many_rows_as_asked_for(lab: Lab) {
    let (_, ad_hoc) = (filled(&lab).await, ad_hoc(&lab));
    let sql =
        "-- The names.\nSELECT id AS \"Who <b>\", NULL AS n, 2.5 AS x FROM accounts ORDER BY id;";
    let row = |id: i64| vec![Some(id.to_string()), None, Some("2.5".to_owned())];
    for (most, rows, more) in [(10, 10, false), (9, 9, true), (0, 0, true)] {
        let columns = ["Who <b>", "n", "x"].map(str::to_owned).into();
        let rows = (0..rows).map(row).collect();
        assert_eq!(ad_hoc.ask(sql, most).await.unwrap(), Answer { columns, rows, more });
    }
    let none = ad_hoc.ask("SELECT id FROM accounts WHERE id IS NULL", 5).await.unwrap();
    assert_eq!((none.columns.len(), none.rows.len(), none.more), (1, 0, false));
}

async fn changes_nothing_whatever_is_asked(lab: Lab) {
    let (_, ad_hoc) = (filled(&lab).await, ad_hoc(&lab));
    for sql in [
        "DELETE FROM accounts",
        "DROP TABLE accounts",
        "SELECT 1; DELETE FROM accounts",
        "SELECT 1; COMMIT; DELETE FROM accounts",
        "COMMIT",
        "",
        "SELECT nothing FROM accounts",
        "WITH gone AS (DELETE FROM accounts RETURNING id) SELECT id FROM gone",
        "CREATE TABLE other (id int)",
        "VACUUM INTO '/tmp/never'",
        "PRAGMA query_only = 0; DELETE FROM accounts",
    ] {
        let answer = ad_hoc.ask(sql, 5).await;
        // SQLite's own word for the end of a transaction answers nothing, and ends none.
        assert!(answer.is_err() || sql == "COMMIT", "{sql}: {answer:?}");
    }
    let count = ad_hoc.ask("SELECT count(*) FROM accounts", 5).await.unwrap();
    assert_eq!(count.rows, [[Some("10".to_owned())]]);
}

async fn measures_a_feeds_table(lab: Lab) {
    let ad_hoc = ad_hoc(&lab);
    let feed = accounts(FeedKind::Table);
    assert_eq!(ad_hoc.measure(&feed).await.unwrap(), None);
    filled(&lab).await;
    let size = ad_hoc.measure(&feed).await.unwrap().unwrap();
    assert_eq!(size.rows, 10);
    assert!(size.bytes.unwrap() >= 4096, "{size:?}");
    assert_eq!(size.newest_ms, Some(1009));
}
