//! How a feed's rows stand in the warehouse: their shape, the case of names, dimensions beside the facts,
//! and kept versions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Column, ColumnType, Duration, Feed, Schema};

/// Where a record's whole value goes in a table of documents.
pub const DOCUMENT_COLUMN: &str = "data";

/// What follows a table's name in the names of the table of its snapshots and of the view of the newest.
pub const SNAPSHOTS_SUFFIX: &str = "_snapshots";
pub const SNAPSHOT_SUFFIX: &str = "_snapshot";

/// How a record becomes a row of the warehouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    #[default]
    Columns,
    Document,
}

/// What becomes of the case of names that are not a declared column's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    #[default]
    Lower,
    Keep,
}

impl Case {
    /// A table's name as it is made.
    pub fn table(self, name: &str) -> String {
        match self {
            Case::Lower => name.to_lowercase(),
            Case::Keep => name.to_owned(),
        }
    }

    /// An inferred column: its name was made of its path, in lower case.
    pub fn column(self, column: Column) -> Column {
        if self == Case::Lower {
            return column;
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let written: String = column.path().chars().map(plain).collect();
        let mut written = written.trim_start_matches('_').chars();
        let name: String = (column.name.chars())
            .map(|c| {
                written.next().filter(|as_it_is| as_it_is.eq_ignore_ascii_case(&c)).unwrap_or(c)
            })
            .collect();
        let path = Some(column.path().to_owned()).filter(|path| *path != name);
        Column { name, path, ..column }
    }
}

/// A table beside the feed's own: one row for each value of some of its columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dimension {
    /// Table name, `name` or `schema.name`. Several feeds may fill one dimension.
    pub table: String,
    /// The feed's columns that are its primary key. A record where one of them is null gives no row.
    pub key: Vec<String>,
    /// The feed's columns that describe it. The newest record wins, by the feed's event `time`, else
    /// Kafka's timestamp; of equal ones the later topic, partition and offset. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Whether the feed's table refers to it by a foreign key. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign_key: bool,
}

/// Versions of a table, kept beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Snapshots {
    /// How often one is taken. Default: 1d.
    pub every: Duration,
    /// How many are kept; the oldest go first. Default: 7.
    pub keep: u32,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { every: Duration::from_secs(86_400), keep: 7 }
    }
}

impl Feed {
    /// Whether its rows in the warehouse are whole documents.
    pub fn is_document(&self) -> bool {
        self.warehouse.as_ref().is_some_and(|options| options.shape == Shape::Document)
    }

    /// The feed's dimensions, in the order of their tables: two feeds that share some lock them alike.
    pub fn dimensions(&self) -> Vec<&Dimension> {
        let options = self.warehouse.iter();
        let mut all: Vec<_> = options.flat_map(|options| &options.dimensions).collect();
        all.sort_by_key(|dimension| dimension.table.as_str());
        all
    }
}

impl Schema {
    /// A document's row: what comes from the record key, then the value whole.
    pub fn document(&self) -> Schema {
        let columns = self.columns[..self.from_key()].iter().cloned();
        let data = Column::new(DOCUMENT_COLUMN, ColumnType::Json);
        let columns = columns.chain([data]).collect();
        Schema { columns, rest: false, time: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_kept_where_a_name_follows_its_path() {
        for (path, name, kept) in [
            ("LOCATION.CITY", "location_city", "LOCATION_CITY"),
            ("Straße", "stra_e", "Stra_e"),
            ("__Id", "id", "Id"),
            ("ID", "id_2", "ID_2"),
            ("1A", "field_1a", "field_1a"),
        ] {
            let column = Column { path: Some(path.into()), ..Column::new(name, ColumnType::Int) };
            assert_eq!(Case::Lower.column(column.clone()), column);
            let made = Case::Keep.column(column);
            assert_eq!((made.name.as_str(), made.path()), (kept, path));
        }
        assert_eq!(Case::Lower.table("dwh.TRANSACTIONS_USD"), "dwh.transactions_usd");
    }
}
