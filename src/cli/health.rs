use std::time::Duration;

use reqwest::StatusCode;
use url::Url;

use super::{Exit, NodeFile, block_on, failed};
use crate::telemetry::print::answer;

/// Ask a node whether it lives: for whoever looks after its container and has nothing else in it.
///
/// Without an address the node file says where: `/livez` at `telemetry.listen`. Exit codes: 0 it is well, or
/// answers nobody by its configuration; 1 it is not.
#[derive(Debug, clap::Args)]
pub struct Health {
    #[command(flatten)]
    file: NodeFile,
    /// What to ask instead, such as `http://127.0.0.1:9464/readyz`.
    #[arg(value_name = "URL")]
    url: Option<Url>,
}

/// A node that lives answers at once.
const WITHIN: Duration = Duration::from_secs(3);

impl Health {
    pub fn run(self) -> Exit {
        let url = match self.url {
            Some(url) => url,
            None if !self.file.path().exists() => {
                answer!("{}: no such file, and no address to ask", self.file.path().display());
                return Exit::Good;
            }
            None => {
                let node = match self.file.load() {
                    Ok((node, _)) => node,
                    Err(exit) => return exit,
                };
                let Some(listen) = node.telemetry.listen else {
                    answer!("`telemetry.listen` is not set: the node answers nobody");
                    return Exit::Good;
                };
                match Url::parse(&format!("http://{}/livez", reachable(&listen))) {
                    Ok(url) => url,
                    Err(error) => return failed(format_args!("telemetry.listen: {error}")),
                }
            }
        };
        match block_on(ask(url.clone())) {
            Ok(Ok((StatusCode::OK, _))) => Exit::Good,
            Ok(Ok((status, said))) => failed(format_args!("{url}: {status}: {}", said.trim())),
            Ok(Err(error)) => failed(format_args!("{url}: {error}")),
            Err(exit) => exit,
        }
    }
}

async fn ask(url: Url) -> Result<(StatusCode, String), reqwest::Error> {
    let client = reqwest::Client::builder().timeout(WITHIN).no_proxy().build()?;
    let answer = client.get(url).send().await?;
    Ok((answer.status(), answer.text().await?))
}

/// One that listens everywhere answers here.
fn reachable(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_node_that_listens_everywhere_is_asked_here() {
        assert_eq!(reachable("0.0.0.0:9464"), "127.0.0.1:9464");
        assert_eq!(reachable("[::]:9464"), "[::1]:9464");
        assert_eq!(reachable("10.0.0.7:9464"), "10.0.0.7:9464");
    }
}
