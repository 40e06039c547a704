//! Splits what a process writes into lines, whatever pieces it is read in.

use crate::job::LineEnds;

/// The beginning of a line whose end was not read yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    ends: LineEnds,
    partial: Vec<u8>,
    is_continued: bool,
}

/// A line, or a part of a long one, without its newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Its bytes.
    pub(super) text: &'a [u8],
    /// The piece before belongs to the same line.
    pub(super) is_continued: bool,
    /// The next piece belongs to the same line.
    pub(super) is_partial: bool,
}

impl Lines {
    /// Passes on each line that ends in `bytes`, and keeps the rest.
    pub(super) fn push(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        while let Some(end) = self.ends.find(bytes) {
            let text = bytes.get(..end.at).unwrap_or_default();
            if self.partial.is_empty() {
                self.end(text, end.is_cut, take);
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(text);
                self.end(&line, end.is_cut, take);
            }
            bytes = bytes.get(end.next()..).unwrap_or_default();
        }
        self.partial.extend_from_slice(bytes);
    }

    /// No more will come: passes on a last line that has no newline.
    pub(super) fn finish(&mut self, take: &mut impl FnMut(Piece<'_>)) {
        self.ends = LineEnds::default();
        let line = std::mem::take(&mut self.partial);
        if !line.is_empty() {
            self.end(&line, false, take);
        }
    }

    fn end(&mut self, text: &[u8], is_partial: bool, take: &mut impl FnMut(Piece<'_>)) {
        let is_continued = std::mem::replace(&mut self.is_continued, is_partial);
        take(Piece { text, is_continued, is_partial });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::CUT_BYTES;

    /// `>` marks a piece that goes on, `<` one that continues.
    #[track_caller]
    fn check(writes: &[&[u8]], wanted: &[(&str, usize, &[u8])]) {
        let (mut lines, mut pieces) = (Lines::default(), Vec::new());
        let mut take = |piece: Piece<'_>| {
            let marks = match (piece.is_continued, piece.is_partial) {
                (false, false) => "",
                (true, false) => "<",
                (false, true) => ">",
                (true, true) => "<>",
            };
            let end = piece.text.iter().rev().take(4).rev().copied().collect::<Vec<_>>();
            pieces.push((marks, piece.text.len(), end));
        };
        for write in writes {
            lines.push(write, &mut take);
        }
        lines.finish(&mut take);
        let wanted: Vec<_> = wanted.iter().map(|(m, n, end)| (*m, *n, end.to_vec())).collect();
        assert_eq!(pieces, wanted);
    }

    #[test]
    fn lines_are_put_together_and_taken_apart() {
        check(&[], &[]);
        check(&[b"a\nb\n\nc"], &[("", 1, b"a"), ("", 1, b"b"), ("", 0, b""), ("", 1, b"c")]);
        check(&[b"a", b"b", b"\n", b"c\r\n"], &[("", 2, b"ab"), ("", 2, b"c\r")]);
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let long = |count: usize| vec![b'x'; count];
        let full = CUT_BYTES;
        check(&[&long(full), b"\n"], &[("", full, b"xxxx")]);
        check(&[&long(full), b"y\nz\n"], &[(">", full, b"xxxx"), ("<", 1, b"y"), ("", 1, b"z")]);
        let line = [&long(full), b"\n".as_slice()].concat();
        check(&[b"yy", &line], &[(">", full, b"xxxx"), ("<", 2, b"xx")]);
        check(
            &[&long(2 * full + 1)],
            &[(">", full, b"xxxx"), ("<>", full, b"xxxx"), ("<", 1, b"x")],
        );
    }
}
