/// SplitMix64. Written out here because its numbers must never change: the streams of the `rand`
/// crate's small generators may differ from one version to the next, and with them every record
/// that is made again from a seed.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`. The bias of one in 2^64 / bound does not matter here.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    pub(super) fn pick(&mut self, len: usize) -> u8 {
        self.below(len as u64) as u8
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// True with probability `share`.
    pub(super) fn happens(&mut self, share: f64) -> bool {
        // 53 bits: what an f64 holds exactly.
        ((self.next() >> 11) as f64) < share * (1u64 << 53) as f64
    }
}

/// Spreads the bits of a number over all 64: a fixed, reversible function.
pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_published_numbers() {
        // Steele, Lea, Flood: the first numbers for seed 1234567.
        let mut random = Random::new(1_234_567);
        let numbers = [random.next(), random.next(), random.next()];
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn keeps_to_its_bounds_and_shares() {
        let mut random = Random::new(1);
        assert!((0..10_000).all(|_| random.below(7) < 7));
        assert!((0..1000).all(|_| !random.happens(0.0)));
        assert!((0..1000).all(|_| random.happens(1.0)));
        let often = (0..100_000).filter(|_| random.happens(0.25)).count();
        assert!((24_000..26_000).contains(&often), "{often}");
    }
}
