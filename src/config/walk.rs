//! A tree of values, walked against the schema of its type.
//!
//! Deserializing alone would stop at the first fault. The walk finds them all, takes out what is
//! wrong but optional and puts a stand-in where something is required, so that the meaning of the
//! rest can be checked in the same run.

use std::path::Path;

use serde_json::{Map, Value};

use super::fault::{listed, nearest};
use super::stand_in::{follows, stand_in};
use super::{ByteSize, ColumnType, Duration, Fault, Grantee, Pattern, Schedule, Start};

/// Walks `value` along `schema`; afterwards `value` holds only what is valid, and stand-ins.
pub fn walk(file: &Path, schema: &Value, value: &mut Value) -> Walked {
    let mut walk = Walk {
        file,
        root: schema,
        secret: false,
        walked: Walked { faults: Vec::new(), pruned: Vec::new(), usable: false },
    };
    walk.walked.usable = walk.value(schema, value, "");
    walk.walked
}

/// What a walk found.
pub struct Walked {
    pub faults: Vec<Fault>,
    /// Fields that were taken out or replaced, or probably meant by one that was: whatever a later
    /// check says of these would only repeat the fault.
    pub pruned: Vec<String>,
    /// It can be deserialized.
    pub usable: bool,
}

impl Walked {
    /// Whether a later fault of `field` would only repeat one of the walk's.
    pub fn explains(&self, field: &str) -> bool {
        self.pruned.iter().any(|pruned| follows(field, pruned))
    }
}

struct Walk<'a> {
    file: &'a Path,
    root: &'a Value,
    /// Inside the place of a credential, where nothing that was found is printed.
    secret: bool,
    walked: Walked,
}

impl<'a> Walk<'a> {
    fn fault(&mut self, field: &str, found: impl Into<Box<str>>, allowed: impl Into<String>) {
        self.walked.faults.push(Fault::new(self.file, field, found, allowed));
    }

    fn suggest(&mut self, candidate: Option<String>) {
        if let Some(fault) = self.walked.faults.last_mut() {
            fault.nearest = candidate;
        }
    }

    /// Checks one value; false when it cannot be used.
    fn value(&mut self, schema: &'a Value, value: &mut Value, path: &str) -> bool {
        let (schema, nullable) = resolve(self.root, schema);
        if nullable && value.is_null() {
            return true;
        }
        let choices = choices(schema);
        if !choices.is_empty() {
            return self.choice(&choices, value, path);
        }
        if let Some(branches) = schema["oneOf"].as_array() {
            return self.tagged(branches, value, path);
        }
        let types = types(schema);
        if !types.is_empty() && !types.iter().any(|kind| is(kind, value)) {
            let allowed = match described(schema) {
                Some(text) => text.to_owned(),
                None => types.iter().map(|kind| type_name(kind)).collect::<Vec<_>>().join(" or "),
            };
            let scalar = !types.iter().any(|kind| matches!(*kind, "object" | "array"));
            self.fault(path, self.show(value, scalar), allowed);
            return false;
        }
        match value {
            Value::Object(map) => self.object(schema, map, path),
            Value::Array(items) => {
                // Every item is walked, also after a faulty one.
                let walked = items.iter_mut().enumerate().map(|(index, item)| {
                    let (schema, path) = (&schema["items"], format!("{path}[{index}]"));
                    // Its neighbours keep their numbers.
                    self.value(schema, item, &path) || self.replace(schema, item, path)
                });
                walked.fold(true, |all, one| all & one)
            }
            Value::String(text) => self.text(schema, text, path),
            Value::Number(number) => self.number(schema, number, path),
            Value::Bool(_) | Value::Null => true,
        }
    }

    fn object(&mut self, schema: &'a Value, map: &mut Map<String, Value>, path: &str) -> bool {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut usable = true;
        for name in map.keys().cloned().collect::<Vec<_>>() {
            let field = join(path, &name);
            let known = match schema["properties"].get(&name) {
                Some(known) => known,
                None if schema["additionalProperties"].is_object() => {
                    &schema["additionalProperties"]
                }
                None => {
                    self.unknown(&field, path, &name, properties);
                    map.remove(&name);
                    continue;
                }
            };
            if self.value(known, map.get_mut(&name).unwrap_or(&mut Value::Null), &field) {
                continue;
            }
            if required.contains(&name.as_str()) {
                usable &=
                    self.replace(known, map.get_mut(&name).unwrap_or(&mut Value::Null), field);
            } else {
                map.remove(&name);
                self.walked.pruned.push(field);
            }
        }
        for name in required {
            if !map.contains_key(name) {
                let meaning = properties.get(name).and_then(|property| self.meaning(property));
                let allowed = meaning.unwrap_or_else(|| "a value: it is required".to_owned());
                let field = join(path, name);
                self.fault(&field, "nothing: the field is required", allowed);
                let mut value = Value::Null;
                usable &= self.replace(&schema["properties"][name], &mut value, field);
                map.insert(name.to_owned(), value);
            }
        }
        usable
    }

