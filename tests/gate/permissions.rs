//! Permission rows, tokens and the audit by hand: what is granted is decided by, listed, taken away, and
//! written down.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::http::{Caller, base};
use crate::node::tidegate;
use crate::servers::wait_for;
use crate::source_place::{Place, SOON};

fn run(place: &Place, code: i32, arguments: &[&str]) -> String {
    let (found, printed) = place.command(arguments);
    assert_eq!(found, code, "{arguments:?}: {printed}");
    printed
}

fn asked(place: &Place, code: i32, arguments: &[&str]) -> Value {
    let printed = run(place, code, &[arguments, &["--output", "json"]].concat());
    serde_json::from_str(&printed)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed}"))
}

fn explained(place: &Place, code: i32, arguments: &[&str]) -> String {
    let found = asked(place, code, &[&["permissions", "explain"], arguments].concat());
    assert_eq!(found["allowed"], json!(code == 0));
    found["why"].as_str().expect("words").to_owned()
}

#[test]
fn rows_are_granted_explained_and_revoked() {
    let place = Place::new("permissions");
    let first = run(&place, 0, &["migrate", "--admin", "root"]);
    assert!(first.contains("user:root may grant"), "{first}");
    let again = run(&place, 0, &["migrate", "--admin", "mallory"]);
    assert!(again.contains("was given nothing"), "{again}");
    assert_eq!(
        explained(&place, 3, &["--for", "mallory", "--feed", "f", "--action", "manage"]),
        "no row allows it"
    );
    explained(&place, 0, &["--for", "root", "--feed", "f", "--action", "manage"]);
    assert_eq!(explained(&place, 3, &["--for", "ada", "--feed", "sales_eu"]), "no row allows it");

    let grant = |arguments: &[&str]| {
        let printed =
            run(&place, 0, &[&["permissions", "grant", "--reason", "a test"], arguments].concat());
        printed.split([' ', ':']).nth(1).expect("a number").to_owned()
    };
    let wide = grant(&["--to", "role:analyst", "--feed", "sales*"]);
    let narrow = grant(&[
        "--to",
        "user:ada",
        "--feed",
        "sales_eu",
        "--columns",
        "city,amount",
        "--mask",
        "amount=last4",
        "--where",
        "city = 'Perth' AND amount > -1.5",
        "--from",
        "2026-01-01",
        "--expires",
        "30d",
    ]);
    let why = explained(&place, 0, &["--for", "user:ada", "--feed", "sales_eu"]);
    assert_eq!(why, format!("what row {narrow} shows"));
    let why = explained(&place, 0, &["--for", "ada", "--role", "analyst", "--feed", "sales_eu"]);
    assert_eq!(why, format!("all of it, by row {wide}, {narrow}"));
    let deny = grant(&["--to", "*", "--feed", "*", "--deny", "--columns", "ip"]);
    let why = explained(&place, 0, &["--for", "ada", "--feed", "sales_eu"]);
    assert_eq!(why, format!("what row {narrow} shows, but what row {deny} takes away"));
    let all = grant(&["--to", "user:ada", "--feed", "sales*", "--deny"]);
    let why = explained(&place, 3, &["--for", "ada", "--role", "analyst", "--feed", "sales_eu"]);
    assert_eq!(why, format!("row {all} denies it"));

    let listed = asked(&place, 0, &["permissions", "list", "--feed", "sales_eu"]);
    let row = listed.as_array().expect("rows").iter().find(|row| row["id"] == json!(narrow));
    let row = row.expect("the row");
    assert_eq!(row["where"], "\"city\" = 'Perth' AND \"amount\" > -1.5");
    assert_eq!((&row["masks"], &row["from"]), (&json!({"amount": "last4"}), &json!("2026-01-01")));
    assert!(row["granted_by"].as_str().is_some_and(|by| by.starts_with("local:")), "{row}");
    run(&place, 0, &["permissions", "revoke", &all, "--reason", "by mistake"]);
    run(&place, 1, &["permissions", "revoke", &all, "--reason", "again"]);
    explained(&place, 0, &["--for", "ada", "--feed", "sales_eu"]);

    // What somebody wrote into the table by hand and nobody understands allows nothing, and denies more.
    let insert = |effect: &str| {
        place.world.database.execute(&format!(
            "INSERT INTO tidegate.permissions (principal, feed, action, effect, predicate, granted_by, reason) \
             VALUES ('user:eve', 'sales_eu', 'read', '{effect}', 'city ~ 1', 'x', 'x')"
        ));
    };
    insert("allow");
    let (code, printed) =
        place.command(&["permissions", "explain", "--for", "eve", "--feed", "sales_eu"]);
    assert!(code == 3 && printed.contains("predicate: "), "{code} {printed}");
    grant(&["--to", "user:eve", "--feed", "sales_eu"]);
    assert_eq!(
        place.command(&["permissions", "explain", "--for", "eve", "--feed", "sales_eu"]).0,
        0
    );
    insert("deny");
    assert_eq!(
        place.command(&["permissions", "explain", "--for", "eve", "--feed", "sales_eu"]).0,
        3
    );

    // Every change is in the audit, and nothing that changed nothing.
    let audit = asked(&place, 0, &["audit"]);
    let done: Vec<&str> =
        audit.as_array().expect("rows").iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(done, ["grant", "revoke", "grant", "grant", "grant", "grant", "grant"]);
    let why = audit[1]["why"].as_str().expect("words");
    assert_eq!(why, format!("row {all}: by mistake"));
    let first = &audit[6];
    assert_eq!((&first["feed"], &first["allowed"]), (&json!("*"), &json!(true)));
    let of_feed = asked(&place, 0, &["audit", "--feed", "sales_eu"]);
    assert_eq!(of_feed.as_array().map(Vec::len), Some(2));
    assert_eq!(asked(&place, 0, &["audit", "--denied"]), json!([]));
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    let place = Place::new("permissions-wrong");
    run(&place, 0, &["migrate"]);
    for (arguments, expected) in [
        (&["--to", "ada", "--feed", "f"][..], "user:NAME"),
        (&["--to", "user:ada", "--feed", "F/x"], "names no feed"),
        (&["--to", "user:ada", "--feed", "f", "--action", "look"], "no action"),
        (&["--to", "user:ada", "--feed", "f", "--where", "a = (SELECT 1)"], "no literal"),
        (&["--to", "user:ada", "--feed", "f", "--where", "a = 1; DROP TABLE x"], "not expected"),
        (&["--to", "user:ada", "--feed", "f", "--mask", "a"], "a mask, as in"),
        (&["--to", "user:ada", "--feed", "f", "--mask", "a=blur"], "no mask"),
        (&["--to", "user:ada", "--feed", "f", "--expires", "2020-01-01T00:00:00Z"], "has passed"),
        (&["--to", "user:ada", "--feed", "f", "--expires", "soon"], "30d"),
        (&["--to", "user:ada", "--feed", "f", "--action", "write", "--columns", "a"], "for `read`"),
        (&["--to", "user:ada", "--feed", "f", "--deny", "--mask", "a=null"], "no masks"),
        (
            &["--to", "user:ada", "--feed", "f", "--from", "2026-02-01", "--to-day", "2026-01-01"],
            "are none",
        ),
    ] {
        let grant = [&["permissions", "grant", "--reason", "x"], arguments].concat();
        let (code, printed) = place.command(&grant);
        assert!(code == 2 && printed.contains(expected), "{arguments:?}: {code} {printed}");
    }
    assert_eq!(asked(&place, 0, &["permissions", "list"]), json!([]));
    assert_eq!(asked(&place, 0, &["audit"]), json!([]));
}

