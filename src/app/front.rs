//! The node's front: its governor, and the API that reads under it.

use std::net::TcpListener;
use std::time::Duration;

use actix::ArbiterHandle;
use actix_web::dev::ServerHandle;
use rustls::ServerConfig;
use tracing::{error, info, warn};

use crate::actors::governor::{Setup as GovernorSetup, Unborn};
use crate::actors::{Edges, Governance, Governor, Io};
use crate::api;
use crate::catalog::Known;
use crate::config::{self, ApiLimits, Node};
use crate::grants::{Grants, node_name};
use crate::record::SinkError;
use crate::warehouse::{open_janitor, open_rows};

/// How long the audit may take to reach the database when the node ends.
const SETTLE: Duration = Duration::from_secs(3);

/// Built, and not yet open.
pub struct Front {
    setup: api::Setup,
    limits: ApiLimits,
    listener: TcpListener,
    tls: Option<ServerConfig>,
    unborn: Unborn,
}

/// Open: requests are answered.
#[derive(Clone)]
pub struct Open {
    server: Option<ServerHandle>,
    governance: Governance,
}

impl Front {
    pub fn build(
        node: &Node,
        config: &config::Api,
        known: &Known,
        edges: &Edges,
        io: Io,
    ) -> Result<Self, SinkError> {
        let Some(warehouse) = &node.warehouse else {
            return Err(SinkError::lasting("api: the permission rows need a `warehouse`"));
        };
        let (listener, tls) = api::listen(config)?;
        let at = listener.local_addr().map_err(SinkError::lasting)?;
        if tls.is_none() && !at.ip().is_loopback() {
            warn!(target: "tidegate::app", %at, "the API has no `tls`: tokens are sent in the clear unless something before it encrypts");
        }
        let grants = Grants::open(node)?;
        let governor = GovernorSetup {
            grants: grants.clone(),
            database: warehouse.url.clone(),
            volume: node.volume.clone(),
            spool_bytes: node.governance.spool.bytes() as u64,
            stale_after: node.governance.stale_after.get(),
            io: io.clone(),
        };
        let (governance, unborn) = Governor::open(governor)
            .map_err(|full| SinkError::lasting(format!("volume: {full}")))?;
        let setup = api::Setup {
            governance,
            grants,
            known: known.clone(),
            lake: edges.lake.clone(),
            warehouse: edges.warehouse.clone(),
            rows: open_rows(warehouse)?,
            janitor: open_janitor(warehouse)?,
            schedules: node.janitor.clone(),
            io,
            node: node_name(),
        };
        Ok(Self { setup, limits: config.limits.clone(), listener, tls, unborn })
    }

    /// Answers from now on. Called on an actix system; the governor lives on the arbiter.
    pub fn open(self, arbiter: &ArbiterHandle) -> Open {
        let Self { setup, limits, listener, tls, unborn } = self;
        let governance = setup.governance.clone();
        unborn.live(arbiter);
        let at = listener.local_addr().map(|at| at.to_string()).unwrap_or_default();
        let server = match api::serve(setup, &limits, listener, tls) {
            Ok(server) => server,
            Err(error) => {
                error!(target: "tidegate::app", %error, "the API cannot be opened");
                return Open { server: None, governance };
            }
        };
        info!(target: "tidegate::app", at, "the API answers");
        let handle = server.handle();
        actix::spawn(async move {
            if let Err(error) = server.await {
                error!(target: "tidegate::app", %error, "the API ended");
            }
        });
        Open { server: Some(handle), governance }
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
