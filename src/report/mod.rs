//! A report of an installation for people: one page of HTML that needs nothing beside itself.
//!
//! `gather` asks what there is: the configuration, the lake's logs, the database, the audit, the queries of
//! the installation's owner. What is away or not there is told in its place, and nothing is changed but the
//! audit, which gets a row. Work and memory are bounded: one feed at a time, a log and no rows of the lake;
//! of the warehouse counts, and of queries, permission rows and denials so many.
//!
//! `facts` is what was found, as plain values. `page` is a pure function of it: HTML that escapes whatever
//! comes from outside, with diagram and charts as SVG in it, no script and no address of anything else.

mod facts;
mod gather;
mod page;
#[cfg(test)]
mod tests;

pub use facts::Report;
pub use gather::{Asked, gather};
pub use page::page;
