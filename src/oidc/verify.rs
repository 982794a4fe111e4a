//! Signatures, checked by the cryptography that is here already, for the library that reads tokens.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{self as scheme, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

static RING: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// From now on the library checks signatures with it. Only the first time counts, which is enough.
pub fn install() {
    let _ = RING.install_default();
}

/// Nothing is signed here.
fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

struct Check {
    algorithm: Algorithm,
    key: DecodingKey,
    by: By,
}

enum By {
    /// With a modulus of 2048 to 8192 bits.
    Rsa(&'static RsaParameters),
    Curve(&'static dyn scheme::VerificationAlgorithm),
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let by = match algorithm {
        Algorithm::RS256 => By::Rsa(&scheme::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => By::Rsa(&scheme::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => By::Rsa(&scheme::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => By::Rsa(&scheme::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => By::Rsa(&scheme::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => By::Rsa(&scheme::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => By::Curve(&scheme::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => By::Curve(&scheme::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => By::Curve(&scheme::ED25519),
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    Ok(Box::new(Check { algorithm: *algorithm, key: key.clone(), by }))
}

impl JwtVerifier for Check {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Check {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let checked = match (&self.by, self.key.kind()) {
            (By::Rsa(by), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(by, message, signature)
            }
            (By::Curve(by), DecodingKeyKind::SecretOrDer(key)) => {
                UnparsedPublicKey::new(*by, key).verify(message, signature)
            }
            _ => return Err(Error::new()),
        };
        checked.map_err(|_| Error::new())
    }
}
