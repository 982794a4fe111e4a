//! What a decision shows of one sink.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::columns;
use crate::config::{ColumnType, Feed};
use crate::governance::{Access, Condition, Part, Predicate, Salt, Show, SinkColumn, View};
use crate::lake::scan::columns_of;
use crate::record::{Bound, SinkError};

/// What somebody sees of a feed in one of its sinks.
#[derive(Debug, Clone)]
pub struct Sight {
    view: Arc<View>,
    salt: Salt,
    /// The types of all columns of the sink.
    kinds: Arc<BTreeMap<String, ColumnType>>,
}

impl Sight {
    /// Of the lake, whether the table is there or not; none if nothing of it may be seen.
    pub fn of_lake(feed: &Feed, access: &Access, salt: &Salt) -> Result<Option<Self>, SinkError> {
        let table = columns_of(feed)?;
        Ok(Self::of(feed, access, salt, &columns::of_lake(feed, &table)))
    }

    /// Of the table in the warehouse.
    pub fn of_warehouse(feed: &Feed, access: &Access, salt: &Salt) -> Option<Self> {
        Self::of(feed, access, salt, &columns::of_warehouse(feed))
    }

    fn of(feed: &Feed, access: &Access, salt: &Salt, own: &[SinkColumn]) -> Option<Self> {
        let time = columns::time(feed, own);
        let view = View::of(access, own, &columns::paths(feed), &time)?;
        let kinds = own.iter().map(|column| (column.name.clone(), column.kind)).collect();
        Some(Self { view: Arc::new(view), salt: salt.clone(), kinds: Arc::new(kinds) })
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.view.columns.iter().map(|shown| shown.column.name.as_str())
    }

    /// Each column that is shown, its type as it is shown, and what is done to it on the way.
    pub fn columns(&self) -> impl Iterator<Item = (&SinkColumn, ColumnType, Vec<String>)> {
        self.view.columns.iter().map(|shown| {
            let kind = if shown.as_text { ColumnType::String } else { shown.column.kind };
            let ways = shown.by.iter().chain(&shown.but).map(|(_, show)| show);
            let mut masks: Vec<String> = ways.filter_map(in_words).collect();
            masks.dedup();
            (&shown.column, kind, masks)
        })
    }

    /// Whether every record of the table may be seen, so that its size is no secret.
    pub fn is_of_all_rows(&self) -> bool {
        self.view.grants.iter().any(Condition::is_all)
            && !self.view.denials.iter().any(|denied| denied.whole)
    }

    /// The column of a name, if it may be compared with.
    pub fn plain(&self, name: &str) -> Option<&SinkColumn> {
        self.view.plain(name)
    }

    /// The same, of these columns alone, in this order. All of them are there.
    pub fn narrowed(&self, names: &[String]) -> Self {
        let column = |name: &String| {
            self.view.columns.iter().find(|shown| shown.column.name == *name).cloned()
        };
        let columns = names.iter().filter_map(column).collect();
        let view = Arc::new(View { columns, ..self.view.as_ref().clone() });
        Self { view, ..self.clone() }
    }

    /// The columns that must be read.
    pub fn reads(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names().map(str::to_owned).collect();
        for name in self.view.judged_by() {
            if !names.iter().any(|own| own == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// What all records lie within that it shows, of which the filter is true.
    pub fn bounds(&self, filter: Option<&Predicate>) -> Vec<Bound> {
        let granted = match self.view.grants.as_slice() {
            [Condition { predicate, .. }] => predicate.as_ref(),
            _ => None,
        };
        let kind = |name: &str| self.kinds.get(name).copied();
        granted.into_iter().chain(filter).flat_map(|predicate| predicate.bounds(&kind)).collect()
    }

    pub fn schema(&self) -> SchemaRef {
        self.view.schema()
    }

    /// The types of what is shown, for whoever writes it as text.
    pub fn kinds(&self) -> Vec<ColumnType> {
        self.columns().map(|(_, kind, _)| kind).collect()
    }

    /// Off the runtime, since hashes and documents take computing.
    pub fn see(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        self.view.see(rows, &self.salt)
    }

    /// Which records, for the audit.
    pub fn rows_in_words(&self) -> String {
        let denials = self.view.denials.iter().filter(|denied| denied.whole);
        let denials: Vec<String> =
            denials.map(|denied| condition_in_words(&denied.condition)).collect();
        let mut said = self.granted_in_words();
        if !denials.is_empty() {
            said += &format!("; but not {}", denials.join("; nor "));
        }
        said
    }

    /// Which records the grants are of: what is denied, and why, is not for whom it is denied.
    pub fn granted_in_words(&self) -> String {
        let grants: Vec<String> = self.view.grants.iter().map(condition_in_words).collect();
        grants.join("; or ")
    }

    /// The columns, for the audit: those under a mask with what it is.
    pub fn columns_in_words(&self) -> Vec<String> {
        let one =
            |(column, _, masks): (&SinkColumn, ColumnType, Vec<String>)| match masks.is_empty() {
                true => column.name.clone(),
                false => format!("{} ({})", column.name, masks.join(", ")),
            };
        let columns = self.columns().filter(|(column, ..)| column.part != Part::Coordinate);
        columns.map(one).collect()
    }
}

fn condition_in_words(condition: &Condition) -> String {
    let mut said: Vec<String> = condition.predicate.iter().map(Predicate::to_string).collect();
    let (from, to) = (condition.days.from, condition.days.to);
    said.extend(from.map(|day| format!("from {day}")));
    said.extend(to.map(|day| format!("to {day}")));
    if said.is_empty() { "all".to_owned() } else { said.join(" ") }
}

fn in_words(show: &Show) -> Option<String> {
    match show {
        Show::Plain => None,
        Show::Masked(mask) => Some(mask.name().to_owned()),
        Show::Inside(masks) => {
            let one = |(path, mask): &(String, crate::governance::Mask)| {
                format!("{path}: {}", mask.name())
            };
            Some(masks.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    }
}
