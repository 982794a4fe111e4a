//! The text of a feed file that is written for somebody.

use std::fmt::Write;

use crate::config::{Column, FeedKind, Key, ValueFormat};

/// What a new feed file says; everything else has its default.
pub struct Draft<'d> {
    /// Lines that say where it comes from.
    pub comments: Vec<String>,
    pub name: &'d str,
    pub kind: FeedKind,
    pub topic: &'d str,
    pub description: Option<&'d str>,
    pub format: ValueFormat,
    pub key: Option<&'d Key>,
    pub columns: &'d [Column],
    pub enabled: bool,
}

impl Draft<'_> {
    pub fn text(&self) -> String {
        let mut text = String::new();
        for comment in &self.comments {
            let _ = writeln!(text, "# {comment}");
        }
        let kind = match self.kind {
            FeedKind::Stream => "stream",
            FeedKind::Table => "table",
        };
        let _ = writeln!(text, "feed: {}\ntype: {kind}", scalar(self.name));
        let _ = writeln!(text, "topic: {}", scalar(self.topic));
        if let Some(description) = self.description {
            let _ = writeln!(text, "description: {}", scalar(description));
        }
        if let Some(key) = self.key {
            let format = serde_json::to_value(key.format).unwrap_or_default();
            let format = format.as_str().unwrap_or_default();
            let _ = writeln!(text, "key:\n  format: {format}\n  columns:");
            lines(&mut text, "    ", &key.columns);
        }
        if self.format != ValueFormat::default() {
            let format = serde_json::to_value(self.format).unwrap_or_default();
            let _ = writeln!(text, "format: {}", format.as_str().unwrap_or_default());
        }
        if !self.columns.is_empty() {
            text.push_str("columns:\n");
            lines(&mut text, "  ", self.columns);
        }
        if !self.enabled {
            text.push_str("enabled: false\n");
        }
        text
    }
}

fn lines(text: &mut String, indent: &str, columns: &[Column]) {
    for column in columns {
        let fields = match serde_json::to_value(column) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        // In the order in which people read them.
        let fields = ["name", "path", "type", "epoch", "required"].into_iter().filter_map(|name| {
            let value = fields.get(name)?;
            Some(match value.as_str() {
                Some(value) => format!("{name}: {}", scalar(value)),
                None => format!("{name}: {value}"),
            })
        });
        let fields: Vec<String> = fields.collect();
        let _ = writeln!(text, "{indent}- {{{}}}", fields.join(", "));
    }
}

/// A text as YAML takes it for nothing else: quoted, as JSON does it, unless it is a plain word.
fn scalar(text: &str) -> String {
    const OTHERWISE: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        && !OTHERWISE.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ColumnType, FeedFile, KeyFormat};

    #[test]
    fn what_is_written_is_read_as_it_was_meant() {
        let odd = Column {
            path: Some("a.\"é\": {x}".to_owned()),
            required: true,
            ..Column::new("no", ColumnType::Decimal { precision: 18, scale: 2 })
        };
        let key = Key::new(KeyFormat::Json, vec![Column::new("id", ColumnType::String)]);
        let draft = Draft {
            comments: vec!["from somewhere".to_owned()],
            name: "totals",
            kind: FeedKind::Table,
            topic: "1.TOTALS",
            description: Some("yes: \"all\"\nof it #1"),
            format: ValueFormat::Avro,
            key: Some(&key),
            columns: std::slice::from_ref(&odd),
            enabled: false,
        };
        let read: FeedFile = serde_saphyr::from_str(&draft.text()).unwrap();
        assert_eq!((read.feed.as_str(), read.topic.as_deref()), ("totals", Some("1.TOTALS")));
        assert_eq!(read.description.as_deref(), draft.description);
        assert_eq!((read.key.as_ref(), read.columns), (Some(&key), Some(vec![odd.clone()])));
        assert!(!read.enabled && read.format == ValueFormat::Avro);
        let format = ValueFormat::Json;
        let short =
            Draft { description: None, format, key: None, columns: &[], enabled: true, ..draft };
        assert_eq!(
            short.text(),
            "# from somewhere\nfeed: totals\ntype: table\ntopic: \"1.TOTALS\"\n"
        );
    }
}
