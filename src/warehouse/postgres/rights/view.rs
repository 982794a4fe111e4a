//! What a reader sees of a table, as a view: the same columns, values and rows that the API shows him.
//!
//! The view runs as its owner, so that its reader needs no right to the table, and is a barrier: nothing that
//! he compares with is looked at before the rows are chosen. Values that are made with the installation's salt
//! come from a function that also runs as its owner and takes the place of a row, never a value: whoever could
//! have values hashed could try them out. It answers for rows alone that the view shows.

use chrono::DateTime;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::condition::{Columns, Found, instant, quoted};
use crate::config::ColumnType;
use crate::governance::{Mask, Part, Show, Shown, View};
use crate::warehouse::ReaderView;
use crate::warehouse::postgres::table::{column_type, ident};

/// Arguments of the function beside a view: where the row is, and which of its hidden values is wanted.
pub(super) const ARGUMENTS: &str = "tid, oid, integer";

/// A view as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WantedView {
    pub role: String,
    /// Of the view, without its schema, which is named like the role.
    pub name: String,
    pub feed: String,
    query: String,
    function: Option<String>,
}

impl WantedView {
    /// `table` is the feed's, in quotes, with the types that its columns have. Errors: something cannot be
    /// said in SQL, and so nothing is shown.
    pub fn of(wanted: &ReaderView, table: &str, found: &Found) -> Result<Self, String> {
        let (role, name) = (wanted.role.clone(), wanted.feed.table().1);
        let place = place(&role, &name);
        let rows = Rows::of(&wanted.view, table, found, wanted.until_ms)?;
        let mut hidden = Vec::new();
        let mut columns = Vec::new();
        for shown in &wanted.view.columns {
            let (seen, is_secret) = rows.shown(shown);
            let out = match shown.as_text {
                true => "text".to_owned(),
                false => column_type(shown.column.kind),
            };
            let own = ident(&shown.column.name);
            columns.push(match is_secret {
                false => format!("({seen})::{out} AS {own}"),
                true => {
                    hidden.push(format!("({seen})::text"));
                    let which = hidden.len();
                    format!("{place}(s.\"$ctid\", s.\"$table\", {which})::{out} AS {own}")
                }
            });
        }
        let query = format!("SELECT {} FROM ({}) AS s", columns.join(", "), rows.query(""));
        let function = (!hidden.is_empty()).then(|| {
            let arms = hidden.iter().enumerate();
            let arms = arms.map(|(index, value)| format!("WHEN {} THEN {value}", index + 1));
            let one = rows.query("t.ctid = $1 AND t.tableoid = $2");
            let arms = arms.collect::<Vec<_>>().join(" ");
            format!("SELECT CASE $3 {arms} END FROM ({one}) AS s")
        });
        let feed = wanted.feed.name.to_string();
        Ok(Self { role, name, feed, query, function })
    }

    pub fn has_function(&self) -> bool {
        self.function.is_some()
    }

    /// Told in the view's comment, so that another one is known as such.
    pub fn hash(&self) -> String {
        let function = self.function.as_deref().unwrap_or_default();
        let digest = Sha256::new().chain_update(&self.query).chain_update("\0");
        let digest = digest.chain_update(function).finalize();
        digest[..12].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Statements that make it, in the place of one that may be there.
    pub fn script(&self) -> String {
        let place = place(&self.role, &self.name);
        let mut script = vec![
            format!("DROP VIEW IF EXISTS {place}"),
            format!("DROP FUNCTION IF EXISTS {place}({ARGUMENTS})"),
        ];
        if let Some(function) = &self.function {
            let body = quoted(function);
            script.push(format!(
                "CREATE FUNCTION {place}({ARGUMENTS}) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER \
                 SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS {body}"
            ));
        }
        script.push(format!("CREATE VIEW {place} WITH (security_barrier) AS {}", self.query));
        let of = named(&self.role, &self.name);
        script.push(format!("SELECT tidegate.keep_view({of})"));
        script.push(format!("SELECT tidegate.mark_view({of}, '{}')", self.hash()));
        script.join(";\n") + ";"
    }
}

/// What the comments of our views begin with, as `tidegate.mark_view` writes them.
pub(super) const MARK: &str = "tidegate view ";

/// A view as the bookkeeping's functions take it.
pub(super) fn named(role: &str, name: &str) -> String {
    format!("{}, {}", quoted(role), quoted(name))
}

/// A view, or its function, in quotes.
pub(super) fn place(role: &str, name: &str) -> String {
    format!("{}.{}", ident(role), ident(name))
}

/// The rows of a table that are shown, with what their values are judged by.
struct Rows<'v> {
    view: &'v View,
    table: &'v str,
    /// The columns that are shown, as the feed's types.
    values: Vec<String>,
    /// Of each grant and denial, when it holds.
    grants: Vec<String>,
    denials: Vec<String>,
    until: Option<String>,
}

impl<'v> Rows<'v> {
    fn of(
        view: &'v View,
        table: &'v str,
        found: &Found,
        until_ms: Option<i64>,
    ) -> Result<Self, String> {
        let columns = Columns { columns: &view.sink, time: &view.time, found };
        let values = view.columns.iter().map(|shown| columns.read(&shown.column.name));
        let grants = view.grants.iter().map(|grant| columns.condition(grant));
        let denials = view.denials.iter().map(|denied| columns.condition(&denied.condition));
        let until = |ms| {
            let until = DateTime::from_timestamp_millis(ms).and_then(instant);
            until.ok_or("a permission row ends at no time that PostgreSQL has")
        };
        Ok(Self {
            view,
            table,
            values: values.collect::<Result<_, _>>()?,
            grants: grants.collect::<Result<_, _>>()?,
            denials: denials.collect::<Result<_, _>>()?,
            until: until_ms.map(until).transpose()?,
        })
    }

