//! The lake's own rights follow the permission rows: modes and groups of a local one, as s4 has them, really
//! tried by another user; and the policy of a bucket, really put there and tried with another key.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check::python;
use crate::node::tidegate;
use crate::servers::{env, wait_for};
use crate::source_place::{Place, SOON, Sender};
use crate::systems::System;
use crate::world::{Lake, Setup};

/// A grant opens and a revoke closes within this.
const PROMISED: Duration = Duration::from_secs(2);
/// Nobody in particular.
const NOBODY: u32 = 65534;

const RAW: &str = "streams/transaction_stream";
const ANONYMIZED: &str = "streams/transaction_stream_anonymized";
const BLACKLISTED: &str = "streams/transaction_stream_blacklisted";
const TOTALS: &str = "tables/payment_method_totals";

struct Files<'s> {
    system: &'s System,
    /// Groups that stand for engineers and for risk; none where this is not root, who alone may give folders
    /// away and be somebody else.
    groups: Option<[(&'static str, u32); 2]>,
}

impl Files<'_> {
    fn path(&self, folder: &str) -> PathBuf {
        self.system.folder.join("data_lake").join(folder)
    }

    fn mode(&self, folder: &str) -> (u32, u32) {
        let stat = std::fs::metadata(self.path(folder)).expect("the folder");
        (stat.mode() & 0o777, stat.gid())
    }

    fn wait_for_mode(&self, folder: &str, mode: u32, within: Duration) {
        let since = Instant::now();
        wait_for(&format!("{folder} as {mode:o}"), within, || {
            (self.mode(folder).0 == mode).then_some(())
        });
        println!("{folder}: {mode:03o} after {:?}", since.elapsed());
    }

    /// Whether somebody of this group reads every file of the folder.
    fn reads(&self, folder: &str, gid: u32) -> bool {
        let mut files = Vec::new();
        below(&self.path(folder), &mut files);
        assert!(!files.is_empty(), "{folder} has files");
        let read = |file: &PathBuf| {
            let mut cat = Command::new("cat");
            // The other groups go with the change of the user.
            cat.arg(file).uid(NOBODY).gid(gid).stdout(Stdio::null()).stderr(Stdio::null());
            cat.status().expect("cat runs").success()
        };
        let count = files.iter().filter(|file| read(file)).count();
        assert!(count == 0 || count == files.len(), "{folder}: {count} of {}", files.len());
        count > 0
    }

    /// Who reads which folder: nobody in particular, an engineer, and one of risk.
    fn readers(&self, folder: &str) -> [bool; 3] {
        let [(_, engineers), (_, risk)] = self.groups.expect("root");
        [NOBODY, engineers, risk].map(|gid| self.reads(folder, gid))
    }

    fn grant(&self, to: &str, feed: &str) -> String {
        let grant = ["permissions", "grant", "--to", to, "--feed", feed, "--reason", "a test"];
        let said = self.system.say(&grant);
        said.split([' ', ':']).nth(1).expect("a number").to_owned()
    }

    fn revoke(&self, row: &str) {
        self.system.say(&["permissions", "revoke", row, "--reason", "a test"]);
    }

    fn chmod(&self, folder: &str, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path(folder), mode).expect("our own folder");
    }

    /// `permissions files`: how it ended, and what it says of each folder.
    fn command(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        let mut command = self.system.command();
        command.args(["permissions", "files", "--output", "json"]).args(arguments);
        let out = command.output().expect("the binary runs");
        let said = serde_json::from_slice(&out.stdout);
        let said = said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
        (out.status.code().expect("it ended by itself"), said)
    }
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path().is_dir() {
            true => below(&entry.path(), files),
            false => files.push(entry.path()),
        }
    }
}

/// The number of a Unix group.
fn gid(name: &str) -> u32 {
    let groups = std::fs::read_to_string("/etc/group").expect("the groups");
    let mut groups = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let group = groups.find(|group| group[0] == name).unwrap_or_else(|| panic!("no group {name}"));
    group[2].parse().expect("a number")
}

