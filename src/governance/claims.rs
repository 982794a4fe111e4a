//! What an issuer's token says of its bearer. Its signature is good: here is decided what that is worth.
//!
//! Names are taken as they are, or not at all. Whoever holds a token of which a name is not understood might
//! be denied less than is meant, so it is refused whole; so is one that says its groups are elsewhere.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Principal;
use crate::config::{Oidc, valid_grantee_name};

/// What a token says.
pub type Claims = Map<String, Value>;

/// A token that begins so much later counts: clocks differ. One that has ended does not.
const LEEWAY_MS: i64 = 30_000;
/// What is repeated of a token in a reason.
const SHOWN: usize = 100;
/// What names of people may not look like: others would be misread for it.
const OTHERS: [&str; 4] = ["local:", "user:", "role:", "group:"];

/// Whom a token is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub principal: Principal,
    /// Milliseconds since the epoch. From then on it is nobody's.
    pub expires_at_ms: i64,
}

/// A token that does not count, although its issuer signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// Whose it would be, if that can be told: `user:ada`.
    pub who: Option<String>,
    pub why: String,
}

/// Whom these claims are of, now, for whoever expects such tokens.
pub fn identify(claims: &Claims, expected: &Oidc, now_ms: i64) -> Result<Identity, Unfit> {
    let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    if issuer != expected.issuer {
        // Its names are another's, too.
        let why = format!("the token is of another issuer: {}", shown(issuer));
        return Err(Unfit { who: None, why });
    }
    let user = user(claims, &expected.user);
    let counted = || {
        let expires_at_ms = period(claims, &expected.audience, now_ms)?;
        let name = user.clone()?;
        let groups = names(claims, &expected.groups)?;
        let roles = expected.roles.as_ref().map(|path| names(claims, path)).transpose()?;
        let principal =
            Principal { groups, roles: roles.unwrap_or_default(), ..Principal::user(&name) };
        Ok(Identity { principal, expires_at_ms })
    };
    let who = || user.as_ref().ok().map(|name| Principal::user(name).name);
    counted().map_err(|why| Unfit { who: who(), why })
}

/// When a token for this audience ends, if it counts now.
fn period(claims: &Claims, audience: &str, now_ms: i64) -> Result<i64, String> {
    let meant = match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(all)) => {
            if !all.iter().all(Value::is_string) {
                return Err("`aud` holds what is no name".to_owned());
            }
            all.iter().any(|one| one == audience)
        }
        _ => false,
    };
    if !meant {
        return Err(format!("the token is for another audience: {}", found(claims.get("aud"))));
    }
    let Some(expires_at_ms) = moment(claims, "exp")? else {
        return Err("the token does not say when it ends (`exp`)".to_owned());
    };
    if now_ms >= expires_at_ms {
        return Err("the token has expired".to_owned());
    }
    match moment(claims, "nbf")? {
        Some(begins) if now_ms.saturating_add(LEEWAY_MS) < begins => {
            Err("the token does not count yet (`nbf`)".to_owned())
        }
        _ => Ok(expires_at_ms),
    }
}

/// Milliseconds since the epoch; a token has seconds, perhaps with a fraction.
fn moment(claims: &Claims, name: &str) -> Result<Option<i64>, String> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64().filter(|seconds| seconds.is_finite()) {
            Some(seconds) => Ok(Some((seconds * 1000.0) as i64)),
            None => Err(format!("`{name}` is no time: {}", shown(&value.to_string()))),
        },
    }
}

fn user(claims: &Claims, path: &str) -> Result<String, String> {
    match at(claims, path) {
        Some(Value::String(name)) => name_of(path, name),
        other => Err(format!("`{path}` is no user's name: {}", found(other))),
    }
}

