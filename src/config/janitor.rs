//! How tables are looked after: the janitor's part of the node file.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use croner::Cron;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{ByteSize, Duration};

/// How tables are looked after. One node of the cluster does it at a time.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Janitor {
    /// Whether this node may be the one. Default: true.
    pub enabled: bool,
    /// When what is older than a feed keeps is taken out; of the warehouse once a day. Default: 10m.
    pub retention: Schedule,
    /// When small files of Delta tables are joined. Default: 10m.
    pub compaction: Schedule,
    /// When the logs of Delta tables get the checkpoints that they lack, and lose old entries. Default: 1h.
    pub checkpoints: Schedule,
    /// When files are deleted that nothing refers to any more. Default: 1h.
    pub vacuum: Schedule,
    /// When tables are counted. Default: 6h.
    pub statistics: Schedule,
    /// When old rows are taken out of the audit. Default: 1h.
    pub audit: Schedule,
    /// How long a file that nothing refers to is kept for those who still read an older state. At least
    /// 1h. Default: 1d.
    pub grace: Duration,
    /// How long a Delta table's log keeps its entries: so far back a table can be read as it was, if its files
    /// are there still. Entries before the last checkpoint of that age go. At least 1d, and `grace`. Default:
    /// 30d.
    pub log_retention: Duration,
    /// Size of the files that compaction makes, one of which is in memory, beside the budget. 1MiB to 1GiB.
    /// Default: 128MiB.
    pub target_size: ByteSize,
    /// Where rows are still written to, fewer small files are left to become more. Default: 8.
    pub least_files: usize,
    /// What compaction reads of one table in one pass. Default: 1GiB.
    pub pass: ByteSize,
    /// How many days the audit is kept. Default: 400.
    pub audit_days: u32,
    /// How long the others wait for a janitor that gives no sign before one takes its place. At least 1s.
    /// Default: 15s.
    pub lease: Duration,
}

impl Default for Janitor {
    fn default() -> Self {
        let minutes = |minutes: u64| Schedule::Every(Duration::from_secs(minutes * 60));
        Self {
            enabled: true,
            retention: minutes(10),
            compaction: minutes(10),
            checkpoints: minutes(60),
            vacuum: minutes(60),
            statistics: minutes(360),
            audit: minutes(60),
            grace: Duration::from_secs(24 * 3600),
            log_retention: Duration::from_secs(30 * 24 * 3600),
            target_size: ByteSize::mib(128),
            least_files: 8,
            pass: ByteSize::gib(1),
            audit_days: 400,
            lease: Duration::from_secs(15),
        }
    }
}

/// When something is done again and again.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    Every(Duration),
    /// By the clock, in UTC.
    At {
        text: String,
        cron: Box<Cron>,
    },
    Off,
}

const OFF: &str = "off";

pub(super) const SCHEDULE_TEXT: &str = "`off`, a duration of 1s or more such as `10m`, or a cron expression in UTC such as `0 2 * * *`";

impl Schedule {
    /// When it is due, for something that was done then, or never since `since_ms`: milliseconds since the
    /// epoch. None: never.
    pub fn after(&self, since_ms: i64) -> Option<i64> {
        match self {
            Schedule::Off => None,
            Schedule::Every(every) => Some(since_ms.saturating_add(every.get().as_millis() as i64)),
            Schedule::At { cron, .. } => {
                let since = DateTime::<Utc>::from_timestamp_millis(since_ms)?;
                Some(cron.find_next_occurrence(&since, false).ok()?.timestamp_millis())
            }
        }
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("a schedule is {SCHEDULE_TEXT}");
        if text == OFF {
            return Ok(Schedule::Off);
        }
        if let Ok(every) = text.parse::<Duration>() {
            let long_enough = every.get() >= std::time::Duration::from_secs(1);
            return long_enough.then_some(Schedule::Every(every)).ok_or_else(wrong);
        }
        let cron = Box::new(text.parse::<Cron>().map_err(|_| wrong())?);
        Ok(Schedule::At { text: text.to_owned(), cron })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::Every(every) => write!(f, "{every}"),
            Schedule::At { text, .. } => f.write_str(text),
            Schedule::Off => f.write_str(OFF),
        }
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Schedule {
    fn schema_name() -> Cow<'static, str> {
        "Schedule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "schedule",
            "description": format!("A schedule: {SCHEDULE_TEXT}."),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
    }

    #[test]
    fn a_schedule_says_when() {
        let since = ms("2026-01-31T13:05:07Z");
        for (text, due) in [
            ("10m", "2026-01-31T13:15:07Z"),
            ("0 2 * * *", "2026-02-01T02:00:00Z"),
            ("*/15 * * * *", "2026-01-31T13:15:00Z"),
            ("30 4 * * MON", "2026-02-02T04:30:00Z"),
        ] {
            let schedule: Schedule = text.parse().unwrap();
            assert_eq!(schedule.after(since), Some(ms(due)), "{text}");
            assert_eq!(schedule.to_string(), text);
        }
        assert_eq!("off".parse::<Schedule>().unwrap().after(since), None);
        // Never twice for one moment.
        let nightly: Schedule = "0 2 * * *".parse().unwrap();
        let due = nightly.after(since).unwrap();
        assert_eq!(nightly.after(due), Some(ms("2026-02-02T02:00:00Z")));
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in ["", "0s", "10ms", "10", "every day", "61 * * * *", "* * * *"] {
            assert!(text.parse::<Schedule>().unwrap_err().contains("0 2 * * *"), "{text}");
        }
    }
}
