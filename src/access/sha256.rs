//! SHA-256 (FIPS 180-4): 1 KiB in the binary, and fast enough for the token of a request. A crate
//! for it takes ten times as much.

/// The digest of a message.
pub(super) fn digest(message: &[u8]) -> [u8; 32] {
    let mut state = INITIAL;
    let (blocks, rest) = message.as_chunks();
    blocks.iter().for_each(|block| compress(&mut state, block));
    // The rest, a bit that is set, zeros, and the length in bits: one block more, or two.
    let mut last = [0; 2 * BLOCK];
    let end = if rest.len() < BLOCK - LENGTH { BLOCK } else { 2 * BLOCK };
    let bits = (message.len() as u64).wrapping_mul(8).to_be_bytes();
    let padded = rest.iter().chain(&[0x80]);
    last.iter_mut().zip(padded).for_each(|(to, from)| *to = *from);
    last.iter_mut().take(end).rev().zip(bits.iter().rev()).for_each(|(to, from)| *to = *from);
    let (blocks, _) = last.as_chunks();
    blocks.iter().take(end / BLOCK).for_each(|block| compress(&mut state, block));
    let mut digest = [0; 32];
    let bytes = state.iter().flat_map(|word| word.to_be_bytes());
    digest.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    digest
}

fn compress(state: &mut [u32; 8], block: &[u8; BLOCK]) {
    let (words, _) = block.as_chunks();
    let mut schedule = [0; 16];
    schedule.iter_mut().zip(words).for_each(|(to, word)| *to = u32::from_be_bytes(*word));
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (round, constant) in CONSTANTS.iter().enumerate() {
        let at = |back: usize| schedule[(round + 16 - back) % 16];
        let mut word = at(16);
        if round >= 16 {
            let (early, late) = (at(15), at(2));
            let early = early.rotate_right(7) ^ early.rotate_right(18) ^ (early >> 3);
            let late = late.rotate_right(17) ^ late.rotate_right(19) ^ (late >> 10);
            word = word.wrapping_add(early).wrapping_add(at(7)).wrapping_add(late);
            schedule[round % 16] = word;
        }
        let sum = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let one = [sum, choice, *constant, word].into_iter().fold(h, u32::wrapping_add);
        let sum = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        let other = sum.wrapping_add(majority);
        (h, g, f, e) = (g, f, e, d.wrapping_add(one));
        (d, c, b, a) = (c, b, a, one.wrapping_add(other));
    }
    let added = [a, b, c, d, e, f, g, h];
    state.iter_mut().zip(added).for_each(|(word, added)| *word = word.wrapping_add(added));
}

/// The size of a block, in bytes.
const BLOCK: usize = 64;
/// The size of the length at the end.
const LENGTH: usize = 8;

/// The fractions of the square roots of the first 8 primes.
const INITIAL: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

/// The fractions of the cube roots of the first 64 primes.
#[rustfmt::skip]
const CONSTANTS: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// Lengths around the ends of blocks, and many bytes.
    #[test]
    fn digests_are_those_of_a_crate() {
        let message: Vec<u8> =
            (0..100_000u32).map(|at| (at.wrapping_mul(167) >> 3) as u8).collect();
        for length in (0..600).chain([4095, 4096, 65_535, 99_999, 100_000]) {
            let message = &message[..length];
            assert_eq!(digest(message), *Sha256::digest(message), "{length}");
        }
        assert_eq!(digest(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf], "FIPS 180-2, B.1");
    }
}
