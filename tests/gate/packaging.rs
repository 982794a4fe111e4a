//! What starts Tidegate elsewhere: images, compose files, service units.

use std::process::Command;

use crate::node::tidegate;
use crate::servers::env;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn what_starts_a_node_is_taken_by_the_binary_and_finds_all_it_names() {
    let mut python = Command::new(env("TIDEGATE_TEST_PYTHON"));
    python.arg(format!("{ROOT}/tests/gate/packaging.py")).arg(ROOT);
    python.arg(tidegate().get_program()).arg(env("TIDEGATE_TEST_COMPOSE"));
    let out = python.output().expect("Python starts");
    let said = String::from_utf8_lossy(&[&*out.stdout, &*out.stderr].concat()).into_owned();
    assert!(out.status.success(), "{said}");
    println!("{said}");
}
