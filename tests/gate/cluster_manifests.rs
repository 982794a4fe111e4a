//! The plain manifests of `k8s` on a real cluster. Ignored unless asked for, as what is in `cluster_release`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tidegate::generate::Topic;

use crate::kubernetes::{Namespace, SOON, run, warehouse_url};
use crate::node::tidegate;
use crate::servers::env;
use crate::world::{Lake, Setup, World};

/// Where a container is reached: the parts of a URL or of an address.
fn port_of(address: &str) -> &str {
    let (_, rest) = address.split_once("//").unwrap_or(("", address));
    let host = rest.rsplit('@').next().unwrap_or(rest).split('/').next().unwrap_or(rest);
    host.rsplit(':').next().expect("a port")
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
    for sink in ["lake", "warehouse"] {
        assert_eq!(report["feeds"][0][sink]["rows"], 1000, "{sink}: {report:#}");
    }
}

#[test]
#[ignore = "needs a cluster: scripts/test --cluster"]
fn the_production_overlay_carries_records_through_its_policy() {
    let setup = Setup {
        name: "plain-production",
        topics: &[Topic::TransactionLog, Topic::UserTransactionSummary],
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
