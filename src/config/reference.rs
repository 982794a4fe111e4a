//! The schemas of both files, and the reference page written from them.

use std::fmt::Write;

use schemars::schema_for;
use serde_json::{Value, json};

use super::declaration::declaration_schema;
use super::walk::{choices, resolve, type_name, types};
use super::{FeedFile, Node};

pub fn node_schema() -> Value {
    schema_for!(Node).to_value()
}

pub fn feed_schema() -> Value {
    schema_for!(FeedFile).to_value()
}

/// The JSON schemas of both files, for editors and for tools that write them.
pub fn schema_json() -> Value {
    json!({
        "node": node_schema(), "feed": feed_schema(), "feed_declaration": declaration_schema(),
    })
}

const NODE_EXAMPLE: &str = "\
kafka:
  bootstrap: broker-1:9092,broker-2:9092
  tls: {}
  sasl:
    mechanism: SCRAM-SHA-512
    username: tidegate
    password: {env: KAFKA_PASSWORD}
lake:
  url: s3://company-lake/events
warehouse:
  url: postgres://ingest@warehouse:5432/dwh
  schema: analytics
  password: {env: WAREHOUSE_PASSWORD}
memory:
  budget: 1GiB
";

const FEED_EXAMPLE: &str = "\
feed: user_totals
type: table
topic: USER_SPENDING_BY_TYPE
key:
  format: json
  columns:
    - {name: user_id, path: USER_ID, type: string}
    - {name: transaction_type, path: TRANSACTION_TYPE, type: string}
columns:
  - {name: total, path: TOTAL, type: 'decimal(18,2)', required: true}
  - {name: city, path: LOCATION.CITY, type: string}
  - {name: updated_at, path: UPDATED_AT, type: timestamp}
time: updated_at
lake:
  linger: 30s
warehouse:
  table: dwh.user_totals
";

/// `docs/configuration.md`.
pub fn reference_markdown() -> String {
    let mut page = format!(
        "# Configuration\n\n\
        <!-- Written from the schemas of the program; change those, not this page. -->\n\n\
        A node reads one node file, and a folder with one file for each feed. Both are YAML, or \
        JSON by their extension. They are checked whole when the node starts, and every fault is \
        reported at once. The folder is looked at while the node runs: a file that comes starts its \
        feed, one that changes drains it and begins it anew, one that goes drains and ends it. One \
        with a fault is refused by itself, and the feeds that run go on as they are.\n\n\
        A node file:\n\n```yaml\n{NODE_EXAMPLE}```\n\n\
        A feed file:\n\n```yaml\n{FEED_EXAMPLE}```\n\n\
        - A *size* is a whole number with `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`, `TB` or \
        `TiB`; without a unit it is bytes.\n\
        - A *duration* is a whole number with `ms`, `s`, `m`, `h` or `d`.\n\
        - A *credential* is `{{env: NAME}}`, an environment variable, or `{{file: PATH}}`, a file \
        whose content it is. It never stands in the file itself.\n\
        - Relative paths are taken from the folder of the node file.\n"
    );
    section(&mut page, "The node file", &node_schema());
    section(&mut page, "A feed file", &feed_schema());
    page.push_str(DECLARATION);
    table(&mut page, &declaration_schema(), 1);
    page
}

const DECLARATION: &str = "
## A feed declaration

A feed file may also have the fields that export scripts over ksqlDB keep, told by its `feed_name`. It
is the same feed as a file of our own with `feed`, `type`, `topic`, `lake.format` and `lake.layout`.

";

fn section(page: &mut String, title: &str, schema: &Value) {
    let _ = write!(page, "\n## {title}\n\n");
    table(page, schema, usize::MAX);
}

/// `depth`: how many levels of fields are named.
fn table(page: &mut String, schema: &Value, depth: usize) {
    page.push_str("| field | type | default | meaning |\n|---|---|---|---|\n");
    rows(page, schema, schema, "", depth);
}

/// One row for each property, and below it those of the object it holds.
fn rows(page: &mut String, root: &Value, object: &Value, prefix: &str, depth: usize) {
    if depth == 0 {
        return;
    }
    let required: Vec<&Value> = object["required"].as_array().into_iter().flatten().collect();
    for (name, property) in object["properties"].as_object().into_iter().flatten() {
        let (schema, _) = resolve(root, property);
        let described = [property, schema].iter().find_map(|of| of["description"].as_str());
        let (meaning, default) = split_default(described.unwrap_or_default());
        let default = match default {
            _ if required.iter().any(|required| *required == name) => "required".to_owned(),
            Some(text) => text,
            None => plain_default(&property["default"]),
        };
        let field = format!("{prefix}{name}");
        let _ = writeln!(
            page,
            "| `{field}` | {} | {} | {} |",
            cell(&type_text(root, schema)),
            cell(&default),
            cell(&meaning)
        );
        if schema["type"] == "array" || types(schema).contains(&"array") {
            let items = resolve(root, &schema["items"]).0;
            rows(page, root, items, &format!("{field}[]."), depth - 1);
        } else if schema["additionalProperties"].is_object() {
            let named = resolve(root, &schema["additionalProperties"]).0;
            rows(page, root, named, &format!("{field}.NAME."), depth - 1);
        } else {
            rows(page, root, schema, &format!("{field}."), depth - 1);
        }
    }
}

