//! Questions and answers over HTTP.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use url::Url;

use super::Away;
use crate::config::{SchemaRegistry, Secret};
use crate::flow::backoff::Backoff;
use crate::http::{client, with_causes};

/// A failure that may pass at once is not worth telling of.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
const RETRIES: u32 = 2;
const ACCEPTED: &str = "application/vnd.schemaregistry.v1+json, application/json";

pub struct Http {
    client: Client,
    pub base: Url,
    sign_in: SignIn,
}

enum SignIn {
    No,
    Basic(String, Secret),
    Bearer(Secret),
}

/// A schema, under its id or as a version of its subject.
#[derive(Debug, Deserialize)]
pub struct Body {
    pub schema: String,
    #[serde(rename = "schemaType")]
    pub kind: Option<String>,
    #[serde(default, deserialize_with = "null_as_none")]
    pub references: Vec<Reference>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Reference {
    pub subject: String,
    pub version: i32,
}

fn null_as_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Reference>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct Refusal {
    error_code: i64,
    #[serde(default)]
    message: String,
}

pub enum Said {
    Body(Body),
    /// In the registry's own words: it has no such thing.
    Missing(String),
}

/// A failure, and whether trying again at once may help.
struct Failure {
    reason: String,
    passing: bool,
}

impl Http {
    pub fn open(config: &SchemaRegistry) -> Result<Self, String> {
        let base = Url::parse(&config.url).map_err(|error| error.to_string())?;
        let client = client("schema_registry", config.ca.as_deref())?;
        let client = client.build();
        let client = client.map_err(|error| format!("schema_registry: {}", with_causes(&error)))?;
        let sign_in = match (&config.username, &config.password, &config.token) {
            (Some(username), Some(password), _) => {
                SignIn::Basic(username.clone(), password.clone())
            }
            (_, _, Some(token)) => SignIn::Bearer(token.clone()),
            _ => SignIn::No,
        };
        Ok(Self { client, base, sign_in })
    }

    pub async fn get(&self, path: &[String]) -> Result<Said, Away> {
        let mut attempt = 0;
        loop {
            match self.get_once(path).await {
                Ok(said) => return Ok(said),
                Err(failure) if failure.passing && attempt < RETRIES => {
                    tokio::time::sleep(RETRY.wait(attempt, rand::random())).await;
                    attempt += 1;
                }
                Err(failure) => return Err(Away::new(failure.reason)),
            }
        }
    }

    async fn get_once(&self, path: &[String]) -> Result<Said, Failure> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if path[0] == "subjects" {
            // What a schema refers to may be deleted for writers, and is there for readers.
            url.query_pairs_mut().append_pair("deleted", "true");
        }
        let passing = |error: reqwest::Error| Failure {
            reason: with_causes(&error.without_url()),
            passing: true,
        };
        let mut asking = self.client.get(url).header(ACCEPT, ACCEPTED);
        if let Some(header) = self.authorization()? {
            asking = asking.header(AUTHORIZATION, header);
        }
        let answer = asking.send().await.map_err(passing)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(passing)?;
        if status.is_success() {
            let read = serde_json::from_slice(&body);
            return read.map(Said::Body).map_err(|error| Failure {
                reason: format!("it answered {status} with what is no schema ({error}); is `schema_registry.url` the address below which `/schemas` lies?"),
                passing: false,
            });
        }
        let refusal: Option<Refusal> = serde_json::from_slice(&body).ok();
        if let (StatusCode::NOT_FOUND, Some(refusal)) = (status, &refusal)
            && (40_400..40_500).contains(&refusal.error_code)
        {
            return Ok(Said::Missing(format!("it says: {}", refusal.message)));
        }
        let words = refusal.map(|refusal| format!(": {}", refusal.message)).unwrap_or_default();
        let remedy = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "; see `schema_registry.username`, `password` and `token`"
            }
            StatusCode::NOT_FOUND => {
                "; is `schema_registry.url` the address below which `/schemas` lies?"
            }
            _ => "",
        };
        let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(Failure { reason: format!("it answered {status}{words}{remedy}"), passing })
    }

    /// Read each time it is needed, which is seldom: a credential may be changed under way.
    fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let read =
            |secret: &Secret| secret.read().map_err(|reason| Failure { reason, passing: false });
        let text = match &self.sign_in {
            SignIn::No => return Ok(None),
            SignIn::Basic(username, password) => {
                let pair = format!("{username}:{}", read(password)?.reveal());
                format!("Basic {}", STANDARD.encode(pair))
            }
            SignIn::Bearer(token) => format!("Bearer {}", read(token)?.reveal()),
        };
        let mut header = HeaderValue::from_str(&text).map_err(|_| Failure {
            reason: "`schema_registry.token` holds what no header can".to_owned(),
            passing: false,
        })?;
        header.set_sensitive(true);
        Ok(Some(header))
    }
}
