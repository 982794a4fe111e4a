//! The chart and the plain manifests on a real cluster, under load and whatever happens to pods and machines.
//!
//! Ignored unless asked for: `scripts/test --cluster` runs them on the cluster of KUBECONFIG, with an image of the
//! binary under proof, and with servers at an address that its pods reach.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::generate::Topic;

use crate::load::{Load, Plan};
use crate::node::tidegate;
use crate::progress::Watch;
use crate::servers::{env, wait_for};
use crate::world::{Lake, Setup, World};

/// Images are there already, but containers start one after the other on two cores.
const SOON: Duration = Duration::from_secs(180);
/// Transactions a second.
const RATE: u64 = 300;
/// Two topics from the beginning, and one whose feed comes later.
const TOPICS: [Topic; 2] = [Topic::TransactionLog, Topic::UserTransactionSummary];
const LATER: Topic = Topic::TransactionFlattened;

/// Runs a program to its end. What it prints, or what it complains of.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
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
struct Namespace {
    name: String,
}

struct Pod {
    name: String,
    uid: String,
    image: String,
    ready: bool,
    restarts: i64,
}

impl Namespace {
    fn new(name: &str) -> Self {
        let namespace = Self { name: name.to_owned() };
        namespace.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
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

    fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        run("kubectl", &[&["--namespace", &self.name], arguments].concat(), "")
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    fn apply(&self, object: &Value) {
        let arguments = ["--namespace", &self.name, "apply", "-f", "-"];
        run("kubectl", &arguments, &object.to_string()).unwrap_or_else(|error| panic!("{error}"));
    }

    fn get(&self, what: &[&str]) -> Value {
        let printed = self.kubectl(&[&["get", "--output", "json"], what].concat());
        serde_json::from_str(&printed).expect("JSON")
    }

    /// The nodes that there are.
    fn pods(&self) -> Vec<Pod> {
        let found = self.get(&["pods", "--selector", "app.kubernetes.io/component=node"]);
        let pods = found["items"].as_array().expect("a list").iter().map(|pod| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            let mut conditions = conditions.filter(|it| it["type"] == "Ready");
            Pod {
                name: text(&pod["metadata"]["name"]),
                uid: text(&pod["metadata"]["uid"]),
                image: text(&pod["spec"]["containers"][0]["image"]),
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
    fn wait_ready(&self, count: usize) {
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
        // A drain that was held up may have left machines that take nobody.
        for node in machines() {
            drop(run("kubectl", &["uncordon", &node], ""));
        }
        drop(run("kubectl", &["delete", "namespace", &self.name, "--timeout=120s"], ""));
    }
}

/// The cluster's machines.
fn machines() -> Vec<String> {
    let asked = ["get", "nodes", "--output", "jsonpath={.items[*].metadata.name}"];
    let found = run("kubectl", &asked, "").unwrap_or_default();
    found.split_whitespace().map(str::to_owned).collect()
}

/// Where a container is reached: the parts of a URL or of an address.
fn port_of(address: &str) -> &str {
    let (_, rest) = address.split_once("//").unwrap_or(("", address));
    let host = rest.rsplit('@').next().unwrap_or(rest).split('/').next().unwrap_or(rest);
    host.rsplit(':').next().expect("a port")
}

/// The chart, as it is installed into a namespace.
struct Chart {
    namespace: Namespace,
    values: PathBuf,
}

impl Chart {
    fn helm(&self, arguments: &[&str]) -> String {
        let all = [&["--namespace", &self.namespace.name], arguments].concat();
        run("helm", &all, "").unwrap_or_else(|error| panic!("{error}"))
    }

    /// `install` or `upgrade`, until all is ready.
    fn put(&self, verb: &str, more: &[&str]) {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/tidegate");
        let values = self.values.to_str().expect("a path");
        let all = [verb, "tidegate", chart, "--values", values, "--wait", "--timeout", "4m"];
        self.helm(&[&all[..], more].concat());
    }

    fn scale(&self, count: usize) {
        let replicas = format!("--replicas={count}");
        self.namespace.kubectl(&["scale", "statefulset/tidegate", &replicas]);
        self.namespace.wait_ready(count);
    }

    fn assert_all_run(&self, tag: &str) {
        for pod in self.namespace.pods() {
            assert_eq!(pod.image, format!("tidegate:{tag}"), "{}", pod.name);
        }
    }
}

/// A release of it, and the load that it is under in each step.
struct Release {
    chart: Chart,
    world: World,
    load: Load,
}

impl Release {
    fn new(name: &'static str) -> Self {
        let lake = Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT"));
        let setup = Setup {
            name,
            topics: &TOPICS,
            partitions: 6,
            lake,
            migrated: false,
            ..Setup::default()
        };
        let world = World::new(setup);
        let mut names = world.topics.clone();
        names.insert(LATER, world.create_topic(LATER));
        let topics = names.keys().copied().collect();
        let plan = Plan { seed: 7, messages: 10_000_000, bad: 0.002, rate: RATE, topics };
        let load = Load::start(plan, names);
        let namespace = Namespace::new(&world.name);
        let values = world.folder.join("values.yaml");
        let release = Self { chart: Chart { namespace, values }, world, load };
        release.write_values();
        release
    }

    /// As somebody would who installs it, but for what two cores cannot give.
    fn write_values(&self) {
        let world = &self.world;
        let kafka = env("TIDEGATE_TEST_KAFKA_TLS");
        let (host, _) = kafka.rsplit_once(':').expect("an address");
        let here = format!("to: [{{ipBlock: {{cidr: {host}/32}}}}]");
        let mut values = format!(
            "config:
  kafka:
    bootstrap: '{kafka}'
    group: {name}
    tls: {{}}
    sasl: {{mechanism: SCRAM-SHA-512, username: {user}}}
  lake:
    url: {lake}
    s3: {{endpoint: '{store}', region: {region}}}
  warehouse:
    url: '{warehouse}'
    tls: {{mode: verify-full}}
    lock_timeout: 2s
  memory: {{budget: 128MiB}}
secrets:
  kafka: {{existingSecret: tidegate-kafka, keys: {{password: password, ca: ca.crt}}}}
  warehouse: {{existingSecret: tidegate-warehouse, keys: {{password: password, ca: ca.crt}}}}
  lake: {{existingSecret: tidegate-lake, keys: {{access_key: access_key, secret_key: secret_key}}}}
migrations: {{admin: ada}}
image: {{tag: '{tag}'}}
resources: {{requests: {{cpu: 50m, memory: 128Mi}}, limits: {{memory: 768Mi}}}}
api: {{enabled: true, drainSeconds: 5, service: {{type: NodePort}}}}
minReadySeconds: 3
test: {{topicPrefix: {name}.probe.}}
networkPolicy:
  enabled: true
  egress: {{kafka: {{{here}}}, warehouse: {{{here}}}, lake: {{{here}}}}}
feeds:
",
            name = world.name,
            user = env("TIDEGATE_TEST_KAFKA_USER"),
            lake = world.lake_url,
            store = env("TIDEGATE_TEST_S3_ENDPOINT"),
            region = env("TIDEGATE_TEST_S3_REGION"),
            warehouse = warehouse_url(world),
            tag = env("TIDEGATE_TEST_IMAGE_TAG"),
        );
        for topic in world.topics.keys() {
            let feed = std::fs::read_to_string(world.feed_file(*topic)).expect("its feed");
            let feed: String = feed.lines().map(|line| format!("    {line}\n")).collect();
            write!(values, "  {}:\n{feed}", topic.name()).expect("a string grows");
        }
        std::fs::write(&self.chart.values, values).expect("the values");
    }

    /// Something happens under load; afterwards everything arrived, and once.
    fn step(&self, what: &str, action: impl FnOnce()) {
        self.load.go_on();
        self.world.wait_progress(SOON);
        let watch = Watch::start(&self.world);
        let began = Instant::now();
        action();
        let took = began.elapsed();
        self.world.wait_progress(SOON);
        let mut stood = watch.finish();
        // Not that of `helm test`, to which nobody sends.
        stood.retain(|(feed, _), _| self.world.topics.keys().any(|topic| topic.name() == feed));
        let expected = self.load.pause();
        let slowest = stood.iter().max_by_key(|(_, stood)| stood.longest).expect("partitions");
        let moved = stood.values().filter(|stood| stood.owners > 0).count();
        println!(
            "{what}: {:.1} s; no partition stood still for longer than {:.1} s ({}/{}); {moved} of {} changed hands",
            took.as_secs_f64(),
            slowest.1.longest.as_secs_f64(),
            slowest.0.0,
            slowest.0.1,
            stood.len(),
        );
        self.world.wait_caught_up(SOON);
        self.world.check(&expected);
    }
}

/// The world's database, as somebody reaches it who must bring TLS and a password.
fn warehouse_url(world: &World) -> String {
    let url = env("TIDEGATE_TEST_POSTGRES_TLS");
    let (server, _) = url.rsplit_once('/').expect("a database");
    format!("{server}/{}", world.database.name)
}

/// Asks the API again and again, each time over a new connection, as those do who read.
struct Asking {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
}

impl Asking {
    fn start(namespace: &Namespace) -> Self {
        let service = namespace.get(&["service", "tidegate"]);
        let port = service["spec"]["ports"][0]["nodePort"].as_i64().expect("a port of the machine");
        let path = r#"jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}"#;
        let host = namespace.kubectl(&["get", "nodes", "--output", path]);
        let url = format!("http://{host}:{port}/openapi.json");
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), asked.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let client = reqwest::Client::builder().pool_max_idle_per_host(0);
                let client = client.timeout(Duration::from_secs(10)).build().expect("a client");
                let mut failed = Vec::new();
                while !stopped.load(Ordering::Relaxed) {
                    match client.get(&url).send().await {
                        Ok(answer) if answer.status() == 200 => drop(answer.bytes().await),
                        Ok(answer) => failed.push(answer.status().to_string()),
                        Err(error) => failed.push(format!("{error:?}")),
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    // Readers come one after the other, and not as fast as it goes.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                failed
            })
        });
        Self { stop, asked, thread }
    }

    fn nobody_was_cut(self) {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.thread.join().expect("it asked to the end");
        let asked = self.asked.load(Ordering::Relaxed);
        println!("the API was asked {asked} times, {} in vain", failed.len());
        assert!(asked > 100, "it was hardly asked");
        assert!(failed.is_empty(), "{} of {asked} in vain: {:?}", failed.len(), &failed[..1]);
    }
}

/// The process of a pod's node as this machine sees it, if the cluster runs on it.
fn process_of(pod: &Pod) -> Option<i32> {
    let wanted = format!("POD_UID={}", pod.uid);
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.find(|number: &i32| {
        let environment = std::fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        let all: Vec<&[u8]> = variables.by_ref().collect();
        all.contains(&wanted.as_bytes()) && all.contains(&&b"CONTAINER_NAME=node"[..])
    })
}

#[test]
#[ignore = "needs a cluster: scripts/test --cluster"]
fn a_release_outlives_what_happens_to_it() {
    let mut release = Release::new("release");
    let (tag, next) = (env("TIDEGATE_TEST_IMAGE_TAG"), env("TIDEGATE_TEST_NEXT_TAG"));
    let count = |sql: &str| release.world.database.query(sql)[0].get::<_, i64>(0);
    assert_eq!(count("SELECT count(*) FROM pg_namespace WHERE nspname = 'tidegate'"), 0);

    let chart = &release.chart;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let installing = scope.spawn(|| chart.put("install", &[]));
        wait_for("the first record in both sinks", SOON, || {
            let there = "SELECT count(to_regclass('tidegate.progress'))";
            let durable = count(there) > 0
                && count("SELECT count(*) FROM tidegate.progress WHERE next_offset > 0") > 0
                && release.world.lake_marks().values().any(|next| *next > 0);
            durable.then_some(())
        });
        println!("install: the first record durable in both sinks after {:.1?}", began.elapsed());
        installing.join().expect("helm");
    });
    println!("install: two nodes ready after {:.1?}", began.elapsed());
    chart.namespace.wait_ready(2);
    assert!(count("SELECT count(*) FROM tidegate.migrations") > 0, "its migrations");
    let admin = "SELECT count(*) FROM tidegate.permissions WHERE principal LIKE '%ada%'";
    assert_eq!(count(admin), 1, "the first who may grant");
    let expected = release.load.pause();
    release.world.wait_caught_up(SOON);
    release.world.check(&expected);

    release.step("helm test", || drop(chart.helm(&["test", "tidegate", "--logs"])));
    let asking = Asking::start(&chart.namespace);
    release.step("scale from 2 to 4", || chart.scale(4));
    release.step("scale from 4 to 1", || chart.scale(1));
    release.step("scale from 1 to 2", || chart.scale(2));
    asking.nobody_was_cut();

    // The topic's records so far are read from its beginning.
    release.world.declare(LATER);
    release.write_values();
    release.step_with_later("upgrade to another feed set");

    let chart = &release.chart;
    let asking = Asking::start(&chart.namespace);
    let other = format!("image.tag={next}");
    release.step("upgrade to another image", || chart.put("upgrade", &["--set", &other]));
    chart.assert_all_run(&next);
    release.step("rollback", || {
        chart.helm(&["rollback", "tidegate", "--wait", "--timeout", "4m"]);
    });
    chart.assert_all_run(&tag);
    release.step("a pod deleted", || {
        chart.namespace.kubectl(&["delete", "pod", "tidegate-0"]);
        chart.namespace.wait_ready(2);
    });
    asking.nobody_was_cut();

    release.step("a pod killed", || {
        let pod = chart.namespace.pods().remove(0);
        match process_of(&pod) {
            // SAFETY: a process of this test's own release, found a moment ago by its pod.
            Some(number) => assert_eq!(unsafe { libc::kill(number, libc::SIGKILL) }, 0),
            None => {
                println!("its process is not on this machine; deleted by force instead");
                let force = ["delete", "pod", &pod.name, "--grace-period=0", "--force"];
                chart.namespace.kubectl(&force);
            }
        }
        wait_for("its container to start anew", SOON, || {
            let pods = chart.namespace.pods();
            let same = pods.iter().find(|it| it.name == pod.name)?;
            (same.uid != pod.uid || same.restarts > pod.restarts).then_some(())
        });
        chart.namespace.wait_ready(2);
    });

    release.step("a drain held up by the budget", || drain(&chart.namespace));
    release.step("the machine lost, and back", || lose_machine(&chart.namespace));
    only_named_peers_are_reached(&chart.namespace, &tag);
    // A rollback is to what the revision before says, and Helm asks to be told so where somebody scaled since.
    release.step("upgrade of what somebody scaled", || {
        chart.scale(3);
        chart.put("upgrade", &[]);
        assert_eq!(chart.namespace.pods().len(), 3, "the upgrade undid it");
        chart.helm(&["rollback", "tidegate", "--force-conflicts", "--wait", "--timeout", "4m"]);
        chart.namespace.wait_ready(2);
    });
    release.step("deleted, and installed again", || {
        chart.helm(&["uninstall", "tidegate", "--wait"]);
        chart.put("install", &[]);
    });
    let restarts: i64 = chart.namespace.pods().iter().map(|pod| pod.restarts).sum();
    assert_eq!(restarts, 0, "nodes of the new release ended by themselves");
    chart.helm(&["uninstall", "tidegate", "--wait"]);
}

