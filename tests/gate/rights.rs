//! Those who read in PostgreSQL itself see what the permission rows show them, and nothing else.

use std::time::Instant;

use serde_json::{Value, json};

use crate::api::Shop;
use crate::http::base;
use crate::servers::wait_for;
use crate::source_place::SOON;
use crate::world::Setup;

/// A role whose members are held to the permission rows, and they: roles are the whole server's.
pub struct Readers {
    role: String,
}

impl Readers {
    /// Tells the shop's nodes of it, which do not run yet.
    pub fn new(shop: &Shop) -> Self {
        let role = format!("{}_readers", shop.place.world.database.name);
        shop.place.world.database.execute(&format!("CREATE ROLE \"{role}\""));
        let governance = format!("governance: {{postgres: {{readers: '{role}'}}}}\n");
        shop.place.edit_node(|text| format!("{text}{governance}"));
        Self { role }
    }

    /// Somebody who reads in the database, by the name that he has there.
    pub fn person(&self, shop: &Shop, name: &str) -> String {
        let person = format!("{name}_{}", shop.place.world.database.name);
        let create = format!("CREATE ROLE \"{person}\" LOGIN IN ROLE \"{}\"", self.role);
        shop.place.world.database.execute(&create);
        person
    }
}

/// Waits until the database is as the permission rows say.
pub fn until_settled(shop: &Shop) {
    let settled = || {
        let (code, printed) = shop.place.command(&["permissions", "database", "--dry-run"]);
        assert!(code == 0 || code == 3 || printed.contains("a node is at it"), "{code} {printed}");
        (code == 0).then_some(())
    };
    wait_for("the rights in the database", SOON, settled);
}

/// A table's rows as a person sees them.
pub fn sql_rows(shop: &Shop, person: &str, table: &str) -> Vec<Value> {
    let asked = format!("SELECT to_jsonb(t)::text FROM {table} AS t");
    let rows = shop.place.world.database.query_as(person, &asked);
    let rows = rows.unwrap_or_else(|error| panic!("{person}, {table}: {error:?}"));
    rows.iter().map(|row| serde_json::from_str(row.get(0)).expect("JSON")).collect()
}

#[test]
fn a_grant_counts_in_the_database_too() {
    let shop = Shop::new(Setup { name: "rights", ..Setup::default() }, "");
    let readers = Readers::new(&shop);
    let ada = readers.person(&shop, "ada");
    let analysts = format!("analysts_{ada}");
    let database = &shop.place.world.database;
    database.execute(&format!("CREATE ROLE \"{analysts}\""));
    shop.command(&["migrate"]);
    let first = shop.place.node();
    base(&first);
    shop.place.edit_node(|text| format!("{text}volume: other\n"));
    let second = shop.place.world.node("second");
    base(&second);
    shop.send(0..20);
    shop.wait_for(20);

    let count = |table: &str| {
        let rows = database.query_as(&ada, &format!("SELECT count(*) FROM {table}"));
        rows.ok().map(|rows| rows[0].get::<_, i64>(0))
    };
    let until = |what: &str, wanted: Option<i64>| {
        let since = Instant::now();
        wait_for(what, SOON, || (count("accounts") == wanted).then_some(()));
        println!("{what} after {:?}", since.elapsed());
    };
    assert_eq!(count("accounts"), None);
    let row = shop.grant(&format!("user:{ada}"), "accounts", &[]);
    until("a grant", Some(20));
    assert_eq!(count("public.accounts"), None, "the table itself stays shut");
    let deny = shop.grant("*", "accounts", &["--deny", "--where", "id < 15"]);
    until("a denial", Some(5));
    shop.command(&["permissions", "revoke", &deny, "--reason", "over"]);
    shop.command(&["permissions", "revoke", &row, "--reason", "over"]);
    until("its end", None);

    // Who is what there, the database says.
    shop.grant(&format!("role:{analysts}"), "accounts", &["--where", "id < 7"]);
    until_settled(&shop);
    assert_eq!(count("accounts"), None);
    database.execute(&format!("GRANT \"{analysts}\" TO \"{ada}\""));
    until("a membership", Some(7));

    // A node that sleeps is in nobody's way, and what it writes is what others do.
    first.signal(libc::SIGSTOP);
    let more = shop.grant(&format!("user:{ada}"), "accounts", &["--where", "id = 11"]);
    until("a grant beside a node that sleeps", Some(8));
    shop.send(20..40);
    wait_for("more rows", SOON, || {
        let rows = database.query("SELECT count(*) FROM public.accounts");
        (rows[0].get::<_, i64>(0) == 40).then_some(())
    });
    first.signal(libc::SIGCONT);
    shop.command(&["permissions", "revoke", &more, "--reason", "over"]);
    until("the end of a grant", Some(7));

    // What is granted past the rows is revoked, and a view that was changed is made anew.
    database.execute("GRANT SELECT ON public.accounts TO PUBLIC");
    wait_for("the right to be revoked", SOON, || count("public.accounts").is_none().then_some(()));
    database.execute(&format!("DROP VIEW \"{ada}\".accounts"));
    until("a view", Some(7));
    let done = shop.audit(&["--action", "rights"]);
    let told = |what: &str| {
        done.iter().any(|row| row["why"].as_str().is_some_and(|why| why.contains(what)))
    };
    assert!(told("revoke the rights of PUBLIC") && told(&format!("what {ada} sees of accounts")));

    // By hand, while no node runs.
    drop((first, second));
    database.execute("GRANT SELECT ON public.accounts TO PUBLIC");
    let by_hand = |code: i32, arguments: &[&str]| {
        let (found, printed) =
            shop.place.command(&[&["permissions", "database"], arguments].concat());
        assert_eq!(found, code, "{arguments:?}: {printed}");
        printed
    };
    let printed = by_hand(3, &["--dry-run"]);
    assert!(
        printed.contains("REVOKE ALL ON \"public\".\"accounts\" FROM PUBLIC CASCADE;"),
        "{printed}"
    );
    assert_eq!(count("public.accounts"), Some(40));
    by_hand(0, &[]);
    assert_eq!(count("public.accounts"), None);
    let printed = by_hand(0, &["--dry-run", "--output", "json"]);
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(printed, json!({"changes": [], "open": [], "dry_run": true}));
    assert_eq!(shop.place.verify()["verdict"], "ok");
}
