//! A governor and its database, which is real; only whether it answers is up to the test.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use chrono::Utc;

use super::*;
use crate::config::{self, Sources};
use crate::governance::{
    Action, AuditQuestion, AuditRow, Effect, Pattern, Principal, Row, RowId, Target,
};
use crate::grants::Hand;
use crate::warehouse::{self, Change, Changed, GovernanceStore, Permissions, open_governance};

struct Switched {
    store: Arc<dyn GovernanceStore>,
    away: AtomicBool,
}

impl Switched {
    fn answers(&self) -> Result<(), SinkError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(SinkError::passing("away")),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl GovernanceStore for Switched {
    async fn load(&self, sources: &Sources) -> Result<Permissions, SinkError> {
        self.answers()?;
        self.store.load(sources).await
    }

    async fn change(&self, change: &Change, audit: &AuditRow) -> Result<Changed, SinkError> {
        self.answers()?;
        self.store.change(change, audit).await
    }

    async fn record(&self, rows: &[AuditRow]) -> Result<(), SinkError> {
        self.answers()?;
        self.store.record(rows).await
    }

    async fn audit(&self, question: &AuditQuestion) -> Result<Vec<AuditRow>, SinkError> {
        self.store.audit(question).await
    }

    async fn changed(&self, within: Duration) {
        self.store.changed(within).await;
    }
}

/// A database, a volume, and what changes the rows from elsewhere.
struct Place {
    config: config::Warehouse,
    folder: tempfile::TempDir,
    store: Arc<Switched>,
    grants: Grants,
    hand: Hand,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/w.db", folder.path().display());
        let config: config::Warehouse = serde_saphyr::from_str(&format!("url: '{url}'")).unwrap();
        warehouse::open(&config).unwrap().migrate().await.unwrap();
        let store = open_governance(&config).unwrap();
        let store = Arc::new(Switched { store, away: AtomicBool::new(false) });
        let grants = Grants::of(&config).unwrap();
        Self { config, folder, store, grants, hand: Hand::local("test") }
    }

    fn setup(&self) -> Setup {
        Setup {
            grants: Grants::new(self.store.clone()),
            database: "here".to_owned(),
            volume: self.folder.path().join("volume"),
            spool_bytes: 1 << 20,
            stale_after: Duration::from_secs(600),
            rights: None,
            io: Io::new(tokio::runtime::Handle::current()),
        }
    }

    fn away(&self, away: bool) {
        self.store.away.store(away, Ordering::SeqCst);
    }

    async fn grant(&self, to: &str, feed: &str, expires_at_ms: Option<i64>) -> i64 {
        let row = Row {
            id: RowId::Own(0),
            grantee: to.parse().unwrap(),
            feed: feed.parse::<Pattern>().unwrap(),
            action: Action::Read,
            effect: Effect::Allow,
            target: Target::default(),
            expires_at_ms,
            granted_by: "user:test".to_owned(),
            reason: "a test".to_owned(),
        };
        self.grants.grant(&self.hand, &row).await.unwrap()
    }

    async fn recorded(&self) -> Vec<String> {
        let question = AuditQuestion {
            action: Some("read".to_owned()),
            most: 1000,
            ..AuditQuestion::default()
        };
        let rows = self.grants.audit(&question).await.unwrap();
        let mut whys: Vec<String> = rows.into_iter().map(|row| row.why).collect();
        whys.sort();
        whys
    }

    fn row(&self, why: &str) -> AuditRow {
        self.hand.audit("read", Some("sales"), true, why.to_owned())
    }
}

fn live(setup: Setup, arbiter: &ArbiterHandle) -> Governance {
    let (governance, unborn) = Governor::open(setup).unwrap();
    unborn.live(arbiter);
    governance
}

/// Runs a governor on an arbiter of its own.
fn on_system<F: Future<Output = ()>>(test: impl FnOnce(ArbiterHandle) -> F) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let system = System::new();
    let io = runtime.handle().clone();
    system.block_on(async {
        let _entered = io.enter();
        let arbiter = Arbiter::new();
        test(arbiter.handle()).await;
    });
}

fn may(governance: &Governance, who: &str, now_ms: i64) -> Result<bool, Undecided> {
    let rules = governance.rules(now_ms)?;
    Ok(rules.decide(&Principal::user(who), Action::Read, "sales", now_ms).is_allowed())
}

fn now() -> i64 {
    Utc::now().timestamp_millis()
}

