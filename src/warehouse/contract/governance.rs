//! Permission rows, tokens and the audit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lab::*;
use crate::config::Sources;
use crate::governance::{
    Action, AuditQuestion, AuditRow, Bearer, Days, Effect, Mask, Principal, Row, RowId, Target,
    Token,
};
use crate::warehouse::{self, Change, Changed, GovernanceStore};

on_each_warehouse! {
    keeps_rows_as_they_were_granted
    tells_of_changes
    keeps_tokens_as_hashes
    lets_one_be_the_first_manager
    reads_what_others_wrote
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
    let read = || async { store.load(&Sources::new()).await.unwrap().rows };
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
            if !store.load(&Sources::new()).await.unwrap().rows.is_empty() {
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
        assert_eq!(store.load(&Sources::new()).await.unwrap().rows.len(), 2);
    }
}

async fn tokens(store: &dyn GovernanceStore) -> Vec<Token> {
    let tokens = store.load(&Sources::new()).await.unwrap().tokens;
    tokens.into_iter().map(|token| token.read().unwrap()).collect()
}

async fn lets_one_be_the_first_manager(lab: Lab) {
    let (one, other) = (store(&lab), store(&lab));
    let first = |name: &str| {
        let row = Row { action: Action::Manage, ..row("*") };
        Change::FirstManager(Row { grantee: format!("user:{name}").parse().unwrap(), ..row })
    };
    let (one, other) = tokio::join!(change(&*one, first("ada")), change(&*other, first("bob")));
    let granted = [one, other].iter().filter(|it| matches!(it, Changed::Granted(_))).count();
    assert_eq!((granted, lab.count("tidegate.permissions").await), (1, 1));
    assert_eq!(lab.count("tidegate.audit").await, 1);
}

/// Whatever anybody wrote into the tables: one row is none of the others'.
async fn reads_what_others_wrote(lab: Lab) {
    let store = store(&lab);
    let id = grant(&*store, &row("f")).await;
    if lab.is_postgres() {
        lab.ask(
            "INSERT INTO tidegate.permissions \
             (principal, feed, action, effect, day_from, day_to, expires_at, granted_by, reason) VALUES \
             ('user:a', 'f', 'read', 'allow', '-infinity', NULL, 'infinity', 'x', 'x'), \
             ('user:b', 'f', 'read', 'deny', '2026-01-31', 'infinity', '-infinity', 'x', 'x'); \
             ALTER DATABASE CURRENT SET datestyle = 'German'; SELECT 1"
                .replace("DATABASE CURRENT", &format!("DATABASE \"{}\"", lab.database()))
                .as_str(),
        )
        .await;
    } else {
        lab.ask(
            "INSERT INTO tidegate.permissions \
             (principal, feed, action, effect, day_from, expires_at, granted_by, reason) VALUES \
             ('user:a', 'f', 'read', 'allow', '01.01.2026', NULL, 'x', 'x'), \
             ('user:b', 'f', 'read', 'deny', NULL, '2027-01-31 00:00:00', 'x', 'x'); SELECT 1",
        )
        .await;
    }
    let narrow = Row {
        target: Target {
            days: Days { from: "2026-01-31".parse().ok(), to: None },
            ..Target::default()
        },
        expires_at_ms: Some(1_900_000_000_123),
        ..row("g")
    };
    let last = grant(&*warehouse::open_governance(&lab.config).unwrap(), &narrow).await;
    let store = warehouse::open_governance(&lab.config).unwrap();
    let rows = store.load(&Sources::new()).await.unwrap().rows;
    let read: Vec<_> = rows.into_iter().map(|row| (row.id.clone(), row.read())).collect();
    assert_eq!(read.len(), 4);
    assert!(read[0].0 == RowId::Own(id) && read[0].1.1.is_none());
    let (allow, deny) = (&read[1].1, &read[2].1);
    assert!(allow.0.is_empty() && allow.1.is_some(), "{allow:?}");
    assert!(deny.1.is_some() && deny.0[0].target.is_all() && deny.0[0].expires_at_ms.is_none());
    assert_eq!(read[3].1, (vec![Row { id: RowId::Own(last), ..narrow }], None));
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
    assert_eq!(tokens(&*store).await, std::slice::from_ref(&token));
    let revoke = || Change::RevokeToken(token.id.clone());
    assert_eq!(change(&*store, revoke()).await, Changed::Token);
    assert_eq!(change(&*store, revoke()).await, Changed::Nothing);
    assert_eq!(tokens(&*store).await, [Token { revoked: true, ..token }]);
}

pub(super) fn audited(number: u128, feed: &str, allowed: bool) -> AuditRow {
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
    let odd = AuditRow {
        why: "a\0b".to_owned(),
        columns: vec!["c\0".to_owned()],
        ..audited(4, "f", true)
    };
    store.record(&[odd]).await.unwrap();
}

async fn keeps_one_salt(lab: Lab) {
    let (one, other, none) = (store(&lab), store(&lab), Sources::new());
    let (one, other) = tokio::join!(one.load(&none), other.load(&none));
    let (one, other) = (one.unwrap().salt, other.unwrap().salt);
    assert!(one == other && one.len() >= 32);
}
