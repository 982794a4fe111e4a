//! The rights of those who read in the database itself, by hand.

use chrono::Utc;
use serde_json::json;

use super::{NodeFile, Output, grants, hand};
use crate::catalog::Known;
use crate::cli::{Exit, block_on, failed, print_json};
use crate::config::{FeedFile, Node};
use crate::lake::LakeStore;
use crate::record::SinkError;
use crate::rights::DatabaseRights;
use crate::telemetry::print::{answer, tell};
use crate::warehouse::{self, Reconciled};

/// Make the rights of those who read in PostgreSQL itself as the permission rows say.
///
/// Every node does so within seconds where the node file has `governance.postgres`. With `--dry-run` the
/// statements are printed and nothing is changed: they are what somebody with more rights may run.
///
/// Exit codes: 0 as it should be, or made so; 1 something could not be made so; 3 with `--dry-run`,
/// something would be changed, or only a person can mend it.
#[derive(Debug, clap::Args)]
pub struct Database {
    #[command(flatten)]
    file: NodeFile,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

impl Database {
    pub fn run(self) -> Result<Exit, Exit> {
        let (node, files) = self.file.load()?;
        if node.governance.postgres.is_none() {
            tell!("error: the node file has no `governance.postgres`: `postgres: {{}}` is enough");
            return Err(Exit::UsedWrongly);
        }
        let done = block_on(reconcile(&node, files, self.dry_run))?.map_err(failed)?;
        let Some(reconciled) = done else {
            return Err(failed("a node is at it now: try again"));
        };
        self.print(&reconciled);
        let in_vain = |it: &Reconciled| it.changes.iter().any(|change| change.failed.is_some());
        Ok(match self.dry_run {
            true if !reconciled.is_settled() => Exit::Difference,
            false if in_vain(&reconciled) || !reconciled.open.is_empty() => Exit::Failed,
            _ => Exit::Good,
        })
    }

    fn print(&self, Reconciled { changes, open }: &Reconciled) {
        if self.output == Output::Json {
            let change = |it: &warehouse::RightsChange| json!({"what": it.what, "sql": it.sql, "failed": it.failed});
            let changes: Vec<_> = changes.iter().map(change).collect();
            print_json(&json!({"changes": changes, "open": open, "dry_run": self.dry_run}));
            return;
        }
        for change in changes {
            match (&change.failed, self.dry_run) {
                (_, true) => answer!("-- {}\n{}\n", change.what, change.sql.trim_end()),
                (None, false) => answer!("done: {}", change.what),
                (Some(why), false) => tell!("error: {}: {why}", change.what),
            }
        }
        for what in open {
            tell!("open: {what}");
        }
        if changes.is_empty() && open.is_empty() {
            answer!("the rights in the database are as the permission rows say");
        }
    }
}

async fn reconcile(
    node: &Node,
    files: Vec<FeedFile>,
    dry_run: bool,
) -> Result<Option<Reconciled>, SinkError> {
    let grants = grants(node).await?;
    let rules = grants.rules().await?;
    for (name, fault) in &rules.faults {
        tell!("{name}: {fault}");
    }
    let lake = node.lake.as_ref().map(LakeStore::open).transpose()?;
    let database = node.warehouse.as_ref().map(warehouse::open).transpose()?;
    let known = Known::open(node, files, lake, database).map_err(SinkError::lasting)?;
    let Some(rights) = DatabaseRights::of(node, &known)? else { return Ok(None) };
    let done = rights.reconcile(&rules, Utc::now().timestamp_millis(), dry_run).await?;
    if let Some(Reconciled { changes, .. }) = &done
        && !dry_run
    {
        let done = changes.iter().filter(|change| change.failed.is_none());
        let rows: Vec<_> =
            done.map(|it| hand().audit("rights", None, true, it.what.clone())).collect();
        grants.record(&rows).await?;
    }
    Ok(done)
}
