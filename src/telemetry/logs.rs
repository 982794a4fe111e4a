//! Log lines: on standard error, and by choice in a folder as well, a file for each role and day. Each has the
//! ids of the trace it was said in. A fault that repeats is said a few times a minute, and how often it was not.

mod limit;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Instant;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_appender::rolling::{Builder, Rotation};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::{self, Format, JsonFields, Writer};
use tracing_subscriber::fmt::{self, FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use self::limit::{Limit, Said};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For a person at a terminal.
    Human,
    /// One JSON object a line.
    Json,
}

/// Days of log files that are kept, of each role.
const DAYS: usize = 14;

/// A role's file, and where lines of its targets go.
const ROLES: [(&str, &[&str]); 6] = [
    ("consumer", &["source", "partition", "supervisor", "ownership", "registry", "catalog"]),
    ("lake", &["lake"]),
    ("warehouse", &["warehouse", "snapshots", "rights"]),
    ("janitor", &["janitor"]),
    ("api", &["api", "governor", "oidc"]),
    ("node", &[]),
];

/// Writes what waits to be written when it is dropped.
#[must_use]
#[derive(Default)]
pub struct Kept(#[expect(dead_code, reason = "it is dropped")] Vec<WorkerGuard>);

/// Begins to log. `TIDEGATE_LOG` chooses levels, as in `tidegate=debug`.
pub fn begin(format: LogFormat, default: &str, folder: Option<&Path>) -> io::Result<Kept> {
    let filter =
        EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let mut guards = Vec::new();
    let files = match folder {
        Some(folder) => Some(lines(format, Files::open(folder, &mut guards)?, false)),
        None => None,
    };
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = lines(format, io::stderr, colours);
    // Libraries write what they send into their finer lines, values of records too.
    let plain = filter_fn(|of| is_ours(of.target()) || *of.level() <= Level::INFO);
    let subscriber =
        tracing_subscriber::registry().with(filter).with(plain).with(lines).with(files);
    // A second call (a test, a demo inside a node) leaves the first in place.
    let _ = subscriber.try_init();
    Ok(Kept(guards))
}

fn lines<S, W>(format: LogFormat, writer: W, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer()
        .with_writer(writer)
        .with_ansi(colours)
        // It would say so on standard error, and panic where that is what failed.
        .log_internal_errors(false);
    match format {
        LogFormat::Human => {
            let format = format::format().with_ansi(colours);
            Box::new(layer.event_format(Lines { format, json: false, limit: Limit::default() }))
        }
        LogFormat::Json => {
            let format = format::json().flatten_event(true);
            let lines = Lines { format, json: true, limit: Limit::default() };
            Box::new(layer.fmt_fields(JsonFields::new()).event_format(lines))
        }
    }
}

/// Lines with what they lack: the trace, and how often they were not written.
struct Lines<F> {
    format: F,
    json: bool,
    limit: Limit,
}

impl<S, N, F> FormatEvent<S, N> for Lines<Format<F>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    Format<F>: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let left_out = match self.limit.say(event, Instant::now()) {
            Said::Nothing => return Ok(()),
            Said::After(left_out) => left_out,
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let mut more: Vec<(&str, String)> = Vec::new();
        let here = Context::map_current(|here| here.span().span_context().clone());
        if here.is_valid() {
            more.push(("trace_id", here.trace_id().to_string()));
            more.push(("span_id", here.span_id().to_string()));
        }
        let (body, end) = match self.json {
            true => (line.trim_end().trim_end_matches('}'), "}"),
            false => (line.trim_end(), ""),
        };
        writer.write_str(body)?;
        for (name, value) in more {
            match self.json {
                true => write!(writer, ",\"{name}\":\"{value}\"")?,
                false => write!(writer, " {name}={value}")?,
            }
        }
        match (left_out, self.json) {
            (0, _) => {}
            (left_out, true) => write!(writer, ",\"suppressed\":{left_out}")?,
            (left_out, false) => write!(writer, " suppressed={left_out}")?,
        }
        writeln!(writer, "{end}")
    }
}

/// A file for each role.
struct Files(Vec<NonBlocking>);

impl Files {
    fn open(folder: &Path, guards: &mut Vec<WorkerGuard>) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let open = |(role, _): &(&str, _)| {
            let file = Builder::new()
                .rotation(Rotation::DAILY)
                // Of a folder with others' logs those are deleted that are named like this.
                .filename_prefix(format!("tidegate-{role}"))
                .filename_suffix("log")
                .max_log_files(DAYS)
                .build(folder)
                .map_err(io::Error::other)?;
            // A disk that stands still holds nobody up: what finds no room is not written.
            let (writer, guard) = tracing_appender::non_blocking(file);
            guards.push(guard);
            Ok(writer)
        };
        Ok(Self(ROLES.iter().map(open).collect::<io::Result<_>>()?))
    }
}

