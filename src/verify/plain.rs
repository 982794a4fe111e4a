//! A plain table read for itself: what its folder shows, and the chains of commits that say what it
//! should show.
//!
//! An own reading, as of a Delta log: what checks the node must not share its mistakes. The folder is
//! listed before the chains are read, so a file that a running node publishes meanwhile has its link.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use serde::Deserialize;

use super::delta::{Mark, TableFile, said};
use super::gap::Gap;
use super::retired::{self, Gone, RetiredFile};
use crate::record::{OffsetRange, TopicId, TopicPartition};

/// Links fetched at once.
const FETCHES: usize = 16;
const COMMITS: &str = "_commits";
const BEGIN: &str = "begin.json";
const REPLAYS: &str = "replays";

/// A plain table as it stood at one moment.
pub struct PlainLog {
    store: Arc<dyn ObjectStore>,
    /// All links that were read, by their chain's folder and their name.
    links: HashMap<(String, String), Link>,
    pub files: Vec<TableFile>,
    pub marks: HashMap<TopicPartition, Vec<Mark>>,
    pub gaps: Vec<Gap>,
    /// What is wrong with the folder itself.
    pub faults: Vec<String>,
    /// Files that retention took away.
    pub retired: Vec<RetiredFile>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    kind: String,
    #[serde(default)]
    generation: u64,
    topic: String,
    partition: i32,
    topic_id: Option<uuid::Uuid>,
    from: i64,
    to: i64,
    #[serde(default)]
    files: Vec<File>,
    #[serde(default)]
    gap: Option<String>,
    #[serde(default)]
    written_ms: i64,
}

#[derive(Debug, Clone, Deserialize)]
struct File {
    path: String,
    size: u64,
    time: String,
    #[serde(default)]
    by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OpenGap {
    topic_id: Option<uuid::Uuid>,
    from: i64,
    to: i64,
    reason: String,
}

impl PlainLog {
    /// `ending` is that of the table's files.
    pub async fn open(store: Arc<dyn ObjectStore>, ending: &str) -> Result<Self, String> {
        let mut log = Self {
            store,
            links: HashMap::new(),
            files: Vec::new(),
            marks: HashMap::new(),
            gaps: Vec::new(),
            faults: Vec::new(),
            retired: Vec::new(),
        };
        let shown = log.shown(ending).await?;
        let unreached = log.advance().await?;
        let retired = log.retired.iter().map(|retired| &retired.file);
        let known: HashSet<&str> =
            log.files.iter().chain(retired).map(|file| file.path.as_str()).collect();
        let strays = shown.iter().filter(|path| !known.contains(path.as_str()));
        let strays = strays.map(|path| format!("{path}: in the folder, and no commit names it"));
        let unreached = unreached.into_iter().map(|name| format!("{name}: no commit leads to it"));
        log.faults = strays.chain(unreached).collect();
        Ok(log)
    }

    /// What a reader who looks into the folder finds.
    async fn shown(&self, ending: &str) -> Result<Vec<String>, String> {
        let listed: Vec<_> = self.store.list(None).try_collect().await.map_err(said)?;
        let paths = listed.into_iter().map(|meta| meta.location);
        let shown = paths.filter(|path| {
            !path.parts().any(|part| part.as_ref().starts_with('_'))
                && path.extension() == Some(ending)
        });
        Ok(shown.map(|path| path.to_string()).collect())
    }

