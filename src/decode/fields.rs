//! Fields that no column takes, noticed on the way: what they could become.

use std::collections::HashSet;

use super::infer::{Field, Names};
use super::json::Cursor;
use crate::config::{Case, Column, ColumnType, Kept, Nesting, overlaps};

/// New columns at most, so that a map mistaken for an object does not become a thousand.
const MAX_NEW: usize = 200;
/// Columns at most, below what either sink can hold.
const MAX_COLUMNS: usize = 1000;

/// What the records of a batch suggest beyond the feed's columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NewFields {
    pub fields: Vec<NewField>,
    /// Paths that no column can take.
    pub left_out: Vec<String>,
    /// Paths of columns, and the wider types that their values asked for.
    pub wider: Vec<(String, ColumnType)>,
}

/// A member that no column takes, and the columns it could become: one, or those of its own fields.
#[derive(Debug, Clone, PartialEq)]
pub struct NewField {
    pub path: String,
    pub columns: Vec<(String, ColumnType)>,
    /// Their types are those of an Avro schema, and no guesses.
    pub from_schema: bool,
}

impl NewFields {
    /// Adds to what is kept for a feed: columns for the fields that none takes yet, named unlike any
    /// of `taken`, as far as the feed `fits` with them. Answers whether there was anything to add.
    pub fn add_to(
        &self,
        kept: &mut Kept,
        taken: &[&str],
        case: Case,
        fits: impl Fn(&[Column]) -> bool,
    ) -> bool {
        let mut names = Names::but(taken.iter().copied().chain(kept.names()));
        let mut new = 0;
        let before = kept.clone();
        for field in &self.fields {
            for (path, kind) in &field.columns {
                if kept.left_out.contains(path) || kept.columns.iter().any(|it| it.path() == path) {
                    continue;
                }
                // A field is either a column or holds columns.
                let inside = kept.columns.iter().any(|other| overlaps(other.path(), path));
                if inside || new == MAX_NEW || kept.columns.len() >= MAX_COLUMNS {
                    kept.leave_out(path);
                    continue;
                }
                kept.columns.push(case.column(names.column(path, *kind)));
                new += 1;
                if !fits(&kept.columns) {
                    kept.columns.pop();
                    kept.leave_out(path);
                }
            }
            // Where nothing of it became a column, it is the member itself that is met again.
            let columns = &field.columns;
            let taken = |it: &Column| columns.iter().any(|(path, _)| it.path() == path);
            if !kept.columns.iter().any(taken) {
                kept.leave_out(&field.path);
            }
        }
        self.left_out.iter().for_each(|path| kept.leave_out(path));
        for (path, wider) in &self.wider {
            kept.widen(path, *wider, &fits);
        }
        *kept != before
    }

    /// Makes none of them a column, and none wider.
    pub fn leave_out(&self, kept: &mut Kept) {
        self.paths().into_iter().for_each(|path| kept.leave_out(path));
    }

    /// The paths of the members.
    pub fn paths(&self) -> Vec<&str> {
        let new = self.fields.iter().map(|field| field.path.as_str());
        new.chain(self.wider.iter().map(|(path, _)| path.as_str())).collect()
    }
}

/// Collects what a decoder meets and has no column for.
pub(super) struct Noticed {
    nesting: Nesting,
    left_out: HashSet<String>,
    /// By the path of the object around them, with a point behind it.
    fields: Vec<(String, Field)>,
}

impl Noticed {
    pub fn new(nesting: Nesting, left_out: &[String]) -> Self {
        Self { nesting, left_out: left_out.iter().cloned().collect(), fields: Vec::new() }
    }

    /// Takes a member in whose syntax is checked; `name` is JSON text in its quotes.
    pub fn add(&mut self, prefix: &str, name: &str, value: &str) {
        let Ok(name) = serde_json::from_str::<String>(name) else { return };
        if self.left_out.contains(&format!("{prefix}{name}")) || !says_something(value) {
            return;
        }
        let known = self.fields.iter().position(|(of, field)| of == prefix && field.name == name);
        let index = known.unwrap_or_else(|| {
            self.fields.push((prefix.to_owned(), Field::new(name)));
            self.fields.len() - 1
        });
        // A name inside it that is no text is no field's; what came before it counts.
        let _ = self.fields[index].1.read(&mut Cursor::new(value), 1);
    }

    /// What was found since it was last asked.
    pub fn take(&mut self) -> Option<NewFields> {
        if self.fields.is_empty() {
            return None;
        }
        let mut new = NewFields::default();
        for (prefix, field) in self.fields.drain(..) {
            match field.can_be_named() {
                true => {
                    let mut columns = Vec::new();
                    field.types(&prefix, self.nesting, &mut columns);
                    let path = format!("{prefix}{}", field.name);
                    new.fields.push(NewField { path, columns, from_schema: false });
                }
                false => new.left_out.push(format!("{prefix}{}", field.name)),
            }
        }
        Some(new)
    }
}

