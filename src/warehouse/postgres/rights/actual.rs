//! What readers have in the database now.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use super::view::{ARGUMENTS, MARK};
use super::{READER_SCHEMA, plan::Exposure};
use crate::record::SinkError;
use crate::warehouse::postgres::pool::{Session, judged};
use crate::warehouse::{Reader, Readers};

/// Rights to an object, each as `grantee=privilege`, but for its owner's.
pub(super) type Rights = BTreeSet<String>;

/// All that there is of ours.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Actual {
    pub schemas: Vec<ActualSchema>,
    pub views: Vec<ActualView>,
    /// What stands in readers' schemas under other names' marks: (schema, name).
    pub others: BTreeSet<(String, String)>,
    pub exposures: Vec<Exposure>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ActualSchema {
    pub name: String,
    pub is_ours: bool,
    pub rights: Rights,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ActualView {
    pub schema: String,
    pub name: String,
    /// Of the view that was wanted when it was made.
    pub hash: String,
    /// It is what was made then.
    pub is_as_made: bool,
    pub rights: Rights,
    /// To the function beside it, if there is one.
    pub function: Option<Rights>,
}

const ROLE: &str = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)";

/// Members of members are members, whether they inherit or have to say SET ROLE.
const READERS: &str = "
    WITH RECURSIVE reader AS (
        SELECT m.member FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE r.rolname = $1
        UNION SELECT m.member FROM pg_auth_members m JOIN reader ON m.roleid = reader.member
    ), held (reader, role) AS (
        SELECT member, member FROM reader
        UNION SELECT held.reader, m.roleid FROM pg_auth_members m JOIN held ON m.member = held.role
    )
    SELECT r.rolname::text, r.rolsuper,
           ARRAY(SELECT h.rolname::text FROM held JOIN pg_roles h ON h.oid = held.role
                 WHERE held.reader = r.oid AND h.oid <> r.oid AND h.rolname <> $1 ORDER BY 1)
    FROM pg_roles r JOIN reader ON reader.member = r.oid
    WHERE r.rolcanlogin ORDER BY 1";

/// Rights of others than the owner.
macro_rules! rights_of {
    ($acl:literal, $owner:literal) => {
        concat!(
            "ARRAY(SELECT coalesce(g.rolname::text, 'PUBLIC') || '=' || a.privilege_type FROM aclexplode(",
            $acl,
            ") a LEFT JOIN pg_roles g ON g.oid = a.grantee WHERE a.grantee <> ",
            $owner,
            ")"
        )
    };
}

const SCHEMAS: &str = concat!(
    "SELECT n.nspname::text, coalesce(obj_description(n.oid, 'pg_namespace') = $2, false), ",
    rights_of!("n.nspacl", "n.nspowner"),
    " FROM pg_namespace n WHERE n.nspname = ANY ($1::text[])
         OR obj_description(n.oid, 'pg_namespace') = $2 ORDER BY 1"
);

const VIEWS: &str = concat!(
    "SELECT n.nspname::text, c.relname::text, d.description, tidegate.view_definition(c.oid), ",
    rights_of!("c.relacl", "c.relowner"),
    ", p.oid IS NOT NULL, ",
    rights_of!("coalesce(p.proacl, acldefault('f', p.proowner))", "p.proowner"),
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
      LEFT JOIN pg_proc p ON p.pronamespace = c.relnamespace AND p.proname = c.relname
           AND pg_get_function_identity_arguments(p.oid) = $2
      WHERE c.relkind = 'v' AND starts_with(d.description, $1) ORDER BY 1, 2"
);

const OTHERS: &str = "
    SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY ($1::text[])
      AND NOT (c.relkind = 'v' AND starts_with(coalesce(obj_description(c.oid, 'pg_class'), ''), $2))";