    /// Reads what was committed since; answers the links that no chain leads to.
    pub async fn advance(&mut self) -> Result<Vec<String>, String> {
        // Before the chains: a file that is retired has its link.
        let documents = retired::documents(&self.store).await?;
        let folder = Path::from(COMMITS);
        let listed: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(said)?;
        let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for meta in &listed {
            let parts: Vec<String> =
                meta.location.parts().map(|part| part.as_ref().to_owned()).collect();
            match &parts[..] {
                [_, chain, name] => chains.entry(chain.clone()).or_default().push(name.clone()),
                // Sorted behind the chain of the partition's progress, which it refers to.
                [_, chain, below, name] if below == REPLAYS => {
                    let chain = format!("{chain}/{REPLAYS}");
                    chains.entry(chain).or_default().push(name.clone());
                }
                _ => {}
            }
        }
        let is_link = |name: &str| !name.starts_with('_') && !name.ends_with(".gap.json");
        let mut missing = Vec::new();
        for (chain, names) in &chains {
            for name in names.iter().filter(|name| is_link(name)) {
                let key = (chain.clone(), name.clone());
                if !self.links.contains_key(&key) {
                    missing.push(key);
                }
            }
        }
        let mut fetches = Vec::new();
        for key in missing {
            fetches.push(fetch_link(self.store.clone(), key));
        }
        let mut fetched = futures::stream::iter(fetches).buffer_unordered(FETCHES);
        while let Some((key, link)) = fetched.try_next().await? {
            self.links.extend(link.map(|link| (key, link)));
        }
        drop(fetched);
        (self.files, self.marks, self.gaps) = Default::default();
        let mut unreached = Vec::new();
        for (chain, names) in chains {
            let reached = self.walk(&chain).await?;
            let left = names.iter().filter(|name| is_link(name) && !reached.contains(*name));
            unreached.extend(left.map(|name| format!("{COMMITS}/{chain}/{name}")));
            self.open_gap(&chain, &names).await?;
        }
        let mut gone: HashMap<String, Vec<Gone>> =
            documents.into_iter().map(|named| (named.path, named.gone)).collect();
        let is_gone = |file: &mut TableFile| gone.contains_key(&file.path);
        let files: Vec<TableFile> = self.files.extract_if(.., is_gone).collect();
        let retired = files.into_iter().map(|file| {
            let gone = gone.remove(&file.path).unwrap_or_default();
            RetiredFile { file, gone }
        });
        self.retired = retired.collect();
        Ok(unreached)
    }

    /// Follows one chain from its beginning; answers the names of its links.
    async fn walk(&mut self, chain: &str) -> Result<HashSet<String>, String> {
        let mut reached = HashSet::new();
        let mut name = BEGIN.to_owned();
        for step in 0.. {
            let key = (chain.to_owned(), name.clone());
            if !self.links.contains_key(&key) {
                // The listing may have been older than what is there.
                let (key, link) = fetch_link(self.store.clone(), key.clone()).await?;
                match link {
                    Some(link) => drop(self.links.insert(key, link)),
                    None => break,
                }
            }
            let Some(link) = self.links.get(&key).cloned() else { break };
            let next = format!("{:06}-{:020}.json", link.generation, link.to);
            self.apply(step, link);
            if !reached.insert(std::mem::replace(&mut name, next)) {
                return Err(format!("the chain {chain} leads back into itself"));
            }
        }
        Ok(reached)
    }

    fn apply(&mut self, step: u64, link: Link) {
        let source = TopicPartition::new(link.topic, link.partition);
        let topic_id = TopicId::from(link.topic_id);
        let replay = link.kind == "replay";
        // A replay is of the topic that it names, whenever it was.
        let marks = self.marks.get(&source).map_or(&[][..], Vec::as_slice);
        let of_topic = marks.iter().find(|mark| mark.topic_id.get() == topic_id.get());
        let version = if replay { of_topic.map_or(0, |mark| mark.since) } else { step };
        let files = link.files.into_iter().map(|file| TableFile {
            path: file.path,
            version,
            size: file.size,
            modified: link.written_ms,
            values: BTreeMap::new(),
            time: Some(file.time),
            // A replay's link counts replays.
            offsets: (!replay).then_some((link.from, link.to - 1)),
            by: file.by,
            topic: None,
            live: true,
        });
        self.files.extend(files);
        if replay {
            return;
        }
        if let Some(reason) = link.gap {
            let range = OffsetRange { start: link.from, end: link.to };
            let source = source.clone();
            self.gaps.push(Gap { source, topic_id, range, reason, settled: true });
        }
        let marks = self.marks.entry(source).or_default();
        let updated = step as i64;
        match marks.iter_mut().find(|mark| mark.topic_id.get() == topic_id.get()) {
            Some(mark) => {
                if link.kind == "reset" {
                    mark.start = mark.start.map(|start| start.min(link.to));
                }
                mark.next_offset = link.to;
                mark.updated = updated;
            }
            None => marks.push(Mark {
                topic_id,
                next_offset: link.to,
                start: Some(if matches!(&*link.kind, "begin" | "reset") {
                    link.to
                } else {
                    link.from
                }),
                since: step,
                updated,
            }),
        }
    }

