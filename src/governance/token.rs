//! Bearer tokens: shown once, kept as hashes.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::written::expiry;
use super::{Grantee, Principal};

/// What every token begins with, so that scanners for secrets know one.
const PREFIX: &str = "tg_";
const ID_BYTES: usize = 9;
const SECRET_BYTES: usize = 32;

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its first part, which is no secret.
    pub id: String,
    pub hash: Vec<u8>,
    pub principal: Principal,
    pub created_by: String,
    /// Milliseconds since the epoch.
    pub expires_at_ms: Option<i64>,
    pub revoked: bool,
}

/// A token as a table has it, which anybody may have written.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenToken {
    pub id: String,
    pub hash: Vec<u8>,
    pub principal: String,
    /// JSON arrays of names.
    pub roles: String,
    pub groups: String,
    pub created_by: String,
    /// RFC 3339; `infinity` for never.
    pub expires_at: Option<String>,
    pub revoked: bool,
}

impl WrittenToken {
    /// The token; one that is not understood is none: who holds it might be denied less than is meant.
    pub fn read(self) -> Result<Token, String> {
        let Self { id, hash, principal, roles, groups, created_by, expires_at, revoked } = self;
        match principal.parse::<Grantee>()? {
            Grantee::User(_) => {}
            other => return Err(format!("{other} is no user")),
        }
        let names = |what: &str, text: &str| -> Result<BTreeSet<String>, String> {
            serde_json::from_str(text).map_err(|error| format!("{what}: {error}"))
        };
        let (roles, groups) = (names("roles", &roles)?, names("groups", &groups)?);
        let expires_at_ms = expiry(expires_at.as_deref())?;
        let principal = Principal { name: principal, roles, groups };
        Ok(Token { id, hash, principal, created_by, expires_at_ms, revoked })
    }
}

/// A token itself. Prints as its id.
pub struct Bearer(String);

impl Bearer {
    /// Made of random bytes.
    pub fn of(random: [u8; ID_BYTES + SECRET_BYTES]) -> Self {
        let (id, secret) = random.split_at(ID_BYTES);
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        Self(format!("{PREFIX}{}.{}", part(id), part(secret)))
    }

    /// For the one who is to have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn id(&self) -> &str {
        id_of(&self.0).unwrap_or_default()
    }

    pub fn hash(&self) -> Vec<u8> {
        hash(&self.0)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}.***", self.id())
    }
}

/// The id of what looks like a token of ours.
pub fn id_of(bearer: &str) -> Option<&str> {
    let (id, secret) = bearer.strip_prefix(PREFIX)?.split_once('.')?;
    let decodes = |text, bytes| URL_SAFE_NO_PAD.decode(text).is_ok_and(|it| it.len() == bytes);
    (decodes(id, ID_BYTES) && decodes(secret, SECRET_BYTES)).then_some(id)
}

fn hash(bearer: &str) -> Vec<u8> {
    Sha256::digest(bearer).to_vec()
}

impl Token {
    /// Whether the bearer has this token, and it is still good.
    pub fn admits(&self, bearer: &str, now_ms: i64) -> bool {
        let good = !self.revoked && self.expires_at_ms.is_none_or(|at| now_ms < at);
        // Of a hash nothing can be guessed byte by byte: whoever asks does not choose it.
        good && hash(bearer) == self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(bearer: &Bearer) -> Token {
        Token {
            id: bearer.id().to_owned(),
            hash: bearer.hash(),
            principal: Principal::user("ada"),
            created_by: "local:root".to_owned(),
            expires_at_ms: Some(1_000),
            revoked: false,
        }
    }

    #[test]
    fn a_token_admits_its_bearer_until_its_end() {
        let [one, other] = [Bearer::of([7; 41]), Bearer::of([8; 41])];
        let token = token(&one);
        assert!(token.admits(one.reveal(), 999));
        assert!(!token.admits(one.reveal(), 1_000));
        assert!(!token.admits(other.reveal(), 0));
        assert!(!Token { revoked: true, ..token.clone() }.admits(one.reveal(), 0));
        let forged = format!("{PREFIX}{}.{}", one.id(), other.reveal().split_once('.').unwrap().1);
        assert!(id_of(&forged) == Some(one.id()) && !token.admits(&forged, 0));
    }

    #[test]
    fn a_token_that_is_not_understood_is_none() {
        let written = || WrittenToken {
            id: "x".to_owned(),
            hash: vec![1],
            principal: "user:ada".to_owned(),
            roles: "[\"analyst\"]".to_owned(),
            groups: "[]".to_owned(),
            created_by: "local:root".to_owned(),
            expires_at: Some("2026-01-31T00:00:00.500Z".to_owned()),
            revoked: false,
        };
        let token = written().read().unwrap();
        assert_eq!(token.expires_at_ms.map(|at| at % 1000), Some(500));
        assert!(token.principal.roles.contains("analyst"));
        for broken in [
            WrittenToken { principal: "ada".to_owned(), ..written() },
            WrittenToken { principal: "role:ada".to_owned(), ..written() },
            WrittenToken { roles: "{}".to_owned(), ..written() },
            WrittenToken { groups: String::new(), ..written() },
            WrittenToken { expires_at: Some("2026-01-31".to_owned()), ..written() },
        ] {
            assert!(broken.read().is_err());
        }
        let never = WrittenToken { expires_at: Some("infinity".to_owned()), ..written() };
        assert_eq!(never.read().unwrap().expires_at_ms, None);
    }

    #[test]
    fn only_tokens_of_ours_have_an_id() {
        let bearer = Bearer::of([0xFF; 41]);
        assert_eq!(id_of(bearer.reveal()), Some(bearer.id()));
        assert!(!format!("{bearer:?}").contains(bearer.reveal().split_once('.').unwrap().1));
        for bad in ["", "tg_", "tg_.", "x", "tg_AAAA.BBBB", &bearer.reveal()[3..], "tg_é.é"] {
            assert_eq!(id_of(bad), None, "{bad}");
        }
    }
}
