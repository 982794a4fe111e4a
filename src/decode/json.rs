//! A cursor over JSON text. It goes forward once, allocates nothing, and recurses nowhere: nesting
//! is counted in one word, so no input can exhaust the stack.

use super::escape::unescape;
use super::fault::{Fault, Outcome, excerpt};
use super::number::Number;

/// Deepest nesting accepted inside one value. One bit per level of a `u128`.
pub(super) const MAX_DEPTH: u32 = 128;

pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// The inside of a JSON string.
#[derive(Debug, Clone, Copy)]
pub(super) enum Quoted<'a> {
    Plain(&'a str),
    /// Holds escapes, whose syntax is checked.
    Escaped(&'a str),
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn rewind(&mut self, at: usize) {
        self.at = at;
    }

    /// The text from `start` to here.
    #[inline]
    pub fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// The byte here; 0, which starts nothing in JSON, at the end.
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte;
        self.at += usize::from(found);
        found
    }

    #[inline(always)]
    pub fn eat_all(&mut self, token: &[u8]) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    #[inline(always)]
    pub fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    #[cold]
    pub fn fault(&self, expected: &str) -> Box<Fault> {
        // `at` is always on a character: the cursor stops only before or after ASCII.
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => "the end".to_owned(),
            Some(c) if c.is_control() || !c.is_ascii() => format!("U+{:04X}", u32::from(c)),
            Some(_) => format!("`{}`", excerpt(&self.text[self.at..self.at + 1])),
        };
        Fault::malformed(format!(
            "not JSON at byte {}: expected {expected}, found {found}",
            self.at
        ))
    }

    /// Space, then nothing more.
    pub fn end(&mut self) -> Outcome<()> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.fault("the end")) }
    }

    #[inline]
    pub fn literal(&mut self, word: &'static str) -> Outcome<()> {
        if self.eat_all(word.as_bytes()) { Ok(()) } else { Err(self.fault(word)) }
    }

    /// The colon after a member's name, and the space around it.
    #[inline(always)]
    pub fn colon(&mut self) -> Outcome<()> {
        self.space();
        if !self.eat(b':') {
            return Err(self.fault("`:`"));
        }
        self.space();
        Ok(())
    }

    /// After a member: whether another one follows, whose name is then next.
    #[inline(always)]
    pub fn more_members(&mut self) -> Outcome<bool> {
        self.space();
        if self.eat(b',') {
            self.space();
            return Ok(true);
        }
        if self.eat(b'}') { Ok(false) } else { Err(self.fault("`,` or `}`")) }
    }

    /// At a number's first byte.
    #[inline]
    pub fn number(&mut self) -> Outcome<Number<'a>> {
        match Number::scan(&self.text[self.at..]) {
            Some(number) => {
                self.at += number.text.len();
                Ok(number)
            }
            None => Err(self.fault("a number")),
        }
    }

    #[inline]
    pub fn string(&mut self) -> Outcome<Quoted<'a>> {
        if !self.eat(b'"') {
            return Err(self.fault("a string"));
        }
        let start = self.at;
        self.at = special(self.text.as_bytes(), start);
        if self.peek() == b'"' {
            let inside = self.since(start);
            self.at += 1;
            return Ok(Quoted::Plain(inside));
        }
        self.string_with_escapes(start)
    }

    #[cold]
    fn string_with_escapes(&mut self, start: usize) -> Outcome<Quoted<'a>> {
        loop {
            match self.peek() {
                b'"' => {
                    let inside = self.since(start);
                    self.at += 1;
                    return Ok(Quoted::Escaped(inside));
                }
                b'\\' => self.escape()?,
                _ => return Err(self.fault("`\"` at the end of a string")),
            }
            self.at = special(self.text.as_bytes(), self.at);
        }
    }

    fn escape(&mut self) -> Outcome<()> {
        self.at += 1;
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_ascii_hexdigit() {
                        return Err(self.fault("four hexadecimal digits"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.fault("an escape")),
        }
        Ok(())
    }

    /// The string here with its escapes resolved, in `scratch` if it has any.
    #[inline]
    pub fn text<'s>(&mut self, scratch: &'s mut String) -> Outcome<&'s str>
    where
        'a: 's,
    {
        match self.string()? {
            Quoted::Plain(text) => Ok(text),
            Quoted::Escaped(raw) => {
                unescape(raw, scratch)?;
                Ok(scratch)
            }
        }
    }

    /// Goes over one value of any kind, checking its syntax.
    pub fn skip(&mut self) -> Outcome<()> {
        let mut open = Open::default();
        loop {
            if self.enter(&mut open)? {
                continue;
            }
            // A value has ended, and with it perhaps what encloses it.
            loop {
                if open.depth == 0 {
                    return Ok(());
                }
                self.space();
                if self.eat(b',') {
                    if open.in_object() {
                        self.space();
                        self.string()?;
                        self.colon()?;
                    }
                    break;
                }
                if !self.eat(open.closing()) {
                    return Err(self.fault("`,` or the end of an object or array"));
                }
                open.pop();
            }
        }
    }

    /// Reads a scalar, an empty object or an empty array whole; or opens one, and is true.
    fn enter(&mut self, open: &mut Open) -> Outcome<bool> {
        self.space();
        match self.peek() {
            b'"' => {
                self.string()?;
            }
            b'{' => {
                self.at += 1;
                self.space();
                if !self.eat(b'}') {
                    open.push(true)?;
                    self.string()?;
                    self.colon()?;
                    return Ok(true);
                }
            }
            b'[' => {
                self.at += 1;
                self.space();
                if !self.eat(b']') {
                    open.push(false)?;
                    return Ok(true);
                }
            }
            b'n' => self.literal("null")?,
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'-' | b'0'..=b'9' => {
                self.number()?;
            }
            _ => return Err(self.fault("a value")),
        }
        Ok(false)
    }
}

