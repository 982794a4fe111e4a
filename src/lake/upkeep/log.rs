//! The log of a Delta table: it has a checkpoint never far behind, and entries that nobody reads any more go.
//!
//! A log is cut at a checkpoint: what came before is in it, and the entry of that version is one of ours, by
//! which a node knows that no RESTORE stands open. Entries go the oldest first, so that the log is whole from
//! some version on at any moment; checkpoints before all of them, so that from the first entry that is gone on
//! only the one that the log is cut at leads to the others. What they told beside the table, as which offsets
//! retention took, is the caller's to write down before.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::super::commit_loop::{CHECKPOINT_EVERY, write_checkpoint};
use super::super::log::{CommitLine, judged, read_log, read_pointer, stands};
use super::super::rewind::{Before, before};
use super::{Amount, Mode, Upkeep};
use crate::record::SinkError;
use crate::telemetry::fault;

/// Versions that one pass takes out.
const VERSIONS: u64 = 20_000;
/// Objects that are deleted before it is looked again whether the log is the same.
const AT_ONCE: usize = 100;

/// What a pass did to a log, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logged {
    /// The version that a checkpoint was written of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// The log begins here now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begins: Option<u64>,
    /// Entries and checkpoints that went.
    pub taken: Amount,
}

/// Where a log may be cut: all before this version.
#[derive(Debug)]
pub struct Cut {
    pub version: u64,
    /// Its entry and its checkpoint as they are: where, and what.
    stands_on: [(Path, ObjectMeta); 2],
    /// What goes, the oldest first.
    goes: Vec<ObjectMeta>,
}

/// What a pass took out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub amount: Amount,
    /// All that was to go. Else the log is another by now, and nobody's to cut for this once.
    pub all: bool,
}

impl Cut {
    pub fn amount(&self) -> Amount {
        let mut amount = Amount::default();
        self.goes.iter().for_each(|meta| amount.add(meta.size));
        amount
    }
}

/// The files of a log by version.
#[derive(Default)]
struct Listed {
    entries: BTreeMap<u64, ObjectMeta>,
    /// Those in one piece.
    checkpoints: BTreeMap<u64, ObjectMeta>,
    /// Checkpoints in pieces and check sums.
    others: Vec<(u64, ObjectMeta)>,
}

impl Upkeep {
    /// Writes a checkpoint where the last one is far behind, as when the one that was due failed.
    pub async fn checkpoint(&self, mode: Mode) -> Result<Option<u64>, SinkError> {
        if !self.is_delta() {
            return Ok(None);
        }
        let listed = self.listed_log().await?;
        let Some((latest, _)) = listed.entries.last_key_value() else { return Ok(None) };
        let pieces = listed.others.iter().filter(|(_, meta)| is_checkpoint(meta));
        let last = pieces.map(|(version, _)| *version).chain(listed.checkpoints.keys().copied());
        if latest - last.max().unwrap_or_default().min(*latest) < CHECKPOINT_EVERY {
            return Ok(None);
        }
        if mode == Mode::Do {
            let log = self.store.log_store(self.layout.folder())?;
            write_checkpoint(log, *latest).await?;
            info!(target: "tidegate::janitor", feed = %self.feed.name, version = latest, "a checkpoint is written");
        }
        Ok(Some(*latest))
    }

