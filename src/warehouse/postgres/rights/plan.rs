//! What there is and what is wanted → what is to be done.

use std::collections::{BTreeMap, BTreeSet};

use super::actual::{Actual, ActualSchema, ActualView, Rights};
use super::view::{ARGUMENTS, WantedView, place};
use super::{READER_SCHEMA, condition::quoted};
use crate::warehouse::Reader;
use crate::warehouse::postgres::table::ident;

/// A right of a reader's that is beyond his views.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Exposure {
    pub reader: String,
    /// Its schema and its name.
    pub table: (String, String),
    /// The roles that it was granted to and that he is, or everybody.
    pub by: Vec<String>,
    /// Whether we may revoke it.
    pub is_ours: bool,
    /// He is a member of the owner.
    pub as_owner: bool,
}

/// One thing to do, in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub what: String,
    pub script: String,
    /// What keeps everybody out, if the script fails.
    pub close: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
    /// What only a person can mend.
    pub open: Vec<String>,
}

pub(super) fn plan(readers: &[Reader], wanted: &[WantedView], actual: &Actual) -> Plan {
    let mut plan = Plan::default();
    plan.revoke(&actual.exposures);
    for view in &actual.views {
        if !wanted.iter().any(|it| (&it.role, &it.name) == (&view.schema, &view.name)) {
            plan.drop(view);
        }
    }
    for reader in readers {
        let own: Vec<&WantedView> = wanted.iter().filter(|it| it.role == reader.role).collect();
        let schema = actual.schemas.iter().find(|schema| schema.name == reader.role);
        if own.is_empty() || !plan.schema(&reader.role, schema) {
            continue;
        }
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        for view in own {
            if let Some(other) = names.insert(&view.name, &view.feed) {
                plan.open.push(format!(
                    "{} and {other} have tables of the same name: {} sees one of them as {}; name another \
                     under warehouse.table",
                    view.feed, reader.role, view.name
                ));
                continue;
            }
            plan.view(view, actual);
        }
    }
    plan
}

impl Plan {
    fn step(&mut self, what: String, script: String, close: Option<String>) {
        self.steps.push(Step { what, script, close });
    }

    /// What was granted to several readers by one role is revoked once.
    fn revoke(&mut self, exposures: &[Exposure]) {
        let mut revoked = BTreeSet::new();
        for Exposure { reader, table, by, is_ours, as_owner } in exposures {
            let (schema, name) = table;
            let table = place(schema, name);
            if *as_owner || by.is_empty() {
                let why = match as_owner {
                    true => "as a member of its owner",
                    false => "by a right to all tables",
                };
                self.open.push(format!(
                    "{reader} reads {table} itself, {why}: revoke that membership, or that of the readers' role"
                ));
                continue;
            }
            for role in by {
                let from = if role == "PUBLIC" { role.clone() } else { ident(role) };
                let script = format!("REVOKE ALL ON {table} FROM {from}");
                if !revoked.insert(script.clone()) {
                    continue;
                }
                match is_ours {
                    true => self.step(
                        format!("revoke the rights of {role} to {table}, by which {reader} reads past the permission rows"),
                        script + ";",
                        None,
                    ),
                    false => self.open.push(format!(
                        "{reader} reads {table} itself by {role}, and it is not this node's role to revoke that: {script}"
                    )),
                }
            }
        }
    }

    fn drop(&mut self, view: &ActualView) {
        let place = place(&view.schema, &view.name);
        let script =
            format!("DROP VIEW IF EXISTS {place};\nDROP FUNCTION IF EXISTS {place}({ARGUMENTS});");
        self.step(format!("{} sees nothing of {place} any more", view.schema), script, close(view));
    }

    /// Whether views may be made in it.
    fn schema(&mut self, role: &str, actual: Option<&ActualSchema>) -> bool {
        let own = ident(role);
        let wanted: Rights = [format!("{role}=USAGE")].into();
        let grant = format!("GRANT USAGE ON SCHEMA {own} TO {own};");
        match actual {
            None => {
                let script = format!(
                    "CREATE SCHEMA {own};\nCOMMENT ON SCHEMA {own} IS {};\n{grant}",
                    quoted(READER_SCHEMA)
                );
                self.step(format!("a schema for what {role} sees"), script, None);
                true
            }
            Some(schema) if !schema.is_ours => {
                self.open.push(format!(
                    "{role} has a schema of that name that is not ours, so its views cannot be made: rename it, \
                     or let it be used: COMMENT ON SCHEMA {own} IS {}",
                    quoted(READER_SCHEMA)
                ));
                false
            }
            Some(schema) if schema.rights != wanted => {
                let script = revoked(&format!("SCHEMA {own}"), &schema.rights) + &grant;
                self.step(format!("the rights to the schema {role}"), script, None);
                true
            }
            Some(_) => true,
        }
    }

    fn view(&mut self, wanted: &WantedView, actual: &Actual) {
        let WantedView { role, name, feed, .. } = wanted;
        let there = actual.views.iter().find(|it| (&it.schema, &it.name) == (role, name));
        let what = format!("what {role} sees of {feed}");
        match there {
            Some(view) if view.hash == wanted.hash() && view.is_as_made => {
                let own = |privilege: &str| -> Rights { [format!("{role}={privilege}")].into() };
                let place = place(role, name);
                let mut script = String::new();
                if view.rights != own("SELECT") {
                    script += &revoked(&place, &view.rights);
                    script += &format!("GRANT SELECT ON {place} TO {};\n", ident(role));
                }
                if let Some(rights) = view.function.as_ref().filter(|it| **it != own("EXECUTE")) {
                    let function = format!("FUNCTION {place}({ARGUMENTS})");
                    script += &revoked(&function, rights);
                    script += &format!("GRANT EXECUTE ON {function} TO {};\n", ident(role));
                }
                if !script.is_empty() {
                    self.step(format!("the rights to {what}"), script, close(view));
                }
            }
            Some(view) => self.step(what, wanted.script(), close(view)),
            None if actual.others.contains(&(role.clone(), name.clone())) => {
                self.open.push(format!(
                    "{} is there already and is not ours: drop or rename it, and {role} sees {feed} under that name",
                    place(role, name)
                ));
            }
            None => self.step(what, wanted.script(), None),
        }
    }
}

/// Takes everybody's rights away, which waits for nobody who reads.
fn close(view: &ActualView) -> Option<String> {
    Some(revoked(&place(&view.schema, &view.name), &view.rights))
        .filter(|script| !script.is_empty())
}

fn revoked(of: &str, rights: &Rights) -> String {
    let roles: BTreeSet<&str> =
        rights.iter().filter_map(|right| Some(right.rsplit_once('=')?.0)).collect();
    let from = |role: &str| if role == "PUBLIC" { role.to_owned() } else { ident(role) };
    roles.into_iter().map(|role| format!("REVOKE ALL ON {of} FROM {};\n", from(role))).collect()
}
