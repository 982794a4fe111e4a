//! Permission rows, tokens and the audit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lab::*;
use crate::governance::{
    Action, AuditQuestion, AuditRow, Bearer, Days, Effect, Mask, Principal, Row, RowId, Target,
    Token,
};
use crate::warehouse::{self, Change, Changed, GovernanceStore};

on_each_warehouse! {
    keeps_rows_as_they_were_granted
    tells_of_changes
    keeps_tokens_as_hashes
    records_what_is_sent_twice_once
    keeps_one_salt
}

fn store(lab: &Lab) -> Arc<dyn GovernanceStore> {
    warehouse::open_governance(&lab.config).unwrap()
}

fn row(feed: &str) -> Row {
    Row {
        id: RowId::Own(0),
        grantee: "user:ada".parse().unwrap(),
        feed: feed.parse().unwrap(),
        action: Action::Read,
        effect: Effect::Allow,
        target: Target::default(),
        expires_at_ms: None,
        granted_by: "local:root".to_owned(),
        reason: "it's her job".to_owned(),
    }
}

async fn change(store: &dyn GovernanceStore, change: Change) -> Changed {
    let audit = AuditRow { id: uuid::Uuid::new_v4(), ..audited(1, "f", true) };
    store.change(&change, &audit).await.unwrap()
}

async fn grant(store: &dyn GovernanceStore, row: &Row) -> i64 {
    match change(store, Change::Grant(row.clone())).await {
        Changed::Granted(id) => id,
        other => panic!("{other:?}"),
    }
}

async fn keeps_rows_as_they_were_granted(lab: Lab) {
    let store = store(&lab);
    let mut narrow = row("sales*");
    narrow.expires_at_ms = Some(1_760_373_508_047);
    narrow.target = Target {
        columns: Some(["city", "it's \"odd\""].map(str::to_owned).into()),
        masks: [("city".to_owned(), Mask::Last4)].into(),
        predicate: Some("city IN ('O''Hara', 'x') AND NOT \"A\" >= -1.50".parse().unwrap()),
        days: Days { from: "2026-01-31".parse().ok(), to: None },
    };
    let deny = Row { effect: Effect::Deny, action: Action::Manage, ..row("f") };
    let mut ids = Vec::new();
    for row in [&narrow, &deny] {
        ids.push(grant(&*store, row).await);
    }
    let read = || async { store.load().await.unwrap().rows };
    let rows: Vec<Row> = read().await.into_iter().flat_map(|row| row.read().0).collect();
    let with_id = |row: &Row, id| Row { id: RowId::Own(id), ..row.clone() };
    assert_eq!(rows, [with_id(&narrow, ids[0]), with_id(&deny, ids[1])]);
    let Changed::Revoked(revoked) = change(&*store, Change::Revoke(ids[0])).await else { panic!() };
    assert_eq!(revoked.read().0, rows[..1]);
    assert_eq!(change(&*store, Change::Revoke(ids[0])).await, Changed::Nothing);
    // Each change has its row in the audit, and what changed nothing has none.
    assert_eq!(lab.count("tidegate.audit").await, 3);
    assert_eq!(read().await.len(), 1);
    let third = grant(&*store, &narrow).await;
    assert!(third > ids[1], "numbers are not used twice");
}

async fn tells_of_changes(lab: Lab) {
    let (store, other) = (store(&lab), store(&lab));
    // The first answer is that it listens now.
    store.changed(Duration::from_secs(5)).await;
    let since = Instant::now();
    let wait = async {
        loop {
            store.changed(Duration::from_secs(60)).await;
            if !store.load().await.unwrap().rows.is_empty() {
                return since.elapsed();
            }
        }
    };
    let granted = async { grant(&*other, &row("f")).await };
    let (heard, _) = tokio::join!(wait, granted);
    assert!(heard < Duration::from_secs(2), "{heard:?}");
    if lab.is_postgres() {
        // A connection that is lost is made again, and what came meanwhile is looked at.
        lab.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE query LIKE 'LISTEN%' AND datname = current_database()",
        )
        .await;
        store.changed(Duration::from_secs(60)).await;
        store.changed(Duration::from_secs(60)).await;
        grant(&*other, &row("g")).await;
        store.changed(Duration::from_secs(60)).await;
        assert_eq!(store.load().await.unwrap().rows.len(), 2);
    }
}

