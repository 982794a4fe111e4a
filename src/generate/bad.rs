//! Records that no well-behaved producer sends, each made to be found in one class of quarantine.

use super::random::Random;
use super::transaction::Transaction;
use super::{Generated, Topic};
use crate::record::RejectClass;

const CLASSES: [RejectClass; 5] = [
    RejectClass::Malformed,
    RejectClass::WrongType,
    RejectClass::MissingField,
    RejectClass::Encoding,
    RejectClass::OutOfRange,
];

const THIRTY_DIGITS: &[u8] = b"123456789012345678901234567890.12";

/// A bad record in the place of `transaction`'s.
pub(super) fn transaction(random: &mut Random, transaction: &Transaction) -> Generated {
    let class = CLASSES[usize::from(random.pick(CLASSES.len()))];
    let mut key = Some(transaction.id_text());
    let good = transaction.log_value();
    let value = match class {
        RejectClass::Malformed if random.one_in(2) => b"<transaction/>".to_vec(),
        RejectClass::Malformed => good[..good.len() / 2].to_vec(),
        RejectClass::WrongType if random.one_in(2) => replace(&good, "AMOUNT", br#""a lot""#),
        RejectClass::WrongType => replace(&good, "QUANTITY", br#"[1,2]"#),
        RejectClass::MissingField => {
            key = None;
            replace(&good, "TRANSACTION_ID", b"null")
        }
        // The first byte of a character of two.
        RejectClass::Encoding => replace(&good, "USER_NAME", b"\"M\xc3\""),
        _ if random.one_in(2) => replace(&good, "AMOUNT", THIRTY_DIGITS),
        _ => replace(&good, "QUANTITY", b"99999999999"),
    };
    Generated { topic: Topic::TransactionLog, key, value: Some(value), bad: Some(class) }
}

/// A bad record beside a table's good one, which has this key and value.
pub(super) fn change(random: &mut Random, topic: Topic, key: &[u8], value: &[u8]) -> Generated {
    let class = CLASSES[usize::from(random.pick(CLASSES.len()))];
    let (key, value) = match class {
        RejectClass::Malformed => (Some(key.to_vec()), value[..value.len() - 1].to_vec()),
        RejectClass::WrongType => {
            (Some(key.to_vec()), replace(value, measure(topic), br#""a lot""#))
        }
        RejectClass::MissingField => (None, value.to_vec()),
        RejectClass::Encoding => (Some(spoil(key)), value.to_vec()),
        _ => (Some(key.to_vec()), replace(value, measure(topic), THIRTY_DIGITS)),
    };
    Generated { topic, key, value: Some(value), bad: Some(class) }
}

/// A number that every value of the table has.
fn measure(topic: Topic) -> &'static str {
    match topic {
        Topic::UserTransactionSummaryEur => "TOTAL_AMOUNT_EUR",
        Topic::ProductPurchaseCounts => "TOTAL_QUANTITY",
        Topic::UserSpendingByType | Topic::SpendLastFiveMinByType => "TOTAL_SPENT",
        _ => "TOTAL_AMOUNT",
    }
}

/// Puts `new` where the value of the scalar field `name` stands.
fn replace(json: &[u8], name: &str, new: &[u8]) -> Vec<u8> {
    let label = format!("\"{name}\":");
    let start = json
        .windows(label.len())
        .position(|window| window == label.as_bytes())
        .expect("the values written here have all their fields")
        + label.len();
    let rest = &json[start..];
    let len = rest.iter().position(|byte| matches!(byte, b',' | b'}')).unwrap_or(rest.len());
    [&json[..start], new, &rest[len..]].concat()
}

/// Puts the first byte of a character of two after the third byte, which in every key here is
/// inside a text.
fn spoil(key: &[u8]) -> Vec<u8> {
    [&key[..3], b"\xc3", &key[3..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_one_field() {
        let json = br#"{"A":1,"B":"x","C":3}"#;
        assert_eq!(replace(json, "A", b"null"), br#"{"A":null,"B":"x","C":3}"#);
        assert_eq!(replace(json, "B", b"2"), br#"{"A":1,"B":2,"C":3}"#);
        assert_eq!(replace(json, "C", b"[]"), br#"{"A":1,"B":"x","C":[]}"#);
    }
}
