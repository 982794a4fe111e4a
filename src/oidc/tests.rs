//! An issuer whose keys are made here: every way in which a token can be wrong, and every way of the keys.

use std::process::Command;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    self as scheme, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding,
    RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::*;
use crate::governance::Principal;
use crate::http::double::Double;

const NOW: i64 = 1_800_000_000_000;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A private key.
enum Signer {
    Rsa(&'static RsaKeyPair),
    Ec(&'static EcdsaSigningAlgorithm, Vec<u8>),
    Ed(Ed25519KeyPair),
}

/// Two keys: making one takes a while.
fn rsa(number: usize) -> Signer {
    static KEYS: [OnceLock<RsaKeyPair>; 2] = [const { OnceLock::new() }; 2];
    Signer::Rsa(KEYS[number].get_or_init(|| {
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"])
            .output()
            .unwrap();
        let made = PrivatePkcs8KeyDer::from_pem_slice(&made.stdout).unwrap();
        RsaKeyPair::from_pkcs8(made.secret_pkcs8_der()).unwrap()
    }))
}

fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> Signer {
    let made = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
    Signer::Ec(algorithm, made.as_ref().to_vec())
}

fn p256() -> Signer {
    ec(&scheme::ECDSA_P256_SHA256_FIXED_SIGNING)
}

fn p384() -> Signer {
    ec(&scheme::ECDSA_P384_SHA384_FIXED_SIGNING)
}

fn ed() -> Signer {
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Signer::Ed(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
}

impl Signer {
    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    "RS384" => &scheme::RSA_PKCS1_SHA384,
                    "RS512" => &scheme::RSA_PKCS1_SHA512,
                    "PS256" => &scheme::RSA_PSS_SHA256,
                    "PS384" => &scheme::RSA_PSS_SHA384,
                    "PS512" => &scheme::RSA_PSS_SHA512,
                    _ => &scheme::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ec(algorithm, key) => {
                let key = EcdsaKeyPair::from_pkcs8(algorithm, key, &random).unwrap();
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    fn token(&self, header: Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let algorithm = header["alg"].as_str().unwrap_or_default();
        format!("{message}.{}", b64(self.sign(algorithm, message.as_bytes())))
    }

    fn public(&self, id: &str) -> Value {
        match self {
            Self::Rsa(key) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = key.public().into();
                json!({"kty": "RSA", "kid": id, "use": "sig", "n": b64(n), "e": b64(e)})
            }
            Self::Ec(algorithm, key) => {
                let key = EcdsaKeyPair::from_pkcs8(algorithm, key, &SystemRandom::new()).unwrap();
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if point.len() == 64 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "kid": id, "crv": curve, "x": b64(x), "y": b64(y)})
            }
            Self::Ed(key) => {
                let x = key.public_key().as_ref();
                json!({"kty": "OKP", "kid": id, "crv": "Ed25519", "x": b64(x)})
            }
        }
    }
}

/// An issuer that publishes what the test says; none while it is away.
struct Place {
    double: Double,
    published: Arc<Mutex<Option<Value>>>,
    issuer: Issuer,
}

impl Place {
    fn new(keys: Value) -> Self {
        Self::with(Some(json!({"keys": keys})), "")
    }

    fn with(keys: Option<Value>, rest: &str) -> Self {
        let published = Arc::new(Mutex::new(keys));
        let (answered, at) = (published.clone(), Arc::new(OnceLock::<String>::new()));
        let url = at.clone();
        let double = Double::start(move |path, _| match (&*answered.lock().unwrap(), path) {
            (None, _) => (503, String::new()),
            (_, "/a/.well-known/openid-configuration") => {
                let url = url.get().unwrap();
                let about =
                    json!({"issuer": format!("{url}/a"), "jwks_uri": format!("{url}/keys")});
                (200, about.to_string())
            }
            (Some(keys), "/keys") => (200, keys.to_string()),
            _ => (404, String::new()),
        });
        at.set(double.url.clone()).unwrap();
        let issuer = Issuer::open(&config(&format!("{}/a", double.url), rest)).unwrap();
        Self { double, published, issuer }
    }

    fn publish(&self, keys: Option<Value>) {
        *self.published.lock().unwrap() = keys.map(|keys| json!({"keys": keys}));
    }

    fn claims(&self) -> Value {
        json!({"iss": format!("{}/a", self.double.url), "aud": "tidegate", "sub": "ada",
               "exp": NOW / 1000 + 7200})
    }

    fn token(&self, signer: &Signer, header: Value) -> String {
        signer.token(header, &self.claims())
    }