async fn keeps_tokens_as_hashes(lab: Lab) {
    let store = store(&lab);
    let bearer = Bearer::of([5; 41]);
    let principal = Principal { roles: ["analyst".to_owned()].into(), ..Principal::user("ada") };
    let token = Token {
        id: bearer.id().to_owned(),
        hash: bearer.hash(),
        principal,
        created_by: "local:root".to_owned(),
        expires_at_ms: Some(1_760_373_508_047),
        revoked: false,
    };
    assert_eq!(change(&*store, Change::AddToken(token.clone())).await, Changed::Token);
    let again = store.change(&Change::AddToken(token.clone()), &audited(1, "f", true)).await;
    assert!(again.is_err(), "an id is one token's");
    assert_eq!(lab.count("tidegate.audit").await, 1, "of both or none");
    assert_eq!(store.load().await.unwrap().tokens, std::slice::from_ref(&token));
    let revoke = || Change::RevokeToken(token.id.clone());
    assert_eq!(change(&*store, revoke()).await, Changed::Token);
    assert_eq!(change(&*store, revoke()).await, Changed::Nothing);
    assert_eq!(store.load().await.unwrap().tokens, [Token { revoked: true, ..token }]);
}

fn audited(number: u128, feed: &str, allowed: bool) -> AuditRow {
    AuditRow {
        id: uuid::Uuid::from_u128(number),
        at_ms: 1_760_373_508_000 + number as i64,
        principal: "user:ada".to_owned(),
        action: "read".to_owned(),
        feed: Some(feed.to_owned()),
        allowed,
        columns: vec!["city".to_owned(), "it's (hash)".to_owned()],
        rows: Some("city = 'x'".to_owned()),
        why: "row 7".to_owned(),
        origin: "127.0.0.1".to_owned(),
        trace_id: None,
        node: "one".to_owned(),
    }
}

async fn records_what_is_sent_twice_once(lab: Lab) {
    let store = store(&lab);
    let rows: Vec<AuditRow> =
        (1..=3).map(|n| audited(n, if n == 2 { "g" } else { "f" }, n != 3)).collect();
    store.record(&rows[..2]).await.unwrap();
    store.record(&rows).await.unwrap();
    store.record(&[]).await.unwrap();
    let ask = async |question: AuditQuestion| {
        let found = store.audit(&AuditQuestion { most: 10, ..question }).await.unwrap();
        found.iter().map(|row| row.id.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(ask(AuditQuestion::default()).await, [3, 2, 1]);
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(ask(AuditQuestion { feed: text("f"), ..Default::default() }).await, [3, 1]);
    assert_eq!(ask(AuditQuestion { allowed: Some(false), ..Default::default() }).await, [3]);
    assert_eq!(
        ask(AuditQuestion { principal: text("user:bob"), ..Default::default() }).await,
        [0; 0]
    );
    assert_eq!(ask(AuditQuestion { action: text("read"), ..Default::default() }).await, [3, 2, 1]);
    let between = AuditQuestion {
        from_ms: Some(rows[1].at_ms),
        before_ms: Some(rows[2].at_ms),
        ..Default::default()
    };
    assert_eq!(ask(between).await, [2]);
    let last = store.audit(&AuditQuestion { most: 1, ..Default::default() }).await.unwrap();
    assert_eq!(last, rows[2..]);
    // What somebody sends may be anything.
    let odd = AuditRow { why: "a\0b".to_owned(), ..audited(4, "f", true) };
    store.record(&[odd]).await.unwrap();
}

async fn keeps_one_salt(lab: Lab) {
    let (one, other) = (store(&lab), store(&lab));
    let (one, other) = tokio::join!(one.load(), other.load());
    let (one, other) = (one.unwrap().salt, other.unwrap().salt);
    assert!(one == other && one.len() >= 32);
}
