//! The type that a column would need for a value it does not hold.

use super::number::Number;
use super::time;
use crate::config::ColumnType;

/// As many digits as a decimal can have.
const MOST: u8 = 38;

/// A type that holds the value, which is JSON text, and all that `kind` holds; none if there is none.
#[cold]
pub(super) fn wider(kind: ColumnType, value: &str) -> Option<ColumnType> {
    use ColumnType::{Date, Decimal, Double, Int, Long, Timestamp};
    let wider = match kind {
        Int | Long => {
            let number = Number::whole(value)?;
            match (number.is_integer(), number.to_long()) {
                (true, Ok(_)) => Long,
                (true, Err(_)) => decimal(number, 0)?,
                (false, _) => number.to_double().ok().map(|_| Double)?,
            }
        }
        Decimal { scale, .. } => {
            let number = Number::whole(unquoted(value).unwrap_or(value))?;
            decimal(number, number.scale().max(scale))?
        }
        Date => time::timestamp(unquoted(value)?).ok().map(|_| Timestamp)?,
        _ => return None,
    };
    kind.widens_to(wider).then_some(wider)
}

fn decimal(number: Number<'_>, scale: u8) -> Option<ColumnType> {
    number.to_decimal(MOST, scale).ok()?;
    Some(ColumnType::Decimal { precision: MOST, scale })
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
        let long = "9".repeat(38);
        for (kind, value, expected) in [
            ("int", "2147483648", "long"),
            ("int", "1.5", "double"),
            ("long", "1.0", "double"),
            ("long", "1e3", "double"),
            ("long", "9223372036854775808", "decimal(38,0)"),
            ("int", &long, "decimal(38,0)"),
            ("decimal(5,2)", "1000", "decimal(38,2)"),
            ("decimal(5,2)", "\"0.125\"", "decimal(38,3)"),
            ("decimal(5,2)", "12e-4", "decimal(38,4)"),
            ("date", "\"2025-10-13T16:38:28Z\"", "timestamp"),
        ] {
            let found = wider(kind.parse().unwrap(), value);
            assert_eq!(
                found.map(|kind| kind.to_string()),
                Some(expected.to_owned()),
                "{kind} {value}"
            );
        }
        for (kind, value) in [
            ("int", "\"1\""),
            ("long", "1e400"),
            ("long", "true"),
            ("long", &format!("{long}0")),
            ("decimal(38,2)", &long),
            ("decimal(30,2)", "0.00000000000000000001"),
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
