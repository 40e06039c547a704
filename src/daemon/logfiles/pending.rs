//! Bytes that are pending for a log file that cannot be written.

/// The first bytes that could not be written, up to a limit, and how many more there were.
#[derive(Debug, Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    /// Bytes after `bytes` were dropped, so all that follow are dropped, too.
    is_cut: bool,
    missing: u64,
}

impl Pending {
    /// The pending bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes were dropped since this was last asked.
    pub(super) fn take_missing(&mut self) -> u64 {
        std::mem::take(&mut self.missing)
    }

    /// Keeps as many of these bytes as there is room for, and drops the others; the kept ones end
    /// with a line. Returns how many more bytes are missing than before.
    pub(super) fn keep(&mut self, bytes: &[u8], room: usize) -> u64 {
        let before = self.missing;
        if self.is_cut {
            self.missing += bytes.len() as u64;
            return self.missing - before;
        }
        let room = room.min(MOST_BYTES.saturating_sub(self.bytes.len()));
        let fits = bytes.get(..room).unwrap_or(bytes);
        self.bytes.extend_from_slice(fits);
        if fits.len() < bytes.len() {
            self.is_cut = true;
            let end = self.bytes.iter().rposition(|byte| *byte == b'\n');
            let whole = end.map_or(self.bytes.len(), |end| end + 1);
            self.missing += (bytes.len() - fits.len() + self.bytes.len() - whole) as u64;
            self.bytes.truncate(whole);
        }
        self.missing - before
    }

    /// Takes the pending bytes, to write them.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Puts back bytes that could not be written.
    pub(super) fn restore(&mut self, bytes: Vec<u8>) {
        self.is_cut &= !bytes.is_empty();
        self.bytes = bytes;
    }
}

/// The most for one file.
const MOST_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn state(pending: &mut Pending) -> (&[u8], u64) {
        let missing = pending.take_missing();
        (pending.bytes(), missing)
    }

    #[test]
    fn what_does_not_fit_is_counted_until_the_rest_is_written() {
        let mut pending = Pending::default();
        pending.keep(b"one\ntwo", 100);
        pending.keep(b"\nthree\nfour", 9);
        assert_eq!(state(&mut pending), (&b"one\ntwo\nthree\n"[..], 4));
        pending.keep(b"five\n", 100);
        assert_eq!(state(&mut pending), (&b"one\ntwo\nthree\n"[..], 5), "there is only one gap");
        let mut waiting = pending.take();
        waiting.drain(..4);
        pending.restore(waiting);
        pending.keep(b"six\n", 100);
        assert_eq!(state(&mut pending), (&b"two\nthree\n"[..], 4));
        pending.take();
        pending.restore(Vec::new());
        pending.keep(b"seven\neigh", 100);
        pending.keep(b"t\n", 0);
        assert_eq!(state(&mut pending), (&b"seven\n"[..], 6));
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let mut pending = Pending::default();
        for _ in 0..5 {
            pending.keep(&[b'\n'; 16 * 1024], usize::MAX);
        }
        let (bytes, missing) = state(&mut pending);
        assert_eq!((bytes.len(), missing), (64 * 1024, 16 * 1024));
    }
}
