//! HTTP clients, as every room that asks somebody opens one.

#[cfg(test)]
pub mod double;

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder};

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A client for what the node file calls `field`, which believes the authority in its `ca` beside the
/// system's. Errors: that file cannot be used.
pub fn client(field: &str, ca: Option<&Path>) -> Result<ClientBuilder, String> {
    let mut client = Client::builder()
        .connect_timeout(CONNECT_WITHIN)
        .timeout(ANSWER_WITHIN)
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = ca {
        let wrong =
            |error: &dyn Error| format!("{field}.ca: {}: {}", path.display(), with_causes(error));
        let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
        let all = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(&error))?;
        for certificate in all {
            client = client.add_root_certificate(certificate);
        }
    }
    Ok(client)
}

/// An error with what caused it: the library's first words are only that something failed.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}
