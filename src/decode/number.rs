//! Numbers from their digits: exact where the column is exact.

use super::fault::Misfit;

/// A number in JSON's grammar, and what its digits say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<'a> {
    pub text: &'a str,
    negative: bool,
    /// The digits before the exponent as one integer; means nothing beyond 19 of them.
    mantissa: u64,
    digits: usize,
    /// How many of the digits stand after the point.
    fraction: usize,
    /// Neither a point nor an exponent.
    integer: bool,
    exponent: bool,
}

/// As many digits always fit a `u64`.
const SHORT: usize = 19;

const POWERS: [i128; 39] = {
    let mut powers = [1; 39];
    let mut index = 1;
    while index < 39 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// Powers of ten that a double holds exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

impl<'a> Number<'a> {
    /// The number at the start of `text`; what follows it is the caller's concern.
    #[inline]
    pub fn scan(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let negative = bytes.first() == Some(&b'-');
        let start = usize::from(negative);
        let (mut mantissa, mut at) = digits(bytes, start, 0);
        let mut digit_count = at - start;
        if digit_count == 0 || (digit_count > 1 && bytes[start] == b'0') {
            return None;
        }
        let (mut fraction, mut exponent) = (0, false);
        if bytes.get(at) == Some(&b'.') {
            let (all, end) = digits(bytes, at + 1, mantissa);
            fraction = end - at - 1;
            if fraction == 0 {
                return None;
            }
            (mantissa, at) = (all, end);
            digit_count += fraction;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let (_, end) = digits(bytes, at + 1 + sign, 0);
            if end == at + 1 + sign {
                return None;
            }
            (at, exponent) = (end, true);
        }
        let integer = fraction == 0 && !exponent;
        let text = &text[..at];
        Some(Self { text, negative, mantissa, digits: digit_count, fraction, integer, exponent })
    }

    /// The number that is the whole of `text`.
    pub fn whole(text: &'a str) -> Option<Self> {
        Self::scan(text).filter(|number| number.text.len() == text.len())
    }

    pub fn is_integer(&self) -> bool {
        self.integer
    }

    #[inline]
    pub fn to_long(self) -> Result<i64, Misfit> {
        if !self.integer {
            return Err(Misfit::Type);
        }
        if self.digits > SHORT {
            return Err(Misfit::Range);
        }
        let value = i128::from(self.mantissa);
        i64::try_from(if self.negative { -value } else { value }).map_err(|_| Misfit::Range)
    }

    #[inline]
    pub fn to_int(self) -> Result<i32, Misfit> {
        i32::try_from(self.to_long()?).map_err(|_| Misfit::Range)
    }

    #[inline]
    pub fn to_double(self) -> Result<f64, Misfit> {
        // Both parts are exact in a double, so one division rounds correctly.
        if self.digits <= SHORT
            && self.mantissa < 1 << 53
            && self.fraction < EXACT.len()
            && !self.exponent
        {
            let value = self.mantissa as f64 / EXACT[self.fraction];
            return Ok(if self.negative { -value } else { value });
        }
        match self.text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(Misfit::Range),
        }
    }

    /// The number times ten to the `scale`, if that is whole and has at most `precision` digits.
    #[inline]
    pub fn to_decimal(self, precision: u8, scale: u8) -> Result<i128, Misfit> {
        let scale = usize::from(scale);
        let size = if self.digits <= SHORT && !self.exponent && self.fraction <= scale {
            i128::from(self.mantissa).checked_mul(POWERS[scale - self.fraction])
        } else {
            self.exact_times_ten_to(scale)
        };
        match size {
            Some(size) if size < POWERS[usize::from(precision)] => {
                Ok(if self.negative { -size } else { size })
            }
            _ => Err(Misfit::Range),
        }
    }

    /// The slow way, for long digit strings and exponents; the sign is left out.
    fn exact_times_ten_to(self, scale: usize) -> Option<i128> {
        let unsigned = self.text.trim_start_matches('-');
        let (digits, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let digits: String = digits.chars().filter(|c| *c != '.').collect();
        let leading = digits.trim_start_matches('0');
        let significant = leading.trim_end_matches('0');
        if significant.is_empty() {
            return Some(0);
        }
        // An exponent beyond i32 cannot be made good by any digits we would keep.
        let exponent = i64::from(exponent.parse::<i32>().ok()?);
        let zeros = (leading.len() - significant.len()) as i64;
        let shift = exponent - self.fraction as i64 + zeros + scale as i64;
        let power = POWERS.get(usize::try_from(shift).ok()?)?;
        significant.parse::<i128>().ok()?.checked_mul(*power)
    }
}

/// Continues `value` with the digits from `at`; wraps when they are too many.
#[inline(always)]
fn digits(bytes: &[u8], mut at: usize, mut value: u64) -> (u64, usize) {
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        at += 1;
    }
    (value, at)
}

