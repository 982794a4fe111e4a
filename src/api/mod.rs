//! The HTTP API: what there is, and rows as their reader may see them.
//!
//! * Every request below `/v1` is of a caller (`caller`): a bearer token's principal. What he does with a
//!   feed is decided by the permission rows before anything is looked at, and is in the audit before he
//!   hears of it. A feed that he may not read looks like one that is not there.
//! * Errors are problem documents (`problem`), and tell nothing of paths, SQL or what is hidden.
//! * Each handler is documented where it stands, and `/openapi.json` is made of that.

mod audit;
mod caller;
mod feeds;
mod format;
mod janitor;
mod permissions;
mod problem;
mod quarantine;
mod rows;
mod scans;
mod settle;
mod status;
mod traced;

use std::net::TcpListener;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::error::{JsonPayloadError, PathError};
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::middleware::{Compress, from_fn};
use actix_web::web::{self, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Resource, ResponseError, Route};
use opentelemetry::trace::FutureExt;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::de::DeserializeOwned;
use utoipa::OpenApi;
use utoipa::openapi::security::{
    HttpAuthScheme, HttpBuilder, OpenIdConnect, SecurityRequirement, SecurityScheme,
};
use utoipa_swagger_ui::SwaggerUi;

pub use self::caller::Caller;
use self::caller::Limits;
pub use self::problem::Problem;
use self::scans::Scans;
use self::traced::traced;
use crate::actors::{Governance, Io};
use crate::catalog::{Known, Named};
use crate::config::{self, ApiLimits, Feed};
use crate::grants::Grants;
use crate::lake::LakeStore;
use crate::oidc::Issuer;
use crate::record::SinkError;
use crate::warehouse::{JanitorStore, RowReader, Warehouse};

/// What the handlers work with.
pub struct Api {
    edges: Setup,
    limits: Limits,
    read_time: Duration,
    cursor_life: Duration,
    scans: Scans,
}

/// What an API is built from.
pub struct Setup {
    pub governance: Governance,
    /// Whose tokens count beside those of the grants.
    pub issuer: Option<Arc<Issuer>>,
    pub grants: Grants,
    pub known: Known,
    pub lake: Option<LakeStore>,
    pub warehouse: Option<Arc<dyn Warehouse>>,
    pub rows: Arc<dyn RowReader>,
    pub janitor: Arc<dyn JanitorStore>,
    /// What the node was started with.
    pub config: Arc<config::Node>,
    pub io: Io,
    /// This node's name, for the audit.
    pub node: String,
}

impl Deref for Api {
    type Target = Setup;

    fn deref(&self) -> &Setup {
        &self.edges
    }
}

impl Api {
    /// Runs what waits for the world where the world is waited for, and not between the requests.
    async fn on_io<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let work = work.with_current_context();
        self.io.spawn(work).await.map_err(|error| Problem::internal("a request", error))
    }

    async fn find(&self, name: &str) -> Result<Option<(Named, Arc<Feed>)>, Problem> {
        let (known, name) = (self.known.clone(), name.to_owned());
        let found = self.on_io(async move { known.find(&name).await }).await?;
        found.map_err(|error| Problem::internal("finding a feed", error))
    }
}

/// How long answers may go on when the node ends.
const GRACE_SECONDS: u64 = 5;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "Feeds, their rows as permission rows show them to you, and who may see what.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        status::health, status::status, status::cluster,
        feeds::list, feeds::show, feeds::partitions, feeds::watermarks, feeds::snapshots, rows::rows, quarantine::list,
        settle::replay, settle::discard,
        permissions::list, permissions::grant, permissions::revoke,
        audit::list, janitor::show, janitor::signal,
    ),
    components(schemas(Problem)),
    security(("token" = [])),
)]
struct Documented;

/// The OpenAPI document, where tokens of an issuer count that says of itself at this address who it is.
pub fn document(issuer: Option<&str>) -> utoipa::openapi::OpenApi {
    let mut document = Documented::openapi();
    let components = document.components.get_or_insert_default();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("tg_ID.SECRET")
        .description(Some("A token that `tidegate token create` made"));
    components.add_security_scheme("token", SecurityScheme::Http(token.build()));
    if let Some(address) = issuer {
        let about = "A signed JWT of the issuer, for the audience of this API";
        let scheme = OpenIdConnect::with_description(address, about);
        components.add_security_scheme("oidc", SecurityScheme::OpenIdConnect(scheme));
        let either = SecurityRequirement::new::<_, [&str; 0], &str>("oidc", []);
        document.security.get_or_insert_default().push(either);
    }
    document
}