impl Release {
    /// A feed file arrives with the kubelet's next look, and no node starts anew for it.
    fn step_with_later(&self, what: &str) {
        let before: Vec<String> =
            self.chart.namespace.pods().into_iter().map(|pod| pod.uid).collect();
        let began = Instant::now();
        self.load.go_on();
        self.chart.put("upgrade", &[]);
        println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
        wait_for("the new feed's first records", SOON, || {
            let found = self.world.warehouse_marks();
            found.keys().any(|(feed, _)| feed == LATER.name()).then_some(())
        });
        println!("{what}: its first record after {:.1} s", began.elapsed().as_secs_f64());
        self.world.wait_progress(SOON);
        let expected = self.load.pause();
        self.world.wait_caught_up(SOON);
        self.world.check(&expected);
        let after: Vec<String> =
            self.chart.namespace.pods().into_iter().map(|pod| pod.uid).collect();
        assert!(before.iter().all(|uid| after.contains(uid)), "a node was replaced for a feed");
    }
}

/// Where there is one machine alone, the second node has nowhere to go: the budget keeps it where it is.
fn drain(namespace: &Namespace) {
    let machines = machines();
    let selector = "--pod-selector=app.kubernetes.io/component=node";
    let machine = machines.first().expect("a machine");
    let more = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=20s"];
    let drained = namespace.try_kubectl(&[&["drain", machine, selector], &more[..]].concat());
    if machines.len() == 1 {
        let refused = drained.expect_err("a budget that lets both go");
        assert!(refused.contains("disruption budget"), "{refused}");
        assert_eq!(namespace.pods().iter().filter(|pod| pod.ready).count(), 1);
    }
    namespace.kubectl(&["uncordon", machine]);
    namespace.wait_ready(2);
}

