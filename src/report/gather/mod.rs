//! What there is, asked part by part; a part that cannot be told says why.

mod feed;
mod governance;
mod lake;
mod queries;

use std::path::PathBuf;
use std::sync::Arc;

use chrono::Utc;
use url::Url;

use self::feed::Looking;
use super::facts::{ChoreFacts, Places, Report, RunFacts, Told};
use crate::actors::janitor::{Chore, Report as Done};
use crate::catalog::Known;
use crate::config::{FeedFile, Node};
use crate::grants::Hand;
use crate::lake::LakeStore;
use crate::lake::upkeep::Mode;
use crate::record::{SinkError, SinkKind};
use crate::verify::{Counted, counted};
use crate::warehouse::{self, AdHoc, Run, Warehouse};

/// What the report is to be.
pub struct Asked {
    pub title: Option<String>,
    /// Where it goes, for the audit.
    pub out: String,
    /// The folder of queries; none where there is none.
    pub queries: Option<PathBuf>,
}

/// The sinks, each as far as it answers.
struct Sinks {
    lake: Option<Told<LakeStore>>,
    database: Option<Told<Database>>,
}

/// A database that answers.
struct Database {
    warehouse: Arc<dyn Warehouse>,
    ad_hoc: Arc<dyn AdHoc>,
    /// Whether the bookkeeping is there, and of this release.
    bookkeeping: Told<()>,
}

/// Asks everything, after a row of the audit is written. The error is of the configuration, or of an audit
/// that is there and takes no row.
pub async fn gather(
    node: &Node,
    files: Vec<FeedFile>,
    hand: &Hand,
    asked: Asked,
) -> Result<Report, String> {
    let sinks = Sinks::open(node).await;
    let governance = match sinks.bookkeeping() {
        Ok(_) => {
            // Before anything is read for somebody: where there is an audit, nothing is without.
            governance::record(node, hand, &asked.out).await?;
            governance::governance(node).await
        }
        // One of another release may have an audit all the same.
        Err(why) => match sinks.database() {
            Ok(_) if governance::has_audit(node).await => {
                governance::record(node, hand, &asked.out).await?;
                Err(why)
            }
            _ => Err(why),
        },
    };
    let known = known(node, files.clone(), &sinks)?;
    let mut feeds = Vec::new();
    let named = known.all().await;
    for named in &named {
        feeds.push(Looking { sinks: &sinks, known: &known, named }.facts().await);
    }
    let comes_to_nothing = |file: &&FeedFile| !named.iter().any(|it| it.file.feed == file.feed);
    let waiting = files.iter().filter(comes_to_nothing).map(|file| {
        let pattern = file.topics.as_deref().unwrap_or_default();
        (file.feed.clone(), format!("no topic is known that matches {pattern}"))
    });
    let (chores, runs) = janitor(node, &sinks).await;
    Ok(Report {
        title: asked.title.unwrap_or_else(|| format!("Tidegate: {}", node.kafka.group)),
        version: env!("CARGO_PKG_VERSION"),
        by: hand.by.name.clone(),
        at_ms: Utc::now().timestamp_millis(),
        places: places(node),
        waiting: waiting.collect(),
        feeds,
        governance,
        chores,
        runs,
        quarantine: quarantine(node, &sinks).await,
        queries: match &asked.queries {
            Some(folder) => Some(queries::run(folder, &sinks).await),
            None => None,
        },
    })
}

impl Sinks {
    async fn open(node: &Node) -> Self {
        let said = |error: SinkError| error.to_string();
        let lake = match &node.lake {
            None => None,
            Some(config) => Some(match LakeStore::open(config) {
                // Whether it answers is asked once, and not by every feed.
                Ok(store) => store.known_installation().await.map(|_| store).map_err(said),
                Err(error) => Err(said(error)),
            }),
        };
        let database = match &node.warehouse {
            None => None,
            Some(config) => Some(Database::open(config).await.map_err(said)),
        };
        Self { lake, database }
    }

    /// The lake, where there is one that answers.
    fn lake(&self) -> Option<&LakeStore> {
        self.lake.as_ref()?.as_ref().ok()
    }

    fn database(&self) -> Told<&Database> {
        match &self.database {
            None => Err("The node file has no `warehouse`, where this would be kept.".to_owned()),
            Some(Ok(database)) => Ok(database),
            Some(Err(why)) => Err(why.clone()),
        }
    }

    /// The database, where it has the bookkeeping.
    fn bookkeeping(&self) -> Told<&Database> {
        let database = self.database()?;
        database.bookkeeping.clone().map(|()| database)
    }
}