    /// Puts a stand-in in the place of a wrong value; false if there is none.
    fn replace(&mut self, schema: &Value, value: &mut Value, field: String) -> bool {
        let Some(other) = stand_in(self.root, schema, &field) else { return false };
        *value = other;
        self.walked.pruned.push(field);
        true
    }

    fn unknown(&mut self, field: &str, path: &str, name: &str, known: &Map<String, Value>) {
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        self.fault(field, "an unknown field", listed(&names));
        let meant = nearest(name, names);
        self.walked.pruned.push(field.to_owned());
        self.walked.pruned.extend(meant.as_ref().map(|meant| join(path, meant)));
        self.suggest(meant);
    }

    /// What a missing field is for: its types or choices, or its description's first sentence.
    fn meaning(&self, property: &Value) -> Option<String> {
        let (schema, _) = resolve(self.root, property);
        let choices = choices(schema);
        if !choices.is_empty() {
            return Some(listed(&choices));
        }
        let text = property["description"].as_str().or_else(|| schema["description"].as_str())?;
        Some(first_sentence(text))
    }

    fn choice(&mut self, choices: &[&str], value: &Value, path: &str) -> bool {
        if value.as_str().is_some_and(|text| choices.contains(&text)) {
            return true;
        }
        self.fault(path, self.show(value, true), listed(choices));
        self.suggest(value.as_str().and_then(|text| nearest(text, choices.iter().copied())));
        false
    }

    /// A credential: an object with exactly one of a few keys.
    fn tagged(&mut self, branches: &'a [Value], value: &mut Value, path: &str) -> bool {
        let known: Vec<(&str, &Value)> = branches
            .iter()
            .filter_map(|branch| branch["properties"].as_object()?.iter().next())
            .map(|(name, schema)| (name.as_str(), schema))
            .collect();
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let allowed = format!("a mapping with exactly one of {}", listed(&names));
        let Some(map) = value.as_object_mut().filter(|map| map.len() == 1) else {
            let found = match &*value {
                Value::Object(map) => format!("a mapping with {} keys", map.len()),
                other => format!("{} in the place of a credential", kind(other)),
            };
            self.fault(path, found, allowed);
            if let Some(fault) = self.walked.faults.last_mut() {
                fault.remedy = Some("write `{env: NAME}` or `{file: PATH}`".into());
            }
            return false;
        };
        let Some((name, inner)) = map.iter_mut().next() else { return false };
        let Some((_, schema)) = known.iter().find(|(known, _)| known == name) else {
            self.fault(&join(path, name), "an unknown field", allowed);
            self.suggest(nearest(name, names));
            return false;
        };
        let field = join(path, name);
        self.secret = true;
        let usable = self.value(schema, inner, &field);
        self.secret = false;
        usable
    }

    fn text(&mut self, schema: &Value, text: &str, path: &str) -> bool {
        let format = schema["format"].as_str().unwrap_or_default();
        let valid = match format {
            "byte-size" => text.parse::<ByteSize>().is_ok(),
            "duration-text" => text.parse::<Duration>().is_ok(),
            "column-type" => text.parse::<ColumnType>().is_ok(),
            "start" => text.parse::<Start>().is_ok(),
            "schedule" => text.parse::<Schedule>().is_ok(),
            "grantee" => text.parse::<Grantee>().is_ok(),
            "feed-pattern" => text.parse::<Pattern>().is_ok(),
            _ => schema["pattern"].as_str().is_none_or(|pattern| {
                regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
            }),
        };
        if !valid {
            let allowed = described(schema).unwrap_or("another text");
            self.fault(path, self.show(&text.into(), true), allowed);
            // An example with parameters, `decimal(38,9)`, is not what anyone meant.
            let examples = schema["examples"].as_array().into_iter().flatten();
            self.suggest(nearest(
                text,
                examples.filter_map(Value::as_str).filter(|text| !text.contains('(')),
            ));
        }
        valid
    }

