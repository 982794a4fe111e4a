//! Statements to a database.

use std::future::Future;
use std::time::Instant;

use opentelemetry::trace::SpanKind;

use super::{Span, Start, convention};
use crate::telemetry::metrics;

/// A statement as its span tells it: what it does, and to which table. No values, and no text.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// `postgresql` or `sqlite`.
    pub system: &'static str,
    /// The database's name, where it has one.
    pub database: Option<&'a str>,
    /// `INSERT`, `COMMIT` and so on.
    pub operation: &'static str,
    pub table: Option<&'a str>,
}

impl Statement<'_> {
    /// Runs it in a span below what is going on; `failed` tells how: a code of the server, and a few words.
    pub async fn around<T, E>(
        self,
        work: impl Future<Output = Result<T, E>>,
        failed: impl FnOnce(&E) -> (Option<String>, &'static str),
    ) -> Result<T, E> {
        let (since, parent) = (Instant::now(), Span::current());
        let span = if parent.is_kept() { parent.child(self.start()) } else { Span::default() };
        let done = work.await;
        let took = since.elapsed().as_secs_f64();
        metrics::DB_OPERATION_SECONDS.record([self.system, self.operation], took);
        if let Err(error) = &done {
            let (code, kind) = failed(error);
            if let Some(code) = code {
                span.set(convention::DB_RESPONSE_STATUS_CODE, code);
            }
            span.failed(kind, kind);
        }
        done
    }

    fn start(self) -> Start {
        let summary = match self.table {
            Some(table) => format!("{} {table}", self.operation),
            None => self.operation.to_owned(),
        };
        let mut start = Start::new(summary.clone(), SpanKind::Client)
            .with(convention::DB_SYSTEM_NAME, self.system)
            .with(convention::DB_OPERATION_NAME, self.operation)
            .with(convention::DB_QUERY_SUMMARY, summary);
        if let Some(database) = self.database {
            start = start.with(convention::DB_NAMESPACE, database.to_owned());
        }
        if let Some(table) = self.table {
            start = start.with(convention::DB_COLLECTION_NAME, table.to_owned());
        }
        start
    }
}
