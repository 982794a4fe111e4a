//! A report for a person.

use std::fmt::{self, Display, Formatter};

use super::report::{FeedReport, Report, SinkReport, Verdict};
use crate::config::FeedKind;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for feed in &self.feeds {
            writeln!(f, "{feed}")?;
        }
        if self.waited_in_vain {
            writeln!(
                f,
                "The sinks had not reached the log's end in time: compared what they had."
            )?;
        }
        let feeds = match self.feeds.len() {
            1 => "1 feed".to_owned(),
            count => format!("{count} feeds"),
        };
        match self.verdict {
            Verdict::Ok => write!(f, "ok: {feeds} compared, no difference"),
            Verdict::Difference => {
                let differing = self.feeds.iter().filter(|feed| feed.differs());
                let names: Vec<&str> = differing.map(|feed| feed.feed.as_str()).collect();
                write!(f, "difference: {feeds} compared; differing: {}", names.join(", "))
            }
        }
    }
}

impl Display for FeedReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            FeedKind::Stream => "stream",
            FeedKind::Table => "table",
        };
        writeln!(f, "{}  ({kind}, topic {})", self.feed, self.topic)?;
        let sinks = [("lake", &self.lake), ("warehouse", &self.warehouse)];
        let sinks: Vec<(&str, &SinkReport)> =
            sinks.into_iter().filter_map(|(name, sink)| Some((name, sink.as_ref()?))).collect();
        let lines: Vec<(&str, Vec<(&str, u64)>)> =
            sinks.iter().map(|(name, sink)| (*name, columns(sink))).collect();
        let mut headings: Vec<&str> = Vec::new();
        for (heading, _) in lines.iter().flat_map(|(_, columns)| columns) {
            if !headings.contains(heading) {
                headings.push(heading);
            }
        }
        write!(f, "  {:<9}", "")?;
        for heading in &headings {
            write!(f, "  {heading:>12}")?;
        }
        writeln!(f)?;
        for (name, columns) in &lines {
            write!(f, "  {name:<9}")?;
            for heading in &headings {
                match columns.iter().find(|(known, _)| known == heading) {
                    Some((_, count)) => write!(f, "  {count:>12}")?,
                    None => write!(f, "  {:>12}", "-")?,
                }
            }
            writeln!(f)?;
        }
        for (name, sink) in sinks {
            details(f, name, sink)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  note: {note}"))
    }
}

fn columns(sink: &SinkReport) -> Vec<(&'static str, u64)> {
    let mut columns = vec![
        ("rows", sink.rows),
        ("lost", sink.lost),
        ("doubled", sink.doubled),
        ("out of place", sink.out_of_place),
        ("quarantined", sink.quarantined),
        ("unchecked", sink.unchecked),
        ("behind", sink.behind),
    ];
    if sink.retired > 0 {
        columns.push(("retired", sink.retired));
    }
    if let Some(table) = &sink.table {
        columns.extend([
            ("missing key", table.missing_keys),
            ("wrong row", table.wrong_rows),
            ("extra key", table.extra_keys),
        ]);
    }
    columns
}

fn details(f: &mut Formatter<'_>, name: &str, sink: &SinkReport) -> fmt::Result {
    for example in &sink.examples {
        write!(f, "  {name}: {}", example.fault.replace('_', " "))?;
        match (&example.key, example.partition, example.offset) {
            (Some(key), _, _) => writeln!(f, ": {key}")?,
            (None, Some(partition), Some(offset)) => {
                writeln!(f, ": partition {partition}, offset {offset}")?;
            }
            _ => writeln!(f)?,
        }
    }
    for file in &sink.unreadable {
        writeln!(f, "  {name}: cannot read {file}")?;
    }
    for gap in &sink.gaps {
        writeln!(
            f,
            "  {name}: {}: partition {}, offsets {} to {}: {}",
            if gap.settled { "gap" } else { "open gap" },
            gap.partition,
            gap.from,
            gap.to - 1,
            gap.reason
        )?;
    }
    Ok(())
}
