//! The chart on a real cluster, under load and whatever happens to its pods and their machine.
//!
//! Ignored unless asked for: `scripts/test --cluster` runs it on the cluster of KUBECONFIG, with an image of the
//! binary under proof, and with servers at an address that its pods reach.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate::generate::Topic;

use crate::kubernetes::{Namespace, Pod, SOON, machines, run, warehouse_url};
use crate::load::{Load, Plan};
use crate::progress::Watch;
use crate::servers::{env, wait_for};
use crate::world::{Lake, Setup, World};

/// Transactions a second.
const RATE: u64 = 300;
/// Two topics from the beginning, and one whose feed comes later.
const TOPICS: [Topic; 2] = [Topic::TransactionLog, Topic::UserTransactionSummary];
const LATER: Topic = Topic::TransactionFlattened;

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
        self.try_put(verb, more).unwrap_or_else(|error| panic!("{error}"));
    }

    fn try_put(&self, verb: &str, more: &[&str]) -> Result<String, String> {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/tidegate");
        let values = self.values.to_str().expect("a path");
        let here =
            ["--namespace", &self.namespace.name, verb, "tidegate", chart, "--values", values];
        run("helm", &[&here[..], &["--wait", "--timeout", "4m"], more].concat(), "")
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
podLabels: {{proof: {name}}}
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

    /// Something happens under load; afterwards everything arrived, and once. Answers how many partitions went to
    /// another owner, of which nothing is proved otherwise.
    fn step(&self, what: &str, action: impl FnOnce()) -> usize {
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
            "{what}: {:.1} s; in the warehouse no partition stood still for longer than {:.1} s ({}/{}); {moved} of {} changed hands",
            took.as_secs_f64(),
            slowest.1.longest.as_secs_f64(),
            slowest.0.0,
            slowest.0.1,
            stood.len(),
        );
        self.world.wait_caught_up(SOON);
        self.world.check(&expected);
        moved
    }

    /// One in which partitions must move.
    fn moving_step(&self, what: &str, action: impl FnOnce()) {
        let moved = self.step(what, action);
        assert!(moved > 0, "{what}: no partition moved, nothing was proved");
    }
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
    release.moving_step("scale from 2 to 4", || chart.scale(4));
    release.moving_step("scale from 4 to 1", || chart.scale(1));
    release.moving_step("scale from 1 to 2", || chart.scale(2));
    asking.nobody_was_cut();

    // The topic's records so far are read from its beginning.
    release.world.declare(LATER);
    release.write_values();
    release.step_with_later("upgrade to another feed set");

    let chart = &release.chart;
    let asking = Asking::start(&chart.namespace);
    let other = format!("image.tag={next}");
    release.moving_step("upgrade to another image", || chart.put("upgrade", &["--set", &other]));
    chart.assert_all_run(&next);
    release.moving_step("rollback", || {
        chart.helm(&["rollback", "tidegate", "--wait", "--timeout", "4m"]);
    });
    chart.assert_all_run(&tag);
    release.moving_step("a pod deleted", || {
        chart.namespace.kubectl(&["delete", "pod", "tidegate-0"]);
        chart.namespace.wait_ready(2);
    });
    asking.nobody_was_cut();

    release.moving_step("a pod killed", || {
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

    release.moving_step("a drain held up by the budget", || drain(&chart.namespace));
    let commands = ["TIDEGATE_TEST_LOSE_MACHINE", "TIDEGATE_TEST_RETURN_MACHINE"];
    match commands.map(|name| std::env::var(name).ok()) {
        [Some(lose), Some(bring_back)] => {
            release.moving_step("the machine lost, and back", || {
                lose_machine(&chart.namespace, &lose, &bring_back);
            });
        }
        _ => println!(
            "the machine lost, and back: not run, {} are no commands",
            commands.join(" and ")
        ),
    }
    only_named_peers_are_reached(&chart.namespace, &tag);
    tell_sizes(&release);
    // Helm asks to be told so before it overrules somebody who scaled.
    release.moving_step("upgrade of what somebody scaled", || {
        chart.scale(3);
        chart.put("upgrade", &[]);
        assert_eq!(chart.namespace.pods().len(), 3, "the upgrade undid it");
        chart.helm(&["rollback", "tidegate", "--force-conflicts", "--wait", "--timeout", "4m"]);
        chart.namespace.wait_ready(2);
        chart.scale(3);
        let fewer = ["--set", "replicas=1"];
        let refused = chart.try_put("upgrade", &fewer).expect_err("a conflict");
        assert!(refused.contains(".spec.replicas"), "{refused}");
        chart.put("upgrade", &[&fewer[..], &["--force-conflicts"]].concat());
        chart.namespace.wait_ready(1);
    });
    release.moving_step("deleted, and installed again", || {
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

/// A machine that takes no more pods, until this goes.
struct Cordoned<'n>(&'n Namespace, String);

impl Drop for Cordoned<'_> {
    fn drop(&mut self) {
        drop(self.0.try_kubectl(&["uncordon", &self.1]));
    }
}

/// Where there is one machine alone, the second node has nowhere to go: the budget keeps it where it is.
fn drain(namespace: &Namespace) {
    let machine = namespace.pods().remove(0).machine;
    // Pods of this release alone, on whatever cluster this is.
    let selector = format!("--pod-selector=proof={}", namespace.name);
    let cordoned = Cordoned(namespace, machine.clone());
    let more = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=20s"];
    let drained = namespace.try_kubectl(&[&["drain", &machine, &selector], &more[..]].concat());
    if machines() == 1 {
        let refused = drained.expect_err("a budget that lets both go");
        assert!(refused.contains("disruption budget"), "{refused}");
        assert_eq!(namespace.pods().iter().filter(|pod| pod.ready).count(), 1);
    }
    drop(cordoned);
    namespace.wait_ready(2);
}

/// By the commands that whoever made the cluster gives for it: one takes the machine away, the other brings it back.
fn lose_machine(namespace: &Namespace, lose: &str, bring_back: &str) {
    let before = namespace.pods();
    for command in [lose, bring_back] {
        run("sh", &["-c", command], "").unwrap_or_else(|error| panic!("{error}"));
    }
    wait_for("the API server to answer again", SOON, || {
        namespace.try_kubectl(&["get", "pods"]).ok()
    });
    // What it says of them is from before, until the machine has told anew.
    wait_for("each node to start anew", SOON, || {
        let pods = namespace.pods();
        let anew = |pod: &Pod| {
            let former = before.iter().find(|it| it.uid == pod.uid);
            former.is_none_or(|former| pod.restarts > former.restarts)
        };
        (pods.len() == before.len() && pods.iter().all(anew)).then_some(())
    });
    namespace.wait_ready(before.len());
}

/// What a node takes, for whoever makes room for it.
fn tell_sizes(release: &Release) {
    let nodes = release.chart.namespace.pods();
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'tidegate_tls'";
    let connections: i64 = release.world.database.query(asked)[0].get(0);
    println!("{connections} connections to PostgreSQL of {} nodes", nodes.len());
    for number in nodes.iter().filter_map(process_of) {
        let status = std::fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
        let peak =
            status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: not told");
        println!("a node with a budget of 128 MiB: {peak}");
    }
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
    let refused = refused.expect_err("no broker is there");
    assert!(refused.contains("broker"), "the program was not even started: {refused}");
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
