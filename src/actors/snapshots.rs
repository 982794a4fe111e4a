//! Snapshots on their clock: a task for each table that shows one, on the node that owns its topic's
//! partition 0. It holds nothing that another needs, so it may be dropped at any point.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::{Io, ownership::Edges};
use crate::config::{Feed, Storage};
use crate::flow::backoff::Backoff;
use crate::lake::{Snapshots, Taken, fold_limit};
use crate::record::{SinkError, TopicPartition};

/// After a failure, and while there is nothing to take a snapshot of.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// The tasks of one node. One of them folds at a time.
pub struct Clock {
    /// By name, with the feed as it was then: another may have come in its place.
    running: HashMap<Arc<str>, (Arc<Feed>, JoinHandle<()>)>,
    alone: Arc<Semaphore>,
    /// Bytes that a fold may hold.
    limit: usize,
}

impl Clock {
    /// `budget`: the node's.
    pub fn new(budget: usize) -> Self {
        let alone = Arc::new(Semaphore::new(1));
        Self { running: HashMap::new(), alone, limit: fold_limit(budget) }
    }

    /// Takes snapshots of these feeds and of no others from now on.
    pub fn keep<'f>(
        &mut self,
        feeds: impl Iterator<Item = &'f Arc<Feed>>,
        edges: &Arc<Edges>,
        io: &Io,
    ) {
        let wanted: HashMap<Arc<str>, &Arc<Feed>> = feeds
            .filter(|feed| {
                feed.lake.as_ref().is_some_and(|options| options.storage != Storage::Append)
            })
            .map(|feed| (feed.name.clone(), feed))
            .collect();
        self.running.retain(|name, (feed, task)| {
            let wanted = wanted.get(name) == Some(&&*feed) && !task.is_finished();
            if !wanted {
                task.abort();
            }
            wanted
        });
        for (name, feed) in wanted {
            let (edges, alone, limit) = (edges.clone(), self.alone.clone(), self.limit);
            let feed = feed.clone();
            self.running.entry(name).or_insert_with(|| {
                let of = feed.clone();
                (of, io.spawn(async move { run(&edges, &feed, &alone, limit).await }))
            });
        }
    }

    pub fn stop(&mut self) {
        self.running.drain().for_each(|(_, (_, task))| task.abort());
    }
}

async fn run(edges: &Arc<Edges>, feed: &Arc<Feed>, alone: &Semaphore, limit: usize) {
    let mut attempt = 0;
    let mut ends = None;
    // The first look is due when the last snapshot is old enough, whoever took it.
    let mut looked = false;
    loop {
        let wait = match look(edges, feed, alone, limit, &mut ends, &mut looked).await {
            Ok(Some(wait)) => {
                attempt = 0;
                wait
            }
            Ok(None) => {
                let wait = RETRY.wait(attempt, rand::random());
                attempt += 1;
                wait
            }
            Err(error) => {
                warn!(target: "tidegate::snapshots", feed = %feed.name, %error, "no snapshot; trying again");
                let wait = RETRY.wait(attempt, rand::random());
                attempt += 1;
                wait
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Takes a snapshot if one is due. Answers when the next is; none where there is nothing yet.
async fn look(
    edges: &Arc<Edges>,
    feed: &Arc<Feed>,
    alone: &Semaphore,
    limit: usize,
    ends: &mut Option<HashMap<TopicPartition, i64>>,
    looked: &mut bool,
) -> Result<Option<Duration>, SinkError> {
    if edges.opened_table(feed).is_none() {
        // Whether the lake is ours is not known yet.
        return Ok(None);
    }
    let Some(lake) = &edges.lake else { return Ok(Some(Duration::MAX)) };
    let Some(snapshots) = Snapshots::of(lake, feed, limit)? else { return Ok(Some(Duration::MAX)) };
    if !std::mem::replace(looked, true)
        && let Some(present) = snapshots.present().await?
    {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_millis());
        let age = Duration::from_millis((now as i64 - present.taken_ms).max(0) as u64);
        if let Some(left) = snapshots.every().checked_sub(age).filter(|left| !left.is_zero()) {
            return Ok(Some(left));
        }
    }
    let once = feed.lake.as_ref().is_some_and(|options| options.storage == Storage::Ignore);
    if once && ends.is_none() {
        // Written once, so not before everything is read that is there now.
        *ends = Some(edges.log_ends(&feed.topic).await.map_err(SinkError::passing)?);
    }
    let Ok(_alone) = alone.acquire().await else { return Ok(None) };
    let taken = snapshots.take(ends.as_ref()).await?;
    debug!(target: "tidegate::snapshots", feed = %feed.name, ?taken, "looked for changes");
    if matches!(taken, Taken::New(_)) {
        edges.shows_another(&feed.name);
    }
    Ok(match taken {
        Taken::TooEarly => None,
        Taken::New(_) | Taken::Unchanged(_) | Taken::Another => Some(snapshots.every()),
    })
}