#[test]
fn a_token_is_shown_once_and_kept_as_a_hash() {
    let place = Place::new("tokens");
    run(&place, 0, &["migrate"]);
    let printed = run(
        &place,
        0,
        &["token", "create", "--for", "ada", "--role", "analyst", "--expires", "90d"],
    );
    let bearer = printed.split_whitespace().find(|word| word.starts_with("tg_")).expect("a token");
    let id = bearer.strip_prefix("tg_").and_then(|it| it.split_once('.')).expect("two parts").0;
    let listed = asked(&place, 0, &["token", "list"]);
    assert_eq!(
        (&listed[0]["id"], &listed[0]["principal"], &listed[0]["roles"], &listed[0]["state"]),
        (&json!(id), &json!("user:ada"), &json!(["analyst"]), &json!("good"))
    );
    let secret = bearer.split_once('.').expect("two parts").1;
    for table in ["tokens", "audit"] {
        let rows = place.world.database.query(&format!("SELECT t::text FROM tidegate.{table} t"));
        assert!(!rows.is_empty());
        assert!(rows.iter().all(|row| !row.get::<_, &str>(0).contains(secret)), "{table}");
    }
    run(&place, 0, &["token", "revoke", id]);
    run(&place, 1, &["token", "revoke", id]);
    assert_eq!(asked(&place, 0, &["token", "list"])[0]["state"], "revoked");
    let audit = asked(&place, 0, &["audit"]);
    let done: Vec<&Value> =
        audit.as_array().expect("rows").iter().map(|row| &row["action"]).collect();
    assert_eq!(done, ["token revoke", "token create"]);
}

