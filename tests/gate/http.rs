//! Questions over HTTP, as any client asks them.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::node::Node;
use crate::servers::wait_for;
use crate::source_place::SOON;

/// Somebody with a token, or nobody.
#[derive(Clone)]
pub struct Caller {
    pub base: String,
    pub token: Option<String>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

/// Where a node's API answers, as its log says.
pub fn base(node: &Node) -> String {
    wait_for("the API to answer", SOON, || {
        let log = node.log();
        let line = log.lines().find(|line| line.contains("the API answers"))?;
        let at = line.split("at=").nth(1)?.trim_matches('"');
        Some(format!("http://{}", at.split(['"', ' ']).next()?))
    })
}

impl Caller {
    pub fn new(node: &Node, token: Option<&str>) -> Self {
        Self { base: base(node), token: token.map(str::to_owned) }
    }

    pub fn with(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], None)
    }

    /// In another format than JSON lines.
    pub fn get_as(&self, path: &str, accept: &str) -> Answer {
        self.ask(Method::GET, path, &[("accept", accept)], None)
    }

    pub fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let runtime = Runtime::new().expect("a runtime");
        let url = format!("{}{path}", self.base);
        runtime.block_on(async {
            let client = Client::builder().timeout(Duration::from_secs(60)).build();
            let mut request = client.expect("a client").request(method, &url);
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(body) = body {
                request = request.header("content-type", "application/json").body(body.to_string());
            }
            let answer = request.send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
            let status = answer.status();
            let text = |value: &reqwest::header::HeaderValue| {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            let headers = answer.headers().iter();
            let headers = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
            let body = answer.bytes().await.unwrap_or_else(|error| panic!("{url}: {error}"));
            Answer { status, headers, body: body.to_vec() }
        })
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The rows of JSON lines.
    pub fn rows(&self) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        let line = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        self.text().lines().map(line).collect()
    }

    /// The problem's word, with its status checked against its body.
    pub fn problem(&self) -> (u16, String) {
        let problem = self.json();
        assert_eq!(self.headers["content-type"], "application/problem+json", "{problem}");
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        let kind = problem["type"].as_str().expect("a type");
        let word = kind.strip_prefix("urn:tidegate:problem:").expect("one of ours").to_owned();
        (self.status.as_u16(), word)
    }

    /// Path and query of the next page.
    pub fn next(&self) -> Option<String> {
        let link = self.headers.get("link")?;
        let (url, rel) = link.split_once(">; ").expect("a link");
        assert_eq!(rel, "rel=\"next\"");
        Some(url.trim_start_matches('<').to_owned())
    }
}
