//! Permission rows → an S3 bucket policy. It only allows: a statement that denies would shut out the node
//! itself, or whoever is to mend it. What nobody allows is closed where the bucket is.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use super::files::{About, FeedFolder};
use super::{Action, Grantee, Row};

/// Where the lake is.
#[derive(Debug, Clone, Copy)]
pub struct Bucket<'a> {
    pub name: &'a str,
    /// Of the lake in it, without `/` at its ends; empty for all of it.
    pub prefix: &'a str,
}

/// A policy, and what of the rows is not in it.
#[derive(Debug, Clone, PartialEq)]
pub struct BucketPolicy {
    pub document: Value,
    pub left_out: Vec<String>,
}

/// The policy that lets each grantee read the folders whose rows he may all read. `principals` are those
/// that the store has for a grantee, such as ARNs.
pub fn bucket_policy(
    rows: &[Row],
    folders: &[FeedFolder],
    bucket: Bucket<'_>,
    principals: &BTreeMap<Grantee, BTreeSet<String>>,
    now_ms: i64,
) -> BucketPolicy {
    let mut policy = Policy { bucket, statements: Vec::new(), left_out: Vec::new() };
    for folder in folders {
        let about = About::of(rows, folder, now_ms);
        policy.leave_out_narrow(folder, &about);
        if let Some(other) = folder.entangled(folders).filter(|_| !about.whole.is_empty()) {
            let why = format!(
                "the files of feed {} lie among them; give each feed a `lake.layout` of its own",
                other.feed
            );
            policy.leave_out(folder, about.whole[0], &why);
            continue;
        }
        let mut seen = BTreeSet::new();
        for &row in about.whole.iter().filter(|row| seen.insert(&row.grantee)) {
            match (about.denial(&row.grantee), principals.get(&row.grantee)) {
                (Some(denial), _) => {
                    let why = format!(
                        "row {} denies {} something of it, and files are whole",
                        denial.id, denial.grantee
                    );
                    policy.leave_out(folder, row, &why);
                }
                (None, None) => {
                    let why = format!("say who that is, as in --principal '{}=ARN'", row.grantee);
                    policy.leave_out(folder, row, &why);
                }
                (None, Some(own)) => {
                    let mut own = own.clone();
                    for (principal, other) in shared(&own, principals, &row.grantee, &about) {
                        let why =
                            format!("{principal} is {other} too, whom no row lets read all of it");
                        policy.leave_out(folder, row, &why);
                        own.remove(&principal);
                    }
                    if !own.is_empty() {
                        policy.allow(folder, row, &own, ends(&about, &row.grantee));
                    }
                }
            }
        }
    }
    let document = json!({"Version": "2012-10-17", "Statement": policy.statements});
    BucketPolicy { document, left_out: policy.left_out }
}

/// What the store knows as one and the rows as several, each with another who may not read all of it.
fn shared(
    own: &BTreeSet<String>,
    principals: &BTreeMap<Grantee, BTreeSet<String>>,
    grantee: &Grantee,
    about: &About<'_>,
) -> Vec<(String, Grantee)> {
    let may = |it: &Grantee| {
        about.denial(it).is_none() && about.whole.iter().any(|row| row.grantee == *it)
    };
    let other = |principal: &String| {
        let mut others =
            principals.iter().filter(|(it, names)| *it != grantee && names.contains(principal));
        others.find(|(it, _)| !may(it)).map(|(it, _)| (principal.clone(), it.clone()))
    };
    own.iter().filter_map(other).collect()
}

/// When the last of somebody's rows ends: milliseconds since the epoch; never, if one does not.
fn ends(about: &About<'_>, grantee: &Grantee) -> Option<i64> {
    let own = about.whole.iter().filter(|row| row.grantee == *grantee);
    own.map(|row| row.expires_at_ms).collect::<Option<Vec<i64>>>()?.into_iter().max()
}

struct Policy<'a> {
    bucket: Bucket<'a>,
    statements: Vec<Value>,
    left_out: Vec<String>,
}

impl Policy<'_> {
    fn allow(
        &mut self,
        folder: &FeedFolder,
        row: &Row,
        principals: &BTreeSet<String>,
        until_ms: Option<i64>,
    ) {
        // Two feeds' names may be one without their signs.
        let number = self.statements.len();
        let sid = |what: &str| {
            let name = [&folder.feed, folder.action.name(), "row", &row.id.to_string()].join("-");
            format!("{what}{number}{}", camel(&name))
        };
        let Bucket { name, prefix } = self.bucket;
        let path = [prefix, &folder.path].join("/");
        let path = path.trim_start_matches('/');
        let principal = json!({"AWS": principals});
        let mut read = json!({
            "Sid": sid("Get"), "Effect": "Allow", "Principal": principal, "Action": "s3:GetObject",
            "Resource": format!("arn:aws:s3:::{name}/{path}/*"),
        });
        // With the folder's end: others' names may begin alike.
        let mut list = json!({
            "Sid": sid("List"), "Effect": "Allow", "Principal": principal, "Action": "s3:ListBucket",
            "Resource": format!("arn:aws:s3:::{name}"),
            "Condition": {"StringLike": {"s3:prefix": format!("{path}/*")}},
        });
        if let Some(until) = until_ms.and_then(DateTime::from_timestamp_millis) {
            let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
            for statement in [&mut read, &mut list] {
                statement["Condition"]["DateLessThan"] = json!({ "aws:CurrentTime": until });
            }
        }
        self.statements.extend([read, list]);
    }

    fn leave_out(&mut self, folder: &FeedFolder, row: &Row, why: &str) {
        let what = match folder.action {
            Action::Quarantine => format!("the quarantine of {}", folder.feed),
            _ => folder.feed.clone(),
        };
        self.left_out.push(format!("{what}: row {} for {}: {why}", row.id, row.grantee));
    }

    fn leave_out_narrow(&mut self, folder: &FeedFolder, about: &About<'_>) {
        for row in &about.narrow {
            self.leave_out(
                folder,
                row,
                "it shows a part, and files are whole; it is read over the API",
            );
        }
    }
}

/// Letters and digits alone, as a statement's id has them.
fn camel(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let word = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    words.map(word).collect()
}
