//! What a predicate says of single columns, for stores that can leave something out by it.

use super::eval::{Scalar, decimal, scalar};
use super::{Comparison, Literal, Predicate};
use crate::config::ColumnType;
use crate::record::{Bound, Value};

impl Predicate {
    /// Bounds that every record lies in of which it is true. `kind` tells the types of columns.
    pub fn bounds(&self, kind: &impl Fn(&str) -> Option<ColumnType>) -> Vec<Bound> {
        let of = |column: &String, least, greatest| {
            vec![Bound { column: column.clone(), least, greatest }]
        };
        match self {
            Self::And(one, other) => [one.bounds(kind), other.bounds(kind)].concat(),
            Self::Compare { column, comparison, literal } => {
                let Some((kind, value)) =
                    kind(column).and_then(|kind| Some((kind, value(kind, literal)?)))
                else {
                    return Vec::new();
                };
                // What is no number is greater than any, and in no statistics.
                let least = (kind != ColumnType::Double).then(|| value.clone());
                match comparison {
                    Comparison::Equal => of(column, Some(value.clone()), Some(value)),
                    Comparison::Less | Comparison::LessOrEqual => of(column, None, Some(value)),
                    Comparison::Greater | Comparison::GreaterOrEqual if least.is_some() => {
                        of(column, least, None)
                    }
                    _ => Vec::new(),
                }
            }
            Self::In { column, literals } => {
                let Some(kind) = kind(column) else { return Vec::new() };
                let values: Option<Vec<Value>> =
                    literals.iter().map(|literal| value(kind, literal)).collect();
                let Some((least, greatest)) = values.as_deref().and_then(ends) else {
                    return Vec::new();
                };
                of(column, Some(least), Some(greatest))
            }
            Self::Not(inner) => match inner.as_ref() {
                // One without ends still is no null; but of doubles, what is no number lies nowhere.
                Self::IsNull { column }
                    if kind(column).is_some_and(|it| it != ColumnType::Double) =>
                {
                    of(column, None, None)
                }
                _ => Vec::new(),
            },
            Self::IsNull { .. } | Self::Or(..) => Vec::new(),
        }
    }
}

/// The smallest and the largest, if they are of a type that has an order here.
fn ends(values: &[Value]) -> Option<(Value, Value)> {
    let texts: Option<Vec<&String>> = values
        .iter()
        .map(|value| if let Value::Text(text) = value { Some(text) } else { None })
        .collect();
    if let Some(texts) = texts {
        let (least, greatest) = (texts.iter().min()?, texts.iter().max()?);
        return Some((Value::Text((*least).clone()), Value::Text((*greatest).clone())));
    }
    let longs: Option<Vec<i64>> = values
        .iter()
        .map(|value| if let Value::Long(long) = value { Some(*long) } else { None })
        .collect();
    let longs = longs?;
    Some((Value::Long(*longs.iter().min()?), Value::Long(*longs.iter().max()?)))
}

/// A literal as a column's value; none where it is no value of the column's type.
pub fn value(kind: ColumnType, literal: &Literal) -> Option<Value> {
    Some(match (scalar(kind, literal)?, literal) {
        (Scalar::Text, Literal::Text(text)) => Value::Text(text.clone()),
        (Scalar::Exact, Literal::Number(digits)) => {
            let (unscaled, scale) = decimal(digits)?;
            match i64::try_from(unscaled) {
                Ok(long) if scale == 0 => Value::Long(long),
                _ => Value::Decimal { unscaled, scale: u8::try_from(scale).ok()? },
            }
        }
        (Scalar::Double(value), _) => Value::Double(value),
        (Scalar::Boolean, Literal::Boolean(value)) => Value::Bool(*value),
        (Scalar::Day(day), _) => Value::Date(day),
        (Scalar::Instant(micros), _) => Value::Timestamp(micros),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(text: &str) -> Vec<(String, Option<Value>, Option<Value>)> {
        let kind = |column: &str| {
            Some(match column {
                "id" => ColumnType::Long,
                "price" => ColumnType::Decimal { precision: 10, scale: 2 },
                "share" => ColumnType::Double,
                "name" => ColumnType::String,
                "day" => ColumnType::Date,
                "json" => ColumnType::Json,
                _ => return None,
            })
        };
        let found = text.parse::<Predicate>().unwrap().bounds(&kind);
        found.into_iter().map(|it| (it.column, it.least, it.greatest)).collect()
    }

    #[test]
    fn what_must_hold_bounds_and_what_may_does_not() {
        let id = |least: Option<i64>, greatest: Option<i64>| {
            ("id".to_owned(), least.map(Value::Long), greatest.map(Value::Long))
        };
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        assert_eq!(bounds("id = 5"), [id(Some(5), Some(5))]);
        assert_eq!(bounds("5 < id AND id <= 9"), [id(Some(5), None), id(None, Some(9))]);
        assert_eq!(bounds("id BETWEEN 1 AND 3"), [id(Some(1), None), id(None, Some(3))]);
        assert_eq!(bounds("id IN (7, -2, 3)"), [id(Some(-2), Some(7))]);
        assert_eq!(bounds("id IS NOT NULL"), [id(None, None)]);
        assert_eq!(bounds("name IN ('b', 'a')"), [("name".to_owned(), text("a"), text("b"))]);
        assert_eq!(
            bounds("price >= 1.5"),
            [("price".to_owned(), Some(Value::Decimal { unscaled: 15, scale: 1 }), None)]
        );
        assert_eq!(bounds("share < 0.5"), [("share".to_owned(), None, Some(Value::Double(0.5)))]);
        assert_eq!(bounds("day = '1970-01-03'")[0].1, Some(Value::Date(2)));
        for open in [
            "id <> 5",
            "id = 5 OR id = 6",
            "NOT id = 5",
            "id IS NULL",
            // NaN is greater.
            "share > 0.5",
            "share IS NOT NULL",
            "nowhere = 5",
            "json = 'x'",
            "id = 'x'",
        ] {
            assert_eq!(bounds(open), [], "{open}");
        }
    }
}
