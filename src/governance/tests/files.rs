use std::collections::{BTreeMap, BTreeSet};

use super::row;
use crate::governance::*;

fn folder(feed: &str, action: Action, path: &str) -> FeedFolder {
    FeedFolder { feed: feed.to_owned(), action, path: path.to_owned() }
}

fn rows(texts: &[&str]) -> Vec<Row> {
    (1..).zip(texts).map(|(id, text)| row(id, text)).collect()
}

fn groups(names: &[(&str, &str)]) -> BTreeMap<String, String> {
    names.iter().map(|(name, group)| (name.to_string(), group.to_string())).collect()
}

/// `*`, the Unix group, or `-`, of feed `sales` at a moment of 1000.
fn open_to(texts: &[&str], names: &[(&str, &str)]) -> (String, String) {
    opened(texts, names, Action::Read)
}

fn opened(texts: &[&str], names: &[(&str, &str)], action: Action) -> (String, String) {
    let folders = [folder("sales", action, "streams/sales")];
    let opening = openings(&rows(texts), &folders, &groups(names), 1000).remove(0);
    let to = match opening.to {
        OpenTo::Everybody => "*".to_owned(),
        OpenTo::Group(group) => group,
        OpenTo::Nobody => "-".to_owned(),
    };
    (to, [opening.why, opening.remedy.unwrap_or_default()].join("; "))
}

#[test]
fn a_folder_is_open_to_those_alone_who_may_read_all_of_it() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&[], "-", "no row"),
        (&["to *; on sales"], "*", "row 1"),
        (&["to *; on sal*"], "*", "row 1"),
        (&["to *; on other"], "-", "no row"),
        (&["to group:fin; on sales"], "fin", "row 1"),
        (&["to role:fin; on *"], "fin", "row 1"),
        (&["to group:fin; on sales", "to role:fin; on sales"], "fin", "row 1, 2"),
        (&["to group:fin; on sales", "to *; on sales"], "*", "row 2"),
        // Two groups, and users, are more than a mode can say.
        (&["to group:fin", "to group:ops"], "-", "several groups may read it (fin, ops)"),
        (&["to user:ada"], "-", "row 1 is for user:ada"),
        (&["to user:ada", "to group:fin"], "fin", "row 2"),
        // What is narrow opens nothing, and takes nothing away.
        (&["to *; columns a b"], "-", "row 1 shows a part"),
        (&["to *; mask a hash"], "-", "row 1 shows a part"),
        (&["to *; where a = 1"], "-", "row 1 shows a part"),
        (&["to *; from 2026-01-01"], "-", "row 1 shows a part"),
        (&["to *; mask a hash", "to group:fin"], "fin", "row 2"),
        // A denial closes: who it is for may be in any group.
        (&["to *", "deny; to user:eve"], "-", "row 2 denies user:eve"),
        (&["to *", "deny; to *; columns a"], "-", "row 2 denies *"),
        (&["to group:fin", "deny; to group:fin; where a = 1"], "-", "row 2 denies group:fin"),
        (&["to group:fin", "deny; to group:ops"], "-", "nobody can be left out"),
        (&["to *", "deny; to user:eve; on other"], "*", "row 1"),
        (&["to *", "deny; to user:eve; may write"], "*", "row 1"),
        // From the moment at which a row expires there is none.
        (&["to *; until 1001"], "*", "row 1"),
        (&["to *; until 1000"], "-", "no row"),
        (&["to *", "deny; to *; until 1000"], "*", "row 1"),
        (&["to *; until 1000", "to group:fin"], "fin", "row 2"),
        // What is for something else lets nobody read.
        (&["to *; may quarantine", "to *; may write", "to *; may manage"], "-", "no row"),
    ];
    for (texts, to, said) in cases {
        let (found, why) = open_to(texts, &[]);
        assert_eq!(found, *to, "{texts:?}: {why}");
        assert!(why.contains(said), "{texts:?}: {why}");
    }
}

#[test]
fn a_quarantine_is_open_to_those_who_may_see_it() {
    for (texts, to) in [
        (&["to *", "to group:fin; may quarantine"][..], "fin"),
        (&["to *"], "-"),
        (&["to *; may quarantine", "deny; to *; may read"], "*"),
        (&["to *; may quarantine", "deny; to user:eve; may quarantine"], "-"),
    ] {
        assert_eq!(opened(texts, &[], Action::Quarantine).0, to, "{texts:?}");
    }
}

