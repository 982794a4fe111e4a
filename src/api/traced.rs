//! Each request in a span, below that of whoever asks if he sends one.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::middleware::Next;
use opentelemetry::Context;
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{SpanKind, TraceContextExt};

use crate::telemetry::trace::{self, Start, convention, sender};

struct Carrier<'a>(&'a HeaderMap);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

/// Methods that are told by their names.
const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The query is left out: it may tell of what is in the rows.
pub async fn traced(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    // Whoever only looks whether it answers is not followed.
    if !trace::is_on() || request.path() == "/healthz" {
        return next.call(request).await;
    }
    let parent = match sender(&Carrier(request.headers())) {
        Some(sender) => Context::new().with_remote_span_context(sender),
        None => Context::new(),
    };
    // What strangers write is not told on.
    let route = request.match_pattern();
    let method = match request.method() {
        method if KNOWN.contains(&method.as_str()) => method.to_string(),
        _ => "_OTHER".to_owned(),
    };
    let name = route.as_ref().map_or_else(|| method.clone(), |route| format!("{method} {route}"));
    let mut start = Start::new(name, SpanKind::Server)
        .with(convention::HTTP_REQUEST_METHOD, method)
        .with(convention::URL_SCHEME, if request.app_config().secure() { "https" } else { "http" });
    if let Some(route) = route {
        start = start
            .with(convention::URL_PATH, request.path().to_owned())
            .with(convention::HTTP_ROUTE, route);
    }
    let span = start.below(&parent);
    let answered = span.around(next.call(request)).await;
    let status = match &answered {
        Ok(answer) => answer.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    span.set(convention::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
    if status.is_server_error() {
        span.failed("5xx", "the request failed");
    }
    answered
}
