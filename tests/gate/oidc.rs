//! Tokens of a real issuer: who signs in there reads what rows let him and his groups read, while its keys
//! change, while it is away, and until his token ends.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::producer::{BaseRecord, Producer};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use url::Url;

use crate::api::{Shop, until_read};
use crate::http::Caller;
use crate::node::Node;
use crate::servers::{env, servers, wait_for};
use crate::source_place::{Place, SOON, Sender};
use crate::world::Setup;

const BACK: &str = "http://127.0.0.1/back";

/// Dex. Stopped, and as it was, when the test ends.
struct Issuer {
    url: String,
    config: PathBuf,
    as_it_was: String,
}

impl Issuer {
    /// Whose tokens live so long.
    fn start(life: &str) -> Self {
        servers("start", "oidc");
        let folder = Path::new(&env("TIDEGATE_TEST_DIR")).join("oidc");
        let config = folder.join("config.yaml");
        let as_it_was = std::fs::read_to_string(&config).expect("its configuration");
        let url = std::fs::read_to_string(folder.join("url")).expect("its address");
        let shorter = as_it_was.replace("idTokens: 1h", &format!("idTokens: {life}"));
        std::fs::write(&config, shorter).expect("its configuration");
        let issuer = Self { url: url.trim().to_owned(), config, as_it_was };
        issuer.restart();
        issuer
    }

    /// With other keys: it keeps none.
    fn restart(&self) {
        servers("stop", "oidc");
        servers("start", "oidc");
    }

    /// For the node file, under `api`.
    fn config(&self, rest: &str) -> String {
        format!(
            "oidc: {{issuer: '{}', audience: tidegate, user: name, ca: '{}'{rest}}}",
            self.url,
            env("TIDEGATE_TEST_CA")
        )
    }