#[test]
fn unix_groups_stand_for_all_who_are_named_for_them() {
    let both = [("fin", "lake"), ("role:ops", "lake")];
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: &[Case<'_>] = &[
        (&["to group:fin"], &[("fin", "finance")], "finance", "row 1"),
        // A role is not a group of the same name.
        (&["to role:fin"], &[("fin", "finance")], "fin", "row 1"),
        (&["to role:fin"], &[("role:fin", "finance")], "finance", "row 1"),
        (&["to group:fin", "to role:ops"], &both, "lake", "row 1, 2"),
        (&["to group:fin"], &both, "-", "Unix group lake stands for role:ops, too"),
        // By its own name, where others are in it.
        (&["to group:lake"], &[("fin", "lake")], "-", "stands for group:fin"),
        (&["to group:lake", "to group:fin"], &[("fin", "lake")], "lake", "row 1, 2"),
    ];
    for (texts, names, to, said) in cases {
        let (found, why) = open_to(texts, names);
        assert_eq!(found, *to, "{texts:?}: {why}");
        assert!(why.contains(said), "{texts:?}: {why}");
    }
}

#[test]
fn feeds_in_one_folder_are_closed() {
    let of = |feed, path| folder(feed, Action::Read, path);
    let folders = [of("a", "x"), of("b", "x"), of("c", "y"), of("d", "y/d"), of("e", "yd")];
    let rows = rows(&["to *"]);
    let found = openings(&rows, &folders, &BTreeMap::new(), 0);
    let open: Vec<bool> = found.iter().map(|it| it.to == OpenTo::Everybody).collect();
    assert_eq!(open, [false, false, false, false, true]);
    assert!(found[2].why.contains("feed d"), "{}", found[2].why);
    assert!(found[2].remedy.as_ref().is_some_and(|it| it.contains("lake.layout")));
    let bucket = Bucket { name: "b", prefix: "" };
    let who = BTreeMap::from([(Grantee::Everybody, BTreeSet::from(["me".to_owned()]))]);
    let policy = bucket_policy(&rows, &folders, bucket, &who, 0);
    assert_eq!(policy.document["Statement"].as_array().map(Vec::len), Some(2));
    assert_eq!(policy.left_out.len(), 4, "{:?}", policy.left_out);
}

/// Nobody is let in, at any moment between, whom neither the first mode nor the last one lets in.
#[test]
fn changes_let_nobody_in_between() {
    let modes = [0o700, 0o750, 0o755, 0o777, 0o770, 0o000, 0o500, 0o705];
    for from in modes {
        for group in [7, 8] {
            for (bits, gid) in [(0o700, None), (0o755, None), (0o750, Some(7)), (0o700, Some(7))] {
                let actual = FolderMode { bits: from, gid: group };
                let wanted = WantedMode { bits, gid };
                let mut now = actual;
                for change in mode_changes(actual, wanted) {
                    match change {
                        ModeChange::Bits(bits) => now.bits = bits,
                        ModeChange::Group(gid) => now.gid = gid,
                    }
                    let of_group = |mode: FolderMode, gid: u32| {
                        let shift = if mode.gid == gid { 3 } else { 0 };
                        mode.bits >> shift & 0o7
                    };
                    let last = FolderMode { bits, gid: gid.unwrap_or(group) };
                    for member in [7, 8, 9] {
                        let before = of_group(actual, member) | of_group(last, member);
                        let between = of_group(now, member);
                        assert_eq!(between & !before, 0, "{actual:?} to {wanted:?}: {now:?}");
                    }
                }
                assert_eq!(now.bits, bits);
                assert!(gid.is_none_or(|gid| gid == now.gid));
                assert_eq!(mode_changes(now, wanted), [], "it is done once");
            }
        }
    }
    let closed = FolderMode { bits: 0o750, gid: 8 };
    let other = WantedMode { bits: 0o750, gid: Some(7) };
    let steps = [ModeChange::Bits(0o700), ModeChange::Group(7), ModeChange::Bits(0o750)];
    assert_eq!(mode_changes(closed, other), steps);
}