/// By the commands that whoever made the cluster gives for it.
fn lose_machine(namespace: &Namespace) {
    let commands = ["TIDEGATE_TEST_LOSE_MACHINE", "TIDEGATE_TEST_RETURN_MACHINE"];
    for name in commands {
        let Ok(command) = std::env::var(name) else {
            println!("not run: {name} is no command");
            return;
        };
        run("sh", &["-c", &command], "").unwrap_or_else(|error| panic!("{error}"));
    }
    wait_for("the API server to answer again", SOON, || {
        namespace.try_kubectl(&["get", "pods"]).ok()
    });
    // What it says of the pods is from before, until the machine has told anew.
    let began = Instant::now();
    wait_for("the nodes to be noticed as new ones", SOON, || {
        let pods = namespace.pods();
        (pods.iter().any(|pod| pod.restarts > 0) || began.elapsed() > SOON / 2).then_some(())
    });
    namespace.wait_ready(2);
}

/// A node gets nowhere but where the policy leads; a pod that it does not count for does.
fn only_named_peers_are_reached(namespace: &Namespace, tag: &str) {
    let kafka = env("TIDEGATE_TEST_KAFKA_TLS");
    let (host, _) = kafka.rsplit_once(':').expect("an address");
    let listen = || {
        let listener = TcpListener::bind((host, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address").to_string();
        (listener, address)
    };
    let asking = |address: &str| {
        ["generate", "--messages", "1", "--topics", "transaction_log", "--bootstrap", address]
            .map(str::to_owned)
    };
    let (listener, address) = listen();
    let inside: Vec<String> = asking(&address).to_vec();
    let inside: Vec<&str> = inside.iter().map(String::as_str).collect();
    let exec = ["exec", "tidegate-0", "--container", "node", "--", "tidegate"];
    let refused = namespace.try_kubectl(&[&exec[..], &inside].concat());
    refused.expect_err("no broker is there");
    assert!(listener.accept().is_err(), "a node reached what no policy names");

    let (listener, address) = listen();
    namespace.apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "stranger", "image": format!("tidegate:{tag}"), "imagePullPolicy": "IfNotPresent",
                "args": asking(&address),
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    }));
    wait_for("a pod without a policy to get through", SOON, || listener.accept().ok());
    namespace.kubectl(&["delete", "pod", "stranger", "--wait=false"]);
}

