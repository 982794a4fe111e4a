use std::net::TcpListener;

use super::double::Double;
use super::*;
use crate::config::Secret;

fn schema(text: &str) -> String {
    serde_json::json!({"schema": text}).to_string()
}

const NOT_FOUND: &str = r#"{"error_code":40403,"message":"Schema 9 not found"}"#;

#[tokio::test]
async fn a_schema_is_asked_for_once() {
    let double = Double::start(|_, _| (200, schema(r#""long""#)));
    let registry = double.registry();
    assert!(registry.cached(7).is_none());
    let ids = BTreeSet::from([7]);
    let (one, other) = tokio::join!(registry.schemas(ids.clone()), registry.schemas(ids.clone()));
    assert!(one.unwrap()[0].1.is_ok() && other.unwrap()[0].1.is_ok());
    registry.schemas(ids).await.unwrap();
    assert!(registry.cached(7).unwrap().is_ok());
    assert_eq!(double.paths(), ["/below/schemas/ids/7"]);
}

#[tokio::test]
async fn what_it_does_not_have_is_an_answer_with_a_reason() {
    let double = Double::start(|_, _| (404, NOT_FOUND.to_owned()));
    let registry = double.registry();
    let found = registry.schemas([9].into()).await.unwrap();
    let reason = found[0].1.as_ref().unwrap_err().to_string();
    assert!(reason.contains("schema 9") && reason.contains(&double.url), "{reason}");
    assert!(reason.contains("Schema 9 not found"), "{reason}");
    assert!(registry.cached(9).unwrap().is_err());
    // Once more, in case it follows another registry, and then for a while no more.
    registry.schemas([9].into()).await.unwrap();
    assert_eq!(double.paths().len(), 2);
}

/// Nothing is known of a record then, and nothing may be decided.
#[tokio::test]
async fn a_failure_is_no_answer() {
    for (status, body, times, words) in [
        (503, "", 3, "503"),
        (429, "", 3, "429"),
        (401, r#"{"error_code":401,"message":"no"}"#, 1, "`schema_registry.username`"),
        (404, "<html>", 1, "`schema_registry.url`"),
        (404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#, 1, "`schema_registry.url`"),
        (200, "<html>", 1, "what is no schema"),
    ] {
        let double = Double::start(move |_, _| (status, body.to_owned()));
        let registry = double.registry();
        let away = registry.schemas([9].into()).await.unwrap_err().to_string();
        assert!(away.contains(words), "{away}");
        assert!(registry.cached(9).is_none());
        assert_eq!(double.paths().len(), times, "{status}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = serde_json::from_value(serde_json::json!({"url": format!("http://{closed}")}));
    let registry = Registry::open(&config.unwrap()).unwrap();
    let away = registry.schemas([9].into()).await.unwrap_err().to_string();
    assert!(away.contains("refused"), "{away}");
}

#[tokio::test]
async fn it_is_asked_again_when_it_may_have_come_back() {
    let double = Double::start(|_, times| match times {
        1 | 2 => (500, String::new()),
        _ => (200, schema(r#""long""#)),
    });
    assert!(double.registry().schemas([1].into()).await.unwrap()[0].1.is_ok());
}

#[tokio::test]
async fn references_are_resolved_whatever_their_order() {
    let double = Double::start(|path, _| {
        let refer = |text: &str, to: &[&str]| {
            let to = to.iter().map(|name| {
                serde_json::json!({"name": name, "subject": format!("{name}/x y"), "version": 2})
            });
            let to: Vec<_> = to.collect();
            (
                200,
                serde_json::json!({"schema": text, "schemaType": "AVRO", "references": to})
                    .to_string(),
            )
        };
        let record = |name: &str, of: &str| {
            format!(
                r#"{{"type":"record","name":"{name}","fields":[{{"name":"f","type":"{of}"}}]}}"#
            )
        };
        match path {
            "/below/schemas/ids/1" => refer(&record("a", "b"), &["b", "c"]),
            "/below/subjects/b%2Fx%20y/versions/2?deleted=true" => refer(&record("b", "c"), &["c"]),
            "/below/subjects/c%2Fx%20y/versions/2?deleted=true" => refer(&record("c", "long"), &[]),
            _ => (404, r#"{"error_code":40401,"message":"no subject"}"#.to_owned()),
        }
    });
    let found = double.registry().schemas([1].into()).await.unwrap();
    let mut text = String::new();
    found[0].1.as_ref().unwrap().spell(&[2], &mut text).unwrap();
    assert_eq!(text, r#"{"f":{"f":{"f":1}}}"#);
    assert_eq!(double.paths().len(), 3);
}

#[tokio::test]
async fn a_schema_that_cannot_be_read_is_an_answer_for_ever() {
    let double = Double::start(|path, _| match path {
        "/below/schemas/ids/1" => (200, schema("{")),
        _ => (200, r#"{"schema":"syntax","schemaType":"PROTOBUF","references":null}"#.to_owned()),
    });
    let registry = double.registry();
    for (id, words) in [(1, "not an Avro schema"), (2, "type PROTOBUF")] {
        let found = registry.schemas([id].into()).await.unwrap();
        let reason = found[0].1.as_ref().unwrap_err();
        assert!(reason.contains(words), "{reason}");
    }
}

#[tokio::test]
async fn it_signs_in() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "hunter2\n").unwrap();
    let secret = Secret::File(secret);
    let double = Double::start(|_, _| (200, schema(r#""long""#)));
    let plain = double.config();
    let basic = SchemaRegistry {
        username: Some("reader".to_owned()),
        password: Some(secret.clone()),
        ..plain.clone()
    };
    let bearer = SchemaRegistry { token: Some(secret), ..plain.clone() };
    for (config, expected) in [
        (plain, None),
        (basic, Some("Basic cmVhZGVyOmh1bnRlcjI=")),
        (bearer, Some("Bearer hunter2")),
    ] {
        Registry::open(&config).unwrap().schemas([1].into()).await.unwrap();
        let signed = double.asked.lock().unwrap().last().unwrap().1.clone();
        assert_eq!(signed.as_deref(), expected);
    }
}
