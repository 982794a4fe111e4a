//! A node's API in the place of the database: a command then does what its token's principal may.

use std::path::PathBuf;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::{Host, Url};

use super::{Exit, block_on, failed};
use crate::config::SecretText;
use crate::http::{client, with_causes};
use crate::telemetry::print::tell;

/// The variable that holds a token, unless a file does.
const TOKEN: &str = "TIDEGATE_TOKEN";

#[derive(Debug, Clone, clap::Args)]
pub struct Server {
    /// Act through the API of the node at this address, as the one whose token it is, and not at the database
    /// that the node file names.
    #[arg(long, value_name = "URL", value_parser = address)]
    server: Option<Url>,
    /// File that holds the token. Default: the variable TIDEGATE_TOKEN.
    #[arg(long, value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
    /// PEM file of the authority that signed the API's certificate, beside the system's.
    #[arg(long, value_name = "FILE", requires = "server")]
    ca: Option<PathBuf>,
}

/// A token is not to be sent where anybody can read it on its way.
fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if here => Ok(url),
        _ => Err("an `https://` address, or an `http://` one of this machine".to_owned()),
    }
}

/// A node that answers for a token.
pub struct Remote {
    base: Url,
    token: SecretText,
    client: Client,
}

impl Server {
    /// None: it is the database that is meant.
    pub fn remote(&self) -> Result<Option<Remote>, Exit> {
        let Some(base) = self.server.clone() else { return Ok(None) };
        let wrong = |why: String| {
            tell!("error: {why}");
            Exit::UsedWrongly
        };
        let token = match &self.token_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| wrong(format!("--token-file: {}: {error}", path.display())))?,
            None => std::env::var(TOKEN).map_err(|_| {
                wrong(format!("--server needs a token: in the variable {TOKEN}, or a --token-file"))
            })?,
        };
        let token = SecretText::new(token.trim().to_owned());
        let client = client("--server", self.ca.as_deref()).map_err(&wrong)?;
        // Where the token is sent is what was said, and nowhere else.
        let mut client = client.redirect(Policy::none());
        if base.scheme() == "http" {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| wrong(with_causes(&error)))?;
        Ok(Some(Remote { base, token, client }))
    }
}

impl Remote {
    pub fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, Exit> {
        let answer = self.answer(self.request(Method::GET, path).query(query))?;
        serde_json::from_str(&answer).map_err(|error| failed(format!("an odd answer: {error}")))
    }

    /// Null where there is nothing to say.
    pub fn post(&self, path: &[&str], body: &impl Serialize) -> Result<Value, Exit> {
        let body = serde_json::to_string(body).map_err(failed)?;
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/json");
        let answer = self.answer(request.body(body))?;
        Ok(serde_json::from_str(&answer).unwrap_or_default())
    }

    pub fn delete(&self, path: &[&str], query: &[(&str, String)]) -> Result<(), Exit> {
        self.answer(self.request(Method::DELETE, path).query(query)).map(drop)
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.client.request(method, url).bearer_auth(self.token.reveal())
    }

    fn answer(&self, request: RequestBuilder) -> Result<String, Exit> {
        let asking = async {
            let answer = request.send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.text().await?))
        };
        let (status, text) = block_on(asking)?
            .map_err(|error| failed(format!("{}: {}", self.base, with_causes(&error))))?;
        if status.is_success() {
            return Ok(text);
        }
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let detail = problem["detail"].as_str().or(problem["title"].as_str());
        Err(failed(format!("{} answers {status}: {}", self.base, detail.unwrap_or("no reason"))))
    }
}
