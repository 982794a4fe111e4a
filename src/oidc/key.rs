//! Keys of an issuer, and tokens held against them.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Header, Validation, decode, decode_header,
};
use serde_json::Value;

use crate::governance::Claims;

/// Longest token, in bytes. One with a few hundred groups is shorter.
pub const MOST_TOKEN: usize = 16 << 10;
/// What a token may call itself: others of the same issuer are no proof of who asks, such as those that tell
/// of a logout.
const TYPES: [&str; 4] = ["jwt", "application/jwt", "at+jwt", "application/at+jwt"];

/// A public key, for the algorithms of its type alone.
pub struct Key {
    jwk: Jwk,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.jwk == other.jwk
    }
}

impl Key {
    /// A key out of an issuer's document; none if it is not for signatures, or not of a type that is known.
    pub fn of(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms().to_vec(),
            AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => {
                vec![Algorithm::ES256]
            }
            AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P384 => {
                vec![Algorithm::ES384]
            }
            AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => {
                vec![Algorithm::EdDSA]
            }
            _ => return None,
        };
        if let Some(only) = &jwk.common.key_algorithm {
            let only: Algorithm = only.to_string().parse().ok()?;
            algorithms.retain(|one| *one == only);
        }
        let signs =
            jwk.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
        let verifies = jwk.common.key_operations.as_ref();
        let verifies = verifies.is_none_or(|all| all.contains(&KeyOperations::Verify));
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        (signs && verifies && !algorithms.is_empty()).then_some(Self { jwk, algorithms, key })
    }

    fn id(&self) -> Option<&str> {
        self.jwk.common.key_id.as_deref()
    }
}

/// Which key a token says that it is signed with, and how. Nobody has vouched for that yet.
#[derive(Debug)]
pub struct Head {
    algorithm: Algorithm,
    pub key_id: Option<String>,
}

impl Head {
    /// Errors: it is no token that any key could prove.
    pub fn of(bearer: &str) -> Result<Self, String> {
        if bearer.len() > MOST_TOKEN {
            return Err(format!("a token of {} bytes: more than {MOST_TOKEN}", bearer.len()));
        }
        if bearer.split('.').count() != 3 {
            return Err("a token that is nobody's: neither of ours nor a JWT".to_owned());
        }
        let header = decode_header(bearer)
            .map_err(|error| format!("a token whose header is not understood: {error}"))?;
        let Header { alg: algorithm, kid: key_id, typ, crit, .. } = header;
        if algorithm.family() == AlgorithmFamily::Hmac {
            return Err(format!("a token signed with a shared secret ({algorithm:?})"));
        }
        if let Some(typ) = typ.filter(|it| !TYPES.contains(&it.to_ascii_lowercase().as_str())) {
            return Err(format!("a token of another type ({typ:?})"));
        }
        if crit.is_some() {
            return Err("a token that must not be read without extensions (`crit`)".to_owned());
        }
        Ok(Self { algorithm, key_id })
    }

    /// The key it names; without a name the only one of its type.
    pub fn key<'k, K: AsRef<Key>>(&self, keys: &'k [K]) -> Option<&'k K> {
        let fits = |key: &&K| key.as_ref().algorithms.contains(&self.algorithm);
        let mut fitting = keys
            .iter()
            .filter(fits)
            .filter(|key| self.key_id.is_none() || key.as_ref().id() == self.key_id.as_deref());
        let first = fitting.next();
        first.filter(|_| self.key_id.is_some() || fitting.next().is_none())
    }

    /// Whether the key it names is there, and of another type.
    pub fn misuses<K: AsRef<Key>>(&self, keys: &[K]) -> bool {
        let named = |key: &K| self.key_id.is_some() && key.as_ref().id() == self.key_id.as_deref();
        self.key(keys).is_none() && keys.iter().any(named)
    }

    /// What the token says, if this key signed it.
    pub fn claims(&self, bearer: &str, key: &Key) -> Result<Claims, String> {
        // What the claims are worth is not judged here.
        let mut validation = Validation::new(self.algorithm);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        validation.validate_aud = false;
        let decoded = decode::<Claims>(bearer, &key.key, &validation);
        Ok(decoded
            .map_err(|error| format!("a token that the issuer did not sign: {error}"))?
            .claims)
    }
}
