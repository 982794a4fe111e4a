//! What is kept, and what may go: (files, policy, now) → plan. Pure.
//!
//! Nothing is deleted by what is planned here without being looked at again: a plan is of one version of a
//! table, and whoever carries it out checks that version once more.

mod compaction;
mod expiry;
mod spans;
mod sweep;

pub use compaction::{Bounds, Crumb, bins};
pub use expiry::{Dated, Policy, expired};
pub use spans::{Span, joined};
pub use sweep::{Marked, Seen, Sweep, sweep};
