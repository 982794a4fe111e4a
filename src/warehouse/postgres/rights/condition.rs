//! Predicates and days as SQL, which says of each record what `governance` says of it: texts compare by
//! their bytes, the days are those of UTC.
//!
//! A column is read as the feed's type where that can be done without a word about a value, whatever the
//! session is set to: whoever reads the view sets his session as he likes, and is told of errors.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use crate::config::ColumnType;
use crate::governance::{Condition, Days, Literal, Predicate, SinkColumn, TimeColumns, value};
use crate::record::Value;
use crate::warehouse::postgres::table::{column_type, ident};
use crate::warehouse::spell;

/// Types of a table's columns, without their lengths, as PostgreSQL spells them.
pub(super) type Found = BTreeMap<String, String>;

/// The columns of a table that is called `t`.
pub(super) struct Columns<'c> {
    pub columns: &'c [SinkColumn],
    pub time: &'c TimeColumns,
    pub found: &'c Found,
}

impl Columns<'_> {
    pub fn condition(&self, condition: &Condition) -> Result<String, String> {
        let mut parts = Vec::new();
        if let Some(predicate) = &condition.predicate {
            parts.push(format!("({})", self.predicate(predicate)?));
        }
        if !condition.days.is_all() {
            parts.extend(self.days(condition.days)?);
        }
        Ok(if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") })
    }

    /// The column as the feed's type; or why it cannot be read as that.
    pub fn read(&self, name: &str) -> Result<String, String> {
        let unknown = || format!("there is no column {}", ident(name));
        let kind = self.kind(name).ok_or_else(unknown)?;
        let found = self.found.get(name).ok_or_else(unknown)?;
        cast(&format!("t.{}", ident(name)), kind, found).ok_or_else(|| {
            format!(
                "column {} is {found}, of which a value that is not {} would tell of itself to whoever \
                 may not see it: ALTER TABLE … ALTER COLUMN {} TYPE {}, or declare another type",
                ident(name),
                column_type(kind),
                ident(name),
                column_type(kind)
            )
        })
    }

    fn predicate(&self, predicate: &Predicate) -> Result<String, String> {
        Ok(match predicate {
            Predicate::Compare { column, comparison, literal } => {
                let literal = self.constant(column, literal)?;
                format!("{} {} {literal}", self.compared(column)?, comparison.sql())
            }
            Predicate::In { column, literals } => {
                let literals: Result<Vec<String>, String> =
                    literals.iter().map(|literal| self.constant(column, literal)).collect();
                format!("{} IN ({})", self.compared(column)?, literals?.join(", "))
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

    /// A column as it compares.
    fn compared(&self, name: &str) -> Result<String, String> {
        let read = self.read(name)?;
        let bytewise = self.kind(name) == Some(ColumnType::String);
        Ok(if bytewise { format!("{read} COLLATE \"C\"") } else { read })
    }

    fn constant(&self, column: &str, literal: &Literal) -> Result<String, String> {
        let constant = self.kind(column).and_then(|kind| constant(kind, literal));
        constant
            .ok_or_else(|| format!("{literal} is nothing that PostgreSQL compares {column} with"))
    }

    fn days(&self, days: Days) -> Result<Vec<String>, String> {
        let times = [&self.time.event, &self.time.kafka].into_iter().flatten();
        let times: Result<Vec<String>, String> = times.map(|name| self.time(name)).collect();
        let time = format!("coalesce({})", times?.join(", "));
        let midnight = |day: NaiveDate| {
            let at = instant(day.and_time(chrono::NaiveTime::MIN).and_utc());
            at.ok_or_else(|| format!("{day} is no day that PostgreSQL has"))
        };
        let mut bounds = Vec::new();
        if let Some(from) = days.from {
            bounds.push(format!("{time} >= {}", midnight(from)?));
        }
        if let Some(end) = days.to.and_then(|to| to.succ_opt()) {
            bounds.push(format!("{time} < {}", midnight(end)?));
        }
        Ok(bounds)
    }

    fn time(&self, name: &str) -> Result<String, String> {
        let read = self.read(name)?;
        Ok(match self.kind(name) {
            Some(ColumnType::Date) => format!("(({read})::timestamp AT TIME ZONE 'UTC')"),
            _ => read,
        })
    }
}

/// A value of a type that was found, as the feed's type: if no setting decides what it becomes, and no error
/// says what it was.
fn cast(value: &str, kind: ColumnType, found: &str) -> Option<String> {
    use ColumnType::{
        Boolean, Bytes, Date, Decimal, Double, Int, Json, Long, Nested, Number, String, Timestamp,
    };
    let number = matches!(found, "smallint" | "integer" | "bigint" | "numeric");
    let as_it_is = match kind {
        String => matches!(found, "text" | "character varying" | "character" | "citext"),
        Int | Long | Decimal { .. } | Number => number,
        Double => number || matches!(found, "real" | "double precision"),
        Boolean => found == "boolean",
        Bytes => found == "bytea",
        Json | Nested(_) => found == "jsonb",
        Timestamp => found == "timestamp with time zone",
        Date => matches!(found, "date" | "timestamp without time zone"),
    };
    let wanted = column_type(kind);
    match (kind, found) {
        _ if as_it_is => Some(format!("{value}::{wanted}")),
        (Timestamp, "timestamp without time zone") => Some(format!("({value} AT TIME ZONE 'UTC')")),
        (Date, "timestamp with time zone") => Some(format!("({value} AT TIME ZONE 'UTC')::date")),
        _ => None,
    }
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
        Value::Timestamp(micros) => instant(DateTime::from_timestamp_micros(micros)?)?,
        Value::Date(days) => {
            let at = DateTime::from_timestamp(i64::from(days) * 86_400, 0)?;
            of_calendar(at).then(|| format!("'{}'::date", at.date_naive()))?
        }
        Value::Bool(truth) => truth.to_string(),
    })
}

/// PostgreSQL writes years beyond in another way.
fn of_calendar(time: DateTime<Utc>) -> bool {
    (1..=9999).contains(&time.year())
}

pub(super) fn instant(time: DateTime<Utc>) -> Option<String> {
    let text = time.format("%Y-%m-%d %H:%M:%S%.6f+00");
    of_calendar(time).then(|| format!("'{text}'::timestamptz"))
}

/// A text as a literal. Sessions have standard strings.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
