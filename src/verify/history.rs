//! What the entries of a Delta log told beside the table: where partitions began, which offsets were passed
//! over or taken by retention. Written down in the table's folder before the janitor takes the entries out, so
//! that who compares the table with its topic knows afterwards what he would have known before.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::checkpoint;
use super::delta::{DeltaLog, app_id, said};
use super::gap::Gap;
use super::retired::RetiredFile;
use crate::lake::LakeStore;
use crate::record::{OffsetRange, TopicId, TopicPartition};

const FOLDER: &str = "_history";

/// All that was known at a version, but for what its checkpoint says.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct History {
    marks: Vec<Began>,
    gaps: Vec<Passed>,
    retired: Vec<RetiredFile>,
    taken_away: Vec<String>,
    /// The version that first named each file of the table.
    named: BTreeMap<String, u64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Began {
    topic: String,
    partition: i32,
    topic_id: Option<Uuid>,
    start: Option<i64>,
    since: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Passed {
    topic: String,
    partition: i32,
    topic_id: Option<Uuid>,
    from: i64,
    to: i64,
    reason: String,
    settled: bool,
}

/// Writes down what the log of the table in `folder` tells up to a version whose checkpoint stands for what
/// came before, having compared that with the log itself. Older such documents are needed no more once the
/// entries are gone; see [`forget`].
pub async fn remember(lake: &LakeStore, folder: &str, version: u64) -> Result<(), String> {
    let store = lake.below(folder);
    let log = DeltaLog::open_at(store.clone(), version).await?;
    check(&log, version).await?;
    let body = serde_json::to_vec(&History::of(&log)).map_err(|error| error.to_string())?;
    store.put(&path(version), body.into()).await.map_err(said)?;
    Ok(())
}

/// Deletes what was written down of versions before.
pub async fn forget(lake: &LakeStore, folder: &str, before: u64) -> Result<(), String> {
    let store = lake.below(folder);
    for version in versions(store.as_ref()).await?.range(..before) {
        match store.delete(&path(*version)).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(said(error)),
        }
    }
    Ok(())
}

