//! Proof 7: a sink that goes back in time under a running node is caught up by itself.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tidegate::generate::Topic;

use crate::node::tidegate;
use crate::servers::{env, wait_for};
use crate::world::{Setup, World};

const SOON: Duration = Duration::from_secs(60);
const RATE: u64 = 1500;

fn postgres_tool(name: &str) -> Command {
    Command::new(Path::new(&env("TIDEGATE_TEST_PGBIN")).join(name))
}

fn run(command: &mut Command) {
    let out = command.output().expect("the command starts");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn postgresql_restored_under_a_running_node() {
    let world = World::new(Setup { name: "pg-restored", ..Setup::default() });
    let load = world.load(7, 400_000, RATE);
    let mut node = world.node("node");
    world.wait_progress(SOON);
    let backup = world.config.with_file_name("backup");
    let url = world.database.url();
    run(postgres_tool("pg_dump").args(["-Fc", "-f"]).arg(&backup).arg(&url));
    let then = world.warehouse_marks();
    // A good deal of what the backup lacks.
    world.wait_progress(SOON);
    std::thread::sleep(Duration::from_secs(2));
    let before = world.warehouse_marks();
    let (name, other) = (&world.database.name, format!("{}-backup", world.database.name));
    world.database.administer(&[&format!("CREATE DATABASE \"{other}\"")]);
    run(postgres_tool("pg_restore")
        .arg("-d")
        .arg(url.replace(&format!("/{name}"), &format!("/{other}")))
        .arg(&backup));
    // Under another name first, so that the node sees the one or the other and nothing between.
    world.database.administer(&[
        &format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS false"),
        &format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        ),
        &format!("DROP DATABASE \"{name}\" WITH (FORCE)"),
        &format!("ALTER DATABASE \"{other}\" RENAME TO \"{name}\""),
    ]);
    let back = world.warehouse_marks();
    println!("{} partitions stand where they stood before", went_back(&before, &back));
    assert!(then.iter().all(|(key, mark)| before[key].next > mark.next), "nothing to restore");
    world.wait_progress(SOON);
    let expected = load.stop();
    world.wait_caught_up(SOON);
    settled_alone(&world, &mut node);
    world.check(&expected);
}

fn went_back(
    before: &std::collections::HashMap<crate::progress::Key, crate::progress::Mark>,
    back: &std::collections::HashMap<crate::progress::Key, crate::progress::Mark>,
) -> usize {
    back.iter().filter(|(key, mark)| mark.next < before[*key].next).count()
}

fn settled_alone(world: &World, node: &mut crate::node::Node) {
    assert!(node.is_running(), "the node ended");
    let log = node.log();
    let parked: Vec<&str> = log.lines().filter(|line| line.contains("parked")).collect();
    assert!(parked.is_empty(), "{parked:#?} in {}", world.config.display());
}

/// A copy of a lake that is being written to, as a backup makes it: the logs first, so that every
/// file that they name is there.
fn copy_lake(from: &Path, to: &Path) {
    let mut folders = vec![from.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    let in_log = |path: &Path| path.parent().is_some_and(|folder| folder.ends_with("_delta_log"));
    files.sort_by_key(|path| !in_log(path));
    let mut copied = Vec::new();
    for file in &files {
        let copy = to.join(file.strip_prefix(from).expect("below"));
        std::fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
        // What is only being written goes by another name a moment later.
        if std::fs::copy(file, &copy).is_ok() {
            copied.push(copy);
        }
    }
    assert!(copied.iter().any(|copy| in_log(copy)), "no log in the copy");
}

/// Both paths change places at once: nobody sees neither.
fn exchange(one: &Path, other: &Path) {
    let path = |path: &Path| CString::new(path.as_os_str().as_encoded_bytes()).expect("a path");
    let (one, other) = (path(one), path(other));
    // SAFETY: both are NUL-terminated and outlive the call.
    let done = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn an_older_folder_of_the_lake_copied_back() {
    let world = World::new(Setup { name: "lake-restored", ..Setup::default() });
    let load = world.load(7, 400_000, RATE);
    let mut node = world.node("node");
    world.wait_progress(SOON);
    let lake = PathBuf::from(&world.lake_url);
    let backup = lake.with_extension("backup");
    copy_lake(&lake, &backup);
    world.wait_progress(SOON);
    std::thread::sleep(Duration::from_secs(2));
    let before = world.lake_marks();
    exchange(&lake, &backup);
    let back = world.lake_marks();
    let older = back.iter().filter(|(key, next)| before[*key] > **next).count();
    println!("{older} of {} partitions stood further back", back.len());
    assert!(older > 0, "nothing was restored");
    world.wait_progress(SOON);
    let expected = load.stop();
    world.wait_caught_up(SOON);
    settled_alone(&world, &mut node);
    world.check(&expected);
}

/// Its latest version but five is restored; another writer's commit in between makes it try again.
const RESTORE: &str = "
import sys, deltalake
for attempt in range(50):
    try:
        table = deltalake.DeltaTable(sys.argv[1])
        print(table.version() - 5, table.restore(table.version() - 5))
        break
    except Exception as error:
        if attempt == 49:
            raise
        print(error, file=sys.stderr)
";

#[test]
fn a_delta_restore_waits_for_the_command() {
    let world = World::new(Setup { name: "delta-restore", ..Setup::default() });
    let load = world.load(7, 400_000, RATE);
    let mut node = world.node("node");
    world.wait_progress(SOON);
    wait_for("some versions", SOON, || {
        let lines = crate::lake::lines(&world.lake_table(Topic::TransactionLog));
        lines.last().is_some_and(|(version, _)| *version > 12).then_some(())
    });
    let table = world.lake_table(Topic::TransactionLog);
    run(Command::new(env("TIDEGATE_TEST_PYTHON")).arg("-c").arg(RESTORE).arg(&table));
    node.wait_for_log("--rewind-lake", SOON);
    let log = node.log();
    let told = log.lines().find(|line| line.contains("--rewind-lake")).unwrap_or_default();
    println!("{told}");
    assert!(told.contains("tidegate resolve") && told.contains("RESTORE"), "{told}");
    // The feed's lake side stands; its warehouse side and the other feed go on.
    std::thread::sleep(Duration::from_secs(1));
    let of = |feed: Topic, marks: std::collections::HashMap<crate::progress::Key, i64>| {
        marks
            .into_iter()
            .filter(|((of, _), _)| of == feed.name())
            .map(|(_, next)| next)
            .sum::<i64>()
    };
    let lake = |feed| of(feed, world.lake_marks());
    let warehouse = |feed| {
        of(feed, world.warehouse_marks().into_iter().map(|(key, mark)| (key, mark.next)).collect())
    };
    let stood = lake(Topic::TransactionLog);
    let (here, there) = (warehouse(Topic::TransactionLog), lake(Topic::UserTransactionSummary));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(lake(Topic::TransactionLog), stood, "the lake went on over a RESTORE");
    assert!(warehouse(Topic::TransactionLog) > here, "the warehouse stood still");
    assert!(lake(Topic::UserTransactionSummary) > there, "the other feed stood still");
    let mut resolve = tidegate();
    resolve.args(["resolve", "--feed", "transaction_log", "--rewind-lake", "--config"]);
    let out = resolve.arg(&world.config).output().expect("the binary runs");
    println!("{}", String::from_utf8_lossy(&out.stdout));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let expected = load.stop();
    world.wait_caught_up(SOON);
    assert!(node.is_running(), "the node ended");
    world.check(&expected);
}
