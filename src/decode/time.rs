//! Timestamps and dates from text: ISO 8601 as RFC 3339 narrows it, and as Java, JavaScript and
//! Python print it.

use super::fault::Misfit;
use crate::config::Epoch;

const MICROS: i64 = 1_000_000;
const DAY: i64 = 86_400;
/// 0001-01-01 and 9999-12-31, in days since the epoch.
const FIRST_DAY: i64 = -719_162;
const LAST_DAY: i64 = 2_932_896;

/// Microseconds since the epoch. `YYYY-MM-DD`, `T` or a space, `HH:MM`, optionally `:SS` and up to
/// nine digits of a fraction (cut to microseconds), then nothing or `Z` (UTC), or an offset.
#[inline]
pub(super) fn timestamp(text: &str) -> Result<i64, Misfit> {
    Ok(parse(text)?.0)
}

/// Whether the text is a timestamp that names its zone.
pub(super) fn is_zoned(text: &str) -> bool {
    parse(text).is_ok_and(|(_, zoned)| zoned)
}

#[inline]
fn parse(text: &str) -> Result<(i64, bool), Misfit> {
    let bytes = text.as_bytes();
    let Some((date, rest)) = bytes.split_first_chunk::<10>() else { return Err(Misfit::Type) };
    let days = match calendar(date) {
        Ok(days) => days,
        Err(misfit) => return Err(if is_far_year(bytes) { Misfit::Range } else { misfit }),
    };
    if rest.is_empty() {
        // What a column held while it was one of dates.
        return Ok((days * DAY * MICROS, false));
    }
    let Some((b'T' | b't' | b' ', rest)) = rest.split_first() else { return Err(Misfit::Type) };
    let (seconds, rest) = clock(rest)?;
    let (micros, rest) = fraction(rest)?;
    let offset = zone(rest)?;
    // A second 60 runs into the next minute, as it does in PostgreSQL.
    let seconds = days * DAY + seconds - offset.unwrap_or(0);
    if !(FIRST_DAY * DAY..(LAST_DAY + 1) * DAY).contains(&seconds) {
        return Err(Misfit::Range);
    }
    Ok((seconds * MICROS + micros, offset.is_some()))
}

/// Days since the epoch of a `YYYY-MM-DD`.
pub(super) fn date(text: &str) -> Result<i32, Misfit> {
    let bytes = text.as_bytes();
    match bytes.try_into().map_err(|_| Misfit::Type).and_then(calendar) {
        Ok(days) => Ok(days as i32),
        Err(_) if is_far_year(bytes) => Err(Misfit::Range),
        Err(misfit) => Err(misfit),
    }
}

/// A count since 1970 to microseconds.
pub(super) fn from_epoch(count: i64, epoch: Epoch) -> Result<i64, Misfit> {
    let micros = match epoch {
        Epoch::Seconds => MICROS,
        Epoch::Millis => 1000,
        Epoch::Micros => 1,
    };
    let time = count.checked_mul(micros).ok_or(Misfit::Range)?;
    match (FIRST_DAY * DAY * MICROS..(LAST_DAY + 1) * DAY * MICROS).contains(&time) {
        true => Ok(time),
        false => Err(Misfit::Range),
    }
}

pub(super) fn from_days(days: i64) -> Result<i32, Misfit> {
    match (FIRST_DAY..=LAST_DAY).contains(&days) {
        true => Ok(days as i32),
        false => Err(Misfit::Range),
    }
}

/// ISO 8601's signed years, `+12025-01-01`: a date, but none of ours.
fn is_far_year(bytes: &[u8]) -> bool {
    let Some((b'+' | b'-', rest)) = bytes.split_first() else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits >= 4 && rest.get(digits) == Some(&b'-')
}

#[inline]
fn calendar(date: &[u8; 10]) -> Result<i64, Misfit> {
    let [a, b, c, d, b'-', e, f, b'-', g, h] = *date else { return Err(Misfit::Type) };
    let year = two(a, b)? * 100 + two(c, d)?;
    let (month, day) = (two(e, f)?, two(g, h)?);
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > month_length(year, month) {
        return Err(Misfit::Range);
    }
    // Years that start in March put the leap day at the end (Howard Hinnant's days_from_civil).
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    Ok(365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468)
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[inline]
fn clock(bytes: &[u8]) -> Result<(i64, &[u8]), Misfit> {
    let Some(([a, b, b':', c, d], rest)) = bytes.split_first_chunk::<5>() else {
        return Err(Misfit::Type);
    };
    let (hours, minutes) = (two(*a, *b)?, two(*c, *d)?);
    // Java leaves the seconds out where they are zero.
    let (seconds, rest) = match rest.split_first_chunk::<3>() {
        Some(([b':', e, f], rest)) => (two(*e, *f)?, rest),
        _ => (0, rest),
    };
    if hours > 23 || minutes > 59 || seconds > 60 {
        return Err(Misfit::Range);
    }
    Ok((hours * 3600 + minutes * 60 + seconds, rest))
}

#[inline]
fn fraction(bytes: &[u8]) -> Result<(i64, &[u8]), Misfit> {
    let Some((b'.', rest)) = bytes.split_first() else { return Ok((0, bytes)) };
    let (mut micros, mut count) = (0, 0);
    while let Some(digit @ b'0'..=b'9') = rest.get(count) {
        if count < 6 {
            micros = micros * 10 + i64::from(digit - b'0');
        }
        count += 1;
    }
    if count == 0 || count > 9 {
        return Err(Misfit::Type);
    }
    for _ in count..6 {
        micros *= 10;
    }
    Ok((micros, &rest[count..]))
}

/// Seconds east of UTC; `None` where the text ends without a zone.
#[inline]
fn zone(bytes: &[u8]) -> Result<Option<i64>, Misfit> {
    let (sign, hours, minutes) = match *bytes {
        [] => return Ok(None),
        [b'Z' | b'z'] => return Ok(Some(0)),
        [sign, a, b] => (sign, two(a, b)?, 0),
        [sign, a, b, c, d] => (sign, two(a, b)?, two(c, d)?),
        [sign, a, b, b':', c, d] => (sign, two(a, b)?, two(c, d)?),
        _ => return Err(Misfit::Type),
    };
    if hours > 23 || minutes > 59 {
        return Err(Misfit::Range);
    }
    match sign {
        b'+' => Ok(Some(hours * 3600 + minutes * 60)),
        b'-' => Ok(Some(-(hours * 3600 + minutes * 60))),
        _ => Err(Misfit::Type),
    }
}

#[inline(always)]
fn two(tens: u8, ones: u8) -> Result<i64, Misfit> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 { Err(Misfit::Type) } else { Ok(i64::from(tens * 10 + ones)) }
}

