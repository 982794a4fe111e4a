//! Why a record fails, on its way to becoming a reject.

use crate::record::RejectClass;

/// Boxed, so that the good path moves one word.
pub(super) type Outcome<T> = Result<T, Box<Fault>>;

#[derive(Debug)]
pub(super) struct Fault {
    pub class: RejectClass,
    pub reason: String,
}

/// Why a value does not become its column's: its form, or its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    Type,
    Range,
}

impl Misfit {
    pub fn class(self) -> RejectClass {
        match self {
            Misfit::Type => RejectClass::WrongType,
            Misfit::Range => RejectClass::OutOfRange,
        }
    }
}

impl Fault {
    #[cold]
    pub fn new(class: RejectClass, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { class, reason: reason.into() })
    }

    #[cold]
    pub fn malformed(reason: impl Into<String>) -> Box<Self> {
        Self::new(RejectClass::Malformed, reason)
    }

    /// Puts the place before the reason.
    #[cold]
    pub fn at(mut self: Box<Self>, place: &str) -> Box<Self> {
        self.reason = format!("{place}: {}", self.reason);
        self
    }
}

impl Fault {
    /// Syntax faults say where they are, not in what.
    #[cold]
    pub fn in_key(self: Box<Self>) -> Box<Self> {
        if self.class == RejectClass::Malformed { self.at("the key") } else { self }
    }
}

/// Longest excerpt of a message in a reason, in characters.
const EXCERPT: usize = 80;

/// At most 80 characters of `text`, fit for a log line and for PostgreSQL: no control characters.
pub(super) fn excerpt(text: &str) -> String {
    let mut short: String =
        text.chars().take(EXCERPT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(EXCERPT).is_some() {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_plain() {
        assert_eq!(excerpt("a\0b\nc"), "a b c");
        assert_eq!(excerpt(&"é".repeat(80)), "é".repeat(80));
        let cut = excerpt(&"é".repeat(81));
        assert_eq!((cut.chars().count(), cut.chars().last()), (80, Some('…')));
    }
}
