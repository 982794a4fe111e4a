//! The node's front: its governor, the API that reads under it, and the modes of the lake's folders.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix::ArbiterHandle;
use actix_web::dev::ServerHandle;
use rustls::ServerConfig;
use tracing::{error, info, warn};

use crate::actors::governor::{Files, Setup as GovernorSetup, Unborn};
use crate::actors::{Edges, Governance, Governor, Io};
use crate::api;
use crate::catalog::Known;
use crate::config::{self, ApiLimits, Node};
use crate::grants::{Grants, node_name};
use crate::oidc::{self, Issuer};
use crate::record::SinkError;
use crate::rights::DatabaseRights;
use crate::warehouse::{open_janitor, open_rows};

/// How long the audit may take to reach the database when the node ends.
const SETTLE: Duration = Duration::from_secs(3);

/// Built, and not yet open.
pub struct Front {
    governance: Governance,
    unborn: Unborn,
    files: Option<Files>,
    door: Option<Door>,
    io: Io,
}

/// The API, which does not answer yet.
struct Door {
    setup: api::Setup,
    limits: ApiLimits,
    listener: TcpListener,
    tls: Option<ServerConfig>,
}

/// Open: requests are answered.
#[derive(Clone)]
pub struct Open {
    server: Option<ServerHandle>,
    governance: Governance,
}

impl Front {
    /// None where permission rows are asked for by nobody.
    pub fn build(
        node: &Node,
        known: &Known,
        edges: &Edges,
        io: &Io,
        files: Option<Files>,
    ) -> Result<Option<Self>, SinkError> {
        if node.api.is_none() && node.governance.postgres.is_none() && files.is_none() {
            return Ok(None);
        }
        let Some(warehouse) = &node.warehouse else {
            return Err(SinkError::lasting("governance: the permission rows need a `warehouse`"));
        };
        let governor = GovernorSetup {
            grants: Grants::open(node)?,
            // Tables that name no schema are in this one.
            database: format!("{} {}", warehouse.url, warehouse.schema),
            volume: node.volume.clone(),
            spool_bytes: node.governance.spool.bytes() as u64,
            stale_after: node.governance.stale_after.get(),
            rights: DatabaseRights::of(node, known)?,
            io: io.clone(),
        };
        let (governance, unborn) = Governor::open(governor)
            .map_err(|full| SinkError::lasting(format!("volume: {full}")))?;
        let door = match &node.api {
            Some(config) => {
                let issuer = config.oidc.as_ref().map(Issuer::open).transpose();
                let setup = api::Setup {
                    governance: governance.clone(),
                    issuer: issuer.map_err(SinkError::lasting)?.map(Arc::new),
                    grants: Grants::open(node)?,
                    known: known.clone(),
                    lake: edges.lake.clone(),
                    warehouse: edges.warehouse.clone(),
                    rows: open_rows(warehouse)?,
                    janitor: open_janitor(warehouse)?,
                    config: Arc::new(node.clone()),
                    io: io.clone(),
                    node: node_name(),
                };
                Some(Door::build(config, setup)?)
            }
            None => None,
        };
        Ok(Some(Self { governance, unborn, files, door, io: io.clone() }))
    }

    /// The governor lives on the arbiter from now on, and requests are answered. Called on an actix system.
    pub fn open(self, arbiter: &ArbiterHandle) -> Open {
        let Self { governance, unborn, files, door, io } = self;
        unborn.live(arbiter);
        if let Some(files) = files {
            drop(io.spawn(files.follow(governance.clone(), io.clone())));
        }
        Open { server: door.and_then(Door::open), governance }
    }
}

impl Door {
    fn build(config: &config::Api, setup: api::Setup) -> Result<Self, SinkError> {
        let (listener, tls) = api::listen(config)?;
        let at = listener.local_addr().map_err(SinkError::lasting)?;
        if tls.is_none() && !at.ip().is_loopback() {
            warn!(target: "tidegate::app", %at, "the API has no `tls`: tokens are sent in the clear unless something before it encrypts");
        }
        Ok(Self { setup, limits: config.limits.clone(), listener, tls })
    }

    fn open(self) -> Option<ServerHandle> {
        let Self { setup, limits, listener, tls } = self;
        if let Some(issuer) = &setup.issuer {
            setup.io.spawn(oidc::tend(Arc::downgrade(issuer)));
        }
        let at = listener.local_addr().map(|at| at.to_string()).unwrap_or_default();
        let server = match api::serve(setup, &limits, listener, tls) {
            Ok(server) => server,
            Err(error) => {
                error!(target: "tidegate::app", %error, "the API cannot be opened");
                return None;
            }
        };
        info!(target: "tidegate::app", at, "the API answers");
        let handle = server.handle();
        actix::spawn(async move {
            if let Err(error) = server.await {
                error!(target: "tidegate::app", %error, "the API ended");
            }
        });
        Some(handle)
    }
}

impl Open {
    /// Ends the answers that are being given, then brings the audit home.
    pub async fn close(&self) {
        if let Some(server) = &self.server {
            server.stop(true).await;
        }
        self.governance.settle(SETTLE).await;
    }
}
