//! An OpenID Connect issuer, as whoever takes its tokens needs it: its keys, and whom a token is of.
//!
//! * The keys are read from where the issuer says they are, kept, and read again on a clock. A key that is
//!   gone from there ends what was signed with it.
//! * A token with an unknown key has them read at once, by one question for everybody who waits, and at most
//!   every few seconds: else strangers could have us ask without end.
//! * While the issuer is away the keys that were read last count on for `api.oidc.stale_after`. Without any
//!   nothing can be said of its tokens, which is not the same as that they are bad.
//!
//! What a token that is signed well is worth is decided in `governance`.

mod fetch;
mod key;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use chrono::Utc;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex as Gate;
use tracing::{error, info, warn};

use self::fetch::Fetch;
use self::key::{Head, Key, MOST_TOKEN};
use crate::config::Oidc;
use crate::flow::backoff::Backoff;
use crate::governance::{Identity, Unfit, identify};

/// Between two readings of the keys.
const REFRESH: Duration = Duration::from_secs(300);
/// While the issuer is away.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
/// Between two readings for the sake of unknown keys.
const AGAIN_MS: u64 = 5_000;
/// Tokens that are known again without their signature.
const MOST_RECOGNISED: usize = 10_000;
/// Characters of a reason, which may repeat what a stranger wrote.
const MOST_WHY: usize = 250;

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Unfit(Unfit),
    /// Nobody can say now, since no key of the issuer's is known.
    Undecided(String),
}

impl Refusal {
    /// Of what is no token of anybody's.
    pub fn nobodys() -> Self {
        unsigned("a token that is nobody's, or no more".to_owned())
    }
}

/// A token that was good when it was looked at.
#[derive(Clone)]
pub struct SignIn {
    pub identity: Identity,
    key: Arc<Key>,
}

pub struct Issuer {
    expected: Oidc,
    fetch: Fetch,
    held: Mutex<Held>,
    /// One question at a time. Inside: when keys were last read for an unknown one.
    asking: Gate<Option<i64>>,
}

#[derive(Default)]
struct Held {
    keys: Vec<Arc<Key>>,
    /// When they were read, milliseconds since the epoch.
    read_at_ms: Option<i64>,
    /// Good tokens by their hashes.
    recognised: HashMap<[u8; 32], SignIn>,
    told: Told,
}

/// What the log knows.
#[derive(Default, PartialEq)]
enum Told {
    #[default]
    Nothing,
    Read,
    Away,
    Stale,
}

impl Issuer {
    /// Asks nobody yet. Errors: the address or the certificate cannot be used.
    pub fn open(config: &Oidc) -> Result<Self, String> {
        verify::install();
        Ok(Self {
            expected: config.clone(),
            fetch: Fetch::open(config)?,
            held: Mutex::default(),
            asking: Gate::default(),
        })
    }

    /// Where it says of itself who it is.
    pub fn discovery(&self) -> &str {
        self.fetch.discovery()
    }

