//! The generator: purchase transactions, and what a ksqlDB derives from them, made from a seed.
//!
//! For those who have no producer at hand: the demo, `tidegate generate` and the tests. The same
//! seed gives the same records byte for byte, so whoever checks a sink afterwards makes them again
//! instead of keeping them; [`Expected`] sums up what must have arrived. Pure: publishing the
//! records is somebody else's job.

mod bad;
mod expected;
mod feeds;
mod generator;
mod json;
mod random;
mod transaction;
mod values;

pub use expected::{Counts, Expected, Total};
pub use generator::Generator;

use crate::record::RejectClass;

/// The topics the generator can fill, named as in ksqlDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// The transactions, as their producer sends them.
    TransactionLog,
    /// The same with the nested objects flattened into columns; the id is in the key alone.
    TransactionFlattened,
    /// The user hashed, name and addresses dropped, the amount also in euro.
    TransactionStreamAnonymized,
    /// Those from blacklisted cities.
    TransactionStreamBlacklisted,
    /// Running totals by user and transaction type; key of two columns, as JSON.
    UserTransactionSummary,
    /// Running totals by payment method; key of one column, as plain text.
    PaymentMethodTotals,
}

impl Topic {
    pub const ALL: [Topic; 6] = [
        Topic::TransactionLog,
        Topic::TransactionFlattened,
        Topic::TransactionStreamAnonymized,
        Topic::TransactionStreamBlacklisted,
        Topic::UserTransactionSummary,
        Topic::PaymentMethodTotals,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Topic::TransactionLog => "transaction_log",
            Topic::TransactionFlattened => "transaction_flattened",
            Topic::TransactionStreamAnonymized => "transaction_stream_anonymized",
            Topic::TransactionStreamBlacklisted => "transaction_stream_blacklisted",
            Topic::UserTransactionSummary => "user_transaction_summary",
            Topic::PaymentMethodTotals => "payment_method_totals",
        }
    }

    pub fn from_name(name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// Whether the topic is a keyed changelog, in which a null value deletes.
    pub fn is_table(self) -> bool {
        matches!(self, Topic::UserTransactionSummary | Topic::PaymentMethodTotals)
    }

    /// The feed file that reads the topic, as YAML.
    pub fn feed(self) -> &'static str {
        feeds::text(self)
    }
}

/// One record to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    pub topic: Topic,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// The class in which quarantine is to find it; none for a good record.
    pub bad: Option<RejectClass>,
}

impl Generated {
    /// Key and value bytes.
    pub fn payload_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }

    pub fn is_tombstone(&self) -> bool {
        self.topic.is_table() && self.value.is_none()
    }
}
