//! `lake.time`: the time by which a record's place in the lake is chosen.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check_columns::{Unfit, time_column};
use super::fault::nearest;
use super::{Column, Feed};

/// As a feed file says it. A word means itself, whatever columns there are: those may come later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LakeTime {
    Kafka,
    Ingest,
    /// A column, by its name or by the path of its field.
    Field(String),
}

const WORDS: [(&str, LakeTime); 2] = [("kafka", LakeTime::Kafka), ("ingest", LakeTime::Ingest)];

/// The same for a feed that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    /// Index of the column; where it is null or beyond all bounds, Kafka's timestamp.
    Column(usize),
    Kafka,
    /// When the node wrote the file.
    Ingest,
}

impl Feed {
    pub fn lake_time(&self) -> TimeSource {
        let columns = &self.schema.columns;
        let column = match self.lake.as_ref().and_then(|options| options.time.as_ref()) {
            Some(LakeTime::Ingest) => return TimeSource::Ingest,
            Some(LakeTime::Kafka) => None,
            // The feed's check has found it.
            Some(LakeTime::Field(field)) => time_column(field, columns).ok(),
            None => self.schema.time,
        };
        column.map_or(TimeSource::Kafka, TimeSource::Column)
    }
}

impl LakeTime {
    /// What is wrong with it in a feed of these columns.
    pub fn unfit(&self, columns: &[Column]) -> Option<Unfit> {
        let Self::Field(field) = self else { return None };
        let (found, allowed, meant) = time_column(field, columns).err()?;
        let words = WORDS.map(|(word, _)| word);
        let meant = nearest(field, words.to_vec()).or(meant);
        Some((found, format!("`kafka`, `ingest` or {allowed}"), meant))
    }
}

impl FromStr for LakeTime {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let known = WORDS.into_iter().find(|(word, _)| *word == text);
        Ok(known.map_or_else(|| Self::Field(text.to_owned()), |(_, time)| time))
    }
}

impl fmt::Display for LakeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kafka => "kafka",
            Self::Ingest => "ingest",
            Self::Field(field) => field,
        })
    }
}

impl Serialize for LakeTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LakeTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Ok(time) = Cow::<str>::deserialize(deserializer)?.parse();
        Ok(time)
    }
}

impl JsonSchema for LakeTime {
    fn schema_name() -> Cow<'static, str> {
        "LakeTime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({
            "type": "string",
            "examples": ["kafka", "ingest"],
            "description": "`kafka`, `ingest`, or a column by its name or the path of its field.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::FeedFile;
    use super::*;

    const COLUMNS: &str = "columns: [{name: v, type: int}, {name: at, path: M.AT, type: timestamp}, \
                           {name: ingest, type: date}]";

    fn resolved(lines: &str) -> Result<TimeSource, (String, String)> {
        let text = format!("{{feed: a, type: stream, topic: t, {COLUMNS}, {lines}}}");
        let file: FeedFile = serde_saphyr::from_str(&text).unwrap();
        let feed = file.resolve("t", None);
        feed.map(|it| it.lake_time()).map_err(|fault| (fault.field.clone(), fault.to_string()))
    }

    #[test]
    fn a_time_is_a_word_a_column_or_a_fields_path() {
        for (lines, expected) in [
            ("rest: false", TimeSource::Kafka),
            ("time: at", TimeSource::Column(1)),
            ("time: at, lake: {time: kafka}", TimeSource::Kafka),
            ("time: at, lake: {time: ingest}", TimeSource::Ingest),
            ("lake: {time: at}", TimeSource::Column(1)),
            ("lake: {time: M.AT}", TimeSource::Column(1)),
            // The word, though a column is named so; `time` always means a column.
            ("lake: {time: ingest}", TimeSource::Ingest),
            ("time: ingest", TimeSource::Column(2)),
        ] {
            assert_eq!(resolved(lines), Ok(expected), "{lines}");
        }
    }

    #[test]
    fn an_unknown_time_is_told_what_was_meant() {
        for (time, told) in [
            ("kafak", "did you mean `kafka`"),
            ("Ingest", "did you mean `ingest`"),
            ("att", "did you mean `at`"),
            ("v", "of type `int`"),
            ("M.A.T", "`kafka`, `ingest` or a column of type `timestamp` or `date`: `at`"),
        ] {
            let (field, message) = resolved(&format!("lake: {{time: {time}}}")).unwrap_err();
            assert_eq!(field, "lake.time");
            assert!(message.contains(told), "{time}: {message}");
        }
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in ["kafka", "ingest", "a.b"] {
            let time: LakeTime = serde_json::from_value(text.into()).unwrap();
            assert_eq!(serde_json::to_value(&time).unwrap(), text);
        }
    }
}
