//! What the sinks must hold: the records, made again from the seed.

use super::holdings::{ByTopic, Holdings, imprint};
use crate::generate::{Generator, Topic};

/// The promise of all topics.
#[derive(Debug, Clone, Default)]
pub struct Promise {
    pub topics: ByTopic,
    /// Records and bytes that were published, by topic.
    pub published: [(u64, u64); Topic::DEMO.len()],
}

pub fn of(mut generator: Generator) -> Promise {
    let mut promise = Promise::default();
    for record in generator.by_ref() {
        let of = &mut promise.topics[record.topic as usize];
        if let Some(class) = record.bad {
            *of.quarantined.entry(class.name().to_owned()).or_default() += 1;
        } else if !record.topic.is_table() {
            of.ids = of.ids.wrapping_add(imprint(record.key.as_deref().unwrap_or_default()));
        }
    }
    for topic in Topic::DEMO {
        let counts = generator.expected().counts(topic);
        let of: &mut Holdings = &mut promise.topics[topic as usize];
        of.rows = counts.rows() + counts.deletes;
        of.distinct = of.rows;
        of.deletes = counts.deletes;
        of.cents = i128::from(counts.cents);
        of.keys = generator.expected().table(topic).into_iter().collect();
        promise.published[topic as usize] = (counts.records, counts.bytes);
    }
    promise
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_quarantine_are_all_that_was_published() {
        let promise = of(Generator::new(1, 3000, 0.05));
        for topic in Topic::DEMO {
            let of = &promise.topics[topic as usize];
            assert_eq!(of.rows + of.quarantined(), promise.published[topic as usize].0);
            assert_eq!(of.keys.is_empty(), !topic.is_table());
            assert_eq!(of.ids == 0, topic.is_table());
        }
        assert_eq!(promise.published[0].0, 3000);
        assert_eq!(promise.topics[0].quarantined.len(), 5);
    }
}
