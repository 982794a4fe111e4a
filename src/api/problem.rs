//! What went wrong, as RFC 9457 has it. Nothing of it tells what its reader may not know: no stack, path
//! or SQL, and a feed that he may not read is one that is not there.

use std::collections::BTreeMap;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use tracing::{error, warn};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};
use uuid::Uuid;

use crate::actors::governor::Undecided;
use crate::reads::Refusal;
use crate::record::{Blame, Lack, SinkError};
use crate::volume::SpoolFull;

/// A problem document (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `urn:tidegate:problem:` and a word.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong here, and what helps.
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &'static str, detail: impl Into<String>) -> Self {
        let kind = format!("urn:tidegate:problem:{kind}");
        Self { kind, title, status: status.as_u16(), detail: detail.into() }
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        let title = "The request is not understood";
        Self::new(StatusCode::BAD_REQUEST, "bad-request", title, detail)
    }

    pub fn unknown_caller() -> Self {
        let title = "A bearer token is needed";
        let detail = "send `Authorization: Bearer TOKEN` with a token that is good; `tidegate token \
                      create` makes one";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", title, detail)
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "No permission row allows it", detail)
    }

    /// The same whether there is none, or none for whoever asks.
    pub fn no_feed(feed: &str) -> Self {
        let detail =
            format!("there is no feed {feed} for you; GET /v1/feeds lists those there are");
        Self::new(StatusCode::NOT_FOUND, "no-such-feed", "There is no such feed", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is nothing here", detail)
    }

    pub fn not_allowed() -> Self {
        let detail = "GET /openapi.json says what can be done where";
        let title = "The method is not for this path";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", title, detail)
    }

    pub fn not_acceptable(detail: impl Into<String>) -> Self {
        let title = "No such format";
        Self::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", title, detail)
    }

    /// A permission row that an existing table has.
    pub fn foreign_row(detail: impl Into<String>) -> Self {
        let title = "The row is of an existing table";
        Self::new(StatusCode::CONFLICT, "foreign-row", title, detail)
    }

    pub fn gone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "gone", "It can no longer be read", detail)
    }

    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    }

    pub fn too_many(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too much at once", detail)
    }

    pub fn unavailable(detail: impl Into<String>) -> Self {
        let title = "Not now";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", title, detail)
    }

    /// What is nobody's business outside; the log has it, under the id that is told.
    pub fn internal(of: &str, error: impl fmt::Display) -> Self {
        let id = Uuid::new_v4();
        error!(target: "tidegate::api", %id, of, %error, "a request failed");
        let detail = format!("the node's log says more under {id}");
        let title = "The node failed";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", title, detail)
    }

    /// A sink that did not answer as it should; the log has its words.
    pub fn of_sink(of: &str, error: &SinkError) -> Self {
        match error.lack {
            Some(Lack::Absent) => return Self::not_found("the feed has no table there yet"),
            Some(Lack::Gone) => {
                return Self::gone(
                    "files of this state are deleted; begin again at the latest one",
                );
            }
            None => {}
        }
        match error.blame {
            Blame::Passing => {
                warn!(target: "tidegate::api", of, %error, "a sink is away");
                Self::unavailable("the store does not answer; try again")
            }
            Blame::Lasting | Blame::Record => Self::internal(of, error),
        }
    }
}

/// What any request may be answered instead.
impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let told = [
            (400, "The request is not understood"),
            (401, "No bearer token that is good"),
            (403, "No permission row allows it"),
            (404, "There is no such thing for you"),
            (406, "There is no such format"),
            (409, "It is not the API's to change"),
            (410, "It can no longer be read"),
            (413, "The body is too large"),
            (429, "Too much at once: come again after `Retry-After`"),
            (500, "The node failed; its log says more"),
            (503, "Not now: come again after `Retry-After`"),
        ];
        let one = |(status, told): (u16, &str)| {
            let content = Content::new(Some(Ref::from_schema_name("Problem")));
            let response = ResponseBuilder::new().description(told);
            let response = response.content("application/problem+json", content).build();
            (status.to_string(), RefOr::T(response))
        };
        told.into_iter().map(one).collect()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        match self.status_code() {
            StatusCode::UNAUTHORIZED => {
                answer.insert_header((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                answer.insert_header((RETRY_AFTER, HeaderValue::from_static("1")));
            }
            _ => {}
        }
        let text = serde_json::to_string(self).unwrap_or_default();
        answer.insert_header((CONTENT_TYPE, HeaderValue::from_static("application/problem+json")));
        answer.body(text)
    }
}

impl From<Undecided> for Problem {
    fn from(undecided: Undecided) -> Self {
        Self::unavailable(format!("nothing can be decided now: {undecided}"))
    }
}

impl From<SpoolFull> for Problem {
    fn from(full: SpoolFull) -> Self {
        error!(target: "tidegate::api", %full, "what would have to be recorded is refused");
        Self::unavailable("it cannot be recorded in the audit now, and so is not done")
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::bad_request(refusal.to_string())
    }
}
