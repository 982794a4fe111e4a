//! The comparison: what should be there with what is there.

use std::ops::AddAssign;

use serde::Serialize;

use super::holdings::Holdings;

/// Appended rows against what was promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Appended {
    pub rows: u64,
    pub lost: u64,
    pub doubled: u64,
    /// Rows nobody published.
    pub foreign: u64,
    /// Topics whose rows are of the right number and not the right ones: another set of ids, another
    /// sum of amounts, other deletes.
    pub altered: u64,
    pub quarantined: u64,
    /// Records missing from quarantine, too many there, or there under another class.
    pub misplaced: u64,
}

/// A table's final rows against what was promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Keyed {
    pub keys: u64,
    pub missing: u64,
    /// Keys that should have been deleted, or never were.
    pub foreign: u64,
    /// Keys with another total.
    pub altered: u64,
    pub quarantined: u64,
    pub misplaced: u64,
}

impl Appended {
    pub fn of(promised: &Holdings, found: &Holdings) -> Self {
        let (lost, foreign) = apart(promised.distinct, found.distinct);
        let doubled = found.rows - found.distinct;
        let same = (promised.ids, promised.deletes) == (found.ids, found.deletes)
            && (doubled > 0 || promised.cents == found.cents);
        let altered = lost == 0 && foreign == 0 && !same;
        Self {
            rows: found.rows,
            lost,
            doubled,
            foreign,
            altered: u64::from(altered),
            quarantined: found.quarantined(),
            misplaced: misplaced(promised, found),
        }
    }

    pub fn is_ok(&self) -> bool {
        self.lost + self.doubled + self.foreign + self.altered + self.misplaced == 0
    }
}

impl AddAssign for Appended {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.foreign += other.foreign;
        self.altered += other.altered;
        self.quarantined += other.quarantined;
        self.misplaced += other.misplaced;
    }
}

impl Keyed {
    pub fn of(promised: &Holdings, found: &Holdings) -> Self {
        let count = |keys: usize| keys as u64;
        let missing = promised.keys.keys().filter(|key| !found.keys.contains_key(*key)).count();
        let foreign = found.keys.keys().filter(|key| !promised.keys.contains_key(*key)).count();
        let differs =
            |(key, total): &(&Vec<String>, &_)| found.keys.get(*key).is_some_and(|of| of != *total);
        Self {
            keys: count(found.keys.len()),
            missing: count(missing),
            foreign: count(foreign),
            altered: count(promised.keys.iter().filter(differs).count()),
            quarantined: found.quarantined(),
            misplaced: misplaced(promised, found),
        }
    }

    pub fn is_ok(&self) -> bool {
        self.missing + self.foreign + self.altered + self.misplaced == 0
    }
}

impl AddAssign for Keyed {
    fn add_assign(&mut self, other: Self) {
        self.keys += other.keys;
        self.missing += other.missing;
        self.foreign += other.foreign;
        self.altered += other.altered;
        self.quarantined += other.quarantined;
        self.misplaced += other.misplaced;
    }
}

/// Too few, too many.
fn apart(wanted: u64, found: u64) -> (u64, u64) {
    (wanted.saturating_sub(found), found.saturating_sub(wanted))
}

fn misplaced(promised: &Holdings, found: &Holdings) -> u64 {
    let mut classes: Vec<&String> =
        promised.quarantined.keys().chain(found.quarantined.keys()).collect();
    classes.sort_unstable();
    classes.dedup();
    let of =
        |holdings: &Holdings, class: &String| holdings.quarantined.get(class).copied().unwrap_or(0);
    let differences = classes.iter().map(|class| of(promised, class).abs_diff(of(found, class)));
    differences.sum()
}

#[cfg(test)]
mod tests {
    use super::super::holdings::Adding;
    use super::super::promise;
    use super::*;
    use crate::generate::{Generated, Generator, Topic, Total};

    fn records() -> Generator {
        Generator::new(9, 400, 0.05)
    }

    fn promised(topic: Topic) -> Holdings {
        promise::of(records()).topics[topic as usize].clone()
    }

    /// What a sink holds that took these records, the n-th at offset n.
    fn sink(topic: Topic, records: impl Iterator<Item = (i64, Generated)>) -> Holdings {
        let mut adding = Adding::default();
        let mut quarantined = std::collections::BTreeMap::new();
        for (offset, record) in records {
            let key =
                String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            let json = || -> serde_json::Value {
                serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
            };
            let cents = |name: &str| (json()[name].as_f64().unwrap() * 100.0).round();
            if let Some(class) = record.bad {
                *quarantined.entry(class.name().to_owned()).or_default() += 1;
            } else if !topic.is_table() {
                adding.transaction(0, offset, &key, cents("AMOUNT") as i128);
            } else {
                let total = record.value.as_ref().map(|_| Total {
                    cents: cents("TOTAL_AMOUNT") as u64,
                    count: json()["TRANSACTION_COUNT"].as_u64().unwrap(),
                });
                adding.change(0, offset, vec![key], total);
            }
        }
        adding.finish(quarantined)
    }

