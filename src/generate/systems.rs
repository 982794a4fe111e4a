use super::Topic;

/// The five systems of `examples/`, by the topics that each reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    S0,
    S1,
    S2,
    S3,
    S4,
}

impl System {
    pub const ALL: [System; 5] = [System::S0, System::S1, System::S2, System::S3, System::S4];

    pub fn name(self) -> &'static str {
        match self {
            System::S0 => "s0",
            System::S1 => "s1",
            System::S2 => "s2",
            System::S3 => "s3",
            System::S4 => "s4",
        }
    }

    pub fn from_name(name: &str) -> Option<System> {
        System::ALL.into_iter().find(|system| system.name() == name)
    }

    pub fn topics(self) -> &'static [Topic] {
        match self {
            System::S0 => &[
                Topic::TransactionLog,
                Topic::TransactionFlattened,
                Topic::TransactionStreamAnonymized,
                Topic::TransactionStreamBlacklisted,
                Topic::UserTransactionTotals,
                Topic::WindowedTransactionTotals,
            ],
            System::S1 => &[
                Topic::TransactionsSecure,
                Topic::TransactionsUsd,
                Topic::TransactionsBlacklisted,
                Topic::TransactionsFailed,
                Topic::TransactionsPending,
                Topic::TransactionsProcessing,
                Topic::TransactionsCompleted,
                Topic::UserSpendingByType,
                Topic::SpendLastFiveMinByType,
            ],
            System::S2 => &[
                Topic::TransactionStream,
                Topic::TransactionFlattened,
                Topic::TransactionStreamAnonymized,
                Topic::TransactionStreamBlacklisted,
                Topic::UserTransactionSummary,
                Topic::UserTransactionSummaryEur,
                Topic::PaymentMethodTotals,
                Topic::ProductPurchaseCounts,
            ],
            System::S3 => &[
                Topic::TransactionFlattened,
                Topic::TransactionStreamAnonymized,
                Topic::TransactionStreamBlacklisted,
                Topic::UserTransactionSummary,
                Topic::PaymentMethodTotals,
            ],
            System::S4 => &[
                Topic::TransactionStream,
                Topic::TransactionFlattened,
                Topic::TransactionStreamAnonymized,
                Topic::TransactionStreamBlacklisted,
                Topic::UserTransactionSummary,
                Topic::UserTransactionSummaryEur,
                Topic::PaymentMethodTotals,
                Topic::ProductPurchaseCounts,
                Topic::Currencies,
            ],
        }
    }
}
