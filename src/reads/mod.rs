//! A feed's rows as somebody may see them: what the permission rows show of either sink, and the rows of a
//! question. Whoever reads for somebody reads here.
//!
//! * `columns` says of each of a sink's columns where in a record its values come from, so that rows about
//!   fields mean the same in both sinks.
//! * [`Sight`] is what a decision shows of one sink; a [`Question`] is what is asked of it. What is not seen
//!   as it stands cannot be compared with, sorted by or counted.
//! * [`Reading`] reads batch after batch, each already as it may be seen.
//! * [`watermarks`] tells how far either sink has come.
//! * [`Seal`] makes and opens cursors, which tell nobody anything but where to go on.

mod columns;
mod cursor;
mod question;
mod reading;
mod sight;
#[cfg(test)]
mod tests;
mod watermarks;

pub use cursor::{Cursor, Place, Seal};
pub use question::{Question, Refusal};
pub use reading::{BATCH_ROWS, LakeReading, Seen, WarehouseReading};
pub use sight::Sight;
pub use watermarks::{Marks, watermarks};