/// The plain manifests, copied, and edited as whoever takes them does.
struct Manifests {
    folder: PathBuf,
}

impl Manifests {
    fn copy(to: &Path) -> Self {
        let from = concat!(env!("CARGO_MANIFEST_DIR"), "/k8s");
        let folder = to.join("k8s");
        run("cp", &["-r", from, folder.to_str().expect("a path")], "").expect("a copy");
        Self { folder }
    }

    /// Each of `edits` must find what it replaces.
    fn edit(&self, file: &str, edits: &[(&str, &str)]) {
        let path = self.folder.join(file);
        let mut text = std::fs::read_to_string(&path).expect(file);
        for (before, after) in edits {
            assert!(text.contains(before), "{file} has no {before}");
            text = text.replace(before, after);
        }
        std::fs::write(path, text).expect(file);
    }

    fn add(&self, file: &str, text: &str) {
        std::fs::write(self.folder.join(file), text).expect(file);
    }

    fn apply(&self, overlay: &str, count: usize, namespace: &Namespace) {
        let folder = self.folder.join("overlays").join(overlay);
        namespace.kubectl(&["apply", "--kustomize", folder.to_str().expect("a path")]);
        namespace.wait_ready(count);
    }
}

/// To the broker with TLS and a password, as in the production overlay.
fn kafka_settings() -> String {
    format!(
        "bootstrap: '{}'\n  tls: {{ca: /etc/tidegate/secrets/kafka/ca}}\n  sasl:\n    \
         mechanism: SCRAM-SHA-512\n    username: {}\n    \
         password: {{file: /etc/tidegate/secrets/kafka/password}}",
        env("TIDEGATE_TEST_KAFKA_TLS"),
        env("TIDEGATE_TEST_KAFKA_USER"),
    )
}

