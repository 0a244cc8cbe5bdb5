//! Random numbers that stay the same on every machine and in every version: SplitMix64 (Steele,
//! Lea and Flood, "Fast splittable pseudorandom number generators", 2014).

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, or 0 where there is none.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        // The high half of the product: biased by less than bound / 2^64.
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// One of two outcomes.
    pub(crate) fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    /// A number from 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Puts elements in a random order.
    pub(crate) fn shuffle<T>(&mut self, elements: &mut [T]) {
        for end in (1..elements.len()).rev() {
            elements.swap(end, self.below(end + 1));
        }
    }
}

/// The seed of part `index` of what has the seed `seed`.
pub(crate) fn derive(seed: u64, index: u64) -> u64 {
    let mut outer = Random::new(seed);
    let mut inner = Random::new(outer.next() ^ index);
    inner.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_published_generator() {
        let mut random = Random::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| random.next()).collect();
        let published = [6457827717110365317, 3203168211198807973, 9817491932198370423];
        assert_eq!(drawn, published);
    }

    #[test]
    fn numbers_stay_below_the_bound_and_reach_it() {
        let mut random = Random::new(7);
        let mut seen = [0; 5];
        (0..500).for_each(|_| seen[random.below(5)] += 1);
        assert!(seen.iter().all(|&count| count > 60), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn derived_seeds_differ() {
        let seeds = (0..10).flat_map(|seed| (0..10).map(move |index| derive(seed, index)));
        assert_eq!(seeds.collect::<std::collections::HashSet<_>>().len(), 100);
    }
}
