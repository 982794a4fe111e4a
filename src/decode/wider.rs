//! The type that a column would need for a value it does not hold.
//!
//! Of each type there is one that comes next, so that two nodes that find different values never want
//! different types; and it holds every value exactly, so that none has to be looked at.

use super::number::Number;
use super::time;
use crate::config::ColumnType;

/// A type that holds the value, which is JSON text, and all that `kind` holds; none if there is none.
#[cold]
pub(super) fn wider(kind: ColumnType, value: &str) -> Option<ColumnType> {
    use ColumnType::{Date, Decimal, Int, Long, Timestamp};
    match kind {
        Int if Number::whole(value)?.to_long().is_ok() => Some(Long),
        Int | Long => decimal(value, ColumnType::WIDE),
        Decimal { precision: ..38, scale } => {
            decimal(unquoted(value).unwrap_or(value), Decimal { precision: 38, scale })
        }
        Date => time::timestamp(unquoted(value)?).ok().map(|_| Timestamp),
        _ => None,
    }
}

fn decimal(value: &str, kind: ColumnType) -> Option<ColumnType> {
    let ColumnType::Decimal { precision, scale } = kind else { return None };
    Number::whole(value)?.to_decimal(precision, scale).ok().map(|_| kind)
}

/// The inside of a JSON string without escapes.
fn unquoted(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_type_that_holds_both() {
        let long = "9".repeat(36);
        for (kind, value, expected) in [
            ("int", "2147483648", "long"),
            ("int", "1.5", "decimal(38,18)"),
            ("long", "1.0", "decimal(38,18)"),
            ("long", "1e3", "decimal(38,18)"),
            ("long", "0.30000000000000004", "decimal(38,18)"),
            ("long", "18446744073709551615", "decimal(38,18)"),
            ("decimal(5,2)", "1000", "decimal(38,2)"),
            ("decimal(5,2)", "\"-123456.5\"", "decimal(38,2)"),
            ("date", "\"2025-10-13T16:38:28Z\"", "timestamp"),
        ] {
            let kind: ColumnType = kind.parse().unwrap();
            let found = wider(kind, value).unwrap();
            assert_eq!(found.to_string(), expected, "{kind} {value}");
            assert!(kind.widens_to(found));
        }
        for (kind, value) in [
            ("int", "\"1\""),
            ("long", "1e400"),
            ("long", "1e-19"),
            ("long", "true"),
            ("long", &long),
            ("decimal(38,2)", &long),
            ("decimal(5,2)", "0.125"),
            ("decimal(5,2)", "\"x\""),
            ("double", "1e400"),
            ("date", "\"soon\""),
            ("date", "17"),
            ("string", "1"),
            ("boolean", "1"),
        ] {
            assert_eq!(wider(kind.parse().unwrap(), value), None, "{kind} {value}");
        }
    }
}
