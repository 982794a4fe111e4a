//! What an issuer publishes of itself.

use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::key::Key;
use crate::config::Oidc;
use crate::http::{client, with_causes};

/// Largest document, in bytes. Those of large issuers have some tens of thousands.
const MOST: usize = 256 << 10;

pub struct Fetch {
    client: Client,
    issuer: String,
    discovery: Url,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Fetch {
    /// Errors: the address or the certificate cannot be used.
    pub fn open(config: &Oidc) -> Result<Self, String> {
        let issuer = config.issuer.clone();
        let discovery =
            format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let discovery = Oidc::trusted_url(&discovery)
            .ok_or_else(|| format!("api.oidc.issuer: {issuer} is no address to be trusted"))?;
        // Who is led elsewhere trusts whoever leads him.
        let client = client("api.oidc", config.ca.as_deref())?.redirect(Policy::none()).build();
        let client = client.map_err(|error| format!("api.oidc: {}", with_causes(&error)))?;
        Ok(Self { client, issuer, discovery })
    }

    pub fn discovery(&self) -> &str {
        self.discovery.as_str()
    }

    /// The keys that can sign, of which there is at least one.
    pub async fn keys(&self) -> Result<Vec<Key>, String> {
        let Discovery { issuer, jwks_uri } = self.get(&self.discovery).await?;
        if issuer != self.issuer {
            return Err(format!(
                "{} is of the issuer `{issuer:.200}`: if that is the one, write it so into `api.oidc.issuer`",
                self.discovery
            ));
        }
        let at = Oidc::trusted_url(&jwks_uri)
            .filter(|at| at.scheme() == "https" || self.discovery.scheme() == "http")
            .ok_or_else(|| format!("its keys are at no address to be trusted: {jwks_uri:.200}"))?;
        let KeySet { keys } = self.get(&at).await?;
        let keys: Vec<Key> = keys.into_iter().filter_map(Key::of).collect();
        match keys.is_empty() {
            true => Err(format!("{at} has no key that tokens could be checked with")),
            false => Ok(keys),
        }
    }

    async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<T, String> {
        let failed =
            |error: reqwest::Error| format!("{url}: {}", with_causes(&error.without_url()));
        let asking = self.client.get(url.clone()).header(ACCEPT, "application/json");
        let answer = asking.send().await.map_err(failed)?;
        let status = answer.status();
        if !status.is_success() {
            let why =
                if status.is_redirection() { ", and nobody is followed elsewhere" } else { "" };
            return Err(format!("{url} answered {status}{why}"));
        }
        let Some(body) = bounded(answer).await.map_err(failed)? else {
            return Err(format!("{url} answered with more than {MOST} bytes"));
        };
        serde_json::from_slice(&body).map_err(|error| format!("{url} is not understood: {error}"))
    }
}

/// A body, unless it is too large.
async fn bounded(mut answer: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(bytes) = answer.chunk().await? {
        if body.len() + bytes.len() > MOST {
            return Ok(None);
        }
        body.extend_from_slice(&bytes);
    }
    Ok(Some(body))
}
