use chrono::Utc;
use clap::Subcommand;
use serde_json::{Value, json};

use super::permissions::{Who, expiry, hand, with_grants};
use super::{Exit, NodeFile, Output, failed, print_json};
use crate::governance::Token as Kept;
use crate::grants::instant;
use crate::telemetry::print::{answer, tell};

/// Bearer tokens for the API. What is kept of them are hashes.
#[derive(Debug, clap::Args)]
pub struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token for somebody, and show it: this once.
    Create {
        #[command(flatten)]
        file: NodeFile,
        #[command(flatten)]
        who: Who,
        /// When it ends: a time (RFC 3339), or how long from now (`90d`). Default: never.
        #[arg(long, value_name = "WHEN", value_parser = expiry)]
        expires: Option<i64>,
    },
    /// List the tokens, those that have ended among them.
    List {
        #[command(flatten)]
        file: NodeFile,
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// End a token.
    Revoke {
        #[command(flatten)]
        file: NodeFile,
        /// Its id, as `list` shows it.
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
}

impl Token {
    pub fn run(self) -> Exit {
        let done = match self.command {
            Command::Create { file, who, expires } => create(&file, who, expires),
            Command::List { file, output } => list(&file, output),
            Command::Revoke { file, id } => revoke(&file, &id),
        };
        done.unwrap_or_else(|exit| exit)
    }
}

fn create(file: &NodeFile, who: Who, expires: Option<i64>) -> Result<Exit, Exit> {
    let principal = who.principal().map_err(|error| {
        tell!("error: {error}");
        Exit::UsedWrongly
    })?;
    let hand = hand();
    let name = principal.name.clone();
    let bearer =
        with_grants(file, async |grants| grants.create_token(&hand, principal, expires).await)?;
    tell!("token {} for {name}; it is shown this once:", bearer.id());
    answer!("{}", bearer.reveal());
    Ok(Exit::Good)
}

fn list(file: &NodeFile, output: Output) -> Result<Exit, Exit> {
    let tokens = with_grants(file, async |grants| grants.rules().await)?.tokens;
    match output {
        Output::Json => print_json(&tokens.iter().map(token_json).collect::<Vec<_>>()),
        Output::Text if tokens.is_empty() => answer!("There is no token."),
        Output::Text => tokens.iter().for_each(|token| answer!("{}", line(token))),
    }
    Ok(Exit::Good)
}

fn state(token: &Kept) -> &'static str {
    let over = token.expires_at_ms.is_some_and(|at| at <= Utc::now().timestamp_millis());
    match (token.revoked, over) {
        (true, _) => "revoked",
        (false, true) => "expired",
        (false, false) => "good",
    }
}

fn line(token: &Kept) -> String {
    let mut said = format!("{}  {}", token.id, token.principal);
    for role in &token.principal.roles {
        said += &format!(", role {role}");
    }
    for group in &token.principal.groups {
        said += &format!(", group {group}");
    }
    if let Some(at) = token.expires_at_ms {
        said += &format!(", until {}", instant(at));
    }
    format!("{said}  by {}: {}", token.created_by, state(token))
}

fn token_json(token: &Kept) -> Value {
    json!({
        "id": token.id, "principal": token.principal.name, "roles": token.principal.roles,
        "groups": token.principal.groups, "created_by": token.created_by,
        "expires": token.expires_at_ms.map(instant), "state": state(token),
    })
}

fn revoke(file: &NodeFile, id: &str) -> Result<Exit, Exit> {
    let hand = hand();
    match with_grants(file, async |grants| grants.revoke_token(&hand, id).await)? {
        true => {
            answer!("Token {id} has ended.");
            Ok(Exit::Good)
        }
        false => Err(failed(format!("there is no token {id} that has not ended"))),
    }
}