/// What is open around the cursor while it skips: the lowest bit is the innermost, 1 for an object.
#[derive(Default)]
struct Open {
    kinds: u128,
    depth: u32,
}

impl Open {
    fn push(&mut self, object: bool) -> Outcome<()> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::malformed(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.kinds = self.kinds << 1 | u128::from(object);
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.kinds >>= 1;
        self.depth -= 1;
    }

    fn in_object(&self) -> bool {
        self.kinds & 1 == 1
    }

    fn closing(&self) -> u8 {
        if self.in_object() { b'}' } else { b']' }
    }
}

/// Where the first `"`, `\` or control character at or after `at` stands, or the end; eight bytes
/// at a time.
#[inline(always)]
fn special(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = word ^ (ONES * b'"' as u64);
        let slash = word ^ (ONES * b'\\' as u64);
        // A borrow can only mark bytes above a true hit, and the lowest mark is the one taken.
        let hits = ((quote.wrapping_sub(ONES) & !quote)
            | (slash.wrapping_sub(ONES) & !slash)
            | (word.wrapping_sub(ONES * 0x20) & !word))
            & HIGH;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_special_byte_wherever_it_stands() {
        for byte in 0..=0x7F_u8 {
            let is_special = byte < 0x20 || byte == b'"' || byte == b'\\';
            for place in 0..20 {
                let mut bytes = "é!~\u{7f}é!~\u{7f}é!~\u{7f}é!~\u{7f}".as_bytes()[..20].to_vec();
                bytes[place] = byte;
                let expected = if is_special { place } else { 20 };
                assert_eq!(special(&bytes, 0), expected, "{byte} at {place}");
                // What a borrow marks above a hit must not matter.
                bytes[19] = b'"';
                assert_eq!(special(&bytes, 0), expected.min(19), "{byte} at {place}");
            }
        }
    }
}