/// Rights that a reader has to what he is to see through views alone, and by which roles he has them.
const EXPOSURES: &str = "
    WITH hidden AS (
        SELECT c.oid, c.relowner, c.relacl, c.relnamespace, c.relname FROM pg_class c
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND (c.relnamespace = to_regnamespace('tidegate')
               OR c.oid = ANY (SELECT to_regclass(name) FROM unnest($2::text[]) AS given (name)))
    ), granted AS (
        SELECT h.oid, a.grantee FROM hidden h CROSS JOIN aclexplode(h.relacl) a WHERE a.grantee <> h.relowner
        UNION
        SELECT h.oid, a.grantee FROM hidden h JOIN pg_attribute t ON t.attrelid = h.oid
        CROSS JOIN aclexplode(t.attacl) a WHERE a.grantee <> h.relowner
    ), reader AS (
        SELECT oid, rolname FROM pg_roles WHERE rolname = ANY ($1::text[])
    )
    SELECT r.rolname::text, n.nspname::text, h.relname::text,
           ARRAY(SELECT coalesce(g.rolname::text, 'PUBLIC') FROM granted
                 LEFT JOIN pg_roles g ON g.oid = granted.grantee
                 WHERE granted.oid = h.oid AND (granted.grantee = 0 OR pg_has_role(r.oid, granted.grantee, 'MEMBER'))
                 ORDER BY 1),
           pg_has_role(h.relowner, 'USAGE'), pg_has_role(r.oid, h.relowner, 'MEMBER')
    FROM hidden h JOIN pg_namespace n ON n.oid = h.relnamespace CROSS JOIN reader r
    WHERE pg_has_role(r.oid, h.relowner, 'MEMBER')
       OR has_table_privilege(r.oid, h.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
       OR EXISTS (SELECT FROM granted WHERE granted.oid = h.oid
                  AND (granted.grantee = 0 OR pg_has_role(r.oid, granted.grantee, 'MEMBER')))
    ORDER BY 1, 2, 3";

/// Who is to be held to the permission rows.
pub(super) async fn readers(session: &Session, role: &str) -> Result<Readers, SinkError> {
    let mut found = Readers::default();
    if !session.query_one(ROLE, &[&role]).await.map_err(judged)?.get::<_, bool>(0) {
        found.open.push(format!(
            "governance.postgres.readers: there is no role {role}: CREATE ROLE {0} NOLOGIN, and GRANT {0} \
             TO whoever is to read under the permission rows",
            super::ident(role)
        ));
        return Ok(found);
    }
    for row in session.query(READERS, &[&role]).await.map_err(judged)? {
        let (name, is_super): (String, bool) = (row.get(0), row.get(1));
        if is_super {
            found.open.push(format!("{name} is a superuser, whom no permission row holds"));
            continue;
        }
        let member_of = row.get::<_, Vec<String>>(2).into_iter().collect();
        found.readers.push(Reader { role: name, member_of });
    }
    Ok(found)
}

/// `tables` are all that hold feeds' rows, in quotes.
pub(super) async fn read(
    session: &Session,
    readers: &[Reader],
    tables: &[String],
) -> Result<Actual, SinkError> {
    let roles: Vec<&str> = readers.iter().map(|reader| reader.role.as_str()).collect();
    let schemas = session.query(SCHEMAS, &[&roles, &READER_SCHEMA]).await.map_err(judged)?;
    let views = session.query(VIEWS, &[&MARK, &ARGUMENTS]).await.map_err(judged)?;
    let others = session.query(OTHERS, &[&roles, &MARK]).await.map_err(judged)?;
    let exposures = session.query(EXPOSURES, &[&roles, &tables]).await.map_err(judged)?;
    let schema =
        |row: &Row| ActualSchema { name: row.get(0), is_ours: row.get(1), rights: rights(row, 2) };
    Ok(Actual {
        schemas: schemas.iter().map(schema).collect(),
        views: views.iter().map(view).collect(),
        others: others.iter().map(|row| (row.get(0), row.get(1))).collect(),
        exposures: exposures.iter().map(exposure).collect(),
    })
}

fn view(row: &Row) -> ActualView {
    let comment: &str = row.get(2);
    let told = comment.strip_prefix(MARK).and_then(|it| it.split_once(' '));
    let (hash, made) = told.unwrap_or_default();
    ActualView {
        schema: row.get(0),
        name: row.get(1),
        hash: hash.to_owned(),
        is_as_made: row.get::<_, &str>(3) == made,
        rights: rights(row, 4),
        function: row.get::<_, bool>(5).then(|| rights(row, 6)),
    }
}

fn exposure(row: &Row) -> Exposure {
    Exposure {
        reader: row.get(0),
        table: (row.get(1), row.get(2)),
        by: row.get(3),
        is_ours: row.get(4),
        as_owner: row.get(5),
    }
}

fn rights(row: &Row, index: usize) -> Rights {
    row.get::<_, Vec<String>>(index).into_iter().collect()
}
