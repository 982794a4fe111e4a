//! The files of a plain table at one state: what the links name that a chain had by then.

use std::collections::BTreeMap;

use object_store::ObjectStore;

use super::{At, Found, NotOpened, Pin, ScanFile, State, moment, no_table};
use crate::config::{Feed, LakeFormat};
use crate::lake::join;
use crate::lake::plain::{History, PlainFile, Run};
use crate::layout::Layout;
use crate::record::SinkError;

/// What readers of such folders write where a partition column is null.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

pub async fn find(
    store: &dyn ObjectStore,
    feed: &Feed,
    layout: &Layout,
    format: LakeFormat,
    at: At,
    before: &History,
) -> Result<Found, NotOpened> {
    let history = History::read(store, before).await?;
    if history.is_empty() {
        return Err(no_table(&feed.name));
    }
    if let Some(other) = history.format().filter(|there| *there != format) {
        return Err(SinkError::lasting(format!(
            "the lake table of feed {} holds {} files, and not {}: correct `lake.format`",
            feed.name,
            other.ending(),
            format.ending()
        ))
        .into());
    }
    let count = match &at {
        At::Pinned(Pin(State::Chains(_, retired))) => *retired,
        At::Time(time) => history.retirements.count_at(*time),
        _ => history.retirements.count(),
    };
    let retired = history.retirements.paths(count);
    let runs = chosen(&history, &feed.name, at)?;
    let pin = runs.iter().map(|run| (run.chain.to_owned(), run.end)).collect();
    let committed_ms = runs.iter().map(|run| run.last_ms).max();
    let mut files = Vec::new();
    for run in &runs {
        // A chain's files in its own order; those of several by the time of their commits.
        files.extend(
            run.files
                .iter()
                .enumerate()
                .filter(|(_, (_, file))| !retired.contains(file.path.as_str()))
                .map(|(index, (at, file))| ((*at, run.chain, index), *file)),
        );
    }
    files.sort_unstable_by_key(|(order, _)| *order);
    let columns = layout.columns();
    let files = files.into_iter().map(|((at, _, _), file)| scan_file(file, at, &columns));
    let (pin, files) = (Pin(State::Chains(pin, count)), files.collect());
    drop(retired);
    Ok(Found { pin, committed_ms, files, history })
}

fn chosen<'a>(history: &'a History, feed: &str, at: At) -> Result<Vec<Run<'a>>, NotOpened> {
    match at {
        At::Latest => Ok(history.whole()),
        At::Time(time) => {
            let first = history.first_ms().unwrap_or(i64::MIN);
            if time < first {
                return Err(NotOpened::NoState(format!(
                    "the table of feed {feed} begins at {}, and not before {}",
                    moment(first),
                    moment(time)
                )));
            }
            Ok(history.at(time))
        }
        At::Version(_) => Err(NotOpened::NoState(format!(
            "the table of feed {feed} has no versions, as it is a folder of plain files: ask for a \
             time, or keep the table in `lake.format: delta`"
        ))),
        At::Pinned(Pin(State::Chains(ends, _))) => history.until(&ends).ok_or_else(|| {
            NotOpened::NoState(format!(
                "the table of feed {feed} is not the one that was read before: its commits were \
                 replaced. Begin again at the latest state"
            ))
        }),
        At::Pinned(Pin(State::Version(..))) => Err(other_kind(feed)),
    }
}

/// A pin of a Delta table for a plain one, or the other way round.
pub fn other_kind(feed: &str) -> NotOpened {
    NotOpened::NoState(format!(
        "the table of feed {feed} has another format than when it was read before: begin again at \
         the latest state"
    ))
}

fn scan_file(file: &PlainFile, added_ms: i64, columns: &[&str]) -> ScanFile {
    let folders = file.path.split('/').filter_map(|folder| folder.split_once('='));
    let values: BTreeMap<String, Option<String>> = folders
        .filter(|(name, _)| columns.contains(name))
        .map(|(name, value)| (name.to_owned(), (value != HIVE_NULL).then(|| value.to_owned())))
        .collect();
    ScanFile {
        time: Some(file.time.clone()),
        tags: BTreeMap::new(),
        path: file.path.clone(),
        size: file.size,
        rows: Some(file.rows as u64),
        values,
        added_ms,
        location: join(&object_store::path::Path::default(), &file.path),
        stats: None,
    }
}
