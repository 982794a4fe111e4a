//! A set of offsets: one bit for each, in stretches of 65,536.

use std::collections::BTreeMap;

const BITS: i64 = 1 << 16;
const WORDS: usize = BITS as usize / 64;

type Stretch = Box<[u64; WORDS]>;

#[derive(Debug, Clone, Default)]
pub struct Offsets {
    /// By the offset of its first bit, over [`BITS`].
    stretches: BTreeMap<i64, Stretch>,
    len: u64,
}

impl Offsets {
    /// Answers false if the offset was there already.
    pub fn insert(&mut self, offset: i64) -> bool {
        let (stretch, word, bit) = place(offset);
        let words = self.stretches.entry(stretch).or_insert_with(|| Box::new([0; WORDS]));
        let fresh = words[word] & bit == 0;
        words[word] |= bit;
        self.len += u64::from(fresh);
        fresh
    }

    pub fn contains(&self, offset: i64) -> bool {
        let (stretch, word, bit) = place(offset);
        self.stretches.get(&stretch).is_some_and(|words| words[word] & bit != 0)
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// The offsets in `start..end`, ascending.
    pub fn within(&self, start: i64, end: i64) -> impl Iterator<Item = i64> {
        self.bits(None, start, end)
    }

    /// The offsets in `start..end` that are not in `other`, ascending.
    pub fn without<'a>(
        &'a self,
        other: &'a Offsets,
        start: i64,
        end: i64,
    ) -> impl Iterator<Item = i64> + 'a {
        self.bits(Some(other), start, end)
    }

    fn bits<'a>(
        &'a self,
        other: Option<&'a Offsets>,
        start: i64,
        end: i64,
    ) -> impl Iterator<Item = i64> + 'a {
        // An empty range of keys must not run backwards.
        let last = end.div_euclid(BITS).max(start.div_euclid(BITS));
        self.stretches
            .range(start.div_euclid(BITS)..=last)
            .flat_map(move |(stretch, words)| {
                let masked = other.and_then(|other| other.stretches.get(stretch));
                let left = move |word: usize| words[word] & !masked.map_or(0, |words| words[word]);
                (0..WORDS).flat_map(move |word| {
                    ones(left(word)).map(move |bit| stretch * BITS + word as i64 * 64 + bit)
                })
            })
            .skip_while(move |offset| *offset < start)
            .take_while(move |offset| *offset < end)
    }
}

fn place(offset: i64) -> (i64, usize, u64) {
    let bit = offset.rem_euclid(BITS);
    (offset.div_euclid(BITS), bit as usize / 64, 1 << (bit % 64))
}

fn ones(mut word: u64) -> impl Iterator<Item = i64> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| i64::from(word.trailing_zeros()))?;
        word &= word - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(offsets: impl IntoIterator<Item = i64>) -> Offsets {
        let mut set = Offsets::default();
        offsets.into_iter().for_each(|offset| {
            set.insert(offset);
        });
        set
    }

    #[test]
    fn remembers_what_was_put_in() {
        let mut set = Offsets::default();
        for offset in [0, 63, 64, 65_535, 65_536, 1 << 40] {
            assert!(set.insert(offset) && !set.insert(offset));
        }
        assert_eq!(set.len(), 6);
        assert!(set.contains(65_536) && !set.contains(65_537));
    }

    #[test]
    fn gives_a_range_and_a_difference_in_order() {
        let all = set(0..200_000);
        assert_eq!(all.within(65_530, 65_540).count(), 10);
        assert_eq!(all.within(199_999, 300_000).collect::<Vec<_>>(), [199_999]);
        assert_eq!(all.within(10, 10).count() + all.within(20, 10).count(), 0);
        let some = set((0..200_000).filter(|offset| ![7, 65_536, 150_000].contains(offset)));
        let missing = |start, end| all.without(&some, start, end).collect::<Vec<_>>();
        assert_eq!(missing(0, i64::MAX), [7, 65_536, 150_000]);
        assert_eq!(missing(8, 150_000), [65_536]);
        assert_eq!(some.without(&all, 0, i64::MAX).count(), 0);
    }
}
