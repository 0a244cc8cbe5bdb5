//! A stream of numbers that decides everything about a mutant.

/// Splitmix64; numbers from a script come first.
#[derive(Clone)]
pub struct Random {
    state: u64,
    script: Vec<u8>,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: seed, script: Vec::new() }
    }

    /// Two bytes a number, while there are any.
    pub fn scripted(script: &[u8]) -> Self {
        Self { state: 0, script: script.iter().rev().copied().collect() }
    }

    pub fn next(&mut self) -> u64 {
        if let (Some(low), Some(high)) = (self.script.pop(), self.script.pop()) {
            return u64::from(u16::from_le_bytes([low, high]));
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// True once in `odds` times.
    pub fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> Option<&'t T> {
        from.get(self.below(from.len()))
    }

    pub fn pick_mut<'t, T>(&mut self, from: &'t mut [T]) -> Option<&'t mut T> {
        let index = self.below(from.len());
        from.get_mut(index)
    }

    /// A number at which sizes break.
    pub fn number(&mut self) -> i64 {
        const NUMBERS: [i64; 20] = [
            0,
            1,
            -1,
            2,
            3,
            5,
            7,
            12,
            64,
            1000,
            4096,
            65_536,
            1_000_000,
            1 << 31,
            (1 << 32) - 1,
            1 << 32,
            1 << 40,
            1 << 62,
            i64::MAX,
            i64::MIN,
        ];
        NUMBERS[self.below(NUMBERS.len())]
    }
}
