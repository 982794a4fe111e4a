//! The columns that were found and kept for a feed, beside those its file declares.

use serde::{Deserialize, Serialize};

use super::Column;

/// What is kept for a feed, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub columns: Vec<Column>,
    /// Paths of fields that cannot become columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// As this release writes it, and as the first one did.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Columns(Vec<Column>),
    Kept(Kept),
}

impl Kept {
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        Ok(match serde_json::from_str(text)? {
            Written::Columns(columns) => Self { columns, left_out: Vec::new() },
            Written::Kept(kept) => kept,
        })
    }

    /// Notes that a field cannot become a column.
    pub fn leave_out(&mut self, path: &str) {
        if !self.left_out.iter().any(|known| known == path) {
            self.left_out.push(path.to_owned());
        }
    }

    /// The names of its columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Whether a column at `path` stands for, holds or lies in the field at `other`.
pub fn overlaps(path: &str, other: &str) -> bool {
    let inside = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    inside(path, other) || inside(other, path)
}

/// Declared columns, then those kept beside them whose name and field are free.
pub fn joined(declared: Vec<Column>, kept: Vec<Column>) -> Vec<Column> {
    let mut columns = declared;
    for column in kept {
        let taken = columns.iter().any(|other| {
            other.name.eq_ignore_ascii_case(&column.name) || overlaps(other.path(), column.path())
        });
        if !taken {
            columns.push(column);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ColumnType;

    #[test]
    fn both_ways_of_writing_are_read() {
        let column = Column::new("a", ColumnType::Int);
        let kept = Kept { columns: vec![column.clone()], left_out: vec!["a.b".to_owned()] };
        assert_eq!(Kept::parse(&kept.to_text()).unwrap(), kept);
        let former = serde_json::to_string(&kept.columns).unwrap();
        assert_eq!(Kept::parse(&former).unwrap(), Kept { left_out: Vec::new(), ..kept });
        assert!(Kept::parse("{}").is_err());
    }

    #[test]
    fn what_is_declared_comes_first() {
        let at = |name: &str, path: &str| Column {
            path: Some(path.to_owned()),
            ..Column::new(name, ColumnType::Int)
        };
        let declared = vec![at("a", "A"), at("b", "X.B")];
        let kept =
            vec![at("A", "Z"), at("x", "X"), at("c", "A.C"), at("ab", "AB"), at("xc", "X.C")];
        let names: Vec<_> = joined(declared, kept).into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["a", "b", "ab", "xc"]);
    }
}
