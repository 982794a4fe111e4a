//! What a column's values must be, beyond their type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::{Column, ColumnType};

/// What a column's values must be. Null is left to `required`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ValueCheck {
    /// The least value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Bound>,
    /// The greatest value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Bound>,
    /// The values there may be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<Bound>,
    /// A regular expression that matches the whole text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// `quarantine`: a record that fails is rejected. `warn`: it is taken, counted and told of in the
    /// log. Default: `quarantine`.
    pub action: CheckAction,
}

/// A value as it stands in a message: a number, or a text such as `2026-01-31`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bound {
    Number(Number),
    Text(String),
}

impl JsonSchema for Bound {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bound".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["number", "string"],
            "description": "A number, or a text such as `2026-01-31`.",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckAction {
    #[default]
    Quarantine,
    Warn,
}

impl Bound {
    /// As it would stand in a message.
    pub fn json(&self) -> String {
        match self {
            Bound::Number(number) => number.to_string(),
            Bound::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        }
    }

    fn show(&self) -> String {
        format!("`{}`", self.json().trim_matches('"'))
    }

    fn fits(&self, kind: ColumnType) -> bool {
        match (self, kind) {
            (Bound::Number(number), ColumnType::Int) => {
                number.as_i64().is_some_and(|it| i32::try_from(it).is_ok())
            }
            (Bound::Number(number), ColumnType::Long) => number.as_i64().is_some(),
            (Bound::Number(_), ColumnType::Double) => true,
            (bound, ColumnType::Decimal { precision, scale }) => {
                let text = bound.json();
                let digits = text.trim_matches('"').trim_start_matches('-');
                let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
                let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
                let whole_digits = whole.trim_start_matches('0').len();
                !whole.is_empty()
                    && plain(whole)
                    && plain(part)
                    && part.len() <= usize::from(scale)
                    && whole_digits <= usize::from(precision - scale)
            }
            (Bound::Text(_), ColumnType::String) => true,
            (Bound::Text(text), ColumnType::Timestamp) => {
                chrono::DateTime::parse_from_rfc3339(text).is_ok()
            }
            (Bound::Text(text), ColumnType::Date) => {
                text.len() == 10 && chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
            }
            _ => false,
        }
    }
}

/// What a bound of such a column looks like; none where values have no order that means anything.
fn bound_of(kind: ColumnType) -> Option<&'static str> {
    Some(match kind {
        ColumnType::String => "a text",
        ColumnType::Int => "a whole number of 32 bits",
        ColumnType::Long => "a whole number of 64 bits",
        ColumnType::Double => "a number",
        ColumnType::Decimal { .. } => "a number, or a text holding one, that fits the type",
        ColumnType::Timestamp => "a time such as `2026-01-31T00:00:00Z`",
        ColumnType::Date => "a date such as `2026-01-31`",
        _ => return None,
    })
}

/// Faults of one column's check, as (field below `check`, found, allowed).
pub fn check_faults(column: &Column) -> Vec<(&'static str, String, &'static str)> {
    let Some(check) = &column.check else { return Vec::new() };
    let mut faults = Vec::new();
    let bounds = [("min", &check.min), ("max", &check.max)];
    let bounds = bounds.into_iter().filter_map(|(name, bound)| Some((name, bound.as_ref()?)));
    for (name, bound) in bounds.chain(check.set.iter().map(|bound| ("set", bound))) {
        match bound_of(column.kind) {
            None => {
                let allowed = "a check only of texts, numbers, timestamps and dates";
                faults.push((name, format!("a check of type `{}`", column.kind), allowed));
            }
            Some(allowed) if !bound.fits(column.kind) => faults.push((name, bound.show(), allowed)),
            Some(_) => {}
        }
    }
    if let Some(pattern) = &check.pattern {
        if column.kind != ColumnType::String {
            let allowed = "a pattern only for a column of type `string`";
            faults.push(("pattern", format!("a column of type `{}`", column.kind), allowed));
        } else if regex::Regex::new(&format!("^(?:{pattern})$")).is_err() {
            faults.push(("pattern", format!("`{pattern}`"), "a valid regular expression"));
        }
    }
    let none = ValueCheck { action: check.action, ..ValueCheck::default() };
    if *check == none {
        faults.push(("", "nothing to check".to_owned(), "`min`, `max`, `set` or `pattern`"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_of_their_columns_type() {
        let faults = |kind: &str, check: &str| -> Vec<&'static str> {
            let check = serde_json::from_str(check).unwrap();
            let column = Column { check: Some(check), ..Column::new("a", kind.parse().unwrap()) };
            check_faults(&column).into_iter().map(|(field, ..)| field).collect()
        };
        for (kind, check, expected) in [
            ("int", r#"{"min": 0, "max": 2147483647}"#, &[][..]),
            ("int", r#"{"min": 0.5, "max": 2147483648}"#, &["min", "max"]),
            ("long", r#"{"set": [1, "2", 3]}"#, &["set"]),
            ("double", r#"{"min": -1.5}"#, &[]),
            ("decimal(5,2)", r#"{"min": "0.01", "max": 999.99}"#, &[]),
            (
                "decimal(5,2)",
                r#"{"min": 0.001, "max": 1000, "set": ["x"]}"#,
                &["min", "max", "set"],
            ),
            ("string", r#"{"set": ["a", "b"], "pattern": "[a-z]"}"#, &[]),
            ("string", r#"{"min": 1, "pattern": "("}"#, &["min", "pattern"]),
            ("timestamp", r#"{"min": "2026-01-31T00:00:00Z", "max": "2026-01-31"}"#, &["max"]),
            ("date", r#"{"min": "2026-01-31", "max": "2026-02-31"}"#, &["max"]),
            ("boolean", r#"{"set": ["true"]}"#, &["set"]),
            ("long", r#"{"pattern": "1"}"#, &["pattern"]),
            ("long", r#"{"action": "warn"}"#, &[""]),
        ] {
            assert_eq!(faults(kind, check), expected, "{kind} {check}");
        }
    }
}
