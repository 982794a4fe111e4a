//! Proof 8: a commit that got no answer, carried out or not, is neither doubled nor lost.

use std::time::Duration;

use crate::database::Database;
use crate::proxy::{Commit, Lose, Proxy};
use crate::servers::{env, wait_for};
use crate::world::{Lake, Setup, World};

const CUTS: usize = 8;

/// Cuts commits off, one after the other, while the load runs. `noticed` is what the node says when it
/// finds out.
fn cut_under_load(world: &World, proxy: &Proxy, noticed: &str) {
    let load = world.load(8, 100_000, 5000);
    let node = world.node("node");
    world.wait_progress(Duration::from_secs(30));
    for cut in 1..=CUTS {
        // The answer first, and as often as the request.
        proxy.arm(if cut % 2 == 1 { Lose::Answer } else { Lose::Request });
        wait_for(&format!("commit {cut} to be cut off"), Duration::from_secs(60), || {
            (proxy.lost() == cut).then_some(())
        });
        world.wait_progress(Duration::from_secs(30));
    }
    let heard = node.log().matches(noticed).count();
    println!("{} commits cut off, {heard} noticed, {} sent by then", proxy.lost(), load.sent());
    assert!(heard > 0, "the node heard every answer: nothing was proved");
    let expected = load.stop();
    world.wait_caught_up(Duration::from_secs(60));
    world.check(&expected);
    drop(node);
}

#[test]
fn a_lost_answer_of_postgresqls_commit() {
    let proxy = Proxy::start(Database::address(), Commit::Postgres);
    let postgres = Some(proxy.address.clone());
    let world = World::new(Setup { name: "lost-pg", postgres, ..Setup::default() });
    cut_under_load(&world, &proxy, "connection closed");
}

fn object_store(name: &'static str, format: &'static str, commit: Commit) {
    let endpoint = env("TIDEGATE_TEST_S3_ENDPOINT");
    let server = endpoint.trim_start_matches("http://").to_owned();
    let proxy = Proxy::start(server, commit);
    let lake = Lake::S3(format!("http://{}", proxy.address));
    let world = World::new(Setup { name, lake, format, ..Setup::default() });
    cut_under_load(&world, &proxy, "whose answer was lost had landed");
}

#[test]
fn a_lost_answer_of_the_object_store() {
    object_store("lost-s3", "delta", Commit::DeltaLog);
}

#[test]
fn a_lost_answer_to_a_plain_tables_link() {
    object_store("lost-parquet", "parquet", Commit::Link);
}

#[test]
fn a_lost_answer_to_a_link_of_json_lines() {
    object_store("lost-jsonl", "jsonl", Commit::Link);
}
