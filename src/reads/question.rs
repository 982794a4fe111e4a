//! What is asked of a feed's rows.

use super::Sight;
use crate::governance::Predicate;

/// Which columns and rows are wanted of those that may be seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Question {
    /// In this order; by default all.
    pub columns: Option<Vec<String>>,
    pub filter: Option<Predicate>,
}

/// What is wrong with a question. It tells nothing of what its asker may not see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no column {0} that you may see")]
    NoColumn(String),
    #[error("column {0} is named twice")]
    Twice(String),
    #[error(
        "column {0} is shown to you under a mask, or not of every row: rows cannot be chosen by it"
    )]
    Masked(String),
    #[error("{0}")]
    Misfit(String),
}

impl Question {
    /// What is seen of its columns; or why it is not answered.
    pub fn of(&self, sight: &Sight) -> Result<Sight, Refusal> {
        let names: Vec<&str> = sight.names().collect();
        for name in self.columns.iter().flatten() {
            if !names.contains(&name.as_str()) {
                return Err(Refusal::NoColumn(name.clone()));
            }
        }
        let columns = self.columns.as_deref().unwrap_or_default();
        for (index, name) in columns.iter().enumerate() {
            if columns[..index].contains(name) {
                return Err(Refusal::Twice(name.clone()));
            }
        }
        if let Some(filter) = &self.filter {
            for name in filter.columns() {
                if !names.contains(&name) {
                    return Err(Refusal::NoColumn(name.to_owned()));
                }
                let Some(column) = sight.plain(name) else {
                    return Err(Refusal::Masked(name.to_owned()));
                };
                if let Some(misfit) = filter.misfit(name, column.kind) {
                    return Err(Refusal::Misfit(misfit));
                }
            }
        }
        Ok(match &self.columns {
            Some(columns) => sight.narrowed(columns),
            None => sight.clone(),
        })
    }
}