#[test]
fn system_s4_files_are_open_to_those_who_may_read_all_of_them() {
    let system = System::new("s4", None);
    let is_root = std::fs::metadata("/proc/self").expect("this process").uid() == 0;
    // Two that every system has.
    let names = ["games", "daemon"];
    let groups = is_root.then(|| names.map(|name| (name, gid(name))));
    if is_root {
        let groups =
            format!("enforce: true\n    groups: {{engineers: {}, risk: {}}}", names[0], names[1]);
        system.edit_node("enforce: true", &groups);
    } else {
        println!("not root: no folder is given to another group, and nobody else tries to read");
    }
    let files = Files { system: &system, groups };
    system.say(&["config", "check"]);
    system.say(&["migrate"]);
    let database = std::fs::metadata(system.folder.join("governance.db")).expect("the database");
    assert_eq!(database.mode() & 0o777, 0o600);
    system.generate("600", "8");
    let mut node = system.node("all");
    system.wait_for_group("s4", &system.topics);

    // Nobody may read what no row lets him read.
    for folder in [RAW, ANONYMIZED, BLACKLISTED, TOTALS, "quarantine/transaction_stream"] {
        assert_eq!(files.mode(folder).0, 0o700, "{folder}");
    }
    if is_root {
        assert_eq!(files.readers(RAW), [false; 3]);
    }
    files.grant("*", "transaction_stream_anonymized");
    files.wait_for_mode(ANONYMIZED, 0o755, PROMISED);
    let totals = files.grant("*", "payment_method_totals");
    files.wait_for_mode(TOTALS, 0o755, PROMISED);
    assert_eq!(files.mode("quarantine/payment_method_totals").0, 0o700);
    if let Some([(_, engineers), (_, risk)]) = groups {
        files.grant("group:engineers", "transaction_stream");
        files.wait_for_mode(RAW, 0o750, PROMISED);
        files.grant("group:risk", "transaction_stream_blacklisted");
        files.wait_for_mode(BLACKLISTED, 0o750, PROMISED);
        assert_eq!((files.mode(RAW).1, files.mode(BLACKLISTED).1), (engineers, risk));
        assert_eq!(files.readers(RAW), [false, true, false]);
        assert_eq!(files.readers(BLACKLISTED), [false, false, true]);
        assert_eq!(files.readers(ANONYMIZED), [true; 3]);
    }
    // What is written meanwhile is open as the rest is, and the node is not in its own way.
    system.generate("200", "9");
    system.wait_for_group("s4", &system.topics);
    system.verify();
    if is_root {
        assert_eq!(files.readers(ANONYMIZED), [true; 3]);
        assert_eq!(files.readers(RAW), [false, true, false]);
    }
    files.revoke(&totals);
    files.wait_for_mode(TOTALS, 0o700, PROMISED);
    // By hand.
    files.chmod(TOTALS, 0o777);
    files.wait_for_mode(TOTALS, 0o700, SOON);
    assert!(node.terminate(SOON).0.success(), "{}", node.log());

    files.chmod(RAW, 0o777);
    let (code, said) = files.command(&["--dry-run"]);
    let of = |said: &[Value], feed: &str| {
        let mut of_feed = said.iter().filter(|it| it["feed"] == feed && it["action"] == "read");
        of_feed.next().unwrap_or_else(|| panic!("{feed} in {said:?}")).clone()
    };
    let raw = of(&said, "transaction_stream");
    assert_eq!((code, &raw["differs"], &raw["found"]["mode"]), (3, &json!(true), &json!("777")));
    assert_eq!(files.mode(RAW).0, 0o777, "a dry run changes nothing");
    let anonymized = of(&said, "transaction_stream_anonymized");
    assert_eq!(anonymized["differs"], json!(false), "{anonymized}");
    let (code, said) = files.command(&[]);
    assert_eq!((code, files.mode(RAW).0), (0, if is_root { 0o750 } else { 0o700 }), "{said:?}");
    assert_eq!(files.command(&["--dry-run"]).0, 0);

    // A feed that is carried no more has its rows there still.
    system.say(&["feeds", "archive", "transaction_stream_anonymized"]);
    files.grant("*", "*_anonymized");
    let deny = ["--to", "user:eve", "--feed", "*_anonymized", "--deny", "--reason", "a test"];
    system.say(&[&["permissions", "grant"][..], &deny].concat());
    let (code, said) = files.command(&[]);
    let closed = of(&said, "transaction_stream_anonymized");
    assert_eq!((code, files.mode(ANONYMIZED).0), (0, 0o700), "{closed}");
    assert!(closed["why"].as_str().is_some_and(|why| why.contains("denies user:eve")), "{closed}");
}