impl Database {
    async fn open(config: &crate::config::Warehouse) -> Result<Self, SinkError> {
        if let Some(file) = config.url.strip_prefix("sqlite:")
            && !std::path::Path::new(file).exists()
        {
            // To open it would make it.
            return Err(SinkError::lasting(format!("there is no file {file} yet")));
        }
        let warehouse = warehouse::open(config)?;
        warehouse.ping().await?;
        let bookkeeping = warehouse.check_schema().await.map_err(|error| error.to_string());
        Ok(Self { warehouse, ad_hoc: warehouse::open_ad_hoc(config)?, bookkeeping })
    }
}

fn known(node: &Node, files: Vec<FeedFile>, sinks: &Sinks) -> Result<Known, String> {
    let database = sinks.bookkeeping().ok().map(|it| it.warehouse.clone());
    Known::open(node, files, sinks.lake().cloned(), database)
}

fn places(node: &Node) -> Places {
    let registry = node.schema_registry.as_ref().map(|it| without_credentials(&it.url));
    Places {
        kafka: node.kafka.bootstrap.clone(),
        group: node.kafka.group.clone(),
        lake: node.lake.as_ref().map(|it| without_credentials(&it.url)),
        warehouse: node.warehouse.as_ref().map(|it| without_credentials(&it.url)),
        registry,
        api: node.api.as_ref().map(|it| it.listen.to_string()),
    }
}

/// An address as anybody may see it: without user, password and what follows `?`. A path stays as it is.
fn without_credentials(address: &str) -> String {
    let Ok(mut url) = Url::parse(address) else { return address.to_owned() };
    if !url.has_host() {
        return address.to_owned();
    }
    // They fail for addresses that can have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

async fn janitor(node: &Node, sinks: &Sinks) -> (Vec<ChoreFacts>, Told<()>) {
    let runs = async {
        let config = node.warehouse.as_ref();
        let (_, Some(config)) = (sinks.bookkeeping()?, config) else { return Ok(Vec::new()) };
        let store = warehouse::open_janitor(config).map_err(|error| error.to_string())?;
        store.runs().await.map_err(|error| error.to_string())
    };
    let runs: Told<Vec<Run>> = runs.await;
    let chore = |chore: Chore| ChoreFacts {
        name: chore.name(),
        schedule: chore.schedule(&node.janitor).to_string(),
        last: runs.iter().flatten().find(|run| run.chore == chore.name()).map(run_facts),
    };
    (Chore::ALL.map(chore).into(), runs.map(drop))
}

fn run_facts(run: &Run) -> RunFacts {
    let done = match serde_json::from_value::<Done>(run.report.clone()) {
        Ok(done) => {
            let feeds = done.feeds.iter();
            let feeds = feeds.map(|(feed, done)| (feed.clone(), done.in_words(Mode::Do)));
            let kept = done.quarantines.iter();
            let kept =
                kept.map(|(feed, done)| (format!("{feed}, quarantine"), done.in_words(Mode::Do)));
            let rows_of = done.warehouse.iter();
            let tables =
                rows_of.map(|(feed, done)| (format!("{feed}, warehouse"), done.in_words(Mode::Do)));
            let rows = done.audit_rows.filter(|rows| *rows > 0);
            let rows = rows.map(|rows| ("audit".to_owned(), format!("{rows} rows taken out")));
            let error = done.error.clone().map(|error| ("error".to_owned(), error));
            feeds.chain(kept).chain(tables).chain(rows).chain(error).collect()
        }
        // Of another release.
        Err(_) => vec![("report".to_owned(), run.report.to_string())],
    };
    let (node, failed) = (run.node.clone(), run.failed);
    RunFacts { node, started_ms: run.started_ms, finished_ms: run.finished_ms, failed, done }
}

async fn quarantine(node: &Node, sinks: &Sinks) -> Vec<(&'static str, Told<Vec<Counted>>)> {
    let mut told = Vec::new();
    if let Some(lake) = &sinks.lake {
        let counts = match lake {
            Ok(_) => counted(node, SinkKind::Lake).await,
            Err(why) => Err(why.clone()),
        };
        told.push((SinkKind::Lake.name(), counts));
    }
    if sinks.database.is_some() {
        let counts = match sinks.bookkeeping() {
            Ok(_) => counted(node, SinkKind::Warehouse).await,
            Err(why) => Err(why),
        };
        told.push((SinkKind::Warehouse.name(), counts));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_without_credentials() {
        for (address, shown) in [
            ("postgres://ada:hunter2@db:5432/w?password=x", "postgres://db:5432/w"),
            ("https://ada:hunter2@registry:8081/v7", "https://registry:8081/v7"),
            ("s3://bucket/lake", "s3://bucket/lake"),
            ("/srv/lake", "/srv/lake"),
            ("sqlite:/srv/w.db", "sqlite:/srv/w.db"),
        ] {
            assert_eq!(without_credentials(address), shown);
        }
    }
}
