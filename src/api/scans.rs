//! Lake tables at the states that are being read, so that the next page need not replay the log.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Api, Problem};
use crate::config::Feed;
use crate::lake::scan::{At, NotOpened, Pin, TableScan};

/// States that are kept for those who go on.
const PINNED: usize = 64;

#[derive(Default)]
pub struct Scans {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Each feed's as it was last opened: the next state is near it.
    last: HashMap<Arc<str>, (Feed, TableScan)>,
    pinned: VecDeque<(Feed, TableScan)>,
}

impl Scans {
    /// The feed's table at a state.
    pub async fn open(&self, api: &Api, feed: &Feed, at: At) -> Result<TableScan, Problem> {
        let Some(lake) = &api.lake else {
            return Err(Problem::not_found("this node has no lake"));
        };
        if let At::Pinned(pin) = &at
            && let Some(scan) = self.pinned(feed, pin)
        {
            return Ok(scan);
        }
        let near = self.lock().last.get(&feed.name).filter(|(of, _)| of == feed).cloned();
        let (lake, of, asked) = (lake.clone(), feed.clone(), at.clone());
        let opening = async move {
            match near {
                Some((_, scan)) => scan.reopen(&lake, &of, asked).await,
                None => TableScan::open(&lake, &of, asked).await,
            }
        };
        let scan = api.on_io(opening).await?.map_err(|why| match (why, &at) {
            (NotOpened::NoTable(why), _) => Problem::not_found(why),
            (NotOpened::NoState(why), At::Pinned(_)) => Problem::gone(why),
            (NotOpened::NoState(why), _) => Problem::not_found(why),
            (NotOpened::Failed(error), _) => Problem::of_sink("opening a table", &error),
        })?;
        let mut known = self.lock();
        if at == At::Latest {
            known.last.insert(feed.name.clone(), (feed.clone(), scan.clone()));
        }
        known.pinned.retain(|(of, other)| of != feed || other.pin() != scan.pin());
        known.pinned.push_back((feed.clone(), scan.clone()));
        if known.pinned.len() > PINNED {
            known.pinned.pop_front();
        }
        Ok(scan)
    }

    fn pinned(&self, feed: &Feed, pin: &Pin) -> Option<TableScan> {
        let known = self.lock();
        let found = known.pinned.iter().find(|(of, scan)| of == feed && scan.pin() == pin);
        found.map(|(_, scan)| scan.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
