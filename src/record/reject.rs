use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A record that cannot become a row: kept whole, with why.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    pub offset: i64,
    /// Milliseconds since the epoch; -1 where the record has none.
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<super::Header>,
    pub class: RejectClass,
    /// For a person: names the field and what was found there.
    pub reason: String,
}

/// Why a record was rejected, in a bounded set fit for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectClass {
    /// Not a document of the declared format.
    Malformed,
    /// Bytes that are not UTF-8.
    Encoding,
    /// A field holds another type than declared.
    WrongType,
    /// A value does not fit its type: range, precision, length.
    OutOfRange,
    /// A key column or a required field is missing.
    MissingField,
    /// One object names a declared field twice.
    DuplicateField,
    /// A value is not what its column's check says.
    CheckFailed,
    /// The registry has no schema that the record could be read with.
    NoSchema,
    /// The sink refused the row: a constraint, an index limit.
    SinkRefused,
}

/// Stands in a reason before what was found there.
const FOUND: &str = ": found ";
/// And behind it, before what should have been.
const EXPECTED: &str = ", expected ";

/// A reason as a log may have it: without what is in the record. What is not known to be without is left out whole.
pub fn told(reason: &str) -> String {
    // What a server says of a value may hold it.
    if let Some((_, state)) = reason.rsplit_once(" (SQLSTATE ") {
        return format!("the server refused it (SQLSTATE {state}");
    }
    let found = reason.find(FOUND);
    match (found, reason.rfind(EXPECTED)) {
        (Some(found), Some(expected)) if found < expected => {
            let what = &reason[expected + EXPECTED.len()..];
            format!("{}: another value than {what}", &reason[..found])
        }
        (None, Some(_)) if reason.contains(": no value, expected ") => reason.to_owned(),
        _ => "it is not as its feed says".to_owned(),
    }
}

impl FromStr for RejectClass {
    type Err = String;

    /// Of its name; the error says which there are.
    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|class| class.name() == name)
            .ok_or_else(|| format!("one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// What somebody made of a record in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// It is a row now.
    Replayed,
    /// Its key had a newer state by then, which it must not overwrite or revive.
    Superseded,
    /// It is to stay out.
    Discarded,
    /// Progress was set back before it: a node reads it again, and it is a row then, or open once more.
    ReadAgain,
}

impl Settled {
    pub fn name(self) -> &'static str {
        match self {
            Settled::Replayed => "replayed",
            Settled::Superseded => "superseded",
            Settled::Discarded => "discarded",
            Settled::ReadAgain => "read_again",
        }
    }
}

impl RejectClass {
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::Encoding,
        Self::WrongType,
        Self::OutOfRange,
        Self::MissingField,
        Self::DuplicateField,
        Self::CheckFailed,
        Self::NoSchema,
        Self::SinkRefused,
    ];

    pub fn name(self) -> &'static str {
        match self {
            RejectClass::Malformed => "malformed",
            RejectClass::Encoding => "encoding",
            RejectClass::WrongType => "wrong_type",
            RejectClass::OutOfRange => "out_of_range",
            RejectClass::MissingField => "missing_field",
            RejectClass::DuplicateField => "duplicate_field",
            RejectClass::CheckFailed => "check_failed",
            RejectClass::NoSchema => "no_schema",
            RejectClass::SinkRefused => "sink_refused",
        }
    }
}

impl Reject {
    pub fn of(record: super::RawRecord<'_>, class: RejectClass, reason: impl Into<String>) -> Self {
        Self {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .map(|(name, content)| (name.to_owned(), content.map(<[u8]>::to_vec)))
                .collect(),
            class,
            reason: reason.into(),
        }
    }

    /// The headers as JSON: see [`super::headers_json`].
    pub fn headers_json(&self) -> String {
        super::headers_json(
            self.headers.iter().map(|(name, content)| (name.as_str(), content.as_deref())),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn a_reason_is_told_without_what_is_in_the_record() {
        for (reason, wanted) in [
            ("a.b: found \"x, expected y\", expected a long", "a.b: another value than a long"),
            ("id: no value, expected a long", "id: no value, expected a long"),
            ("tags: the field bob@x.org stands twice", "it is not as its feed says"),
            ("the key: a window from 1 to 0", "it is not as its feed says"),
            ("value \"x\" is too long (SQLSTATE 22001)", "the server refused it (SQLSTATE 22001)"),
            ("bob@x.org: unknown (SQLSTATE P0001)", "the server refused it (SQLSTATE P0001)"),
        ] {
            assert_eq!(told(reason), wanted);
        }
    }
}
