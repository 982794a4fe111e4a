//! The node file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Api, ByteSize, Duration, Governance, Janitor, Telemetry};

/// The node file: broker, lake, warehouse, and what this node may use.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The broker and the consumer group.
    pub kafka: Kafka,
    /// Folder of feed files (`*.yaml`, `*.yml`, `*.json`), which may also lie in `active` below it;
    /// `archived` below it is not read. Default: `feeds`, beside the node file.
    #[serde(default = "feeds_folder")]
    pub feeds: PathBuf,
    /// Where the lake is. Without it no feed may have a lake side.
    #[serde(default)]
    pub lake: Option<Lake>,
    /// Where the warehouse is. Without it no feed may have a warehouse side.
    #[serde(default)]
    pub warehouse: Option<Warehouse>,
    /// Where the schemas of Avro records are. Without it no feed may have `format: avro`.
    #[serde(default)]
    pub schema_registry: Option<SchemaRegistry>,
    /// The HTTP API; `api: {listen: '127.0.0.1:8080'}` is enough. Needs a `warehouse`, where the
    /// permission rows are. Default: none.
    #[serde(default)]
    pub api: Option<Api>,
    /// How permission rows are kept and followed.
    #[serde(default)]
    pub governance: Governance,
    /// How tables are looked after.
    #[serde(default)]
    pub janitor: Janitor,
    /// What this node tells of itself.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// Folder of what this node keeps for itself: the last permission rows, and of the audit what is not in
    /// the database yet. Each node has one of its own. Default: `volume`, beside the node file.
    #[serde(default = "volume_folder")]
    pub volume: PathBuf,
    /// What this node may hold in memory.
    #[serde(default)]
    pub memory: Memory,
    /// How long a stopping node finishes what is in flight. Default: 25s.
    #[serde(default = "drain_deadline")]
    pub drain_deadline: Duration,
    /// How long a sink may fail, or hold its whole share of the memory budget, before it is
    /// detached and caught up on its own. Default: 2s.
    #[serde(default = "detach_after")]
    pub detach_after: Duration,
    /// How soon a parked partition is tried again. Default: 1m.
    #[serde(default = "park_retry")]
    pub park_retry: Duration,
}

fn feeds_folder() -> PathBuf {
    PathBuf::from("feeds")
}

fn volume_folder() -> PathBuf {
    PathBuf::from("volume")
}

fn drain_deadline() -> Duration {
    Duration::from_secs(25)
}

fn detach_after() -> Duration {
    Duration::from_secs(2)
}

fn park_retry() -> Duration {
    Duration::from_secs(60)
}

/// The broker and the consumer group.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, several joined by commas.
    pub bootstrap: String,
    /// Consumer group of the cluster's nodes. Default: `tidegate`.
    #[serde(default = "group")]
    pub group: String,
    /// Group protocol: `auto` takes `consumer` (KIP-848) where the broker has it and `classic`
    /// (cooperative-sticky) where not. Default: `auto`.
    #[serde(default)]
    pub protocol: Protocol,
    /// TLS to the broker; `tls: {}` trusts the system's authorities. Default: no TLS.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// How the node signs in to the broker. Default: not at all.
    #[serde(default)]
    pub sasl: Option<Sasl>,
    /// librdkafka settings, passed through as they are. Those the node itself depends on
    /// (offset storage, isolation level, assignment, queue sizes) are refused, and so are
    /// credentials. A value may be `{env: NAME}`; a variable that is empty leaves the setting out.
    #[serde(default, deserialize_with = "settings")]
    #[schemars(schema_with = "settings_schema")]
    pub settings: BTreeMap<String, String>,
}

/// A setting's value as YAML reads it: `5` and `true` need no quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Setting {
    Text(String),
    Number(serde_json::Number),
    Switch(bool),
    /// What a pod is told of itself, such as its zone.
    Variable(Variable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    env: String,
}

fn settings<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let settings = BTreeMap::<String, Setting>::deserialize(from)?;
    let mut texts = BTreeMap::new();
    for (name, setting) in settings {
        let text = match setting {
            Setting::Text(text) => text,
            Setting::Number(number) => number.to_string(),
            Setting::Switch(on) => on.to_string(),
            Setting::Variable(Variable { env }) => match std::env::var(&env) {
                // Nobody says anything: it is as if it were not here.
                Ok(text) if text.is_empty() => continue,
                Ok(text) => text,
                Err(_) => {
                    let lacks = format!(
                        "{name}: the environment has no variable {env}: set it, or let it be empty"
                    );
                    return Err(serde::de::Error::custom(lacks));
                }
            },
        };
        texts.insert(name, text);
    }
    Ok(texts)
}

fn settings_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {
            "type": ["string", "number", "boolean", "object"],
            // Of a mapping.
            "properties": { "env": { "type": "string", "description": "The variable's name." } },
            "required": ["env"],
            "additionalProperties": false,
        },
        "default": {},
    })
}

fn group() -> String {
    "tidegate".to_owned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Auto,
    Consumer,
    Classic,
}

/// TLS to the broker.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the certificate authority. Default: the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of the client certificate.
    pub certificate: Option<PathBuf>,
    /// PEM file of the client's private key.
    pub key: Option<PathBuf>,
}

