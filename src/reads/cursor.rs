//! Where to go on, for whoever asked before: sealed, since it names rows that he may not see.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::governance::Salt;
use crate::lake::scan::{Pin, Position};
use crate::warehouse::After;

/// Where a reading stood, and what for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    pub principal: String,
    pub feed: String,
    /// Of what else was asked, and of what could be seen: with another answer it means nothing.
    pub asked: Vec<u8>,
    pub place: Place,
    /// Milliseconds since the epoch.
    pub made_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Place {
    /// In the lake: so many of the rows that are seen from the position on were given already.
    Lake { pin: Pin, from: Position, given: u64 },
    /// In the warehouse: behind this row.
    Warehouse(After),
}

/// Makes and opens cursors. All nodes that know an installation's salt make and open the same.
#[derive(Clone)]
pub struct Seal {
    key: LessSafeKey,
}

impl Seal {
    /// None if the key cannot be used, which no salt's hash is refused for.
    pub fn of(salt: &Salt) -> Option<Self> {
        let key = Sha256::new().chain_update(b"tidegate cursor 1").chain_update(salt.bytes());
        let key = UnboundKey::new(&AES_256_GCM, &key.finalize()).ok()?;
        Some(Self { key: LessSafeKey::new(key) })
    }

    /// The cursor as text for a URL; none where it is too long to be one.
    pub fn close(&self, cursor: &Cursor) -> Option<String> {
        let mut text = serde_json::to_vec(cursor).ok()?;
        let nonce: [u8; NONCE_LEN] = rand::random();
        let sealed = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(sealed, Aad::empty(), &mut text).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &text].concat()))
    }

    /// The cursor, if it is one of ours, of the principal, and no older than `life`.
    pub fn open(&self, text: &str, principal: &str, now_ms: i64, life: Duration) -> Option<Cursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let text = self.key.open_in_place(nonce, Aad::empty(), &mut sealed).ok()?;
        let cursor: Cursor = serde_json::from_slice(text).ok()?;
        let age = now_ms.saturating_sub(cursor.made_ms);
        let young = u128::try_from(age).is_ok_and(|age| age <= life.as_millis());
        (cursor.principal == principal && young).then_some(cursor)
    }
}
