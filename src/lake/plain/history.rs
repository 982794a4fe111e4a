//! All links of a plain table, for whoever reads its rows as they stood at one moment.
//!
//! The links are listed and fetched side by side: walking a long chain link by link would take an
//! answer of the store for each. What counts is still only what the chain leads to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt};

use super::chain::{COMMITS, FIRST, Link, LinkedFile};
use super::reading::is_published;
use super::retired::Retirements;
use crate::config::LakeFormat;
use crate::lake::log::judged;
use crate::record::SinkError;

/// Links fetched at once.
const FETCHES: usize = 32;

/// Where a chain stood: the generation and the offset in the name of the link that comes next. They
/// tell a link of one chain from every other.
pub type End = (u64, i64);

/// The chains of a table, each under its folder below `_commits`.
#[derive(Default)]
pub struct History {
    chains: BTreeMap<String, Vec<Known>>,
    pub retirements: Retirements,
}

/// A link, and the store's word for it, by which one of a folder that was replaced is told from it.
#[derive(Clone)]
struct Known {
    link: Arc<Link>,
    meta: ObjectMeta,
}

/// The files of one chain up to some link, and where that link leads.
pub struct Run<'a> {
    pub chain: &'a str,
    pub end: End,
    /// When its last link was written.
    pub last_ms: i64,
    /// Each with the time of its commit, which never falls along a chain.
    pub files: Vec<(i64, &'a LinkedFile)>,
}

impl History {
    /// Every link that a reader may know of; what was known before is not fetched again. The last of a
    /// chain may name files that are on their way still: such a link is left out, as readers of the
    /// folder do not see its rows either.
    pub async fn read(store: &dyn ObjectStore, before: &Self) -> Result<Self, SinkError> {
        // Before the chains: a file that is retired has its link.
        let retirements = Retirements::read(store, &before.retirements).await?;
        let retired = retirements.paths(retirements.count());
        let mut chains = BTreeMap::new();
        for (chain, listed) in listed(store).await? {
            let known = before.chains.get(&chain).map_or(&[][..], Vec::as_slice);
            let known: HashMap<&Path, &Known> =
                known.iter().map(|known| (&known.meta.location, known)).collect();
            let mut links = HashMap::new();
            let mut fetches = Vec::new();
            for meta in listed {
                match known.get(&meta.location).filter(|known| known.meta == meta) {
                    Some(known) => drop(links.insert(name(&meta), (*known).clone())),
                    None => fetches.push(fetch(store, meta)),
                }
            }
            let mut fetched = stream::iter(fetches).buffer_unordered(FETCHES);
            while let Some(fetched) = fetched.try_next().await? {
                links.insert(name(&fetched.meta), fetched);
            }
            let mut walked: Vec<Known> = Vec::new();
            let mut next = FIRST.to_owned();
            while let Some(known) = links.remove(&next) {
                next = known.link.next_name();
                walked.push(known);
            }
            if let Some(last) = walked.last()
                && !is_published(store, &last.link, &retired).await?
            {
                walked.pop();
            }
            chains.insert(chain, walked);
        }
        chains.retain(|_, links| !links.is_empty());
        Ok(Self { chains, retirements })
    }

    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// When the first link was written.
    pub fn first_ms(&self) -> Option<i64> {
        self.chains.values().filter_map(|links| links.first()).map(|it| it.link.written_ms).min()
    }

    /// The format of the files, which is the same for all.
    pub fn format(&self) -> Option<LakeFormat> {
        // A link without files says nothing of them.
        let links = self.chains.values().flatten();
        links.map(|it| &it.link).filter(|it| !it.files.is_empty()).map(|it| it.format).next()
    }

    /// What there is.
    pub fn whole(&self) -> Vec<Run<'_>> {
        self.runs(|links| links.len())
    }

    /// What there was at a moment, by the clocks of those who wrote the links.
    pub fn at(&self, time_ms: i64) -> Vec<Run<'_>> {
        let is_later = |known: &Known| known.link.written_ms > time_ms;
        self.runs(|links| links.iter().position(is_later).unwrap_or(links.len()))
    }

    /// What there was when the chains stood so; none if one never did.
    pub fn until(&self, ends: &[(String, End)]) -> Option<Vec<Run<'_>>> {
        let run = |(chain, end): &(String, End)| {
            let (chain, links) = self.chains.get_key_value(chain)?;
            let last = links.iter().position(|it| (it.link.generation, it.link.to) == *end)?;
            Run::of(chain, &links[..=last])
        };
        ends.iter().map(run).collect()
    }

    fn runs(&self, length: impl Fn(&[Known]) -> usize) -> Vec<Run<'_>> {
        let runs = self.chains.iter();
        runs.filter_map(|(chain, links)| Run::of(chain, &links[..length(links)])).collect()
    }
}

impl<'a> Run<'a> {
    fn of(chain: &'a str, links: &'a [Known]) -> Option<Self> {
        let last = &links.last()?.link;
        let mut last_ms = i64::MIN;
        let mut files = Vec::new();
        for Known { link, .. } in links {
            last_ms = last_ms.max(link.written_ms);
            files.extend(link.files.iter().map(|file| (last_ms, file)));
        }
        Some(Self { chain, end: (last.generation, last.to), last_ms, files })
    }
}

/// The links below each chain's folder.
async fn listed(store: &dyn ObjectStore) -> Result<BTreeMap<String, Vec<ObjectMeta>>, SinkError> {
    let mut chains: BTreeMap<String, Vec<ObjectMeta>> = BTreeMap::new();
    let folder = Path::from(COMMITS);
    let mut listed = store.list(Some(&folder));
    while let Some(meta) = listed
        .try_next()
        .await
        .map_err(|error| judged(&error).context("listing the table's commits"))?
    {
        let parts: Vec<_> = meta.location.parts().map(|part| part.as_ref().to_owned()).collect();
        let [_, chain @ .., name] = &parts[..] else { continue };
        let is_link = !name.starts_with('_') && !name.ends_with(".gap.json");
        if is_link && name.ends_with(".json") {
            chains.entry(chain.join("/")).or_default().push(meta);
        }
    }
    Ok(chains)
}

fn name(meta: &ObjectMeta) -> String {
    meta.location.filename().unwrap_or_default().to_owned()
}

async fn fetch(store: &dyn ObjectStore, meta: ObjectMeta) -> Result<Known, SinkError> {
    let path = &meta.location;
    let failed = |error: Error| judged(&error).context(format!("reading {path}"));
    let bytes = store.get(path).await.map_err(failed)?.bytes().await.map_err(failed)?;
    let link = serde_json::from_slice(&bytes)
        .map_err(|error| SinkError::lasting(format!("{path} is damaged: {error}")))?;
    Ok(Known { link: Arc::new(link), meta })
}