    /// The token of somebody in these groups, by the flow that browsers go through.
    fn token(&self, user: &str, groups: &str) -> String {
        run(async {
            let mut url = Url::parse(&format!("{}/auth/proxy", self.url)).expect("an address");
            let asked = [("client_id", "tidegate"), ("redirect_uri", BACK), ("state", "x")];
            let asked = asked.into_iter().chain([("response_type", "code")]);
            let asked = asked.chain([("scope", "openid profile groups")]);
            url.query_pairs_mut().extend_pairs(asked);
            while !url.as_str().starts_with(BACK) {
                let asking = client().get(url.clone());
                let asking = asking.header("x-remote-user", user).header("x-remote-group", groups);
                let answer = asking.send().await.expect("the issuer answers");
                let next = answer.headers().get("location").and_then(|it| it.to_str().ok());
                let next = next.unwrap_or_else(|| panic!("{url}: {}", answer.status()));
                url = url.join(next).expect("an address");
            }
            let code = url.query_pairs().find(|(name, _)| name == "code").expect("a code").1;
            let form =
                [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", BACK)];
            self.ask("tidegate", &form).await
        })
    }

    /// Bob's, for his password.
    fn bobs(&self, client: &str) -> String {
        let form = [("grant_type", "password"), ("username", "bob@example.org")];
        let form = [&form[..], &[("password", "password"), ("scope", "openid profile")]].concat();
        run(self.ask(client, &form))
    }

    async fn ask(&self, id: &str, form: &[(&str, &str)]) -> String {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let asking = client().post(format!("{}/token", self.url)).basic_auth(id, Some("secret"));
        let asking = asking.header("content-type", "application/x-www-form-urlencoded").body(body);
        let answer = asking.send().await.expect("the issuer answers");
        let body = answer.text().await.expect("a body");
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{body}"));
        answer["id_token"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        drop(std::fs::write(&self.config, &self.as_it_was));
        servers("stop", "oidc");
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    Runtime::new().expect("a runtime").block_on(work)
}

fn client() -> Client {
    let pem = std::fs::read(env("TIDEGATE_TEST_CA")).expect("the authority");
    let authority = Certificate::from_pem(&pem).expect("a certificate");
    let client = Client::builder().redirect(Policy::none()).add_root_certificate(authority);
    client.timeout(SOON).build().expect("a client")
}

/// When a token ends.
fn end(token: &str) -> SystemTime {
    let claims = token.split('.').nth(1).expect("claims");
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    UNIX_EPOCH + Duration::from_secs(claims["exp"].as_u64().expect("a time"))
}

fn refused(caller: &Caller) {
    assert_eq!(caller.get("/v1/feeds").problem(), (401, "unauthorized".to_owned()));
}

/// The issuer is one for all tests, and started in the turn that the place has.
fn shop(name: &'static str, rest: &str) -> (Shop, Issuer) {
    let shop = Shop::new(Setup { name, ..Setup::default() }, "");
    let issuer = Issuer::start("1h");
    let listen = "listen: '127.0.0.1:0'";
    let config = format!("{listen}, {}", issuer.config(rest));
    shop.place.edit_node(|text| text.replace(listen, &config));
    (shop, issuer)
}

fn node(shop: &Shop) -> Node {
    let node = shop.place.node();
    crate::http::base(&node);
    node
}

#[test]
fn who_signs_in_at_the_issuer_reads_what_rows_show_him_and_his_groups() {
    let (shop, issuer) = shop("oidc-reads", "");
    let node = node(&shop);
    shop.send(0..40);
    shop.wait_for(40);
    shop.grant("group:analysts", "events", &["--where", "city = 'Bern'"]);
    shop.grant("user:bob", "accounts", &[]);
    let nobody = Caller::new(&node, None);
    let ada = nobody.with(&issuer.token("ada", "analysts,others"));
    let eve = nobody.with(&issuer.token("eve", "others"));
    let bob = nobody.with(&issuer.bobs("tidegate"));
    until_read(&ada, "events");
    until_read(&bob, "accounts");
    assert_eq!(ada.get("/v1/feeds/events/rows").rows().len(), 10);
    assert_eq!(bob.get("/v1/feeds/accounts/rows?source=warehouse").rows().len(), 40);
    for (caller, feed) in [(&ada, "accounts"), (&bob, "events"), (&eve, "events")] {
        let answer = caller.get(&format!("/v1/feeds/{feed}/rows"));
        assert_eq!(answer.problem(), (404, "no-such-feed".to_owned()));
    }
    // Tokens of our own count beside them, and are of the same people.
    let own = nobody.with(&shop.token("bob", &[]));
    until_read(&own, "accounts");

    // Of another audience, forged, and nobody's.
    let good = ada.token.clone().expect("a token");
    let (rest, signature) = good.rsplit_once('.').expect("a signature");
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let [header, claims] = rest.split('.').collect::<Vec<_>>().try_into().expect("two parts");
    let none = URL_SAFE_NO_PAD.encode(json!({"alg": "none"}).to_string());
    refused(&nobody.with(&issuer.bobs("other")));
    refused(&nobody.with(&format!("{rest}.{flipped}{}", &signature[1..])));
    refused(&nobody.with(&format!("{none}.{claims}.")));
    refused(&nobody.with(&format!("{header}.{claims}")));
    wait_for("the refusals in the audit", SOON, || {
        let rows = shop.audit(&["--denied", "--action", "sign-in"]);
        let has = |who: &str, why: &str| {
            let told = |row: &&Value| row["why"].as_str().is_some_and(|it| it.contains(why));
            rows.iter().any(|row| row["principal"] == who && told(&row))
        };
        (has("user:bob", "another audience")
            && has("nobody", "did not sign")
            && has("nobody", "`none`")
            && has("nobody", "neither of ours nor a JWT"))
        .then_some(())
    });
    let document = nobody.get("/openapi.json").json();
    assert_eq!(
        document["components"]["securitySchemes"]["oidc"]["openIdConnectUrl"],
        format!("{}/.well-known/openid-configuration", issuer.url)
    );
}

#[test]
fn keys_change_and_the_issuer_goes_away_while_the_node_runs() {
    let (shop, issuer) = shop("oidc-keys", ", stale_after: 20s");
    servers("stop", "oidc");
    let node = node(&shop);
    shop.grant("group:analysts", "*", &[]);
    shop.send(0..10);
    shop.wait_for(10);
    // It was not there when the node started, which did all the same.
    node.wait_for_log("its tokens are refused", SOON);
    servers("start", "oidc");
    let nobody = Caller::new(&node, None);
    let first = nobody.with(&issuer.token("ada", "analysts"));
    let status = |caller: &Caller| caller.get("/v1/feeds/events").status;
    wait_for("the issuer's keys", SOON, || match status(&first) {
        StatusCode::SERVICE_UNAVAILABLE => None,
        // The row may not count yet.
        StatusCode::OK => Some(()),
        other => (other == StatusCode::NOT_FOUND).then_some(()),
    });
    until_read(&first, "events");

    // Other keys: those who sign in now are known at once or in a moment, and the old ones no more.
    issuer.restart();
    let second = nobody.with(&issuer.token("ada", "analysts"));
    wait_for("the new key", SOON, || (status(&second) == StatusCode::OK).then_some(()));
    refused(&first);

    // Known keys go on; also for tokens that were not seen before.
    let third = nobody.with(&issuer.token("bea", "analysts"));
    servers("stop", "oidc");
    assert_eq!((status(&second), status(&third)), (StatusCode::OK, StatusCode::OK));
    node.wait_for_log("going by the last ones", SOON);
    assert_eq!((status(&second), status(&third)), (StatusCode::OK, StatusCode::OK));
    // But not for ever.
    wait_for("the keys to be too old", 2 * SOON, || {
        (status(&second) == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    });
    assert_eq!(third.get("/v1/feeds").problem(), (503, "unavailable".to_owned()));
    servers("start", "oidc");
    let fourth = nobody.with(&issuer.token("ada", "analysts"));
    wait_for("the issuer again", SOON, || (status(&fourth) == StatusCode::OK).then_some(()));
}

#[test]
fn strangers_spend_what_one_address_has_before_a_signature_is_looked_at() {
    let (shop, issuer) = shop("oidc-limits", "}, limits: {requests_per_second: 1, burst: 30");
    let node = node(&shop);
    let nobody = Caller::new(&node, None);
    let status = |caller: &Caller| caller.get("/v1/status").status;
    let known = nobody.with(&issuer.token("ada", "analysts"));
    wait_for("the node", SOON, || (status(&known) == StatusCode::OK).then_some(()));
    let forged = known.with(&format!("{}x", known.token.as_ref().expect("a token")));
    wait_for("a good token that comes too late", SOON, || {
        let late = nobody.with(&issuer.token("ada", "analysts"));
        while status(&forged) == StatusCode::UNAUTHORIZED {}
        // A second may have passed, and given one more.
        (status(&late) == StatusCode::TOO_MANY_REQUESTS).then_some(())
    });
    assert_eq!(forged.get("/v1/status").problem(), (429, "too-many".to_owned()));
    assert_eq!(status(&known), StatusCode::OK, "who is known spends his own");
}

/// More than lies between a node and a client that does not read on.
const ROWS: i64 = 8192 * 6;
const WIDTH: usize = 1000;

#[test]
fn an_answer_ends_in_the_middle_when_its_token_does() {
    let mut place = Place::new("oidc-end");
    let issuer = Issuer::start("15s");
    let config = issuer.config("");
    place.edit_node(|text| format!("{text}api: {{listen: '127.0.0.1:0', {config}}}\n"));
    let topic = place.topic("wide", 1, &[]);
    place.feed(
        "wide",
        &format!(
            "topic: {topic}\ncolumns: [{{name: id, type: long}}, {{name: text, type: string}}]"
        ),
    );
    let row =
        ["permissions", "grant", "--reason", "a test", "--to", "group:analysts", "--feed", "*"];
    assert_eq!(place.command(&row).0, 0);
    let node = place.node();
    let nobody = Caller::new(&node, None);
    let sender = Sender::with(&[("queue.buffering.max.kbytes", "1000000")]);
    for id in 0..ROWS {
        let value = json!({"id": id, "text": "x".repeat(WIDTH)}).to_string();
        let record = BaseRecord::<(), _>::to(&topic).partition(0).payload(&value);
        sender.0.send(record).unwrap_or_else(|(error, _)| panic!("{error}"));
    }
    sender.0.flush(SOON).expect("the broker takes the records");
    place.wait_for_watermarks("wide", &[ROWS]);
    until_read(&nobody.with(&issuer.token("ada", "analysts")), "wide");

    let token = issuer.token("ada", "analysts");
    let (read, cut) = run(async {
        let asking = Client::new().get(format!("{}/v1/feeds/wide/rows", nobody.base));
        let mut answer = asking.bearer_auth(&token).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let mut read = answer.chunk().await.expect("a beginning").expect("rows").len();
        // What is awaited is an hour of the clock: no event tells of it.
        let left = end(&token).duration_since(SystemTime::now()).expect("it has not ended yet");
        tokio::time::sleep(left + Duration::from_millis(100)).await;
        let cut = loop {
            match answer.chunk().await {
                Ok(Some(bytes)) => read += bytes.len(),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        (read, cut)
    });
    assert!(cut, "all {read} bytes came");
    assert!(read < ROWS as usize * WIDTH, "{read}");
    node.wait_for_log("what may be read has changed", SOON);
    refused(&nobody.with(&token));
}
