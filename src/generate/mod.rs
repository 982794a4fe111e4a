//! The generator: purchase transactions, and what a ksqlDB derives from them, made from a seed.
//!
//! For those who have no producer at hand: the demo, `tidegate generate` and the tests. The same
//! seed gives the same records byte for byte, so whoever checks a sink afterwards makes them again
//! instead of keeping them; [`Expected`] sums up what must have arrived. Pure: publishing the
//! records is somebody else's job.

mod bad;
mod derived;
mod expected;
mod feeds;
mod generator;
mod json;
mod random;
mod systems;
mod transaction;
mod values;

pub use expected::{Counts, Expected, Total};
pub use generator::Generator;
pub use systems::System;

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
    /// The transactions as ksqlDB passes them on: nested as they came, the id in the key alone.
    TransactionStream,
    /// The user hashed, name and addresses dropped.
    TransactionsSecure,
    /// Who, what kind, how much in dollars.
    TransactionsUsd,
    /// As secure, of blacklisted cities.
    TransactionsBlacklisted,
    /// As secure, of one status each.
    TransactionsFailed,
    TransactionsPending,
    TransactionsProcessing,
    TransactionsCompleted,
    /// Running totals by user and transaction type in euro, with the user's name.
    UserTransactionSummaryEur,
    /// Purchases and pieces by product.
    ProductPurchaseCounts,
    /// Dollars spent, by hashed user and transaction type.
    UserSpendingByType,
    /// Dollars spent in each five minutes, by transaction type.
    SpendLastFiveMinByType,
    /// Running totals by user and transaction type, again.
    UserTransactionTotals,
    /// Totals of each hour, by transaction type.
    WindowedTransactionTotals,
    /// Reference: what a currency is worth in euro; each written once and never changed.
    Currencies,
}

impl Topic {
    pub const ALL: [Topic; 21] = [
        Topic::TransactionLog,
        Topic::TransactionFlattened,
        Topic::TransactionStreamAnonymized,
        Topic::TransactionStreamBlacklisted,
        Topic::UserTransactionSummary,
        Topic::PaymentMethodTotals,
        Topic::TransactionStream,
        Topic::TransactionsSecure,
        Topic::TransactionsUsd,
        Topic::TransactionsBlacklisted,
        Topic::TransactionsFailed,
        Topic::TransactionsPending,
        Topic::TransactionsProcessing,
        Topic::TransactionsCompleted,
        Topic::UserTransactionSummaryEur,
        Topic::ProductPurchaseCounts,
        Topic::UserSpendingByType,
        Topic::SpendLastFiveMinByType,
        Topic::UserTransactionTotals,
        Topic::WindowedTransactionTotals,
        Topic::Currencies,
    ];

    /// Those of the demo and of a generator that was not told otherwise: the first of all.
    pub const DEMO: [Topic; 6] = [
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
            Topic::TransactionStream => "transaction_stream",
            Topic::TransactionsSecure => "TRANSACTIONS_SECURE",
            Topic::TransactionsUsd => "TRANSACTIONS_USD",
            Topic::TransactionsBlacklisted => "TRANSACTIONS_BLACKLISTED",
            Topic::TransactionsFailed => "TRANSACTIONS_FAILED",
            Topic::TransactionsPending => "TRANSACTIONS_PENDING",
            Topic::TransactionsProcessing => "TRANSACTIONS_PROCESSING",
            Topic::TransactionsCompleted => "TRANSACTIONS_COMPLETED",
            Topic::UserTransactionSummaryEur => "user_transaction_summary_eur",
            Topic::ProductPurchaseCounts => "product_purchase_counts",
            Topic::UserSpendingByType => "USER_SPENDING_BY_TYPE",
            Topic::SpendLastFiveMinByType => "SPEND_LAST_FIVE_MIN_BY_TYPE",
            Topic::UserTransactionTotals => "user_transaction_totals",
            Topic::WindowedTransactionTotals => "windowed_transaction_totals",
            Topic::Currencies => "currencies",
        }
    }

    pub fn from_name(name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| topic.name() == name)
    }

    /// Whether the topic is a keyed changelog, in which a null value deletes.
    pub fn is_table(self) -> bool {
        matches!(
            self,
            Topic::UserTransactionSummary
                | Topic::PaymentMethodTotals
                | Topic::UserTransactionSummaryEur
                | Topic::ProductPurchaseCounts
                | Topic::UserSpendingByType
                | Topic::SpendLastFiveMinByType
                | Topic::UserTransactionTotals
                | Topic::WindowedTransactionTotals
                | Topic::Currencies
        )
    }

    /// The feed file that reads the topic, as YAML; those of the others are in `examples/`.
    ///
    /// # Panics
    /// If the topic is none of [`Topic::DEMO`].
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
