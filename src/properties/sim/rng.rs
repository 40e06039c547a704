//! Repeatable chance: the bytes of a fuzzer until they are used up, then SplitMix64.

use std::collections::VecDeque;

pub(super) struct Rng {
    /// Each byte decides one thing.
    bytes: VecDeque<u8>,
    state: u64,
}

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng::of_bytes(&[], seed)
    }

    pub(super) fn of_bytes(bytes: &[u8], seed: u64) -> Rng {
        let bytes = bytes.iter().copied().collect();
        Rng { bytes, state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) }
    }

    /// Whether only the seed decides from here on.
    pub(super) fn is_used_up(&self) -> bool {
        self.bytes.is_empty()
    }

    fn next(&mut self) -> u64 {
        if let Some(byte) = self.bytes.pop_front() {
            return u64::from(byte);
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        if self.is_used_up() || n <= 256 {
            return self.next() % n;
        }
        let two = self.next() << 8 | self.next() & 0xff;
        // Spread, so that two bytes reach all of a large range.
        if n > 65_536 { two.wrapping_mul(0x9e37_79b9_7f4a_7c15) % n } else { two % n }
    }

    /// True in so many cases of a hundred.
    pub(super) fn percent(&mut self, cases: u64) -> bool {
        self.below(100) < cases
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}
