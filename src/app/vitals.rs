//! What is asked of a node by those who watch it: whether it lives, whether it is ready, and its numbers. For
//! nobody in particular, so it tells nothing of what is in the records; answered by threads of its own, however
//! stuck the rest of the node is.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header::{ALLOW, CONTENT_TYPE};
use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer, Resource};
use chrono::Utc;
use tracing::{error, info};

use crate::actors::Io;
use crate::record::SinkError;
use crate::telemetry::pulse::{Answer, Heart, Pulse};
use crate::telemetry::{metrics, places};

/// How often it is seen that I/O moves.
const BEAT: Duration = Duration::from_secs(1);
/// Requests that are kept open when the node ends.
const GRACE_SECONDS: u64 = 1;

/// Has its address, and does not answer yet.
pub struct Vitals {
    listener: TcpListener,
    pulse: Arc<Pulse>,
}

impl Vitals {
    /// Takes the address.
    pub fn build(listen: &str, pulse: Arc<Pulse>) -> Result<Self, SinkError> {
        let unheard = |error: std::io::Error| {
            SinkError::lasting(format!("telemetry.listen: cannot listen at {listen}: {error}"))
        };
        let listener = TcpListener::bind(listen).map_err(unheard)?;
        Ok(Self { listener, pulse })
    }

    /// Answers from now on. Called on an actix system.
    pub fn open(self) -> Option<ServerHandle> {
        let Self { listener, pulse } = self;
        let at = listener.local_addr().map(|at| at.to_string()).unwrap_or_default();
        let watched = Data::new(Watched { pulse });
        let server = HttpServer::new(move || {
            App::new()
                .app_data(watched.clone())
                .service(asked("/livez", |of| {
                    probe(&of.pulse.lives(Utc::now().timestamp_millis()))
                }))
                .service(asked("/readyz", |of| probe(&of.pulse.ready())))
                .service(asked("/startupz", |of| probe(&of.pulse.started())))
                .service(asked("/metrics", Watched::numbers))
        });
        let server = server.disable_signals().shutdown_timeout(GRACE_SECONDS).workers(1);
        match server.listen(listener) {
            Ok(server) => {
                info!(target: "tidegate::app", at, "probes and metrics are answered");
                let server = server.run();
                let handle = server.handle();
                actix::spawn(server);
                Some(handle)
            }
            Err(error) => {
                error!(target: "tidegate::app", at, %error, "probes and metrics are not answered");
                None
            }
        }
    }
}

/// Beats for as long as I/O moves.
pub fn beat(io: &Io, pulse: Arc<Pulse>) {
    drop(io.spawn(async move {
        loop {
            pulse.beat(Heart::Io, Utc::now().timestamp_millis());
            tokio::time::sleep(BEAT).await;
        }
    }));
}

/// Sets the gauges that are read off what is known.
pub fn observe(pulse: &Pulse) {
    places::observe(Utc::now().timestamp_millis());
    pulse.observe();
}

struct Watched {
    pulse: Arc<Pulse>,
}

impl Watched {
    fn numbers(&self) -> HttpResponse {
        observe(&self.pulse);
        let text = (CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
        HttpResponse::Ok().insert_header(text).body(metrics::exposition())
    }
}

fn probe(answer: &Answer) -> HttpResponse {
    match answer.ok {
        true => HttpResponse::Ok().json(answer),
        false => HttpResponse::ServiceUnavailable().json(answer),
    }
}

fn asked(path: &str, answer: fn(&Watched) -> HttpResponse) -> Resource {
    let told = move |of: Data<Watched>| async move { answer(&of) };
    let others =
        || async { HttpResponse::MethodNotAllowed().insert_header((ALLOW, "GET, HEAD")).finish() };
    web::resource(path)
        .route(web::get().to(told))
        .route(web::head().to(told))
        .default_service(web::to(others))
}
