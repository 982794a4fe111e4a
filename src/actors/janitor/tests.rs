//! The lease and the clock of the chores, on an embedded database and a local lake.

use std::path::Path;

use super::super::installation::Installation;
use super::*;
use crate::catalog::{Catalog, Known};
use crate::config::{self, ByteSize, FeedFile, Kafka, LakeOptions, Schedule};
use crate::lake::LakeStore;
use crate::lake::LakeTable;
use crate::source::Log;
use crate::warehouse::{self, Warehouse};

struct Lab {
    folder: tempfile::TempDir,
    config: config::Janitor,
}

fn warehouse_config(folder: &Path) -> config::Warehouse {
    let url = format!("sqlite:{}/w.db", folder.display());
    serde_json::from_value(serde_json::json!({"url": url})).unwrap()
}

impl Lab {
    fn new() -> Self {
        let every = |text: &str| text.parse::<Schedule>().unwrap();
        let config = config::Janitor {
            retention: every("1s"),
            compaction: every("1s"),
            vacuum: Schedule::Off,
            checkpoints: Schedule::Off,
            statistics: Schedule::Off,
            audit: Schedule::Off,
            lease: config::Duration::from_secs(2),
            ..config::Janitor::default()
        };
        Self { folder: tempfile::tempdir().unwrap(), config }
    }

    fn lake(&self) -> LakeStore {
        LakeStore::open_local(&self.folder.path().join("lake")).unwrap()
    }

    fn store(&self) -> Arc<dyn JanitorStore> {
        warehouse::open_janitor(&warehouse_config(self.folder.path())).unwrap()
    }

    async fn migrated(self) -> Self {
        let config = warehouse_config(self.folder.path());
        warehouse::open(&config).unwrap().migrate().await.unwrap();
        self
    }

    /// A node's janitor, of a broker that is not there.
    fn setup(&self, node: &str, with_database: bool) -> Setup {
        let kafka: Kafka =
            serde_json::from_value(serde_json::json!({"bootstrap": "127.0.0.1:1"})).unwrap();
        let config = warehouse_config(self.folder.path());
        let database: Option<Arc<dyn Warehouse>> =
            with_database.then(|| warehouse::open(&config).unwrap());
        let text = r#"{"feed": "f", "type": "stream", "topic": "t", "warehouse": null,
            "columns": [{"name": "id", "type": "long"}]}"#;
        let mut file: FeedFile = serde_json::from_str(text).unwrap();
        file.lake = Some(LakeOptions::default());
        let catalog = Catalog::new(kafka.clone(), Some(self.lake()), database.clone(), None);
        let log = Arc::new(Log::open(&kafka).unwrap());
        let known = Known::new(vec![file], catalog.clone(), log.clone());
        let installation = Installation::new(false);
        let edges = Arc::new(Edges::new(database, Some(self.lake()), log, catalog, installation));
        let store = with_database.then(|| self.store());
        let ad_hoc = with_database.then(|| warehouse::open_ad_hoc(&config).unwrap());
        let work = Work {
            config: self.config.clone(),
            known,
            lake: Some(self.lake()),
            store,
            ad_hoc,
            retires_rows: false,
            token: None,
        };
        Setup { work, edges, node: node.to_owned(), io: Io::new(tokio::runtime::Handle::current()) }
    }

    fn live(&self, node: &str, with_database: bool) -> Kept {
        live(self.setup(node, with_database), &Arbiter::current())
    }

    /// Waits until the chore was done after this moment, and answers by whom.
    async fn done(&self, chore: Chore, after_ms: i64) -> Run {
        let store = self.store();
        let waiting = async {
            loop {
                let runs = store.runs().await.unwrap();
                let run = runs.into_iter().find(|run| run.chore == chore.name());
                if let Some(run) = run.filter(|run| run.started_ms > after_ms) {
                    return run;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("a run")
    }
}

/// A table of three small files.
async fn crumbs(lab: &Lab) -> Arc<dyn LakeTable> {
    use crate::lake::tests::{commit, feed, part, source, topic_id};
    let table = crate::lake::open(&lab.lake(), feed()).await.unwrap();
    let start = crate::record::Progress { next_offset: 0, topic_id: topic_id() };
    table.begin(&[(source(0), start)]).await.unwrap();
    for at in 0..3 {
        commit(table.as_ref(), vec![part(0, at..at + 1, &[])]).await;
    }
    table
}

#[actix::test]
async fn chores_are_done_when_they_are_due_and_noted() {
    let lab = Lab::new().migrated().await;
    let _table = crumbs(&lab).await;
    let started = now_ms();
    let kept = lab.live("one", true);
    let run = lab.done(Chore::Compaction, started).await;
    assert_eq!((run.node.as_str(), run.token, run.failed), ("one", 1, false), "{run:?}");
    assert_eq!(run.report["feeds"]["f"]["compacted"]["joined"]["files"], 3, "{run:?}");
    let again = lab.done(Chore::Compaction, run.finished_ms).await;
    assert_eq!(again.report, serde_json::json!({}), "nothing is left to do");
    lab.done(Chore::Retention, started).await;
    kept.stop().await;
    assert!(
        !lab.store().runs().await.unwrap().iter().any(|run| run.chore == "vacuum"),
        "it is off"
    );
}

#[actix::test]
async fn what_somebody_asks_for_is_done_whatever_its_schedule() {
    let lab = Lab::new().migrated().await;
    let _table = crumbs(&lab).await;
    let store = lab.store();
    store.signal(Chore::Vacuum.name(), "user:ada").await.unwrap();
    store.signal("a chore of a newer release", "user:ada").await.unwrap();
    let kept = lab.live("one", true);
    let run = lab.done(Chore::Vacuum, 0).await;
    let answered = async {
        while store.signals().await.unwrap().len() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), answered).await.expect("it is done");
    // Once.
    lab.done(Chore::Retention, run.finished_ms + 1_500).await;
    let runs = store.runs().await.unwrap();
    assert_eq!(runs.iter().find(|it| it.chore == "vacuum"), Some(&run));
    kept.stop().await;
}

#[actix::test]
async fn one_of_two_works_and_the_other_goes_on_when_it_stops() {
    let lab = Lab::new().migrated().await;
    let started = now_ms();
    let first = lab.live("one", true);
    assert_eq!(lab.done(Chore::Retention, started).await.node, "one");
    let second = lab.live("two", true);
    let before = now_ms();
    assert_eq!(lab.done(Chore::Retention, before).await.node, "one", "it still has the lease");
    first.stop().await;
    let stopped = now_ms();
    let run = lab.done(Chore::Retention, stopped).await;
    assert_eq!((run.node.as_str(), run.token), ("two", 2));
    second.stop().await;
}

#[actix::test]
async fn one_that_lost_its_lease_stops_by_itself() {
    let lab = Lab::new().migrated().await;
    let started = now_ms();
    let kept = lab.live("one", true);
    lab.done(Chore::Retention, started).await;
    // As if it had slept while another node took over, and that one held on.
    let store = lab.store();
    let long = Duration::from_secs(600);
    let Lease::Taken { by } = store.hold(LEASE, "other", long).await.unwrap() else {
        panic!("it holds the lease")
    };
    // It may renew between the two.
    let held = loop {
        store.release(LEASE, &by).await.unwrap();
        let asked = store.hold(LEASE, "other", long).await.unwrap();
        if matches!(asked, Lease::Held { .. }) {
            break asked;
        }
    };
    let lost = async {
        while is_active(&kept).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), lost).await.expect("it notices");
    kept.stop().await;
    let still = store.hold(LEASE, "other", Duration::from_secs(600)).await.unwrap();
    assert_eq!(still, held, "it ends nobody else's lease");
}