    /// Where the log may be cut so that each state of the last `keep_ms` can still be read; none where nothing
    /// would go. `now_ms` is by the store's clock. Logs that a table of snapshots is made from are kept whole.
    pub async fn cut(&self, keep_ms: i64, now_ms: i64) -> Result<Option<Cut>, SinkError> {
        if !self.is_delta() || !self.is_appended_to() {
            return Ok(None);
        }
        let listed = self.listed_log().await?;
        let Some((first, _)) = listed.entries.first_key_value() else { return Ok(None) };
        let Some((latest, _)) = listed.entries.last_key_value() else { return Ok(None) };
        let store = self.store.below(self.layout.folder());
        // Readers begin where the pointer says.
        let Some(pointer) = read_pointer(store.as_ref()).await? else { return Ok(None) };
        let reach = first.saturating_add(VERSIONS);
        let known = || listed.checkpoints.iter().filter(|(of, _)| **of > *first && **of <= pointer);
        // The latest within reach; else the next beyond, however far that is.
        let within = known().filter(|(of, _)| **of <= reach).rev();
        let mut cut = None;
        for (version, checkpoint) in within.chain(known().filter(|(of, _)| **of > reach)) {
            let Some(entry) = listed.entries.get(version) else { continue };
            let is_old = entry.last_modified.timestamp_millis() <= now_ms - keep_ms;
            if is_old && is_ours(store.as_ref(), *version).await? {
                cut = Some((*version, [entry.location.clone(), checkpoint.location.clone()]));
                break;
            }
        }
        let Some((version, [entry, checkpoint])) = cut else { return Ok(None) };
        // What progress was before a RESTORE may be asked for still.
        if let Before::Restore(..) = before(store.as_ref(), *latest).await? {
            return Ok(None);
        }
        // As they will be asked for again: a listing may say the same in other words.
        let head = async |path: Path| match store.head(&path).await {
            Ok(meta) => Ok((path, meta)),
            Err(error) => Err(judged(&error).context(format!("reading {path}"))),
        };
        let stands_on = [head(entry).await?, head(checkpoint).await?];
        Ok(Some(Cut { version, stands_on, goes: listed.before(version) }))
    }

    /// Takes out what goes. Cut off anywhere, it leaves a log that can be read, and the next pass goes on.
    pub async fn take_out(&self, cut: &Cut) -> Result<Taken, SinkError> {
        let store = self.store.below(self.layout.folder());
        let mut amount = Amount::default();
        for some in cut.goes.chunks(AT_ONCE) {
            // A folder that was restored from a backup meanwhile may need each of its entries.
            for (path, known) in &cut.stands_on {
                if !stands(store.as_ref(), path, known).await? {
                    return Ok(Taken { amount, all: false });
                }
            }
            for meta in some {
                match store.delete(&meta.location).await {
                    Ok(()) => amount.add(meta.size),
                    Err(Error::NotFound { .. }) => {}
                    Err(error) => {
                        let context = format!("deleting {}", meta.location);
                        return Err(judged(&error).context(context));
                    }
                }
            }
            fault::point("janitor.cut");
        }
        info!(target: "tidegate::janitor", feed = %self.feed.name, begins = cut.version, files = amount.files, "old entries of the log are taken out");
        Ok(Taken { amount, all: true })
    }

    async fn listed_log(&self) -> Result<Listed, SinkError> {
        let store = self.store.below(self.layout.folder());
        let mut listing = store.list(Some(&Path::from("_delta_log")));
        let mut listed = Listed::default();
        let failed = |error| judged(&error).context("listing the table's log");
        while let Some(meta) = listing.try_next().await.map_err(failed)? {
            let named = meta.location.filename().and_then(|name| name.split_once('.'));
            let Some((version, kind)) = named.map(|(version, kind)| (version, kind.to_owned()))
            else {
                continue;
            };
            // A name of ours is of twenty digits; whatever else lies there is somebody's.
            let Some(version) = version.parse::<u64>().ok().filter(|_| version.len() == 20) else {
                continue;
            };
            match kind.as_str() {
                "json" => drop(listed.entries.insert(version, meta)),
                "checkpoint.parquet" => drop(listed.checkpoints.insert(version, meta)),
                "crc" => listed.others.push((version, meta)),
                _ if is_checkpoint(&meta) => listed.others.push((version, meta)),
                _ => {}
            }
        }
        Ok(listed)
    }
}

impl Listed {
    /// All before a version: checkpoints and the like, then entries, the oldest first.
    fn before(self, version: u64) -> Vec<ObjectMeta> {
        let checkpoints = self.checkpoints.into_iter().chain(self.others);
        let all = checkpoints.chain(self.entries).filter(|(of, _)| *of < version);
        all.map(|(_, meta)| meta).collect()
    }
}

/// In one piece or in several.
fn is_checkpoint(meta: &ObjectMeta) -> bool {
    let name = meta.location.filename().unwrap_or_default();
    name.contains(".checkpoint.") && name.ends_with(".parquet")
}

async fn is_ours(store: &dyn ObjectStore, version: u64) -> Result<bool, SinkError> {
    let Some(entry) = read_log(store, version).await? else { return Ok(false) };
    let ours = |line: &CommitLine| matches!(line, CommitLine::CommitInfo(info) if info.tidegate_commit.is_some());
    Ok(entry.lines.iter().any(ours))
}