/// The names in a claim. One that is absent says that there are none.
fn names(claims: &Claims, path: &str) -> Result<BTreeSet<String>, String> {
    // An issuer that has too many for a token says so, and where to ask for them.
    let first = path.split('.').next().unwrap_or(path);
    let named = claims.get("_claim_names");
    let named = named.is_some_and(|it| it.get(path).is_some() || it.get(first).is_some());
    let too_many = claims.get("hasgroups").is_some_and(|it| *it == true || *it == "true");
    if named || (too_many && at(claims, path).is_none()) {
        return Err(format!("`{path}` is not in the token, which refers to where it is"));
    }
    let one = |name: &Value| match name {
        Value::String(name) => name_of(path, name),
        other => Err(format!("`{path}` holds what is no name: {}", shown(&other.to_string()))),
    };
    match at(claims, path) {
        None | Some(Value::Null) => Ok(BTreeSet::new()),
        Some(Value::Array(all)) => all.iter().map(one).collect(),
        Some(other) => one(other).map(|name| BTreeSet::from([name])),
    }
}

fn name_of(path: &str, name: &str) -> Result<String, String> {
    let another = name == "*" || OTHERS.iter().any(|prefix| name.starts_with(prefix));
    match valid_grantee_name(name) && !another {
        true => Ok(name.to_owned()),
        false => Err(format!("`{path}` holds what nobody may be called: {}", shown(name))),
    }
}

/// A claim by its name, which may have dots in it; else what a path leads to.
fn at<'c>(claims: &'c Claims, path: &str) -> Option<&'c Value> {
    if let Some(whole) = claims.get(path) {
        return Some(whole);
    }
    let mut parts = path.split('.');
    let first = claims.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.as_object()?.get(part))
}

fn found(value: Option<&Value>) -> String {
    value.map_or("nothing".to_owned(), |value| shown(&value.to_string()))
}