/// Those of the bucket: one of which all may be read, one of which a part, one denied to somebody.
const FEEDS: [&str; 3] = ["open", "closed", "denied"];

#[test]
fn a_bucket_policy_lets_those_read_whom_a_row_lets_read_all() {
    let lake = Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT"));
    let mut place = Place::with(Setup { name: "bucket-policy", lake, ..Setup::default() });
    let topic = place.topic("numbers", 1, &[]);
    for feed in FEEDS {
        place.plain_feed(feed, &topic);
    }
    Sender::new().send(&topic, 0, 0..10);
    let mut node = place.node();
    for feed in FEEDS {
        place.wait_for_ids(feed, 0..10);
    }
    assert!(node.terminate(SOON).0.success(), "{}", node.log());
    for grant in [
        &["--to", "group:fin", "--feed", "open"][..],
        &["--to", "group:fin", "--feed", "denied"],
        &["--to", "user:eve", "--feed", "denied", "--deny"],
        &["--to", "group:fin", "--feed", "closed", "--mask", "id=null"],
    ] {
        let (code, said) =
            place.command(&[&["permissions", "grant", "--reason", "a test"], grant].concat());
        assert_eq!(code, 0, "{said}");
    }
    let reader = env("TIDEGATE_TEST_S3_READER_KEY");
    let mut command = tidegate();
    command.args(["permissions", "bucket-policy", "--principal", &format!("group:fin={reader}")]);
    let out = command.arg("--config").arg(&place.world.config).output().expect("the binary runs");
    let told = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{told}");
    for said in ["left out: denied: row 2 for group:fin: row 3 denies user:eve", "closed: row 4"] {
        assert!(told.contains(said), "{said:?} in {told}");
    }
    let policy: Value = serde_json::from_slice(&out.stdout).expect("a policy");
    println!("{policy:#}");

    let prefix = place.world.lake_url.rsplit_once('/').expect("a prefix").1;
    let listings = FEEDS.map(|feed| format!("{prefix}/streams/{feed}/"));
    let objects = listings.clone().map(|at| format!("{at}_delta_log/00000000000000000000.json"));
    let mut asked = json!({
        "endpoint": env("TIDEGATE_TEST_S3_ENDPOINT"), "region": env("TIDEGATE_TEST_S3_REGION"),
        "bucket": env("TIDEGATE_TEST_S3_BUCKET"), "policy": null,
        "owner": [env("TIDEGATE_TEST_S3_ACCESS_KEY"), env("TIDEGATE_TEST_S3_SECRET_KEY")],
        "reader": [reader, env("TIDEGATE_TEST_S3_READER_SECRET")],
        "objects": objects, "listings": listings,
    });
    let statuses = |found: &Value| {
        let of = |what: &str, path: &String| found[what][path].as_i64().expect("a status");
        let (objects, listings) = (objects.iter(), listings.iter());
        let objects = objects.map(|path| of("objects", path));
        objects.chain(listings.map(|path| of("listings", path))).collect::<Vec<_>>()
    };
    let before = python("bucket.py", &asked);
    assert_eq!(statuses(&before), [403; 6], "{before}");
    asked["policy"] = policy;
    let after = python("bucket.py", &asked);
    assert_eq!((&after["put"], &after["removed"]), (&json!(204), &json!(204)), "{after}");
    assert_eq!(statuses(&after), [200, 403, 403, 200, 403, 403], "{after}");
}
