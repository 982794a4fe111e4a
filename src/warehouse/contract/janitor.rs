//! Leases, and the chores' last runs.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::lab::*;
use crate::governance::AuditRow;
use crate::status::{ErrorTold, NodeTold, PartitionTold};
use crate::warehouse::{self, JanitorStore, Lease, Run};

on_each_warehouse! {
    one_holds_a_lease_at_a_time
    a_lease_that_is_over_passes_with_a_greater_token
    of_many_that_ask_at_once_one_gets_it
    the_last_run_of_a_chore_is_known
    old_rows_of_the_audit_go_while_the_lease_is_held
    what_is_asked_for_stands_until_it_is_done
    nodes_tell_of_themselves_until_they_leave
}

const LONG: Duration = Duration::from_secs(600);

fn store(lab: &Lab) -> Arc<dyn JanitorStore> {
    warehouse::open_janitor(&lab.config).unwrap()
}

async fn one_holds_a_lease_at_a_time(lab: Lab) {
    let (a, b) = (store(&lab), store(&lab));
    let held = Lease::Held { token: 1 };
    assert_eq!(a.hold("janitor", "a", LONG).await.unwrap(), held);
    assert_eq!(a.hold("janitor", "a", LONG).await.unwrap(), held, "renewed");
    let taken = Lease::Taken { by: "a".to_owned() };
    assert_eq!(b.hold("janitor", "b", LONG).await.unwrap(), taken);
    assert_eq!(b.hold("another", "b", LONG).await.unwrap(), held, "of another name");
    b.release("janitor", "b").await.unwrap();
    assert_eq!(b.hold("janitor", "b", LONG).await.unwrap(), taken, "only its holder ends it");
    a.release("janitor", "a").await.unwrap();
    assert_eq!(b.hold("janitor", "b", LONG).await.unwrap(), Lease::Held { token: 2 });
    let taken = Lease::Taken { by: "b".to_owned() };
    assert_eq!(a.hold("janitor", "a", LONG).await.unwrap(), taken);
}

async fn a_lease_that_is_over_passes_with_a_greater_token(lab: Lab) {
    let store = store(&lab);
    let held = |token| Lease::Held { token };
    assert_eq!(store.hold("janitor", "a", Duration::ZERO).await.unwrap(), held(1));
    assert_eq!(store.hold("janitor", "b", Duration::ZERO).await.unwrap(), held(2));
    // Its former holder, too, has lost it meanwhile.
    assert_eq!(store.hold("janitor", "b", LONG).await.unwrap(), held(3));
}

async fn of_many_that_ask_at_once_one_gets_it(lab: Lab) {
    let stores: Vec<_> = (0..8).map(|_| store(&lab)).collect();
    let names: Vec<String> = (0..8).map(|number| format!("node-{number}")).collect();
    let mut asking = Vec::new();
    for (store, name) in stores.iter().zip(&names) {
        asking.push(store.hold("janitor", name, LONG));
    }
    let answers = futures::future::join_all(asking).await;
    let held = answers.iter().filter(|it| matches!(it, Ok(Lease::Held { token: 1 }))).count();
    let taken = answers.iter().filter(|it| matches!(it, Ok(Lease::Taken { .. }))).count();
    assert_eq!((held, taken), (1, 7), "{answers:?}");
}

fn run(chore: &str, token: i64, started_ms: i64) -> Run {
    Run {
        chore: chore.to_owned(),
        node: "node-0".to_owned(),
        token,
        started_ms,
        finished_ms: started_ms + 1_234,
        failed: token % 2 == 0,
        report: serde_json::json!({"sales": {"files": 3, "why": "it's \"old\""}}),
    }
}

