//! Randomness for names, not for secrets.

use nix::libc;

/// Eight hexadecimal digits that distinguish this k1s from others: the first part of `K1S_RUN`.
///
/// From getrandom(2) without waiting for the pool; if that is refused, from the clock and the pid.
pub fn instance_id() -> String {
    let mut bytes = [0u8; 4];
    // SAFETY: the pointer and the length are those of `bytes`.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    if n != 4 {
        let now = super::clock::now();
        let mixed = now.wall.0.unsigned_abs().rotate_left(20) ^ u64::from(std::process::id());
        bytes = (mixed as u32 ^ (mixed >> 32) as u32).to_ne_bytes();
    }
    format!("{:08x}", u32::from_ne_bytes(bytes))
}

/// 64 random bits, to distinguish the k1s of one host. See [`instance_id`].
pub(super) fn number() -> u64 {
    let half = || u64::from_str_radix(&instance_id(), 16).unwrap_or_default();
    half() << 32 | half()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_eight_hexadecimal_digits_and_not_the_last_one() {
        let (one, two) = (instance_id(), instance_id());
        assert_eq!(one.len(), 8);
        assert!(one.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(one, two);
    }
}
