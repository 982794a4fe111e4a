//! The API, and who decides what it shows: their part of the node file.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

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
    /// Existing tables of the warehouse's database whose rows count as permission rows, by names of their
    /// own. They are read with these, and a change counts within two seconds. Default: none.
    pub sources: Sources,
}

impl Default for Governance {
    fn default() -> Self {
        let (stale_after, spool) = (Duration::from_secs(15 * 60), ByteSize::mib(64));
        Self { stale_after, spool, sources: Sources::new() }
    }
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
    /// What one caller may take.
    #[serde(default)]
    pub limits: ApiLimits,
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
