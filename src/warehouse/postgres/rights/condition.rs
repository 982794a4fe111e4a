//! Predicates and days as SQL, which says of each record what `governance` says of it: texts compare by
//! their bytes, the days are those of UTC.

use chrono::{DateTime, NaiveDate};

use crate::config::ColumnType;
use crate::governance::{Condition, Days, Literal, Predicate, SinkColumn, TimeColumns, value};
use crate::record::Value;
use crate::warehouse::postgres::table::{column_type, ident};
use crate::warehouse::spell;

/// The columns of a table that is called `t`, by their names.
pub(super) struct Columns<'c> {
    pub columns: &'c [SinkColumn],
    pub time: &'c TimeColumns,
}

impl Columns<'_> {
    /// `None`: a literal is no value of its column, which whoever made the view has looked at.
    pub fn condition(&self, condition: &Condition) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(predicate) = &condition.predicate {
            parts.push(format!("({})", self.predicate(predicate)?));
        }
        if !condition.days.is_all() {
            parts.extend(self.days(condition.days));
        }
        Some(if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") })
    }

    fn predicate(&self, predicate: &Predicate) -> Option<String> {
        Some(match predicate {
            Predicate::Compare { column, comparison, literal } => {
                let kind = self.kind(column)?;
                let (own, literal) = (compared(column, kind), constant(kind, literal)?);
                format!("{own} {} {literal}", comparison.sql())
            }
            Predicate::In { column, literals } => {
                let kind = self.kind(column)?;
                let literals: Option<Vec<String>> =
                    literals.iter().map(|literal| constant(kind, literal)).collect();
                format!("{} IN ({})", compared(column, kind), literals?.join(", "))
            }
            Predicate::IsNull { column } => format!("t.{} IS NULL", ident(column)),
            Predicate::Not(inner) => format!("NOT ({})", self.predicate(inner)?),
            Predicate::And(one, other) => {
                format!("({}) AND ({})", self.predicate(one)?, self.predicate(other)?)
            }
            Predicate::Or(one, other) => {
                format!("({}) OR ({})", self.predicate(one)?, self.predicate(other)?)
            }
        })
    }

    fn kind(&self, name: &str) -> Option<ColumnType> {
        self.columns.iter().find(|column| column.name == name).map(|column| column.kind)
    }

    fn days(&self, days: Days) -> Vec<String> {
        let times = [&self.time.event, &self.time.kafka].into_iter().flatten();
        let times: Vec<String> = times.map(|name| self.time(name)).collect();
        let time = format!("coalesce({})", times.join(", "));
        let end = days.to.and_then(|to| to.succ_opt());
        let from = days.from.map(|from| format!("{time} >= {}", midnight(from)));
        from.into_iter().chain(end.map(|end| format!("{time} < {}", midnight(end)))).collect()
    }

    fn time(&self, name: &str) -> String {
        match self.kind(name) {
            Some(ColumnType::Date) => {
                format!("(t.{}::date::timestamp AT TIME ZONE 'UTC')", ident(name))
            }
            _ => format!("t.{}::timestamptz", ident(name)),
        }
    }
}

/// A column as it compares.
fn compared(name: &str, kind: ColumnType) -> String {
    let value = typed("t", name, kind);
    if kind == ColumnType::String { format!("{value} COLLATE \"C\"") } else { value }
}

/// A column of the feed's type, whatever an existing table has.
pub(super) fn typed(of: &str, name: &str, kind: ColumnType) -> String {
    format!("{of}.{}::{}", ident(name), column_type(kind))
}

fn constant(kind: ColumnType, literal: &Literal) -> Option<String> {
    Some(match value(kind, literal)? {
        Value::Long(number) => format!("'{number}'::bigint"),
        Value::Double(number) if number.is_infinite() => {
            let sign = if number < 0.0 { "-" } else { "" };
            format!("'{sign}Infinity'::double precision")
        }
        Value::Double(number) => format!("'{number:?}'::double precision"),
        Value::Decimal { unscaled, scale } => {
            format!("'{}'::numeric", spell::decimal(unscaled, 38, scale))
        }
        Value::Text(text) => quoted(&text),
        Value::Timestamp(micros) => instant(DateTime::from_timestamp_micros(micros)?),
        Value::Date(days) => format!("'{}'::date", spell::date(days)?),
        Value::Bool(truth) => truth.to_string(),
    })
}

fn midnight(day: NaiveDate) -> String {
    instant(day.and_time(chrono::NaiveTime::MIN).and_utc())
}

pub(super) fn instant(time: DateTime<chrono::Utc>) -> String {
    format!("'{}'::timestamptz", time.format("%Y-%m-%d %H:%M:%S%.6f+00"))
}

/// A text as a literal. Sessions have standard strings.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
