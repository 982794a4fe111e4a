//! What `governance.sources` means, checked: names, tables, and that every row would say something.

use std::path::Path;

use super::check::{reserved_schema, valid_table};
use super::{Fault, Node, PermissionSource, Warehouse};

/// All are read again every second.
const MOST: usize = 16;

/// Collects the faults of a node's sources.
pub fn sources(node: &Node, file: &Path) -> Vec<Fault> {
    let sources = &node.governance.sources;
    let mut check =
        SourceCheck { file, field: "governance.sources".to_owned(), faults: Vec::new() };
    if !sources.is_empty() && node.warehouse.is_none() {
        let allowed = "a `warehouse`: the tables are in its database";
        check.fault("", "tables, and no `warehouse`", allowed);
    }
    if sources.len() > MOST {
        check.fault("", format!("{} tables", sources.len()), format!("at most {MOST}"));
    }
    for (name, source) in sources {
        check.field = format!("governance.sources.{name}");
        if !valid_name(name) {
            let allowed = "a name of at most 63 lower-case letters, digits and `_`";
            check.fault("", format!("`{name}`"), allowed);
        }
        check.source(source, node.warehouse.as_ref());
    }
    check.faults
}

fn valid_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    (1..=63).contains(&name.len()) && name.bytes().all(legal)
}

/// A column may have any name that a database gives one.
fn valid_column(name: &str) -> bool {
    (1..=63).contains(&name.len()) && !name.chars().any(char::is_control)
}

struct SourceCheck<'a> {
    file: &'a Path,
    /// Of the source that is looked at.
    field: String,
    faults: Vec<Fault>,
}