/// Takes the node's address, and reads the certificate. What is not as it should be is a lasting error.
pub fn listen(config: &config::Api) -> Result<(TcpListener, Option<ServerConfig>), SinkError> {
    let tls = config.tls.as_ref().map(certified).transpose()?;
    let at = &config.listen;
    let unheard = |error: std::io::Error| {
        SinkError::lasting(format!("api.listen: cannot listen at {at}: {error}"))
    };
    let listener = TcpListener::bind(at).map_err(unheard)?;
    Ok((listener, tls))
}

/// Answers from when the server is polled. Called on an actix system.
pub fn serve(
    setup: Setup,
    limits: &ApiLimits,
    listener: TcpListener,
    tls: Option<ServerConfig>,
) -> std::io::Result<Server> {
    let document = document(setup.issuer.as_deref().map(Issuer::discovery));
    let api = Data::new(Api {
        edges: setup,
        limits: Limits::new(limits),
        read_time: limits.read_time.get(),
        cursor_life: limits.cursor_life.get(),
        scans: Scans::default(),
    });
    let body = limits.body.bytes();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(api.clone())
            .app_data(web::PayloadConfig::new(body))
            .app_data(web::JsonConfig::default().limit(body).error_handler(
                |error, _| match error {
                    JsonPayloadError::Overflow { .. }
                    | JsonPayloadError::OverflowKnownLength { .. } => {
                        Problem::too_large("see `api.limits.body`").into()
                    }
                    error => Problem::bad_request(format!("body: {error}")).into(),
                },
            ))
            .app_data(web::PathConfig::default().error_handler(|error: PathError, _| {
                Problem::bad_request(format!("path: {error}")).into()
            }))
            .wrap(Compress::default())
            .wrap(from_fn(traced))
            .configure(routes)
            .service(SwaggerUi::new("/docs/{_:.*}").url("/openapi.json", document.clone()))
            .default_service(web::to(nothing_here))
    })
    .disable_signals()
    .shutdown_timeout(GRACE_SECONDS)
    .workers(2);
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}

fn routes(config: &mut web::ServiceConfig) {
    let read = |path, handler: Route| at(path, "GET").route(handler.method(Method::GET));
    config
        .service(read("/healthz", web::to(status::health)))
        .service(read("/v1/status", web::to(status::status)))
        .service(read("/v1/cluster", web::to(status::cluster)))
        .service(read("/v1/feeds", web::to(feeds::list)))
        .service(read("/v1/feeds/{feed}", web::to(feeds::show)))
        .service(read("/v1/feeds/{feed}/partitions", web::to(feeds::partitions)))
        .service(read("/v1/feeds/{feed}/watermarks", web::to(feeds::watermarks)))
        .service(read("/v1/feeds/{feed}/snapshots", web::to(feeds::snapshots)))
        .service(read("/v1/feeds/{feed}/rows", web::to(rows::rows)))
        .service(read("/v1/feeds/{feed}/quarantine", web::to(quarantine::list)))
        .service(at("/v1/feeds/{feed}/quarantine/replay", "POST").post(settle::replay))
        .service(at("/v1/feeds/{feed}/quarantine/discard", "POST").post(settle::discard))
        .service(at("/v1/permissions", "GET, POST").get(permissions::list).post(permissions::grant))
        .service(at("/v1/permissions/{row}", "DELETE").delete(permissions::revoke))
        .service(read("/v1/audit", web::to(audit::list)))
        .service(read("/v1/janitor", web::to(janitor::show)))
        .service(at("/v1/janitor/{chore}", "POST").post(janitor::signal))
        .service(web::redirect("/docs", "/docs/"));
}

/// A path that takes these methods and says so to others.
fn at(path: &str, methods: &'static str) -> Resource {
    let others = move || async move {
        let mut refused = Problem::not_allowed().error_response();
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        refused
    };
    web::resource(path).default_service(web::to(others))
}

async fn nothing_here() -> Result<HttpResponse, Problem> {
    Err(Problem::not_found("GET /openapi.json says what is where"))
}

/// The query, looked at by a handler: after its caller is known.
fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    let query = web::Query::<T>::from_query(request.query_string());
    match query {
        Ok(query) => Ok(query.into_inner()),
        Err(error) => Err(Problem::bad_request(format!("query: {error}"))),
    }
}

fn certified(config: &config::ApiTls) -> Result<ServerConfig, SinkError> {
    let bad = |field: &str, error: &dyn std::fmt::Display| {
        SinkError::lasting(format!("api.tls.{field}: {error}"))
    };
    let certificates = CertificateDer::pem_file_iter(&config.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad("certificate", &error))?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| bad("key", &error))?;
    let server = ServerConfig::builder().with_no_client_auth();
    server.with_single_cert(certificates, key).map_err(|error| bad("certificate", &error))
}
