//! Permission rows → what somebody may do, and which columns and rows he may see. Pure: rows, a question
//! and the time go in, a [`Decision`] comes out. Who keeps the rows and who enforces them is elsewhere.
//!
//! * Nobody may do what no row allows. A row that denies beats every row that allows.
//! * A row is for a user, a role, a group, or everybody; for one feed or those that a pattern (`*` for any
//!   characters) matches; and for one action. An expired row is none.
//! * A row that allows reading may narrow it: to columns, to masks of columns, to rows of which a predicate
//!   is true, to days. What several rows allow is joined record by record: a record is seen if one of them
//!   allows it, and each of its values as the most generous of those that allow this record shows it.
//! * A row that denies reading may be as narrow: it takes away the rows of which its predicate is true or
//!   unknown, or of these its columns alone.
//! * What cannot be judged is not shown: a row that allows and names what the feed does not have is none, and
//!   one that denies denies everything.
//!
//! Rows are Tidegate's own, or those of existing tables, as a node file maps them.
//!
//! Days are those of the feed's event time, and of Kafka's timestamp where it has none, in UTC.

mod audit;
mod bounds;
mod bucket;
mod claims;
mod decide;
mod eval;
mod files;
mod foreign;
mod mask;
mod parts;
mod predicate;
mod row;
#[cfg(test)]
mod tests;
mod token;
mod view;
mod written;

pub use audit::{AuditQuestion, AuditRow};
pub use bounds::value;
pub use bucket::{Bucket, BucketPolicy, bucket_policy};
pub use claims::{Claims, Identity, Unfit, identify};
pub use decide::{Access, Counted, Decision, Hit, Verdict, decide};
pub use files::{
    About, CLOSED, FeedFolder, FolderMode, ModeChange, OpenTo, Opening, WantedMode, mode_changes,
    openings,
};
pub use foreign::{Found, Mapping};
pub use mask::Salt;
pub use predicate::{Comparison, Literal, Predicate};
pub use row::{Days, Mask, Principal, Row, RowId, Target};
pub use token::{Bearer, Token, WrittenToken, id_of};
pub use view::{Condition, Denied, Part, Paths, Show, Shown, SinkColumn, TimeColumns, View};
pub use written::Written;

pub use crate::config::{Action, Effect, Grantee, Pattern};
