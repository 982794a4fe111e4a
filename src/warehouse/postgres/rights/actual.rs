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
    /// Functions such as stand beside views: (schema, name). One may have outlived its view.
    pub functions: BTreeSet<(String, String)>,
    /// What stands in readers' schemas and is not ours: (schema, name).
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

/// Members of members are members, whether they inherit or have to say SET ROLE; not those who may only make
/// others members, as the role's maker may (PostgreSQL 16).
const READERS: &str = "
    WITH RECURSIVE members AS (
        SELECT m.roleid, m.member FROM pg_auth_members m
        WHERE coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
           OR coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
    ), reader AS (
        SELECT m.member FROM members m JOIN pg_roles r ON r.oid = m.roleid WHERE r.rolname = $1
        UNION SELECT m.member FROM members m JOIN reader ON m.roleid = reader.member
    ), held (reader, role) AS (
        SELECT member, member FROM reader
        UNION SELECT held.reader, m.roleid FROM members m JOIN held ON m.member = held.role
    )
    SELECT r.rolname::text,
           ARRAY(SELECT h.rolname::text FROM held JOIN pg_roles h ON h.oid = held.role
                 WHERE held.reader = r.oid AND h.oid <> r.oid AND h.rolname <> $1 ORDER BY 1),
           r.rolsuper, r.rolreplication, r.rolcreaterole
    FROM pg_roles r JOIN reader ON reader.member = r.oid
    WHERE r.rolcanlogin ORDER BY 1";

/// Roles with ways past any right to a table.
const FILES: [&str; 3] =
    ["pg_read_server_files", "pg_write_server_files", "pg_execute_server_program"];

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
    "SELECT n.nspname::text, c.relname::text, left(d.description, 200), tidegate.view_definition(c.oid), ",
    rights_of!("c.relacl", "c.relowner"),
    ", p.oid IS NOT NULL, ",
    rights_of!("coalesce(p.proacl, acldefault('f', p.proowner))", "p.proowner"),
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
      LEFT JOIN pg_proc p ON p.pronamespace = c.relnamespace AND p.proname = c.relname
           AND pg_get_function_identity_arguments(p.oid) = $2
      WHERE c.relkind = 'v' AND starts_with(d.description, $1)
        AND obj_description(n.oid, 'pg_namespace') = $3
        AND c.relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)
      ORDER BY 1, 2"
);

const FUNCTIONS: &str = "
    SELECT n.nspname::text, p.proname::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE obj_description(n.oid, 'pg_namespace') = $1
      AND p.proowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)
      AND pg_get_function_identity_arguments(p.oid) = $2";

const OTHERS: &str = "
    SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY ($1::text[])
      AND NOT (c.relkind = 'v' AND starts_with(coalesce(obj_description(c.oid, 'pg_class'), ''), $2)
               AND c.relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user))";

/// Rights that a reader has to what he is to see through views alone, and by which roles he has them.
const EXPOSURES: &str = "
    WITH RECURSIVE named (oid) AS (
        SELECT to_regclass(name)::oid FROM unnest($2::text[]) AS given (name)
        UNION SELECT i.inhrelid FROM pg_inherits i JOIN named ON named.oid = i.inhparent
    ), hidden AS (
        SELECT c.oid, c.relowner, c.relacl, c.relnamespace, c.relname FROM pg_class c
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND (c.relnamespace = to_regnamespace('tidegate') OR c.oid IN (SELECT oid FROM named))
    ), acl AS (
        SELECT h.oid, h.relowner, a.grantee, a.grantor FROM hidden h CROSS JOIN aclexplode(h.relacl) a
        UNION
        SELECT h.oid, h.relowner, a.grantee, a.grantor FROM hidden h JOIN pg_attribute t ON t.attrelid = h.oid
        CROSS JOIN aclexplode(t.attacl) a
    ), granted AS (
        SELECT oid, grantee, CASE WHEN grantor <> relowner THEN grantor END AS by FROM acl
        WHERE grantee <> relowner
    ), reader AS (
        SELECT oid, rolname FROM pg_roles WHERE rolname = ANY ($1::text[])
    )
    SELECT r.rolname::text, n.nspname::text, h.relname::text,
           ARRAY(SELECT DISTINCT coalesce(g.rolname::text, 'PUBLIC') FROM granted
                 LEFT JOIN pg_roles g ON g.oid = granted.grantee
                 WHERE granted.oid = h.oid AND granted.by IS NULL
                   AND (granted.grantee = 0 OR pg_has_role(r.oid, granted.grantee, 'MEMBER'))
                 ORDER BY 1),
           ARRAY(SELECT DISTINCT b.rolname::text FROM granted JOIN pg_roles b ON b.oid = granted.by
                 WHERE granted.oid = h.oid
                   AND (granted.grantee = 0 OR pg_has_role(r.oid, granted.grantee, 'MEMBER'))
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
    let rows = session.query(READERS, &[&role]).await.map_err(judged)?;
    let names: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    for row in &rows {
        let name: String = row.get(0);
        let [is_super, replicates, makes_roles]: [bool; 3] = [2, 3, 4].map(|index| row.get(index));
        if is_super {
            found.open.push(format!("{name} is a superuser, whom no permission row holds"));
            continue;
        }
        let member_of: BTreeSet<String> = row.get::<_, Vec<String>>(1).into_iter().collect();
        let past = [(replicates, "REPLICATION"), (makes_roles, "CREATEROLE")];
        let past = past.into_iter().filter(|(has, _)| *has).map(|(_, what)| what.to_owned());
        let others = |role: &&String| names.contains(*role) || FILES.contains(&role.as_str());
        let memberships = member_of.iter().filter(others);
        let memberships = memberships.map(|role| format!("membership in {role}"));
        found.open.extend(past.chain(memberships).map(|what| {
            format!(
                "{name} has {what}, by which he may read what no permission row lets him: take it away"
            )
        }));
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
    let views = session.query(VIEWS, &[&MARK, &ARGUMENTS, &READER_SCHEMA]);
    let views = views.await.map_err(judged)?;
    let functions = session.query(FUNCTIONS, &[&READER_SCHEMA, &ARGUMENTS]).await;
    let functions = functions.map_err(judged)?;
    let others = session.query(OTHERS, &[&roles, &MARK]).await.map_err(judged)?;
    let exposures = session.query(EXPOSURES, &[&roles, &tables]).await.map_err(judged)?;
    let schema =
        |row: &Row| ActualSchema { name: row.get(0), is_ours: row.get(1), rights: rights(row, 2) };
    Ok(Actual {
        schemas: schemas.iter().map(schema).collect(),
        views: views.iter().map(view).collect(),
        functions: functions.iter().map(|row| (row.get(0), row.get(1))).collect(),
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
        by_others: row.get(4),
        is_ours: row.get(5),
        as_owner: row.get(6),
    }
}

fn rights(row: &Row, index: usize) -> Rights {
    row.get::<_, Vec<String>>(index).into_iter().collect()
}
