//! Existing tables that say who may what.

use super::lab::*;
use crate::config::Sources;
use crate::governance::{Found, Mapping, Row};
use crate::warehouse::{self, MOST_ROWS};

on_each_warehouse! {
    reads_the_rows_of_an_existing_table
    reads_the_others_where_one_cannot_be_read
    reads_no_more_rows_than_are_allowed
    reads_a_view
}

fn sources(text: &str) -> Sources {
    serde_saphyr::from_str(text).unwrap()
}

async fn found(lab: &Lab, sources: &Sources) -> Vec<Found> {
    let store = warehouse::open_governance(&lab.config).unwrap();
    store.load(sources).await.unwrap().found
}

/// Each row in words.
fn said(name: &str, sources: &Sources, found: Found) -> (Vec<String>, Vec<(String, String)>) {
    let (rows, faults) = Mapping::of(name, &sources[name]).rows(found);
    let one = |row: &Row| {
        let columns = row.target.columns.iter().flatten().cloned().collect::<Vec<_>>().join("+");
        let until = row.expires_at_ms.map(|at| format!(" until {at}")).unwrap_or_default();
        format!("{} {} {} {} {columns}{until}", row.id, row.grantee, row.action, row.feed)
    };
    (rows.iter().map(one).collect(), faults)
}

/// On a database with one of those.
async fn made(lab: &Lab, sql: &str) {
    lab.ask(&format!("{sql}; SELECT 1")).await;
}

const ODD: &str = "odd:
  table: rights
  id: [no, 'wh\"o''s']
  principal: {column: 'wh\"o''s'}
  feed: {column: what}
  action: {column: how, names: {SELECT: [read]}}
  only_if: [is on]
  columns: shown
  expires_at: until";

async fn reads_the_rows_of_an_existing_table(lab: Lab) {
    let (flag, list, time) = match lab.is_postgres() {
        true => ("boolean", "text[]", "timestamptz"),
        false => ("BOOLEAN", "TEXT", "TEXT"),
    };
    let list_of = |names: &str| match lab.is_postgres() {
        true => format!("'{{{names}}}'"),
        false => format!("'{names}'"),
    };
    made(
        &lab,
        &format!(
            "CREATE TABLE rights (no bigint PRIMARY KEY, \"wh\"\"o's\" char(8), what text, how text, \
             \"is on\" {flag}, shown {list}, until {time})"
        ),
    )
    .await;
    made(
        &lab,
        &format!(
            "INSERT INTO rights VALUES \
             (1, 'ada', 'Sales', 'SELECT', true, NULL, NULL), \
             (2, 'bob', 'sales', 'SELECT', false, NULL, NULL), \
             (3, NULL, 'sales', 'SELECT', true, NULL, NULL), \
             (4, 'o''hara', 'sales', 'SELECT', true, {}, '2026-01-31T12:00:00Z'), \
             (5, 'eve', 'sales', 'DROP', true, NULL, NULL)",
            list_of("id,city")
        ),
    )
    .await;
    if lab.is_postgres() {
        let database = lab.database();
        made(&lab, &format!("ALTER DATABASE \"{database}\" SET datestyle = 'German'")).await;
    }
    let sources = sources(ODD);
    let (rows, faults) = said("odd", &sources, found(&lab, &sources).await.remove(0));
    assert_eq!(
        rows,
        [
            "odd#1,ada user:ada read sales ",
            "odd#4,o'hara user:o'hara read sales city+id until 1769860800000"
        ]
    );
    assert_eq!((faults.len(), faults[0].0.as_str()), (1, "row odd#5,eve"));
    assert!(faults[0].1.contains("`DROP` is not among"), "{faults:?}");
}

fn plain(name: &str, table: &str, column: &str) -> String {
    format!(
        "{name}: {{table: {table}, id: [no], principal: {{column: {column}}}, feed: {{always: [f]}}, \
         action: {{always: [read]}}}}\n"
    )
}

async fn reads_the_others_where_one_cannot_be_read(lab: Lab) {
    made(&lab, "CREATE TABLE a (no integer, who text)").await;
    made(&lab, "INSERT INTO a VALUES (1, 'ada')").await;
    let mut text = plain("absent", "b", "who") + &plain("good", "a", "who");
    text += &plain("misspelt", "a", "hwo");
    let mut bad = vec!["absent", "misspelt"];
    if lab.is_postgres() {
        text += &plain("slow", "c", "who");
        bad.push("slow");
        made(&lab, "CREATE VIEW c AS SELECT 1 AS no, pg_sleep(20)::text AS who").await;
    }
    let sources = sources(&text);
    let found = found(&lab, &sources).await;
    assert_eq!(found.len(), sources.len());
    for ((name, source), found) in sources.iter().zip(found) {
        let (rows, faults) = said(name, &sources, found);
        match bad.contains(&name.as_str()) {
            false => {
                assert_eq!((rows, faults), (vec!["good#1 user:ada read f ".to_owned()], vec![]))
            }
            true => {
                assert_eq!(rows, [""; 0], "{name}");
                let (of, why) = &faults[0];
                assert_eq!(of, &format!("source {name}"));
                let remedy = format!("Correct governance.sources.{name}, or let");
                assert!(why.contains(&source.table) && why.contains(&remedy), "{why}");
            }
        }
    }
}

async fn reads_no_more_rows_than_are_allowed(lab: Lab) {
    made(&lab, "CREATE TABLE many (no integer, who text)").await;
    let numbers = format!(
        "WITH RECURSIVE n (no) AS (SELECT 1 UNION ALL SELECT no + 1 FROM n WHERE no < {MOST_ROWS}) \
         INSERT INTO many SELECT no, 'u' || no FROM n"
    );
    made(&lab, &numbers).await;
    let sources = sources(&plain("many", "many", "who"));
    let (rows, faults) = said("many", &sources, found(&lab, &sources).await.remove(0));
    assert_eq!((rows.len(), faults), (MOST_ROWS, vec![]));
    made(&lab, "INSERT INTO many VALUES (0, 'one too many')").await;
    let (rows, faults) = said("many", &sources, found(&lab, &sources).await.remove(0));
    assert!(rows.is_empty() && faults[0].1.contains("more than 10000 rows"), "{faults:?}");
}

async fn reads_a_view(lab: Lab) {
    made(&lab, "CREATE TABLE users (no integer, who text)").await;
    made(&lab, "CREATE TABLE off (no integer)").await;
    made(&lab, "INSERT INTO users VALUES (1, 'ada'), (2, 'bob')").await;
    made(&lab, "INSERT INTO off VALUES (2)").await;
    made(
        &lab,
        "CREATE VIEW seen AS SELECT u.no, u.who FROM users u \
         WHERE NOT EXISTS (SELECT 1 FROM off WHERE off.no = u.no)",
    )
    .await;
    let sources = sources(&plain("seen", "seen", "who"));
    let (rows, faults) = said("seen", &sources, found(&lab, &sources).await.remove(0));
    assert_eq!((rows, faults), (vec!["seen#1 user:ada read f ".to_owned()], vec![]));
}