    /// The gap that a chain waits before, if it says so.
    async fn open_gap(&mut self, chain: &str, names: &[String]) -> Result<(), String> {
        let Some((source, mark)) = self.marks.iter().find_map(|(source, marks)| {
            let own = format!("{}-{}", source.topic, source.partition) == chain;
            Some((source, marks.iter().max_by_key(|mark| mark.updated)?)).filter(|_| own)
        }) else {
            return Ok(());
        };
        let ending = format!("-{:020}.gap.json", mark.next_offset);
        let Some(name) = names.iter().filter(|name| name.ends_with(&ending)).max() else {
            return Ok(());
        };
        let key = (chain.to_owned(), name.clone());
        let Some(gap) = fetch::<OpenGap>(self.store.as_ref(), &key).await? else { return Ok(()) };
        self.gaps.push(Gap {
            source: source.clone(),
            topic_id: TopicId::from(gap.topic_id),
            range: OffsetRange { start: gap.from, end: gap.to },
            reason: gap.reason,
            settled: false,
        });
        Ok(())
    }

    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }
}

type Key = (String, String);

async fn fetch_link(store: Arc<dyn ObjectStore>, key: Key) -> Result<(Key, Option<Link>), String> {
    let link = fetch(store.as_ref(), &key).await?;
    Ok((key, link))
}

async fn fetch<T: serde::de::DeserializeOwned>(
    store: &dyn ObjectStore,
    (chain, name): &Key,
) -> Result<Option<T>, String> {
    let path = Path::from_iter([COMMITS].into_iter().chain(chain.split('/')).chain([&**name]));
    let bytes = match store.get(&path).await {
        Ok(got) => got.bytes().await.map_err(said)?,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(said(error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use serde_json::json;

    const IDS: [&str; 2] =
        ["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"];

    async fn log(links: &[(&str, serde_json::Value)], shown: &[&str]) -> PlainLog {
        let store = Arc::new(InMemory::new());
        for (name, body) in links {
            let path = Path::from(format!("_commits/t-0/{name}"));
            store.put(&path, body.to_string().into()).await.unwrap();
        }
        for path in shown {
            store.put(&Path::from(*path), "".into()).await.unwrap();
        }
        PlainLog::open(store, "jsonl").await.unwrap()
    }

    fn link(kind: &str, id: usize, generation: u64, from: i64, to: i64) -> serde_json::Value {
        json!({"kind": kind, "generation": generation, "topic": "t", "partition": 0,
            "topicId": IDS[id], "from": from, "to": to,
            "files": if kind == "rows" { json!([{"path": format!("d/{from}.jsonl"), "size": 1, "time": "2025"}]) } else { json!([]) }})
    }

    #[tokio::test]
    async fn a_chain_is_followed_over_a_topic_made_again() {
        let links = [
            ("begin.json", link("begin", 0, 0, 5, 5)),
            ("000000-00000000000000000005.json", link("rows", 0, 0, 5, 9)),
            ("000000-00000000000000000009.json", link("reset", 1, 1, 9, 0)),
            ("000001-00000000000000000000.json", link("rows", 1, 1, 0, 7)),
        ];
        let log = log(&links, &["d/5.jsonl", "d/0.jsonl", "d/other.txt", "_x/a.jsonl"]).await;
        assert_eq!(log.faults, Vec::<String>::new());
        let marks = &log.marks[&TopicPartition::new("t", 0)];
        let shown: Vec<_> =
            marks.iter().map(|mark| (mark.start, mark.next_offset, mark.since)).collect();
        assert_eq!(shown, [(Some(5), 9, 0), (Some(0), 7, 2)]);
        let versions: Vec<u64> = log.files.iter().map(|file| file.version).collect();
        assert_eq!(versions, [1, 3]);
    }

    #[tokio::test]
    async fn what_no_chain_leads_to_is_a_fault() {
        let links = [
            ("begin.json", link("begin", 0, 0, 0, 0)),
            ("000000-00000000000000000003.json", link("rows", 0, 0, 3, 9)),
        ];
        let log = log(&links, &["d/3.jsonl"]).await;
        assert_eq!(
            log.faults,
            [
                "d/3.jsonl: in the folder, and no commit names it",
                "_commits/t-0/000000-00000000000000000003.json: no commit leads to it"
            ]
        );
    }
}