#[actix::test]
async fn without_a_database_the_lake_keeps_the_lease() {
    the_lake_keeps_the_lease(false).await;
}

#[actix::test]
async fn where_the_database_has_no_bookkeeping_the_lake_keeps_the_lease() {
    the_lake_keeps_the_lease(true).await;
}

#[actix::test]
async fn one_that_can_do_nothing_leaves_the_lease_to_others() {
    let lab = Lab::new().migrated().await;
    let _table = crumbs(&lab).await;
    let entry = lab.folder.path().join("lake/streams/f/_delta_log").join(format!("{:020}.json", 1));
    std::fs::write(&entry, "{").unwrap();
    let kept = lab.live("one", true);
    lab.done(Chore::Compaction, 0).await;
    let store = lab.store();
    let another = async {
        while store.hold(LEASE, "other", Duration::from_secs(600)).await.unwrap()
            != (Lease::Held { token: 2 })
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), another).await.expect("the lease is free");
    kept.stop().await;
}

async fn the_lake_keeps_the_lease(with_database: bool) {
    let mut lab = Lab::new();
    lab.config.least_files = 2;
    lab.config.target_size = ByteSize::mib(1);
    let _table = crumbs(&lab).await;
    let [first, second] = ["one", "two"].map(|node| lab.live(node, with_database));
    let path = lab.folder.path().join("lake/streams/f/_delta_log");
    let joined = async {
        loop {
            let entries = std::fs::read_dir(&path).unwrap();
            let text = entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
            if text.filter(|text| text.contains("\"OPTIMIZE\"")).count() == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), joined).await.expect("the files are joined");
    let mut active = 0;
    for kept in [&first, &second] {
        active += usize::from(is_active(kept).await);
    }
    assert_eq!(active, 1);
    first.stop().await;
    second.stop().await;
}

async fn is_active(kept: &Kept) -> bool {
    let janitor = kept.lock().clone().unwrap();
    janitor.send(Active).await.unwrap()
}

/// Whether it holds the lease.
#[derive(Message)]
#[rtype(result = "bool")]
struct Active;

impl Handler<Active> for Janitor {
    type Result = bool;

    fn handle(&mut self, _: Active, _: &mut Self::Context) -> bool {
        self.held.is_some()
    }
}
