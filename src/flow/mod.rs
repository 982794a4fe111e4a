//! Decisions about flow: what is due, what is durable, what may be kept, when to try again.
//!
//! Pure: no actor, no runtime, no clock. `now` is an argument.

pub mod backoff;
pub mod blame;
pub mod budget;
pub mod gather;
pub mod lane;
pub mod start;