fn type_text(root: &Value, schema: &Value) -> String {
    let choices = choices(schema);
    if !choices.is_empty() {
        return choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
    }
    match schema["format"].as_str() {
        Some("byte-size") => return "size".to_owned(),
        Some("duration-text") => return "duration".to_owned(),
        Some("schedule") => return "schedule".to_owned(),
        Some("grantee") => return "grantee".to_owned(),
        Some("feed-pattern") => return "feed or pattern".to_owned(),
        Some("column-type") => return "column type".to_owned(),
        _ if schema["oneOf"].is_array() => return "credential".to_owned(),
        _ => {}
    }
    let of = |inner: &Value| type_text(root, resolve(root, inner).0);
    let types = types(schema);
    if types.contains(&"array") {
        return format!("list of {}", of(&schema["items"]));
    }
    if types.contains(&"object") && schema["additionalProperties"].is_object() {
        return format!("mapping to {}", of(&schema["additionalProperties"]));
    }
    let names = types.iter().filter(|kind| **kind != "null").map(|kind| {
        let name = type_name(kind);
        name.strip_prefix("a ").unwrap_or(name)
    });
    names.collect::<Vec<_>>().join(" or ")
}

/// Takes the sentence that begins with `Default: ` out of a description.
fn split_default(text: &str) -> (String, Option<String>) {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((before, rest)) = flat.split_once("Default: ") else { return (flat, None) };
    let (default, after) = rest.split_once(". ").unwrap_or((rest.trim_end_matches('.'), ""));
    (format!("{before}{after}").trim().to_owned(), Some(default.to_owned()))
}

fn plain_default(default: &Value) -> String {
    match default {
        Value::String(text) => format!("`{text}`"),
        Value::Number(_) | Value::Bool(_) => format!("`{default}`"),
        _ => String::new(),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{load_feeds, load_node};
    use super::*;

    #[test]
    fn the_examples_load() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("feeds")).unwrap();
        fs::write(folder.path().join("feeds/user_totals.yaml"), FEED_EXAMPLE).unwrap();
        // A variable that is set wherever tests run.
        let node = NODE_EXAMPLE.replace("KAFKA_PASSWORD", "PATH");
        let node = node.replace("WAREHOUSE_PASSWORD", "PATH");
        fs::write(folder.path().join("node.yaml"), node).unwrap();
        let node = load_node(&folder.path().join("node.yaml")).unwrap_or_else(|f| panic!("{f}"));
        let feeds = load_feeds(&node.feeds, &node).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(feeds.len(), 1);
        let page = reference_markdown();
        assert!(page.contains(NODE_EXAMPLE) && page.contains(FEED_EXAMPLE));
    }

    #[test]
    fn every_field_has_a_type_and_a_meaning() {
        let page = reference_markdown();
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert!(rows.len() > 50, "{}", rows.len());
        for row in rows {
            let cells: Vec<&str> = row.split(" | ").collect();
            assert_eq!(cells.len(), 4, "{row}");
            assert!(!cells[1].is_empty() && cells[3].trim() != "|", "{row}");
        }
        assert!(page.contains("| `kafka.sasl.password` | credential | required |"));
        assert!(page.contains("| `columns[].type` | column type | required |"));
        assert!(page.contains("| `lake.linger` | duration | 10s |"));
    }

    #[test]
    fn defaults_in_words_are_the_defaults_in_the_types() {
        let schemas = schema_json();
        for schema in [&schemas["node"], &schemas["feed"]] {
            let objects = schema["$defs"].as_object().unwrap().values().chain([schema]);
            for (name, property) in
                objects.filter_map(|object| object["properties"].as_object()).flatten()
            {
                let actual = plain_default(&property["default"]).replace('`', "");
                let text = property["description"].as_str().unwrap_or_default();
                if let (Some(said), false) = (split_default(text).1, actual.is_empty()) {
                    let said = said.replace('`', "");
                    assert_eq!(said.split(',').next(), Some(actual.as_str()), "{name}");
                }
            }
        }
    }
}
