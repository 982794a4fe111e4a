//! What is wrong with a file, said so that it can be put right without asking anyone.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One fault of a configuration file. Some of its texts are boxed to keep a `Result` small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub file: Box<Path>,
    /// Dotted path, such as `columns[2].type`; empty where the file as a whole is meant.
    pub field: String,
    /// What stands there. Never a credential.
    pub found: Box<str>,
    /// What may stand there.
    pub allowed: String,
    /// The valid name or value closest to what was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// What to do, where it does not follow from `allowed`; may have several lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Box<str>>,
}

impl Fault {
    pub fn new(
        file: impl Into<PathBuf>,
        field: impl Into<String>,
        found: impl Into<Box<str>>,
        allowed: impl Into<String>,
    ) -> Self {
        Self {
            file: file.into().into_boxed_path(),
            field: field.into(),
            found: found.into(),
            allowed: allowed.into(),
            nearest: None,
            remedy: None,
        }
    }

    pub fn nearest(mut self, nearest: Option<String>) -> Self {
        self.nearest = nearest;
        self
    }

    pub fn remedy(mut self, remedy: impl Into<Box<str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "found {}; allowed: {}", self.found, self.allowed)?;
        match (&self.nearest, &self.remedy) {
            (Some(nearest), None) => write!(f, "\n    did you mean `{nearest}`?"),
            (None, Some(remedy)) => write!(f, "\n    {}", remedy.replace('\n', "\n    ")),
            (Some(nearest), Some(remedy)) => {
                write!(f, "\n    did you mean `{nearest}`? {}", remedy.replace('\n', "\n    "))
            }
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

/// Every fault that was found, in the order of the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "1 fault in the configuration")?,
            count => write!(f, "{count} faults in the configuration")?,
        }
        for fault in &self.0 {
            write!(f, "\n  {}", fault.to_string().replace('\n', "\n  "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// The candidate that was probably meant, if any is close enough to be worth naming.
pub fn nearest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let found = found.to_lowercase();
    let distance = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        // `integer` for `int`, `bool` for `boolean`: an edit distance alone misses these.
        let shorter = found.len().min(candidate.len());
        if shorter >= 3 && (found.starts_with(&candidate) || candidate.starts_with(&found)) {
            return 1;
        }
        strsim::damerau_levenshtein(&found, &candidate)
    };
    let (distance, candidate) = candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    let tolerated = (found.chars().count().max(candidate.len()) / 3).clamp(1, 4);
    (distance <= tolerated).then(|| candidate.to_owned())
}

/// Names for a message: `a`, `b`.
pub(super) fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names_what_was_probably_meant() {
        let kinds = ["string", "int", "long", "double", "boolean", "timestamp", "date", "json"];
        for (found, expected) in [
            ("strng", Some("string")),
            ("integer", Some("int")),
            ("bool", Some("boolean")),
            ("Timestamp", Some("timestamp")),
            ("lnog", Some("long")),
            ("uuid", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, kinds).as_deref(), expected, "{found}");
        }
    }

    #[test]
    fn faults_print_with_a_count_and_serialize() {
        let faults = Faults(vec![
            Fault::new("a.yaml", "columns[2].type", "`strng`", "`string`, `int`")
                .nearest(Some("string".into())),
            Fault::new("b.yaml", "", "no file", "a file").remedy("write it"),
        ]);
        let text = faults.to_string();
        assert!(text.starts_with("2 faults"), "{text}");
        assert!(text.contains("a.yaml: columns[2].type: found `strng`; allowed: `string`, `int`"));
        assert!(text.contains("did you mean `string`?"), "{text}");
        assert!(text.contains("b.yaml: found no file; allowed: a file\n      write it"), "{text}");
        let json = serde_json::to_value(&faults).unwrap();
        assert_eq!(json[0]["nearest"], "string");
        assert_eq!(json[1]["file"], "b.yaml");
    }
}