/// Whether a value is more than nulls and empty objects, of which no type can be told.
fn says_something(value: &str) -> bool {
    let mut cursor = Cursor::new(value);
    match cursor.peek() {
        b'n' => false,
        b'{' => members_say_something(&mut cursor).unwrap_or(true),
        _ => true,
    }
}

/// Recurses as deep as objects lie in objects, which the check of the syntax has bounded.
fn members_say_something(cursor: &mut Cursor<'_>) -> super::fault::Outcome<bool> {
    cursor.eat(b'{');
    cursor.space();
    if cursor.eat(b'}') {
        return Ok(false);
    }
    let mut any = false;
    loop {
        cursor.string()?;
        cursor.colon()?;
        match cursor.peek() {
            b'n' => cursor.skip()?,
            b'{' => any |= members_say_something(cursor)?,
            _ => {
                any = true;
                cursor.skip()?;
            }
        }
        if !cursor.more_members()? {
            return Ok(any);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noticed(nesting: Nesting, members: &[(&str, &str, &str)]) -> Option<NewFields> {
        let mut noticed = Noticed::new(nesting, &["gone".to_owned()]);
        for (prefix, name, value) in members {
            noticed.add(prefix, name, value);
        }
        noticed.take()
    }

    #[test]
    fn what_says_nothing_is_not_noticed() {
        let nothing = [
            ("", r#""a""#, "null"),
            ("", r#""b""#, "{}"),
            ("", r#""c""#, r#"{"d":null,"e":{"f":null}}"#),
            ("", r#""gone""#, "1"),
        ];
        assert_eq!(noticed(Nesting::Flatten, &nothing), None);
    }

    #[test]
    fn fields_get_types_and_names() {
        let members = [
            ("", r#""a""#, "1"),
            ("L.", r#""zip\u0021""#, "\"x\""),
            ("", r#""a""#, "2.5"),
            ("", r#""o""#, r#"{"p":[true],"q":null}"#),
            ("", r#""x.y""#, "1"),
        ];
        let found = noticed(Nesting::Flatten, &members).unwrap();
        let types = |found: &NewFields| -> Vec<String> {
            let columns = found.fields.iter().flat_map(|field| &field.columns);
            columns.map(|(path, kind)| format!("{path} {kind}")).collect()
        };
        assert_eq!(types(&found), ["a double", "L.zip! string", "o.p json"]);
        assert_eq!(found.left_out, ["x.y"]);
        let kept = noticed(Nesting::Keep, &members).unwrap();
        assert_eq!(types(&kept)[2], "o struct<p:array<boolean>,q:json>");

        let column = |name: &str, path: &str| Column {
            path: Some(path.to_owned()),
            ..Column::new(name, ColumnType::Int)
        };
        let columns = vec![column("A", "b"), column("l_city", "L.CITY"), column("p", "o.p.q")];
        let mut kept = Kept { columns, left_out: vec!["u".to_owned()] };
        assert!(found.add_to(&mut kept, &["l_zip_"], Case::Lower, |_| true));
        let new: Vec<_> =
            kept.columns.iter().map(|it| format!("{} {}", it.name, it.path())).collect();
        assert_eq!(new[3..], ["a_2 a", "l_zip__2 L.zip!"]);
        assert_eq!(kept.left_out, ["u", "o.p", "o", "x.y"]);
        assert!(!found.add_to(&mut kept, &[], Case::Keep, |_| true));
    }

    fn plain(path: &str) -> NewField {
        let columns = vec![(path.to_owned(), ColumnType::Int)];
        NewField { path: path.to_owned(), columns, from_schema: false }
    }

    #[test]
    fn names_keep_their_case_where_the_feed_says_so() {
        let mut kept = Kept::default();
        let new = NewFields { fields: vec![plain("L.Zip")], ..NewFields::default() };
        new.add_to(&mut kept, &["l_zip"], Case::Keep, |_| true);
        assert_eq!(kept.columns[0].name, "L_Zip_2");
    }

    /// Whatever comes of a member, it is not met for ever: a column takes it, or it is left out by the
    /// path that it is met at.
    #[test]
    fn there_is_an_end_of_columns() {
        let mut fields: Vec<NewField> = (0..MAX_NEW + 5).map(|n| plain(&format!("k{n}"))).collect();
        let inner = vec![("z.p".to_owned(), ColumnType::Int)];
        fields.push(NewField { path: "z".to_owned(), columns: inner, from_schema: false });
        let mut kept = Kept::default();
        NewFields { fields, ..NewFields::default() }.add_to(&mut kept, &[], Case::Keep, |_| true);
        assert_eq!((kept.columns.len(), kept.left_out.len()), (MAX_NEW, 7));
        assert!(kept.left_out.contains(&"z".to_owned()));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut kept = Kept::default();
        let fits = |columns: &[Column]| columns.iter().all(|it| it.name != "version");
        let new = NewFields { fields: vec![plain("version"), plain("b")], ..NewFields::default() };
        assert!(new.add_to(&mut kept, &[], Case::Lower, fits));
        assert_eq!(
            (kept.columns.len(), kept.left_out.as_slice()),
            (1, &["version".to_owned()][..])
        );
    }
}