/// The versions up to which something is written down.
pub(super) async fn versions(store: &dyn ObjectStore) -> Result<BTreeSet<u64>, String> {
    let listed: Vec<_> = store.list(Some(&Path::from(FOLDER))).try_collect().await.map_err(said)?;
    let names = listed.iter().filter_map(|meta| meta.location.filename()?.strip_suffix(".json"));
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

pub(super) async fn read(store: &dyn ObjectStore, version: u64) -> Result<History, String> {
    let path = path(version);
    let got = match store.get(&path).await {
        Ok(got) => got,
        // Somebody else took the entries out.
        Err(Error::NotFound { .. }) => return Ok(History::default()),
        Err(error) => return Err(said(error)),
    };
    let bytes = got.bytes().await.map_err(said)?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{path}: {error}"))
}

fn path(version: u64) -> Path {
    Path::from(format!("{FOLDER}/{version:020}.json"))
}

/// A checkpoint that says something else than the entries is no reason to take them out.
async fn check(log: &DeltaLog, version: u64) -> Result<(), String> {
    let (mut files, mut marks) = (Vec::new(), HashMap::new());
    for line in checkpoint::read(log.store().as_ref(), version).await? {
        files.extend(line.add.map(|add| (add.path, add.size)));
        if let Some((txn, (source, topic_id))) =
            line.txn.and_then(|txn| app_id(&txn.app_id).map(|of| (txn, of)))
            && txn.version >= 0
        {
            marks.insert((source, topic_id.get()), txn.version);
        }
    }
    files.sort_unstable();
    let mut live: Vec<_> = log.files().iter().map(|file| (file.path.clone(), file.size)).collect();
    live.sort_unstable();
    let known =
        log.marks().map(|(source, mark)| ((source.clone(), mark.topic_id.get()), mark.next_offset));
    if files != live || marks != known.collect::<HashMap<_, _>>() {
        return Err(format!(
            "the checkpoint of version {version} says something else than the log before it: the \
             log is left as it is. Delete that checkpoint"
        ));
    }
    Ok(())
}

impl History {
    fn of(log: &DeltaLog) -> Self {
        let began = |(source, mark): (&TopicPartition, &super::delta::Mark)| Began {
            topic: source.topic.to_string(),
            partition: source.partition,
            topic_id: mark.topic_id.get(),
            start: mark.start,
            since: mark.since,
        };
        let passed = |gap: &Gap| Passed {
            topic: gap.source.topic.to_string(),
            partition: gap.source.partition,
            topic_id: gap.topic_id.get(),
            from: gap.range.start,
            to: gap.range.end,
            reason: gap.reason.clone(),
            settled: gap.settled,
        };
        let named = log.files().into_iter().map(|file| (file.path.clone(), file.version));
        Self {
            marks: log.marks().map(began).collect(),
            gaps: log.gaps.iter().map(passed).collect(),
            retired: log.retired.values().cloned().collect(),
            taken_away: log.taken_away.clone(),
            named: named.collect(),
        }
    }

    /// Adds it to what a checkpoint said.
    pub(super) fn tell(self, log: &mut DeltaLog) {
        for Began { topic, partition, topic_id, start, since } in self.marks {
            let source = TopicPartition::new(topic, partition);
            log.began(&source, TopicId::from(topic_id), start, since);
        }
        log.gaps.extend(self.gaps.into_iter().map(|gap| Gap {
            source: TopicPartition::new(gap.topic, gap.partition),
            topic_id: TopicId::from(gap.topic_id),
            range: OffsetRange { start: gap.from, end: gap.to },
            reason: gap.reason,
            settled: gap.settled,
        }));
        log.retired.extend(self.retired.into_iter().map(|it| (it.file.path.clone(), it)));
        log.taken_away.extend(self.taken_away);
        for (path, version) in self.named {
            log.named(&path, version);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::LakeFormat;
    use crate::lake::scan::tests::bench::Bench;
    use crate::lake::upkeep::tests::dying::Dying;
    use crate::lake::upkeep::{Mode, Upkeep};
    use crate::record::GapReason;
    use crate::retention::{Bounds, Policy};

    const DAY_MS: i64 = 86_400_000;
    const LATE: i64 = 100_000 * DAY_MS;

    /// All that a reading of the log tells, in one order.
    async fn told(store: Arc<dyn ObjectStore>) -> Vec<String> {
        let log = DeltaLog::open(store).await.unwrap();
        let mut told: Vec<String> = log.files().iter().map(|file| format!("{file:?}")).collect();
        let mut marks: Vec<String> = log.marks().map(|mark| format!("{mark:?}")).collect();
        marks.sort();
        told.extend(marks);
        told.extend(log.gaps.iter().map(|gap| format!("{gap:?}")));
        // What is live is nobody's business of one that is retired.
        told.extend(
            log.retired.values().map(|it| format!("{it:?}").replace("live: true", "live: false")),
        );
        told.extend(log.taken_away.iter().cloned());
        told
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_log_that_is_cut_tells_all_that_it_told_before() {
        let mut bench = Bench::new(LakeFormat::Delta).await;
        let (lake, folder) = (bench.lab.store(), "streams/f");
        let store = lake.below(folder);
        let upkeep = Upkeep::of(&lake, bench.feed.clone()).unwrap().unwrap();
        let bounds = Bounds { target_bytes: 1 << 20, least_files: 2, most_bytes: 1 << 30 };
        let mut began = 0;
        for round in 0..3 {
            for partition in [0, 1, 0] {
                bench.commit(partition, 5, &[]).await;
            }
            bench.skip(1, 2, GapReason::Expired).await;
            upkeep.compact(bounds, LATE, Mode::Do).await.unwrap();
            let policy = Policy { days: Some(1), bytes: None };
            let today = (round + 1) * 2 * DAY_MS;
            let expired = upkeep.expire(policy, 0, today, Mode::Do).await.unwrap();
            assert!(expired.rows > 0, "{round}");
            bench.commit(0, 1, &[]).await;
            let log = DeltaLog::open(store.clone()).await.unwrap();
            let before = told(store.clone()).await;
            assert!(!log.gaps.is_empty() && !log.retired.is_empty());
            assert!(log.marks().all(|(_, mark)| mark.start == Some(0)), "{round}");
            bench.checkpoint().await;
            bench.commit(0, 1, &[]).await;
            let latest = bench.checkpoint().await;
            bench.commit(1, 1, &[]).await;
            let whole = told(store.clone()).await;
            let cut = upkeep.cut(0, LATE).await.unwrap().unwrap();
            assert!(cut.version == latest && cut.version > began);
            remember(&lake, folder, cut.version).await.unwrap();
            // Cut off anywhere, and looked at, and written down again: it tells the same.
            for dies_after in [1, 2, 3, 7, 1000] {
                let dying = lake.clone().over(|inner| Arc::new(Dying::after(inner, dies_after)));
                let dying = Upkeep::of(&dying, bench.feed.clone()).unwrap().unwrap();
                let taken = dying.take_out(&cut).await;
                assert_eq!(told(store.clone()).await, whole, "{round}, {dies_after}");
                remember(&lake, folder, cut.version).await.unwrap();
                assert_eq!(told(store.clone()).await, whole, "{round}, {dies_after}");
                assert_eq!(taken.is_ok_and(|taken| taken.all), dies_after == 1000);
            }
            forget(&lake, folder, cut.version).await.unwrap();
            assert_eq!(told(store.clone()).await, whole, "{round}");
            assert_ne!(before, whole);
            began = cut.version;
        }
        // Of the documents the last is there.
        let listed: Vec<_> = store.list(Some(&Path::from(FOLDER))).try_collect().await.unwrap();
        assert_eq!(listed.len(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_checkpoint_that_says_something_else_cuts_nothing() {
        let mut bench = Bench::new(LakeFormat::Delta).await;
        bench.commit(0, 2, &[]).await;
        let version = bench.checkpoint().await;
        remember(&bench.lab.store(), "streams/f", version).await.unwrap();
        // That of a state in which the table was larger.
        bench.commit(0, 2, &[]).await;
        let later = bench.checkpoint().await;
        let path =
            |version: u64| bench.path(&format!("_delta_log/{version:020}.checkpoint.parquet"));
        std::fs::copy(path(later), path(version)).unwrap();
        let error = remember(&bench.lab.store(), "streams/f", version).await.unwrap_err();
        assert!(error.contains("something else"), "{error}");
    }
}
