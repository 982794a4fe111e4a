//! The cluster of KUBECONFIG, asked with kubectl, and namespaces of the proofs' own in it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::servers::{env, wait_for};
use crate::world::World;

/// Images are there already, but containers start one after the other on two cores.
pub const SOON: Duration = Duration::from_secs(180);

/// Runs a program to its end. What it prints, or what it complains of.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    // One that fails at once reads nothing.
    drop(child.stdin.take().expect("a pipe").write_all(input.as_bytes()));
    let out = child.wait_with_output().expect("it ends");
    let (printed, said) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    match out.status.success() {
        true => Ok(printed.into_owned()),
        false => Err(format!("{program} {}: {}: {printed}{said}", arguments.join(" "), out.status)),
    }
}

/// A namespace under the level `restricted` of Pod Security, with the Secrets of the servers.
pub struct Namespace {
    pub name: String,
}

pub struct Pod {
    pub name: String,
    pub uid: String,
    pub image: String,
    pub machine: String,
    pub ready: bool,
    pub restarts: i64,
}

impl Namespace {
    pub fn new(name: &str) -> Self {
        let namespace = Self { name: name.to_owned() };
        namespace.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {
                "pod-security.kubernetes.io/enforce": "restricted",
                // By which whoever ends the run finds what is left of it.
                "tidegate-test/run": env("TIDEGATE_TEST_RUN"),
            }},
        }));
        let ca = std::fs::read_to_string(env("TIDEGATE_TEST_CA")).expect("the authority");
        let secrets = [
            ("kafka", json!({"password": env("TIDEGATE_TEST_KAFKA_PASSWORD"), "ca.crt": ca})),
            (
                "warehouse",
                json!({"password": env("TIDEGATE_TEST_POSTGRES_TLS_PASSWORD"), "ca.crt": ca}),
            ),
            (
                "lake",
                json!({
                    "access_key": env("TIDEGATE_TEST_S3_ACCESS_KEY"),
                    "secret_key": env("TIDEGATE_TEST_S3_SECRET_KEY"),
                }),
            ),
        ];
        for (of, values) in secrets {
            namespace.apply(&json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": format!("tidegate-{of}")}, "stringData": values,
            }));
        }
        namespace
    }

    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        run("kubectl", &[&["--namespace", &self.name], arguments].concat(), "")
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn apply(&self, object: &Value) {
        let arguments = ["--namespace", &self.name, "apply", "-f", "-"];
        run("kubectl", &arguments, &object.to_string()).unwrap_or_else(|error| panic!("{error}"));
    }

    pub fn get(&self, what: &[&str]) -> Value {
        let printed = self.kubectl(&[&["get", "--output", "json"], what].concat());
        serde_json::from_str(&printed).expect("JSON")
    }

    /// The nodes that there are.
    pub fn pods(&self) -> Vec<Pod> {
        let found = self.get(&["pods", "--selector", "app.kubernetes.io/component=node"]);
        let pods = found["items"].as_array().expect("a list").iter().map(|pod| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let mut conditions = conditions.filter(|it| it["type"] == "Ready");
            Pod {
                name: text(&pod["metadata"]["name"]),
                uid: text(&pod["metadata"]["uid"]),
                image: text(&pod["spec"]["containers"][0]["image"]),
                machine: text(&pod["spec"]["nodeName"]),
                ready: conditions.any(|it| it["status"] == "True")
                    && pod["metadata"]["deletionTimestamp"].is_null(),
                restarts: pod["status"]["containerStatuses"][0]["restartCount"]
                    .as_i64()
                    .unwrap_or(0),
            }
        });
        pods.collect()
    }

    /// Waits until so many nodes are ready, and there are no others.
    pub fn wait_ready(&self, count: usize) {
        wait_for(&format!("{count} nodes to be ready"), SOON, || {
            let pods = self.pods();
            let all = pods.len() == count && pods.iter().all(|pod| pod.ready);
            all.then_some(()).or_else(|| {
                std::thread::sleep(Duration::from_millis(200));
                None
            })
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for asked in [
                vec!["get", "all,pvc"],
                vec!["get", "events"],
                vec![
                    "logs",
                    "--selector",
                    "app.kubernetes.io/name=tidegate",
                    "--all-containers",
                    "--prefix",
                    "--tail=40",
                ],
            ] {
                eprintln!(
                    "--- {}: {}",
                    asked.join(" "),
                    self.try_kubectl(&asked).unwrap_or_else(|error| error)
                );
            }
        }
        drop(run("kubectl", &["delete", "namespace", &self.name, "--timeout=120s"], ""));
    }
}

/// How many the cluster has.
pub fn machines() -> usize {
    let asked = ["get", "nodes", "--output", "jsonpath={.items[*].metadata.name}"];
    run("kubectl", &asked, "").unwrap_or_default().split_whitespace().count()
}

/// The world's database, as somebody reaches it who must bring TLS and a password.
pub fn warehouse_url(world: &World) -> String {
    let url = env("TIDEGATE_TEST_POSTGRES_TLS");
    let (server, _) = url.rsplit_once('/').expect("a database");
    format!("{server}/{}", world.database.name)
}
