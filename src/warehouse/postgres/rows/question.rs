//! What is asked of the server: which columns in which form, which rows, in which order.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::binary::{Form, Param};
use crate::config::{Column, ColumnType};
use crate::record::{Blame, Bound, SinkError, Value};
use crate::warehouse::postgres::pool::{Session, judged};
use crate::warehouse::postgres::table::ident;
use crate::warehouse::rows::{KeyValue, Wanted, absent, ends};
use crate::warehouse::spell;

pub(super) const CURSOR: &str = "tidegate_rows";

pub(super) struct Question {
    pub wanted: Wanted,
    /// In quotes.
    pub table: String,
    /// Of `wanted.columns`, as they come.
    pub forms: Vec<Form>,
    pub declare: String,
    pub params: Vec<Param>,
}

impl Question {
    /// Begins the transaction, in which the table's columns stay what they are found to be.
    pub async fn of(session: &Session, wanted: Wanted, table: String) -> Result<Self, SinkError> {
        // The lock comes before the first look: a table that is written anew meanwhile is empty to whoever
        // looked before.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE {table} IN ACCESS SHARE MODE"
        );
        let begun = session.batch_execute(&begin).await;
        begun.map_err(|error| match error.code() {
            Some(&(SqlState::UNDEFINED_TABLE | SqlState::INVALID_SCHEMA_NAME)) => absent(&table),
            _ => judged(error),
        })?;
        let bounded = wanted.bounds.iter().map(|(column, _)| column);
        let names: Vec<String> = wanted.columns.iter().chain(bounded).map(qualified).collect();
        let look = format!("SELECT {} FROM {table} AS t", names.join(", "));
        let looked = session.prepare(&look).await.map_err(judged)?;
        let found: Vec<&Type> = looked.columns().iter().map(|column| column.type_()).collect();
        let (found, found_bounded) = found.split_at(wanted.columns.len());
        let forms: Vec<Form> = wanted
            .columns
            .iter()
            .zip(found)
            .map(|(column, found)| Form::of(column.kind, found))
            .collect();
        let mut params = Vec::new();
        let rows = conditions(&wanted, found_bounded, &mut params)?;
        let columns = names.iter().zip(&forms).map(|(name, form)| format!("{name}{}", form.cast()));
        let columns = columns.collect::<Vec<_>>().join(", ");
        // In quotes and qualified, or the names would be those of the columns as they are cast.
        let order: Vec<String> = wanted.feed.schema.key().iter().map(qualified).collect();
        let declare = format!(
            "DECLARE {CURSOR} NO SCROLL CURSOR FOR SELECT {columns} FROM {table} AS t{rows} ORDER BY {}",
            order.join(", ")
        );
        Ok(Self { wanted, table, forms, declare, params })
    }

    /// An error of reading. What the server says of a value that is not of its type may hold the value,
    /// which whoever asks may have no right to.
    pub fn unread(&self, error: Error) -> SinkError {
        match error.code() {
            Some(code) if code.code().starts_with("22") => {
                let columns = self.wanted.columns.iter().zip(&self.forms);
                let cast = columns.filter(|(_, form)| form.may_fail());
                let cast: Vec<&str> = cast.map(|(column, _)| column.name.as_str()).collect();
                let (table, code) = (&self.table, code.code());
                SinkError::lasting(format!(
                    "table {table}: a value of {} is not of the type that the feed says (SQLSTATE {code})",
                    cast.join(" or ")
                ))
            }
            _ => match judged(error) {
                // No record is at fault where none is written.
                SinkError { blame: Blame::Record, message, .. } => SinkError::lasting(message),
                other => other,
            },
        }
    }
}

fn qualified(column: &Column) -> String {
    format!("t.{}", ident(&column.name))
}

/// The rows behind the one to go on behind and within the bounds, as a WHERE clause.
fn conditions(
    wanted: &Wanted,
    found: &[&Type],
    params: &mut Vec<Param>,
) -> Result<String, SinkError> {
    let mut conditions = Vec::new();
    if let Some(after) = &wanted.after {
        let keys = wanted.feed.schema.key();
        let mut values = Vec::new();
        for (value, column) in after.iter().zip(keys) {
            let param = key_param(value, column).ok_or_else(|| {
                SinkError::lasting(format!("{} is beyond what PostgreSQL holds", column.name))
            })?;
            values.push(placed(param, params));
        }
        let names: Vec<String> = keys.iter().map(qualified).collect();
        conditions.push(format!("({}) > ({})", names.join(", "), values.join(", ")));
    }
    for ((column, bound), found) in wanted.bounds.iter().zip(found) {
        conditions.extend(within(column, bound, found, params));
    }
    Ok(match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    })
}

/// The parameter's place with its type, which the server would guess otherwise.
fn placed(param: Param, params: &mut Vec<Param>) -> String {
    let kind = param.kind();
    params.push(param);
    format!("${}::{kind}", params.len())
}

/// So much of a bound as means the same here as it does in Arrow.
fn within(column: &Column, bound: &Bound, found: &Type, params: &mut Vec<Param>) -> Vec<String> {
    let name = qualified(column);
    let mut conditions = Vec::new();
    for (comparison, value) in ends(bound) {
        if let Some(param) = bound_param(column.kind, found, comparison, value) {
            conditions.push(format!("{name} {comparison} {}", placed(param, params)));
        }
    }
    if conditions.is_empty() {
        conditions.push(format!("{name} IS NOT NULL"));
    }
    conditions
}

fn bound_param(kind: ColumnType, found: &Type, comparison: &str, value: &Value) -> Option<Param> {
    use ColumnType::{Boolean, Date, Decimal, Double, Int, Long, String, Timestamp};
    let exact = [Type::INT2, Type::INT4, Type::INT8, Type::NUMERIC].contains(found);
    match (value, kind) {
        (Value::Long(number), Int | Long | Decimal { .. }) if exact => Some(Param::Long(*number)),
        (Value::Decimal { unscaled, scale }, Int | Long | Decimal { .. }) if exact => {
            Some(Param::Numeric(*unscaled, *scale))
        }
        (Value::Double(number), Double)
            if [Type::FLOAT4, Type::FLOAT8].contains(found) && !number.is_nan() =>
        {
            Some(Param::Double(*number))
        }
        // Of texts the order is the collation's, but the same ones are the same.
        (Value::Text(text), String)
            if comparison == "="
                && [Type::TEXT, Type::VARCHAR].contains(found)
                && !text.contains('\0') =>
        {
            Some(Param::Text(text.clone()))
        }
        (Value::Timestamp(micros), Timestamp) if *found == Type::TIMESTAMPTZ => {
            Param::timestamp(*micros)
        }
        (Value::Date(days), Date) if *found == Type::DATE => Param::date(*days),
        (Value::Bool(truth), Boolean) if *found == Type::BOOL => Some(Param::Bool(*truth)),
        _ => None,
    }
}

fn key_param(value: &KeyValue, column: &Column) -> Option<Param> {
    Some(match value {
        KeyValue::Long(number) => Param::Long(*number),
        KeyValue::Text(text) => Param::Text(text.clone()),
        KeyValue::Decimal(text) => {
            let ColumnType::Decimal { precision, scale } = column.kind else { return None };
            Param::Numeric(spell::read_decimal(text, precision, scale)?, scale)
        }
        KeyValue::Timestamp(micros) => return Param::timestamp(*micros),
        KeyValue::Date(days) => return Param::date(*days),
        KeyValue::Bool(truth) => Param::Bool(*truth),
        KeyValue::Bytes(bytes) => Param::Bytes(bytes.clone()),
    })
}
