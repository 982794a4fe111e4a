//! Values in the place of what is required but missing or wrong, so that the rest of the file can be
//! checked in the same run.

use serde_json::{Map, Value};

use super::walk::{choices, resolve, types};

/// Faults that may only follow from a stand-in, or from a field that was taken out: what is wrong at
/// the first may show at the second.
const FOLLOWS: [(&str, &str); 13] = [
    ("columns", "time"),
    ("key", "time"),
    ("columns", "lake.time"),
    ("key", "lake.time"),
    ("columns", "partitioning.time"),
    ("key", "partitioning.time"),
    ("topics", "topic"),
    ("topics", "feed"),
    ("topics", "warehouse.table"),
    ("lake.url", "lake.s3"),
    ("schema_registry.username", "schema_registry.password"),
    ("schema_registry.password", "schema_registry.username"),
    ("partitioning", "partitioning.columns"),
];

/// A value that `schema` allows. Texts are unlike any other in the file.
pub fn stand_in(root: &Value, schema: &Value, path: &str) -> Option<Value> {
    let (schema, nullable) = resolve(root, schema);
    if nullable {
        return Some(Value::Null);
    }
    if let Some(choice) = choices(schema).first() {
        return Some((*choice).into());
    }
    if let Some(branch) = schema["oneOf"].as_array().and_then(|branches| branches.first()) {
        return object(root, branch, path);
    }
    match *types(schema).first()? {
        "string" => Some(text(schema["format"].as_str(), path).into()),
        "integer" | "number" => Some(schema.get("minimum").cloned().unwrap_or_else(|| 1.into())),
        "boolean" => Some(false.into()),
        "array" => Some(Value::Array(Vec::new())),
        "object" => object(root, schema, path),
        _ => None,
    }
}

fn object(root: &Value, schema: &Value, path: &str) -> Option<Value> {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let fields = required.map(|name| {
        let value = stand_in(root, &schema["properties"][name], &format!("{path}.{name}"))?;
        Some((name.to_owned(), value))
    });
    fields.collect::<Option<Map<_, _>>>().map(Value::Object)
}

fn text(format: Option<&str>, path: &str) -> String {
    match format {
        Some("byte-size") => "1MiB".to_owned(),
        Some("duration-text") => "1s".to_owned(),
        Some("schedule") => "1h".to_owned(),
        Some("column-type") => "string".to_owned(),
        Some("start") => "earliest".to_owned(),
        Some("grantee") => "user:stand_in".to_owned(),
        _ => {
            let plain = path.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            format!("stand_in_{}", plain.to_lowercase())
        }
    }
}

/// Whether a fault of `field` may only follow from what is wrong at `pruned`.
pub fn follows(field: &str, pruned: &str) -> bool {
    is_within(field, pruned)
        || FOLLOWS.iter().any(|(cause, effect)| {
            (is_within(pruned, cause) || is_within(cause, pruned)) && is_within(field, effect)
        })
}

/// Whether a dotted path is another or lies below it.
fn is_within(field: &str, above: &str) -> bool {
    field.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::super::reference::{feed_schema, node_schema};
    use super::super::{FeedFile, Node};
    use super::*;

    #[test]
    fn a_whole_file_of_stand_ins_is_of_its_type() {
        let feed = stand_in(&feed_schema(), &feed_schema(), "").unwrap();
        assert!(serde_json::from_value::<FeedFile>(feed.clone()).is_ok(), "{feed}");
        let node = stand_in(&node_schema(), &node_schema(), "").unwrap();
        assert!(serde_json::from_value::<Node>(node.clone()).is_ok(), "{node}");
    }

    #[test]
    fn what_follows_from_a_fault_is_known() {
        for (field, pruned, expected) in [
            ("lake.linger", "lake.linger", true),
            ("columns[1].name", "columns[1]", true),
            ("columns[10].name", "columns[1]", false),
            ("time", "columns[0].type", true),
            ("time", "key", true),
            ("time", "lake", false),
            ("lake.s3", "lake.url", true),
            ("warehouse.table", "warehouse.linger", false),
            ("feed", "topics", true),
        ] {
            assert_eq!(follows(field, pruned), expected, "{field} after {pruned}");
        }
    }
}