    /// Whose a token is that was good before, and still is. Checks no signature.
    pub fn recognise(&self, bearer: &str, now_ms: i64) -> Option<SignIn> {
        if bearer.len() > MOST_TOKEN {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(bearer).into();
        let known = self.held().recognised.get(&hash).cloned();
        known.filter(|sign_in| self.still(sign_in, now_ms))
    }

    /// Whether a token that was good still is.
    pub fn still(&self, sign_in: &SignIn, now_ms: i64) -> bool {
        let held = self.held();
        now_ms < sign_in.identity.expires_at_ms
            && held.fresh(&self.expected, now_ms)
            && held.keys.contains(&sign_in.key)
    }

    /// Whose a token is. May ask the issuer.
    pub async fn identify(&self, bearer: &str, now_ms: i64) -> Result<SignIn, Refusal> {
        let head = Head::of(bearer).map_err(unsigned)?;
        let asked = Instant::now();
        let key = self.key(&head, now_ms).await?;
        // The token may have ended while the issuer was asked.
        let now_ms = now_ms + asked.elapsed().as_millis() as i64;
        let claims = head.claims(bearer, &key).map_err(unsigned)?;
        let identity = identify(&claims, &self.expected, now_ms).map_err(Refusal::Unfit)?;
        let sign_in = SignIn { identity, key };
        self.held().recognise(bearer, &sign_in, now_ms);
        Ok(sign_in)
    }

    async fn key(&self, head: &Head, now_ms: i64) -> Result<Arc<Key>, Refusal> {
        if let Some(key) = self.known(head, now_ms)? {
            return Ok(key);
        }
        {
            let mut asked = self.asking.lock().await;
            // Somebody may have asked meanwhile.
            if let Some(key) = self.known(head, now_ms)? {
                return Ok(key);
            }
            if asked.is_none_or(|at| now_ms.abs_diff(at) >= AGAIN_MS) {
                *asked = Some(now_ms);
                let _ = self.read(now_ms).await;
            }
        }
        if let Some(key) = self.known(head, now_ms)? {
            return Ok(key);
        }
        if !self.held().fresh(&self.expected, now_ms) {
            return Err(Refusal::Undecided(format!(
                "no key of the issuer {} is known: it does not answer",
                self.expected.issuer
            )));
        }
        let named = head.key_id.as_ref().map_or("none".to_owned(), |id| format!("{id:?}"));
        Err(unsigned(format!("a token of an unknown key ({named})")))
    }

    /// The key for a token; none if it may be one that is not known yet.
    fn known(&self, head: &Head, now_ms: i64) -> Result<Option<Arc<Key>>, Refusal> {
        let held = self.held();
        if !held.fresh(&self.expected, now_ms) {
            return Ok(None);
        }
        match head.misuses(&held.keys) {
            true => Err(unsigned("a token whose algorithm is not its key's".to_owned())),
            false => Ok(head.key(&held.keys).cloned()),
        }
    }

    /// Reads the keys anew, when nobody else does.
    async fn refresh(&self, now_ms: i64) -> Result<(), ()> {
        let _asking = self.asking.lock().await;
        self.read(now_ms).await
    }

    async fn read(&self, now_ms: i64) -> Result<(), ()> {
        let read = self.fetch.keys().await;
        let issuer = &self.expected.issuer;
        let mut held = self.held();
        let (told, result) = match read {
            Ok(keys) => {
                held.put(keys, now_ms);
                (Told::Read, Ok(()))
            }
            Err(error) => {
                let fresh = held.fresh(&self.expected, now_ms);
                let told = if fresh { Told::Away } else { Told::Stale };
                if told == Told::Away && held.told != told {
                    warn!(target: "tidegate::oidc", issuer, error, "the issuer's keys cannot be read; going by the last ones");
                } else if held.told != told {
                    error!(target: "tidegate::oidc", issuer, error, "the issuer's keys cannot be read: its tokens are refused");
                }
                (told, Err(()))
            }
        };
        if told == Told::Read && held.told != told {
            info!(target: "tidegate::oidc", issuer, keys = held.keys.len(), "the issuer's keys are read");
        }
        held.told = told;
        result
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn fresh(&self, expected: &Oidc, now_ms: i64) -> bool {
        let most = expected.stale_after.get();
        // Of a clock that was set back nobody knows how long ago it was.
        self.read_at_ms.is_some_and(|at| Duration::from_millis(now_ms.abs_diff(at)) <= most)
    }

    fn put(&mut self, keys: Vec<Key>, now_ms: i64) {
        self.keys = keys.into_iter().map(Arc::new).collect();
        let keys = &self.keys;
        self.recognised.retain(|_, known| keys.contains(&known.key));
        self.read_at_ms = Some(now_ms);
    }

    fn recognise(&mut self, bearer: &str, sign_in: &SignIn, now_ms: i64) {
        if self.recognised.len() >= MOST_RECOGNISED {
            self.recognised.retain(|_, known| now_ms < known.identity.expires_at_ms);
        }
        if self.recognised.len() >= MOST_RECOGNISED {
            self.recognised.clear();
        }
        self.recognised.insert(Sha256::digest(bearer).into(), sign_in.clone());
    }
}

/// Of a token that nobody has proven no name is believed, and of what it holds little is repeated.
fn unsigned(why: String) -> Refusal {
    let why = why.chars().filter(|it| !it.is_control()).take(MOST_WHY).collect();
    Refusal::Unfit(Unfit { who: None, why })
}

/// Reads the keys at once, and again on a clock for as long as anybody has the issuer.
pub async fn tend(issuer: Weak<Issuer>) {
    let mut attempt = 0;
    while let Some(living) = issuer.upgrade() {
        let wait = match living.refresh(Utc::now().timestamp_millis()).await {
            Ok(()) => {
                attempt = 0;
                REFRESH.min(living.expected.stale_after.get() / 2)
            }
            Err(()) => {
                attempt += 1;
                RETRY.wait(attempt - 1, rand::random())
            }
        };
        drop(living);
        tokio::time::sleep(wait).await;
    }
}