#[test]
#[ignore = "needs a cluster: scripts/test --cluster"]
fn the_development_overlay_carries_a_record_into_both_sinks() {
    let world = World::new(Setup { name: "plain", migrated: false, ..Setup::default() });
    let namespace = Namespace::new(&world.name);
    let manifests = Manifests::copy(&world.folder);
    let name = &world.name;
    manifests.edit(
        "overlays/development/kustomization.yaml",
        &[
            ("namespace: tidegate", &format!("namespace: {name}")),
            (
                "    files: [tidegate.yaml]",
                "    files: [tidegate.yaml]\n  - name: tidegate-feeds\n    behavior: merge\n    files: [transaction_log.yaml]",
            ),
        ],
    );
    manifests.edit(
        "overlays/development/namespace.yaml",
        &[("name: tidegate", &format!("name: {name}"))],
    );
    let with_group = format!("{}\n  group: {name}", kafka_settings());
    manifests.edit("overlays/development/tidegate.yaml", &[("bootstrap: kafka:9092", &with_group)]);
    manifests.edit(
        "overlays/development/tidegate-patch.yaml",
        &[
            (
                "          volumeMounts:\n",
                "          volumeMounts:\n            - {name: secret-kafka, mountPath: /etc/tidegate/secrets/kafka, readOnly: true}\n",
            ),
            (
                "      volumes:\n",
                "      volumes:\n        - name: secret-kafka\n          secret:\n            secretName: tidegate-kafka\n            defaultMode: 0440\n            items:\n              - {key: password, path: password}\n              - {key: ca.crt, path: ca}\n",
            ),
        ],
    );
    let feed = std::fs::read_to_string(world.feed_file(Topic::TransactionLog)).expect("a feed");
    manifests.add("overlays/development/transaction_log.yaml", &feed);
    manifests.apply("development", 1, &namespace);
    let load = world.load(3, 1000, 1000);
    load.finish();
    let exec = ["exec", "tidegate-0", "--container", "node", "--", "tidegate"];
    let verify = ["verify", "--feed", "transaction_log", "--wait", "60", "--output", "json"];
    let report = namespace.kubectl(&[&exec[..], &verify[..]].concat());
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["verdict"], "ok", "{report:#}");
    let of_log = report.to_string();
    assert!(of_log.contains("1000"), "all thousand were looked at: {report:#}");
}

