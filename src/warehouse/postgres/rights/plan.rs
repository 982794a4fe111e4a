//! What there is and what is wanted → what is to be done.

use std::collections::{BTreeMap, BTreeSet};

use super::actual::{Actual, ActualSchema, Rights};
use super::view::{ARGUMENTS, WantedView, named, place};
use super::{READER_SCHEMA, condition::quoted};
use crate::warehouse::Reader;
use crate::warehouse::postgres::table::ident;

/// A right of a reader's that is beyond his views.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Exposure {
    pub reader: String,
    /// Its schema and its name.
    pub table: (String, String),
    /// The roles that the owner granted it to and that he is, or everybody.
    pub by: Vec<String>,
    /// Those who granted it to such roles, and are not the owner.
    pub by_others: Vec<String>,
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
    /// Nothing is to be left, so that it is shut before anything else is done.
    pub ends: bool,
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
    let find =
        |schema: &str, name: &str| wanted.iter().find(|it| it.role == schema && it.name == name);
    for view in &actual.views {
        if find(&view.schema, &view.name).is_none() {
            plan.drop(&view.schema, &view.name);
        }
    }
    for (schema, name) in &actual.functions {
        let has_view = actual.views.iter().any(|it| it.schema == *schema && it.name == *name);
        if !has_view && !find(schema, name).is_some_and(WantedView::has_function) {
            plan.drop(schema, name);
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
        self.steps.push(Step { what, script, close, ends: false });
    }

    /// What was granted to several readers by one role is revoked once.
    fn revoke(&mut self, exposures: &[Exposure]) {
        let mut revoked = BTreeSet::new();
        for Exposure { reader, table, by, by_others, is_ours, as_owner } in exposures {
            let (schema, name) = table;
            let table = place(schema, name);
            for other in by_others {
                self.open.push(format!(
                    "{reader} reads {table} itself, by a right that {other} granted: REVOKE GRANT OPTION FOR ALL \
                     PRIVILEGES ON {table} FROM {} CASCADE",
                    ident(other)
                ));
            }
            if *as_owner || (by.is_empty() && by_others.is_empty()) {
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
                let script = format!("REVOKE ALL ON {table} FROM {from} CASCADE");
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

    /// A view, and the function beside it.
    fn drop(&mut self, schema: &str, name: &str) {
        let place = place(schema, name);
        let script =
            format!("DROP VIEW IF EXISTS {place};\nDROP FUNCTION IF EXISTS {place}({ARGUMENTS});");
        let what = format!("{schema} sees nothing of {place} any more");
        self.steps.push(Step { what, script, close: Some(close(schema, name)), ends: true });
    }

    /// Whether views may be made in it.
    fn schema(&mut self, role: &str, actual: Option<&ActualSchema>) -> bool {
        let own = ident(role);
        let wanted: Rights = [format!("{role}=USAGE")].into();
        let keep = format!("SELECT tidegate.keep_schema({});", quoted(role));
        match actual {
            None => {
                let script = format!(
                    "CREATE SCHEMA {own};\nCOMMENT ON SCHEMA {own} IS {};\n{keep}",
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
                self.step(format!("the rights to the schema {role}"), keep, None);
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
                let beside = view.function.as_ref().is_none_or(|rights| *rights == own("EXECUTE"));
                if view.rights != own("SELECT") || !beside {
                    let script = format!("SELECT tidegate.keep_view({});", named(role, name));
                    self.step(format!("the rights to {what}"), script, Some(close(role, name)));
                }
            }
            Some(_) => self.step(what, wanted.script(), Some(close(role, name))),
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
fn close(schema: &str, name: &str) -> String {
    format!("SELECT tidegate.shut_view({});", named(schema, name))
}
