//! The API, and who decides what it shows: their part of the node file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use url::{Host, Url};

use super::{ByteSize, Duration, Sources};

/// How permission rows are kept and followed by this node.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Governance {
    /// How long it goes on deciding by the last permission rows it read while the database does not
    /// answer; then everything is denied. Default: 15m.
    pub stale_after: Duration,
    /// What of the audit may wait on the node's volume for the database. A full one refuses what would
    /// have to be recorded. At least 1MiB. Default: 64MiB.
    pub spool: ByteSize,
    /// Makes the permission rows count in PostgreSQL itself; `postgres: {}` is enough. Default: they do not.
    pub postgres: Option<Rights>,
    /// What the permission rows make of the files of a local lake.
    pub files: GovernedFiles,
    /// Existing tables of the warehouse's database whose rows count as permission rows, by names of their
    /// own. They are read with these, and a change counts within two seconds. Default: none.
    pub sources: Sources,
}

impl Default for Governance {
    fn default() -> Self {
        let (stale_after, spool) = (Duration::from_secs(15 * 60), ByteSize::mib(64));
        let files = GovernedFiles::default();
        Self { stale_after, spool, postgres: None, files, sources: Sources::new() }
    }
}

/// Who reads in PostgreSQL itself under the permission rows.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rights {
    /// The role whose members are held to the permission rows: `user:ada` is the role `ada`, and the roles
    /// that `ada` is a member of are `role:` and `group:` alike. Default: `tidegate_readers`.
    pub readers: String,
}

impl Default for Rights {
    fn default() -> Self {
        Self { readers: "tidegate_readers".to_owned() }
    }
}

/// What the permission rows make of the files of a local lake.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GovernedFiles {
    /// Whether the folder of each feed, and that of its quarantine, is kept open to those alone who may read
    /// all of it: 755 for everybody, 750 for one group, else 700. Needs a `warehouse`, where the rows are,
    /// and a lake that is a folder. Default: false, and no mode is touched.
    pub enforce: bool,
    /// Unix groups by the names that the rows have for them: `finance: fin` is for `group:finance`,
    /// `'role:analyst': analysts` for a role. Default: the same name.
    pub groups: BTreeMap<String, String>,
}

/// The HTTP API, which reads under the permission rows.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Host and port to listen at, such as `127.0.0.1:8080` or `[::]:8443`. Port 0 is one that is free, which
    /// the log tells.
    pub listen: String,
    /// TLS of the API. Default: none.
    #[serde(default)]
    pub tls: Option<ApiTls>,
    /// An OpenID Connect issuer, whose tokens count beside those of `tidegate token`. Default: none.
    #[serde(default)]
    pub oidc: Option<Oidc>,
    /// What one caller may take.
    #[serde(default)]
    pub limits: ApiLimits,
}

/// An OpenID Connect issuer, and what its tokens say of people.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// Its address, letter for letter as its tokens have it in `iss`: `https://`, or `http://` on this machine
    /// (`localhost`, `127.0.0.1`). Below it lies `/.well-known/openid-configuration`.
    pub issuer: String,
    /// What its tokens must have in `aud`: the name it knows this API by.
    pub audience: String,
    /// Claim with the user's name, whom rows for `user:NAME` are for. People may not be able to choose or
    /// change it at the issuer. Default: `sub`.
    #[serde(default = "user")]
    pub user: String,
    /// Claim with the names of his groups: one, or an array of them. As in `user` and `roles`, a path with
    /// dots leads into an object, unless the whole of it is a claim. Default: `groups`.
    #[serde(default = "groups")]
    pub groups: String,
    /// Claim with the names of his roles, such as `realm_access.roles`. Default: none.
    #[serde(default)]
    pub roles: Option<String>,
    /// PEM file of the certificate authority, beside the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// How long the issuer's keys count that were read last, while it does not answer; then its tokens are
    /// refused. Default: 1h.
    #[serde(default = "stale_after")]
    pub stale_after: Duration,
}

fn user() -> String {
    "sub".to_owned()
}

fn groups() -> String {
    "groups".to_owned()
}

fn stale_after() -> Duration {
    Duration::from_secs(3600)
}

impl Oidc {
    /// The address, if it is one that keys may be trusted from. Nobody may read or change what goes to it
    /// and comes from it.
    pub fn trusted_url(text: &str) -> Option<Url> {
        let url = Url::parse(text).ok()?;
        let near = match url.host()? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        let sealed = url.scheme() == "https" || (url.scheme() == "http" && near);
        let bare = url.username().is_empty() && url.password().is_none();
        (sealed && bare && url.fragment().is_none()).then_some(url)
    }
}

/// The API's certificate.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiTls {
    /// PEM file of the certificate, with those that lead to its authority behind it.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}

/// What one caller of the API may take.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiLimits {
    /// Requests a second of one principal, and of one address without a valid token. Default: 50.
    pub requests_per_second: u32,
    /// How many may come at once before that counts. Default: 100.
    pub burst: u32,
    /// Reads that are answered at the same time, of all callers. Default: 16.
    pub reads: usize,
    /// ... and of one principal. Default: 4.
    pub reads_each: usize,
    /// How long a read may take, and how long its caller may take no bytes. Default: 5m.
    pub read_time: Duration,
    /// How long a cursor can be gone on from. Default: 1h.
    pub cursor_life: Duration,
    /// Size of a request's body. Default: 64KiB.
    pub body: ByteSize,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            requests_per_second: 50,
            burst: 100,
            reads: 16,
            reads_each: 4,
            read_time: Duration::from_secs(300),
            cursor_life: Duration::from_secs(3600),
            body: ByteSize::kib(64),
        }
    }
}