fn is_ours(target: &str) -> bool {
    target == "tidegate" || target.starts_with("tidegate::") || target == LIBRDKAFKA
}

/// Its lines come through a callback of ours.
const LIBRDKAFKA: &str = "librdkafka";

/// Which role says what has this target.
fn role_of(target: &str) -> usize {
    let room = match target.strip_prefix("tidegate::") {
        Some(rest) => rest.split("::").next().unwrap_or(rest),
        // Consumers and producers alike.
        None if target == LIBRDKAFKA => "source",
        None => target,
    };
    let last = ROLES.len() - 1;
    ROLES.iter().position(|(_, rooms)| rooms.contains(&room)).unwrap_or(last)
}

impl<'w> MakeWriter<'w> for Files {
    type Writer = NonBlocking;

    fn make_writer(&'w self) -> Self::Writer {
        self.0[ROLES.len() - 1].clone()
    }

    fn make_writer_for(&'w self, of: &Metadata<'_>) -> Self::Writer {
        self.0[role_of(of.target())].clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
    use tracing::{info, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(format: LogFormat, say: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let writer = written.clone();
        let lines = lines(format, move || writer.clone(), false);
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, say);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn in_a_trace(say: impl FnOnce()) {
        let (trace, span) = (TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]));
        let (flags, state) = (TraceFlags::default(), TraceState::default());
        let context = SpanContext::new(trace, span, flags, false, state);
        let _here = Context::new().with_remote_span_context(context).attach();
        say();
    }

    #[test]
    fn a_line_has_the_ids_of_its_trace() {
        let trace = "01".repeat(16);
        let lines = said(LogFormat::Json, || {
            in_a_trace(|| info!(feed = "a}", "one"));
            info!("other");
        });
        let line = |at: usize| serde_json::from_str::<serde_json::Value>(&lines[at]).unwrap();
        assert_eq!(
            (line(0)["trace_id"].as_str(), line(0)["feed"].as_str()),
            (Some(&*trace), Some("a}"))
        );
        assert_eq!(line(0)["span_id"].as_str(), Some("0202020202020202"));
        assert!(line(1)["trace_id"].is_null() && line(1)["message"] == "other");
        let lines = said(LogFormat::Human, || in_a_trace(|| info!("one")));
        assert!(lines[0].ends_with(&format!(" one trace_id={trace} span_id=0202020202020202")));
    }

    #[test]
    fn a_fault_that_repeats_is_not_said_each_time() {
        let lines = said(LogFormat::Json, || {
            for attempt in 0..100 {
                warn!(feed = "a", attempt, "failed");
                warn!(id = attempt, "said once");
                info!(feed = "a", attempt, "done");
            }
        });
        let with = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!((with("failed"), with("done")), (limit::BURST as usize, 100));
        assert_eq!(with("said once"), 100);
    }

    #[test]
    fn each_role_has_a_file() {
        let of = |target| ROLES[role_of(target)].0;
        assert_eq!(of("tidegate::source"), "consumer");
        assert_eq!(of("librdkafka"), "consumer");
        assert_eq!(of("tidegate::warehouse::postgres::write"), "warehouse");
        assert_eq!((of("tidegate::lake"), of("tidegate::api")), ("lake", "api"));
        assert_eq!((of("tidegate::app"), of("deltalake_core")), ("node", "node"));
        let folder = tempfile::tempdir().unwrap();
        let mut guards = Vec::new();
        let files = Files::open(folder.path(), &mut guards).unwrap();
        let subscriber = tracing_subscriber::registry().with(lines(LogFormat::Human, files, false));
        tracing::subscriber::with_default(subscriber, || {
            info!(target: "tidegate::lake", "committed");
            info!(target: "tidegate::janitor", "swept");
        });
        drop(guards);
        let text = |role: &str| {
            let files = std::fs::read_dir(folder.path()).unwrap().flatten();
            let found = files.map(|it| it.path()).find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&format!("tidegate-{role}"))
            });
            std::fs::read_to_string(found.unwrap()).unwrap()
        };
        assert!(text("lake.").contains("committed") && !text("lake.").contains("swept"));
        assert!(text("janitor.").contains("swept"));
        assert_eq!(text("api."), "");
    }
}
