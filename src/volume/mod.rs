//! What a node keeps on its own volume, so that it can work rightly while the database is away: the last
//! good permission rows, and rows of the audit on their way there. Nothing here is the only place of what
//! anybody needs once the database has answered; a volume that is lost costs a node nothing else.
//!
//! The one room that writes bincode. Each file begins with what it is and in which form, and every piece
//! has a checksum: what does not read back whole is not used.

mod remembered;
mod sealed;
mod spool;

pub use remembered::{Remembered, recall, remember};
pub use spool::{Oldest, Spool, SpoolFull};
