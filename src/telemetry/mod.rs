//! What is seen from outside: spans, metrics, and the points where tests break things on purpose.

pub mod fault;
pub mod logs;
pub mod metrics;
pub mod otlp;
pub mod places;
pub mod print;
pub mod pulse;
mod series;
pub mod trace;