#[test]
#[ignore = "needs a cluster: scripts/test --cluster"]
fn the_production_overlay_carries_records_through_its_policy() {
    let setup = Setup {
        name: "plain-production",
        topics: &TOPICS,
        partitions: 4,
        lake: Lake::S3(env("TIDEGATE_TEST_S3_ENDPOINT")),
        migrated: false,
        ..Setup::default()
    };
    let world = World::new(setup);
    let namespace = Namespace::new(&world.name);
    let manifests = Manifests::copy(&world.folder);
    let name = &world.name;
    let files: Vec<String> =
        world.topics.keys().map(|topic| format!("feeds/{}.yaml", topic.name())).collect();
    manifests.edit(
        "overlays/production/kustomization.yaml",
        &[
            ("namespace: tidegate", &format!("namespace: {name}")),
            ("files: [feeds/totals.yaml]", &format!("files: [{}]", files.join(", "))),
            ("count: 3", "count: 2"),
        ],
    );
    manifests.edit(
        "overlays/production/namespace.yaml",
        &[("name: tidegate", &format!("name: {name}"))],
    );
    let production = kafka_settings();
    let bootstrap = production.lines().next().expect("a line");
    let s3 = format!(
        "s3: {{endpoint: '{}', region: {}, access_key: {{file: /etc/tidegate/secrets/lake/access_key}}, secret_key: {{file: /etc/tidegate/secrets/lake/secret_key}}}}",
        env("TIDEGATE_TEST_S3_ENDPOINT"),
        env("TIDEGATE_TEST_S3_REGION")
    );
    manifests.edit(
        "overlays/production/tidegate.yaml",
        &[
            (
                "bootstrap: broker-0.kafka:9093,broker-1.kafka:9093,broker-2.kafka:9093",
                &format!("{bootstrap}\n  group: {name}"),
            ),
            ("s3://company-lake/events", &world.lake_url),
            ("s3: {region: eu-central-1}", &s3),
            ("postgres://ingest@warehouse.databases:5432/dwh", &warehouse_url(&world)),
            ("budget: 1GiB", "budget: 128MiB"),
        ],
    );
    manifests.edit(
        "overlays/production/tidegate-patch.yaml",
        &[
            ("requests: {cpu: \"1\", memory: 2Gi}", "requests: {cpu: 50m, memory: 128Mi}"),
            ("limits: {memory: 2Gi}", "limits: {memory: 768Mi}"),
            (
                "            - {name: secret-kafka, mountPath: /etc/tidegate/secrets/kafka, readOnly: true}\n",
                "            - {name: secret-kafka, mountPath: /etc/tidegate/secrets/kafka, readOnly: true}\n            - {name: secret-lake, mountPath: /etc/tidegate/secrets/lake, readOnly: true}\n",
            ),
            (
                "      volumes:\n",
                "      volumes:\n        - name: secret-lake\n          secret: {secretName: tidegate-lake, defaultMode: 0440}\n",
            ),
        ],
    );
    let (postgres, store) = (env("TIDEGATE_TEST_POSTGRES_TLS"), env("TIDEGATE_TEST_S3_ENDPOINT"));
    let ports = [
        ("port: 9093", env("TIDEGATE_TEST_KAFKA_TLS")),
        ("port: 5432", postgres),
        ("port: 443", store),
    ];
    for (before, address) in ports {
        let after = format!("port: {}", port_of(&address));
        manifests.edit("overlays/production/network-policy.yaml", &[(before, &after)]);
    }
    for (topic, file) in world.topics.keys().zip(&files) {
        let feed = std::fs::read_to_string(world.feed_file(*topic)).expect("a feed");
        manifests.add(&format!("overlays/production/{file}"), &feed);
    }
    manifests.apply("production", 2, &namespace);
    let expected = world.load(4, 2000, 1000).finish();
    world.wait_caught_up(SOON);
    world.check(&expected);
    let status =
        tidegate().args(["status", "--output", "json", "--config"]).arg(&world.config).output();
    let status = status.expect("the binary runs");
    let told: Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(told["members"].as_array().map(Vec::len), Some(2), "{told:#}");
}
