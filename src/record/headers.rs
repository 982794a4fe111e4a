use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Headers as both sinks keep them: a JSON array of `[name, base64 or null]`, in Kafka's order,
/// duplicates kept; `[]` where there are none.
pub fn headers_json<'a>(headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> String {
    let pairs: Vec<(&str, Option<String>)> = headers
        .map(|(name, content)| (name, content.map(|bytes| STANDARD.encode(bytes))))
        .collect();
    // Text and null always serialize.
    serde_json::to_string(&pairs).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_duplicates_and_odd_names_are_kept() {
        let headers: [(&str, Option<&[u8]>); 3] =
            [("a\"", Some(b"hi")), ("b", None), ("a\"", Some(b""))];
        assert_eq!(headers_json(headers.into_iter()), r#"[["a\"","aGk="],["b",null],["a\"",""]]"#);
        assert_eq!(headers_json(std::iter::empty()), "[]");
    }
}
