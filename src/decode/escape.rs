//! The escapes of JSON strings. Their syntax is checked before they come here.

use super::fault::{Fault, Outcome};
use crate::record::RejectClass;

/// Resolves the escapes of `raw`, whose syntax is checked, into `out`.
pub(super) fn unescape(raw: &str, out: &mut String) -> Outcome<()> {
    out.clear();
    let mut rest = raw;
    while let Some(slash) = rest.find('\\') {
        out.push_str(&rest[..slash]);
        let kind = rest.as_bytes()[slash + 1];
        rest = &rest[slash + 2..];
        match kind {
            b'u' => out.push(unicode(&mut rest)?),
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            other => out.push(char::from(other)),
        }
    }
    out.push_str(rest);
    Ok(())
}

fn unicode(rest: &mut &str) -> Outcome<char> {
    let first = unit(rest);
    if let Some(c) = char::from_u32(first) {
        return Ok(c);
    }
    if first < 0xDC00
        && let Some(mut after) = rest.strip_prefix("\\u")
    {
        let second = unit(&mut after);
        if (0xDC00..0xE000).contains(&second) {
            *rest = after;
            let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
    }
    let reason = format!("the escape \\u{first:04x} is half of a character (a lone surrogate)");
    Err(Fault::new(RejectClass::Encoding, reason))
}

/// Takes four hexadecimal digits, which are known to be there.
fn unit(rest: &mut &str) -> u32 {
    let (digits, after) = rest.split_at(4);
    *rest = after;
    u32::from_str_radix(digits, 16).unwrap_or(0)
}
