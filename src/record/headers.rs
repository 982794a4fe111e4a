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

/// A header's name and content.
pub type Header = (String, Option<Vec<u8>>);

/// The same, read back.
pub fn headers_of(text: &str) -> Result<Vec<Header>, String> {
    let pairs: Vec<(String, Option<String>)> =
        serde_json::from_str(text).map_err(|error| format!("headers {text}: {error}"))?;
    let content = |text: String| STANDARD.decode(text).map_err(|error| error.to_string());
    pairs.into_iter().map(|(name, value)| Ok((name, value.map(content).transpose()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_duplicates_and_odd_names_are_kept() {
        let headers: [(&str, Option<&[u8]>); 3] =
            [("a\"", Some(b"hi")), ("b", None), ("a\"", Some(b""))];
        let text = headers_json(headers.into_iter());
        assert_eq!(text, r#"[["a\"","aGk="],["b",null],["a\"",""]]"#);
        let back = headers_of(&text).unwrap();
        assert!(back.iter().map(|(name, content)| (&**name, content.as_deref())).eq(headers));
        assert_eq!(headers_json(std::iter::empty()), "[]");
    }
}
