//! Foreign bytes for a person: on one line, and not too long.

/// At most `most` characters; what cannot be printed is escaped.
pub fn shortened(bytes: &[u8], most: usize) -> String {
    let mut out = String::new();
    let mut left = most;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if left == 0 {
                return out + "…";
            }
            left -= 1;
            match character.is_control() {
                true => out.extend(character.escape_default()),
                false => out.push(character),
            }
        }
        for byte in chunk.invalid() {
            if left == 0 {
                return out + "…";
            }
            left -= 1;
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn stays_on_one_line() {
        assert_eq!(shortened(b"a\nb\x1b[31m", 99), "a\\nb\\u{1b}[31m");
        assert_eq!(shortened(b"M\xc3!", 99), "M\\xc3!");
        assert_eq!(shortened("äöü".as_bytes(), 2), "äö…");
        assert_eq!(shortened("äö".as_bytes(), 2), "äö");
    }
}
