//! Questions that somebody wrote in SQL: answered as text, some rows of it, and changing nothing.

use std::time::Duration;

use async_trait::async_trait;

use crate::config::Feed;
use crate::record::SinkError;

/// How long an answer may take.
pub(super) const WITHIN: Duration = Duration::from_secs(30);

/// Bytes of a value that are kept.
const VALUE: usize = 64 << 10;

/// The first rows that a statement answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub columns: Vec<String>,
    /// Each value as the database spells it; none where it is null.
    pub rows: Vec<Vec<Option<String>>>,
    /// There are more than were asked for.
    pub more: bool,
}

/// A table of a feed's, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableSize {
    pub rows: u64,
    /// As the database guesses, since to count them would take long; then nothing is known of the newest.
    pub guessed: bool,
    /// With its indexes; none where the database does not tell.
    pub bytes: Option<u64>,
    /// The newest of its records' timestamps, milliseconds since the epoch; none where the table does not
    /// keep them.
    pub newest_ms: Option<i64>,
}

/// A database that is asked in its own language.
///
/// No statement changes a row, whatever it says, and none runs longer than half a minute. (What a role may do
/// beside rows, such as end others' sessions, it may do by a function that it calls.) Errors are in the
/// database's words.
#[async_trait]
pub trait AdHoc: Send + Sync {
    /// Answers one statement with at most so many rows.
    async fn ask(&self, sql: &str, most: usize) -> Result<Answer, SinkError>;

    /// Counts the rows of the feed's table; none where there is no table yet.
    async fn measure(&self, feed: &Feed) -> Result<Option<TableSize>, SinkError>;
}

impl Answer {
    /// Takes a row, unless there are as many as asked for.
    pub(super) fn push(&mut self, mut row: Vec<Option<String>>, most: usize) {
        self.more = self.rows.len() >= most;
        if !self.more {
            for text in row.iter_mut().flatten() {
                text.truncate(text.floor_char_boundary(VALUE));
                text.shrink_to_fit();
            }
            self.rows.push(row);
        }
    }
}