#[test]
fn with_a_server_a_command_does_what_its_token_may() {
    let mut place = Place::new("permissions-server");
    place.edit_node(|text| format!("{text}api: {{listen: '127.0.0.1:0'}}\n"));
    let topic = place.topic("orders", 1, &[]);
    place.plain_feed("orders", &topic);
    run(&place, 0, &["migrate", "--admin", "root"]);
    let node = place.node();
    let (base, folder) = (base(&node), place.folder());
    let token = |of: &str| {
        let printed = run(&place, 0, &["token", "create", "--for", of]);
        let bearer = printed.split_whitespace().find(|word| word.starts_with("tg_"));
        bearer.expect("a token").to_owned()
    };
    let ask = |token: &str, arguments: &[&str]| {
        let mut command = tidegate();
        command.args(arguments).args(["--server", &base]).env("TIDEGATE_TOKEN", token);
        // Where there is no node file.
        let out = command.current_dir("/").output().expect("the binary runs");
        let printed = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        (out.status.code().expect("it ended by itself"), printed)
    };
    let (root, ada) = (token("root"), token("ada"));
    let grant = ["permissions", "grant", "--feed", "orders", "--reason", "a test", "--to"];
    let narrow = ["--mask", "id=null", "--where", "id > 3", "--expires", "30d"];
    let granted = [&grant[..], &["user:ada"], &narrow].concat();
    let granted = wait_for("the token", SOON, || {
        let (code, printed) = ask(&root, &granted);
        (code == 0).then_some(printed)
    });
    let id = granted.split([' ', ':']).nth(1).expect("a number").to_owned();
    let listed = asked(&place, 0, &["permissions", "list"]);
    let row = listed.as_array().expect("rows").iter().find(|row| row["id"] == json!(id));
    let row = row.expect("the row");
    assert_eq!((&row["granted_by"], &row["where"]), (&json!("user:root"), &json!("\"id\" > 3")));
    let remote = wait_for("the row on the node", SOON, || {
        let (code, printed) = ask(&root, &["permissions", "list", "--output", "json"]);
        assert_eq!(code, 0, "{printed}");
        let rows: Vec<Value> = serde_json::from_str(&printed).expect("JSON");
        rows.iter().any(|row| row["id"] == json!(id)).then_some(rows)
    });
    assert_eq!(json!(remote), listed, "the same, whoever tells of it");
    assert!(ask(&ada, &["permissions", "list"]).1.contains("a test"));

    // Who may not manage is told so, and stands in the audit.
    let (code, printed) = ask(&ada, &[&grant[..], &["user:eve"]].concat());
    assert!(code == 1 && printed.contains("403") && printed.contains("`manage`"), "{printed}");
    let (code, printed) = ask("tg_x.y", &["permissions", "list"]);
    assert!(code == 1 && printed.contains("401"), "{printed}");
    let revoke = ["permissions", "revoke", &id, "--reason", "over"];
    assert_eq!(ask(&root, &revoke).0, 0);
    let (code, audit) = ask(&root, &["audit", "--limit", "20"]);
    let of_ada = audit.lines().find(|line| line.contains("user:ada grant orders DENIED"));
    assert!(code == 0 && of_ada.is_some_and(|line| line.contains("from 127.0.0.1")), "{audit}");
    assert!(audit.contains("user:root revoke"), "{audit}");

    for (server, expected) in [("http://example.org", "https://"), ("ftp://localhost", "https://")]
    {
        let printed = run(&place, 2, &["permissions", "list", "--server", server]);
        assert!(printed.contains(expected), "{printed}");
    }
    let missing = folder.join("no token");
    let path = missing.to_str().expect("a path");
    let file = ["permissions", "list", "--server", &base, "--token-file", path];
    assert!(run(&place, 2, &file).contains("no token"));
}