    fn number(&mut self, schema: &Value, number: &serde_json::Number, path: &str) -> bool {
        let (least, most) = match schema["format"].as_str() {
            Some("int32") => (i64::from(i32::MIN) as f64, f64::from(i32::MAX)),
            _ => (f64::MIN, f64::MAX),
        };
        let least = schema["minimum"].as_f64().unwrap_or(least);
        let most = schema["maximum"].as_f64().unwrap_or(most);
        let valid = number.as_f64().is_some_and(|value| (least..=most).contains(&value));
        if !valid {
            let allowed = if most == f64::MAX {
                format!("a number from {least}")
            } else {
                format!("a number from {least} to {most}")
            };
            self.fault(path, format!("the number {number}"), allowed);
        }
        valid
    }

    fn show(&self, value: &Value, content: bool) -> String {
        match value {
            Value::String(text) if content && !self.secret => format!("`{text}`"),
            Value::Number(number) if content && !self.secret => format!("the number {number}"),
            Value::Bool(on) if content && !self.secret => format!("`{on}`"),
            other => kind(other).to_owned(),
        }
    }
}

/// The schema behind a reference, and whether null may stand in its place.
pub fn resolve<'a>(root: &'a Value, schema: &'a Value) -> (&'a Value, bool) {
    let alternatives = schema["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    if let [inner, null] = alternatives
        && null["type"] == "null"
    {
        return (resolve(root, inner).0, true);
    }
    let target = schema["$ref"].as_str().and_then(|path| root.pointer(path.strip_prefix('#')?));
    (target.unwrap_or(schema), types(schema).contains(&"null"))
}

/// The texts an enumeration allows; empty for any other schema.
pub fn choices(schema: &Value) -> Vec<&str> {
    let mut choices: Vec<&str> =
        schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for branch in schema["oneOf"].as_array().into_iter().flatten() {
        choices.extend(branch["const"].as_str());
        choices.extend(branch["enum"].as_array().into_iter().flatten().filter_map(Value::as_str));
    }
    choices
}

pub fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    }
}