    fn of_topic(topic: Topic) -> Vec<(i64, Generated)> {
        (0..).zip(records().filter(|record| record.topic == topic)).collect()
    }

    #[test]
    fn the_records_themselves_are_no_difference() {
        for topic in Topic::DEMO.into_iter().filter(|topic| !topic.is_table()) {
            let compared =
                Appended::of(&promised(topic), &sink(topic, of_topic(topic).into_iter()));
            assert!(compared.is_ok(), "{topic:?} {compared:?}");
            assert!(compared.rows > 0);
        }
        let topic = Topic::PaymentMethodTotals;
        let found = sink(topic, of_topic(topic).into_iter());
        let compared = Keyed::of(&promised(topic), &found);
        assert!(compared.is_ok() && compared.keys > 2 && compared.quarantined > 2, "{compared:?}");
        assert!(Appended::of(&promised(topic), &found).is_ok());
    }

    #[test]
    fn a_lost_a_doubled_and_a_foreign_row_are_seen() {
        let topic = Topic::TransactionLog;
        let promised = promised(topic);
        let all = of_topic(topic);
        let good = all.iter().position(|(_, record)| record.bad.is_none()).unwrap();

        let mut lost = all.clone();
        lost.remove(good);
        let compared = Appended::of(&promised, &sink(topic, lost.into_iter()));
        assert_eq!((compared.lost, compared.doubled, compared.is_ok()), (1, 0, false));

        // Written twice from the same place, and from another.
        for offset in [all[good].0, 100_000] {
            let mut doubled = all.clone();
            doubled.push((offset, all[good].1.clone()));
            let compared = Appended::of(&promised, &sink(topic, doubled.into_iter()));
            assert_eq!((compared.lost, compared.doubled, compared.is_ok()), (0, 1, false));
        }

        // One lost and another doubled: the number of rows is right.
        let other = all.iter().rposition(|(_, record)| record.bad.is_none()).unwrap();
        let mut both = all.clone();
        both[good] = both[other].clone();
        let compared = Appended::of(&promised, &sink(topic, both.into_iter()));
        assert_eq!((compared.lost, compared.doubled, compared.is_ok()), (1, 1, false));

        let mut foreign = all.clone();
        foreign
            .push((100_000, Generated { key: Some(b"TXN-none".to_vec()), ..all[good].1.clone() }));
        let compared = Appended::of(&promised, &sink(topic, foreign.into_iter()));
        assert_eq!((compared.foreign, compared.is_ok()), (1, false));
    }

    #[test]
    fn another_id_or_amount_is_seen() {
        let topic = Topic::TransactionLog;
        let promised = promised(topic);
        let found = sink(topic, of_topic(topic).into_iter());
        for doctored in [
            Holdings { cents: found.cents + 1, ..found.clone() },
            Holdings { ids: found.ids ^ 1, ..found.clone() },
            Holdings { deletes: 1, ..found.clone() },
        ] {
            let compared = Appended::of(&promised, &doctored);
            assert_eq!((compared.altered, compared.is_ok()), (1, false));
        }
    }

    #[test]
    fn a_wrong_quarantine_is_seen() {
        let topic = Topic::TransactionLog;
        let promised = promised(topic);
        let mut found = sink(topic, of_topic(topic).into_iter());
        *found.quarantined.values_mut().next().unwrap() -= 1;
        assert_eq!(Appended::of(&promised, &found).misplaced, 1);
        *found.quarantined.values_mut().last().unwrap() += 1;
        assert_eq!(Appended::of(&promised, &found).misplaced, 2);
        found.quarantined.clear();
        assert_eq!(Appended::of(&promised, &found).misplaced, promised.quarantined());
    }

    #[test]
    fn a_wrong_final_row_is_seen() {
        let topic = Topic::PaymentMethodTotals;
        let promised = promised(topic);
        let found = sink(topic, of_topic(topic).into_iter());
        let key = found.keys.keys().next().unwrap().clone();

        let mut doctored = found.clone();
        doctored.keys.get_mut(&key).unwrap().count += 1;
        assert_eq!(Keyed::of(&promised, &doctored).altered, 1);
        let total = doctored.keys.remove(&key).unwrap();
        assert_eq!(Keyed::of(&promised, &doctored).missing, 1);
        doctored.keys.insert(vec!["barter".to_owned()], total);
        let compared = Keyed::of(&promised, &doctored);
        assert_eq!((compared.missing, compared.foreign, compared.is_ok()), (1, 1, false));
    }
}