    /// Whether a grant is of every row that is shown.
    fn is_of_all(&self, grant: usize) -> bool {
        self.grants.len() == 1 || self.view.grants[grant].is_all()
    }

    fn query(&self, more: &str) -> String {
        let mut columns = vec!["t.ctid AS \"$ctid\", t.tableoid AS \"$table\"".to_owned()];
        let shown = self.view.columns.iter().map(|shown| ident(&shown.column.name));
        let values = self.values.iter().zip(shown);
        columns.extend(values.map(|(value, own)| format!("{value} AS {own}")));
        for (index, condition) in self.grants.iter().enumerate() {
            if !self.is_of_all(index) {
                columns.push(format!("({condition}) IS TRUE AS \"$grant{index}\""));
            }
        }
        for (index, condition) in self.denials.iter().enumerate() {
            // What is unknown is taken away.
            columns.push(format!("({condition}) IS NOT FALSE AS \"$denial{index}\""));
        }
        let mut conditions: Vec<String> = Vec::new();
        conditions.extend((!more.is_empty()).then(|| more.to_owned()));
        if !self.view.grants.iter().any(crate::governance::Condition::is_all) {
            let any: Vec<String> = self.grants.iter().map(|it| format!("({it})")).collect();
            conditions.push(format!("({})", any.join(" OR ")));
        }
        for (condition, denied) in self.denials.iter().zip(&self.view.denials) {
            if denied.whole {
                conditions.push(format!("({condition}) IS FALSE"));
            }
        }
        // Once a statement, and by the clock: in a block of statements time stands still.
        let until = self.until.iter().map(|until| format!("(SELECT clock_timestamp()) < {until}"));
        conditions.extend(until);
        let filter = match conditions.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", conditions.join(" AND ")),
        };
        format!("SELECT {} FROM {} AS t{filter}", columns.join(", "), self.table)
    }

    /// A column's value as it is shown, and whether it takes the salt to make it.
    fn shown(&self, shown: &Shown) -> (String, bool) {
        let out = if shown.as_text { "text".to_owned() } else { column_type(shown.column.kind) };
        let mut is_secret = false;
        let mut value = |show: &Show| {
            is_secret |= takes_salt(shown, show);
            format!("({})::{out}", as_shown(shown, show))
        };
        let (mut arms, mut last) = (Vec::new(), format!("NULL::{out}"));
        for (grant, show) in &shown.by {
            if self.is_of_all(*grant) {
                last = value(show);
                break;
            }
            arms.push(format!("WHEN s.\"$grant{grant}\" THEN {}", value(show)));
        }
        let mut seen = match arms.is_empty() {
            true => last,
            false => format!("CASE {} ELSE {last} END", arms.join(" ")),
        };
        for (denial, how) in &shown.but {
            let hidden = match how {
                Show::Inside(masks) if is_document(shown) => {
                    is_secret = true;
                    format!("({})::{out}", inside(&format!("({seen})::jsonb"), masks, shown))
                }
                Show::Inside(_) => continue,
                Show::Masked(_) | Show::Plain => format!("NULL::{out}"),
            };
            seen = format!("CASE WHEN s.\"$denial{denial}\" THEN {hidden} ELSE {seen} END");
        }
        (seen, is_secret)
    }
}

fn is_document(shown: &Shown) -> bool {
    matches!(shown.column.kind, ColumnType::Json | ColumnType::Nested(_))
}

/// Documents too, since one of their masks may be a hash.
fn takes_salt(shown: &Shown, show: &Show) -> bool {
    match show {
        Show::Masked(mask) => *mask == Mask::Hash && mask.fits(shown.column.kind),
        Show::Inside(_) => is_document(shown),
        Show::Plain => false,
    }
}

fn as_shown(shown: &Shown, show: &Show) -> String {
    let own = format!("s.{}", ident(&shown.column.name));
    match show {
        Show::Plain => own,
        Show::Inside(masks) if is_document(shown) => inside(&own, masks, shown),
        Show::Inside(_) => own,
        Show::Masked(mask) if !mask.fits(shown.column.kind) => "NULL".to_owned(),
        Show::Masked(mask) => masked(&own, *mask, shown.column.kind),
    }
}

fn masked(own: &str, mask: Mask, kind: ColumnType) -> String {
    match mask {
        Mask::Null => "NULL".to_owned(),
        Mask::Hash => {
            format!("encode(sha256({SALT} || convert_to({own}::text, 'UTF8')), 'hex')")
        }
        Mask::Last4 => format!(
            "'****' || CASE WHEN length({own}::text) > 4 THEN right({own}::text, 4) \
             WHEN {own} IS NOT NULL THEN '' END"
        ),
        Mask::Month | Mask::Year if kind == ColumnType::Date => {
            format!("date_trunc('{}', {own}::timestamp)", mask.name())
        }
        Mask::Month | Mask::Year => format!("date_trunc('{}', {own}, 'UTC')", mask.name()),
    }
}

const SALT: &str = "(SELECT salt FROM tidegate.salt)";

fn inside(document: &str, masks: &[(String, Mask)], shown: &Shown) -> String {
    let masks: Vec<_> = masks.iter().map(|(path, mask)| json!([path, mask.name()])).collect();
    let (masks, by_paths) = (quoted(&json!(masks).to_string()), shown.column.part == Part::Rest);
    format!("tidegate.masked_inside({document}, {masks}, {by_paths}, {SALT})")
}