#[cfg(test)]
mod tests {
    use super::Misfit::{Range, Type};
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number<'_> {
        Number::whole(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn keeps_to_the_grammar() {
        for bad in ["", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "1.e1", "0x1", "1 ", "NaN"]
        {
            assert!(Number::whole(bad).is_none(), "{bad}");
        }
        for good in ["0", "-0", "10", "0.0", "1e5", "1E-05", "-1.25e+3"] {
            number(good);
        }
    }

    #[test]
    fn integers() {
        let cases = [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(Range)),
            ("-9223372036854775809", Err(Range)),
            ("99999999999999999999", Err(Range)),
            ("18446744073709551617", Err(Range)),
            ("1.0", Err(Type)),
            ("1e3", Err(Type)),
        ];
        for (text, expected) in cases {
            assert_eq!(number(text).to_long(), expected, "{text}");
        }
        assert_eq!(number("2147483647").to_int(), Ok(i32::MAX));
        assert_eq!(number("-2147483649").to_int(), Err(Range));
    }

    #[test]
    fn decimals_are_exact() {
        let cases = [
            ("339.47", 10, 2, Ok(33947)),
            ("-339.4", 10, 2, Ok(-33940)),
            ("0.10", 10, 1, Ok(1)),
            ("0.123", 10, 2, Err(Range)),
            ("1e2", 10, 2, Ok(10000)),
            ("12345e-2", 10, 2, Ok(12345)),
            ("12345e-3", 10, 2, Err(Range)),
            ("12340e-3", 10, 2, Ok(1234)),
            ("0e999999999999", 10, 2, Ok(0)),
            ("1e999999999999", 10, 2, Err(Range)),
            ("1e-999999999999", 10, 2, Err(Range)),
            ("99.99", 4, 2, Ok(9999)),
            ("100.00", 4, 2, Err(Range)),
            ("99999999999999999999999999999999999999", 38, 0, Ok(POWERS[38] - 1)),
            ("-0.00000000000000000000000000000000000001", 38, 38, Ok(-1)),
            ("9999999999999999999", 38, 38, Err(Range)),
        ];
        for (text, precision, scale, expected) in cases {
            assert_eq!(number(text).to_decimal(precision, scale), expected, "{text}");
        }
        let padded = format!("1.{}", "0".repeat(500));
        assert_eq!(number(&padded).to_decimal(5, 2), Ok(100));
        let long = format!("1{}e-500", "0".repeat(500));
        assert_eq!(number(&long).to_decimal(5, 2), Ok(100));
    }

    #[test]
    fn doubles_are_finite() {
        assert_eq!(number("1e400").to_double(), Err(Range));
        assert_eq!(number("1e-400").to_double(), Ok(0.0));
        assert!(number("-0.0").to_double().is_ok_and(|zero| zero.is_sign_negative()));
    }

    proptest! {
        #[test]
        fn doubles_are_what_the_standard_library_says(
            text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?"
        ) {
            let expected: f64 = text.parse().unwrap();
            match number(&text).to_double() {
                Ok(value) => prop_assert_eq!(value.to_bits(), expected.to_bits()),
                Err(_) => prop_assert!(expected.is_infinite()),
            }
        }

        #[test]
        fn longs_are_what_the_standard_library_says(text in "-?(0|[1-9][0-9]{0,21})") {
            prop_assert_eq!(number(&text).to_long().ok(), text.parse::<i64>().ok());
        }

        #[test]
        fn decimals_survive_a_round_trip(size in -10i128.pow(18)..10i128.pow(18), scale in 0u8..19) {
            let sign = if size < 0 { "-" } else { "" };
            let power = 10i128.pow(scale.into());
            let (whole, part) = (size.abs() / power, size.abs() % power);
            let text = match scale {
                0 => format!("{sign}{whole}"),
                _ => format!("{sign}{whole}.{part:0width$}", width = scale as usize),
            };
            prop_assert_eq!(number(&text).to_decimal(38, scale), Ok(size));
            let shifted = format!("{sign}{}e-{scale}", size.abs());
            prop_assert_eq!(number(&shifted).to_decimal(38, scale), Ok(size));
        }
    }
}