#[test]
fn a_bucket_policy_allows_whole_feeds_alone() {
    let folders = [
        folder("sales", Action::Read, "streams/sales"),
        folder("sales", Action::Quarantine, "quarantine/sales"),
        folder("people", Action::Read, "tables/people"),
    ];
    let rows = rows(&[
        "to group:fin; on sales",
        "to group:fin; on sales",
        "to role:ops; on *",
        "deny; to user:eve; on people",
        "to user:ada; on people",
        "to user:eve; on people",
        "to group:fin; on sales; may quarantine",
        "to group:hr; on sales; mask name hash",
        "to group:old; on sales; until 1000",
        "to group:who; on sales",
    ]);
    let arn = |name: &str| BTreeSet::from([format!("arn:aws:iam::1:role/{name}")]);
    let who = ["group:fin", "role:ops", "user:ada", "user:eve", "group:hr", "group:old"];
    let who = who.iter().map(|it| (it.parse().unwrap(), arn(&it.replace(':', "-")))).collect();
    let bucket = Bucket { name: "lake", prefix: "a/b" };
    let policy = bucket_policy(&rows, &folders, bucket, &who, 1000);
    let of = |statement: &serde_json::Value| {
        let text = |field: &str| statement[field].as_str().unwrap().to_owned();
        assert_eq!(text("Effect"), "Allow");
        let principal = statement["Principal"]["AWS"][0].as_str().unwrap();
        let principal = principal.rsplit_once('/').unwrap().1.to_owned();
        [text("Sid"), principal, text("Action"), text("Resource")].join(" ")
    };
    let statements = policy.document["Statement"].as_array().unwrap();
    let found: Vec<String> = statements.iter().map(of).collect();
    assert_eq!(
        found,
        [
            "Get0SalesReadRow1 group-fin s3:GetObject arn:aws:s3:::lake/a/b/streams/sales/*",
            "List0SalesReadRow1 group-fin s3:ListBucket arn:aws:s3:::lake",
            "Get2SalesReadRow3 role-ops s3:GetObject arn:aws:s3:::lake/a/b/streams/sales/*",
            "List2SalesReadRow3 role-ops s3:ListBucket arn:aws:s3:::lake",
            "Get4SalesQuarantineRow7 group-fin s3:GetObject arn:aws:s3:::lake/a/b/quarantine/sales/*",
            "List4SalesQuarantineRow7 group-fin s3:ListBucket arn:aws:s3:::lake",
            "Get6PeopleReadRow5 user-ada s3:GetObject arn:aws:s3:::lake/a/b/tables/people/*",
            "List6PeopleReadRow5 user-ada s3:ListBucket arn:aws:s3:::lake",
        ]
    );
    assert_eq!(policy.document["Version"], "2012-10-17");
    let prefixes = &statements[1]["Condition"]["StringLike"]["s3:prefix"];
    assert_eq!(*prefixes, "a/b/streams/sales/*");
    for said in [
        "sales: row 8 for group:hr: it shows a part",
        "sales: row 10 for group:who: say who that is",
        "people: row 3 for role:ops: row 4 denies user:eve",
        "people: row 6 for user:eve: row 4 denies user:eve",
    ] {
        let told = policy.left_out.iter().filter(|it| it.starts_with(said)).count();
        assert_eq!(told, 1, "{said}: {:#?}", policy.left_out);
    }
    assert_eq!(policy.left_out.len(), 4, "{:#?}", policy.left_out);
}

#[test]
fn a_bucket_policy_ends_with_its_rows_and_lets_nobody_in_by_anothers_name() {
    let folders = [folder("sales", Action::Read, "streams/sales")];
    let policy = |texts: &[&str], who: &[(&str, &str)]| {
        let mut principals: BTreeMap<Grantee, BTreeSet<String>> = BTreeMap::new();
        for (grantee, arn) in who {
            principals.entry(grantee.parse().unwrap()).or_default().insert(arn.to_string());
        }
        let bucket = Bucket { name: "lake", prefix: "" };
        bucket_policy(&rows(texts), &folders, bucket, &principals, 1000)
    };
    let until = |texts: &[&str]| {
        let found = policy(texts, &[("user:ada", "a")]);
        let statements = found.document["Statement"].as_array().unwrap().clone();
        let ends: BTreeSet<String> = statements
            .iter()
            .map(|it| it["Condition"]["DateLessThan"]["aws:CurrentTime"].to_string())
            .collect();
        assert_eq!((statements.len(), ends.len()), (2, 1), "{:#}", found.document);
        ends.into_iter().next().unwrap()
    };
    let (one, other) = ("to user:ada; on sales; until 5000", "to user:ada; on sales; until 9000");
    assert_eq!(until(&[one]), "\"1970-01-01T00:00:05Z\"");
    assert_eq!(until(&[one, other]), "\"1970-01-01T00:00:09Z\"");
    assert_eq!(until(&[one, "to user:ada; on sales"]), "null");

    let both = [("user:ada", "a"), ("user:bob", "a"), ("user:ada", "own")];
    let allowed = |texts: &[&str]| {
        let found = policy(texts, &both);
        let principals = found.document["Statement"][0]["Principal"]["AWS"].to_string();
        (principals, found.left_out.len())
    };
    let (ada, bob) = ("to user:ada; on sales", "to user:bob; on sales");
    assert_eq!(allowed(&[ada]), ("[\"own\"]".to_owned(), 1), "bob is a, too");
    assert_eq!(allowed(&[ada, bob]), ("[\"a\",\"own\"]".to_owned(), 0));
    let denied = allowed(&[ada, bob, "deny; to user:bob; on sales"]);
    assert_eq!(denied, ("[\"own\"]".to_owned(), 2));
}