fn remembers(volume: &Path) -> usize {
    crate::volume::recall(volume).unwrap().map_or(0, |remembered| remembered.rows.len())
}

#[test]
fn changes_count_from_when_they_are_made() {
    on_system(async |arbiter| {
        let place = Place::new().await;
        let governance = live(place.setup(), &arbiter);
        governance.until(|_| true).await;
        assert_eq!(may(&governance, "ada", now()), Ok(false));
        let id = place.grant("user:ada", "sal*", None).await;
        governance.until(|rules| !rules.rows.is_empty()).await;
        assert_eq!(may(&governance, "ada", now()), Ok(true));
        assert_eq!(may(&governance, "bob", now()), Ok(false));
        let bearer = place
            .grants
            .create_token(&place.hand, Principal::user("ada"), Some(now() + 60_000))
            .await
            .unwrap();
        governance.until(|rules| !rules.tokens.is_empty()).await;
        let holder = |now_ms| governance.holder(bearer.reveal(), now_ms).unwrap();
        assert_eq!(holder(now()), Some(Principal::user("ada")));
        assert_eq!(holder(now() + 60_001), None, "expired");
        assert_eq!(governance.holder("tg_x.y", now()), Ok(None));
        place.grants.revoke_token(&place.hand, bearer.id()).await.unwrap();
        governance.until(|rules| rules.tokens[0].revoked).await;
        assert_eq!(holder(now()), None, "revoked");
        place.grants.revoke(&place.hand, &RowId::Own(id), "over").await.unwrap();
        governance.until(|rules| rules.rows.is_empty()).await;
        assert_eq!(may(&governance, "ada", now()), Ok(false));
    });
}

#[test]
fn while_the_database_is_away_the_last_rows_count_and_no_wider_ones() {
    on_system(async |arbiter| {
        let place = Place::new().await;
        place.grant("user:ada", "sales", None).await;
        place.grant("user:bob", "sales", Some(now() + 60_000)).await;
        let governance = live(place.setup(), &arbiter);
        governance.until(|rules| rules.rows.len() == 2).await;
        place.away(true);
        place.grant("user:eve", "sales", None).await;
        let read_at = governance.rules(now()).unwrap().as_of_ms;
        assert_eq!(may(&governance, "ada", now()), Ok(true));
        assert_eq!(may(&governance, "bob", now()), Ok(true));
        assert_eq!(may(&governance, "bob", now() + 60_001), Ok(false), "expires all the same");
        assert_eq!(may(&governance, "ada", read_at + 600_000), Ok(true));
        let stale = may(&governance, "ada", read_at + 600_001);
        assert_eq!(stale, Err(Undecided::Stale(Duration::from_millis(600_001))));
        place.away(false);
        governance.until(|rules| rules.rows.len() == 3).await;
        assert_eq!(may(&governance, "eve", now()), Ok(true));
    });
}

#[test]
fn a_node_that_starts_while_the_database_is_away_remembers() {
    on_system(async |arbiter| {
        let place = Place::new().await;
        let setup = place.setup();
        place.grant("user:ada", "sales", None).await;
        let governance = live(setup.clone(), &arbiter);
        governance.until(|rules| rules.rows.len() == 1).await;
        while remembers(&setup.volume) != 1 {
            tokio::task::yield_now().await;
        }
        place.away(true);
        // The volume as a node that ended so would leave it.
        let begun = |volume: &str, database: &str| {
            let volume = place.folder.path().join(volume);
            std::fs::create_dir(&volume).unwrap();
            std::fs::copy(setup.volume.join("permissions"), volume.join("permissions")).unwrap();
            let database = database.to_owned();
            live(Setup { volume, database, ..setup.clone() }, &arbiter)
        };
        assert_eq!(may(&begun("again", "here"), "ada", now()), Ok(true));
        let elsewhere = begun("moved", "another's");
        assert_eq!(may(&elsewhere, "ada", now()), Err(Undecided::Unknown));
        let taken = Governor::open(setup).err().unwrap();
        assert!(taken.to_string().contains("another node's"), "{taken}");
    });
}

