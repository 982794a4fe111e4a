use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;

use crate::cli::{Exit, NodeFile, block_on, failed, print_json};
use crate::governance::{Bucket, Grantee, bucket_policy};
use crate::telemetry::print::tell;

/// The most that S3 takes.
const MOST_BYTES: usize = 20 * 1024;

/// Print the S3 bucket policy that lets those read a feed's files whom a row lets read all of it.
///
/// It only allows: that nobody else may read the bucket, and that the nodes may read and write it, is for
/// other policies to say. What of the rows is not in it is told on standard error.
#[derive(Debug, clap::Args)]
pub struct BucketPolicy {
    #[command(flatten)]
    file: NodeFile,
    /// Whom the store knows as a grantee of the rows, as in
    /// `group:finance=arn:aws:iam::123456789012:role/finance`. May be repeated.
    #[arg(long = "principal", value_name = "WHOM=ARN", value_parser = principal)]
    principals: Vec<(Grantee, String)>,
}

fn principal(text: &str) -> Result<(Grantee, String), String> {
    let (grantee, principal) = text.split_once('=').ok_or("a grantee, `=` and a principal")?;
    let grantee: Grantee = grantee.parse()?;
    match principal {
        "" => Err("a principal behind `=`".to_owned()),
        "*" => Err("`*` is the whole world, whom no row is for: name an account".to_owned()),
        _ => Ok((grantee, principal.to_owned())),
    }
}

impl BucketPolicy {
    pub fn run(self) -> Result<Exit, Exit> {
        let (node, feeds) = self.file.load()?;
        let url = node.lake.as_ref().and_then(|lake| lake.url.strip_prefix("s3://"));
        let Some(place) = url else {
            let file = self.file.path().display();
            tell!(
                "error: {file}: no lake on S3 is configured; of folders there is `permissions files`"
            );
            return Err(Exit::UsedWrongly);
        };
        let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
        let bucket = Bucket { name, prefix: prefix.trim_matches('/') };
        if prefix.contains(['*', '?', '$']) {
            tell!(
                "error: lake.url: a policy takes `*`, `?` and `$` in a prefix for other names, too"
            );
            return Err(Exit::UsedWrongly);
        }
        let rules = super::rules(&self.file)?;
        let files = super::files::folders(&node, feeds).map_err(failed)?;
        let folders = block_on(files.folders())?;
        let mut principals: BTreeMap<Grantee, BTreeSet<String>> = BTreeMap::new();
        for (grantee, principal) in self.principals {
            principals.entry(grantee).or_default().insert(principal);
        }
        let now_ms = Utc::now().timestamp_millis();
        let policy = bucket_policy(&rules.rows, &folders, bucket, &principals, now_ms);
        for left_out in &policy.left_out {
            tell!("left out: {left_out}");
        }
        if policy.document.to_string().len() > MOST_BYTES {
            tell!(
                "the policy is longer than the 20 KiB that S3 takes: grant patterns to fewer principals"
            );
        }
        print_json(&policy.document);
        Ok(Exit::Good)
    }
}
