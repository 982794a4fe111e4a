//! What a chore did, for people.

use chrono::{DateTime, SecondsFormat};

use super::chores::{Done, Measured, RowsExpired};
use crate::lake::upkeep::{Amount, Compacted, Expired, Logged, Mode, Vacuumed};

impl Done {
    pub fn in_words(&self, mode: Mode) -> String {
        match self {
            Self::Expired(it) => expired(it, mode),
            Self::Compacted(it) => compacted(it, mode),
            Self::Vacuumed(it) => vacuumed(it, mode),
            Self::Logged(it) => logged(it, mode),
            Self::RowsExpired(it) => rows_expired(it, mode),
            Self::Measured(it) => measured(it),
            Self::Failed(error) => format!("failed: {error}"),
        }
    }
}

fn verb(mode: Mode, did: &'static str, would: &'static str) -> &'static str {
    match mode {
        Mode::Do => did,
        Mode::DryRun => would,
    }
}

fn amount(amount: &Amount) -> String {
    format!("{} files, {} bytes", amount.files, amount.bytes)
}

fn expired(it: &Expired, mode: Mode) -> String {
    let times = match it.times.as_slice() {
        [] => String::new(),
        [only] => format!(" of {only}"),
        [first, .., last] => format!(" of {first} to {last}"),
    };
    let mut said = Vec::new();
    if it.taken.files > 0 {
        let verb = verb(mode, "taken out", "would take out");
        said.push(format!("{verb} {} rows{times} ({})", it.rows, amount(&it.taken)));
    }
    if it.deleted.files > 0 {
        let verb = verb(mode, "deleted", "would delete");
        said.push(format!("{verb} {}", amount(&it.deleted)));
    }
    said.join("; ")
}

fn compacted(it: &Compacted, mode: Mode) -> String {
    let into = match it.made.files {
        0 => String::new(),
        _ => format!(" into {}", amount(&it.made)),
    };
    let verb = verb(mode, "joined", "would join");
    let mut said = vec![format!("{verb} {}{into}", amount(&it.joined))];
    if it.other_columns > 0 {
        said.push(format!("{} of other columns left as they are", it.other_columns));
    }
    said.join("; ")
}

fn vacuumed(it: &Vacuumed, mode: Mode) -> String {
    let verb = verb(mode, "deleted", "would delete");
    let mut said = vec![
        format!("{verb} {}", amount(&it.swept)),
        format!("{} waiting for the grace time", amount(&it.marked)),
    ];
    if it.foreign.files > 0 {
        let (count, paths) = (it.foreign.files, it.foreign_paths.join(", "));
        said.push(format!("{count} that are not ours are left alone: {paths}"));
    }
    said.join("; ")
}

fn rows_expired(it: &RowsExpired, mode: Mode) -> String {
    let verb = verb(mode, "taken out", "would take out");
    format!("{verb} {} rows of days before {}", it.rows, it.before)
}

fn measured(it: &Measured) -> String {
    let mut said = Vec::new();
    let about = if it.guessed { "about " } else { "" };
    said.extend(it.rows.map(|rows| format!("{about}{rows} rows")));
    said.extend(it.files.map(|files| format!("{files} files")));
    said.extend(it.bytes.map(|bytes| format!("{bytes} bytes")));
    let newest = it.newest_ms.and_then(DateTime::from_timestamp_millis);
    if let (Some(newest), Some(age_ms)) = (newest, it.age_ms) {
        let newest = newest.to_rfc3339_opts(SecondsFormat::Secs, true);
        said.push(format!("the newest of {newest}, {} s before", age_ms / 1000));
    }
    said.join(", ")
}

fn logged(it: &Logged, mode: Mode) -> String {
    let mut said = Vec::new();
    if let Some(version) = it.checkpoint {
        let verb = verb(mode, "wrote", "would write");
        said.push(format!("{verb} a checkpoint of version {version}"));
    }
    if let Some(begins) = it.begins {
        let verb = verb(mode, "took", "would take");
        said.push(format!("{verb} {} out of the log before version {begins}", amount(&it.taken)));
    }
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::janitor::Report;

    #[test]
    fn a_run_that_was_noted_is_told_as_it_was() {
        let files = Amount { files: 3, bytes: 70 };
        let times = vec!["2026-01-01".to_owned(), "2026-01-02".to_owned()];
        let expired = Expired { times, taken: files, rows: 9, ..Expired::default() };
        let compacted = Compacted { joined: files, other_columns: 2, ..Compacted::default() };
        let vacuumed = Vacuumed { swept: files, ..Vacuumed::default() };
        let feeds = [
            ("a", Done::Expired(expired)),
            ("b", Done::Compacted(compacted)),
            ("c", Done::Vacuumed(vacuumed)),
            ("d", Done::Failed("the lake is away".to_owned())),
        ];
        let feeds = feeds.map(|(name, done)| (name.to_owned(), done)).into();
        let noted = serde_json::to_value(Report { feeds, ..Report::default() }).unwrap();
        let read: Report = serde_json::from_value(noted).unwrap();
        let said: Vec<String> = read.feeds.values().map(|done| done.in_words(Mode::Do)).collect();
        assert_eq!(
            said,
            [
                "taken out 9 rows of 2026-01-01 to 2026-01-02 (3 files, 70 bytes)",
                "joined 3 files, 70 bytes; 2 of other columns left as they are",
                "deleted 3 files, 70 bytes; 0 files, 0 bytes waiting for the grace time",
                "failed: the lake is away",
            ]
        );
        assert!(read.failed());
    }
}
