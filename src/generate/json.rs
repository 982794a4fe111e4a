/// Writes one compact JSON object. Formatting through `write!` and escaping would take more time
/// than all the rest; the words written here are ours and need none.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    fn name(&mut self, name: &str) {
        self.out.extend_from_slice(if self.first { b"\"" } else { b",\"" });
        self.first = false;
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A field whose text `write` appends, between quotes.
    pub(super) fn text_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        self.out.push(b'"');
        write(self.out);
        self.out.push(b'"');
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.text_with(name, |out| out.extend_from_slice(text.as_bytes()));
    }

    /// A field whose JSON `write` appends.
    pub(super) fn raw(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        write(self.out);
    }

    pub(super) fn number(&mut self, name: &str, number: u64) {
        self.raw(name, |out| push_number(out, number));
    }

    pub(super) fn cents(&mut self, name: &str, cents: u64) {
        self.raw(name, |out| push_cents(out, cents));
    }

    pub(super) fn null(&mut self, name: &str) {
        self.raw(name, |out| out.extend_from_slice(b"null"));
    }

    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        let mut inner = Object::begin(self.out);
        fill(&mut inner);
        inner.end();
    }
}

pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    let width = number.checked_ilog10().map_or(1, |log| log as usize + 1);
    push_padded(out, number, width);
}

/// The last `width` decimal digits of `number`, with zeros before it if need be.
pub(super) fn push_padded(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    for place in digits[..width].iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[..width]);
}

pub(super) fn push_cents(out: &mut Vec<u8>, cents: u64) {
    push_number(out, cents / 100);
    out.push(b'.');
    push_padded(out, cents % 100, 2);
}

/// The last `width` hexadecimal digits of `number`.
pub(super) fn push_hex(out: &mut Vec<u8>, number: u64, width: usize) {
    for place in (0..width).rev() {
        out.push(b"0123456789abcdef"[(number >> (4 * place)) as usize & 15]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn writes_numbers() {
        assert_eq!(written(|out| push_number(out, 0)), "0");
        assert_eq!(written(|out| push_number(out, 10)), "10");
        assert_eq!(written(|out| push_number(out, u64::MAX)), u64::MAX.to_string());
        assert_eq!(written(|out| push_cents(out, 7)), "0.07");
        assert_eq!(written(|out| push_cents(out, 123_450)), "1234.50");
        assert_eq!(written(|out| push_hex(out, 0xbac5_ffc7, 8)), "bac5ffc7");
    }

    #[test]
    fn writes_objects() {
        let text = written(|out| {
            let mut object = Object::begin(out);
            object.text("A", "x");
            object.object("B", |inner| inner.number("C", 1));
            object.null("D");
            object.end();
        });
        assert_eq!(text, r#"{"A":"x","B":{"C":1},"D":null}"#);
    }
}