pub fn type_name(kind: &str) -> &'static str {
    match kind {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a mapping",
        _ => "nothing",
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "`true` or `false`",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// Types with a text form of their own describe it in their schema.
fn described(schema: &Value) -> Option<&str> {
    let format = schema["format"].as_str()?;
    let described = [
        "byte-size",
        "duration-text",
        "column-type",
        "start",
        "schedule",
        "grantee",
        "feed-pattern",
    ];
    if !described.contains(&format) {
        return None;
    }
    let text = schema["description"].as_str()?;
    text.split_once(": ").map(|(_, form)| form.trim_end_matches('.'))
}

fn first_sentence(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = flat.find(". ").unwrap_or(flat.len());
    flat[..end].trim_end_matches('.').to_owned()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::super::document::parse;
    use super::super::reference::{feed_schema, node_schema};
    use super::*;

    fn walked(schema: &Value, text: &str) -> (Walked, Value) {
        let file = Path::new("x.yaml");
        let mut value = parse(file, text).unwrap();
        (walk(file, schema, &mut value), value)
    }

    /// (field, found, nearest) of each fault.
    fn faults(schema: &Value, text: &str) -> Vec<(String, String, Option<String>)> {
        let (walked, _) = walked(schema, text);
        walked
            .faults
            .into_iter()
            .map(|fault| (fault.field, fault.found.into(), fault.nearest))
            .collect()
    }

    fn fault(field: &str, found: &str, nearest: Option<&str>) -> (String, String, Option<String>) {
        (field.to_owned(), found.to_owned(), nearest.map(str::to_owned))
    }

    #[test]
    fn every_fault_of_a_file_is_found_in_one_walk() {
        let text = "\
feed: a
type: tabel
topc: t
start: erliest
enabled: yes
columns:
  - {name: a, type: strng, requird: true}
  - {name: b}
  - text
  - {name: 7, type: 'decimal(5,9)'}
lake: {linger: 10, max_bytes: 5 apples, zstd_level: 99999999999, max_records: -1}
warehouse: {linger: 20ms, tabel: x}
quarantine: {park_above: high}
";
        let mut found = faults(&feed_schema(), text);
        found.sort();
        let mut expected = vec![
            fault("type", "`tabel`", Some("table")),
            fault("topc", "an unknown field", Some("topic")),
            fault("start", "`erliest`", Some("earliest")),
            fault("enabled", "`yes`", None),
            fault("columns[0].type", "`strng`", Some("string")),
            fault("columns[0].requird", "an unknown field", Some("required")),
            fault("columns[1].type", "nothing: the field is required", None),
            fault("columns[2]", "a text", None),
            fault("columns[3].name", "the number 7", None),
            fault("columns[3].type", "`decimal(5,9)`", None),
            fault("lake.linger", "the number 10", None),
            fault("lake.max_bytes", "`5 apples`", None),
            fault("lake.zstd_level", "the number 99999999999", None),
            fault("lake.max_records", "the number -1", None),
            fault("warehouse.tabel", "an unknown field", Some("table")),
            fault("quarantine.park_above", "`high`", None),
        ];
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_allowed_is_said() {
        let (walked, _) = walked(&feed_schema(), "{feed: a, type: x, lake: {linger: soon}, b: 1}");
        let text = walked.faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n");
        assert!(text.contains("type: found `x`; allowed: `stream`, `table`"), "{text}");
        assert!(text.contains("allowed: a whole number with `ms`, `s`, `m`, `h` or `d`"), "{text}");
        assert!(text.contains("b: found an unknown field; allowed: `case`, `columns`, "), "{text}");
    }

    #[test]
    fn required_fields_are_missed_at_every_depth() {
        let found = faults(&node_schema(), "{kafka: {sasl: {mechanism: PLAIN}}, warehouse: {}}");
        let fields: Vec<&str> = found.iter().map(|(field, ..)| field.as_str()).collect();
        for field in
            ["kafka.bootstrap", "kafka.sasl.password", "kafka.sasl.username", "warehouse.url"]
        {
            assert!(fields.contains(&field), "{field} in {fields:?}");
        }
        assert_eq!(fields.len(), 4);
        assert_eq!(faults(&node_schema(), ""), [fault("", "nothing", None)]);
    }

    #[test]
    fn a_credential_in_the_wrong_place_is_not_repeated() {
        for password in [
            "hunter2",
            "{text: hunter2}",
            "{env: {name: hunter2}}",
            "{env: A, file: hunter2}",
            "{env: [hunter2]}",
            "12345",
            "{env: 12345}",
        ] {
            let text = format!(
                "{{kafka: {{bootstrap: 'a:1', sasl: {{mechanism: PLAIN, username: u, password: {password}}}}}}}"
            );
            let (walked, _) = walked(&node_schema(), &text);
            assert_eq!(walked.faults.len(), 1, "{password}");
            let message = walked.faults[0].to_string();
            assert!(message.contains("kafka.sasl.password"), "{message}");
            assert!(!message.contains("hunter2") && !message.contains("12345"), "{message}");
        }
    }

    #[test]
    fn the_rest_stays_usable_when_what_is_wrong_is_optional() {
        let text = "{feed: a, type: stream, topic: t, strat: latest, lake: {linger: soon}}";
        let (walked, value) = walked(&feed_schema(), text);
        assert!(walked.usable);
        assert_eq!(
            value,
            serde_json::json!({
                "feed": "a", "type": "stream", "topic": "t", "lake": {}
            })
        );
        assert!(walked.explains("strat") && walked.explains("start"));
        assert!(walked.explains("lake.linger") && !walked.explains("lake.zstd_level"));
        assert!(!walked.explains("startle"));
    }

    #[test]
    fn what_is_required_is_stood_in_for() {
        let text = "{feed: 7, type: x, topic: t, columns: [{name: a, type: x}, text]}";
        let (walked, value) = walked(&feed_schema(), text);
        assert!(walked.usable, "{value}");
        assert_eq!(value["type"], "stream");
        assert_eq!(value["columns"][0], serde_json::json!({"name": "a", "type": "string"}));
        assert_eq!(value["columns"][1]["name"], "stand_in_columns_1__name");
        assert!(walked.explains("columns[1].path") && !walked.explains("columns[0].name"));
    }

    #[test]
    fn settings_take_plain_values() {
        let (walked, _) = walked(
            &node_schema(),
            "{kafka: {bootstrap: 'a:1', settings: {a: 1, b: true, c: x, d: 1.5, e: [1]}}}",
        );
        let fields: Vec<&str> = walked.faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["kafka.settings.e"]);
    }
}
