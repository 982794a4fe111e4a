//! What rows are wanted, so far as a store can tell before it reads them.

/// A value that others of its column can be compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of `int` and `long` columns.
    Long(i64),
    Double(f64),
    Decimal {
        unscaled: i128,
        scale: u8,
    },
    /// Compared by its bytes, as in UTF-8.
    Text(String),
    /// Microseconds since the epoch.
    Timestamp(i64),
    /// Days since the epoch.
    Date(i32),
    Bool(bool),
}

/// What the value of a column must lie between, both inclusive, for a row to be wanted.
/// With neither end it must be no null.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    pub column: String,
    pub least: Option<Value>,
    pub greatest: Option<Value>,
}