#[test]
fn what_is_recorded_reaches_the_database_once_it_is_back() {
    on_system(async |arbiter| {
        let place = Place::new().await;
        let governance = live(place.setup(), &arbiter);
        governance.until(|_| true).await;
        governance.record(vec![place.row("1"), place.row("2")]).await.unwrap();
        governance.settle(Duration::from_secs(30)).await;
        assert_eq!(place.recorded().await, ["1", "2"]);
        place.away(true);
        let many = (3..9).map(|number| governance.record(vec![place.row(&number.to_string())]));
        for kept in futures::future::join_all(many).await {
            kept.unwrap();
        }
        assert_eq!(place.recorded().await, ["1", "2"]);
        place.away(false);
        governance.settle(Duration::from_secs(30)).await;
        assert_eq!(place.recorded().await, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    });
}

#[test]
fn a_full_spool_takes_what_there_is_room_for() {
    on_system(async |arbiter| {
        let place = Place::new().await;
        place.away(true);
        let setup = Setup { spool_bytes: 1000, ..place.setup() };
        let governance = live(setup, &arbiter);
        tokio::task::yield_now().await;
        let large = place.row(&"x".repeat(2000));
        // At once, so that they would share a sync.
        let (small, refused) = tokio::join!(
            governance.record(vec![place.row("small")]),
            governance.record(vec![large])
        );
        assert_eq!(small, Ok(()));
        assert!(matches!(refused, Err(SpoolFull::Full { .. })), "{refused:?}");
        place.away(false);
        governance.settle(Duration::from_secs(30)).await;
        assert_eq!(place.recorded().await, ["small"]);
        governance.record(vec![place.row("after")]).await.unwrap();
    });
}

/// Of a table of names, who may read `sales`.
fn sources(of: &str) -> Sources {
    let source = format!(
        "{{table: people, id: [name], principal: {{column: name}}, feed: {{always: [sales]}}, \
         action: {{always: [read]}}, only_if: [{of}]}}"
    );
    [("people".to_owned(), serde_saphyr::from_str(&source).unwrap())].into()
}

#[test]
fn a_change_of_an_existing_table_counts_within_two_seconds() {
    on_system(async |arbiter| {
        let place = Place::new().await;
        let file = place.config.url.strip_prefix("sqlite:").unwrap();
        let database = rusqlite::Connection::open(file).unwrap();
        let change = |sql: &str| database.execute_batch(sql).unwrap();
        let setup = place.setup();
        let setup = Setup { grants: setup.grants.clone().reading(sources("active")), ..setup };
        let governance = live(setup.clone(), &arbiter);
        governance.until(|_| true).await;
        let told = governance.rules(now()).unwrap().faults.clone();
        assert!(told[0].1.contains("no such table: people"), "{told:?}");
        place.grant("user:bob", "sales", None).await;
        governance.until(|rules| !rules.rows.is_empty()).await;
        assert_eq!(may(&governance, "bob", now()), Ok(true), "the others' rows count");
        change(
            "CREATE TABLE people (name TEXT PRIMARY KEY, active BOOLEAN NOT NULL); \
             INSERT INTO people VALUES ('ada', true), ('eve', false), ('*', true)",
        );
        governance.until(|rules| rules.rows.len() == 2).await;
        assert_eq!(may(&governance, "ada", now()), Ok(true));
        assert_eq!(may(&governance, "eve", now()), Ok(false));
        let faults = governance.rules(now()).unwrap().faults.clone();
        assert!(faults.len() == 1 && faults[0].0 == "row people#*", "{faults:?}");
        for active in [false, true, false] {
            let since = std::time::Instant::now();
            change(&format!("UPDATE people SET active = {active} WHERE name = 'ada'"));
            governance.until(|rules| rules.rows.len() == 1 + usize::from(active)).await;
            assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
            assert_eq!(may(&governance, "ada", now()), Ok(active));
        }
        // They are remembered like any other, for as long as they are mapped in the same way.
        change("UPDATE people SET active = true");
        while remembers(&setup.volume) != 3 {
            tokio::task::yield_now().await;
        }
        place.away(true);
        let begun = |volume: &str, sources: Sources| {
            let volume = place.folder.path().join(volume);
            std::fs::create_dir(&volume).unwrap();
            std::fs::copy(setup.volume.join("permissions"), volume.join("permissions")).unwrap();
            let grants = setup.grants.clone().reading(sources);
            live(Setup { volume, grants, ..setup.clone() }, &arbiter)
        };
        assert_eq!(may(&begun("same", sources("active")), "eve", now()), Ok(true));
        let other = begun("other", sources("retired"));
        assert_eq!(may(&other, "eve", now()), Err(Undecided::Unknown));
    });
}