impl SourceCheck<'_> {
    fn fault(&mut self, below: &str, found: impl Into<Box<str>>, allowed: impl Into<String>) {
        let dot = if below.is_empty() { "" } else { "." };
        let field = format!("{}{dot}{below}", self.field);
        self.faults.push(Fault::new(self.file, field, found, allowed));
    }

    fn source(&mut self, source: &PermissionSource, warehouse: Option<&Warehouse>) {
        self.table(&source.table, warehouse);
        if source.id.is_empty() {
            let allowed = "the columns whose values tell the rows apart";
            self.fault("id", "an empty list", allowed);
        }
        let PermissionSource { id, principal, feed, action, only_if, effect, .. } = source;
        for (index, column) in id.iter().enumerate() {
            self.column(&format!("id[{index}]"), column);
        }
        for (index, column) in only_if.iter().enumerate() {
            self.column(&format!("only_if[{index}]"), column);
        }
        self.column("principal.column", &principal.column);
        let lists = feed.names.iter().map(|(value, feeds)| (value, feeds.is_empty()));
        self.lists("feed", "feeds", lists);
        self.either("feed", feed.column.as_deref(), !feed.always.is_empty(), feed.names.len());
        let lists = action.names.iter().map(|(value, actions)| (value, actions.is_empty()));
        self.lists("action", "actions", lists);
        let always = !action.always.is_empty();
        self.either("action", action.column.as_deref(), always, action.names.len());
        if action.column.is_some() && action.names.is_empty() {
            let allowed = "what each of the column's values stands for, such as `{SELECT: [read]}`";
            self.fault("action.names", "nothing", allowed);
        }
        if let Some(effect) = effect {
            self.column("effect.column", &effect.column);
            if effect.names.is_empty() {
                let allowed = "what each of the column's values stands for: `allow` or `deny`";
                self.fault("effect.names", "nothing", allowed);
            }
        }
        let PermissionSource { columns, masks, predicate, expires_at, .. } = source;
        for (field, column) in [
            ("columns", columns),
            ("masks", masks),
            ("predicate", predicate),
            ("expires_at", expires_at),
        ] {
            column.iter().for_each(|column| self.column(field, column));
        }
    }

    fn table(&mut self, table: &str, warehouse: Option<&Warehouse>) {
        let sqlite = warehouse.is_some_and(|warehouse| warehouse.url.starts_with("sqlite:"));
        let own = match (sqlite, table.split_once('.')) {
            (true, _) => ["tidegate_", "sqlite_"].iter().any(|prefix| table.starts_with(prefix)),
            (false, Some((schema, _))) => reserved_schema(schema),
            (false, None) => false,
        };
        if !valid_table(table) {
            let allowed = "`name` or `schema.name`, each of at most 63 letters, digits and `_`";
            self.fault("table", format!("`{table}`"), allowed);
        } else if own {
            let allowed = "a table that is neither the database's own nor Tidegate's";
            self.fault("table", format!("`{table}`"), allowed);
        }
    }

    fn column(&mut self, field: &str, column: &str) {
        if !valid_column(column) {
            let allowed = "the name of a column, of 1 to 63 bytes";
            self.fault(field, format!("`{column}`"), allowed);
        }
    }

    /// Each value stands for something.
    fn lists<'v>(
        &mut self,
        field: &str,
        what: &str,
        lists: impl Iterator<Item = (&'v String, bool)>,
    ) {
        for (value, _) in lists.filter(|(_, empty)| *empty) {
            let field = format!("{field}.names.{value}");
            self.fault(&field, "an empty list", format!("a list of {what}, or no such value"));
        }
    }

    /// Either a column says it, or every row says the same.
    fn either(&mut self, field: &str, column: Option<&str>, always: bool, names: usize) {
        match (column, always) {
            (Some(column), false) => self.column(&format!("{field}.column"), column),
            (None, true) if names > 0 => {
                let allowed = "none without a `column`, whose values they are";
                self.fault(&format!("{field}.names"), format!("{names} values"), allowed);
            }
            (None, true) => {}
            (Some(_), true) => {
                let allowed = "none: `always` says it for every row. Take one of both away";
                self.fault(&format!("{field}.column"), "a column", allowed);
            }
            (None, false) => {
                let allowed = "`column`, or `always` for what every row says";
                self.fault(field, "neither", allowed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "table: t, id: [id], principal: {column: who}, feed: {column: what}, \
                         action: {always: [read]}";

    fn faults(warehouse: &str, source: &str) -> Vec<Fault> {
        faults_of(&format!("{warehouse}\ngovernance: {{sources: {{s: {{{source}}}}}}}"))
    }

    fn faults_of(rest: &str) -> Vec<Fault> {
        let text = format!("kafka: {{bootstrap: 'a:1'}}\n{rest}\n");
        let node: Node =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        sources(&node, Path::new("node.yaml"))
    }

    const POSTGRES: &str = "warehouse: {url: 'postgres://u@h/d'}";
    const SQLITE: &str = "warehouse: {url: 'sqlite:w.db'}";

    #[test]
    fn sound_sources_have_no_faults() {
        for (warehouse, source) in [
            (POSTGRES, PLAIN.to_owned()),
            (SQLITE, PLAIN.to_owned()),
            (POSTGRES, PLAIN.replace("table: t", "table: dwh.t")),
            (SQLITE, PLAIN.replace("always: [read]", "column: a, names: {rw: [read, write]}")),
            (POSTGRES, PLAIN.replace("column: what", "always: ['sales_*']")),
            (POSTGRES, PLAIN.replace("column: what", "column: what, names: {ALL: ['*']}")),
            (
                POSTGRES,
                format!(
                    "{PLAIN}, only_if: [is active], effect: {{column: e, names: {{N: deny}}}}, \
                     columns: c, masks: m, predicate: p, expires_at: x"
                ),
            ),
        ] {
            assert_eq!(faults(warehouse, &source), [], "{source}");
        }
    }

    #[test]
    fn each_fault_of_a_source_is_named() {
        let with = |from: &str, to: &str| {
            assert!(PLAIN.contains(from), "{from}");
            PLAIN.replace(from, to)
        };
        for (warehouse, source, field, said) in [
            ("", PLAIN.to_owned(), "", "a `warehouse`"),
            (POSTGRES, with("table: t", "table: a.b.c"), "s.table", "schema.name"),
            (POSTGRES, with("table: t", "table: tidegate.permissions"), "s.table", "Tidegate's"),
            (POSTGRES, with("table: t", "table: pg_catalog.x"), "s.table", "database's own"),
            (SQLITE, with("table: t", "table: tidegate_tokens"), "s.table", "Tidegate's"),
            (SQLITE, with("table: t", "table: sqlite_master"), "s.table", "database's own"),
            (POSTGRES, with("[id]", "[]"), "s.id", "tell the rows apart"),
            (POSTGRES, with("[id]", "['']"), "s.id[0]", "name of a column"),
            (POSTGRES, with("column: who", "column: ''"), "s.principal.column", "a column"),
            (POSTGRES, with("column: what", "names: {}"), "s.feed", "`always`"),
            (
                POSTGRES,
                with("column: what", "column: what, always: [f]"),
                "s.feed.column",
                "Take one",
            ),
            (
                POSTGRES,
                with("column: what", "column: what, names: {x: []}"),
                "s.feed.names.x",
                "a list of feeds",
            ),
            (
                POSTGRES,
                with("always: [read]", "always: [read], names: {x: [read]}"),
                "s.action.names",
                "without a `column`",
            ),
            (POSTGRES, with("always: [read]", "column: a"), "s.action.names", "SELECT"),
            (
                POSTGRES,
                format!("{PLAIN}, effect: {{column: e, names: {{}}}}"),
                "s.effect.names",
                "`deny`",
            ),
            (POSTGRES, format!("{PLAIN}, only_if: [a, '']"), "s.only_if[1]", "a column"),
            (POSTGRES, format!("{PLAIN}, masks: ''"), "s.masks", "a column"),
        ] {
            let found = faults(warehouse, &source);
            assert_eq!(found.len(), 1, "{source}: {found:#?}");
            let dot = if field.is_empty() { "" } else { "." };
            assert_eq!(found[0].field, format!("governance.sources{dot}{field}"), "{source}");
            let message = found[0].to_string();
            assert!(message.contains(said), "{said:?} in {message}");
        }
        let many: Vec<String> = (0..17).map(|n| format!("s{n}: {{{PLAIN}}}")).collect();
        let many = format!("{POSTGRES}\ngovernance: {{sources: {{{}}}}}", many.join(", "));
        assert_eq!(faults_of(&many).len(), 1);
        let named = format!("{POSTGRES}\ngovernance: {{sources: {{'A#b': {{{PLAIN}}}}}}}");
        assert_eq!(faults_of(&named)[0].field, "governance.sources.A#b");
    }

    #[test]
    fn faults_of_form_and_of_meaning_are_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.yaml");
        let text = format!(
            "kafka: {{bootstrap: 'a:1'}}\n{SQLITE}\ngovernance: {{sources: {{s: {{table: a.b.c, id: [no], \
             principal: {{column: who, names: {{PUBLIC: all, x: '*'}}}}, \
             feed: {{column: what, names: {{ALL: ['Sales']}}}}, \
             action: {{column: how, names: {{SELECT: [raed], y: [read]}}}}, only_if: active}}}}}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let faults = crate::config::load_node(&file).unwrap_err().0;
        let told = |field: &str| {
            let field = format!("governance.sources.s.{field}");
            let fault = faults.iter().find(|fault| fault.field == field);
            fault.unwrap_or_else(|| panic!("{field}: {faults:#?}")).to_string()
        };
        assert!(told("principal.names.PUBLIC").contains("`role:NAME`"));
        assert!(told("feed.names.ALL[0]").contains("lower-case letters"));
        assert!(told("action.names.SELECT[0]").contains("did you mean `read`"));
        assert!(told("only_if").contains("a list"));
        assert!(told("table").contains("schema.name"));
        assert_eq!(faults.len(), 5, "{faults:#?}");
    }
}
