use std::sync::Arc;

use chrono::Utc;

use crate::actors::governor::Files as Folders;
use crate::catalog::{Catalog, Known};
use crate::cli::{Exit, NodeFile, Output, block_on, failed, print_json};
use crate::config::{FeedFile, Node};
use crate::governance::{Action, Row};
use crate::lake::LakeStore;
use crate::lake::access::FolderAccess;
use crate::lake::upkeep::Mode;
use crate::source::Log;
use crate::telemetry::print::{answer, tell};

/// Bring the modes of a local lake to what the rows say, now.
///
/// The folder of a feed is opened to everybody (755) or to one Unix group (750) if a row lets them read all of
/// it and none denies anything of it, and is its owner's alone (700) else. With `governance.files.enforce`
/// nodes keep it so by themselves.
///
/// Exit codes: 0 as the rows say, 1 some mode cannot be set, 3 with --dry-run: something differs.
#[derive(Debug, clap::Args)]
pub struct Files {
    #[command(flatten)]
    file: NodeFile,
    /// Say what would be changed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl Files {
    pub fn run(self) -> Result<Exit, Exit> {
        let (node, feeds) = self.file.load()?;
        if node.lake.as_ref().is_none_or(|lake| lake.url.starts_with("s3://")) {
            tell!(
                "error: {}: no lake in a folder is configured; for one on S3 there is `permissions \
                 bucket-policy`",
                self.file.path().display()
            );
            return Err(Exit::UsedWrongly);
        }
        let rules = super::rules(&self.file)?;
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Do };
        let settled = block_on(settle_by(&node, feeds, &rules.rows, mode))?.map_err(failed)?;
        match self.output {
            Output::Json => print_json(&settled),
            Output::Text => settled.iter().for_each(|it| self.print(it)),
        }
        Ok(match settled.iter().any(|it| it.differs) {
            _ if settled.iter().any(|it| it.failed.is_some()) => Exit::Failed,
            true if self.dry_run => Exit::Difference,
            _ => Exit::Good,
        })
    }

    fn print(&self, it: &FolderAccess) {
        let FolderAccess { folder, wanted, found, owner, why, .. } = it;
        let done = match found {
            None => "not there yet".to_owned(),
            Some(_) if !it.differs => "as it is".to_owned(),
            Some(found) if self.dry_run => format!("would change from {found}"),
            Some(found) if it.failed.is_some() => format!("could not be changed from {found}"),
            Some(found) => format!("changed from {found}"),
        };
        let owner = owner.as_ref().map(|owner| format!(", of {owner}")).unwrap_or_default();
        let what = if folder.action == Action::Quarantine { ", quarantine" } else { "" };
        answer!("{}{what}  {}  {wanted}{owner}  {done}: {why}", folder.feed, folder.path);
        for said in it.failed.iter().chain(&it.notes) {
            tell!("  {}: {said}", folder.path);
        }
    }
}

/// Brings the modes to what the rows are now. The error says which could not be set.
pub async fn settle(node: &Node, feeds: Vec<FeedFile>) -> Result<(), String> {
    let rules = super::grants(node).await.map_err(|error| error.to_string())?.rules().await;
    let rules = rules.map_err(|error| error.to_string())?;
    let settled = settle_by(node, feeds, &rules.rows, Mode::Do).await?;
    let failed: Vec<String> = settled.into_iter().filter_map(|it| it.failed).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

async fn settle_by(
    node: &Node,
    feeds: Vec<FeedFile>,
    rows: &[Row],
    mode: Mode,
) -> Result<Vec<FolderAccess>, String> {
    Ok(folders(node, feeds)?.settle(rows, Utc::now().timestamp_millis(), mode).await)
}

/// The folders of a node's feeds, those of archived ones among them.
pub fn folders(node: &Node, feeds: Vec<FeedFile>) -> Result<Folders, String> {
    let Some(config) = &node.lake else { return Err("the node file has no `lake`".to_owned()) };
    let lake = LakeStore::open(config).map_err(|error| error.to_string())?;
    let log = Arc::new(Log::open(&node.kafka)?);
    let catalog = Catalog::new(node.kafka.clone(), Some(lake.clone()), None, None);
    let archived = Known::archived(node, catalog.clone(), log.clone());
    let known = Known::new(feeds, catalog, log);
    Ok(Folders::new(known, archived, lake, node.governance.files.groups.clone()))
}