#[cfg(test)]
mod tests {
    use super::Misfit::{Range, Type};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timestamps() {
        let base = 1_760_373_508_000_000;
        let cases = [
            ("2025-10-13T16:38:28.047846Z", Ok(base + 47_846)),
            ("2025-10-13T16:38:28Z", Ok(base)),
            ("2025-10-13t16:38:28z", Ok(base)),
            ("2025-10-13 16:38:28", Ok(base)),
            ("2025-10-13T16:38:28.1+00:00", Ok(base + 100_000)),
            ("2025-10-13T16:38:28.123456789Z", Ok(base + 123_456)),
            ("2025-10-13T18:38:28+02:00", Ok(base)),
            ("2025-10-13T11:08:28-0530", Ok(base)),
            ("2025-10-13T18:38:28+02", Ok(base)),
            ("2025-10-13T16:38Z", Ok(base - 28 * MICROS)),
            ("2025-10-13T16:37:60Z", Ok(base - 28 * MICROS)),
            ("1969-12-31T23:59:59.999999Z", Ok(-1)),
            ("0001-01-01T00:00:00Z", Ok(FIRST_DAY * DAY * MICROS)),
            ("9999-12-31T23:59:59.999999Z", Ok((LAST_DAY + 1) * DAY * MICROS - 1)),
            ("0001-01-01T00:00:00+01:00", Err(Range)),
            ("9999-12-31T23:59:59-01:00", Err(Range)),
            ("9999-12-31T23:59:60Z", Err(Range)),
            ("0000-01-01T00:00:00Z", Err(Range)),
            ("+12025-01-01T00:00:00Z", Err(Range)),
            ("-0044-03-15T00:00:00Z", Err(Range)),
            ("2025-02-29T00:00:00Z", Err(Range)),
            ("2025-13-01T00:00:00Z", Err(Range)),
            ("2025-10-13T24:00:00Z", Err(Range)),
            ("2025-10-13T16:38:28+24:00", Err(Range)),
            ("2025-10-13T16:38:28.1234567890Z", Err(Type)),
            ("2025-10-13T16:38:28.Z", Err(Type)),
            ("2025-10-13T16:38:28Zz", Err(Type)),
            ("2025-10-13T16:38:28é", Err(Type)),
            ("2025-10-13", Ok(1_760_313_600_000_000)),
            ("2025-02-29", Err(Range)),
            ("2025-10-13T", Err(Type)),
            ("20251013T163828Z", Err(Type)),
            ("13/10/2025 16:38", Err(Type)),
            ("", Err(Type)),
        ];
        for (text, expected) in cases {
            assert_eq!(timestamp(text), expected, "{text}");
        }
        assert!(is_zoned("2025-10-13T16:38:28Z") && !is_zoned("2025-10-13T16:38:28"));
    }

    #[test]
    fn dates() {
        let cases = [
            ("1970-01-01", Ok(0)),
            ("2024-02-29", Ok(19_782)),
            ("2023-02-29", Err(Range)),
            ("1900-02-29", Err(Range)),
            ("2000-02-29", Ok(11_016)),
            ("0000-12-31", Err(Range)),
            ("+10000-01-01", Err(Range)),
            ("2024-2-9", Err(Type)),
            ("2024-02-29T", Err(Type)),
            ("today", Err(Type)),
        ];
        for (text, expected) in cases {
            assert_eq!(date(text), expected, "{text}");
        }
        assert_eq!(from_days(LAST_DAY + 1), Err(Range));
        assert_eq!(from_epoch(i64::MAX, Epoch::Millis), Err(Range));
        assert_eq!(from_epoch(i64::MAX, Epoch::Micros), Err(Range));
        assert_eq!(from_epoch(-1, Epoch::Millis), Ok(-1000));
        assert_eq!(from_epoch(-1, Epoch::Seconds), Ok(-MICROS));
        assert_eq!(from_epoch(-1, Epoch::Micros), Ok(-1));
    }

    proptest! {
        #[test]
        fn agrees_with_chrono(micros in FIRST_DAY * DAY * MICROS..(LAST_DAY + 1) * DAY * MICROS) {
            let time = chrono::DateTime::from_timestamp_micros(micros).unwrap();
            prop_assert_eq!(timestamp(&time.to_rfc3339()), Ok(micros));
            let day = time.date_naive();
            let days = micros.div_euclid(DAY * MICROS) as i32;
            prop_assert_eq!(date(&day.format("%Y-%m-%d").to_string()), Ok(days));
        }

        #[test]
        fn never_panics(text in "[0-9TZ:+. é-]{0,32}") {
            let _ = (timestamp(&text), date(&text));
        }
    }
}