#[test]
fn a_database_from_before_says_what_to_do() {
    let place = Place::new("permissions-before");
    place.world.database.execute("DROP SCHEMA IF EXISTS tidegate CASCADE");
    let (code, printed) = place.command(&["permissions", "list"]);
    assert!(code == 1 && printed.contains("tidegate migrate"), "{code} {printed}");
}

#[test]
fn rows_of_an_existing_table_are_listed_and_explained_and_changed_only_there() {
    let place = Place::new("permission-sources");
    place.edit_node(|text| {
        format!(
            "{text}api: {{listen: '127.0.0.1:0'}}\ngovernance: {{sources: {{old_rights: {{table: rights, \
             id: [no], principal: {{column: who}}, feed: {{column: what}}, \
             action: {{column: how, names: {{SELECT: [read], OWN: [read, manage]}}}}}}}}}}\n"
        )
    });
    run(&place, 0, &["migrate", "--admin", "root"]);
    let (_, printed) = place.command(&["permissions", "list"]);
    assert!(printed.contains("the table rights cannot be read"), "{printed}");
    assert!(printed.contains("Correct governance.sources.old_rights"), "{printed}");
    place.world.database.execute(
        "CREATE TABLE rights (no int, who text, what text, how text);
         INSERT INTO rights VALUES (3, 'ada', 'SALES', 'SELECT'), (5, 'bob', 'sales', 'OWN')",
    );
    let listed = asked(&place, 0, &["permissions", "list", "--feed", "sales"]);
    let of = |id: &str| {
        let rows = listed.as_array().expect("rows").iter();
        rows.filter(|row| row["id"] == id).cloned().collect::<Vec<_>>()
    };
    assert_eq!((of("old_rights#3").len(), of("old_rights#5").len()), (1, 2));
    assert_eq!(of("old_rights#3")[0]["granted_by"], "rights");
    let why = explained(&place, 0, &["--for", "ada", "--feed", "sales"]);
    assert_eq!(why, "all of it, by row old_rights#3");
    place.world.database.execute("INSERT INTO rights VALUES (4, 'eve', 'sales', 'DROP')");
    let (code, printed) =
        place.command(&["permissions", "explain", "--for", "eve", "--feed", "sales"]);
    let told =
        "row old_rights#4: how: `DROP` is not among governance.sources.old_rights.action.names";
    assert!(code == 3 && printed.contains(told), "{code} {printed}");

    let revoke = ["permissions", "revoke", "old_rights#3", "--reason", "x"];
    let printed = run(&place, 1, &revoke);
    assert!(
        printed.contains("of the table rights") && printed.contains("change it there"),
        "{printed}"
    );
    let printed = run(&place, 2, &["permissions", "revoke", "three", "--reason", "x"]);
    assert!(printed.contains("`three` is no row"), "{printed}");
    let token = |of: &str| {
        let (_, printed) = place.command(&["token", "create", "--for", of]);
        let token = printed.split_whitespace().find(|word| word.starts_with("tg_"));
        token.unwrap_or_else(|| panic!("a token: {printed}")).to_owned()
    };
    let (root, ada) = (token("root"), token("ada"));
    let node = place.node();
    let root = Caller::new(&node, Some(&root));
    let revoke = |caller: &Caller, row: &str| {
        let path = format!("/v1/permissions/{row}?reason=x");
        caller.ask(Method::DELETE, &path, &[], None).problem()
    };
    wait_for("the rows to be read", SOON, || {
        (root.get("/v1/permissions").status == StatusCode::OK).then_some(())
    });
    assert_eq!(revoke(&root, "old_rights%233"), (409, "foreign-row".to_owned()));
    assert_eq!(revoke(&root, "old_rights%239"), (404, "not-found".to_owned()));
    assert_eq!(revoke(&root, "three"), (400, "bad-request".to_owned()));
    assert_eq!(revoke(&root.with(&ada), "old_rights%233"), (403, "forbidden".to_owned()));
    let all = root.get("/v1/permissions").json();
    let shown = all.as_array().expect("rows").iter().any(|row| row["id"] == "old_rights#3");
    assert!(shown, "{all}");
}