/// How the node signs in to the broker.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: SaslMechanism,
    /// User name at the broker.
    pub username: String,
    /// Password at the broker.
    pub password: Secret,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// The lake's place.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lake {
    /// A folder, or `s3://bucket/prefix`.
    pub url: String,
    /// How to reach the store of an `s3://` url.
    #[serde(default)]
    pub s3: Option<S3>,
    /// As `governance.files.enforce` says.
    #[serde(skip)]
    pub governed: bool,
}

/// How to reach an S3-compatible store. Without keys, the usual AWS chain of credentials is used.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// `http://` or `https://` address of a store that is not AWS.
    pub endpoint: Option<String>,
    /// Region of the bucket. Default: the environment's.
    pub region: Option<String>,
    /// Access key id. Give both keys or neither.
    pub access_key: Option<Secret>,
    /// Secret access key.
    pub secret_key: Option<Secret>,
}

/// The warehouse's place.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Warehouse {
    /// `postgres://user@host:port/database`, or `sqlite:FILE` (one node only).
    pub url: String,
    /// Whether it holds bookkeeping alone (permission rows, audit, leases): a feed has a warehouse side
    /// only if its file names one. Default: false.
    #[serde(default)]
    pub only_bookkeeping: bool,
    /// Password of the PostgreSQL user.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Schema of the feeds' tables whose `table` names none; created where it is absent. PostgreSQL
    /// only. Default: `public`.
    #[serde(default = "default_schema")]
    pub schema: String,
    /// TLS to PostgreSQL.
    #[serde(default)]
    pub tls: WarehouseTls,
    /// Connections this node may open. Default: 8.
    #[serde(default = "connections")]
    pub connections: usize,
    /// How long a claim waits for a lock before the connection that holds it is ended.
    /// Default: 5s.
    #[serde(default = "lock_timeout")]
    pub lock_timeout: Duration,
}

/// Where PostgreSQL puts the tables of whoever names no schema.
pub const DEFAULT_SCHEMA: &str = "public";

fn default_schema() -> String {
    DEFAULT_SCHEMA.to_owned()
}

fn connections() -> usize {
    8
}

fn lock_timeout() -> Duration {
    Duration::from_secs(5)
}

/// TLS to PostgreSQL.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WarehouseTls {
    /// `disable`, or `verify-full`: encrypted, and the certificate must be for the host.
    /// Default: `disable`.
    pub mode: TlsMode,
    /// PEM file of the certificate authority. Required with `verify-full`.
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    #[default]
    Disable,
    VerifyFull,
}

/// A schema registry with Confluent's interface.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaRegistry {
    /// `http://` or `https://` address below which it answers, such as
    /// `https://registry:8081`.
    pub url: String,
    /// User name at the registry. Give both this and `password`, or neither.
    #[serde(default)]
    pub username: Option<String>,
    /// Password at the registry.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Bearer token, instead of user name and password.
    #[serde(default)]
    pub token: Option<Secret>,
    /// PEM file of the certificate authority, beside the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// What this node may hold in memory.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Bytes between the Kafka client and the sinks, its queue included. At least 32MiB.
    /// Default: 512MiB.
    pub budget: ByteSize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { budget: ByteSize::mib(512) }
    }
}

/// Where a credential is found. Never printed.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// Name of an environment variable.
    Env(String),
    /// Path of a file whose content, less a final newline, is the secret.
    File(PathBuf),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Secret::Env(name) => write!(f, "Secret(env {name})"),
            Secret::File(path) => write!(f, "Secret(file {})", path.display()),
        }
    }
}

/// A credential itself. Prints as `***`.
#[derive(Clone, PartialEq)]
pub struct SecretText(String);

impl SecretText {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The credential, for the one call that hands it to a client library.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// Reads the credential now.
    pub fn read(&self) -> Result<SecretText, String> {
        match self {
            Secret::Env(name) => std::env::var(name)
                .map(SecretText)
                .map_err(|_| format!("the environment variable {name} is not set")),
            Secret::File(path) => std::fs::read_to_string(path)
                .map(|text| SecretText(text.trim_end_matches(['\n', '\r']).to_owned()))
                .map_err(|error| format!("cannot read {}: {error}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Kafka;

    fn settings(of: &str) -> Result<Kafka, serde_json::Error> {
        serde_json::from_str(&format!(
            r#"{{"bootstrap": "b:1", "settings": {{"client.rack": {of}}}}}"#
        ))
    }

    #[test]
    fn a_setting_may_be_what_the_environment_says() {
        let path = std::env::var("PATH").unwrap();
        assert_eq!(settings(r#"{"env": "PATH"}"#).unwrap().settings["client.rack"], path);
        assert_eq!(settings("5").unwrap().settings["client.rack"], "5");
        let said = settings(r#"{"env": "NO_SUCH_VARIABLE"}"#).unwrap_err().to_string();
        assert!(said.contains("client.rack") && said.contains("NO_SUCH_VARIABLE"), "{said}");
        assert!(settings(r#"{"file": "/a"}"#).is_err());
    }
}
