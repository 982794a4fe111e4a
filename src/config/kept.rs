//! The columns that were found and kept for a feed, beside those its file declares.

use serde::{Deserialize, Serialize};

use super::{Column, ColumnType};

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

    /// Gives the column of a path a wider type, if it holds all of the former and the feed `fits` with it.
    /// What is as wide already stays as it is; what cannot be is not asked for again.
    pub fn widen(&mut self, path: &str, wider: ColumnType, fits: impl Fn(&[Column]) -> bool) {
        if self.left_out.iter().any(|known| known == path) {
            return;
        }
        let index = self.columns.iter().position(|column| column.path() == path);
        let before = index.map(|index| self.columns[index].kind);
        if let (Some(index), Some(kind)) = (index, before) {
            if kind == wider || wider.widens_to(kind) {
                return;
            }
            self.columns[index].kind = wider;
            if kind.widens_to(wider) && fits(&self.columns) {
                return;
            }
            self.columns[index].kind = kind;
        }
        self.leave_out(path);
    }

    /// The names of its columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Whether the field at `outer` is the one at `inner` or holds it.
pub fn covers(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether a column at `path` stands for, holds or lies in the field at `other`.
pub fn overlaps(path: &str, other: &str) -> bool {
    covers(path, other) || covers(other, path)
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

    #[test]
    fn columns_get_wider_and_never_narrower() {
        let kept = Kept { columns: vec![Column::new("a", ColumnType::Long)], ..Kept::default() };
        let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
        for (wider, fits, expected, left_out) in [
            (ColumnType::WIDE, true, ColumnType::WIDE, 0),
            (decimal(38, 0), true, decimal(38, 0), 0),
            (ColumnType::WIDE, false, ColumnType::Long, 1),
            (ColumnType::Double, true, ColumnType::Long, 1),
            (ColumnType::Int, true, ColumnType::Long, 0),
        ] {
            let mut kept = kept.clone();
            kept.widen("a", wider, |_| fits);
            assert_eq!(
                (kept.columns[0].kind, kept.left_out.len()),
                (expected, left_out),
                "{wider}"
            );
            // What was refused is not tried again, whoever asks.
            if left_out == 1 {
                kept.widen("a", decimal(38, 0), |_| true);
                assert_eq!(kept.columns[0].kind, ColumnType::Long);
            }
        }
        let mut kept = kept;
        kept.widen("declared", ColumnType::Double, |_| true);
        assert_eq!(kept.left_out, ["declared"]);
    }

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
