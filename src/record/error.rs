use std::fmt;

/// Whose fault an error is decides what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The record's own: it goes to quarantine.
    Record,
    /// The world's, and passing: connection, disk, timeout, serialization. Tried again.
    Passing,
    /// The world's, and lasting until someone acts: missing rights or table, wrong schema. The
    /// partition is parked with its reason and tried again on a slow clock.
    Lasting,
}

impl Blame {
    pub fn name(self) -> &'static str {
        match self {
            Blame::Record => "record",
            Blame::Passing => "passing",
            Blame::Lasting => "lasting",
        }
    }
}

/// An error of a sink, already judged.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    pub blame: Blame,
    pub message: String,
    /// What was to be read is not there, where that is all that is wrong.
    pub lack: Option<Lack>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Not yet.
    Absent,
    /// Not any more.
    Gone,
}

impl SinkError {
    pub fn new(blame: Blame, message: impl fmt::Display) -> Self {
        Self { blame, message: message.to_string(), lack: None }
    }

    pub fn passing(message: impl fmt::Display) -> Self {
        Self::new(Blame::Passing, message)
    }

    pub fn lasting(message: impl fmt::Display) -> Self {
        Self::new(Blame::Lasting, message)
    }

    /// What was to be read is not there.
    pub fn lacking(lack: Lack, message: impl fmt::Display) -> Self {
        Self { lack: Some(lack), ..Self::lasting(message) }
    }

    /// Puts what was being done before the message.
    pub fn context(self, doing: impl fmt::Display) -> Self {
        Self { message: format!("{doing}: {}", self.message), ..self }
    }
}