async fn the_last_run_of_a_chore_is_known(lab: Lab) {
    let store = store(&lab);
    assert_eq!(store.runs().await.unwrap(), []);
    let first = run("retention", 1, 1_760_373_508_047);
    assert!(store.note(&first).await.unwrap());
    let other = run("vacuum", 2, 1_760_373_508_999);
    assert!(store.note(&other).await.unwrap());
    let later = run("retention", 2, 1_760_373_600_000);
    assert!(store.note(&later).await.unwrap());
    // One that slept with an old lease.
    assert!(!store.note(&run("retention", 1, 1_760_373_700_000)).await.unwrap());
    assert_eq!(store.runs().await.unwrap(), [later, other]);
}

async fn what_is_asked_for_stands_until_it_is_done(lab: Lab) {
    let store = store(&lab);
    assert_eq!(store.signals().await.unwrap(), []);
    store.signal("vacuum", "user:ada").await.unwrap();
    store.signal("retention", "user:ada").await.unwrap();
    let asked = store.signals().await.unwrap();
    let told: Vec<_> = asked.iter().map(|it| (it.chore.as_str(), it.by.as_str())).collect();
    assert_eq!(told, [("vacuum", "user:ada"), ("retention", "user:ada")]);
    // Asked for again while it is done: it is to be done again.
    store.signal("vacuum", "user:bob").await.unwrap();
    for signal in &asked {
        store.answered(signal).await.unwrap();
    }
    let left = store.signals().await.unwrap();
    assert_eq!((left.len(), left[0].by.as_str()), (1, "user:bob"), "{left:?}");
    store.answered(&left[0]).await.unwrap();
    assert_eq!(store.signals().await.unwrap(), []);
}

async fn old_rows_of_the_audit_go_while_the_lease_is_held(lab: Lab) {
    let audit = warehouse::open_governance(&lab.config).unwrap();
    let rows: Vec<AuditRow> =
        (0..6).map(|day| super::governance::audited(day * 1000, "f", true)).collect();
    audit.record(&rows).await.unwrap();
    let store = store(&lab);
    let Lease::Held { token } = store.hold("janitor", "a", LONG).await.unwrap() else { panic!() };
    let before = rows[4].at_ms;
    let gone = store.expire_audit(before, 3, Some(("janitor", token - 1))).await.unwrap();
    assert_eq!(gone, 0, "the lease is another's by now");
    assert_eq!(store.expire_audit(before, 3, Some(("janitor", token))).await.unwrap(), 3);
    assert_eq!(store.expire_audit(before, 3, None).await.unwrap(), 1);
    assert_eq!(store.expire_audit(before, 3, None).await.unwrap(), 0);
    assert_eq!(lab.ask("SELECT count(*) FROM tidegate.audit").await, ["2"]);
}

async fn nodes_tell_of_themselves_until_they_leave(lab: Lab) {
    let store = store(&lab);
    assert_eq!(store.beats().await.unwrap(), []);
    let told = |node: &str, says: &str| {
        let error = ErrorTold { at_ms: 1, says: says.to_owned() };
        let partition = PartitionTold { error: Some(error), ..PartitionTold::default() };
        let told = NodeTold { node: node.to_owned(), ..NodeTold::default() };
        told.of_partitions(vec![partition], None)
    };
    let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
    store.beat(a, &told("a", "once")).await.unwrap();
    store.beat(b, &told("a", "of the same name")).await.unwrap();
    store.beat(a, &told("a", "'; \"again\" é")).await.unwrap();
    let mut beats = store.beats().await.unwrap();
    beats.sort_by_key(|beat| beat.instance != a);
    assert!(beats.iter().all(|beat| (0..60_000).contains(&beat.age_ms)), "{beats:?}");
    let of: Vec<_> = beats.iter().map(|beat| (beat.instance, beat.told.clone())).collect();
    let wanted = [(a, told("a", "'; \"again\" é")), (b, told("a", "of the same name"))];
    assert_eq!(of, wanted);
    // What no text of a database can hold is no reason to be silent.
    store.beat(b, &told("b", "a\0b")).await.unwrap();
    store.leave(a).await.unwrap();
    store.leave(a).await.unwrap();
    let left = store.beats().await.unwrap();
    assert_eq!((left.len(), left[0].told.node.as_str()), (1, "b"));
}