/// Somebody else's text, for a reason that people read.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).collect();
    format!("{cut:?}{}", if cut.len() < text.len() { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::governance::{Action, Grantee, decide};

    const NOW: i64 = 1_800_000_000_000;

    fn expected(rest: &str) -> Oidc {
        let text = format!("{{issuer: 'https://id.example.org', audience: tidegate, {rest}}}");
        serde_saphyr::from_str(&text).unwrap()
    }

    fn claims(more: Value) -> Claims {
        let mut all = json!({
            "iss": "https://id.example.org", "aud": "tidegate", "exp": NOW / 1000 + 60, "sub": "ada",
        });
        for (name, value) in more.as_object().unwrap() {
            match value {
                Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
                value => all[name] = value.clone(),
            }
        }
        all.as_object().unwrap().clone()
    }

    fn identity(more: Value, rest: &str) -> Result<Identity, Unfit> {
        identify(&claims(more), &expected(rest), NOW)
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_sound_token_is_its_users() {
        let found = identity(json!({}), "").unwrap();
        assert_eq!(found.principal, Principal::user("ada"));
        assert_eq!(found.expires_at_ms, NOW + 60_000);
        for sound in [
            json!({"aud": ["other", "tidegate"]}),
            json!({"exp": NOW as f64 / 1000.0 + 0.5}),
            json!({"nbf": NOW / 1000 + 30}),
            json!({"nbf": NOW / 1000 - 3600, "iat": 1, "azp": "x", "groups": []}),
        ] {
            assert_eq!(identity(sound.clone(), "").unwrap().principal.name, "user:ada", "{sound}");
        }
    }

    #[test]
    fn names_are_where_the_node_file_says() {
        let keycloak = json!({
            "preferred_username": "ada", "sub": "f3a1", "groups": ["/finance", "/finance/eu"],
            "realm_access": {"roles": ["analyst"]}, "roles": ["other"],
        });
        let found = identity(keycloak, "user: preferred_username, roles: realm_access.roles");
        let Principal { name, groups, roles } = found.unwrap().principal;
        assert_eq!(name, "user:ada");
        assert_eq!((groups, roles), (set(&["/finance", "/finance/eu"]), set(&["analyst"])));
        // A claim's whole name comes before a path.
        let spaced = json!({"https://x.org/groups": "one", "a": {"b": ["path"]}, "a.b": ["whole"]});
        let found =
            identity(spaced, "groups: 'https://x.org/groups', roles: a.b").unwrap().principal;
        assert_eq!((found.groups, found.roles), (set(&["one"]), set(&["whole"])));
        let none = identity(json!({"a": ["b"]}), "groups: a.b.c").unwrap().principal;
        assert!(none.groups.is_empty());
    }

    #[test]
    fn each_fault_is_refused_with_its_reason_and_whose_it_was() {
        let long = "x".repeat(201);
        let cases = [
            (json!({"iss": null}), "another issuer"),
            (json!({"iss": "https://id.example.org/"}), "another issuer"),
            (json!({"iss": ["https://id.example.org"]}), "another issuer"),
            (json!({"aud": null}), "another audience"),
            (json!({"aud": "tidegate2"}), "another audience: \"\\\"tidegate2"),
            (json!({"aud": []}), "another audience"),
            (json!({"aud": {"tidegate": "tidegate"}}), "another audience"),
            (json!({"aud": ["tidegate", 7]}), "`aud` holds what is no name"),
            (json!({"exp": null}), "when it ends"),
            (json!({"exp": NOW / 1000}), "expired"),
            (json!({"exp": -1}), "expired"),
            (json!({"exp": "9999999999"}), "`exp` is no time"),
            (json!({"exp": true}), "`exp` is no time"),
            (json!({"nbf": NOW / 1000 + 31}), "not count yet"),
            (json!({"nbf": "0"}), "`nbf` is no time"),
            (json!({"sub": null}), "no user's name"),
            (json!({"sub": 7}), "no user's name"),
            (json!({"sub": ["ada"]}), "no user's name"),
            (json!({"sub": ""}), "nobody may be called"),
            (json!({"sub": " ada"}), "nobody may be called"),
            (json!({"sub": "a\nda"}), "nobody may be called: \"a\\nda\""),
            (json!({"sub": long}), "nobody may be called"),
            (json!({"sub": "*"}), "nobody may be called"),
            (json!({"sub": "local:root"}), "nobody may be called"),
            (json!({"sub": "user:root"}), "nobody may be called"),
            (json!({"groups": ["a", 7]}), "`groups` holds what is no name"),
            (json!({"groups": {"a": true}}), "`groups` holds what is no name"),
            (json!({"groups": ["a", ""]}), "nobody may be called"),
            (json!({"groups": ["group:a"]}), "nobody may be called"),
            (json!({"_claim_names": {"groups": "src1"}}), "refers to where it is"),
        ];
        for (case, reason) in cases {
            let unfit = identity(case.clone(), "").unwrap_err();
            assert!(unfit.why.contains(reason), "{case}: {unfit:?}");
            let named = case.get("iss").is_none() && case.get("sub").is_none();
            assert_eq!(unfit.who.as_deref(), named.then_some("user:ada"), "{case}");
            assert!(unfit.why.len() < 250, "{unfit:?}");
        }
    }

    fn anything() -> impl Strategy<Value = Value> {
        let name = prop_oneof![
            Just("local:root".to_owned()),
            Just("*".to_owned()),
            "(user|role|group|local):[a-z]{1,3}",
            "\\PC{0,8}",
            ".{0,8}",
        ];
        let leaf = prop_oneof![
            name.prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("(a|b|roles)", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever an issuer lets people write into their claims, they are users with names that rows can
        /// be written for, and never what stands for others.
        #[test]
        fn no_claim_makes_somebody_else(
            sub in anything(), groups in anything(), roles in anything(), exp in anything(),
        ) {
            let claims = claims(json!({"sub": sub, "groups": groups, "r": {"a": roles}}));
            let found = identify(&claims, &expected("roles: r.a"), NOW);
            if let Ok(Identity { principal, .. }) = found {
                let name = principal.name.strip_prefix("user:").unwrap();
                let all = [(name, "user")].into_iter();
                let all = all.chain(principal.groups.iter().map(|it| (it.as_str(), "group")));
                for (name, kind) in all.chain(principal.roles.iter().map(|it| (it.as_str(), "role"))) {
                    prop_assert!(name != "*" && OTHERS.iter().all(|it| !name.starts_with(it)));
                    let grantee: Grantee = format!("{kind}:{name}").parse().unwrap();
                    prop_assert_ne!(&grantee, &Grantee::Everybody);
                    prop_assert_eq!(grantee.to_string(), format!("{kind}:{name}"));
                }
                prop_assert!(!decide([], &principal, Action::Read, "f", NOW).is_allowed());
            }
            let timed = Claims::from_iter([("exp".to_owned(), exp), ("aud".to_owned(), "a".into())]);
            if let Ok(end) = period(&timed, "a", NOW) {
                prop_assert!(end > NOW);
            }
        }
    }
}