    async fn identify(&self, token: &str, now_ms: i64) -> Result<Principal, Refusal> {
        let found = self.issuer.identify(token, now_ms).await;
        found.map(|sign_in| sign_in.identity.principal)
    }

    /// How often its keys were asked for.
    fn asked(&self) -> usize {
        self.double.paths().iter().filter(|path| path.ends_with("openid-configuration")).count()
    }
}

fn config(issuer: &str, rest: &str) -> Oidc {
    serde_saphyr::from_str(&format!("{{issuer: '{issuer}', audience: tidegate, {rest}}}")).unwrap()
}

fn why(refused: Result<Principal, Refusal>) -> String {
    match refused.unwrap_err() {
        Refusal::Unfit(Unfit { who: None, why }) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_algorithm_counts_with_its_own_keys() {
    let signers = [("r", rsa(0)), ("e", p256()), ("f", p384()), ("d", ed())];
    let keys: Vec<Value> = signers.iter().map(|(id, signer)| signer.public(id)).collect();
    let place = Place::new(json!(keys));
    let rsas = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    let rsas = rsas.map(|name| (name, "r")).into_iter();
    for (algorithm, id) in rsas.chain([("ES256", "e"), ("ES384", "f"), ("EdDSA", "d")]) {
        let signer = &signers.iter().find(|(of, _)| *of == id).unwrap().1;
        for header in
            [json!({"alg": algorithm, "kid": id}), json!({"alg": algorithm, "typ": "at+jwt"})]
        {
            let token = place.token(signer, header);
            let found = place.identify(&token, NOW).await;
            assert_eq!(found, Ok(Principal::user("ada")), "{algorithm}");
            // A byte of it changed anywhere is another token.
            let (rest, signature) = token.rsplit_once('.').unwrap();
            let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
            bytes[7] ^= 1;
            let forged = format!("{rest}.{}", b64(bytes));
            let why = why(place.identify(&forged, NOW).await);
            assert!(why.contains("did not sign"), "{algorithm}: {why}");
        }
        for (other, _) in signers.iter().filter(|(of, _)| *of != id) {
            let token = place.token(signer, json!({"alg": algorithm, "kid": other}));
            let why = why(place.identify(&token, NOW).await);
            assert!(why.contains("not its key's"), "{algorithm} with {other}: {why}");
        }
    }
    assert_eq!(place.asked(), 1);
}

#[tokio::test]
async fn what_no_key_of_the_issuers_signed_is_refused_with_the_reason() {
    let signer = rsa(0);
    let place = Place::new(json!([signer.public("r"), p256().public("e")]));
    let good = place.token(&signer, json!({"alg": "RS256", "kid": "r"}));
    let claims = b64(place.claims().to_string());
    let with = |header: Value| place.token(&signer, header);
    // The public key, as everybody has it, in the place of a secret.
    let public = signer.public("r");
    let hmac = |secret: &[u8]| {
        let message = format!("{}.{claims}", b64(r#"{"alg":"HS256","kid":"r"}"#));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        format!("{message}.{}", b64(ring::hmac::sign(&key, message.as_bytes())))
    };
    let modulus = URL_SAFE_NO_PAD.decode(public["n"].as_str().unwrap()).unwrap();
    let [header, _, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let mallory = b64(place.claims().to_string().replace("ada", "eve"));
    let stranger = p256();
    let cases = [
        (String::new(), "nobody's"),
        ("..".to_owned(), "header is not understood"),
        (good.replace('.', ":"), "nobody's"),
        (format!("{good}.x"), "nobody's"),
        (good.replacen("ey", "tg_", 1), "header is not understood"),
        (format!("{header}.{mallory}.{signature}"), "did not sign"),
        (format!("{header}.{claims}."), "did not sign"),
        (format!("{}.{claims}.", b64(r#"{"alg":"none"}"#)), "`none`"),
        (format!("{}.{claims}.{signature}", b64(r#"{"alg":"NONE","kid":"r"}"#)), "`NONE`"),
        (hmac(public.to_string().as_bytes()), "shared secret"),
        (hmac(&modulus), "shared secret"),
        (place.token(&rsa(1), json!({"alg": "RS256", "kid": "r"})), "did not sign"),
        (place.token(&stranger, json!({"alg": "ES256", "kid": "e"})), "did not sign"),
        (place.token(&stranger, json!({"alg": "ES256"})), "did not sign"),
        (with(json!({"alg": "RS256", "kid": "unknown"})), "unknown key (\"unknown\")"),
        // What a token brings along is no key of the issuer's.
        (
            place.token(
                &stranger,
                json!({"alg": "ES256", "kid": "mine", "jwk": stranger.public("mine"),
                       "jku": format!("{}/keys", place.double.url)}),
            ),
            "unknown key",
        ),
        (with(json!({"alg": "RS256", "kid": "r", "typ": "logout+jwt"})), "another type"),
        (with(json!({"alg": "RS256", "kid": "r", "crit": ["exp"]})), "extensions"),
        // It is read by people at terminals.
        (with(json!({"alg": format!("\u{1b}[2J{}", "x".repeat(5000))})), "unknown variant `[2Jxxx"),
        (with(json!({"alg": "RS256", "kid": "k".repeat(9000)})), "unknown key (\"kkk"),
        (with(json!({"alg": "RS256", "kid": "r", "x": "x".repeat(16 << 10)})), "bytes: more than"),
    ];
    for (token, reason) in cases {
        let why = why(place.identify(&token, NOW).await);
        assert!(why.contains(reason), "{reason}: {why} of {token:.80}");
        assert!(why.len() < 500 && !why.contains(char::is_control), "{why}");
        assert_eq!(place.issuer.recognise(&token, NOW).map(|_| ()), None);
    }
    assert_eq!(place.identify(&good, NOW).await, Ok(Principal::user("ada")));
}

#[tokio::test]
async fn a_token_that_is_signed_well_and_no_good_tells_whose_it_was() {
    let signer = p256();
    let place = Place::new(json!([signer.public("e")]));
    let unfit = async |name: &str, value: Value| {
        let mut claims = place.claims();
        claims[name] = value;
        let token = signer.token(json!({"alg": "ES256", "kid": "e"}), &claims);
        match place.identify(&token, NOW).await.unwrap_err() {
            Refusal::Unfit(Unfit { who, why }) => (who.unwrap_or_default(), why),
            other => panic!("{other:?}"),
        }
    };
    let (who, why) = unfit("exp", json!(NOW / 1000 - 1)).await;
    assert!(who == "user:ada" && why.contains("expired"), "{who} {why}");
    let (who, why) = unfit("aud", json!("other")).await;
    assert!(who == "user:ada" && why.contains("audience"), "{who} {why}");
    let (who, why) = unfit("iss", json!("https://other")).await;
    assert!(who.is_empty() && why.contains("another issuer"), "{who} {why}");
}

#[tokio::test]
async fn keys_are_asked_for_once_and_again_for_an_unknown_one_but_not_for_every_stranger() {
    let (old, new) = (p256(), p256());
    let place = Place::new(json!([old.public("old")]));
    let token = place.token(&old, json!({"alg": "ES256", "kid": "old"}));
    let many = (0..20).map(|_| place.identify(&token, NOW));
    assert!(futures::future::join_all(many).await.iter().all(Result::is_ok));
    assert_eq!(place.asked(), 1, "by one for all who wait");
    let unknown = place.token(&new, json!({"alg": "ES256", "kid": "new"}));
    assert!(why(place.identify(&unknown, NOW).await).contains("unknown key"));
    assert_eq!(place.asked(), 1, "not so soon");
    place.publish(Some(json!([new.public("new")])));
    let later = NOW + AGAIN_MS as i64;
    let strangers = (0..50).map(|number| {
        let header = json!({"alg": "ES256", "kid": format!("stranger {number}")});
        let token = place.token(&old, header);
        let place = &place;
        async move { place.identify(&token, later).await }
    });
    let refused = futures::future::join_all(strangers).await;
    assert!(refused.into_iter().all(|it| why(it).contains("unknown key")));
    assert_eq!(place.asked(), 2);
    // The keys have changed on the way.
    assert_eq!(place.identify(&unknown, later).await, Ok(Principal::user("ada")));
    assert!(why(place.identify(&token, later).await).contains("unknown key"));
    assert_eq!(place.asked(), 2);
}

#[tokio::test]
async fn a_token_is_known_again_until_it_ends_or_its_key_does() {
    let (old, new) = (p256(), p256());
    let place = Place::with(Some(json!({"keys": [old.public("old")]})), "stale_after: 10h");
    let token = place.token(&old, json!({"alg": "ES256", "kid": "old"}));
    assert!(place.issuer.recognise(&token, NOW).is_none());
    let sign_in = place.issuer.identify(&token, NOW).await.ok().unwrap();
    let end = sign_in.identity.expires_at_ms;
    let known = |now_ms| {
        let still = place.issuer.still(&sign_in, now_ms);
        assert_eq!(place.issuer.recognise(&token, now_ms).is_some(), still);
        still
    };
    assert!(known(NOW) && known(end - 1) && !known(end));
    // The same keys in another reading, and one more.
    place.publish(Some(json!([old.public("old")])));
    place.issuer.refresh(NOW + 1).await.unwrap();
    assert!(known(NOW + 1));
    place.publish(Some(json!([old.public("old"), new.public("new")])));
    place.issuer.refresh(NOW + 2).await.unwrap();
    assert!(place.issuer.still(&sign_in, NOW + 2));
    // Another key under its name.
    place.publish(Some(json!([new.public("old")])));
    place.issuer.refresh(NOW + 3).await.unwrap();
    assert!(!known(NOW + 3));
    assert!(why(place.identify(&token, NOW + 3).await).contains("did not sign"));
}

#[tokio::test]
async fn while_the_issuer_is_away_its_last_keys_count_for_a_while() {
    let signer = p256();
    let keys = Some(json!([signer.public("e")]));
    let place = Place::with(None, "stale_after: 30m");
    let token = place.token(&signer, json!({"alg": "ES256", "kid": "e"}));
    let undecided = async |now_ms| match place.identify(&token, now_ms).await {
        Err(Refusal::Undecided(why)) => assert!(why.contains("does not answer"), "{why}"),
        other => panic!("{other:?}"),
    };
    // At its start a node may find nobody.
    undecided(NOW).await;
    place.publish(keys.clone());
    undecided(NOW + 1).await;
    let begun = NOW + AGAIN_MS as i64;
    let sign_in = place.issuer.identify(&token, begun).await.ok().unwrap();
    place.publish(None);
    let last = begun + 30 * 60_000;
    assert!(place.issuer.refresh(last - 1).await.is_err());
    assert!(place.identify(&token, last).await.is_ok());
    assert!(place.issuer.still(&sign_in, last) && !place.issuer.still(&sign_in, last + 1));
    undecided(last + 1).await;
    place.publish(keys);
    assert!(place.identify(&token, last + 1 + AGAIN_MS as i64).await.is_ok());
}

#[tokio::test]
async fn keys_are_taken_only_from_the_issuer_itself() {
    let signer = p256();
    let keys = json!({"keys": [signer.public("e")]}).to_string();
    let large = json!({"keys": [signer.public("e")], "x": "x".repeat(300 << 10)}).to_string();
    let oct = json!({"keys": [{"kty": "oct", "k": b64("secret"), "alg": "HS256"},
                              {"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"}, 7, {}]});
    let about = |issuer: &str, keys: &str| json!({"issuer": issuer, "jwks_uri": keys}).to_string();
    type Answer = (u16, String);
    type Answers = Box<dyn Fn(&str) -> (Answer, Answer)>;
    let cases: Vec<(&str, Answers)> = vec![
        ("is of the issuer", {
            let keys = keys.clone();
            Box::new(move |at| ((200, about(&format!("{at}/"), at)), (200, keys.clone())))
        }),
        ("no address to be trusted", {
            let keys = keys.clone();
            Box::new(move |at| ((200, about(at, "http://example.org/k")), (200, keys.clone())))
        }),
        ("no address to be trusted", {
            Box::new(move |at| ((200, about(at, "file:///etc/passwd")), (200, keys.clone())))
        }),
        ("answered 302", Box::new(|_| ((302, String::new()), (200, String::new())))),
        ("is not understood", Box::new(|_| ((200, "<html>".to_owned()), (200, String::new())))),
        ("answered 500", {
            Box::new(move |at| ((200, about(at, &format!("{at}/k"))), (500, String::new())))
        }),
        ("more than", {
            Box::new(move |at| ((200, about(at, &format!("{at}/k"))), (200, large.clone())))
        }),
        ("no key that tokens", {
            Box::new(move |at| ((200, about(at, &format!("{at}/k"))), (200, oct.to_string())))
        }),
    ];
    for (reason, answers) in cases {
        let answered: Arc<OnceLock<(Answer, Answer)>> = Arc::default();
        let answer = answered.clone();
        let double = Double::start(move |path, _| {
            let (about, keys) = answer.get().unwrap();
            if path == "/k" { keys.clone() } else { about.clone() }
        });
        answered.set(answers(&double.url)).unwrap();
        let fetch = Fetch::open(&config(&double.url, "")).unwrap();
        let error = fetch.keys().await.err().unwrap();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}
