//! Each request in a span, below that of whoever asks if he sends one.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::middleware::Next;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::telemetry::trace::{self, Start, convention};

struct Carrier<'a>(&'a HeaderMap);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

/// The query is left out: it may tell of what is in the rows.
pub async fn traced(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    // Whoever only looks whether it answers is not followed.
    if !trace::is_on() || request.path() == "/healthz" {
        return next.call(request).await;
    }
    let sender = &Carrier(request.headers());
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), sender);
    let route = request.match_pattern();
    let method = request.method().to_string();
    let name = route.as_ref().map_or_else(|| method.clone(), |route| format!("{method} {route}"));
    let mut start = Start::new(name, SpanKind::Server)
        .with(convention::HTTP_REQUEST_METHOD, method)
        .with(convention::URL_PATH, request.path().to_owned())
        .with(convention::URL_SCHEME, request.connection_info().scheme().to_owned());
    if let Some(route) = route {
        start = start.with(convention::HTTP_ROUTE, route);
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
