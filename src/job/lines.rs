//! Finds the ends of lines in an output stream, whatever pieces it is read in.
//!
//! A line longer than [`MOST_BYTES`] is cut into pieces, which count as lines, so that a process
//! that never ends a line takes no more memory than that. No UTF-8 character is cut in two.

use memchr::{memchr, memchr_iter, memrchr};

/// Finds the ends of lines in a stream, part by part.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineEnds {
    /// The length of the line, or of the piece, that has not ended.
    begun: usize,
}

/// The end of a line, or of a piece of a line that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineEnd {
    /// The text ends before this byte.
    pub at: usize,
    /// Whether the line is cut there; otherwise the byte is its newline.
    pub is_cut: bool,
}

impl LineEnd {
    /// Where the next line, or the next piece, begins.
    pub fn next(self) -> usize {
        if self.is_cut { self.at } else { self.at + 1 }
    }
}

impl LineEnds {
    /// The first end in these bytes, after which the next call goes on; `None` if no line ends in
    /// them.
    pub fn find(&mut self, bytes: &[u8]) -> Option<LineEnd> {
        let first = CUT_BYTES.saturating_sub(self.begun);
        let last = MOST_BYTES.saturating_sub(self.begun);
        let is_cut_at = |at: &usize| match bytes.get(*at) {
            Some(byte) => *at == last || byte & 0b1100_0000 != 0b1000_0000,
            None => false,
        };
        let cut = (first..=last).find(is_cut_at);
        let window = bytes.get(..=last).unwrap_or(bytes);
        let newline = memchr(b'\n', window).filter(|at| cut.is_none_or(|cut| *at <= cut));
        match (newline, cut) {
            (Some(at), _) => {
                self.begun = 0;
                Some(LineEnd { at, is_cut: false })
            }
            (None, Some(at)) => {
                self.begun = 0;
                Some(LineEnd { at, is_cut: true })
            }
            (None, None) => {
                self.begun += bytes.len();
                None
            }
        }
    }

    /// How many lines end in these bytes; calls `cut_at` for each line that is cut.
    pub fn count(&mut self, mut bytes: &[u8], mut cut_at: impl FnMut(usize)) -> u64 {
        let (mut count, mut begin) = (0, 0);
        while !bytes.is_empty() {
            // Up to there no line is too long.
            let room = CUT_BYTES.saturating_sub(self.begun).min(bytes.len());
            let (part, _) = bytes.split_at(room);
            let advanced = match memrchr(b'\n', part) {
                Some(last) => {
                    count += memchr_iter(b'\n', part).count() as u64;
                    self.begun = room - (last + 1);
                    room
                }
                None => match self.find(bytes) {
                    Some(end) => {
                        count += 1;
                        if end.is_cut {
                            cut_at(begin + end.at);
                        }
                        end.next()
                    }
                    None => bytes.len(),
                },
            };
            begin += advanced;
            bytes = bytes.get(advanced..).unwrap_or_default();
        }
        count
    }

    /// Whether the last line has not ended.
    pub(super) fn has_begun(self) -> bool {
        self.begun > 0
    }
}

/// A line is cut after so many bytes, at the beginning of a character; container runtimes have the
/// same limit.
pub const CUT_BYTES: usize = 16 * 1024;
/// The longest piece: a character has at most three continuation bytes (RFC 3629).
pub(super) const MOST_BYTES: usize = CUT_BYTES + 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a text that is read in parts of this size: the length of each, and whether it
    /// is cut.
    fn lines(text: &[u8], size: usize) -> Vec<(usize, bool)> {
        let (mut ends, mut lines, mut length) = (LineEnds::default(), Vec::new(), 0);
        for mut part in text.chunks(size) {
            while let Some(end) = ends.find(part) {
                lines.push((length + end.at, end.is_cut));
                length = 0;
                part = &part[end.next()..];
            }
            length += part.len();
        }
        assert_eq!(ends.has_begun(), length > 0);
        lines
    }

    #[track_caller]
    fn check(text: &[u8], wanted: &[(usize, bool)]) {
        for size in [1, 2, 3, 7, CUT_BYTES - 1, CUT_BYTES, MOST_BYTES, 100_000] {
            assert_eq!(lines(text, size), wanted, "by {size}");
            let (mut ends, mut cuts, mut count, mut begin) =
                (LineEnds::default(), Vec::new(), 0, 0);
            for part in text.chunks(size) {
                count += ends.count(part, |at| cuts.push(begin + at));
                begin += part.len();
            }
            assert_eq!(count, wanted.len() as u64, "by {size}");
            let mut at = 0;
            let ends = wanted.iter().filter_map(|(length, is_cut)| {
                at += length + usize::from(!is_cut);
                is_cut.then_some(at)
            });
            assert_eq!(cuts, ends.collect::<Vec<_>>(), "by {size}");
        }
    }

    #[test]
    fn lines_end_at_newlines() {
        check(b"", &[]);
        check(b"a\nb\n\nc", &[(1, false), (1, false), (0, false)]);
        check(b"ab\nc\r\n", &[(2, false), (2, false)]);
        check(&b"y\n".repeat(40_000), &[(1, false)].repeat(40_000));
    }

    #[test]
    fn long_lines_are_cut() {
        let (long, full) = (|count: usize| vec![b'x'; count], CUT_BYTES);
        check(&[&long(full), &b"\n"[..]].concat(), &[(full, false)]);
        check(&[&long(full), &b"y\nz\n"[..]].concat(), &[(full, true), (1, false), (1, false)]);
        check(
            &[b"a\n", &long(full)[..], b"yy\n"].concat(),
            &[(1, false), (full, true), (2, false)],
        );
        check(&long(2 * full + 1), &[(full, true), (full, true)]);
        check(&long(2 * full), &[(full, true)]);
    }

    #[test]
    fn characters_are_not_cut_and_bytes_that_are_none_do_not_matter() {
        let full = CUT_BYTES;
        let text = |before: usize| [vec![b'x'; before], "\u{20ac}y\n".into()].concat();
        check(&text(full - 2), &[(full + 1, true), (1, false)]);
        check(&text(full - 1), &[(full + 2, true), (1, false)]);
        check(&text(full - 3), &[(full, true), (1, false)]);
        check(&[vec![b'x'; full - 2], "\u{20ac}\n".into()].concat(), &[(full + 1, false)]);
        check(&vec![0xbf; full + 4], &[(full + 3, true)]);
        check(&vec![0xff; full + 1], &[(full, true)]);
    }
}
